"""Arrow types that Spark has, and those that become them: one table for reading and for refusing."""

from __future__ import annotations

import pyarrow as pa

from fletching.errors import UsageError

__all__ = ["spark_schema"]


def spark_schema(schema: pa.Schema) -> pa.Schema:
    """The schema with types that Spark has.

    Raises:
        UsageError: a column of a type that has no counterpart, or no columns.
    """
    if not schema.names:
        raise UsageError("Spark has no rows without columns: choose at least one column")
    return pa.schema([field.with_type(_spark_type(field.type, field.name)) for field in schema])


_WIDER = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
    pa.float16(): pa.float32(),
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
    pa.date64(): pa.date32(),
    pa.null(): pa.string(),
}
_SAME = {
    *(pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64()),
    *(pa.string(), pa.binary(), pa.date32()),
}


def _spark_type(kind: pa.DataType, name: str) -> pa.DataType:
    types = pa.types
    if kind in _SAME:
        return kind
    if kind in _WIDER:
        return _WIDER[kind]
    if types.is_decimal(kind) and kind.precision <= 38 and kind.scale >= 0:
        return pa.decimal128(kind.precision, kind.scale)
    if types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    if types.is_duration(kind):
        return pa.duration("us")
    if types.is_fixed_size_binary(kind):
        return pa.binary()
    if types.is_dictionary(kind):
        return _spark_type(kind.value_type, name)
    if types.is_map(kind):
        return pa.map_(_spark_type(kind.key_type, name), _spark_type(kind.item_type, name))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_spark_type(kind.value_type, name)))
    if types.is_struct(kind):
        return pa.struct([each.with_type(_spark_type(each.type, name)) for each in kind])
    if isinstance(kind, pa.BaseExtensionType):
        return _spark_type(kind.storage_type, name)
    raise UsageError(f"Spark has no type for column {name} ({kind}): leave it out with columns=")
