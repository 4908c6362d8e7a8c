"""Some rows of a batch, and plain values, whatever the types; pyarrow takes from views and run ends not at all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fletching.ipc.constant_arrays import null_array
from fletching.ipc.type_tree import is_flat

__all__ = [
    "distinct_values",
    "filter_rows",
    "filter_some",
    "first_row",
    "matching_rows",
    "plain_values",
    "take_rows",
    "true_rows",
]

_THROUGH = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
"""Types of the same values that pyarrow can take from. The detour copies the values twice."""

_MANY_STAY = 8
"""If no more than this part of the rows goes, columns are filtered one by one."""


def take_rows(batch: pa.RecordBatch, rows: pa.Array) -> pa.RecordBatch:
    """Rows by number, in memory of their own.

    Args:
        batch: the rows to choose from.
        rows: their numbers, without null.

    Raises:
        pyarrow.ArrowException: a column of a type that pyarrow can neither take from nor join.
    """
    try:
        # One call for all columns: of few rows, calls take longer than copying.
        return batch.take(rows)
    except pa.ArrowNotImplementedError:
        columns = [_take(column, rows) for column in batch.columns]
        return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def matching_rows(batch: pa.RecordBatch, expression: pc.Expression) -> pa.RecordBatch:
    """The rows for which an expression is true.

    Raises:
        pyarrow.ArrowException: as `take_rows`; or the expression cannot be evaluated on the batch.
    """
    try:
        return batch.filter(expression)
    except pa.ArrowNotImplementedError:
        # Imported here because it imports pandas, which takes longer than opening a folder.
        from pyarrow import acero

        rows = acero.TableSourceNodeOptions(pa.Table.from_batches([batch]))
        mask = acero.ProjectNodeOptions([expression], ["mask"])
        steps = [acero.Declaration("table_source", rows), acero.Declaration("project", mask)]
        evaluated = acero.Declaration.from_sequence(steps).to_table(use_threads=False)
        return filter_rows(batch, evaluated["mask"].combine_chunks())


def filter_rows(batch: pa.RecordBatch, mask: pa.Array) -> pa.RecordBatch:
    """The rows for which a boolean array is true; null is not true.

    Neighbouring rows share the batch's memory, as those that are chosen from a sorted column do; others
    are copied.

    Raises:
        pyarrow.ArrowException: as `take_rows`.
    """
    first, count = pc.index(mask, True).as_py(), mask.true_count
    if count == 0:
        return batch.slice(0, 0)
    if mask.slice(first, count).true_count == count:
        return batch.slice(first, count)
    return filter_some(batch, mask, count)


def filter_some(batch: pa.RecordBatch, mask: pa.Array, count: int) -> pa.RecordBatch:
    """The rows for which a mask is true, which are ``count``; copies them.

    Raises:
        pyarrow.ArrowException: as `take_rows`.
    """
    try:
        gone = batch.num_rows - count
        if batch.num_columns and gone <= batch.num_rows // _MANY_STAY:
            return _without_few(batch, mask)
        return batch.filter(mask)
    except pa.ArrowNotImplementedError:
        return take_rows(batch, pa.array(true_rows(mask)))


def true_rows(mask: pa.BooleanArray) -> NDArray[np.int64]:
    """The numbers of the rows for which a boolean array is true; null is not true.

    Numpy lists them in a third of the time that pyarrow takes.
    """
    if not len(mask):
        return np.empty(0, dtype=np.int64)
    values = pc.fill_null(mask, False) if mask.null_count else mask
    bits = np.frombuffer(values.buffers()[1], dtype=np.uint8)
    every = np.unpackbits(bits, count=values.offset + len(values), bitorder="little")
    return np.flatnonzero(every[values.offset :].view(np.bool_))


def plain_values(array: pa.Array) -> pa.Array:
    """The values of a dictionary-encoded or run-end encoded array, one for each row; any other array itself.

    What pyarrow decodes, it decodes; values of types that it cannot take from (views, run ends, lists of
    these) are put together from slices.

    Raises:
        pyarrow.ArrowException: values of a type that pyarrow can neither take from nor join.
    """
    try:
        if pa.types.is_dictionary(array.type):
            return array.dictionary_decode()
        if pa.types.is_run_end_encoded(array.type):
            return pc.run_end_decode(array)
    except pa.ArrowNotImplementedError:
        if pa.types.is_dictionary(array.type):
            return _take(array.dictionary, array.indices)
        return _take(array.values, _rows_of_runs(array))
    return array


def distinct_values(array: pa.Array) -> pa.Array:
    """What a dictionary-encoded or run-end encoded array has in its rows, hardly anything twice; another itself.

    A few bytes can stand for very many rows: these values take no more memory than the array.

    Raises:
        pyarrow.ArrowException: as `plain_values`.
    """
    if pa.types.is_dictionary(array.type):
        return _take(array.dictionary, array.indices.unique())
    if pa.types.is_run_end_encoded(array.type):
        return array.values.slice(array.find_physical_offset(), array.find_physical_length())
    return array


def first_row(array: pa.Array, refused: Callable[[pa.Array], object]) -> int:
    """The number of the first row of an array for which it is refused, by halving: about two looks at all of it."""
    start, length = 0, len(array)
    while length > 1:
        half = length // 2
        if refused(array.slice(start, half)):
            length = half
        else:
            start, length = start + half, length - half
    return start


def _rows_of_runs(array: pa.RunEndEncodedArray) -> pa.Array:
    """For each row, which of the values it has."""
    first, count = array.find_physical_offset(), array.find_physical_length()
    ends = array.run_ends.slice(first, count).to_numpy().astype(np.int64) - array.offset
    lengths = np.diff(np.minimum(ends, len(array)), prepend=0)
    return pa.array(np.repeat(np.arange(first, first + count), lengths))


def _without_few(batch: pa.RecordBatch, mask: pa.Array) -> pa.RecordBatch:
    """All rows but a few.

    A filter of a flat column copies runs of values, at twice the speed (texts: four times) at which pyarrow
    filters a batch, since it takes the values one by one from that. From nested columns, and bits, they are taken
    faster.
    """
    rows: pa.Array | None = None
    columns = []
    for column in batch.columns:
        runs = is_flat(column.type) or pa.types.is_dictionary(column.type)
        if runs and not pa.types.is_boolean(column.type):
            columns.append(column.filter(mask))
            continue
        if rows is None:
            rows = pa.array(true_rows(mask))
        columns.append(_take(column, rows))
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _take(column: pa.Array, rows: pa.Array) -> pa.Array:
    through = _THROUGH.get(column.type) if not pa.types.is_nested(column.type) else None
    if through is not None:
        return column.cast(through).take(rows).cast(column.type)
    try:
        return column.take(rows)
    except pa.ArrowNotImplementedError:
        return _gathered(column, rows)


def _gathered(column: pa.Array, rows: pa.Array) -> pa.Array:
    """Slices of neighbouring rows, put together; null for the number null. Work per run of rows, in Python."""
    if rows.null_count:
        rows = pc.fill_null(rows.cast(pa.int64()), len(column))
        column = pa.concat_arrays([column, null_array(column.type, 1)])
    numbers = rows.to_numpy().astype(np.int64, copy=False)
    if not len(numbers):
        return column.slice(0, 0)
    starts = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 2) != 1)
    ends = np.append(starts[1:], len(numbers))
    return pa.concat_arrays(
        [
            column.slice(first, length)
            for first, length in zip(
                numbers[starts].tolist(), (ends - starts).tolist(), strict=True
            )
        ]
    )
