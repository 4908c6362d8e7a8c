"""Every request of the Storage API as a table: what it is called, where it travels, what bounds it.

One `RequestTable` per form of a request (docs/conformance.md, "Storage actions"), one `Field` per value.
`codec_requests` reads and writes by these tables, in either direction; the embedded transport, which has
no wire, checks by them. So a limit cannot hold in one of these only. The module is long because it is
the list of requests: parts of one table would have to be looked for.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping
from typing import Any

from fletching.errors import InvalidArgumentError, InvalidParameterError
from fletching.protocol.codec.wire_kinds import (
    ABSENT,
    AnyKind,
    Codings,
    ContentCoding,
    Flag,
    Identifier,
    Integer,
    Kind,
    Listed,
    Partition,
    Record,
    SourceKinds,
    Text,
    Unread,
    Word,
)
from fletching.protocol.http import headers as header_names
from fletching.protocol.messages.requests import (
    AbortWriteSession,
    AppendRows,
    ArrowOptions,
    CloseWriteStream,
    CommitWriteSession,
    CreateInstanceReadSession,
    CreateReadSession,
    CreateWriteSession,
    CreateWriteStream,
    GetInstanceReadSession,
    GetReadSession,
    GetWriteSchema,
    GetWriteSession,
    GetWriteStream,
    IncrementalOptions,
    PreviewTable,
    ReadBlobs,
    ReadInstance,
    ReadTable,
    Request,
    SplitOptions,
    WriteBlob,
    WriteBlobs,
    WriteTable,
)
from fletching.protocol.messages.vocabulary import (
    MAX_BATCH_BYTES,
    MAX_BATCH_ROWS,
    MAX_TRACE_ID,
    MIN_BATCH_BYTES,
    Action,
    ApiVersion,
    SplitMode,
    TimeUnit,
    WriteMode,
    block_stream_id,
)

__all__ = [
    "REQUEST_TABLES",
    "Field",
    "Place",
    "RequestTable",
    "TargetKind",
    "Values",
    "check_data_format",
]

DATA_FORMAT = {"Type": "Arrow", "Version": "V5"}
"""How rows travel: the format that there is."""

MIN_MAX_FIELD_BYTES = 1024
"""Smallest non-zero ``MaxFieldSize``."""

MAX_TOKEN = 4096
"""Longest access or quota token, in characters."""

MAX_FILE_NAME = 4096
"""Longest file name or content type of a blob, in characters, as in a blob frame's header."""


class Place(enum.Enum):
    """Where in an HTTP request a value travels."""

    QUERY = "query"
    HEADER = "header"
    JSON = "JSON"


QUERY, HEADER, JSON = Place.QUERY, Place.HEADER, Place.JSON


class TargetKind(enum.Enum):
    """What the ``Target`` of a request is."""

    TABLE = "table"
    INSTANCE = "instance"
    BLOBS = "blobs"


@dataclasses.dataclass(frozen=True)
class Field:
    """One value of a request.

    Attributes:
        attribute: of the request; empty for what is only looked at, or only written.
        name: on the wire; a header's in lower case.
        kind: how it is read, written and bounded.
        places: where it is written, and looked for, the first place first.
        also: further places where it is looked for.
        required: whether a request without it is refused.
        sparse: whether it is left out where it is empty, false or none. Queries and headers always
            leave out what has no text.
        empty_is_value: whether an empty value says something else than none.
        constant: what is written for a value without attribute.
        since: the version of the API that has it, but for block mode, which always has.
    """

    attribute: str
    name: str
    kind: AnyKind
    places: tuple[Place, ...] = (QUERY,)
    also: tuple[Place, ...] = ()
    required: bool = False
    sparse: bool = False
    empty_is_value: bool = False
    constant: object = ABSENT
    since: ApiVersion | None = None


Values = dict[str, Any]
"""Attributes of a request by name: each has the type that its field of the request says."""


