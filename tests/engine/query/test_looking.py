"""SHOW and DESC: everything that there is, as far as the caller may see it, over pages."""

from __future__ import annotations

from typing import Any

import pytest
from tests.engine.query.conftest import Sql

from fletching.engine.query import looking
from fletching.errors import NoPermissionError
from fletching.protocol.messages.admin import ListTables, TablePage
from fletching.protocol.messages.requests import Request


@pytest.fixture
def filled(sql: Sql, monkeypatch: pytest.MonkeyPatch) -> Sql:
    """Names and partitions that take several pages."""
    monkeypatch.setattr(looking, "_PAGE", 2)
    for name in ("alpha", "Beta", "gamma"):
        sql(f"create table {name} (a int)")
    sql("create view vi as select 1 as x")
    sql("create table parts (a int) partitioned by (pt string, hh bigint)")
    for pt, hh in (("b", 2), ("a", 10), ("a", 2), ("c", 1), ("a", 3)):
        sql(f"alter table parts add partition (pt='{pt}', hh={hh})")
    return sql


def names(text: str) -> list[str]:
    return sorted(line.split(":")[1] for line in text.splitlines())


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("show tables", ["Beta", "alpha", "gamma", "parts", "vi"]),
        ("show tables like '*a'", ["Beta", "alpha", "gamma"]),
        ("show tables in demo", ["Beta", "alpha", "gamma", "parts", "vi"]),
        ("show views", ["vi"]),
    ],
)
def test_tables(filled: Sql, statement: str, expected: list[str]) -> None:
    assert names(filled(statement)) == sorted(expected)


def test_partitions_in_value_order(filled: Sql) -> None:
    assert filled("show partitions parts").splitlines() == [
        "pt=a/hh=10", "pt=a/hh=2", "pt=a/hh=3", "pt=b/hh=2", "pt=c/hh=1",
    ]  # fmt: skip
    below = filled("show partitions parts partition (pt='a')").splitlines()
    assert set(below) == {"pt=a/hh=10", "pt=a/hh=2", "pt=a/hh=3"}
    assert "has no partitions" in filled.fails("show partitions alpha")
    assert "there is no partition" in filled.fails("desc parts partition (pt='z', hh=1)")


def test_functions_and_flags_and_schemas(filled: Sql) -> None:
    listed = filled("show functions").splitlines()
    assert listed == sorted(listed)
    assert {"abs", "sum", "concat"} <= set(listed)
    assert filled("show functions like 'con*'").splitlines()[0].startswith("con")
    assert filled("set a.b=1; set c=x; show flags").splitlines() == ["a.b=1", "c=x"]
    assert "default" in filled("show schemas").splitlines()


def test_history_is_told_newest_first(filled: Sql) -> None:
    filled("insert into alpha values (1), (2)")
    filled("delete from alpha where a = 1")
    header, *lines = filled("show history for table alpha").splitlines()
    assert header.split("\t") == ["version", "time", "operation", "inserted", "deleted"]
    entries = [line.split("\t") for line in lines]
    assert [(row[0], row[3], row[4]) for row in entries[:2]] == [("2", "0", "1"), ("1", "2", "0")]


def test_nobody_sees_more_than_they_may(filled: Sql) -> None:
    def authorize(request: Request) -> None:
        if not isinstance(request, ListTables):
            raise NoPermissionError("not for you")

    def visible(page: Any) -> Any:
        assert isinstance(page, TablePage)
        kept = [info for info in page.tables if info.table.name == "gamma"]
        return TablePage(tables=tuple(kept), marker=page.marker)

    limits = {"authorize": authorize, "visible": visible}
    assert names(filled("show tables", **limits)) == ["gamma"]
    for statement in (
        "desc gamma",
        "show partitions parts",
        "show create table gamma",
        "show schemas",
    ):
        assert "not for you" in filled.fails(statement, **limits)


def test_names_belong_to_what_there_is(open_house: Any) -> None:
    sql = Sql(open_house(create_projects=False))
    sql("create schema s")
    for statement, message in (
        ("use nowhere", "nowhere"),
        ("use nowhere.s", "nowhere"),
        ("use demo.t", "no schema t in project demo"),
        ("use schema t", "no schema t in project demo"),
    ):
        assert message in sql.fails(statement)
    sql("use demo; use demo.S; use schema default; use schema s")


def test_a_project_may_come_into_being_by_use(sql: Sql) -> None:
    sql("use other; create table t (x bigint); use schema default")
    assert sql.rows("select x from other.t") == []
    assert "no schema s in project another" in sql.fails("use another.s")
