"""Batches whose values or cuts are made for the reply: computed, cut by rows and bytes, and encoded.

One stored batch is worked on at a time. pyarrow slices and writes at the speed of memory, without Python
between the cuts, and tells a slice's encoded length without touching its values; so a reply that is only cut
still has a total length.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import numpy as np
import pyarrow as pa
from typing_extensions import Buffer

from fletching import ipc
from fletching.engine.reading.physical_projection import (
    OutputMapping,
    PhysicalProjection,
    stored_columns,
)
from fletching.engine.reading.read_plan import Computed
from fletching.engine.reading.row_filter import RowFilter
from fletching.engine.reading.segment_reader import SegmentReader
from fletching.engine.reading.shown_rows import RowSelection, take_rows
from fletching.errors import CorruptObjectError
from fletching.ipc.dictionaries import has_dictionary
from fletching.ipc.encoding import encode_batch
from fletching.ipc.flat_batches import encode_flat_batch
from fletching.ipc.message import END_OF_STREAM
from fletching.ipc.metadata import MessageType

__all__ = [
    "AHEAD_BATCHES",
    "GROUP_BYTES",
    "HELPERS",
    "BatchComputation",
    "BatchRecipe",
    "Cut",
    "computed_ahead",
    "cut_rows",
    "encode_cuts",
    "encoded_length",
    "group_cuts",
    "worked_ahead",
]

_Made = TypeVar("_Made")

GROUP_BYTES = 4 << 20
"""About how many bytes of cut batches are made at a time: what a reply holds in memory beside what
is being sent. Large enough that a thread hop per group does not show, small enough for a first
batch without delay."""

# pyarrow sends a slice's buffers up to a multiple of 64 bytes, as far as there are any: slices are
# equally long if each column ends at such a multiple, also bitmaps.
_ALIKE_ROWS = 512

_VIEWED_BYTES = 256 << 10
"""From this on, handing buffers over one by one takes less than copying them into one message."""

AHEAD_BATCHES = 4
"""How many batches are computed while one is used; each takes the memory of its rows."""

HELPERS = min(max((os.cpu_count() or 1) - 1, 1), 2)
"""Threads that compute beside a reader, which takes part in it."""

_SLICES_PER_SIZE = 2  # parts into which a slice above the byte limit is cut again


@dataclasses.dataclass(frozen=True, slots=True)
class Cut:
    """Rows ``start`` to ``end`` of a batch; ``length`` is the bytes of its message, once known."""

    start: int
    end: int
    length: int


def cut_rows(
    batch: pa.RecordBatch, *, max_rows: int | None = None, max_bytes: int | None = None
) -> list[Cut]:
    """Cuts a batch so that no part has more than ``max_rows`` rows or ``max_bytes`` encoded bytes.

    A single row above ``max_bytes`` is left as it is. Without rows there is no part. Cost: about
    3 microseconds a part; nearly none where every row is as long as every other.
    """
    total = batch.num_rows
    step = min(max_rows or total, total)
    cuts: list[Cut] = []
    known = -1 if step % _ALIKE_ROWS == 0 and _rows_are_alike(batch) else None
    for start in range(0, total, step or 1):
        end = min(start + step, total)
        if known is None or known < 0 or end - start < step:
            length = pa.ipc.get_record_batch_size(batch.slice(start, end - start))
            known = None if known is None else length
        else:
            length = known
        if max_bytes is not None and length > max_bytes and end - start > 1:
            cuts += _halve(batch, start, end, max_bytes)
        else:
            cuts.append(Cut(start, end, length))
    return cuts


def _rows_are_alike(batch: pa.RecordBatch) -> bool:
    """Whether a slice's encoded length follows from its rows alone: fixed widths, nothing null."""
    types = pa.types
    return all(
        (types.is_primitive(data_type) or types.is_fixed_size_binary(data_type))
        and column.null_count == 0
        for data_type, column in zip(batch.schema.types, batch.columns, strict=True)
    )


