"""Literals in a predicate's syntax tree: numbers, text, times, bytes, with a sign, suffix or CAST."""

from __future__ import annotations

import datetime as dt
import enum
import math
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation

from fletching.errors import InvalidArgumentError
from fletching.sql.parsing.dialect import LITERALS, exp
from fletching.sql.predicates.literals import (
    Moment,
    Value,
    date_of,
    moment_of,
    parse_date,
    parse_double,
    parse_moment,
    parse_number,
    rounded,
    to_double,
    to_float32,
)

__all__ = ["is_literal", "literal_of", "literals_of", "shown", "unwrapped"]


class _NoValue(enum.Enum):
    """What a node that is no literal means."""

    NO_VALUE = enum.auto()


_NO_VALUE = _NoValue.NO_VALUE


def unwrapped(node: exp.Expr) -> exp.Expr:
    """The node without parentheses around it."""
    while isinstance(node, exp.Paren):
        node = node.this
    return node


def shown(node: exp.Expr) -> str:
    """A piece of SQL for a message."""
    try:
        text = node.sql(dialect="hive") if hasattr(node, "sql") else str(node)
    except (ValueError, RecursionError):
        text = type(node).__name__
    return f"{text[:80]!r}"


def literal_of(node: exp.Expr) -> Value:
    """A literal's value.

    Raises:
        InvalidArgumentError: the node is no literal, or one that means nothing.
    """
    node = unwrapped(node)
    value = _literal_or_nothing(node)
    if value is not _NO_VALUE:
        return value
    if isinstance(node, exp.Concat):
        raise InvalidArgumentError(
            "two texts stand side by side; a quote inside a text is written with a backslash"
            " (escape): 'O\\'Brien'"
        )
    raise InvalidArgumentError(f"{shown(node)} is neither a column nor a literal")


def is_literal(node: exp.Expr) -> bool:
    """Whether a node is a literal, well-formed or not."""
    node = unwrapped(node)
    while isinstance(node, exp.Neg | exp.Cast | exp.TryCast):
        node = unwrapped(node.this)
    return isinstance(node, exp.Null | exp.Boolean | exp.HexString | exp.Literal | exp.Concat)


def literals_of(node: exp.Expr) -> list[Value]:
    """The values of an IN list.

    Raises:
        InvalidArgumentError: one of them is no literal.
    """
    plain = node.meta.get(LITERALS)
    if plain is not None:
        # The parser's short way through long lists: (text, whether it is quoted) pairs.
        return [text if quoted else number_of(text) for text, quoted in plain]
    return [literal_of(item) for item in node.expressions]


def number_of(text: str) -> float | int | Decimal:
    """A numeric literal: exact, or with an exponent a DOUBLE.

    Raises:
        InvalidArgumentError: it is no number, or beyond every column's range.
    """
    number = parse_number(text)
    if number is None:
        raise InvalidArgumentError(f"{text[:40]!r} is no number")
    if isinstance(number, Decimal) and "e" in text.lower():
        double = to_double(number)
        # What is beyond a DOUBLE's range stays exact: it is above, or nearer to zero than, any.
        return number if math.isinf(double) else double
    return number


def _literal_or_nothing(node: exp.Expr) -> Value | _NoValue:
    match node:
        case exp.Null():
            return None
        case exp.Boolean():
            return bool(node.this)
        case exp.HexString():
            return _hex(str(node.this))
        case exp.National():
            return str(node.this)
        case exp.Literal():
            return node.this if node.is_string else number_of(node.this)
        case exp.Neg():
            value = _literal_or_nothing(unwrapped(node.this))
            if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
                return -value
            return _NO_VALUE
        case exp.Cast() | exp.TryCast():
            return _cast(node)
    return _NO_VALUE


def _hex(text: str) -> bytes:
    if len(text) % 2 or not text.isascii() or not all(c in "0123456789abcdefABCDEF" for c in text):
        raise InvalidArgumentError("X'..' needs pairs of hexadecimal digits")
    return bytes.fromhex(text)


# --- CAST ------------------------------------------------------------------------------------


