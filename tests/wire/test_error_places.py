"""An error of a framing says at which byte of the whole body it stands, however the body arrives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from fletching.errors import ChecksumMismatchError, TruncatedStreamError, WireError
from fletching.wire import crc32c_blocks, snappy_frames, tunnel_chunks
from fletching.wire.tunnel_layouts import Kind, RecordLayout
from fletching.wire.tunnel_record_decoder import RecordDecoder
from fletching.wire.tunnel_records import RecordEncoder

NUMBER = RecordLayout(Kind.INTEGER, pa.int64())


def record(*values: int) -> bytes:
    return bytes(RecordEncoder([NUMBER]).encode([pa.array(values)]))


def records() -> bytes:
    encoder = RecordEncoder([NUMBER])
    return bytes(encoder.encode([pa.array([1, 2, 3, 4])])) + encoder.finish()


def read_records(data: bytes, step: int) -> None:
    decoder = RecordDecoder([NUMBER], decode_bytes=8)
    for start in range(0, len(data), step):
        decoder.feed(data[start : start + step])
        list(decoder.batches())
    decoder.finish()


def chunks() -> bytes:
    encoder = tunnel_chunks.ChunkEncoder(100)
    return b"".join(map(bytes, [*encoder.encode(b"x" * 250), *encoder.finish()]))


def read_chunks(data: bytes, step: int) -> None:
    decoder = tunnel_chunks.ChunkDecoder()
    for start in range(0, len(data), step):
        list(decoder.feed(data[start : start + step]))
    list(decoder.finish())


def blocks() -> bytes:
    encoder = crc32c_blocks.Encoder()
    return b"".join(map(bytes, [*encoder.encode(b"x" * 9000), *encoder.finish()]))


def snappy() -> bytes:
    encoder = snappy_frames.SnappyEncoder()
    parts = [*encoder.encode(b"ab" * 50_000), *encoder.finish()]
    return b"".join(map(bytes, parts))


def fed(make: Callable[[], Any]) -> Callable[[bytes, int], None]:
    def read(data: bytes, step: int) -> None:
        decoder = make()
        for start in range(0, len(data), step):
            decoder.feed(data[start : start + step])
            list(decoder.events())
        decoder.finish()
        list(decoder.events())

    return read


READERS: dict[str, tuple[Callable[[], bytes], Callable[[bytes, int], None]]] = {
    "records": (records, read_records),
    "chunks": (chunks, read_chunks),
    "blocks": (blocks, fed(crc32c_blocks.Decoder)),
    "snappy": (snappy, fed(snappy_frames.SnappyDecoder)),
}


def place_of(name: str, data: bytes, step: int) -> tuple[type[WireError], int | None]:
    with pytest.raises(WireError) as caught:
        READERS[name][1](data, step)
    return type(caught.value), caught.value.offset


# The byte that is changed, and the byte that the error names: the start of what holds it.
DAMAGED = [
    ("records", 1, 0),
    ("records", len(record(1)) + 1, len(record(1))),
    ("blocks", 100, 0),
    ("blocks", 5000, 4100),
    ("blocks", 8300, 8200),
    ("chunks", 10, 4),
    ("chunks", 150, 108),
    ("chunks", 240, 212),
]


@pytest.mark.parametrize(("name", "changed", "position"), DAMAGED)
@pytest.mark.parametrize("step", [1, 13, 1 << 20])
def test_damage(name: str, changed: int, position: int, step: int) -> None:
    data = bytearray(READERS[name][0]())
    data[changed] ^= 1
    error, offset = place_of(name, bytes(data), step)
    assert issubclass(error, ChecksumMismatchError)
    assert offset == position


@pytest.mark.parametrize("name", READERS)
def test_the_place_of_a_cut_does_not_depend_on_how_the_body_arrives(name: str) -> None:
    data = READERS[name][0]()
    for end in (len(data) // 3, len(data) // 2, len(data) - 1):
        result = {place_of(name, data[:end], step) for step in (7, 1000, 1 << 20)}
        assert len(result) == 1, result
        ((error, offset),) = result
        # A block may be the last, and short: its checksum tells that it is cut.
        assert issubclass(error, TruncatedStreamError | ChecksumMismatchError)
        assert offset is not None
        assert 0 <= offset <= end
