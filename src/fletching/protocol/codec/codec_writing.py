"""Requests that write, to HTTP parts and back (PROTOCOL 2.5-2.15, 2.19)."""

from __future__ import annotations

from typing import Any

from fletching.errors import InvalidArgumentError, InvalidParameterError
from fletching.protocol.codec.codec_drafts import (
    Draft,
    arrow_options,
    content_encoding,
    mode_pairs,
    stream_version,
    table_draft,
    write_mode,
)
from fletching.protocol.codec.codec_parts import RequestParts, parse_partition
from fletching.protocol.http import headers as names
from fletching.protocol.http.targets import parse_table
from fletching.protocol.messages.requests import (
    AbortWriteSession,
    CloseWriteStream,
    CommitWriteSession,
    CreateWriteSession,
    CreateWriteStream,
    GetWriteSchema,
    GetWriteSession,
    GetWriteStream,
    WriteBlob,
    WriteBlobs,
    WriteTable,
)
from fletching.protocol.messages.vocabulary import Action, ApiVersion, WriteMode

MIN_MAX_FIELD_BYTES = 1024
"""Smallest non-zero ``MaxFieldSize`` (PROTOCOL 2.19)."""


# --- write sessions --------------------------------------------------------------------------


def encode_create_write_session(request: CreateWriteSession, version: ApiVersion) -> Draft:
    """Drafts the HTTP parts of `CreateWriteSession`."""
    draft = table_draft(Action.TABLE_CREATE_WRITE_SESSION, request)
    draft.query += mode_pairs(request.write_mode, version)
    if request.write_mode is WriteMode.BATCH_COMPATIBLE:
        draft.add("enableQuotaToken", value=True)
        draft.json = {
            "PartitionSpec": str(request.partition),
            "Overwrite": request.overwrite,
            "DynamicPartitionOptions": {
                "InvalidStrategy": "Exception",
                "InvalidLimit": -1,
                "DynamicPartitionLimit": -1,
            },
            "ArrowOptions": {"TimestampUnit": "nano", "DatetimeUnit": "milli"},
            "SupportWriteCluster": False,
            "MaxFieldSize": 0,
            "EnhanceWriteCheck": request.enhance_write_check,
            "SupportSaveToPangu": False,
        }
        return draft
    flags = dict(request.flags)
    if request.overwrite:
        flags["overwrite"] = "true"
    draft.json = {"PartialPartitionSpec": str(request.partition), "Flags": flags}
    return draft


def _flags(parts: RequestParts) -> dict[str, str]:
    """Flags are text, but users' JSON true and numbers pass through some clients (PROTOCOL 2.5)."""
    flags: dict[str, str] = {}
    for name, value in parts.json_object("Flags").items():
        if isinstance(value, bool):
            flags[name] = str(value).lower()
        elif isinstance(value, str | int | float):
            flags[name] = str(value)
        elif value is not None:
            raise InvalidParameterError(f"Flags.{name[:40]} is neither text, number nor boolean")
    return flags


def decode_create_write_session(parts: RequestParts, target: str) -> CreateWriteSession:
    """Reads `CreateWriteSession`."""
    mode = write_mode(parts, None)
    if mode is WriteMode.BATCH_COMPATIBLE:
        size = parts.json_int("MaxFieldSize") or 0
        if size and size < MIN_MAX_FIELD_BYTES:
            raise InvalidArgumentError(
                f"MaxFieldSize is {size} bytes, not 0 or at least {MIN_MAX_FIELD_BYTES}"
            )
        arrow_options(parts)
        return CreateWriteSession(
            table=parse_table(target),
            write_mode=mode,
            partition=parse_partition(parts.json_text("PartitionSpec"), "PartitionSpec"),
            overwrite=parts.json_bool("Overwrite"),
            enhance_write_check=parts.json_bool("EnhanceWriteCheck"),
        )
    flags = _flags(parts)
    return CreateWriteSession(
        table=parse_table(target),
        write_mode=mode,
        partition=parse_partition(parts.json_text("PartialPartitionSpec"), "PartialPartitionSpec"),
        overwrite=flags.pop("overwrite", "false").lower() == "true",
        flags=flags,
    )


