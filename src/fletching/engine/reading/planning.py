"""From a row range of a snapshot to a read plan.

Each record batch gets into the reply by one of three strategies:

* ``AS_IS``: its message is sent as stored; neighbours in one segment become one extent.
* ``PROJECT``: new metadata, and the wanted buffers as extents; partition columns and columns that
  were added later are appended. Values are not touched.
* ``COMPUTE``: the values must be decoded: a cut inside the batch, another buffer codec, another
  type or unit, a filter; or rows that are deleted. Where the buffers are compressed, a batch that
  has lost rows goes out uncompressed: compressing it again would take longer than sending it.

Lengths are added up before the first byte is sent, so that a reply has a total length, unless a
computed batch's length shows only when it is made, or adding up would take longer than sending
(`AHEAD_MESSAGES`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from typing_extensions import Buffer

from fletching.engine.reading.computed_batches import (
    BatchComputation,
    Cut,
    computed_ahead,
    cut_rows,
    encode_cuts,
)
from fletching.engine.reading.manifests import make_manifest
from fletching.engine.reading.message_checks import MessageChecks
from fletching.engine.reading.output_mapping import OutputMapping, stored_columns
from fletching.engine.reading.physical_projection import PhysicalProjection
from fletching.engine.reading.read_plan import Computed, Extent, Literal, Piece, ReadPlan
from fletching.engine.reading.row_filter import WORTH_PROVING, RowFilter
from fletching.engine.reading.segment_pieces import ColumnChunks, DictionaryChunks
from fletching.engine.reading.segment_reader import SegmentReader
from fletching.engine.reading.snapshot import Snapshot
from fletching.engine.reading.zone_pruning import ZonesOfBatches, zones_of_batches
from fletching.errors import CorruptObjectError
from fletching.ipc.message import END_OF_STREAM
from fletching.ipc.projection import Projection
from fletching.objects.store import ObjectStore
from fletching.sql.conditions import FALSE, TRUE
from fletching.types import RowRange

__all__ = ["ReadOptions", "plan_preview", "plan_rows"]

AHEAD_MESSAGES = 512
"""Up to this many projected or computed batches are measured before sending, whatever their size
(about 0.1 milliseconds each)."""

AHEAD_BYTES_PER_MESSAGE = 1 << 18
"""Larger batches than this are measured ahead up to `AHEAD_LARGE_MESSAGES`: sending takes longer."""

AHEAD_LARGE_MESSAGES = 8192

THREADS_BYTES = 8 << 20
"""Neighbouring batches with fewer bytes are computed without threads, which would take longer to start."""

WINDOW_BATCHES = 1 << 13
"""So many batches are looked at together: arrays for all of a large table would be memory that the
system finds and clears first."""

MAX_AHEAD_BYTES = 32 << 20
"""A larger batch is not computed before it is asked for: its rows would be held beside others."""


@dataclasses.dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a reply's batches must be.

    Attributes:
        max_rows: most rows of a batch; None for as stored.
        max_bytes: most bytes of a batch, uncompressed; None for any.
        codec: the buffers' codec, ``"lz4"`` or ``"zstd"``; None for as stored.
        row_filter: which rows; None for all.
        loose: whoever reads asks the filter of the rows again, so batches that may hold chosen rows
            anywhere go as they are stored.
        skip_rows: rows of the result to leave out at its beginning.
        check: called before each batch that is computed; what it raises ends the read. A filter that
            lets few rows through may compute for long before it has one.
    """

    max_rows: int | None = None
    max_bytes: int | None = None
    codec: str | None = None
    row_filter: RowFilter | None = None
    loose: bool = False
    skip_rows: int = 0
    check: Callable[[], None] | None = None


class BatchStrategy(enum.IntEnum):
    """How a batch gets into the reply; see the module docstring."""

    NOT = 0
    AS_IS = 1
    PROJECT = 2
    COMPUTE = 3


