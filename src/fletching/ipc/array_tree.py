"""Arrays as trees: putting other arrays below a nested one, by reference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fletching.ipc.constant_arrays import null_array
from fletching.ipc.type_tree import any_below

__all__ = ["children_of", "with_changed_children", "with_null_indices", "with_type_ids"]


def children_of(array: pa.Array) -> list[pa.Array]:
    """The children of an array that was read from a message: it starts at its own row 0."""
    data_type = array.type
    types = pa.types
    if not data_type.num_fields:
        return []
    if types.is_struct(data_type) or types.is_union(data_type):
        return [array.field(index) for index in range(data_type.num_fields)]
    if types.is_map(data_type):
        keys, items = array.keys, array.items
        entries = data_type.field(0).type
        return [pa.Array.from_buffers(entries, len(keys), [None], 0, 0, [keys, items])]
    if types.is_run_end_encoded(data_type):
        return [array.run_ends, array.values]
    return [array.values]


def with_changed_children(
    array: pa.Array, data_type: pa.DataType, change: Callable[[pa.Array, int], pa.Array]
) -> pa.Array:
    """The array as one of another type whose children are what ``change`` makes of its children.

    Args:
        array: nested, as read from a message.
        data_type: a type of the same layout over the changed children's types; no extension type.
        change: is given a child and its number.
    """
    parts = [change(child, index) for index, child in enumerate(children_of(array))]
    if pa.types.is_run_end_encoded(data_type):
        return pa.RunEndEncodedArray.from_buffers(data_type, len(array), [None], 0, 0, parts)
    own = array.buffers()[: int(data_type.num_buffers)]
    nulls = array.null_count if own and own[0] is not None else 0
    return pa.Array.from_buffers(data_type, len(array), own, nulls, 0, parts)


def with_type_ids(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch in which unions without values have buffers of type ids nevertheless.

    pyarrow reads them with null pointers, and follows those when it is asked for the size of such a
    union (``nbytes``): the process dies.
    """
    for index, field in enumerate(batch.schema):
        if any_below(field.type, pa.types.is_union):
            batch = batch.set_column(index, field, _with_type_ids(batch.column(index)))
    return batch


def _with_type_ids(array: pa.Array) -> pa.Array:
    data_type = array.type
    if isinstance(data_type, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(data_type, _with_type_ids(array.storage))
    if pa.types.is_union(data_type) and not len(array):
        return null_array(data_type, 0)
    if not data_type.num_fields or not any_below(data_type, pa.types.is_union):
        return array
    return with_changed_children(array, data_type, lambda child, _: _with_type_ids(child))


def with_null_indices(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch in which dictionaries without values have no index that is not null.

    pyarrow puts index 0 under a struct that is null, valid and outside of a dictionary that is empty since all
    structs are null; who looks at the indices, as its own full validation, has to refuse that. Indices that
    are outside and seen stay as they are.
    """
    for index, field in enumerate(batch.schema):
        if not pa.types.is_dictionary(field.type) and any_below(field.type, pa.types.is_dictionary):
            column = batch.column(index)
            changed = _with_null_indices(column, np.zeros(len(column), dtype=bool))
            if changed is not column:
                batch = batch.set_column(index, field, changed)
    return batch


def _with_null_indices(array: pa.Array, hidden: NDArray[np.bool_]) -> pa.Array:
    """``hidden``: for each row whether something above it is null."""
    data_type, types = array.type, pa.types
    if isinstance(data_type, pa.BaseExtensionType):
        storage = _with_null_indices(array.storage, hidden)
        return (
            array
            if storage is array.storage
            else pa.ExtensionArray.from_storage(data_type, storage)
        )
    if types.is_dictionary(data_type):
        # Of the indices: pyarrow looks a dictionary's own nulls up by them, wherever they lead, and follows a
        # null pointer where the values are of type null.
        unseen = hidden | array.indices.is_null().to_numpy(zero_copy_only=False)
        seen = len(array.dictionary) or array.null_count == len(array) or not unseen.all()
        return array if seen else null_array(data_type, len(array))
    if not data_type.num_fields or not any_below(data_type, types.is_dictionary):
        return array
    if types.is_union(data_type) or types.is_run_end_encoded(data_type):
        return array
    hidden = hidden | array.is_null().to_numpy(zero_copy_only=False)
    if types.is_struct(data_type):
        # With the rows of a slice, and not those that it was cut from.
        parts = [array.field(number) for number in range(data_type.num_fields)]
        made = [_with_null_indices(part, hidden) for part in parts]
        if all(item is other for item, other in zip(parts, made, strict=True)):
            return array
        return pa.StructArray.from_arrays(made, fields=list(data_type), mask=array.is_null())
    if array.offset:
        array = array.take(pa.array(np.arange(len(array))))
    changed: list[pa.Array] = []

    def change(child: pa.Array, _: int) -> pa.Array:
        rows = np.zeros(len(child), dtype=bool)
        if types.is_fixed_size_list(data_type):
            rows[: len(hidden) * data_type.list_size] = np.repeat(hidden, data_type.list_size)
        made = _with_null_indices(child, rows)
        changed.extend([made] if made is not child else [])
        return made

    made = with_changed_children(array, data_type, change)
    return made if changed else array