def _cast(node: exp.Cast | exp.TryCast) -> Value | _NoValue:
    """``DATE '..'``, ``TIMESTAMP '..'``, CAST of a literal, and numbers with a type's suffix."""
    value = _literal_or_nothing(unwrapped(node.this))
    if value is _NO_VALUE or value is None:
        return value
    convert = _CASTS.get(node.args["to"].this)
    result = None if convert is None else convert(value, node.args["to"])
    if result is None:
        raise InvalidArgumentError(f"{shown(node)} is not a value")
    return result


def _as_number(value: Value) -> float | int | Decimal | None:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        return parse_double(value)
    return value if isinstance(value, int | float | Decimal) else None


def _whole(bits: int) -> Callable[[Value, exp.DataType], int | None]:
    """Whole numbers of a width; what has a fraction is refused, since engines round differently."""

    def convert(value: Value, _type: exp.DataType) -> int | None:
        number = _as_number(value)
        if number is None or (isinstance(number, float) and not math.isfinite(number)):
            return None
        if number != int(number) or not -(1 << (bits - 1)) <= number < 1 << (bits - 1):
            return None
        return int(number)

    return convert


def _double(value: Value, _type: exp.DataType) -> float | None:
    return rounded(_as_number(value), to_double)


def _float(value: Value, _type: exp.DataType) -> float | None:
    return rounded(_as_number(value), to_float32)


def _decimal(value: Value, data_type: exp.DataType) -> Decimal | None:
    number = _as_number(value)
    if number is None or (isinstance(number, float) and not math.isfinite(number)):
        return None
    # A double becomes the number that it is written as.
    exact = Decimal(repr(number)) if isinstance(number, float) else Decimal(number)
    sizes = [int(item.name) for item in data_type.expressions if item.name.isdecimal()]
    if not sizes:
        # DECIMAL alone, and the suffix BD, keep every digit.
        return exact
    precision, scale = (*sizes, 0)[:2]
    if precision > 76 or scale > precision:
        return None
    try:
        rounded = exact.quantize(
            Decimal((0, (1,), -scale)), ROUND_HALF_UP, Context(prec=precision or 1)
        )
    except InvalidOperation:
        return None
    return rounded


def _text(value: Value, data_type: exp.DataType) -> str | None:
    match value:
        case str():
            result = value
        case bool():
            result = "true" if value else "false"
        case int():
            result = str(value)
        case Decimal():
            result = format(value, "f")
        case dt.date():
            result = value.isoformat()
        case _:
            return None
    sizes = [int(item.name) for item in data_type.expressions if item.name.isdecimal()]
    return result[: sizes[0]] if sizes else result


def _binary(value: Value, _type: exp.DataType) -> bytes | None:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError:
            return None
    return None


def _boolean(value: Value, _type: exp.DataType) -> bool | None:
    match value:
        case bool():
            return value
        case str():
            return {"true": True, "false": False}.get(value.strip(" \t\n\r").lower())
        case int() | Decimal():
            return value != 0
    return None


def _date(value: Value, _type: exp.DataType) -> dt.date | None:
    match value:
        case str():
            moment = parse_moment(value)
            if moment is None:
                return parse_date(value)
            # The day that is written, whatever the zone behind it.
            return parse_date(value.strip().split()[0].split("T")[0])
        case Moment():
            return date_of(value)
        case dt.date():
            return value
    return None


def _moment(value: Value, _type: exp.DataType) -> Moment | None:
    match value:
        case str():
            return parse_moment(value)
        case Moment():
            return value
        case dt.date():
            return moment_of(value)
    return None


_TYPES = exp.DataType.Type
_CASTS: dict[exp.DType, Callable[[Value, exp.DataType], Value]] = {
    _TYPES.TINYINT: _whole(8),
    _TYPES.SMALLINT: _whole(16),
    _TYPES.INT: _whole(32),
    _TYPES.BIGINT: _whole(64),
    _TYPES.DOUBLE: _double,
    _TYPES.FLOAT: _float,
    _TYPES.DECIMAL: _decimal,
    _TYPES.TEXT: _text,
    _TYPES.VARCHAR: _text,
    _TYPES.CHAR: _text,
    _TYPES.BINARY: _binary,
    _TYPES.VARBINARY: _binary,
    _TYPES.BOOLEAN: _boolean,
    _TYPES.DATE: _date,
    _TYPES.TIMESTAMP: _moment,
    _TYPES.DATETIME: _moment,
    _TYPES.TIMESTAMPNTZ: _moment,
}
