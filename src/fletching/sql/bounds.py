"""What the least and greatest values of a segment's columns say about a comparison.

Every function here answers True when it cannot tell.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

__all__ = [
    "Bounds",
    "ColumnBounds",
    "May",
    "fixed_prefix",
    "has_values",
    "may_begin_with",
    "may_compare",
]


@dataclasses.dataclass(frozen=True, slots=True)
class ColumnBounds:
    """What is known of a column's values in a segment, in their physical form.

    Attributes:
        lower, upper: no value is below or above; None when that is not known.
        nulls: whether some value is null.
        values: whether some value is not null.
        unordered: whether some value compares with nothing (NaN).
    """

    lower: Any = None
    upper: Any = None
    nulls: bool = True
    values: bool = True
    unordered: bool = False


class Bounds(Protocol):
    """Looks up what is known of a column."""

    def __call__(self, column: str) -> ColumnBounds | None:
        """The bounds of a column by its name; None if nothing is known."""


May = Callable[[Bounds], bool]


def may_compare(name: str, operator: str, value: Any, bounds: Bounds) -> bool:
    """Whether some value within the bounds compares so with ``value``."""
    known = bounds(name)
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


def has_values(name: str) -> May:
    """Whether some value is not null."""

    def may(bounds: Bounds) -> bool:
        known = bounds(name)
        return known is None or known.values

    return may


def fixed_prefix(pattern: str) -> str:
    """What a match must begin with."""
    prefix: list[str] = []
    characters = iter(pattern)
    for character in characters:
        if character in "%_":
            break
        prefix.append(next(characters, "\\") if character == "\\" else character)
    return "".join(prefix)


def may_begin_with(name: str, prefix: str, bounds: Bounds) -> bool:
    """Whether some text within the bounds begins with ``prefix``."""
    known = bounds(name)
    if known is None:
        return True
    if not known.values:
        return False
    if known.upper is not None and known.upper < prefix:
        return False
    return known.lower is None or known.lower[: len(prefix)] <= prefix