@dataclasses.dataclass(frozen=True)
class RequestTable:
    """One form of a request.

    Attributes:
        kind: the request's class.
        action: its action.
        target: what it is about.
        fields: its values.
        stream: the content type of a body that is a stream; None for a JSON body.
        block: whether this is the form of block mode (2.19); None if there is only one.
        constants: query parameters that say which form it is.
        read: completes what was read: attribute values by name, those sent.
        write: completes what is to be written: attribute values by name.
    """

    kind: type[Request]
    action: Action
    target: TargetKind
    fields: tuple[Field, ...]
    stream: str | None = None
    block: bool | None = None
    constants: tuple[tuple[str, str], ...] = ()
    read: Callable[[Values], None] | None = None
    write: Callable[[Values], None] | None = None


# --- values that several requests have --------------------------------------------------------

_SESSION = Field("session_id", "SessionId", Identifier(), also=(JSON,), required=True)
_STREAM = Field("stream_id", "StreamId", Identifier(), also=(JSON,), required=True)
_VERSION = Field("stream_version", "StreamVersion", Integer(), also=(JSON,))
_MODE = Field("write_mode", "WriteMode", Word(WriteMode), since=ApiVersion.V3)
_TRACE = Field("retry_trace_id", header_names.RETRY_TRACE_ID, Text(MAX_TRACE_ID), (HEADER,))
_ACCEPT = Field("accept_encoding", header_names.ACCEPT_ENCODING, Codings(), (HEADER,))
_CODING = Field("content_encoding", header_names.CONTENT_ENCODING, ContentCoding(), (HEADER,))
_TEXTS = Listed(Text())
_INTEGERS = Listed(Integer(least=-(2**63)), "integers")
_BATCH_ROWS = Field(
    "max_batch_rows",
    "MaxBatchRows",
    Integer(most=MAX_BATCH_ROWS, zero_is=None),
    (JSON,),
    sparse=True,
)
_VERBATIM = Field("verbatim_types", "VerbatimTypes", Flag(), (JSON,), sparse=True)


def _in_body(field: Field) -> Field:
    """The same value, written into the body."""
    return dataclasses.replace(field, places=(JSON,), also=(QUERY,))


def _in_both(field: Field) -> Field:
    return dataclasses.replace(field, places=(QUERY, JSON), also=())


def check_data_format(value: object, name: str) -> None:
    """Refuses data formats other than the one there is.

    Raises:
        InvalidParameterError: it is no object of texts.
        InvalidArgumentError: it is another format, or another version of it.
    """
    for part, known in DATA_FORMAT.items():
        result = value.get(part) or known if isinstance(value, dict) else None
        if not isinstance(result, str):
            raise InvalidParameterError(f"{name} is not an object with a Type and a Version")
        if result.lower() != known.lower():
            raise InvalidArgumentError(f"{name}.{part} is {result[:40]!r}, not {known!r}")


_FORMAT = Field("", "DataFormat", Unread(check_data_format), (JSON,), constant=DATA_FORMAT)
_UNIT = Word(TimeUnit, null_is_value=True)
_ARROW = Record(
    ArrowOptions,
    (("timestamp_unit", "TimestampUnit", _UNIT), ("datetime_unit", "DatetimeUnit", _UNIT)),
)
_SPLIT = Record(
    SplitOptions,
    (
        ("split_mode", "SplitMode", Word(SplitMode)),
        # 0 is what a client sends that has nothing to say about the number
        ("split_number", "SplitNumber", Integer(zero_is=ABSENT)),
        ("cross_partition", "CrossPartition", Flag()),
    ),
    {"SplitUnit": "ByteSize"},
)


