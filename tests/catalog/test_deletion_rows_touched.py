"""Which segments some versions touched: those that came or went, and those that lost rows or got them back."""

from __future__ import annotations

import numpy as np
import pytest
from pyroaring import BitMap
from sqlalchemy import Connection
from tests.catalog.conftest import MakeSegment, MakeTable

from fletching.catalog.deletion_rows import (
    every_deletion,
    insert_deletions,
    remove_deletions,
    touched_segments,
)
from fletching.catalog.publishing import publish
from fletching.catalog.segment_rows import visible_segments
from fletching.catalog.table_rows import lock_table


@pytest.fixture
def keys(rows: Connection, new_table: MakeTable, new_segment: MakeSegment) -> list[str]:
    """Segments of versions 1, 2 and 3; the third comes in place of the first two."""
    table = new_table()
    made = [new_segment("a", 5), new_segment("a", 5), new_segment("b", 5)]
    for segment in made[:2]:
        publish(rows, lock_table(rows, table.id), [segment], now=2.0)
    publish(rows, lock_table(rows, table.id), [made[2]], cleared_partitions=None, now=3.0)
    return [segment.key for segment in made]


@pytest.mark.parametrize(
    ("since", "until", "touched"),
    [(0, 1, [0]), (1, 2, [1]), (0, 2, [0, 1]), (2, 3, [0, 1, 2]), (3, 3, []), (3, 9, [])],
)
def test_segments_that_came_or_went(
    rows: Connection, keys: list[str], since: int, until: int, touched: list[int]
) -> None:
    result = touched_segments(rows, "t", since, until)
    assert sorted(each.row.key for each in result) == sorted(keys[n] for n in touched)
    assert touched_segments(rows, "other", since, until) == []


def test_the_whole_history_of_a_segment_is_told(rows: Connection, keys: list[str]) -> None:
    (last,) = visible_segments(rows, "t", 3, None)
    assert last.key == keys[2]
    index = np.array([[0, 8, 8, 5]], "<i8").tobytes()
    insert_deletions(rows, "t", 5, [(last.id, last.key, index, BitMap([1]))])
    insert_deletions(rows, "t", 6, [(last.id, last.key, index, BitMap([2, 3]))])
    numbers = {row.added_version: row.id for _, row in every_deletion(rows)}
    remove_deletions(rows, [numbers[5]], 8)
    assert touched_segments(rows, "t", 3, 4) == []
    assert touched_segments(rows, "t", 6, 7) == []
    for since, until in ((4, 5), (5, 6), (7, 8)):
        (touched,) = touched_segments(rows, "t", since, until)
        assert touched.row.key == keys[2]
        assert touched.versions() == {3, 5, 6, 8}
        assert len(touched.deletions) == 2
        assert touched.removed_version is None


def test_visible_from_its_coming_to_its_going(rows: Connection, keys: list[str]) -> None:
    touched = {each.row.key: each for each in touched_segments(rows, "t", 0, 3)}
    assert [[touched[key].visible(v) for v in range(5)] for key in keys] == [
        [False, True, True, False, False],
        [False, False, True, False, False],
        [False, False, False, True, True],
    ]
    assert touched[keys[1]].versions() == {2, 3}