def plan_rows(
    snapshot: Snapshot,
    store: ObjectStore,
    projection: PhysicalProjection,
    wanted: RowRange,
    options: ReadOptions,
    *,
    checks: MessageChecks,
) -> ReadPlan:
    """The plan of a reply that holds ``wanted`` rows of the snapshot.

    Messages that are sent or decoded whole are proven by ``checks`` first.

    Opens nothing; asking for the plan's length opens segments as far as that takes (none, when
    everything goes as it is).
    """
    if options.row_filter is None and options.skip_rows:
        start = min(wanted.start + options.skip_rows, wanted.end)
        wanted = RowRange(start, wanted.end)
        options = dataclasses.replace(options, skip_rows=0)
    builder = _Builder(snapshot, store, projection, wanted, options, checks=checks)
    return ReadPlan(
        schema=projection.schema,
        rows=None if options.row_filter else wanted.length,
        length=builder.length,
        pieces=_Repeatable(builder),
        batches=builder.batches,
        # A filter decides by values, which only the service looks at.
        manifest=None if options.row_filter else functools.partial(make_manifest, builder, checks),
    )


class _Repeatable:
    """The builder's pieces, as often as they are asked for."""

    def __init__(self, builder: _Builder) -> None:
        self._builder = builder

    def __iter__(self) -> Iterator[Piece]:
        return self._builder.pieces()


