"""Where blobs are, read from their references; and from nothing that is not one."""

from __future__ import annotations

import base64

import pyarrow as pa
import pytest

import fletching
from fletching.engine.blobs.blob_references import BlobReference, ReferenceKey
from fletching.protocol.types.blob_locations import BlobLocations, pack_of

KEY = ReferenceKey(bytes(32))
MADE = [
    BlobReference("t0000000000000001", "0a" * 12, 7, 100, 1 << 40, 0xFFFFFFFF),
    BlobReference("t0000000000000001", "0a" * 11 + "00", 1 << 50, 0, 0, 0),
    BlobReference("tffffffffffffffff", "0a" * 12, 0, 65_535, 3, 5),
]
TEXTS = [KEY.text(each).encode() for each in MADE]


def test_places_are_what_the_references_were_made_of() -> None:
    cells = pa.array([b"before", *TEXTS, b"behind"], pa.binary())[1:4]
    plain = pa.chunked_array([cells[:1], cells[1:1], cells[1:]])
    typed = pa.chunked_array([fletching.blob().wrap_array(chunk) for chunk in plain.chunks])
    for column in (plain, typed):
        locations = BlobLocations.of(column)
        assert locations is not None
        assert locations.starts == [each.data_start for each in MADE]
        assert locations.lengths == [each.length for each in MADE]
        assert locations.checksums == [each.crc32c for each in MADE]
        assert len(set(locations.packs)) == 3
        for text, start, pack in zip(TEXTS, locations.starts, locations.packs, strict=True):
            assert pack_of(text.decode(), start) == pack
            assert pack_of(text.decode(), start + 1) is None


def _token(**changed: int) -> bytes:
    token = bytearray(base64.b64decode(TEXTS[0]))
    for index, value in changed.items():
        token[int(index[1:])] = value
    return base64.b64encode(token)


@pytest.mark.parametrize(
    "cells",
    [
        [TEXTS[0], None],
        [TEXTS[0], b"data of its own"],
        [TEXTS[0][:79], TEXTS[1] + b"A"],  # together as long as two
        [b"-" * 80],
        [_token(_0=2)],
        [_token(_1=1)],
        [_token(_35=0xFF)],  # an offset beyond all files
        [_token(_43=0xFF)],  # a length
    ],
)
def test_what_is_no_reference_has_no_places(cells: list[bytes | None]) -> None:
    assert BlobLocations.of(pa.chunked_array([pa.array(cells, pa.binary())])) is None


def test_columns_of_other_types_have_none() -> None:
    texts = [each.decode() for each in TEXTS]
    assert BlobLocations.of(pa.chunked_array([pa.array(texts, pa.string())])) is None
    assert pack_of("ä" * 80, 0) is None
    assert pack_of(texts[0] + "=", 107) is None
    empty = BlobLocations.of(pa.chunked_array([], pa.binary()))
    assert empty is not None
    assert empty.packs == []
