from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import sys
import tracemalloc
from collections.abc import AsyncIterator, Iterable, Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fletching import lz4stream
from fletching.errors import MalformedFrameError, TruncatedStreamError, UsageError, WireError
from fletching.lz4stream import Decoder, Encoder
from fletching.lz4stream.streams import joined_chunks

TEXT = b"".join(b"row %d, value %d\n" % (n, n * 7919 % 1009) for n in range(20_000))


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 60_000),
    st.integers(1, 50_000),
    st.integers(1, 50_000),
    st.integers(1, 80_000),
    st.sampled_from(["ring_buffer", "double_buffer"]),
    st.binary(max_size=40),
)
def test_round_trip_with_independent_chunk_sizes(
    length: int, source: int, caller: int, page: int, strategy: str, dictionary: bytes
) -> None:
    data = TEXT[:length]
    packed = b"".join(
        lz4stream.compress(
            cut(data, source), page_bytes=page, strategy=strategy, dictionary=dictionary
        )
    )
    assert b"".join(lz4stream.decompress(cut(packed, caller), dictionary=dictionary)) == data


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_a_single_buffer_is_one_chunk(wrap: type[bytes]) -> None:
    packed = b"".join(lz4stream.compress(wrap(TEXT)))
    assert b"".join(lz4stream.decompress(wrap(packed))) == TEXT


def test_arguments_are_checked_at_once() -> None:
    with pytest.raises(UsageError):
        lz4stream.compress([], page_bytes=0)
    with pytest.raises(UsageError):
        lz4stream.decompress([], max_block_bytes=0)


def test_compress_takes_one_chunk_at_a_time() -> None:
    taken = []

    def source() -> Iterator[bytes]:
        for number in range(10):
            taken.append(number)
            yield bytes(65_536)

    blocks = lz4stream.compress(source())
    next(blocks)
    assert taken == [0]
    next(blocks)
    assert taken == [0, 1]
    taken.clear()
    next(lz4stream.decompress(lz4stream.compress(source())))
    assert taken == [0]


def test_the_end_of_input_inside_a_block_is_an_error() -> None:
    packed = b"".join(lz4stream.compress(TEXT))
    with pytest.raises(TruncatedStreamError):
        b"".join(lz4stream.decompress(packed[:-1]))
    with pytest.raises(TruncatedStreamError):
        b"".join(lz4stream.decompress(packed, end_mark=True))


def test_bytes_after_the_end_are_an_error_unless_asked_for() -> None:
    packed = b"".join(lz4stream.compress(TEXT, end_mark=True))
    for tail in ([b"x"], [], [b"", b"xyz"]):
        source = [packed + b"".join(tail[:1]), *tail[1:]]
        if not any(tail):
            assert b"".join(lz4stream.decompress(source, end_mark=True)) == TEXT
            continue
        with pytest.raises(MalformedFrameError, match="follow the end") as caught:
            b"".join(lz4stream.decompress(source, end_mark=True))
        assert caught.value.offset == len(packed)
        assert b"".join(lz4stream.decompress(source, end_mark=True, trailing=True)) == TEXT


def test_with_trailing_bytes_allowed_nothing_more_is_read() -> None:
    def source() -> Iterator[bytes]:
        yield from lz4stream.compress(b"abc", end_mark=True)
        raise AssertionError("read past the end of the stream")

    assert b"".join(lz4stream.decompress(source(), end_mark=True, trailing=True)) == b"abc"


def test_blocks_lists_them() -> None:
    packed = b"".join(lz4stream.compress(TEXT, page_bytes=1000))
    result = list(lz4stream.blocks(cut(packed, 777), Decoder()))
    assert b"".join(block.data for block in result) == TEXT
    position = 0
    for block in result:
        assert block.offset == position
        position += 4 + block.stored_length
    assert position == len(packed)


