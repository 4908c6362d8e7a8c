"""Filter predicates: SQL conditions as pyarrow expressions, and what they say about whole segments.

Understood are comparisons (``= == != <> < <= > >= <=>``, ``IS [NOT] DISTINCT FROM``), ``[NOT] IN``,
``[NOT] BETWEEN``, ``[NOT] LIKE`` (``%``, ``_``, backslash escapes, ``ESCAPE``), ``IS [NOT] NULL``,
``IS [NOT] TRUE``, ``isnan``, ``AND``, ``OR``, ``NOT``, parentheses, boolean columns, and literals of
every type: numbers with their suffixes, text, ``true``, ``null``, ``DATE '..'``, ``TIMESTAMP '..'``,
``DATETIME '..'``, ``X'..'`` and CAST of these. One side of a comparison is a column or a field of a
struct (``st.a.b``), the other a literal or another one. Timestamps without a zone are UTC.

Logic is SQL's, with three values; a row is chosen when the condition is true. NaN compares with
nothing: every comparison with it is false, ``!=`` true. NOT is pushed down to the comparisons
first, so that every condition also tells whether a segment can hold a chosen row from the least and
greatest value of each column.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Callable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from fletching.errors import InvalidArgumentError, SqlSyntaxError
from fletching.sql.parsing.dialect import exp, parse_predicate
from fletching.sql.predicates.bounds import (
    Bounds,
    ColumnBounds,
    May,
    has_nan,
    has_nulls,
    has_values,
    may_begin_with,
)
from fletching.sql.predicates.comparisons import (
    UNKNOWN,
    among,
    compared_columns,
    compared_constants,
    compared_value,
    compared_with,
    is_text,
    known,
    listed_ranges,
    not_among,
    path_of,
)
from fletching.sql.predicates.conditions import FALSE, TRUE, Condition, Leaf, always, joined
from fletching.sql.predicates.like_patterns import LikePattern
from fletching.sql.predicates.literal_nodes import (
    is_literal,
    literal_of,
    literals_of,
    shown,
    unwrapped,
)
from fletching.sql.predicates.literals import EqualRange
from fletching.sql.predicates.operands import Operand, compared, operand_of

__all__ = ["Bounds", "ColumnBounds", "Predicate", "compile_condition", "compile_predicate"]

MAX_CONDITIONS = 10_000
"""Comparisons in one predicate; entries of IN lists are not counted."""

MAX_LIST = 1_000_000
"""Entries of all IN lists of one predicate."""


@dataclasses.dataclass(frozen=True, slots=True)
class Predicate:
    """A condition.

    Attributes:
        condition: the tree.
        columns: names of the columns it mentions.
        opposite: compiles its opposite, which chooses the rows for which it is false; None where
            nothing is known of the tree that it was compiled from.
    """

    condition: Condition
    columns: tuple[str, ...]
    opposite: Callable[[], Predicate] | None = None

    @property
    def expression(self) -> pc.Expression:
        """True, false or null for each row."""
        return self.condition.expression

    @property
    def may_match(self) -> May:
        """False only if no row within the bounds can be chosen."""
        return self.condition.may


def compile_predicate(text: str, fields: Mapping[str, pa.Field], *, table: str = "") -> Predicate:
    """Compiles a condition over a table's columns.

    Args:
        text: as after WHERE.
        fields: Arrow fields by case-folded name; the expression uses the fields' own names.
        table: the table's name, with which a column may be qualified.

    Raises:
        SqlSyntaxError: the text is no condition.
        InvalidArgumentError: it mentions an unknown column, compares what cannot be compared, or
            uses anything else than is listed in the module's docstring.
    """
    node = parse_predicate(text)
    result = _compiled(node, fields, table)
    # Nobody else has the tree, so it stays as it is.
    return dataclasses.replace(
        result, opposite=functools.partial(_compiled, node, fields, table, negated=True)
    )


def compile_condition(
    node: exp.Expr, fields: Mapping[str, pa.Field], *, table: str = "", nan_greatest: bool = False
) -> Predicate:
    """Compiles a condition that has been parsed already; arguments and errors as there.

    Args:
        node: the condition's tree.
        fields: as there.
        table: as there.
        nan_greatest: choose also what is chosen where NaN is above every number and equals itself.
    """
    return _compiled(node, fields, table, nan_greatest=nan_greatest)


def _compiled(
    node: exp.Expr,
    fields: Mapping[str, pa.Field],
    table: str,
    *,
    nan_greatest: bool = False,
    negated: bool = False,
) -> Predicate:
    compiler = _Compiler(fields, table, nan_greatest=nan_greatest)
    try:
        condition = compiler.condition(node, negated=negated)
    except RecursionError as error:
        raise SqlSyntaxError("the filter nests too deeply") from error
    except (pa.ArrowException, ArithmeticError, UnicodeError) as error:
        # Every literal was checked; should a type's own rules still refuse one, the sender hears it.
        raise InvalidArgumentError(f"the filter cannot be applied: {str(error)[:200]}") from error
    return Predicate(condition, tuple(compiler.mentioned))


_MIRRORED = {"==": "==", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}
_OPERATORS: dict[type[exp.Expr], str] = {
    exp.EQ: "==",
    exp.NEQ: "!=",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}


class _Compiler:
    def __init__(self, fields: Mapping[str, pa.Field], table: str, *, nan_greatest: bool) -> None:
        self._fields = fields
        self._nan_greatest = nan_greatest
        self._table = table.casefold()
        self._conditions = 0
        self._listed = 0
        self.mentioned: dict[str, None] = {}

    # --- logic -------------------------------------------------------------------------------

    def condition(self, node: exp.Expr, *, negated: bool) -> Condition:
        match node:
            case exp.Paren():
                return self.condition(node.this, negated=negated)
            case exp.Not():
                return self.condition(node.this, negated=not negated)
            case exp.And() | exp.Or():
                return self._connected(node, negated=negated)
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise InvalidArgumentError(f"the filter has more than {MAX_CONDITIONS} comparisons")
        escape = None
        if isinstance(node, exp.Escape):
            node, escape = node.this, node.expression
        if node.args.get("negate"):
            # how sqlglot marks NOT LIKE
            negated = not negated
        match node:
            case exp.Is():
                return self._is(node, negated=negated)
            case exp.Between() if not node.args.get("symmetric"):
                return self._between(node, negated=negated)
            case exp.In():
                return self._in(node, negated=negated)
            case exp.Like():
                return self._like(node, escape, negated=negated)
            case exp.NullSafeEQ():
                return self._null_safe(node, negated=negated)
            case exp.NullSafeNEQ():
                return self._null_safe(node, negated=not negated)
            case exp.Anonymous() if node.name.lower() == "isnan" and len(node.expressions) == 1:
                return self._is_nan(node, negated=negated)
            case exp.Boolean():
                return TRUE if bool(node.this) is not negated else FALSE
            case exp.Null():
                return UNKNOWN
            case exp.Column() | exp.Dot():
                operand = self._operand(node)
                if not pa.types.is_boolean(operand.type):
                    raise InvalidArgumentError(f"column {operand.name} is no condition by itself")
                return compared_with(operand, "==", EqualRange(not negated, not negated))
        operator = _OPERATORS.get(type(node))
        if operator is None:
            raise InvalidArgumentError(
                f"{shown(node)} is not supported in a filter; comparisons, IN, BETWEEN, LIKE,"
                " IS NULL, isnan, AND, OR and NOT are"
            )
        return self._comparison(node.this, operator, node.expression, negated=negated)

    def _connected(self, node: exp.Expr, *, negated: bool) -> Condition:
        """AND and OR; a chain of one kind is flattened, so that its length costs no depth."""
        kind = type(node)
        parts: list[exp.Expr] = []
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
        return joined(conditions, all_of=(kind is exp.And) is not negated)

    # --- comparisons -------------------------------------------------------------------------

    def _comparison(
        self, left: exp.Expr, operator: str, right: exp.Expr, *, negated: bool
    ) -> Condition:
        left, right = unwrapped(left), unwrapped(right)
        if is_literal(left) and is_literal(right):
            return compared_constants(left, operator, right, negated=negated)
        if is_literal(left):
            left, right, operator = right, left, _MIRRORED[operator]
        operand = self._operand(left)
        if not is_literal(right):
            other = self._operand(right)
            if self._nan_greatest and (operand.floating or other.floating):
                return TRUE
            return compared_columns(operand, operator, other, negated=negated)
        value = literal_of(right)
        if value is None:
            return UNKNOWN
        result = compared_value(operand, operator, value, negated=negated)
        if self._nan_greatest and operand.floating:
            nan = pc.is_nan(operand.comparable)
            columns = frozenset(operand.path[:1])
            return joined([result, Leaf(nan, has_nan(operand.path), columns)], all_of=False)
        return result

    def _between(self, node: exp.Expr, *, negated: bool) -> Condition:
        both = [
            self._comparison(node.this, ">=", node.args["low"], negated=negated),
            self._comparison(node.this, "<=", node.args["high"], negated=negated),
        ]
        return joined(both, all_of=not negated)

    def _in(self, node: exp.Expr, *, negated: bool) -> Condition:
        if any(node.args.get(key) is not None for key in ("query", "unnest", "field")):
            raise InvalidArgumentError("IN takes a list of literals")
        operand = self._operand(node.this, where="IN needs a column on its left; ")
        literals = literals_of(node)
        if self._nan_greatest and operand.floating:
            return TRUE
        if not literals:
            raise InvalidArgumentError("IN takes a list of literals")
        self._listed += len(literals)
        if self._listed > MAX_LIST:
            raise InvalidArgumentError(f"the filter's lists have more than {MAX_LIST} entries")
        null_listed = None in literals
        values, ranges = listed_ranges(operand, literals)
        listed = not_among if negated else among
        parts: list[Condition] = [listed(operand, values)]
        parts += [compared_with(operand, "!=" if negated else "==", span) for span in ranges]
        if null_listed:
            # What is not found may still equal the null: nothing is surely out of such a list.
            parts.append(UNKNOWN)
        return joined(parts, all_of=negated)

    def _like(self, node: exp.Expr, escape: exp.Expr | None, *, negated: bool) -> Condition:
        operand = self._operand(node.this)
        if not is_text(operand.type):
            raise InvalidArgumentError(
                f"LIKE needs a text column; {operand.name} is {operand.type}"
            )
        text = literal_of(node.expression)
        character = "\\" if escape is None else literal_of(escape)
        if text is None or character is None:
            return UNKNOWN
        if not isinstance(text, str):
            raise InvalidArgumentError("LIKE needs a text pattern")
        pattern = LikePattern.parse(text, character)
        matched = pattern.matches(operand.expression)
        columns = frozenset(operand.path[:1])
        if negated:
            return Leaf(pc.invert(matched), has_values(operand.path), columns)
        may = functools.partial(may_begin_with, operand.path, pattern.prefix)
        return Leaf(matched, may, columns)

    def _is(self, node: exp.Expr, *, negated: bool) -> Condition:
        what = unwrapped(node.expression)
        operand = self._operand(node.this)
        columns = frozenset(operand.path[:1])
        if isinstance(what, exp.Boolean):
            # IS TRUE and IS FALSE are never null.
            wanted = compared_value(operand, "==", bool(what.this), negated=False)
            expression = pc.coalesce(wanted.expression, pc.scalar(False))
            if negated:
                return Leaf(pc.invert(expression), always, columns)
            return Leaf(expression, wanted.may, columns)
        if not isinstance(what, exp.Null):
            raise InvalidArgumentError(f"{shown(node)} is not supported in a filter")
        if negated:
            return Leaf(pc.is_valid(operand.expression), has_values(operand.path), columns)
        return Leaf(pc.is_null(operand.expression), has_nulls(operand.path), columns)

    def _is_nan(self, node: exp.Expr, *, negated: bool) -> Condition:
        operand = self._operand(node.expressions[0])
        if pa.types.is_integer(operand.type) or pa.types.is_decimal(operand.type):
            return known(operand, answer=negated)
        if not operand.floating:
            raise InvalidArgumentError(f"isnan needs a number; {operand.name} is {operand.type}")
        result = pc.is_nan(operand.comparable)
        columns = frozenset(operand.path[:1])
        if negated:
            return Leaf(pc.invert(result), has_values(operand.path), columns)
        return Leaf(result, has_nan(operand.path), columns)

    def _null_safe(self, node: exp.Expr, *, negated: bool) -> Condition:
        left, right = unwrapped(node.this), unwrapped(node.expression)
        if is_literal(left):
            left, right = right, left
        operand = self._operand(left)
        columns = frozenset(operand.path[:1])
        if not is_literal(right):
            other = self._operand(right)
            both_null = pc.and_kleene(pc.is_null(operand.expression), pc.is_null(other.expression))
            same = pc.coalesce(compared(operand, "==", other), both_null)
            columns |= frozenset(other.path[:1])
            return Leaf(pc.invert(same) if negated else same, always, columns)
        value = literal_of(right)
        if value is None:
            if negated:
                return Leaf(pc.is_valid(operand.expression), has_values(operand.path), columns)
            return Leaf(pc.is_null(operand.expression), has_nulls(operand.path), columns)
        equal = compared_value(operand, "==", value, negated=False)
        same = pc.coalesce(equal.expression, pc.scalar(False))
        if negated:
            return Leaf(pc.invert(same), always, columns)
        return Leaf(same, equal.may, columns)

    # --- names -------------------------------------------------------------------------------

    def _operand(self, node: exp.Expr, where: str = "") -> Operand:
        """The column or nested field that a node names."""
        node = unwrapped(node)
        if is_literal(node):
            raise InvalidArgumentError(
                f"{where}{shown(node)} is a literal; names of columns are written plain or in"
                " backquotes: `name`"
            )
        path = path_of(node)
        if path is None:
            raise InvalidArgumentError(f"{where}{shown(node)} is neither a column nor a literal")
        field = self._fields.get(path[0].casefold())
        rest = path[1:]
        if field is None and rest and path[0].casefold() == self._table and self._table:
            # Only what is not a column is read as the table's name.
            field, rest = self._fields.get(path[1].casefold()), path[2:]
            path = path[1:]
        if field is None:
            if len(path) > 1:
                raise InvalidArgumentError(
                    f"{shown(node)}: {path[0][:100]!r} is neither a column nor the table's name"
                )
            near = difflib.get_close_matches(path[0].casefold(), self._fields, 1)
            cure = (
                f"did you mean {self._fields[near[0]].name}?"
                if near
                else "a text stands in single quotes"
            )
            raise InvalidArgumentError(f"the table has no column {path[0][:100]!r}; {cure}")
        operand = operand_of(field, rest)
        self.mentioned[field.name] = None
        return operand
