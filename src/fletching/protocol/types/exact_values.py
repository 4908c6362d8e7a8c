"""Numbers, moments and texts in another flat Arrow type, exactly or not at all.

One rule: a value goes into another type only if that type has exactly this value. Numbers are equal
as numbers (an integer and a whole float, say), moments and days as moments, texts as UTF-8 bytes.
NaN and infinities are values of floats alone. Nothing is rounded, cut, wrapped around or parsed.

`related` says which types have values in common at all; `exact` converts the values of one array.
"""

from __future__ import annotations

import decimal
import enum
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Family", "MisfitError", "exact", "family", "related", "ticks"]

_types = pa.types


class MisfitError(Exception):
    """A value of an array has no equal in the wanted type; the text says why, without the value.

    Never leaves `fletching.protocol.types.conversion`, which adds the column and the row.
    """


class Family(enum.Enum):
    """Flat types that can have equal values."""

    BOOLEAN = "boolean"
    INTEGER = "integer"
    FLOAT = "float"
    DECIMAL = "decimal"
    TEXT = "text"
    BINARY = "binary"
    DATE = "date"
    TIMESTAMP = "timestamp"
    ZONED_TIMESTAMP = "zoned timestamp"
    TIME = "time"
    DURATION = "duration"


_RELATED: Final = frozenset(
    {
        (Family.INTEGER, Family.FLOAT),
        (Family.INTEGER, Family.DECIMAL),
        (Family.FLOAT, Family.INTEGER),
        (Family.DECIMAL, Family.INTEGER),
        (Family.TEXT, Family.BINARY),
        (Family.BINARY, Family.TEXT),
        (Family.DATE, Family.TIMESTAMP),
        (Family.TIMESTAMP, Family.DATE),
    }
)
"""Pairs of different families that convert where values are equal.

Floats and decimals are not among them: hardly any value is both, and which digits a float stands for
would be a guess. A time zone is never made up or dropped.
"""

_DAY: Final = 86_400 * 10**9
_UNIT: Final = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_MANTISSA_BITS: Final = {16: 11, 32: 24, 64: 53}
_WIDEST_DECIMAL: Final = 76


def family(data_type: pa.DataType) -> Family | None:
    """The family of a flat type; None for nested, encoded and extension types, intervals and null."""
    if _types.is_boolean(data_type):
        return Family.BOOLEAN
    if _types.is_integer(data_type):
        return Family.INTEGER
    if _types.is_floating(data_type):
        return Family.FLOAT
    if _types.is_decimal(data_type):
        return Family.DECIMAL
    if (
        _types.is_string(data_type)
        or _types.is_large_string(data_type)
        or _types.is_string_view(data_type)
    ):
        return Family.TEXT
    if (
        _types.is_binary(data_type)
        or _types.is_large_binary(data_type)
        or _types.is_binary_view(data_type)
        or _types.is_fixed_size_binary(data_type)
    ):
        return Family.BINARY
    if _types.is_date(data_type):
        return Family.DATE
    if _types.is_timestamp(data_type):
        return Family.TIMESTAMP if data_type.tz is None else Family.ZONED_TIMESTAMP
    if _types.is_time(data_type):
        return Family.TIME
    if _types.is_duration(data_type):
        return Family.DURATION
    return None


def related(source: pa.DataType, target: pa.DataType) -> bool:
    """Whether values of one flat type can be values of the other."""
    item, other = family(source), family(target)
    if _types.is_fixed_size_binary(source) and _types.is_fixed_size_binary(target):
        return bool(source.byte_width == target.byte_width)
    return item is not None and (item is other or (item, other) in _RELATED)


def exact(array: pa.Array, target: pa.DataType) -> pa.Array:
    """The array's values in another type of a related family. Copies.

    Raises:
        MisfitError: a value has no equal in the type.
    """
    source, wanted = family(array.type), family(target)
    if source in {Family.INTEGER, Family.FLOAT} and wanted in {Family.INTEGER, Family.FLOAT}:
        if source is wanted is Family.INTEGER:
            return _cast(array, target)
        return _between_floats(array, target)
    if source is Family.DECIMAL or wanted is Family.DECIMAL:
        return _decimals(array, target)
    if wanted in {Family.DATE, Family.TIMESTAMP, Family.ZONED_TIMESTAMP} or wanted in {
        Family.TIME,
        Family.DURATION,
    }:
        return ticks(array, target)
    return _cast(array, target)


def _cast(array: pa.Array, target: pa.DataType) -> pa.Array:
    try:
        return pc.cast(array, target, safe=True)
    except (pa.ArrowException, ValueError) as error:
        raise MisfitError(f"does not fit {target}") from error


def _decimals(array: pa.Array, target: pa.DataType) -> pa.Array:
    """Integers and decimals as decimals, decimals as integers."""
    if not _types.is_decimal(array.type):
        # Arrow wants room for every value of the integer type; what counts is these values' room.
        scale = min(target.scale, _WIDEST_DECIMAL - 20)
        array = _cast(array, pa.decimal256(_WIDEST_DECIMAL, scale))
    elif array.type.bit_width < 128:
        # pyarrow refuses some casts of the narrow types (to int64), and wraps values around in others
        # (decimal256 to decimal32), so both ends are reached through the wide type of the same digits.
        array = _cast(array, pa.decimal128(array.type.precision, array.type.scale))
    if _types.is_decimal(target):
        _check_whole_digits(array, target)
    if _types.is_decimal(target) and target.bit_width < 128:
        array = _cast(array, pa.decimal128(target.precision, target.scale))
    return _cast(array, target)


