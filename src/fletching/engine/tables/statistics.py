"""Least and greatest values per column of a segment: recorded at ingest, used to skip segments.

The bounds of the parts of a large segment are found on the way and kept apart, see `zone_bounds`.

Kept in the catalog as JSON: ``{"column": [lower, upper, nulls, values, unordered, null count], ...}``; a
field of a struct column has the names that lead to it for its key, see `column_key`. Earlier releases
wrote no null count. Values are in physical form: integers for whole numbers, dates (days), timestamps (the column's unit) and
decimals (scaled); numbers for floats; text cut to `MAX_TEXT` characters. A bound that is not known
is null; a column that is not listed can hold anything.

Only types whose least and greatest values Arrow finds at a multiple of the ingest's speed are
recorded; a column's type never changes, so its recorded bounds stay comparable.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from fletching.engine.cache import remembered
from fletching.engine.tables.zone_bounds import ZONE_ROWS, ZoneBounds, ZoneColumns
from fletching.sql.predicates.bounds import ColumnBounds, Physical

__all__ = [
    "ColumnStatistics",
    "StatisticsBuilder",
    "column_key",
    "few_values",
    "physical_value",
    "read_statistics",
]

MAX_TEXT = 64
"""Characters of a text bound."""

MIN_MEAN_TEXT_BYTES = 128
"""Texts shorter than this on average are not recorded: finding their bounds would take longer than
everything else that is done with them (0.7 GB/s was measured at 20 bytes, 27 GB/s at 500)."""

MAX_COLUMNS = 256
"""Columns of a segment that are recorded, nested fields counted: the first ones, as wide tables are
filtered by few."""

_SEPARATOR = "\x00"


class ColumnStatistics(msgspec.Struct, frozen=True, array_like=True):
    """What is known of a column's values in a segment; see `ColumnBounds`."""

    lower: bool | int | float | str | None = None
    upper: bool | int | float | str | None = None
    nulls: bool = False
    values: bool = False
    unordered: bool = False
    null_count: int | None = None
    """How many values are null; None if that is not known."""

    def bounds(self) -> ColumnBounds:
        """The same as predicates ask of it."""
        return ColumnBounds(self.lower, self.upper, self.nulls, self.values, self.unordered)


def column_key(path: Sequence[str]) -> str:
    """The key of a column, or of the field of a struct that a path leads to."""
    return _SEPARATOR.join(path)


_DECODER = msgspec.json.Decoder(dict[str, ColumnStatistics])


def read_statistics(data: bytes | None) -> dict[str, ColumnStatistics]:
    """The columns that are recorded; none if nothing is, or if a newer release wrote it."""
    if not data:
        return {}
    return _read_once(data)


def _read(data: bytes) -> dict[str, ColumnStatistics]:
    try:
        return _DECODER.decode(data)
    except msgspec.DecodeError:
        return {}


_read_once = remembered(_read, growth=6)


def _is_recorded(data_type: pa.DataType) -> bool:
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


def physical_value(scalar: pa.Scalar) -> Physical | None:
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


_Path: TypeAlias = tuple[tuple[int, ...], str, pa.DataType]
"""Of a column or nested field: its indices, level by level, its key and its type."""


def _recorded(schema: pa.Schema) -> Iterator[_Path]:
    """The columns and nested fields that are recorded."""
    # One at a time, since of a wide table most are not asked for.
    level: Iterable[tuple[tuple[int, ...], tuple[str, ...], pa.DataType]] = (
        ((index,), (field.name,), field.type) for index, field in enumerate(schema)
    )
    while level:
        inner: list[tuple[tuple[int, ...], tuple[str, ...], pa.DataType]] = []
        for indices, path, data_type in level:
            if pa.types.is_struct(data_type):
                inner += [
                    ((*indices, index), (*path, field.name), field.type)
                    for index, field in enumerate(data_type)
                ]
            elif _is_recorded(data_type) and not any(_SEPARATOR in name for name in path):
                yield indices, column_key(path), data_type
        level = inner


