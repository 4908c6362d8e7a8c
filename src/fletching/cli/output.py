"""How commands speak: results to stdout (tables for people, JSON for machines), the rest to stderr."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import enum
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

__all__ = [
    "ExitCode",
    "console",
    "diagnostics",
    "human_bytes",
    "human_count",
    "print_json",
    "print_table",
    "progress_bars",
]


class ExitCode(enum.IntEnum):
    """Exit status of every command."""

    OK = 0
    FAILED = 1  # the service, the data or the storage refused
    USAGE = 2  # the command line cannot mean anything
    DIFFERENT = 3  # a comparison or verification found a difference
    INTERRUPTED = 130  # Ctrl-C


def console() -> Console:
    """The console for results; a new one each time, so that it follows a redirected stdout."""
    return Console(file=sys.stdout, highlight=False)


def diagnostics() -> Console:
    """The console for progress and diagnostics, on stderr."""
    return Console(file=sys.stderr, highlight=False)


def human_bytes(count: float) -> str:
    """Bytes in decimal units: ``1.5 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} TB"


def human_count(count: int) -> str:
    """A count with thousands separators: ``1,234``."""
    return f"{count:,}"


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


def print_json(document: Any) -> None:
    """Prints one JSON document on stdout."""
    sys.stdout.write(json.dumps(document, default=_plain, ensure_ascii=False) + "\n")


def print_table(
    title: str | None,
    columns: Sequence[tuple[str, str]],
    rows: Iterable[Sequence[str]],
    *,
    caption: str | None = None,
    target: Console | None = None,
) -> None:
    """Prints a table; each column is (heading, ``"left"`` or ``"right"``)."""
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    for heading, justify in columns:
        table.add_column(
            heading,
            justify="right" if justify == "right" else "left",
            overflow="fold",
            no_wrap=justify == "right",
        )
    for row in rows:
        # Text, not markup: a cell may hold brackets, as timestamp[us] does.
        table.add_row(*(Text(cell) for cell in row))
    (target or console()).print(table)


def progress_bars(*, unit: str = "rows", quiet: bool = False) -> Progress:
    """Progress bars on stderr; nothing is drawn when stderr is not a terminal or ``quiet``."""
    target = diagnostics()
    return Progress(
        SpinnerColumn(),
        TextColumn("[progress.description]{task.description}"),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        MofNCompleteColumn() if unit != "bytes" else TextColumn("{task.fields[amount]}"),
        TimeElapsedColumn(),
        console=target,
        transient=True,
        disable=quiet or not target.is_terminal,
    )
