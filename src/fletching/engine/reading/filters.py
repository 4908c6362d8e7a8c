"""Filter predicates of read sessions, bound to a table's columns."""

from __future__ import annotations

from collections.abc import Mapping

from fletching.engine.reading.columns import TableColumns
from fletching.engine.reading.rendering import RowFilter

__all__ = ["row_filter"]


def row_filter(
    text: str, columns: TableColumns, versions: Mapping[int, TableColumns]
) -> RowFilter | None:
    """The filter of a session; None for an empty predicate.

    Raises:
        InvalidArgumentError: the text is no predicate, or names an unknown column.
    """
    if not text.strip():
        return None
    raise NotImplementedError
