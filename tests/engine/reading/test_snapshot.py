"""Snapshots: order, growth by what changed, and what they weigh."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fletching.catalog import segment_rows
from fletching.catalog.segment_rows import SegmentRow, encode_partition
from fletching.engine.reading.snapshot import Snapshot
from fletching.errors import CorruptObjectError
from fletching.types import RowRange

ARRAYS = [
    "segment_partition",
    "batch_segment",
    "offset",
    "metadata_length",
    "body_length",
    "stored_rows",
    "rows",
    "segment_kind",
    "row_start",
    "byte_start",
    "partition_batches",
]


def row(
    number: int,
    position: int,
    partition: str = "",
    batches: tuple[int, ...] = (1,),
    codecs: str = "",
) -> SegmentRow:
    index = np.array(
        [[100 * n + 8, 64, 8 * count, count] for n, count in enumerate(batches)], "<i8"
    )
    return SegmentRow(
        id=number,
        key=f"k{number}",
        partition=encode_partition([partition] if partition else []),
        rows=sum(batches),
        length=1000,
        batch_index=index.tobytes(),
        dictionary_index=b"",
        schema_version=1,
        codecs=codecs,
        added_version=position,
        position=position,
        crc32c=0,
        statistics=None,
    )


def same(grown: Snapshot, fresh: Snapshot) -> None:
    assert [each.id for each in grown.segments] == [each.id for each in fresh.segments]
    assert grown.partitions == fresh.partitions
    kinds = [grown.kinds[n] for n in grown.segment_kind.tolist()]
    assert kinds == [fresh.kinds[n] for n in fresh.segment_kind.tolist()]
    for name in ARRAYS:
        if name != "segment_kind":
            np.testing.assert_array_equal(getattr(grown, name), getattr(fresh, name), name)
    assert grown.size_bytes == fresh.size_bytes
    assert grown.row_count == fresh.row_count


batches = st.lists(st.integers(0, 5), max_size=3).map(tuple)
steps = st.lists(
    st.tuples(
        st.lists(
            st.tuples(st.sampled_from("abcd"), batches, st.sampled_from(["", "lz4"])), max_size=4
        ),
        st.lists(st.integers(0, 30), max_size=2),
        st.booleans(),
    ),
    max_size=6,
)


@settings(max_examples=200)
@given(steps, st.booleans())
def test_a_grown_snapshot_is_the_one_that_is_made_anew(history: Any, partitioned: bool) -> None:
    segments: dict[int, SegmentRow] = {}
    snapshot = Snapshot.of([])
    number = position = 0
    for added, removed, moved in history:
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
        snapshot = snapshot.grown(new, gone)
        same(snapshot, Snapshot.of(list(segments.values())))


def test_what_is_grown_is_checked_like_the_rest() -> None:
    snapshot = Snapshot.of([row(1, 1)])
    with pytest.raises(CorruptObjectError):
        snapshot.grown([row(2, 2)._replace(rows=7)])
    with pytest.raises(CorruptObjectError):
        snapshot.grown([row(2, 2)._replace(batch_index=b"x")])


def test_cover_names_the_batches_of_a_range() -> None:
    snapshot = Snapshot.of([row(1, 1, batches=(2, 0, 3)), row(2, 2, batches=(4,))])
    found = [(each.batch, each.start, each.end) for each in snapshot.cover(RowRange(1, 8))]
    assert found == [(0, 1, 2), (2, 0, 3), (3, 0, 3)]


# --- in a reader ---

SCHEMA = pa.schema([("id", pa.int64())])


def ids(*values: int) -> Any:
    return pa.record_batch([pa.array(values, pa.int64())], schema=SCHEMA)


def test_a_commit_makes_readers_load_what_it_changed_alone(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.create(SCHEMA)
    for number in range(5):
        house.append(ids(number))
    assert house.read()["id"].to_pylist() == [0, 1, 2, 3, 4]
    made: list[int] = []
    make = SegmentRow._make

    def counting(values: Any) -> SegmentRow:
        made.append(1)
        return make(values)

    monkeypatch.setattr(segment_rows.SegmentRow, "_make", counting)
    house.append(ids(5))
    assert house.read()["id"].to_pylist() == [0, 1, 2, 3, 4, 5]
    assert len(made) == 1


def test_what_retention_forgot_does_not_stay_in_a_grown_snapshot(
    open_house: Any, clock: Any
) -> None:
    """A snapshot that is older than the horizon is no base: what went since is not told any more."""
    house = open_house(removed_seconds=10.0, retain_seconds=10.0, read_session_seconds=10.0)
    house.create(SCHEMA)
    house.append(ids(1))
    assert house.read()["id"].to_pylist() == [1]
    house.append(ids(2), overwrite=True)
    clock.advance(100)
    house.engine.collect()
    house.append(ids(3))
    clock.advance(100)
    house.engine.collect()
    assert house.read()["id"].to_pylist() == [2, 3]
