"""LATERAL VIEW as DuckDB's lateral joins: functions that make rows of a value."""

from __future__ import annotations

from collections.abc import Callable

from fletching.errors import InvalidArgumentError
from fletching.sql.functions.document_functions import json_text, url_part
from fletching.sql.functions.duck_forms import quoted
from fletching.sql.parsing.dialect import exp
from fletching.sql.queries.query_sources import located
from fletching.sql.queries.typing_pass import type_of

__all__ = ["lateral_view"]

_KNOWN = (
    "explode",
    "posexplode",
    "inline",
    "stack",
    "json_tuple",
    "parse_url_tuple",
    "keyvalue_tuple",
    "trans_array",
    "trans_cols",
)


def lateral_view(node: exp.Expr, sql: Callable[[exp.Expr], str]) -> str:
    """A LATERAL VIEW as a join.

    Args:
        node: its tree.
        sql: writes an expression.

    Raises:
        InvalidArgumentError: its function makes no rows, or another number of columns than it names.
    """
    call = node.this
    alias = node.args.get("alias")
    table = alias.name if alias is not None else "_lateral"
    names = [column.name for column in alias.columns] if alias is not None else []
    kind = call.name.lower() if isinstance(call, exp.Anonymous) else ""
    try:
        made = _rows(kind, call, names, sql, outer=bool(node.args.get("outer")))
    except InvalidArgumentError as error:
        raise located(error, node) from error
    columns = names or [name for _, name in made]
    if len(columns) != len(made):
        raise located(
            InvalidArgumentError(f"{kind} gives {len(made)} columns, not {len(names)}"), node
        )
    # Named outside: DuckDB takes a name behind AS for what stands beside it in the same list.
    chosen = ", ".join(f"{text} AS _made{number}" for number, (text, _) in enumerate(made))
    given = ", ".join(map(_identifier, columns))
    # Where a list can say for itself that it has nothing, DuckDB needs no join to find that out, and keeps
    # the order of rows.
    outer = bool(node.args.get("outer")) and kind not in _PADDED
    join = "LEFT JOIN LATERAL" if outer else "JOIN LATERAL"
    # Text of our own: what a user wrote was parsed and written out again.
    return f" {join} (SELECT {chosen}) AS {_identifier(table)}({given}) ON TRUE"


_PADDED = frozenset({"explode", "posexplode", "inline"})


def _padded(items: str, outer: bool) -> str:
    """The rows of a list; with OUTER, an empty one or none has a row of null."""
    return (
        f"unnest(CASE WHEN len({items}) > 0 THEN {items} ELSE [NULL] END)"
        if outer
        else f"unnest({items})"
    )


def _rows(
    kind: str, call: exp.Expr, names: list[str], sql: Callable[[exp.Expr], str], *, outer: bool
) -> list[tuple[str, str]]:
    """The columns that a function gives: each one's text and name."""
    if kind not in _KNOWN:
        raise InvalidArgumentError(f"LATERAL VIEW takes {', '.join(_KNOWN)}")
    arguments = call.expressions
    if kind in {"explode", "posexplode", "inline"} and len(arguments) != 1:
        raise InvalidArgumentError(f"{kind} takes 1 argument, not {len(arguments)}")
    if not arguments:
        raise InvalidArgumentError(f"{kind} takes at least 1 argument, not 0")
    value = sql(arguments[0])
    if kind in {"explode", "posexplode"}:
        given = type_of(arguments[0])
        if given.kind not in {"", "null", "array", "map"}:
            raise InvalidArgumentError(
                f"{kind} takes an ARRAY or a MAP, not a value of type {given}"
            )
        if given.kind == "null":
            value = "CAST(NULL AS VARCHAR[])"
        return _exploded(kind, arguments[0], value, len(names), outer=outer)
    if kind == "inline":
        fields = type_of(arguments[0]).element.names
        if not fields:
            raise InvalidArgumentError("inline takes an array of structs")
        return [(f"{_padded(value, outer)}[{quoted(name)}]", name) for name in fields]
    if kind == "stack":
        return _stacked(arguments, sql)
    if kind in {"trans_array", "trans_cols"}:
        return _transposed(kind, arguments, sql)
    keys = [_text(item, kind) for item in arguments[1:]]
    if len(keys) < (3 if kind == "keyvalue_tuple" else 1):
        raise InvalidArgumentError(f"{kind} takes the keys whose values it gives")
    if kind == "json_tuple":
        return [(json_text(value, f'$."{key}"'), f"c{i}") for i, key in enumerate(keys)]
    if kind == "parse_url_tuple":
        return [(url_part(value, key), f"c{i}") for i, key in enumerate(keys)]
    first, second = quoted(keys[0]), quoted(keys[1])
    pair = f"string_split(p_, {second})"
    return [
        (
            (
                f"list_transform(list_filter(string_split({value}, {first}), lambda p_: {pair}[1] = {quoted(key)}),"
                f" lambda p_: array_to_string({pair}[2:], {second}))[1]"
            ),
            f"c{i}",
        )
        for i, key in enumerate(keys[2:])
    ]


