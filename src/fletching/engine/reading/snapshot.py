"""The rows of one table version, as arrays that a split or a row range is looked up in.

Rows are ordered by partition (values compared as text), then by the segments' positions, then as
written; so a partition's rows are one range, and the order is the same in every process.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fletching.catalog.deletion_rows import DeletionRow
from fletching.catalog.segment_rows import SegmentRow, decode_partition
from fletching.engine.reading.segment_list import SegmentList
from fletching.engine.reading.shown_rows import LoadVector, RowSelection, WithoutDeletions
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
    """Immutable; safe to share between threads. Takes `size_bytes` of memory.

    Attributes:
        segments: in row order.
        partitions: the distinct partitions' values, in row order.
        segment_partition: per segment, its place in ``partitions``.
        batch_segment: per record batch, its place in ``segments``.
        offset, metadata_length, body_length: per record batch, from the batch index.
        stored_rows: per record batch, the rows that are stored.
        rows: per record batch, the rows that are shown; the same array where nothing is deleted.
        selections: which rows of a segment are shown, by its place in ``segments``; only of those
            that do not show all.
    """

    segments: Sequence[SegmentRow]
    partitions: tuple[tuple[str, ...], ...]
    segment_partition: _Int64
    batch_segment: _Int64
    offset: _Int64
    metadata_length: _Int64
    body_length: _Int64
    stored_rows: _Int64
    rows: _Int64
    selections: Mapping[int, RowSelection] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls,
        segments: Sequence[SegmentRow],
        deletions: Sequence[DeletionRow] = (),
        load: LoadVector = lambda _: None,
    ) -> Snapshot:
        """Orders the segments, joins their batch indexes and takes the deleted rows off.

        Args:
            segments: those that the version shows.
            deletions: those that the version shows; of other segments, too.
            load: fetches the vectors of deletions that came without.

        Raises:
            CorruptObjectError: a batch index is not whole, or disagrees with its segment's rows, or
                a deletion's counts are wrong.
        """
        texts = sorted({segment.partition for segment in segments}, key=decode_partition)
        place = {text: number for number, text in enumerate(texts)}
        ordered = tuple(sorted(segments, key=operator.attrgetter("position")))
        if len(texts) > 1:
            # Stable, so that positions keep their order inside a partition.
            ordered = tuple(sorted(ordered, key=lambda row: place[row.partition]))
        columns, batch_segment, counts = index_of(ordered)
        stored_rows = columns[3]
        rows, selections = _without(ordered, counts, stored_rows, deletions, load)
        snapshot = cls(
            segments=SegmentList.of(ordered),
            partitions=tuple(decode_partition(text) for text in texts),
            segment_partition=np.array([place[row.partition] for row in ordered], dtype=np.int64),
            batch_segment=batch_segment,
            offset=columns[0],
            metadata_length=columns[1],
            body_length=columns[2],
            stored_rows=stored_rows,
            rows=rows,
            selections=selections,
        )
        # Worked out now, since every later version of the table is made from them.
        _ = snapshot.segment_kind, snapshot.segment_ids, snapshot.row_start, snapshot.byte_start
        return snapshot

    @classmethod
    def listed(
        cls, entries: Sequence[tuple[SegmentRow, tuple[str, ...], RowSelection | None]]
    ) -> Snapshot:
        """Segments in the order given, each with partition values and the rows of it that are shown.

        A segment may stand in the list several times, with other rows or values.

        Raises:
            CorruptObjectError: a batch index is not whole, or disagrees with its segment's rows.
        """
        segments = tuple(segment for segment, _, _ in entries)
        columns, batch_segment, counts = index_of(segments)
        partitions = tuple(dict.fromkeys(values for _, values, _ in entries))
        place = {values: number for number, values in enumerate(partitions)}
        selections = {
            number: selection
            for number, (_, _, selection) in enumerate(entries)
            if selection is not None
        }
        rows = stored_rows = columns[3]
        if selections:
            rows = rows.copy()
            starts = cumulative(counts)
            for number, selection in selections.items():
                rows[int(starts[number]) : int(starts[number + 1])] = selection.counts
        return cls(
            segments=segments,
            partitions=partitions,
            segment_partition=np.array([place[values] for _, values, _ in entries], dtype=np.int64),
            batch_segment=batch_segment,
            offset=columns[0],
            metadata_length=columns[1],
            body_length=columns[2],
            stored_rows=stored_rows,
            rows=rows,
            selections=selections,
        )

    def carry(self, **known: object) -> None:
        """Keeps what would else be worked out segment by segment; names are of cached properties."""
        self.__dict__.update(known)

    @functools.cached_property
    def size_bytes(self) -> int:
        """About how much memory this takes, with the arrays that are made when they are asked for."""
        return size_of(self.segments, self.batch_count)

    @functools.cached_property
    def dirty(self) -> NDArray[np.bool_] | None:
        """Per record batch, whether it shows fewer rows than it has; None if all show all."""
        return None if self.rows is self.stored_rows else self.rows != self.stored_rows

    @functools.cached_property
    def segment_batches(self) -> _Int64:
        """First batch of each segment, and after the last one the number of batches."""
        places = np.arange(len(self.segments) + 1, dtype=np.int64)
        return np.searchsorted(self.batch_segment, places, side="left").astype(np.int64)

    def mask(self, batch: int) -> NDArray[np.bool_] | None:
        """For each row of a batch whether it is shown; None if all are.

        Raises:
            CorruptObjectError: what says so is damaged.
        """
        if self.dirty is None or not self.dirty[batch]:
            return None
        place = int(self.batch_segment[batch])
        return self.selections[place].mask(batch - int(self.segment_batches[place]))

    def kept(self, batch: int) -> NDArray[np.int64] | None:
        """The rows of a batch that are shown, counted from its first; None for all.

        Raises:
            CorruptObjectError: what says so is damaged.
        """
        if self.dirty is None or not self.dirty[batch]:
            return None
        place = int(self.batch_segment[batch])
        return self.selections[place].kept(batch - int(self.segment_batches[place]))

    @functools.cached_property
    def kinds(self) -> tuple[tuple[int, str], ...]:
        """The distinct (schema version, codecs) of segments: what decides how they are sent."""
        return tuple(dict.fromkeys((row.schema_version, row.codecs) for row in self.segments))

    @functools.cached_property
    def segment_ids(self) -> _Int64:
        """The catalog's number of each segment."""
        return np.fromiter((row.id for row in self.segments), np.int64, count=len(self.segments))

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
        """Rows that are shown."""
        return int(self.row_start[-1])

    @functools.cached_property
    def row_start(self) -> _Int64:
        """First row of each batch, and after the last one the total."""
        return cumulative(self.rows)

    @functools.cached_property
    def message_length(self) -> _Int64:
        """Bytes of each record batch message, metadata and body."""
        lengths: Any = self.metadata_length + self.body_length
        return lengths

    @functools.cached_property
    def byte_start(self) -> _Int64:
        """Message bytes before each batch, and after the last one the total."""
        return cumulative(self.message_length)

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


