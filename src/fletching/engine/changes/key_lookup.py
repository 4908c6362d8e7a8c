"""Where the keys of rows are in a table: in few key runs, however many segments there are.

Upkeep puts the entries of many segments into merged runs. What they say of a segment never changes, so a
merged run is right as long as the segment exists, in whatever version; entries of segments that are not
asked about are passed over. A merged run that is gone or damaged costs nothing but time: the segments'
own runs are looked into.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from fletching.catalog.merged_run_rows import MergedRunRow, merged_runs_of
from fletching.catalog.segment_rows import SegmentRow
from fletching.engine.changes.key_runs import KeyRun, RunIndexes, open_run, run_at
from fletching.errors import CorruptObjectError, ObjectNotFoundError
from fletching.objects.store import ObjectStore

__all__ = ["Located", "located", "open_merged"]


class Located(NamedTuple):
    """Entries of one segment that have some of the wanted numbers."""

    segment: SegmentRow
    places: NDArray[np.int64]
    """Among the wanted numbers of the segment's partition, for each entry."""
    rows: NDArray[np.uint32]
    """Of the segment."""


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
    wanted: Mapping[str, NDArray[np.uint64]],
    *,
    indexes: RunIndexes,
) -> Iterator[Located]:
    """Finds numbers in segments.

    Args:
        store: where the objects are.
        connection: to the catalog.
        table_id: the segments' table.
        segments: where to look.
        wanted: numbers, ascending, by partition (the catalog's text); each segment's is among them.
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
                found = open_merged(store, row, indexes).find(wanted[row.partition])
            except (CorruptObjectError, ObjectNotFoundError):
                continue
            for segment in filter(None, owners):
                del left[segment.key]
            yield from _by_owner(owners, *found)
    for segment in left.values():
        places, rows, _ = open_run(store, segment, indexes).find(wanted[segment.partition])
        if len(places):
            yield Located(segment, places, rows)


def _by_owner(
    owners: Sequence[SegmentRow | None],
    places: NDArray[np.int64],
    rows: NDArray[np.uint32],
    who: NDArray[np.uint32] | None,
) -> Iterator[Located]:
    assert who is not None
    order = np.argsort(who, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(who[order])) + 1):
        number = int(who[group[0]]) if len(group) else len(owners)
        segment = owners[number] if number < len(owners) else None
        if segment is not None:
            yield Located(segment, places[group], rows[group])
