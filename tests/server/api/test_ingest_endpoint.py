from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.asgi_exchanges import exchange_of

from fletching.errors import (
    ConnectionBrokenError,
    InvalidArgumentError,
    InvalidParameterError,
    LimitExceededError,
    MalformedFrameError,
    TruncatedStreamError,
    WireError,
)
from fletching.ipc import Limits, Message, MessageDecoder
from fletching.protocol.http.layers import table_body_decoder
from fletching.server.api import ingest_endpoint
from fletching.server.api.ingest_endpoint import DecoderSink, receive_ingest
from fletching.server.request_limits import MemoryBudget
from fletching.server.server_settings import ServerSettings
from fletching.server.workers import Workers
from fletching.wire.content_coding import ContentCoding, Encoder

NOBODY: Any = None  # no byte is received or sent

MIB = 1 << 20


def stream(sizes: Sequence[int]) -> bytes:
    """An Arrow stream with one batch of each size in bytes."""
    schema = pa.schema([("a", pa.uint8())])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for number, size in enumerate(sizes):
            column = pa.array(np.full(size, number % 256, dtype=np.uint8))
            writer.write_batch(pa.record_batch([column], schema=schema))
    return sink.getvalue().to_pybytes()


class RecordingIngest:
    """Keeps what it accepts; proves that calls do not overlap and are made in workers."""

    def __init__(
        self, *, limits: Limits | None = None, fail_at: int | None = None, slow: bool = False
    ) -> None:
        self.decoder = MessageDecoder(limits or Limits())
        self.offsets: list[int] = []
        self.body = b""
        self.calls: list[str] = []
        self.most_bytes = 0
        self._fail_at = fail_at
        self._slow = slow
        self._busy = threading.Lock()
        self._loop_thread = threading.get_ident()
        self.ended = False

    def _enter(self, call: str) -> None:
        assert threading.get_ident() != self._loop_thread
        assert self._busy.acquire(blocking=False), "two calls at once"
        self.calls.append(call)

    def accept(self, messages: Sequence[Message]) -> None:
        self._enter("accept")
        try:
            if self._slow:
                threading.Event().wait(0.002)
            self.most_bytes = max(self.most_bytes, sum(message.body_length for message in messages))
            for message in messages:
                if self._fail_at is not None and len(self.offsets) == self._fail_at:
                    raise InvalidArgumentError("not this one")
                self.offsets.append(message.offset)
                self.body += bytes(message.body[:1])
        finally:
            self._busy.release()

    def finish(self) -> str:
        self._enter("finish")
        self.ended = True
        self._busy.release()
        return "done"

    def abort(self) -> None:
        self._enter("abort")
        self.ended = True
        self._busy.release()


@dataclasses.dataclass
class Sender:
    """ASGI's receive over chunks; leaves, stalls or ends behind them."""

    chunks: list[bytes]
    then: str = "end"

    async def __call__(self) -> dict[str, Any]:
        await asyncio.sleep(0)
        if self.chunks:
            return {"type": "http.request", "body": self.chunks.pop(0), "more_body": True}
        if self.then == "leave":
            return {"type": "http.disconnect"}
        if self.then == "stall":
            await asyncio.sleep(3600)
        return {"type": "http.request", "body": b"", "more_body": False}


def upload(
    ingest: RecordingIngest,
    sender: Sender,
    *,
    coding: ContentCoding = ContentCoding.IDENTITY,
    limit: int = 64 * MIB,
    check: Callable[[MemoryBudget], None] = lambda _: None,
    **server_settings: Any,
) -> Any:
    async def run() -> Any:
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "headers": [],
        }
        budget = MemoryBudget(limit, 5.0, 1.0)
        exchange = exchange_of(scope, sender, NOBODY, "id", ServerSettings(**server_settings))
        try:
            plain = coding is ContentCoding.IDENTITY
            decoder = None if plain else table_body_decoder(coding)
            return await receive_ingest(exchange, lambda: ingest, workers, budget, decoder)
        finally:
            assert budget.held == 0
            check(budget)

    workers = Workers(1, 2)
    try:
        return asyncio.run(run())
    finally:
        workers.close()


def cut(data: bytes, length: int) -> list[bytes]:
    return [data[i : i + length] for i in range(0, len(data), length)]


CODINGS = list(ContentCoding)
WHOLE = stream([10, 0, 300, 200_000, 5, 2 * MIB, 7])


