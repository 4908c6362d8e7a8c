"""Comparisons of a filter as conditions on bounds and rows: of columns with values, with each other, of lists."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fletching.errors import InvalidArgumentError
from fletching.sql.bounds import (
    Bounds,
    has_values,
    may_compare,
    may_equal_one,
)
from fletching.sql.conditions import FALSE, TRUE, Condition, Leaf, always, joined, never
from fletching.sql.dialect import exp
from fletching.sql.literal_nodes import literal_of, shown, unwrapped
from fletching.sql.literals import (
    Moment,
    Place,
    Value,
    array_of,
    place_of,
    range_of,
    scalar_of,
    to_double,
)
from fletching.sql.operands import Operand, applied, compared

__all__ = [
    "UNKNOWN",
    "among",
    "compared_columns",
    "compared_constants",
    "compared_value",
    "is_text",
    "known",
    "listed_places",
    "not_among",
    "path_of",
    "placed",
]

_NEGATED = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}


def _null() -> Any:
    return pc.scalar(pa.scalar(None, pa.bool_()))


UNKNOWN = Leaf(_null(), never)
"""A condition that is null for every row."""


def path_of(node: Any) -> tuple[str, ...] | None:
    """The names of a dotted path, or None."""
    names: list[str] = []
    while isinstance(node, exp.Dot):
        if not isinstance(node.expression, exp.Identifier):
            return None
        names.insert(0, node.expression.name)
        node = unwrapped(node.this)
    if not isinstance(node, exp.Column) or not isinstance(node.this, exp.Identifier):
        return None
    return (*(part.name for part in node.parts), *names)


# --- leaves ----------------------------------------------------------------------------------


def compared_constants(left: Any, operator: str, right: Any, *, negated: bool) -> Condition:
    """A comparison of two literals: of numbers, as generated SQL has it (``1 = 1``)."""
    first, second = literal_of(left), literal_of(right)
    if isinstance(first, str | bytes) or isinstance(second, str | bytes):
        raise InvalidArgumentError(
            f"{shown(left)} and {shown(right)} are both literals: single and double quotes make"
            " texts; names of columns are written plain or in backquotes: `name`"
        )
    if first is None or second is None:
        return UNKNOWN
    numbers = all(
        isinstance(value, int | float | Decimal) and not isinstance(value, bool)
        for value in (first, second)
    )
    if not numbers and (type(first) is not type(second) or isinstance(first, Moment)):
        raise InvalidArgumentError("literals of different kinds cannot be compared")
    one: Any = first
    other: Any = second
    if isinstance(first, float) or isinstance(second, float):
        one, other = to_double(one), to_double(other)
    answers = {
        "==": one == other,
        "!=": one != other,
        "<": one < other,
        "<=": one <= other,
        ">": one > other,
        ">=": one >= other,
    }
    return TRUE if answers[operator] is not negated else FALSE


def compared_columns(left: Operand, operator: str, right: Operand, *, negated: bool) -> Condition:
    """Two columns of a row against each other."""
    columns = frozenset((left.path[0], right.path[0]))
    if not negated:
        return Leaf(compared(left, operator, right), always, columns)
    if left.floating or right.floating:
        return Leaf(pc.invert(compared(left, operator, right)), always, columns)
    return Leaf(compared(left, _NEGATED[operator], right), always, columns)


def compared_value(operand: Operand, operator: str, value: Value, *, negated: bool) -> Condition:
    """A column against a literal."""
    place = place_of(value, operand.type, operand.name)
    if place is None:
        # NaN: nothing equals it, nothing is above or below.
        return known(operand, answer=(operator == "!=") is not negated)
    if not negated:
        return placed(operand, operator, place)
    opposite = placed(operand, _NEGATED[operator], place)
    if not operand.floating:
        return opposite
    # Every comparison with NaN is false, so that its negation is true and not the opposite.
    same = placed(operand, operator, place)
    path = operand.path

    def may(bounds: Bounds) -> bool:
        known = bounds(path)
        return known is None or known.unordered or opposite.may(bounds)

    return Leaf(pc.invert(same.expression), may, frozenset(path[:1]))


def placed(operand: Operand, operator: str, place: Place) -> Condition:
    """A comparison with a literal whose place among the column's values is known."""
    match operator:
        case "==" | "!=" if not place.equals:
            return known(operand, answer=operator == "!=")
        case "==" if place.first == place.last:
            return among(operand, {place.first})
        case "!=" if place.first == place.last:
            return _bound(operand, "!=", place.first)
        case "==":
            ends = [_bound(operand, ">=", place.first), _bound(operand, "<=", place.last)]
            return joined(ends, all_of=True)
        case "!=":
            ends = [_bound(operand, "<", place.first), _bound(operand, ">", place.last)]
            return joined(ends, all_of=False)
        case "<":
            return (
                known(operand, True) if place.first is None else _bound(operand, "<", place.first)
            )
        case "<=":
            return (
                known(operand, False) if place.last is None else _bound(operand, "<=", place.last)
            )
        case ">":
            return known(operand, True) if place.last is None else _bound(operand, ">", place.last)
        case _:
            return (
                known(operand, False) if place.first is None else _bound(operand, ">=", place.first)
            )


