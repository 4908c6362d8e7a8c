"""The known names that a mistyped one may have been meant for."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["did_you_mean", "nearest"]

_MOST = 2
"""Names that are suggested at most."""


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The names that are a slip of the fingers away from one: none if none is near.

    A slip is a letter too many, too few, another, or two that changed places. One is near in a name of up to
    four letters, two in one of up to eight, three in a longer one; a longer beginning in common comes first.
    """
    lowered = name.casefold()
    allowed = 1 if len(lowered) <= 4 else 2 if len(lowered) <= 8 else 3
    result: list[tuple[int, int, str]] = []
    for item in known:
        other = item.casefold()
        if other == lowered:
            return []
        if abs(len(other) - len(lowered)) > allowed or min(len(other), len(lowered)) <= allowed:
            continue
        slips = _slips(lowered, other, allowed)
        if slips <= allowed:
            result.append((slips, -_common(lowered, other), item))
    result.sort()
    return [item for slips, _, item in result[:_MOST] if slips == result[0][0]]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about a name that is not known; empty if no other is near."""
    result = nearest(name, known)
    return f"; did you mean {' or '.join(result)}?" if result else ""


def _common(word: str, other: str) -> int:
    """How many first letters two names share."""
    pairs = enumerate(zip(word, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(word), len(other)))


def _slips(word: str, other: str, most: int) -> int:
    """The optimal string alignment distance; more than ``most`` once it cannot be that small."""
    before: list[int] = []
    above = list(range(len(other) + 1))
    for i, letter in enumerate(word, 1):
        row = [i]
        for j, its in enumerate(other, 1):
            cost = min(above[j] + 1, row[-1] + 1, above[j - 1] + (letter != its))
            if i > 1 and j > 1 and letter == other[j - 2] and word[i - 2] == its:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return most + 1
        before, above = above, row
    return above[-1]