def index_of(segments: Sequence[SegmentRow]) -> tuple[NDArray[np.int64], _Int64, _Int64]:
    """The joined batch indexes by column, the segment of each batch, and batches per segment."""
    width = 8 * _INDEX_COLUMNS
    for segment in segments:
        if len(segment.batch_index) % width:
            raise CorruptObjectError("a segment's batch index is cut", key=segment.key)
    counts = np.array([len(row.batch_index) // width for row in segments], dtype=np.int64)
    joined = b"".join([row.batch_index for row in segments])
    index = np.frombuffer(joined, dtype="<i8").astype(np.int64, copy=False)
    columns = np.ascontiguousarray(index.reshape(-1, _INDEX_COLUMNS).T)
    batch_segment = np.repeat(np.arange(len(segments), dtype=np.int64), counts)
    recorded = np.array([row.rows for row in segments], dtype=np.int64)
    indexed = np.bincount(batch_segment, columns[3], minlength=len(segments)).astype(np.int64)
    if not np.array_equal(recorded, indexed):
        wrong = segments[int(np.argmax(recorded != indexed))]
        raise CorruptObjectError("a segment's rows differ from its batch index", key=wrong.key)
    return columns, batch_segment, counts


def _without(
    segments: Sequence[SegmentRow],
    counts: _Int64,
    stored_rows: _Int64,
    deletions: Sequence[DeletionRow],
    load: LoadVector,
) -> tuple[_Int64, dict[int, RowSelection]]:
    """Rows per batch that are left, and the selections of segments that have lost some."""
    place = {segment.id: number for number, segment in enumerate(segments)}
    of_segment: dict[int, list[DeletionRow]] = {}
    for deletion in deletions:
        number = place.get(deletion.segment_id)
        if number is not None:
            of_segment.setdefault(number, []).append(deletion)
    if not of_segment:
        return stored_rows, {}
    rows = stored_rows.copy()
    starts = cumulative(counts)
    selections: dict[int, RowSelection] = {}
    for number, found in of_segment.items():
        window = slice(int(starts[number]), int(starts[number + 1]))
        selection = WithoutDeletions(segments[number].key, stored_rows[window], found, load)
        selections[number] = selection
        rows[window] = selection.counts
    return rows, selections


_SEGMENT_BYTES = 560  # a row's tuple, numbers and texts, and its places in the arrays
_BATCH_BYTES = 88  # five columns of the index and six derived ones


def size_of(segments: Sequence[SegmentRow], batches: int) -> int:
    """About how much memory segments take in a snapshot that has so many batches of them."""
    lengths = sum(
        len(row.batch_index) + len(row.dictionary_index) + len(row.statistics or b"")
        for row in segments
    )
    return lengths + _SEGMENT_BYTES * len(segments) + _BATCH_BYTES * batches


def cumulative(lengths: _Int64) -> _Int64:
    """What stands before each of some lengths, and after the last one the total."""
    total = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=total[1:])
    return total
