"""Bodies as pieces: the same bytes whatever the pieces, known lengths, large pieces uncopied."""

from __future__ import annotations

import array
import random
from typing import Any

import pyarrow as pa
import pytest

from fletching.client.transports.http import request_body
from fletching.client.transports.http.request_body import (
    JOINED_BYTES,
    SEND_BYTES,
    RequestBody,
    SpooledBody,
    StreamedBody,
    arrow_body,
    coded_body,
)
from fletching.errors import ConnectionBrokenError, UsageError
from fletching.protocol.http.body_codings import StreamCoding
from fletching.protocol.http.layers import table_body_decoder
from fletching.protocol.messages.responses import WriteResult


def address(buffer: object) -> int:
    return pa.py_buffer(buffer).address


@pytest.mark.parametrize("seed", range(6))
def test_any_pieces_are_sent_in_order_and_well_cut(seed: int) -> None:
    random_ = random.Random(seed)
    sizes = [
        0,
        1,
        7,
        1000,
        JOINED_BYTES // 4 - 1,
        JOINED_BYTES // 4,
        JOINED_BYTES,
        SEND_BYTES,
        SEND_BYTES + 1,
    ]
    chunks = [random_.randbytes(random_.choice(sizes)) for _ in range(30)]
    body = RequestBody(chunks)
    for _ in range(2):
        sent = [memoryview(each) for each in body]
        assert b"".join(sent) == b"".join(chunks)
        assert all(0 < each.nbytes <= SEND_BYTES for each in sent)
    assert body.length == len(b"".join(chunks))
    streamed = StreamedBody(lambda: iter(chunks), None)
    assert b"".join(streamed) == b"".join(chunks)


def test_large_pieces_are_sent_from_where_they_are_and_small_ones_together() -> None:
    large = bytes(SEND_BYTES + 100)
    sent = list(RequestBody([b"x" * 10, b"y" * 10, large, b"z"]))
    assert [memoryview(each).nbytes for each in sent] == [20, SEND_BYTES, 100, 1]
    assert address(sent[1]) == address(large)


def test_buffers_of_other_elements_count_in_bytes() -> None:
    body = RequestBody([array.array("d", [1.5, 2.5]), b"!"])
    assert body.length == 17
    assert b"".join(body) == array.array("d", [1.5, 2.5]).tobytes() + b"!"


def test_what_was_released_can_be_closed() -> None:
    owner = bytearray(100)
    body = RequestBody([owner])
    with pytest.raises(BufferError):
        owner.clear()
    body.release()
    owner.clear()


def test_what_making_raises_breaks_the_body_off() -> None:
    def make() -> object:
        yield b"x" * JOINED_BYTES
        raise KeyError("made no more")

    body = iter(StreamedBody(make, 1 << 20))  # type: ignore[arg-type]  # a generator
    next(body)
    with pytest.raises(KeyError):
        next(body)


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_batches_are_a_stream_that_pyarrow_reads(compression: str | None) -> None:
    batches = [
        pa.record_batch(
            {"n": pa.array(range(n), pa.int64()), "s": pa.array(["x" * n] * n, pa.string())}
        )
        for n in (0, 5, 900)
    ]
    body = arrow_body(batches[0].schema, batches, compression=compression)
    data = b"".join(body)
    assert len(data) == body.length
    with pa.ipc.open_stream(data) as reader:
        assert list(reader) == batches


def test_batches_lend_their_values() -> None:
    values = pa.array(range(1_000_000))
    body = arrow_body(
        pa.schema([("n", pa.int64())]), [pa.record_batch({"n": values})], compression=None
    )
    start = values.buffers()[1].address
    assert any(start <= address(each) < start + 8_000_000 for each in body)


def test_a_coded_body_knows_its_length() -> None:
    body = RequestBody([b"ab" * 100_000, b"c"])
    coded = coded_body(body, StreamCoding.LZ4_STREAM)
    data = b"".join(coded)
    assert len(data) == coded.length
    assert len(data) < 10_000
    decoder = table_body_decoder(StreamCoding.LZ4_STREAM)
    decoder.feed(data)
    decoded = b"".join(decoder.events())
    decoder.finish()
    decoded += b"".join(decoder.events())
    assert decoded == b"ab" * 100_000 + b"c"


class Service:
    """Takes bodies, twice each, as a retry would."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.lengths: list[int] = []

    def send(self, body: RequestBody) -> Any:
        again = [b"".join(body) for _ in range(2)]
        assert again[0] == again[1], "a body can be sent again"
        self.bodies.append(again[0])
        self.lengths.append(body.length)
        return WriteResult(rows=len(self.bodies))


@pytest.mark.parametrize("bound", [1 << 30, 1000], ids=["in memory", "in a file"])
@pytest.mark.parametrize("chunks", [[], [b""], [b"a"], [b"ab" * 499, b"cd", b"e" * 70_000]])
def test_what_was_written_is_sent_as_one_body(
    chunks: list[bytes], bound: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_body, "SPOOLED_BYTES", bound)
    service = Service()
    body = SpooledBody(service.send)
    for chunk in chunks:
        body.write(bytearray(chunk))
    assert body.finish().rows == 1
    assert service.bodies == [b"".join(chunks)]
    assert service.lengths == [len(b"".join(chunks))]


@pytest.mark.parametrize("end", ["finish", "abort"])
def test_nothing_follows_the_end(end: str) -> None:
    service = Service()
    body = SpooledBody(service.send)
    body.write(b"x")
    getattr(body, end)()
    with pytest.raises(UsageError):
        body.write(b"y")
    with pytest.raises(UsageError):
        body.finish()
    body.abort()
    assert service.bodies == ([b"x"] if end == "finish" else [])


def test_a_body_that_could_not_be_sent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "SPOOLED_BYTES", 4)

    def send(_: RequestBody) -> Any:
        raise ConnectionBrokenError("cut", url="http://x")

    body = SpooledBody(send)
    body.write(b"longer than four")
    with pytest.raises(ConnectionBrokenError):
        body.finish()
    assert body._file.closed, "the file goes, also the mapped one"
