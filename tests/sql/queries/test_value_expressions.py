"""Expressions over one row: the table's columns by whatever case, in DuckDB's words, and nothing more."""

from __future__ import annotations

import pytest

from fletching.errors import FletchingError, InvalidArgumentError
from fletching.sql.queries.value_expressions import MAX_EXPRESSION_TEXT, compile_expression

COLUMNS = {"id": "Id", "name": "name"}


@pytest.mark.parametrize(
    ("text", "duckdb", "columns"),
    [
        ("1", "(1)", ()),
        ("ID + 1", '("Id" + 1)', ("Id",)),
        ("t.id + T.Name", '("Id" + "name")', ("Id", "name")),
        ("`id`", '("Id")', ("Id",)),
        ("NULL", "(NULL)", ()),
    ],
)
def test_columns_are_the_table_s(text: str, duckdb: str, columns: tuple[str, ...]) -> None:
    result = compile_expression(text, COLUMNS, table="t")
    assert (result.duckdb, result.columns) == (duckdb, columns)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"), ("  ", "is empty"), ("other", "no column 'other'"), ("u.id", "not a column of table t"),
        ("sum(id)", "no expression over the columns of one row"), ("(select 1)", "one row"),
        ("row_number() over (order by id)", "one row"), ("x" * (MAX_EXPRESSION_TEXT + 1), "are allowed"),
    ],
)  # fmt: skip
def test_what_is_none(text: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        compile_expression(text, COLUMNS, table="t")


@pytest.mark.parametrize("text", ["id +", "id; drop table t", "*", "id = 1 --"])
def test_nothing_gets_out_of_its_parentheses(text: str) -> None:
    with pytest.raises(FletchingError):
        compile_expression(text, COLUMNS, table="t")
