"""Partition columns: their types, and values between specs, the catalog and Arrow arrays.

Values are text everywhere; those of integer and date columns have one spelling (``7``, not ``07``),
so that a static ``pt=07`` and a dynamic integer 7 name the same partition.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence

import pyarrow as pa

from fletching.errors import InvalidArgumentError, UsageError
from fletching.protocol.http.numbers import parse_integer
from fletching.protocol.types.table_schema import TypeCode, arrow_field, format_type, parse_type
from fletching.types import PartitionSpec

__all__ = [
    "MAX_VALUE_BYTES",
    "canonical_type",
    "canonical_value",
    "full_values",
    "matching_values",
    "parse_date",
    "partition_fields",
    "spec_of",
]

MAX_VALUE_BYTES = 1024
"""UTF-8 bytes in one partition value."""

_INTEGERS = {
    TypeCode.TINYINT: 8,
    TypeCode.SMALLINT: 16,
    TypeCode.INT: 32,
    TypeCode.BIGINT: 64,
}
_TEXTS = {TypeCode.STRING, TypeCode.VARCHAR, TypeCode.CHAR}
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f]")

Columns = Sequence[tuple[str, str]]
"""(name, ODPS type) of each partition column."""


def canonical_type(name: str, type_text: str) -> str:
    """The ODPS type of a partition column in its one spelling.

    Raises:
        InvalidArgumentError: not an ODPS type, or not one that partition columns may have.
    """
    try:
        odps_type = parse_type(type_text)
    except UsageError as error:
        raise InvalidArgumentError(f"partition column {name}: {error.message}") from error
    if odps_type.code not in _INTEGERS and odps_type.code not in _TEXTS | {TypeCode.DATE}:
        raise InvalidArgumentError(
            f"partition column {name} is {type_text}; partition columns are texts, integers or dates"
        )
    return format_type(odps_type)


def canonical_value(name: str, type_text: str, value: str) -> str:
    """A partition value in its one spelling.

    Raises:
        InvalidArgumentError: empty, too long, with control characters, or not of the type.
    """
    code = parse_type(type_text).code
    if code in _INTEGERS:
        number, bound = parse_integer(value), 1 << (_INTEGERS[code] - 1)
        if number is None or not -bound <= number < bound:
            raise _invalid(name, value, f"not a {type_text}")
        return str(number)
    if code is TypeCode.DATE:
        day = parse_date(value)
        if day is None:
            raise _invalid(name, value, "not a date such as 2026-01-31")
        return day.isoformat()
    if not value:
        raise _invalid(name, value, "empty")
    if len(value.encode()) > MAX_VALUE_BYTES:
        raise _invalid(name, value, f"longer than {MAX_VALUE_BYTES} bytes")
    if _FORBIDDEN.search(value):
        raise _invalid(name, value, "it has control characters")
    if "'" in value and '"' in value:
        raise _invalid(name, value, "it has both kinds of quotes, which no specification can write")
    return value


def _invalid(name: str, value: str, why: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"partition value {value[:80]!r} of column {name} is not valid: {why}"
    )


def matching_values(columns: Columns, spec: PartitionSpec) -> dict[int, str]:
    """Column number to value, for the columns that a specification names.

    Raises:
        InvalidArgumentError: a name is not a partition column, or a value is not of its type.
    """
    numbers = {name.casefold(): number for number, (name, _) in enumerate(columns)}
    values: dict[int, str] = {}
    for name, value in spec:
        number = numbers.get(name.casefold())
        if number is None:
            known = ", ".join(name for name, _ in columns) or "none"
            raise InvalidArgumentError(
                f"{name} is not a partition column; the table's are: {known}"
            )
        if number in values:
            raise InvalidArgumentError(f"the partition names column {name} twice")
        values[number] = canonical_value(*columns[number], value)
    return values


def full_values(columns: Columns, spec: PartitionSpec) -> tuple[str, ...]:
    """The values of a specification that names every partition column, in the columns' order.

    Raises:
        InvalidArgumentError: it names others or not all.
    """
    values = matching_values(columns, spec)
    if len(values) != len(columns):
        missing = ", ".join(columns[i][0] for i in range(len(columns)) if i not in values)
        raise InvalidArgumentError(f"partition {str(spec)!r} lacks a value for: {missing or '-'}")
    return tuple(values[number] for number in range(len(columns)))


def spec_of(columns: Columns, values: Sequence[str] | Mapping[int, str]) -> PartitionSpec:
    """The specification of values, in the columns' order."""
    if not isinstance(values, Mapping):
        return PartitionSpec(
            tuple((name, value) for (name, _), value in zip(columns, values, strict=False))
        )
    return PartitionSpec(tuple((columns[number][0], values[number]) for number in sorted(values)))


def partition_fields(columns: Columns) -> list[pa.Field]:
    """Arrow fields of partition columns, as dynamic writes bring them."""
    return [arrow_field(name, parse_type(kind)) for name, kind in columns]


_DATE = re.compile(r"([0-9]{4})-?([0-9]{2})-?([0-9]{2})")


def parse_date(text: str) -> dt.date | None:
    """A day written ``2026-01-31`` or ``20260131``, or None.

    ``date.fromisoformat`` also takes weeks, and digits of other scripts: a value that one reader takes and
    another refuses is two values.
    """
    match = _DATE.fullmatch(text)
    if match is None or text.count("-") not in {0, 2}:
        return None
    try:
        return dt.date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        return None
