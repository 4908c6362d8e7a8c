"""``pyarrow.compute.Expression`` as the service's SQL, as far as both surely mean the same.

A filter is split at its top-level ANDs. A conjunct whose every part is known is *pushed*: the service
evaluates it, and prunes with it. When one is not, the whole expression remains to be evaluated on the
batches that arrive (the *residual*), so that rows are right whether a conjunct was pushed or not.

An expression has no public parts; its pickle has. It is an Arrow IPC file whose schema metadata is the
tree in prefix notation (``call greater, field_ref a, literal 0, end greater``) and whose only batch
holds the literals and the functions' options, one column each.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections.abc import Iterator
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

from fletching import ipc
from fletching.client.reading.filter_text import COMPARISONS
from fletching.errors import UsageError
from fletching.ipc.flatbuffer import root_table

__all__ = ["Pushdown", "pushdown"]

_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "!=": "!="}
_EXACT_DOUBLE = 1 << 53
"""Whole numbers up to here are doubles without rounding."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pushdown:
    """What becomes of a filter.

    Attributes:
        pushed: the SQL that the service evaluates, or None.
        residual: what remains to be evaluated on each batch that arrives, or None.
        columns: the top-level columns that the residual needs.
    """

    pushed: str | None
    residual: pc.Expression | None
    columns: frozenset[str]


@dataclasses.dataclass(frozen=True, slots=True)
class _Call:
    function: str
    arguments: tuple[_Node, ...]
    options: dict[str, pa.Scalar]


@dataclasses.dataclass(frozen=True, slots=True)
class _Reference:
    path: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class _Literal:
    value: pa.Scalar


_Node = _Call | _Reference | _Literal


def pushdown(expression: pc.Expression, schema: pa.Schema) -> Pushdown:
    """Splits a filter into what the service evaluates and what remains.

    Args:
        expression: over columns of `schema`, of boolean type.
        schema: of the table, partition columns included.

    Raises:
        UsageError: not an expression, or one that names a column that the schema lacks.
    """
    if not isinstance(expression, pc.Expression):
        raise UsageError(f"a filter is SQL text or a pyarrow expression, not {expression!r}")
    tree = _parse(expression)
    references = list(_references(tree))
    columns = frozenset(reference.path[0] for reference in references)
    unknown = sorted(columns - set(schema.names))
    if unknown:
        raise UsageError(
            f"the filter names {', '.join(unknown)}; there is {', '.join(schema.names)}"
        )
    for reference in references:
        _check_path(reference, schema)
    conjuncts = [_sql(each, schema) for each in _conjuncts(tree)]
    known = [text for text in conjuncts if text is not None]
    residual = expression if len(known) < len(conjuncts) else None
    return Pushdown(
        pushed=" AND ".join(known) or None,
        residual=residual,
        columns=frozenset() if residual is None else columns,
    )


def _parse(expression: pc.Expression) -> _Node:
    pickled = expression.__reduce__()[1][0]
    schema_message = next(iter(ipc.messages(pickled)))
    # pyarrow gives metadata as a dict, which keeps one of several equal keys: here all count.
    header = root_table(schema_message.metadata).table(2)
    assert header is not None
    words = iter([(pair.text(0) or "", pair.text(1) or "") for pair in header.tables(2)])
    return _node(next(words), words, pa.ipc.open_file(pickled).get_batch(0))


def _node(word: tuple[str, str], words: Iterator[tuple[str, str]], values: pa.RecordBatch) -> _Node:
    kind, text = word
    if kind == "field_ref":
        return _Reference((text,))
    if kind == "nested_field_ref":
        return _Reference(tuple(next(words)[1] for _ in range(int(text))))
    if kind == "literal":
        return _Literal(values.column(int(text))[0])
    arguments: list[_Node] = []
    options: dict[str, pa.Scalar] = {}
    for each in words:
        if each[0] == "end":
            break
        if each[0] == "options":
            options = dict(values.column(int(each[1]))[0].items())
        else:
            arguments.append(_node(each, words, values))
    return _Call(text, tuple(arguments), options)


def _references(node: _Node) -> Iterator[_Reference]:
    if isinstance(node, _Reference):
        yield node
    elif isinstance(node, _Call):
        for each in node.arguments:
            yield from _references(each)


def _check_path(reference: _Reference, schema: pa.Schema) -> None:
    """Refuses a field that a struct has not, which pyarrow would find only in the batches.

    Raises:
        UsageError: there is none of this name.
    """
    kind = schema.field(schema.names.index(reference.path[0])).type
    for depth, name in enumerate(reference.path[1:], 1):
        there = [each.name for each in kind] if pa.types.is_struct(kind) else []
        if name not in there:
            raise UsageError(
                f"the filter names {'.'.join(reference.path)}; {'.'.join(reference.path[:depth])} has "
                + (", ".join(there) or "no fields")
            )
        kind = kind.field(there.index(name)).type


def _conjuncts(node: _Node) -> Iterator[_Node]:
    # At the top, null and false both leave the row out: either form of AND may be taken apart.
    if isinstance(node, _Call) and node.function in {"and_kleene", "and"}:
        for each in node.arguments:
            yield from _conjuncts(each)
    else:
        yield node