class _Builder:
    def __init__(
        self,
        snapshot: Snapshot,
        store: ObjectStore,
        projection: PhysicalProjection,
        wanted: RowRange,
        options: ReadOptions,
        *,
        checks: MessageChecks,
    ) -> None:
        self.checks = checks
        self.snapshot = snapshot
        self.store = store
        self.projection = projection
        self.wanted = wanted
        self.options = options
        self.first = snapshot.batch_at(wanted.start)
        self.last = snapshot.row_start.searchsorted(wanted.end, "left")
        if wanted.length == 0:
            self.first = self.last = 0
        # Between which of a large batch's rows those lie that can be chosen, where that is less than all.
        self._hulls: dict[int, tuple[int, int]] = {}
        self.strategies = self._choose_strategies()
        # What measuring ahead found out, kept for sending; at most `AHEAD_LARGE_MESSAGES` of each.
        self._planned: dict[int, Projection] = {}
        self._cut: dict[int, Sequence[Cut]] = {}

    # --- which strategy --------------------------------------------------------------------------

    def _choose_strategies(self) -> NDArray[np.int8]:
        """The strategy of each batch from ``first`` to ``last``, found per kind of segment."""
        strategies = np.empty(self.last - self.first, dtype=np.int8)
        if not len(strategies):
            return strategies
        strategy_of = np.array(
            [self._segment_strategy(*kind) for kind in self.snapshot.kinds], dtype=np.int8
        )
        for window in self._windows():
            chosen = strategies[window.start - self.first : window.stop - self.first]
            self._choose_in(window, strategy_of, chosen)
        return strategies

    def _windows(self) -> Iterator[slice]:
        """The batches in runs of a size that takes little memory."""
        for first in range(self.first, self.last, WINDOW_BATCHES):
            yield slice(first, min(first + WINDOW_BATCHES, self.last))

    def _choose_in(
        self, window: slice, strategy_of: NDArray[np.int8], strategies: NDArray[np.int8]
    ) -> None:
        """Writes the strategies of some batches to their places."""
        snapshot, options = self.snapshot, self.options
        owner = snapshot.batch_segment[window]
        kinds = snapshot.segment_kind[int(owner[0]) : int(owner[-1]) + 1]
        strategies[:] = strategy_of[kinds[owner - owner[0]]]
        if options.max_rows is not None:
            strategies[snapshot.rows[window] > options.max_rows] = BatchStrategy.COMPUTE
        if options.max_bytes is not None:
            strategies[snapshot.message_length[window] > options.max_bytes] = BatchStrategy.COMPUTE
        # Where the range begins or ends inside a batch.
        if snapshot.row_start[window.start] < self.wanted.start:
            strategies[0] = BatchStrategy.COMPUTE
        if snapshot.row_start[window.stop] > self.wanted.end:
            strategies[-1] = BatchStrategy.COMPUTE
        if options.row_filter is not None:
            self._choose_filtered(options.row_filter, owner, strategies)
        if snapshot.has_deletions:
            dirty = snapshot.dirty(window.start, window.stop)
            strategies[dirty & (strategies != BatchStrategy.NOT)] = BatchStrategy.COMPUTE
        # A batch without rows is sent only where it does not break an extent.
        strategies[(snapshot.rows[window] == 0) & (strategies != BatchStrategy.AS_IS)] = (
            BatchStrategy.NOT
        )

    def _choose_filtered(
        self, row_filter: RowFilter, owner: NDArray[np.int64], strategies: NDArray[np.int8]
    ) -> None:
        """Leaves out what holds no chosen row, and computes what may hold others beside them."""
        snapshot = self.snapshot
        first, last = int(owner[0]), int(owner[-1])
        places = snapshot.segment_partition[first : last + 1].tolist()
        row_filter.prepare(snapshot.partitions[place] for place in sorted(set(places)))
        left = [row_filter.left(snapshot.partitions[place]) for place in places]
        # Segments without a row that could be chosen are not even opened.
        matching = np.zeros(len(places), dtype=bool)
        # Those all of whose rows are chosen go as they are; rows that are skipped are counted as they
        # are computed.
        whole = np.zeros(len(places), dtype=bool)
        in_parts: list[tuple[int, ZonesOfBatches]] = []
        undivided: list[int] = []
        for number, (place, condition) in enumerate(zip(places, left, strict=True)):
            if condition is FALSE:
                continue
            segment, partition = snapshot.segments[first + number], snapshot.partitions[place]
            if condition is TRUE:
                matching[number] = whole[number] = True
            elif row_filter.may_match(segment, partition):
                matching[number] = True
                zones = zones_of_batches(snapshot, first + number, row_filter)
                if zones is None:
                    undivided.append(number)
                else:
                    in_parts.append((first + number, zones))
        if len(undivided) >= WORTH_PROVING:
            for number in undivided:
                place = first + number
                whole[number] = row_filter.surely_matches(
                    snapshot.segments[place], snapshot.partitions[places[number]]
                )
        computed = ~whole if not self.options.skip_rows else np.ones_like(whole)
        computes = computed[owner - first]
        leaves_out = ~matching[owner - first]
        for number, zones in in_parts:
            start = snapshot.batches_of(number)[0]
            window = slice(max(start, self.first), min(start + len(zones.may), self.last))
            mine = slice(window.start - self.first, window.stop - self.first)
            theirs = slice(window.start - start, window.stop - start)
            leaves_out[mine] = ~zones.may[theirs]
            if not self.options.skip_rows:
                computes[mine] = ~zones.all[theirs]
            self._hulls.update(zones.hulls)
        if self.options.loose:
            computes &= np.isin(np.arange(self.first, self.first + len(computes)), [*self._hulls])
        strategies[computes] = BatchStrategy.COMPUTE
        strategies[leaves_out] = BatchStrategy.NOT

    def _segment_strategy(self, schema_version: int, codecs: str) -> BatchStrategy:
        stored = self.projection.stored(schema_version)
        options = self.options
        if stored.converts or (options.codec is not None and codecs != options.codec):
            return BatchStrategy.COMPUTE
        if options.max_bytes is not None and codecs:
            return (
                BatchStrategy.COMPUTE
            )  # the limit is on uncompressed bytes, which only decoding tells
        if stored.whole:
            return BatchStrategy.AS_IS
        return BatchStrategy.PROJECT if stored.appendable else BatchStrategy.COMPUTE

    # --- runs ----------------------------------------------------------------------------------

    def runs(self) -> Iterator[tuple[BatchStrategy, int, int]]:
        """(strategy, first batch, end batch): neighbours of one segment that have the same strategy.

        Batches of an ``AS_IS`` run lie in the segment without a gap.
        """
        begun = self.first
        for window in self._windows():
            # With the first batch of the next window, to which the last run may go on.
            stop = min(window.stop + 1, self.last)
            for end in (self._breaks(window.start, stop) + window.start).tolist():
                yield from self._run(begun, end)
                begun = end
        yield from self._run(begun, self.last)

    def _run(self, first: int, end: int) -> Iterator[tuple[BatchStrategy, int, int]]:
        if first < end:
            strategy = BatchStrategy(int(self.strategies[first - self.first]))
            if strategy is not BatchStrategy.NOT:
                yield strategy, first, end

    def _breaks(self, first: int, end: int) -> NDArray[np.int64]:
        """Which of some batches do not go on where the one before ends, counted from the first one."""
        snapshot = self.snapshot
        strategies = self.strategies[first - self.first : end - self.first]
        owner = snapshot.batch_segment[first:end]
        offset = snapshot.offset[first:end]
        ends = offset + snapshot.message_length[first:end]
        breaks = (
            (strategies[1:] != strategies[:-1])
            | (owner[1:] != owner[:-1])
            | ((strategies[1:] == BatchStrategy.AS_IS) & (offset[1:] != ends[:-1]))
        )
        return np.flatnonzero(breaks) + 1

    def reader(self, batch: int, current: SegmentReader | None) -> SegmentReader:
        row = self.snapshot.segment_of(batch)
        if current is not None and current.row is row:
            return current
        return SegmentReader(
            self.store, row, self.projection.stored(row.schema_version), self.checks
        )

    def _rows_of(self, batch: int) -> tuple[int, int]:
        """Which of the rows that a batch shows are wanted."""
        start = self.snapshot.row_start[batch]
        end = self.snapshot.row_start[batch + 1]
        return max(self.wanted.start - start, 0), min(self.wanted.end, end) - start

    def _computation(self, reader: SegmentReader, batch: int) -> BatchComputation:
        snapshot, options = self.snapshot, self.options
        if options.check is not None:
            options.check()
        offset = snapshot.offset[batch]
        start, end = self._rows_of(batch)
        hull = self._hulls.get(batch)
        if hull is not None:
            start = max(start, hull[0])
            end = max(start, min(end, hull[1]))
        return BatchComputation(
            reader=reader,
            projection=self.projection,
            partition=snapshot.partition_of(batch),
            offset=offset,
            end=offset + snapshot.message_length[batch],
            start_row=start,
            end_row=end,
            max_rows=options.max_rows,
            max_bytes=options.max_bytes,
            codec=options.codec,
            stored_rows=snapshot.stored_rows[batch],
            mask=functools.partial(snapshot.mask, batch) if snapshot.is_dirty(batch) else None,
            row_filter=options.row_filter,
            known_cuts=self._cut.get(batch),
        )

    def _projection(self, reader: SegmentReader, batch: int) -> ColumnChunks:
        return ColumnChunks(reader, self.projection, self.snapshot.partition_of(batch))

    @property
    def computes(self) -> NDArray[np.bool_]:
        """For each batch from ``first`` to ``last`` whether it is computed, or left out."""
        computes: NDArray[np.bool_] = (self.strategies == BatchStrategy.COMPUTE) | (
            self.strategies == BatchStrategy.NOT
        )
        return computes

    def projected(
        self, reader: SegmentReader, first: int, end: int
    ) -> Iterator[tuple[int, int, Projection]]:
        """(offset, metadata length, projection) of each batch of a run that is projected."""
        self._bring_metadata(reader, first, end)
        return self._plans(self._projection(reader, first), first, end)

    # --- lengths -------------------------------------------------------------------------------

    def length(self) -> int | None:
        """Bytes of the whole stream, or None."""
        measured = int(np.count_nonzero(self.strategies >= BatchStrategy.PROJECT))
        if not self._worth_measuring(measured):
            return None
        snapshot = self.snapshot
        total = len(self.projection.schema_message) + len(END_OF_STREAM)
        for window in self._windows():
            strategies = self.strategies[window.start - self.first : window.stop - self.first]
            total += int(snapshot.message_length[window][strategies == BatchStrategy.AS_IS].sum())
        if not measured and not self.projection.has_dictionaries:
            return total
        reader: SegmentReader | None = None
        dictionaries: DictionaryChunks | None = None
        skip = self.options.skip_rows
        for strategy, first, end in self.runs():
            previous, reader = reader, self.reader(first, reader)
            if self.projection.has_dictionaries:
                if reader is not previous or dictionaries is None:
                    dictionaries = DictionaryChunks(reader, self.projection)
                total += dictionaries.length_before(snapshot.offset[end - 1])
            if strategy is BatchStrategy.PROJECT:
                projection = self._projection(reader, first)
                self._bring_metadata(reader, first, end)
                for batch in range(first, end):
                    plan = projection.plan(snapshot.offset[batch], snapshot.metadata_length[batch])
                    total += plan.length
                    self._planned[batch] = plan
            elif strategy is BatchStrategy.COMPUTE:
                for batch in range(first, end):
                    computation = self._computation(reader, batch)
                    if skip:
                        skip -= computation.skip(skip)
                    length = computation.length()
                    if length is None:
                        return None
                    total += length
                    self._cut[batch] = computation.cuts
        return total

    def _worth_measuring(self, measured: int) -> bool:
        if self.options.row_filter is not None or self.options.codec is not None:
            return not measured  # filtering or compressing twice costs more than an unknown length
        if self.snapshot.has_deletions:
            dirty = self.snapshot.dirty(self.first, self.last)
            if bool((dirty & (self.strategies != BatchStrategy.NOT)).any()):
                return False  # choosing rows is filtering
        if measured <= AHEAD_MESSAGES:
            return True
        sizes = self.snapshot.byte_start
        mean = (sizes[self.last] - sizes[self.first]) // (self.last - self.first)
        return measured <= AHEAD_LARGE_MESSAGES and mean >= AHEAD_BYTES_PER_MESSAGE

    # --- the stream ----------------------------------------------------------------------------

    def pieces(self) -> Iterator[Piece]:
        """The stream, made as it is asked for."""
        snapshot = self.snapshot
        yield Literal(self.projection.schema_message)
        reader: SegmentReader | None = None
        dictionaries: DictionaryChunks | None = None
        skip = self.options.skip_rows
        for strategy, first, end in self.runs():
            previous, reader = reader, self.reader(first, reader)
            if self.projection.has_dictionaries:
                if reader is not previous or dictionaries is None:
                    dictionaries = DictionaryChunks(reader, self.projection)
                yield from dictionaries.pieces_before(snapshot.offset[end - 1])
            if strategy is BatchStrategy.AS_IS:
                stop = snapshot.offset[end - 1] + snapshot.message_length[end - 1]
                yield Extent(reader.object, snapshot.offset[first], stop)
            elif strategy is BatchStrategy.PROJECT:
                projection = self._projection(reader, first)
                plans = self.projected(reader, first, end)
                fetched = projection.fetched(plans)
                if fetched is not None:
                    yield from fetched
                    continue
                for offset, metadata_length, plan in plans:
                    yield from projection.pieces(offset, metadata_length, plan)
            else:
                for batch in range(first, end):
                    computation = self._computation(reader, batch)
                    if skip:
                        skip -= computation.skip(skip)
                    yield from computation.pieces()
        yield Literal(END_OF_STREAM)

    def _bring_metadata(self, reader: SegmentReader, first: int, end: int) -> None:
        window = slice(first, end)
        offsets = self.snapshot.offset[window].tolist()
        lengths = self.snapshot.metadata_length[window].tolist()
        planned = self._planned
        reader.bring_metadata(
            [
                (offset, length)
                for batch, offset, length in zip(range(first, end), offsets, lengths, strict=True)
                if batch not in planned
            ]
        )

    def _plans(
        self, projection: ColumnChunks, first: int, end: int
    ) -> Iterator[tuple[int, int, Projection]]:
        snapshot = self.snapshot
        for batch in range(first, end):
            where = snapshot.offset[batch], snapshot.metadata_length[batch]
            yield (*where, self._planned.get(batch) or projection.plan(*where))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The same rows as record batches; stored values are shared with the segments' mappings."""
        reader: SegmentReader | None = None
        skip = self.options.skip_rows
        for strategy, first, end in self.runs():
            reader = self.reader(first, reader)
            if strategy is not BatchStrategy.COMPUTE:
                fetch = getattr(reader.unchecked, "fetch", None)
                if fetch is None or reader.columns.has_dictionaries:
                    yield from self._whole(reader, first, end)
                elif strategy is BatchStrategy.AS_IS:
                    yield from self._whole(reader, first, end, fetch)
                else:
                    pieces = self._projection(reader, first)
                    yield from pieces.batches(self.projected(reader, first, end))
                continue
            if not skip and self._worth_threads(first, end):
                every = range(first, end)
                yield from computed_ahead(self._computation(reader, batch) for batch in every)
                continue
            for batch in range(first, end):
                computation = self._computation(reader, batch)
                if skip:
                    skip -= computation.skip(skip)
                yield from computation.batches()

    def _worth_threads(self, first: int, end: int) -> bool:
        """Whether computed batches are many enough for threads, and small enough to be held."""
        sizes = self.snapshot.byte_start
        length = sizes[end] - sizes[first]
        largest = int(self.snapshot.message_length[first:end].max())
        return length >= THREADS_BYTES and largest <= MAX_AHEAD_BYTES

    def _whole(
        self,
        reader: SegmentReader,
        first: int,
        end: int,
        fetch: Callable[[Iterable[tuple[int, int]]], Iterator[memoryview]] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Batches of one segment of which all rows are wanted and no value is computed.

        Done once per run instead of once per batch: all that does not depend on the batch. With
        ``fetch`` whole messages are fetched by it, ahead.
        """
        snapshot = self.snapshot
        offsets = snapshot.offset[first:end]
        ends = offsets + snapshot.message_length[first:end]
        rows = snapshot.rows[first:end].tolist()
        version = reader.row.schema_version
        columns = stored_columns(self.projection, schema_version=version)
        mapping = OutputMapping(self.projection, version, snapshot.partition_of(first), columns)
        where = list(zip(offsets.tolist(), ends.tolist(), strict=True))
        fetched = None if fetch is None else fetch(where)
        for (offset, stop), count in zip(where, rows, strict=True):
            if fetched is None:
                batch = reader.decode(offset, stop, columns)
            else:
                batch = reader.decode_message(next(fetched))
            if batch.num_rows != count:
                raise CorruptObjectError(
                    f"a record batch has {batch.num_rows} rows where the catalog has {count}",
                    key=reader.row.key,
                )
            if count:
                yield mapping.apply(batch)


MAX_COMBINED_BYTES = 32 << 20
"""Above this a preview keeps the batches as stored: it would have to hold them all in memory."""


def plan_preview(
    snapshot: Snapshot,
    store: ObjectStore,
    projection: PhysicalProjection,
    rows: int,
    *,
    checks: MessageChecks,
) -> ReadPlan:
    """The first rows of a snapshot, in one batch unless they are large or dictionary-encoded.

    Clients look for the rows they asked for in the first batch, while stored batches may be small.
    """
    plan = plan_rows(snapshot, store, projection, RowRange(0, rows), ReadOptions(), checks=checks)
    if rows == 0 or projection.has_dictionaries or (plan.length or 0) > MAX_COMBINED_BYTES:
        return plan
    return ReadPlan(
        schema=plan.schema,
        rows=rows,
        length=None,
        pieces=(
            Literal(projection.schema_message),
            Computed(functools.partial(_combined, plan), None),
            Literal(END_OF_STREAM),
        ),
        batches=plan.batches,
    )


def _combined(plan: ReadPlan) -> list[Buffer]:
    table = pa.Table.from_batches(list(plan.batches()), plan.schema)
    with contextlib.suppress(pa.ArrowNotImplementedError):
        # Some types pyarrow cannot join; their rows stay in the batches that they are stored in.
        table = table.combine_chunks()
    buffers: list[Buffer] = []
    for batch in table.to_batches():
        buffers += encode_cuts(batch, cut_rows(batch))
    return buffers
