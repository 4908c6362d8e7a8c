"""The rows of one table version, as numbers in which a split or a row range is looked up.

Rows are ordered by partition (values compared as text), then by the segments' positions, then as
written; so a partition's rows are one range, and the order is the same in every process.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fletching.catalog.deletion_rows import DeletionRow
from fletching.catalog.segment_rows import SegmentRow, decode_partition
from fletching.engine.reading.chunked_lists import ChunkedNumbers, SegmentList
from fletching.engine.reading.shown_rows import LoadVector, RowSelection, WithoutDeletions
from fletching.errors import CorruptObjectError
from fletching.types import RowRange

__all__ = ["BatchRange", "Snapshot", "index_of", "size_of", "without_rows"]

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
        segment_partition: per segment, its index in ``partitions``.
        batch_segment: per record batch, its index in ``segments``.
        offset, metadata_length, message_length: per record batch, from the batch index; messages
            are metadata and body.
        stored_rows: per record batch, the rows that are stored.
        rows: per record batch, the rows that are shown; the same array where nothing is deleted.
        selections: which rows of a segment are shown, by its index in ``segments``; only of those
            that do not show all.
    """

    segments: Sequence[SegmentRow]
    partitions: tuple[tuple[str, ...], ...]
    segment_partition: ChunkedNumbers
    batch_segment: ChunkedNumbers
    offset: ChunkedNumbers
    metadata_length: ChunkedNumbers
    message_length: ChunkedNumbers
    stored_rows: ChunkedNumbers
    rows: ChunkedNumbers
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
        position = {text: number for number, text in enumerate(texts)}
        ordered = tuple(sorted(segments, key=operator.attrgetter("position")))
        if len(texts) > 1:
            # Stable, so that positions keep their order inside a partition.
            ordered = tuple(sorted(ordered, key=lambda row: position[row.partition]))
        index = index_of(ordered)
        owners = np.array([position[row.partition] for row in ordered], dtype=np.int64)
        stored_rows = ChunkedNumbers.of(index.rows)
        snapshot = cls(
            segments=SegmentList.of(ordered),
            partitions=tuple(decode_partition(text) for text in texts),
            segment_partition=ChunkedNumbers.of(owners),
            batch_segment=ChunkedNumbers.of(index.batch_segment),
            offset=ChunkedNumbers.of(index.offset),
            metadata_length=ChunkedNumbers.of(index.metadata_length),
            message_length=ChunkedNumbers.of(index.message_length),
            stored_rows=stored_rows,
            rows=stored_rows,
        )
        # Worked out now, since every later version of the table is made from them.
        _ = snapshot.segment_kind, snapshot.segment_ids, snapshot.segment_start
        _ = snapshot.row_start, snapshot.byte_start
        return without_rows(snapshot, deletions, load)

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
        index = index_of(segments)
        partitions = tuple(dict.fromkeys(values for _, values, _ in entries))
        position = {values: number for number, values in enumerate(partitions)}
        selections = {
            number: selection
            for number, (_, _, selection) in enumerate(entries)
            if selection is not None
        }
        rows = index.rows
        if selections:
            rows = rows.copy()
            starts = np.searchsorted(index.batch_segment, np.arange(len(segments) + 1))
            for number, selection in selections.items():
                rows[int(starts[number]) : int(starts[number + 1])] = selection.counts
        owners = np.array([position[values] for _, values, _ in entries], dtype=np.int64)
        stored_rows = ChunkedNumbers.of(index.rows)
        return cls(
            segments=segments,
            partitions=partitions,
            segment_partition=ChunkedNumbers.of(owners),
            batch_segment=ChunkedNumbers.of(index.batch_segment),
            offset=ChunkedNumbers.of(index.offset),
            metadata_length=ChunkedNumbers.of(index.metadata_length),
            message_length=ChunkedNumbers.of(index.message_length),
            stored_rows=stored_rows,
            rows=ChunkedNumbers.of(rows) if selections else stored_rows,
            selections=selections,
        )

    def carry(self, **known: object) -> None:
        """Keeps what would else be worked out segment by segment; names are of cached properties."""
        self.__dict__.update(known)

    def showing(self, rows: ChunkedNumbers, selections: Mapping[int, RowSelection]) -> Snapshot:
        """The same segments, of which other rows are shown."""
        other = dataclasses.replace(self, rows=rows, selections=selections)
        other.carry(
            kinds=self.kinds,
            segment_kind=self.segment_kind,
            segment_ids=self.segment_ids,
            segment_start=self.segment_start,
            byte_start=self.byte_start,
            segment_bytes=self.segment_bytes,
        )
        return other

    @functools.cached_property
    def size_bytes(self) -> int:
        """About how much memory this takes, with all that is made when it is asked for."""
        selections = sum(selection.size_bytes for selection in self.selections.values())
        return self.segment_bytes + selections

    @functools.cached_property
    def segment_bytes(self) -> int:
        """About how much the segments and the arrays take, without the selections."""
        return size_of(self.segments, self.batch_count)

    @property
    def has_deletions(self) -> bool:
        """Whether some batch shows fewer rows than it has."""
        return self.rows is not self.stored_rows

    def dirty(self, first: int, end: int) -> NDArray[np.bool_]:
        """For batches ``first`` to ``end`` whether each shows fewer rows than it has."""
        if not self.has_deletions:
            return np.zeros(end - first, dtype=np.bool_)
        changed: NDArray[np.bool_] = self.rows[first:end] != self.stored_rows[first:end]
        return changed

    def is_dirty(self, batch: int) -> bool:
        """Whether a batch shows fewer rows than it has."""
        return self.has_deletions and self.rows[batch] != self.stored_rows[batch]

    def batches_of(self, index: int) -> tuple[int, int]:
        """First and end batch of the segment at an index."""
        owners = self.batch_segment
        return owners.searchsorted(index, "left"), owners.searchsorted(index, "right")

    def mask(self, batch: int) -> NDArray[np.bool_] | None:
        """For each row of a batch whether it is shown; None if all are.

        Raises:
            CorruptObjectError: what says so is damaged.
        """
        if not self.is_dirty(batch):
            return None
        index = self.batch_segment[batch]
        return self.selections[index].mask(batch - self.batches_of(index)[0])

    def kept(self, batch: int) -> NDArray[np.int64] | None:
        """The rows of a batch that are shown, counted from its first; None for all.

        Raises:
            CorruptObjectError: what says so is damaged.
        """
        mask = self.mask(batch)
        return None if mask is None else np.flatnonzero(mask)

    @functools.cached_property
    def kinds(self) -> tuple[tuple[int, str], ...]:
        """The distinct (schema version, codecs) of segments: what decides how they are sent."""
        return tuple(dict.fromkeys((row.schema_version, row.codecs) for row in self.segments))

    @functools.cached_property
    def segment_ids(self) -> ChunkedNumbers:
        """The catalog's number of each segment."""
        return self._each(row.id for row in self.segments)

    @functools.cached_property
    def segment_kind(self) -> ChunkedNumbers:
        """Per segment, its index in ``kinds``."""
        index = {kind: number for number, kind in enumerate(self.kinds)}
        return self._each(index[row.schema_version, row.codecs] for row in self.segments)

    @functools.cached_property
    def segment_start(self) -> ChunkedNumbers:
        """Bytes of the objects before each segment's, and after the last one the total."""
        return ChunkedNumbers.totals_of(self._each(row.length for row in self.segments))

    def _each(self, numbers: Iterable[int]) -> ChunkedNumbers:
        return ChunkedNumbers.of(np.fromiter(numbers, np.int64, count=len(self.segments)))

    @property
    def batch_count(self) -> int:
        """Record batches in all segments."""
        return len(self.rows)

    @property
    def row_count(self) -> int:
        """Rows that are shown."""
        return self.row_start[-1]

    @functools.cached_property
    def row_start(self) -> ChunkedNumbers:
        """First row of each batch, and after the last one the total."""
        return ChunkedNumbers.totals_of(self.rows)

    @functools.cached_property
    def byte_start(self) -> ChunkedNumbers:
        """Message bytes before each batch, and after the last one the total."""
        return ChunkedNumbers.totals_of(self.message_length)

    @functools.cached_property
    def partition_batches(self) -> _Int64:
        """First batch of each partition, and after the last one the number of batches."""
        indices = np.arange(len(self.partitions) + 1, dtype=np.int64)
        first = self.segment_partition.searchsorted_all(indices, "left")
        return self.batch_segment.searchsorted_all(first, "left")

    def segment_of(self, batch: int) -> SegmentRow:
        """The segment that holds a batch."""
        return self.segments[self.batch_segment[batch]]

    def partition_of(self, batch: int) -> tuple[str, ...]:
        """The partition values of a batch's rows."""
        return self.partitions[self.segment_partition[self.batch_segment[batch]]]

    def batch_at(self, row: int) -> int:
        """The batch that holds a row; -1 in a snapshot without batches, the last one behind the rows."""
        return self.row_start.searchsorted(row, "right") - 1

    def cover(self, wanted: RowRange) -> Iterator[BatchRange]:
        """The batches, whole or cut, that hold a row range, in order; batches without rows are left out."""
        batch = self.batch_at(wanted.start)
        position = wanted.start
        while position < wanted.end:
            first, end = self.row_start[batch], self.row_start[batch + 1]
            stop = min(end, wanted.end)
            if stop > position:
                yield BatchRange(batch, position - first, stop - first)
                position = stop
            batch += 1