class _Incremental(Kind[IncrementalOptions]):
    """What an incremental read wants, in the words of either generation of clients."""

    def from_json(self, value: object, name: str) -> IncrementalOptions:
        if not isinstance(value, dict):
            raise InvalidParameterError(f"{name} is not an object")
        enabled, mode = value.get("EnableIncrementalRead"), value.get("Mode")
        if enabled is not None and not isinstance(enabled, bool):
            raise InvalidParameterError(f"{name}.EnableIncrementalRead is not true or false")
        if mode is not None and not isinstance(mode, str):
            raise InvalidParameterError(f"{name}.Mode is not a string")
        return IncrementalOptions(
            mode=mode or "",
            begin=self._boundary(value, name, ("From", "StartVersion", "StartTimeStamp")),
            end=self._boundary(value, name, ("To", "EndVersion", "EndTimeStamp")),
            enabled=bool(enabled),
        )

    @staticmethod
    def _boundary(
        value: Mapping[str, object], name: str, wires: tuple[str, ...]
    ) -> int | str | None:
        """The one of several fields that says something; -1 and null say nothing."""
        result: int | str | None = None
        for wire in wires:
            given = value.get(wire)
            if given is None:
                continue
            if isinstance(given, bool) or not isinstance(given, int | str):
                raise InvalidParameterError(f"{name}.{wire} is not a version or a moment")
            if isinstance(given, int) and not -(2**63) <= given < 2**63:
                raise InvalidParameterError(f"{name}.{wire} is not a 64-bit integer")
            if given in {-1, "-1", ""}:
                continue
            if result is not None:
                raise InvalidParameterError(f"{name} has a version and a moment; give one of them")
            result = given
        return result

    def to_json(self, value: IncrementalOptions) -> object:
        options = {"Mode": value.mode, "From": value.begin, "To": value.end}
        return {wire: given for wire, given in options.items() if given not in {None, ""}}


def _only_written(name: str, value: object) -> Field:
    return Field("", name, Unread(lambda _value, _name: None), (JSON,), constant=value)


# --- reading ----------------------------------------------------------------------------------

_SOURCES = Field("sources", "Sources", SourceKinds(), (JSON,), sparse=True)

_CREATE_READ_SESSION = RequestTable(
    CreateReadSession,
    Action.TABLE_CREATE_READ_SESSION,
    TargetKind.TABLE,
    (
        Field("required_data_columns", "RequiredDataColumns", _TEXTS, (JSON,)),
        Field("required_partition_columns", "RequiredPartitionColumns", _TEXTS, (JSON,)),
        Field("required_partitions", "RequiredPartitions", Listed(Partition()), (JSON,)),
        Field("required_bucket_ids", "RequiredBucketIds", _INTEGERS, (JSON,)),
        Field("split_options", "SplitOptions", _SPLIT, (JSON,)),
        Field("arrow_options", "ArrowOptions", _ARROW, (JSON,)),
        Field("filter_predicate", "FilterPredicate", Text(), (JSON,)),
        Field("filter_predicate_fallback", "FilterPredicateFallback", Flag(), (JSON,)),
        _only_written("SplitMaxFileNum", 0),
        Field("incremental", "IncrementalRead", Flag(), (JSON,)),
        Field(
            "incremental_options", "IncrementalReadOptions", _Incremental(), (JSON,), sparse=True
        ),
        _VERBATIM,
        Field("first_split", "FirstSplit", Flag(), (JSON,), sparse=True),
        _SOURCES,
        Field("version", "Version", Integer(least=-(2**62)), (JSON,), sparse=True),
        Field("since_version", "SinceVersion", Integer(least=-(2**62)), (JSON,), sparse=True),
        Field("table_id", "TableId", Text(MAX_TOKEN), (JSON,), sparse=True),
        Field("with_token", "WithToken", Flag(), (JSON,), sparse=True),
        Field("with_table_token", "WithTableToken", Flag(), (JSON,), sparse=True),
        Field("with_splits", "WithSplits", Flag(), (JSON,), sparse=True),
        Field("with_partitions", "WithPartitions", Flag(), (JSON,), sparse=True),
    ),
)

_READ_TABLE = RequestTable(
    ReadTable,
    Action.TABLE_READ,
    TargetKind.TABLE,
    (
        _SESSION,
        Field("index", "Index", Integer()),
        Field("offset", "Offset", Integer()),
        Field("count", "Count", Integer()),
        _ACCEPT,
        Field("skip_rows", "SkipRowNum", Integer(), (JSON,)),
        Field(
            "max_batch_bytes",
            "MaxBatchRawSize",
            Integer(MIN_BATCH_BYTES, MAX_BATCH_BYTES, or_zero=True),
            (JSON,),
        ),
        _FORMAT,
        Field("data_columns", "DataColumns", _TEXTS, (JSON,)),
        Field("data_columns_unordered", "DataColumnsUnordered", Flag(), (JSON,)),
        _BATCH_ROWS,
        _SOURCES,
    ),
)

