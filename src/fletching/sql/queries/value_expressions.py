"""Expressions over one row, as an update has them: parsed, checked, and in DuckDB's words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from fletching.errors import InvalidArgumentError
from fletching.sql.functions.function_lookup import AGGREGATES
from fletching.sql.parsing.dialect import exp, parse_predicate

__all__ = ["MAX_EXPRESSION_TEXT", "ValueExpression", "compile_expression"]

MAX_EXPRESSION_TEXT = 64 * 1024
"""Longest expression, in characters."""

_NOT_OF_A_ROW = (
    exp.Query,
    exp.AggFunc,
    exp.Window,
    exp.Star,
    exp.Placeholder,
    exp.Parameter,
    exp.UDTF,
    exp.Command,
)


@dataclasses.dataclass(frozen=True, slots=True)
class ValueExpression:
    """An expression that may be evaluated for each row of a table.

    Attributes:
        duckdb: the expression in DuckDB's SQL; columns are quoted.
        columns: the columns that it mentions, as the table spells them.
    """

    duckdb: str
    columns: tuple[str, ...]


def compile_expression(text: str, columns: Mapping[str, str], *, table: str) -> ValueExpression:
    """Reads an expression.

    Args:
        text: SQL, as it stands behind SET column =.
        columns: the table's columns: case-folded name to the name.
        table: the table's name, with which columns may be qualified.

    Raises:
        InvalidArgumentError: it is no expression of one row, or names an unknown column.
    """
    if len(text) > MAX_EXPRESSION_TEXT:
        raise InvalidArgumentError(
            f"an expression has {len(text)} characters; {MAX_EXPRESSION_TEXT} are allowed"
        )
    if not text.strip():
        raise InvalidArgumentError("an expression is empty; NULL is a value")
    # Every expression may stand where a condition may: the grammar tells them apart by nothing.
    node = parse_predicate(f"({text})")
    used: dict[str, None] = {}
    for result in node.walk():
        # Functions are kept by their names, aggregates among them.
        called = isinstance(result, exp.Anonymous) and result.name.lower() in AGGREGATES
        if called or isinstance(result, _NOT_OF_A_ROW):
            raise InvalidArgumentError(
                f"{text[:200]!r} is no expression over the columns of one row"
            )
    for column in list(node.find_all(exp.Column)):
        if column.table and column.table.casefold() != table.casefold():
            raise InvalidArgumentError(f"{column.sql()[:200]} is not a column of table {table}")
        name = columns.get(column.name.casefold())
        if name is None:
            raise InvalidArgumentError(f"table {table} has no column {column.name[:200]!r}")
        used[name] = None
        column.replace(exp.column(exp.to_identifier(name, quoted=True)))
    return ValueExpression(node.sql(dialect="duckdb"), tuple(used))
