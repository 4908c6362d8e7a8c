"""Which rows of a segment are shown: counted before bitmaps are read, and told when the two disagree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap

from fletching.catalog.deletion_rows import DeletionRow, batch_counts
from fletching.engine.reading import shown_rows
from fletching.engine.reading.shown_rows import OnlyRows, WithoutDeletions, masked_rows, take_rows
from fletching.errors import CorruptObjectError

ROWS = np.array([4, 0, 6, 1], np.int64)
INDEX = np.array([[0, 8, 8, count] for count in ROWS], "<i8").tobytes()


def deletion(bitmap: BitMap, **other: Any) -> DeletionRow:
    data = bitmap.serialize()
    values: dict[str, Any] = dict.fromkeys(DeletionRow._fields) | {
        "id": 1, "segment_key": "k", "added_version": 1, "rows": len(bitmap), "vector": data,
        "batch_counts": batch_counts(INDEX, bitmap), "crc32c": crc32c(data),
    }  # fmt: skip
    return DeletionRow(**(values | other))


@given(st.sets(st.integers(0, 10)), st.booleans())
def test_both_kinds_show_the_same_rows(gone: set[int], listed: bool) -> None:
    most = shown_rows._LISTED_ROWS if listed else -1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shown_rows, "_LISTED_ROWS", most)
        kept = set(range(11)) - gone
        without = WithoutDeletions(
            "k", ROWS, [deletion(BitMap(gone))] if gone else [], lambda _: None
        )
        only = OnlyRows(ROWS, BitMap(kept))
        for selection in (without, only):
            assert set(selection.rows()) == kept
            start = 0
            for batch, count in enumerate(ROWS.tolist()):
                mask = [row in kept for row in range(start, start + count)]
                assert selection.mask(batch).tolist() == mask
                assert selection.counts[batch] == sum(mask)
                start += count


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"batch_counts": b"\0" * 7}, "counts of a deletion are cut"),
        ({"batch_counts": np.array([[4, 1]], "<i4").tobytes(), "rows": 1}, "are wrong"),
        ({"batch_counts": np.array([[-1, 1]], "<i4").tobytes(), "rows": 1}, "are wrong"),
        ({"batch_counts": np.array([[0, 0]], "<i4").tobytes(), "rows": 0}, "are wrong"),
        ({"rows": 3}, "are wrong"),
        ({"batch_counts": np.array([[0, 5]], "<i4").tobytes(), "rows": 5}, "more rows of a batch"),
    ],
)
def test_counts_that_cannot_be(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(CorruptObjectError, match=words):
        WithoutDeletions("k", ROWS, [deletion(BitMap([0, 5]), **changed)], lambda _: None)


def test_the_rows_that_are_named_count_as_memory() -> None:
    stored = np.full(4, 1 << 20, dtype=np.int64)
    few, many = (OnlyRows(stored, BitMap(range(0, 1 << 22, step))) for step in (1 << 12, 4))
    assert many.size_bytes - few.size_bytes == 8 * ((1 << 20) - (1 << 10))


def test_bitmaps_that_say_something_else() -> None:
    first, second = deletion(BitMap([0, 5])), deletion(BitMap([0, 6]))
    with pytest.raises(CorruptObjectError, match="the same row"):
        WithoutDeletions("k", ROWS, [first, second], lambda _: None).rows()
    with pytest.raises(CorruptObjectError, match="is gone"):
        WithoutDeletions("k", ROWS, [first._replace(vector=None)], lambda _: None).mask(0)
    later = WithoutDeletions("k", ROWS, [first._replace(vector=None)], lambda _: first.vector)
    assert np.flatnonzero(later.mask(0)).tolist() == [1, 2, 3]
    moved = deletion(BitMap([0, 5]), batch_counts=batch_counts(INDEX, BitMap([5, 6])))
    with pytest.raises(CorruptObjectError, match="3 rows of a batch are left where 4 were counted"):
        WithoutDeletions("k", ROWS, [moved], lambda _: None).mask(0)


@given(st.sets(st.integers(0, 29)))
def test_rows_that_are_taken(rows: set[int]) -> None:
    batch = pa.record_batch({"n": range(30), "s": [str(n) for n in range(30)]})
    wanted = np.array(sorted(rows), np.int64)
    result = take_rows(batch, wanted)
    assert result["n"].to_pylist() == sorted(rows)
    assert result["s"].to_pylist() == [str(n) for n in sorted(rows)]
    mask = np.isin(np.arange(30), wanted)
    assert masked_rows(batch, mask).equals(result)


@given(st.sets(st.integers(0, 699), max_size=40), st.booleans())
def test_what_is_left_of_a_batch(gone: set[int], listed: bool) -> None:
    # The second of two batches, so that rows of the segment are not those of the batch.
    stored = np.array([100, 600], np.int64)
    index = np.array([[0, 8, 8, count] for count in stored], "<i8").tobytes()
    bitmap = BitMap(gone)
    row = deletion(bitmap, batch_counts=batch_counts(index, bitmap))
    kept = sorted(set(range(100, 700)) - gone)
    batch = pa.record_batch({"n": range(100, 700), "s": [str(n) for n in range(100, 700)]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shown_rows, "_LISTED_ROWS", 1 << 20 if listed else -1)
        for selection in (
            WithoutDeletions("k", stored, [row] if gone else [], lambda _: None),
            OnlyRows(stored, BitMap(set(range(700)) - gone)),
        ):
            left = selection.left_of(1, batch)
            assert left["n"].to_pylist() == kept
            assert left["s"].to_pylist() == [str(n) for n in kept]


def test_neighbours_are_not_copied() -> None:
    batch = pa.record_batch({"n": range(30)})
    assert take_rows(batch, np.arange(30)) is batch
    part = take_rows(batch, np.arange(5, 9))
    assert part["n"].buffers()[1].address == batch["n"].buffers()[1].address
