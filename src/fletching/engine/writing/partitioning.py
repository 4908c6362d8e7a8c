"""Dynamic partitions: which rows of a batch belong to which partition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fletching.engine.tables.partitions import canonical_value
from fletching.engine.writing.matching import is_spelt, stored_array
from fletching.errors import InvalidArgumentError
from fletching.protocol.types.row_selection import take_rows

__all__ = ["group_rows", "partition_rows"]


def group_rows(
    columns: Sequence[tuple[str, str]], fields: Sequence[pa.Field], arrays: Sequence[pa.Array]
) -> list[tuple[tuple[str, ...], pa.Array | None]]:
    """Divides a batch's rows by their partition values.

    Args:
        columns: (name, ODPS type) of the dynamic partition columns.
        fields: their Arrow fields.
        arrays: their columns of one batch with at least one row.

    Returns:
        (values, indices) pairs: an int64 Arrow array of the rows in their order, or None for all
        rows when there is only one pair. Work per distinct value in Python, per row in Arrow.

    Raises:
        InvalidArgumentError: a value is null or not valid.
    """
    codes: NDArray[np.int64] = np.zeros(1, np.int64)
    spellings: list[list[str]] = []
    for (name, kind), field, array in zip(columns, fields, arrays, strict=True):
        spelt = is_spelt(array.type, field.type)
        encoded = (array if spelt else stored_array(array, field.type, name)).dictionary_encode()
        if encoded.null_count:
            raise InvalidArgumentError(f"partition column {name} has null in the data")
        values = encoded.dictionary.cast(pa.string()).to_pylist()
        spellings.append([canonical_value(name, kind, value) for value in values])
        numbers = encoded.indices.to_numpy().astype(np.int64, copy=False)
        codes = codes * len(values) + numbers
    distinct, inverse = np.unique(codes, return_inverse=True)
    keys = []
    for rest in distinct.tolist():
        parts, code = [], rest
        for spelling in reversed(spellings):
            code, number = divmod(code, len(spelling))
            parts.append(spelling[number])
        keys.append(tuple(reversed(parts)))
    if len(keys) == 1:
        return [(keys[0], None)]
    order = np.argsort(inverse, kind="stable")
    bounds = np.cumsum(np.bincount(inverse, minlength=len(keys)))
    groups: dict[tuple[str, ...], list[NDArray[np.int64]]] = {}
    start = 0
    for key, end in zip(keys, bounds.tolist(), strict=True):
        groups.setdefault(key, []).append(order[start:end])
        start = end
    # Two spellings of one value ("07" and "7" are one integer only after conversion) meet here.
    return [
        (key, pa.array(parts[0] if len(parts) == 1 else np.sort(np.concatenate(parts))))
        for key, parts in groups.items()
    ]


def partition_rows(batch: pa.RecordBatch, rows: pa.Array) -> pa.RecordBatch:
    """Some rows of a batch, in memory of their own.

    Raises:
        InvalidArgumentError: a column's type can neither be taken from nor put together by pyarrow.
    """
    try:
        return take_rows(batch, rows)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise InvalidArgumentError(
            "a column's type is one that pyarrow cannot divide: a batch with it must belong to one"
            f" partition ({error})"
        ) from error