def _halve(batch: pa.RecordBatch, start: int, end: int, max_bytes: int) -> Iterator[Cut]:
    """Parts of rows ``start`` to ``end`` within the bytes; rows differ in size, so it goes by halves."""
    pending = [(start, end)]
    while pending:
        first, last = pending.pop()
        length = pa.ipc.get_record_batch_size(batch.slice(first, last - first))
        if length <= max_bytes or last - first == 1:
            yield Cut(first, last, length)
            continue
        middle = first + (last - first) // _SLICES_PER_SIZE
        pending += [(middle, last), (first, middle)]


def group_cuts(cuts: Sequence[Cut], group_bytes: int = GROUP_BYTES) -> Iterator[list[Cut]]:
    """Consecutive cuts of together about ``group_bytes``; a larger cut is a group by itself."""
    group: list[Cut] = []
    room = group_bytes
    for cut in cuts:
        if group and cut.length > room:
            yield group
            group, room = [], group_bytes
        group.append(cut)
        room -= cut.length
    if group:
        yield group


def encoded_length(cuts: Sequence[Cut]) -> int:
    """Bytes of the cuts' messages, uncompressed."""
    return sum(cut.length for cut in cuts)


def encode_cuts(
    batch: pa.RecordBatch, cuts: Sequence[Cut], *, codec: str | None = None
) -> list[Buffer]:
    """Record batch messages of the cuts, in order; dictionaries are not included.

    Copies the values of small cuts once, as a slice's buffers must be realigned; releases the GIL
    while it does. A large one is not copied: what comes out are views of the batch's buffers.

    Args:
        batch: the rows.
        cuts: which of them.
        codec: ``"lz4"``, ``"zstd"`` or None for plain buffers.
    """
    if not cuts:
        return []
    if codec is None and not _has_dictionaries(batch.schema):
        if len(cuts) == 1 and cuts[0].length >= _VIEWED_BYTES:
            cut = cuts[0]
            return encode_batch(batch.slice(cut.start, cut.end - cut.start))
        return [_encode_plain(batch, cuts)]
    options = pa.ipc.IpcWriteOptions(compression=codec)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        for cut in cuts:
            writer.write_batch(batch.slice(cut.start, cut.end - cut.start))
    # pyarrow puts the schema and the dictionaries, which the reply has sent, before the batches.
    data = sink.getvalue()
    return [
        memoryview(data)[message.offset : message.end]
        for message in ipc.messages(data)
        if message.type is MessageType.RECORD_BATCH
    ]


def _encode_plain(batch: pa.RecordBatch, cuts: Sequence[Cut]) -> memoryview:
    schema_length = batch.schema.serialize().size
    length = encoded_length(cuts)
    # 8 bytes more: closing the writer appends an end-of-stream marker, which is not part of this.
    target = pa.allocate_buffer(schema_length + length + len(END_OF_STREAM))
    step = cuts[0].end - cuts[0].start
    even = all(cut.end - cut.start == step for cut in cuts[:-1])
    with (
        pa.FixedSizeBufferWriter(target) as sink,
        pa.ipc.new_stream(sink, batch.schema) as writer,
    ):
        if even and cuts[-1].end - cuts[-1].start <= step:
            # One call, which cuts and copies without the GIL.
            part = batch.slice(cuts[0].start, cuts[-1].end - cuts[0].start)
            writer.write_table(pa.Table.from_batches([part]), max_chunksize=step)
        else:
            for cut in cuts:
                writer.write_batch(batch.slice(cut.start, cut.end - cut.start))
        actual = sink.tell() - schema_length
    if actual != length:
        raise CorruptObjectError(f"cut batches have {actual} bytes where {length} were measured")
    return memoryview(target)[schema_length : schema_length + length]


def _has_dictionaries(schema: pa.Schema) -> bool:
    return any(has_dictionary(field.type) for field in schema)


