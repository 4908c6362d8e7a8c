"""Each JSON reply of the Storage API to headers and body and back.

What a reply looks like depends on what was asked (block mode, one blob or many, create or get), so
both directions take the request. The module is long because it has every reply, twice.
"""

from __future__ import annotations

import base64
import binascii
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from fletching.errors import ProtocolError
from fletching.protocol.codec.codec_parts import encode_json, load_reply
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
    WriteTable,
)
from fletching.protocol.messages.responses import (
    BlobReferences,
    Changed,
    Done,
    InstanceReadSession,
    ReadSession,
    Response,
    TableSchema,
    WriteResult,
    WriteSchema,
    WriteSession,
    WriteStream,
)
from fletching.protocol.messages.session_details import read_details
from fletching.protocol.messages.vocabulary import SessionStatus, SplitMode, WriteMode
from fletching.protocol.types.table_schema import (
    from_read_form,
    from_write_form,
    read_form,
    write_form,
)

__all__ = ["WRITE_CODINGS", "decode_response", "encode_response"]

WRITE_CODINGS = "x-lz4-frame,zstd"
"""What a create-stream reply says in ``Accept-Encoding``: the Arrow buffer codecs for writes."""

_JSON_REPLY = "application/json"

_STATUS_NUMBERS = {
    SessionStatus.INIT: 0,
    SessionStatus.NORMAL: 1,
    SessionStatus.COMMITTING: 2,
    SessionStatus.COMMITTED: 3,
    SessionStatus.CRITICAL: 4,
    SessionStatus.EXPIRED: 5,
}
"""The lower-case ``status`` of a write stream is a number to one client."""

_Json = dict[str, object]


# --- writing replies -------------------------------------------------------------------------


