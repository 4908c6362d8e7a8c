"""Requests that read, to HTTP parts and back (PROTOCOL 2.1-2.4, 2.16-2.18)."""

from __future__ import annotations

from typing import Any

from fletching.errors import InvalidArgumentError, InvalidParameterError
from fletching.protocol.codec.codec_drafts import (
    DATA_FORMAT,
    Draft,
    accept_encoding,
    arrow_options,
    check_data_format,
    instance_draft,
    table_draft,
    word,
)
from fletching.protocol.codec.codec_parts import (
    RequestParts,
    boolean_field,
    integer_field,
    parse_partition,
)
from fletching.protocol.http import headers as names
from fletching.protocol.http.targets import BLOB_TARGET, parse_instance, parse_table
from fletching.protocol.messages.requests import (
    CreateInstanceReadSession,
    CreateReadSession,
    GetInstanceReadSession,
    GetReadSession,
    PreviewTable,
    ReadBlobs,
    ReadInstance,
    ReadTable,
    SplitOptions,
)
from fletching.protocol.messages.vocabulary import Action, ApiVersion, SplitMode

MAX_BATCH_ROWS = 20_000
"""Largest ``MaxBatchRows`` of a TableRead (PROTOCOL 2.3)."""

MIN_BATCH_BYTES = 1024 * 1024
MAX_BATCH_BYTES = 256 * 1024 * 1024
"""Bounds of a non-zero ``MaxBatchRawSize`` (PROTOCOL 2.3)."""


# --- read sessions ---------------------------------------------------------------------------


def _split_options(parts: RequestParts) -> SplitOptions:
    options = parts.json_object("SplitOptions")
    default = SplitOptions()
    mode = options.get("SplitMode")
    if mode is not None and not isinstance(mode, str):
        raise InvalidParameterError("SplitOptions.SplitMode is not a string")
    number = integer_field(options, "SplitNumber")
    return SplitOptions(
        split_mode=word(SplitMode, mode, "SplitOptions.SplitMode") if mode else default.split_mode,
        # 0 is what a client sends that has nothing to say about the number
        split_number=number or default.split_number,
        cross_partition=boolean_field(options, "CrossPartition", default=True),
    )


def encode_create_read_session(request: CreateReadSession, _version: ApiVersion) -> Draft:
    """Drafts the HTTP parts of `CreateReadSession`."""
    draft = table_draft(Action.TABLE_CREATE_READ_SESSION, request)
    split, arrow = request.split_options, request.arrow_options
    draft.json = {
        "RequiredDataColumns": list(request.required_data_columns),
        "RequiredPartitionColumns": list(request.required_partition_columns),
        "RequiredPartitions": [str(item) for item in request.required_partitions],
        "RequiredBucketIds": list(request.required_bucket_ids),
        "SplitOptions": {
            "SplitMode": split.split_mode.value,
            "SplitUnit": "ByteSize",
            "SplitNumber": split.split_number,
            "CrossPartition": split.cross_partition,
        },
        "ArrowOptions": {
            "TimestampUnit": arrow.timestamp_unit and arrow.timestamp_unit.value,
            "DatetimeUnit": arrow.datetime_unit and arrow.datetime_unit.value,
        },
        "FilterPredicate": request.filter_predicate,
        "FilterPredicateFallback": request.filter_predicate_fallback,
        "SplitMaxFileNum": 0,
        "IncrementalRead": request.incremental,
    }
    if request.verbatim_types:
        draft.json["VerbatimTypes"] = True
    if request.first_split:
        draft.json["FirstSplit"] = True
    if request.version is not None:
        draft.json["Version"] = request.version
    if request.since_version is not None:
        draft.json["SinceVersion"] = request.since_version
    return draft


