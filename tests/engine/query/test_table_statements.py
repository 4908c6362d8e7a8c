"""CREATE .. AS and LIKE, CLONE, missing columns and views: whole, or as if nothing had been said."""

from __future__ import annotations

from typing import Any

import pytest
from tests.engine.query.conftest import Sql

from fletching.engine.query import table_statements
from fletching.errors import InvalidArgumentError


@pytest.fixture
def source(sql: Sql) -> Sql:
    sql("create table src (a bigint comment 'first', s string) comment 'mine' "
        "partitioned by (pt string comment 'day') lifecycle 5")  # fmt: skip
    sql("insert into src partition (pt='x') values (1, 'one')")
    sql("insert into src partition (pt='y') values (2, 'two')")
    return sql


def test_a_table_of_a_query(source: Sql) -> None:
    assert source.changed("create table t as select a + 1 as b, pt from src") == 2
    assert sorted(source.rows("select b, pt from t")) == [("2", "x"), ("3", "y")]
    assert "already" in source.fails("create table t as select 1 as x")
    assert source.changed("create table if not exists t as select 1 as x") == 0
    assert len(source.rows("select * from t")) == 2


def test_a_table_whose_query_fails_is_not_there(source: Sql) -> None:
    source.fails(
        "create table t as select cast(s as bigint) / 0 + a as x, error('no') as y from src"
    )
    source.fails("create table t as select nothing from src")
    assert "t" not in {line.split(":")[1] for line in source("show tables").splitlines()}


@pytest.mark.parametrize(
    "text",
    [
        "create table other.made as select 1 as x",
        "create or replace view other.made as select 1 as x",
        "create view other.made as select 1 as x",
        "create table other.made like src",
        "clone table src to other.made",
        "create table other.made (x bigint)",
    ],
)
def test_a_project_comes_into_being_with_what_is_made_in_it(source: Sql, text: str) -> None:
    assert source.rows("select table_exists('other.made')") == [("false",)]
    source("drop view if exists other.made; drop table if exists other.made")
    source(text)
    assert source.rows("select table_exists('other.made')") == [("true",)]


def test_a_table_like_another_is_empty(source: Sql) -> None:
    source("create table t like src lifecycle 9")
    made = source("show create table t")
    for words in ("COMMENT 'first'", "COMMENT 'mine'", "COMMENT 'day'", "LIFECYCLE 9"):
        assert words in made
    assert source.rows("select count(*) from t") == [("0",)]
    source("create table if not exists t like src")


def test_clones(source: Sql) -> None:
    assert source.changed("clone table src to t") == 2
    assert sorted(source.rows("select a, s, pt from t")) == [("1", "one", "x"), ("2", "two", "y")]
    assert "already" in source.fails("clone table src to t")
    assert source.changed("clone table src to t if exists ignore") == 0
    source("delete from src where a = 1")
    source("insert into src partition (pt='y') values (3, 'three')")
    assert source.changed("clone table src partition (pt='y') to t if exists overwrite") == 2
    assert ("3", "three", "y") in source.rows("select a, s, pt from t")


def test_only_columns_that_are_missing_are_added(source: Sql) -> None:
    source("alter table src add columns if not exists (S string, late double)")
    source("alter table src add columns if not exists (late double, pt string)")
    assert [line.split()[0] for line in source("desc src").splitlines() if line.startswith("  ")] == [
        "a", "s", "late", "pt",
    ]  # fmt: skip


def test_views(source: Sql) -> None:
    source("create view v (number, day) as select a, pt from src where a > 1")
    assert source.rows("select number, day from v") == [("2", "y")]
    assert "1 columns, its query has 2" in source.fails(
        "create view w (x) as select a, pt from src"
    )
    source.fails("create view w as select nothing from src")
    source("create or replace view v as select 7 as number")
    assert source.rows("select * from v") == [("7",)]
    assert "DROP TABLE drops it" in source.fails("drop view src")
    assert "is a table" in source.fails("create or replace view src as select 1 as x")
    source("drop view v")
    source.fails("drop view v")
    source("drop view if exists v")
    assert len(source.rows("select * from src")) == 2


@pytest.mark.parametrize(
    "other", ["insert into t values (7)", "drop table t; create table t (a int)"]
)
def test_a_statement_that_fails_takes_nothing_back_that_is_of_others(
    source: Sql, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """While its query ran, somebody has filled the table that it made, or made another in its place."""

    def failing(*_: Any, **__: Any) -> Any:
        source(other)
        raise InvalidArgumentError("a value does not fit")

    monkeypatch.setattr(table_statements, "stage_rows", failing)
    assert "does not fit" in source.fails("create table t as select a from src where a = 1")
    monkeypatch.undo()
    expected = [("7",)] if "insert" in other else []
    assert source.rows("select a from t") == expected