def coded(data: bytes, coding: ContentCoding) -> bytes:
    encoder = Encoder(coding)
    return b"".join(bytes(part) for part in (*encoder.encode(data), *encoder.finish()))


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("length", [1 << 30, 100_000, 4_099])
def test_every_message_is_accepted_in_order(length: int, coding: ContentCoding) -> None:
    ingest = RecordingIngest()
    assert upload(ingest, Sender(cut(coded(WHOLE, coding), length)), coding=coding) == "done"
    assert len(ingest.offsets) == 8
    assert ingest.offsets == sorted(ingest.offsets)
    assert ingest.calls[-1] == "finish"
    assert "abort" not in ingest.calls


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.integers(0, 40_000), max_size=12),
    st.integers(1, 50_000),
    st.sampled_from(CODINGS),
)
def test_any_batches_in_any_chunks(sizes: list[int], length: int, coding: ContentCoding) -> None:
    ingest = RecordingIngest()
    upload(ingest, Sender(cut(coded(stream(sizes), coding), length)), coding=coding)
    assert len(ingest.offsets) == 1 + len(sizes)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("at", [0, 3, 100, len(WHOLE) // 2, len(WHOLE) - 9])
def test_a_cut_stream_is_refused_and_aborted(at: int, coding: ContentCoding) -> None:
    ingest = RecordingIngest()
    with pytest.raises(TruncatedStreamError):
        upload(ingest, Sender(cut(coded(WHOLE[:at], coding), 50_000)), coding=coding)
    assert ingest.calls[-1] == "abort"
    assert "finish" not in ingest.calls


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("length", [1 << 30, 1])
def test_bytes_behind_the_end_are_refused(length: int, coding: ContentCoding) -> None:
    small = stream([3])
    ingest = RecordingIngest()
    with pytest.raises(MalformedFrameError, match="end-of-stream"):
        upload(ingest, Sender(cut(coded(small + b"x", coding), length)), coding=coding)
    assert ingest.calls[-1] == "abort"


@pytest.mark.parametrize("coding", CODINGS)
def test_a_claimed_length_above_the_limit_is_refused_before_it_is_held(
    coding: ContentCoding,
) -> None:
    ingest = RecordingIngest(limits=Limits(max_body_bytes=MIB))

    def nothing(budget: MemoryBudget) -> None:
        assert budget.peak < MIB

    with pytest.raises(LimitExceededError):
        upload(ingest, Sender([coded(WHOLE, coding)]), coding=coding, check=nothing)
    assert ingest.calls[-1] == "abort"


def test_what_the_ingest_refuses_ends_the_upload() -> None:
    ingest = RecordingIngest(fail_at=3)
    sender = Sender(cut(stream([100_000] * 200), 100_000))
    with pytest.raises(InvalidArgumentError, match="not this one"):
        upload(ingest, sender)
    assert ingest.calls[-1] == "abort"
    assert sender.chunks, "the rest of the body was taken although it was refused"


def test_a_broken_coding_is_refused() -> None:
    body = bytearray(coded(WHOLE, ContentCoding.ZSTD))
    body[len(body) // 2] ^= 0xFF
    ingest = RecordingIngest()
    with pytest.raises(WireError):
        upload(ingest, Sender([bytes(body)]), coding=ContentCoding.ZSTD)
    assert ingest.calls[-1] == "abort"


@pytest.mark.parametrize("chunks", [0, 1, 5])
def test_a_client_that_leaves_aborts(chunks: int) -> None:
    ingest = RecordingIngest()
    with pytest.raises(ConnectionBrokenError):
        upload(ingest, Sender(cut(WHOLE, 50_000)[:chunks], "leave"))
    assert ingest.calls[-1] == "abort"
    assert "finish" not in ingest.calls


def test_a_client_that_stalls_gets_408() -> None:
    ingest = RecordingIngest()
    with pytest.raises(InvalidParameterError, match="did not go on") as caught:
        upload(ingest, Sender([WHOLE[:5000]], "stall"), body_idle_seconds=0.05)
    assert caught.value.http_status == 408
    assert ingest.calls[-1] == "abort"


def test_messages_in_memory_stay_within_the_budget() -> None:
    ingest = RecordingIngest(slow=True)

    def bounded(budget: MemoryBudget) -> None:
        assert 2 * MIB < budget.peak <= 8 * MIB

    upload(ingest, Sender(cut(stream([2 * MIB] * 30), 300_000)), limit=8 * MIB, check=bounded)
    assert len(ingest.offsets) == 31


def test_what_a_compressed_message_stands_for_is_counted_as_well() -> None:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    batch = pa.record_batch({"a": np.zeros(6 * MIB, np.uint8)})
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    body = sink.getvalue().to_pybytes()
    assert len(body) < MIB

    def counted(budget: MemoryBudget) -> None:
        assert 6 * MIB < budget.peak < 7 * MIB

    upload(RecordingIngest(), Sender([body]), check=counted)


def test_a_message_larger_than_the_budget_passes_alone() -> None:
    ingest = RecordingIngest(slow=True)
    upload(ingest, Sender(cut(stream([3 * MIB] * 5), 300_000)), limit=MIB)
    assert len(ingest.offsets) == 6


def test_metadata_larger_than_the_budget_does_not_wait_for_itself() -> None:
    schema = pa.schema([("a", pa.uint8())])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        batch = pa.record_batch([pa.array(np.zeros(3 * MIB, np.uint8))], schema=schema)
        writer.write_batch(batch, custom_metadata={"k": "v" * (3 * MIB)})
    ingest = RecordingIngest()
    upload(ingest, Sender(cut(sink.getvalue().to_pybytes(), 100_000)), limit=MIB)
    assert len(ingest.offsets) == 2


def test_many_empty_batches_are_accepted_in_bounded_groups() -> None:
    ingest = RecordingIngest(slow=True)
    body = stream([])
    schema, end = body[:-8], body[-8:]
    empty = stream([0])[len(schema) : -8]
    count = 20_000
    before = time.monotonic()
    upload(ingest, Sender(cut(schema + empty * count + end, 60_000)))
    assert len(ingest.offsets) == count + 1
    assert time.monotonic() - before < 120


def test_an_upload_is_received_into_the_decoders_own_memory() -> None:
    def received(data: bytes) -> tuple[DecoderSink, list[bool]]:
        sink, wants_more = DecoderSink(MessageDecoder(Limits())), []
        while data:
            room = sink.writable()
            count = min(len(room), len(data))
            room[:count] = data[:count]
            del room
            wants_more.append(sink.wrote(count))
            data = data[count:]
        return sink, wants_more

    sink, wants_more = received(WHOLE)
    assert sink.error is None
    messages, size, _ = sink.take()
    assert len(messages) == 8
    assert size <= len(WHOLE)
    assert len(wants_more) < 40  # a large body is not received in small pieces
    # Whoever receives asks for room until the client has ended, so behind the stream as well.
    assert sink.writable().nbytes
    assert not sink.wrote(5)
    assert "5 bytes follow" in str(sink.error)
    # What comes behind the end, or behind damage, has a place to go to and is refused there.
    for data, error in (
        (WHOLE + bytes(3 * MIB), MalformedFrameError),
        (b"\xff\xff\xff\xff\x07\x00\x00\x00" + bytes(3 * MIB), WireError),
    ):
        sink, wants_more = received(data)
        assert isinstance(sink.error, error)
        assert not wants_more[-1]
        assert sink.writable().nbytes
        assert sink.writable() is sink.writable()  # one place for all of it


def compressed(schema: pa.Schema, *batches: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd", emit_dictionary_deltas=True)
    with pa.ipc.new_stream(sink, schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def test_what_compressed_messages_in_a_coded_body_stand_for_is_counted_before() -> None:
    zeros = pa.record_batch({"a": np.zeros(6 * MIB, np.uint8)})
    words = pa.array(["x" * (3 * MIB), "y" * (3 * MIB)])
    named = pa.record_batch({"w": pa.DictionaryArray.from_arrays(pa.array([0, 1]), words)})
    for batch in (zeros, named):
        body = compressed(batch.schema, batch, batch)
        assert len(body) < MIB
        ingest = RecordingIngest()

        def counted(budget: MemoryBudget) -> None:
            assert 6 * MIB < budget.peak < 7 * MIB

        upload(
            ingest,
            Sender([coded(body, ContentCoding.ZSTD)]),
            coding=ContentCoding.ZSTD,
            check=counted,
        )
        whole = MessageDecoder(Limits())
        whole.feed(body)
        assert ingest.offsets == [message.offset for message in whole]
        assert ingest.calls[-1] == "finish"


def test_dictionaries_count_before_the_batches_that_need_them_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = pa.array(["x" * (3 * MIB), "y" * (3 * MIB)])
    named = pa.record_batch({"w": pa.DictionaryArray.from_arrays(pa.array([0, 1]), words)})
    body = compressed(named.schema, named)
    whole = MessageDecoder(Limits())
    whole.feed(body)
    end = list(whole)[1].end
    monkeypatch.setattr(ingest_endpoint, "CODED_CHUNK_BYTES", 1)
    held: list[int] = []

    def counted(budget: MemoryBudget) -> None:
        held.append(budget.peak)

    with pytest.raises(ConnectionBrokenError):
        upload(
            RecordingIngest(),
            Sender([coded(body[:end], ContentCoding.ZSTD)], "leave"),
            coding=ContentCoding.ZSTD,
            check=counted,
        )
    assert held[0] > 6 * MIB
