"""From a row range of a snapshot to a read plan.

How each record batch gets into the reply is chosen first (`batch_strategies`).

Lengths are added up before the first byte is sent, so that a reply has a total length, unless a
computed batch's length shows only when it is made, or adding up would take longer than sending
(`AHEAD_MESSAGES`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from typing_extensions import Buffer

from fletching.engine.reading.batch_strategies import (
    BatchStrategy,
    ReadOptions,
    choose_strategies,
    windows,
)
from fletching.engine.reading.computed_batches import (
    HELPERS,
    BatchComputation,
    BatchRecipe,
    Cut,
    computed_ahead,
    cut_rows,
    encode_cuts,
)
from fletching.engine.reading.manifests import make_manifest
from fletching.engine.reading.message_checks import MessageChecks
from fletching.engine.reading.physical_projection import (
    OutputMapping,
    PhysicalProjection,
    stored_columns,
)
from fletching.engine.reading.read_plan import (
    Computed,
    Extent,
    Literal,
    Piece,
    ReadPlan,
    Repeatable,
)
from fletching.engine.reading.segment_reader import ColumnChunks, DictionaryChunks, SegmentReader
from fletching.engine.reading.snapshot import Snapshot
from fletching.errors import CorruptObjectError
from fletching.ipc.message import END_OF_STREAM
from fletching.ipc.projection import Projection
from fletching.objects.store import ObjectStore
from fletching.types import RowRange

__all__ = ["plan_preview", "plan_rows"]

AHEAD_MESSAGES = 512
"""Up to this many projected or computed batches are measured before sending, whatever their size
(about 0.1 milliseconds each)."""

AHEAD_BYTES_PER_MESSAGE = 1 << 18
"""Larger batches than this are measured ahead up to `AHEAD_LARGE_MESSAGES`: sending takes longer."""

AHEAD_LARGE_MESSAGES = 8192

MEASURED_BYTES, MEASURED_SHARE = 8 << 20, 32
"""Batches that lost rows are measured, which is computing them twice, up to so many bytes, if they are no
more than this part of the reply: a length that is not known takes a tenth of the time of all others."""

THREADS_BYTES = 8 << 20
"""Neighbouring batches with fewer bytes are computed without threads, which would take longer to start."""

MAX_AHEAD_BYTES = 16 << 20
"""A larger batch is not computed before it is asked for: its rows would be held beside others."""


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
        pieces=Repeatable(builder.pieces),
        batches=builder.batches,
        # A filter decides by values, which only the service looks at.
        manifest=None if options.row_filter else functools.partial(make_manifest, builder, checks),
    )


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
        self.strategies, self._hulls = choose_strategies(
            snapshot, projection, wanted, options, range(self.first, self.last)
        )
        # What measuring ahead found out, kept for sending; at most `AHEAD_LARGE_MESSAGES` of each.
        self._planned: dict[int, Projection] = {}
        self._cut: dict[int, Sequence[Cut]] = {}

    # --- runs ----------------------------------------------------------------------------------

    def runs(self) -> Iterator[tuple[BatchStrategy, int, int]]:
        """(strategy, first batch, end batch): neighbours of one segment that have the same strategy.

        Batches of an ``AS_IS`` run lie in the segment without a gap.
        """
        begun = self.first
        for window in windows(self.first, self.last):
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

    def _steps(
        self,
    ) -> Iterator[tuple[BatchStrategy, int, int, SegmentReader, DictionaryChunks | None]]:
        """The runs, each with its segment, and with the segment's dictionaries if the reply has any."""
        reader: SegmentReader | None = None
        dictionaries: DictionaryChunks | None = None
        for strategy, first, end in self.runs():
            previous, reader = reader, self.reader(first, reader)
            if self.projection.has_dictionaries and reader is not previous:
                first_one = dictionaries is None
                dictionaries = DictionaryChunks(reader, self.projection, first=first_one)
            yield strategy, first, end, reader, dictionaries

    def _computations(
        self, reader: SegmentReader, first: int, end: int
    ) -> Iterator[BatchComputation]:
        """What becomes of the batches of a run; looks up once what is the same for all of them."""
        snapshot, options = self.snapshot, self.options
        recipe = BatchRecipe(
            reader,
            self.projection,
            snapshot.partition_of(first),
            max_rows=options.max_rows,
            max_bytes=options.max_bytes,
            codec=options.codec,
            row_filter=options.row_filter,
        )
        owner = snapshot.batch_segment[first]
        selection = snapshot.selections.get(owner)
        begin = snapshot.batches_of(owner)[0]
        for window in windows(first, end):
            offsets = snapshot.offset[window]
            ends = (offsets + snapshot.message_length[window]).tolist()
            starts = snapshot.row_start[window.start : window.stop + 1].tolist()
            stored = snapshot.stored_rows[window].tolist()
            for number, (offset, stop) in enumerate(zip(offsets.tolist(), ends, strict=True)):
                if options.check is not None:
                    options.check()
                batch = window.start + number
                shown = starts[number + 1] - starts[number]
                start, hull_end = self._hulls.get(batch, (0, shown))
                start = max(start, self.wanted.start - starts[number])
                dirty = selection is not None and shown != stored[number]
                yield BatchComputation(
                    recipe=recipe,
                    offset=offset,
                    end=stop,
                    start_row=start,
                    end_row=max(start, min(hull_end, self.wanted.end - starts[number])),
                    stored_rows=stored[number],
                    selection=(selection, batch - begin) if selection and dirty else None,
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
        for window in windows(self.first, self.last):
            strategies = self.strategies[window.start - self.first : window.stop - self.first]
            total += int(snapshot.message_length[window][strategies == BatchStrategy.AS_IS].sum())
        if not measured and not self.projection.has_dictionaries:
            return total
        skip = self.options.skip_rows
        for strategy, first, end, reader, dictionaries in self._steps():
            if dictionaries is not None:
                total += dictionaries.length_before(snapshot.offset[end - 1])
            if strategy is BatchStrategy.PROJECT:
                projection = self._projection(reader, first)
                self._bring_metadata(reader, first, end)
                for batch in range(first, end):
                    plan = projection.plan(snapshot.offset[batch], snapshot.metadata_length[batch])
                    total += plan.length
                    self._planned[batch] = plan
            elif strategy is BatchStrategy.COMPUTE:
                for batch, computation in enumerate(self._computations(reader, first, end), first):
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
            dirty &= self.strategies != BatchStrategy.NOT
            lengths = self.snapshot.message_length[self.first : self.last]
            if lengths[dirty].sum() > min(MEASURED_BYTES, lengths.sum() // MEASURED_SHARE):
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
        skip = self.options.skip_rows
        for strategy, first, end, reader, dictionaries in self._steps():
            if dictionaries is not None:
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
                for computation in self._computations(reader, first, end):
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
                fetch = getattr(reader.object, "fetch", None)
                if fetch is None or reader.columns.has_dictionaries:
                    yield from self._whole(reader, first, end)
                elif strategy is BatchStrategy.AS_IS:
                    yield from self._whole(reader, first, end, fetch)
                else:
                    pieces = self._projection(reader, first)
                    yield from pieces.batches(self.projected(reader, first, end))
                continue
            if not skip and self._worth_threads(reader, first, end):
                yield from computed_ahead(self._computations(reader, first, end))
                continue
            for computation in self._computations(reader, first, end):
                if skip:
                    skip -= computation.skip(skip)
                yield from computation.batches()

    def _worth_threads(self, reader: SegmentReader, first: int, end: int) -> bool:
        """Whether computed batches are many enough for threads, and small enough to be held.

        To copy what is left of them waits for the memory alone. A reader with one other processor does that
        sooner by itself: it finds in its own cache what it has just copied.
        """
        if HELPERS < 2 and self.options.row_filter is None and not reader.columns.converts:
            return False
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
