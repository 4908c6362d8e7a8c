"""How each record batch of a snapshot gets into a reply.

Each record batch gets into the reply by one of three strategies:

* ``AS_IS``: its message is sent as stored; neighbours in one segment become one extent.
* ``PROJECT``: new metadata, and the wanted buffers as extents; partition columns and columns that
  were added later are appended. Values are not touched.
* ``COMPUTE``: the values must be decoded: a cut inside the batch, another buffer codec, another
  type or unit, a filter; or rows that are deleted. Where the buffers are compressed, a batch that
  has lost rows goes out uncompressed: compressing it again would take longer than sending it.

Of a filter, what holds no chosen row is left out: by partitions, by segments, by zones within a segment.

What a request says of its batches is checked first: what is outside of the limits is refused, nothing is
clipped silently.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fletching.engine.reading.physical_projection import PhysicalProjection
from fletching.engine.reading.row_filter import WORTH_PROVING, RowFilter
from fletching.engine.reading.snapshot import Snapshot
from fletching.engine.tables.zone_bounds import ZONE_ROWS
from fletching.errors import InvalidArgumentError
from fletching.protocol.messages.vocabulary import (
    MAX_BATCH_BYTES,
    MAX_BATCH_ROWS,
    MAX_PREVIEW_ROWS,
    MIN_BATCH_BYTES,
)
from fletching.sql.predicates.conditions import FALSE, TRUE
from fletching.types import RowRange

__all__ = [
    "BatchStrategy",
    "Chosen",
    "KeptSegments",
    "ReadOptions",
    "ZonesOfBatches",
    "batch_bytes",
    "batch_rows",
    "buffer_codec",
    "choose_strategies",
    "kept_segments",
    "not_negative",
    "preview_rows",
    "windows",
    "zones_of_batches",
]

WINDOW_BATCHES = 1 << 13
"""So many batches are looked at together: arrays for all of a large table would be memory that the
system finds and clears first."""


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


class Chosen(NamedTuple):
    """What was chosen for a run of batches.

    Attributes:
        strategies: a `BatchStrategy` for each.
        hulls: between which of a large batch's rows those lie that can be chosen, where that is less than
            all; by the batch's index in the snapshot.
    """

    strategies: NDArray[np.int8]
    hulls: dict[int, tuple[int, int]]


def windows(first: int, end: int) -> Iterator[slice]:
    """Batches in runs of a size that takes little memory."""
    for start in range(first, end, WINDOW_BATCHES):
        yield slice(start, min(start + WINDOW_BATCHES, end))


def choose_strategies(
    snapshot: Snapshot,
    projection: PhysicalProjection,
    wanted: RowRange,
    options: ReadOptions,
    batches: range,
) -> Chosen:
    """Chooses for the batches that have the wanted rows."""
    first, end = batches.start, batches.stop
    choice = _Choice(snapshot, projection, wanted, options)
    strategies = np.empty(end - first, dtype=np.int8)
    strategy_of = np.array([choice.of_segment(*kind) for kind in snapshot.kinds], dtype=np.int8)
    for window in windows(first, end):
        choice.choose(window, strategy_of, strategies[window.start - first : window.stop - first])
    return Chosen(strategies, choice.hulls)


class _Choice:
    """The choice for one reply, window by window."""

    def __init__(
        self,
        snapshot: Snapshot,
        projection: PhysicalProjection,
        wanted: RowRange,
        options: ReadOptions,
    ) -> None:
        self.snapshot = snapshot
        self.projection = projection
        self.wanted = wanted
        self.options = options
        self.hulls: dict[int, tuple[int, int]] = {}

    def choose(
        self, window: slice, strategy_of: NDArray[np.int8], strategies: NDArray[np.int8]
    ) -> None:
        """Writes the strategies of some batches to where they belong."""
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
            self._choose_filtered(options.row_filter, window, owner, strategies)
        if snapshot.has_deletions:
            dirty = snapshot.dirty(window.start, window.stop)
            strategies[dirty & (strategies != BatchStrategy.NOT)] = BatchStrategy.COMPUTE
        # A batch without rows is sent only where it does not break an extent.
        strategies[(snapshot.rows[window] == 0) & (strategies != BatchStrategy.AS_IS)] = (
            BatchStrategy.NOT
        )

    def _choose_filtered(
        self,
        row_filter: RowFilter,
        window: slice,
        owner: NDArray[np.int64],
        strategies: NDArray[np.int8],
    ) -> None:
        """Leaves out what holds no chosen row, and computes what may hold others beside them."""
        snapshot = self.snapshot
        first, last = int(owner[0]), int(owner[-1])
        indices = snapshot.segment_partition[first : last + 1].tolist()
        row_filter.prepare(snapshot.partitions[index] for index in sorted(set(indices)))
        left = [row_filter.left(snapshot.partitions[index]) for index in indices]
        # Who asks the filter again need not know what holds chosen rows alone.
        proves = not self.options.loose
        # Segments without a row that could be chosen are not even opened.
        matching = np.zeros(len(indices), dtype=bool)
        # Those all of whose rows are chosen go as they are; rows that are skipped are counted as they
        # are computed.
        whole = np.zeros(len(indices), dtype=bool)
        in_parts: list[tuple[int, ZonesOfBatches]] = []
        undivided: list[int] = []
        for number, (index, condition) in enumerate(zip(indices, left, strict=True)):
            if condition is FALSE:
                continue
            segment, partition = snapshot.segments[first + number], snapshot.partitions[index]
            if condition is TRUE:
                matching[number] = whole[number] = True
            elif row_filter.may_match(segment, partition):
                matching[number] = True
                zones = zones_of_batches(snapshot, first + number, row_filter, proves=proves)
                if zones is None:
                    undivided.append(number)
                else:
                    in_parts.append((first + number, zones))
        if proves and len(undivided) >= WORTH_PROVING:
            for number in undivided:
                index = first + number
                whole[number] = row_filter.surely_matches(
                    snapshot.segments[index], snapshot.partitions[indices[number]]
                )
        computed = ~whole if not self.options.skip_rows else np.ones_like(whole)
        computes = computed[owner - first]
        leaves_out = ~matching[owner - first]
        for number, zones in in_parts:
            # The window may begin or end inside the segment.
            begin = snapshot.batches_of(number)[0]
            start = max(begin, window.start)
            stop = min(begin + len(zones.may), window.stop)
            mine = slice(start - window.start, stop - window.start)
            theirs = slice(start - begin, stop - begin)
            leaves_out[mine] = ~zones.may[theirs]
            if not self.options.skip_rows:
                computes[mine] = ~zones.all[theirs]
            self.hulls.update(zones.hulls)
        if self.options.loose:
            computes &= np.isin(np.arange(window.start, window.stop), [*self.hulls])
        strategies[computes] = BatchStrategy.COMPUTE
        strategies[leaves_out] = BatchStrategy.NOT

    def of_segment(self, schema_version: int, codecs: str) -> BatchStrategy:
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


class ZonesOfBatches(NamedTuple):
    """The batches of one segment.

    Attributes:
        may: per batch, whether it can hold a chosen row.
        all: per batch, whether every row that it stores is chosen.
        hulls: of batches of several zones not all of which can hold one, by the batch's index in the
            snapshot: the rows from the first zone to the end of the last that can. Of batches that
            have lost rows nothing is said, as their rows are counted without them.
    """

    may: NDArray[np.bool_]
    all: NDArray[np.bool_]
    hulls: dict[int, tuple[int, int]]


def zones_of_batches(
    snapshot: Snapshot, index: int, row_filter: RowFilter, *, proves: bool = True
) -> ZonesOfBatches | None:
    """Asks the filter of the zones of the segment at an index; None if nothing is known of them.

    ``proves`` as for `RowFilter.zones`.
    """
    segment = snapshot.segments[index]
    if segment.zone_bounds is None:
        return None
    first, end = snapshot.batches_of(index)
    rows = snapshot.stored_rows[first:end]
    counts = np.maximum(-(-rows // ZONE_ROWS), 1)
    partition = snapshot.partitions[int(snapshot.segment_partition[index])]
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
    indices = snapshot.segment_partition.tolist()
    if row_filter is None:
        kept = list(range(len(snapshot.segments)))
    else:
        row_filter.prepare(snapshot.partitions)
        kept = [
            number
            for number, index in enumerate(indices)
            if row_filter.left(snapshot.partitions[index]) is TRUE
            or row_filter.may_match(snapshot.segments[number], snapshot.partitions[index])
        ]
    return KeptSegments(
        partitions=len({indices[number] for number in kept}),
        all_partitions=len(set(indices)),
        segments=len(kept),
        all_segments=len(indices),
        bytes=sum(snapshot.segments[number].length for number in kept),
        all_bytes=snapshot.segment_start[-1],
    )


DEFAULT_PREVIEW_ROWS = 1000
"""The protocol leaves it open."""

_CODECS = ("lz4", "zstd")


def preview_rows(limit: int | None) -> int:
    """How many rows a preview gives at most.

    Raises:
        InvalidArgumentError: the limit is out of range.
    """
    if limit is None:
        return DEFAULT_PREVIEW_ROWS
    if not 0 <= limit <= MAX_PREVIEW_ROWS:
        raise InvalidArgumentError(
            f"Limit {limit} is not 0 to {MAX_PREVIEW_ROWS}", actual=limit, limit=MAX_PREVIEW_ROWS
        )
    return limit


def batch_rows(rows: int | None) -> int | None:
    """``MaxBatchRows``; None for batches as stored.

    Raises:
        InvalidArgumentError: it is out of range.
    """
    if not rows:
        return None
    if not 1 <= rows <= MAX_BATCH_ROWS:
        raise InvalidArgumentError(
            f"MaxBatchRows {rows} is not 1 to {MAX_BATCH_ROWS}", actual=rows, limit=MAX_BATCH_ROWS
        )
    return rows


def batch_bytes(size: int) -> int | None:
    """``MaxBatchRawSize``; None for any size.

    Raises:
        InvalidArgumentError: it is out of range.
    """
    if not size:
        return None
    if not MIN_BATCH_BYTES <= size <= MAX_BATCH_BYTES:
        raise InvalidArgumentError(
            f"MaxBatchRawSize {size} is neither 0 nor {MIN_BATCH_BYTES} to {MAX_BATCH_BYTES} bytes",
            actual=size,
            limit=MAX_BATCH_BYTES,
        )
    return size


def buffer_codec(codec: str | None) -> str | None:
    """The Arrow buffer codec of a reply; None for as stored.

    Raises:
        InvalidArgumentError: there is no such codec.
    """
    if codec is not None and codec not in _CODECS:
        raise InvalidArgumentError(f"buffer codec {codec!r} is not one of {', '.join(_CODECS)}")
    return codec


def not_negative(what: str, value: int) -> int:
    """A count or offset.

    Raises:
        InvalidArgumentError: it is negative.
    """
    if value < 0:
        raise InvalidArgumentError(f"{what} {value} is negative", actual=value, limit=0)
    return value
