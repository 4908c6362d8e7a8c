"""The chunked coding: any body in any chunks and cuts, and nothing else passes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.errors import InvalidParameterError
from fletching.server.http.chunked_body import ChunkedDecoder


def decode(data: bytes, sizes: list[int] | None = None) -> tuple[bytes, bytes, bool]:
    """The data, what is left behind the body, and whether it ended."""
    decoder = ChunkedDecoder(1000)
    out = b""
    at = turn = 0
    while at < len(data) and not decoder.ended:
        size = len(data) if sizes is None else sizes[turn % len(sizes)]
        turn += 1
        part = memoryview(data)[at : at + size]
        pieces, used = decoder.feed(part)
        out += b"".join(pieces)
        at += used
        assert used == len(part) or decoder.ended
    return out, data[at:], decoder.ended


@given(
    st.lists(st.binary(min_size=1, max_size=300), max_size=5),
    st.lists(st.integers(1, 50), min_size=1, max_size=4),
    st.sampled_from([b"", b";a=b", b' ;x="y"']),
    st.sampled_from([b"", b"x-sum: 1\r\n", b"a: b\r\nc:\r\n"]),
)
def test_bodies_in_any_cuts(
    chunks: list[bytes], sizes: list[int], extension: bytes, trailers: bytes
) -> None:
    coded = b"".join(b"%X%s\r\n%s\r\n" % (len(c), extension, c) for c in chunks)
    coded += b"0\r\n" + trailers + b"\r\n"
    for cuts in (None, [1], sizes):
        assert decode(coded + b"GET / next", cuts) == (b"".join(chunks), b"GET / next", True)
    assert decode(coded[:-1])[2] is False


def test_data_is_not_copied() -> None:
    data = b"5\r\nhello\r\n"
    pieces, _ = ChunkedDecoder(0).feed(memoryview(data))
    assert [piece.obj for piece in pieces] == [data]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\r\n", 400),
        (b"x\r\n", 400),
        (b"-1\r\n", 400),
        (b"+1\r\n", 400),
        (b"0x1\r\n", 400),
        (b"1_0\r\n", 400),
        (b" 1\r\n", 400),
        (b"\xc2\xb2\r\n", 400),
        (b"ffffffffffffffff\r\n", 400),
        (b"5\nhello\r\n", 400),
        (b"5\r\nhelloX\r\n", 400),
        (b"5\r\nhello\n", 400),
        (b"5\r\nhello5\r\n", 400),
        (b"5;\x00\r\n", 400),
        (b"5" + b"0" * 5000, 400),
        (b"5;" + b"a" * 5000, 400),
        (b"0\r\nnot a field\r\n", 400),
        (b"0\r\n: x\r\n", 400),
        (b"0\r\n" + b"a: b\r\n" * 500, 431),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_refused(data: bytes, status: int) -> None:
    for sizes in (None, [1]):
        with pytest.raises(InvalidParameterError) as caught:
            decode(data, sizes)
        assert caught.value.http_status == status


@given(st.binary(max_size=300))
def test_noise_is_decoded_or_refused(noise: bytes) -> None:
    try:
        out, rest, _ = decode(noise)
    except InvalidParameterError:
        return
    assert len(out) + len(rest) <= len(noise)
