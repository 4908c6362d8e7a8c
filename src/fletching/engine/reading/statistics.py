"""Least and greatest values per column of a segment: recorded at ingest, used to skip segments.

Kept in the catalog as JSON: ``{"column": [lower, upper, nulls, values, unordered], ...}``. Values
are in physical form: integers for whole numbers, dates (days), timestamps (the column's unit) and
decimals (scaled); numbers for floats; text cut to `MAX_TEXT` characters. A bound that is not known
is null; a column that is not listed can hold anything.

Only types whose least and greatest values Arrow finds at a multiple of the ingest's speed are
recorded; a column's type never changes, so its recorded bounds stay comparable.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["ColumnStatistics", "StatisticsBuilder", "physical_value", "read_statistics"]

MAX_TEXT = 64
"""Characters of a text bound."""

MAX_COLUMNS = 256
"""Columns of a segment that are recorded: the first ones, as wide tables are filtered by few."""


class ColumnStatistics(msgspec.Struct, frozen=True, array_like=True):
    """What is known of a column's values in a segment; see `predicates.ColumnBounds`."""

    lower: int | float | str | None = None
    upper: int | float | str | None = None
    nulls: bool = False
    values: bool = False
    unordered: bool = False


_DECODER = msgspec.json.Decoder(dict[str, ColumnStatistics])


@functools.lru_cache(maxsize=4096)
def read_statistics(data: bytes | None) -> dict[str, ColumnStatistics]:
    """The columns that are recorded; none if nothing is, or if a newer release wrote it."""
    if not data:
        return {}
    try:
        return _DECODER.decode(data)
    except msgspec.DecodeError:
        return {}


def _is_recorded(data_type: Any) -> bool:
    types = pa.types
    return bool(
        types.is_integer(data_type)
        or types.is_float32(data_type)
        or types.is_float64(data_type)
        or types.is_boolean(data_type)
        or types.is_date32(data_type)
        or types.is_timestamp(data_type)
        or types.is_decimal128(data_type)
        or types.is_string(data_type)
        or types.is_large_string(data_type)
    )


def physical_value(scalar: Any) -> Any:
    """A scalar in physical form; None for null and for types that are not recorded."""
    data_type = scalar.type
    if not scalar.is_valid or not _is_recorded(data_type):
        return None
    if pa.types.is_timestamp(data_type):
        return scalar.value
    if pa.types.is_date32(data_type):
        return scalar.value
    value = scalar.as_py()
    if pa.types.is_decimal(data_type):
        return int(value.scaleb(data_type.scale))
    return value


class StatisticsBuilder:
    """Collects the bounds of a segment's batches. Not thread-safe."""

    def __init__(self, schema: Any) -> None:
        """Begins without rows.

        Args:
            schema: the segment's columns.
        """
        self._columns = [
            (index, field.name)
            for index, field in enumerate(schema)
            if index < MAX_COLUMNS and _is_recorded(field.type)
        ]
        self._found: dict[str, list[Any]] = {
            name: [None, None, False, False, False] for _, name in self._columns
        }

    def add(self, batch: Any) -> None:
        """Takes a batch into account: one pass over each recorded column, nothing is copied."""
        for index, name in self._columns:
            column = batch.column(index)
            entry = self._found[name]
            entry[2] |= column.null_count > 0
            if column.null_count == len(column):
                continue
            bounds = pc.min_max(column)
            lower, upper = physical_value(bounds["min"]), physical_value(bounds["max"])
            if isinstance(lower, float):
                if math.isnan(lower) or math.isnan(upper) or pc.any(pc.is_nan(column)).as_py():
                    entry[4] = True
                    if math.isnan(lower) or math.isnan(upper):
                        # nothing but NaN
                        entry[3] = True
                        continue
                entry[4] |= False
            if not entry[3] or entry[0] is None:
                entry[0], entry[1] = lower, upper
            else:
                entry[0] = min(entry[0], lower)
                entry[1] = max(entry[1], upper)
            entry[3] = True

    def encode(self) -> bytes:
        """The record for the catalog."""
        return msgspec.json.encode(
            {
                name: ColumnStatistics(_lower(entry[0]), _upper(entry[1]), *entry[2:])
                for name, entry in self._found.items()
            }
        )


def _lower(value: Any) -> Any:
    if isinstance(value, str):
        return value[:MAX_TEXT]
    if isinstance(value, float) and math.isinf(value):
        return None
    return _fits(value)


def _upper(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MAX_TEXT:
        # The cut text is below the value; what is above every text that begins like it is not
        # worth working out.
        return None
    if isinstance(value, float) and math.isinf(value):
        return None
    return _fits(value)


def _fits(value: Any) -> Any:
    """JSON integers are exact to 64 bits here; wider decimals are left out."""
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        return None
    return value
