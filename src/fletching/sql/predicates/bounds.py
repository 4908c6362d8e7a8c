"""What the least and greatest values of a segment's columns say about a comparison.

Every function here answers True when it cannot tell.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

__all__ = [
    "Bounds",
    "ColumnBounds",
    "ColumnPath",
    "May",
    "Physical",
    "has_nan",
    "has_nulls",
    "has_values",
    "may_begin_with",
    "may_compare",
    "may_equal_one",
]


class Physical(Protocol):
    """A value in the physical form of its column's type; those of one column compare with each other."""

    # What is compared has one type, but which one is only known from the column.
    def __lt__(self, other: Any, /) -> bool: ...
    def __le__(self, other: Any, /) -> bool: ...
    def __gt__(self, other: Any, /) -> bool: ...
    def __ge__(self, other: Any, /) -> bool: ...
    def __hash__(self) -> int: ...


ColumnPath = tuple[str, ...]
"""A column's name, then those of the struct fields that lead to a nested one."""


@dataclasses.dataclass(frozen=True, slots=True)
class ColumnBounds:
    """What is known of a column's values in a segment, in their physical form.

    Attributes:
        lower, upper: no value is below or above; None when that is not known.
        nulls: whether some value is null.
        values: whether some value is not null.
        unordered: whether some value compares with nothing (NaN).
    """

    lower: Physical | None = None
    upper: Physical | None = None
    nulls: bool = True
    values: bool = True
    unordered: bool = False


Bounds = Callable[[ColumnPath], ColumnBounds | None]
"""Looks up what is known of a column or nested field; None if nothing is."""

May = Callable[[Bounds], bool]


def may_compare(path: ColumnPath, operator: str, value: Physical, bounds: Bounds) -> bool:
    """Whether some value within the bounds compares so with ``value``."""
    known = bounds(path)
    if known is None:
        return True
    if not known.values:
        return False
    lower, upper = known.lower, known.upper
    above = lower is not None and lower > value
    below = upper is not None and upper < value
    match operator:
        case "==":
            return not (above or below)
        case "!=":
            return known.unordered or not (lower == value == upper)
        case "<":
            return lower is None or bool(lower < value)
        case "<=":
            return not above
        case ">":
            return upper is None or bool(upper > value)
        case _:
            return not below


def may_equal_one(path: ColumnPath, ordered: Sequence[Physical], bounds: Bounds) -> bool:
    """Whether one of some values, in ascending order, lies within the bounds."""
    known = bounds(path)
    if known is None:
        return True
    if not known.values or not ordered:
        return False
    start = 0 if known.lower is None else bisect.bisect_left(ordered, known.lower)
    return start < len(ordered) and (known.upper is None or bool(ordered[start] <= known.upper))


def has_values(path: ColumnPath) -> May:
    """Whether some value is not null."""

    def may(bounds: Bounds) -> bool:
        known = bounds(path)
        return known is None or known.values

    return may


def has_nulls(path: ColumnPath) -> May:
    """Whether some value is null."""

    def may(bounds: Bounds) -> bool:
        known = bounds(path)
        return known is None or known.nulls

    return may


def has_nan(path: ColumnPath) -> May:
    """Whether some value is not a number."""

    def may(bounds: Bounds) -> bool:
        known = bounds(path)
        return known is None or known.unordered

    return may


def may_begin_with(path: ColumnPath, prefix: str, bounds: Bounds) -> bool:
    """Whether some text within the bounds begins with ``prefix``."""
    known = bounds(path)
    if known is None:
        return True
    if not known.values:
        return False
    if known.upper is not None and known.upper < prefix:
        return False
    lower = known.lower
    return not isinstance(lower, str) or lower[: len(prefix)] <= prefix
