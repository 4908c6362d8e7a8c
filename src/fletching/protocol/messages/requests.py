"""Every request of the Storage API as a value, free of HTTP.

Attributes are what the request *means*; where each one travels (query, header, JSON body) is the
business of `fletching.protocol.codec`. The engine and both transports speak in these.
"""

from __future__ import annotations

import functools
from typing import Any, Generic, get_args

import msgspec
from typing_extensions import TypeVar, get_original_bases

from fletching.protocol.messages.manifest import SourceKind
from fletching.protocol.messages.responses import (
    BlobReferences,
    Done,
    InstanceReadSession,
    ReadSession,
    Response,
    WriteResult,
    WriteSchema,
    WriteSession,
    WriteStream,
)
from fletching.protocol.messages.vocabulary import SplitMode, TimeUnit, WriteMode
from fletching.types import PartitionSpec, TableName

__all__ = [
    "DEFAULT_SESSION_ID",
    "AbortWriteSession",
    "AppendRows",
    "ArrowOptions",
    "CloseWriteStream",
    "CommitWriteSession",
    "CreateInstanceReadSession",
    "CreateReadSession",
    "CreateWriteSession",
    "CreateWriteStream",
    "GetInstanceReadSession",
    "GetReadSession",
    "GetWriteSchema",
    "GetWriteSession",
    "GetWriteStream",
    "IncrementalOptions",
    "PreviewTable",
    "ReadBlobs",
    "ReadInstance",
    "ReadTable",
    "Reply_co",
    "Request",
    "SplitOptions",
    "WriteBlob",
    "WriteBlobs",
    "WriteBlock",
    "WriteByPosition",
    "WriteTable",
    "reply_kind",
]

DEFAULT_SESSION_ID = "default"
"""The implicit session of streaming writes, one per (table, write mode)."""

Reply_co = TypeVar("Reply_co", bound=Response, default=Response, covariant=True)


class Request(msgspec.Struct, Generic[Reply_co], frozen=True, kw_only=True):
    """Root of all requests; of which kind its reply is stands behind the name of its root.

    Requests for rows or blobs, whose reply is no value, name none.
    """


@functools.cache
def reply_kind(kind: type[Request]) -> type[Any]:
    """What a kind of request is answered with."""
    for base in kind.__mro__:
        for root in get_original_bases(base):
            for reply in get_args(root):
                if isinstance(reply, type):
                    return reply
    return Response


class TableRequest(Request[Reply_co], frozen=True, kw_only=True):
    """A request about one table."""

    table: TableName


# --- reading ---------------------------------------------------------------------------------


class SplitOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to divide the rows; ``split_number`` is bytes for Size, rows for RowOffset, a count for Parallelism."""

    split_mode: SplitMode = SplitMode.SIZE
    split_number: int = 256 * 1024 * 1024
    cross_partition: bool = True


class ArrowOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Units of TIMESTAMP and DATETIME columns in replies.

    ``None`` means "as stored", which only our own client asks for.
    """

    timestamp_unit: TimeUnit | None = TimeUnit.NANO
    datetime_unit: TimeUnit | None = TimeUnit.MILLI


class IncrementalOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Which changes an incremental read wants: those after ``begin``, up to ``end``.

    Both are a version's number or a moment (ISO 8601, UTC where it has no offset); None and -1 mean
    the first and the newest version.
    """

    mode: str = ""
    begin: int | str | None = None
    end: int | str | None = None
    enabled: bool = False


class CreateReadSession(TableRequest[ReadSession], frozen=True, kw_only=True):
    """2.1: pins a table version and divides its rows into splits."""

    required_data_columns: tuple[str, ...] = ()
    required_partition_columns: tuple[str, ...] = ()
    required_partitions: tuple[PartitionSpec, ...] = ()
    required_bucket_ids: tuple[int, ...] = ()
    split_options: SplitOptions = SplitOptions()
    arrow_options: ArrowOptions = ArrowOptions()
    filter_predicate: str = ""
    filter_predicate_fallback: bool = False
    incremental: bool = False
    incremental_options: IncrementalOptions | None = None
    verbatim_types: bool = False
    """Ours (extension field ``VerbatimTypes``): send Arrow types that ODPS lacks as stored, without
    converting them to the nearest ODPS type."""
    version: int | None = None
    """Ours (extension field ``Version``): the table version to read; None for the newest."""
    since_version: int | None = None
    """Ours (extension field ``SinceVersion``): read the changes of the versions above this one, up to
    ``version``, with the columns ``_change_type``, ``_commit_version`` and ``_commit_timestamp``."""
    table_id: str = ""
    """Ours (extension field ``TableId``), with ``version`` or ``since_version``: whose versions they are.
    Of a table that was dropped and made anew the same numbers are others. Any table's if empty."""
    first_split: bool = False
    """Ours (extension field ``FirstSplit``): let the reply go on with the rows of split 0, which saves
    a round trip. A service may answer without them."""
    sources: tuple[SourceKind, ...] = ()
    """Ours (extension field ``Sources``), with ``first_split``: as ``sources`` of a `ReadTable`."""
    with_token: bool = False
    """Ours (extension field ``WithToken``): answer with a token that reads this session and no more."""
    with_table_token: bool = False
    """Ours (extension field ``WithTableToken``): answer with a token that opens and reads sessions of
    this table, and does no more."""
    with_splits: bool = False
    """Ours (extension field ``WithSplits``): as ``with_splits`` of a `GetReadSession`."""
    with_partitions: bool = False
    """Ours (extension field ``WithPartitions``): as ``with_partitions`` of a `GetReadSession`."""


class GetReadSession(TableRequest[ReadSession], frozen=True, kw_only=True):
    """2.2: looks a read session up; ``refresh`` extends or revives it."""

    session_id: str
    refresh: bool = False
    release: bool = False
    """Ours (extension parameter ``session_release``): the session ends now, and its snapshot may go."""
    with_token: bool = False
    """Ours (extension parameter ``session_token``): as ``with_token`` of a `CreateReadSession`."""
    with_splits: bool = False
    """Ours (extension parameter ``session_splits``): say how large each split of Size or Parallelism is."""
    with_partitions: bool = False
    """Ours (extension parameter ``session_partitions``): say how many rows each partition has, in their order."""
    with_statistics: bool = False
    """Ours (extension parameter ``session_statistics``): say what is known of the columns' values."""


class ReadTable(TableRequest, frozen=True, kw_only=True):
    """2.3: rows of one split.

    ``index`` addresses a Size or Parallelism split; ``offset`` and ``count`` rows of the session
    (or of that split, when ``index`` is given too); neither means everything.
    ``max_batch_rows`` None or 0 means batches as stored.
    """

    session_id: str
    index: int | None = None
    offset: int | None = None
    count: int | None = None
    max_batch_rows: int | None = None
    skip_rows: int = 0
    max_batch_bytes: int = 0
    data_columns: tuple[str, ...] = ()
    data_columns_unordered: bool = False
    accept_encoding: tuple[str, ...] = ()
    """Content codings or Arrow codecs the client takes, most wanted first."""
    buffer_codec: str | None = None
    """The Arrow buffer codec the reply's batches must have: ``"lz4"``, ``"zstd"`` or None for as
    stored. Decided by the shell from ``accept_encoding`` and who asks."""
    sources: tuple[SourceKind, ...] = ()
    """Ours (extension field ``Sources``): what the client could fetch stored bytes from by itself,
    so that the reply may be a manifest (`fletching.protocol.messages.manifest`)."""


class PreviewTable(TableRequest, frozen=True, kw_only=True):
    """2.4: a few rows, without a session."""

    limit: int | None = None
    partition: PartitionSpec = PartitionSpec()
    columns: tuple[str, ...] = ()
    verbatim_types: bool = False


# --- writing ---------------------------------------------------------------------------------


