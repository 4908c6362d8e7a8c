"""ODPS types as Arrow types and the reverse (docs/conformance.md, "Types").

Several ODPS types share one Arrow type (STRING, CHAR, VARCHAR and JSON are all utf8). A field whose
ODPS type is not the one its Arrow type stands for by itself carries the ODPS type's text in its
metadata under `ODPS_TYPE_KEY`, for the whole column also when the difference is nested inside. The
entry is believed only while it still fits the field's Arrow type.

Arrow types that ODPS lacks map to the nearest type that a plain cast reaches
(after ``run_end_decode``, for run-end encoding):

=============================  ==========================
Arrow                          ODPS
=============================  ==========================
uint8, uint16, uint32          SMALLINT, INT, BIGINT
uint64                         DECIMAL(20,0)
float16                        FLOAT
large or view string, binary   STRING, BINARY
fixed-size binary              BINARY
date64                         DATE
timestamp s, ms (no zone)      DATETIME
timestamp us, ns, or zoned     TIMESTAMP
time32, time64, duration       INT, BIGINT, BIGINT: the count of their unit
null                           STRING
large, view, fixed-size list   ARRAY
dictionary, run-end encoded    their value type
extension                      that of their storage
=============================  ==========================

Unions, calendar intervals, negative decimal scales, structs without fields and struct fields that
are unnamed or share a name in any case are refused.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from fletching.errors import UsageError
from fletching.ipc.type_tree import with_children
from fletching.protocol.messages.vocabulary import TimeUnit
from fletching.protocol.types.blob_type import blob, is_blob
from fletching.protocol.types.odps_types import (
    OdpsField,
    OdpsType,
    TypeCode,
    array_of,
    format_type,
    map_of,
    parse_type,
)

__all__ = [
    "COMMENT_KEY",
    "ODPS_TYPE_KEY",
    "arrow_field",
    "arrow_type",
    "field_comment",
    "narrowest",
    "odps_type_of",
    "odps_type_of_field",
    "reply_type",
]

ODPS_TYPE_KEY = b"fletching.odps_type"
"""Arrow field metadata: the column's ODPS type, where the Arrow type does not tell it."""

COMMENT_KEY = b"comment"
"""Arrow field metadata: the column's comment."""

_TO_ARROW = {
    TypeCode.BIGINT: pa.int64(),
    TypeCode.DOUBLE: pa.float64(),
    TypeCode.BOOLEAN: pa.bool_(),
    TypeCode.STRING: pa.string(),
    TypeCode.TINYINT: pa.int8(),
    TypeCode.SMALLINT: pa.int16(),
    TypeCode.INT: pa.int32(),
    TypeCode.CHAR: pa.string(),
    TypeCode.VARCHAR: pa.string(),
    TypeCode.BINARY: pa.binary(),
    TypeCode.DATE: pa.date32(),
    TypeCode.FLOAT: pa.float32(),
    TypeCode.INTERVAL_YEAR_MONTH: pa.int32(),
    TypeCode.INTERVAL_DAY_TIME: pa.struct([("sec", pa.int64()), ("nano", pa.int32())]),
    TypeCode.JSON: pa.string(),
}

_FROM_ARROW = {
    pa.int64(): TypeCode.BIGINT,
    pa.float64(): TypeCode.DOUBLE,
    pa.bool_(): TypeCode.BOOLEAN,
    pa.string(): TypeCode.STRING,
    pa.large_string(): TypeCode.STRING,
    pa.string_view(): TypeCode.STRING,
    pa.null(): TypeCode.STRING,
    pa.int8(): TypeCode.TINYINT,
    pa.uint8(): TypeCode.SMALLINT,
    pa.int16(): TypeCode.SMALLINT,
    pa.uint16(): TypeCode.INT,
    pa.int32(): TypeCode.INT,
    pa.uint32(): TypeCode.BIGINT,
    pa.binary(): TypeCode.BINARY,
    pa.large_binary(): TypeCode.BINARY,
    pa.binary_view(): TypeCode.BINARY,
    pa.date32(): TypeCode.DATE,
    pa.date64(): TypeCode.DATE,
    pa.float32(): TypeCode.FLOAT,
    pa.float16(): TypeCode.FLOAT,
}


def _scalar_arrow_type(
    odps_type: OdpsType, timestamp_unit: TimeUnit, datetime_unit: TimeUnit, *, plain_blobs: bool
) -> pa.DataType:
    code = odps_type.code
    known = _TO_ARROW.get(code)
    if known is not None:
        return known
    if code is TypeCode.DATETIME:
        return pa.timestamp(datetime_unit.arrow)
    if code in {TypeCode.TIMESTAMP, TypeCode.TIMESTAMP_NTZ}:
        return pa.timestamp(timestamp_unit.arrow)
    if code is TypeCode.DECIMAL:
        precision, scale = odps_type.precision or 0, odps_type.scale or 0
        return (
            pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
        )
    if code is TypeCode.BLOB:
        return pa.binary() if plain_blobs else blob()
    raise UsageError(f"{code.name} has no Arrow type; it cannot be stored")


