"""Arrow columns as tensors, sharing memory where a training loop may write to it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
import torch.utils.data
from numpy.typing import NDArray

from fletching.errors import UsageError

__all__ = ["column_tensor", "fill_value", "stacked"]


def column_tensor(
    field: pa.Field, column: pa.ChunkedArray, fill: object
) -> torch.Tensor | list[object]:
    """A column as a tensor where its type allows, else as a list of Python values."""
    kind = field.type
    shape: tuple[int, ...] = (len(column),)
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], kind)
    while pa.types.is_fixed_size_list(kind) and not array.null_count:
        shape = (*shape, kind.list_size)
        array, kind = array.flatten(), kind.value_type
    array, kind = _physical(array, kind)
    if not _is_number(kind):
        return column.to_pylist()
    if array.null_count:
        if fill is None and not pa.types.is_floating(kind):
            raise UsageError(
                f"column {field.name} has nulls: filter them out, or say fill_null={{'{field.name}': ...}}"
            )
        array = array.fill_null(float("nan") if fill is None else fill)
    return torch.from_numpy(_writable(array)).reshape(shape)


def fill_value(field: pa.Field, fill: object) -> pa.Scalar:
    """What stands for a column's nulls, as a value of its tensor.

    Raises:
        UsageError: it is none, or the column does not become a tensor of numbers.
    """
    _, kind = _physical(pa.array([], field.type), field.type)
    if not _is_number(kind):
        raise UsageError(f"fill_null is for columns of numbers; {field.name} is {field.type}")
    try:
        value = pa.scalar(fill, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        value = pa.scalar(None, kind)
    # Arrow cuts a fraction off.
    if not value.is_valid or (not pa.types.is_floating(kind) and value.as_py() != fill):
        raise UsageError(f"fill_null has for {field.name} the value {fill!r}, which is no {kind}")
    return value


def _writable(array: pa.Array) -> NDArray[np.generic]:
    """The array's values in memory that a training loop may change in place.

    Memory of the array's own is shared. What is mapped from a file, or belongs to another reader, is
    copied: a write to it would end the process, or change another's rows.
    """
    data = array.buffers()[1]
    width = array.type.bit_width // 8
    if width and data is not None and data.is_mutable:
        dtype = array.type.to_pandas_dtype()
        return np.frombuffer(data, dtype, len(array), array.offset * width)
    return np.array(array.to_numpy(zero_copy_only=False))


def _physical(array: pa.Array, kind: pa.DataType) -> tuple[pa.Array, pa.DataType]:
    types = pa.types
    if types.is_date32(kind) or types.is_time32(kind):
        return array.view(pa.int32()), pa.int32()
    if types.is_timestamp(kind) or types.is_date64(kind) or types.is_time64(kind):
        return array.view(pa.int64()), pa.int64()
    if types.is_duration(kind):
        return array.view(pa.int64()), pa.int64()
    return array, kind


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)
    )


def stacked(values: list[object]) -> object:
    """Decoded blobs: one tensor where all are tensors of one shape and type, else the list."""
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    if values and len(tensors) == len(values):
        first = tensors[0]
        if all(v.shape == first.shape and v.dtype == first.dtype for v in tensors):
            if any(v.requires_grad for v in tensors):
                return torch.stack(tensors)
            # In a worker, straight into the memory in which the batch travels.
            return torch.utils.data.default_collate(tensors)
    return values
