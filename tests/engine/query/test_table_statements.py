"""CREATE .. AS and LIKE, CLONE, missing columns and views: whole, or as if nothing had been said."""

from __future__ import annotations

from typing import Any

import pytest
from tests.engine.query.conftest import HERE, Sql

from fletching import faultpoints
from fletching.errors import StorageError
from fletching.protocol.messages.admin import DropTable
from fletching.protocol.messages.changes import RenameTable


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


MAKING = ["create table t as select a from src where a = 1", "clone table src to t"]


@pytest.mark.parametrize("text", MAKING)
def test_nobody_sees_a_table_before_its_rows_are_in_it(
    source: Sql, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    seen = []

    def look(point: str) -> None:
        if point == "table.filled":
            seen.append(source.rows("select table_exists('t')"))
            assert source.fails("select * from t").startswith("<Error><Code>NoSuchTable")
            assert "t" not in {line.split(":")[1] for line in source("show tables").splitlines()}

    monkeypatch.setattr(faultpoints, "reach", look)
    source(text)
    assert seen == [[("false",)]]
    assert source.rows("select table_exists('t'), max(a) from t")[0][0] == "true"


@pytest.mark.parametrize("text", [*MAKING, "create table if not exists t as select 1 as a"])
def test_another_of_the_name_stays(source: Sql, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """While the query ran, somebody has made a table of that name."""
    monkeypatch.setattr(
        faultpoints,
        "reach",
        lambda point: source("create table t (a int)") if point == "table.filled" else None,
    )
    if "not exists" in text:
        assert source.changed(text) == 0
    else:
        assert "already" in source.fails(text)
    assert source.rows("select a from t") == []


@pytest.mark.parametrize("text", MAKING)
def test_a_statement_whose_process_dies_is_run_again(
    source: Sql, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """What it leaves behind has another name, which nobody can give, and goes with retention."""

    def die(point: str) -> None:
        if point == "table.filled":
            raise InterruptedError

    call = source.house.engine.call
    with monkeypatch.context() as dying:
        dying.setattr(faultpoints, "reach", die)
        dying.setattr(
            source.house.engine,
            "call",
            lambda request: None if isinstance(request, DropTable) else call(request),
        )
        with pytest.raises(InterruptedError):
            source.instances.run(text, HERE)
    assert source.rows("select table_exists('t')") == [("false",)]
    source(text)
    assert source.rows("select max(a) > 0 from t") == [("true",)]
    engine = source.house.engine
    assert "abandoned table" not in engine.collect().counts()
    source.house.clock.now += engine.context.settings.write_session_seconds + 1
    assert engine.collect().counts()["abandoned table"] == 1
    assert source.rows("select max(a) > 0 from t") == [("true",)]


def test_a_lost_answer_is_asked_for_again(source: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table has got its name, and the catalog's answer is lost."""
    call = source.house.engine.call
    lost: list[Any] = []

    def losing(request: Any) -> Any:
        result = call(request)
        if isinstance(request, RenameTable) and not lost:
            lost.append(request)
            raise StorageError("the answer is lost")
        return result

    monkeypatch.setattr(source.house.engine, "call", losing)
    assert source.changed(MAKING[0]) == 1
    assert lost
    assert source.rows("select a from t") == [("1",)]