async def slowly(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk


def test_async_forms_give_what_the_sync_forms_give() -> None:
    async def round_trip() -> tuple[bytes, bytes]:
        packed = [
            block async for block in lz4stream.compress_async(slowly(cut(TEXT, 999)), Encoder(5000))
        ]
        stream = slowly(cut(b"".join(packed), 1234))
        plain = [part async for part in lz4stream.decompress_async(stream, Decoder())]
        return b"".join(packed), b"".join(plain)

    packed, plain = asyncio.run(round_trip())
    assert packed == b"".join(lz4stream.compress(TEXT, page_bytes=5000))
    assert plain == TEXT


def test_async_errors() -> None:
    async def read(stream: bytes, *, trailing: bool = False) -> bytes:
        decoder = Decoder(end_mark=True)
        parts = lz4stream.decompress_async(slowly(cut(stream, 100)), decoder, trailing=trailing)
        return b"".join([part async for part in parts])

    packed = b"".join(lz4stream.compress(TEXT, end_mark=True))
    assert asyncio.run(read(packed)) == TEXT
    with pytest.raises(TruncatedStreamError):
        asyncio.run(read(packed[:-3]))
    with pytest.raises(MalformedFrameError):
        asyncio.run(read(packed + b"x"))
    assert asyncio.run(read(packed + b"x" * 1000, trailing=True)) == TEXT


def test_memory_does_not_grow_with_the_stream() -> None:
    def source() -> Iterator[bytes]:
        for _ in range(400):
            yield TEXT[:100_000]

    # What Python allocates; LZ4's own buffers are of a fixed size.
    tracemalloc.start()
    try:
        total = sum(map(len, lz4stream.decompress(lz4stream.compress(source()))))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 40_000_000
    assert peak < 8_000_000


def malformed(chance: Random, good: bytes) -> bytes:
    """A good stream with something wrong, or not a stream at all."""
    kind = chance.randrange(5)
    data = bytearray(good)
    if kind == 0:
        return bytes(data[: chance.randrange(len(data))])
    if kind == 1:
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif kind == 2:
        at = chance.randrange(len(data))
        data[at : at + 4] = chance.randbytes(4)
    elif kind == 3:
        del data[(at := chance.randrange(len(data))) : at + chance.randrange(1, 50)]
    else:
        return chance.randbytes(chance.randrange(300))
    return bytes(data)


@pytest.mark.slow
def test_ten_thousand_malformed_inputs_leave_memory_flat() -> None:
    chance = Random(11)
    good = b"".join(lz4stream.compress(TEXT[:6000], page_bytes=1500, dictionary=b"row 1, value"))
    outcomes = {"value": 0, "error": 0}

    def feed(count: int) -> None:
        for _ in range(count):
            stream = malformed(chance, good)
            options: dict[str, Any] = {
                "max_block_bytes": chance.choice([1500, 4 << 20]),
                "dictionary": chance.choice([None, b"row 1, value"]),
            }
            try:
                b"".join(lz4stream.decompress(cut(stream, 1000), **options))
                outcomes["value"] += 1
            except WireError:
                outcomes["error"] += 1
            reader = lz4stream.LZ4StreamDecompressor("double_buffer", 1500)
            with contextlib.suppress(lz4stream.LZ4StreamError, OverflowError):
                reader.decompress(reader.get_block(stream))

    feed(2000)
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    feed(8000)
    unit = 1 if sys.platform == "darwin" else 1024
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit
    assert outcomes["error"] > 8000
    # A leak of one 64 KiB LZ4 context per error would be 500 MB; of one 6 KB stream, 48 MB.
    assert grown < 10_000_000


# --- small chunks are joined -------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 100, 4096, 65_536, 300_000, 1 << 20])
@pytest.mark.parametrize("read_ahead", [0, 1, 5000, 256 << 10])
def test_however_chunks_are_joined_the_contents_are_the_same(size: int, read_ahead: int) -> None:
    data = TEXT[:300_000] * 2
    packed = b"".join(lz4stream.compress([data], page_bytes=8192))
    chunks = cut(packed if size > 1 else packed[:4000], size)
    if size == 1:
        packed = packed[:4000]
        with pytest.raises(TruncatedStreamError):
            b"".join(lz4stream.decompress(chunks, read_ahead_bytes=read_ahead))
        return
    assert b"".join(lz4stream.decompress(chunks, read_ahead_bytes=read_ahead)) == data


def test_joined_chunks_grow_up_to_the_limit() -> None:
    lengths = [len(memoryview(c)) for c in joined_chunks(cut(bytes(100_000), 1000), 16_384)]
    assert lengths[0] == 1000
    assert sum(lengths) == 100_000
    assert max(lengths) < 16_384 + 1000
    assert lengths[1:4] == sorted(lengths[1:4])
    large = cut(bytes(100_000), 40_000)
    assert [bytes(c) for c in joined_chunks(large, 16_384)] == large
    assert list(joined_chunks([], 100)) == []


def test_a_chunk_may_change_when_the_next_one_is_asked_for() -> None:
    packed = b"".join(lz4stream.compress([TEXT[:200_000]], page_bytes=4096))
    buffer = bytearray(3000)

    def chunks() -> Iterator[memoryview]:
        for chunk in cut(packed, 3000):
            buffer[: len(chunk)] = chunk
            yield memoryview(buffer)[: len(chunk)]
            buffer[:] = b"\xee" * 3000

    assert b"".join(lz4stream.decompress(chunks())) == TEXT[:200_000]


def test_what_came_before_a_failure_is_handed_out() -> None:
    blocks = list(lz4stream.compress([TEXT[:100_000]], page_bytes=1000))

    def chunks() -> Iterator[bytes]:
        yield from blocks[:20]
        raise ConnectionError("reset")

    parts = bytearray()

    def receive() -> None:
        for part in lz4stream.decompress(chunks()):
            parts.extend(part)

    with pytest.raises(ConnectionError, match="reset"):
        receive()
    assert parts == TEXT[:20_000]


def test_without_reading_ahead_each_chunk_is_handed_out_at_once() -> None:
    packed = list(lz4stream.compress([TEXT[:50_000]], page_bytes=1000))
    asked = 0

    def chunks() -> Iterator[bytes]:
        nonlocal asked
        for block in packed:
            asked += 1
            yield block

    for options in ({"read_ahead_bytes": 0}, {"trailing": True}):
        asked = 0
        stream = lz4stream.decompress(chunks(), **options)
        for number in range(1, 11):
            assert next(stream)
            assert asked == number
