"""Reads on the service's host: found, used, left, and the same rows as those that the service sends."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import fletching
from fletching.client.transports.http import http_transport
from fletching.client.transports.http.arrow_response import ArrowReply
from fletching.client.transports.http.connections import DirectPool
from fletching.client.transports.http.direct_reads import DirectReads, manifest_of
from fletching.client.transports.http.mapped_reply import MappedReply
from fletching.engine.access.permissions import Grant, Permission
from fletching.errors import (
    ConnectionBrokenError,
    CorruptObjectError,
    DamagedDataError,
    NoPermissionError,
    ProtocolError,
)
from fletching.protocol.http import headers as header_names
from fletching.protocol.messages.manifest import (
    MAX_MANIFEST_BYTES,
    Inline,
    Manifest,
    SourceKind,
    encode_manifest,
)

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="abstract Unix sockets are Linux's"
)

KEY: dict[str, Any] = {"access_id": "id", "access_key": "secret"}
SCHEMA = pa.schema([("n", pa.int64()), ("s", pa.string()), ("x", pa.float64())])

Connect = Callable[..., fletching.Client]


def rows(start: int, count: int) -> pa.RecordBatch:
    numbers = range(start, start + count)
    return pa.record_batch(
        [numbers, [f"row {n}" if n % 7 else None for n in numbers], [n / 4 for n in numbers]],
        schema=SCHEMA,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("direct")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Any]:
    keys = {"id": "secret"}
    with fletching.serve(folder, port=0, access_keys=keys, key_refresh_seconds=0.0) as running:
        yield running


@pytest.fixture
def connect(server: Any, request: pytest.FixtureRequest) -> Iterator[Connect]:
    with contextlib.ExitStack() as stack:

        def opened(**options: Any) -> fletching.Client:
            project = f"d{abs(hash(request.node.name))}"
            client = fletching.connect(server.url, project, create=True, **KEY, **options)
            return stack.enter_context(client)

        yield opened


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows are shared, too."""
    monkeypatch.setattr("fletching.engine.reading.segment_sharing.LEAST_BYTES", 0)


class Seen:
    """How reads were answered."""

    def __init__(self) -> None:
        self.mapped: list[Any] = []
        self.sent = 0


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    result = Seen()

    class Mapped(MappedReply):
        def __init__(self, message: Any, *args: Any, **kwargs: Any) -> None:
            result.mapped.append(message)
            super().__init__(message, *args, **kwargs)

    class Sent(ArrowReply):
        def __init__(self, *args: Any) -> None:
            result.sent += 1
            super().__init__(*args)

    monkeypatch.setattr(http_transport, "MappedReply", Mapped)
    monkeypatch.setattr(http_transport, "ArrowReply", Sent)
    return result


# --- the same rows ---------------------------------------------------------------------------


def test_a_table_is_read_from_its_segments_and_nothing_is_sent(
    connect: Connect, seen: Seen
) -> None:
    table = connect().create_table("t", SCHEMA)
    for start in range(0, 300, 100):
        table.append([rows(start, 40), rows(start + 40, 60)])
    received = table.scan().to_table()
    received.validate(full=True)
    assert received.equals(pa.Table.from_batches([rows(0, 300)]))
    assert len(seen.mapped) == 1
    assert not seen.sent


@pytest.mark.parametrize(
    "read",
    [
        lambda scan: scan(columns=["x", "n"]),
        lambda scan: scan(columns=["s"]),
        lambda scan: scan(columns=[]),
        lambda scan: scan(limit=1),
        lambda scan: scan(limit=149),
        lambda scan: scan(partitions=["day=2026-01-02"]),
        lambda scan: scan(columns=["day", "n"], partitions=["day=2026-01-01"]),
        lambda scan: scan(filter="n in (3, 13, 43)"),
        lambda scan: scan(filter="day = '2026-01-02'", columns=["day"]),
    ],
    ids=[
        "picked",
        "one",
        "none",
        "first",
        "most",
        "partition",
        "partition column",
        "filter",
        "pruned",
    ],
)
def test_whatever_is_asked_for_is_what_the_service_sends(connect: Connect, read: Any) -> None:
    client = connect()
    with contextlib.suppress(fletching.errors.AlreadyExistsError):
        client.create_table("t", SCHEMA, partition_by={"day": "date"})
    table = client.table("t")
    for day in ("2026-01-01", "2026-01-02"):
        table.append([rows(0, 50), rows(50, 50)], partition=f"day={day}")
    received = read(table.scan).to_table()
    assert received.equals(read(table.with_options(direct="never").scan).to_table())


