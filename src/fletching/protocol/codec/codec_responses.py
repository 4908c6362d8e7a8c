"""Each JSON reply of the Storage API to headers and body and back, by one table per kind of reply.

A table has an `Item` per value; both directions go through it. What a reply looks like depends on what was
asked (block mode, one blob or many, create or get), so both take the request. Null counts as absent.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping

import msgspec

from fletching.errors import (
    InvalidArgumentError,
    InvalidParameterError,
    PayloadTooLargeError,
    ProtocolError,
)
from fletching.protocol.codec.codec_parts import encode_json, load_json_object
from fletching.protocol.codec.request_tables import Values
from fletching.protocol.codec.wire_kinds import (
    ABSENT,
    AnyKind,
    Flag,
    Integer,
    Kind,
    Listed,
    Record,
    Text,
    Word,
)
from fletching.protocol.http import headers as header_names
from fletching.protocol.messages.requests import (
    AbortWriteSession,
    AppendRows,
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
    Reply_co,
    Request,
    WriteBlob,
    WriteBlobs,
    WriteBlock,
    WriteByPosition,
    WriteTable,
    reply_kind,
)
from fletching.protocol.messages.responses import Changed, Done, Response, TableSchema
from fletching.protocol.messages.session_details import read_details
from fletching.protocol.messages.vocabulary import OPERATION, SessionStatus, SplitMode, WriteMode
from fletching.protocol.types.table_schema import (
    from_read_form,
    from_write_form,
    read_form,
    write_form,
)

__all__ = ["REPLY_TABLES", "WRITE_CODINGS", "decode_response", "encode_response"]

WRITE_CODINGS = "x-lz4-frame,zstd"
"""What a create-stream reply says in ``Accept-Encoding``: the Arrow buffer codecs for writes."""

# --- kinds of values that only replies have ---------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Form(Kind[object]):
    """A value that two functions read and write."""

    read: Callable[..., object]
    write: Callable[..., object] = lambda value: value

    def from_json(self, value: object, name: str) -> object:
        try:
            return self.read(value)
        except (TypeError, ValueError):
            raise InvalidParameterError(f"{name} is of another form: {str(value)[:40]!r}") from None

    def to_json(self, value: object) -> object:
        return self.write(value)


def _written(write: Callable[..., object] = lambda value: value) -> AnyKind:
    """What other clients look for, and ours does not."""
    return _Form(lambda _value: ABSENT, write)


# Tables at work: kilobytes each, a megabyte of 5,000 columns. Making them would take longer than the
# rest of a session's reply.
@functools.lru_cache(maxsize=64)
def _read_form(schema: TableSchema | None) -> msgspec.Raw:
    return msgspec.Raw(encode_json(read_form(schema or TableSchema())))


@functools.lru_cache(maxsize=64)  # as above
def _write_form(schema: TableSchema) -> msgspec.Raw:
    return msgspec.Raw(encode_json(write_form(schema)))


def _is_delta(schema: TableSchema) -> bool:
    columns = (*schema.data_columns, *schema.system_columns)
    return any(column.name.lower() == OPERATION for column in columns)


def _split_mode(value: object) -> object:
    """How the rows were divided; a way that is not known here says nothing."""
    word = _TEXT.from_json(value, "SplitMode")
    return SplitMode(word) if word in set(SplitMode) else ABSENT


def _reference(written: str) -> str:
    """The text of a reference; of a service whose decoded references are no text, what it sent."""
    try:
        text = base64.b64decode(written, validate=True).decode("ascii")
    except ValueError:
        return written
    return text if text and text.isprintable() else written


def _written_reference(reference: str) -> str:
    """The base64 that an upload's reply has for a reference.

    Clients decode it and write what they get into cells. What they get is the text
    that a read gives back, so that PyODPS, which reads blobs only by text, reads them at once.
    """
    return base64.b64encode(reference.encode()).decode()


_FLAG, _INTEGER, _TEXT, _STATUS = Flag(), Integer(), Text(), Word(SessionStatus)
_BASE64 = _Form(
    lambda value: base64.b64decode(value, validate=True),
    lambda value: base64.b64encode(value).decode("ascii"),
)
_READ_FORM, _WRITE_FORM = _Form(from_read_form, _read_form), _Form(from_write_form, _write_form)
_REFERENCE = _Form(_reference, _written_reference)
_ONE_REFERENCE = _Form(
    lambda written: (_reference(written),), lambda references: _written_reference(references[0])
)
_MD5 = _Form(lambda digest: str.lower(digest) or ABSENT, lambda digest: digest or "")
_VERSIONS = _Form(
    lambda streams: {name: _INTEGER.from_json(each, name) for name, each in dict.items(streams)}
)
_REPORT = Record(
    lambda version=-1, **rows: Changed(version=version, **rows),
    (
        ("version", "Version", _INTEGER),
        ("rows_inserted", "RowsInserted", _INTEGER),
        ("rows_updated", "RowsUpdated", _INTEGER),
        ("rows_deleted", "RowsDeleted", _INTEGER),
    ),
)


# --- the tables -------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Item:
    """One value of a reply.

    Attributes:
        attribute: of the reply; empty for what is written whatever it says.
        name: in the body; with a dot, in an object of it.
        kind: how it is read and written.
        also: another name that is looked for where this one says nothing.
        absent: what a body without it says, where that is not the reply's own default.
        required: whether a body without it is refused; not where the request says the same.
        sparse: whether it is left out where it is none or empty.
        when: which requests are answered with it; None for all.
    """

    attribute: str
    name: str
    kind: AnyKind
    also: str = ""
    absent: object = ABSENT
    required: bool = False
    sparse: bool = False
    when: Callable[[Request], bool] | None = None


def _constant(name: str, value: object, when: Callable[[Request], bool] | None = None) -> Item:
    return Item("", name, _written(lambda _: value), when=when)


def _is_block(request: Request) -> bool:
    return getattr(request, "write_mode", None) is WriteMode.BATCH_COMPATIBLE


def _is_not_block(request: Request) -> bool:
    return not _is_block(request)


def _is_look(request: Request) -> bool:
    looks_session = isinstance(request, GetWriteSession) and not _is_block(request)
    return looks_session or isinstance(request, GetWriteStream)


_WARNING = Item("warning_message", "WarningMessage", _TEXT)

_READ_SESSION = (
    Item("session_id", "SessionId", _TEXT, required=True),
    Item("status", "SessionStatus", _STATUS),
    _constant("SessionType", "batch_read"),
    Item("expiration_time_ms", "ExpirationTime", _INTEGER),
    Item("message", "Message", _TEXT),
    Item("split_mode", "SplitMode", _Form(_split_mode)),
    Item("splits_count", "SplitsCount", _INTEGER),
    _constant("SplitBucketId", []),
    Item("record_count", "RecordCount", _INTEGER),
    Item("estimated_bytes", "SessionStats.EstimatedSize", _INTEGER),
    Item("record_count", "SessionStats.EstimatedRowCount", _written()),
    Item("schema", "DataSchema", _READ_FORM, required=True),
    Item("schema", "TableSchema", _written(_write_form)),
    _constant("SupportedDataFormat", [{"Type": "Arrow", "Version": "V5"}]),
    Item("latest_version", "LatestVersion", _INTEGER),
    _constant("EnableLargeString", value=False),
    _constant("IncrementalReadOptions", {}),
    Item("arrow_schema", "ArrowSchema", _BASE64, sparse=True),
    Item("table_id", "TableId", _TEXT, sparse=True),
    Item("session_token", "SessionToken", _TEXT, sparse=True),
    Item("details", "Details", _Form(read_details), sparse=True),
)

_WRITE_SESSION = (
    Item("session_id", "SessionId", _TEXT, required=True),
    Item("warning_message", "WarningMessage", _TEXT, also="Message", when=_is_not_block),
    Item("streams", "Streams", _VERSIONS, when=_is_look),
    Item("min_uncommitted_staging_id", "MinUncommittedStagingId", _TEXT, when=_is_look),
    Item("status", "SessionStatus", _STATUS, when=_is_block),
    Item("schema", "DataSchema", _READ_FORM, when=_is_block),
    Item("max_block_number", "MaxBlockNumber", _INTEGER, when=_is_block),
    Item("enhance_write_check", "EnhanceWriteCheck", _FLAG, when=_is_block),
    Item("warning_message", "Message", _written(), when=_is_block),
)

_WRITE_STREAM = (
    Item("schema", "TableSchema", _WRITE_FORM, absent=TableSchema()),
    Item("table_id", "TableId", _TEXT, absent=""),
    Item("schema_version", "SchemaVersion", _INTEGER, absent=0),
    Item("schema", "IsDeltaTable", _written(_is_delta)),
    Item("access_token", "AccessToken", _TEXT, sparse=True),
    Item("quota_token", "QuotaToken", _TEXT, sparse=True),
    Item("row_offset", "RowOffset", _INTEGER, sparse=True),
    Item("arrow_schema", "ArrowSchema", _BASE64, sparse=True),
    Item(
        "latest_schema_version",
        "LatestSchemaVersion",
        _INTEGER,
        also="SchemaVersion",
        absent=0,
        when=_is_look,
    ),
    # The lower-case ones are for one client, whose status is a number in the order of the states.
    Item("status", "status", _written(list(SessionStatus).index), when=_is_look),
    Item("record_count", "recordCount", _written(), when=_is_look),
    Item("status", "Status", _STATUS, when=_is_look),
    Item("record_count", "RecordCount", _INTEGER, when=_is_look),
    Item("byte_size", "ByteSize", _INTEGER, when=_is_look),
    _constant("ErrorCode", "", _is_look),
    _constant("ErrorMessage", "", _is_look),
)

_WRITE_RESULT = (
    _WARNING,
    Item("rows", "RecordCount", _INTEGER),
    Item("exactly_once_row_offset", "ExactlyOnceRowOffset", _INTEGER, sparse=True),
    Item("staging_id", "StagingId", _TEXT, sparse=True),
    Item("commit_message", "CommitMessage", _TEXT, sparse=True),
    Item("report", "Report", _REPORT, sparse=True),
)

_ENDED = (
    Item("session_id", "SessionId", _TEXT, sparse=True),
    Item("status", "SessionStatus", _STATUS, sparse=True),
    Item("report", "Report", _REPORT, sparse=True),
)
_DONE = (dataclasses.replace(_WARNING, sparse=True), *_ENDED)

_BLOBS = (
    Item("size", "Size", _INTEGER, absent=0),
    _WARNING,
)

_INSTANCE_SESSION = (
    Item("session_id", "DownloadID", _TEXT, required=True),
    Item("record_count", "RecordCount", _INTEGER, absent=0),
    Item("status", "Status", _STATUS),
    Item("owner", "Owner", _TEXT),
    Item("initiated", "Initiated", _TEXT),
    Item("quota_name", "QuotaName", _TEXT),
    Item("schema", "TableSchema", _WRITE_FORM, required=True),
    Item("schema", "DataSchema", _written(_read_form)),
)

REPLY_TABLES: dict[type[Request], tuple[Item, ...]] = {
    CreateReadSession: _READ_SESSION,
    GetReadSession: _READ_SESSION,
    CreateWriteSession: _WRITE_SESSION,
    GetWriteSession: _WRITE_SESSION,
    CommitWriteSession: _DONE,
    AbortWriteSession: _DONE,
    CreateWriteStream: _WRITE_STREAM,
    GetWriteStream: _WRITE_STREAM,
    CloseWriteStream: (_WARNING, *_ENDED),
    GetWriteSchema: (Item("schema", "TableSchema", _WRITE_FORM, required=True),),
    WriteTable: _WRITE_RESULT,
    WriteBlock: _WRITE_RESULT,
    WriteByPosition: _WRITE_RESULT,
    AppendRows: _WRITE_RESULT,
    WriteBlob: (
        Item("references", "BlobReference", _ONE_REFERENCE, required=True),
        Item("md5", "MD5Value", _MD5),
        Item("crc32c", "Crc32c", _INTEGER, sparse=True),
        *_BLOBS,
    ),
    WriteBlobs: (
        Item("references", "BlobReferences", Listed(_REFERENCE), absent=()),
        *_BLOBS,
    ),
    CreateInstanceReadSession: _INSTANCE_SESSION,
    GetInstanceReadSession: _INSTANCE_SESSION,
}
"""What each request is answered with; those with a reply in rows or blobs have none."""


# --- writing and reading ----------------------------------------------------------------------


def encode_response(response: Response, request: Request) -> tuple[dict[str, str], bytes]:
    """Headers and JSON body of a reply; the request id is the server's to add.

    Args:
        response: what the engine answered.
        request: what was asked; decides the reply's form.
    """
    headers = {header_names.CONTENT_TYPE: "application/json"}
    route_token = getattr(response, "route_token", "")
    if route_token:
        headers[header_names.ROUTE_TOKEN] = route_token
    if isinstance(request, CreateWriteStream):
        headers[header_names.ACCEPT_ENCODING] = WRITE_CODINGS
    if (
        isinstance(request, CommitWriteSession)
        and isinstance(response, Done)
        and response.status is None
        and _is_block(request)
    ):
        response = msgspec.structs.replace(
            response, session_id=request.session_id, status=SessionStatus.COMMITTED
        )
    body: dict[str, object] = {}
    inner: dict[str, dict[str, object]] = {}
    for item in REPLY_TABLES[type(request)]:
        if item.when is not None and not item.when(request):
            continue
        value = getattr(response, item.attribute) if item.attribute else None
        if item.sparse and (value is None or value == ""):
            continue
        outer, _, name = item.name.rpartition(".")
        fields = inner.setdefault(outer, {}) if outer else body
        fields[name] = item.kind.to_json(value)
    body |= inner
    return headers, encode_json(body)


def decode_response(
    request: Request[Reply_co],
    headers: Mapping[str, str] | Iterable[tuple[str, str]],
    body: bytes | memoryview,
) -> Reply_co:
    """The reply to a request of a JSON action, read from a 2xx answer.

    Raises:
        ProtocolError: the body is not the JSON object the protocol promises.
    """
    values: Values = {}
    kind: type[Reply_co] = reply_kind(type(request))
    try:
        fields = load_json_object(body)
        for item in REPLY_TABLES[type(request)]:
            value = _read(fields, item, request)
            if value is not ABSENT:
                values.setdefault(item.attribute, value)
    except (InvalidParameterError, InvalidArgumentError, PayloadTooLargeError) as exc:
        raise ProtocolError(f"the reply cannot be read: {exc.message}", side="remote") from exc
    if "route_token" in kind.__struct_fields__:
        token = header_names.lower_case(headers).get(header_names.ROUTE_TOKEN, "")
        values["route_token"] = token
    return kind(**values)


def _read(fields: Mapping[str, object], item: Item, request: Request) -> object:
    """What the body says of one value; ABSENT if it says nothing."""
    given = _sent(fields, item.name)
    if item.also and (given is None or given == ""):
        given = _sent(fields, item.also)
    if item.required and (given is None or given == ""):
        value = getattr(request, item.attribute, ABSENT)
        if value is ABSENT:
            raise InvalidParameterError(f"{item.name} is missing")
        return value
    return item.absent if given is None else item.kind.from_json(given, item.name)


def _sent(fields: Mapping[str, object], name: str) -> object:
    outer, _, inner = name.rpartition(".")
    holder = fields.get(outer) if outer else fields
    if holder is None:
        return None
    if not isinstance(holder, Mapping):
        raise InvalidParameterError(f"{outer} is not an object")
    return holder.get(inner)
