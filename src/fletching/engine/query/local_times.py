"""Moments in Arrow batches, between UTC and the local time that a statement computes with.

What the zone of a statement means is said in `fletching.sql.functions.time_zones`. DATETIME and TIMESTAMP are moved,
also inside of arrays, maps and structs; a TIMESTAMP_NTZ has no zone and stays as it is. An hour that comes
twice where clocks are set back is read as its first time, one that never comes as the moment before it.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fletching.errors import InvalidArgumentError
from fletching.protocol.types.arrow_types import odps_type_of_field
from fletching.protocol.types.odps_types import TypeCode
from fletching.sql.functions.conversions import FIRST_SECOND, LAST_SECOND
from fletching.sql.functions.time_zones import has_moments, offset_minutes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["in_local_time", "is_plain_time", "local_columns", "moved_times", "utc_batch"]

_types = pa.types


def is_plain_time(field: pa.Field) -> bool:
    """Whether a column is a TIMESTAMP_NTZ, whose values are in no zone.

    Raises:
        InvalidArgumentError: it has such values inside others, where nothing tells them apart.
    """
    if not has_moments(field.type):
        return False
    declared = odps_type_of_field(field)
    if declared.code is TypeCode.TIMESTAMP_NTZ:
        return True
    if any(item.code is TypeCode.TIMESTAMP_NTZ for item in declared.walk()):
        raise InvalidArgumentError(
            f"column {field.name} has TIMESTAMP_NTZ inside a value: a statement with a time zone of its"
            " own cannot read or write it; SET odps.sql.timezone=UTC before it"
        )
    return False


def in_local_time(
    rows: tuple[pa.Schema, Iterator[pa.RecordBatch]], fields: Mapping[str, pa.Field], zone: str
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Rows of a table with their times as the clocks of a zone show them.

    Args:
        rows: the columns, and the rows in batches.
        fields: the columns as they were declared, by case-folded name.
        zone: its name; empty for UTC, which leaves the rows as they are.
    """
    schema, batches = rows
    if not zone:
        return rows
    timed = [
        number
        for number, field in enumerate(schema)
        if has_moments(field.type) and not is_plain_time(fields[field.name.casefold()])
    ]
    nothing = pa.RecordBatch.from_arrays([pa.nulls(0, item.type) for item in schema], schema=schema)
    made = _batch(nothing, timed, zone, back=False).schema
    return made, (_batch(batch, timed, zone, back=False) for batch in batches)


def local_columns(fields: Iterable[pa.Field], untold: Iterable[pa.Field]) -> list[int]:
    """The columns of a query's rows whose times are local, by number.

    Args:
        fields: the columns.
        untold: the columns of tables that are read, if ``fields`` do not say what they were declared as.

    Raises:
        InvalidArgumentError: one of ``untold`` is in no zone, so that any of ``fields`` may be.
    """
    timed = [(number, field) for number, field in enumerate(fields) if has_moments(field.type)]
    if timed and any(map(is_plain_time, untold)):
        raise InvalidArgumentError(
            "the query reads a TIMESTAMP_NTZ, and which of its columns are in no time zone is not known:"
            " name the columns in place of *"
        )
    return [number for number, field in timed if not is_plain_time(field)]


def utc_batch(batch: pa.RecordBatch, columns: Sequence[int], zone: str) -> pa.RecordBatch:
    """A batch of a query with some of its columns brought back to UTC."""
    return _batch(batch, columns, zone, back=True)


def _batch(
    batch: pa.RecordBatch, columns: Sequence[int], zone: str, *, back: bool
) -> pa.RecordBatch:
    if not columns:
        return batch
    arrays, fields = batch.columns, list(batch.schema)
    try:
        for number in columns:
            arrays[number] = _moved(arrays[number], zone, back=back)
            fields[number] = fields[number].with_type(arrays[number].type)
    except pa.ArrowException as error:
        raise InvalidArgumentError(f"a time has no form in the zone {zone}: {error}") from error
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields, batch.schema.metadata))


def _moved(array: pa.Array, zone: str, *, back: bool) -> pa.Array:
    data_type = array.type
    if not has_moments(data_type):
        return array
    if isinstance(array, pa.ExtensionArray):
        return _moved(array.storage, zone, back=back)
    if _types.is_timestamp(data_type):
        moved = moved_times(array, zone, back=back)
        return _within_years(array, moved) if back else moved
    if _types.is_dictionary(data_type):
        values = _moved(array.dictionary, zone, back=back)
        return pa.DictionaryArray.from_arrays(array.indices, values, ordered=data_type.ordered)
    if _types.is_struct(data_type):
        children = [_moved(array.field(i), zone, back=back) for i in range(data_type.num_fields)]
        fields = [data_type.field(i).with_type(child.type) for i, child in enumerate(children)]
        mask = array.is_null() if array.null_count else None
        return pa.StructArray.from_arrays(children, fields=fields, mask=mask)
    if _types.is_map(data_type):
        keys, items = (_moved(item, zone, back=back) for item in (array.keys, array.items))
        if keys.null_count:
            raise pa.ArrowInvalid("a key would lie outside of the years from 1 to 9999")
        fields = [
            data_type.key_field.with_type(keys.type),
            data_type.item_field.with_type(items.type),
        ]
        made = pa.map_(*fields, keys_sorted=data_type.keys_sorted)
        return _around(array, made, pa.StructArray.from_arrays([keys, items], fields=fields))
    if _types.is_list(data_type) or _types.is_large_list(data_type):
        values = _moved(array.values, zone, back=back)
        kind = pa.list_ if _types.is_list(data_type) else pa.large_list
        return _around(array, kind(data_type.value_field.with_type(values.type)), values)
    if _types.is_fixed_size_list(data_type):
        values = _moved(array.values, zone, back=back)
        made = pa.list_(data_type.value_field.with_type(values.type), data_type.list_size)
        return _around(array, made, values)
    raise InvalidArgumentError(f"a statement with a time zone of its own cannot read {data_type}")


