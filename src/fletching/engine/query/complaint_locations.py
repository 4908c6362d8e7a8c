"""The place of the name that a complaint is about, and the name that may have been meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from fletching.engine.query.script_values import Calls
from fletching.errors import FletchingError, InvalidArgumentError, NoSuchTableError, ServiceError
from fletching.protocol.messages.admin import ListTables, TablePage
from fletching.protocol.messages.requests import Request
from fletching.sql.parsing.dialect import exp
from fletching.sql.parsing.near_names import did_you_mean
from fletching.sql.queries.query_sources import WantedScan, located
from fletching.types import DEFAULT_SCHEMA

__all__ = ["located_complaint", "with_near_tables"]

_NAMED = re.compile(r"(?:column|alias|named|called|field|window|name) ([^\s;,]+)")
_LISTED = 10_000
"""Tables of a schema that are looked at."""

_ABSENT = re.compile(r"^there is no (?:column|table or alias|field) ")


def located_complaint(
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


class Lists(Protocol):
    """What looks tables up for whoever runs a statement."""

    @property
    def authorize(self) -> Callable[[Request], None]:
        """Raises for what may not be asked."""

    @property
    def visible(self) -> Callable[[TablePage], TablePage]:
        """Leaves out of a reply what the caller may not know of."""

    @property
    def verbs(self) -> Calls:
        """Answers requests."""


_NO_TABLE = re.compile(r"there is no (?:table|view) ([^\s,;]+)")


def with_near_tables(error: NoSuchTableError, run: Lists) -> NoSuchTableError:
    """An error about a table that is not there, with those of its schema that may have been meant.

    Only names that the caller may see are told. Cost: a listing of the schema's first tables.
    """
    match = _NO_TABLE.search(error.message)
    parts = match[1].split(".") if match is not None else []
    if match is None or len(parts) not in {2, 3} or "did you mean" in error.message:
        return error
    project, name = parts[0], parts[-1]
    schema = parts[1] if len(parts) == 3 else DEFAULT_SCHEMA
    request = ListTables(project=project, schema=schema, max_items=_LISTED)
    try:
        run.authorize(request)
        page = run.visible(run.verbs.call(request))
    except FletchingError:
        return error  # whoever may not list them hears no names
    near = did_you_mean(name, (info.table.name for info in page.tables))
    message = error.message[: match.end()] + near + error.message[match.end() :]
    return NoSuchTableError(message, http_status=error.http_status, code=error.code)


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
