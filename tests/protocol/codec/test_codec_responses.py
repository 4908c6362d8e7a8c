from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from fletching.errors import ProtocolError
from fletching.protocol.codec import decode_response, encode_response
from fletching.protocol.codec.codec_responses import REPLY_TABLES
from fletching.protocol.messages.requests import (
    AbortWriteSession,
    CloseWriteStream,
    CommitWriteSession,
    CreateInstanceReadSession,
    CreateReadSession,
    CreateWriteSession,
    CreateWriteStream,
    GetReadSession,
    GetWriteSchema,
    GetWriteSession,
    GetWriteStream,
    Request,
    WriteBlob,
    WriteBlobs,
    WriteTable,
    reply_kind,
)
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
from fletching.protocol.messages.vocabulary import SessionStatus, SplitMode, WriteMode
from fletching.protocol.types.table_schema import table_schema
from fletching.types import TableName

T = TableName("p", "t")
SCHEMA = table_schema(
    pa.schema([("a", pa.int64()), ("b", pa.list_(pa.string()))]), [("pt", "STRING")]
)
BLOCK = WriteMode.BATCH_COMPATIBLE
COLUMN = {
    "comment": "",
    "label": "",
    "columnType": {"MemberName": "a", "ColumnId": 1, "Nullable": True, "Type": 0},
}

READ_SESSION = ReadSession(
    session_id="rs-1",
    split_mode=SplitMode.ROW_OFFSET,
    splits_count=2,
    record_count=9,
    estimated_bytes=77,
    schema=SCHEMA,
    arrow_schema=b"\x00\xffschema",
    expiration_time_ms=1795305954098,
    latest_version=4,
    table_id="tid",
    route_token="rt",
)
STREAM = WriteStream(
    table_id="tid",
    schema_version=3,
    latest_schema_version=3,
    schema=SCHEMA,
    access_token="at",
    row_offset=0,
    quota_token="qt",
    route_token="rt",
    arrow_schema=b"x",
)

