"""Literals of a predicate as values of the column that they are compared with, without rounding.

A comparison is exact: a literal that a column's type cannot hold is replaced by its nearest
neighbours in the type (``a > 1.5`` on integers is ``a > 1``), never rounded.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
import re
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from fletching.errors import InvalidArgumentError

__all__ = ["Place", "Value", "place_of", "scalar_of"]

Value = bool | int | float | Decimal | str | bytes | dt.date | dt.datetime | None
"""A literal as SQL meant it; ``dt.datetime`` is a wall clock and its nanoseconds go with it."""

MAX_DIGITS = 400
"""Digits of a numeric literal: double's range is below."""


@dataclasses.dataclass(frozen=True, slots=True)
class Moment:
    """A timestamp literal in nanoseconds since the epoch."""

    nanoseconds: int


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where a literal lies among a type's values, in the type's physical form.

    ``floor`` is the greatest value at or below the literal, ``ceiling`` the least at or above it;
    they are the same when the type holds the literal. None means there is none on that side.
    """

    floor: Any
    ceiling: Any

    @property
    def exact(self) -> bool:
        """Whether the type holds the literal."""
        return self.floor is not None and self.floor == self.ceiling


_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_EPOCH_DATE = dt.date(1970, 1, 1)
_DATE = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})", re.ASCII)
_TIME = re.compile(
    r"(\d{4}-\d{1,2}-\d{1,2})(?:[ T](\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?)?", re.ASCII
)
_UNITS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}


def place_of(value: Value | Moment, data_type: Any, column: str) -> Place:
    """Where a literal lies among the values of a column's type.

    Args:
        value: the literal; not None.
        data_type: the column's Arrow type.
        column: its name, for the message.

    Raises:
        InvalidArgumentError: the two cannot be compared.
    """
    types = pa.types
    if types.is_boolean(data_type):
        if isinstance(value, bool):
            return Place(value, value)
    elif types.is_integer(data_type):
        number = _number(value)
        if number is not None:
            low, high = _integer_range(data_type)
            return _clamped(math.floor(number), math.ceil(number), low, high)
    elif types.is_floating(data_type):
        number = _number(value)
        if number is not None:
            # Columns are compared as doubles, which hold every float.
            return _double_place(number)
    elif types.is_decimal(data_type):
        number = _number(value)
        if number is not None:
            scaled = _scaled(number, data_type.scale)
            most = 10**data_type.precision - 1
            return _clamped(math.floor(scaled), math.ceil(scaled), -most, most)
    elif types.is_string(data_type) or types.is_large_string(data_type):
        if isinstance(value, str):
            return Place(value, value)
    elif types.is_binary(data_type) or types.is_large_binary(data_type):
        if isinstance(value, bytes | str):
            raw = value.encode() if isinstance(value, str) else value
            return Place(raw, raw)
    elif types.is_date32(data_type):
        moment = _moment(value)
        if moment is not None:
            day = _UNITS["s"] * 86_400
            return _clamped(moment // day, -(-moment // day), -(2**31), 2**31 - 1)
    elif types.is_timestamp(data_type):
        moment = _moment(value)
        if moment is not None:
            unit = _UNITS[data_type.unit]
            return _clamped(moment // unit, -(-moment // unit), -(2**63), 2**63 - 1)
    else:
        raise InvalidArgumentError(
            f"column {column} of type {data_type} can only be asked IS [NOT] NULL"
        )
    raise InvalidArgumentError(
        f"column {column} of type {data_type} cannot be compared with {_named(value)}"
    )


def _named(value: object) -> str:
    if isinstance(value, Moment):
        return "a timestamp"
    text = repr(value)
    return f"{type(value).__name__} {text[:40]}"


def _clamped(floor: int, ceiling: int, low: int, high: int) -> Place:
    return Place(
        floor if low <= floor <= high else (high if floor > high else None),
        ceiling if low <= ceiling <= high else (low if ceiling < low else None),
    )


def _integer_range(data_type: Any) -> tuple[int, int]:
    bits = data_type.bit_width
    if pa.types.is_unsigned_integer(data_type):
        return 0, 2**bits - 1
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def _number(value: object) -> int | Decimal | None:
    """A literal as an exact number; text may spell one."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | Decimal):
        return value
    if isinstance(value, str) and len(value) <= MAX_DIGITS:
        try:
            number = Decimal(value.strip())
        except InvalidOperation:
            return None
        return number if number.is_finite() and abs(number.adjusted()) <= MAX_DIGITS else None
    return None


def _scaled(number: int | Decimal, scale: int) -> int | Decimal:
    """The number times ten to the scale, exactly."""
    if isinstance(number, int):
        return number * 10**scale
    sign, digits, exponent = number.as_tuple()
    return Decimal((sign, digits, int(exponent) + scale))


def _double_place(number: int | Decimal) -> Place:
    try:
        nearest = float(number)
    except OverflowError:
        nearest = math.inf if number > 0 else -math.inf
    if math.isinf(nearest):
        most = math.nextafter(math.inf, 0.0)
        # Infinity itself is a value that columns hold.
        return Place(most, math.inf) if number > 0 else Place(-math.inf, -most)
    exact = Decimal(nearest)
    if exact == number:
        return Place(nearest, nearest)
    if exact < number:
        return Place(nearest, math.nextafter(nearest, math.inf))
    return Place(math.nextafter(nearest, -math.inf), nearest)


def _moment(value: object) -> int | None:
    """A literal as nanoseconds since the epoch; text may spell a date or timestamp."""
    if isinstance(value, Moment):
        return value.nanoseconds
    if isinstance(value, str):
        parsed = parse_moment(value)
        return None if parsed is None else parsed.nanoseconds
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return (value - _EPOCH_DATE).days * 86_400 * _UNITS["s"]
    return None


def parse_date(text: str) -> dt.date | None:
    """``YYYY-MM-DD``, or None."""
    match = _DATE.fullmatch(text.strip())
    if match is None:
        return None
    try:
        return dt.date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        return None


def parse_moment(text: str) -> Moment | None:
    """``YYYY-MM-DD[ HH:MM[:SS[.fffffffff]]]``, or None."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        return None
    date = parse_date(match[1])
    hour, minute, second = (int(match[i] or 0) for i in (2, 3, 4))
    if date is None or hour > 23 or minute > 59 or second > 59:
        return None
    days = (date - _EPOCH_DATE).days
    seconds = days * 86_400 + hour * 3600 + minute * 60 + second
    fraction = int((match[5] or "").ljust(9, "0"))
    return Moment(seconds * _UNITS["s"] + fraction)


def scalar_of(physical: Any, data_type: Any) -> Any:
    """An Arrow scalar of a column's type from a value in its physical form."""
    if pa.types.is_decimal(data_type):
        digits = tuple(int(digit) for digit in str(abs(physical)))
        return pa.scalar(Decimal((int(physical < 0), digits, -data_type.scale)), data_type)
    if pa.types.is_timestamp(data_type):
        return pa.scalar(physical, pa.int64()).cast(data_type)
    if pa.types.is_date32(data_type):
        return pa.scalar(physical, pa.int32()).cast(data_type)
    if pa.types.is_floating(data_type):
        return pa.scalar(physical, pa.float64())
    return pa.scalar(physical, data_type)
