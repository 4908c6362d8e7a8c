from __future__ import annotations

import contextlib
from typing import Any

import pyarrow as pa
import pytest

from fletching.client.transports.http.arrow_response import (
    BLOCK_BYTES,
    METADATA_BYTES,
    SMALL_BYTES,
    ArrowReply,
)
from fletching.errors import (
    ConnectionBrokenError,
    FletchingError,
    ProtocolError,
    TruncatedStreamError,
)
from fletching.ipc import Limits
from fletching.ipc.message import END_OF_STREAM

SCHEMA = pa.schema([("n", pa.int64()), ("s", pa.string())])


def rows(start: int, end: int) -> pa.RecordBatch:
    return pa.record_batch(
        [range(start, end), [f"row {i}" for i in range(start, end)]], schema=SCHEMA
    )


def stream(batches: list[pa.RecordBatch], schema: pa.Schema = SCHEMA) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return bytes(sink.getvalue())


class Body:
    """The bytes of a reply in portions, then its end, or an error."""

    def __init__(self, data: bytes, portion: int, error: Exception | None = None) -> None:
        self.data, self.portion, self.error = memoryview(data), portion, error
        self.calls: list[str] = []
        self.receives = 0
        self.request_id = "req-1"

    def readinto(self, buffer: Any, *, wake_bytes: int = 0) -> int:
        del wake_bytes
        self.receives += 1
        view = memoryview(buffer).cast("B")
        count = min(len(view), self.portion, len(self.data))
        if not count and self.error is not None:
            raise self.error
        view[:count] = self.data[:count]
        self.data = self.data[count:]
        return count

    def finish(self) -> None:
        self.calls.append("finish")

    def hurry(self) -> None:
        self.calls.append("hurry")

    def close(self) -> None:
        self.calls.append("close")


def reply_of(body: Body) -> ArrowReply:
    return ArrowReply(body, Limits())


BATCHES = [rows(0, 10), rows(10, 11), rows(11, 60_000), rows(60_000, 60_500), rows(60_500, 60_501)]


@pytest.mark.parametrize("portion", [1, 7, 1000, METADATA_BYTES, SMALL_BYTES, 1 << 30])
@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_batches_come_out_of_any_portions(portion: int, count: int) -> None:
    if portion < 7 and count > 2:
        pytest.skip("a megabyte, byte by byte")
    body = Body(stream(BATCHES[:count]), portion)
    reply = reply_of(body)
    assert reply.schema == SCHEMA
    assert reply.request_id == "req-1"
    assert list(reply) == BATCHES[:count]
    assert body.calls == ["finish"]


def test_batches_stay_what_they_were_while_others_arrive() -> None:
    # Small ones share blocks: many of them, in portions that end anywhere in one.
    batches = [rows(n, n + 300 + n % 37) for n in range(400)]
    assert sum(batch.nbytes for batch in batches) > BLOCK_BYTES // 2
    for portion in (1 << 30, 99_991):
        kept = list(reply_of(Body(stream(batches), portion)))
        assert kept == batches


def test_small_batches_are_received_together() -> None:
    body = Body(stream([rows(n, n + 100) for n in range(0, 20_000, 100)]), 1 << 30)
    assert sum(batch.num_rows for batch in reply_of(body)) == 20_000
    assert body.receives < 200  # of 200 batches and a schema


def test_a_large_body_is_received_where_it_stays() -> None:
    batch = rows(0, 200_000)
    (received,) = reply_of(Body(stream([batch]), 1 << 30))
    assert received == batch
    # One buffer holds the whole message, and the columns lie in it.
    addresses = [
        buffer.address for column in received.columns for buffer in column.buffers() if buffer
    ]
    assert max(addresses) - min(addresses) < batch.nbytes + 4096


@pytest.mark.parametrize("cut", [0, 1, 8, 100, -1, -8, -9])
def test_only_the_marker_ends_the_data(cut: int) -> None:
    whole = stream(BATCHES[:2])
    body = Body(whole[:cut], 1 << 30)
    with pytest.raises(TruncatedStreamError):
        list(reply_of(body))


def test_a_reply_that_is_no_stream_gives_its_connection_back() -> None:
    for data, error in (
        (END_OF_STREAM, ProtocolError),
        (b"<html>not found</html>" * 100, FletchingError),
    ):
        body = Body(data, 1 << 30)
        with pytest.raises(error):
            reply_of(body)
        assert body.calls == ["close"]


def test_a_failure_of_the_exchange_is_passed_on() -> None:
    broken = ConnectionBrokenError("broken")
    body = Body(stream(BATCHES)[:1000], 100, broken)
    with pytest.raises(ConnectionBrokenError) as caught:
        list(reply_of(body))
    assert caught.value is broken


def test_what_lies_about_offsets_is_refused() -> None:
    # A string column whose offsets lead outside of its data.
    data = bytearray(stream([rows(0, 3)]))
    good = pa.py_buffer(bytes(data))
    batch = pa.ipc.open_stream(good).read_next_batch()
    offsets = batch.column("s").buffers()[1]
    position = offsets.address - good.address + 4 * 2
    data[position : position + 4] = (1 << 20).to_bytes(4, "little")
    with pytest.raises(FletchingError):
        list(reply_of(Body(bytes(data), 1 << 30)))


def test_the_replys_own_verbs_are_passed_on() -> None:
    body = Body(stream(BATCHES), 1 << 30)
    reply = reply_of(body)
    reply.hurry()
    reply.close()
    with contextlib.suppress(FletchingError):
        next(iter(reply))
    assert body.calls[:2] == ["hurry", "close"]
