"""What a column of a table takes of a value that a statement computes: one rule for INSERT, UPDATE and MERGE.

A statement's values are cast, as by CAST: texts are read, digits and moments that are finer than the column
are rounded, and what is beyond it is refused. Two things that DuckDB's casts do are left out, since they
lose what somebody wrote: numbers with a fraction do not become whole ones, and no field of a STRUCT is
dropped. What comes out as Arrow goes through `fletching.engine.changes.computed_values` and
`fletching.protocol.types.conversion`, where everything goes that is stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fletching.engine.query.result_types import duck_type_of, quoted_name
from fletching.errors import InvalidArgumentError
from fletching.sql.functions.conversions import beyond, decimal_text, misspelt
from fletching.sql.functions.sql_types import type_of_column

if TYPE_CHECKING:
    from duckdb.sqltypes import DuckDBPyType

__all__ = ["assigned"]

_FRACTIONS = {"float", "double", "decimal"}
_TEXT_NUMBERS = "DECIMAL(38, 18)"


def assigned(source: DuckDBPyType, field: pa.Field, declared: str) -> str:
    """A template in DuckDB's SQL, with ``{}`` for a value, of what a column takes of it.

    Args:
        source: DuckDB's type of the values.
        field: the column.
        declared: the name of its type, such as ``varchar(10)``; empty where Arrow's tells it.

    Raises:
        InvalidArgumentError: values of the type cannot be written into the column.
    """
    try:
        made = f"CAST({{}} AS {_assigned_type(source, field.type, field.name)})"
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"column {field.name}: {error.message}") from error
    kind = str(source.id).lower()
    known = type_of_column(declared, field.type)
    if kind == "varchar":
        target = duck_type_of(field.type)
        if pa.types.is_integer(field.type):
            # What is no number at all is told apart by the column's type, not by the one it is read as.
            made = f"CASE WHEN CAST({{}} AS {target}) IS NOT NULL THEN {made} END"
        wrong = misspelt("{}", known.kind)
        if pa.types.is_floating(field.type):
            wrong = f"{wrong} OR {beyond('{}', target)}"
        if wrong:
            refusal = f"error('Could not convert string ''' || {{}} || ''' to {target}')"
            made = f"CASE WHEN {wrong} THEN {refusal} ELSE {made} END"
    if kind == "timestamp_ns" and _counts_seconds(field.type):
        made = f"CAST({made} AS TIMESTAMP_S)"
    if known.kind == "text" and kind == "decimal":
        made = decimal_text("{}")
    # A VARCHAR or CHAR is cut to its length, as it is by CAST.
    return f"left({made}, {known.precision})" if known.kind == "text" and known.precision else made


def _counts_seconds(data_type: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(data_type) and data_type.unit == "s")


def _assigned_type(source: Any, target: pa.DataType, path: str) -> str:
    """The DuckDB type that values are cast to on their way into a column.

    Struct fields keep the names and the order that the values give them: DuckDB, asked for others, gives
    null for a field that it finds in another case only, and drops one that the column lacks. Numbers with
    a fraction stay what they are on their way to whole ones, which DuckDB would round to: MaxCompute
    converts them when it is asked to (CAST) only.

    Args:
        source: DuckDB's type of the values.
        target: the column's type.
        path: of the column, for errors.

    Raises:
        InvalidArgumentError: the values have a struct field that the column lacks, or one twice.
    """
    types = pa.types
    while isinstance(target, pa.BaseExtensionType):
        target = target.storage_type
    kind = str(source.id).lower()
    if kind in {"list", "array"} and not types.is_map(target) and hasattr(target, "value_field"):
        (_, child), *_ = source.children
        return f"{_assigned_type(child, target.value_type, f'{path}.element')}[]"
    if kind == "map" and types.is_map(target):
        (_, key), (_, value) = source.children
        made = _assigned_type(key, target.key_type, f"{path}.key")
        return f"MAP({made}, {_assigned_type(value, target.item_type, f'{path}.value')})"
    if types.is_integer(target) and kind in _FRACTIONS:
        return str(source)
    if types.is_integer(target) and kind == "varchar":
        return _TEXT_NUMBERS
    if kind == "timestamp_ns" and _counts_seconds(target):
        return "TIMESTAMP"  # DuckDB has no cast from nanoseconds to seconds
    if kind != "struct" or not types.is_struct(target):
        return duck_type_of(target)
    fields = [target.field(number) for number in range(target.num_fields)]
    known = {field.name.casefold(): field for field in fields}
    spelt = []
    for name, child in source.children:
        field = known.pop(name.casefold(), None)
        if field is None:
            raise InvalidArgumentError(
                f"{path} has no struct field {name!r}, or it is there twice; it has"
                f" {', '.join(repr(field.name) for field in fields)}"
            )
        spelt.append(
            f"{quoted_name(name)} {_assigned_type(child, field.type, f'{path}.{field.name}')}"
        )
    return f"STRUCT({', '.join(spelt)})"
