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
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from fletching.engine.sql.dialect import exp, parse_predicate
from fletching.engine.sql.literals import (
    Moment,
    Value,
    parse_date,
    parse_moment,
    place_of,
    scalar_of,
)
from fletching.errors import InvalidArgumentError, SqlSyntaxError

__all__ = ["Bounds", "ColumnBounds", "Predicate", "compile_predicate"]

MAX_CONDITIONS = 10_000
"""Comparisons in one predicate, list entries counted."""


@dataclasses.dataclass(frozen=True, slots=True)
class ColumnBounds:
    """What is known of a column's values in a segment, in their physical form.

    Attributes:
        lower, upper: no value is below or above; None when that is not known.
        nulls: whether some value is null.
        values: whether some value is not null.
        unordered: whether some value compares with nothing (NaN).
    """

    lower: Any = None
    upper: Any = None
    nulls: bool = True
    values: bool = True
    unordered: bool = False


class Bounds(Protocol):
    """Looks up what is known of a column."""

    def __call__(self, column: str) -> ColumnBounds | None:
        """The bounds of a column by its name; None if nothing is known."""


_May = Callable[[Bounds], bool]


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
    may_match: _May


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
    may: _May


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
_NO_VALUE = object()


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
                f"{_shown(node)} is not supported in a filter; comparisons, IN, BETWEEN, LIKE,"
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
        sides = (_unwrapped(node.this), _unwrapped(node.expression))
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
        left, right = _unwrapped(node.this), _unwrapped(node.expression)
        if isinstance(left, exp.Column) and isinstance(right, exp.Column):
            return self._compare_columns(self._field(left), operator, self._field(right))
        if isinstance(right, exp.Column):
            left, right, operator = right, left, _MIRRORED[operator]
        if isinstance(left, exp.Column):
            return self._compare(self._field(left), operator, _literal(right))
        return self._compare_literals(_literal(left), operator, _literal(right))

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
        column = _unwrapped(node.this)
        if not isinstance(column, exp.Column):
            raise InvalidArgumentError("IN needs a column on its left")
        field = self._field(column)
        self._count(len(node.expressions))
        literals = [_literal(_unwrapped(item)) for item in node.expressions]
        values = {
            place.floor
            for place in (
                place_of(value, field.type, field.name) for value in literals if value is not None
            )
            if place.exact
        }
        return _among(field, values, null_listed=None in literals, negated=negated)

    def _like(self, node: Any, *, negated: bool) -> _Condition:
        field = self._field(_unwrapped(node.this))
        pattern = _literal(_unwrapped(node.expression))
        if not _is_text(field.type):
            raise InvalidArgumentError(f"LIKE needs a text column; {field.name} is {field.type}")
        if not isinstance(pattern, str):
            raise InvalidArgumentError("LIKE needs a text pattern")
        matched = pc.match_like(pc.field(field.name), pattern)
        if negated:
            return _Condition(pc.invert(matched), _has_values(field.name))
        prefix = _fixed_prefix(pattern)
        return _Condition(matched, functools.partial(_may_begin_with, field.name, prefix))

    def _is(self, node: Any, *, negated: bool) -> _Condition:
        what = node.expression
        column = _unwrapped(node.this)
        if isinstance(what, exp.Boolean) and isinstance(column, exp.Column):
            # IS TRUE and IS FALSE are never null.
            wanted = self._compare(self._field(column), "==", bool(what.this))
            expression = pc.coalesce(wanted.expression, pc.scalar(False))
            if negated:
                return _Condition(pc.invert(expression), _always)
            return _Condition(expression, wanted.may)
        if not isinstance(what, exp.Null) or not isinstance(column, exp.Column):
            raise InvalidArgumentError(f"{_shown(node)} is not supported in a filter")
        field = self._field(column)
        name = field.name
        if negated:
            return _Condition(pc.is_valid(pc.field(name)), _has_values(name))

        def may(bounds: Bounds) -> bool:
            known = bounds(name)
            return known is None or known.nulls

        return _Condition(pc.is_null(pc.field(name)), may)

    def _null_safe(self, node: Any, *, negated: bool) -> _Condition:
        column, other = _unwrapped(node.this), _unwrapped(node.expression)
        if isinstance(other, exp.Column) and not isinstance(column, exp.Column):
            column, other = other, column
        if not isinstance(column, exp.Column) or isinstance(other, exp.Column):
            raise InvalidArgumentError("<=> compares a column with a literal")
        field = self._field(column)
        value = _literal(other)
        if value is None:
            null = exp.Is(this=column, expression=exp.Null())
            return self._is(null, negated=negated)
        same = pc.coalesce(self._compare(field, "==", value).expression, pc.scalar(False))
        return _Condition(pc.invert(same) if negated else same, _always)

    # --- names -------------------------------------------------------------------------------

    def _field(self, node: Any) -> Any:
        if not isinstance(node, exp.Column):
            raise InvalidArgumentError(f"{_shown(node)} is not a column")
        if node.args.get("db") or isinstance(node.this, exp.Star):
            raise InvalidArgumentError(f"{_shown(node)} is not a column of the table")
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
    return _Condition(expression, functools.partial(_may_compare, field.name, operator, physical))


