"""Types of expressions, as far as they are known before a query runs, and how they combine.

What MaxCompute does with values of different types (a text beside a number, a DECIMAL divided) depends on
types; DuckDB decides otherwise or refuses. So each expression's type is worked out here first, by
`fletching.sql.queries.typing_pass`, and the writer says every conversion in so many words.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import pyarrow as pa

from fletching.errors import FletchingError
from fletching.protocol.types.arrow_types import odps_type_of, odps_type_of_field
from fletching.protocol.types.odps_types import format_type
from fletching.sql.parsing.dialect import ODPS_TYPE, exp

__all__ = [
    "BIGINT",
    "BINARY",
    "BOOLEAN",
    "DATE",
    "DATETIME",
    "DOUBLE",
    "INT",
    "INTERVAL_DAY_TIME",
    "INTERVAL_YEAR_MONTH",
    "MAX_SCALE",
    "NULL",
    "STRING",
    "TIMESTAMP",
    "UNKNOWN",
    "SqlType",
    "array_of",
    "average_type",
    "common_type",
    "decimal",
    "decimal_of",
    "map_of",
    "quotient_type",
    "struct_of",
    "type_of_arrow",
    "type_of_cast",
    "type_of_field",
    "undeclared",
]

MAX_DIGITS = 38
MAX_SCALE = 18
"""Digits behind the point that a computed DECIMAL has at most."""


@dataclasses.dataclass(frozen=True, slots=True)
class SqlType:
    """A type of MaxCompute's; the empty name stands for one that is not known.

    Attributes:
        name: in upper case, without parameters.
        precision, scale: of a DECIMAL; of a VARCHAR or CHAR ``precision`` is its length, 0 for any.
        inner: of an ARRAY its element, of a MAP key and value, of a STRUCT its fields.
        names: of a STRUCT's fields.
        loose: whether it is a number with a point and no suffix, which takes the other side's type.
        declared: the text of the type that a column was declared with, where it is another that has
            the same values here, such as ``json`` for a text. Only results tell it.
    """

    name: str = ""
    precision: int = 0
    scale: int = 0
    inner: tuple[SqlType, ...] = ()
    names: tuple[str, ...] = ()
    loose: bool = dataclasses.field(default=False, compare=False)
    declared: str = dataclasses.field(default="", compare=False)

    @property
    def kind(self) -> str:
        """``whole``, ``double``, ``decimal``, ``text``, ``date``, ``time``, ... or an empty text."""
        return _KINDS.get(self.name, "")

    def __str__(self) -> str:
        if self.name == "DECIMAL":
            return f"DECIMAL({self.precision},{self.scale})"
        inner = [str(item) for item in self.inner]
        if self.name == "STRUCT":
            inner = [f"{name}:{item}" for name, item in zip(self.names, inner, strict=True)]
        return f"{self.name}<{','.join(inner)}>" if inner else self.name or "value"

    @property
    def numeric(self) -> bool:
        """Whether it is a number."""
        return self.kind in {"whole", "double", "decimal"}

    @property
    def element(self) -> SqlType:
        """Of an ARRAY its element's, of a MAP its value's type."""
        return self.inner[-1] if self.inner and self.name in {"ARRAY", "MAP"} else UNKNOWN

    def declaration(self) -> str:
        """What a result says that its column is declared as; empty where values tell it themselves."""
        if self.declared or not any(item.declaration() for item in self.inner):
            return self.declared
        inner = [item.declaration() or str(item) for item in self.inner]
        if self.name == "STRUCT":
            named = zip(self.names, inner, strict=True)
            inner = ["`" + name.replace("`", "``") + f"`:{item}" for name, item in named]
        return f"{self.name}<{','.join(inner)}>"

    def field(self, name: str) -> SqlType:
        """The type of a STRUCT's field."""
        for own, result in zip(self.names, self.inner, strict=False):
            if own.casefold() == name.casefold():
                return result
        return UNKNOWN

    def duck(self) -> str:
        """The type in DuckDB's SQL; empty if it is not known to the end."""
        if self.name in _DUCK:
            return _DUCK[self.name]
        if self.name == "DECIMAL":
            return f"DECIMAL({self.precision}, {self.scale})"
        inner = [item.duck() for item in self.inner]
        if not all(inner):
            return ""
        if self.name == "ARRAY":
            return f"{inner[0]}[]"
        if self.name == "MAP":
            return f"MAP({inner[0]}, {inner[1]})"
        if self.name == "STRUCT":
            fields = [
                '"' + name.replace('"', '""') + f'" {item}'
                for name, item in zip(self.names, inner, strict=True)
            ]
            return f"STRUCT({', '.join(fields)})"
        return ""


