"""What decoding needs is told from what messages claim, and is held before they are decoded."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.server.conftest import Query, RawClient, Start, stream_of

from fletching import ipc
from fletching.errors import WireError
from fletching.ipc import Limits
from fletching.ipc.metadata import MessageType
from fletching.server.api.decoding_need import DecodingNeed, DecodingNeeds

MIB = 1 << 20
LIMITS = Limits(max_uncompressed_bytes=100 * MIB, max_dictionary_bytes=50 * MIB)


def messages(table: pa.Table, codec: str | None) -> list[ipc.Message]:
    return list(ipc.messages(stream_of(table.combine_chunks(), codec=codec)))


def decoding_need(stream: Iterable[ipc.Message]) -> DecodingNeed:
    """What a whole stream needs, without what its schema does."""
    return DecodingNeeds(LIMITS).of(m for m in stream if m.type is not MessageType.SCHEMA)


def zeros(mebibytes: int) -> pa.Table:
    return pa.table({"id": pa.array(np.zeros(mebibytes * MIB // 8, np.int64))})


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_batches_need_what_they_claim(codec: str) -> None:
    small, large = zeros(1), zeros(9)
    both = [*messages(small, codec), *messages(large, codec), *messages(small, codec)]
    assert sum(message.body_length for message in both) < MIB
    # One after the other, so the largest counts.
    assert decoding_need(both) == (9 * MIB, 0, 0)
    assert decoding_need(messages(large, None)) == (0, 0, 0)


def test_dictionaries_stay_as_long_as_their_stream() -> None:
    words = pa.array([f"{'word' * 100}-{n}" for n in range(2000)])
    table = pa.table({"w": words.dictionary_encode()})
    need = decoding_need(messages(table, "lz4"))
    assert need.kept > 2000 * 400
    assert 0 < need.passing < need.kept


@pytest.mark.parametrize("codec", [None, "zstd"])
def test_what_a_stream_keeps_counts_compressed_or_not(codec: str | None) -> None:
    """A dictionary that takes the place of another is kept, and the other is not; a delta comes to it."""

    def batch(*words: str) -> pa.RecordBatch:
        indices = pa.array(range(len(words)), pa.int32())
        array = pa.DictionaryArray.from_arrays(indices, pa.array(words))
        return pa.record_batch({"w": array})

    first, second = "a" * MIB, "b" * MIB
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=codec, emit_dictionary_deltas=True)
    with pa.ipc.new_stream(sink, batch(first).schema, options=options) as writer:
        for each in (batch(first), batch(first, second), batch(second)):
            writer.write_batch(each)
    needs = DecodingNeeds(LIMITS)
    kept = []
    for message in ipc.messages(sink.getvalue().to_pybytes()):
        need = needs.of([message])
        if message.type is MessageType.RECORD_BATCH:
            kept.append(round(need.kept / MIB))
            assert need.own == 0
        elif message.type is MessageType.DICTIONARY_BATCH:
            assert need.own == message.end - message.offset
    assert kept == [1, 2, 1]


def test_claims_count_up_to_the_limits_and_broken_messages_for_nothing() -> None:
    data = bytearray(stream_of(zeros(1), codec="lz4"))
    (batch,) = [m for m in ipc.messages(bytes(data)) if m.type is MessageType.RECORD_BATCH]
    start, _ = batch.record_batch().buffers[1].tolist()
    at = batch.offset + batch.metadata_length + start
    for claim, expected in ((1 << 62, 100 * MIB), (-1, None), (-5, 0), (0, 0)):
        struct.pack_into("<q", data, at, claim)
        need = decoding_need(ipc.messages(bytes(data))).passing
        assert need == expected if expected is not None else need < MIB
    for cut in range(0, batch.metadata_length, 7):
        broken = bytearray(data)
        broken[batch.offset + 8 + cut] ^= 0xFF
        try:
            result = list(ipc.messages(bytes(broken)))
        except WireError:
            continue
        assert decoding_need(result).passing <= 100 * MIB


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("coding", ["", "zstd"])
def test_uploads_that_decode_to_much_more_than_they_are_wait_for_each_other(
    start: Start, coding: str
) -> None:
    """Four bodies of a few kilobytes that decode to 96 MiB each never hold 400 MB together."""
    server = start(ingest_memory_bytes=32 * MIB)
    client = RawClient(server.url)
    body: Any = stream_of(zeros(96), codec="zstd")
    client.create_table("t", zeros(1).schema)
    headers = {}
    if coding:
        import zstandard

        body, headers = zstandard.compress(body), {"Content-Encoding": "zstd"}
    assert len(body) < MIB
    session = client.open_session()
    streams: list[Query] = [client.open_stream(session, stream=f"s{n}") for n in range(4)]
    pa.default_memory_pool().release_unused()
    before = peak = resident()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, resident())

    statuses: list[int] = []

    def send(where: Query) -> None:
        statuses.append(
            client.storage("TableWrite", query=where, body=body, headers=headers).status
        )

    watcher = threading.Thread(target=watch)
    watcher.start()
    senders = [threading.Thread(target=send, args=(where,)) for where in streams]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    done.set()
    watcher.join()
    assert statuses == [200] * 4
    assert server.service.memory.held == 0
    # One passes alone, as it is larger than the whole budget.
    assert 96 * MIB <= server.service.memory.peak < 2 * 96 * MIB
    assert peak - before < 3 * 96 * MIB


def test_large_json_is_held_against_the_same_memory(start: Start) -> None:
    server = start(ingest_memory_bytes=64 * MIB, body_idle_seconds=30.0)
    client = RawClient(server.url)
    client.create_table("t", zeros(1).schema)
    padding = " " * (2 * MIB)
    for body in (b"{" + padding.encode() + b"}",):
        reply = client.storage("TableCreateReadSession", body=body)
        assert reply.status == 200, reply.body
    assert server.service.memory.held == 0
    assert 16 * MIB <= server.service.memory.peak < 20 * MIB
