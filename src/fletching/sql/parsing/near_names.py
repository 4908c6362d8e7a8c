"""The known names that a mistyped one may have been meant for."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean", "nearest"]

_MOST = 2
"""Names that are suggested at most."""

_ALIKE = 0.75
"""How alike a name must be (`difflib.get_close_matches`): one letter of four may be another."""


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The names that are much like one, the likest first; none if it is one of them, in any case."""
    names = {item.casefold(): item for item in known}
    if name.casefold() in names:
        return []
    matches = difflib.get_close_matches(name.casefold(), names, _MOST, _ALIKE)
    return [names[match] for match in matches]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about a name that is not known; empty if no other is near."""
    result = nearest(name, known)
    return f"; did you mean {' or '.join(result)}?" if result else ""