# request, reply, JSON fields that clients lean on
TABLE: list[tuple[Request, Response, dict[str, Any]]] = [
    (
        CreateReadSession(table=T),
        READ_SESSION,
        {
            "SessionId": "rs-1",
            "SessionStatus": "NORMAL",
            "SessionType": "batch_read",
            "SplitMode": "RowOffset",
            "SplitsCount": 2,
            "RecordCount": 9,
            "ExpirationTime": 1795305954098,
            "SupportedDataFormat": [{"Type": "Arrow", "Version": "V5"}],
            "SplitBucketId": [],
            "ArrowSchema": "AP9zY2hlbWE=",
        },
    ),
    (GetReadSession(table=T, session_id="rs-1"), READ_SESSION, {"SessionId": "rs-1"}),
    (
        CreateWriteSession(table=T),
        WriteSession(session_id="ws", route_token="rt"),
        {"SessionId": "ws", "WarningMessage": ""},
    ),
    (
        GetWriteSession(table=T, session_id="ws"),
        WriteSession(session_id="ws", streams={"s1": 2}, min_uncommitted_staging_id="007"),
        {"Streams": {"s1": 2}, "WarningMessage": "", "MinUncommittedStagingId": "007"},
    ),
    (
        GetWriteSession(table=T, session_id="ws"),
        WriteSession(session_id="ws"),
        {"Streams": {}, "MinUncommittedStagingId": None},
    ),
    (
        CreateWriteSession(table=T, write_mode=BLOCK),
        WriteSession(
            session_id="ws",
            schema=table_schema(pa.schema([("a", pa.int64())])),
            max_block_number=20000,
            enhance_write_check=True,
        ),
        {
            "SessionId": "ws",
            "SessionStatus": "NORMAL",
            "MaxBlockNumber": 20000,
            "EnhanceWriteCheck": True,
            "DataSchema": {
                "DataColumns": [
                    {"Name": "a", "Type": "bigint", "Comment": "", "Nullable": True, "ColumnId": 1}
                ],
                "PartitionColumns": [],
                "SystemColumns": [],
            },
        },
    ),
    (
        CreateWriteStream(table=T, session_id="ws", stream_id="s"),
        STREAM,
        {"TableId": "tid", "SchemaVersion": 3, "AccessToken": "at", "QuotaToken": "qt"},
    ),
    (
        GetWriteStream(table=T, session_id="ws", stream_id="s"),
        STREAM,
        {
            "RowOffset": 0,
            "LatestSchemaVersion": 3,
            "status": 1,
            "Status": "NORMAL",
            "recordCount": 0,
            "RecordCount": 0,
            "ByteSize": 0,
            "ErrorCode": "",
            "ErrorMessage": "",
        },
    ),
    (
        GetWriteStream(table=T, session_id="ws", stream_id="s", write_mode=BLOCK),
        STREAM,
        {"RowOffset": 0, "status": 1, "Status": "NORMAL"},
    ),
    (GetWriteSchema(table=T, session_id="ws"), WriteSchema(schema=SCHEMA, route_token="rt"), {}),
    (
        WriteTable(table=T, session_id="ws", stream_id="s"),
        WriteResult(rows=4, exactly_once_row_offset=4, staging_id="01", commit_message="{}"),
        {
            "WarningMessage": "",
            "RecordCount": 4,
            "ExactlyOnceRowOffset": 4,
            "StagingId": "01",
            "CommitMessage": "{}",
        },
    ),
    (CommitWriteSession(table=T, session_id="ws"), Done(), {}),
    (
        CommitWriteSession(table=T, session_id="ws", write_mode=BLOCK),
        Done(status=SessionStatus.COMMITTED, session_id="ws"),
        {"SessionStatus": "COMMITTED", "SessionId": "ws"},
    ),
    (AbortWriteSession(table=T, session_id="ws"), Done(route_token="rt"), {}),
    (
        CloseWriteStream(table=T, session_id="ws", stream_id="s"),
        Done(),
        {"WarningMessage": ""},
    ),
    (
        WriteBlob(table=T, session_id="ws", stream_id="s"),
        BlobReferences(references=("Ymxv",), size=3, md5="ab"),
        {"BlobReference": "WW14dg==", "MD5Value": "ab", "Size": 3},
    ),
    (
        WriteBlob(table=T, session_id="ws", stream_id="s"),
        BlobReferences(references=("Ymxv",), size=3, md5="ab", crc32c=5),
        {"BlobReference": "WW14dg==", "MD5Value": "ab", "Size": 3, "Crc32c": 5},
    ),
    (
        WriteBlobs(table=T, session_id="ws", stream_id="s"),
        BlobReferences(references=(), size=0),
        {"BlobReferences": [], "Size": 0},
    ),
    (
        CreateInstanceReadSession(project="p", instance_id="i"),
        InstanceReadSession(session_id="dl", record_count=2, schema=SCHEMA, owner="o"),
        {"DownloadID": "dl", "RecordCount": 2, "Status": "NORMAL", "Owner": "o"},
    ),
]
IDS = [f"{type(a).__name__}-{type(b).__name__}-{i}" for i, (a, b, _) in enumerate(TABLE)]


@pytest.mark.parametrize(("request_", "reply", "fields"), TABLE, ids=IDS)
def test_each_reply_has_its_fields_and_comes_back(
    request_: Request, reply: Response, fields: dict[str, Any]
) -> None:
    headers, body = encode_response(reply, request_)
    assert headers["content-type"] == "application/json"
    assert headers.get("x-odps-max-storage-route-token", "") == getattr(reply, "route_token", "")
    decoded = json.loads(body)
    assert fields.items() <= decoded.items()
    assert decode_response(request_, {k.upper(): v for k, v in headers.items()}, body) == reply


