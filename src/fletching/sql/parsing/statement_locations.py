"""Where in a text its statements stand, and where in a statement what an error is about."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

from fletching.errors import ServiceError

__all__ = ["StatementLocation"]

_SHOWN = 60
"""Characters of a statement that a message shows."""

_NAMED = re.compile(
    r"(?:column|table|view|project|schema|partition|variable|field|alias|window|CTE name)s? [\"@]?([\w.$]+)"
    r"|^([\w.]+) is (?:not a partition column|no partition column)",
)
_QUOTED = re.compile(r"'((?:[^'\\]|\\.){1,200})'|\"([^\"]{1,200})\"")


@dataclasses.dataclass(frozen=True, slots=True)
class StatementLocation:
    """A statement of a text.

    Attributes:
        text: the statement, as written.
        line, column: where it begins.
    """

    text: str
    line: int = 1
    column: int = 1

    def located(self, error: ServiceError) -> ServiceError:
        """An error with the place that it is about, unless it has one.

        That is the place of the word that it names, if the statement has it, else the statement's.
        """
        if " at line " in error.message:
            return error
        line, column = self._word(error.message) or (self.line, self.column)
        shown = " ".join(self.text.split())
        shown = shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + "..."
        message = f"{error.message}, at line {line}, column {column}, in: {shown}"
        return type(error)(message, http_status=error.http_status, code=error.code)

    def _word(self, message: str) -> tuple[int, int] | None:
        for word in _words(message):
            result = re.search(rf"(?<![\w$]){re.escape(word)}(?![\w$])", self.text, re.IGNORECASE)
            if result is not None:
                before = self.text[: result.start()]
                lines = before.count("\n")
                last = len(before) - before.rfind("\n") - 1
                return self.line + lines, last + (1 if lines else self.column)
        return None


def _words(message: str) -> Iterator[str]:
    """The words of a statement that a message names, the likeliest first."""
    for match in _QUOTED.finditer(message):
        yield match[1] or match[2]
    for match in _NAMED.finditer(message):
        # Of a full name the statement has the end at least.
        yield (match[1] or match[2]).rstrip(".").rpartition(".")[2]
