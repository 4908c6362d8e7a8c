"""A table as a change reads it: one version, pinned while the change works."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyroaring import BitMap

from fletching.catalog.deletion_rows import bitmap_of
from fletching.catalog.table_rows import TableRow
from fletching.engine.changes.computed_values import computed
from fletching.engine.changes.expression_rows import ExpressionFilter
from fletching.engine.reading.batch_strategies import zones_of_batches
from fletching.engine.reading.computed_batches import worked_ahead
from fletching.engine.reading.message_checks import MessageChecks
from fletching.engine.reading.output_schema import AS_STORED, output_columns
from fletching.engine.reading.physical_projection import (
    OutputMapping,
    PhysicalProjection,
    stored_columns,
)
from fletching.engine.reading.planning import THREADS_BYTES
from fletching.engine.reading.row_filter import RowFilter, row_filter
from fletching.engine.reading.scan_schema import ScanSchema
from fletching.engine.reading.segment_reader import SegmentReader
from fletching.engine.reading.shown_rows import take_rows
from fletching.engine.reading.snapshot import Snapshot
from fletching.errors import CorruptObjectError, InvalidArgumentError, UsageError
from fletching.objects.store import ObjectStore
from fletching.protocol.types.blob_type import contains_blob
from fletching.protocol.types.conversion import convert
from fletching.protocol.types.row_selection import true_rows

if TYPE_CHECKING:
    from fletching.engine.writing.ingest_body import CellChecker

__all__ = ["GatheredRows", "Matches", "PinnedTable"]

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")

_LISTED_ROWS = 1 << 20
"""How many chosen rows are listed one by one before they become part of a bitmap."""

_KEPT_SEGMENTS = 8

_TASK_BATCHES = 4
_TASK_BATCHES_TAKEN = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Matches:
    """Rows of one batch that a change chose.

    Attributes:
        batch: which of the snapshot's.
        rows: their indices in the batch as stored, ascending.
    """

    batch: int
    rows: NDArray[np.int64]


_Take: TypeAlias = Callable[[tuple[int, ...]], pa.RecordBatch]
"""Gives columns of the batch that was looked at, in the order of the segment's."""


class _StoredBatch(NamedTuple):
    """A batch of the snapshot: where it stands in its segment, and how many rows it has and shows."""

    batch: int
    offset: int
    end: int
    rows: int
    shown: int


class GatheredRows:
    """Row numbers of a segment that become one bitmap. Not thread-safe."""

    def __init__(self) -> None:
        self._rows = BitMap()
        self._parts: list[NDArray[np.uint32]] = []
        self._count = 0

    def add(self, rows: NDArray[np.uint32]) -> None:
        """Takes some more."""
        self._parts.append(rows)
        self._count += len(rows)
        if self._count >= _LISTED_ROWS:
            self.bitmap()

    def bitmap(self) -> BitMap:
        """All of them."""
        if self._parts:
            # A bitmap is added to many times only if it must: each time all of it is copied.
            self._rows |= bitmap_of(np.concatenate(self._parts))
            self._parts, self._count = [], 0
        return self._rows


