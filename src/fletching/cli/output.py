"""How commands speak: results to stdout (tables for people, TSV and JSON for programs), the rest to stderr.

What is printed comes from others: names, comments, values, errors of the service. On a terminal and on
stderr its control characters are spelt out, so that none of it can command the terminal. Files and pipes
get results as they are.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import decimal
import enum
import json
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from fletching.human_figures import human_bytes, human_count

if TYPE_CHECKING:
    from rich.console import Console

    from fletching.client.progress import ProgressMeter

__all__ = [
    "ExitCode",
    "Figure",
    "bytes_figure",
    "console",
    "count_figure",
    "counted",
    "print_json",
    "print_json_text",
    "print_table",
    "print_text",
    "printable",
    "progress",
    "say",
    "tsv_line",
]


class ExitCode(enum.IntEnum):
    """Exit status of every command."""

    OK = 0
    FAILED = 1  # the service, the data or the storage refused
    USAGE = 2  # the command line cannot mean anything
    DIFFERENT = 3  # a comparison or verification found a difference
    LOGIN = 4  # the access key is not accepted: log in again
    INTERRUPTED = 130  # Ctrl-C
    PIPE_CLOSED = 141  # whoever read stdout went away before its end


def console() -> Console:
    """The console for results; a new one each time, so that it follows a redirected stdout."""
    from rich.console import Console

    return Console(file=sys.stdout, highlight=False)


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What a terminal obeys instead of showing it, the two-way controls of Unicode among it; and
halves of surrogate pairs, which stand for bytes of names that are no text."""
_SPELT = {"\n": r"\n", "\t": r"\t", "\r": r"\r"}


def printable(text: str, *, lines: bool = False) -> str:
    """The text with control characters spelt out: on one line, or with its own lines and tabs."""

    def spelt(match: re.Match[str]) -> str:
        character = match[0]
        if lines and character in "\n\t":
            return character
        code = ord(character)
        return _SPELT.get(character) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")

    return _CONTROL.sub(spelt, text)


def say(text: object) -> None:
    """Prints a line of diagnostics on stderr."""
    sys.stderr.write(printable(str(text), lines=True) + "\n")


def print_text(text: str) -> None:
    """Prints lines on stdout."""
    sys.stdout.write((printable(text, lines=True) if sys.stdout.isatty() else text) + "\n")


def print_json_text(text: str) -> None:
    """Prints JSON on stdout; on a terminal with those control characters escaped that it may hold."""
    if sys.stdout.isatty():
        text = _CONTROL.sub(
            lambda match: match[0] if match[0] == "\n" else f"\\u{ord(match[0]):04x}", text
        )
    sys.stdout.write(text)


def counted(count: int, noun: str) -> str:
    """A count with its noun: ``1 row``, ``2,000 rows``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


class Figure(NamedTuple):
    """A cell with one form for people and one for programs."""

    text: str
    raw: str


def count_figure(count: int) -> Figure:
    """A count: with separators for people, digits alone for programs."""
    return Figure(human_count(count), str(count))


def bytes_figure(count: int) -> Figure:
    """Bytes: in units for people, the number for programs."""
    return Figure(human_bytes(count), str(count))


def _plain(value: object) -> object:
    """What JSON lacks, in its usual text form; bytes become base64."""
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | dt.timedelta):
        return str(value)
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def print_json(document: object) -> None:
    """Prints one JSON document on stdout."""
    text = json.dumps(document, default=_plain, ensure_ascii=False, allow_nan=False)
    print_json_text(text + "\n")


_TSV = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def tsv_line(cells: Iterable[str | None]) -> str:
    r"""A line of tab-separated values as PostgreSQL's COPY writes them: null is ``\N``."""
    return "\t".join(r"\N" if cell is None else cell.translate(_TSV) for cell in cells) + "\n"


def print_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str | Figure]],
    *,
    figures: Collection[str] = (),
    title: str | None = None,
    caption: str | None = None,
) -> None:
    """Prints a table; the columns whose headings are ``figures`` are aligned right.

    For a terminal with lines and figures for people; else as TSV with a line of headings, numbers
    as they are, and with the caption on stderr.
    """
    if not sys.stdout.isatty():
        sys.stdout.write(tsv_line(headings))
        for row in rows:
            sys.stdout.write(
                tsv_line(cell.raw if isinstance(cell, Figure) else cell for cell in row)
            )
        if caption:
            say(caption)
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left")
    for heading in headings:
        right = heading in figures
        table.add_column(
            heading, justify="right" if right else "left", overflow="fold", no_wrap=right
        )
    for row in rows:
        # Text, not markup: a cell may hold brackets, as timestamp[us] does.
        texts = (cell.text if isinstance(cell, Figure) else cell for cell in row)
        table.add_row(*(Text(printable(text, lines=True)) for text in texts))
    console().print(table)
    if caption:
        print_text(caption)


@contextlib.contextmanager
def progress(
    name: str, total: int | None = None, *, unit: str = "rows", quiet: bool = False
) -> Iterator[ProgressMeter]:
    """Tells of something that takes time: by a bar on a terminal, else by a line now and then.

    Args:
        name: what it is.
        total: how much there is, if that is known.
        unit: what is counted; ``"bytes"`` are shown in units.
        quiet: say nothing.
    """
    from fletching.client.progress import ProgressMeter, drawn_progress

    meter = ProgressMeter((lambda _: None) if quiet else drawn_progress(), printable(name), unit)
    meter.total = total
    try:
        yield meter
    finally:
        meter.abandon()
