"""What came in many small batches is read once, and kept within a bound."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from tests.engine.query.conftest import Sql

from fletching.engine.query import kept_rows
from fletching.engine.query.kept_rows import KeptRows


class Rows:
    """Batches that count how often they are read."""

    def __init__(self, *batches: pa.RecordBatch) -> None:
        self.batches = batches
        self.times = 0

    def begin(self) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        self.times += 1
        return self.batches[0].schema, iter(self.batches)


def batch(number: int, **columns: Any) -> pa.RecordBatch:
    return pa.record_batch({"n": [number], **columns})


def read_twice(kept: KeptRows, rows: Rows, key: object = 1) -> int:
    """How often two reads read; they give the same."""
    wanted = pa.Table.from_batches(rows.batches)
    for _ in range(2):
        schema, batches = kept.rows(key, rows.begin)
        assert pa.Table.from_batches(list(batches), schema).equals(wanted, check_metadata=True)
    return rows.times


def test_many_small_batches_are_read_once() -> None:
    kept = KeptRows()
    many = [batch(number) for number in range(kept_rows.LEAST_BATCHES)]
    assert read_twice(kept, Rows(*many)) == 1
    assert read_twice(kept, Rows(*many[1:]), key=2) == 2
    # Of a read that was not finished nothing is known.
    rows = Rows(*many)
    next(kept.rows(3, rows.begin)[1])
    assert read_twice(kept, rows, key=3) == 2


def test_what_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_rows, "LEAST_BATCHES", 1)
    kept = KeptRows()
    assert read_twice(kept, Rows(batch(1))) == 1
    coded = batch(1, d=pa.array(["a"]).dictionary_encode())
    assert read_twice(kept, Rows(coded), key=2) == 2
    monkeypatch.setattr(kept_rows, "MOST_OF_ONE", 8)
    assert read_twice(kept, Rows(batch(1), batch(2)), key=3) == 2
    monkeypatch.setattr(kept_rows, "SMALL_ROWS", 1)
    assert read_twice(kept, Rows(batch(1)), key=4) == 2


def test_each_version_has_its_own_rows(sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_rows, "LEAST_BATCHES", 2)
    sql("create table t (a bigint, b string)")
    for number in range(3):
        sql(f"insert into t values ({number}, 'x')")
    asked = "select sum(a), count(*) from t"
    for _ in range(2):
        assert sql.rows(asked) == [("3", "3")]
        assert sql.rows(f"{asked} where a > 1") == [("2", "1")]
        assert sql.rows(f"{asked} where a > 0") == [("3", "2")]
        assert sql.rows("select b, a from t where a = 1") == [("x", "1")]
    sql("delete from t where a = 1")
    assert sql.rows(asked) == [("2", "2")]
    sql("insert into t values (9, 'y')")
    assert sql.rows(asked) == [("11", "3")]
    assert sql.rows(f"{asked} version as of 3") == [("3", "3")]
    # Columns may change while the version does not.
    sql("alter table t add columns (c bigint); insert into t values (1, 'z', 5)")
    assert sql.rows("select sum(c), count(*) from t") == [("5", "4")]
    sql("alter table t drop columns c; alter table t add columns (c bigint)")
    assert sql.rows("select max(c), count(*) from t") == [(r"\N", "4")]
    sql("alter table t rename column b to z; alter table t rename column a to b")
    assert sql.rows("select sum(b) from t") == [("12",)]


def test_a_condition_is_what_it_computes_to(sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_rows, "LEAST_BATCHES", 2)
    sql("create table t (a bigint) partitioned by (pt string)")
    # At any moment it is one of these days in one of the zones, and the other in the other.
    west, east = "SET odps.sql.timezone=-11:00;", "SET odps.sql.timezone=+14:00;"
    today = "to_char(getdate(), 'yyyymmdd')"
    days = [sql.rows(f"{zone} select {today}")[0][0] for zone in (west, east)]
    for day, number in zip(days, (1, 10), strict=True):
        for _ in range(3):
            sql(f"insert into t partition (pt = '{day}') values ({number})")
    for zone, total in ((west, "3"), (east, "30"), (west, "3")):
        assert sql.rows(f"{zone} select sum(a) from t where pt = {today}") == [(total,)]


def test_what_is_kept_is_told_by_less_than_long_conditions(sql: Sql) -> None:
    keys: list[object] = []
    rows = KeptRows.rows

    def noting(self: KeptRows, key: object, begin: Any) -> Any:
        keys.append(key)
        return rows(self, key, begin)

    sql("create table t (a bigint); insert into t values (1)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KeptRows, "rows", noting)
        for last in (2000, 2001):
            listed = ", ".join(map(str, range(1000, last)))
            assert sql.rows(f"select count(*) from t where a in ({listed})") == [("0",)]
    first, second = keys
    assert first != second
    assert len(repr(first)) < 1000
