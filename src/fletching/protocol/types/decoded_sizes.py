"""How much memory rows take once their values stand side by side, told before anything is decoded.

A few bytes can stand for many: an index for the value of a dictionary, a run for its value, a view
for a text that others share, a null column for nothing at all. Whatever converts rows, or writes them
as text, cuts them with `in_parts`, so that what a part becomes is bounded by what is free and not by
who sent it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fletching.errors import LimitExceededError
from fletching.ipc.type_tree import any_below

__all__ = ["PART_BYTES", "expands", "in_parts", "plain_width", "row_bytes"]

PART_BYTES = 64 << 20
"""What the rows of one part take at most, unless a single row takes more."""

_types = pa.types
_Sizes = npt.NDArray[np.float64]
# What stands beside the bytes of a text or the elements of a list: an offset.
_OFFSET_BYTES = 8.0


def expands(data_type: pa.DataType) -> bool:
    """Whether arrays of a type can hold one value in few bytes many times."""
    return any_below(data_type, _shares)


def _shares(data_type: pa.DataType) -> bool:
    return (
        _types.is_dictionary(data_type)
        or _types.is_run_end_encoded(data_type)
        or _types.is_string_view(data_type)
        or _types.is_binary_view(data_type)
        or _types.is_list_view(data_type)
        or _types.is_large_list_view(data_type)
        or _types.is_null(data_type)
    )


def plain_width(data_type: pa.DataType) -> float:
    """Bytes that a null of a type takes."""
    while isinstance(data_type, pa.BaseExtensionType):
        data_type = data_type.storage_type
    if _types.is_struct(data_type):
        return sum((plain_width(field.type) for field in data_type), 0.125)
    if _types.is_fixed_size_list(data_type):
        return data_type.list_size * plain_width(data_type.value_type) + 0.125
    if _types.is_dictionary(data_type):
        return plain_width(data_type.index_type)
    if _types.is_run_end_encoded(data_type) or _types.is_null(data_type):
        return 0.125
    try:
        return data_type.bit_width / 8 + 0.125
    except ValueError:
        return _OFFSET_BYTES


def row_bytes(array: pa.Array) -> _Sizes:
    """Bytes that each value takes in an array of plain layout; an upper bound to within the padding.

    Costs a few passes over offsets, indices and runs; no value is looked at.
    """
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return row_bytes(array.storage)
    if not expands(kind) and not _is_long(kind):
        return np.full(len(array), plain_width(kind))
    if _types.is_dictionary(kind):
        sizes = row_bytes(array.dictionary)
        if not len(sizes):
            return np.full(len(array), plain_width(kind.value_type))
        indices = array.indices.fill_null(0).to_numpy(zero_copy_only=False)
        result = sizes[np.minimum(indices, len(sizes) - 1).astype(np.int64)]
        if array.indices.null_count:
            result[array.indices.is_null().to_numpy(zero_copy_only=False)] = _OFFSET_BYTES
        return result
    if _types.is_run_end_encoded(kind):
        return _of_runs(array)
    if _types.is_struct(kind):
        total = np.full(len(array), 0.125)
        for index in range(kind.num_fields):
            total += row_bytes(array.field(index))
        return total
    if _types.is_fixed_size_list(kind):
        start, count = array.offset * kind.list_size, len(array) * kind.list_size
        children = row_bytes(array.values.slice(start, count))
        return children.reshape(len(array), kind.list_size).sum(axis=1) + 0.125
    if _types.is_union(kind):
        # No union is converted; what it holds is counted for each row.
        return np.full(len(array), float(array.get_total_buffer_size()))
    if _types.is_null(kind):
        return np.full(len(array), plain_width(kind))
    if hasattr(array, "offsets"):
        return _of_lists(array)
    return _of_texts(array)


def _is_long(kind: pa.DataType) -> bool:
    return any_below(
        kind, lambda each: _types.is_nested(each) or plain_width(each) == _OFFSET_BYTES
    )


def _of_runs(array: pa.Array) -> _Sizes:
    sizes = row_bytes(array.values)
    ends = array.run_ends.to_numpy(zero_copy_only=False).astype(np.int64)
    if not len(ends):
        return np.zeros(len(array))
    rows = np.arange(array.offset, array.offset + len(array))
    return sizes[np.minimum(np.searchsorted(ends, rows, side="right"), len(sizes) - 1)]


def _of_lists(array: pa.Array) -> _Sizes:
    values = array.values
    sums = np.concatenate([[0.0], np.cumsum(row_bytes(values))])
    offsets = array.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
    if hasattr(array, "sizes"):
        counts = array.sizes.to_numpy(zero_copy_only=False).astype(np.int64)
        starts, ends = offsets[: len(array)], offsets[: len(array)] + counts
    else:
        starts, ends = offsets[:-1], offsets[1:]
    # What stands under a null is not looked at by anybody, and may be anything.
    last = len(values)
    result = sums[np.clip(ends, 0, last)] - sums[np.clip(starts, 0, last)]
    return np.maximum(result, 0.0) + _OFFSET_BYTES


def _of_texts(array: pa.Array) -> _Sizes:
    kind = array.type
    if _types.is_string_view(kind) or _types.is_binary_view(kind):
        views = array.buffers()[1]
        words = np.frombuffer(views, np.int32)[4 * array.offset : 4 * (array.offset + len(array))]
        lengths = words.reshape(-1, 4)[:, 0]
    else:
        lengths = pc.binary_length(array).fill_null(0).to_numpy(zero_copy_only=False)
    return np.maximum(lengths, 0).astype(np.float64) + _OFFSET_BYTES


def in_parts(
    batch: pa.RecordBatch,
    *,
    at_most: float,
    part_bytes: float = PART_BYTES,
    beside: float = 0.0,
) -> Iterator[pa.RecordBatch]:
    """Cuts a batch into slices whose rows take about ``part_bytes`` once they are decoded.

    Args:
        batch: given as it is where none of its columns can expand and it is small.
        at_most: what all of its rows may take of dictionaries, runs, views and nulls.
        part_bytes: what the rows of a slice take; a row that takes more is a slice of its own.
        beside: what each row takes besides: a slice is shorter for it, and nothing is refused.

    Raises:
        LimitExceededError: all of its rows take more than ``at_most``; before any is given.
    """
    rows = batch.num_rows
    sharing = [column for column in batch.columns if expands(column.type)]
    if not sharing and rows * beside <= part_bytes:
        yield batch
        return
    # Told from the lengths alone first: a size for each value would itself take too much.
    cells = sum(map(_cells, sharing))
    if 8 * cells > at_most:
        raise _too_large("a record batch", 8 * cells, at_most)
    sums = np.zeros(rows)
    for column in sharing:
        sums += row_bytes(column)
    if rows and sums.sum() > at_most:
        raise _too_large("a record batch", float(sums.sum()), at_most)
    sums += beside
    np.cumsum(sums, out=sums)
    if not rows or sums[-1] <= part_bytes:
        yield batch
        return
    start = 0
    while start < rows:
        before = sums[start - 1] if start else 0.0
        end = int(np.searchsorted(sums, before + part_bytes, side="right"))
        end = max(end, start + 1)
        yield batch.slice(start, end - start)
        start = end


def _cells(array: pa.Array) -> int:
    """How many values stand in an array and below it."""
    if isinstance(array.type, pa.BaseExtensionType):
        return _cells(array.storage)
    kind = array.type
    if _types.is_dictionary(kind):
        return len(array) + _cells(array.dictionary)
    if _types.is_struct(kind):
        return len(array) + sum(_cells(array.field(index)) for index in range(kind.num_fields))
    if _types.is_run_end_encoded(kind) or (_types.is_nested(kind) and hasattr(array, "values")):
        return len(array) + _cells(array.values)
    return len(array)


def _too_large(what: str, actual: float, limit: float) -> LimitExceededError:
    return LimitExceededError(
        f"{what} stands for more bytes than are decoded at once: dictionaries, runs, views or nulls "
        "repeat its values; send fewer rows in one",
        actual=int(actual),
        limit=int(limit),
    )