def arrow_type(
    odps_type: OdpsType,
    *,
    timestamp_unit: TimeUnit = TimeUnit.NANO,
    datetime_unit: TimeUnit = TimeUnit.MILLI,
    plain_blobs: bool = False,
) -> pa.DataType:
    """The Arrow type in which values of an ODPS type are stored and sent.

    Args:
        odps_type: the type.
        timestamp_unit: the unit of TIMESTAMP and TIMESTAMP_NTZ.
        datetime_unit: the unit of DATETIME.
        plain_blobs: BLOB as ``binary``, as ODPS clients know it, instead of ``fletching.blob``.

    Raises:
        UsageError: the type has no Arrow form (VARIANT).
    """

    def convert(inner: OdpsType) -> pa.DataType:
        code = inner.code
        if code is TypeCode.STRUCT:
            return pa.struct(
                [
                    pa.field(field.name, convert(field.type), nullable=field.nullable)
                    for field in inner.fields
                ]
            )
        if code in {TypeCode.ARRAY, TypeCode.VECTOR}:
            return pa.list_(convert(inner.fields[0].type))
        if code is TypeCode.MAP:
            return pa.map_(convert(inner.fields[0].type), convert(inner.fields[1].type))
        return _scalar_arrow_type(inner, timestamp_unit, datetime_unit, plain_blobs=plain_blobs)

    return convert(odps_type)


def _decimal_of(data_type: pa.DataType) -> OdpsType:
    precision, scale = data_type.precision, data_type.scale
    if scale < 0 or scale > precision:
        raise UsageError(f"Arrow type {data_type} has no ODPS type: scale must be 0 to precision")
    return OdpsType(TypeCode.DECIMAL, precision=precision, scale=scale)


def odps_type_of(data_type: pa.DataType) -> OdpsType:
    """The ODPS type that an Arrow type stands for by itself, or the nearest (module docstring).

    Raises:
        UsageError: there is none.
    """
    if is_blob(data_type):
        return OdpsType(TypeCode.BLOB)
    if isinstance(data_type, pa.BaseExtensionType):
        if data_type.extension_name == "arrow.json":
            return OdpsType(TypeCode.JSON)
        if data_type.extension_name == "arrow.bool8":
            return OdpsType(TypeCode.BOOLEAN)
        return odps_type_of(data_type.storage_type)
    code = _FROM_ARROW.get(data_type)
    if code is not None:
        return OdpsType(code)
    types = pa.types
    if types.is_timestamp(data_type):
        coarse = data_type.unit in {"s", "ms"} and data_type.tz is None
        return OdpsType(TypeCode.DATETIME if coarse else TypeCode.TIMESTAMP)
    if types.is_uint64(data_type):
        return OdpsType(TypeCode.DECIMAL, precision=20, scale=0)
    if types.is_decimal(data_type):
        return _decimal_of(data_type)
    if types.is_fixed_size_binary(data_type):
        return OdpsType(TypeCode.BINARY)
    if types.is_time32(data_type):
        return OdpsType(TypeCode.INT)
    if types.is_time64(data_type) or types.is_duration(data_type):
        return OdpsType(TypeCode.BIGINT)
    if types.is_dictionary(data_type) or types.is_run_end_encoded(data_type):
        return odps_type_of(data_type.value_type)
    if types.is_map(data_type):
        return map_of(odps_type_of(data_type.key_type), odps_type_of(data_type.item_type))
    if types.is_struct(data_type):
        fields = tuple(
            OdpsField(field.name, odps_type_of_field(field), field.nullable)
            for field in (data_type.field(i) for i in range(data_type.num_fields))
        )
        if not fields:
            raise UsageError("an Arrow struct without fields has no ODPS type")
        names = {field.name.casefold() for field in fields}
        if "" in names or len(names) != len(fields):
            raise UsageError("the fields of a struct need names that differ, also in lower case")
        return OdpsType(TypeCode.STRUCT, fields=fields)
    if _is_list(data_type):
        return array_of(odps_type_of_field(data_type.value_field))
    raise UsageError(f"Arrow type {data_type} has no ODPS type")


def _is_list(data_type: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_list(data_type)
        or types.is_large_list(data_type)
        or types.is_fixed_size_list(data_type)
        or types.is_list_view(data_type)
        or types.is_large_list_view(data_type)
    )


