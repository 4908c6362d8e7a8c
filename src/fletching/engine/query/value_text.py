r"""Values as CSV cells, in the text forms that clients of MaxCompute parse back into values.

::

    NULL, also inside others   \N
    BOOLEAN                    true, false
    DATETIME                   2026-01-02 03:04:05          (whole seconds: clients take nothing else)
    TIMESTAMP, TIMESTAMP_NTZ   2026-01-02 03:04:05.123456   (no fraction if it is zero)
    ARRAY                      [1,2,\N]
    MAP, STRUCT                {key:value,other:\N}
    INTERVAL_DAY_TIME          1 02:03:04.000000005         (a column's alone, not one inside another)

Text inside an array, map or struct stands as it is if nothing in it could be taken for structure, which
clients before 0.13 rely on; otherwise in double quotes, its own double quotes escaped.
"""

from __future__ import annotations

import decimal
import re
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fletching.protocol.types.arrow_types import odps_type_of_field
from fletching.protocol.types.odps_types import TypeCode

__all__ = ["NULL_CELL", "csv_cells"]

NULL_CELL = "\\N"

_STRUCTURE = re.compile(r"""[,:{}\[\]"']|\A\s|\s\Z|\A\Z|\A\\N\Z""")

_MOMENT = re.compile(r"(-?\d+-\d\d-\d\d \d\d:\d\d:\d\d)(?:\.(\d+))?")


def csv_cells(column: pa.Array, field: pa.Field | None = None) -> list[str]:
    """A column's values as text, one cell per row.

    Args:
        column: an Arrow array or chunked array. Every value becomes a Python string: this is for the
            few thousand rows that somebody asks for as text.
        field: what the column is declared as, if that is more than its Arrow type.
    """
    data_type = column.type
    if field is not None and odps_type_of_field(field).code is TypeCode.INTERVAL_DAY_TIME:
        return [NULL_CELL if item is None else _interval(**item) for item in column.to_pylist()]
    if pa.types.is_timestamp(data_type) or pa.types.is_time(data_type):
        return [NULL_CELL if text is None else text for text in _moments(column)]
    if pa.types.is_nested(data_type):
        column = column.cast(_spelt(data_type))
        return [
            NULL_CELL if value is None else _nested_text(value, data_type)
            for value in column.to_pylist()
        ]
    if pa.types.is_date(data_type):
        column = column.cast(pa.string())
    return [NULL_CELL if value is None else _plain_text(value) for value in column.to_pylist()]


def _interval(sec: int | None, nano: int | None) -> str:
    """Days and the time that is left; the sign is of all of it."""
    total = (sec or 0) * 10**9 + (nano or 0)
    seconds, nano = divmod(abs(total), 10**9)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    sign = "-" if total < 0 else ""
    return f"{sign}{days} {hours:02}:{minutes:02}:{seconds:02}.{nano:09}"


def _moments(column: pa.Array) -> Sequence[str | None]:
    """Timestamps as text. Python's own have no nanoseconds, so Arrow writes them."""
    data_type = column.type
    if pa.types.is_timestamp(data_type):
        if data_type.unit == "ms":
            column = pc.floor_temporal(column, unit="second")
        column = column.cast(pa.timestamp("s" if data_type.unit == "ms" else data_type.unit))
    texts = pc.cast(column, pa.string())
    # Zeros at the end of a fraction, and the point before nothing else.
    texts = pc.replace_substring_regex(texts, r"(\.\d*?)0+$", r"\1")
    result: list[str | None] = pc.replace_substring_regex(texts, r"\.$", "").to_pylist()
    return result


def _plain_text(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case bytes():
            return value.decode("utf-8", "backslashreplace")
        case decimal.Decimal():
            return format(value, "f")
    return str(value)


def _nested_text(value: Any, data_type: pa.DataType) -> str:
    """A value inside another, or an array, map or struct itself."""
    if value is None:
        return NULL_CELL
    types = pa.types
    if types.is_map(data_type):
        pairs = value.items() if isinstance(value, dict) else value
        return _braced(
            (_nested_text(key, data_type.key_type), _nested_text(item, data_type.item_type))
            for key, item in pairs
        )
    if types.is_struct(data_type):
        fields = [data_type.field(i) for i in range(data_type.num_fields)]
        return _braced((f.name, _nested_text(value[f.name], f.type)) for f in fields)
    if types.is_nested(data_type):
        return "[" + ",".join(_nested_text(item, data_type.value_type) for item in value) + "]"
    if types.is_timestamp(data_type):
        result = _MOMENT.match(value)
        whole, fraction = (value, "") if result is None else (result[1], (result[2] or "")[:6])
        return whole if data_type.unit == "ms" or not fraction.strip("0") else f"{whole}.{fraction}"
    text = _plain_text(value)
    if isinstance(value, str | bytes) and _STRUCTURE.search(text):
        return '"' + text.replace('"', '\\"') + '"'
    return text


def _braced(pairs: Iterable[tuple[str, str]]) -> str:
    cells = []
    for key, value in pairs:
        quoted = f'"{key}"' if ":" in key and not key.startswith(('"', "{", "[")) else key
        cells.append(f"{quoted}:{value}")
    return "{" + ",".join(cells) + "}"


def _spelt(data_type: pa.DataType) -> pa.DataType:
    """A type with texts in place of moments and days: Python has none outside of the years 1 to 9999."""
    types = pa.types
    if types.is_map(data_type):
        return pa.map_(_spelt(data_type.key_type), _spelt(data_type.item_type))
    if types.is_struct(data_type):
        fields = [data_type.field(i) for i in range(data_type.num_fields)]
        return pa.struct([f.with_type(_spelt(f.type)) for f in fields])
    if types.is_large_list(data_type):
        return pa.large_list(_spelt(data_type.value_type))
    if types.is_fixed_size_list(data_type):
        return pa.list_(_spelt(data_type.value_type), data_type.list_size)
    if types.is_list(data_type):
        return pa.list_(data_type.value_field.with_type(_spelt(data_type.value_type)))
    if types.is_timestamp(data_type) or types.is_date(data_type):
        return pa.string()
    return data_type
