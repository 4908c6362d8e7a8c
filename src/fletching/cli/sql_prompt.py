"""The prompt of ``fletching sql``: statements over several lines until ``;``, with a history that stays."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from fletching.cli.output import say
from fletching.client.profiles import config_folder
from fletching.errors import FletchingError
from fletching.sql.parsing.syntax_errors import PIECE

__all__ = ["ended", "run_prompt"]

HISTORY_FILE = "sql_history"
HISTORY_LINES = 10_000

_PROMPT = "sql> "
_MORE = "...> "
_LEAVE = frozenset({"exit", "quit", "\\q", "exit;", "quit;"})
_HELP = frozenset({"help", "?", "\\?", "help;"})


def ended(text: str) -> bool:
    """Whether statements are whole: the last thing outside quotes and comments is a ``;``."""
    last = ""
    for match in PIECE.finditer(text):
        piece = match[0]
        if piece in {"'", '"', "`"} or (piece == "/" and text.startswith("/*", match.start())):
            return False  # it is still open
        if piece.startswith(("--", "/*")) or piece.isspace():
            continue
        last = piece
    return last == ";"


def run_prompt(execute: Callable[[str], None]) -> None:
    """Asks for statements until the end of input; what fails is told, and the next one asked for.

    Args:
        execute: runs statements and shows what came of them.
    """
    history = config_folder() / HISTORY_FILE
    with _line_editing(history):
        say("statements end with ; - help for more, exit or Ctrl-D to leave")
        while True:
            try:
                text = _statement()
                if text is None:
                    say("")
                    return
                if text.strip():
                    execute(text)
            except FletchingError as error:
                say(error.message if hasattr(error, "message") else error)
            except KeyboardInterrupt:
                say("cancelled")


def _statement() -> str | None:
    """What is typed until it is whole; None at the end of input, empty if it was dropped."""
    lines: list[str] = []
    while True:
        try:
            line = input(_MORE if lines else _PROMPT)
        except EOFError:
            return None
        except KeyboardInterrupt:
            say("")
            return ""
        word = line.strip().lower()
        if not lines and word in _LEAVE:
            return None
        if not lines and word in _HELP:
            say(
                "SHOW TABLES; and DESC a_table; tell what there is. Ctrl-C drops what is typed, or cancels"
                " what runs. docs/sql.md has the language."
            )
            continue
        if not lines and not word:
            continue
        lines.append(line)
        text = "\n".join(lines)
        if ended(text):
            return text


class _line_editing(contextlib.AbstractContextManager[None]):  # noqa: N801 - a function of two halves
    """Keys and history of a terminal, where Python has them."""

    def __init__(self, history: Path) -> None:
        self._history = history
        try:
            import readline
        except ImportError:  # pragma: no cover - Python without it
            self._readline = None
        else:
            self._readline = readline

    def __enter__(self) -> None:
        if self._readline is None:
            return
        self._readline.parse_and_bind("set enable-bracketed-paste on")
        with contextlib.suppress(OSError):
            self._readline.read_history_file(self._history)
        self._readline.set_history_length(HISTORY_LINES)

    def __exit__(self, *exc: object) -> None:
        if self._readline is None:
            return
        try:
            self._history.parent.mkdir(parents=True, exist_ok=True)
            self._history.touch(mode=0o600)  # statements may hold secrets
            self._readline.write_history_file(self._history)
        except OSError as error:
            say(f"the history cannot be kept: {error}")
