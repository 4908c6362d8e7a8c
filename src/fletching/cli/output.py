"""How commands speak: results to stdout (tables for people, TSV and JSON for programs), the rest to stderr."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import decimal
import enum
import json
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
    "print_table",
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


def say(text: object) -> None:
    """Prints a line of diagnostics on stderr."""
    sys.stderr.write(f"{text}\n")


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
    sys.stdout.write(text + "\n")


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
        table.add_row(*(Text(cell.text if isinstance(cell, Figure) else cell) for cell in row))
    console().print(table)
    if caption:
        sys.stdout.write(caption + "\n")


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

    meter = ProgressMeter((lambda _: None) if quiet else drawn_progress(), name, unit)
    meter.total = total
    try:
        yield meter
    finally:
        meter.abandon()