def encode_get_write_session(request: GetWriteSession, version: ApiVersion) -> Draft:
    """Drafts the HTTP parts of `GetWriteSession`."""
    draft = table_draft(Action.TABLE_GET_WRITE_SESSION, request)
    draft.add("SessionId", request.session_id)
    draft.query += mode_pairs(request.write_mode, version)
    return draft


def decode_get_write_session(parts: RequestParts, target: str) -> GetWriteSession:
    """Reads `GetWriteSession`."""
    session_id = parts.identifier("SessionId")
    return GetWriteSession(
        table=parse_table(target),
        session_id=session_id,
        write_mode=write_mode(parts, session_id),
    )


def encode_commit(request: CommitWriteSession, version: ApiVersion) -> Draft:
    """Drafts the HTTP parts of `CommitWriteSession`."""
    draft = table_draft(Action.TABLE_COMMIT_WRITE_SESSION, request)
    draft.add("SessionId", request.session_id)
    draft.query += mode_pairs(request.write_mode, version)
    body: dict[str, Any] = {}
    if request.streams:
        body["StreamIds"] = [stream_id for stream_id, _ in request.streams]
        body["StreamVersions"] = [stream_version for _, stream_version in request.streams]
    if request.commit_messages is not None:
        body["CommitMessages"] = list(request.commit_messages)
    if request.if_version is not None:
        body["IfVersion"] = request.if_version
    if request.idempotency_key is not None:
        body["IdempotencyKey"] = request.idempotency_key
    draft.json = body
    return draft


def decode_commit(parts: RequestParts, target: str) -> CommitWriteSession:
    """Reads `CommitWriteSession`."""
    session_id = parts.identifier("SessionId")
    ids, versions = parts.json_texts("StreamIds"), parts.json_ints("StreamVersions")
    if len(ids) != len(versions):
        raise InvalidParameterError(
            f"StreamIds has {len(ids)} entries and StreamVersions {len(versions)}"
        )
    mode = write_mode(parts, session_id)
    messages: tuple[str, ...] | None = None
    if mode is WriteMode.BATCH_COMPATIBLE or parts.json.get("CommitMessages") is not None:
        messages = parts.json_texts("CommitMessages")
    return CommitWriteSession(
        table=parse_table(target),
        session_id=session_id,
        write_mode=mode,
        streams=tuple(zip(ids, versions, strict=True)) or None,
        commit_messages=messages,
        if_version=parts.json_int("IfVersion"),
        idempotency_key=parts.json_text("IdempotencyKey") or None,
    )


def encode_abort(request: AbortWriteSession, version: ApiVersion) -> Draft:
    """Drafts the HTTP parts of `AbortWriteSession`."""
    draft = table_draft(Action.TABLE_ABORT_WRITE_SESSION, request)
    draft.add("SessionId", request.session_id)
    draft.query += mode_pairs(request.write_mode, version)
    return draft


def decode_abort(parts: RequestParts, target: str) -> AbortWriteSession:
    """Reads `AbortWriteSession`."""
    session_id = parts.identifier("SessionId")
    return AbortWriteSession(
        table=parse_table(target),
        session_id=session_id,
        write_mode=write_mode(parts, session_id),
    )


# --- write streams ---------------------------------------------------------------------------


def encode_create_stream(request: CreateWriteStream, version: ApiVersion) -> Draft:
    """Drafts the HTTP parts of `CreateWriteStream`."""
    draft = table_draft(Action.TABLE_CREATE_WRITE_STREAM, request)
    draft.add("SessionId", request.session_id)
    draft.query += mode_pairs(request.write_mode, version)
    body: dict[str, Any] = {
        "StreamId": request.stream_id,
        "StreamVersion": request.stream_version,
    }
    if request.exactly_once:
        body["ExactlyOnceMode"] = True
    draft.json = body
    draft.header(names.RETRY_TRACE_ID, request.retry_trace_id)
    return draft


