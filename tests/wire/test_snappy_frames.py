"""The framing format of Snappy, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.errors import (
    ChecksumMismatchError,
    DecompressionError,
    LimitExceededError,
    MalformedFrameError,
    TruncatedStreamError,
    WireError,
)
from fletching.wire.snappy_frames import SnappyDecoder, SnappyEncoder

HEAD = b"\xff\x06\x00\x00sNaPpY"


def encoded(*parts: bytes) -> bytes:
    encoder = SnappyEncoder()
    buffers = [buffer for part in parts for buffer in encoder.encode(part)]
    return b"".join(map(bytes, [*buffers, *encoder.finish()]))


def decoded(data: bytes, step: int = 1 << 30) -> bytes:
    decoder = SnappyDecoder()
    result = b""
    for start in range(0, len(data), step):
        decoder.feed(data[start : start + step])
        result += b"".join(decoder.events())
    decoder.finish()
    return result + b"".join(decoder.events())


@given(
    st.lists(st.binary(max_size=300) | st.just(b"ab" * 50_000), max_size=4), st.integers(1, 90_000)
)
def test_anything_comes_back(parts: list[bytes], step: int) -> None:
    assert decoded(encoded(*parts), step) == b"".join(parts)


def test_nothing_is_the_identifier() -> None:
    assert encoded() == HEAD
    assert decoded(HEAD) == decoded(b"") == b""


def test_what_compresses_becomes_smaller_and_what_does_not_is_kept() -> None:
    assert len(encoded(b"a" * 60_000)) < 4000
    noise = bytes(range(256))
    assert encoded(noise)[10:14] == b"\x01\x04\x01\x00"


def test_chunks_of_other_kinds() -> None:
    padding = b"\xfe\x03\x00\x00abc"
    skipped = b"\x80\x00\x00\x00"
    body = encoded(b"hello hello hello hello")
    again = body[10:]
    assert (
        decoded(HEAD + padding + again + skipped + HEAD + again) == b"hello hello hello hello" * 2
    )


def test_a_chunk_without_content_may_be_the_last() -> None:
    assert decoded(HEAD + b"\x80\x00\x00\x00") == b""


def test_a_chunk_of_no_bytes_has_a_checksum_alone() -> None:
    assert decoded(HEAD + b"\x01\x04\x00\x00\xd8\xea\x82\xa2" + encoded(b"hello")[10:]) == b"hello"


@pytest.mark.parametrize("end", range(11, 30))
def test_cuts_inside_a_chunk_are_told(end: int) -> None:
    body = encoded(b"hello hello hello hello, and so on, and on")
    assert end < len(body)
    with pytest.raises(TruncatedStreamError):
        decoded(body[:end])


def test_every_flipped_bit_is_told_or_skipped() -> None:
    body = encoded(b"hello hello hello hello")
    for bit in range(len(body) * 8):
        damaged = bytearray(body)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            # The kind may become one that readers must skip; then the layer inside tells.
            assert decoded(bytes(damaged)) == b""
        except WireError:
            continue


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"\x00\x04\x00\x00abcd", MalformedFrameError),
        (HEAD[:4] + b"sNaPpX", MalformedFrameError),
        (HEAD + b"\x02\x00\x00\x00", MalformedFrameError),
        (HEAD + b"\x00\xff\xff\xff", LimitExceededError),
        (b"\xff\x07\x00\x00sNaPpY.", LimitExceededError),
        (HEAD + b"\x00\x03\x00\x00abc", TruncatedStreamError),
        (HEAD + b"\x00\x08\x00\x00abcd\xff\xff\xff\x7f", LimitExceededError),
        (HEAD + b"\x00\x06\x00\x00abcd\x05\x00", DecompressionError),
        (HEAD + b"\x01\x05\x00\x00abcde", ChecksumMismatchError),
    ],
)
def test_what_is_refused(data: bytes, error: type[WireError]) -> None:
    with pytest.raises(error):
        decoded(data)
