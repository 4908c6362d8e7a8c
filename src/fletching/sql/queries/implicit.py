"""Conversions that MaxCompute makes without being asked, put into the tree in so many words.

A text beside a number is compared and computed with as a DOUBLE, beside a date as a date; the branches of
CASE get one type. DuckDB would refuse these, or take the other side's type.
"""

from __future__ import annotations

from fletching.sql.functions.sql_types import (
    BIGINT,
    BOOLEAN,
    DATETIME,
    DOUBLE,
    STRING,
    TIMESTAMP,
    UNKNOWN,
    SqlType,
    common_type,
)
from fletching.sql.parsing.dialect import LITERALS, exp
from fletching.sql.queries.typing_pass import set_type, type_of

__all__ = ["add_conversions", "conversion_of"]

_WANTED = "fletching_wanted"

_COMPARISONS = (
    exp.EQ,
    exp.NEQ,
    exp.GT,
    exp.GTE,
    exp.LT,
    exp.LTE,
    exp.NullSafeEQ,
    exp.NullSafeNEQ,
)
_ARITHMETIC = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.IntDiv)
_BITWISE = (exp.BitwiseAnd, exp.BitwiseOr, exp.BitwiseXor)


def conversion_of(node: exp.Expr) -> SqlType | None:
    """The type that a node put in by `add_conversions` brings its argument to."""
    result: SqlType | None = node.meta.get(_WANTED)
    return result


def add_conversions(tree: exp.Expr) -> exp.Expr:
    """Puts the conversions of a typed tree in; changes it, and returns it or what stands in its place."""
    for node in list(tree.walk()):
        if isinstance(node, _COMPARISONS):
            _alike([node.this, node.expression])
        elif isinstance(node, exp.Between):
            _alike([node.this, node.args["low"], node.args["high"]])
        elif isinstance(node, exp.In):
            _membership(node)
        elif isinstance(node, _ARITHMETIC):
            for side in (node.this, node.expression):
                if type_of(side).kind == "text":
                    _convert(side, DOUBLE)
        elif isinstance(node, _BITWISE):
            for side in (node.this, node.expression):
                if type_of(side).kind in {"text", "double", "decimal"}:
                    _convert(side, BIGINT)
        elif isinstance(node, exp.Neg) and type_of(node.this).kind == "text":
            _convert(node.this, DOUBLE)
        elif isinstance(node, exp.Case):
            _branches(node)
        elif isinstance(node, exp.If) and not isinstance(node.parent, exp.Case):
            _one_type([item for item in (node.args.get("true"), node.args.get("false")) if item])
        elif isinstance(node, exp.Like | exp.ILike | exp.RegexpLike):
            for side in (node.this, node.expression):
                if type_of(side).kind not in {"text", "null"}:
                    _convert(side, STRING)
    return tree


def _compared(types: list[SqlType]) -> SqlType:
    """The type that values are compared in; unknown if DuckDB does it right by itself."""
    kinds = {item.kind for item in types} - {"null"}
    if "text" not in kinds or len(kinds) < 2 or "" in kinds:
        return UNKNOWN
    kinds -= {"text"}
    if kinds <= {"whole", "double", "decimal"}:
        return DOUBLE
    if kinds == {"boolean"}:
        return BOOLEAN
    if kinds == {"date"}:
        return next(item for item in types if item.kind == "date")
    if kinds <= {"date", "time"}:
        return TIMESTAMP if any(item.name == "TIMESTAMP" for item in types) else DATETIME
    return UNKNOWN


def _alike(sides: list[exp.Expr]) -> None:
    wanted = _compared([type_of(side) for side in sides])
    if not wanted.name:
        return
    for side in sides:
        given = type_of(side)
        if given.kind == "text" or (given.kind not in (wanted.kind, "null")):
            _convert(side, wanted)


def _membership(node: exp.Expr) -> None:
    listed = node.meta.get(LITERALS)
    if listed is not None:
        plain = any(not quoted for _, quoted in listed)
        if plain and type_of(node.this).kind == "text":
            _convert(node.this, DOUBLE)
        return
    query = node.args.get("query")
    if query is not None:
        kinds = type_of(node.this).kind, type_of(query).kind
        if kinds[0] == "text" and kinds[1] in {"whole", "double", "decimal"}:
            _convert(node.this, DOUBLE)
        elif kinds[1] == "text" and kinds[0] in {"whole", "double", "decimal"}:
            _convert(node.this, STRING)
        return
    _alike([node.this, *node.expressions])


def _branches(node: exp.Expr) -> None:
    if node.this is not None:
        _alike([node.this, *(item.this for item in node.args["ifs"])])
    slots = [(item, "true") for item in node.args["ifs"]]
    if node.args.get("default") is not None:
        slots.append((node, "default"))
    _one_type([owner.args[key] for owner, key in slots])


def _one_type(values: list[exp.Expr]) -> None:
    wanted = common_type([type_of(value) for value in values])
    for value in values:
        if wanted.name and type_of(value).kind not in {wanted.kind, "null", ""}:
            _convert(value, wanted)


def _convert(node: exp.Expr, wanted: SqlType) -> None:
    made = exp.Anonymous(this="cast", expressions=[node.copy()])
    made.meta[_WANTED] = wanted
    set_type(made, wanted)
    node.replace(made)
