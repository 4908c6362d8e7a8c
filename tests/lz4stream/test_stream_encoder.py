from __future__ import annotations

from typing import Any

import lz4.block
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fletching.errors import LZ4StreamError, UsageError
from fletching.lz4stream import Decoder, Encoder


def decoded(stream: bytes, **options: Any) -> bytes:
    decoder = Decoder(**options)
    decoder.feed(stream)
    parts = list(decoder.events())
    decoder.finish()
    return b"".join(parts)


def block_lengths(stream: bytes) -> list[int]:
    """The decompressed length of each block, by lz4.block alone."""
    history, position, lengths = b"", 0, []
    while position < len(stream):
        size = int.from_bytes(stream[position : position + 4], "little")
        block = stream[position + 4 : position + 4 + size]
        data = lz4.block.decompress(block, uncompressed_size=1 << 20, dict=history)
        lengths.append(len(data))
        history = (history + data)[-65_536:]
        position += 4 + size
    return lengths


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.binary(max_size=400) | st.sampled_from([b"pages " * 50]), max_size=12),
    st.integers(1, 500),
    st.sampled_from(["ring_buffer", "double_buffer"]),
)
def test_pages_do_not_depend_on_the_chunking(chunks: list[bytes], page: int, strategy: str) -> None:
    data = b"".join(chunks)
    encoder = Encoder(page, strategy=strategy)
    stream = b"".join(b"".join(encoder.encode(chunk)) for chunk in chunks)
    stream += b"".join(encoder.finish())
    assert decoded(stream) == data
    lengths = block_lengths(stream)
    assert lengths[:-1] == [page] * (len(lengths) - 1)
    assert sum(lengths) == len(data)
    assert (encoder.bytes_in, encoder.bytes_out) == (len(data), len(stream))
    assert encoder.blocks == len(lengths)


def test_pages_are_as_long_as_lz4_looks_back() -> None:
    encoder = Encoder()
    stream = b"".join([*encoder.encode(b"page" * 40_000), *encoder.finish()])
    assert block_lengths(stream) == [65_536, 65_536, 28_928]


def test_flush_ends_a_block_early() -> None:
    encoder = Encoder(1000)
    assert encoder.flush() == []
    assert encoder.encode(b"a" * 300) == []
    (block,) = encoder.flush()
    assert decoded(block) == b"a" * 300
    assert encoder.flush() == []
    rest = b"".join([*encoder.encode(b"b" * 2500), *encoder.finish()])
    assert block_lengths(block + rest) == [300, 1000, 1000, 500]


def test_whole_pages_are_borrowed_and_the_rest_is_copied() -> None:
    buffer = bytearray(b"0123456789" * 25)
    encoder = Encoder(100)
    blocks = encoder.encode(buffer)
    buffer[:] = bytes(250)
    assert decoded(b"".join([*blocks, *encoder.finish()])) == b"0123456789" * 25
    buffer.clear()  # nothing holds the buffer any more


def test_finish_ends_it() -> None:
    encoder = Encoder()
    assert encoder.finish() == []
    assert encoder.finish() == []
    with pytest.raises(UsageError, match="finished"):
        encoder.encode(b"more")


@pytest.mark.parametrize("width", [1, 2, 4])
def test_the_end_mark_is_a_length_of_zero(width: int) -> None:
    encoder = Encoder(100, store_comp_size=width, end_mark=True)
    stream = b"".join([*encoder.encode(b"abc"), *encoder.finish()])
    assert stream.endswith(bytes(width))
    assert encoder.bytes_out == len(stream)
    assert decoded(stream, store_comp_size=width, end_mark=True) == b"abc"


def test_out_of_band_buffers_are_blocks() -> None:
    encoder = Encoder(100, store_comp_size=0)
    blocks = [*encoder.encode(b"ab" * 120), *encoder.finish()]
    sizes = [len(block) for block in blocks]
    assert len(blocks) == 3
    assert decoded(b"".join(blocks), store_comp_size=0, block_sizes=sizes) == b"ab" * 120


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"page_bytes": 0}, UsageError, "page_bytes 0 is below 1"),
        ({"end_mark": True, "store_comp_size": 0}, UsageError, "no size fields"),
        ({"page_bytes": 300, "store_comp_size": 1}, LZ4StreamError, "Inconsistent buffer_size"),
        ({"strategy": "x"}, UsageError, "Invalid strategy"),
    ],
)
def test_misuse(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Encoder(**options)


def test_memory_stays_at_a_page() -> None:
    encoder = Encoder(1000)
    for _ in range(100):
        encoder.encode(b"x" * 999)
        assert len(encoder._pending) < 1000
