"""Columns of one value: nulls of every type, valid at every depth, and constants of exactly their value.

``pyarrow.nulls`` gives run-end encoded children of structs, lists and unions a validity bitmap, which
the format forbids; such an array fails validation and other readers.
"""

from __future__ import annotations

import dataclasses
import datetime as dt

import numpy as np
import pyarrow as pa

from fletching.errors import UsageError
from fletching.ipc.type_tree import any_below

__all__ = ["Constant", "ConstantColumn", "null_array"]


def null_array(data_type: pa.DataType, length: int) -> pa.Array:
    """An array of so many nulls. Allocates what the type needs: for flat types their width per row."""
    types = pa.types
    if isinstance(data_type, pa.BaseExtensionType):
        return data_type.wrap_array(null_array(data_type.storage_type, length))
    if not any_below(data_type, types.is_run_end_encoded):
        return pa.nulls(length, data_type)
    if types.is_run_end_encoded(data_type):
        return _run(data_type, length)
    bitmap = pa.py_buffer(bytes(-(-length // 8)))
    if types.is_struct(data_type):
        children = [null_array(field.type, length) for field in data_type]
        return pa.Array.from_buffers(data_type, length, [bitmap], length, children=children)
    if types.is_fixed_size_list(data_type):
        values = null_array(data_type.value_type, length * data_type.list_size)
        return pa.Array.from_buffers(data_type, length, [bitmap], length, children=[values])
    if types.is_dictionary(data_type):
        indices = pa.nulls(length, data_type.index_type)
        return pa.DictionaryArray.from_arrays(
            indices, null_array(data_type.value_type, 0), ordered=data_type.ordered
        )
    if types.is_union(data_type):
        return _union(data_type, length)
    if types.is_map(data_type):
        entries = pa.struct([data_type.key_field, data_type.item_field])
        inner = pa.Array.from_buffers(
            entries, 0, [None], 0, children=[null_array(field.type, 0) for field in entries]
        )
    else:
        inner = null_array(data_type.value_type, 0)
    wide = types.is_large_list(data_type) or types.is_large_list_view(data_type)
    views = types.is_list_view(data_type) or types.is_large_list_view(data_type)
    width = 8 if wide else 4
    buffers = [bitmap, pa.py_buffer(bytes((length + (not views)) * width))]
    if views:
        buffers.append(pa.py_buffer(bytes(length * width)))
    return pa.Array.from_buffers(data_type, length, buffers, length, children=[inner])


def _union(data_type: pa.UnionType, length: int) -> pa.Array:
    """Nulls of the first member; a union has no nulls of its own."""
    sparse = data_type.mode == "sparse"
    parts = [
        null_array(data_type.field(number).type, length if sparse or not number else 0)
        for number in range(data_type.num_fields)
    ]
    codes = data_type.type_codes or [0]
    buffers = [None, pa.py_buffer(bytes([codes[0]]) * length)]
    if not sparse:
        buffers.append(pa.py_buffer(np.arange(length, dtype=np.int32)))
    return pa.Array.from_buffers(data_type, length, buffers, 0, children=parts)


def _run(data_type: pa.DataType, length: int) -> pa.Array:
    """One run of null, or several where run ends of the type cannot count so far."""
    limit = 2 ** (data_type.run_end_type.bit_width - 1) - 1
    if length > limit:
        raise OverflowError(f"{data_type} has at most {limit} rows, not {length}")
    ends = pa.array([length] if length else [], data_type.run_end_type)
    values = null_array(data_type.value_type, len(ends))
    return pa.RunEndEncodedArray.from_arrays(ends, values, type=data_type)


@dataclasses.dataclass(frozen=True, slots=True)
class Constant:
    """A column to append whose value is the same in every row.

    Attributes:
        field: name and type; no dictionary type.
        value: a `pyarrow.Scalar` or a Python value that the type has; None is null.
    """

    field: pa.Field
    value: object

    def array(self, rows: int) -> pa.Array:
        """The column for a batch of so many rows."""
        value = self.value
        if value is None:
            return null_array(self.field.type, rows)
        value = _exact_scalar(value, self.field)
        # pyarrow cannot repeat a nested value no times.
        return pa.repeat(value, rows) if rows else pa.repeat(value, 1)[:0]


def _exact_scalar(value: object, field: pa.Field) -> pa.Scalar:
    """A constant in its column's type.

    Raises:
        UsageError: the type does not have it.
    """
    if isinstance(value, float | dt.datetime | dt.time | dt.timedelta):
        value = pa.scalar(value)  # whose cast tells what pyarrow cuts off without a word
    try:
        if not isinstance(value, pa.Scalar):
            return pa.scalar(value, field.type)
        if value.type == field.type:
            return value
        made = value.cast(field.type)
        # Casts refuse what lies beyond a type, but round floats and cut moments to days.
        again = made.cast(value.type)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise UsageError(
            f"the constant column {field.name!r} is {field.type}, which does not have its value: {error}"
        ) from error
    if not again.equals(value) and value.as_py() == value.as_py():  # NaN alone differs from itself
        raise UsageError(
            f"the constant column {field.name!r} is {field.type}, which does not have {value.as_py()!r}"
        )
    return made


ConstantColumn = Constant | tuple[pa.Field, pa.Array]
