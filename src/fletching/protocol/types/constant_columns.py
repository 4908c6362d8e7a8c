"""Columns of one value: partition columns, whose values are text beside the rows, and added ones."""

from __future__ import annotations

import functools

import pyarrow as pa

from fletching.errors import CorruptObjectError
from fletching.ipc.constant_arrays import null_array
from fletching.protocol.types.spelt_values import stood_for

__all__ = ["constant_column", "constant_scalar", "scalar_of_text"]


@functools.lru_cache(maxsize=8)  # arrays of one batch's rows each
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
        return scalar_of_text(value, data_type)
    except pa.ArrowInvalid as error:
        raise CorruptObjectError(f"partition value {value!r} is no {data_type}") from error


def scalar_of_text(text: str, data_type: pa.DataType) -> pa.Scalar:
    """The value of a type that a text spells.

    Raises:
        pyarrow.ArrowException: it spells none, or a float beyond those that the type has.
    """
    if pa.types.is_floating(data_type) or pa.types.is_integer(data_type):
        # pyarrow's parser makes infinity of 1e400, 0 of 1e-400 and 16 of 0x10, without an error.
        return stood_for(pa.array([text]), data_type, "")[0]
    # For other types the parser is exact: it refuses what lies beyond or between their values.
    return pa.scalar(text, pa.string()).cast(data_type)
