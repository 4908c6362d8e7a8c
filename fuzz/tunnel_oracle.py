"""What the tunnel's decoders promise about any bytes: rows, or a documented error, in bounded memory.

Shared by the fuzz target and by a test. Whether bytes are whole, and what they hold, must not depend on
how they are cut; which of several things that are wrong is told first may.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from fletching.errors import WireError
from fletching.wire.snappy_frames import SnappyDecoder
from fletching.wire.tunnel_chunks import ChunkDecoder
from fletching.wire.tunnel_layouts import MOMENT_TYPE, Kind, RecordLayout
from fletching.wire.tunnel_record_decoder import RecordDecoder

NUMBER = RecordLayout(Kind.INTEGER, pa.int64())
SMALL = RecordLayout(Kind.INTEGER, pa.int8())
FLAG = RecordLayout(Kind.BOOLEAN, pa.bool_())
REAL = RecordLayout(Kind.DOUBLE, pa.float64())
TEXT = RecordLayout(Kind.BYTES, pa.binary())
MOMENT = RecordLayout(Kind.MOMENT, MOMENT_TYPE)
LIST = RecordLayout(Kind.LIST, pa.list_(pa.int64()), (NUMBER,))
LISTS = RecordLayout(Kind.LIST, pa.list_(LIST.type), (LIST,))
MAP = RecordLayout(Kind.MAP, pa.map_(pa.binary(), MOMENT_TYPE), (TEXT, MOMENT))
STRUCT = RecordLayout(Kind.STRUCT, pa.struct([("a", pa.binary()), ("b", LIST.type)]), (TEXT, LIST))
VECTOR = RecordLayout(Kind.VECTOR, pa.list_(pa.float64()), (REAL,))

TABLES: list[list[RecordLayout]] = [
    [NUMBER, TEXT],
    [SMALL, FLAG, REAL, MOMENT],
    [LIST, TEXT],
    [LISTS, MAP],
    [STRUCT, VECTOR],
]


def rows_of(table: list[RecordLayout], data: bytes, chunk: int) -> list[Any]:
    decoder = RecordDecoder(table, decode_bytes=max(chunk, 16), max_row_bytes=1 << 20)
    result: list[Any] = []

    def take(columns: list[pa.Array]) -> None:
        for column in columns:
            column.validate(full=True)
        result.extend(zip(*(column.to_pylist() for column in columns), strict=True))

    for start in range(0, len(data), chunk):
        decoder.feed(data[start : start + chunk])
        for columns in decoder.batches():
            take(columns)
    decoder.finish()
    for columns in decoder.batches():
        take(columns)
    assert len(result) == decoder.rows
    return result


def content_of(data: bytes, chunk: int, *, snappy: bool) -> bytes:
    content = b""
    if snappy:
        decoder = SnappyDecoder()
        for start in range(0, len(data), chunk):
            decoder.feed(data[start : start + chunk])
            content += b"".join(decoder.events())
        decoder.finish()
        return content
    chunks = ChunkDecoder(1 << 16)
    for start in range(0, len(data), chunk):
        content += b"".join(chunks.feed(data[start : start + chunk]))
    return content + b"".join(chunks.finish())


def outcome(data: bytes, choice: int, chunk: int) -> tuple[str, Any]:
    """(verdict, what it holds; nothing if it is refused)."""
    kind = choice % (len(TABLES) + 2)
    try:
        if kind < len(TABLES):
            # As text: not a number is not equal to itself.
            return "whole", repr(rows_of(TABLES[kind], data, chunk))
        return "whole", content_of(data, chunk, snappy=kind == len(TABLES))
    except WireError as error:
        return "refused" if error.layer is not None else "no layer is named", None


def check(data: bytes) -> None:
    """Raises AssertionError if a promise is broken; the first byte chooses what is decoded."""
    choice, data = (data[0], data[1:]) if data else (0, b"")
    whole = outcome(data, choice, max(len(data), 1))
    assert whole[0] in {"whole", "refused"}
    for chunk in (1, 13, 500):
        if len(data) / chunk > 1000:
            continue
        cut = outcome(data, choice, chunk)
        assert cut == whole, f"cut into {chunk}: {cut} instead of {whole}"
