"""The metadata of a segment's batches once more: as it was, bounded, and damage is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fletching.catalog.segment_rows import SegmentRow
from fletching.engine.writing import metadata_index
from fletching.engine.writing.metadata_index import (
    LEAST_SEGMENT_BYTES,
    MetadataIndex,
    decode_index,
    parse_entry,
)
from fletching.errors import CorruptObjectError

METADATA = [b"a" * 40, b"b" * 16, b"c" * 100_000]


def segment(lengths: list[int], length: int = 1 << 30) -> SegmentRow:
    index = np.array([[0, size, 8, 1] for size in lengths], "<i8").tobytes()
    values: dict[str, Any] = dict.fromkeys(SegmentRow._fields)
    return SegmentRow(**(values | {"key": "k", "batch_index": index, "length": length}))


ROW = segment([len(each) for each in METADATA])


def made() -> tuple[bytes, bytes]:
    index = MetadataIndex()
    for each in METADATA:
        # The metadata may lie in several pieces, the body behind it.
        index.add([each[:10], memoryview(each)[10:], b"body"], len(each))
    index_bytes = index.finish(LEAST_SEGMENT_BYTES, 1234)
    assert index_bytes is not None
    return index_bytes


def test_it_comes_back_as_it_was() -> None:
    data, entry = made()
    offset, length, raw, _ = parse_entry(entry, ROW)
    assert (offset, length, raw) == (1234, len(data), sum(map(len, METADATA)))
    assert [bytes(each) for each in decode_index(memoryview(data), entry, ROW)] == METADATA


def test_small_segments_and_empty_ones_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MetadataIndex().finish(LEAST_SEGMENT_BYTES, 0) is None
    index = MetadataIndex()
    index.add([b"x" * 8], 8)
    assert index.finish(LEAST_SEGMENT_BYTES - 1, 0) is None
    monkeypatch.setattr(metadata_index, "MOST_BYTES", 16)
    index = MetadataIndex()
    for _ in range(3):
        index.add([b"x" * 8], 8)
        assert len(index._waiting) <= 16
    assert index.finish(LEAST_SEGMENT_BYTES, 0) is None


def test_damage_is_told() -> None:
    data, entry = made()
    words = entry.split()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    other_sum = b" ".join([*words[:3], b"%d" % (int(words[3]) ^ 1)])
    longer = b" ".join([*words[:2], b"%d" % (int(words[2]) + 1), words[3]])
    for bad, message, row in (
        (bytes(flipped), entry, ROW),
        (data[:-3], entry, ROW),
        (b"", entry, ROW),
        (data, other_sum, ROW),
        (data, longer, ROW),
        (data, entry, segment([8, 8])),
        (data, entry, segment([len(each) + 1 for each in METADATA])),
    ):
        with pytest.raises(CorruptObjectError, match="metadata index"):
            decode_index(memoryview(bad), message, row)


@pytest.mark.parametrize(
    "entry",
    [b"", b"1 2 3", b"1 2 3 4 5", b"1 2 3 x", b"-1 2 3 4", b"1  2 3 4", b"1 2 3 " + b"9" * 19,
     b"99 2 3 4", b"1 2 99999999999 4"],
)  # fmt: skip
def test_numbers_that_cannot_be(entry: bytes) -> None:
    with pytest.raises(CorruptObjectError, match="no place of its metadata"):
        parse_entry(entry, segment([], length=100))
    assert parse_entry(b"98 2 3 4", segment([], length=100)) == (98, 2, 3, 4)
