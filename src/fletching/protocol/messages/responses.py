"""Every JSON reply of the Storage API as a value, free of HTTP."""

from __future__ import annotations

import msgspec

from fletching.protocol.messages.session_details import SessionDetails
from fletching.protocol.messages.vocabulary import SessionStatus, SplitMode, WriteMode

__all__ = [
    "BlobReferences",
    "Changed",
    "Column",
    "Done",
    "InstanceReadSession",
    "ReadSession",
    "Response",
    "TableSchema",
    "WriteResult",
    "WriteSchema",
    "WriteSession",
    "WriteStream",
]


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """Root of all replies."""


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A column as ODPS sees it; ``type`` is an ODPS type string, e.g. ``array<struct<a:bigint>>``.

    ``column_ids`` lists the ids of the column and its nested nodes, depth-first.
    """

    name: str
    type: str
    nullable: bool = True
    comment: str = ""
    column_ids: tuple[int, ...] = ()
    primary_key: bool = False


class TableSchema(msgspec.Struct, frozen=True, kw_only=True):
    """Data and partition columns; `types.table_schema` writes it in the read or the write form."""

    data_columns: tuple[Column, ...] = ()
    partition_columns: tuple[Column, ...] = ()
    system_columns: tuple[Column, ...] = ()
    max_field_bytes: int | None = None


class ReadSession(Response, frozen=True, kw_only=True):
    """2.1 and 2.2."""

    session_id: str
    status: SessionStatus = SessionStatus.NORMAL
    split_mode: SplitMode = SplitMode.SIZE
    splits_count: int = 0
    record_count: int = 0
    estimated_bytes: int = 0
    schema: TableSchema
    arrow_schema: bytes | None = None
    """Ours (extension field ``ArrowSchema``, base64): the exact schema message of the replies."""
    expiration_time_ms: int = 0
    latest_version: int = -1
    table_id: str = ""
    """Ours (extension field ``TableId``): whose version that is."""
    message: str = ""
    route_token: str = ""
    session_token: str | None = None
    """Ours (extension field ``SessionToken``): reads this session's rows, or those of any session of its
    table if that was asked for, and the table's blobs, in place of a signature, until the session ends."""
    details: SessionDetails | None = None
    """Ours (extension field ``Details``): what a look at the session asked for."""


class WriteSession(Response, frozen=True, kw_only=True):
    """2.5 and 2.6, and block mode's forms of them (2.19)."""

    session_id: str
    streams: dict[str, int] = msgspec.field(default_factory=dict)
    """Closed streams and their highest closed version."""
    warning_message: str = ""
    min_uncommitted_staging_id: str | None = None
    route_token: str = ""
    status: SessionStatus = SessionStatus.NORMAL
    schema: TableSchema | None = None
    max_block_number: int = 0
    enhance_write_check: bool = False
    write_mode: WriteMode | None = None
    """The session's, where the engine answers; no part of the body, as what follows."""
    schema_version: int = 0
    """Of the table when the session was opened."""
    opened_schema: TableSchema | None = None
    """The table's columns when the session was opened, where ``schema`` is of what it has now."""


class WriteStream(Response, frozen=True, kw_only=True):
    """2.9 and 2.10."""

    table_id: str
    schema_version: int
    latest_schema_version: int
    schema: TableSchema
    access_token: str | None = None
    row_offset: int | None = None
    status: SessionStatus = SessionStatus.NORMAL
    record_count: int = 0
    byte_size: int = 0
    quota_token: str | None = None
    route_token: str = ""
    arrow_schema: bytes | None = None
    """Ours (``ArrowSchema``, base64): the schema message a verbatim write must have."""


class WriteSchema(Response, frozen=True, kw_only=True):
    """2.13."""

    schema: TableSchema
    route_token: str = ""
    write_mode: WriteMode | None = None
    """Of the session, as in `WriteSession`; none of ``default``. No part of the body, as what follows."""
    schema_version: int = 0
    opened_schema: TableSchema | None = None


class WriteResult(Response, frozen=True, kw_only=True):
    """2.11: what a TableWrite did."""

    rows: int = 0
    warning_message: str = ""
    exactly_once_row_offset: int | None = None
    staging_id: str | None = None
    commit_message: str | None = None
    route_token: str = ""
    report: Changed | None = None
    """Ours (extension field ``Report``): what an append in one request did."""


class Changed(Response, frozen=True, kw_only=True):
    """Ours: what a change did; ``version`` is the table's version with it."""

    version: int
    rows_inserted: int = 0
    rows_updated: int = 0
    rows_deleted: int = 0


class Done(Response, frozen=True, kw_only=True):
    """Commit, abort, close: ``{}`` or a warning; never an empty body.

    ``report`` is ours (extension field ``Report``): what a commit did.
    """

    warning_message: str = ""
    status: SessionStatus | None = None
    session_id: str | None = None
    route_token: str = ""
    report: Changed | None = None


class BlobReferences(Response, frozen=True, kw_only=True):
    """2.14 and 2.15; ``md5`` is lower-case hex of the uncompressed bytes, for a single upload.

    ``crc32c`` is ours (extension field ``Crc32c``): of the same bytes. It is thirty times as fast,
    so our own client compares that where the service has it.
    """

    references: tuple[str, ...]
    size: int
    md5: str | None = None
    crc32c: int | None = None
    warning_message: str = ""
    request_id: str | None = None
    """Of the exchange, where a transport knows it; no part of the body."""


class InstanceReadSession(Response, frozen=True, kw_only=True):
    """2.17: the result of an instance, opened for reading."""

    session_id: str
    record_count: int
    schema: TableSchema
    status: SessionStatus = SessionStatus.NORMAL
    owner: str = ""
    initiated: str = ""
    """When the instance began, as an HTTP date."""
    quota_name: str = ""
