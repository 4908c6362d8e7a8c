"""Each way to be wrong: a 4xx with Code, Message and request id, nothing changed, memory bounded."""

from __future__ import annotations

import base64
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.server.conftest import Query, RawClient, Reply, Start, read_reply, stream_of
from tests.waiting import until

from fletching import ipc
from fletching.ipc import lowlevel
from fletching.server.server import Server

MIB = 1 << 20
TABLE = pa.table({"id": pa.array(range(100), pa.int64()), "name": [f"n{i}" for i in range(100)]})
GOOD = stream_of(TABLE)
CODES = {
    400: {"InvalidParameter", "InvalidArgument", "ParseError"},
    404: {"NoSuchObject", "NoSuchProject", "NoSuchTable", "NoSuchPartition", "NoSuchSchema"},
    405: {"MethodNotAllowed"},
    409: {"InvalidStateSetting", "ObjectAlreadyExists", "InvalidArgument"},
    413: {"InvalidArgument"},
}


def resident_bytes() -> int:
    """Anonymous memory of this process, in which the server runs."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    pytest.skip("the system does not say how much memory a process has")


class Observed:
    """A service with a filled table, and everything about it that must not change."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.client = RawClient(server.url)
        self.folder = folder
        self.client.create_table("t", TABLE.schema)
        self.client.create_table("p", TABLE.schema, ["pt"])
        self.client.append(GOOD)
        self.client.append(GOOD, "p", "pt=a")
        self.session = self.client.read_session()["SessionId"]
        self.stream = self.client.open_stream(self.client.open_session())

    def state(self) -> tuple[Any, ...]:
        tables = [
            {key: info[key] for key in ("table", "version", "schema_version", "rows", "segments")}
            for info in self.client.admin("GET", "").json["tables"]
        ]
        partitions = self.client.admin("GET", "/p/partitions").json["partitions"]
        objects = sorted(path.name for path in (self.folder / "objects").rglob("*.arrow"))
        stream = self.client.storage("TableGetWriteStream", query=self.stream).json
        return tables, partitions, objects, stream["RecordCount"], stream["Status"]


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    from fletching.server.serving import serve

    folder = tmp_path_factory.mktemp("bad") / "data"
    keys = {"test-id": "test-secret"}
    with serve(folder, access_keys=keys, drain_idle_seconds=0.05, max_json_bytes=MIB) as server:
        yield Observed(server, folder)


def refused(reply: Reply, status: int) -> None:
    assert reply.status == status, reply.body[:300]
    assert reply.json["Code"] in CODES[status]
    assert reply.json["Message"]
    assert len(reply.json["Message"]) < 1000
    assert reply.json["RequestId"] == reply.headers["x-odps-request-id"]