_WHOLE = ("TINYINT", "SMALLINT", "INT", "BIGINT")
_DIGITS = {"TINYINT": 3, "SMALLINT": 5, "INT": 10, "BIGINT": 19}
_KINDS = {
    **dict.fromkeys(_WHOLE, "whole"),
    **dict.fromkeys(("FLOAT", "DOUBLE"), "double"),
    **dict.fromkeys(("STRING", "VARCHAR", "CHAR"), "text"),
    **dict.fromkeys(("DATETIME", "TIMESTAMP"), "time"),
    "DECIMAL": "decimal",
    "DATE": "date",
    "BOOLEAN": "boolean",
    "BINARY": "binary",
    "ARRAY": "array",
    "MAP": "map",
    "STRUCT": "struct",
    "INTERVAL": "interval",
    "NULL": "null",
}
_DUCK = {
    "TINYINT": "TINYINT",
    "SMALLINT": "SMALLINT",
    "INT": "INTEGER",
    "BIGINT": "BIGINT",
    "FLOAT": "FLOAT",
    "DOUBLE": "DOUBLE",
    "STRING": "VARCHAR",
    "VARCHAR": "VARCHAR",
    "CHAR": "VARCHAR",
    "DATE": "DATE",
    "DATETIME": "TIMESTAMP_MS",
    "TIMESTAMP": "TIMESTAMP_NS",
    "BOOLEAN": "BOOLEAN",
    "BINARY": "BLOB",
}

UNKNOWN = SqlType()
INTERVAL_YEAR_MONTH = SqlType("INT", declared="interval_year_month")
INTERVAL_DAY_TIME = SqlType(
    "STRUCT",
    names=("sec", "nano"),
    inner=(SqlType("BIGINT"), SqlType("INT")),
    declared="interval_day_time",
)
NULL = SqlType("NULL")
INT = SqlType("INT")
BIGINT = SqlType("BIGINT")
DOUBLE = SqlType("DOUBLE")
STRING = SqlType("STRING")
DATE = SqlType("DATE")
DATETIME = SqlType("DATETIME")
TIMESTAMP = SqlType("TIMESTAMP")
BOOLEAN = SqlType("BOOLEAN")
BINARY = SqlType("BINARY")


def array_of(element: SqlType) -> SqlType:
    """ARRAY of a type."""
    return SqlType("ARRAY", inner=(element,))


def map_of(key: SqlType, value: SqlType) -> SqlType:
    """MAP of two types."""
    return SqlType("MAP", inner=(key, value))


def struct_of(names: Iterable[str], types: Iterable[SqlType]) -> SqlType:
    """STRUCT of fields."""
    return SqlType("STRUCT", names=tuple(names), inner=tuple(types))


def decimal(precision: int, scale: int, *, loose: bool = False) -> SqlType:
    """A DECIMAL, cut to the digits that there are: those before the point are kept."""
    scale = min(scale, MAX_SCALE)
    if precision > MAX_DIGITS:
        scale = max(min(scale, MAX_DIGITS - (precision - scale)), min(scale, 6))
        precision = MAX_DIGITS
    return SqlType("DECIMAL", max(precision, scale, 1), scale, loose=loose)


def decimal_of(sql_type: SqlType) -> SqlType:
    """The DECIMAL that holds every value of a whole type; a DECIMAL is itself."""
    return decimal(_DIGITS[sql_type.name], 0) if sql_type.kind == "whole" else sql_type


def quotient_type(left: SqlType, right: SqlType) -> SqlType:
    """The type of one DECIMAL divided by another."""
    scale = max(6, left.scale + right.precision + 1)
    return decimal(left.precision - left.scale + right.scale + min(scale, MAX_SCALE), scale)


def average_type(given: SqlType) -> SqlType:
    """The type of a mean of DECIMALs: four digits more, and never fewer than the values have."""
    wanted = decimal(given.precision + 4, given.scale + 4)
    # A mean is no longer before the point than the values are, so that there is room for their digits.
    return wanted if wanted.scale >= given.scale else SqlType("DECIMAL", MAX_DIGITS, given.scale)


def common_type(types: Iterable[SqlType]) -> SqlType:
    """The type that values of several types are brought to, as in CASE; unknown if one of them is."""
    result = NULL
    for item in types:
        result = _common(result, item)
    return result


def _common(a: SqlType, b: SqlType) -> SqlType:
    if a.kind == "null" or a == b:
        return b if a.kind == "null" or a.declaration() == b.declaration() else undeclared(b)
    if b.kind == "null":
        return a
    if not a.name or not b.name:
        return UNKNOWN
    if a.numeric and b.numeric:
        return _common_number(a, b)
    kinds = {a.kind, b.kind}
    if "text" in kinds and not kinds & {"array", "map", "struct"}:
        return STRING
    if kinds <= {"date", "time"}:
        return TIMESTAMP if "TIMESTAMP" in {a.name, b.name} else DATETIME
    if kinds == {"array"}:
        return array_of(_common(a.element, b.element))
    if kinds == {"map"}:
        return map_of(_common(a.inner[0], b.inner[0]), _common(a.inner[1], b.inner[1]))
    return UNKNOWN


def _common_number(a: SqlType, b: SqlType) -> SqlType:
    if "double" in {a.kind, b.kind}:
        return a if a.name == b.name else DOUBLE
    if a.kind == b.kind == "whole":
        return max(a, b, key=lambda sql_type: _WHOLE.index(sql_type.name))
    a, b = decimal_of(a), decimal_of(b)
    scale = max(a.scale, b.scale)
    before = max(a.precision - a.scale, b.precision - b.scale)
    return decimal(before + scale, scale)


