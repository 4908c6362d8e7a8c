"""Filter predicates of read sessions, bound to a table's columns."""

from __future__ import annotations

from fletching.engine.reading.rendering import RowFilter
from fletching.engine.reading.shapes import Shape

__all__ = ["row_filter"]


def row_filter(text: str, shape: Shape) -> RowFilter | None:
    """The filter of a session; None for an empty predicate.

    Raises:
        InvalidArgumentError: the text is no predicate, or names an unknown column.
    """
    if not text.strip():
        return None
    raise NotImplementedError