def decode_create_stream(parts: RequestParts, target: str) -> CreateWriteStream:
    """Reads `CreateWriteStream`."""
    session_id = parts.identifier("SessionId")
    return CreateWriteStream(
        table=parse_table(target),
        session_id=session_id,
        stream_id=parts.identifier("StreamId"),
        stream_version=stream_version(parts),
        write_mode=write_mode(parts, session_id),
        exactly_once=parts.json_bool("ExactlyOnceMode"),
        retry_trace_id=parts.headers.get(names.RETRY_TRACE_ID) or None,
    )


def encode_get_stream(request: GetWriteStream, version: ApiVersion) -> Draft:
    """Drafts the HTTP parts of `GetWriteStream`."""
    draft = table_draft(Action.TABLE_GET_WRITE_STREAM, request)
    draft.add("SessionId", request.session_id)
    draft.add("StreamId", request.stream_id)
    draft.add("StreamVersion", request.stream_version)
    draft.query += mode_pairs(request.write_mode, version)
    if request.exactly_once:
        draft.add("ExactlyOnceMode", value=True)
    draft.json = {
        "StreamId": request.stream_id,
        "StreamVersion": request.stream_version,
        "ExactlyOnceMode": request.exactly_once,
    }
    return draft


def decode_get_stream(parts: RequestParts, target: str) -> GetWriteStream:
    """Reads `GetWriteStream`."""
    session_id = parts.identifier("SessionId")
    return GetWriteStream(
        table=parse_table(target),
        session_id=session_id,
        stream_id=parts.identifier("StreamId"),
        stream_version=stream_version(parts),
        write_mode=write_mode(parts, session_id),
        exactly_once=parts.query_bool("ExactlyOnceMode") or parts.json_bool("ExactlyOnceMode"),
    )


def encode_close_stream(request: CloseWriteStream, version: ApiVersion) -> Draft:
    """Drafts the HTTP parts of `CloseWriteStream`."""
    draft = table_draft(Action.TABLE_CLOSE_WRITE_STREAM, request)
    draft.add("SessionId", request.session_id)
    draft.query += mode_pairs(request.write_mode, version)
    draft.json = {
        "SessionId": request.session_id,
        "StreamId": request.stream_id,
        "StreamVersion": request.stream_version,
    }
    return draft


def decode_close_stream(parts: RequestParts, target: str) -> CloseWriteStream:
    """Reads `CloseWriteStream`."""
    session_id = parts.identifier("SessionId")
    return CloseWriteStream(
        table=parse_table(target),
        session_id=session_id,
        stream_id=parts.identifier("StreamId"),
        stream_version=stream_version(parts),
        write_mode=write_mode(parts, session_id),
    )


def encode_get_write_schema(request: GetWriteSchema, _version: ApiVersion) -> Draft:
    """Drafts the HTTP parts of `GetWriteSchema`."""
    draft = table_draft(Action.TABLE_GET_WRITE_SCHEMA, request)
    draft.add("SessionId", request.session_id)
    return draft


def decode_get_write_schema(parts: RequestParts, target: str) -> GetWriteSchema:
    """Reads `GetWriteSchema`."""
    return GetWriteSchema(table=parse_table(target), session_id=parts.identifier("SessionId"))


def encode_write_table(request: WriteTable, version: ApiVersion) -> Draft:
    """Drafts the HTTP parts of `WriteTable`."""
    draft = table_draft(Action.TABLE_WRITE, request)
    draft.add("SessionId", request.session_id)
    if request.write_mode is WriteMode.BATCH_COMPATIBLE:
        draft.query += mode_pairs(request.write_mode, version)
        draft.add("BlockNumber", request.block_number)
        draft.add("AttemptNumber", request.attempt_number)
        draft.add("quotaToken", request.quota_token)
        draft.stream(names.ARROW_STREAM)
    else:
        draft.add("StreamId", request.stream_id)
        draft.add("StreamVersion", request.stream_version)
        draft.add("Count", request.count)
        draft.query += mode_pairs(request.write_mode, version)
        draft.add("TableId", request.table_id)
        draft.add("SchemaVersion", request.schema_version)
        draft.add("RowOffset", request.row_offset)
        draft.stream(names.OCTET_STREAM)
    draft.header(names.ACCESS_TOKEN, request.access_token)
    draft.header(names.RETRY_TRACE_ID, request.retry_trace_id)
    draft.header(names.CONTENT_ENCODING, request.content_encoding)
    return draft


