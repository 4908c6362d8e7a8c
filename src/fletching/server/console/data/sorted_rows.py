"""The first rows of a table in the order of one of its columns, found in one pass and little memory.

Rows that cannot be among the wanted are left out batch by batch, by comparing the column with the last
of those that are kept; of the others only the wanted are copied. So what a page costs is about that of
reading the column, and its memory that of the rows that come before its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fletching.errors import InvalidArgumentError, OperationCancelledError
from fletching.protocol.types.blob_type import contains_blob
from fletching.protocol.types.row_selection import plain_values, take_rows

__all__ = ["FirstRows", "first_in_order"]


class FirstRows(NamedTuple):
    """What was found."""

    rows: pa.Table
    numbers: list[int]
    """Of each row its place among all that were looked at."""
    looked: int
    """How many rows were looked at."""
    whole: bool
    """Whether these were all."""


def first_in_order(
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    column: str,
    *,
    count: int,
    descending: bool = False,
) -> FirstRows:
    """The first rows by the values of a column; equal ones as they come, nulls behind all others.

    Args:
        batches: the rows; an `OperationCancelledError` ends them early.
        schema: theirs.
        column: a column's name, in any case.
        count: how many rows at most.
        descending: greatest first.

    Raises:
        InvalidArgumentError: there is no such column, or its values have no order.
    """
    index = _index_of(schema, column)
    parts: list[pa.RecordBatch] = []
    values: list[pa.Array] = []
    numbers: list[np.ndarray] = []
    held = looked = 0
    last: pa.Scalar | None = None
    whole = True

    def keep_first() -> None:
        """Leaves of what is held the first rows alone."""
        nonlocal held, last
        order = _order(pa.chunked_array(values, type=values[0].type), descending=descending)[:count]
        rows = pa.Table.from_batches(parts, schema)
        kept = _gathered(rows, order)
        chosen = pa.concat_arrays(values).take(order)
        indices = np.concatenate(numbers)[order.to_numpy()]
        parts[:], values[:], numbers[:] = kept, [chosen], [indices]
        held = len(order)
        last = _bound(chosen[-1]) if held == count else None

    for batch in _until_cancelled(batches):
        if batch is None:
            whole = False
            break
        data = _comparable(batch.column(index), column)
        picked = _picked(data, last, descending=descending)
        if len(picked):
            parts.append(take_rows(batch, picked))
            values.append(data.take(picked))
            numbers.append(picked.to_numpy() + looked)
            held += len(picked)
        looked += batch.num_rows
        if held > 4 * count or (last is None and held > count):
            keep_first()
    if held:
        keep_first()
    result = [int(number) for number in np.concatenate(numbers)] if numbers else []
    return FirstRows(pa.Table.from_batches(parts, schema), result, looked, whole)


def _index_of(schema: pa.Schema, column: str) -> int:
    for index, field in enumerate(schema):
        if field.name.casefold() == column.casefold():
            if contains_blob(field.type) or pa.types.is_nested(field.type):
                raise InvalidArgumentError(f"rows cannot be sorted by {column}: it is {field.type}")
            return index
    raise InvalidArgumentError(f"there is no column {column}; there are {', '.join(schema.names)}")


def _comparable(data: pa.Array, column: str) -> pa.Array:
    """The values as a type whose order pyarrow knows."""
    try:
        if pa.types.is_dictionary(data.type):
            data = plain_values(data)
        if pa.types.is_float16(data.type):
            data = data.cast(pa.float32())
        if pa.types.is_string_view(data.type) or pa.types.is_binary_view(data.type):
            data = data.cast(pa.string() if pa.types.is_string_view(data.type) else pa.binary())
        pc.sort_indices(data[:0])
    except pa.ArrowNotImplementedError as error:
        raise InvalidArgumentError(
            f"rows cannot be sorted by {column}: values of {data.type} have no order here"
        ) from error
    return data


def _bound(last: pa.Scalar) -> pa.Scalar | None:
    """What later values must come before; None where nulls are among the first rows, or NaN."""
    if not last.is_valid or (pa.types.is_floating(last.type) and np.isnan(last.as_py())):
        return None
    return last


def _picked(data: pa.Array, last: pa.Scalar | None, *, descending: bool) -> pa.Array:
    """The places of the values that may be among the first."""
    if last is None:
        return pa.array(np.arange(len(data)))
    # A value that equals the last one comes behind it, as its row does.
    before = pc.greater(data, last) if descending else pc.less(data, last)
    return pc.indices_nonzero(before.fill_null(False)).cast(pa.int64())


def _order(values: pa.ChunkedArray, *, descending: bool) -> pa.Array:
    direction = "descending" if descending else "ascending"
    # It is a stable sort: rows with equal values stay as they came. NaN and then nulls are at the end.
    return pc.sort_indices(values, sort_keys=[("", direction)]).cast(pa.int64())


def _gathered(rows: pa.Table, order: pa.Array) -> list[pa.RecordBatch]:
    """Some rows in an order that is not theirs, each part's once."""
    ascending = np.sort(order.to_numpy())
    taken: list[pa.RecordBatch] = []
    start = 0
    for batch in rows.to_batches():
        end = start + batch.num_rows
        inside = ascending[(ascending >= start) & (ascending < end)] - start
        taken.append(take_rows(batch, pa.array(inside)))
        start = end
    indices = np.searchsorted(ascending, order.to_numpy())
    return [take_rows(pa.concat_batches(taken), pa.array(indices))]


def _until_cancelled(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch | None]:
    """The batches; None behind the last one that there was time for."""
    try:
        yield from batches
    except OperationCancelledError:
        yield None
