"""Literals of a predicate as values of the column that they are compared with.

A literal is placed among a column's values in their physical form: integers for whole numbers,
dates (days), timestamps (the column's unit) and decimals (scaled), numbers for floats. Exact types
are compared exactly: a literal that a type cannot hold lies between two of its values and is never
rounded (``a > 1.5`` on integers is ``a >= 2``). Where one side is a DOUBLE or FLOAT, both are
compared as that, as SQL does with approximate numbers: ``x = 0.1`` finds the DOUBLE written as 0.1,
and a BIGINT equals a DOUBLE literal if it becomes that when converted.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import math
import re
import struct
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

import pyarrow as pa

from fletching.errors import InvalidArgumentError
from fletching.sql.predicates.bounds import Physical

__all__ = ["EqualRange", "Moment", "Value", "equal_range", "parse_number", "rounded", "scalar_of"]

MAX_DIGITS = 400
"""Digits of a numeric literal, and its greatest power of ten: double's range is below."""


@dataclasses.dataclass(frozen=True, slots=True)
class Moment:
    """A timestamp literal in nanoseconds since the epoch."""

    nanoseconds: int


Value = bool | int | float | Decimal | str | bytes | dt.date | Moment | None
"""A literal as SQL meant it: ``float`` is a DOUBLE, ``Decimal`` an exact number with a point."""


@dataclasses.dataclass(frozen=True, slots=True)
class EqualRange:
    """Where a literal lies among a type's values, in the type's physical form.

    Values from ``first`` to ``last`` equal the literal, those below ``first`` are less, those above
    ``last`` greater. ``first`` is None when every value is less, ``last`` is None when every value
    is greater; when no value equals the literal, ``last`` is the greatest value that is less and
    ``first`` the least that is greater.
    """

    first: Physical | None
    last: Physical | None

    @property
    def equals(self) -> bool:
        """Whether some value of the type equals the literal."""
        return self.first is not None and self.last is not None and bool(self.first <= self.last)


_EPOCH_DATE = dt.date(1970, 1, 1)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_NOT_FINITE = re.compile(r"([+-]?)(?:(inf|infinity)|nan)", re.ASCII | re.IGNORECASE)
_DATE = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})", re.ASCII)
_TIME = re.compile(
    r"(\d{4}-\d{1,2}-\d{1,2})"
    r"(?:[ T](\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,9}))?)?"
    r"[ ]?(?:(Z|UTC|GMT)|([+-])(\d{1,2})(?::?(\d{2}))?)?)?",
    re.ASCII,
)
_BLANKS = " \t\n\r\f\v"
"""What may stand around a number or date that is spelt as text."""

UNITS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_DAY = 86_400 * 1_000_000_000


