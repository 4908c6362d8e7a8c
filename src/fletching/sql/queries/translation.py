"""Queries of MaxCompute's dialect as DuckDB's SQL, and what they read of which tables.

A tree is prepared first (`preparation`): tables become numbered relations, views their queries; per relation
it is worked out which columns the query mentions and which of its conditions a scan can prune by; every
expression gets its type. Then it is written out by `duck_writer`, which knows MaxCompute's functions,
conversions and operators.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from fletching.errors import SqlSyntaxError
from fletching.sql.parsing.dialect import exp
from fletching.sql.queries.duck_writer import Writer
from fletching.sql.queries.preparation import Prepared
from fletching.sql.queries.query_sources import Resolve, WantedScan

__all__ = ["Translation", "translate"]

_RANDOM = ("random()", "uuid()")
"""What DuckDB computes anew for each row, as it is written for it."""


@dataclasses.dataclass(frozen=True)
class Translation:
    """A query for DuckDB and the relations that it reads.

    Attributes:
        sql: in DuckDB's dialect.
        scans: the relations.
        declared: by case-folded name, in their order, what the result's columns are told as where their
            values do not tell it; empty where they do. Not all columns, if not all are known.
        timed: whether the statement's moment is in it, so that another moment needs another one.
    """

    sql: str
    scans: tuple[WantedScan, ...]
    declared: tuple[tuple[str, str], ...] = ()
    timed: bool = False


def translate(
    query: exp.Expr,
    resolve: Resolve,
    *,
    now: str,
    zone: str = "",
    fold: Callable[[str], exp.Expr | None] | None = None,
) -> Translation:
    """Translates a query.

    Args:
        query: its tree; left as it is.
        resolve: looks tables and views up.
        now: the statement's moment as DuckDB's literal, as the clocks of its time zone show it.
        zone: the name of that zone; empty for UTC. Times of the relations are to be local as well.
        fold: computes a constant expression of DuckDB's SQL to a tree of a literal, or None.

    Raises:
        InvalidArgumentError: it uses a function, type or clause that is not known.
        FletchingError: as ``resolve``.
    """
    written: list[str] = []

    def folded(node: exp.Expr) -> exp.Expr | None:
        assert fold is not None
        sql = writer.write(node.copy())
        if any(call in sql for call in _RANDOM):
            return None  # it is another value for each row
        written.append(sql)
        return fold(sql)

    try:
        prepared = Prepared(query.copy(), resolve, local=bool(zone))
        writer = Writer(now, zone)
        prepared.push_down(None if fold is None else folded)
        sql = writer.write(prepared.query)
    except RecursionError as error:
        raise SqlSyntaxError("the statement nests too deeply") from error
    declared = (
        (name.partition("\0")[0], item.declaration()) for name, item in prepared.columns.items()
    )
    timed = any(now in text for text in (sql, *written))
    return Translation(sql, tuple(prepared.scans), tuple(declared), timed)
