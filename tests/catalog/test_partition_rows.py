"""Partitions: totals that add up, and pages in the order of values."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection
from tests.catalog.conftest import MakeSegment, MakeTable

from fletching.catalog.partition_rows import (
    add_partition,
    change_totals,
    find_partition,
    find_partitions,
    list_partitions,
    page_of_partitions,
    partition_names,
    remove_partition,
    sort_key,
    touch_partition,
    unmodified_partitions,
)
from fletching.catalog.publishing import publish
from fletching.catalog.segment_rows import encode_partition
from fletching.catalog.table_rows import lock_table

VALUES = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), max_size=4)


@given(st.lists(VALUES, min_size=2, max_size=2), st.lists(VALUES, min_size=2, max_size=2))
def test_sort_keys_compare_as_values_do(left: list[str], right: list[str]) -> None:
    def order(values: list[str]) -> list[bytes]:
        return [value.encode() for value in values]

    keys = sort_key(encode_partition(left)), sort_key(encode_partition(right))
    assert (keys[0] < keys[1]) == (order(left) < order(right))
    assert (keys[0] == keys[1]) == (left == right)


def test_totals_add_up_and_partitions_come_by_themselves(
    rows: Connection, new_table: MakeTable
) -> None:
    table = new_table()
    a, b = encode_partition(["a"]), encode_partition(["b"])
    assert add_partition(rows, table.id, a, 1.0)
    assert not add_partition(rows, table.id, a, 2.0)
    change_totals(rows, table.id, {}, 3.0)
    change_totals(rows, table.id, {b: (5, 50), a: (1, 10)}, 3.0)
    change_totals(rows, table.id, {b: (-2, -20)}, 4.0)
    change_totals(rows, table.id, {a: (0, 7)}, 9.0, modified=False)
    partition = find_partition(rows, table.id, ("b",))
    assert partition is not None
    assert (partition.rows, partition.bytes, partition.created_at, partition.modified_at) == (
        3,
        30,
        3.0,
        4.0,
    )
    partition = find_partition(rows, table.id, ("a",))
    assert partition is not None
    assert (partition.rows, partition.bytes, partition.created_at, partition.modified_at) == (
        1,
        17,
        1.0,
        3.0,
    )
    assert find_partition(rows, table.id, ("c",)) is None
    touch_partition(rows, table.id, a, 20.0)
    assert unmodified_partitions(rows, table.id, before=20.0, limit=9) == [b]
    assert unmodified_partitions(rows, table.id, before=21.0, limit=9) == [b, a]
    assert unmodified_partitions(rows, table.id, before=21.0, limit=1) == [b]
    remove_partition(rows, table.id, b)
    assert [row.values for row in list_partitions(rows, table.id)] == [("a",)]


def test_many_are_found_by_their_values(rows: Connection, new_table: MakeTable) -> None:
    table = new_table()
    values = [(f"{number:04}",) for number in range(1100)]
    change_totals(rows, table.id, {encode_partition(item): (1, 1) for item in values}, 1.0)
    partitions = find_partitions(rows, table.id, [*values, ("none",), values[0]])
    assert [row.values for row in partitions] == values
    assert find_partitions(rows, table.id, []) == []


def test_names_are_those_of_a_version_too(
    rows: Connection, new_table: MakeTable, new_segment: MakeSegment
) -> None:
    table = new_table()
    publish(rows, lock_table(rows, table.id), [new_segment("b"), new_segment("a")], now=2.0)
    publish(
        rows, lock_table(rows, table.id), [], cleared_partitions=[encode_partition(["a"])], now=3.0
    )
    remove_partition(rows, table.id, encode_partition(["a"]))
    assert partition_names(rows, table.id, 1) == [("a",), ("b",)]
    assert partition_names(rows, table.id, 2) == [("b",)]


@pytest.fixture
def grid(rows: Connection, new_table: MakeTable) -> str:
    """The id of a table with 3 x 3 partitions, and one value that begins another."""
    table = new_table(
        partition_columns=[("d", "string"), ("h", "string")], column_ids=[[1], [2], [3]]
    )
    names = [(d, h) for d in "abc" for h in ("0", "1", "2")] + [("aa", "1")]
    change_totals(rows, table.id, {encode_partition(item): (1, 1) for item in names}, 1.0)
    return table.id


def pages(
    rows: Connection, table: str, wanted: dict[int, str], *, limit: int, reverse: bool = False
) -> list[tuple[str, ...]]:
    results: list[tuple[str, ...]] = []
    while page := page_of_partitions(
        rows,
        table,
        wanted=wanted,
        marker=results[-1] if results else None,
        limit=limit,
        reverse=reverse,
    ):
        results += [row.values for row in page]
    return results


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_pages_follow_each_other_in_the_order_of_values(
    rows: Connection, grid: str, limit: int
) -> None:
    everything = pages(rows, grid, {}, limit=limit)
    assert everything == sorted(everything)
    assert len(everything) == 10
    assert pages(rows, grid, {}, limit=limit, reverse=True) == everything[::-1]
    assert pages(rows, grid, {0: "a"}, limit=limit) == [("a", "0"), ("a", "1"), ("a", "2")]
    assert pages(rows, grid, {1: "1"}, limit=limit) == [
        ("a", "1"),
        ("aa", "1"),
        ("b", "1"),
        ("c", "1"),
    ]
    first = page_of_partitions(rows, grid, wanted={1: "1"}, marker=None, limit=limit)
    assert len(first) == min(limit, 4)
    assert pages(rows, grid, {0: "b", 1: "2"}, limit=limit) == [("b", "2")]
    assert pages(rows, grid, {0: "x"}, limit=limit) == []


@settings(max_examples=20)
@given(marker=st.tuples(VALUES, VALUES))
def test_any_marker_is_a_place_in_the_order(marker: tuple[str, str]) -> None:
    # Without a database: what a page begins behind is a comparison of keys.
    names = [(d, h) for d in "abc" for h in "012"]
    key = sort_key(encode_partition(marker))
    behind = [item for item in names if sort_key(encode_partition(item)) > key]
    assert behind == [item for item in names if item > marker]
