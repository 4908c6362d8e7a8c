"""Rows in the order of reading: parts of blocks that batches are cut from, made ahead of use."""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pyarrow as pa

from fletching.connectors.sampling import Position
from fletching.protocol.types.blob_type import is_blob

__all__ = ["OrderedRows", "ahead", "keep_freed_memory", "take", "with_contents"]

CONTENT_BYTES = 16 << 20
"""About so many bytes of blobs are asked for at once, and held if they are sent; one batch's may be more."""
KEPT_BYTES = 31 << 20
"""The largest block that glibc learns from is below 32 MiB."""
MOST_BATCHES = 256
"""Batches whose blobs are fetched at once, at most."""
LEAST_SAVED = 0.01
"""Seconds that a thread would have saved so far, for it to begin."""
HANDING_OVER = 0.0002
"""Seconds that an item takes from thread to thread, about."""


_Item = TypeVar("_Item")

Batch = dict[str, Any]
"""Rows by column: tensors, or lists of values that no tensor holds."""


@dataclasses.dataclass(slots=True)
class OrderedRows:
    """Rows in the order of reading: of a block, from one of its rows on."""

    table: pa.Table
    block: int
    row: int

    @property
    def length(self) -> int:
        """How many."""
        return int(self.table.num_rows)


def take(pending: collections.deque[OrderedRows], count: int) -> tuple[pa.Table, Position]:
    """The first `count` rows, and the position after them."""
    parts = []
    position = Position(0, 0)
    while count:
        rows = pending[0]
        used = min(count, rows.length)
        parts.append(rows.table.slice(0, used))
        position = Position(rows.block, rows.row + used)
        if used == rows.length:
            pending.popleft()
        else:
            pending[0] = OrderedRows(rows.table.slice(used), rows.block, rows.row + used)
        count -= used
    return pa.concat_tables(parts), position


_Contents = dict[str, list[bytes | None]]


def with_contents(
    batches: Iterator[tuple[pa.Table, Position]],
    schema: pa.Schema,
    fetch: Callable[[pa.ChunkedArray], Iterator[bytes | None]],
    *,
    ahead_of_use: bool = False,
) -> Iterator[tuple[pa.Table, Position, _Contents]]:
    """The same batches, each with the data of its blobs by column.

    Blobs are asked for for several batches at once, as many as will be about `CONTENT_BYTES` to judge by
    those before: a request for each small batch would take longer than what it brings.

    Args:
        batches: rows, and the position after them.
        schema: of the rows.
        fetch: asks for the data that a column of references refers to.
        ahead_of_use: a thread reads the rows of the next batches and asks for their blobs, once it has
            been waited for them.
    """
    columns = [field.name for field in schema if is_blob(field.type)]
    if not columns:
        yield from ((rows, position, {}) for rows, position in batches)
        return
    keep_freed_memory()
    sizes = _Sizes()
    for group, asked in ahead(
        _asked(batches, columns, fetch, sizes), int(ahead_of_use), waits_alone=True
    ):
        size = 0
        for rows, position in group:
            contents = {
                name: list(itertools.islice(data, rows.num_rows)) for name, data in asked.items()
            }
            size += sum(sum(map(len, filter(None, data))) for data in contents.values())
            yield rows, position, contents
        sizes.fitting = max(1, CONTENT_BYTES * len(group) // max(1, size))


@dataclasses.dataclass(slots=True)
class _Sizes:
    """How many batches' blobs are about `CONTENT_BYTES`, as far as was seen."""

    fitting: int = 1


_Rows = list[tuple[pa.Table, Position]]


def _asked(
    batches: Iterator[tuple[pa.Table, Position]],
    columns: list[str],
    fetch: Callable[[pa.ChunkedArray], Iterator[bytes | None]],
    sizes: _Sizes,
) -> Iterator[tuple[_Rows, dict[str, Iterator[bytes | None]]]]:
    """Batches, some at a time, whose blobs have been asked for."""
    count = 1
    while group := list(itertools.islice(batches, count)):
        whole = pa.concat_tables([rows for rows, _ in group])
        asked = {name: fetch(whole.column(name)) for name in columns}
        yield group, asked
        # Not many more than last time: blobs that were small so far may grow.
        count = min(sizes.fitting, 4 * count, MOST_BATCHES)


@functools.cache
def keep_freed_memory() -> None:
    """Lets the C library keep up to some tens of megabytes that are freed, for what is fetched next.

    It else returns the end of its heap to the system whenever a group of blobs is let go of, and each page
    of the next is a fault: two thirds of the time that a blob of 32 KiB took. glibc keeps twice as much as
    the largest block that was mapped for itself and freed; so such a block is made, never touched, and
    freed; once, for the next would be taken of what is kept, and filled with zeros. Other C libraries, and
    settings in the environment (``MALLOC_TRIM_THRESHOLD_``), stay as they are.
    """
    bytes(KEPT_BYTES)


def ahead(source: Iterator[_Item], depth: int, *, waits_alone: bool = False) -> Iterator[_Item]:
    """The same items, of which up to `depth` are made ahead of use by a thread, once that saves time.

    Items that are at hand are made where they are used: a thread has to hand each over, and runs no Python
    beside its reader. So a thread begins only when making items while others are used would have
    saved `LEAST_SAVED` seconds more than handing them over takes.

    Args:
        source: makes the items.
        depth: how many; 0 for no thread at all.
        waits_alone: only what the source waits for is time that a thread would save: what it computes
            keeps whoever uses the items from computing.
    """
    if depth < 1:
        yield from source
        return
    saved = 0.0
    while saved < LEAST_SAVED:
        begun, computed = time.perf_counter(), time.thread_time()
        try:
            item = next(source)
        except StopIteration:
            return
        made = time.perf_counter()
        computed = time.thread_time() - computed if waits_alone else 0.0
        yield item
        overlap = min(made - begun - computed, time.perf_counter() - made)
        saved = max(0.0, saved + overlap - HANDING_OVER)
    yield from _by_thread(source, depth)


def _by_thread(source: Iterator[_Item], depth: int) -> Iterator[_Item]:
    ready: queue.Queue[tuple[_Item | None, BaseException | None]] = queue.Queue(depth)
    left = threading.Event()

    def put(item: tuple[_Item | None, BaseException | None]) -> bool:
        while not left.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def run() -> None:
        try:
            for item in source:
                if not put((item, None)):
                    return
            put((None, None))
        except BaseException as error:  # noqa: BLE001  # the loop that reads raises it
            put((None, error))

    thread = threading.Thread(target=run, name="fletching-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        left.set()