def known(operand: Operand, answer: bool) -> Leaf:
    """The same answer for every value, null for null."""
    expression = pc.if_else(pc.is_valid(operand.expression), pc.scalar(answer), _null())
    may = has_values(operand.path) if answer else never
    return Leaf(expression, may, frozenset(operand.path[:1]))


def _bound(operand: Operand, operator: str, physical: Any) -> Leaf:
    """A comparison with a value of the column's type."""
    if pa.types.is_boolean(operand.type):
        # Arrow has no order of booleans.
        column = operand.expression.cast(pa.int8())
        scalar = pc.scalar(pa.scalar(int(physical), pa.int8()))
    else:
        column = operand.comparable
        scalar = pc.scalar(scalar_of(physical, operand.type))
    return Leaf(
        applied(operator, column, scalar),
        functools.partial(may_compare, operand.path, operator, physical),
        frozenset(operand.path[:1]),
    )


# --- lists -----------------------------------------------------------------------------------


def listed_places(operand: Operand, literals: Sequence[Value]) -> tuple[set[Any], list[Place]]:
    """The values of the column's type that equal a listed literal: single ones, and ranges."""
    if is_text(operand.type) and all(type(value) is str for value in literals):
        # Most long lists: no need to look at each value's type again.
        return set(literals), []
    if pa.types.is_integer(operand.type) and all(type(value) is int for value in literals):
        low, high = range_of(operand.type)
        return {value for value in literals if low <= value <= high}, []  # type: ignore[operator]  # all are int
    values: set[Any] = set()
    ranges: list[Place] = []
    for value in literals:
        if value is None:
            continue
        place = place_of(value, operand.type, operand.name)
        if place is None or not place.equals:
            continue
        if place.first == place.last:
            values.add(place.first)
        else:
            ranges.append(place)
    return values, ranges


def _found(operand: Operand, values: set[Any]) -> Any:
    """Whether a value is one of some, by their hashes; null for null."""
    if len(values) == 1:
        (value,) = values
        scalar = pc.scalar(scalar_of(value, operand.type))
        return applied("==", operand.comparable, scalar)
    if not values:
        found = pc.scalar(False)
    else:
        listed = list(values)
        if operand.floating and 0.0 in values:
            # Zero has two forms, which are equal and hash differently.
            listed += [-0.0, 0.0]
        found = pc.is_in(operand.comparable, value_set=array_of(listed, operand.type))
    # A null is neither in nor out of a list.
    return pc.if_else(pc.is_valid(operand.expression), found, _null())


def among(operand: Operand, values: set[Any]) -> Leaf:
    """Values that a list has; null for null."""
    path = operand.path
    return Leaf(
        _found(operand, values),
        functools.partial(may_equal_one, path, sorted(values)),
        frozenset(path[:1]),
        merge=(path, functools.partial(among, operand)),
        values=frozenset(values),
    )


def not_among(operand: Operand, values: set[Any]) -> Leaf:
    """Values that a list has not; null for null."""
    path = operand.path
    may = has_values(path)
    if len(values) == 1:
        may = functools.partial(may_compare, path, "!=", *values)
    return Leaf(pc.invert(_found(operand, values)), may, frozenset(path[:1]))


def is_text(data_type: Any) -> bool:
    """Whether a type is one of texts."""
    return bool(pa.types.is_string(data_type) or pa.types.is_large_string(data_type))
