"""Tables: found whatever the case, locked, renamed, dropped, with every schema they had."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection
from tests.catalog.conftest import MakeSegment, MakeTable

from fletching.catalog.namespace_rows import ensure_project
from fletching.catalog.partition_rows import add_partition, list_partitions
from fletching.catalog.publishing import publish
from fletching.catalog.segment_rows import encode_partition
from fletching.catalog.table_rows import (
    add_schema_version,
    alter_table,
    drop_table,
    find_table,
    get_table,
    list_tables,
    lock_table,
    mark_keyed,
    rename_table,
    schema_history,
    table_by_id,
    tables_with_keys,
    tables_with_segments,
)
from fletching.errors import AlreadyExistsError, NoSuchProjectError, NoSuchTableError
from fletching.types import TableName


def test_a_table_is_found_whatever_the_case_of_its_name(
    rows: Connection, new_table: MakeTable
) -> None:
    row = new_table(
        "Events", partition_comments=["the day"], properties={"a": "b"}, lifecycle_days=3
    )
    assert find_table(rows, TableName("P", "eVENTS")) == row
    assert get_table(rows, TableName("P", "eVENTS")) == row
    assert table_by_id(rows, row.id) == row == lock_table(rows, row.id)
    assert row.partition_comments == ("the day",)
    assert (row.properties, row.lifecycle_days, row.version, row.keyed) == ({"a": "b"}, 3, 0, False)
    with pytest.raises(AlreadyExistsError):
        new_table("EVENTS", table_id="other")


def test_what_is_missing_is_named(rows: Connection) -> None:
    assert find_table(rows, TableName("p", "t")) is None
    with pytest.raises(NoSuchProjectError, match="project p"):
        get_table(rows, TableName("p", "t"))
    ensure_project(rows, "p", 0.0)
    with pytest.raises(NoSuchTableError, match=r"p\.default\.t"):
        get_table(rows, TableName("p", "t"))
    assert table_by_id(rows, "none") is None
    with pytest.raises(NoSuchTableError):
        lock_table(rows, "none")


def test_a_dropped_name_is_free_and_its_row_stays(rows: Connection, new_table: MakeTable) -> None:
    old = new_table("T")
    drop_table(rows, old.id, 9.0)
    assert find_table(rows, old.name) is None
    with pytest.raises(NoSuchTableError, match="dropped"):
        lock_table(rows, old.id)
    known = table_by_id(rows, old.id)
    assert known is not None
    assert known.dropped_at == 9.0
    assert new_table("T", table_id="again").id == "again"


def test_partitions_go_with_their_table_and_no_others(
    rows: Connection, new_table: MakeTable
) -> None:
    gone, stays = new_table("T"), new_table("S")
    for table in (gone, stays):
        assert add_partition(rows, table.id, encode_partition(["a"]), 1.0)
    drop_table(rows, gone.id, 2.0)
    assert list_partitions(rows, gone.id) == []
    assert [row.values for row in list_partitions(rows, stays.id)] == [("a",)]


def test_renaming_keeps_the_table_and_refuses_names_in_use(
    rows: Connection, new_table: MakeTable
) -> None:
    table = new_table("One")
    new_table("Two")
    with pytest.raises(AlreadyExistsError):
        rename_table(rows, table, "TWO")
    rename_table(rows, table, "ONE")  # only the case changes
    rename_table(rows, lock_table(rows, table.id), "Three")
    assert find_table(rows, TableName("p", "one")) is None
    assert get_table(rows, TableName("p", "three")).id == table.id


def test_every_schema_stays_known(rows: Connection, new_table: MakeTable) -> None:
    table = new_table("T", primary_key=["id"], keyed=False)
    add_schema_version(
        rows, table, arrow_schema=b"second", column_ids=[[1], [3], [2]], next_column_id=4, now=2.0
    )
    now = lock_table(rows, table.id)
    assert (now.schema_version, now.arrow_schema, now.next_column_id) == (2, b"second", 4)
    assert now.column_ids == ((1,), (3,), (2,))
    assert now.primary_key == ("id",)
    history = schema_history(rows, table.id)
    assert {number: row.arrow_schema for number, row in history.items()} == {
        1: b"schema",
        2: b"second",
    }
    assert tables_with_keys(rows) == []
    mark_keyed(rows, table.id)
    assert [row.id for row in tables_with_keys(rows)] == [table.id]


def test_alterations_are_seen(rows: Connection, new_table: MakeTable) -> None:
    table = new_table("T")
    alter_table(
        rows, table, 7.0, comment="new", owner="bob", properties={"x": "y"}, lifecycle_days=None
    )
    now = lock_table(rows, table.id)
    assert (now.comment, now.owner, now.properties, now.modified_at) == (
        "new",
        "bob",
        {"x": "y"},
        7.0,
    )


def test_pages_are_in_name_order(rows: Connection, new_table: MakeTable) -> None:
    for name in ("b1", "A2", "a1", "c%"):
        new_table(name)
    drop_table(rows, new_table("gone").id, 2.0)

    def names(prefix: str = "", marker: str = "", limit: int = 9) -> list[str]:
        page = list_tables(rows, "p", "default", prefix=prefix, marker=marker, limit=limit)
        return [row.name.name for row in page]

    assert names() == ["a1", "A2", "b1", "c%"]
    assert names(limit=2) == ["a1", "A2"]
    assert names(marker="A2") == ["b1", "c%"]
    assert names(prefix="A") == ["a1", "A2"]
    assert names(prefix="c%") == ["c%"]
    assert names(prefix="%") == []  # a sign of LIKE is a letter like others
    with pytest.raises(NoSuchProjectError):
        list_tables(rows, "none", "default", prefix="", marker="", limit=9)


def test_tables_with_many_segments_are_named(
    rows: Connection, new_table: MakeTable, new_segment: MakeSegment
) -> None:
    few, many = new_table("Few"), new_table("Many")
    publish(rows, lock_table(rows, few.id), [new_segment()], now=2.0)
    publish(rows, lock_table(rows, many.id), [new_segment(), new_segment()], now=2.0)
    assert [row.id for row in tables_with_segments(rows, at_least=2)] == [many.id]
    assert [row.id for row in tables_with_segments(rows, at_least=1)] == [few.id, many.id]
