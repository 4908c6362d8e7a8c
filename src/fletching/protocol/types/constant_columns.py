"""Columns of one value: partition columns, whose values are text beside the rows, and added ones."""

from __future__ import annotations

import functools

import pyarrow as pa

from fletching.errors import CorruptObjectError
from fletching.ipc.null_arrays import null_array

__all__ = ["constant_column", "constant_scalar"]


@functools.lru_cache(maxsize=8)
def constant_column(data_type: pa.DataType, value: str | None, rows: int) -> pa.Array:
    """A column of one value, or of nulls; the newest few are kept, as batches repeat their length.

    Raises:
        CorruptObjectError: a partition value is not of its column's type.
    """
    if value is None:
        return null_array(data_type, rows)
    return pa.repeat(constant_scalar(data_type, value), rows)


def constant_scalar(data_type: pa.DataType, value: str) -> pa.Scalar:
    """A partition value, which is text in the catalog, in its column's type.

    Raises:
        CorruptObjectError: it is not of that type.
    """
    try:
        return pa.scalar(value).cast(data_type)
    except pa.ArrowInvalid as error:
        raise CorruptObjectError(f"partition value {value!r} is no {data_type}") from error