_PREVIEW_TABLE = RequestTable(
    PreviewTable,
    Action.TABLE_PREVIEW,
    TargetKind.TABLE,
    (
        Field("limit", "Limit", Integer(), (JSON, QUERY), sparse=True),
        Field("partition", "Partition", Partition(), (JSON, QUERY), sparse=True),
        Field("columns", "Columns", _TEXTS, (JSON,), sparse=True),
        _VERBATIM,
    ),
)

_READ_BLOBS = RequestTable(
    ReadBlobs,
    Action.BLOB_READ,
    TargetKind.BLOBS,
    (
        Field("references", "BlobReferences", Listed(Text(), least=1), (JSON,), required=True),
        _ACCEPT,
        Field("framed", "Framed", Flag(), (JSON,), sparse=True),
        Field("stored", "Stored", Flag(), (JSON,), sparse=True),
        Field("mapped", "Mapped", Flag(), (JSON,), sparse=True),
    ),
)


def _instance_columns(values: Values) -> None:
    """An empty list under the first name leaves the word to the second."""
    other = values.pop("data_columns", ())
    values["columns"] = values.get("columns") or other


_READ_INSTANCE = RequestTable(
    ReadInstance,
    Action.INSTANCE_READ,
    TargetKind.INSTANCE,
    (
        _SESSION,
        Field("count", "Count", Integer()),
        Field("offset", "Offset", Integer()),
        _ACCEPT,
        _only_written("TaskName", "AnonymousSQLTask"),
        _only_written("QueryId", 0),
        _only_written("EnableLimit", value=False),
        Field("", "DataFormat", Unread(check_data_format), (), (JSON,)),
        Field("columns", "Columns", _TEXTS, (JSON,)),
        Field("data_columns", "DataColumns", _TEXTS, (), (JSON,)),
        _BATCH_ROWS,
    ),
    read=_instance_columns,
)

# --- writing ----------------------------------------------------------------------------------


def _read_flags(values: Values) -> None:
    flags = values.setdefault("flags", {})
    values["overwrite"] = flags.pop("overwrite", "false").lower() == "true"


def _write_flags(values: Values) -> None:
    if values["overwrite"]:
        values["flags"] = {**values["flags"], "overwrite": "true"}


class _Flags(Kind[dict[str, str]]):
    """Flags are text, but users' JSON true and numbers pass through some clients."""

    def from_json(self, value: object, name: str) -> dict[str, str]:
        if not isinstance(value, dict):
            raise InvalidParameterError(f"{name} is not an object")
        flags: dict[str, str] = {}
        for flag, given in value.items():
            if isinstance(given, bool):
                flags[flag] = str(given).lower()
            elif isinstance(given, str | int | float):
                flags[flag] = str(given)
            elif given is not None:
                raise InvalidParameterError(
                    f"{name}.{flag[:40]} is neither text, number nor boolean"
                )
        return flags


def _max_field_bytes(value: object, name: str) -> None:
    kind = Integer(MIN_MAX_FIELD_BYTES, or_zero=True)
    number = kind.from_json(value, name)
    if number is not ABSENT:
        kind.check(number, name)


_CREATE_WRITE_SESSION = RequestTable(
    CreateWriteSession,
    Action.TABLE_CREATE_WRITE_SESSION,
    TargetKind.TABLE,
    (
        _MODE,
        Field("partition", "PartialPartitionSpec", Partition(), (JSON,)),
        Field("flags", "Flags", _Flags(), (JSON,)),
    ),
    block=False,
    read=_read_flags,
    write=_write_flags,
)

_CREATE_BLOCK_SESSION = RequestTable(
    CreateWriteSession,
    Action.TABLE_CREATE_WRITE_SESSION,
    TargetKind.TABLE,
    (
        _MODE,
        Field("", "enableQuotaToken", Unread(lambda _value, _name: None), constant=True),
        Field("partition", "PartitionSpec", Partition(), (JSON,)),
        Field("overwrite", "Overwrite", Flag(), (JSON,)),
        _only_written(
            "DynamicPartitionOptions",
            {"InvalidStrategy": "Exception", "InvalidLimit": -1, "DynamicPartitionLimit": -1},
        ),
        Field(
            "",
            "ArrowOptions",
            Unread(_ARROW.from_json),
            (JSON,),
            constant={"TimestampUnit": "nano", "DatetimeUnit": "milli"},
        ),
        _only_written("SupportWriteCluster", value=False),
        Field("", "MaxFieldSize", Unread(_max_field_bytes), (JSON,), constant=0),
        Field("enhance_write_check", "EnhanceWriteCheck", Flag(), (JSON,)),
        _only_written("SupportSaveToPangu", value=False),
    ),
    block=True,
)


