"""Types of results: DuckDB's as MaxCompute's, and as the Arrow types that stand for those."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from fletching.errors import InvalidArgumentError
from fletching.ipc.type_tree import with_children
from fletching.protocol.types.arrow_types import ODPS_TYPE_KEY

if TYPE_CHECKING:
    from duckdb.sqltypes import DuckDBPyType

__all__ = [
    "casts_of",
    "conformed",
    "duck_arrow_type",
    "duck_type_of",
    "quoted_name",
    "result_schema",
]

_TO = {
    "hugeint": "BIGINT",  # sums of whole numbers: beyond BIGINT is an error, never another type
    "uhugeint": "BIGINT",
    "ubigint": "BIGINT",
    "uinteger": "BIGINT",
    "usmallint": "INTEGER",
    "utinyint": "SMALLINT",
    "timestamp": "TIMESTAMP_MS",
    "timestamp_s": "TIMESTAMP_MS",
    "timestamp with time zone": "TIMESTAMP_MS",
    "time": "VARCHAR",
    "time with time zone": "VARCHAR",
    "interval": "VARCHAR",
    "uuid": "VARCHAR",
    "enum": "VARCHAR",
    "bit": "VARCHAR",
    "json": "VARCHAR",
    "bignum": "DECIMAL(38, 0)",
    "varint": "DECIMAL(38, 0)",
}


def casts_of(types: Sequence[DuckDBPyType]) -> list[str] | None:
    """What each column of a query has to be cast to, as a template with ``{}``; None if nothing."""
    wanted = [_wanted(data_type) for data_type in types]
    if not any(wanted):
        return None
    return [f"CAST({{}} AS {item})" if item else "{}" for item in wanted]


def _wanted(data_type: pa.DataType) -> str:
    """The type that a column of a DuckDB type is cast to; empty if it stays."""
    kind = str(data_type.id).lower()
    if kind in _TO:
        return _TO[kind]
    if str(data_type).upper() in {"JSON", '"NULL"', "NULL"}:
        return "VARCHAR"
    if kind in {"list", "array", "map", "struct"}:
        made = _spelt(data_type, lambda leaf: _wanted(leaf) or str(leaf), {"list", "array"})
        return made if made != _spelt(data_type, str, {"list"}) else ""
    return ""


def _spelt(data_type: pa.DataType, leaf: Callable[[pa.DataType], str], lists: set[str]) -> str:
    """A DuckDB type as it is written, with what is written for those that nothing stands below.

    Types of the kinds ``lists`` become lists of any length.
    """
    kind = str(data_type.id).lower()
    if kind in lists:
        (_, child), *_ = data_type.children
        return f"{_spelt(child, leaf, lists)}[]"
    if kind == "map":
        (_, key), (_, value) = data_type.children
        return f"MAP({_spelt(key, leaf, lists)}, {_spelt(value, leaf, lists)})"
    if kind == "struct":
        fields = [
            f"{quoted_name(name)} {_spelt(child, leaf, lists)}"
            for name, child in data_type.children
        ]
        return f"STRUCT({', '.join(fields)})"
    return leaf(data_type)


def quoted_name(name: str) -> str:
    """A name in DuckDB's SQL."""
    return '"' + name.replace('"', '""') + '"'


def result_schema(
    result: pa.Schema, names: Sequence[str], declared: Sequence[tuple[str, str]] = ()
) -> pa.Schema:
    """The columns of a result: unique names, and Arrow's own names for nested children.

    Args:
        result: DuckDB's columns.
        names: what they are called.
        declared: case-folded name and declared type of each column, empty where Arrow's tells it.
            Believed if it is about these columns, and where it fits what a column holds.
    """
    known = [name for name, _ in declared] == [name.casefold() for name in names]
    types = [item.encode() for _, item in declared] if known else [b""] * len(names)
    seen: set[str] = set()
    fields: list[pa.Field] = []
    for field, wanted, odps_type in zip(result, names, types, strict=True):
        name, number = wanted, 1
        while name.casefold() in seen:
            number += 1
            name = f"{wanted}{number}"
        seen.add(name.casefold())
        metadata = {ODPS_TYPE_KEY: odps_type} if odps_type else None
        fields.append(pa.field(name, _arrow_type(field.type), metadata=metadata))
    return pa.schema(fields)