class BatchRecipe:
    """What becomes of the batches of one segment: all that is the same for each, found out once.

    Attributes:
        reader: the segment.
        columns: those of its columns that the reply or the filter needs, in order.
        mapping: makes the reply's batches of them.
    """

    def __init__(
        self,
        reader: SegmentReader,
        projection: PhysicalProjection,
        partition: tuple[str, ...],
        *,
        max_rows: int | None = None,
        max_bytes: int | None = None,
        codec: str | None = None,
        row_filter: RowFilter | None = None,
    ) -> None:
        """Looks at the schemas.

        Args:
            reader: the segment.
            projection: the reply's columns.
            partition: the values of the segment's partition columns.
            max_rows: as in `ReadOptions`, like the others.
            max_bytes: likewise.
            codec: likewise.
            row_filter: likewise.
        """
        self.reader = reader
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        self.codec = codec
        self.row_filter = row_filter
        self._partition = partition
        version = reader.row.schema_version
        projections = [projection] if row_filter is None else [projection, row_filter.projection]
        self.columns = stored_columns(*projections, schema_version=version)
        self.mapping = OutputMapping(projection, version, partition, self.columns)

    @property
    def cuts(self) -> bool:
        """Whether batches may have to be cut."""
        return self.max_rows is not None or self.max_bytes is not None

    def chosen(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows that the filter chooses."""
        if self.row_filter is None:
            return batch
        version = self.reader.row.schema_version
        return self.row_filter.chosen(batch, version, self._partition, self.columns)


@dataclasses.dataclass
class BatchComputation:
    """What becomes of one stored batch. Thread-safe once it has been set up; decodes at most once.

    The decoded batch lives as long as this or one of its pieces, so a reply holds one at a time.

    Attributes:
        recipe: what is done.
        offset, end: the message in the segment, bytes.
        start_row, end_row: the wanted rows among those that the batch shows.
        stored_rows: how many rows the batch has.
        selection: which of them are shown, and the batch's number in it; None for all.
        known_cuts: what `cuts` was when the reply was measured.
    """

    recipe: BatchRecipe
    offset: int
    end: int
    start_row: int
    end_row: int
    stored_rows: int
    selection: tuple[RowSelection, int] | None = None
    known_cuts: Sequence[Cut] | None = None

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._made: pa.RecordBatch | None = None
        self._skipped = 0

    def _mapped(self) -> pa.RecordBatch:
        with self._lock:
            if self._made is None:
                recipe = self.recipe
                batch = recipe.reader.decode(self.offset, self.end, recipe.columns)
                if batch.num_rows != self.stored_rows:
                    raise CorruptObjectError(
                        f"a record batch has {batch.num_rows} rows where the catalog has"
                        f" {self.stored_rows}",
                        key=recipe.reader.row.key,
                    )
                if self.selection is not None:
                    batch = self._shown(batch, *self.selection)
                elif (self.start_row, self.end_row) != (0, batch.num_rows):
                    batch = batch.slice(self.start_row, self.end_row - self.start_row)
                self._made = recipe.mapping.apply(recipe.chosen(batch))
            return self._made

    def _shown(self, batch: pa.RecordBatch, selection: RowSelection, number: int) -> pa.RecordBatch:
        """The wanted rows among those that are shown."""
        shown = int(selection.counts[number])
        if self.start_row == 0 and 2 * self.end_row > shown:
            return selection.left_of(number, batch).slice(0, self.end_row)
        mask = selection.mask(number)
        return take_rows(batch, np.flatnonzero(mask)[self.start_row : self.end_row])

    @property
    def _batch(self) -> pa.RecordBatch:
        mapped = self._mapped()
        return mapped.slice(self._skipped) if self._skipped else mapped

    def skip(self, rows: int) -> int:
        """Leaves out up to ``rows`` of the result's rows; returns how many there were."""
        self._skipped = min(rows, self._mapped().num_rows)
        return self._skipped

    @functools.cached_property
    def cuts(self) -> Sequence[Cut]:
        """The messages to be made: rows and lengths."""
        if self.known_cuts is not None:
            return self.known_cuts
        recipe = self.recipe
        if self._uncut is not None:
            length = sum(memoryview(part).nbytes for part in self._uncut)
            return [Cut(0, self._batch.num_rows, length)]
        return cut_rows(self._batch, max_rows=recipe.max_rows, max_bytes=recipe.max_bytes)

    @functools.cached_property
    def _uncut(self) -> list[Buffer] | None:
        """The one message of all rows, where nothing is cut or compressed and the columns are flat."""
        if self.recipe.cuts or self.recipe.codec is not None or not self._batch.num_rows:
            return None
        message = encode_flat_batch(self._batch)
        if message is not None and self._batch.nbytes < _VIEWED_BYTES:
            return [b"".join(message)]
        return message

    def length(self) -> int | None:
        """Bytes of the messages; None if only making them tells."""
        return None if self.recipe.codec is not None else encoded_length(self.cuts)

    @functools.cached_property
    def _groups(self) -> list[list[Cut]]:
        return list(group_cuts(self.cuts))

    def pieces(self) -> Iterator[Computed]:
        """The messages in groups; each is made when its piece is run.

        Where rows are left out, nothing is computed before the first piece is run, whose length is not known.
        """
        recipe = self.recipe
        left_out = recipe.row_filter is not None or self.selection is not None
        lazy = self.known_cuts is None and left_out
        number = 0
        # How many groups there are shows when the rows are chosen.
        while number == 0 or number < len(self._groups):
            known = recipe.codec is None and not (lazy and number == 0)
            yield Computed(
                functools.partial(self._encode, number),
                encoded_length(self._group(number)) if known else None,
            )
            number += 1

    def _group(self, number: int) -> Sequence[Cut]:
        return self._groups[number] if self._groups else ()

    def _encode(self, number: int) -> list[Buffer]:
        if self._uncut is not None:
            return self._uncut
        return encode_cuts(self._batch, self._group(number), codec=self.recipe.codec)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows as record batches, cut but not encoded."""
        batch = self._batch
        if not self.recipe.cuts:
            if batch.num_rows:
                yield batch
            return
        for cut in self.cuts:
            yield batch.slice(cut.start, cut.end - cut.start)


def computed_ahead(computations: Iterable[BatchComputation]) -> Iterator[pa.RecordBatch]:
    """The batches of computations in order; see `worked_ahead`."""
    for batches in worked_ahead(functools.partial(_listed, each) for each in computations):
        yield from batches


def _listed(computation: BatchComputation) -> list[pa.RecordBatch]:
    return list(computation.batches())


class _Task(Generic[_Made]):
    """Work for whoever comes first: a thread of the pool, or a reader that would wait else."""

    def __init__(self, pool: ThreadPoolExecutor, work: Callable[[], _Made]) -> None:
        self._work = work
        self.made = pool.submit(work)

    def help(self) -> bool:
        """Does the work in this thread unless it is begun; an error is kept for whoever asks for the result."""
        if not self.made.cancel():
            return False
        self.made = Future()
        try:
            self.made.set_result(self._work())
        except Exception as error:  # noqa: BLE001 - raised where the result would be
            self.made.set_exception(error)
        return True


def worked_ahead(tasks: Iterable[Callable[[], _Made]]) -> Iterator[_Made]:
    """What tasks make, in order; from the second on they are worked on while others are used.

    Deciding which rows stay and copying them releases the interpreter's lock, so a reader in this
    process computes on other processors while it uses what it got, and on its own while it would wait.
    Close the iterator to end early; it waits for the tasks that are being worked on.
    """
    remaining = iter(tasks)
    # Somebody waits for the first one: nothing else is begun before it is done.
    for first in remaining:
        yield first()
        break
    with ThreadPoolExecutor(HELPERS, "fletching-compute") as pool:
        begun: deque[_Task[_Made]] = deque()
        try:
            for task in remaining:
                begun.append(_Task(pool, task))
                if len(begun) > AHEAD_BATCHES:
                    yield _result_of_first(begun)
            while begun:
                yield _result_of_first(begun)
        finally:
            for each in begun:
                each.made.cancel()


def _result_of_first(begun: deque[_Task[_Made]]) -> _Made:
    while not begun[0].made.done() and any(each.help() for each in begun):
        pass
    return begun.popleft().made.result()
