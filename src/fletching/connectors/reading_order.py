"""Rows in the order of reading: parts of blocks that batches are cut from, made ahead of use."""

from __future__ import annotations

import collections
import dataclasses
import queue
import threading
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from fletching.connectors.sampling import Position

__all__ = ["OrderedRows", "ahead", "take"]


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


def ahead(
    source: Iterator[tuple[dict[str, Any], Position]], depth: int
) -> Iterator[tuple[dict[str, Any], Position]]:
    """The same items, of which up to `depth` are made ahead of use by a thread."""
    if depth < 1:
        yield from source
        return
    ready: queue.Queue[Any] = queue.Queue(depth)
    left = threading.Event()

    def put(item: Any) -> bool:
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