def undeclared(sql_type: SqlType) -> SqlType:
    """A type without what it was declared as, for values that were computed."""
    inner = tuple(map(undeclared, sql_type.inner))
    return dataclasses.replace(sql_type, inner=inner, declared="")


def type_of_field(field: pa.Field) -> SqlType:
    """The type of a table's column, with what it was declared as."""
    try:
        declared = format_type(odps_type_of_field(field))
        plain = format_type(odps_type_of(field.type))
    except FletchingError:
        return type_of_arrow(field.type)
    result = type_of_arrow(field.type)
    return result if declared == plain else dataclasses.replace(result, declared=declared)


def type_of_arrow(data_type: pa.DataType) -> SqlType:
    """The type that values of an Arrow type have."""
    types = pa.types
    if isinstance(data_type, pa.BaseExtensionType):
        return type_of_arrow(data_type.storage_type)
    if types.is_dictionary(data_type):
        return type_of_arrow(data_type.value_type)
    for name, checks in _ARROW:
        if any(check(data_type) for check in checks):
            return SqlType(name)
    if types.is_decimal(data_type):
        return SqlType("DECIMAL", min(data_type.precision, MAX_DIGITS), data_type.scale)
    if types.is_timestamp(data_type):
        return DATETIME if data_type.unit in {"s", "ms"} else TIMESTAMP
    if (
        types.is_list(data_type)
        or types.is_large_list(data_type)
        or types.is_fixed_size_list(data_type)
    ):
        return array_of(type_of_arrow(data_type.value_type))
    if types.is_map(data_type):
        return map_of(type_of_arrow(data_type.key_type), type_of_arrow(data_type.item_type))
    if types.is_struct(data_type):
        fields = [data_type.field(i) for i in range(data_type.num_fields)]
        return struct_of((f.name for f in fields), (type_of_arrow(f.type) for f in fields))
    return UNKNOWN


_ARROW = (
    ("TINYINT", (pa.types.is_int8,)),
    ("SMALLINT", (pa.types.is_int16, pa.types.is_uint8)),
    ("INT", (pa.types.is_int32, pa.types.is_uint16)),
    ("BIGINT", (pa.types.is_int64, pa.types.is_uint32)),
    ("FLOAT", (pa.types.is_float32, pa.types.is_float16)),
    ("DOUBLE", (pa.types.is_float64,)),
    ("STRING", (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)),
    ("DATE", (pa.types.is_date,)),
    ("BOOLEAN", (pa.types.is_boolean,)),
    ("BINARY", (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)),
)

_T = exp.DataType.Type
_CAST = {
    _T.TINYINT: "TINYINT",
    _T.SMALLINT: "SMALLINT",
    _T.INT: "INT",
    _T.BIGINT: "BIGINT",
    _T.DOUBLE: "DOUBLE",
    _T.FLOAT: "FLOAT",
    _T.TEXT: "STRING",
    _T.VARCHAR: "VARCHAR",
    _T.CHAR: "CHAR",
    _T.NCHAR: "CHAR",
    _T.TIMESTAMP: "TIMESTAMP",
    _T.TIMESTAMPNTZ: "TIMESTAMP",
    _T.DATETIME: "DATETIME",
    _T.DATE: "DATE",
    _T.BOOLEAN: "BOOLEAN",
    _T.BINARY: "BINARY",
    _T.JSON: "STRING",
}
_DECLARED = {_T.TIMESTAMPNTZ: "timestamp_ntz", _T.JSON: "json"}
"""What a CAST's result is told as, where its name is not all of it."""


def type_of_cast(data_type: pa.DataType) -> SqlType:
    """The type that a CAST names; unknown if it is none of ours."""
    if ODPS_TYPE in data_type.meta:
        # A field of a struct: its type was read as a column's is.
        data_type = exp.DataType.build(str(data_type.meta[ODPS_TYPE]), dialect="hive")
    kind, inner = data_type.this, data_type.expressions
    if kind in _CAST:
        declared = _DECLARED.get(kind, "")
        sizes = [int(item.name) for item in inner if item.name.isdecimal()]
        # A length of 0 is none, and not that of any text.
        length = (sizes[0] or -1) if sizes and _KINDS[_CAST[kind]] == "text" else 0
        return SqlType(_CAST[kind], length, declared=declared)
    if kind is _T.DECIMAL:
        sizes = [int(item.name) for item in inner if item.name.isdecimal()] or [38, 18]
        precision, scale = (*sizes, 0)[:2]
        return SqlType("DECIMAL", precision, scale)
    if kind in {_T.ARRAY, _T.LIST} and len(inner) == 1:
        return array_of(type_of_cast(inner[0]))
    if kind is _T.MAP and len(inner) == 2:
        return map_of(type_of_cast(inner[0]), type_of_cast(inner[1]))
    if kind is _T.STRUCT:
        return struct_of(
            (item.name for item in inner), (type_of_cast(item.args["kind"]) for item in inner)
        )
    return UNKNOWN
