"""What names mean somewhere in a query: the columns of its sources, of the queries around it and of WITH."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from fletching.sql.functions.sql_types import UNKNOWN, SqlType

__all__ = ["Columns", "Scope", "field_of"]

Columns = dict[str, SqlType]
"""Types by case-folded column name, in the columns' order."""


@dataclasses.dataclass
class Scope:
    """What names mean somewhere in a query."""

    outer: Scope | None = None
    sources: dict[str, Columns] = dataclasses.field(default_factory=dict)
    names: Columns = dataclasses.field(default_factory=dict)
    ctes: dict[str, Columns] = dataclasses.field(default_factory=dict)

    def column(self, parts: Sequence[str]) -> SqlType:
        """The type of a column, or of a field inside one, as its name is written."""
        scope: Scope | None = self
        while scope is not None:
            sql_type = scope.own(parts)
            if sql_type is not None:
                return sql_type
            scope = scope.outer
        return UNKNOWN

    def has(self, parts: Sequence[str]) -> bool:
        """Whether there is such a column, or a source whose columns are not known."""
        scope: Scope | None = self
        while scope is not None:
            if scope.own(parts) is not None or not all(scope.sources.values()):
                return True
            scope = scope.outer
        return False

    def own(self, parts: Sequence[str]) -> SqlType | None:
        """As `column`, in this scope alone; None if it has no such name."""
        first = parts[0]
        if len(parts) > 1 and first in self.sources and parts[1] in self.sources[first]:
            return field_of(self.sources[first][parts[1]], parts[2:])
        if first in self.names:
            return field_of(self.names[first], parts[1:])
        matches = [columns[first] for columns in self.sources.values() if first in columns]
        if not matches:
            return None
        return (
            field_of(matches[0], parts[1:])
            if all(item == matches[0] for item in matches)
            else UNKNOWN
        )

    def cte(self, name: str) -> Columns | None:
        """The columns of a query of WITH."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.ctes:
                return scope.ctes[name]
            scope = scope.outer
        return None


def field_of(sql_type: SqlType, path: Sequence[str]) -> SqlType:
    """The type of a field inside a value, by the names on the way to it."""
    for name in path:
        sql_type = sql_type.field(name)
    return sql_type