def equal_range(value: Value, data_type: pa.DataType, column: str) -> EqualRange | None:
    """Where a literal lies among the values of a column's type; None for NaN, which has no place.

    Args:
        value: the literal; not None.
        data_type: the column's Arrow type.
        column: its name, for the message.

    Raises:
        InvalidArgumentError: the two cannot be compared.
    """
    types = pa.types
    result: EqualRange | None = None
    if types.is_boolean(data_type):
        if isinstance(value, bool):
            return EqualRange(value, value)
    elif types.is_integer(data_type) or types.is_decimal(data_type):
        number = _number(value, approximate=False)
        if number is not None:
            scale = data_type.scale if types.is_decimal(data_type) else 0
            if isinstance(number, float):
                return _as_doubles(number, scale, *range_of(data_type))
            scaled = _scaled(number, scale)
            return _clamped(math.ceil(scaled), math.floor(scaled), *range_of(data_type))
    elif types.is_floating(data_type):
        number = _number(value, approximate=True)
        if number is not None:
            return _float_range(number, data_type)
    elif types.is_string(data_type) or types.is_large_string(data_type):
        if isinstance(value, str):
            return EqualRange(value, value)
    elif types.is_binary(data_type) or types.is_large_binary(data_type):
        if isinstance(value, bytes | str):
            raw = _utf8(value) if isinstance(value, str) else value
            return EqualRange(raw, raw)
    elif types.is_date32(data_type):
        moment = _moment(value)
        if moment is not None:
            result = _clamped(-(-moment // _DAY), moment // _DAY, -(2**31), 2**31 - 1)
    elif types.is_timestamp(data_type):
        moment = _moment(value)
        if moment is not None:
            unit = UNITS[data_type.unit]
            result = _clamped(-(-moment // unit), moment // unit, -(2**63), 2**63 - 1)
    else:
        raise InvalidArgumentError(
            f"column {column} of type {data_type} can only be asked IS [NOT] NULL"
        )
    if result is None:
        raise InvalidArgumentError(
            f"column {column} of type {data_type} cannot be compared with {_named(value)}"
        )
    return result


def _named(value: object) -> str:
    if isinstance(value, Moment):
        return "a timestamp"
    text = repr(value)
    return f"{type(value).__name__} {text[:40]}"


def _clamped(first: int, last: int, low: int, high: int) -> EqualRange:
    return EqualRange(
        None if first > high else max(first, low),
        None if last < low else min(last, high),
    )


def range_of(data_type: pa.DataType) -> tuple[int, int]:
    """The least and greatest value of an integer or decimal type, in its physical form."""
    if pa.types.is_decimal(data_type):
        most: int = 10**data_type.precision - 1
        return -most, most
    bits = data_type.bit_width
    if pa.types.is_unsigned_integer(data_type):
        return 0, 2**bits - 1
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


# --- numbers ---------------------------------------------------------------------------------


def parse_number(text: str) -> int | Decimal | None:
    """The exact number that a text spells: digits, a point, an exponent, a sign; or None.

    Nothing else is a number here, whatever Python's own parsers take: no underscores, no digits of
    other scripts, no hexadecimal, no words.

    Raises:
        InvalidArgumentError: more digits, or a greater exponent, than any column's range.
    """
    text = text.strip(_BLANKS)
    if _NUMBER.fullmatch(text) is None:
        return None
    if len(text) > MAX_DIGITS:
        raise InvalidArgumentError("a number of the filter has too many digits")
    if text.isdecimal():
        return int(text)
    exponent = text.lower().rpartition("e")
    if exponent[1] and len(exponent[2].lstrip("+-0")) > len(str(MAX_DIGITS)):
        raise InvalidArgumentError(f"{text[:40]!r} is beyond every column's range")
    number = Decimal(text)
    if number and abs(number.adjusted()) > MAX_DIGITS:
        raise InvalidArgumentError(f"{text[:40]!r} is beyond every column's range")
    return number or Decimal(0)


def parse_double(text: str) -> float | int | Decimal | None:
    """As `parse_number`, and ``NaN``, ``Infinity`` and ``inf`` in any case, with a sign."""
    match = _NOT_FINITE.fullmatch(text.strip(_BLANKS))
    if match is None:
        return parse_number(text)
    if match[2] is None:
        return math.nan
    return -math.inf if match[1] == "-" else math.inf


def to_double(number: float | Decimal) -> float:
    """The nearest DOUBLE; infinity beyond its range, as IEEE 754 rounds."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def to_float32(number: float | Decimal) -> float:
    """The nearest FLOAT, as a double."""
    value = to_double(number)
    try:
        result: float = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)
    return result


def rounded(
    number: float | Decimal | None, rounding: Callable[[float | Decimal], float]
) -> float | None:
    """A number as a DOUBLE or FLOAT; None if it is written in digits that would be infinity or zero there."""
    if number is None:
        return None
    value = rounding(number)
    changed = math.isinf(value) or (value == 0) != (number == 0)
    return None if changed and isinstance(number, Decimal | int) else value


def _number(value: object, *, approximate: bool) -> float | Decimal | None:
    """A literal as a number; text may spell one."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float | Decimal):
        return value
    if isinstance(value, str):
        if not approximate:
            return parse_number(value)
        number = parse_double(value)
        return None if rounded(number, to_double) is None else number
    return None


def _float_range(number: float | Decimal, data_type: pa.DataType) -> EqualRange | None:
    """Columns are compared as doubles, which hold every float.

    An exact number takes the column's own type first, so that what was written as 0.1 is found by
    0.1 in a FLOAT as in a DOUBLE; a DOUBLE literal is compared as it is.
    """
    if not isinstance(number, float):
        narrow = not pa.types.is_float64(data_type)
        nearest = to_float32(number) if narrow else to_double(number)
        if math.isinf(nearest):
            # Beyond the range is above every number, and below infinity, which columns hold.
            greatest = 3.4028234663852886e38 if narrow else math.nextafter(math.inf, 0.0)
            if number > 0:
                return EqualRange(math.inf, greatest)
            return EqualRange(-greatest, -math.inf)
        return EqualRange(nearest, nearest)
    return None if math.isnan(number) else EqualRange(number, number)


def _as_doubles(number: float, scale: int, low: int, high: int) -> EqualRange | None:
    """The exact values that become a DOUBLE when they are converted to one."""
    if math.isnan(number):
        return None
    if math.isinf(number):
        return EqualRange(None, high) if number > 0 else EqualRange(low, None)
    exact = Fraction(number)
    below = (exact + Fraction(_neighbour(number, -math.inf))) / 2 if number != -_MOST else exact
    above = (exact + Fraction(_neighbour(number, math.inf))) / 2 if number != _MOST else exact
    factor = 10**scale
    first, last = math.ceil(below * factor), math.floor(above * factor)
    if not _even(number):
        # Halfway between two doubles becomes the even one.
        first += first == below * factor
        last -= last == above * factor
    return _clamped(first, last, low, high)


_MOST = math.nextafter(math.inf, 0.0)


def _neighbour(number: float, towards: float) -> float:
    return math.nextafter(number, towards)


def _even(number: float) -> bool:
    return int.from_bytes(struct.pack("<d", number), "little") % 2 == 0


def _scaled(number: int | float | Decimal, scale: int) -> int | Decimal:
    """The exact number times ten to the scale, exactly."""
    if isinstance(number, int):
        return number * 10**scale
    assert isinstance(number, Decimal)
    sign, digits, exponent = number.as_tuple()
    return Decimal((sign, digits, int(exponent) + scale))


# --- times and texts -------------------------------------------------------------------------


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError("a text of the filter is not valid Unicode") from error


def _moment(value: object) -> int | None:
    """A literal as nanoseconds since the epoch; text may spell a date or timestamp."""
    if isinstance(value, Moment):
        return value.nanoseconds
    if isinstance(value, str):
        parsed = parse_moment(value)
        return None if parsed is None else parsed.nanoseconds
    if isinstance(value, dt.date):
        return (value - _EPOCH_DATE).days * _DAY
    return None


def parse_date(text: str) -> dt.date | None:
    """``YYYY-MM-DD``, or None."""
    match = _DATE.fullmatch(text.strip(_BLANKS))
    if match is None:
        return None
    try:
        return dt.date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        return None


def parse_moment(text: str) -> Moment | None:
    """``YYYY-MM-DD[ HH:MM[:SS[.fffffffff]][zone]]``, or None.

    The zone is ``Z``, ``UTC``, ``GMT`` or an offset of hours and minutes; without one it is UTC.
    """
    match = _TIME.fullmatch(text.strip(_BLANKS))
    if match is None:
        return None
    date = parse_date(match[1])
    hour, minute, second = (int(match[i] or 0) for i in (2, 3, 4))
    offset_hour, offset_minute = int(match[8] or 0), int(match[9] or 0)
    if date is None or hour > 23 or minute > 59 or second > 59:
        return None
    if offset_minute > 59 or offset_hour * 60 + offset_minute > 18 * 60:
        return None
    offset = (offset_hour * 60 + offset_minute) * 60 * (-1 if match[7] == "-" else 1)
    days = (date - _EPOCH_DATE).days
    seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset
    fraction = int((match[5] or "").ljust(9, "0"))
    return Moment(seconds * UNITS["s"] + fraction)


def date_of(moment: Moment) -> dt.date:
    """The day that a moment falls on, in UTC.

    Raises:
        InvalidArgumentError: before year 1 or after year 9999.
    """
    try:
        return _EPOCH_DATE + dt.timedelta(days=moment.nanoseconds // _DAY)
    except OverflowError as error:
        raise InvalidArgumentError("a date of the filter is outside the years 1 to 9999") from error


def moment_of(date: dt.date) -> Moment:
    """The beginning of a day, in UTC."""
    return Moment((date - _EPOCH_DATE).days * _DAY)


# --- back to Arrow ---------------------------------------------------------------------------


def scalar_of(physical: Physical, data_type: pa.DataType) -> pa.Scalar:
    """An Arrow scalar of a column's type from a value in its physical form."""
    return array_of([physical], data_type)[0]


def array_of(physical: list[Physical], data_type: pa.DataType) -> pa.Array:
    """An Arrow array of a column's type, doubles for floats, from values in physical form."""
    types = pa.types
    if types.is_decimal(data_type):
        return pa.array([_unscaled(value, data_type.scale) for value in physical], data_type)
    if types.is_timestamp(data_type):
        return pa.array(physical, pa.int64()).cast(data_type)
    if types.is_date32(data_type):
        return pa.array(physical, pa.int32()).cast(data_type)
    if types.is_floating(data_type):
        return pa.array(physical, pa.float64())
    try:
        return pa.array(physical, data_type)
    except UnicodeEncodeError as error:
        raise InvalidArgumentError("a text of the filter is not valid Unicode") from error


@functools.lru_cache(maxsize=1024)  # a number each
def _unscaled(value: int, scale: int) -> Decimal:
    digits = tuple(int(digit) for digit in str(abs(value)))
    return Decimal((int(value < 0), digits, -scale))
