"""Rows that are written anew, and nothing of those that they stood among.

Rows that are chosen from a batch may share memory with it: a slice of neighbouring rows does, and so do the
dictionary that their values are in, the buffers that views look into, and the values below lists that are views
themselves. Written to a file, values of rows that are deleted would be there for whoever looks at its bytes.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fletching.ipc.array_tree import with_changed_children
from fletching.ipc.type_tree import any_below
from fletching.protocol.types.row_selection import take_rows

__all__ = ["purged_rows"]

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
    columns = [_alone(column) for column in taken.columns]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


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
    if not any_below(data_type, _shares):
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