class StatisticsBuilder:
    """Collects the bounds of a segment's batches. Not thread-safe."""

    def __init__(self, schema: pa.Schema) -> None:
        """Begins without rows.

        Args:
            schema: the segment's columns.
        """
        self._columns = list(itertools.islice(_recorded(schema), MAX_COLUMNS))
        self._entries = {name: _Entry() for _, name, _ in self._columns}
        self._zones = ZoneColumns(self._entries)

    def add(self, columns: Sequence[pa.Array]) -> None:
        """Takes a batch into account: one pass over each recorded column, nothing is copied.

        Args:
            columns: the batch's arrays, in the order of the schema.
        """
        self._look(columns, self._columns)
        self._zones.keep_bounded()

    def _look(self, columns: Sequence[pa.Array], wanted: Iterable[_Path]) -> None:
        for (index, *fields), name, _ in wanted:
            column = columns[index]
            entry = self._entries[name]
            for field in fields:
                # A field of a null struct is null, whatever stands in its place.
                column = column.flatten()[field] if column.null_count else column.field(field)
            zones = self._zones.columns[name]
            for start in range(0, max(len(column), 1), ZONE_ROWS):
                part = column if len(column) <= ZONE_ROWS else column.slice(start, ZONE_ROWS)
                zones.add(_of_zone(part, entry))

    def add_zones(
        self,
        zones: ZoneBounds | None,
        first: int,
        end: int,
        batches: Callable[[], Iterable[Sequence[pa.Array]]],
    ) -> None:
        """Takes batches into account that have all rows of some zones of another segment.

        Args:
            zones: what is kept of the segment's zones.
            first: the first of these.
            end: where they end.
            batches: gives the batches' arrays; they are looked at for columns of which too little is kept.
        """
        wanted = []
        for each in self._columns:
            _, name, data_type = each
            entries = None if zones is None else zones.entries(name, first, end)
            bounds = None if entries is None else entries.bounds()
            # Of nulls it is not kept how many there are, and of a boolean only its number.
            if entries is None or bounds is None or pa.types.is_boolean(data_type):
                wanted.append(each)
                continue
            entry = self._entries[name]
            entry.unordered |= bounds.unordered
            entry.widen(bounds.lower, bounds.upper)
            self._zones.columns[name].extend(entries)
        if wanted:
            for columns in batches():
                self._look(columns, wanted)
        self._zones.keep_bounded()

    def merge(self, data: bytes | None) -> None:
        """Takes another segment of the same schema into account."""
        known = read_statistics(data)
        for _, name, _ in self._columns:
            entry, other = self._entries[name], known.get(name)
            if other is None:
                entry.known = False
                entry.nulls = entry.values = entry.unordered = True
                entry.null_count = None
                continue
            entry.nulls |= other.nulls
            counted = other.null_count if other.nulls else 0
            if counted is None or entry.null_count is None:
                entry.null_count = None
            else:
                entry.null_count += counted
            entry.unordered |= other.unordered
            if not other.values:
                continue
            if other.lower is None or other.upper is None:
                entry.known, entry.values = False, True
            else:
                entry.widen(other.lower, other.upper)

    def merge_zones(self, zones: ZoneBounds | None, data: bytes | None, count: int) -> None:
        """Takes the zones of another segment into account; the segment itself is by `merge`.

        Args:
            zones: what is kept of them.
            data: the segment's statistics, which hold where that is nothing.
            count: how many there are.
        """
        known = read_statistics(data)
        for name, column in self._zones.columns.items():
            entries = None if zones is None else zones.entries(name, 0, count)
            if entries is not None:
                column.extend(entries)
                continue
            whole = known.get(name)
            of_all = ColumnBounds(unordered=True) if whole is None else whole.bounds()
            for zone in range(count):
                bounds = None if zones is None else zones.column(name, zone, zone + 1)
                column.add(bounds or of_all)
        self._zones.keep_bounded()

    def encode_zones(self) -> bytes | None:
        """The bounds of zones for the catalog; None where the segment's own say as much."""
        return self._zones.encode()

    def encode(self) -> bytes:
        """The record for the catalog."""
        return msgspec.json.encode(
            {
                name: ColumnStatistics(
                    _lower(entry.lower) if entry.known else None,
                    _upper(entry.upper) if entry.known else None,
                    entry.nulls,
                    entry.values,
                    entry.unordered,
                    entry.null_count,
                )
                for name, entry in self._entries.items()
            }
        )


