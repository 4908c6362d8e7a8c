"""What a filter spares a read: which partitions and segments it does not even open."""

from __future__ import annotations

from typing import NamedTuple

from fletching.engine.reading.row_filter import RowFilter
from fletching.engine.reading.snapshot import Snapshot
from fletching.sql.predicates.conditions import TRUE

__all__ = ["KeptSegments", "kept_segments"]


class KeptSegments(NamedTuple):
    """How much is read, of how much there is; bytes are those of whole segments."""

    partitions: int
    all_partitions: int
    segments: int
    all_segments: int
    bytes: int
    all_bytes: int

    def __str__(self) -> str:
        """``partitions: 1 of 7; segments: 2 of 40; bytes: 100 of 4000``."""
        return (
            f"partitions: {self.partitions} of {self.all_partitions}; "
            f"segments: {self.segments} of {self.all_segments}; "
            f"bytes: {self.bytes} of {self.all_bytes}"
        )


def kept_segments(snapshot: Snapshot, row_filter: RowFilter | None) -> KeptSegments:
    """Counts what a read of a snapshot opens, by the rule that plans it."""
    places = snapshot.segment_partition.tolist()
    if row_filter is None:
        kept = list(range(len(snapshot.segments)))
    else:
        row_filter.prepare(snapshot.partitions)
        kept = [
            number
            for number, place in enumerate(places)
            if row_filter.left(snapshot.partitions[place]) is TRUE
            or row_filter.may_match(snapshot.segments[number], snapshot.partitions[place])
        ]
    return KeptSegments(
        partitions=len({places[number] for number in kept}),
        all_partitions=len(set(places)),
        segments=len(kept),
        all_segments=len(places),
        bytes=sum(snapshot.segments[number].length for number in kept),
        all_bytes=snapshot.segment_start[-1],
    )
