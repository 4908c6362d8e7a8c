"""DECIMAL arithmetic that DuckDB does not have: exact quotients, and products of many digits.

DuckDB divides DECIMALs as DOUBLEs and keeps every digit behind the point of a product, so that little is
left before it. Here a DECIMAL becomes a whole number of its last digits (a HUGEINT of 128 bits), the
division is done by hand, a few digits at a time, and the last digit is rounded half away from zero.
Beyond 128 bits is an error of DuckDB's, never another value.
"""

from __future__ import annotations

from fletching.sql.functions.duck_forms import let
from fletching.sql.functions.sql_types import (
    MAX_SCALE,
    SqlType,
    average_type,
    decimal,
    decimal_of,
    quotient_type,
)

__all__ = ["average", "product", "quotient"]

_STEP = 6
"""Digits of a quotient per step: a remainder below 1e32 times 10 ** 6 fits in 128 bits."""


def _digits(value: str, given: SqlType, scale: int) -> str:
    """A number as a HUGEINT of units of its ``scale``-th digit behind the point."""
    given = decimal_of(given)
    if not given.scale:
        made = f"CAST({value} AS HUGEINT)"
        return f"({made} * {_power(scale)})" if scale else made
    if given.precision + given.scale < 38:
        # In 38 digits: DuckDB multiplies in 64 bits where both sides fit in them, and fails beyond.
        wide = f"CAST({value} AS DECIMAL(38, {given.scale}))"
        unit = f"CAST('{10**given.scale}' AS DECIMAL({given.scale + 1}, 0))"
        made = f"CAST({wide} * {unit} AS HUGEINT)"
    else:
        text = f"CAST(CAST({value} AS DECIMAL({given.precision}, {given.scale})) AS VARCHAR)"
        made = f"CAST(replace({text}, '.', '') AS HUGEINT)"
    return f"({made} * {_power(scale - given.scale)})" if scale > given.scale else made


def _power(digits: int) -> str:
    return f"CAST('{10**digits}' AS HUGEINT)"


def _from_digits(value: str, wanted: SqlType) -> str:
    """The reverse of `_digits`."""
    if not wanted.scale:
        return f"CAST({value} AS {wanted.duck()})"
    power = _power(wanted.scale)
    size = wanted.scale
    unit = "0." + "0" * (size - 1) + "1"
    behind = (
        f"CAST({value} % {power} AS DECIMAL({size}, 0)) * CAST('{unit}' AS DECIMAL({size}, {size}))"
    )
    return f"CAST(CAST({value} // {power} AS {wanted.duck()}) + {behind} AS {wanted.duck()})"


def quotient(left: str, left_type: SqlType, right: str, right_type: SqlType) -> str:
    """One DECIMAL divided by another; null by zero."""
    left_type, right_type = decimal_of(left_type), decimal_of(right_type)
    wanted = quotient_type(left_type, right_type)
    return _divided(
        _digits(left, left_type, left_type.scale),
        f"nullif({_digits(right, right_type, right_type.scale)}, 0)",
        wanted.scale - left_type.scale + right_type.scale,
        wanted,
    )


def average(value: str, given: SqlType) -> str:
    """The mean of DECIMALs: a template of an aggregate."""
    wanted = average_type(given)
    total = SqlType("DECIMAL", 38, given.scale)
    return _divided(
        _digits(f"sum({{distinct}}{value}){{over}}", total, given.scale),
        f"CAST(nullif(count({{distinct}}{value}){{over}}, 0) AS HUGEINT)",
        wanted.scale - given.scale,
        wanted,
    )


def _divided(left: str, right: str, digits: int, wanted: SqlType) -> str:
    """``left * 10 ** digits / right`` of HUGEINTs, rounded, as a DECIMAL."""
    whole, rest = "(abs(a_) // abs(b_))", "(abs(a_) % abs(b_))"
    while digits > 0:
        step = min(digits, _STEP)
        grown = f"({rest} * {_power(step)})"
        whole = f"({whole} * {_power(step)} + {grown} // abs(b_))"
        rest = f"({grown} % abs(b_))"
        digits -= step
    rounded = f"({whole} + CASE WHEN {rest} >= abs(b_) - {rest} THEN 1 ELSE 0 END)"
    signed = f"({rounded} * CASE WHEN (a_ < 0) <> (b_ < 0) THEN -1 ELSE 1 END)"
    return let(["a_", "b_"], [left, right], let(["q_"], [signed], _from_digits("q_", wanted)))


def product(left: str, left_type: SqlType, right: str, right_type: SqlType) -> str:
    """A product of DECIMALs with as many digits behind the point as there may be."""
    left_type, right_type = decimal_of(left_type), decimal_of(right_type)
    scale = left_type.scale + right_type.scale
    wanted = decimal(left_type.precision + right_type.precision, scale)
    if scale <= MAX_SCALE or left_type.precision + right_type.precision <= 38:
        if max(left_type.precision, right_type.precision) <= 18 < wanted.precision:
            # DuckDB keeps to 64 bits where both fit in them, and fails beyond.
            left = f"CAST({left} AS DECIMAL({min(wanted.precision, 38)}, {left_type.scale}))"
        made = f"({left} * {right})"
        return made if scale <= MAX_SCALE else f"CAST({made} AS {wanted.duck()})"
    # By the digits before and behind each point: every part fits in 128 bits, as far as the result does.
    unit = _power(MAX_SCALE)
    behind = f"((a_ % {unit}) * (b_ % {unit}))"
    half = f"(sign({behind})::HUGEINT * {_power(MAX_SCALE)} // 2)"
    parts = (
        f"((a_ // {unit}) * b_ + (a_ % {unit}) * (b_ // {unit}) + ({behind} + {half}) // {unit})"
    )
    values = [_digits(left, left_type, MAX_SCALE), _digits(right, right_type, MAX_SCALE)]
    full = SqlType("DECIMAL", 38, MAX_SCALE)
    made = let(["a_", "b_"], values, let(["q_"], [parts], _from_digits("q_", full)))
    return made if wanted == full else f"CAST({made} AS {wanted.duck()})"