def decode_create_read_session(parts: RequestParts, target: str) -> CreateReadSession:
    """Reads `CreateReadSession`."""
    incremental = parts.json_object("IncrementalReadOptions")
    return CreateReadSession(
        table=parse_table(target),
        required_data_columns=parts.json_texts("RequiredDataColumns"),
        required_partition_columns=parts.json_texts("RequiredPartitionColumns"),
        required_partitions=tuple(
            parse_partition(text, "RequiredPartitions")
            for text in parts.json_texts("RequiredPartitions")
        ),
        required_bucket_ids=parts.json_ints("RequiredBucketIds"),
        split_options=_split_options(parts),
        arrow_options=arrow_options(parts),
        filter_predicate=parts.json_text("FilterPredicate"),
        filter_predicate_fallback=parts.json_bool("FilterPredicateFallback"),
        incremental=parts.json_bool("IncrementalRead")
        or boolean_field(incremental, "EnableIncrementalRead"),
        verbatim_types=parts.json_bool("VerbatimTypes"),
        first_split=parts.json_bool("FirstSplit"),
        version=parts.json_int("Version", least=-(2**62)),
        since_version=parts.json_int("SinceVersion", least=-(2**62)),
    )


def encode_get_read_session(request: GetReadSession, _version: ApiVersion) -> Draft:
    """Drafts the HTTP parts of `GetReadSession`."""
    draft = table_draft(Action.TABLE_GET_READ_SESSION, request)
    draft.add("SessionId", request.session_id)
    draft.add("session_refresh", request.refresh)
    if request.release:
        draft.add("session_release", request.release)
    return draft


def decode_get_read_session(parts: RequestParts, target: str) -> GetReadSession:
    """Reads `GetReadSession`."""
    return GetReadSession(
        table=parse_table(target),
        session_id=parts.identifier("SessionId"),
        refresh=parts.query_bool("session_refresh"),
        release=parts.query_bool("session_release"),
    )


def _max_batch_rows(parts: RequestParts) -> int | None:
    rows = parts.json_int("MaxBatchRows")
    if rows is not None and rows > MAX_BATCH_ROWS:
        raise InvalidArgumentError(f"MaxBatchRows is {rows}, above the limit of {MAX_BATCH_ROWS}")
    return rows or None


def _max_batch_bytes(parts: RequestParts) -> int:
    size = parts.json_int("MaxBatchRawSize") or 0
    if size and not MIN_BATCH_BYTES <= size <= MAX_BATCH_BYTES:
        raise InvalidArgumentError(
            f"MaxBatchRawSize is {size} bytes, not 0 or {MIN_BATCH_BYTES} to {MAX_BATCH_BYTES}"
        )
    return size


def encode_read_table(request: ReadTable, _version: ApiVersion) -> Draft:
    """Drafts the HTTP parts of `ReadTable`."""
    draft = table_draft(Action.TABLE_READ, request)
    draft.add("SessionId", request.session_id)
    draft.add("Index", request.index)
    draft.add("Offset", request.offset)
    draft.add("Count", request.count)
    draft.header(names.ACCEPT_ENCODING, ",".join(request.accept_encoding))
    draft.json = {
        "SkipRowNum": request.skip_rows,
        "MaxBatchRawSize": request.max_batch_bytes,
        "DataFormat": DATA_FORMAT,
        "DataColumns": list(request.data_columns),
        "DataColumnsUnordered": request.data_columns_unordered,
    }
    if request.max_batch_rows:
        draft.json["MaxBatchRows"] = request.max_batch_rows
    return draft


def decode_read_table(parts: RequestParts, target: str) -> ReadTable:
    """Reads `ReadTable`."""
    check_data_format(parts)
    return ReadTable(
        table=parse_table(target),
        session_id=parts.identifier("SessionId"),
        index=parts.query_int("Index"),
        offset=parts.query_int("Offset"),
        count=parts.query_int("Count"),
        max_batch_rows=_max_batch_rows(parts),
        skip_rows=parts.json_int("SkipRowNum") or 0,
        max_batch_bytes=_max_batch_bytes(parts),
        data_columns=parts.json_texts("DataColumns"),
        data_columns_unordered=parts.json_bool("DataColumnsUnordered"),
        accept_encoding=accept_encoding(parts),
    )


def encode_preview_table(request: PreviewTable, _version: ApiVersion) -> Draft:
    """Drafts the HTTP parts of `PreviewTable`."""
    draft = table_draft(Action.TABLE_PREVIEW, request)
    body: dict[str, Any] = {}
    if request.limit is not None:
        draft.add("Limit", request.limit)
        body["Limit"] = request.limit
    if request.partition:
        draft.add("Partition", request.partition)
        body["Partition"] = str(request.partition)
    if request.columns:
        body["Columns"] = list(request.columns)
    if request.verbatim_types:
        body["VerbatimTypes"] = True
    draft.json = body
    return draft


