"""What a column of a table takes of a value that is computed: one rule for INSERT, UPDATE, MERGE and ``table.update``.

A statement's values are cast, as by CAST: texts are read, digits and moments that are finer than the column
are rounded, and what is beyond it is refused. What DuckDB's casts do beyond that is left out, at every
nesting: numbers with a fraction do not become whole ones, no field of a STRUCT is dropped, no two keys of a
MAP become one, texts are read as CAST reads them, and values become the texts that CAST makes of them. What
comes out as Arrow goes through `fletching.engine.changes.computed_values` and
`fletching.protocol.types.conversion`, where everything goes that is stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import pyarrow as pa

from fletching.engine.query.result_types import duck_type_of, quoted_name
from fletching.errors import FletchingError, InvalidArgumentError
from fletching.protocol.types.odps_types import OdpsType, TypeCode, parse_type
from fletching.sql.functions.conversions import as_text, beyond, misspelt, moment_text
from fletching.sql.functions.duck_forms import quoted
from fletching.sql.functions.sql_types import type_of_arrow

if TYPE_CHECKING:
    from duckdb.sqltypes import DuckDBPyType

__all__ = ["assigned", "writable"]

_FRACTIONS = {"float", "double", "decimal"}
_TEXT_NUMBERS = "DECIMAL(38, 18)"
_KINDS = {
    "blob": "binary",
    "decimal": "decimal",
    "list": "array",
    "array": "array",
    "map": "map",
    "struct": "struct",
}
"""What `SqlType.kind` calls DuckDB's types of which CAST makes other texts than DuckDB does."""


class _Assigned(NamedTuple):
    """What is taken of a value.

    Attributes:
        sql: in DuckDB's SQL.
        type: DuckDB's type of it.
        cast: whether it is a cast to this type and nothing else.
    """

    sql: str
    type: str
    cast: bool = False


class _Target(NamedTuple):
    """What takes a value, at any depth.

    Attributes:
        type: of Arrow's.
        declared: the name of the type, if it is known.
        path: of the column, for errors.
        zone: the statement's, by whose clocks texts become times; empty for UTC.
    """

    type: pa.DataType
    declared: OdpsType | None
    path: str
    zone: str

    def inner(self, data_type: pa.DataType, number: int, count: int, name: str) -> _Target:
        """One of so many children."""
        declared = self.declared
        known = () if declared is None or len(declared.fields) != count else declared.fields
        child = known[number].type if known else None
        return _Target(data_type, child, f"{self.path}.{name}", self.zone)


def writable(data_type: pa.DataType) -> bool:
    """Whether statements write values of a type: whether DuckDB has a type for them."""
    try:
        duck_type_of(data_type)
    except InvalidArgumentError:
        return False
    return True


def assigned(source: DuckDBPyType, field: pa.Field, declared: str, zone: str = "") -> str:
    """A template in DuckDB's SQL, with ``{}`` for a value, of what a column takes of it.

    Args:
        source: DuckDB's type of the values.
        field: the column.
        declared: the name of its type, such as ``varchar(10)``; empty where Arrow's tells it.
        zone: the statement's, by whose clocks texts become times; empty for UTC.

    Raises:
        InvalidArgumentError: values of the type cannot be written into the column.
    """
    try:
        odps_type = parse_type(declared) if declared else None
    except FletchingError:
        odps_type = None
    try:
        return _assign("{}", source, _Target(field.type, odps_type, field.name, zone)).sql
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"column {field.name}: {error.message}") from error


def _assign(value: str, source: DuckDBPyType, taker: _Target) -> _Assigned:
    """What is taken of a value, at any depth.

    Args:
        value: in DuckDB's SQL.
        source: DuckDB's type of it.
        taker: what takes it.

    Raises:
        InvalidArgumentError: there is no way from one to the other, or the value has a struct field that
            the type lacks, or one twice.
    """
    target, declared = taker.type, taker.declared
    types = pa.types
    while isinstance(target, pa.BaseExtensionType) or types.is_dictionary(target):
        extended = isinstance(target, pa.BaseExtensionType)
        target = target.storage_type if extended else target.value_type
    taker = taker._replace(type=target)
    kind = str(source.id).lower()
    if kind in {"list", "array"} and not types.is_map(target) and hasattr(target, "value_field"):
        return _list(value, source, taker)
    if kind == "map" and types.is_map(target):
        return _map(value, source, taker)
    if kind == "struct" and types.is_struct(target):
        return _struct(value, source, taker)
    if kind == "varchar" and types.is_nested(target):
        raise InvalidArgumentError(
            f"{taker.path} is {type_of_arrow(target)}, which no text becomes"
        )
    if kind == "varchar":
        return _text(value, taker)
    known = type_of_arrow(target)
    if known.kind == "text":
        made = as_text(value, _KINDS.get(kind, "")) or f"CAST({value} AS VARCHAR)"
        if kind == "blob":
            wrong = f"{value} IS NOT NULL AND {made} IS NULL"
            made = _unless(wrong, "'Could not convert bytes that are no UTF-8 to VARCHAR'", made)
        return _cut(_Assigned(made, "VARCHAR", kind not in _KINDS), declared)
    if types.is_integer(target) and kind in _FRACTIONS:
        # DuckDB would round them: MaxCompute converts them when it is asked to (CAST) only.
        return _Assigned(value, str(source), cast=True)
    if kind == "timestamp_ns" and types.is_timestamp(target) and target.unit == "s":
        # DuckDB has no cast from nanoseconds to seconds.
        return _Assigned(f"CAST(CAST({value} AS TIMESTAMP) AS TIMESTAMP_S)", "TIMESTAMP_S")
    made_type = duck_type_of(target)
    return _Assigned(f"CAST({value} AS {made_type})", made_type, cast=True)


