"""Variables of scripts, and what the catalog says of partitions, stand for their values in queries."""

from __future__ import annotations

from typing import Any

import pytest
from tests.engine.query.conftest import Sql

from fletching.engine.query.script_values import variable_name, variable_of, with_values
from fletching.errors import InvalidArgumentError
from fletching.sql.parsing.dialect import exp


@pytest.fixture
def parts(sql: Sql) -> Sql:
    sql("create table t (a int) partitioned by (pt string)")
    for value in ("20260101", "20260102"):
        sql(f"insert into t partition (pt='{value}') values (1)")
    sql("alter table t add partition (pt='20260103')")  # without rows
    return sql


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("select max_pt('t')", [("20260102",)]),
        ("select MAX_PT('demo.t')", [("20260102",)]),
        ("select pt from t where pt = max_pt('t')", [("20260102",)]),
        ("select partition_exists('t', '20260103')", [("true",)]),
        ("select partition_exists('t', '2026')", [("false",)]),
        ("select table_exists('t'), table_exists('nothing')", [("true", "false")]),
    ],
)
def test_the_catalog_is_asked(parts: Sql, query: str, rows: list[tuple[str, ...]]) -> None:
    assert [tuple(cell.casefold() for cell in row) for row in parts.rows(query)] == rows


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("select max_pt(1)", "takes the name of a table"),
        ("select max_pt('t', 'x')", "takes the name of a table"),
        ("select max_pt('nothing')", "nothing"),
        ("select partition_exists('t')", "values of its partition columns"),
        ("select partition_exists('t', 'a', 'b')", "got 2"),
        ("select max_pt('plain')", "has no partitions"),
    ],
)
def test_what_it_is_not_asked_so(parts: Sql, query: str, words: str) -> None:
    parts("create table plain (a int)")
    assert words in parts.fails(query)


def test_a_table_without_rows_has_no_greatest_partition(sql: Sql) -> None:
    sql("create table t (a int) partitioned by (pt string)")
    assert sql.rows("select max_pt('t') is null") == [("True",)] or sql.rows(
        "select cast(max_pt('t') is null as int)"
    ) == [("1",)]


def value(number: Any) -> Any:
    return exp.select(exp.Literal.number(number))


def parameter(name: str) -> Any:
    return exp.Parameter(this=exp.to_identifier(name))


def test_a_variable_stands_for_its_query() -> None:
    tree = exp.select(parameter("X")).from_("t")
    assert with_values(tree, {"x": value(5)}).sql() == "SELECT (5) FROM t"
    inner = exp.select("a").from_("u")
    assert with_values(tree, {"x": inner}).sql() == "SELECT (SELECT a FROM u) FROM t"
    chained = {"x": exp.select(exp.Add(this=parameter("y"), expression=exp.Literal.number(1))),
               "y": value(2)}  # fmt: skip
    assert with_values(tree, chained).sql() == "SELECT ((2) + 1) FROM t"
    plain = exp.select("a")
    assert with_values(plain, {}) is plain


def test_variables_that_mean_nothing() -> None:
    tree = exp.select(parameter("x"))
    with pytest.raises(InvalidArgumentError, match="no variable @x"):
        with_values(tree, {})
    with pytest.raises(InvalidArgumentError, match="contain themselves"):
        with_values(tree, {"x": exp.select(parameter("x"))})
    with pytest.raises(InvalidArgumentError, match="total"):
        variable_of({"total": value(1)}, "totl")


def test_a_variable_in_a_table_s_place_is_named() -> None:
    assert variable_name(exp.Table(this=parameter("Rows"))) == "rows"
    assert variable_name(exp.to_table("t")) is None
