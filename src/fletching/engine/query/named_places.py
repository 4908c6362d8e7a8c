"""The place of the name that a query's complaint is about, and the name that may have been meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from fletching.errors import InvalidArgumentError, ServiceError
from fletching.sql.dialect import exp
from fletching.sql.near_names import did_you_mean
from fletching.sql.query_sources import WantedScan, located

__all__ = ["placed_complaint"]

_NAMED = re.compile(r"(?:column|alias|named|called|field|window|name) ([^\s;,]+)")
_ABSENT = re.compile(r"^there is no (?:column|table or alias|field) ")


def placed_complaint(
    error: InvalidArgumentError, tree: exp.Expr, scans: Iterable[WantedScan]
) -> ServiceError:
    """An error of binding, with the place where the statement mentions the name that it is about.

    Args:
        error: what is said of it.
        tree: the query.
        scans: the tables that it reads, whose columns may have been meant.
    """
    match = _NAMED.search(error.message)
    if match is None:
        return error
    wanted = match[1].casefold()
    if _ABSENT.match(error.message):
        near = did_you_mean(wanted, dict.fromkeys(_known(error.message, tree, scans)))
        error = InvalidArgumentError(f"{error.message}{near}")
    for node in tree.find_all(exp.Identifier):
        if node.name.casefold() == wanted:
            return located(error, node)
    return error


def _known(message: str, tree: exp.Expr, scans: Iterable[WantedScan]) -> Iterator[str]:
    """The names that the statement could have mentioned."""
    if " alias " in message:
        yield from (scan.alias for scan in scans)
        yield from (node.alias for node in tree.find_all(exp.CTE, exp.Subquery) if node.alias)
        return
    for scan in scans:
        yield from (field.name for field in scan.source.fields.values())
    yield from (node.alias for node in tree.find_all(exp.Alias))
    for names in tree.find_all(exp.TableAlias):
        yield from (column.name for column in names.columns)