def test_partition_columns_and_columns_that_came_later_are_filled_in(
    connect: Connect, seen: Seen
) -> None:
    table = connect().create_table("t", SCHEMA, partition_by={"day": "date"})
    table.append([rows(0, 5)], partition="day=2026-01-01")
    table.add_columns(pa.schema([("later", pa.int32())]))
    received = table.scan().to_table()
    assert seen.mapped
    assert received["day"].to_pylist() == [dt.date(2026, 1, 1)] * 5
    assert received["later"].to_pylist() == [None] * 5
    assert received.equals(table.with_options(direct="never").scan().to_table())


def test_rows_of_segments_that_lost_some_come_from_the_service(
    connect: Connect, seen: Seen
) -> None:
    table = connect().create_table("t", SCHEMA)
    for start in range(0, 50, 10):
        table.append([rows(start, 10)])
    table.delete("n in (20, 25, 31)")
    seen.mapped.clear()
    seen.sent = 0
    received = table.scan().to_table()
    assert received["n"].to_pylist() == [n for n in range(50) if n not in {20, 25, 31}]
    (message,) = seen.mapped
    # No descriptor of a segment with deletions was passed.
    assert [type(run).__name__ for run in message.runs] == ["SegmentRun"] * 2 + [
        "ServiceRun",
        "SegmentRun",
    ]
    assert len(message.lengths) == 3
    assert seen.sent == 1


def test_dictionaries_are_read_with_the_batches_before_which_they_stand(
    connect: Connect, seen: Seen
) -> None:
    schema = pa.schema([("d", pa.dictionary(pa.int32(), pa.string())), ("n", pa.int8())])
    table = connect().create_table("t", schema)
    batches = [
        pa.record_batch(
            [pa.array(values).dictionary_encode().cast(schema[0].type), [1, 2]], schema=schema
        )
        for values in (["a", "b"], ["c", None], ["a", "a"])
    ]
    for batch in batches:
        table.append([batch])
    table.append(batches)
    received = table.scan().to_table()
    assert seen.mapped
    assert received["d"].cast(pa.string()).to_pylist() == ["a", "b", "c", None, "a", "a"] * 2
    only = table.scan(columns=["n"]).to_table()
    assert only["n"].to_pylist() == [1, 2] * 6


def test_compressed_segments_are_read_where_they_lie(connect: Connect, seen: Seen) -> None:
    table = connect().create_table("t", SCHEMA)
    table.with_options(compression="zstd").append([rows(0, 10_000)])
    received = table.scan().to_table()
    assert received.equals(pa.Table.from_batches([rows(0, 10_000)]))
    assert len(seen.mapped) == 1
    assert table.scan(columns=["n"]).to_table()["n"].to_pylist() == list(range(10_000))