def _check_whole_digits(array: pa.Array, target: pa.DataType) -> None:
    """Checks the digits before the point: pyarrow's multiplication by a large power of ten wraps around."""
    source = array.type
    digits = target.precision - target.scale
    if source.precision - source.scale <= digits:
        return
    bound = decimal.Decimal(10).scaleb(digits - 1)
    low, high = (pa.scalar(item, source) for item in (-bound, bound))
    wrong = pc.or_(pc.greater_equal(array, high), pc.less_equal(array, low))
    if pc.any(wrong).as_py():
        raise MisfitError(f"does not fit {target}")


def _without_nulls(array: pa.Array) -> pa.Array:
    """The values as numpy has them, null as 0; shares the memory of an array without nulls."""
    if array.null_count:
        # Every type here has 0.
        array = pc.fill_null(array, pa.scalar(0, pa.int8()).cast(array.type))
    return array.to_numpy(zero_copy_only=False)


def _rebuilt(values: pa.Array, like: pa.Array, target: pa.DataType) -> pa.Array:
    mask = like.is_null().to_numpy(zero_copy_only=False) if like.null_count else None
    return pa.array(values, target, mask=mask)


# Results are compared with what they were made of: numpy's warnings of overflows and signalling NaNs say no more.
@np.errstate(over="ignore", invalid="ignore")
def _between_floats(array: pa.Array, target: pa.DataType) -> pa.Array:
    """Integers as floats, floats as integers, floats as other floats."""
    values = _without_nulls(array)
    wanted = np.dtype(target.to_pandas_dtype())
    if values.dtype.kind == "f" and wanted.kind == "f":
        result = values.astype(wanted)
        wrong = (result.astype(np.float64) != values.astype(np.float64)) & ~np.isnan(values)
    elif values.dtype.kind == "f":
        wide = values.astype(np.float64)
        inside = _in_range(wide, wanted) & (np.floor(wide) == wide)
        wrong = ~inside
        result = np.where(inside, wide, 0).astype(wanted)
    else:
        result = values.astype(wanted)
        bound = 2 ** _MANTISSA_BITS[target.bit_width]
        if not len(values) or (int(values.min()) >= -bound and int(values.max()) <= bound):
            # Every integer up to there has its float.
            wrong = ~np.isfinite(result) if target.bit_width == 16 else np.zeros(1, bool)
        else:
            wide = result.astype(np.float64)
            inside = _in_range(wide, values.dtype)
            wrong = ~inside | (np.where(inside, wide, 0).astype(values.dtype) != values)
    if wrong.any():
        raise MisfitError(f"has no equal in {target}")
    return _rebuilt(result, array, target)


def _in_range(values: pa.Array, integers: pa.Array) -> pa.Array:
    """Whether float64 values, cut to whole numbers, are in the range of an integer dtype."""
    info = np.iinfo(integers)
    # Both bounds are powers of two (or zero), which floats have exactly; the upper one is outside.
    return (values >= float(info.min)) & (values < float(int(info.max) + 1))


def _tick_nanoseconds(data_type: pa.DataType) -> int:
    if _types.is_date32(data_type):
        return _DAY
    if _types.is_date64(data_type):
        return _UNIT["ms"]
    return _UNIT[data_type.unit]


def ticks(array: pa.Array, target: pa.DataType, *, truncate: bool = False) -> pa.Array:
    """Dates, times, timestamps or durations in another unit: integer counts, multiplied or divided.

    Args:
        array: of such a type.
        target: of such a type; zones are neither looked at nor moved.
        truncate: cut towards zero what a coarser unit cannot say, instead of refusing it.

    Raises:
        MisfitError: a value between two counts of the unit, or beyond the range of the type.
    """
    source = array.type
    narrow = source.bit_width == 32
    counts = _without_nulls(array.view(pa.int32() if narrow else pa.int64())).astype(np.int64)
    fine, coarse = _tick_nanoseconds(source), _tick_nanoseconds(target)
    if fine >= coarse:
        factor = fine // coarse
        limit = np.iinfo(np.int64).max // factor
        if len(counts) and (int(counts.max()) > limit or int(counts.min()) < -limit):
            raise MisfitError(f"is out of the range of {target}")
        result = counts * factor
    else:
        factor = coarse // fine
        result, remainder = np.divmod(counts, factor)
        if remainder.any():
            if not truncate:
                raise MisfitError(f"lies between two values of {target}")
            result += (counts < 0) & (remainder != 0)
    if _types.is_date64(target) and (result % (_DAY // _UNIT["ms"])).any():
        raise MisfitError("is no whole day")
    if target.bit_width == 32:
        if len(result) and (
            int(result.max()) > np.iinfo(np.int32).max or int(result.min()) < np.iinfo(np.int32).min
        ):
            raise MisfitError(f"is out of the range of {target}")
        return _rebuilt(result.astype(np.int32), array, pa.int32()).view(target)
    return _rebuilt(result, array, pa.int64()).view(target)
