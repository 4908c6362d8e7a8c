"""What sqlglot says of a text that it cannot read, in our words: what, where, near which text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fletching.errors import SqlSyntaxError
from fletching.sql.parsing.token_checks import meant_keyword

if TYPE_CHECKING:
    from sqlglot.tokenizer_core import Token

__all__ = ["syntax_error"]

_SAID: Mapping[str, str] = {
    r"^Expecting (?P<n>\S{1,20})$": "{n!r} is expected",
    r"^Expected table name": "the name of a table is expected",
    r"^Expected AS after CAST": "AS and a type are expected in CAST",
    r"^Expected TYPE after CAST": "a type is expected",
    r"^Expected END after CASE": "CASE lacks WHEN, THEN or END",
    r"^Failed to parse any statement following CTE": "WITH lacks the query behind it",
    r"^The number of provided arguments": "there are too many arguments",
    r"^(?:Invalid expression / )?Unexpected token": "unexpected",
    r"^Required keyword|<class": "something is missing",
    r"^(?P<n>expected [A-Z]+ behind .*)$": "{n}",
}
"""Patterns of its descriptions; of what none fits, nothing is repeated but the place."""


def syntax_error(
    error: Exception, what: str, source: str, before: int = 0, tokens: Sequence[Token] = ()
) -> SqlSyntaxError:
    """An error of ours for one of sqlglot's.

    Args:
        error: its error.
        what: what was parsed, such as ``statement``.
        source: its text.
        before: characters that stand before its first line and are not its own.
        tokens: the words of the statement.
    """
    details = getattr(error, "errors", None)
    if details:
        text = _placed(details[0], before, tokens)
    elif str(error).startswith("Error tokenizing"):
        text = _unclosed(source)
    else:
        text = "it is no SQL that is known here, at line 1, column 1"
    return SqlSyntaxError(f"the {what} cannot be parsed: {text[:300]}")


def _placed(details: Mapping[str, str | int], before: int, tokens: Sequence[Token]) -> str:
    line, last = int(details.get("line") or 1), int(details.get("col") or 1)
    near = str(details.get("highlight") or "")
    column = last - max(len(near) - 1, 0) if "\n" not in near else last
    if line == 1:
        column = max(column - before, 1)
    text = f"{_said(str(details.get('description')))} at line {line}, column {column}"
    near = near.strip()
    if near:
        text += f", near {near[:60]!r}"
    return text + meant_keyword(tokens, line, last)


def _said(description: str) -> str:
    for pattern, message in _SAID.items():
        match = re.search(pattern, description)
        if match is not None:
            return message.format(**match.groupdict())
    return "something does not belong"


_PIECE = re.compile(
    r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`[^`]*`|--[^\n]*|/\*.*?\*/|.""", re.DOTALL
)


def _unclosed(text: str) -> str:
    """What a text that cannot be cut into words has too little of, and where it begins."""
    for match in _PIECE.finditer(text):
        if match[0] in {"'", '"', "`"} or (
            text.startswith("/*", match.start()) and len(match[0]) == 1
        ):
            line = text.count("\n", 0, match.start()) + 1
            column = match.start() - text.rfind("\n", 0, match.start())
            what = "comment" if match[0] == "/" else "quote"
            near = text[match.start() : match.start() + 40].split("\n", maxsplit=1)[0]
            return f"a {what} is not closed, at line {line}, column {column}, near {near!r}"
    return "a character that means nothing, at line 1"