def moved_times(array: pa.Array, zone: str, *, back: bool = False) -> pa.Array:
    """Timestamps as the clocks of a zone show them.

    Args:
        array: moments in UTC.
        zone: the name of a time zone.
        back: the other way: local times become moments in UTC.

    Raises:
        pyarrow.ArrowInvalid: a time has no form in the other zone.
    """
    unit = array.type.unit
    if back:
        moments = pc.assume_timezone(array, zone, ambiguous="earliest", nonexistent="earliest")
        made = pc.local_timestamp(moments.cast(pa.timestamp(unit, "UTC")))
    else:
        # A timestamp without a zone is one of UTC to this cast, which copies nothing.
        made = pc.local_timestamp(array.cast(pa.timestamp(unit, zone)))
    last = pc.max(array).cast(pa.int64()).as_py()
    if last is not None and last >= _LATE * _TICKS[unit] and len(_late_changes(zone)[0]):
        return _with_late_times(array, made, zone, back=back)
    return made


def _within_years(array: pa.Array, made: pa.Array) -> pa.Array:
    """Moments, without those that left the years from 1 to 9999 on their way to UTC."""
    tick = _TICKS[made.type.unit]
    if made.type.unit == "ns":
        # They count from 1677 to 2262.
        return made
    ends = FIRST_SECOND * tick, (LAST_SECOND + 1) * tick
    before, after = (
        pc.and_(pc.greater_equal(item, ends[0]), pc.less(item, ends[1]))
        for item in (array.cast(pa.int64()), made.cast(pa.int64()))
    )
    return pc.if_else(pc.and_not(before, after), pa.scalar(None, made.type), made)


_DAY = 86_400
_TICKS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_LATE = 2_114_380_800
"""The year 2037 begins. pyarrow knows the rules of a zone as far as the database lists when they applied, which ends
there: from then on New York had no summer, while Python and who wrote the row have one."""

_WEEK = 7 * _DAY
_LISTED = 16_725_225_600
"""The year 2500 begins."""

_CALENDAR_SECONDS = (400 * 365 + 97) * _DAY
"""So long until days of weeks and leap years come again as they were, and with them the changes of clocks."""


def _with_late_times(array: pa.Array, made: pa.Array, zone: str, *, back: bool) -> pa.Array:
    """Times that were moved, those from 2037 on moved anew by the rules that hold on."""
    changes, offsets = _late_changes(zone)
    tick = _TICKS[array.type.unit]
    given = pc.fill_null(array.cast(pa.int64()), 0).to_numpy()
    # A copy, as a part of the values is another.
    values = pc.fill_null(made.cast(pa.int64()), 0).to_numpy().copy()
    (late,) = np.nonzero(given >= _LATE * tick)
    seconds, rest = np.divmod(given[late], tick)
    cycles = np.maximum((seconds - _LISTED) // _CALENDAR_SECONDS + 1, 0) * _CALENDAR_SECONDS
    seconds -= cycles
    if back:
        # The old offset holds until its last second: of an hour that comes twice this is the first.
        index = np.searchsorted(changes + offsets[:-1], seconds, side="right")
        moved = seconds - offsets[index]
        change = changes[np.maximum(index - 1, 0)]
        never = (index > 0) & (moved < change)
        moved, rest = np.where(never, change - 1, moved), np.where(never, tick - 1, rest)
    else:
        moved = seconds + offsets[np.searchsorted(changes, seconds, side="right")]
    result = (moved + cycles) * tick + rest
    if (result < 0).any():
        raise pa.ArrowInvalid("it is later than a timestamp can be")
    values[late] = result
    nulls = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
    return pa.array(values, pa.int64(), mask=nulls).cast(made.type)


@functools.lru_cache(maxsize=64)  # of some 600 zones; 15 KB each
def _late_changes(zone: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """When a zone's clocks are set from 2037 to 2500, and their seconds before UTC around each of that.

    It takes some ten milliseconds, once.
    """
    if offset_minutes(zone) is not None:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    info = ZoneInfo(zone)

    def offset(second: int) -> int:
        result = dt.datetime.fromtimestamp(second, info).utcoffset()
        return 0 if result is None else round(result.total_seconds())

    start = _LATE - _WEEK
    changes, offsets = [], [offset(start)]
    for after in range(start + _WEEK, _LISTED + _WEEK, _WEEK):
        now = offset(after)
        if now == offsets[-1]:
            continue
        low, high = after - _WEEK, after
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset(middle) == offsets[-1] else (low, middle)
        changes.append(high)
        offsets.append(now)
    return np.array(changes, dtype=np.int64), np.array(offsets, dtype=np.int64)


def _around(array: pa.Array, made: pa.DataType, values: pa.Array) -> pa.Array:
    """A list or map with other elements: its own offsets and nulls stay."""
    own = 1 if _types.is_fixed_size_list(made) else 2
    return pa.Array.from_buffers(
        made,
        len(array),
        array.buffers()[:own],
        array.null_count,
        array.offset,
        children=[values],
    )
