"""Long lists of plain literals, taken out of a condition before it is cut into tokens.

Cutting takes 25 microseconds a literal, which of a list of 100,000 keys would be most of a query. A list of
whole numbers and quoted texts without escapes is cut by one regular expression; a text that stands for it
goes through the parser in its place.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["LEAST_ENTRIES", "without_long_lists"]

LEAST_ENTRIES: Final = 256

_ENTRY = r"(?:\d++|'[^'\\]*+')"
# What comes first: texts, names and comments, in which nothing is a list.
_PARTS: Final = re.compile(
    r"'(?:[^'\\]|\\.)*+'"
    r'|"(?:[^"\\]|\\.)*+"'
    r"|`[^`]*+`"
    r"|--[^\n]*+"
    r"|/\*.*?\*/"
    rf"|\bin\s*+\(\s*+(?P<list>{_ENTRY}(?:\s*+,\s*+{_ENTRY}){{{LEAST_ENTRIES - 1},}}+)\s*+\)",
    re.IGNORECASE | re.DOTALL,
)
_ENTRIES: Final = re.compile(rf"{_ENTRY}(?=\s*+(?:,|$))")


def without_long_lists(text: str) -> tuple[str, dict[str, list[tuple[str, bool]]]]:
    """The text with a quoted text in the place of each long list behind IN, and the lists.

    Returns:
        The text, and by the quoted texts each list's entries: what an entry says, and whether it
        was quoted. The quoted texts occur nowhere else in it.
    """
    if len(text) < 2 * LEAST_ENTRIES:
        return text, {}
    sign = "long list"
    while sign in text:
        sign += "_"
    lists: dict[str, list[tuple[str, bool]]] = {}
    parts: list[str] = []
    position = 0
    for result in _PARTS.finditer(text):
        if result["list"] is None:
            continue
        name = f"{sign} {len(lists)}"
        entries = _ENTRIES.findall(result["list"])
        lists[name] = [
            (entry[1:-1], True) if entry[0] == "'" else (entry, False) for entry in entries
        ]
        parts += (text[position : result.start("list")], f"'{name}'")
        position = result.end("list")
    return "".join((*parts, text[position:])), lists