def _may_compare(name: str, operator: str, value: Any, bounds: Bounds) -> bool:
    known = bounds(name)
    if known is None:
        return True
    if not known.values:
        return False
    lower, upper = known.lower, known.upper
    above = lower is not None and lower > value
    below = upper is not None and upper < value
    match operator:
        case "==":
            return not (above or below)
        case "!=":
            return known.unordered or not (lower == value == upper)
        case "<":
            return lower is None or bool(lower < value)
        case "<=":
            return not above
        case ">":
            return upper is None or bool(upper > value)
        case _:
            return not below


def _has_values(name: str) -> _May:
    def may(bounds: Bounds) -> bool:
        known = bounds(name)
        return known is None or known.values

    return may


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
        may = _never if null_listed else _has_values(name)
        return _Condition(pc.invert(answer), may)

    def may_hold(bounds: Bounds) -> bool:
        return any(_may_compare(name, "==", value, bounds) for value in values)

    return _Condition(answer, may_hold)


def _is_text(data_type: Any) -> bool:
    return bool(pa.types.is_string(data_type) or pa.types.is_large_string(data_type))


def _fixed_prefix(pattern: str) -> str:
    """What a match must begin with."""
    prefix: list[str] = []
    characters = iter(pattern)
    for character in characters:
        if character in "%_":
            break
        prefix.append(next(characters, "\\") if character == "\\" else character)
    return "".join(prefix)


def _may_begin_with(name: str, prefix: str, bounds: Bounds) -> bool:
    known = bounds(name)
    if known is None:
        return True
    if not known.values:
        return False
    if known.upper is not None and known.upper < prefix:
        return False
    return known.lower is None or known.lower[: len(prefix)] <= prefix


# --- literals --------------------------------------------------------------------------------


def _unwrapped(node: Any) -> Any:
    while isinstance(node, exp.Paren):
        node = node.this
    return node


def _shown(node: Any) -> str:
    text = node.sql(dialect="hive") if hasattr(node, "sql") else str(node)
    return f"{text[:80]!r}"


def _literal(node: Any) -> Value | Moment:
    """A literal's value.

    Raises:
        InvalidArgumentError: the node is no literal.
    """
    value = _literal_or_nothing(node)
    if value is _NO_VALUE:
        raise InvalidArgumentError(f"{_shown(node)} is neither a column nor a literal")
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
            value = _literal_or_nothing(_unwrapped(node.this))
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
    value = _literal_or_nothing(_unwrapped(node.this))
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
    raise InvalidArgumentError(f"{_shown(node)} is not a value")


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