def test_many_segments_come_in_several_replies(
    connect: Connect, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fletching.engine.reading.segment_sharing.MAX_SEGMENTS", 2)
    table = connect().create_table("t", SCHEMA)
    for start in range(0, 50, 10):
        table.append([rows(start, 10)])
    assert table.scan().to_table()["n"].to_pylist() == list(range(50))
    assert [len(message.lengths) for message in seen.mapped] == [2, 2, 1]
    with table.scan().session() as session:
        splits = session.splits(3)
        parts = [split.to_table() for split in splits]
    assert pa.concat_tables(parts)["n"].to_pylist() == list(range(50))


def test_a_long_segment_is_shared_in_parts(
    connect: Connect, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fletching.engine.reading.segment_sharing.SHARED_BYTES", 1)
    table = connect().create_table("t", SCHEMA)
    with table.write_session() as session, session.writer() as writer:
        for start in range(0, 40, 10):
            writer.write(rows(start, 10))
    assert table.scan(limit=35).to_table()["n"].to_pylist() == list(range(35))
    assert [message.rows for message in seen.mapped] == [10, 10, 10, 5]


def test_batches_outlive_their_client_and_their_table(server: Any, connect: Connect) -> None:
    client = connect()
    client.create_table("t", rows(0, 1000))
    batches = list(client.table("t").scan().to_batches())
    client.drop_table("t")
    client.close()
    assert pa.Table.from_batches(batches).equals(pa.Table.from_batches([rows(0, 1000)]))


# --- damage ----------------------------------------------------------------------------------


def segment_of(folder: Path, before: set[Path]) -> Path:
    (result,) = set(folder.rglob("*.arrow")) - before
    return Path(result)


def test_a_file_that_was_cut_is_an_error_and_no_signal(folder: Path, connect: Connect) -> None:
    before = set(folder.rglob("*.arrow"))
    table = connect().create_table("t", SCHEMA)
    with table.write_session() as session, session.writer() as writer:
        for start in range(0, 40_000, 10_000):
            writer.write(rows(start, 10_000))
    batches = table.scan().to_batches()
    next(batches)
    os.truncate(segment_of(folder, before), 500_000)
    with pytest.raises(CorruptObjectError, match="ends at byte 500000"):
        list(batches)


def test_bytes_that_changed_are_found_before_they_are_shared(
    folder: Path, connect: Connect
) -> None:
    before = set(folder.rglob("*.arrow"))
    table = connect(retry={"budget_seconds": 0.0}).create_table("t", SCHEMA)
    table.append([rows(0, 1000)])
    path = segment_of(folder, before)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(DamagedDataError, match="checksum"):
        table.scan().to_table()


# --- found, used, left -----------------------------------------------------------------------


def test_never_asks_the_service_alone(connect: Connect, seen: Seen) -> None:
    client = connect(direct="never")
    client.create_table("t", rows(0, 10))
    assert client.table("t").scan().to_table().num_rows == 10
    assert not seen.mapped


def test_blobs_are_sent_over_the_socket(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    exchange = http_transport.HttpTransport._exchange

    def spy(self: Any, parts: Any, *args: Any, **options: Any) -> Any:
        if "Action=BlobRead" in parts.path or ("Action", "BlobRead") in parts.query:
            asked.append(options.get("this_host") is not None)
        return exchange(self, parts, *args, **options)

    monkeypatch.setattr(http_transport.HttpTransport, "_exchange", spy)
    client = connect()
    data = [bytes([n]) * 50_000 for n in range(6)]
    table = client.create_table("b", pa.schema([("image", fletching.blob())]))
    table.append({"image": data})
    cells = table.to_table()["image"]
    assert [blob.data for blob in client.get_blobs(cells) if blob] == data
    assert [blob.data for blob in connect(direct="never").get_blobs(cells) if blob] == data
    assert asked == [True, False]
    # Where the socket stopped answering, the service is asked as ever.
    pool = client.channel.transport._same_host.pool  # type: ignore[attr-defined]
    monkeypatch.setattr(pool, "urlopen", _refused)
    assert [blob.data for blob in client.get_blobs(cells) if blob] == data
    assert asked == [True, False, True, False]


def _refused(*_: Any, **__: Any) -> Any:
    raise ConnectionRefusedError("nobody is here")


def test_the_setting_switches_it_off(tmp_path: Path, seen: Seen) -> None:
    with (
        fletching.serve(
            tmp_path, port=0, access_keys={"id": "secret"}, same_host_reads=False
        ) as server,
        fletching.connect(server.url, **KEY) as client,
    ):
        client.create_table("t", rows(0, 10))
        assert client.table("t").scan().to_table().num_rows == 10
        assert not server.service.direct_socket
    assert not seen.mapped


def test_a_socket_where_nobody_is_costs_no_word(
    connect: Connect, seen: Seen, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.service, "direct_socket", f"fletching-{'0' * 32}")
    client = connect()
    client.create_table("t", rows(0, 10))
    assert client.table("t").scan().to_table().num_rows == 10
    assert client.table("t").scan().to_table().num_rows == 10
    assert not seen.mapped
    assert client.channel.transport._same_host.pool is None  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "name", ["", "docker", "/var/run/docker.sock", "fletching-..", "fletching-" + "g" * 32]
)
def test_a_name_that_is_none_of_ours_is_never_connected_to(name: str) -> None:
    reads = DirectReads("http://127.0.0.1:1", connections=1)
    reply: Any = type(
        "Reply", (), {"headers": {header_names.DIRECT_SOCKET: name}, "came_from_this_host": True}
    )
    reads.learn(reply)
    assert reads.pool is None


def test_of_several_sockets_that_answer_the_first_is_kept() -> None:
    reads = DirectReads("http://127.0.0.1:1", connections=1)
    kept: Any = None
    for digit in "012":
        headers = {header_names.DIRECT_SOCKET: f"fletching-{digit * 32}"}
        reply: Any = type("Reply", (), {"headers": headers, "came_from_this_host": True})
        reads.learn(reply)
        kept = kept or reads.pool
        assert reads.pool is kept
    reads.leave(kept)
    reads.learn(reply)
    assert reads.pool is not None
    assert reads.pool is not kept
    reads.close()


def test_a_service_on_another_host_is_not_believed() -> None:
    reads = DirectReads("http://127.0.0.1:1", connections=1)
    headers = {header_names.DIRECT_SOCKET: f"fletching-{'0' * 32}"}
    reply: Any = type("Reply", (), {"headers": headers, "came_from_this_host": False})
    reads.learn(reply)
    assert reads.pool is None


def test_who_has_not_signed_learns_no_name(server: Any) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nUser-Agent: fletching/1\r\n\r\n")
        head = connection.recv(1 << 16)
    assert b"200" in head.split(b"\r\n")[0]
    assert header_names.DIRECT_SOCKET.encode() not in head


def test_requests_at_the_socket_are_signed_like_any(server: Any) -> None:
    address = header_names.direct_socket_address(server.service.direct_socket)
    pool = DirectPool(server.url, address, connections=1)
    try:
        reply = pool.urlopen("GET", "/fletching/v1/tables?project=demo")
        assert reply.status == 401
    finally:
        pool.close()


def test_a_key_that_may_not_read_the_table_gets_nothing(
    server: Any, connect: Connect, seen: Seen
) -> None:
    client = connect()
    client.create_table("t", rows(0, 10))
    keys = server.service.engine.access_keys
    other = keys.create(access_id="stranger")
    keys.grant(Grant("stranger", client.project, "other", Permission.READ))
    stranger = fletching.connect(
        server.url,
        client.project,
        access_id=other.access_id,
        access_key=other.secret,
        retry={"budget_seconds": 0.0},
    )
    # It knows the socket from somebody else.
    stranger.channel.transport._same_host = client.channel.transport._same_host  # type: ignore[attr-defined]
    scan = client.table("t").scan()
    foreign = scan.with_options()
    object.__setattr__(foreign, "_channel", stranger.channel)
    with stranger, pytest.raises(NoPermissionError):
        foreign.to_table()
    assert not seen.mapped


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_no_descriptor_stays_open(connect: Connect, folder: Path) -> None:
    client = connect()
    client.create_table("t", rows(0, 10))
    table = client.table("t")
    table.scan().to_table()
    before = open_files()
    for _ in range(20):
        table.scan().to_table()
    assert open_files() <= before + 1
    for number in range(5):
        client.drop_table("t")
        for path in folder.rglob("*.arrow"):
            path.unlink()
        client.create_table("t", rows(number, 10))
        client.table("t").scan().to_table()
    # Mappings of what is deleted go with the next new one.
    assert len(client.channel.transport._same_host.segments._kept) <= 2  # type: ignore[attr-defined]


MANIFEST = Manifest(
    format=1, kind=SourceKind.SIGNED, rows=0, complete=True, valid_seconds=60.0,
    sources=(), pieces=(Inline(b"schema"), Inline(b"end")),
)  # fmt: skip


class FakeReply:
    def __init__(self, data: bytes, length: str | None = None) -> None:
        answered = str(len(data)) if length is None else length
        self.headers = {header_names.MANIFEST: answered}
        self._data = data
        self.asked = 0
        self.finished = self.closed = False

    def read_exactly(self, count: int) -> bytes:
        self.asked = count
        if count > len(self._data):
            raise ConnectionBrokenError("cut", url="http://x")
        return self._data[:count]

    def finish(self) -> None:
        self.finished = True

    def close(self) -> None:
        self.closed = True


def test_a_reply_without_the_header_is_rows_and_is_left_alone() -> None:
    reply = FakeReply(b"")
    reply.headers = {}
    assert manifest_of(reply) is None  # type: ignore[arg-type]  # what is asked of a reply
    assert (reply.asked, reply.finished, reply.closed) == (0, False, False)


def test_a_manifest_is_read_and_the_reply_ended() -> None:
    reply = FakeReply(encode_manifest(MANIFEST))
    assert manifest_of(reply) == MANIFEST  # type: ignore[arg-type]  # likewise
    assert reply.finished


@pytest.mark.parametrize(
    "length",
    ["", "-1", "1e3", "0x10", " 12", "\u0661\u0662", "1" * 13, str(MAX_MANIFEST_BYTES + 1)],
)
def test_a_length_that_cannot_be_is_refused_before_anything_is_read(length: str) -> None:
    reply = FakeReply(encode_manifest(MANIFEST), length)
    with pytest.raises(ProtocolError):
        manifest_of(reply)  # type: ignore[arg-type]  # likewise
    assert (reply.asked, reply.closed) == (0, True)


@pytest.mark.parametrize("data", [b"", b"\xc1", encode_manifest(MANIFEST)[:-3], b"rows instead"])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    reply = FakeReply(data)
    with pytest.raises(ProtocolError):
        manifest_of(reply)  # type: ignore[arg-type]  # likewise
    assert reply.closed


def test_a_cut_one_closes_its_connection() -> None:
    data = encode_manifest(MANIFEST)
    reply = FakeReply(data, str(len(data) + 1))
    with pytest.raises(ConnectionBrokenError):
        manifest_of(reply)  # type: ignore[arg-type]  # likewise
    assert reply.closed
