"""Deletions: which rows are gone in a version, and that damage is never taken for none."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap
from sqlalchemy import Connection, true
from tests.catalog.conftest import MakeSegment, MakeTable

from fletching.catalog.deletion_rows import (
    INLINE_BYTES,
    MAX_SEGMENT_ROWS,
    all_deletions_of,
    batch_counts,
    bitmap_of,
    decode_vector,
    deleted_by_partition,
    deleted_counts,
    deleted_rows,
    deletions_of,
    every_deletion,
    insert_deletions,
    read_vector,
    remove_deletions,
    visible_deletions,
)
from fletching.catalog.publishing import publish
from fletching.catalog.segment_rows import visible_segments
from fletching.catalog.table_rows import lock_table
from fletching.errors import CorruptObjectError


def index(*rows: int) -> bytes:
    """A batch index of batches with so many rows."""
    return np.array(
        [[8 * number, 8, 8, count] for number, count in enumerate(rows)], "<i8"
    ).tobytes()


@dataclasses.dataclass
class Stored:
    table: str
    segment: int
    key: str
    index: bytes


@pytest.fixture
def stored(rows: Connection, new_table: MakeTable, new_segment: MakeSegment) -> Stored:
    """A table with one segment of 100,000 rows at version 1."""
    table = new_table()
    segment = dataclasses.replace(new_segment("a", 100_000), batch_index=index(40_000, 60_000))
    publish(rows, lock_table(rows, table.id), [segment], now=2.0)
    (row,) = visible_segments(rows, table.id, 1, None)
    return Stored(table.id, row.id, row.key, segment.batch_index)


def delete(rows: Connection, stored: Stored, version: int, gone: BitMap) -> int:
    insert_deletions(
        rows, stored.table, version, [(stored.segment, stored.key, stored.index, gone)]
    )
    return max(row.id for _, row in every_deletion(rows))


def test_each_version_shows_its_own(rows: Connection, stored: Stored) -> None:
    first = delete(rows, stored, 2, BitMap([0, 5]))
    delete(rows, stored, 3, BitMap([7]))
    remove_deletions(rows, [first], 4)

    def gone(version: int) -> set[int]:
        return set(deleted_rows(rows, visible_deletions(rows, stored.table, version)))

    assert [gone(version) for version in (1, 2, 3, 4)] == [set(), {0, 5}, {0, 5, 7}, {7}]
    assert [row.rows for row in deletions_of(rows, [stored.segment])[stored.segment]] == [1]
    assert [row.rows for row in deletions_of(rows, [stored.segment], 2)[stored.segment]] == [2]
    assert len(all_deletions_of(rows, [stored.segment])[stored.segment]) == 2
    assert deletions_of(rows, [stored.segment + 1]) == {}
    late = deletions_of(rows, [stored.segment], 3, after=2)[stored.segment]
    assert [row.rows for row in late] == [1]
    assert deletions_of(rows, [stored.segment], after=3) == {}
    assert deleted_counts(rows, [stored.segment, stored.segment + 1]) == {stored.segment: 1}
    assert list(deleted_by_partition(rows, true()).values()) == [1]


def test_large_vectors_are_fetched_by_themselves(rows: Connection, stored: Stored) -> None:
    many = BitMap(range(0, 100_000, 3))
    number = delete(rows, stored, 2, many)
    (row,) = visible_deletions(rows, stored.table, 2)
    data = read_vector(rows, number)
    assert row.vector is None
    assert data is not None
    assert len(data) > INLINE_BYTES
    assert deleted_rows(rows, [row]) == many
    assert read_vector(rows, number + 1) is None


def test_damage_is_never_taken_for_none(rows: Connection, stored: Stored) -> None:
    delete(rows, stored, 2, BitMap([1, 2, 3]))
    (row,) = visible_deletions(rows, stored.table, 2)
    assert row.vector is not None
    with pytest.raises(CorruptObjectError, match="checksum") as caught:
        decode_vector(row, row.vector[:-1] + b"!")
    assert caught.value.key == stored.key
    with pytest.raises(CorruptObjectError, match="names 3 rows where 4"):
        decode_vector(row._replace(rows=4), row.vector)
    with pytest.raises(CorruptObjectError, match="the same row"):
        deleted_rows(rows, [row, row])
    with pytest.raises(CorruptObjectError, match="is gone"):
        deleted_rows(rows, [row._replace(id=row.id + 1, vector=None)])


@pytest.mark.parametrize(
    ("gone", "counts"),
    [
        ([], []),
        ([0], [(0, 1)]),
        ([2, 3], [(0, 1), (2, 1)]),  # the second batch is empty
        ([0, 1, 2, 3, 4], [(0, 3), (2, 2)]),
        ([4], [(2, 1)]),
    ],
)
def test_counts_per_batch(gone: list[int], counts: list[tuple[int, int]]) -> None:
    result = np.frombuffer(batch_counts(index(3, 0, 2), BitMap(gone)), "<i4").reshape(-1, 2)
    assert [tuple(pair) for pair in result.tolist()] == counts


@given(st.lists(st.integers(0, MAX_SEGMENT_ROWS - 1)), st.sampled_from([np.uint32, np.int64]))
def test_a_bitmap_names_the_rows_of_an_array(rows: list[int], kind: Any) -> None:
    assert list(bitmap_of(np.array(rows, dtype=kind))) == sorted(set(rows))
    assert list(bitmap_of(np.array(rows, dtype=kind)[::2])) == sorted(set(rows[::2]))
