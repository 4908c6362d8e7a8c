"""The tunnel's Arrow framing: known bytes, any chunking, every cut and every flipped bit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.folding import folded

from fletching.errors import (
    LimitExceededError,
    MalformedFrameError,
    TruncatedStreamError,
    WireError,
)
from fletching.wire.tunnel_chunks import ChunkDecoder, ChunkEncoder, framed_length

BATCH = bytes.fromhex(
    "ffffffff8800000014000000000000000c0016000600050008000c000c0000000003040018000000100000000000"
    "000000000a0018000c00040008000a0000"
)
# One batch of two int64 in chunks of 64 bytes, as PyODPS reads it.
GOLDEN = bytes.fromhex(
    "00000040ffffffff8800000014000000000000000c0016000600050008000c000c00000000030400180000001000"
    "00000000000000000a0018000c00040008000a00000090b61cff3c00000010000000020000000000000000000000"
    "0200000000000000000000000000000000000000000000000000000010000000000000000000000001000000e367"
    "119b0200000000000000000000000000000001000000000000000200000000000000a9fdcb74"
)


def encoded(content: bytes, chunk: int, step: int = 1 << 30) -> bytes:
    encoder = ChunkEncoder(chunk)
    framed = [
        part for n in range(0, len(content), step) for part in encoder.encode(content[n : n + step])
    ]
    return b"".join(map(bytes, [*framed, *encoder.finish()]))


def decoded(body: bytes, step: int = 1 << 30) -> bytes:
    decoder = ChunkDecoder()
    parts = [part for n in range(0, len(body), step) for part in decoder.feed(body[n : n + step])]
    return b"".join([*parts, *decoder.finish()])


def test_known_bytes() -> None:
    content = decoded(GOLDEN)
    assert len(content) == 160
    assert content.startswith(BATCH[:60])
    assert encoded(content, 64) == GOLDEN


@given(
    content=st.binary(max_size=300),
    chunk=st.integers(1, 80),
    steps=st.tuples(*[st.integers(1, 90)] * 2),
)
def test_content_comes_back(content: bytes, chunk: int, steps: tuple[int, int]) -> None:
    body = encoded(content, chunk, steps[0])
    assert body == encoded(content, chunk)
    assert len(body) == framed_length(len(content), chunk)
    assert decoded(body, steps[1]) == content


def test_nothing() -> None:
    assert encoded(b"", 65536) == bytes.fromhex("0001000000000000")
    assert decoded(bytes.fromhex("0001000000000000")) == b""
    assert decoded(bytes(4)) == b""


def test_an_exact_multiple_has_no_rest() -> None:
    body = encoded(b"abcdef", 3)
    assert len(body) == 4 + 2 * 7 + 4
    assert decoded(body) == b"abcdef"


@folded("end", range(len(GOLDEN)))
def test_every_cut_is_told(end: int) -> None:
    with pytest.raises(WireError):
        decoded(GOLDEN[:end])


@folded("bit", range(len(GOLDEN) * 8))
def test_every_flipped_bit_is_told(bit: int) -> None:
    damaged = bytearray(GOLDEN)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(WireError):
        decoded(bytes(damaged))


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", TruncatedStreamError),
        (b"\x00\x00\x00", TruncatedStreamError),
        (b"\x00\x01\x00\x00", MalformedFrameError),
        (bytes(5), LimitExceededError),
        (b"\xff\xff\xff\xff\x00", LimitExceededError),
        (b"\x00\x01\x00\x00abc", TruncatedStreamError),
    ],
)
def test_what_is_wrong_is_said(body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        decoded(body)


def test_content_is_not_copied_when_encoded() -> None:
    content = bytearray(100)
    views = [part for part in ChunkEncoder(64).encode(content) if isinstance(part, memoryview)]
    content[0] = 7
    assert views[0][0] == 7
