"""Splits: together the whole, in order, without overlap, the same in every process."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fletching.catalog.segment_rows import SegmentRow, encode_partition
from fletching.engine.reading.snapshot import Snapshot
from fletching.engine.reading.splits import (
    MAX_PARALLELISM,
    MIN_GRID_BYTES,
    Scope,
    Splits,
    check_options,
    count_splits,
)
from fletching.errors import CorruptObjectError, InvalidArgumentError
from fletching.protocol.messages.requests import SplitOptions
from fletching.protocol.messages.vocabulary import SplitMode
from fletching.types import RowRange


def segment(number: int, batches: list[tuple[int, int]], partition: str = "") -> SegmentRow:
    """A segment of (rows, bytes) batches."""
    offset = 100
    index = b""
    for rows, length in batches:
        index += struct.pack("<4q", offset, 8, length - 8, rows)
        offset += length
    return SegmentRow(
        id=number,
        key=f"s{number}",
        partition=encode_partition([partition] if partition else []),
        rows=sum(rows for rows, _ in batches),
        length=offset + 50,
        batch_index=index,
        dictionary_index=b"",
        schema_version=1,
        codecs="",
        added_version=1,
        position=number,
        crc32c=0,
        statistics=None,
    )


def ranges(splits: Splits, snapshot: Snapshot) -> list[RowRange]:
    return [splits.rows(index, snapshot) for index in range(splits.count)]


def test_size_packs_whole_batches_up_to_the_bytes() -> None:
    snapshot = Snapshot.of([segment(1, [(10, 40), (10, 40), (10, 40)]), segment(2, [(5, 200)])])
    splits = Splits(SplitOptions(split_number=80), snapshot, grid=False)
    assert ranges(splits, snapshot) == [RowRange(0, 20), RowRange(20, 30), RowRange(30, 35)]
    assert Splits(SplitOptions(split_number=1), snapshot, grid=False).count == 4
    assert Splits(SplitOptions(split_number=1 << 40), snapshot, grid=False).count == 1


def test_row_offset_and_parallelism() -> None:
    snapshot = Snapshot.of([segment(1, [(10, 40)] * 10)])
    by_rows = SplitOptions(split_mode=SplitMode.ROW_OFFSET, split_number=30)
    assert ranges(Splits(by_rows, snapshot, grid=False), snapshot) == [
        RowRange(0, 30),
        RowRange(30, 60),
        RowRange(60, 90),
        RowRange(90, 100),
    ]
    three = SplitOptions(split_mode=SplitMode.PARALLELISM, split_number=3)
    assert ranges(Splits(three, snapshot, grid=False), snapshot) == [
        RowRange(0, 30),  # 33 is nearest to the boundary at 30
        RowRange(30, 70),
        RowRange(70, 100),
    ]
    one_batch = Snapshot.of([segment(1, [(90, 40)])])
    assert ranges(Splits(three, one_batch, grid=False), one_batch) == [
        RowRange(0, 30),
        RowRange(30, 60),
        RowRange(60, 90),
    ]


def test_an_absurd_row_count_costs_nothing() -> None:
    snapshot = Snapshot.of([segment(1, [(1 << 40, 40)])])
    by_rows = SplitOptions(split_mode=SplitMode.ROW_OFFSET, split_number=1)
    splits = Splits(by_rows, snapshot, grid=False)
    assert splits.count == 1 << 40
    assert splits.rows(splits.count - 1, snapshot) == RowRange((1 << 40) - 1, 1 << 40)


def test_an_empty_snapshot_has_no_splits_but_as_many_as_parallelism_asks_for() -> None:
    empty = Snapshot.of([])
    for mode, count in (
        (SplitMode.SIZE, 0),
        (SplitMode.ROW_OFFSET, 0),
        (SplitMode.PARALLELISM, 4),
    ):
        for cross in (True, False):
            options = SplitOptions(split_mode=mode, split_number=4, cross_partition=cross)
            assert Splits(options, empty, grid=False).count == count
            assert sum(count_splits(options, [Scope(0, 0)])) == count
    four = SplitOptions(split_mode=SplitMode.PARALLELISM, split_number=4)
    assert ranges(Splits(four, empty, grid=False), empty) == [RowRange(0, 0)] * 4


@pytest.mark.parametrize("index", [-1, 1, 10**12])
def test_a_split_outside_is_refused(index: int) -> None:
    snapshot = Snapshot.of([segment(1, [(10, 40)])])
    with pytest.raises(InvalidArgumentError, match="there is no split"):
        Splits(SplitOptions(), snapshot, grid=False).rows(index, snapshot)


@pytest.mark.parametrize(
    "options",
    [
        SplitOptions(split_number=0),
        SplitOptions(split_number=-5),
        SplitOptions(split_mode=SplitMode.BUCKET),
        SplitOptions(split_mode=SplitMode.PARALLELISM, split_number=MAX_PARALLELISM + 1),
    ],
)
def test_options_that_mean_nothing_are_refused(options: SplitOptions) -> None:
    with pytest.raises(InvalidArgumentError):
        check_options(options)


def test_a_damaged_index_is_reported() -> None:
    good = segment(1, [(10, 40)])
    with pytest.raises(CorruptObjectError) as error:
        Snapshot.of([good._replace(batch_index=good.batch_index[:-1])])
    assert error.value.key == "s1"
    with pytest.raises(CorruptObjectError):
        Snapshot.of([segment(2, [(3, 40)]), good._replace(rows=11)])


# (rows, bytes) of batches, by segment, by partition
_batches = st.lists(st.tuples(st.integers(0, 50), st.integers(16, 3 * MIN_GRID_BYTES)), max_size=6)
_partitions = st.lists(st.lists(_batches, max_size=4), max_size=4)
_options = st.builds(
    SplitOptions,
    split_mode=st.sampled_from([SplitMode.SIZE, SplitMode.ROW_OFFSET, SplitMode.PARALLELISM]),
    split_number=st.one_of(st.integers(1, 70), st.integers(1, 20 * MIN_GRID_BYTES)).filter(bool),
    cross_partition=st.booleans(),
)


@settings(deadline=None)
@given(partitions=_partitions, options=_options, grid=st.booleans(), order=st.randoms())
def test_splits_are_the_whole_in_order(
    partitions: list[Any], options: SplitOptions, grid: bool, order: Any
) -> None:
    if options.split_mode is SplitMode.PARALLELISM and options.split_number > MAX_PARALLELISM:
        options = SplitOptions(
            split_mode=SplitMode.PARALLELISM,
            split_number=options.split_number % 50 + 1,
            cross_partition=options.cross_partition,
        )
    rows = [
        segment(10 * index + number, batches, f"p{index}")
        for index, segments in enumerate(partitions)
        for number, batches in enumerate(segments)
    ]
    shuffled = list(rows)
    order.shuffle(shuffled)
    snapshot = Snapshot.of(shuffled)
    assert list(snapshot.segments) == rows
    splits = Splits(options, snapshot, grid=grid)
    result = ranges(splits, snapshot)

    edge = 0
    for split in result:
        assert split.start == edge
        edge = split.end
    assert edge == snapshot.row_count or not result
    assert result or snapshot.row_count == 0

    ends = {int(snapshot.row_start[batch]) for batch in snapshot.partition_batches}
    if not options.cross_partition:
        for split in result:
            assert not any(split.start < end < split.end for end in ends)
    if options.split_mode is SplitMode.SIZE:
        starts = set(snapshot.row_start.tolist())
        assert all(split.start in starts for split in result)
        if not grid:
            assert all(split.length for split in result)
    # What is counted from totals is what is found from the batches.
    if options.split_mode is not SplitMode.SIZE or grid:
        scopes = [
            Scope(
                sum(row.rows for row in rows if row.partition == encode_partition([name])),
                sum(row.length for row in rows if row.partition == encode_partition([name])),
            )
            for name in sorted({f"p{index}" for index, item in enumerate(partitions) if item})
        ]
        if options.cross_partition or not scopes:
            scopes = [Scope(sum(s.rows for s in scopes), sum(s.bytes for s in scopes))]
        assert sum(count_splits(options, scopes)) == splits.count


@settings(deadline=None)
@given(partitions=_partitions, number=st.integers(1, 5 * MIN_GRID_BYTES))
def test_a_split_by_size_exceeds_its_bytes_only_by_one_batch(
    partitions: list[Any], number: int
) -> None:
    rows = [
        segment(10 * index + n, batches, f"p{index}")
        for index, segments in enumerate(partitions)
        for n, batches in enumerate(segments)
    ]
    snapshot = Snapshot.of(rows)
    splits = Splits(SplitOptions(split_number=number), snapshot, grid=False)
    for split in ranges(splits, snapshot):
        covered = [item.batch for item in snapshot.cover(split)]
        size = sum(int(snapshot.message_length[batch]) for batch in covered)
        assert size <= number or len(covered) == 1
