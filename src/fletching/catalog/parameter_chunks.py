"""Values of one statement, as many at a time as a statement may bind.

SQLite binds 32,766 parameters in one statement and PostgreSQL 65,535; a few hundred cost no more for
each than thousands do, and leave room for the rest of the statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

__all__ = ["IN_LIMIT", "chunks"]

IN_LIMIT = 500
"""Most values in one ``IN (...)``."""

Value = TypeVar("Value")


def chunks(values: Iterable[Value]) -> Iterator[list[Value]]:
    """The values in their order, at most ``IN_LIMIT`` at a time; nothing of no values."""
    given = values if isinstance(values, list) else list(values)
    for start in range(0, len(given), IN_LIMIT):
        yield given[start : start + IN_LIMIT]