class CreateWriteSession(TableRequest[WriteSession], frozen=True, kw_only=True):
    """2.5, and 2.19 for BatchCompatible: opens a write session.

    A full ``partition`` is static; an empty or partial one on a partitioned table means dynamic
    partitions: the remaining partition columns come in the data.
    """

    write_mode: WriteMode = WriteMode.BATCH
    partition: PartitionSpec = PartitionSpec()
    overwrite: bool = False
    enhance_write_check: bool = False
    flags: dict[str, str] = msgspec.field(default_factory=dict)


class GetWriteSession(TableRequest[WriteSession], frozen=True, kw_only=True):
    """2.6: the closed streams of a write session."""

    session_id: str
    write_mode: WriteMode = WriteMode.BATCH


class CommitWriteSession(TableRequest[Done], frozen=True, kw_only=True):
    """2.7: makes a session's rows visible, all or none.

    ``streams`` None or empty commits the highest closed version of every stream (the wire cannot
    tell the two apart); otherwise exactly these (stream id, stream version) pairs. ``commit_messages`` is block mode's list.
    """

    session_id: str
    write_mode: WriteMode = WriteMode.BATCH
    streams: tuple[tuple[str, int], ...] | None = None
    commit_messages: tuple[str, ...] | None = None
    if_version: int | None = None
    """Ours (extension field ``IfVersion``): refuse if anything but upkeep has happened since."""
    replaces_version: int | None = None
    """Ours (``ReplacesVersion``), of a session that overwrites: refuse if rows of the partitions that it replaces
    came, went or changed since."""
    idempotency_key: str | None = None
    """Ours (``IdempotencyKey``): a commit with the key of an earlier one changes nothing."""
    statement: str = ""
    """The text that computed the rows, for a commit of the engine's own; it does not travel."""


class AbortWriteSession(TableRequest[Done], frozen=True, kw_only=True):
    """2.8: drops a session and all it staged; idempotent."""

    session_id: str
    write_mode: WriteMode = WriteMode.BATCH


class CreateWriteStream(TableRequest[WriteStream], frozen=True, kw_only=True):
    """2.9: starts one attempt (stream id, stream version) of a write stream."""

    session_id: str
    stream_id: str
    stream_version: int = 1
    write_mode: WriteMode = WriteMode.BATCH
    exactly_once: bool = False
    retry_trace_id: str | None = None
    """Stable over one retry sequence; tells a repeated request from a new attempt."""


class GetWriteStream(TableRequest[WriteStream], frozen=True, kw_only=True):
    """2.10: looks a stream up; with ``exactly_once`` it also rotates the access token (fencing)."""

    session_id: str
    stream_id: str
    stream_version: int = 1
    write_mode: WriteMode = WriteMode.BATCH
    exactly_once: bool = False


class CloseWriteStream(TableRequest[Done], frozen=True, kw_only=True):
    """2.12: ends a stream version; only closed ones are committed."""

    session_id: str
    stream_id: str
    stream_version: int = 1
    write_mode: WriteMode = WriteMode.BATCH


class AppendRows(TableRequest[WriteResult], frozen=True, kw_only=True):
    """Ours (extension action ``TableAppend``): an Arrow IPC stream of rows, visible when it is answered.

    What a write session of one stream and one body does, in one request and one transaction. The body
    travels beside this value, as that of `WriteTable`; `partition` is as in `CreateWriteSession`.
    """

    partition: PartitionSpec = PartitionSpec()
    count: int | None = None
    """Rows in the body, advisory."""
    schema_version: int | None = None
    if_version: int | None = None
    idempotency_key: str | None = None
    """As in `CommitWriteSession`."""
    retry_trace_id: str | None = None
    """Stable over one retry sequence; a repeated append adds nothing."""
    content_encoding: str | None = None


class GetWriteSchema(TableRequest[WriteSchema], frozen=True, kw_only=True):
    """2.13: the write schema of a session."""

    session_id: str