def _arrow_type(data_type: pa.DataType) -> pa.DataType:
    types = pa.types
    if (
        types.is_list(data_type)
        or types.is_large_list(data_type)
        or types.is_fixed_size_list(data_type)
    ):
        return pa.list_(_arrow_type(data_type.value_type))
    if types.is_map(data_type):
        return pa.map_(_arrow_type(data_type.key_type), _arrow_type(data_type.item_type))
    if types.is_struct(data_type):
        return pa.struct(
            [
                pa.field(data_type.field(i).name, _arrow_type(data_type.field(i).type))
                for i in range(data_type.num_fields)
            ]
        )
    if types.is_large_string(data_type) or types.is_string_view(data_type):
        return pa.string()
    if types.is_large_binary(data_type) or types.is_binary_view(data_type):
        return pa.binary()
    if types.is_timestamp(data_type):
        return pa.timestamp(data_type.unit)
    return data_type


def conformed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """A batch in exactly these types; shares the values where only names differ.

    Raises:
        InvalidArgumentError: a value does not fit.
    """
    try:
        columns = [
            column if column.type == field.type else column.cast(field.type)
            for column, field in zip(batch.columns, schema, strict=True)
        ]
    except pa.ArrowException as error:
        raise InvalidArgumentError(f"a value does not fit its column: {error}") from error
    return pa.RecordBatch.from_arrays(columns, schema=schema)


MAX_DIGITS = 38
"""Digits of a DECIMAL that statements compute with; a bare DECIMAL column has 54 of them."""


def duck_arrow_type(data_type: pa.DataType) -> pa.DataType:
    """The type that values of a table are handed to DuckDB in: the same, but for those it cannot read."""
    types = pa.types
    if types.is_decimal(data_type) and not types.is_decimal128(data_type):
        return pa.decimal128(min(data_type.precision, MAX_DIGITS), data_type.scale)
    if types.is_float16(data_type):
        return pa.float32()
    if types.is_duration(data_type) and data_type.unit == "ns":
        # An INTERVAL counts microseconds: DuckDB would cut what is finer, the cast refuses it.
        return pa.duration("us")
    return with_children(data_type, duck_arrow_type)


def duck_type_of(data_type: pa.DataType) -> str:
    """The DuckDB type whose values an Arrow type of a table holds.

    Raises:
        InvalidArgumentError: there is none.
    """
    types = pa.types
    plain = {
        pa.bool_(): "BOOLEAN",
        pa.int8(): "TINYINT",
        pa.int16(): "SMALLINT",
        pa.int32(): "INTEGER",
        pa.int64(): "BIGINT",
        pa.uint8(): "UTINYINT",
        pa.uint16(): "USMALLINT",
        pa.uint32(): "UINTEGER",
        pa.uint64(): "UBIGINT",
        pa.float16(): "FLOAT",
        pa.float32(): "FLOAT",
        pa.float64(): "DOUBLE",
        pa.date32(): "DATE",
        pa.date64(): "DATE",
    }
    if data_type in plain:
        return plain[data_type]
    if isinstance(data_type, pa.BaseExtensionType):
        return duck_type_of(data_type.storage_type)
    if types.is_dictionary(data_type):
        return duck_type_of(data_type.value_type)
    if (
        types.is_string(data_type)
        or types.is_large_string(data_type)
        or types.is_string_view(data_type)
    ):
        return "VARCHAR"
    if (
        types.is_binary(data_type)
        or types.is_large_binary(data_type)
        or types.is_binary_view(data_type)
    ):
        return "BLOB"
    if types.is_timestamp(data_type):
        units = {"s": "TIMESTAMP_S", "ms": "TIMESTAMP_MS", "us": "TIMESTAMP", "ns": "TIMESTAMP_NS"}
        return units[data_type.unit]
    if types.is_decimal(data_type) and 0 <= data_type.scale <= MAX_DIGITS:
        return f"DECIMAL({min(data_type.precision, MAX_DIGITS)}, {data_type.scale})"
    if (
        types.is_list(data_type)
        or types.is_large_list(data_type)
        or types.is_fixed_size_list(data_type)
    ):
        return f"{duck_type_of(data_type.value_type)}[]"
    if types.is_map(data_type):
        return f"MAP({duck_type_of(data_type.key_type)}, {duck_type_of(data_type.item_type)})"
    if types.is_struct(data_type):
        fields = [
            f"{quoted_name(data_type.field(i).name)} {duck_type_of(data_type.field(i).type)}"
            for i in range(data_type.num_fields)
        ]
        return f"STRUCT({', '.join(fields)})"
    raise InvalidArgumentError(f"statements cannot write values of the type {data_type}")
