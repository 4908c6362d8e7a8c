"""How far a transfer is: told to a function of the caller's, or drawn as a bar.

Whatever moves many rows or blobs takes ``progress=``: True draws a bar (in a notebook as one, on a
terminal as a line that changes, elsewhere as a line now and then, all but the notebook's on stderr), a
function is called with a `Progress` after each record batch or blob, and once more when all is done.
"""

from __future__ import annotations

import contextlib
import dataclasses
import html
import os
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa

from fletching.client.tabular.tabular_data import BatchStream, batches_of
from fletching.errors import UsageError
from fletching.human_figures import human_bytes

if TYPE_CHECKING:
    from IPython.display import DisplayHandle

__all__ = [
    "Progress",
    "ProgressLike",
    "ProgressMeter",
    "drawn_progress",
    "metered",
    "progress_meter",
    "rows_of",
]

REDRAW_SECONDS = 0.1
"""A bar is drawn anew no more often than this: drawing must cost nothing beside moving."""

LINE_SECONDS = 10.0
"""How often a line tells of it where no bar can be drawn."""

_BAR_CHARACTERS = 24

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """How far a transfer is.

    Attributes:
        name: what moves: a table's name, ``result`` or ``blobs``.
        done: rows or blobs that have moved. Rows that are written count when they are handed over to
            be sent.
        total: how many there are; None where that is not known, as with a filter.
        unit: ``rows`` or ``blobs``; what commands count besides, ``bytes`` among it.
        bytes: of Arrow buffers, or of blobs.
        seconds: since the transfer began.
        finished: whether this is the last call: everything arrived, and what was written is committed.
    """

    name: str
    done: int
    total: int | None
    unit: str
    bytes: int
    seconds: float
    finished: bool = False

    @property
    def fraction(self) -> float | None:
        """From 0 to 1; None where the total is not known."""
        if self.total is None:
            return None
        return min(1.0, self.done / self.total) if self.total else 1.0

    def __str__(self) -> str:
        """``events: 1,234 of 5,000 rows, 12.3 MB, 45.6 MB/s``."""
        text = f"{self.name}: {self._amount}"
        if self.bytes and self.unit != "bytes":
            text += f", {human_bytes(self.bytes)}"
        if self.bytes and self.seconds > 0.01:
            text += f", {human_bytes(self.bytes / self.seconds)}/s"
        return text

    @property
    def _amount(self) -> str:
        total = None if self.finished else self.total
        if self.unit == "bytes":
            done = human_bytes(self.done)
            return done if total is None else f"{done} of {human_bytes(total)}"
        if total is not None:
            return f"{self.done:,} of {total:,} {self.unit}"
        return f"{self.done:,} {self.unit.removesuffix('s') if self.done == 1 else self.unit}"


ProgressLike = bool | Callable[[Progress], object] | None
"""What ``progress=`` takes: True for a bar, or what is called; False or None for nothing."""


class ProgressMeter:
    """Counts one transfer, and tells of it. Not thread-safe: whoever iterates the transfer counts."""

    def __init__(self, tell: Callable[[Progress], object], name: str, unit: str) -> None:
        self._tell = tell
        self._name, self._unit = name, unit
        self._started = time.monotonic()
        self.done = self.bytes = 0
        self.total: int | None = None

    def add(self, count: int, size: int = 0) -> None:
        """Counts what has moved."""
        self.done += count
        self.bytes += size
        self._report(finished=False)

    def reach(self, done: int, total: int) -> None:
        """Is as far as this: for what counts by itself."""
        self.done, self.total = done, total
        self._report(finished=False)

    def restart(self, name: str, total: int | None) -> None:
        """Goes on with another step, from nothing."""
        self._name, self.total = name, total
        self._started = time.monotonic()
        self.done = self.bytes = 0
        self._report(finished=False)

    def finish(self) -> None:
        """All has moved."""
        self._report(finished=True)

    def abandon(self) -> None:
        """No more will move; a bar goes away, a function is not called again."""
        getattr(self._tell, "close", lambda: None)()

    def _report(self, *, finished: bool) -> None:
        seconds = time.monotonic() - self._started
        size = self.done if self._unit == "bytes" else self.bytes
        self._tell(Progress(self._name, self.done, self.total, self._unit, size, seconds, finished))

    def batches(self, batches: Iterator[pa.RecordBatch]) -> Generator[pa.RecordBatch, None, None]:
        """Passes batches on and counts them; ends the source with itself."""
        try:
            for batch in batches:
                self.add(batch.num_rows, batch.nbytes if batch.num_rows else 0)
                yield batch
        finally:
            getattr(batches, "close", lambda: None)()

    def data(self, data: object, schema: pa.Schema | None) -> BatchStream:
        """Tabular data of which each batch counts when it is taken."""
        if self.total is None:
            self.total = rows_of(data)
        stream = batches_of(data, schema)
        return BatchStream(stream.schema, self.batches(iter(stream.batches)))

    def read(self, batches: Iterator[pa.RecordBatch]) -> Generator[pa.RecordBatch, None, None]:
        """As `batches`, and the end of it is the end of the transfer."""
        try:
            yield from self.batches(batches)
        except BaseException:
            self.abandon()
            raise
        self.finish()

    def blobs(self, blobs: Iterable[_T]) -> Generator[_T, None, None]:
        """Passes blobs on and counts them."""
        try:
            for blob in blobs:
                self.add(1, _blob_bytes(blob))
                yield blob
        except BaseException:
            self.abandon()
            raise
        self.finish()


