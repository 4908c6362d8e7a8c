"""What a filter and the bounds of zones say of the record batches of one segment."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fletching.engine.reading.row_filter import RowFilter
from fletching.engine.reading.snapshot import Snapshot
from fletching.engine.tables.zone_bounds import ZONE_ROWS

__all__ = ["ZonesOfBatches", "zones_of_batches"]


class ZonesOfBatches(NamedTuple):
    """The batches of one segment.

    Attributes:
        may: per batch, whether it can hold a chosen row.
        all: per batch, whether every row that it stores is chosen.
        hulls: of batches of several zones not all of which can hold one, by the batch's place in the
            snapshot: the rows from the first zone to the end of the last that can. Of batches that
            have lost rows nothing is said, as their rows are counted without them.
    """

    may: NDArray[np.bool_]
    all: NDArray[np.bool_]
    hulls: dict[int, tuple[int, int]]


def zones_of_batches(
    snapshot: Snapshot, place: int, row_filter: RowFilter, *, proves: bool = True
) -> ZonesOfBatches | None:
    """Asks the filter of the zones of the segment at a place; None if nothing is known of them.

    ``proves`` as for `RowFilter.zones`.
    """
    segment = snapshot.segments[place]
    if segment.zone_bounds is None:
        return None
    first, end = snapshot.batches_of(place)
    rows = snapshot.stored_rows[first:end]
    counts = np.maximum(-(-rows // ZONE_ROWS), 1)
    partition = snapshot.partitions[int(snapshot.segment_partition[place])]
    zones = row_filter.zones(segment, partition, int(counts.sum()), proves=proves)
    if zones is None:
        return None
    starts = np.cumsum(counts) - counts
    may = np.logical_or.reduceat(zones.may, starts)
    all_chosen = np.logical_and.reduceat(zones.all, starts)
    partly = may & ~np.logical_and.reduceat(zones.may, starts)
    partly &= ~snapshot.dirty(first, end)
    hulls: dict[int, tuple[int, int]] = {}
    for batch in np.flatnonzero(partly).tolist():
        start = int(starts[batch])
        result = np.flatnonzero(zones.may[start : start + int(counts[batch])])
        hull = int(result[0]) * ZONE_ROWS, min((int(result[-1]) + 1) * ZONE_ROWS, int(rows[batch]))
        hulls[first + batch] = hull
    return ZonesOfBatches(may, all_chosen, hulls)
