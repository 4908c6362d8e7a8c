"""Record batches gathered into the bodies of TableWrite requests.

One request carries one Arrow IPC stream, so one schema; a body is full at a size in bytes. Batches
are passed on as they are: their boundaries are what a verbatim read gives back. Only when thousands
of tiny ones pile up are they joined, because each costs a message.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pyarrow as pa

from fletching.client.tabular.alignment import resized, size_of
from fletching.ipc.batch_sizes import bytes_of

__all__ = ["Body", "BodyBuffer"]

MAX_BATCHES = 1024
"""More batches than this in a body are joined before it is sent."""

JOINED_BYTES = 256 * 1024
"""Tiny batches are joined up to about this size."""


@dataclasses.dataclass(frozen=True, slots=True)
class Body:
    """What one TableWrite carries: batches of one schema."""

    schema: pa.Schema
    batches: tuple[pa.RecordBatch, ...]
    rows: int

    def halves(self) -> tuple[Body, Body] | None:
        """The same rows in two bodies, without copying; None for a single row."""
        if self.rows < 2:
            return None
        first: list[pa.RecordBatch] = []
        second: list[pa.RecordBatch] = []
        left = self.rows // 2
        for batch in self.batches:
            count = min(left, batch.num_rows)
            left -= count
            if count:
                first.append(batch.slice(0, count))
            if count < batch.num_rows:
                second.append(batch.slice(count))
        middle = self.rows // 2
        return (
            Body(self.schema, tuple(first), middle),
            Body(self.schema, tuple(second), self.rows - middle),
        )


class BodyBuffer:
    """Holds batches until they make a body. Not thread-safe.

    Batches are borrowed until the body was sent, never copied (but for tiny ones, see the module).
    """

    def __init__(self, body_bytes: int) -> None:
        self._limit = body_bytes
        self._batches: list[pa.RecordBatch] = []
        self.held_bytes = 0
        self.held_rows = 0

    def add(self, batch: pa.RecordBatch) -> Iterator[Body]:
        """Takes a batch, cut into row slices if it is larger than a body; gives what became full."""
        for part in resized((batch,), self._limit):
            size = size_of(part)
            if self._batches and (
                self.held_bytes + size > self._limit
                or not self._batches[0].schema.equals(part.schema)
            ):
                yield self._take()
            self._batches.append(part)
            self.held_bytes += size
            self.held_rows += part.num_rows
            if self.held_bytes >= self._limit:
                yield self._take()

    def take(self) -> Body | None:
        """What is held, or None if nothing is."""
        return self._take() if self._batches else None

    def clear(self) -> None:
        """Forgets what is held."""
        self._batches, self.held_bytes, self.held_rows = [], 0, 0

    def _take(self) -> Body:
        batches, rows = self._batches, self.held_rows
        self.clear()
        if len(batches) > MAX_BATCHES:
            batches = list(_joined(batches))
        return Body(batches[0].schema, tuple(batches), rows)


def _joined(batches: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Runs of tiny batches as one: a copy, in return for one message instead of thousands."""
    run: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        added = bytes_of(batch)
        if run and size + added > JOINED_BYTES:
            yield pa.concat_batches(run) if len(run) > 1 else run[0]
            run, size = [], 0
        run.append(batch)
        size += added
    yield pa.concat_batches(run) if len(run) > 1 else run[0]
