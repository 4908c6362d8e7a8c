from __future__ import annotations

import inspect
from random import Random
from typing import Any

import pytest

from fletching.errors import FletchingError
from fletching.lz4stream import (
    LZ4_MAX_INPUT_SIZE,
    LZ4StreamCompressor,
    LZ4StreamDecompressor,
    LZ4StreamError,
)

DATA = b"2099023098234882923049823094823094898239230982349081231290381209380981203981" * 36


def compress(data: bytes, page: int = 128, **options: Any) -> bytes:
    with LZ4StreamCompressor("double_buffer", page, **options) as compressor:
        return b"".join(
            compressor.compress(data[start : start + page]) for start in range(0, len(data), page)
        )


def decompress(stream: bytes, page: int = 128, **options: Any) -> bytes:
    width = options.get("store_comp_size", 4)
    out, position = b"", 0
    with LZ4StreamDecompressor("double_buffer", page, **options) as decompressor:
        while position < len(stream):
            block = decompressor.get_block(stream[position:])
            out += decompressor.decompress(block)
            position += width + len(block)
    return out


def test_the_signatures_are_those_of_lz4_stream() -> None:
    def named(function: Any) -> dict[str, Any]:
        return {
            name: parameter.default
            for name, parameter in inspect.signature(function).parameters.items()
        }

    assert named(LZ4StreamCompressor) == {
        "strategy": inspect.Parameter.empty,
        "buffer_size": inspect.Parameter.empty,
        "mode": "default",
        "acceleration": True,
        "compression_level": 9,
        "return_bytearray": False,
        "store_comp_size": 4,
        "dictionary": "",
    }
    assert named(LZ4StreamDecompressor) == {
        "strategy": inspect.Parameter.empty,
        "buffer_size": inspect.Parameter.empty,
        "return_bytearray": False,
        "store_comp_size": 4,
        "dictionary": "",
    }
    assert LZ4_MAX_INPUT_SIZE == 2_113_929_216


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("page", [1, 128, 239])
@pytest.mark.parametrize("strategy", ["double_buffer", "ring_buffer"])
def test_round_trip(strategy: str, page: int, width: int) -> None:
    compressor = LZ4StreamCompressor(strategy, page, store_comp_size=width)
    decompressor = LZ4StreamDecompressor(strategy, page, store_comp_size=width)
    for start in range(0, len(DATA), page):
        block = compressor.compress(memoryview(DATA)[start : start + page])
        inner = decompressor.get_block(block + b"what follows")
        assert inner == block[width:]
        assert decompressor.decompress(inner) == DATA[start : start + page]


@pytest.mark.parametrize(
    ("stream", "data"),
    [
        ("0100000000", b""),
        ("020000001020", b" "),
        ("0c0000002f616202000e506261626162", b"ab" * 20),
    ],
)  # fmt: skip
def test_known_streams(stream: str, data: bytes) -> None:
    assert decompress(bytes.fromhex(stream)) == data


@pytest.mark.parametrize("mode", ["default", "fast", "high_compression"])
@pytest.mark.parametrize("nothing", [None, b"", ""])
def test_no_dictionary(mode: str, nothing: Any) -> None:
    assert decompress(compress(DATA, mode=mode, dictionary=nothing)) == DATA
    assert decompress(compress(DATA, mode=mode), dictionary=nothing) == DATA


@pytest.mark.parametrize("mode", ["default", "fast", "high_compression"])
def test_dictionaries(mode: str) -> None:
    known, other = DATA[10:30], DATA[20:40]
    stream = compress(DATA, mode=mode, dictionary=known)
    assert len(stream) < len(compress(DATA, mode=mode))
    assert decompress(stream, dictionary=known) == DATA
    assert decompress(stream, dictionary=bytearray(known)) == DATA
    assert decompress(stream, dictionary=known.decode()) == DATA
    assert decompress(stream, dictionary=other) != DATA
    with pytest.raises(LZ4StreamError, match=r"^Decompression failed\. error: \d+$"):
        decompress(stream)


def test_bytearrays() -> None:
    block = LZ4StreamCompressor("double_buffer", 64, return_bytearray=True).compress(b"a" * 64)
    decompressor = LZ4StreamDecompressor("ring_buffer", 64, return_bytearray=True)
    inner = decompressor.get_block(block)
    plain = decompressor.decompress(inner)
    assert (type(block), type(inner), type(plain)) == (bytearray, bytearray, bytearray)
    assert isinstance(plain, bytearray)
    plain[:] = b"b" * 64  # the history is not the caller's
    block = LZ4StreamCompressor("double_buffer", 64, dictionary=b"a" * 64).compress(b"a" * 64)
    assert decompressor.decompress(block[4:]) == b"a" * 64


def test_a_larger_history_than_the_page() -> None:
    """What lz4.stream cannot read: a page of 100 bytes that refers 50,000 bytes back."""
    chunks = [Random(1).randbytes(100), *([bytes(100)] * 500)]
    compressor = LZ4StreamCompressor("ring_buffer", 100)
    decompressor = LZ4StreamDecompressor("double_buffer", 100)
    for chunk in [*chunks, chunks[0]]:
        block = compressor.compress(chunk)
        assert decompressor.decompress(block[4:]) == chunk
    assert len(block) < 20


