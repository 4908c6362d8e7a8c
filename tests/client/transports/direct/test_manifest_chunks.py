"""Chunks of a manifest: together they are its stream, whatever their size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.client.transports.direct.manifest_chunks import Chunk, chunks
from fletching.errors import LimitExceededError
from fletching.ipc import Limits
from fletching.protocol.messages.manifest import (
    Assembled,
    Inline,
    Manifest,
    ManifestPiece,
    Rows,
    Source,
    SourceKind,
    SourceRange,
    Stored,
)

FILES = [bytes(np.random.default_rng(number).integers(0, 256, 4000, np.uint8)) for number in (1, 2)]


def manifest(pieces: list[ManifestPiece]) -> Manifest:
    return Manifest(
        format=1,
        kind=SourceKind.SIGNED,
        rows=100,
        complete=True,
        valid_seconds=60.0,
        sources=tuple(Source(len(data)) for data in FILES),
        pieces=(Inline(b"schema"), *pieces, Inline(b"end")),
    )


ranges = st.tuples(st.integers(0, 1), st.integers(0, 2000), st.integers(0, 2000)).map(
    lambda each: SourceRange(each[0], each[1], each[1] + each[2])
)
stored = st.tuples(
    st.integers(0, 1), st.integers(0, 1000), st.lists(st.integers(8, 300), min_size=1, max_size=9)
).map(
    lambda each: Stored(
        each[0],
        each[1],
        np.array(each[2], "<i8").tobytes(),
        np.arange(len(each[2]), dtype="<u4").tobytes(),
    )
)
assembled = st.lists(ranges | st.binary(max_size=50), max_size=5).map(
    lambda parts: Assembled((b"prefix..", *parts))
)
pieces = st.lists(stored | assembled | st.just(Inline(b"more")) | st.just(Rows(0, 5)), max_size=8)


def stream_of(piece: ManifestPiece) -> bytes:
    if isinstance(piece, Inline):
        return piece.data
    if isinstance(piece, Stored):
        return FILES[piece.source][piece.start : piece.start + piece.length]
    assert isinstance(piece, Assembled)
    return b"".join(
        part if isinstance(part, bytes) else FILES[part.source][part.start : part.end]
        for part in piece.parts
    )


def filled(chunk: Chunk) -> bytes:
    """What fetching a chunk gives, by the requests that it makes."""
    memory = bytearray(b"\xee" * chunk.length)
    for position, data in chunk.inline:
        memory[position : position + len(data)] = data
    for fetch in chunk.fetches():
        for index, start, end in fetch.joined.parts:
            where_at = fetch.offsets[index]
            memory[start + where_at : end + where_at] = FILES[fetch.source][start:end]
    return bytes(memory)


@given(pieces, st.integers(1, 5000))
def test_chunks_are_the_stream(pieces: list[ManifestPiece], size: int) -> None:
    received: list[bytes | Rows] = [b""]
    for chunk in chunks(manifest(pieces), Limits(), chunk_bytes=size):
        if isinstance(chunk, Rows):
            received += [chunk, b""]
        else:
            received[-1] += filled(chunk)  # type: ignore[operator]
            checked = sum(length for _, length, _ in chunk.checks)
            assert checked <= chunk.length
    expected: list[bytes | Rows] = [b""]
    for piece in (*pieces, Inline(b"end")):
        if isinstance(piece, Rows):
            expected += [piece, b""]
        else:
            expected[-1] += stream_of(piece)  # type: ignore[operator]
    assert received == expected


def test_a_message_above_the_limits() -> None:
    limits = Limits(max_body_bytes=100, max_metadata_bytes=100)
    wrong = manifest([Stored(0, 0, np.array([208], "<i8").tobytes(), bytes(4))])
    with pytest.raises(LimitExceededError):
        list(chunks(wrong, limits))
