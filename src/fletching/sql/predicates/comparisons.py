"""Comparisons of a filter as conditions on bounds and rows: of columns with values, with each other, of lists."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Sequence
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

from fletching.errors import InvalidArgumentError
from fletching.sql.parsing.dialect import exp
from fletching.sql.predicates.bounds import Bounds, Physical, has_values, may_compare, may_equal_one
from fletching.sql.predicates.conditions import FALSE, TRUE, Condition, Leaf, always, joined, never
from fletching.sql.predicates.literal_nodes import literal_of, shown, unwrapped
from fletching.sql.predicates.literals import (
    EqualRange,
    Value,
    array_of,
    equal_range,
    range_of,
    scalar_of,
    to_double,
)
from fletching.sql.predicates.operands import Operand, applied, compared

__all__ = [
    "UNKNOWN",
    "among",
    "compared_columns",
    "compared_constants",
    "compared_value",
    "compared_with",
    "is_text",
    "known",
    "listed_ranges",
    "not_among",
    "path_of",
]

_NEGATED = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}


def _null() -> pc.Expression:
    # The first `pa.scalar` or `pa.array` of a process imports pandas where that is installed, which takes a
    # server's start half a second and more.
    return pc.scalar(pa.nulls(1, pa.bool_())[0])


UNKNOWN = Leaf(_null(), never)
"""A condition that is null for every row."""


def path_of(node: exp.Expr) -> tuple[str, ...] | None:
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


def compared_constants(
    left: exp.Expr, operator: str, right: exp.Expr, *, negated: bool
) -> Condition:
    """A comparison of two literals: of numbers, as generated SQL has it (``1 = 1``)."""
    first, second = literal_of(left), literal_of(right)
    if isinstance(first, str | bytes) or isinstance(second, str | bytes):
        raise InvalidArgumentError(
            f"{shown(left)} and {shown(right)} are both literals: single and double quotes make"
            " texts; names of columns are written plain or in backquotes: `name`"
        )
    if first is None or second is None:
        return UNKNOWN
    item, other = _comparable(first, second)
    answers = {
        "==": item == other,
        "!=": item != other,
        "<": item < other,
        "<=": item <= other,
        ">": item > other,
        ">=": item >= other,
    }
    return TRUE if answers[operator] is not negated else FALSE


def _comparable(first: Value, second: Value) -> tuple[Physical, Physical]:
    """Two literals that have an order between them, which is that of doubles if one is a DOUBLE."""
    if isinstance(first, bool | dt.date) and type(first) is type(second):
        return first, second
    pair: list[int | float | Decimal] = [
        value
        for value in (first, second)
        if isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    ]
    if len(pair) < 2:
        raise InvalidArgumentError("literals of different kinds cannot be compared")
    item, other = pair
    if isinstance(item, float) or isinstance(other, float):
        return to_double(item), to_double(other)
    return item, other


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
    span = equal_range(value, operand.type, operand.name)
    if span is None:
        # NaN: nothing equals it, nothing is above or below.
        return known(operand, answer=(operator == "!=") is not negated)
    if not negated:
        return compared_with(operand, operator, span)
    opposite = compared_with(operand, _NEGATED[operator], span)
    if not operand.floating:
        return opposite
    # Every comparison with NaN is false, so that its negation is true and not the opposite.
    same = compared_with(operand, operator, span)
    path = operand.path

    def may(bounds: Bounds) -> bool:
        known = bounds(path)
        return known is None or known.unordered or opposite.may(bounds)

    return Leaf(pc.invert(same.expression), may, frozenset(path[:1]))


def compared_with(operand: Operand, operator: str, span: EqualRange) -> Condition:
    """A comparison with a literal whose span among the column's values is known."""
    first, last = span.first, span.last
    if operator in {"==", "!="}:
        equal = operator == "=="
        if first is None or last is None or not span.equals:
            return known(operand, answer=not equal)
        if first == last:
            return among(operand, {first}) if equal else _bound(operand, "!=", first)
        item, other = (">=", "<=") if equal else ("<", ">")
        ends = [_bound(operand, item, first), _bound(operand, other, last)]
        return joined(ends, all_of=equal)
    # "<" and ">=" ask where the equal values begin, "<=" and ">" where they end.
    end = first if operator in {"<", ">="} else last
    if end is None:
        return known(operand, answer=operator in {"<", ">"})
    return _bound(operand, operator, end)


