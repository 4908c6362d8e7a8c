"""The rows of one table version, as arrays that a split or a row range is looked up in.

Rows are ordered by partition (values compared as text), then by the segments' positions, then as
written; so a partition's rows are one range, and the order is the same in every process.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fletching.catalog.segment_rows import SegmentRow, decode_partition
from fletching.errors import CorruptObjectError
from fletching.types import RowRange

__all__ = ["BatchRange", "Snapshot"]

_INDEX_COLUMNS = 4  # offset, metadata length, body length, rows
_Int64 = NDArray[np.int64]


@dataclasses.dataclass(frozen=True, slots=True)
class BatchRange:
    """Rows ``start`` to ``end`` (in batch) of a record batch; ``batch`` counts the snapshot's batches."""

    batch: int
    start: int
    end: int


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """Immutable; safe to share between threads. About 200 bytes per segment and 60 per batch.

    Attributes:
        segments: in row order.
        partitions: the distinct partitions' values, in row order.
        segment_partition: per segment, its place in ``partitions``.
        batch_segment: per record batch, its place in ``segments``.
        offset, metadata_length, body_length, rows: per record batch, from the batch index.
    """

    segments: tuple[SegmentRow, ...]
    partitions: tuple[tuple[str, ...], ...]
    segment_partition: _Int64
    batch_segment: _Int64
    offset: _Int64
    metadata_length: _Int64
    body_length: _Int64
    rows: _Int64

    @classmethod
    def of(cls, segments: Sequence[SegmentRow]) -> Snapshot:
        """Orders the segments and joins their batch indexes.

        Raises:
            CorruptObjectError: a batch index is not whole, or disagrees with its segment's rows.
        """
        texts = sorted({segment.partition for segment in segments}, key=decode_partition)
        place = {text: number for number, text in enumerate(texts)}
        ordered = tuple(sorted(segments, key=operator.attrgetter("position")))
        if len(texts) > 1:
            # Stable, so that positions keep their order inside a partition.
            ordered = tuple(sorted(ordered, key=lambda row: place[row.partition]))
        width = 8 * _INDEX_COLUMNS
        for segment in ordered:
            if len(segment.batch_index) % width:
                raise CorruptObjectError("a segment's batch index is cut", key=segment.key)
        counts = np.array([len(row.batch_index) // width for row in ordered], dtype=np.int64)
        joined = b"".join([row.batch_index for row in ordered])
        index = np.frombuffer(joined, dtype="<i8").astype(np.int64, copy=False)
        columns = np.ascontiguousarray(index.reshape(-1, _INDEX_COLUMNS).T)
        batch_segment = np.repeat(np.arange(len(ordered), dtype=np.int64), counts)
        recorded = np.array([row.rows for row in ordered], dtype=np.int64)
        indexed = np.bincount(batch_segment, columns[3], minlength=len(ordered)).astype(np.int64)
        if not np.array_equal(recorded, indexed):
            wrong = ordered[int(np.argmax(recorded != indexed))]
            raise CorruptObjectError("a segment's rows differ from its batch index", key=wrong.key)
        return cls(
            segments=ordered,
            partitions=tuple(decode_partition(text) for text in texts),
            segment_partition=np.array([place[row.partition] for row in ordered], dtype=np.int64),
            batch_segment=batch_segment,
            offset=columns[0],
            metadata_length=columns[1],
            body_length=columns[2],
            rows=columns[3],
        )

    @functools.cached_property
    def kinds(self) -> tuple[tuple[int, str], ...]:
        """The distinct (schema version, codecs) of segments: what decides how they are sent."""
        return tuple(dict.fromkeys((row.schema_version, row.codecs) for row in self.segments))

    @functools.cached_property
    def segment_kind(self) -> _Int64:
        """Per segment, its place in ``kinds``."""
        place = {kind: number for number, kind in enumerate(self.kinds)}
        return np.array(
            [place[row.schema_version, row.codecs] for row in self.segments], dtype=np.int64
        )

    @property
    def batch_count(self) -> int:
        """Record batches in all segments."""
        return len(self.rows)

    @property
    def row_count(self) -> int:
        """Rows in all segments."""
        return int(self.row_start[-1])

    @functools.cached_property
    def row_start(self) -> _Int64:
        """First row of each batch, and after the last one the total."""
        return _cumulative(self.rows)

    @functools.cached_property
    def message_length(self) -> _Int64:
        """Bytes of each record batch message, metadata and body."""
        lengths: Any = self.metadata_length + self.body_length
        return lengths

    @functools.cached_property
    def byte_start(self) -> _Int64:
        """Message bytes before each batch, and after the last one the total."""
        return _cumulative(self.message_length)

    @functools.cached_property
    def partition_batches(self) -> _Int64:
        """First batch of each partition, and after the last one the number of batches."""
        owner = self.segment_partition[self.batch_segment]
        places = np.arange(len(self.partitions) + 1, dtype=np.int64)
        return np.searchsorted(owner, places, side="left").astype(np.int64)

    def segment_of(self, batch: int) -> SegmentRow:
        """The segment that holds a batch."""
        return self.segments[int(self.batch_segment[batch])]

    def partition_of(self, batch: int) -> tuple[str, ...]:
        """The partition values of a batch's rows."""
        return self.partitions[int(self.segment_partition[int(self.batch_segment[batch])])]

    def cover(self, wanted: RowRange) -> Iterator[BatchRange]:
        """The batches, whole or cut, that hold a row range, in order; batches without rows are left out."""
        batch = int(np.searchsorted(self.row_start, wanted.start, side="right")) - 1
        position = wanted.start
        while position < wanted.end:
            first, end = int(self.row_start[batch]), int(self.row_start[batch + 1])
            stop = min(end, wanted.end)
            if stop > position:
                yield BatchRange(batch, position - first, stop - first)
                position = stop
            batch += 1


def _cumulative(lengths: _Int64) -> _Int64:
    total = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=total[1:])
    return total
