"""Literals in a predicate's syntax tree: numbers, text, times, bytes, with a sign, suffix or CAST."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from fletching.errors import InvalidArgumentError
from fletching.sql.dialect import exp
from fletching.sql.literals import Moment, Value, parse_date, parse_moment

__all__ = ["literal_of", "shown", "unwrapped"]

_NO_VALUE = object()


def unwrapped(node: Any) -> Any:
    """The node without parentheses around it."""
    while isinstance(node, exp.Paren):
        node = node.this
    return node


def shown(node: Any) -> str:
    """A piece of SQL for a message."""
    text = node.sql(dialect="hive") if hasattr(node, "sql") else str(node)
    return f"{text[:80]!r}"


def literal_of(node: Any) -> Value | Moment:
    """A literal's value.

    Raises:
        InvalidArgumentError: the node is no literal.
    """
    value = _literal_or_nothing(node)
    if value is _NO_VALUE:
        raise InvalidArgumentError(f"{shown(node)} is neither a column nor a literal")
    result: Value | Moment = value
    return result


def _literal_or_nothing(node: Any) -> Any:
    match node:
        case exp.Null():
            return None
        case exp.Boolean():
            return bool(node.this)
        case exp.HexString():
            return _hex(str(node.this))
        case exp.Literal():
            return node.this if node.is_string else _decimal(node.this)
        case exp.Neg():
            value = _literal_or_nothing(unwrapped(node.this))
            return -value if isinstance(value, int | Decimal) and value is not True else _NO_VALUE
        case exp.Cast() | exp.TryCast():
            return _cast(node)
    return _NO_VALUE


def _decimal(text: str) -> int | Decimal:
    if len(text) > 400:
        raise InvalidArgumentError("a number of the filter has too many digits")
    if text.isdigit():
        return int(text)
    try:
        number = Decimal(text)
    except ArithmeticError as error:
        raise InvalidArgumentError(f"{text[:40]!r} is no number") from error
    if abs(number.adjusted()) > 400:
        raise InvalidArgumentError(f"{text[:40]!r} is beyond every column's range")
    return number


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise InvalidArgumentError("X'..' needs pairs of hexadecimal digits") from error


def _cast(node: Any) -> Any:
    """``DATE '..'``, ``TIMESTAMP '..'``, CAST of a literal, and numbers with a type's suffix."""
    value = _literal_or_nothing(unwrapped(node.this))
    if value is _NO_VALUE or value is None:
        return value
    kind = node.to.this
    types = exp.DataType.Type
    if kind is types.DATE and isinstance(value, str):
        moment = parse_moment(value)
        date = None if moment is None else parse_date(value.strip().split()[0].split("T")[0])
        if date is not None:
            return date
    elif kind in {types.TIMESTAMP, types.DATETIME, types.TIMESTAMPNTZ} and isinstance(value, str):
        moment = parse_moment(value)
        if moment is not None:
            return moment
    elif kind in {types.TEXT, types.VARCHAR, types.CHAR} and isinstance(value, str):
        return value
    elif kind in {types.BINARY, types.VARBINARY} and isinstance(value, str | bytes):
        return value.encode() if isinstance(value, str) else value
    elif kind == types.BOOLEAN and isinstance(value, bool):
        return value
    elif kind in _NUMERIC_TYPES and isinstance(value, int | Decimal | str):
        number = _decimal(value.strip()) if isinstance(value, str) else value
        whole = isinstance(number, int) or number == number.to_integral_value()
        if kind not in _WHOLE_TYPES or whole:
            return number
    raise InvalidArgumentError(f"{shown(node)} is not a value")


_WHOLE_TYPES = frozenset(
    {
        exp.DataType.Type.TINYINT,
        exp.DataType.Type.SMALLINT,
        exp.DataType.Type.INT,
        exp.DataType.Type.BIGINT,
    }
)
_NUMERIC_TYPES = _WHOLE_TYPES | {
    exp.DataType.Type.DECIMAL,
    exp.DataType.Type.DOUBLE,
    exp.DataType.Type.FLOAT,
}
