"""What an operator is told: sums that are those of the rows, sessions that are open, nothing hidden twice."""

from __future__ import annotations

from sqlalchemy import Connection
from tests.catalog.conftest import MakeSegment, MakeTable

from fletching.catalog.blob_rows import NewPack, insert_pack
from fletching.catalog.overview_rows import (
    TableSize,
    count_removed,
    count_small,
    largest_tables,
    open_sessions,
    totals,
)
from fletching.catalog.publishing import publish
from fletching.catalog.read_session_rows import ReadSessionRow, insert_read_session
from fletching.catalog.table_rows import drop_table, lock_table
from fletching.catalog.write_session_rows import end_write_session, insert_write_session
from fletching.types import TableName


def fill(rows: Connection, table: str, *segments: object) -> None:
    publish(rows, lock_table(rows, table), list(segments), now=2.0)  # type: ignore[arg-type]


def test_tables_by_size(rows: Connection, new_table: MakeTable, new_segment: MakeSegment) -> None:
    for name in ("Small", "Large", "Gone", "Empty"):
        new_table(name)
    fill(rows, "small", new_segment(rows=2))
    fill(rows, "large", new_segment(rows=3), new_segment(rows=4))
    fill(rows, "gone", new_segment(rows=100))
    drop_table(rows, "gone", 3.0)
    large = TableSize(TableName("p", "Large"), 7, 70, 2)
    small = TableSize(TableName("p", "Small"), 2, 20, 1)
    empty = TableSize(TableName("p", "Empty"), 0, 0, 0)
    assert largest_tables(rows, 10) == [large, small, empty]
    assert largest_tables(rows, 1) == [large]
    pk = insert_write_session(
        rows, session_id="s", table_id="small", write_mode="batch", state="NORMAL",
        partition_spec=(), overwrite=False, enhance_write_check=False, flags={}, schema_version=1,
        now=1.0, expires_at=9.0,
    ).pk  # fmt: skip
    insert_pack(rows, NewPack("p", "key-p", "small", pk, 3, 300, 7), 1.0)
    assert totals(rows) == {
        "tables": 3, "rows": 9, "segments": 3, "bytes": 90, "packs": 1, "pack_bytes": 300,
    }  # fmt: skip


def test_an_empty_catalog_has_sums_of_nothing(rows: Connection) -> None:
    assert set(totals(rows).values()) == {0}
    assert (count_small(rows, 10, 1), count_removed(rows)) == ((0, 0), (0, 0))
    assert (largest_tables(rows, 5), open_sessions(rows, 0.0, 5)) == ([], [])


def test_small_segments_are_counted_where_there_are_many_of_them(
    rows: Connection, new_table: MakeTable, new_segment: MakeSegment
) -> None:
    new_table("Many")
    new_table("Few")
    fill(rows, "many", *(new_segment(rows=n) for n in (1, 2, 3, 90)))
    fill(rows, "few", new_segment(rows=1), new_segment(rows=90), new_segment(rows=90))
    assert count_small(rows, 40, 3) == (3, 60)
    assert count_small(rows, 30, 3) == (0, 0)  # a segment of 30 bytes is not below
    assert count_small(rows, 30, 2) == (2, 30)
    assert count_small(rows, 40, 1) == (4, 70)
    publish(rows, lock_table(rows, "many"), [], cleared_partitions=None, now=3.0)
    assert count_small(rows, 40, 1) == (1, 10)
    assert count_removed(rows) == (4, 960)
    drop_table(rows, "few", 4.0)
    assert count_small(rows, 40, 1) == (0, 0)


def test_open_sessions_oldest_first(rows: Connection, new_table: MakeTable) -> None:
    new_table()
    for name, created, expires in (("r1", 3.0, 10.0), ("r2", 1.0, 9.0)):
        insert_read_session(rows, ReadSessionRow(name, "t", 7, b"", None, created, expires))
    for name, created, expires in (("w1", 2.0, 10.0), ("w2", 4.0, 10.0), ("w3", 5.0, 9.0)):
        pk = insert_write_session(
            rows, session_id=name, table_id="t", write_mode="batch", state="NORMAL",
            partition_spec=(), overwrite=False, enhance_write_check=False, flags={},
            schema_version=1, now=created, expires_at=expires,
        ).pk  # fmt: skip
        if name == "w2":
            end_write_session(rows, pk, from_state="NORMAL", state="COMMITTED", now=5.0)
    sessions = open_sessions(rows, 8.0, 10)
    assert [(each.id, each.kind, each.version) for each in sessions] == [
        ("r2", "read", 7), ("w1", "write", None), ("r1", "read", 7), ("w3", "write", None),
    ]  # fmt: skip
    assert {each.table for each in sessions} == {TableName("p", "T")}
    assert [each.id for each in open_sessions(rows, 9.0, 10)] == ["w1", "r1"]
    assert [each.id for each in open_sessions(rows, 8.0, 1)] == ["r2", "w1"]
    (first, _) = open_sessions(rows, 9.0, 10)
    assert (first.created_at, first.expires_at) == (2.0, 10.0)