def test_create_stream_names_the_codecs_for_writes() -> None:
    request = CreateWriteStream(table=T, session_id="ws", stream_id="s")
    headers, body = encode_response(STREAM, request)
    assert headers["accept-encoding"] == "x-lz4-frame,zstd"
    assert set(json.loads(body)["TableSchema"]) == {
        "DataColumns",
        "PartitionColumns",
        "SystemColumns",
    }
    assert json.loads(body)["TableSchema"]["DataColumns"][0] == COLUMN


def test_a_block_commit_says_committed_even_when_the_engine_only_says_done() -> None:
    request = CommitWriteSession(table=T, session_id="ws", write_mode=BLOCK)
    body = json.loads(encode_response(Done(), request)[1])
    assert body == {"SessionId": "ws", "SessionStatus": "COMMITTED"}


def test_replies_of_other_services_are_understood() -> None:
    request = CreateReadSession(table=T)
    body = {
        "SessionId": "x",
        "SessionStatus": "init",
        "SplitMode": "Unheard",
        "DataSchema": {"DataColumns": [{"Name": "a", "Type": "BIGINT"}]},
        "RecordCount": None,
        "New": {},
    }
    session = decode_response(request, {}, json.dumps(body).encode())
    assert isinstance(session, ReadSession)
    assert session.status is SessionStatus.INIT
    assert session.split_mode is SplitMode.SIZE
    stream = decode_response(
        CreateWriteStream(table=T, session_id="s", stream_id="x"), {}, b'{"SchemaVersion": 5}'
    )
    assert isinstance(stream, WriteStream)
    assert (stream.schema_version, stream.latest_schema_version) == (5, 5)


@pytest.mark.parametrize(
    ("request_", "body", "complaint"),
    [
        (CreateReadSession(table=T), b"", "SessionId is missing"),
        (CreateReadSession(table=T), b"<html>", "cannot be read"),
        (CreateReadSession(table=T), b"[]", "cannot be read"),
        (CreateReadSession(table=T), b'{"SessionId": "a"}', "DataSchema is missing"),
        (
            CreateReadSession(table=T),
            b'{"DataSchema": {}, "SessionId": "a", "SessionStatus": "LOST"}',
            "LOST",
        ),
        (
            CreateReadSession(table=T),
            b'{"DataSchema": {}, "SessionId": "a", "ArrowSchema": "?"}',
            "ArrowSchema is of another form",
        ),
        (CreateWriteSession(table=T), b'{"SessionId": 5}', "SessionId is not a string"),
        (
            GetWriteSession(table=T, session_id="s"),
            b'{"Streams": {"a": true}}',
            "a is not a 64-bit integer",
        ),
        (
            GetWriteSession(table=T, session_id="s"),
            b'{"Streams": []}',
            "Streams is of another form",
        ),
        (
            CreateReadSession(table=T),
            b'{"DataSchema": {}, "SessionId": "a", "SplitMode": 5}',
            "SplitMode is not a string",
        ),
        (
            CreateReadSession(table=T),
            b'{"DataSchema": {}, "SessionId": "a", "SessionStats": []}',
            "SessionStats is not an object",
        ),
        (WriteBlob(table=T, session_id="s", stream_id="x"), b"{}", "BlobReference is missing"),
        (
            WriteBlobs(table=T, session_id="s", stream_id="x"),
            b'{"BlobReferences": [1]}',
            "BlobReferences is of another form",
        ),
    ],
)
def test_a_reply_that_breaks_its_promise_is_a_protocol_error(
    request_: Request, body: bytes, complaint: str
) -> None:
    with pytest.raises(ProtocolError, match=complaint) as caught:
        decode_response(request_, {}, body)
    assert caught.value.side == "remote"


def subclasses(kind: type[Request]) -> Iterator[type[Request]]:
    for each in kind.__subclasses__():
        yield each
        yield from subclasses(each)


def test_every_request_of_the_storage_api_that_is_answered_with_a_value_has_a_table() -> None:
    of_the_api = {
        kind
        for kind in subclasses(Request)
        if kind.__module__ == Request.__module__ and reply_kind(kind) is not Response
    }
    assert of_the_api == set(REPLY_TABLES)
