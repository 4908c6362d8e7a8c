"""Trees of MaxCompute's dialect, prepared and typed, as DuckDB's SQL."""

from __future__ import annotations

import dataclasses
import re

from sqlglot.dialects.duckdb import DuckDB

from fletching.errors import InvalidArgumentError
from fletching.protocol.types.odps_types import LENGTH_LIMITS
from fletching.sql.functions.conversions import converted, convertible, decimal_text, in_years
from fletching.sql.functions.decimals import product, quotient
from fletching.sql.functions.document_functions import json_element
from fletching.sql.functions.duck_forms import quoted
from fletching.sql.functions.function_calls import Call, Lambda
from fletching.sql.functions.function_lookup import find_function
from fletching.sql.functions.sql_types import DATETIME, UNKNOWN, SqlType, type_of_cast
from fletching.sql.parsing.dialect import LITERALS, exp
from fletching.sql.predicates.literal_nodes import unwrapped
from fletching.sql.predicates.literals import parse_moment, parse_number
from fletching.sql.queries.implicit import add_conversions, conversion_of
from fletching.sql.queries.lateral_views import lateral_view
from fletching.sql.queries.query_sources import PATTERN, located
from fletching.sql.queries.typing_pass import type_of

__all__ = ["Writer"]


class Writer(DuckDB.Generator):  # type: ignore[misc,valid-type]  # the class is an attribute
    """Writes trees of MaxCompute's dialect as DuckDB's SQL."""

    # What this class writes itself, sqlglot's table of short forms would write before it is asked.
    TRANSFORMS = {  # noqa: RUF012 - a class attribute by sqlglot's design
        kind: form
        for kind, form in DuckDB.Generator.TRANSFORMS.items()
        if kind not in {exp.IntDiv, exp.CurrentTimestamp, exp.CurrentDate, exp.Star}
    }

    def __init__(self, now: str, zone: str = "") -> None:
        """Knows the statement's moment in its time zone, and that zone; empty for UTC."""
        super().__init__(identify=True, dialect="duckdb", comments=False)
        self._now = now
        self._zone = zone

    def write(self, tree: exp.Expr) -> str:
        """A tree's text; the conversions that go without saying are put into the tree."""
        holder = exp.Paren(this=tree)
        add_conversions(holder)
        return str(self.generate(holder.this, copy=False))

    # --- functions ---------------------------------------------------------------------------

    def _call(self, node: exp.Expr, *, over: str = "", nulls: str = "", order: str = "") -> str:
        name = node.name
        lowered = name.lower()
        try:
            function = find_function(name)
            arguments = list(node.expressions)
            distinct = len(arguments) == 1 and isinstance(arguments[0], exp.Distinct)
            if distinct:
                arguments = list(arguments[0].expressions)
            elif arguments and isinstance(arguments[0], exp.Distinct):
                # wm_concat(distinct ',', a): DISTINCT stands before the first of several.
                distinct = True
                arguments = [*arguments[0].expressions, *arguments[1:]]
            skipping = {"first_value": 2, "last_value": 2, "nth_value": 3}.get(lowered)
            if len(arguments) == skipping:
                nulls = " IGNORE NULLS" if _is_true(name, arguments.pop()) else nulls
            if lowered == "percentile_approx" and len(arguments) == 4:
                raise InvalidArgumentError("percentile_approx takes no weights")  # noqa: TRY301 - placed below
            texts = [self.sql(item) for item in arguments]
            call = Call(
                name,
                texts,
                [_constant(item) for item in arguments],
                [type_of(item) for item in arguments],
                self._now,
                [self._lambda(item) for item in arguments],
                self._zone,
            )
            if not function.aggregate and (over or nulls or distinct or order):
                raise InvalidArgumentError(  # noqa: TRY301 - placed below
                    f"{name} is no aggregate: it takes no OVER or DISTINCT"
                )
            if distinct and lowered == "count" and len(texts) > 1:
                missing = " OR ".join(f"{item} IS NULL" for item in texts)
                row = f"CASE WHEN {missing} THEN NULL ELSE ({', '.join(texts)}) END"
                call = dataclasses.replace(call, arguments=[row], types=[UNKNOWN])
            return function.sql(call, over=over, nulls=nulls, order=order, distinct=distinct)
        except InvalidArgumentError as error:
            raise located(error, node) from error

    def _lambda(self, node: exp.Expr) -> Lambda | None:
        if not isinstance(node, exp.Lambda):
            return None
        return Lambda([self.sql(item) for item in node.expressions], self.sql(node, "this"))

    def anonymous_sql(self, expression: exp.Expr) -> str:
        """A function by our own table."""
        wanted = conversion_of(expression)
        if wanted is not None:
            value = expression.expressions[0]
            return converted(self.sql(value), type_of(value), wanted, self._zone)
        return self._call(expression)

    def window_sql(self, expression: exp.Expr) -> str:
        """OVER, at its place inside what the function becomes."""
        inner, nulls, filtered = expression.this, "", ""
        if isinstance(inner, exp.IgnoreNulls | exp.RespectNulls):
            nulls = " IGNORE NULLS" if isinstance(inner, exp.IgnoreNulls) else ""
            inner = inner.this
        if isinstance(inner, exp.Filter):
            filtered = f" FILTER({self.sql(inner, 'expression').strip()})"
            inner = inner.this
        if not isinstance(inner, exp.Anonymous):
            return str(super().window_sql(expression))
        given = {key for key, value in expression.args.items() if value is not None}
        stand_in = expression.copy()
        stand_in.set("this", exp.var("_"))
        if inner.name.lower() == "cluster_sample" and ("order" in given or "spec" in given):
            message = "cluster_sample takes PARTITION BY only in its OVER"
            raise located(InvalidArgumentError(message), expression)
        over = str(super().window_sql(stand_in))[1:]
        return self._call(inner, over=filtered + over, nulls=nulls)

    def filter_sql(self, expression: exp.Expr) -> str:
        """FILTER of an aggregate."""
        if not isinstance(expression.this, exp.Anonymous):
            return str(super().filter_sql(expression))
        return self._call(
            expression.this, over=f" FILTER({self.sql(expression, 'expression').strip()})"
        )

    def withingroup_sql(self, expression: exp.Expr) -> str:
        """WITHIN GROUP (ORDER BY ..) of wm_concat and the collecting aggregates."""
        if not isinstance(expression.this, exp.Anonymous):
            return str(super().withingroup_sql(expression))
        order = self.sql(expression, "expression").strip()
        name = expression.this.name.lower()
        if name not in {"wm_concat", "collect_list", "collect_set", "array_agg"}:
            raise located(InvalidArgumentError(f"{name} takes no WITHIN GROUP"), expression)
        return self._call(expression.this, order=order)

    def currenttimestamp_sql(self, expression: exp.Expr) -> str:
        """The statement's moment: the same in every row."""
        del expression
        return f"CAST({self._now} AS TIMESTAMP_MS)"

    def currentdate_sql(self, expression: exp.Expr) -> str:
        """The statement's day."""
        del expression
        return f"CAST({self._now} AS DATE)"

    # --- types -------------------------------------------------------------------------------

    def _cast_type(self, data_type: exp.DataType) -> SqlType:
        """The type that a CAST names.

        Raises:
            InvalidArgumentError: there is none, or none of so many digits or characters, at any depth.
        """
        wanted = type_of_cast(data_type)
        for part in _all_types(wanted):
            if part.name == "DECIMAL" and not (
                0 < part.precision <= 38 and part.scale <= part.precision
            ):
                raise InvalidArgumentError(
                    f"DECIMAL({part.precision},{part.scale}) has more than 38 digits, or more behind the"
                    " point than digits"
                )
            longest = _LONGEST.get(part.name)
            if longest is not None and not 1 <= part.precision <= longest:
                raise InvalidArgumentError(
                    f"{part.name} has a length from 1 to {longest}, as in {part.name}(10);"
                    " text of any length is STRING"
                )
        if not wanted.duck():
            raise InvalidArgumentError(f"there is no conversion to the type {data_type.sql()[:60]}")
        return wanted

    def cast_sql(self, expression: exp.Expr, safe_prefix: str | None = None) -> str:
        """CAST: null where the value has no form in the type; whole numbers are cut, not rounded."""
        del safe_prefix
        try:
            wanted = self._cast_type(expression.args["to"])
        except InvalidArgumentError as error:
            raise located(error, expression) from error
        value = unwrapped(expression.this)
        text = self.sql(value)
        if not isinstance(expression, exp.TryCast) and isinstance(value, exp.Literal):
            self._check_typed(expression, value, wanted)
        if isinstance(expression, exp.TryCast) and isinstance(value, exp.Literal):
            # A literal with the suffix of its type.
            if not value.is_string and value.name.isdecimal() and wanted.numeric:
                return f"TRY_CAST({text} AS {wanted.duck()})"
            if value.is_string and wanted.kind == "decimal":
                return f"TRY_CAST({text} AS {wanted.duck()})" if _is_number(value.name) else "NULL"
        given = type_of(value)
        if not convertible(given, wanted):
            raise located(
                InvalidArgumentError(f"there is no conversion from {given} to {wanted}"), expression
            )
        return converted(text, given, wanted, self._zone)

    @staticmethod
    def _check_typed(node: exp.Expr, value: exp.Literal, wanted: SqlType) -> None:
        """``DATE '..'`` and its like: a literal has to be a value, where CAST of a text may be null."""
        if wanted.kind not in {"date", "time"}:
            return
        text = value.name.strip()
        if not value.is_string:
            raise located(
                InvalidArgumentError(f"{wanted} takes a text: {wanted} '2026-01-31'"), node
            )
        moment = parse_moment(text)
        if moment is None:
            raise located(InvalidArgumentError(f"{text[:40]!r} is no {wanted}"), node)
        if wanted.name == "TIMESTAMP" and not -(2**63) < moment.nanoseconds < 2**63:
            raise located(
                InvalidArgumentError(
                    f"{text[:40]!r} is no TIMESTAMP: these count nanoseconds and lie between the years"
                    " 1677 and 2262; DATETIME has the others"
                ),
                node,
            )

    def trycast_sql(self, expression: exp.Expr) -> str:
        """As CAST."""
        return self.cast_sql(expression)

    # --- operators ---------------------------------------------------------------------------

    def connector_sql(
        self, expression: exp.Expr, op: str, stack: list[str | exp.Expr] | None = None
    ) -> str:
        """AND and OR; a long chain with chains of the other kind in it in pieces.

        DuckDB looks what the members of such a chain have in common, each with each: of 1,200 it takes
        seconds. It does not look into a list.
        """
        members = [] if stack is not None else _chained(expression)
        if len(members) <= _LONG_CHAIN:
            return str(super().connector_sql(expression, op, stack))
        made = [self.sql(member) for member in members]
        while len(made) > _LONG_CHAIN:
            pieces = (made[i : i + _LONG_CHAIN] for i in range(0, len(made), _LONG_CHAIN))
            made = [f"[{f' {op} '.join(piece)}][1]" for piece in pieces]
        return f" {op} ".join(made)

    def div_sql(self, expression: exp.Expr) -> str:
        """Division; by zero it is null."""
        left, right = self.sql(expression, "this"), self.sql(expression, "expression")
        if type_of(expression).kind == "decimal":
            return quotient(left, type_of(expression.this), right, type_of(expression.expression))
        return f"(CAST({left} AS DOUBLE) / nullif({right}, 0))"

    def mul_sql(self, expression: exp.Expr) -> str:
        """A product; of DECIMALs with the digits that MaxCompute keeps."""
        left, right = type_of(expression.this), type_of(expression.expression)
        kinds = {left.kind, right.kind}
        if (
            "decimal" in kinds
            and kinds <= {"decimal", "whole"}
            and not (left.loose and right.loose)
        ):
            texts = self.sql(expression, "this"), self.sql(expression, "expression")
            return product(texts[0], left, texts[1], right)
        return str(self.binary(expression, "*"))

    def add_sql(self, expression: exp.Expr) -> str:
        """A sum; a DATE and days are a DATE."""
        return self._moved(expression, str(self.binary(expression, "+")))

    def sub_sql(self, expression: exp.Expr) -> str:
        """A difference."""
        return self._moved(expression, str(self.binary(expression, "-")))

    @staticmethod
    def _moved(expression: exp.Expr, text: str) -> str:
        result = type_of(expression)
        if result.kind not in {"date", "time"}:
            return text
        kind = "DATE" if result.kind == "date" else "TIMESTAMP"
        return f"TRY_CAST({in_years(f'CAST({text} AS {kind})', kind)} AS {result.duck()})"

    def mod_sql(self, expression: exp.Expr) -> str:
        """The remainder; by zero it is null."""
        left, right = self.sql(expression, "this"), self.sql(expression, "expression")
        return f"({left} % nullif({right}, 0))"

    def intdiv_sql(self, expression: exp.Expr) -> str:
        """Whole division; by zero it is null."""
        left, right = self.sql(expression, "this"), self.sql(expression, "expression")
        return f"({left} // nullif({right}, 0))"

    def dpipe_sql(self, expression: exp.Expr) -> str:
        """Texts joined."""
        return f"({self._text(expression.this)} || {self._text(expression.expression)})"

    def _text(self, node: exp.Expr) -> str:
        text = self.sql(node)
        return decimal_text(text) if type_of(node).kind == "decimal" else f"CAST({text} AS VARCHAR)"

    def like_sql(self, expression: exp.Expr) -> str:
        """LIKE, whose escape is a backslash unless it says otherwise."""
        made = f"{self.sql(expression, 'this')} LIKE {self.sql(expression, 'expression')}"
        if isinstance(expression.parent, exp.Escape):
            return made
        pattern = expression.expression
        if not isinstance(pattern, exp.Literal) or "\\" in pattern.name:
            made += " ESCAPE '\\'"
        return f"(NOT {made})" if expression.args.get("negate") else made

    def escape_sql(self, expression: exp.Expr) -> str:
        """LIKE with an escape of its own."""
        made = f"{self.sql(expression, 'this')} ESCAPE {self.sql(expression, 'expression')}"
        return f"(NOT {made})" if expression.this.args.get("negate") else made

    def regexplike_sql(self, expression: exp.Expr) -> str:
        """RLIKE: a match anywhere."""
        return (
            f"regexp_matches({self.sql(expression, 'this')}, {self.sql(expression, 'expression')})"
        )

    def hexstring_sql(self, expression: exp.Expr, binary_function_repr: str | None = None) -> str:
        """X'00ff'."""
        del binary_function_repr
        return f"unhex({quoted(expression.name)})"

    def _json_element(self, text: str, key: exp.Expr) -> str:
        literal = unwrapped(key)
        if isinstance(literal, exp.Literal) and literal.is_string:
            return json_element(text, literal.name)
        if isinstance(literal, exp.Literal) and literal.name.isdecimal():
            return json_element(text, int(literal.name))
        message = "elements of JSON are named by a constant: j['name'], j[0]"
        raise located(InvalidArgumentError(message), key)

    def bracket_sql(self, expression: exp.Expr) -> str:
        """Elements of arrays, counted from 0, and of maps."""
        value = expression.this
        (key,) = expression.expressions
        text = self.sql(value)
        kind, given = type_of(value).kind, type_of(key)
        if type_of(value).declared == "json":
            return self._json_element(text, key)
        if kind not in {"", "null", "array", "map", "struct"}:
            raise located(
                InvalidArgumentError(
                    f"a {type_of(value)} has no elements: [..] takes an array or map"
                ),
                expression,
            )
        if kind == "map":
            wanted = type_of(value).inner[0] if type_of(value).inner else UNKNOWN
            made = self.sql(key)
            if wanted.duck() and given.kind not in {wanted.kind, "", "null"}:
                made = converted(made, given, wanted, self._zone)
            return f"{text}[{made}]"
        if kind == "array" and given.kind not in {"whole", "", "null"}:
            raise located(
                InvalidArgumentError(f"elements of an array are counted: {given} is no place"),
                expression,
            )
        if given.kind == "text":
            return f"{text}[{self.sql(key)}]"
        if isinstance(key, exp.Literal) and key.name.isdecimal():
            return f"{text}[{int(key.name) + 1}]"
        number = self.sql(key)
        return f"CASE WHEN {number} < 0 THEN NULL ELSE {text}[{number} + 1] END"

    def lambda_sql(self, expression: exp.Expr, arrow_sep: str = "->", wrap: bool = True) -> str:
        """A lambda: DuckDB's own spelling."""
        del arrow_sep, wrap
        names = ", ".join(self.sql(item) for item in expression.expressions)
        return f"lambda {names}: {self.sql(expression, 'this')}"

    def in_sql(self, expression: exp.Expr) -> str:
        """IN, also with a list that the parser kept as texts."""
        listed = expression.meta.get(LITERALS)
        if listed is None:
            return str(super().in_sql(expression))
        values = [quoted(text) if is_text else text for text, is_text in listed]
        return f"{self.sql(expression, 'this')} IN ({', '.join(values)})"

    def group_sql(self, expression: exp.Expr) -> str:
        """GROUP BY; ``WITH ROLLUP`` and ``WITH CUBE`` in the form that DuckDB has."""
        if expression.args.get("grouping_sets") and expression.expressions:
            # The columns before GROUPING SETS say which there are, not how they are grouped.
            expression = expression.copy()
            expression.set("expressions", None)
        for key, kind in (("rollup", exp.Rollup), ("cube", exp.Cube)):
            result = expression.args.get(key) or []
            if any(isinstance(item, kind) and not item.expressions for item in result):
                changed = expression.copy()
                changed.set(key, [kind(expressions=changed.expressions)])
                changed.set("expressions", None)
                return str(super().group_sql(changed))
        return str(super().group_sql(expression))

    def star_sql(self, expression: exp.Expr) -> str:
        """All columns, or those whose names a pattern fits."""
        pattern = expression.meta.get(PATTERN)
        if pattern is None:
            return str(super().star_sql(expression))
        chosen = _without(pattern)
        if chosen is not None:
            return f"COLUMNS(lambda c_: NOT regexp_full_match(c_, {quoted(chosen)}, 'i'))"
        return f"COLUMNS(lambda c_: regexp_full_match(c_, {quoted(pattern)}, 'i'))"

    # --- clauses -----------------------------------------------------------------------------

    def hint_sql(self, expression: exp.Expr) -> str:
        """Hints choose how, not what."""
        del expression
        return ""

    def lateral_sql(self, expression: exp.Expr) -> str:
        """LATERAL VIEW of functions that make rows; other LATERALs are DuckDB's."""
        if not expression.args.get("view"):
            return str(super().lateral_sql(expression))
        return lateral_view(expression, self.sql)

    def ordered_sql(self, expression: exp.Expr) -> str:
        """ORDER BY, with the place of nulls always said."""
        direction = " DESC" if expression.args.get("desc") else ""
        nulls = "FIRST" if expression.args.get("nulls_first") else "LAST"
        return f"{self.sql(expression, 'this')}{direction} NULLS {nulls}"

    def bitwisexor_sql(self, expression: exp.Expr) -> str:
        """Exclusive or: the sign is a power in DuckDB."""
        return f"xor({self.sql(expression, 'this')}, {self.sql(expression, 'expression')})"

    def extract_sql(self, expression: exp.Expr) -> str:
        """EXTRACT of a part of a time, also of one that is written as text."""
        value = expression.expression
        text = self.sql(value)
        if type_of(value).kind == "text":
            text = converted(text, type_of(value), DATETIME, self._zone)
        elif type_of(value).kind == "time":
            # Of milliseconds DuckDB would make nanoseconds, which end in the year 2262.
            text = f"CAST({text} AS TIMESTAMP)"
        return f"CAST(date_part({quoted(expression.name.lower())}, {text}) AS INTEGER)"

    def trim_sql(self, expression: exp.Expr) -> str:
        """TRIM, also with a side; of blanks, where DuckDB's without letters is of every space of Unicode."""
        side = {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(
            str(expression.args.get("position")), "trim"
        )
        letters = expression.args.get("expression")
        value = f"CAST({self.sql(expression, 'this')} AS VARCHAR)"
        return f"{side}({value}, {quoted(' ') if letters is None else self.sql(letters)})"


_LONGEST = {code.name: length for code, length in LENGTH_LIMITS.items()}
"""The longest CHAR and VARCHAR, by the type's name."""

_LONG_CHAIN = 32


def _chained(connector: exp.Expr) -> list[exp.Expr]:
    """The members of a chain of AND, or of OR, some of which are chains of the other; else none."""
    members: list[exp.Expr] = []
    stack = [connector]
    while stack:
        node = stack.pop()
        if type(node) is type(connector):
            stack += [node.expression, node.this]
        else:
            members.append(node)
    mixed = any(isinstance(unwrapped(member), exp.Connector) for member in members)
    return members if mixed else []


def _without(pattern: str) -> str | None:
    """Of ``(a|b)?+.+``, which stands for all columns but some, these; None for other patterns."""
    match = re.fullmatch(r"(\(.*\))\?\+\.\+", pattern)
    return None if match is None else match[1]


def _is_true(name: str, node: exp.Expr) -> bool:
    """The last argument of a window function: whether it passes nulls over."""
    if not isinstance(node, exp.Boolean):
        raise InvalidArgumentError(f"{name} needs true or false for whether it ignores nulls")
    return bool(node.this)


def _constant(node: exp.Expr) -> str | None:
    return node.name if isinstance(node, exp.Literal) and node.is_string else None


def _all_types(sql_type: SqlType) -> list[SqlType]:
    return [sql_type, *(part for item in sql_type.inner for part in _all_types(item))]


def _is_number(text: str) -> bool:
    return parse_number(text) is not None
