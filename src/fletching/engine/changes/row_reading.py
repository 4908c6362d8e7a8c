"""Some rows of one segment, by their numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fletching.catalog.segment_rows import SegmentRow
from fletching.engine.reading.physical_projection import SegmentColumns
from fletching.engine.reading.segment_reader import SegmentReader
from fletching.errors import CorruptObjectError
from fletching.objects.store import ObjectStore

__all__ = ["rows_of_segment"]


def rows_of_segment(
    store: ObjectStore,
    segment: SegmentRow,
    schema: pa.Schema,
    columns: Sequence[int],
    rows: NDArray[np.generic],
) -> pa.RecordBatch:
    """Some columns of some rows, in the order asked for; only the batches that have them are decoded.

    Args:
        store: where the segment is.
        segment: the segment.
        schema: its columns.
        columns: which of them, in the order wanted.
        rows: row numbers in the segment, in any order, also repeated.

    Raises:
        CorruptObjectError: what is stored is damaged, or has no such row.
    """
    index = np.frombuffer(segment.batch_index, "<i8").reshape(-1, 4)
    starts = np.zeros(len(index) + 1, dtype=np.int64)
    np.cumsum(index[:, 3], out=starts[1:])
    wanted, inverse = np.unique(rows.astype(np.int64), return_inverse=True)
    if len(wanted) and int(wanted[-1]) >= int(starts[-1]):
        raise CorruptObjectError("a segment has fewer rows than its key run says", key=segment.key)
    stored = SegmentColumns(
        schema,
        tuple(range(len(schema))),
        whole=True,
        converts=False,
        appendable=True,
        same=True,
        selected=True,
    )
    reader = SegmentReader(store, segment, stored)
    narrow = tuple(sorted(set(columns)))
    batches = []
    owners = np.searchsorted(starts, wanted, side="right") - 1
    for owner in np.unique(owners).tolist():
        offset, metadata_length, body_length, _ = (int(each) for each in index[owner])
        decoded = reader.decode(offset, offset + metadata_length + body_length, narrow)
        mine = wanted[owners == owner] - starts[owner]
        batches.append(decoded.take(pa.array(mine)))
    if not batches:
        empty = pa.schema([schema.field(place) for place in columns])
        return pa.RecordBatch.from_arrays(
            [pa.array([], field.type) for field in empty], schema=empty
        )
    table = pa.Table.from_batches(batches).combine_chunks()
    order = pa.array(inverse.reshape(-1))
    found = table.take(order).select([narrow.index(place) for place in columns])
    (batch,) = found.combine_chunks().to_batches() or [None]
    assert batch is not None
    return batch