def _exploded(
    kind: str, node: exp.Expr, value: str, named: int, *, outer: bool
) -> list[tuple[str, str]]:
    known = type_of(node).kind
    is_map = known == "map" or (not known and named == (2 if kind == "explode" else 3))
    listed = f"map_entries({value})" if is_map else value
    items = []
    if kind == "posexplode":
        items.append((_padded(f"range(len({listed}))", outer), "pos"))
    rows = _padded(listed, outer)
    if is_map:
        return [*items, (f"{rows}.key", "key"), (f"{rows}.value", "value")]
    return [*items, (rows, "col")]


def _stacked(arguments: list[exp.Expr], sql: Callable[[exp.Expr], str]) -> list[tuple[str, str]]:
    count = arguments[0]
    if not isinstance(count, exp.Literal) or not count.name.isdecimal() or int(count.name) < 1:
        raise InvalidArgumentError("stack takes a constant number of rows first")
    rows, values = int(count.name), [sql(item) for item in arguments[1:]]
    width = -(-len(values) // rows)
    values += ["NULL"] * (rows * width - len(values))
    return [(f"unnest([{', '.join(values[i::width])}])", f"col{i}") for i in range(width)]


def _transposed(
    kind: str, arguments: list[exp.Expr], sql: Callable[[exp.Expr], str]
) -> list[tuple[str, str]]:
    """A row of texts that are lists, or of columns, as a row for each of their items, keys repeated."""
    count = arguments[0]
    if not isinstance(count, exp.Literal) or not count.name.isdecimal():
        raise InvalidArgumentError(f"{kind} takes a constant number of keys first")
    keys = int(count.name)
    if kind == "trans_cols":
        named, values = arguments[1 : 1 + keys], [sql(item) for item in arguments[1 + keys :]]
        if len(named) < keys or not values:
            raise InvalidArgumentError("trans_cols takes its keys, then one column or more")
        items = f"unnest([{', '.join(values)}])"
        indices = f"unnest(range(1, {len(values) + 1}))"
        return [
            (indices, "idx"),
            *((sql(item), f"c{i}") for i, item in enumerate(named)),
            (items, "col"),
        ]
    if len(arguments) < 3 + keys:
        raise InvalidArgumentError("trans_array takes its keys, then one list or more")
    separator = quoted(_text(arguments[1], kind))
    texts = [sql(item) for item in arguments[2:]]
    made = texts[:keys] + [
        f"unnest(string_split(CAST({text} AS VARCHAR), {separator}))" for text in texts[keys:]
    ]
    return [(text, f"c{i}") for i, text in enumerate(made)]


def _text(node: exp.Expr, kind: str) -> str:
    if isinstance(node, exp.Literal) and node.is_string:
        return str(node.name)
    raise InvalidArgumentError(f"{kind} takes constant texts")


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
