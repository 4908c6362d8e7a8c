"""Filter predicates: SQL conditions as pyarrow expressions, and what they say about whole segments.

Understood are comparisons (``= == != <> < <= > >= <=>``), ``[NOT] IN``, ``[NOT] BETWEEN``,
``[NOT] LIKE`` (``%``, ``_``, backslash escapes), ``IS [NOT] NULL``, ``AND``, ``OR``, ``NOT``,
parentheses, boolean columns, and literals of every type: numbers, text, ``true``, ``null``,
``DATE '..'``, ``TIMESTAMP '..'``, ``DATETIME '..'``, ``X'..'``. One side of a comparison is a
column, the other a literal or a column of the same type. Timestamps without a zone are UTC.

Logic is SQL's, with three values; a row is chosen when the condition is true. NOT is pushed down to
the comparisons first, so that every condition also tells whether a segment can hold a chosen row
from the least and greatest value of each column.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fletching.errors import InvalidArgumentError, SqlSyntaxError
from fletching.sql.bounds import (
    Bounds,
    ColumnBounds,
    May,
    fixed_prefix,
    has_values,
    may_begin_with,
    may_compare,
)
from fletching.sql.dialect import exp, parse_predicate
from fletching.sql.literal_nodes import literal_of, shown, unwrapped
from fletching.sql.literals import Moment, Value, place_of, scalar_of

__all__ = ["Bounds", "ColumnBounds", "Predicate", "compile_predicate"]

MAX_CONDITIONS = 10_000
"""Comparisons in one predicate, list entries counted."""


@dataclasses.dataclass(frozen=True, slots=True)
class Predicate:
    """A condition.

    Attributes:
        expression: true, false or null for each row.
        columns: names of the columns it mentions.
        may_match: False only if no row within the bounds can be chosen.
    """

    expression: Any
    columns: tuple[str, ...]
    may_match: May


def compile_predicate(text: str, fields: Mapping[str, Any]) -> Predicate:
    """Compiles a condition over a table's columns.

    Args:
        text: as after WHERE.
        fields: Arrow fields by case-folded name; the expression uses the fields' own names.

    Raises:
        SqlSyntaxError: the text is no condition.
        InvalidArgumentError: it mentions an unknown column, compares what cannot be compared, or
            uses anything else than is listed in the module's docstring.
    """
    compiler = _Compiler(fields)
    try:
        condition = compiler.condition(parse_predicate(text), negated=False)
    except RecursionError as error:
        raise SqlSyntaxError("the filter nests too deeply") from error
    return Predicate(condition.expression, tuple(compiler.mentioned), condition.may)


@dataclasses.dataclass(frozen=True, slots=True)
class _Condition:
    expression: Any
    may: May


_NEGATED = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_MIRRORED = {"==": "==", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}
_OPERATORS = {
    exp.EQ: "==",
    exp.NEQ: "!=",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}


def _always(_bounds: Bounds) -> bool:
    return True


def _never(_bounds: Bounds) -> bool:
    return False


def _null() -> Any:
    return pc.scalar(pa.scalar(None, pa.bool_()))


def _known(field: Any, answer: bool) -> _Condition:
    """The same answer for every value, null for null."""
    column = pc.field(field.name)
    expression = pc.if_else(pc.is_valid(column), pc.scalar(answer), _null())
    name = field.name

    def may(bounds: Bounds) -> bool:
        known = bounds(name)
        return answer and (known is None or known.values)

    return _Condition(expression, may)


class _Compiler:
    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields
        self._conditions = 0
        self.mentioned: dict[str, None] = {}

    # --- logic -------------------------------------------------------------------------------

    def condition(self, node: Any, *, negated: bool) -> _Condition:
        match node:
            case exp.Paren():
                return self.condition(node.this, negated=negated)
            case exp.Not():
                return self.condition(node.this, negated=not negated)
            case exp.And() | exp.Or():
                return self._connected(node, negated=negated)
        self._count(1)
        if node.args.get("negate"):
            # how sqlglot marks NOT LIKE
            negated = not negated
        match node:
            case exp.Is():
                return self._is(node, negated=negated)
            case exp.Between():
                return self._between(node, negated=negated)
            case exp.In():
                return self._in(node, negated=negated)
            case exp.Like():
                return self._like(node, negated=negated)
            case exp.NullSafeEQ():
                return self._null_safe(node, negated=negated)
            case exp.Boolean():
                return self._constant(bool(node.this) is not negated)
            case exp.Null():
                return _Condition(_null(), _never)
            case exp.Column():
                field = self._field(node)
                if not pa.types.is_boolean(field.type):
                    raise InvalidArgumentError(f"column {field.name} is no condition by itself")
                return self._compare(field, "==", not negated)
        operator = _OPERATORS.get(type(node))
        if operator is None:
            raise InvalidArgumentError(
                f"{shown(node)} is not supported in a filter; comparisons, IN, BETWEEN, LIKE,"
                " IS NULL, AND, OR and NOT are"
            )
        return self._comparison(node, operator, negated=negated)

    def _connected(self, node: Any, *, negated: bool) -> _Condition:
        """AND and OR; a chain of one kind is flattened, so that its length costs no depth."""
        kind = type(node)
        parts: list[Any] = []
        stack = [node]
        while stack:
            item = stack.pop()
            while isinstance(item, exp.Paren) and isinstance(item.this, kind):
                item = item.this
            if isinstance(item, kind):
                stack += [item.expression, item.this]
            else:
                parts.append(item)
        conditions = [self.condition(part, negated=negated) for part in parts]
        return _join(conditions, all_of=(kind is exp.And) is not negated)

    def _constant(self, answer: bool) -> _Condition:
        return _Condition(pc.scalar(answer), _always if answer else _never)

    def _count(self, number: int) -> None:
        self._conditions += number
        if self._conditions > MAX_CONDITIONS:
            raise InvalidArgumentError(f"the filter has more than {MAX_CONDITIONS} comparisons")

    # --- comparisons -------------------------------------------------------------------------

    def _comparison(self, node: Any, operator: str, *, negated: bool) -> _Condition:
        if not negated:
            return self._compared(node, operator)
        opposite = self._compared(node, _NEGATED[operator])
        sides = (unwrapped(node.this), unwrapped(node.expression))
        fields = [self._field(side) for side in sides if isinstance(side, exp.Column)]
        if not any(pa.types.is_floating(field.type) for field in fields):
            return opposite
        # Every comparison with NaN is false, so that its negation is true and not the opposite.
        same = self._compared(node, operator)
        named = [field.name for field in fields]

        def may(bounds: Bounds) -> bool:
            known = [bounds(name) for name in named]
            unordered = any(item is None or item.unordered for item in known)
            return unordered or opposite.may(bounds)

        return _Condition(pc.invert(same.expression), may)

    def _compared(self, node: Any, operator: str) -> _Condition:
        left, right = unwrapped(node.this), unwrapped(node.expression)
        if isinstance(left, exp.Column) and isinstance(right, exp.Column):
            return self._compare_columns(self._field(left), operator, self._field(right))
        if isinstance(right, exp.Column):
            left, right, operator = right, left, _MIRRORED[operator]
        if isinstance(left, exp.Column):
            return self._compare(self._field(left), operator, literal_of(right))
        return self._compare_literals(literal_of(left), operator, literal_of(right))

    def _compare_literals(
        self, left: Value | Moment, operator: str, right: Value | Moment
    ) -> _Condition:
        if left is None or right is None:
            return _Condition(_null(), _never)
        numbers = (int, Decimal)
        alike = type(left) is type(right) or (
            isinstance(left, numbers)
            and isinstance(right, numbers)
            and not isinstance(left, bool)
            and not isinstance(right, bool)
        )
        if not alike or isinstance(left, Moment):
            raise InvalidArgumentError("literals of different kinds cannot be compared")
        first: Any = left
        second: Any = right
        answers = {
            "==": first == second,
            "!=": first != second,
            "<": first < second,
            "<=": first <= second,
            ">": first > second,
            ">=": first >= second,
        }
        return self._constant(answers[operator])

    def _compare_columns(self, left: Any, operator: str, right: Any) -> _Condition:
        if left.type != right.type or pa.types.is_nested(left.type):
            raise InvalidArgumentError(
                f"columns {left.name} ({left.type}) and {right.name} ({right.type}) cannot be compared"
            )
        return _Condition(_applied(operator, pc.field(left.name), pc.field(right.name)), _always)

    def _compare(self, field: Any, operator: str, value: Value | Moment) -> _Condition:
        """A column against a literal, exactly."""
        if value is None:
            return _Condition(_null(), _never)
        place = place_of(value, field.type, field.name)
        if operator in {"==", "!="}:
            if not place.exact:
                return _known(field, operator == "!=")
            return _bound(field, operator, place.floor)
        if operator in {"<", "<="}:
            # Below what the type cannot hold is at or below its floor, which may not exist.
            edge = place.floor
            operator = operator if place.exact else "<="
        else:
            edge = place.ceiling
            operator = operator if place.exact else ">="
        return _known(field, answer=False) if edge is None else _bound(field, operator, edge)

    def _between(self, node: Any, *, negated: bool) -> _Condition:
        low = exp.GTE(this=node.this, expression=node.args["low"])
        high = exp.LTE(this=node.this, expression=node.args["high"])
        both = [self.condition(low, negated=negated), self.condition(high, negated=negated)]
        return _join(both, all_of=not negated)

    def _in(self, node: Any, *, negated: bool) -> _Condition:
        if node.args.get("query") is not None or not node.expressions:
            raise InvalidArgumentError("IN takes a list of literals")
        column = unwrapped(node.this)
        if not isinstance(column, exp.Column):
            raise InvalidArgumentError("IN needs a column on its left")
        field = self._field(column)
        self._count(len(node.expressions))
        literals = [literal_of(unwrapped(item)) for item in node.expressions]
        values = {
            place.floor
            for place in (
                place_of(value, field.type, field.name) for value in literals if value is not None
            )
            if place.exact
        }
        return _among(field, values, null_listed=None in literals, negated=negated)

    def _like(self, node: Any, *, negated: bool) -> _Condition:
        field = self._field(unwrapped(node.this))
        pattern = literal_of(unwrapped(node.expression))
        if not _is_text(field.type):
            raise InvalidArgumentError(f"LIKE needs a text column; {field.name} is {field.type}")
        if not isinstance(pattern, str):
            raise InvalidArgumentError("LIKE needs a text pattern")
        matched = pc.match_like(pc.field(field.name), pattern)
        if negated:
            return _Condition(pc.invert(matched), has_values(field.name))
        prefix = fixed_prefix(pattern)
        return _Condition(matched, functools.partial(may_begin_with, field.name, prefix))

    def _is(self, node: Any, *, negated: bool) -> _Condition:
        what = node.expression
        column = unwrapped(node.this)
        if isinstance(what, exp.Boolean) and isinstance(column, exp.Column):
            # IS TRUE and IS FALSE are never null.
            wanted = self._compare(self._field(column), "==", bool(what.this))
            expression = pc.coalesce(wanted.expression, pc.scalar(False))
            if negated:
                return _Condition(pc.invert(expression), _always)
            return _Condition(expression, wanted.may)
        if not isinstance(what, exp.Null) or not isinstance(column, exp.Column):
            raise InvalidArgumentError(f"{shown(node)} is not supported in a filter")
        field = self._field(column)
        name = field.name
        if negated:
            return _Condition(pc.is_valid(pc.field(name)), has_values(name))

        def may(bounds: Bounds) -> bool:
            known = bounds(name)
            return known is None or known.nulls

        return _Condition(pc.is_null(pc.field(name)), may)

    def _null_safe(self, node: Any, *, negated: bool) -> _Condition:
        column, other = unwrapped(node.this), unwrapped(node.expression)
        if isinstance(other, exp.Column) and not isinstance(column, exp.Column):
            column, other = other, column
        if not isinstance(column, exp.Column) or isinstance(other, exp.Column):
            raise InvalidArgumentError("<=> compares a column with a literal")
        field = self._field(column)
        value = literal_of(other)
        if value is None:
            null = exp.Is(this=column, expression=exp.Null())
            return self._is(null, negated=negated)
        same = pc.coalesce(self._compare(field, "==", value).expression, pc.scalar(False))
        return _Condition(pc.invert(same) if negated else same, _always)

    # --- names -------------------------------------------------------------------------------

    def _field(self, node: Any) -> Any:
        if not isinstance(node, exp.Column):
            raise InvalidArgumentError(f"{shown(node)} is not a column")
        if node.args.get("db") or isinstance(node.this, exp.Star):
            raise InvalidArgumentError(f"{shown(node)} is not a column of the table")
        # ``t.a`` names column a: there is one table.
        field = self._fields.get(node.name.casefold())
        if field is None:
            raise InvalidArgumentError(f"the table has no column {node.name[:100]!r}")
        self.mentioned[field.name] = None
        return field


# --- pieces of expressions -------------------------------------------------------------------


def _join(conditions: Sequence[_Condition], *, all_of: bool) -> _Condition:
    """All or one of some conditions, in a tree of logarithmic depth."""
    function = pc.and_kleene if all_of else pc.or_kleene
    level = [condition.expression for condition in conditions]
    while len(level) > 1:
        pairs = [function(one, other) for one, other in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[len(level) & ~1 :]
    mays = tuple(condition.may for condition in conditions)
    if all_of:
        return _Condition(level[0], lambda bounds: all(may(bounds) for may in mays))
    return _Condition(level[0], lambda bounds: any(may(bounds) for may in mays))


def _applied(operator: str, left: Any, right: Any) -> Any:
    functions = {
        "==": pc.equal,
        "!=": pc.not_equal,
        "<": pc.less,
        "<=": pc.less_equal,
        ">": pc.greater,
        ">=": pc.greater_equal,
    }
    return functions[operator](left, right)


def _column_expression(field: Any) -> Any:
    column = pc.field(field.name)
    return column.cast(pa.float64()) if pa.types.is_floating(field.type) else column


def _bound(field: Any, operator: str, physical: Any) -> _Condition:
    """A comparison with a value of the column's type."""
    scalar = pc.scalar(scalar_of(physical, field.type))
    expression = _applied(operator, _column_expression(field), scalar)
    return _Condition(expression, functools.partial(may_compare, field.name, operator, physical))


def _among(field: Any, values: set[Any], *, null_listed: bool, negated: bool) -> _Condition:
    column = _column_expression(field)
    name = field.name
    if values:
        data_type = pa.float64() if pa.types.is_floating(field.type) else field.type
        listed = pa.array([scalar_of(value, field.type).as_py() for value in values], data_type)
        if pa.types.is_timestamp(field.type):
            # as_py would lose nanoseconds
            listed = pa.array(list(values), pa.int64()).cast(field.type)
        found = pc.is_in(column, value_set=listed)
    else:
        found = pc.scalar(False)
    # A null is neither in nor out of a list; nothing is surely out of a list with a null.
    answer = pc.if_else(pc.is_valid(column), found, _null())
    if null_listed:
        answer = pc.or_kleene(answer, _null())
    if negated:
        may = _never if null_listed else has_values(name)
        return _Condition(pc.invert(answer), may)

    def may_hold(bounds: Bounds) -> bool:
        return any(may_compare(name, "==", value, bounds) for value in values)

    return _Condition(answer, may_hold)


def _is_text(data_type: Any) -> bool:
    return bool(pa.types.is_string(data_type) or pa.types.is_large_string(data_type))
