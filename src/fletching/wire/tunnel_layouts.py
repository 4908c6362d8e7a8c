"""The table tunnel's record stream: rows of tagged values, each with a CRC32C, as Arrow columns.

Layout (integers are base-128 varints unless said otherwise)::

    row         [tag(n, wire) value]*   absent where null, n = 1.. in the order of columns
                tag(33553408, 0) CRC32C of the row
    stream      row* tag(33554430, 0) zigzag(rows) tag(33554431, 0) CRC32C of the rows' CRC32Cs

    value       wire  bytes                                       what the CRC covers
    integer     0     zigzag                                      int64, little-endian
    boolean     0     0 or 1                                      1 byte
    float       5     4 bytes little-endian                       the same
    double      1     8 bytes little-endian                       the same
    bytes       2     length, bytes                               the bytes
    moment      2     zigzag seconds, zigzag nanoseconds          int64, int32, little-endian
    list        2     count, then per element 1, or 0 and value   the elements' values
    map         2     the keys as a list, the values as a list    the values
    struct      2     per field 1, or 0 and value                 the values
    vector      2     count, then raw elements                    the elements

    tag(n, w) = n << 3 | w; a row's CRC also covers n as int32, little-endian, before each value.

Moments, lists, maps, structs and vectors have wire type 2 but no length, so that a reader must know
the columns. Everything here works on whole columns: a value costs no Python call. Texts such as
decimals are bytes at this level.

A checksum at or above 2**31 may come sign-extended to 64 bits: 32 bits of it count. It is written in
32 bits.
"""

from __future__ import annotations

import dataclasses
import enum

import pyarrow as pa

from fletching.errors import UsageError

__all__ = [
    "END_OF_ROW",
    "LAYER",
    "MAX_FIELDS",
    "MOMENT_TYPE",
    "ROW_COUNT",
    "STREAM_CHECKSUM",
    "Kind",
    "RecordLayout",
    "record_tag",
    "varint",
]

LAYER = "tunnel_records"
END_OF_ROW = 33553408
ROW_COUNT = 33554430
STREAM_CHECKSUM = 33554431
MAX_FIELDS = 4095
"""Columns of a stream: their tags are varints of at most two bytes up to 2,047, three above."""


class Kind(enum.Enum):
    """How values of a column are written."""

    INTEGER = "integer"
    BOOLEAN = "boolean"
    FLOAT = "float"
    DOUBLE = "double"
    BYTES = "bytes"
    MOMENT = "moment"
    LIST = "list"
    MAP = "map"
    STRUCT = "struct"
    VECTOR = "vector"


_WIRE = {Kind.INTEGER: 0, Kind.BOOLEAN: 0, Kind.FLOAT: 5, Kind.DOUBLE: 1}


@dataclasses.dataclass(frozen=True, slots=True)
class RecordLayout:
    """How a column, or a part of one, is written, and the Arrow type that holds it here.

    ======== ========================================= =================
    kind     Arrow type                                children
    ======== ========================================= =================
    integer  int8 to int64                             none
    boolean  bool                                      none
    float    float32                                   none
    double   float64                                   none
    bytes    binary                                    none
    moment   struct<sec: int64, nano: int32>           none
    list     list                                      the element
    map      map                                       key and value
    struct   struct                                    its fields
    vector   list                                      float or double
    ======== ========================================= =================
    """

    kind: Kind
    type: pa.DataType
    children: tuple[RecordLayout, ...] = ()

    def __post_init__(self) -> None:
        """Refuses what the stream has no form for."""
        if self.kind is Kind.VECTOR and self.children[0].kind not in {Kind.FLOAT, Kind.DOUBLE}:
            raise UsageError("a vector's elements are floats or doubles")

    @property
    def width(self) -> int:
        """Bytes that a null takes in memory: a value takes as many and what its own length adds."""
        if self.kind is Kind.STRUCT:
            return 1 + sum(child.width for child in self.children)
        return 16 if self.kind is Kind.MOMENT else 8


MOMENT_TYPE = pa.struct([("sec", pa.int64()), ("nano", pa.int32())])
"""Seconds since the epoch, floored, and nanoseconds from there."""


def record_tag(number: int, layout: RecordLayout) -> bytes:
    """The tag before a column's value."""
    return varint(number << 3 | _WIRE.get(layout.kind, 2))


def varint(value: int) -> bytes:
    """A number as a varint."""
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)
