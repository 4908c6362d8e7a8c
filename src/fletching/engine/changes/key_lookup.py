"""Where the keys of rows are in a table: in few key runs, however many segments there are.

Upkeep puts the entries of many segments into merged runs. What they say of a segment never changes, so a
merged run is right as long as the segment exists, in whatever version; entries of segments that are not
asked about are passed over. A merged run that is gone or damaged costs nothing but time: the segments'
own runs are looked into.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap
from sqlalchemy import Connection

from fletching.catalog.merged_run_rows import MergedRunRow, merged_runs_of
from fletching.catalog.segment_rows import SegmentRow
from fletching.engine.changes.block_search import Sought
from fletching.engine.changes.key_runs import KeyRun, RunIndexes, open_run, run_at
from fletching.errors import CorruptObjectError, ObjectNotFoundError
from fletching.objects.store import ObjectStore

__all__ = ["Located", "Wanted", "located", "open_merged"]


class Located(NamedTuple):
    """Entries of one segment that have some of the wanted numbers."""

    segment: SegmentRow
    indices: NDArray[np.int64]
    """Among the wanted numbers of the segment's partition, for each entry."""
    rows: NDArray[np.uint32]
    """Of the segment."""


class Wanted:
    """Numbers that are looked for, made when a run is met that may have some. Not thread-safe.

    Attributes:
        low, high: no number is less, or more.
    """

    def __init__(self, low: int, high: int, make: Callable[[], NDArray[np.uint64]]) -> None:
        self.low = low
        self.high = high
        self._make = make
        self._sought: Sought | None = None

    @classmethod
    def of(cls, numbers: NDArray[np.uint64]) -> Wanted:
        """Numbers that are known, ascending."""
        low, high = (int(numbers[0]), int(numbers[-1])) if len(numbers) else (1, 0)
        return cls(low, high, lambda: numbers)

    @functools.cached_property
    def numbers(self) -> NDArray[np.uint64]:
        """The numbers."""
        return self._make()

    def among(
        self, run: KeyRun
    ) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.uint32] | None] | None:
        """The entries of a run that have some of them; None if none can have."""
        if not run.spans(self.low, self.high):
            return None
        if self._sought is None:
            self._sought = Sought(self.numbers)
        return run.find(self._sought)

    def known_slots(self, shift: int) -> BitMap | None:
        """The slots of the numbers, if some run was asked for these by them."""
        return None if self._sought is None else self._sought.known_slots(shift)


def open_merged(store: ObjectStore, row: MergedRunRow, indexes: RunIndexes | None = None) -> KeyRun:
    """A merged run.

    Raises:
        ObjectNotFoundError: it was merged into another one meanwhile.
        CorruptObjectError: it is not what was written.
    """
    stored = store.open(row.key)
    if stored.length != row.length:
        raise CorruptObjectError("a merged key run is cut", key=row.key)
    return run_at(stored, 0, row.length, most=row.entries, merged=True, indexes=indexes)


def located(
    store: ObjectStore,
    connection: Connection,
    table_id: str,
    segments: Sequence[SegmentRow],
    wanted: Mapping[str, Wanted],
    *,
    indexes: RunIndexes,
) -> Iterator[Located]:
    """Finds numbers in segments.

    Args:
        store: where the objects are.
        connection: to the catalog.
        table_id: the segments' table.
        segments: where to look.
        wanted: numbers by partition (the catalog's text); each segment's is among them.
        indexes: what is known of runs.

    Raises:
        CorruptObjectError: a segment's own run is damaged.
    """
    left = {segment.key: segment for segment in segments}
    # The lists of merged runs take longer to read than a few runs to look into.
    if len(left) > 1:
        for row in merged_runs_of(connection, table_id, wanted.keys()):
            if row.partition not in wanted:
                continue
            try:
                owners = [left.get(key) for key in row.owner_keys()]
                if not any(owners):
                    continue
                result = wanted[row.partition].among(open_merged(store, row, indexes))
            except (CorruptObjectError, ObjectNotFoundError):
                continue
            for segment in filter(None, owners):
                del left[segment.key]
            if result is not None:
                yield from _by_owner(owners, *result)
    for segment in left.values():
        result = wanted[segment.partition].among(open_run(store, segment, indexes))
        if result is not None and len(result[0]):
            yield Located(segment, result[0], result[1])


def _by_owner(
    owners: Sequence[SegmentRow | None],
    indices: NDArray[np.int64],
    rows: NDArray[np.uint32],
    who: NDArray[np.uint32] | None,
) -> Iterator[Located]:
    assert who is not None
    order = np.argsort(who, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(who[order])) + 1):
        number = int(who[group[0]]) if len(group) else len(owners)
        segment = owners[number] if number < len(owners) else None
        if segment is not None:
            yield Located(segment, indices[group], rows[group])