def block_stream_id(block_number: int, attempt_number: int) -> str:
    """The write stream that holds a block's attempt (PROTOCOL 2.19)."""
    return f"block-{block_number}-attempt-{attempt_number}"


def decode_write_table(parts: RequestParts, target: str) -> WriteTable:
    """Reads `WriteTable`."""
    session_id = parts.identifier("SessionId")
    mode = write_mode(parts, session_id)
    block = attempt = None
    if mode is WriteMode.BATCH_COMPATIBLE:
        block = parts.query_int("BlockNumber")
        attempt = parts.query_int("AttemptNumber") or 0
        if block is None:
            raise InvalidParameterError("BlockNumber is missing")
        stream_id, version = block_stream_id(block, attempt), 1
    else:
        stream_id, version = parts.identifier("StreamId"), stream_version(parts)
    return WriteTable(
        table=parse_table(target),
        session_id=session_id,
        stream_id=stream_id,
        stream_version=version,
        write_mode=mode,
        count=parts.query_int("Count", least=-1),
        row_offset=parts.query_int("RowOffset"),
        access_token=parts.headers.get(names.ACCESS_TOKEN) or None,
        table_id=parts.query_text("TableId"),
        schema_version=parts.query_int("SchemaVersion", least=-1),
        retry_trace_id=parts.headers.get(names.RETRY_TRACE_ID) or None,
        block_number=block,
        attempt_number=attempt,
        quota_token=parts.query_text("quotaToken"),
        content_encoding=content_encoding(parts),
    )


# --- blobs -----------------------------------------------------------------------------------


def encode_write_blob(request: WriteBlob, _version: ApiVersion) -> Draft:
    """Drafts the HTTP parts of `WriteBlob`."""
    draft = table_draft(Action.TABLE_WRITE_BLOB, request)
    draft.add("SessionId", request.session_id)
    draft.add("StreamId", request.stream_id)
    draft.add("StreamVersion", request.stream_version)
    draft.add("PartitionValues", request.partition)
    draft.add("ColumnIndex", request.column_id)
    draft.add("ContentType", request.content_type)
    draft.add("CustomFileName", request.file_name)
    draft.stream(names.OCTET_STREAM)
    draft.header(names.CONTENT_ENCODING, request.content_encoding)
    return draft


def encode_write_blobs(request: WriteBlobs, _version: ApiVersion) -> Draft:
    """Drafts the HTTP parts of `WriteBlobs`."""
    draft = table_draft(Action.TABLE_WRITE_BLOB, request)
    draft.add("SessionId", request.session_id)
    draft.add("StreamId", request.stream_id)
    draft.add("StreamVersion", request.stream_version)
    draft.add("Mode", "Batch")
    draft.stream(names.OCTET_STREAM)
    draft.header(names.CONTENT_ENCODING, request.content_encoding)
    return draft


def decode_write_blob(parts: RequestParts, target: str) -> WriteBlob | WriteBlobs:
    """Reads `WriteBlob` or `WriteBlobs`."""
    mode = parts.query_text("Mode")
    if mode is not None:
        if mode.lower() != "batch":
            raise InvalidArgumentError(f"Mode is {mode[:40]!r}, not 'Batch'")
        return WriteBlobs(
            table=parse_table(target),
            session_id=parts.identifier("SessionId"),
            stream_id=parts.identifier("StreamId"),
            stream_version=stream_version(parts),
            content_encoding=content_encoding(parts),
        )
    column_id = parts.query_int("ColumnIndex")
    return WriteBlob(
        table=parse_table(target),
        session_id=parts.identifier("SessionId"),
        stream_id=parts.identifier("StreamId"),
        stream_version=stream_version(parts),
        partition=parse_partition(parts.query_text("PartitionValues") or "", "PartitionValues"),
        column_id=1 if column_id is None else column_id,
        content_encoding=content_encoding(parts),
        content_type=parts.query_text("ContentType"),
        file_name=parts.query_text("CustomFileName"),
    )
