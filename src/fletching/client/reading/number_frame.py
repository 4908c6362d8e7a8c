"""Batches of numbers as a pandas data frame, of which no Arrow table is made in between.

A frame has each column in one array, so that batches are copied into it whatever one does. Copied as they
come, they need no memory of their own beyond a batch: what is received goes into memory that the batch
before has left, which is mapped and in the processor's caches, where a table's would be new.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["fill_frame", "holds_numbers"]

_MOST_AHEAD = 1 << 28
"""Rows for which memory is asked for before they come: a service may say any number."""


def holds_numbers(schema: pa.Schema) -> bool:
    """Whether all columns are whole numbers or floats, and nothing says how pandas had them before."""
    return (
        bool(len(schema))
        and len(set(schema.names)) == len(schema)
        and b"pandas" not in (schema.metadata or {})
        and all(
            pa.types.is_integer(data_type)
            or pa.types.is_float32(data_type)
            or pa.types.is_float64(data_type)
            for data_type in schema.types
        )
    )


def fill_frame(
    schema: pa.Schema, batches: Generator[pa.RecordBatch, None, None], rows: int
) -> pd.DataFrame:
    """The data frame that ``pyarrow.Table.to_pandas`` would make of the batches.

    Args:
        schema: of the batches; see `holds_numbers`.
        batches: the rows; closed, should one not come.
        rows: how many are expected. Others may come.

    Raises:
        FletchingError: what the batches raise.
    """
    import pandas as pd

    columns = [_Numbers(field.type.to_pandas_dtype(), rows) for field in schema]
    try:
        for batch in batches:
            for column, values in zip(columns, batch.columns, strict=True):
                column.add(values)
    finally:
        batches.close()
    arrays = dict(zip(schema.names, (column.filled_values() for column in columns), strict=True))
    return pd.DataFrame(arrays, copy=False)


def _room(rows: int, data_type: np.dtype[np.generic]) -> NDArray[np.generic]:
    """Memory of Arrow's pool, which may have pages from before: new ones cost more than all the rest.

    The system hands no page out before something is written to it.
    """
    return np.frombuffer(pa.allocate_buffer(rows * data_type.itemsize), dtype=data_type)


class _Numbers:
    """One column, as far as it has come."""

    def __init__(self, data_type: str, rows: int) -> None:
        self._values = _room(min(rows, _MOST_AHEAD), np.dtype(data_type))
        self._length = 0

    def add(self, values: pa.Array) -> None:
        """Copies the next values."""
        start, end = self._length, self._length + len(values)
        if end > len(self._values):
            grown = _room(max(end, 2 * len(self._values)), self._values.dtype)
            grown[:start] = self._values[:start]
            self._values = grown
        if values.null_count and self._values.dtype.kind != "f":
            # As pandas has it: whole numbers with nulls are floats, and nulls are NaN.
            floats = _room(len(self._values), np.dtype(np.float64))
            floats[:start] = self._values[:start]
            self._values = floats
        self._values[start:end] = values.to_numpy(zero_copy_only=False)
        self._length = end

    def filled_values(self) -> NDArray[np.generic]:
        """All values."""
        return self._values[: self._length]