def decode_preview_table(parts: RequestParts, target: str) -> PreviewTable:
    """Reads `PreviewTable`."""
    limit = parts.json_int("Limit")
    text = parts.json_text("Partition") or parts.query_text("Partition") or ""
    return PreviewTable(
        table=parse_table(target),
        limit=parts.query_int("Limit") if limit is None else limit,
        partition=parse_partition(text, "Partition"),
        columns=parts.json_texts("Columns"),
        verbatim_types=parts.json_bool("VerbatimTypes"),
    )


# --- blobs ---


def encode_read_blobs(request: ReadBlobs, _version: ApiVersion) -> Draft:
    """Drafts the HTTP parts of `ReadBlobs`."""
    draft = Draft(Action.BLOB_READ, BLOB_TARGET)
    draft.header(names.ACCEPT_ENCODING, ",".join(request.accept_encoding))
    draft.json = {"BlobReferences": list(request.references)}
    if request.framed:
        draft.json["Framed"] = True
    return draft


def decode_read_blobs(parts: RequestParts, target: str) -> ReadBlobs:
    """Reads `ReadBlobs`."""
    if target != BLOB_TARGET:
        raise InvalidParameterError(f"Target of BlobRead is {target[:100]!r}, not {BLOB_TARGET!r}")
    references = parts.json_texts("BlobReferences")
    if not references:
        raise InvalidArgumentError("BlobReferences is missing or empty")
    return ReadBlobs(
        project=parts.query_text("curr_project") or "",
        references=references,
        accept_encoding=accept_encoding(parts),
        framed=parts.json_bool("Framed"),
    )


# --- instances -------------------------------------------------------------------------------


def encode_create_instance(request: CreateInstanceReadSession, _version: ApiVersion) -> Draft:
    """Drafts the HTTP parts of `CreateInstanceReadSession`."""
    draft = instance_draft(Action.INSTANCE_CREATE_READ_SESSION, request)
    draft.json = {"EnableLimit": request.enable_limit}
    return draft


def decode_create_instance(parts: RequestParts, target: str) -> CreateInstanceReadSession:
    """Reads `CreateInstanceReadSession`."""
    instance = parse_instance(target)
    return CreateInstanceReadSession(
        project=instance.project,
        instance_id=instance.instance_id,
        enable_limit=parts.json_bool("EnableLimit"),
    )


def encode_get_instance(request: GetInstanceReadSession, _version: ApiVersion) -> Draft:
    """Drafts the HTTP parts of `GetInstanceReadSession`."""
    draft = instance_draft(Action.INSTANCE_GET_READ_SESSION, request)
    draft.add("SessionId", request.session_id)
    return draft


def decode_get_instance(parts: RequestParts, target: str) -> GetInstanceReadSession:
    """Reads `GetInstanceReadSession`."""
    instance = parse_instance(target)
    return GetInstanceReadSession(
        project=instance.project,
        instance_id=instance.instance_id,
        session_id=parts.identifier("SessionId"),
    )


def encode_read_instance(request: ReadInstance, _version: ApiVersion) -> Draft:
    """Drafts the HTTP parts of `ReadInstance`."""
    draft = instance_draft(Action.INSTANCE_READ, request)
    draft.add("SessionId", request.session_id)
    draft.add("Count", request.count)
    draft.add("Offset", request.offset)
    draft.header(names.ACCEPT_ENCODING, ",".join(request.accept_encoding))
    draft.json = {
        "TaskName": "AnonymousSQLTask",
        "QueryId": 0,
        "EnableLimit": False,
        "Columns": list(request.columns),
    }
    if request.max_batch_rows:
        draft.json["MaxBatchRows"] = request.max_batch_rows
    return draft


def decode_read_instance(parts: RequestParts, target: str) -> ReadInstance:
    """Reads `ReadInstance`."""
    instance = parse_instance(target)
    check_data_format(parts)
    return ReadInstance(
        project=instance.project,
        instance_id=instance.instance_id,
        session_id=parts.identifier("SessionId"),
        offset=parts.query_int("Offset") or 0,
        count=parts.query_int("Count"),
        columns=parts.json_texts("Columns") or parts.json_texts("DataColumns"),
        max_batch_rows=_max_batch_rows(parts),
        accept_encoding=accept_encoding(parts),
    )