def _read_commit(values: Values) -> None:
    ids, versions = values.pop("stream_ids", ()), values.pop("stream_versions", ())
    if len(ids) != len(versions):
        raise InvalidParameterError(
            f"StreamIds has {len(ids)} entries and StreamVersions {len(versions)}"
        )
    values["streams"] = tuple(zip(ids, versions, strict=True)) or None
    if values["write_mode"] is WriteMode.BATCH_COMPATIBLE:
        values.setdefault("commit_messages", ())


def _write_commit(values: Values) -> None:
    streams = values["streams"] or ()
    values["stream_ids"] = [stream_id for stream_id, _ in streams]
    values["stream_versions"] = [version for _, version in streams]


_COMMIT = RequestTable(
    CommitWriteSession,
    Action.TABLE_COMMIT_WRITE_SESSION,
    TargetKind.TABLE,
    (
        _SESSION,
        _MODE,
        Field("stream_ids", "StreamIds", _TEXTS, (JSON,), sparse=True),
        Field("stream_versions", "StreamVersions", _INTEGERS, (JSON,), sparse=True),
        # an empty list is block mode's way to commit nothing; other modes have none at all
        Field(
            "commit_messages", "CommitMessages", _TEXTS, (JSON,), sparse=True, empty_is_value=True
        ),
        Field("if_version", "IfVersion", Integer(), (JSON,), sparse=True),
        Field("replaces_version", "ReplacesVersion", Integer(), (JSON,), sparse=True),
        Field("idempotency_key", "IdempotencyKey", Identifier(), (JSON,), sparse=True),
    ),
    read=_read_commit,
    write=_write_commit,
)

_CREATE_STREAM = RequestTable(
    CreateWriteStream,
    Action.TABLE_CREATE_WRITE_STREAM,
    TargetKind.TABLE,
    (
        _SESSION,
        _MODE,
        _in_body(_STREAM),
        _in_body(_VERSION),
        Field("exactly_once", "ExactlyOnceMode", Flag(), (JSON,), sparse=True),
        _TRACE,
    ),
)

_GET_STREAM = RequestTable(
    GetWriteStream,
    Action.TABLE_GET_WRITE_STREAM,
    TargetKind.TABLE,
    (
        _SESSION,
        _in_both(_STREAM),
        _in_both(_VERSION),
        _MODE,
        Field("exactly_once", "ExactlyOnceMode", Flag(), (QUERY, JSON)),
    ),
)

_CLOSE_STREAM = RequestTable(
    CloseWriteStream,
    Action.TABLE_CLOSE_WRITE_STREAM,
    TargetKind.TABLE,
    (_in_both(_SESSION), _MODE, _in_body(_STREAM), _in_body(_VERSION)),
)

_TABLE_WRITE: tuple[Field, ...] = (
    Field("count", "Count", Integer(least=-1)),
    Field("table_id", "TableId", Text(MAX_TOKEN)),
    Field("schema_version", "SchemaVersion", Integer(least=-1)),
    Field("row_offset", "RowOffset", Integer()),
    Field("quota_token", "quotaToken", Text(MAX_TOKEN)),
    Field("access_token", header_names.ACCESS_TOKEN, Text(MAX_TOKEN), (HEADER,)),
    _TRACE,
    _CODING,
)

_WRITE_TABLE = RequestTable(
    WriteTable,
    Action.TABLE_WRITE,
    TargetKind.TABLE,
    (_SESSION, _STREAM, _VERSION, _MODE, *_TABLE_WRITE),
    stream=header_names.OCTET_STREAM,
    block=False,
)


def _read_block(values: Values) -> None:
    number = values.get("block_number")
    if number is None:
        raise InvalidParameterError("BlockNumber is missing")
    attempt = values.setdefault("attempt_number", 0)
    values["stream_id"], values["stream_version"] = block_stream_id(number, attempt), 1