@dataclasses.dataclass(frozen=True, eq=False)
class PinnedTable:
    """One version of a table. Immutable; thread-safe.

    Attributes:
        table: as it was when it was pinned: its version is the one that is read.
        scan_schema: all of its columns, as stored.
        snapshot: what the version shows.
        store: where the segments are.
        checker: finds the packs that BLOB cells refer to, in a table that has such columns.
        checks: proves what is decoded whole: rows that are written again must not give damaged bytes
            a valid checksum. Reading's own, so that what this process has proven counts.
    """

    table: TableRow
    scan_schema: ScanSchema
    snapshot: Snapshot
    store: ObjectStore
    checker: CellChecker | None = None
    checks: MessageChecks = dataclasses.field(default_factory=MessageChecks)

    @property
    def schema(self) -> pa.Schema:
        """The data columns as stored."""
        return self.scan_schema.columns.data

    def stored_value(self, column: pa.Array, index: int) -> pa.Array:
        """New values of a column as they are stored; references to blobs are proven.

        Raises:
            InvalidArgumentError: a value does not fit, or is no reference to a blob of the table.
        """
        field = self.scan_schema.columns.field(index)
        try:
            made = convert(column, field.type, field.name)
        except UsageError as error:
            raise InvalidArgumentError(error.message) from error
        if not contains_blob(field.type):
            return made
        assert self.checker is not None
        schema = pa.schema([field])
        batch = pa.RecordBatch.from_arrays([made], schema=schema)
        return self.checker.check_batch(batch, schema).column(0)

    def computed_value(self, column: pa.Array, index: int) -> pa.Array:
        """The same for values that a database computed.

        Raises:
            InvalidArgumentError: as `stored_value`.
        """
        field = self.scan_schema.columns.field(index)
        return self.stored_value(computed(column, field.type, field.name), index)

    def projection(self, indices: Sequence[int]) -> PhysicalProjection:
        """Some columns (data columns, then partition columns) as they are stored."""
        columns = self.scan_schema.columns
        outputs = output_columns(columns, indices, AS_STORED, verbatim_types=True)
        return PhysicalProjection(columns, outputs, self.scan_schema.versions)

    @functools.cached_property
    def data_projection(self) -> PhysicalProjection:
        """All data columns: rows that may be written again."""
        return self.projection(range(len(self.schema)))

    def filter(self, where: str) -> RowFilter | ExpressionFilter | None:
        """The filter that a predicate is; None for an empty one.

        Raises:
            InvalidArgumentError: it is no predicate, or names an unknown column.
            MissingExtraError: it takes DuckDB, which is not installed.
        """
        name = self.table.name.name
        try:
            return row_filter(where, self.scan_schema, table=name)
        except InvalidArgumentError as error:
            # Scans know no arithmetic and no functions.
            try:
                result = ExpressionFilter(where, self.scan_schema, table=name)
            except InvalidArgumentError:
                raise error from None
            return result.__enter__()  # closed with the last reference to it

    # --- choosing ------------------------------------------------------------------------------

    def chosen(self, where: str) -> dict[int, BitMap]:
        """The rows for which a predicate is true, by segment id and row number.

        Segments of which the recorded bounds say that no row is chosen, or every one, are not opened.

        Raises:
            InvalidArgumentError: it is no predicate, or cannot be applied.
            CorruptObjectError: what is stored is damaged.
        """
        snapshot, condition = self.snapshot, self.filter(where)
        result: dict[int, BitMap] = {}
        for index, segment in enumerate(snapshot.segments):
            partition = snapshot.partitions[snapshot.segment_partition[index]]
            if condition is not None and not condition.may_match(segment, partition):
                continue
            if condition is None or condition.surely_matches(segment, partition):
                rows = self._shown(index)
            else:
                rows = self._chosen_in(index, condition)
            if rows:
                result[segment.id] = rows
        return result

    def _chosen_in(self, index: int, condition: RowFilter | ExpressionFilter) -> BitMap:
        rows, first, starts = (
            GatheredRows(),
            self.snapshot.batches_of(index)[0],
            self.batch_starts(index),
        )
        for matches in self._matches_in(index, condition):
            rows.add((matches.rows + starts[matches.batch - first]).astype(np.uint32))
        return rows.bitmap()

    def _shown(self, index: int) -> BitMap:
        selection = self.snapshot.selections.get(index)
        if selection is not None:
            return selection.rows()
        shown = BitMap()
        shown.add_range(0, self.snapshot.segments[index].rows)
        return shown

    def matches(self, condition: RowFilter | ExpressionFilter | None) -> Iterator[Matches]:
        """The chosen rows batch by batch, in row order; batches without one are left out."""
        snapshot = self.snapshot
        for index, segment in enumerate(snapshot.segments):
            partition = snapshot.partitions[snapshot.segment_partition[index]]
            if condition is None or condition.may_match(segment, partition):
                yield from self._matches_in(index, condition)

    def _matches_in(
        self, index: int, condition: RowFilter | ExpressionFilter | None
    ) -> Iterator[Matches]:
        return self._worked_in(index, condition, lambda matches, _take: matches, _TASK_BATCHES)

    def _worked_in(
        self,
        index: int,
        condition: RowFilter | ExpressionFilter | None,
        work: Callable[[Matches, _Take], _Made],
        at_once: int,
    ) -> Iterator[_Made]:
        """What is made of the chosen rows of each batch of a segment that has some, in row order.

        In threads where the segment has enough work for two, so many batches in each task.
        """
        snapshot = self.snapshot
        first, end = snapshot.batches_of(index)
        rows = snapshot.rows[first:end].tolist()
        zones = None
        if isinstance(condition, RowFilter):
            zones = zones_of_batches(snapshot, index, condition)
        reader = self.reader(index)
        columns: tuple[int, ...] = ()
        if condition is not None:
            version = reader.row.schema_version
            columns = stored_columns(condition.projection, schema_version=version)
        stored = snapshot.stored_rows[first:end].tolist()
        offsets = snapshot.offset[first:end].tolist()
        lengths = snapshot.message_length[first:end].tolist()
        batches = [
            _StoredBatch(first + n, offsets[n], offsets[n] + lengths[n], stored[n], count)
            for n, count in enumerate(rows)
            if count and (zones is None or zones.may[n])
        ]

        def made(few: Sequence[_StoredBatch]) -> list[_Made]:
            looked_at = ((each, self._matches_of(reader, each, condition, columns)) for each in few)
            return [
                work(matches, functools.partial(self._columns_of, reader, each, whole))
                for each, (matches, whole) in looked_at
                if len(matches.rows)
            ]

        # A batch is too little work for a task, and in a small segment all of them are for a thread.
        tasks = (
            functools.partial(made, batches[start : start + at_once])
            for start in range(0, len(batches), at_once)
        )
        large = reader.row.length >= THREADS_BYTES
        for few in worked_ahead(tasks) if large else (task() for task in tasks):
            yield from few

    def _matches_of(
        self,
        reader: SegmentReader,
        stored: _StoredBatch,
        condition: RowFilter | ExpressionFilter | None,
        columns: tuple[int, ...],
    ) -> tuple[Matches, pa.RecordBatch | None]:
        """The rows of a batch that are shown and chosen; all columns, not proven, if they came with it."""
        snapshot = self.snapshot
        if condition is None:
            kept = snapshot.kept(stored.batch)
            return Matches(stored.batch, np.arange(stored.rows) if kept is None else kept), None
        decoded, whole = reader.decode_beside(stored.offset, stored.end, columns)
        self._check_rows(reader, decoded, stored.rows)
        dirty = stored.shown != stored.rows
        kept = None
        if dirty and isinstance(condition, ExpressionFilter):
            # An expression may fail for rows that are not there any more.
            kept = snapshot.kept(stored.batch)
            decoded = decoded if kept is None else take_rows(decoded, kept)
        version = reader.row.schema_version
        partition = snapshot.partition_of(stored.batch)
        mask = condition.mask(decoded, version, partition, columns)
        indices = np.arange(decoded.num_rows) if mask is None else true_rows(mask)
        if kept is not None:
            return Matches(stored.batch, kept[indices]), whole
        shown = snapshot.mask(stored.batch) if dirty else None
        return Matches(stored.batch, indices if shown is None else indices[shown[indices]]), whole

    def _columns_of(
        self,
        reader: SegmentReader,
        stored: _StoredBatch,
        whole: pa.RecordBatch | None,
        columns: tuple[int, ...],
    ) -> pa.RecordBatch:
        if whole is None:
            return self._decode(reader, stored.batch, columns)
        reader.prove(stored.offset, stored.end)
        return whole if len(columns) == whole.num_columns else whole.select(list(columns))

    # --- reading -------------------------------------------------------------------------------

    def reader(self, index: int) -> SegmentReader:
        """A segment of the snapshot, opened when it is first needed."""
        row = self.snapshot.segments[index]
        stored = self.data_projection.stored(row.schema_version)
        return SegmentReader(self.store, row, stored, self.checks)

    def _decode(
        self, reader: SegmentReader, batch: int, columns: tuple[int, ...]
    ) -> pa.RecordBatch:
        snapshot = self.snapshot
        offset = snapshot.offset[batch]
        decoded = reader.decode(offset, offset + snapshot.message_length[batch], columns)
        self._check_rows(reader, decoded, snapshot.stored_rows[batch])
        return decoded

    @staticmethod
    def _check_rows(reader: SegmentReader, decoded: pa.RecordBatch, rows: int) -> None:
        if decoded.num_rows != rows:
            raise CorruptObjectError(
                f"a record batch has {decoded.num_rows} rows where the catalog has {rows}",
                key=reader.row.key,
            )

    def chosen_rows(
        self, condition: RowFilter | ExpressionFilter | None, projection: PhysicalProjection
    ) -> Iterator[tuple[Matches, pa.RecordBatch]]:
        """What `rows` gives of all `matches`: each batch is looked at and taken from in one go."""
        snapshot = self.snapshot
        for index, segment in enumerate(snapshot.segments):
            partition = snapshot.partitions[snapshot.segment_partition[index]]
            if condition is not None and not condition.may_match(segment, partition):
                continue
            columns = stored_columns(projection, schema_version=segment.schema_version)
            mapping = OutputMapping(projection, segment.schema_version, partition, columns)

            def taken(
                matches: Matches,
                take: _Take,
                columns: tuple[int, ...] = columns,
                mapping: OutputMapping = mapping,
            ) -> tuple[Matches, pa.RecordBatch]:
                return matches, mapping.apply(take_rows(take(columns), matches.rows))

            # Fewer, as the rows of all are in memory until they are used.
            yield from self._worked_in(index, condition, taken, _TASK_BATCHES_TAKEN)

    def rows(
        self, result: Iterator[Matches], projection: PhysicalProjection
    ) -> Iterator[tuple[Matches, pa.RecordBatch]]:
        """The chosen rows with the columns of a projection; some batches ahead, in threads."""

        def taken(
            matches: Matches, batch: pa.RecordBatch, mapping: OutputMapping
        ) -> tuple[Matches, pa.RecordBatch]:
            return matches, mapping.apply(take_rows(batch, matches.rows))

        pairs = ((matches.batch, functools.partial(taken, matches)) for matches in result)
        return self._worked(pairs, projection)

    def stored(
        self,
        projection: PhysicalProjection,
        work: Callable[[int, pa.RecordBatch, NDArray[np.bool_] | None], _Made],
        at_once: int = 1,
        *,
        partitions: Collection[str] | None = None,
    ) -> Iterator[_Made]:
        """What is made of each batch that shows rows, in order; some batches ahead, in threads.

        Args:
            projection: the columns.
            work: told which batch it is, all of its rows, and which of them are shown; None for all.
            at_once: batches of a task.
            partitions: only their batches (the catalog's text); None for those of all.
        """
        snapshot = self.snapshot

        def made(batch: int, rows: pa.RecordBatch, mapping: OutputMapping) -> _Made:
            all_shown = snapshot.rows[batch] == rows.num_rows
            return work(batch, mapping.apply(rows), None if all_shown else snapshot.mask(batch))

        wanted = (
            index
            for index, segment in enumerate(snapshot.segments)
            if partitions is None or segment.partition in partitions
        )
        shown = (
            batch
            for index in wanted
            for batch in range(*snapshot.batches_of(index))
            if snapshot.rows[batch]
        )
        return self._worked(
            ((batch, functools.partial(made, batch)) for batch in shown), projection, at_once
        )

    def _worked(
        self,
        wanted: Iterable[tuple[int, Callable[[pa.RecordBatch, OutputMapping], _Made]]],
        projection: PhysicalProjection,
        at_once: int = 1,
    ) -> Iterator[_Made]:
        """Decodes batches and works on them; in threads where a segment has enough work for two."""
        by_segment = itertools.groupby(
            wanted, key=lambda each: self.snapshot.batch_segment[each[0]]
        )
        for index, batches in by_segment:
            reader = self.reader(index)
            columns = stored_columns(projection, schema_version=reader.row.schema_version)
            mapping = OutputMapping(
                projection,
                reader.row.schema_version,
                self.snapshot.partitions[self.snapshot.segment_partition[index]],
                columns,
            )

            def task(
                group: Sequence[tuple[int, Callable[[pa.RecordBatch, OutputMapping], _Made]]],
                reader: SegmentReader = reader,
                columns: tuple[int, ...] = columns,
                mapping: OutputMapping = mapping,
            ) -> list[_Made]:
                return [
                    work(self._decode(reader, batch, columns), mapping) for batch, work in group
                ]

            tasks = (functools.partial(task, group) for group in _in_groups(batches, at_once))
            large = reader.row.length >= THREADS_BYTES
            for made in worked_ahead(tasks) if large else (each() for each in tasks):
                yield from made

    def positions(self, matches: Matches) -> tuple[int, NDArray[np.uint32]]:
        """The segment's index in the snapshot, and the rows' numbers in the segment."""
        index = self.snapshot.batch_segment[matches.batch]
        first, starts = self._starts(index)
        return index, (matches.rows + starts[matches.batch - first]).astype(np.uint32)

    def batch_starts(self, index: int) -> NDArray[np.int64]:
        """The number, in the segment at an index, of each of its batches' first stored row."""
        return self._starts(index)[1]

    def first_row(self, batch: int) -> int:
        """The number, in its segment, of a batch's first stored row."""
        first, starts = self._starts(self.snapshot.batch_segment[batch])
        return int(starts[batch - first])

    @functools.cached_property
    def _starts(self) -> Callable[[int], tuple[int, NDArray[np.int64]]]:
        """The first batch of a segment, and its `batch_starts`: asked for with each batch."""
        starts = functools.partial(_starts_of, self.snapshot)
        return functools.lru_cache(_KEPT_SEGMENTS)(starts)  # eight bytes for each batch


def _starts_of(snapshot: Snapshot, index: int) -> tuple[int, NDArray[np.int64]]:
    first, end = snapshot.batches_of(index)
    stored = snapshot.stored_rows[first:end]
    return first, np.cumsum(stored) - stored


def _in_groups(items: Iterable[_Item], count: int) -> Iterator[list[_Item]]:
    remaining = iter(items)
    while group := list(itertools.islice(remaining, count)):
        yield group
