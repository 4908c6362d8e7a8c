"""Copying what is left of segments into a new one: batches as they are, or the rows that are left of them.

Of a segment that has lost rows nothing is taken over that tells of them: neither values that batches share, nor
bounds of columns but those of zones that have all their rows. Rows that are chosen from a batch may share memory with
it: a slice of neighbouring rows does, and so do the dictionary that their values are in, the buffers that views
look into, and the values below lists that are views themselves. Written to a file, values of rows that are
deleted would be there for whoever looks at its bytes.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from typing_extensions import Buffer

from fletching.engine.context import EngineContext
from fletching.engine.reading.snapshot import Snapshot
from fletching.engine.tables.zone_bounds import read_zones, zones_of
from fletching.engine.upkeep.segment_proof import proven_batches
from fletching.engine.writing.segment_writer import SegmentWriter
from fletching.engine.writing.stored_batches import StoredBatches
from fletching.ipc.array_tree import with_changed_children
from fletching.ipc.encoding import BatchEncoder
from fletching.ipc.metadata import read_message_header
from fletching.ipc.type_tree import any_below
from fletching.protocol.types.row_selection import take_rows

__all__ = ["SegmentCopy", "purged_rows"]


class SegmentCopy:
    """Copies what is left of segments of one schema into a new one."""

    def __init__(
        self, context: EngineContext, snapshot: Snapshot, schema: pa.Schema, writer: SegmentWriter
    ) -> None:
        self._context = context
        self._snapshot = snapshot
        self._schema = schema
        self._writer = writer
        self._encoders: dict[str | None, BatchEncoder] = {}

    def segment(self, index: int) -> int:
        """Copies one; returns how many rows.

        Raises:
            CorruptObjectError: its bytes are not what was written.
        """
        row = self._snapshot.segments[index]
        stored = self._context.store.open(row.key)
        try:
            batches = proven_batches(stored, row)
            if index not in self._snapshot.selections:
                return self._whole(index, batches)
            if row.dictionary_index:
                return self._unified(index, batches.data)
            return self._batches(index, batches)
        finally:
            stored.close()

    def _whole(self, index: int, stored: StoredBatches) -> int:
        """Copies all batches as they are, and what is known of them."""
        row = self._snapshot.segments[index]
        self._writer.write_stored(stored, range(len(stored.index)), codec=row.codecs or None)
        self._note_zones(index)
        return row.rows

    def _batches(self, index: int, stored: StoredBatches) -> int:
        """Copies batch by batch: as they are, in part, or not at all."""
        writer = self._writer
        row, selection = self._snapshot.segments[index], self._snapshot.selections[index]
        codec = row.codecs or None
        batches, shown = stored.index, selection.counts.tolist()
        known = read_zones(row.zone_bounds)
        zones = [0, *itertools.accumulate(zones_of(rows) for _, _, _, rows in batches)]

        def is_whole(number: int) -> bool:
            return bool(0 < shown[number] == batches[number][3])

        # The bytes are proven, so that pyarrow may read them, which takes a fraction of what decoding here does.
        with pa.ipc.open_file(pa.py_buffer(stored.data)) as file:
            for whole, group in itertools.groupby(range(len(shown)), is_whole):
                numbers = [number for number in group if shown[number]]
                if not whole:
                    for number in numbers:
                        kept = np.flatnonzero(selection.mask(number))
                        self._encode(purged_rows(file.get_batch(number), kept), codec)
                    continue
                start, end = numbers[0], numbers[-1] + 1
                if writer.statistics is not None:
                    columns = functools.partial(
                        map, lambda each: file.get_batch(each).columns, numbers
                    )
                    writer.statistics.add_zones(known, zones[start], zones[end], columns)
                writer.write_stored(stored, range(start, end), codec=codec)
        return sum(shown)

    def _note_zones(self, index: int) -> None:
        """Takes the bounds of a segment that has all its rows over into the new one, and those of its zones."""
        snapshot, statistics = self._snapshot, self._writer.statistics
        if statistics is None:
            return
        row = snapshot.segments[index]
        statistics.merge(row.statistics)
        first, end = snapshot.batches_of(index)
        count = sum(map(zones_of, snapshot.stored_rows[first:end].tolist()))
        statistics.merge_zones(read_zones(row.zone_bounds), row.statistics, count)

    def _encode(self, batch: pa.RecordBatch, codec: str | None) -> None:
        if self._writer.statistics is not None:
            self._writer.statistics.add(batch.columns)
        codec = codec if codec in {"lz4", "zstd"} else None
        encoder = self._encoders.get(codec)
        if encoder is None:
            encoder = self._encoders[codec] = BatchEncoder(self._schema, compression=codec)
        *dictionaries, last = encoder.encode(batch)
        for frame in dictionaries:
            head, body = _lengths_of(frame)
            header = read_message_header(memoryview(frame[0])[8:])
            self._writer.write_dictionary(
                frame,
                metadata_length=head,
                body_length=body,
                dictionary_id=header.dictionary_batch().id,
            )
        head, body = _lengths_of(last)
        self._writer.write_batch(
            last, metadata_length=head, body_length=body, rows=batch.num_rows, codec=codec
        )

    def _unified(self, index: int, data: memoryview) -> int:
        """Copies a segment with dictionaries: its batches get one of each, for the whole file."""
        snapshot = self._snapshot
        row = snapshot.segments[index]
        first = snapshot.batches_of(index)[0]
        batches = []
        with pa.ipc.open_file(pa.py_buffer(data)) as file:
            for number in range(file.num_record_batches):
                kept = snapshot.kept(first + number)
                batch = file.get_batch(number)
                rows = np.arange(batch.num_rows) if kept is None else kept
                batches.append(purged_rows(batch, rows))
        table = pa.Table.from_batches(batches, self._schema).unify_dictionaries()
        for batch in table.to_batches():
            if batch.num_rows:
                self._encode(batch, row.codecs or None)
        return table.num_rows


def _lengths_of(frame: Sequence[Buffer]) -> tuple[int, int]:
    """Of a message's metadata, which is its first piece, and of its body."""
    metadata, *body = (memoryview(piece).nbytes for piece in frame)
    return metadata, sum(body)


