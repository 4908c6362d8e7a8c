"""What a query reads: tables and views by name, in which version, and what each mention of a table needs of it.

A version stands behind a table's name: ``VERSION AS OF 12``, ``VERSION AS OF 'tag'``, ``TIMESTAMP AS OF '..'``.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Iterator, Mapping

import pyarrow as pa

from fletching.errors import FletchingError, InvalidArgumentError, ServiceError
from fletching.sql.parsing.dialect import LITERALS, exp
from fletching.sql.predicates.conditions import joined
from fletching.sql.predicates.predicate_compiler import Predicate
from fletching.types import TableName

__all__ = [
    "PATTERN",
    "Resolve",
    "Source",
    "SourceView",
    "TableMoment",
    "WantedScan",
    "located",
    "mentioned_tables",
    "table_moment",
]


_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclasses.dataclass(frozen=True)
class TableMoment:
    """A version by its number, by a tag, or as the newest at a moment; one of them is given."""

    version: int | None = None
    tag: str | None = None
    moment_us: int | None = None


def table_moment(node: exp.Expr) -> TableMoment | None:
    """What stands behind a table's name; None for the table as it is.

    Raises:
        InvalidArgumentError: it is no version, tag or moment.
    """
    if node.args.get("changes"):
        raise InvalidArgumentError("the changes of a table are not read by statements")
    written = node.args.get("version")
    if written is None:
        return None
    kind, value = str(written.args.get("kind")), written.expression
    if kind == "AS OF" and written.name == "VERSION" and isinstance(value, exp.Literal):
        if not value.is_string and not value.name.isdecimal():
            raise InvalidArgumentError("VERSION AS OF takes a version's number or a tag's name")
        if value.name.isdecimal():
            return TableMoment(version=int(value.name))
        return TableMoment(tag=value.name)
    if kind == "AS OF" and written.name == "TIMESTAMP":
        if isinstance(value, exp.Cast) and value.is_type(
            exp.DataType.Type.TIMESTAMP, exp.DataType.Type.DATETIME, exp.DataType.Type.TIMESTAMPLTZ
        ):
            value = value.this
        if isinstance(value, exp.Literal) and value.is_string:
            return TableMoment(moment_us=_microseconds(value.name))
        raise InvalidArgumentError("TIMESTAMP AS OF takes a text: '2026-01-31 12:00:00'")
    raise InvalidArgumentError("a table has VERSION AS OF or TIMESTAMP AS OF behind its name")


def _microseconds(text: str) -> int:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidArgumentError(
            f"{text[:60]!r} is no moment: TIMESTAMP AS OF takes '2026-01-31 12:00:00', UTC unless it"
            " has an offset"
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return (moment - _EPOCH) // dt.timedelta(microseconds=1)


_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Source:
    """A table that a query reads.

    Attributes:
        name: its name.
        fields: its columns, partition columns last, as filters see them; by case-folded name.
        target: whether it is the table that the statement changes, with its hidden columns.
        version: the version that is read; None for the newest.
    """

    name: TableName
    fields: Mapping[str, pa.Field]
    target: bool = False
    version: int | None = None


@dataclasses.dataclass(frozen=True)
class SourceView:
    """A view that a query reads: its own query, with the names of its columns."""

    name: TableName
    query: exp.Expr
    columns: tuple[str, ...] = ()


PATTERN = "fletching_pattern"
"""Key in the ``meta`` of a star: the regular expression that chooses among the columns."""

Resolve = Callable[[exp.Table], Source | SourceView]
"""Looks up what a table node names."""


@dataclasses.dataclass
class WantedScan:
    """One mention of a table in a query.

    Attributes:
        relation: its name in DuckDB's SQL.
        source: the table.
        alias: its name in the query.
        columns: the columns that the query mentions, in the table's order; at least one.
        predicate: what the scan can prune by, or None; the query asks it again.
        pushed: the conditions of the predicate, as written.
    """

    relation: str
    source: Source
    alias: str
    columns: tuple[str, ...] = ()
    predicate: Predicate | None = None
    pushed: list[str] = dataclasses.field(default_factory=list)
    _conditions: list[Predicate] = dataclasses.field(default_factory=list)

    def push(self, node: exp.Expr, predicate: Predicate) -> None:
        """Adds a condition that every wanted row fulfils."""
        self.pushed.append(_as_written(node))
        self._conditions.append(predicate)
        names = dict.fromkeys(name for item in self._conditions for name in item.columns)
        condition = joined([item.condition for item in self._conditions], all_of=True)
        self.predicate = Predicate(condition, tuple(names))


def _as_written(node: exp.Expr) -> str:
    """A condition as text, with the first values of a long list."""
    long = [item for item in node.find_all(exp.In) if item.meta.get(LITERALS)]
    # Not in a copy, which would have another list of a hundred thousand values.
    for item in long:
        listed = item.meta[LITERALS]
        shown = [exp.Literal(this=text, is_string=quoted) for text, quoted in listed[:_SHOWN]]
        item.set("expressions", [*shown, exp.Var(this=f".. {len(listed)} values")])
    try:
        return node.sql(dialect="hive")
    finally:
        for item in long:
            item.set("expressions", None)


def located(
    error: FletchingError, node: exp.Expr, kind: type[ServiceError] = InvalidArgumentError
) -> ServiceError:
    """An error with the line and column of what it is about, as far as they are known."""
    if " at line " in error.message:
        return kind(error.message)
    for part in node.walk():
        meta = part.meta
        if "line" in meta:
            # sqlglot counts to a token's last character.
            column = meta["col"] - (meta.get("end", 0) - meta.get("start", 0))
            return kind(f"{error.message}, at line {meta['line']}, column {column}")
    return kind(error.message)


def mentioned_tables(
    node: exp.Expr, known: frozenset[str] = frozenset()
) -> Iterator[tuple[exp.Table, bool]]:
    """The mentions of tables in a query, and whether each is of a query of WITH instead.

    A name of WITH stands for its query in what comes after it in the same WITH and in the query that the
    WITH belongs to, in its own query only if it is recursive: ``WITH t AS (SELECT * FROM t) SELECT * FROM t``
    reads the table once. The tree may be changed while it is walked, at the mentions that came already.

    Args:
        node: the query.
        known: the names of WITH around it, case-folded.
    """
    with_ = node.args.get("with_")
    if with_ is not None:
        for cte in with_.expressions:
            name = cte.alias.casefold()
            recursive = {name} if with_.args.get("recursive") else set()
            yield from mentioned_tables(cte.this, known | recursive)
            known |= {name}
    if isinstance(node, exp.Table):
        named = isinstance(node.this, exp.Identifier) and not node.db
        yield node, named and node.name.casefold() in known
    for value in list(node.args.values()):
        for child in list(value) if isinstance(value, list) else (value,):
            if isinstance(child, exp.Expression) and child is not with_:
                yield from mentioned_tables(child, known)
