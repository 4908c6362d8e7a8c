"""Columns between their Arrow types and what the tunnel's record stream holds.

Which values travel how is in `fletching.wire.tunnel_layouts`; here is what the values of each ODPS type
are there. Every step is one over a whole column.

=========================  ==========================================
ODPS type                  in the record stream
=========================  ==========================================
DATETIME                   integer: milliseconds since 1970
DATE                       integer: days since 1970
INTERVAL_YEAR_MONTH        integer: months
STRING, VARCHAR            bytes: UTF-8
CHAR                       bytes: UTF-8, filled with blanks to its length
JSON, BINARY, BLOB         bytes: the text, the bytes, the reference
DECIMAL                    bytes: the number as text
TIMESTAMP, TIMESTAMP_NTZ   moment: seconds, and nanoseconds from there
INTERVAL_DAY_TIME          moment likewise
=========================  ==========================================

Blanks at the end of a CHAR are no part of it: they come with its values and are taken off those that are
sent, so that rows which somebody reads and writes again stay the same.

The Arrow types are those of `fletching.protocol.types.arrow_types.arrow_type`, with BLOB as its storage.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fletching.errors import InvalidArgumentError, UsageError
from fletching.ipc.relabelling import relabelled
from fletching.protocol.types.arrow_types import arrow_type
from fletching.protocol.types.conversion import convert_for_reply
from fletching.protocol.types.odps_types import OdpsType, TypeCode
from fletching.wire.tunnel_layouts import MOMENT_TYPE, Kind, RecordLayout

__all__ = ["from_record_values", "moments_as_structs", "record_layout", "to_record_values"]

_INTEGERS = {
    TypeCode.BIGINT: pa.int64(),
    TypeCode.INT: pa.int32(),
    TypeCode.SMALLINT: pa.int16(),
    TypeCode.TINYINT: pa.int8(),
    TypeCode.DATETIME: pa.int64(),
    TypeCode.DATE: pa.int32(),
    TypeCode.INTERVAL_YEAR_MONTH: pa.int32(),
}
_BYTES = {
    TypeCode.STRING,
    TypeCode.CHAR,
    TypeCode.VARCHAR,
    TypeCode.JSON,
    TypeCode.BINARY,
    TypeCode.BLOB,
    TypeCode.DECIMAL,
}
_TIMESTAMPS = {TypeCode.TIMESTAMP, TypeCode.TIMESTAMP_NTZ}
_NANOS = 1_000_000_000
_TICKS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": _NANOS}


def record_layout(odps_type: OdpsType) -> RecordLayout:
    """How a column of an ODPS type is written in a record stream.

    Raises:
        UsageError: there is no form for the type.
    """
    code = odps_type.code
    integer = _INTEGERS.get(code)
    if integer is not None:
        return RecordLayout(Kind.INTEGER, integer)
    if code in _BYTES:
        return RecordLayout(Kind.BYTES, pa.binary())
    if code is TypeCode.BOOLEAN:
        return RecordLayout(Kind.BOOLEAN, pa.bool_())
    if code is TypeCode.FLOAT:
        return RecordLayout(Kind.FLOAT, pa.float32())
    if code is TypeCode.DOUBLE:
        return RecordLayout(Kind.DOUBLE, pa.float64())
    if code in _TIMESTAMPS or code is TypeCode.INTERVAL_DAY_TIME:
        return RecordLayout(Kind.MOMENT, MOMENT_TYPE)
    children = tuple(record_layout(field.type) for field in odps_type.fields)
    if code in {TypeCode.ARRAY, TypeCode.VECTOR}:
        kind = Kind.LIST if code is TypeCode.ARRAY else Kind.VECTOR
        return RecordLayout(kind, pa.list_(children[0].type), children)
    if code is TypeCode.MAP:
        return RecordLayout(Kind.MAP, pa.map_(children[0].type, children[1].type), children)
    if code is TypeCode.STRUCT:
        fields = [
            (field.name, child.type)
            for field, child in zip(odps_type.fields, children, strict=True)
        ]
        return RecordLayout(Kind.STRUCT, pa.struct(fields), children)
    raise UsageError(f"{code.name} has no form in a record stream")


def to_record_values(array: pa.Array, odps_type: OdpsType) -> pa.Array:
    """A column's values in the type that `record_layout` says; shares what need not change.

    Args:
        array: of the type that `arrow_type` has for ``odps_type``; timestamps of any unit.
        odps_type: the column's.
    """
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    layout = record_layout(odps_type)
    if array.type.equals(layout.type):
        return array
    code = odps_type.code
    if code is TypeCode.DECIMAL:
        # All digits, then their bytes.
        return array.cast(pa.string()).cast(pa.binary())
    if code is TypeCode.CHAR:
        return pc.utf8_rpad(array, odps_type.length, padding=" ").cast(pa.binary())
    if code in _BYTES:
        # The same bytes under another type.
        return array.cast(pa.binary())
    if code in _TIMESTAMPS:
        return _moments(array)
    if code is TypeCode.DATETIME:
        return convert_for_reply(array, pa.timestamp("ms"), "").view(pa.int64())
    if code is TypeCode.DATE:
        return array.view(pa.int32())
    if code is TypeCode.INTERVAL_DAY_TIME:
        return relabelled(array, layout.type)
    if code is TypeCode.STRUCT:
        children = [
            to_record_values(array.field(number), field.type)
            for number, field in enumerate(odps_type.fields)
        ]
        return _struct(children, layout.type, array)
    if code is TypeCode.MAP:
        key, value = (field.type for field in odps_type.fields)
        entries = pa.StructArray.from_arrays(
            [to_record_values(array.keys, key), to_record_values(array.items, value)],
            fields=[layout.type.key_field, layout.type.item_field],
        )
        return _over(array, layout.type, entries)
    if odps_type.fields:
        return _over(array, layout.type, to_record_values(array.values, odps_type.fields[0].type))
    # Integers and floats of the layout's own width: nothing is left to round.
    return array.cast(layout.type)


def from_record_values(array: pa.Array, odps_type: OdpsType, column: str) -> pa.Array:
    """The reverse of `to_record_values`: values of a record stream in the column's Arrow type.

    Args:
        array: of the type that `record_layout` says.
        odps_type: the column's.
        column: its name, for errors.

    Raises:
        InvalidArgumentError: a value that the type does not have: text that is no UTF-8 or no number,
            or a moment outside the years that nanoseconds count.
    """
    wanted = arrow_type(odps_type, plain_blobs=True)
    if array.type.equals(wanted):
        return array
    code = odps_type.code
    if code is TypeCode.CHAR:
        return pc.utf8_rtrim(_text(array, wanted, column), characters=" ")
    if code in _BYTES:
        return _text(array, wanted, column)
    if code in _TIMESTAMPS:
        return _timestamps(array, wanted, column)
    if code in {TypeCode.DATETIME, TypeCode.DATE}:
        return array.view(wanted)
    if code is TypeCode.STRUCT:
        children = [
            from_record_values(array.field(number), field.type, column)
            for number, field in enumerate(odps_type.fields)
        ]
        return _struct(children, wanted, array)
    if code is TypeCode.MAP:
        key, value = (field.type for field in odps_type.fields)
        entries = pa.StructArray.from_arrays(
            [
                from_record_values(array.keys, key, column),
                from_record_values(array.items, value, column),
            ],
            fields=[wanted.key_field, wanted.item_field],
        )
        return _over(array, wanted, entries)
    if odps_type.fields:
        child = from_record_values(array.values, odps_type.fields[0].type, column)
        return _over(array, wanted, child)
    return relabelled(array, wanted)


def moments_as_structs(array: pa.Array) -> pa.Array:
    """Timestamps, also nested ones, as ``struct<sec: int64, nano: int32>``; everything else as it is.

    The children of a null are null, too: clients look at nothing else.
    """
    kind = array.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        moments = _moments(array)
        if not array.null_count:
            return moments
        children = [
            pc.if_else(array.is_valid(), moments.field(number), pa.scalar(None, field.type))
            for number, field in enumerate(MOMENT_TYPE)
        ]
        return _struct(children, MOMENT_TYPE, array)
    if pa.types.is_struct(kind):
        children = [moments_as_structs(array.field(number)) for number in range(kind.num_fields)]
        if all(item.type.equals(kind.field(at).type) for at, item in enumerate(children)):
            return array
        fields = [kind.field(at).with_type(item.type) for at, item in enumerate(children)]
        return _struct(children, pa.struct(fields), array)
    if pa.types.is_map(kind):
        keys, items = moments_as_structs(array.keys), moments_as_structs(array.items)
        wanted = pa.map_(keys.type, items.type)
        entries = pa.StructArray.from_arrays(
            [keys, items], fields=[wanted.key_field, wanted.item_field]
        )
        return _over(array, wanted, entries)
    if pa.types.is_list(kind):
        values = moments_as_structs(array.values)
        return _over(array, pa.list_(kind.value_field.with_type(values.type)), values)
    return array


def _over(array: pa.Array, wanted: pa.DataType, child: pa.Array) -> pa.Array:
    """A list or map with the same places over another child; shares validity and offsets."""
    return pa.Array.from_buffers(
        wanted,
        len(array),
        array.buffers()[:2],
        null_count=array.null_count,
        offset=array.offset,
        children=[child],
    )


def _struct(children: list[pa.Array], wanted: pa.DataType, array: pa.Array) -> pa.Array:
    mask = array.is_null() if array.null_count else None
    return pa.StructArray.from_arrays(children, fields=list(wanted), mask=mask)


def _ticks(array: pa.Array) -> pa.Array:
    """Timestamps as counts of their unit, 0 where null."""
    counts = array.view(pa.int64())
    return (counts.fill_null(0) if array.null_count else counts).to_numpy(zero_copy_only=False)


def _moments(array: pa.Array) -> pa.Array:
    per_second = _TICKS[array.type.unit]
    counts = _ticks(array)
    seconds = counts // per_second
    nanos = ((counts - seconds * per_second) * (_NANOS // per_second)).astype(np.int32)
    return _struct([pa.array(seconds), pa.array(nanos)], MOMENT_TYPE, array)


def _timestamps(array: pa.Array, wanted: pa.DataType, column: str) -> pa.Array:
    seconds, nanos = array.field(0), array.field(1)
    if array.null_count:
        valid = array.is_valid()
        seconds = pc.if_else(valid, seconds, pa.scalar(None, pa.int64()))
    try:
        counts = pc.add_checked(pc.multiply_checked(seconds, _NANOS), nanos.cast(pa.int64()))
    except pa.ArrowInvalid as error:
        raise InvalidArgumentError(
            f"column {column!r} has a moment outside the years 1677 to 2262, which is what"
            " nanoseconds in 64 bits can say"
        ) from error
    return counts.view(wanted)


def _text(array: pa.Array, wanted: pa.DataType, column: str) -> pa.Array:
    try:
        if pa.types.is_decimal(wanted):
            # A number with more digits than the type is refused.
            return array.cast(pa.string()).cast(wanted)
        return array.cast(wanted)
    except pa.ArrowInvalid as error:
        what = "a number of its type" if pa.types.is_decimal(wanted) else "text in UTF-8"
        raise InvalidArgumentError(
            f"column {column!r} has a value that is not {what}: {str(error)[:200]}"
        ) from error