class WriteTable(TableRequest[WriteResult], frozen=True, kw_only=True):
    """2.11: appends an Arrow IPC stream to a stream version; the body travels beside this value."""

    session_id: str
    stream_id: str
    stream_version: int = 1
    write_mode: WriteMode = WriteMode.BATCH
    count: int | None = None
    """Rows in the body, advisory."""
    row_offset: int | None = None
    access_token: str | None = None
    table_id: str | None = None
    schema_version: int | None = None
    retry_trace_id: str | None = None
    """Stable over one retry sequence; recognises a repeated body."""
    block_number: int | None = None
    attempt_number: int | None = None
    quota_token: str | None = None
    """Block mode (2.19)."""
    content_encoding: str | None = None


class WriteBlock(WriteTable, frozen=True, kw_only=True):
    """A block of the table tunnel: one write, named by ``block_number`` alone.

    A block may be written again, and what was written last counts. What was there before stays until
    the new body is complete, so that a repetition that is cut off takes nothing away.
    """


class WriteByPosition(WriteTable, frozen=True, kw_only=True):
    """A block of the API's first version: columns may be named otherwise than the table's.

    A body with as many columns as the table and a name that the table lacks has them in the table's
    order, those of partitions behind the others.
    """


# --- results of SQL instances ----------------------------------------------------------------


class InstanceRequest(Request[Reply_co], frozen=True, kw_only=True):
    """A request about the result of one instance (a finished SQL statement)."""

    project: str
    instance_id: str


class CreateInstanceReadSession(InstanceRequest[InstanceReadSession], frozen=True, kw_only=True):
    """2.17: opens the result of an instance for reading."""

    enable_limit: bool = False


class GetInstanceReadSession(InstanceRequest[InstanceReadSession], frozen=True, kw_only=True):
    """2.17: looks such a session up."""

    session_id: str


class ReadInstance(InstanceRequest, frozen=True, kw_only=True):
    """2.18: rows ``offset`` to ``offset + count`` of the result; None means to the end."""

    session_id: str
    offset: int = 0
    count: int | None = None
    columns: tuple[str, ...] = ()
    max_batch_rows: int | None = None
    accept_encoding: tuple[str, ...] = ()
    buffer_codec: str | None = None
    """As in `ReadTable`."""


# --- blobs -----------------------------------------------------------------------------------


class WriteBlob(TableRequest[BlobReferences], frozen=True, kw_only=True):
    """2.14: one blob as a raw body."""

    session_id: str
    stream_id: str
    stream_version: int = 1
    partition: PartitionSpec = PartitionSpec()
    column_id: int = 1
    content_encoding: str | None = None
    content_type: str | None = None
    file_name: str | None = None
    """Ours: kept with the blob, as the frame header's fields are in a batch upload."""
    crc32c_only: bool = False
    """Ours (extension parameter ``Crc32cOnly``): the reply's CRC32C is enough, no MD5 need be taken,
    which takes ten times as long as everything else."""


class WriteBlobs(TableRequest[BlobReferences], frozen=True, kw_only=True):
    """2.15: many blobs as frames in one body."""

    session_id: str
    stream_id: str
    stream_version: int = 1
    content_encoding: str | None = None


class ReadBlobs(Request, frozen=True, kw_only=True):
    """2.16: blobs by reference, order and duplicates kept; one is sent raw, more are framed.

    ``framed`` is ours (extension field ``Framed``): one blob is framed, too, which keeps its content
    type and file name. A service that does not know it sends one raw and says nothing; ours says
    what it does in the header ``x-fletching-framing``. ``stored`` is ours, too (``Stored``): the blobs
    as they are stored, behind a list of their lengths and checksums (`fletching.wire.stored_blobs`).
    ``mapped`` (``Mapped``): over the service's Unix socket, the reply may say where they are instead, and bring
    the packs' descriptors (`fletching.protocol.messages.mapped_blobs`).
    """

    project: str
    references: tuple[str, ...]
    accept_encoding: tuple[str, ...] = ()
    framed: bool = False
    stored: bool = False
    mapped: bool = False
