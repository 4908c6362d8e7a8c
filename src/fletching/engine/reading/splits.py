"""Splits: the row ranges into which a read session divides its snapshot.

Every process finds the same splits from the same snapshot and request. Splits follow each other in
row order, do not overlap, and together are the whole. What the modes promise:

* Size: whole batches, up to ``split_number`` bytes of messages; a batch above that is a split of
  its own. A snapshot of very many segments is divided by position instead (`GRID_SEGMENTS`):
  split ``i`` holds the batches that start in its ``split_number`` bytes of the segments laid end
  to end, so that counting the splits needs no segment. There a split may exceed its bytes by a part
  of a batch, or be empty.
* RowOffset: ``split_number`` rows each, the last one fewer.
* Parallelism: ``split_number`` splits of about equal rows, moved to a batch boundary when one is near.

With ``cross_partition`` False no split has rows of two partitions: each partition is divided
by itself, and Parallelism gives every partition at least one split.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fletching.engine.reading.snapshot import Snapshot
from fletching.errors import InvalidArgumentError
from fletching.protocol.messages.requests import SplitOptions
from fletching.protocol.messages.vocabulary import SplitMode
from fletching.types import RowRange

__all__ = ["GRID_SEGMENTS", "Scope", "Splits", "check_options", "count_splits"]

GRID_SEGMENTS = 4096
"""Tables of more segments than this are divided by position: loading them all would make opening a
session as slow as reading (about 4 microseconds a segment)."""

MIN_GRID_BYTES = 1 << 20
"""Least bytes of a split by position, so that a tiny ``split_number`` does not mean millions."""

MAX_PARALLELISM = 65536
"""Most splits that Parallelism may ask for."""

# A split of Parallelism may grow or shrink by this part of itself to end between two batches.
_SNAP_DIVISOR = 4
_OBJECT_BYTES = 1000  # of the splits of one session, whatever there is to divide


@dataclasses.dataclass(frozen=True, slots=True)
class Scope:
    """A run of rows that splits do not leave: the whole snapshot or one partition."""

    rows: int
    bytes: int


def check_options(options: SplitOptions) -> None:
    """Refuses modes and numbers that mean nothing.

    Raises:
        InvalidArgumentError: which, with the limit.
    """
    if options.split_mode is SplitMode.BUCKET:
        raise InvalidArgumentError(
            "split mode Bucket needs a clustered table; use Size, RowOffset or Parallelism"
        )
    if options.split_number < 1:
        raise InvalidArgumentError(
            f"SplitNumber {options.split_number} is below 1", actual=options.split_number, limit=1
        )
    if options.split_mode is SplitMode.PARALLELISM and options.split_number > MAX_PARALLELISM:
        raise InvalidArgumentError(
            f"SplitNumber {options.split_number} asks for more than {MAX_PARALLELISM} splits",
            actual=options.split_number,
            limit=MAX_PARALLELISM,
        )


def count_splits(options: SplitOptions, scopes: Sequence[Scope]) -> list[int]:
    """How many splits each scope has, where totals decide it: all modes but Size of whole batches."""
    number = options.split_number
    if options.split_mode is SplitMode.ROW_OFFSET:
        return [-(-scope.rows // number) for scope in scopes]
    if options.split_mode is SplitMode.PARALLELISM:
        if len(scopes) == 1:
            return [number]
        total = sum(scope.rows for scope in scopes)
        return [max(1, round(number * scope.rows / max(total, 1))) for scope in scopes]
    size = max(number, MIN_GRID_BYTES)
    return [-(-scope.bytes // size) if scope.rows else 0 for scope in scopes]


class Splits:
    """The splits of one session. Immutable; thread-safe; cheap but for Size of whole batches (one pass).

    It does not hold the snapshot it was made of, which is many times its size: what keeps the splits
    of many sessions would keep a snapshot for each.

    Attributes:
        count: how many there are.
        size_bytes: about how much memory this takes.
    """

    def __init__(self, options: SplitOptions, snapshot: Snapshot, *, grid: bool) -> None:
        """Divides ``snapshot``; ``grid`` chooses Size by position and must not change for a session."""
        self._mode = options.split_mode
        self._number = options.split_number
        batches = snapshot.batch_count
        whole = options.cross_partition or len(snapshot.partitions) <= 1
        if whole:
            self._first_batch = np.array([0, batches], dtype=np.int64)
        else:
            self._first_batch = snapshot.partition_batches
        self._first_row = snapshot.row_start.take(self._first_batch)
        self._packed: NDArray[np.int64] | None = None
        if self._mode is SplitMode.SIZE and not grid:
            self._packed = _pack(snapshot, self._first_batch, self._number)
            self.count = len(self._packed) - 1
            self.size_bytes = _OBJECT_BYTES + 16 * len(self._first_batch) + self._packed.nbytes
            return
        if self._mode is SplitMode.SIZE:
            self._number = max(self._number, MIN_GRID_BYTES)
            self._first_byte = _first_bytes(snapshot, whole=whole)
            ends = np.diff(self._first_byte).tolist()
        else:
            ends = [0] * (len(self._first_batch) - 1)
        rows = np.diff(self._first_row).tolist()
        scopes = [Scope(count, size) for count, size in zip(rows, ends, strict=True)]
        counts = count_splits(options, scopes)
        self._first_split = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.count = int(self._first_split[-1])
        self.size_bytes = _OBJECT_BYTES + 32 * len(self._first_batch)

    def rows(self, index: int, snapshot: Snapshot) -> RowRange:
        """The rows of split ``index`` of the snapshot that was divided.

        Raises:
            InvalidArgumentError: there is no such split.
        """
        if not 0 <= index < self.count:
            raise InvalidArgumentError(
                f"there is no split {index}: the session has {self.count}, counted from 0",
                actual=index,
                limit=self.count,
            )
        if self._packed is not None:
            starts = snapshot.row_start
            first, end = self._packed[index : index + 2].tolist()
            return RowRange(starts[first], starts[end])
        scope = int(np.searchsorted(self._first_split, index, side="right")) - 1
        position = index - int(self._first_split[scope])
        parts = int(self._first_split[scope + 1] - self._first_split[scope])
        start, end = (self._cut(snapshot, scope, at, parts) for at in (position, position + 1))
        return RowRange(start, end)

    def starts(self, snapshot: Snapshot) -> NDArray[np.int64]:
        """The first row of each split of the snapshot that was divided, and behind the last one the total."""
        if self._packed is not None:
            return snapshot.row_start.take(self._packed)
        firsts = self._first_split.tolist()
        rows = [
            self._cut(snapshot, scope, index, end - first)
            for scope, (first, end) in enumerate(itertools.pairwise(firsts))
            for index in range(end - first)
        ]
        return np.array([*rows, int(self._first_row[-1])], dtype=np.int64)

    def _cut(self, snapshot: Snapshot, scope: int, index: int, parts: int) -> int:
        """The first row of the scope's split ``index``."""
        start, end = int(self._first_row[scope]), int(self._first_row[scope + 1])
        if index == 0:
            return start
        if index == parts:
            return end
        if self._mode is SplitMode.ROW_OFFSET:
            return min(start + index * self._number, end)
        if self._mode is SplitMode.PARALLELISM:
            return _near_boundary(
                snapshot, start + (end - start) * index // parts, (end - start) // parts
            )
        position = int(self._first_byte[scope]) + index * self._number
        return snapshot.row_start[_first_from(snapshot, position)]