MISUSES: list[tuple[str, type[BaseException], str]] = [
    ("c('foo', 1024)", ValueError,
     "Invalid strategy argument: foo. Must be one of: double_buffer, ring_buffer"),
    ("d('foo', 1024)", ValueError,
     "Invalid strategy argument: foo. Must be one of: double_buffer, ring_buffer"),
    ("c('double_buffer', 10, mode='foo')", ValueError,
     "Invalid mode argument: foo. Must be one of: default, fast, high_compression"),
    ("c('double_buffer', 10, store_comp_size=3)", ValueError,
     "Invalid store_comp_size, valid values: 0, 1, 2 or 4"),
    ("d('double_buffer', 10, store_comp_size=3)", ValueError,
     "Invalid store_comp_size, valid values: 0, 1, 2 or 4"),
    ("c('double_buffer', 0x7E000001)", ValueError,
     "Invalid buffer_size argument: 2113929217. Cannot define output buffer size. Must be lesser or equal to 2113929216"),
    ("c('double_buffer', -1)", ValueError,
     "Invalid buffer_size argument: -1. Must be in 0..4294967295"),
    ("d('double_buffer', 2**32)", ValueError,
     "Invalid buffer_size argument: 4294967296. Must be in 0..4294967295"),
    ("c('double_buffer', 256, store_comp_size=1)", LZ4StreamError,
     "Inconsistent buffer_size/store_comp_size values. Maximal compressed length (273) cannot fit in a 1 byte-long integer"),
    ("c('double_buffer', 3).compress(b'1234')", OverflowError, "Input too large for LZ4 API"),
    ("d('double_buffer', 99, store_comp_size=1).decompress(bytes(256))", OverflowError,
     "Source length (256) too large for LZ4 store_comp_size (1) value"),
    ("d('double_buffer', 9).decompress(bytes(99))", LZ4StreamError,
     "Maximal decompressed data (83) cannot fit in LZ4 internal buffer (9)"),
    ("d('double_buffer', 0).decompress(b'')", LZ4StreamError,
     "Maximal decompressed data (1) cannot fit in LZ4 internal buffer (0)"),
    ("d('double_buffer', 99).decompress(b'')", LZ4StreamError, "Decompression failed. error: 1"),
    ("d('double_buffer', 99).get_block(b'123')", LZ4StreamError,
     "Invalid source, too small for holding any block"),
    ("d('double_buffer', 99).get_block(bytes([9, 0, 0, 0, 1]))", LZ4StreamError,
     "Requested input size (9) larger than source size (1)"),
    ("d('double_buffer', 99, store_comp_size=0).get_block(b'1')", LZ4StreamError,
     "LZ4 context is configured for storing block size out-of-band"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), MISUSES, ids=[m[0] for m in MISUSES])
def test_misuse(call: str, error: type[BaseException], message: str) -> None:
    with pytest.raises(error) as caught:
        eval(call, {"c": LZ4StreamCompressor, "d": LZ4StreamDecompressor})
    assert str(caught.value) == message
    assert isinstance(caught.value, FletchingError)


def test_text_is_no_input() -> None:
    for call in (
        LZ4StreamCompressor("double_buffer", 9).compress,
        LZ4StreamDecompressor("double_buffer", 9).decompress,
        LZ4StreamDecompressor("double_buffer", 9).get_block,
    ):
        with pytest.raises(TypeError):
            call("text")  # type: ignore[arg-type]  # the mistake under test


@pytest.mark.parametrize("size", [0, LZ4_MAX_INPUT_SIZE, 2**32 - 1])
def test_large_decompressors_cost_nothing(size: int) -> None:
    LZ4StreamDecompressor("double_buffer", size)


def test_a_closed_context() -> None:
    with LZ4StreamCompressor("double_buffer", 9) as compressor:
        compressor.compress(b"x")
    with LZ4StreamDecompressor("double_buffer", 9) as decompressor:
        pass
    decompressor.close()
    for call in (compressor.compress, decompressor.decompress, decompressor.get_block):
        with pytest.raises(ValueError, match="No valid LZ4 stream context supplied"):
            call(b"x")


def test_a_block_above_the_buffer() -> None:
    block = compress(bytes(5000), 5000)
    with pytest.raises(LZ4StreamError, match=r"^Decompression failed\. error: \d+$") as caught:
        decompress(block, 4999)
    assert caught.value.limit == 4999
    assert decompress(block, 5000) == bytes(5000)


def test_every_truncation() -> None:
    stream = compress(DATA[:1000])
    ends = {0}
    while max(ends) < len(stream):
        at = max(ends)
        ends.add(at + 4 + int.from_bytes(stream[at : at + 4], "little"))
    for length in range(len(stream)):
        if length in ends:
            decompress(stream[:length])
            continue
        start = max(end for end in ends if end < length)
        message = "too small for holding" if length - start < 4 else "larger than source size"
        with pytest.raises(LZ4StreamError, match=message):
            decompress(stream[:length])


def test_damage_leaves_the_context_usable() -> None:
    decompressor = LZ4StreamDecompressor("double_buffer", 128)
    compressor = LZ4StreamCompressor("double_buffer", 128)
    for start in range(0, 1280, 128):
        block = compressor.compress(DATA[start : start + 128])[4:]
        for wrong in (b"", block + b"\x00\x00", block[:-2], b"\x1fA\x09\x00\x50"):
            with pytest.raises(LZ4StreamError, match=r"^Decompression failed\. error: \d+$"):
                decompressor.decompress(wrong)
        assert decompressor.decompress(block) == DATA[start : start + 128]


def test_get_block_copies_only_the_block() -> None:
    stream = bytearray(compress(DATA))
    block = LZ4StreamDecompressor("double_buffer", 128).get_block(stream)
    stream.clear()  # nothing holds the stream any more
    assert len(block) < 200