@dataclasses.dataclass(slots=True)
class _Entry:
    lower: Physical | None = None
    upper: Physical | None = None
    nulls: bool = False
    values: bool = False
    unordered: bool = False
    null_count: int | None = 0
    known: bool = True
    """Whether the bounds hold for every value so far."""

    def widen(self, lower: Physical | None, upper: Physical | None) -> None:
        """Takes values between two bounds into account."""
        if lower is not None and upper is not None:
            self.lower = lower if self.lower is None else min(self.lower, lower)
            self.upper = upper if self.upper is None else max(self.upper, upper)
        self.values = True


def few_values(column: pa.Array) -> ColumnStatistics | None:
    """What would be recorded of some values, none of them NaN, if texts cost nothing; None for other types."""
    if not _is_recorded(column.type):
        return None
    bounds = pc.min_max(column)
    return ColumnStatistics(
        _lower(physical_value(bounds["min"])),
        _upper(physical_value(bounds["max"])),
        nulls=column.null_count > 0,
        values=column.null_count < len(column),
        null_count=column.null_count,
    )


def _of_zone(column: pa.Array, entry: _Entry) -> ColumnBounds:
    """What is known of a column's rows in one zone; the entry takes them into account."""
    nulls = column.null_count > 0
    entry.nulls |= nulls
    if entry.null_count is not None:
        entry.null_count += column.null_count
    if column.null_count == len(column):
        return ColumnBounds(nulls=nulls, values=False)
    lower: Physical | None = None
    upper: Physical | None = None
    unordered = False
    if pa.types.is_floating(column.type):
        lower, upper, unordered = _float_bounds(column)
    elif _is_text(column.type) and not _is_long_text(column):
        entry.known = False
    elif not nulls and pa.types.is_integer(column.type):
        # As floats: in a small batch the calls are all that this takes.
        values = column.to_numpy(zero_copy_only=True)
        lower, upper = int(values.min()), int(values.max())
    elif len(column) == 1:
        lower = upper = physical_value(column[0])
    else:
        bounds = pc.min_max(column)
        lower, upper = physical_value(bounds["min"]), physical_value(bounds["max"])
    entry.unordered |= unordered
    entry.widen(lower, upper)
    return ColumnBounds(_lower(lower), _upper(upper), nulls, values=True, unordered=unordered)


def _is_text(data_type: pa.DataType) -> bool:
    return bool(pa.types.is_string(data_type) or pa.types.is_large_string(data_type))


def _is_long_text(column: pa.Array) -> bool:
    """Whether comparing its values costs little beside storing them (about 35 ns a value)."""
    return bool(column.nbytes >= MIN_MEAN_TEXT_BYTES * len(column))


def _float_bounds(column: pa.Array) -> tuple[float | None, float | None, bool]:
    """Least and greatest value, and whether there is a NaN; both None if there is nothing else."""
    if column.null_count == 0:
        # numpy is several times faster here, and NaN comes through.
        values = column.to_numpy(zero_copy_only=True)
        lower, upper = float(values.min()), float(values.max())
        if not math.isnan(lower) and not math.isnan(upper):
            return lower, upper, False
    ordered = column.filter(pc.invert(pc.is_nan(column)))
    bounds = pc.min_max(ordered)
    unordered = len(ordered) < len(column) - column.null_count
    return bounds["min"].as_py(), bounds["max"].as_py(), unordered


_Recorded = bool | int | float | str | None


def _lower(value: Physical | None) -> _Recorded:
    if isinstance(value, str):
        return value[:MAX_TEXT]
    if isinstance(value, float) and math.isinf(value):
        return None
    return _fits(value)


def _upper(value: Physical | None) -> _Recorded:
    if isinstance(value, str) and len(value) > MAX_TEXT:
        # The cut text is below the value; what is above every text that begins like it is not
        # worth working out.
        return None
    if isinstance(value, float) and math.isinf(value):
        return None
    return _fits(value)


def _fits(value: Physical | None) -> _Recorded:
    """JSON integers are exact to 64 bits here; wider decimals are left out."""
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        return None
    assert value is None or isinstance(value, bool | int | float | str)  # as `_is_recorded` has it
    return value