def _first_from(snapshot: Snapshot, position: int) -> int:
    """The first batch that starts at a position of the segments laid end to end, or behind it."""
    segment = snapshot.segment_start.searchsorted(position, "right") - 1
    first, end = snapshot.batches_of(segment)
    offsets = snapshot.offset[first:end] + snapshot.segment_start[segment]
    return first + int(np.searchsorted(offsets, position, side="left"))


def _near_boundary(snapshot: Snapshot, row: int, split_rows: int) -> int:
    """A row between two splits: the start of a batch where one is near."""
    starts = snapshot.row_start
    after = starts.searchsorted(row, "left")
    near = min((starts[after - 1], starts[after]), key=lambda b: abs(b - row))
    return near if abs(near - row) <= split_rows // _SNAP_DIVISOR else row


def _pack(
    snapshot: Snapshot, first_batch: NDArray[np.int64], split_bytes: int
) -> NDArray[np.int64]:
    """First batch of each split and, last, the number of batches: whole batches up to the bytes."""
    bounds: list[int] = []
    bytes_before = snapshot.byte_start
    for first, last in zip(first_batch[:-1].tolist(), first_batch[1:].tolist(), strict=True):
        batch = _with_rows(snapshot, first)
        while batch < last:
            bounds.append(batch)
            room = bytes_before[batch] + split_bytes
            full = bytes_before.searchsorted(room, "right") - 1
            batch = _with_rows(snapshot, min(max(full, batch + 1), last))
    return np.array([*bounds, snapshot.batch_count], dtype=np.int64)


def _with_rows(snapshot: Snapshot, batch: int) -> int:
    """This batch, or the next one that has rows: a split begins with one, so that none is empty."""
    return snapshot.batch_at(snapshot.row_start[batch])


def _first_bytes(snapshot: Snapshot, *, whole: bool) -> NDArray[np.int64]:
    """Where each scope's segments begin in all of them laid end to end, and after the last the end."""
    if whole:
        return np.array([0, snapshot.segment_start[-1]], dtype=np.int64)
    indices = np.arange(len(snapshot.partitions) + 1, dtype=np.int64)
    first = snapshot.segment_partition.searchsorted_all(indices, "left")
    return snapshot.segment_start.take(first)