_SHARED = {
    TypeCode.CHAR: OdpsType(TypeCode.STRING),
    TypeCode.VARCHAR: OdpsType(TypeCode.STRING),
    TypeCode.JSON: OdpsType(TypeCode.STRING),
    TypeCode.DATETIME: OdpsType(TypeCode.TIMESTAMP),
    TypeCode.TIMESTAMP_NTZ: OdpsType(TypeCode.TIMESTAMP),
    TypeCode.INTERVAL_YEAR_MONTH: OdpsType(TypeCode.INT),
    TypeCode.INTERVAL_DAY_TIME: OdpsType(
        TypeCode.STRUCT,
        fields=(
            OdpsField("sec", OdpsType(TypeCode.BIGINT)),
            OdpsField("nano", OdpsType(TypeCode.INT)),
        ),
    ),
}


def _shape(odps_type: OdpsType) -> OdpsType:
    """The representative of all types with the same Arrow form: names, nullability, lengths dropped."""
    shared = _SHARED.get(odps_type.code)
    if shared is not None:
        return shared
    if not odps_type.fields:
        return odps_type
    code = TypeCode.ARRAY if odps_type.code is TypeCode.VECTOR else odps_type.code
    is_struct = code is TypeCode.STRUCT
    return OdpsType(
        code,
        fields=tuple(
            OdpsField(field.name.lower() if is_struct else "", _shape(field.type))
            for field in odps_type.fields
        ),
    )


def odps_type_of_field(field: pa.Field) -> OdpsType:
    """The ODPS type of an Arrow field: the one in its metadata while that fits, else by its type.

    Raises:
        UsageError: the Arrow type has no ODPS type.
    """
    derived = odps_type_of(field.type)
    text = (field.metadata or {}).get(ODPS_TYPE_KEY)
    if text is None:
        return derived
    try:
        declared = parse_type(text.decode())
    except (UsageError, UnicodeDecodeError):
        # Metadata is anyone's to write; what cannot be read says nothing about the column.
        return derived
    return declared if _shape(declared) == _shape(derived) else derived


def field_comment(field: pa.Field) -> str:
    """The comment in an Arrow field's metadata, or nothing."""
    return str((field.metadata or {}).get(COMMENT_KEY, b"").decode("utf-8", "replace"))


def arrow_field(
    name: str, odps_type: OdpsType, *, nullable: bool = True, comment: str = ""
) -> pa.Field:
    """An Arrow field for a column, with the ODPS type in its metadata if the Arrow type hides it.

    Raises:
        UsageError: the type has no Arrow form, or a text cannot be encoded.
    """
    data_type = arrow_type(odps_type)
    metadata: dict[bytes, bytes] = {}
    if format_type(odps_type_of(data_type)) != format_type(odps_type):
        metadata[ODPS_TYPE_KEY] = format_type(odps_type).encode()
    try:
        if comment:
            metadata[COMMENT_KEY] = comment.encode()
        return pa.field(name, data_type, nullable=nullable, metadata=metadata or None)
    except UnicodeEncodeError as error:
        raise UsageError(
            f"a column's name or comment has half of a character: {error.object[:60]!a}"
        ) from None


def narrowest(fields: Iterable[pa.Field]) -> str:
    """The column whose values are the fewest bytes, for reads that want only the rows' number."""

    def width(field: pa.Field) -> int:
        try:
            return int(field.type.bit_width)
        except ValueError:
            return 1 << 20

    return str(min(fields, key=width).name)


def _in_stored_units(sent: pa.DataType, stored: pa.DataType) -> pa.DataType:
    """A reply's type with the units of moments, at every depth, in which they are stored."""
    if pa.types.is_dictionary(stored) or pa.types.is_run_end_encoded(stored):
        stored = stored.value_type
    if pa.types.is_timestamp(sent):
        return pa.timestamp(stored.unit, sent.tz) if pa.types.is_timestamp(stored) else sent
    inner = iter([stored.field(index).type for index in range(stored.num_fields)])
    return with_children(sent, lambda child: _in_stored_units(child, next(inner)))


def reply_type(
    field: pa.Field,
    *,
    timestamp_unit: TimeUnit | None = TimeUnit.NANO,
    datetime_unit: TimeUnit | None = TimeUnit.MILLI,
) -> pa.DataType:
    """The Arrow type in which an ODPS client expects a stored column.

    Equal to the field's own type when the column can be sent as stored. A unit of None keeps the
    stored unit where the column itself is a timestamp. Inside nested types both have to be None.

    Raises:
        UsageError: the column's type has no ODPS type.
    """
    odps_type = odps_type_of_field(field)
    stored = field.type
    if timestamp_unit is datetime_unit is None:
        return _in_stored_units(arrow_type(odps_type, plain_blobs=True), stored)
    if pa.types.is_timestamp(stored):
        stored_unit = next(unit for unit in TimeUnit if unit.arrow == stored.unit)
        timestamp_unit = timestamp_unit or stored_unit
        datetime_unit = datetime_unit or stored_unit
    return arrow_type(
        odps_type,
        timestamp_unit=timestamp_unit or TimeUnit.NANO,
        datetime_unit=datetime_unit or TimeUnit.MILLI,
        plain_blobs=True,
    )