JSON_CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "unknown action": (400, {"action": "TableExplode"}),
    "empty action": (400, {"action": ""}),
    "volume action": (400, {"action": "VolumeRead"}),
    "unknown target form": (400, {"action": "TablePreview", "target": "nonsense"}),
    "unknown project": (404, {"action": "TablePreview", "target": "projects.x.tables.t"}),
    "unknown table": (404, {"action": "TablePreview", "target": "projects.demo.tables.x"}),
    "unknown schema": (
        404,
        {"action": "TablePreview", "target": "projects.demo.schemas.x.tables.t"},
    ),
    "blob target": (400, {"action": "TablePreview", "target": "generic.blob"}),
    "unknown read session": (404, {"action": "TableGetReadSession", "query": {"SessionId": "x"}}),
    "no session": (400, {"action": "TableGetReadSession"}),
    "endless session": (400, {"action": "TableGetReadSession", "query": {"SessionId": "x" * 5000}}),
    "read of an unknown session": (404, {"action": "TableRead", "query": {"SessionId": "x"}}),
    "unknown split": (400, {"action": "TableRead", "session": True, "query": {"Index": 9}}),
    "split that is no number": (
        400,
        {"action": "TableRead", "session": True, "query": {"Index": "one"}},
    ),
    "split beyond 64 bits": (
        400,
        {"action": "TableRead", "session": True, "query": {"Index": 10**30}},
    ),
    "negative offset": (
        400,
        {"action": "TableRead", "session": True, "query": {"Offset": -1, "Count": 1}},
    ),
    "offset far outside": (
        400,
        {"action": "TableRead", "session": True, "query": {"Offset": 10**12, "Count": 1}},
    ),
    "negative count": (
        400,
        {"action": "TableRead", "session": True, "query": {"Offset": 0, "Count": -5}},
    ),
    "too many rows a batch": (
        400,
        {"action": "TableRead", "session": True, "body": {"MaxBatchRows": 20001}},
    ),
    "batch bytes too small": (
        400,
        {"action": "TableRead", "session": True, "body": {"MaxBatchRawSize": 1}},
    ),
    "batch bytes too large": (
        400,
        {"action": "TableRead", "session": True, "body": {"MaxBatchRawSize": 257 * MIB}},
    ),
    "negative skip": (400, {"action": "TableRead", "session": True, "body": {"SkipRowNum": -1}}),
    "unknown read column": (
        400,
        {"action": "TableRead", "session": True, "body": {"DataColumns": ["x"]}},
    ),
    "column twice": (
        400,
        {"action": "TableRead", "session": True, "body": {"DataColumns": ["id", "ID"]}},
    ),
    "other data format": (
        400,
        {
            "action": "TableRead",
            "session": True,
            "body": {"DataFormat": {"Type": "CSV", "Version": "V1"}},
        },
    ),
    "unknown column": (
        400,
        {"action": "TableCreateReadSession", "body": {"RequiredDataColumns": ["x"]}},
    ),
    "unknown partition column": (
        400,
        {"action": "TableCreateReadSession", "body": {"RequiredPartitionColumns": ["x"]}},
    ),
    "partition of another column": (
        400,
        {"action": "TableCreateReadSession", "table": "p", "body": {"RequiredPartitions": ["x=1"]}},
    ),
    "partition without form": (
        400,
        {"action": "TableCreateReadSession", "table": "p", "body": {"RequiredPartitions": ["=,="]}},
    ),
    "unknown split mode": (
        400,
        {"action": "TableCreateReadSession", "body": {"SplitOptions": {"SplitMode": "Random"}}},
    ),
    "negative split number": (
        400,
        {
            "action": "TableCreateReadSession",
            "body": {"SplitOptions": {"SplitMode": "Size", "SplitNumber": -1}},
        },
    ),
    "filter without sense": (
        400,
        {"action": "TableCreateReadSession", "body": {"FilterPredicate": "id >>> ((("}},
    ),
    "filter on an unknown column": (
        400,
        {"action": "TableCreateReadSession", "body": {"FilterPredicate": "`x` = 1"}},
    ),
    "columns that are no list": (
        400,
        {"action": "TableCreateReadSession", "body": {"RequiredDataColumns": "id"}},
    ),
    "negative preview": (400, {"action": "TablePreview", "body": {"Limit": -1}}),
    "preview of an unknown column": (400, {"action": "TablePreview", "body": {"Columns": ["x"]}}),
    "write session on a partition of another column": (
        400,
        {
            "action": "TableCreateWriteSession",
            "table": "p",
            "body": {"PartialPartitionSpec": "x=1"},
        },
    ),
    "static partition of a plain table": (
        400,
        {"action": "TableCreateWriteSession", "body": {"PartialPartitionSpec": "pt=1"}},
    ),
    "unknown write mode": (
        400,
        {"action": "TableCreateWriteSession", "query": {"WriteMode": "Loud"}},
    ),
    "stream of an unknown session": (
        404,
        {
            "action": "TableCreateWriteStream",
            "query": {"SessionId": "x"},
            "body": {"StreamId": "s"},
        },
    ),
    "commit of an unknown session": (
        404,
        {"action": "TableCommitWriteSession", "query": {"SessionId": "x"}},
    ),
    "blob reference without sense": (
        400,
        {"action": "BlobRead", "target": "generic.blob", "body": {"BlobReferences": []}},
    ),
}