class BatchIndex(NamedTuple):
    """The batch indexes of some segments, joined: arrays with a number for each batch."""

    offset: _Int64
    metadata_length: _Int64
    message_length: _Int64
    rows: _Int64
    batch_segment: _Int64


def index_of(segments: Sequence[SegmentRow]) -> BatchIndex:
    """Joins the batch indexes of segments.

    Raises:
        CorruptObjectError: one is not whole, or disagrees with its segment's rows.
    """
    width = 8 * _INDEX_COLUMNS
    for segment in segments:
        if len(segment.batch_index) % width:
            raise CorruptObjectError("a segment's batch index is cut", key=segment.key)
    counts = np.array([len(row.batch_index) // width for row in segments], dtype=np.int64)
    joined = b"".join([row.batch_index for row in segments])
    index = np.frombuffer(joined, dtype="<i8").astype(np.int64, copy=False)
    offset, metadata_length, body_length, rows = np.ascontiguousarray(
        index.reshape(-1, _INDEX_COLUMNS).T
    )
    batch_segment = np.repeat(np.arange(len(segments), dtype=np.int64), counts)
    recorded = np.array([row.rows for row in segments], dtype=np.int64)
    indexed = np.bincount(batch_segment, rows, minlength=len(segments)).astype(np.int64)
    if not np.array_equal(recorded, indexed):
        wrong = segments[int(np.argmax(recorded != indexed))]
        raise CorruptObjectError("a segment's rows differ from its batch index", key=wrong.key)
    return BatchIndex(offset, metadata_length, metadata_length + body_length, rows, batch_segment)


def without_rows(
    snapshot: Snapshot, deletions: Sequence[DeletionRow], load: LoadVector
) -> Snapshot:
    """A snapshot that shows all rows of its segments, without those that are deleted.

    Raises:
        CorruptObjectError: a deletion's counts are wrong.
    """
    of_segment: dict[int, list[DeletionRow]] = {}
    for deletion in deletions:
        of_segment.setdefault(deletion.segment_id, []).append(deletion)
    indices = snapshot.segment_ids.indices_of(of_segment).tolist() if of_segment else []
    if not indices:
        return snapshot
    counts: list[tuple[int, _Int64]] = []
    selections: dict[int, RowSelection] = {}
    for index in indices:
        segment = snapshot.segments[index]
        first, end = snapshot.batches_of(index)
        selection = WithoutDeletions(
            segment.key, snapshot.stored_rows[first:end], of_segment[segment.id], load
        )
        selections[index] = selection
        counts.append((first, selection.counts))
    rows = snapshot.stored_rows.replaced(counts)
    return snapshot.showing(rows, selections)


_SEGMENT_BYTES = 560  # a row's tuple, numbers and texts, and its indices in the arrays
_BATCH_BYTES = 88  # five columns of the index and six derived ones


def size_of(segments: Sequence[SegmentRow], batches: int) -> int:
    """About how much memory segments take in a snapshot that has so many batches of them."""
    lengths = sum(
        len(row.batch_index)
        + len(row.dictionary_index)
        + len(row.statistics or b"")
        + len(row.zone_bounds or b"")
        for row in segments
    )
    return lengths + _SEGMENT_BYTES * len(segments) + _BATCH_BYTES * batches
