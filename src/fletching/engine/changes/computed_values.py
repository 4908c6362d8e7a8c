"""Values that a database computed, in the terms of the columns that take them.

DuckDB has fewer types than tables: instants without a zone's name, doubles out of most functions,
intervals of months, days and microseconds. What such a value means for the column is decided here, before
the rule for all values (`fletching.protocol.types.conversion`) looks at it.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fletching.errors import InvalidArgumentError
from fletching.ipc.relabelling import relabelled

__all__ = ["computed"]

_types = pa.types
_INTERVAL = np.dtype([("months", "<i4"), ("days", "<i4"), ("nanoseconds", "<i8")])
_DAY = 86_400_000_000


def computed(array: pa.Array, target: pa.DataType, column: str) -> pa.Array:
    """Computed values on their way into a column; most are returned as they are.

    Timestamps with and without a zone are the same instants, since expressions are computed in UTC. A
    DOUBLE becomes the nearest FLOAT. An interval without months is a duration. A number with a fraction
    is no whole number.

    Args:
        array: of the types that DuckDB gives.
        target: the column's type.
        column: its name, for the error.

    Raises:
        InvalidArgumentError: a number beyond the range of the column or with a fraction where it has
            none, or an interval of months.
    """
    while isinstance(target, pa.BaseExtensionType):
        target = target.storage_type
    if _types.is_floating(array.type) and (_types.is_float32(target) or _types.is_float16(target)):
        return _rounded(array, target, column)
    if _types.is_integer(target):
        _check_whole(array, column)
    if _types.is_interval(array.type) and _types.is_duration(target):
        return _durations(array, column)
    return relabelled(array, _zoned(array.type, target))


def _rounded(array: pa.Array, target: pa.DataType, column: str) -> pa.Array:
    values = pc.fill_null(array, 0.0).to_numpy()
    # Overflows are found below, and signalling NaNs stay NaN.
    with np.errstate(over="ignore", invalid="ignore"):
        made = values.astype(target.to_pandas_dtype())
    if (np.isinf(made) & ~np.isinf(values)).any():
        raise InvalidArgumentError(f"column {column} would get a number beyond {target}")
    mask = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
    return pa.array(made, target, mask=mask)


def _check_whole(array: pa.Array, column: str) -> None:
    if not (_types.is_floating(array.type) or _types.is_decimal(array.type)):
        return
    wrong = pc.not_equal(pc.trunc(array), array)
    if pc.any(wrong).as_py():
        value = array.filter(wrong)[0].as_py()
        text = f"{value.normalize():f}" if _types.is_decimal(array.type) else repr(value)
        raise InvalidArgumentError(
            f"column {column} takes whole numbers, and would get {text};"
            " CAST cuts its fraction off, ROUND rounds"
        )


def _durations(array: pa.Array, column: str) -> pa.Array:
    """Intervals as microseconds, which is what DuckDB counts."""
    data = array.buffers()[1]
    if data is None:
        return pa.nulls(len(array), pa.duration("us"))
    values = np.frombuffer(data, _INTERVAL, len(array), array.offset * _INTERVAL.itemsize)
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    if values["months"][valid].any():
        raise InvalidArgumentError(
            f"column {column} is a duration, and an interval of months is as long as its months"
        )
    # DuckDB counts microseconds: what is finer came out of a number of nanoseconds that wrapped around.
    if (values["nanoseconds"][valid] % 1000).any():
        raise InvalidArgumentError(f"column {column} would get a duration of more than 292 years")
    counts = values["days"].astype(np.int64) * _DAY + values["nanoseconds"] // 1000
    return pa.array(counts, pa.int64(), mask=~valid).view(pa.duration("us"))


def _zoned(source: pa.DataType, target: pa.DataType) -> pa.DataType:
    """The computed type with zones where the column's type has them, at every depth."""
    if _types.is_dictionary(target) or _types.is_run_end_encoded(target):
        target = target.value_type
    if _types.is_timestamp(source) and _types.is_timestamp(target):
        return pa.timestamp(source.unit, target.tz)
    if _types.is_list(source) and hasattr(target, "value_type"):
        field = source.value_field
        return pa.list_(field.with_type(_zoned(field.type, target.value_type)))
    if _types.is_map(source) and _types.is_map(target):
        key, item = source.key_field, source.item_field
        return pa.map_(
            key.with_type(_zoned(key.type, target.key_type)),
            item.with_type(_zoned(item.type, target.item_type)),
        )
    if _types.is_struct(source) and _types.is_struct(target):
        known = {target.field(n).name.casefold(): target.field(n) for n in range(target.num_fields)}
        fields = [source.field(number) for number in range(source.num_fields)]
        return pa.struct(
            [
                field.with_type(_zoned(field.type, known[field.name.casefold()].type))
                if field.name.casefold() in known
                else field
                for field in fields
            ]
        )
    return source
