"""Segments: what a version shows, in which order, and fast."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from fletching.catalog import partition_rows as catalog_partitions
from fletching.catalog import table_rows as catalog_tables
from fletching.catalog.database import Database
from fletching.catalog.namespace_rows import ensure_project
from fletching.catalog.publishing import publish, replace_segments
from fletching.catalog.segment_rows import (
    MAX_SEGMENTS_PER_COMMIT,
    decode_partition,
    encode_partition,
    position_in,
    visible_partitions,
    visible_segments,
)
from fletching.catalog.table_rows import TableRow
from fletching.catalog.write_stream_rows import NewSegment
from fletching.errors import LimitExceededError, NoSuchTableError
from fletching.types import TableName

NUMBERS = itertools.count()


@pytest.fixture
def connection(any_database: Database) -> Iterator[Connection]:
    with any_database.trial() as connection:
        yield connection


def make_table(connection: Connection) -> str:
    ensure_project(connection, "p", 0.0)
    row = catalog_tables.insert_table(
        connection, table_id="t", name=TableName("p", "T"), partition_columns=[("pt", "string")],
        arrow_schema=b"", column_ids=[], next_column_id=1, owner="", comment="", properties={},
        primary_key=[], lifecycle_days=None, now=0.0,
    )  # fmt: skip
    return row.id


def segment(partition: str = "a", rows: int = 1) -> NewSegment:
    return NewSegment(
        key=f"k{next(NUMBERS)}", partition=encode_partition([partition]), schema_version=1,
        rows=rows, length=10 * rows, crc32c=7, batch_index=b"i", dictionary_index=b"", codecs="",
    )  # fmt: skip


def table(connection: Connection) -> TableRow:
    return catalog_tables.lock_table(connection, "t")


def keys(
    connection: Connection, version: int, partitions: list[tuple[str, ...]] | None = None
) -> list[str]:
    return [row.key for row in visible_segments(connection, "t", version, partitions)]


def test_versions_show_what_was_added_and_not_yet_removed(connection: Connection) -> None:
    make_table(connection)
    a, b, c, d = segment("a"), segment("b"), segment("a", 5), segment("c")
    assert publish(connection, table(connection), [a, b], now=1.0) == 1
    cleared = [encode_partition(["a"])]
    assert publish(connection, table(connection), [c], cleared_partitions=cleared, now=2.0) == 2
    assert publish(connection, table(connection), [d], cleared_partitions=None, now=3.0) == 3
    assert keys(connection, 0) == []
    assert keys(connection, 1) == [a.key, b.key]
    assert keys(connection, 2) == [b.key, c.key]
    assert keys(connection, 3) == [d.key]
    assert keys(connection, 1, [("b",)]) == [b.key]
    assert keys(connection, 1, []) == []
    assert keys(connection, 1, [("b",), ("nope",)]) == [b.key]
    assert visible_partitions(connection, "t", 2) == [(("a",), 5, 50), (("b",), 1, 10)]
    row = table(connection)
    assert (row.version, row.rows, row.bytes, row.segments) == (3, 1, 10, 1)
    totals = {
        p.values: (p.rows, p.bytes) for p in catalog_partitions.list_partitions(connection, "t")
    }
    assert totals == {("a",): (0, 0), ("b",): (0, 0), ("c",): (1, 10)}


def test_a_merged_segment_takes_the_first_ones_place(connection: Connection) -> None:
    make_table(connection)
    first, second, third, fourth = (segment() for _ in range(4))
    for each in (first, second, third, fourth):
        publish(connection, table(connection), [each], now=1.0)
    rows = visible_segments(connection, "t", 4)
    merged = segment(rows=2)
    ids = [row.id for row in rows[1:3]]
    assert replace_segments(
        connection, table(connection), ids, merged, kept=[1, 1], read_version=4, now=2.0
    )
    assert keys(connection, 5) == [first.key, merged.key, fourth.key]
    assert keys(connection, 4) == [first.key, second.key, third.key, fourth.key]
    again = segment(rows=2)
    assert not replace_segments(
        connection, table(connection), ids, again, kept=[1, 1], read_version=5, now=3.0
    )
    assert keys(connection, 5) == [first.key, merged.key, fourth.key]
    row = table(connection)
    assert (row.version, row.rows, row.bytes, row.segments) == (5, 4, 40, 3)


def test_many_partitions_and_segments(connection: Connection) -> None:
    make_table(connection)
    names = [f"p{number}" for number in range(1200)]
    publish(connection, table(connection), [segment(name) for name in names], now=1.0)
    wanted = [(name,) for name in names[::2]]
    visible = visible_segments(connection, "t", 1, wanted)
    assert [decode_partition(row.partition) for row in visible] == wanted
    cleared = [encode_partition([name]) for name in names]
    publish(connection, table(connection), [], cleared_partitions=cleared, now=2.0)
    assert keys(connection, 2) == []
    assert table(connection).rows == 0


@settings(max_examples=200)
@given(st.lists(st.text(max_size=20), max_size=4))
def test_partition_texts_round_trip(values: list[str]) -> None:
    text = encode_partition(values)
    assert decode_partition(text) == tuple(values)


@given(
    st.lists(st.text(max_size=3), min_size=1, max_size=3),
    st.lists(st.text(max_size=3), min_size=1, max_size=3),
)
def test_partition_texts_differ_when_the_values_do(left: list[str], other: list[str]) -> None:
    assert (encode_partition(left) == encode_partition(other)) == (left == other)


def test_positions_order_by_commit_then_place() -> None:
    assert position_in(1, MAX_SEGMENTS_PER_COMMIT - 1) < position_in(2, 0)
    assert position_in(1, 0) < position_in(1, 1)
    with pytest.raises(LimitExceededError):
        position_in(1, MAX_SEGMENTS_PER_COMMIT)


def test_names_are_found_whatever_their_case(connection: Connection) -> None:
    make_table(connection)
    assert catalog_tables.get_table(connection, TableName("P", "t", "DEFAULT")).name.name == "T"
    catalog_tables.drop_table(connection, "t", 1.0)
    with pytest.raises(NoSuchTableError):
        catalog_tables.get_table(connection, TableName("p", "T"))
    with pytest.raises(NoSuchTableError):
        catalog_tables.lock_table(connection, "t")