@pytest.mark.parametrize("name", JSON_CASES)
def test_a_wrong_request_is_refused_and_changes_nothing(observed: Observed, name: str) -> None:
    status, case = JSON_CASES[name]
    before = observed.state()
    query: Query = dict(case.get("query", {}))
    if case.get("session"):
        query = {"SessionId": observed.session, **query}
    reply = observed.client.storage(
        case["action"],
        case.get("table", "t"),
        query,
        case.get("body"),
        target=case.get("target"),
    )
    refused(reply, status)
    assert observed.state() == before


BODIES: dict[str, tuple[int, bytes]] = {
    "cut": (400, b'{"a": '),
    "a list": (400, b"[]"),
    "a number": (400, b"7"),
    "not UTF-8": (400, b'{"a": "\xff"}'),
    "bytes": (400, bytes(range(256))),
    "nested deeply": (400, b"[" * 100_000),
    "trailing": (400, b"{}{}"),
    "a wrong type": (400, b'{"SplitOptions": []}'),
    "oversized": (413, b'{"a": "' + b"x" * MIB + b'"}'),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("chunked", [False, True])
def test_json_that_is_none(observed: Observed, name: str, chunked: bool) -> None:
    status, body = BODIES[name]
    before = observed.state()
    sent: Any = iter([body[: len(body) // 2], body[len(body) // 2 :]]) if chunked else body
    reply = observed.client.storage(
        "TableCreateReadSession", body=sent, headers={"Content-Type": "application/json"}
    )
    refused(reply, status)
    assert observed.state() == before


def test_a_body_that_announces_too_much_is_refused_before_it_comes(observed: Observed) -> None:
    client = observed.client
    query: Query = {"Action": "TablePreview", "Target": "projects.demo.tables.t"}
    head = client.head("POST", "/api/storage/v2", query, {}, 1 << 50)
    with socket.create_connection(("127.0.0.1", observed.server.port), timeout=600) as connection:
        connection.sendall(head)
        reply, _ = read_reply(connection)
    assert reply.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in reply


def test_too_many_query_parameters(observed: Observed) -> None:
    query: Query = {f"p{number}": "x" for number in range(200)}
    refused(observed.client.storage("TablePreview", query=query), 400)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods(observed: Observed, method: str) -> None:
    query: Query = {"Action": "TablePreview", "Target": "projects.demo.tables.t"}
    refused(observed.client.request(method, "/api/storage/v2", query, b""), 405)


# --- Arrow bodies ---------------------------------------------------------------------------


def end(body: bytes) -> bytes:
    return body + b"\xff\xff\xff\xff\x00\x00\x00\x00"


SCHEMA = stream_of(TABLE.slice(0, 0))[:-8]
BATCH = GOOD[len(SCHEMA) : -8]


def flipped(at: int, value: int) -> bytes:
    """The good stream with an int32 of the batch's metadata replaced."""
    body = bytearray(GOOD)
    struct.pack_into("<i", body, len(SCHEMA) + at, value)
    return bytes(body)


def lying_buffer(offset: int, length: int) -> bytes:
    """The good stream with the second buffer's (offset, length) replaced in the metadata."""
    message = next(m for m in ipc.messages(GOOD) if m.type is lowlevel.MessageType.RECORD_BATCH)
    start, size = message.record_batch().buffers[1].tolist()
    body = bytearray(GOOD)
    at = bytes(body).index(struct.pack("<qq", start, size), len(SCHEMA))
    struct.pack_into("<qq", body, at, offset, length)
    return bytes(body)


def bad_string_offsets() -> bytes:
    """The good stream with the last string's end far behind the data."""
    message = next(m for m in ipc.messages(GOOD) if m.type is lowlevel.MessageType.RECORD_BATCH)
    start, _ = message.record_batch().buffers[3].tolist()
    body = bytearray(GOOD)
    at = message.offset + message.metadata_length + start + 4 * TABLE.num_rows
    struct.pack_into("<i", body, at, 1_000_000_000)
    return bytes(body)


def claimed_bomb() -> bytes:
    """A compressed buffer whose header claims 1 TiB."""
    body = bytearray(stream_of(pa.concat_tables([TABLE] * 100).combine_chunks(), codec="lz4"))
    message = next(
        m for m in ipc.messages(bytes(body)) if m.type is lowlevel.MessageType.RECORD_BATCH
    )
    start, _ = message.record_batch().buffers[1].tolist()
    at = message.offset + message.metadata_length + start
    struct.pack_into("<q", body, at, 1 << 40)
    return bytes(body)


OTHER = pa.table({"something": ["else"]})
WRONG_TYPE = pa.table({"id": ["a"], "name": ["b"]})
EMPTY_BATCH = stream_of(TABLE.slice(0, 0), batch_rows=1)

ARROW: dict[str, tuple[int, Any]] = {
    "empty": (400, b""),
    "one byte": (400, b"\xff"),
    "text": (400, b"hello, this is not Arrow at all, not in the least"),
    "a JSON object": (400, b"{}"),
    "a schema cut short": (400, SCHEMA[: len(SCHEMA) // 2]),
    "only the end marker": (400, end(b"")),
    "a batch without schema": (400, end(BATCH)),
    "two schemas": (400, end(SCHEMA + SCHEMA)),
    "bytes behind the end": (400, GOOD + b"\0"),
    "another stream behind the end": (400, GOOD + GOOD),
    "an Arrow file": (400, b"ARROW1\0\0" + GOOD),
    "another schema": (400, stream_of(OTHER)),
    "another type": (400, stream_of(WRONG_TYPE)),
    "negative metadata length": (400, flipped(4, -7)),
    "metadata length beyond the body": (400, flipped(4, len(BATCH) + 1000)),
    "huge metadata length": (413, flipped(4, 0x7FFFFFF0)),
    "metadata of noise": (400, GOOD[: len(SCHEMA) + 8] + bytes(range(200)) + GOOD[-400:]),
    "buffer behind the body": (400, lying_buffer(len(BATCH) * 8, 800)),
    "buffer that ends behind the body": (400, lying_buffer(0, 1 << 40)),
    "buffer of negative length": (400, lying_buffer(0, -800)),
    "buffer before the body": (400, lying_buffer(-8, 800)),
    "string offsets behind the data": (400, bad_string_offsets()),
    "a claimed decompression bomb": (413, claimed_bomb),
    "a million empty batches": (413, lambda: empties(1_000_000)),
}


def empties(count: int) -> Iterator[bytes]:
    schema = pa.schema(TABLE.schema)
    whole = b"".join(
        bytes(part) for part in lowlevel.encode_batch(pa.RecordBatch.from_pylist([], schema=schema))
    )
    yield SCHEMA
    for _ in range(count // 1000):
        yield whole * 1000
    yield end(b"")


@pytest.mark.parametrize("name", ARROW)
def test_a_wrong_arrow_body_is_refused_and_changes_nothing(observed: Observed, name: str) -> None:
    status, body = ARROW[name]
    sent = body() if callable(body) else body
    before, memory = observed.state(), resident_bytes()
    reply = observed.client.storage("TableWrite", query=observed.stream, body=sent)
    refused(reply, status)
    assert observed.state() == before
    assert resident_bytes() - memory < 200 * MIB


@pytest.mark.parametrize("at", range(1, len(GOOD) - 8, 97))
def test_a_body_cut_anywhere_is_refused(observed: Observed, at: int) -> None:
    reply = observed.client.storage("TableWrite", query=observed.stream, body=GOOD[:at])
    if at == len(SCHEMA):
        assert reply.status == 200
    else:
        refused(reply, 400)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("sent", [0, 10, len(SCHEMA) + 30, len(GOOD) - 1])
def test_a_client_that_disappears_in_mid_body_leaves_nothing(
    observed: Observed, sent: int, chunked: bool
) -> None:
    before = observed.state()
    query: Query = {
        "Action": "TableWrite",
        "Target": "projects.demo.schemas.default.tables.t",
        **observed.stream,
    }
    headers = {"Content-Type": "application/octet-stream"}
    length = None if chunked else len(GOOD)
    head = observed.client.head("POST", "/api/storage/v2", query, headers, length)
    part = GOOD[:sent]
    if chunked:
        part = b"%x\r\n%s\r\n" % (len(part), part) if part else b""
    connection = socket.create_connection(("127.0.0.1", observed.server.port))
    connection.sendall(head + part)
    limiter = observed.server.service.bodies
    # The body is not whole, so the request stays until its client goes.
    until(lambda: limiter.open == 1)
    connection.close()
    until(lambda: not limiter.open and observed.state() == before)
    assert observed.server.service.memory.held == 0
    assert observed.state() == before


def test_the_stream_still_takes_good_data_after_all_that(start: Start) -> None:
    client = RawClient(start().url)
    client.create_table("t", TABLE.schema)
    where = client.open_stream(client.open_session())
    for _, body in ARROW.values():
        if isinstance(body, bytes) and len(body) < MIB:
            assert client.storage("TableWrite", query=where, body=body).status in {400, 413}
    assert client.storage("TableWrite", query=where, body=GOOD).status == 200
    client.close_and_commit(where)
    assert client.count() == 100


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"name": "x"}, 400),
        ({"name": "x", "arrow_schema": "!"}, 400),
        ({"name": "x", "arrow_schema": base64.b64encode(b"noise").decode()}, 400),
        ({"name": "x", "arrow_schema": base64.b64encode(SCHEMA[:50]).decode()}, 400),
        ({"name": "t", "arrow_schema": base64.b64encode(SCHEMA).decode()}, 409),
        ({"name": "a.b", "arrow_schema": base64.b64encode(SCHEMA).decode()}, 400),
        ({"name": "", "arrow_schema": base64.b64encode(SCHEMA).decode()}, 400),
    ],
)
def test_wrong_table_definitions(observed: Observed, body: dict[str, Any], status: int) -> None:
    before = observed.state()
    refused(observed.client.admin("POST", "", body=body), status)
    assert observed.state() == before


@pytest.mark.parametrize("path", ["/x", "/x/partitions", "/t/nothing", "/%2F", "/t/../../t"])
def test_wrong_administration_paths(observed: Observed, path: str) -> None:
    refused(observed.client.admin("GET", path), 404)


@pytest.mark.parametrize(
    ("target", "field"),
    [
        ("/fletching/v1/tables/demo/default/t/rows", b"idempotency-key: \xff"),
        ("/fletching/v1/tables/demo/default/t/rows?partition=pt=%ff", b"x: y"),
        (("/api/storage/v2?Action=TableWrite&Target=projects.demo.tables.t&SessionId=default"
         "&StreamId=s&StreamVersion=0&WriteMode=Streaming"), b"odps-tunnel-retry-trace-id: a\xff"),
        ("/projects/demo/tables/t/streams?uploadid=u&slotid=0&x=%c3", b"x: y"),
    ],
)  # fmt: skip
def test_bytes_that_are_no_text_name_nothing(start: Start, target: str, field: bytes) -> None:
    """Replaced, two names would be one; kept, no catalog takes them."""
    server = start(allow_anonymous=True)
    client = RawClient(server.url)
    table = pa.table({"id": pa.array([1], pa.int64())})
    client.create_table("t", table.schema)
    body = stream_of(table)
    head = (
        f"POST {target} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
        "content-type: application/vnd.apache.arrow.stream\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=600) as connection:
        connection.sendall(head.encode() + field + b"\r\n\r\n" + body)
        received, reply = read_reply(connection)
    assert b"400" in received[:15], received
    assert b"UTF-8" in reply
    assert client.count() == 0
