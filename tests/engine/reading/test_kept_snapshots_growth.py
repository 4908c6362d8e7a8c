"""Grown snapshots: the same as one that is made anew, whatever came, went or was deleted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap
from tests.engine.reading.segment_rows_of import row

from fletching.catalog.deletion_rows import DeletionRow, batch_counts
from fletching.catalog.segment_rows import SegmentRow
from fletching.engine.reading import chunked_lists
from fletching.engine.reading.kept_snapshots import grow
from fletching.engine.reading.snapshot import Snapshot
from fletching.errors import CorruptObjectError

ARRAYS = [
    "segment_partition",
    "batch_segment",
    "offset",
    "metadata_length",
    "message_length",
    "stored_rows",
    "rows",
    "segment_kind",
    "row_start",
    "byte_start",
    "segment_start",
    "partition_batches",
]


def deletion(segment: SegmentRow) -> DeletionRow:
    """A deletion of a segment's first row."""
    vector = BitMap([0]).serialize()
    return DeletionRow(
        id=segment.id,
        segment_id=segment.id,
        segment_key=segment.key,
        rows=1,
        batch_counts=batch_counts(segment.batch_index, BitMap([0])),
        vector=vector,
        crc32c=crc32c(vector),
        added_version=1,
        removed_version=None,
    )


def same(grown: Snapshot, fresh: Snapshot) -> None:
    assert [each.id for each in grown.segments] == [each.id for each in fresh.segments]
    assert grown.partitions == fresh.partitions
    kinds = [grown.kinds[n] for n in grown.segment_kind.tolist()]
    assert kinds == [fresh.kinds[n] for n in fresh.segment_kind.tolist()]
    for name in ARRAYS:
        if name != "segment_kind":
            assert list(getattr(grown, name)) == list(getattr(fresh, name)), name
    assert set(grown.selections) == set(fresh.selections)
    for index, selection in grown.selections.items():
        assert selection.rows() == fresh.selections[index].rows()
    assert grown.has_deletions == fresh.has_deletions
    assert grown.size_bytes == fresh.size_bytes
    assert grown.row_count == fresh.row_count


@pytest.fixture(autouse=True)
def small_chunks() -> Iterator[None]:
    """Chunks that a few segments fill."""
    with mock.patch.object(chunked_lists, "CHUNK", 3):
        yield


batches = st.lists(st.integers(0, 5), max_size=3).map(tuple)
steps = st.lists(
    st.tuples(
        st.lists(
            st.tuples(st.sampled_from("abcd"), batches, st.sampled_from(["", "lz4"])), max_size=4
        ),
        st.lists(st.integers(0, 30), max_size=2),
        st.booleans(),
        st.lists(st.integers(0, 30), max_size=2),
    ),
    max_size=6,
)


@settings(max_examples=200)
@given(steps, st.booleans())
def test_a_grown_snapshot_is_the_one_that_is_made_anew(history: Any, partitioned: bool) -> None:
    segments: dict[int, SegmentRow] = {}
    deleted: dict[int, DeletionRow] = {}
    snapshot = Snapshot.of([])
    number = position = 0
    for added, removed, moved, lessened in history:
        new = []
        for partition, counts, codecs in added:
            number += 1
            position += 1
            # a compacted segment takes the place of what it replaces
            at = -number if moved else position
            new.append(row(number, at, partition if partitioned else "", counts, codecs))
        gone = [each for each in dict.fromkeys(removed) if each in segments]
        for each in gone:
            del segments[each]
        segments |= {each.id: each for each in new}
        for each in lessened:
            if each in segments and segments[each].rows:
                deleted[each] = deletion(segments[each])
        shown = [each for number, each in deleted.items() if number in segments]
        snapshot = grow(snapshot, new, gone, shown)
        same(snapshot, Snapshot.of(list(segments.values()), shown))


def test_what_is_grown_is_checked_like_the_rest() -> None:
    snapshot = Snapshot.of([row(1, 1)])
    with pytest.raises(CorruptObjectError):
        grow(snapshot, [row(2, 2)._replace(rows=7)])
    with pytest.raises(CorruptObjectError):
        grow(snapshot, [row(2, 2)._replace(batch_index=b"x")])


@pytest.mark.parametrize("count", [1, 200])
def test_few_and_many_segments_at_once(count: int) -> None:
    old = [row(n, n, "abc"[n % 3], (1, 2)) for n in range(1, 300)]
    new = [row(n, n, "abcd"[n % 4], (3,)) for n in range(300, 300 + count)]
    snapshot = Snapshot.of(old)
    _ = snapshot.byte_start
    same(grow(snapshot, new), Snapshot.of([*old, *new]))


def test_a_commit_leaves_nearly_all_of_a_large_snapshot_shared() -> None:
    with mock.patch.object(chunked_lists, "CHUNK", 4096):
        snapshot = Snapshot.of([row(n, n, f"{n % 100:03d}") for n in range(1, 40_001)])
        grown = grow(snapshot, [row(40_001, 40_001, "050")])
    for name in ARRAYS[:-1]:
        before, after = getattr(snapshot, name), getattr(grown, name)
        new = [
            chunk for chunk in after._chunks if not any(chunk is each for each in before._chunks)
        ]
        assert sum(len(chunk) for chunk in new) <= 2 * 4097, name
