"""Our own content coding between our own client and server: on demand, and with nobody else."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import fletching
from fletching import lz4stream
from fletching.client.call_options import CallOptions
from fletching.client.transports.http import http_transport as http
from fletching.client.transports.http import service_exchanges
from fletching.client.transports.http.coded_response import CodedReply, uncoded
from fletching.errors import TruncatedStreamError, UsageError
from fletching.protocol.http.body_codings import StreamCoding
from fletching.protocol.http.headers import SESSION_LENGTH
from fletching.server.api import dispatch

KEYS = {"tester": "testers-secret"}
BATCHES = [
    pa.record_batch(
        {
            "id": pa.array(range(number * 100, number * 100 + 100), pa.int64()),
            "text": [f"user {n % 7} opened item {n * 31 % 97}" for n in range(100)],
        }
    )
    for number in range(200)
]
TABLE = pa.Table.from_batches(BATCHES)


@dataclasses.dataclass
class Exchanged:
    """Bodies that went over the wire: what they were coded with, and how long they were."""

    writes: list[tuple[str | None, int]] = dataclasses.field(default_factory=list)
    reads: list[str | None] = dataclasses.field(default_factory=list)


@pytest.fixture
def exchanged(monkeypatch: pytest.MonkeyPatch) -> Exchanged:
    seen = Exchanged()
    original = http.HttpTransport._exchange

    def watched(self: Any, parts: Any, *args: Any, **kwargs: Any) -> Any:
        reply = original(self, parts, *args, **kwargs)
        if {"TableWrite", "TableAppend"} & set(dict(parts.query).values()):
            seen.writes.append((parts.headers.get("content-encoding"), kwargs["body"].length))
        if "TableRead" in dict(parts.query).values() or SESSION_LENGTH in reply.headers:
            seen.reads.append(reply.headers.get("content-encoding"))
        return reply

    monkeypatch.setattr(http.HttpTransport, "_exchange", watched)
    return seen


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Any]:
    with fletching.serve(tmp_path / "served", port=0, access_keys=KEYS) as running:
        yield running


def connect(server: Any, **options: Any) -> fletching.Client:
    return fletching.connect(server.url, access_id="tester", access_key=KEYS["tester"], **options)


def there_and_back(client: fletching.Client) -> None:
    with client:
        table = client.create_table("events", TABLE.schema)
        table.append(pa.RecordBatchReader.from_batches(TABLE.schema, iter(BATCHES)))
        assert table.scan().to_table().sort_by("id").equals(TABLE)


def test_it_is_off_by_default(server: Any, exchanged: Exchanged) -> None:
    assert not CallOptions().lz4_stream
    there_and_back(connect(server))
    assert {coding for coding, _ in exchanged.writes} == {None}
    assert set(exchanged.reads) == {None}


def test_bodies_travel_in_it_both_ways_when_asked_for(server: Any, exchanged: Exchanged) -> None:
    there_and_back(connect(server, lz4_stream=True))
    assert {coding for coding, _ in exchanged.writes} == {"x-lz4-stream"}
    assert set(exchanged.reads) == {"x-lz4-stream"}
    assert sum(length for _, length in exchanged.writes) < TABLE.nbytes / 2


def test_the_stored_bytes_are_the_plain_ones(server: Any, exchanged: Exchanged) -> None:
    there_and_back(connect(server, lz4_stream=True))
    with connect(server) as plain:
        assert plain.table("events").scan().to_table().sort_by("id").equals(TABLE)
        assert exchanged.reads[-1] is None
        batches = list(plain.table("events").scan().to_batches())
        assert [batch.num_rows for batch in batches] == [100] * 200


def test_raw_readers_get_plain_bytes(server: Any) -> None:
    with connect(server, lz4_stream=True) as client:
        table = client.create_table("events", TABLE.schema)
        table.append(TABLE)
        (split,) = table.scan().splits()
        room = bytearray(1000)
        received = bytearray()
        with split.raw_reader() as stream:
            while count := stream.readinto(room):
                received += room[:count]
        assert pa.ipc.open_stream(bytes(received)).read_all().sort_by("id").equals(TABLE)


def test_a_client_that_is_not_ours_gets_none_of_it(
    server: Any, exchanged: Exchanged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_exchanges, "AGENT", "pyodps/0.13.2 CPython/3.11")
    there_and_back(connect(server, lz4_stream=True))
    assert {coding for coding, _ in exchanged.writes} == {None}
    assert set(exchanged.reads) == {None}


def test_a_service_that_does_not_speak_it_is_served_plainly(
    server: Any, exchanged: Exchanged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "with_lz4_stream_offered", lambda headers, _agent: headers)
    monkeypatch.setattr(dispatch, "reply_body_coding", lambda _accepted, _agent: None)
    there_and_back(connect(server, lz4_stream=True))
    assert {coding for coding, _ in exchanged.writes} == {None}
    assert set(exchanged.reads) == {None}


def test_the_server_may_decline(tmp_path: Path, exchanged: Exchanged) -> None:
    with fletching.serve(
        tmp_path / "served", port=0, access_keys=KEYS, reply_compression="off"
    ) as server:
        there_and_back(connect(server, lz4_stream=True))
    assert {coding for coding, _ in exchanged.writes} == {None}
    assert set(exchanged.reads) == {None}


def test_a_folder_has_no_use_for_it(tmp_path: Path) -> None:
    there_and_back(fletching.connect(tmp_path / "folder", create=True, lz4_stream=True))


def test_not_together_with_arrow_compression() -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        CallOptions(lz4_stream=True, compression="zstd")


# --- the reply -------------------------------------------------------------------------------


class FakeReply:
    """A reply that gives ``step`` bytes at a time."""

    def __init__(self, body: bytes, step: int, coding: str | None = "x-lz4-stream") -> None:
        self.headers = {"content-encoding": coding} if coding else {}
        self._body = memoryview(body)
        self._step = step
        self.request_id = "id-1"
        self.calls: list[str] = []

    def readinto(self, buffer: Any, *, wake_bytes: int = 1) -> int:
        count = min(self._step, len(buffer), len(self._body))
        buffer[:count] = self._body[:count]
        self._body = self._body[count:]
        return count

    def finish(self) -> None:
        self.calls.append("finish")

    def hurry(self) -> None:
        self.calls.append("hurry")

    def close(self) -> None:
        self.calls.append("close")


DATA = b"".join(b"row %d;" % (n % 300) for n in range(60_000))
CODED = b"".join(lz4stream.compress(DATA, end_mark=True))


def read_all(reply: Any, size: int) -> bytes:
    room = bytearray(size)
    out = bytearray()
    while count := reply.readinto(room):
        out += room[:count]
    return bytes(out)


@pytest.mark.parametrize("step", [1, 1000, 1 << 20])
@pytest.mark.parametrize("size", [3, 5000, 1 << 20])
def test_a_coded_reply_reads_like_a_plain_one(step: int, size: int) -> None:
    body = CODED if step > 1 else b"".join(lz4stream.compress(DATA[:900], end_mark=True))
    plain: Any = FakeReply(body, step)
    reply = uncoded(plain)
    assert isinstance(reply, CodedReply)
    assert reply.readinto(bytearray()) == 0
    assert read_all(reply, size) == (DATA if step > 1 else DATA[:900])
    assert reply.readinto(bytearray(9)) == 0


def test_a_plain_reply_is_left_alone() -> None:
    for coding in (None, "zstd", "identity"):
        plain: Any = FakeReply(b"abc", 3, coding)
        assert uncoded(plain) is plain


@pytest.mark.parametrize("lost", [1, 4, 5, 1000])
def test_a_cut_reply_is_an_error(lost: int) -> None:
    reply = CodedReply(FakeReply(CODED[:-lost], 1000), StreamCoding.LZ4_STREAM)
    with pytest.raises(TruncatedStreamError):
        read_all(reply, 5000)


def test_the_rest_is_the_replys() -> None:
    inner = FakeReply(CODED, 1000)
    reply = CodedReply(inner, StreamCoding.LZ4_STREAM)
    assert reply.request_id == "id-1"
    reply.finish()
    reply.hurry()
    reply.close()
    assert inner.calls == ["finish", "hurry", "close"]