def known(operand: Operand, answer: bool) -> Leaf:
    """The same answer for every value, null for null."""
    expression = pc.if_else(pc.is_valid(operand.expression), pc.scalar(answer), _null())
    may = has_values(operand.path) if answer else never
    return Leaf(expression, may, frozenset(operand.path[:1]))


def _bound(operand: Operand, operator: str, physical: Physical) -> Leaf:
    """A comparison with a value of the column's type."""
    if pa.types.is_boolean(operand.type):
        # Arrow has no order of booleans.
        column = operand.expression.cast(pa.int8())
        scalar = pc.scalar(pa.scalar(int(bool(physical)), pa.int8()))
    else:
        column = operand.comparable
        scalar = pc.scalar(scalar_of(physical, operand.type))
    return Leaf(
        applied(operator, column, scalar),
        functools.partial(may_compare, operand.path, operator, physical),
        frozenset(operand.path[:1]),
    )


# --- lists -----------------------------------------------------------------------------------


def listed_ranges(
    operand: Operand, literals: Sequence[Value]
) -> tuple[set[Physical], list[EqualRange]]:
    """The values of the column's type that equal a listed literal: single ones, and ranges."""
    # Most long lists are of texts or whole numbers: no need to look at each value's span.
    if is_text(operand.type):
        texts = [value for value in literals if isinstance(value, str)]
        if len(texts) == len(literals):
            return set(texts), []
    if pa.types.is_integer(operand.type):
        numbers = [value for value in literals if type(value) is int]
        if len(numbers) == len(literals):
            low, high = range_of(operand.type)
            return {value for value in numbers if low <= value <= high}, []
    values: set[Physical] = set()
    ranges: list[EqualRange] = []
    for value in literals:
        if value is None:
            continue
        span = equal_range(value, operand.type, operand.name)
        if span is None or not span.equals:
            continue
        if span.first is not None and span.first == span.last:
            values.add(span.first)
        else:
            ranges.append(span)
    return values, ranges


def _contained(operand: Operand, values: set[Physical]) -> pc.Expression:
    """Whether a value is one of some, by their hashes; null for null."""
    if len(values) == 1:
        (value,) = values
        scalar = pc.scalar(scalar_of(value, operand.type))
        return applied("==", operand.comparable, scalar)
    if not values:
        result = pc.scalar(False)
    else:
        listed = list(values)
        if operand.floating and 0.0 in values:
            # Zero has two forms, which are equal and hash differently.
            listed += [-0.0, 0.0]
        result = pc.is_in(operand.comparable, value_set=array_of(listed, operand.type))
    # A null is neither in nor out of a list.
    return pc.if_else(pc.is_valid(operand.expression), result, _null())


def among(operand: Operand, values: set[Physical]) -> Leaf:
    """Values that a list has; null for null."""
    path = operand.path
    return Leaf(
        _contained(operand, values),
        functools.partial(may_equal_one, path, sorted(values)),
        frozenset(path[:1]),
        merge=(path, functools.partial(among, operand)),
        values=frozenset(values),
    )


def not_among(operand: Operand, values: set[Physical]) -> Leaf:
    """Values that a list has not; null for null."""
    path = operand.path
    may = has_values(path)
    if len(values) == 1:
        may = functools.partial(may_compare, path, "!=", next(iter(values)))
    return Leaf(pc.invert(_contained(operand, values)), may, frozenset(path[:1]))


def is_text(data_type: pa.DataType) -> bool:
    """Whether a type is one of texts."""
    return bool(pa.types.is_string(data_type) or pa.types.is_large_string(data_type))