_WRITE_BLOCK = RequestTable(
    WriteTable,
    Action.TABLE_WRITE,
    TargetKind.TABLE,
    (
        _SESSION,
        _MODE,
        Field("block_number", "BlockNumber", Integer()),
        Field("attempt_number", "AttemptNumber", Integer()),
        *_TABLE_WRITE,
    ),
    stream=header_names.ARROW_STREAM,
    block=True,
    read=_read_block,
)

_APPEND_ROWS = RequestTable(
    AppendRows,
    Action.TABLE_APPEND,
    TargetKind.TABLE,
    (
        Field("partition", "PartitionSpec", Partition()),
        Field("count", "Count", Integer(least=-1)),
        Field("schema_version", "SchemaVersion", Integer(least=-1)),
        Field("if_version", "IfVersion", Integer()),
        Field("idempotency_key", "IdempotencyKey", Identifier(MAX_TRACE_ID)),
        _TRACE,
        _CODING,
    ),
    stream=header_names.OCTET_STREAM,
)

_WRITE_BLOB = RequestTable(
    WriteBlob,
    Action.TABLE_WRITE_BLOB,
    TargetKind.TABLE,
    (
        _SESSION,
        _STREAM,
        _VERSION,
        Field("partition", "PartitionValues", Partition()),
        Field("column_id", "ColumnIndex", Integer()),
        Field("content_type", "ContentType", Text(MAX_FILE_NAME)),
        Field("file_name", "CustomFileName", Text(MAX_FILE_NAME)),
        Field("crc32c_only", "Crc32cOnly", Flag(), sparse=True),
        _CODING,
    ),
    stream=header_names.OCTET_STREAM,
)

_WRITE_BLOBS = RequestTable(
    WriteBlobs,
    Action.TABLE_WRITE_BLOB,
    TargetKind.TABLE,
    (_SESSION, _STREAM, _VERSION, _CODING),
    stream=header_names.OCTET_STREAM,
    constants=(("Mode", "Batch"),),
)


def _table(kind: type[Request], action: Action, *fields: Field) -> RequestTable:
    return RequestTable(kind, action, TargetKind.TABLE, fields)


def _instance(kind: type[Request], action: Action, *fields: Field) -> RequestTable:
    return RequestTable(kind, action, TargetKind.INSTANCE, fields)


REQUEST_TABLES: tuple[RequestTable, ...] = (
    _CREATE_READ_SESSION,
    _table(
        GetReadSession,
        Action.TABLE_GET_READ_SESSION,
        _SESSION,
        Field("refresh", "session_refresh", Flag()),
        Field("release", "session_release", Flag(), sparse=True),
        Field("with_token", "session_token", Flag(), sparse=True),
        Field("with_splits", "session_splits", Flag(), sparse=True),
        Field("with_partitions", "session_partitions", Flag(), sparse=True),
        Field("with_statistics", "session_statistics", Flag(), sparse=True),
    ),
    _READ_TABLE,
    _PREVIEW_TABLE,
    _CREATE_WRITE_SESSION,
    _CREATE_BLOCK_SESSION,
    _table(GetWriteSession, Action.TABLE_GET_WRITE_SESSION, _SESSION, _MODE),
    _COMMIT,
    _table(AbortWriteSession, Action.TABLE_ABORT_WRITE_SESSION, _SESSION, _MODE),
    _CREATE_STREAM,
    _GET_STREAM,
    _CLOSE_STREAM,
    _table(GetWriteSchema, Action.TABLE_GET_WRITE_SCHEMA, _SESSION),
    _WRITE_TABLE,
    _WRITE_BLOCK,
    _APPEND_ROWS,
    _WRITE_BLOB,
    _WRITE_BLOBS,
    _READ_BLOBS,
    _instance(
        CreateInstanceReadSession,
        Action.INSTANCE_CREATE_READ_SESSION,
        Field("enable_limit", "EnableLimit", Flag(), (JSON,)),
    ),
    _instance(GetInstanceReadSession, Action.INSTANCE_GET_READ_SESSION, _SESSION),
    _READ_INSTANCE,
)
