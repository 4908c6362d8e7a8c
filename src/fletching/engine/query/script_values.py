"""What a script knows before a query is opened: its variables, and what the catalog says of partitions."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from fletching.errors import InvalidArgumentError, NoSuchProjectError, NoSuchTableError
from fletching.protocol.messages.admin import DescribeTable, ListPartitions, PartitionInfo, pages
from fletching.protocol.messages.requests import Reply_co, Request
from fletching.sql.functions.function_lookup import FOLDED
from fletching.sql.parsing.dialect import exp
from fletching.sql.parsing.near_names import did_you_mean
from fletching.sql.queries.query_sources import located
from fletching.sql.statements.statement_kinds import Namespace
from fletching.sql.statements.table_definitions import table_name
from fletching.types import TableName

__all__ = [
    "Calls",
    "as_literal",
    "fold_catalog_calls",
    "variable_name",
    "variable_of",
    "with_values",
]

Authorize = Callable[[Request], None]

_DEPTH = 16
"""Variables that may stand in each other's values, one inside the other."""

_PAGE = 1000


class Calls(Protocol):
    """The engine's verbs for values."""

    def call(self, request: Request[Reply_co]) -> Reply_co:
        """Answers a request."""


# --- variables -------------------------------------------------------------------------------


def variable_name(node: exp.Expr) -> str | None:
    """The name of the variable that stands in a table's place."""
    if isinstance(node.this, exp.Parameter):
        name: str = node.this.name.casefold()
        return name
    return None


def variable_of(variables: Mapping[str, exp.Expr], name: str) -> exp.Expr:
    """The query of a variable.

    Raises:
        InvalidArgumentError: there is none of this name.
    """
    result = variables.get(name)
    if result is None:
        near = did_you_mean(name, variables)
        raise InvalidArgumentError(f"there is no variable @{name}{near}")
    return result


def with_values(tree: exp.Expr, variables: Mapping[str, exp.Expr], depth: int = 0) -> exp.Expr:
    """A query with what its variables stand for: ``WHERE id = @id``. Those that stand for tables stay.

    Raises:
        InvalidArgumentError: there is no such variable, or it stands in its own value.
    """
    if not any(not isinstance(item.parent, exp.Table) for item in tree.find_all(exp.Parameter)):
        return tree
    if depth > _DEPTH:
        raise InvalidArgumentError("variables nest too deeply, or contain themselves")

    def replace(node: exp.Expr) -> exp.Expr:
        if not isinstance(node, exp.Parameter) or isinstance(node.parent, exp.Table):
            return node
        query = with_values(variable_of(variables, node.name.casefold()), variables, depth + 1)
        plain = isinstance(query, exp.Select) and not any(
            value for key, value in query.args.items() if key != "expressions"
        )
        if plain and len(query.expressions) == 1:
            value = query.expressions[0]
            return exp.Paren(this=(value.this if isinstance(value, exp.Alias) else value).copy())
        return exp.Subquery(this=query.copy())

    return tree.copy().transform(replace)


# --- the catalog -----------------------------------------------------------------------------


def fold_catalog_calls(
    tree: exp.Expr, namespace: Namespace, calls: Calls, authorize: Authorize
) -> exp.Expr:
    """A query with the answers of max_pt, table_exists and partition_exists in their places.

    Raises:
        InvalidArgumentError: an argument that has to be a constant is none, or a table has no partitions.
        NoSuchTableError: there is no such table; table_exists says so instead.
        NoPermissionError: ``authorize`` refused.
    """
    if not any(call.name.lower() in FOLDED for call in tree.find_all(exp.Anonymous)):
        return tree
    catalog = _Catalog(namespace, calls, authorize)

    def replace(node: exp.Expr) -> exp.Expr:
        if not isinstance(node, exp.Anonymous) or node.name.lower() not in FOLDED:
            return node
        try:
            return catalog.answer(node)
        except (InvalidArgumentError, NoSuchTableError) as error:
            raise located(error, node, type(error)) from error

    return tree.copy().transform(replace)


class _Catalog:
    def __init__(self, namespace: Namespace, calls: Calls, authorize: Authorize) -> None:
        self._namespace = namespace
        self._calls = calls
        self._authorize = authorize

    def answer(self, node: exp.Expr) -> exp.Expr:
        """What a call stands for, as a literal."""
        name, arguments = node.name.lower(), node.expressions
        texts = [
            item.name for item in arguments if isinstance(item, exp.Literal) and item.is_string
        ]
        if name == "partition_exists":
            if len(texts) != len(arguments) or len(texts) < 2:
                raise InvalidArgumentError(
                    "partition_exists takes the name of a table and the values of its partition columns"
                )
            return exp.Boolean(this=self._has(texts[0], texts[1:]))
        if len(texts) != len(arguments) or len(texts) != 1:
            raise InvalidArgumentError(f"{name} takes the name of a table")
        return (
            exp.Boolean(this=self._exists(texts[0]))
            if name == "table_exists"
            else self._max(texts[0])
        )

    def _table(self, text: str) -> TableName:
        return table_name(exp.to_table(text, dialect="hive"), self._namespace)

    def _exists(self, text: str) -> bool:
        request = DescribeTable(table=self._table(text))
        self._authorize(request)
        try:
            self._calls.call(request)
        except (NoSuchTableError, NoSuchProjectError):
            return False
        return True

    def _partition_columns(self, table: TableName) -> list[str]:
        request = DescribeTable(table=table)
        self._authorize(request)
        info = self._calls.call(request)
        names = [column.name for column in info.schema.partition_columns]
        if not names:
            raise InvalidArgumentError(f"{table} has no partitions")
        return names

    def _has(self, text: str, values: list[str]) -> bool:
        table = self._table(text)
        names = self._partition_columns(table)
        if len(names) != len(values):
            raise InvalidArgumentError(
                f"partition_exists takes a value for each of {', '.join(names)}, and got {len(values)}"
            )
        wanted = list(zip(names, values, strict=True))
        return any(
            [(name.casefold(), value) for name, value in info.partition]
            == [(name.casefold(), value) for name, value in wanted]
            for info in self._partitions(table)
        )

    def _max(self, text: str) -> exp.Expr:
        """The greatest partition that has rows; null if none has."""
        table = self._table(text)
        self._partition_columns(table)
        for info in self._partitions(table):
            if info.rows:
                return exp.Literal.string(next(iter(info.partition))[1])
        return exp.Null()

    def _partitions(self, table: TableName) -> Iterator[PartitionInfo]:
        """All partitions, the greatest first."""
        request = ListPartitions(table=table, reverse=True, max_items=_PAGE)
        self._authorize(request)
        for page in pages(self._calls.call, request):
            yield from page.partitions


def as_literal(value: object) -> exp.Expr | None:
    """A computed constant as a literal of the dialect, or None."""
    match value:
        case bool():
            return exp.Boolean(this=value)
        case int():
            return exp.Literal.number(value)
        case str():
            return exp.Literal.string(value)
        case dt.datetime():
            text = value.replace(tzinfo=None).isoformat(" ")
            return exp.cast(exp.Literal.string(text), exp.DataType.Type.TIMESTAMP)
        case dt.date():
            return exp.cast(exp.Literal.string(value.isoformat()), exp.DataType.Type.DATE)
    return None