def _sql(node: _Node, schema: pa.Schema) -> str | None:
    """The node as an SQL predicate, or None where the two may differ for some row."""
    if isinstance(node, _Reference):
        column = _column(node, schema)
        known = column is not None and pa.types.is_boolean(column[1])
        return f"{column[0]} = TRUE" if column is not None and known else None
    if not isinstance(node, _Call):
        return None
    match node.function, node.arguments:
        case "and_kleene" | "or_kleene", (left, right):
            parts = (_sql(left, schema), _sql(right, schema))
            if None in parts:
                return None
            return f"({parts[0]} {'AND' if node.function == 'and_kleene' else 'OR'} {parts[1]})"
        case "invert", (inner,):
            text = _sql(inner, schema)
            return None if text is None else f"NOT ({text})"
        case "is_null", (_Reference() as reference,):
            # A NaN may count as null there, and never does in SQL.
            nan_too = node.options.get("nan_is_null")
            column = _column(reference, schema)
            if column is None or (nan_too is not None and nan_too.as_py()):
                return None
            return f"{column[0]} IS NULL"
        case "is_valid", (_Reference() as reference,):
            column = _column(reference, schema)
            return None if column is None else f"{column[0]} IS NOT NULL"
        case "is_in", (_Reference() as reference,):
            return _membership(reference, node.options, schema, null_is_no_member=True)
        case "if_else", (
            _Call("is_valid", (_Reference() as asked,)),
            _Call("is_in", (_Reference() as reference,)) as lookup,
            _Literal(nothing),
        ) if asked == reference and not nothing.is_valid:
            # What DuckDB writes for IN: null where the column is.
            return _membership(reference, lookup.options, schema, null_is_no_member=False)
        case name, (_Reference() as reference, _Literal(value)) if name in COMPARISONS:
            return _comparison(reference, COMPARISONS[name], value, schema)
        case name, (_Literal(value), _Reference() as reference) if name in COMPARISONS:
            return _comparison(reference, _MIRRORED[COMPARISONS[name]], value, schema)
        case name, (_Reference() as left, _Reference() as right) if name in COMPARISONS:
            return _of_columns(left, COMPARISONS[name], right, schema)
    return None


def _of_columns(
    left: _Reference, operator: str, right: _Reference, schema: pa.Schema
) -> str | None:
    """A comparison of columns whose values are compared the same way on both sides."""
    item, other = _column(left, schema), _column(right, schema)
    if item is None or other is None:
        return None
    types = pa.types
    exact = (types.is_signed_integer, types.is_date32, types.is_boolean, _is_text)
    if not any(kind(item[1]) and kind(other[1]) for kind in exact):
        return None
    return f"{item[0]} {operator} {other[0]}"


def _comparison(
    reference: _Reference, operator: str, value: pa.Scalar, schema: pa.Schema
) -> str | None:
    column = _column(reference, schema)
    if column is None:
        return None
    literal = _literal(value, column[1])
    return None if literal is None else f"{column[0]} {operator} {literal}"


def _membership(
    reference: _Reference,
    options: dict[str, pa.Scalar],
    schema: pa.Schema,
    *,
    null_is_no_member: bool,
) -> str | None:
    column = _column(reference, schema)
    matching = options["null_matching_behavior"].as_py()
    if column is None or matching != 0:
        return None
    members = options["value_set"].values
    if len(members) == 0 or members.null_count:
        return None
    literals = [_literal(member, column[1]) for member in members]
    if None in literals:
        return None
    if null_is_no_member and pa.types.is_floating(column[1]) and 0.0 in members.to_pylist():
        # ``is_in`` tells 0.0 from -0.0, which are equal in SQL.
        return None
    text = f"{column[0]} IN ({', '.join(str(each) for each in literals)})"
    # ``is_in`` is false where the column is null, IN is null: it matters under NOT.
    return f"({column[0]} IS NOT NULL AND {text})" if null_is_no_member else text


def _column(reference: _Reference, schema: pa.Schema) -> tuple[str, pa.DataType] | None:
    """A column, or a field inside of structs, as SQL, and its type; null where a struct around it is."""
    fields: list[pa.Field] = list(schema)
    kind: pa.DataType | None = None
    for depth, name in enumerate(reference.path):
        if depth:
            if kind is None or not pa.types.is_struct(kind):
                return None
            fields = list(kind)
        # SQL compares names in any case: of two that differ in that alone it is not sure which is meant.
        alike = [each for each in fields if each.name.casefold() == name.casefold()]
        if len(alike) != 1 or alike[0].name != name or "`" in name:
            return None
        kind = alike[0].type
    assert kind is not None
    return ".".join(f"`{name}`" for name in reference.path), kind


def _literal(value: pa.Scalar, kind: pa.DataType) -> str | None:
    """A value that is compared with a column of type `kind`, as SQL; None where that may differ."""
    types = pa.types
    if not value.is_valid or types.is_dictionary(value.type) or types.is_dictionary(kind):
        return None
    if types.is_boolean(kind) and types.is_boolean(value.type):
        return str(value.as_py()).upper()
    if types.is_integer(kind) and types.is_integer(value.type):
        return str(value.as_py())
    if types.is_float64(kind) and (types.is_integer(value.type) or types.is_floating(value.type)):
        return _double(value.as_py())
    if types.is_decimal(kind) and types.is_integer(value.type):
        return str(value.as_py())
    if types.is_decimal(kind) and types.is_decimal(value.type):
        return _decimal(value.as_py())
    if _is_text(kind) and _is_text(value.type):
        return _text(value.as_py())
    if types.is_date32(kind) and types.is_date32(value.type):
        return _date(value.as_py())
    return None


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _double(value: int | float) -> str | None:
    if isinstance(value, int):
        return f"{value}" if abs(value) <= _EXACT_DOUBLE else None
    if not math.isfinite(value):
        return None
    text = repr(value)
    return text if "e" in text else f"{text}D"


def _decimal(value: Decimal) -> str | None:
    text = format(value, "f")
    return f"{text}BD" if value.is_finite() else None


def _text(value: str) -> str | None:
    if "\x00" in value:
        return None
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _date(value: dt.date) -> str | None:
    return f"DATE '{value.isoformat()}'" if value.year >= 1000 else None
