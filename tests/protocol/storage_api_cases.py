"""The case table of the Storage API codec: requests that PyODPS 0.13.2 and 0.13.1 were seen to send.

Taken from the protocol's golden requests, where each case's label points to. ``exact`` cases are
what our own encoder must produce too; the others are other clients' spellings of the same request.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from fletching.protocol.messages.requests import (
    AbortWriteSession,
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
from fletching.protocol.messages.vocabulary import ApiVersion, SplitMode, WriteMode
from fletching.types import PartitionSpec, TableName

V2, V3 = ApiVersion.V2, ApiVersion.V3
JSON_TYPE = "application/json; charset=utf-8"


@dataclasses.dataclass(frozen=True)
class Case:
    label: str
    request: Request
    url: str
    body: Any = dataclasses.field(default_factory=dict)
    headers: dict[str, str] = dataclasses.field(
        default_factory=lambda: {
            "content-type": JSON_TYPE,
            "x-odps-max-storage-route-token": "rt-1",
        }
    )
    method: str = "POST"
    exact: bool = True

    @property
    def version(self) -> ApiVersion:
        return V3 if "/v3?" in self.url else V2

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(urlsplit(self.url).query, keep_blank_values=True)

    @property
    def body_bytes(self) -> bytes:
        return b"" if self.body is None else json.dumps(self.body).encode()


def table(name: str) -> TableName:
    return TableName("p", name)


def partition(text: str) -> PartitionSpec:
    return PartitionSpec.parse(text)


FRESH = {"content-type": JSON_TYPE}
STREAM = {
    "content-type": "application/octet-stream",
    "x-odps-max-storage-route-token": "rt-1",
}
READ_BODY = {
    "MaxBatchRows": 4096,
    "SkipRowNum": 0,
    "MaxBatchRawSize": 0,
    "DataFormat": {"Type": "Arrow", "Version": "V5"},
    "DataColumns": [],
    "DataColumnsUnordered": False,
}


def session_body(partitions: list[str], mode: str, number: int) -> dict[str, Any]:
    return {
        "RequiredDataColumns": [],
        "RequiredPartitionColumns": [],
        "RequiredPartitions": partitions,
        "RequiredBucketIds": [],
        "SplitOptions": {
            "SplitMode": mode,
            "SplitUnit": "ByteSize",
            "SplitNumber": number,
            "CrossPartition": True,
        },
        "ArrowOptions": {"TimestampUnit": "nano", "DatetimeUnit": "milli"},
        "FilterPredicate": "",
        "FilterPredicateFallback": False,
        "SplitMaxFileNum": 0,
        "IncrementalRead": False,
    }


CASES = [
    Case(
        "A14",
        CreateWriteSession(table=table("t1"), partition=partition("pt=x"), overwrite=True),
        "/api/storage/v2?Action=TableCreateWriteSession&Target=projects.p.tables.t1&curr_project=p",
        {"PartialPartitionSpec": "pt=x", "Flags": {"overwrite": "true"}},
        FRESH,
    ),
    Case(
        "A15",
        CreateWriteStream(table=table("t1"), session_id="ws-66eb559e", stream_id="s0"),
        "/api/storage/v2?Action=TableCreateWriteStream&Target=projects.p.tables.t1"
        "&SessionId=ws-66eb559e&curr_project=p",
        {"StreamId": "s0", "StreamVersion": 1},
    ),
    Case(
        "A16",
        WriteTable(
            table=table("t1"),
            session_id="ws-66eb559e",
            stream_id="s0",
            count=3,
            table_id="tid1",
            schema_version=1,
        ),
        "/api/storage/v2?Action=TableWrite&Target=projects.p.tables.t1&SessionId=ws-66eb559e"
        "&StreamId=s0&StreamVersion=1&Count=3&TableId=tid1&SchemaVersion=1&curr_project=p",
        None,
        STREAM,
    ),
    Case(
        "A17",
        CloseWriteStream(table=table("t1"), session_id="ws-66eb559e", stream_id="s0"),
        "/api/storage/v2?Action=TableCloseWriteStream&Target=projects.p.tables.t1"
        "&SessionId=ws-66eb559e&curr_project=p",
        {"SessionId": "ws-66eb559e", "StreamId": "s0", "StreamVersion": 1},
    ),
    Case(
        "A18",
        CommitWriteSession(table=table("t1"), session_id="ws-66eb559e"),
        "/api/storage/v2?Action=TableCommitWriteSession&Target=projects.p.tables.t1"
        "&SessionId=ws-66eb559e&curr_project=p",
    ),
    Case(
        "A19",
        CreateReadSession(
            table=table("t1"),
            required_partitions=(partition("pt=x"),),
            split_options=SplitOptions(split_number=2),
        ),
        "/api/storage/v2?Action=TableCreateReadSession&Target=projects.p.tables.t1&curr_project=p",
        session_body(["pt=x"], "Size", 2),
        FRESH,
    ),
    Case(
        "A20",
        GetReadSession(table=table("t1"), session_id="rs-3dbc3cd0"),
        "/api/storage/v2?Action=TableGetReadSession&Target=projects.p.tables.t1"
        "&SessionId=rs-3dbc3cd0&session_refresh=false&curr_project=p",
        headers=FRESH,
    ),
    Case(
        "A21",
        ReadTable(table=table("t1"), session_id="rs-3dbc3cd0", index=0, max_batch_rows=4096),
        "/api/storage/v2?Action=TableRead&Target=projects.p.tables.t1&SessionId=rs-3dbc3cd0"
        "&Index=0&curr_project=p",
        READ_BODY,
    ),
    Case(
        "A23",
        ReadTable(
            table=table("t1"),
            session_id="rs-3dbc3cd0",
            index=0,
            max_batch_rows=4096,
            accept_encoding=("x-lz4-frame",),
        ),
        "/api/storage/v2?Action=TableRead&Target=projects.p.tables.t1&SessionId=rs-3dbc3cd0"
        "&Index=0&curr_project=p",
        READ_BODY,
        {
            "content-type": JSON_TYPE,
            "x-odps-max-storage-route-token": "rt-1",
            "accept-encoding": "x-lz4-frame",
        },
    ),
    Case(
        "A24",
        ReadTable(
            table=table("t1"), session_id="rs-1f4a6132", offset=0, count=2, max_batch_rows=4096
        ),
        "/api/storage/v2?Action=TableRead&Target=projects.p.tables.t1&SessionId=rs-1f4a6132"
        "&Offset=0&Count=2&curr_project=p",
        READ_BODY,
    ),
    Case(
        "A27",
        PreviewTable(table=table("t1"), limit=2, partition=partition("pt=x"), columns=("a",)),
        "/api/storage/v2?Action=TablePreview&Target=projects.p.tables.t1&Limit=2"
        "&Partition=pt%3Dx&curr_project=p",
        {"Limit": 2, "Partition": "pt=x", "Columns": ["a"]},
        FRESH,
    ),
    Case(
        "A28",
        AbortWriteSession(table=table("t2"), session_id="ws-44a86e43"),
        "/api/storage/v2?Action=TableAbortWriteSession&Target=projects.p.tables.t2"
        "&SessionId=ws-44a86e43&curr_project=p",
    ),
    Case(
        "A29",
        GetWriteSession(table=table("t2"), session_id="ws-316fdbb2"),
        "/api/storage/v2?Action=TableGetWriteSession&Target=projects.p.tables.t2"
        "&SessionId=ws-316fdbb2&curr_project=p",
        headers=FRESH,
    ),
    Case(
        "A30",
        GetWriteStream(table=table("t2"), session_id="ws-316fdbb2", stream_id="s9"),
        "/api/storage/v2?Action=TableGetWriteStream&Target=projects.p.tables.t2"
        "&SessionId=ws-316fdbb2&StreamId=s9&StreamVersion=1&curr_project=p",
        {"StreamId": "s9", "StreamVersion": 1, "ExactlyOnceMode": False},
    ),
    Case(
        "A31",
        CreateWriteStream(
            table=table("t2"),
            session_id="default",
            stream_id="s0",
            write_mode=WriteMode.STREAMING,
            exactly_once=True,
        ),
        "/api/storage/v3?Action=TableCreateWriteStream&Target=projects.p.tables.t2"
        "&SessionId=default&WriteMode=Streaming&curr_project=p",
        {"StreamId": "s0", "StreamVersion": 1, "ExactlyOnceMode": True},
        FRESH,
    ),
    Case(
        "A32",
        WriteTable(
            table=table("t2"),
            session_id="default",
            stream_id="s0",
            count=1,
            write_mode=WriteMode.STREAMING,
            table_id="tid1",
            schema_version=1,
            row_offset=0,
            access_token="at-1",
        ),
        "/api/storage/v3?Action=TableWrite&Target=projects.p.tables.t2&SessionId=default"
        "&StreamId=s0&StreamVersion=1&Count=1&WriteMode=Streaming&TableId=tid1&SchemaVersion=1"
        "&RowOffset=0&curr_project=p",
        None,
        {**STREAM, "x-odps-max-storage-write-access-token": "at-1"},
    ),
    Case(
        "A33",
        GetWriteStream(
            table=table("t2"),
            session_id="default",
            stream_id="s0",
            write_mode=WriteMode.STREAMING,
            exactly_once=True,
        ),
        "/api/storage/v3?Action=TableGetWriteStream&Target=projects.p.tables.t2&SessionId=default"
        "&StreamId=s0&StreamVersion=1&WriteMode=Streaming&ExactlyOnceMode=true&curr_project=p",
        {"StreamId": "s0", "StreamVersion": 1, "ExactlyOnceMode": True},
    ),
    Case(
        "A35",
        CreateWriteSession(
            table=table("t2"), write_mode=WriteMode.BATCH_COMPATIBLE, enhance_write_check=True
        ),
        "/api/storage/v3?Action=TableCreateWriteSession&Target=projects.p.tables.t2"
        "&WriteMode=BatchCompatible&enableQuotaToken=true&curr_project=p",
        {
            "PartitionSpec": "",
            "Overwrite": False,
            "DynamicPartitionOptions": {
                "InvalidStrategy": "Exception",
                "InvalidLimit": -1,
                "DynamicPartitionLimit": -1,
            },
            "ArrowOptions": {"TimestampUnit": "nano", "DatetimeUnit": "milli"},
            "SupportWriteCluster": False,
            "MaxFieldSize": 0,
            "EnhanceWriteCheck": True,
            "SupportSaveToPangu": False,
        },
        FRESH,
    ),
    Case(
        "A36",
        CreateWriteStream(
            table=table("t2"),
            session_id="ws-78a195ef",
            stream_id="block-0-attempt-0",
            write_mode=WriteMode.BATCH_COMPATIBLE,
        ),
        "/api/storage/v3?Action=TableCreateWriteStream&Target=projects.p.tables.t2"
        "&SessionId=ws-78a195ef&WriteMode=BatchCompatible&curr_project=p",
        {"StreamId": "block-0-attempt-0", "StreamVersion": 1},
    ),
    Case(
        "A37",
        WriteTable(
            table=table("t2"),
            session_id="ws-78a195ef",
            stream_id="block-0-attempt-0",
            write_mode=WriteMode.BATCH_COMPATIBLE,
            block_number=0,
            attempt_number=0,
            quota_token="qt-1",
        ),
        "/api/storage/v3?Action=TableWrite&Target=projects.p.tables.t2&WriteMode=BatchCompatible"
        "&SessionId=ws-78a195ef&BlockNumber=0&AttemptNumber=0&quotaToken=qt-1&curr_project=p",
        None,
        {
            "content-type": "application/vnd.apache.arrow.stream",
            "x-odps-max-storage-route-token": "rt-1",
        },
    ),
    Case(
        "A38",
        CommitWriteSession(
            table=table("t2"),
            session_id="ws-78a195ef",
            write_mode=WriteMode.BATCH_COMPATIBLE,
            commit_messages=('{"BlockNumber": 0}',),
        ),
        "/api/storage/v3?Action=TableCommitWriteSession&Target=projects.p.tables.t2"
        "&WriteMode=BatchCompatible&SessionId=ws-78a195ef&curr_project=p",
        {"CommitMessages": ['{"BlockNumber": 0}']},
    ),
    Case(
        "A39",
        PreviewTable(table=table("t2")),
        "/api/storage/v2?Action=TablePreview&Target=projects.p.tables.t2&curr_project=p",
        headers=FRESH,
    ),
    Case(
        "A43",
        WriteBlob(
            table=table("tb"),
            session_id="ws-775c2d4d",
            stream_id="s0",
            partition=partition("pt=1"),
            column_id=2,
        ),
        "/api/storage/v3?Action=TableWriteBlob&Target=projects.p.tables.tb&SessionId=ws-775c2d4d"
        "&StreamId=s0&StreamVersion=1&PartitionValues=pt%3D1&ColumnIndex=2&curr_project=p",
        None,
        STREAM,
    ),
    Case(
        "A44",
        WriteBlob(
            table=table("tb"),
            session_id="ws-775c2d4d",
            stream_id="s0",
            column_id=2,
            content_encoding="zstd",
        ),
        "/api/storage/v3?Action=TableWriteBlob&Target=projects.p.tables.tb&SessionId=ws-775c2d4d"
        "&StreamId=s0&StreamVersion=1&PartitionValues=&ColumnIndex=2&curr_project=p",
        None,
        {**STREAM, "content-encoding": "zstd"},
    ),
    Case(
        "A46",
        WriteBlobs(table=table("tb"), session_id="ws-775c2d4d", stream_id="s0"),
        "/api/storage/v3?Action=TableWriteBlob&Target=projects.p.tables.tb&SessionId=ws-775c2d4d"
        "&StreamId=s0&StreamVersion=1&Mode=Batch&curr_project=p",
        None,
        STREAM,
    ),
    Case(
        "A47",
        WriteTable(
            table=table("tb"),
            session_id="ws-775c2d4d",
            stream_id="s0",
            count=3,
            table_id="tid1",
            schema_version=1,
        ),
        "/api/storage/v3?Action=TableWrite&Target=projects.p.tables.tb&SessionId=ws-775c2d4d"
        "&StreamId=s0&StreamVersion=1&Count=3&WriteMode=Batch&TableId=tid1&SchemaVersion=1"
        "&curr_project=p",
        None,
        STREAM,
    ),
    Case(
        "A50",
        CreateReadSession(
            table=table("tb"),
            required_partitions=(partition("pt=1"),),
            split_options=SplitOptions(split_mode=SplitMode.ROW_OFFSET, split_number=100),
        ),
        "/api/storage/v3?Action=TableCreateReadSession&Target=projects.p.tables.tb&curr_project=p",
        session_body(["pt=1"], "RowOffset", 100),
        FRESH,
    ),
    Case(
        "A54",
        ReadBlobs(project="p", references=("YmxvYjox", "YmxvYjoy"), accept_encoding=("zstd",)),
        "/api/storage/v3?Action=BlobRead&Target=generic.blob&curr_project=p",
        {"BlobReferences": ["YmxvYjox", "YmxvYjoy"]},
        {"content-type": JSON_TYPE, "accept-encoding": "zstd"},
    ),
    Case(
        "one blob, framed",
        ReadBlobs(project="p", references=("YmxvYjox",), framed=True),
        "/api/storage/v3?Action=BlobRead&Target=generic.blob&curr_project=p",
        {"BlobReferences": ["YmxvYjox"], "Framed": True},
        FRESH,
    ),
    Case(
        "blobs as they are stored",
        ReadBlobs(project="p", references=("YmxvYjox",), framed=True, stored=True),
        "/api/storage/v3?Action=BlobRead&Target=generic.blob&curr_project=p",
        {"BlobReferences": ["YmxvYjox"], "Framed": True, "Stored": True},
        FRESH,
    ),
    Case(
        "A56",
        GetWriteSchema(table=table("tb"), session_id="ws-69e94550"),
        "/api/storage/v2?Action=TableGetWriteSchema&Target=projects.p.tables.tb"
        "&SessionId=ws-69e94550&curr_project=p",
        headers=FRESH,
    ),
    Case(
        "A58",
        CreateInstanceReadSession(project="p", instance_id="2026i"),
        "/api/storage/v2?Action=InstanceCreateReadSession&Target=projects.p.instances.2026i"
        "&curr_project=p",
        {"EnableLimit": False},
        FRESH,
    ),
    Case(
        "A59",
        ReadInstance(project="p", instance_id="2026i", session_id="dl-2026i", count=1),
        "/api/storage/v2?Action=InstanceRead&Target=projects.p.instances.2026i"
        "&SessionId=dl-2026i&Count=1&Offset=0&curr_project=p",
        {"TaskName": "AnonymousSQLTask", "QueryId": 0, "EnableLimit": False, "Columns": []},
        FRESH,
    ),
    # --- other clients' spellings -------------------------------------------------------------
    Case(
        "A60, by GET",
        GetInstanceReadSession(project="p", instance_id="2026i", session_id="dl-2026i"),
        "/api/storage/v2?Action=InstanceGetReadSession&Target=projects.p.instances.2026i"
        "&SessionId=dl-2026i&curr_project=p",
        None,
        FRESH,
        method="GET",
        exact=False,
    ),
    Case(
        "A65, by GET, exactly once",
        GetWriteStream(
            table=table("v1"), session_id="ws-a5599fc1", stream_id="s1", exactly_once=True
        ),
        "/api/storage/v2?Action=TableGetWriteStream&Target=projects.p.schemas.default.tables.v1"
        "&SessionId=ws-a5599fc1&StreamId=s1&StreamVersion=1&ExactlyOnceMode=true&curr_project=p",
        None,
        method="GET",
        exact=False,
    ),
    Case(
        "A69, refresh",
        GetReadSession(table=table("v1"), session_id="rs-1c0ef84d", refresh=True),
        "/api/storage/v2?Action=TableGetReadSession&Target=projects.p.schemas.default.tables.v1"
        "&SessionId=rs-1c0ef84d&session_refresh=true&curr_project=p",
        headers=FRESH,
        exact=False,
    ),
    Case(
        "A81, with lists",
        CommitWriteSession(table=table("vb"), session_id="ws-10f7e202", streams=(("s1", 1),)),
        "/api/storage/v3?Action=TableCommitWriteSession&Target=projects.p.schemas.default.tables.vb"
        "&SessionId=ws-10f7e202&WriteMode=Batch&curr_project=p",
        {"StreamIds": ["s1"], "StreamVersions": [1]},
        exact=False,
    ),
    Case(
        "A88, streaming with a session of its own",
        GetWriteSession(
            table=table("vb"), session_id="ws-1b627a14", write_mode=WriteMode.STREAMING
        ),
        "/api/storage/v3?Action=TableGetWriteSession&Target=projects.p.schemas.default.tables.vb"
        "&SessionId=ws-1b627a14&WriteMode=Streaming&curr_project=p",
        exact=False,
    ),
    Case(
        "A90, reading an instance with the body of a table read",
        ReadInstance(project="p", instance_id="2026i", session_id="dl-2026i", max_batch_rows=4096),
        "/api/storage/v2?Action=InstanceRead&Target=projects.p.instances.2026i"
        "&SessionId=dl-2026i&curr_project=p",
        READ_BODY,
        FRESH,
        exact=False,
    ),
    Case(
        "A100, characters that need encoding",
        WriteBlob(
            table=table("tb"),
            session_id="ws-e57fa6d6",
            stream_id="stream é+&/1",
            partition=PartitionSpec((("pt", "x y+&é"),)),
            column_id=2,
        ),
        "/api/storage/v2?Action=TableWriteBlob&Target=projects.p.tables.tb&SessionId=ws-e57fa6d6"
        "&StreamId=stream+%C3%A9%2B%26%2F1&StreamVersion=1&PartitionValues=pt%3Dx+y%2B%26%C3%A9"
        "&ColumnIndex=2&curr_project=p",
        None,
        STREAM,
    ),
    Case(
        "a schema of its own",
        GetWriteSchema(table=TableName("p", "t", "s1"), session_id="default"),
        "/api/storage/v2?Action=TableGetWriteSchema&Target=projects.p.schemas.s1.tables.t"
        "&SessionId=default&curr_project=p",
    ),
    Case(
        "flags with JSON values, partition separators",
        CreateWriteSession(
            table=table("t"),
            partition=partition("a=1,b=2"),
            overwrite=True,
            flags={"quota_name": "q", "n": "3"},
        ),
        "/api/storage/v2?Action=TableCreateWriteSession&Target=projects.p.tables.t",
        {
            "PartialPartitionSpec": "a='1'/b=\"2\"",
            "Flags": {"overwrite": True, "quota_name": "q", "n": 3, "none": None},
            "Unknown": [1],
        },
        FRESH,
        exact=False,
    ),
    Case(
        "version 2 streaming says no mode",
        WriteTable(
            table=table("t"),
            session_id="default",
            stream_id="s",
            write_mode=WriteMode.STREAMING,
        ),
        "/api/storage/v2?Action=TableWrite&Target=projects.p.tables.t&SessionId=default&StreamId=s",
        None,
        STREAM,
        exact=False,
    ),
    Case(
        "a stream named in the body",
        GetWriteStream(table=table("t"), session_id="w", stream_id="s", stream_version=3),
        "/api/storage/v2?Action=TableGetWriteStream&Target=projects.p.schemas..tables.t&SessionId=w",
        {"StreamId": "s", "StreamVersion": 3, "TableId": "x"},
        exact=False,
    ),
    Case(
        "preview by query alone",
        PreviewTable(table=table("t"), limit=5, partition=partition("pt=x")),
        "/api/storage/v2?Action=TablePreview&Target=projects.p.tables.t&Limit=5&Partition=pt=x",
        None,
        exact=False,
    ),
]