def progress_meter(progress: ProgressLike, name: str, unit: str = "rows") -> ProgressMeter | None:
    """A meter, or None where nobody wants to know.

    Raises:
        UsageError: ``progress`` is neither true, false nor a function.
    """
    if progress is None or progress is False:
        return None
    if progress is True:
        return ProgressMeter(drawn_progress(), name, unit)
    if not callable(progress):
        raise UsageError(
            f"progress is True for a bar, or a function of one Progress, not {progress!r}"
        )
    return ProgressMeter(progress, name, unit)


@contextlib.contextmanager
def metered(progress: ProgressLike, name: str) -> Iterator[ProgressMeter | None]:
    """A meter for a write: finished with the block, abandoned if that fails."""
    meter = progress_meter(progress, name)
    try:
        yield meter
    except BaseException:
        if meter is not None:
            meter.abandon()
        raise
    if meter is not None:
        meter.finish()


def rows_of(data: object) -> int | None:
    """How many rows some tabular data has, where it says so without being read."""
    if isinstance(data, dict):
        data = next(iter(data.values()), ())
    for result in (
        getattr(data, "num_rows", None),
        next(iter(getattr(data, "shape", None) or ()), None),
    ):
        if isinstance(result, int) and not isinstance(result, bool):
            return result
    if isinstance(data, list | tuple | range):
        rows = [rows_of(each) if hasattr(each, "num_rows") else 1 for each in data]
        return sum(each or 0 for each in rows)
    return None


def _blob_bytes(blob: object) -> int:
    """The size of a blob that is given or was got, as far as it is known before it is read."""
    if isinstance(blob, bytes | bytearray | memoryview):
        return memoryview(blob).nbytes
    if isinstance(blob, str | os.PathLike):
        with contextlib.suppress(OSError):
            return Path(blob).stat().st_size
        return 0
    size = getattr(blob, "size", 0)
    return size if isinstance(size, int) else 0


# --- bars ----------------------------------------------------------------------------------------


def drawn_progress() -> Callable[[Progress], object]:
    """Draws it as suits where this runs."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if type(shell).__name__ == "ZMQInteractiveShell":
        return _NotebookBar()
    return _TerminalBar() if sys.stderr.isatty() else _Lines()


class _Lines:
    """A line on stderr now and then, where nobody looks on."""

    def __init__(self) -> None:
        self._shown_at = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.done and now - self._shown_at >= LINE_SECONDS:
            self._shown_at = now
            sys.stderr.write(f"{progress}\n")


class _TerminalBar:
    """A line on stderr that changes in place."""

    def __init__(self) -> None:
        self._drawn = 0.0
        self._width = 0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if not progress.finished and now - self._drawn < REDRAW_SECONDS:
            return
        self._drawn = now
        text = str(progress)
        if not progress.finished and progress.fraction is not None:
            full = int(progress.fraction * _BAR_CHARACTERS)
            bar = "#" * full + "-" * (_BAR_CHARACTERS - full)
            text = f"[{bar}] {text}"
        self._write(text, end="\n" if progress.finished else "")

    def _write(self, text: str, end: str = "") -> None:
        sys.stderr.write("\r" + text.ljust(self._width) + end)
        sys.stderr.flush()
        self._width = len(text)

    def close(self) -> None:
        """Leaves the line as it was before."""
        if self._width:
            self._write("", end="\r")


class _NotebookBar:
    """An element of the cell's output that changes in place."""

    def __init__(self) -> None:
        self._drawn = 0.0
        self._handle: DisplayHandle | None = None

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if not progress.finished and now - self._drawn < REDRAW_SECONDS:
            return
        self._drawn = now
        from IPython.display import HTML, display

        value = "" if progress.fraction is None else f' value="{progress.fraction:.4f}"'
        shown = HTML(f"<progress max=1{value}></progress> {html.escape(str(progress))}")
        if self._handle is None:
            self._handle = display(shown, display_id=True)
        else:
            self._handle.update(shown)