def _text(value: str, taker: _Target) -> _Assigned:
    """What is taken of a text: what CAST makes of it, or the statement fails."""
    target = taker.type
    types = pa.types
    kind = "whole" if types.is_integer(target) else type_of_arrow(target).kind
    if kind == "text":
        return _cut(_Assigned(f"CAST({value} AS VARCHAR)", "VARCHAR", cast=True), taker.declared)
    made_type = duck_type_of(target)
    if kind == "binary":
        return _Assigned(f"encode({value})", made_type)  # DuckDB would read \x41 as one byte
    read, wrong = value, misspelt(value, kind)
    if kind in {"date", "time"}:
        read = moment_text(value, taker.zone)
        wrong = f"{value} IS NOT NULL AND {read} IS NULL"
    made = f"CAST({read} AS {made_type})"
    if types.is_floating(target):
        wrong = f"{wrong} OR {beyond(value, made_type)}"
    if not wrong:
        return _Assigned(made, made_type, cast=True)
    complaint = f"'Could not convert string ''' || {value} || ''' to {made_type}'"
    if kind == "whole":
        # What is no number at all is told apart by the column's type, not by the one it is read as.
        made = f"CASE WHEN {made} IS NOT NULL THEN CAST({value} AS {_TEXT_NUMBERS}) END"
        made_type = _TEXT_NUMBERS
    return _Assigned(_unless(wrong, complaint, made), made_type)


def _unless(wrong: str, complaint: str, made: str) -> str:
    """A value, unless a condition holds: then the statement fails with a text."""
    return f"CASE WHEN {wrong} THEN error({complaint}) ELSE {made} END"


def _cut(item: _Assigned, declared: OdpsType | None) -> _Assigned:
    """A text that is cut to the length of a VARCHAR or CHAR, as it is by CAST."""
    if declared is None or declared.code not in {TypeCode.VARCHAR, TypeCode.CHAR}:
        return item
    return _Assigned(f"left({item.sql}, {declared.length})", item.type)


def _children(source: DuckDBPyType) -> list[tuple[str, DuckDBPyType]]:
    """The types inside of a list, map or struct; an array's length comes behind its element."""
    return cast("list[tuple[str, DuckDBPyType]]", source.children)


def _list(value: str, source: DuckDBPyType, taker: _Target) -> _Assigned:
    (_, child), *_ = _children(source)
    each = f"each{taker.path.count('.')}"
    item = _assign(each, child, taker.inner(taker.type.value_type, 0, 1, "element"))
    made_type = f"{item.type}[]"
    if item.cast:
        return _Assigned(f"CAST({value} AS {made_type})", made_type, cast=True)
    return _Assigned(
        f"list_transform(CAST({value} AS {child}[]), lambda {each}: {item.sql})", made_type
    )


def _map(value: str, source: DuckDBPyType, taker: _Target) -> _Assigned:
    (_, key), (_, item) = _children(source)
    each = f"each{taker.path.count('.')}"
    keys = _assign(f"{each}.key", key, taker.inner(taker.type.key_type, 0, 2, "key"))
    values = _assign(f"{each}.value", item, taker.inner(taker.type.item_type, 1, 2, "value"))
    made_type = f"MAP({keys.type}, {values.type})"
    if keys.cast and values.cast and str(key) == keys.type:
        return _Assigned(f"CAST({value} AS {made_type})", made_type, cast=True)
    # Made of its entries anew, DuckDB looks whether two keys are the same; a cast of it does not.
    entries = f"list_transform(map_entries({value}), lambda {each}: {{'k': {keys.sql}, 'v': {values.sql}}})"
    return _Assigned(f"map_from_entries({entries})", made_type)


def _struct(value: str, source: DuckDBPyType, taker: _Target) -> _Assigned:
    """Fields keep the names and the order that the values give them.

    DuckDB, asked for others, gives null for a field that it finds in another case only, and drops one that the
    column lacks.
    """
    count = taker.type.num_fields
    fields = [taker.type.field(number) for number in range(count)]
    known = {field.name.casefold(): (number, field) for number, field in enumerate(fields)}
    parts: list[tuple[str, _Assigned]] = []
    for name, child in _children(source):
        number, field = known.pop(name.casefold(), (0, None))
        if field is None:
            raise InvalidArgumentError(
                f"{taker.path} has no struct field {name!r}, or it is there twice; it has"
                f" {', '.join(repr(field.name) for field in fields)}"
            )
        own = f"struct_extract({value}, {quoted(name)})"
        inner = taker.inner(field.type, number, count, field.name)
        parts.append((name, _assign(own, child, inner)))
    types = ", ".join(f"{quoted_name(name)} {item.type}" for name, item in parts)
    made_type = f"STRUCT({types})"
    if all(item.cast for _, item in parts):
        return _Assigned(f"CAST({value} AS {made_type})", made_type, cast=True)
    made = ", ".join(f"{quoted(name)}: {item.sql}" for name, item in parts)
    return _Assigned(f"CASE WHEN {value} IS NOT NULL THEN {{{made}}} END", made_type)