def _text_of(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode("ascii")


@functools.lru_cache(maxsize=64)  # tables at work: kilobytes each, a megabyte of 5,000 columns
def _schema_forms(schema: TableSchema) -> tuple[msgspec.Raw, msgspec.Raw]:
    """Both forms of a schema as JSON: making them takes longer than the rest of a session's reply."""
    return msgspec.Raw(encode_json(read_form(schema))), msgspec.Raw(encode_json(write_form(schema)))


def _read_session(reply: ReadSession, _request: Request) -> _Json:
    data_schema, table_schema = _schema_forms(reply.schema)
    body: _Json = {
        "SessionId": reply.session_id,
        "SessionStatus": reply.status.value,
        "SessionType": "batch_read",
        "ExpirationTime": reply.expiration_time_ms,
        "Message": reply.message,
        "SplitMode": reply.split_mode.value,
        "SplitsCount": reply.splits_count,
        "SplitBucketId": [],
        "RecordCount": reply.record_count,
        "SessionStats": {
            "EstimatedSize": reply.estimated_bytes,
            "EstimatedRowCount": reply.record_count,
        },
        "DataSchema": data_schema,
        "TableSchema": table_schema,
        "SupportedDataFormat": [{"Type": "Arrow", "Version": "V5"}],
        "LatestVersion": reply.latest_version,
        "EnableLargeString": False,
        "IncrementalReadOptions": {},
    }
    if reply.arrow_schema is not None:
        body["ArrowSchema"] = _text_of(reply.arrow_schema)
    if reply.table_id:
        body["TableId"] = reply.table_id
    if reply.session_token is not None:
        body["SessionToken"] = reply.session_token
    if reply.details is not None:
        body["Details"] = reply.details
    return body


def _write_session(reply: WriteSession, request: Request) -> _Json:
    if _is_block(request):
        return {
            "SessionId": reply.session_id,
            "SessionStatus": reply.status.value,
            "DataSchema": read_form(reply.schema or TableSchema()),
            "MaxBlockNumber": reply.max_block_number,
            "EnhanceWriteCheck": reply.enhance_write_check,
            "Message": reply.warning_message,
        }
    if isinstance(request, GetWriteSession):
        return {
            "SessionId": reply.session_id,
            "Streams": reply.streams,
            "WarningMessage": reply.warning_message,
            "MinUncommittedStagingId": reply.min_uncommitted_staging_id,
        }
    return {"SessionId": reply.session_id, "WarningMessage": reply.warning_message}


def _write_stream(reply: WriteStream, request: Request) -> _Json:
    body: _Json = {
        "TableSchema": write_form(reply.schema),
        "TableId": reply.table_id,
        "SchemaVersion": reply.schema_version,
        "IsDeltaTable": any(
            column.name.lower() == "__operation"
            for column in (*reply.schema.data_columns, *reply.schema.system_columns)
        ),
    }
    if reply.access_token is not None:
        body["AccessToken"] = reply.access_token
    if reply.quota_token is not None:
        body["QuotaToken"] = reply.quota_token
    if reply.row_offset is not None:
        body["RowOffset"] = reply.row_offset
    if reply.arrow_schema is not None:
        body["ArrowSchema"] = _text_of(reply.arrow_schema)
    if isinstance(request, GetWriteStream):
        body |= {
            "LatestSchemaVersion": reply.latest_schema_version,
            "status": _STATUS_NUMBERS[reply.status],
            "recordCount": reply.record_count,
            "Status": reply.status.value,
            "RecordCount": reply.record_count,
            "ByteSize": reply.byte_size,
            "ErrorCode": "",
            "ErrorMessage": "",
        }
    return body


def _write_schema(reply: WriteSchema, _request: Request) -> _Json:
    return {"TableSchema": write_form(reply.schema)}


def _write_result(reply: WriteResult, _request: Request) -> _Json:
    body: _Json = {"WarningMessage": reply.warning_message, "RecordCount": reply.rows}
    if reply.exactly_once_row_offset is not None:
        body["ExactlyOnceRowOffset"] = reply.exactly_once_row_offset
    if reply.staging_id is not None:
        body["StagingId"] = reply.staging_id
    if reply.commit_message is not None:
        body["CommitMessage"] = reply.commit_message
    if reply.report is not None:
        body["Report"] = _report(reply.report)
    return body


def _done(reply: Done, request: Request) -> _Json:
    body: _Json = {}
    if reply.warning_message or isinstance(request, CloseWriteStream):
        body["WarningMessage"] = reply.warning_message
    if reply.session_id is not None:
        body["SessionId"] = reply.session_id
    if reply.status is not None:
        body["SessionStatus"] = reply.status.value
    elif _is_block(request) and isinstance(request, CommitWriteSession):
        body["SessionId"] = request.session_id
        body["SessionStatus"] = SessionStatus.COMMITTED.value
    if reply.report is not None:
        body["Report"] = _report(reply.report)
    return body


def _report(report: Changed) -> _Json:
    return {
        "Version": report.version,
        "RowsInserted": report.rows_inserted,
        "RowsUpdated": report.rows_updated,
        "RowsDeleted": report.rows_deleted,
    }


def _written(reference: str) -> str:
    """The base64 that an upload's reply has for a reference.

    Clients decode it and write what they get into cells. What they get is the text
    that a read gives back, so that PyODPS, which reads blobs only by text, reads them at once.
    """
    return base64.b64encode(reference.encode()).decode()


def _reference(written: str) -> str:
    """The text of a reference; of a service whose decoded references are no text, what it sent."""
    try:
        text = base64.b64decode(written, validate=True).decode("ascii")
    except ValueError:
        return written
    return text if text and text.isprintable() else written


def _blob_references(reply: BlobReferences, _request: Request) -> _Json:
    if reply.single:
        body: _Json = {
            "BlobReference": _written(reply.references[0]),
            "MD5Value": reply.md5 or "",
            "Size": reply.size,
            "WarningMessage": reply.warning_message,
        }
        if reply.crc32c is not None:
            body["Crc32c"] = reply.crc32c
        return body
    return {
        "BlobReferences": [_written(reference) for reference in reply.references],
        "Size": reply.size,
        "WarningMessage": reply.warning_message,
    }


def _instance_session(reply: InstanceReadSession, _request: Request) -> _Json:
    return {
        "DownloadID": reply.session_id,
        "RecordCount": reply.record_count,
        "Status": reply.status.value,
        "Owner": reply.owner,
        "Initiated": reply.initiated,
        "QuotaName": reply.quota_name,
        "TableSchema": write_form(reply.schema),
        "DataSchema": read_form(reply.schema),
    }


_ENCODERS: dict[type[Response], Callable[[Any, Request], _Json]] = {
    ReadSession: _read_session,
    WriteSession: _write_session,
    WriteStream: _write_stream,
    WriteSchema: _write_schema,
    WriteResult: _write_result,
    Done: _done,
    BlobReferences: _blob_references,
    InstanceReadSession: _instance_session,
}


def _is_block(request: Request) -> bool:
    return getattr(request, "write_mode", None) is WriteMode.BATCH_COMPATIBLE


def encode_response(response: Response, request: Request) -> tuple[dict[str, str], bytes]:
    """Headers and JSON body of a reply; the request id is the server's to add.

    Args:
        response: what the engine answered.
        request: what was asked; decides the reply's form.
    """
    headers = {header_names.CONTENT_TYPE: _JSON_REPLY}
    route_token = getattr(response, "route_token", "")
    if route_token:
        headers[header_names.ROUTE_TOKEN] = route_token
    if isinstance(request, CreateWriteStream):
        headers[header_names.ACCEPT_ENCODING] = WRITE_CODINGS
    return headers, encode_json(_ENCODERS[type(response)](response, request))


# --- reading replies -------------------------------------------------------------------------

_Kind = TypeVar("_Kind")


def _get(body: Mapping[str, object], name: str, kind: type[_Kind], default: _Kind) -> _Kind:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ProtocolError(f"{name} of the reply is not a JSON {kind.__name__}", side="remote")
    return value


def _optional(body: Mapping[str, object], name: str, kind: type[_Kind]) -> _Kind | None:
    return None if body.get(name) is None else _get(body, name, kind, kind())


def _required(body: Mapping[str, object], name: str) -> str:
    value = _get(body, name, str, "")
    if not value:
        raise ProtocolError(f"{name} is missing in the reply", side="remote")
    return value


def _status(body: Mapping[str, object], name: str) -> SessionStatus:
    text = _get(body, name, str, "NORMAL").upper()
    try:
        return SessionStatus(text)
    except ValueError:
        raise ProtocolError(f"{name} of the reply is {text[:40]!r}", side="remote") from None


def _bytes_field(body: Mapping[str, object], name: str) -> bytes | None:
    text = _optional(body, name, str)
    if text is None:
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ProtocolError(f"{name} of the reply is not base64", side="remote") from None


def _to_read_session(body: _Json, _request: Request, token: str) -> Response:
    stats = _get(body, "SessionStats", dict, {})
    mode = _get(body, "SplitMode", str, SplitMode.SIZE.value)
    schema = from_read_form(body.get("DataSchema"))
    return ReadSession(
        session_id=_required(body, "SessionId"),
        status=_status(body, "SessionStatus"),
        split_mode=SplitMode(mode) if mode in set(SplitMode) else SplitMode.SIZE,
        splits_count=_get(body, "SplitsCount", int, 0),
        record_count=_get(body, "RecordCount", int, 0),
        estimated_bytes=_get(stats, "EstimatedSize", int, 0),
        schema=schema,
        arrow_schema=_bytes_field(body, "ArrowSchema"),
        expiration_time_ms=_get(body, "ExpirationTime", int, 0),
        latest_version=_get(body, "LatestVersion", int, -1),
        table_id=_get(body, "TableId", str, ""),
        message=_get(body, "Message", str, ""),
        route_token=token,
        session_token=_optional(body, "SessionToken", str),
        details=read_details(body.get("Details")),
    )


def _to_write_session(body: _Json, request: Request, token: str) -> Response:
    schema = body.get("DataSchema")
    streams = _get(body, "Streams", dict, {})
    known = isinstance(request, GetWriteSession)
    session_id = getattr(request, "session_id", "") if known else _required(body, "SessionId")
    return WriteSession(
        session_id=session_id,
        streams={str(name): _get(streams, name, int, 0) for name in streams},
        warning_message=_get(body, "WarningMessage", str, "") or _get(body, "Message", str, ""),
        min_uncommitted_staging_id=_optional(body, "MinUncommittedStagingId", str),
        route_token=token,
        status=_status(body, "SessionStatus"),
        schema=None if schema is None else from_read_form(schema),
        max_block_number=_get(body, "MaxBlockNumber", int, 0),
        enhance_write_check=_get(body, "EnhanceWriteCheck", bool, default=False),
    )


def _to_write_stream(body: _Json, _request: Request, token: str) -> Response:
    version = _get(body, "SchemaVersion", int, 0)
    return WriteStream(
        table_id=_get(body, "TableId", str, ""),
        schema_version=version,
        latest_schema_version=_get(body, "LatestSchemaVersion", int, version),
        schema=from_write_form(body.get("TableSchema") or {}),
        access_token=_optional(body, "AccessToken", str),
        row_offset=_optional(body, "RowOffset", int),
        status=_status(body, "Status"),
        record_count=_get(body, "RecordCount", int, 0),
        byte_size=_get(body, "ByteSize", int, 0),
        quota_token=_optional(body, "QuotaToken", str),
        route_token=token,
        arrow_schema=_bytes_field(body, "ArrowSchema"),
    )


def _to_write_schema(body: _Json, _request: Request, token: str) -> Response:
    return WriteSchema(schema=from_write_form(body.get("TableSchema")), route_token=token)


def _to_write_result(body: _Json, _request: Request, token: str) -> Response:
    report = _optional(body, "Report", dict)
    return WriteResult(
        report=None if report is None else _to_changed(report),
        rows=_get(body, "RecordCount", int, 0),
        warning_message=_get(body, "WarningMessage", str, ""),
        exactly_once_row_offset=_optional(body, "ExactlyOnceRowOffset", int),
        staging_id=_optional(body, "StagingId", str),
        commit_message=_optional(body, "CommitMessage", str),
        route_token=token,
    )


def _to_done(body: _Json, _request: Request, token: str) -> Response:
    report = _optional(body, "Report", dict)
    return Done(
        warning_message=_get(body, "WarningMessage", str, ""),
        status=_status(body, "SessionStatus") if body.get("SessionStatus") else None,
        session_id=_optional(body, "SessionId", str),
        route_token=token,
        report=None if report is None else _to_changed(report),
    )


def _to_changed(body: _Json) -> Changed:
    return Changed(
        version=_get(body, "Version", int, -1),
        rows_inserted=_get(body, "RowsInserted", int, 0),
        rows_updated=_get(body, "RowsUpdated", int, 0),
        rows_deleted=_get(body, "RowsDeleted", int, 0),
    )


def _to_blob_references(body: _Json, request: Request, _token: str) -> Response:
    warning = _get(body, "WarningMessage", str, "")
    size = _get(body, "Size", int, 0)
    if isinstance(request, WriteBlob):
        return BlobReferences(
            references=(_reference(_required(body, "BlobReference")),),
            size=size,
            md5=_get(body, "MD5Value", str, "") or None,
            crc32c=_get(body, "Crc32c", int, None),
            single=True,
            warning_message=warning,
        )
    references = _get(body, "BlobReferences", list, [])
    if any(not isinstance(item, str) for item in references):
        raise ProtocolError(
            "BlobReferences of the reply has an entry that is no text", side="remote"
        )
    return BlobReferences(
        references=tuple(map(_reference, references)), size=size, warning_message=warning
    )


def _to_instance_session(body: _Json, _request: Request, _token: str) -> Response:
    return InstanceReadSession(
        session_id=_required(body, "DownloadID"),
        record_count=_get(body, "RecordCount", int, 0),
        schema=from_write_form(body.get("TableSchema")),
        status=_status(body, "Status"),
        owner=_get(body, "Owner", str, ""),
        initiated=_get(body, "Initiated", str, ""),
        quota_name=_get(body, "QuotaName", str, ""),
    )


_DECODERS: dict[type[Request], Callable[[_Json, Request, str], Any]] = {
    CreateReadSession: _to_read_session,
    GetReadSession: _to_read_session,
    CreateWriteSession: _to_write_session,
    GetWriteSession: _to_write_session,
    CommitWriteSession: _to_done,
    AbortWriteSession: _to_done,
    CreateWriteStream: _to_write_stream,
    GetWriteStream: _to_write_stream,
    CloseWriteStream: _to_done,
    GetWriteSchema: _to_write_schema,
    WriteTable: _to_write_result,
    AppendRows: _to_write_result,
    WriteBlob: _to_blob_references,
    WriteBlobs: _to_blob_references,
    CreateInstanceReadSession: _to_instance_session,
    GetInstanceReadSession: _to_instance_session,
}


def decode_response(
    request: Request[Reply_co],
    headers: Mapping[str, str] | Iterable[tuple[str, str]],
    body: bytes | memoryview,
) -> Reply_co:
    """The reply to a request of a JSON action, read from a 2xx answer.

    Raises:
        ProtocolError: the body is not the JSON object the protocol promises.
    """
    token = header_names.lower_case(headers).get(header_names.ROUTE_TOKEN, "")
    reply: Reply_co = _DECODERS[type(request)](load_reply(body), request, token)
    return reply
