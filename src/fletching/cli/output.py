"""How commands speak: results to stdout (tables for people, TSV and JSON for programs), the rest to stderr."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import decimal
import enum
import json
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from fletching.human_figures import human_bytes, human_count

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

__all__ = [
    "ExitCode",
    "Figure",
    "Task",
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


# --- progress --------------------------------------------------------------------------------

LINE_SECONDS = 10.0
"""How often a line tells of progress where no bar can be drawn."""


class Task:
    """One thing that goes on; counts what moved, and tells of it. Not thread-safe."""

    def __init__(self, shown: _Bars | None, name: str, total: int | None, unit: str) -> None:
        self._shown, self._unit = shown, unit
        self._started = time.monotonic()
        self._written_at = self._started
        self.name, self.total = name, total
        self.done = self.bytes = 0
        if shown is not None:
            shown.add(self)

    def advance(self, count: int, size: int = 0) -> None:
        """Counts rows, files or whatever the unit is, and their bytes."""
        self.done += count
        self.bytes += size
        self.tell()

    def reach(self, done: int, total: int) -> None:
        """Is as far as this: for what counts by itself."""
        self.done, self.total = done, total
        self.tell()

    def tell(self) -> None:
        """Shows where the task is."""
        if self._shown is not None:
            self._shown.update(self)

    def restart(self, name: str, total: int | None) -> None:
        """Goes on with another step, from nothing."""
        self.name, self.total, self.done, self.bytes = name, total, 0, 0
        self._started = time.monotonic()
        self.tell()

    @property
    def amount(self) -> str:
        """``1,234 of 5,000 rows, 12.3 MB/s``."""
        if self._unit == "bytes":
            text = human_bytes(self.done)
            text += f" of {human_bytes(self.total)}" if self.total is not None else ""
        else:
            text = human_count(self.done)
            text += f" of {human_count(self.total)}" if self.total is not None else ""
            text += f" {self._unit}"
        size = self.done if self._unit == "bytes" else self.bytes
        seconds = time.monotonic() - self._started
        return f"{text}, {human_bytes(size / seconds)}/s" if size and seconds > 0.01 else text


class _Bars:
    """Bars on a terminal; elsewhere a line on stderr now and then."""

    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._ids: dict[Task, Any] = {}
        self._written_at: dict[Task, float] = {}
        if sys.stderr.isatty():
            self._bars = _rich_bars()

    def start(self) -> None:
        if self._bars is not None:
            self._bars.start()

    def stop(self) -> None:
        if self._bars is not None:
            self._bars.stop()

    def add(self, task: Task) -> None:
        self._written_at[task] = time.monotonic()
        if self._bars is not None:
            self._ids[task] = self._bars.add_task(task.name, total=task.total, amount="")

    def update(self, task: Task) -> None:
        if self._bars is not None:
            self._bars.update(
                self._ids[task],
                description=task.name,
                completed=task.done,
                total=task.total,
                amount=task.amount,
            )
            return
        now = time.monotonic()
        if now - self._written_at[task] >= LINE_SECONDS and task.done:
            self._written_at[task] = now
            say(f"{task.name}: {task.amount}")


def _rich_bars() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    class Name(TextColumn):
        """A table's name is no markup."""

        def render(self, task: Any) -> Any:
            from rich.text import Text

            return Text(task.description)

    return Progress(
        SpinnerColumn(),
        Name(""),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[amount]}"),
        TimeElapsedColumn(),
        console=Console(file=sys.stderr, highlight=False),
        transient=True,
    )


@contextlib.contextmanager
def progress(
    name: str, total: int | None = None, *, unit: str = "rows", quiet: bool = False
) -> Iterator[Task]:
    """Tells of something that takes time: by a bar on a terminal, else by a line now and then.

    Args:
        name: what it is.
        total: how much there is, if that is known.
        unit: what is counted; ``"bytes"`` are shown in units.
        quiet: say nothing.
    """
    if quiet:
        yield Task(None, name, total, unit)
        return
    bars = _Bars()
    bars.start()
    try:
        yield Task(bars, name, total, unit)
    finally:
        bars.stop()
