"""What the service knows of a read session's rows before they are read, for planners."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

import pyarrow as pa

from fletching.protocol.messages.session_details import ColumnDetails, SessionDetails
from fletching.types import PartitionSpec

__all__ = [
    "ColumnStatistics",
    "PartitionBounds",
    "SessionStatistics",
    "partition_bounds",
    "partition_of",
    "session_statistics",
]

PartitionBounds = tuple[PartitionSpec, int, int]
"""A partition, its first row among a session's, and the row behind its last."""


@dataclasses.dataclass(frozen=True, slots=True)
class ColumnStatistics:
    """What is known of a column's values, before any filter and limit.

    Bounds come from the segments' statistics, which have none of types that are costly to compare: short
    texts, binary, lists, maps and extension types. Of long texts the lower bound is cut, and there is no
    upper one. Of a struct itself nothing is known, but of its fields (docs/client.md has every type).

    Attributes:
        lower: no value is less; of the column's type. None if nothing is known, or all values are null.
        upper: no value is greater.
        null_count: at most so many values are null; None if that is not known.
        has_nan: whether there may be a NaN, which no bound holds for.
        fields: of a struct, its fields by name; those of a null struct count as null.
    """

    lower: pa.Scalar | None
    upper: pa.Scalar | None
    null_count: int | None
    has_nan: bool
    fields: Mapping[str, ColumnStatistics] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class SessionStatistics:
    """What the service knows of a session's rows without reading any.

    Attributes:
        row_count: as the session's: before the filter and up to the limit.
        byte_size: an estimate of their bytes as they are stored, all columns.
        deleted_rows: so many rows more than the session has count in its columns' bounds and nulls,
            since they lie in the same segments. With 0, and without a filter and a limit, counts of nulls
            are exact, and bounds of numbers, dates, times and decimals are values of the table.
        columns: by name, in the session's order; empty if the service does not say.
    """

    row_count: int
    byte_size: int
    deleted_rows: int
    columns: Mapping[str, ColumnStatistics]


def partition_bounds(details: SessionDetails | None) -> list[PartitionBounds]:
    """Where the partitions of a session lie among its rows; nothing if the service does not say."""
    if details is None or details.partitions is None:
        return []
    names = details.partition_columns
    ends = itertools.accumulate(each.rows for each in details.partitions)
    return [
        (PartitionSpec(tuple(zip(names, each.values, strict=False))), end - each.rows, end)
        for each, end in zip(details.partitions, ends, strict=True)
    ]


def partition_of(bounds: Sequence[PartitionBounds], start: int, end: int) -> PartitionSpec | None:
    """The partition that all of some rows are of; None if there are several, or if nobody says."""
    index = bisect.bisect_right(bounds, start, key=lambda each: each[1]) - 1
    if start == end or index < 0:
        return None
    spec, first, last = bounds[index]
    return spec if first <= start and end <= last else None


def session_statistics(
    details: SessionDetails | None, schema: pa.Schema, row_count: int, byte_size: int
) -> SessionStatistics:
    """What a service's reply says of the columns of a schema."""
    columns = _columns(() if details is None else details.columns or (), schema)
    deleted = 0 if details is None else details.deleted_rows
    return SessionStatistics(row_count, byte_size, deleted, columns)


def _columns(
    details: Sequence[ColumnDetails], fields: Iterable[pa.Field]
) -> dict[str, ColumnStatistics]:
    """What is known of columns, or of a struct's fields, of which something is told."""
    known = {each.name: each for each in details}
    return {
        field.name: _column(known[field.name], field.type)
        for field in fields
        if field.name in known
    }


def _column(details: ColumnDetails, data_type: pa.DataType) -> ColumnStatistics:
    lower, upper = (_scalar(value, data_type) for value in (details.lower, details.upper))
    inner = _columns(details.fields, data_type) if pa.types.is_struct(data_type) else {}
    return ColumnStatistics(lower, upper, details.null_count, details.has_nan, inner)


def _scalar(value: bool | float | str | None, data_type: pa.DataType) -> pa.Scalar | None:
    """A value in physical form as one of a type; None if it is not."""
    if value is None:
        return None
    try:
        if pa.types.is_timestamp(data_type):
            return pa.scalar(value, pa.int64()).cast(data_type)
        if pa.types.is_date32(data_type):
            return pa.scalar(value, pa.int32()).cast(data_type)
        if pa.types.is_decimal(data_type) and isinstance(value, int):
            digits = tuple(int(digit) for digit in str(abs(value)))
            return pa.scalar(Decimal((int(value < 0), digits, -data_type.scale)), data_type)
        return pa.scalar(value, data_type)
    except (pa.ArrowException, TypeError, ValueError):
        return None