_THROUGH = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
_types = pa.types


def purged_rows(batch: pa.RecordBatch, rows: NDArray[np.int64]) -> pa.RecordBatch:
    """Some rows of a batch, by number, in memory that has nothing else.

    Copies all of it. Of unions and run ends the values below them are those of the rows, but what stands
    below these, should it be dictionaries or views, may have more.

    Raises:
        pyarrow.ArrowException: a column of a type that pyarrow can neither take from nor join.
    """
    taken = take_rows(batch, pa.array(rows))
    if not batch.num_columns:
        return taken
    if not any(map(_may_share, batch.schema.types)):
        return taken
    columns = [_alone(column) for column in taken.columns]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


@functools.lru_cache(256)  # of types, of which a table has few
def _may_share(data_type: pa.DataType) -> bool:
    """Whether arrays of a type, or what is below them, may share values: the others are alone as they are."""
    return any_below(data_type, _shares)


def _shares(data_type: pa.DataType) -> bool:
    """Whether arrays of a type may share what stands for their values with rows that are not theirs."""
    return bool(
        data_type in _THROUGH
        or _types.is_dictionary(data_type)
        or _types.is_list_view(data_type)
        or _types.is_large_list_view(data_type)
    )


def _alone(array: pa.Array) -> pa.Array:
    """The same values without any that none of them is."""
    data_type = array.type
    if isinstance(data_type, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(data_type, _alone(array.storage))
    if not _may_share(data_type):
        return array
    through = _THROUGH.get(data_type)
    if through is not None:
        return array.cast(through).cast(data_type)
    if _types.is_dictionary(data_type):
        return _with_used_values(array)
    if _types.is_list_view(data_type) or _types.is_large_list_view(data_type):
        return _with_shown_values(array)
    if _types.is_union(data_type) or _types.is_run_end_encoded(data_type):
        return array
    own = _from_its_first_row(array)
    return with_changed_children(own, data_type, lambda child, _: _alone(child))


def _with_used_values(array: pa.DictionaryArray) -> pa.DictionaryArray:
    used = pc.unique(array.indices.drop_null())
    used = used.take(pc.array_sort_indices(used))
    values = _alone(array.dictionary.take(used))
    indices = pc.index_in(array.indices, value_set=used).cast(array.type.index_type)
    return pa.DictionaryArray.from_arrays(indices, values, ordered=array.type.ordered)


def _with_shown_values(array: pa.Array) -> pa.Array:
    """Lists that are views, of values of which each is in one of them, in their order."""
    # By hand: pyarrow makes lists of views with an offset missing (seen in 26).
    sizes = np.where(array.is_valid().to_numpy(zero_copy_only=False), array.sizes.to_numpy(), 0)
    starts = np.cumsum(sizes) - sizes
    rows = np.repeat(array.offsets.to_numpy() - starts, sizes) + np.arange(int(sizes.sum()))
    below = pa.record_batch([array.values], ["values"])
    values = _alone(take_rows(below, pa.array(rows)).column(0))
    small = _types.is_list_view(array.type)
    kind, number = (pa.ListViewArray, pa.int32()) if small else (pa.LargeListViewArray, pa.int64())
    return kind.from_arrays(
        pa.array(starts, number),
        pa.array(sizes, number),
        values,
        type=array.type,
        mask=array.is_null() if array.null_count else None,
    )


def _from_its_first_row(array: pa.Array) -> pa.Array:
    """The same array as it is when it was written and read: a slice of a nested one begins elsewhere."""
    batch = pa.record_batch([array], ["column"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return pa.ipc.open_stream(sink.getvalue()).read_next_batch().column(0)
