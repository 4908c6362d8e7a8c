"""The table tunnel's record stream: rows of tagged values, each with a CRC32C, as Arrow columns.

Layout (TUNNEL protocol, section 4; integers are base-128 varints unless said otherwise)::

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
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from crc32c import crc32c
from typing_extensions import Buffer

from fletching.errors import UsageError

__all__ = ["MOMENT_TYPE", "Kind", "RecordEncoder", "RecordLayout", "record_tag", "row_checksums"]

LAYER = "tunnel_records"
END_OF_ROW = 33553408
ROW_COUNT = 33554430
STREAM_CHECKSUM = 33554431
MAX_FIELDS = 4095
"""Columns of a stream: their tags are varints of at most two bytes up to 2,047, three above."""

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]


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


# --- encoding -----------------------------------------------------------------------------------


class RecordEncoder:
    """Makes a record stream of Arrow columns."""

    def __init__(self, layouts: Sequence[RecordLayout]) -> None:
        """Takes the columns' layouts, in their order on the wire.

        Raises:
            UsageError: more columns than tags, or none.
        """
        if not 1 <= len(layouts) <= MAX_FIELDS:
            raise UsageError(f"a record stream has 1 to {MAX_FIELDS} columns, not {len(layouts)}")
        self._layouts = tuple(layouts)
        self._rows = 0
        self._checksum = 0

    def encode(self, columns: Sequence[pa.Array]) -> Buffer:
        """The bytes of some rows.

        Args:
            columns: one array a layout, of its type and of one length.

        Returns:
            A buffer of its own. Costs a few copies of each value, none of them in Python.

        Raises:
            UsageError: arrays that are not as the layouts say.
        """
        if len(columns) != len(self._layouts):
            raise UsageError(f"{len(columns)} columns for {len(self._layouts)} layouts")
        rows = len(columns[0])
        for number, (layout, column) in enumerate(
            zip(self._layouts, columns, strict=True), start=1
        ):
            if column.type != layout.type or len(column) != rows:
                raise UsageError(f"column {number} is {column.type}, not {layout.type}")
        pieces, covered = _row_pieces(self._layouts, columns)
        sums = _checksums(_joined(covered))
        self._rows += rows
        self._checksum = crc32c(sums.astype("<u4").tobytes(), self._checksum)
        pieces += [
            _constant(_varint(END_OF_ROW << 3), rows, None),
            _varints(sums.astype(np.uint64)),
        ]
        return _content(_joined(pieces))

    def finish(self) -> bytes:
        """The end of the stream: the number of rows, and the checksum over all of them."""
        return (
            _varint(ROW_COUNT << 3)
            + _varint(self._rows << 1)
            + _varint(STREAM_CHECKSUM << 3)
            + _varint(self._checksum)
        )


def row_checksums(
    layouts: Sequence[RecordLayout], columns: Sequence[pa.Array]
) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """The CRC32C that each row of some columns has in a record stream."""
    return _checksums(_joined(_row_pieces(layouts, columns)[1]))


def _row_pieces(
    layouts: Sequence[RecordLayout], columns: Sequence[pa.Array]
) -> tuple[list[pa.Array], list[pa.Array]]:
    """Tags and values as they follow each other in each row; and what the row's checksum covers."""
    pieces: list[pa.Array] = []
    covered: list[pa.Array] = []
    for number, (layout, column) in enumerate(zip(layouts, columns, strict=True), start=1):
        wire, summed = _encoded(layout, column)
        here = None if column.null_count == 0 else _numpy(column.is_valid())
        pieces += [_constant(record_tag(number, layout), len(column), here), wire]
        covered += [_constant(number.to_bytes(4, "little"), len(column), here), summed]
    return pieces, covered


def record_tag(number: int, layout: RecordLayout) -> bytes:
    """The tag before a column's value."""
    return _varint(number << 3 | _WIRE.get(layout.kind, 2))


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _numpy(array: pa.Array) -> Any:
    return array.to_numpy(zero_copy_only=False)


def _binary(data: Any, offsets: Ints) -> pa.Array:
    """Byte strings that follow each other in `data`, as an array that borrows it."""
    return pa.Array.from_buffers(
        pa.large_binary(),
        len(offsets) - 1,
        [None, pa.py_buffer(np.ascontiguousarray(offsets, np.int64)), pa.py_buffer(data)],
    )


def _joined(arrays: list[pa.Array]) -> pa.Array:
    """Byte strings put together row by row."""
    if len(arrays) == 1:
        return arrays[0]
    return pc.binary_join_element_wise(*arrays, pa.scalar(b"", pa.large_binary()))


def _content(rows: pa.Array) -> memoryview:
    """All bytes of an array of byte strings, one after the other."""
    offsets = _offsets(rows)
    data = rows.buffers()[2]
    if data is None:
        return memoryview(b"")
    return memoryview(data)[int(offsets[0]) : int(offsets[-1])]


def _offsets(array: pa.Array) -> Ints:
    wide = pa.types.is_large_binary(array.type) or pa.types.is_large_string(array.type)
    kind = np.dtype(np.int64 if wide else np.int32)
    found = np.frombuffer(array.buffers()[1], kind, len(array) + 1, array.offset * kind.itemsize)
    return found.astype(np.int64)


def _constant(value: bytes, rows: int, here: Mask | None) -> pa.Array:
    """The same byte string in each row, or none where it does not belong."""
    lengths = np.full(rows, len(value), np.int64)
    if here is not None:
        lengths[~here] = 0
    offsets = _summed(lengths)
    return _binary(np.frombuffer(value * int(offsets[-1] // len(value)), np.uint8), offsets)


def _summed(lengths: Any) -> Ints:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _fixed(values: Any, here: Mask | None) -> pa.Array:
    """Numbers of one width as byte strings, empty where null."""
    width = values.dtype.itemsize
    if here is None:
        return _binary(np.ascontiguousarray(values), np.arange(len(values) + 1) * width)
    return _binary(np.ascontiguousarray(values[here]), _summed(here * width))


def _varints(values: Any, here: Mask | None = None) -> pa.Array:
    """Unsigned numbers as varints, empty where null."""
    values = values.astype(np.uint64, copy=False)
    lengths = np.ones(len(values), np.int64)
    for place in range(1, 10):
        lengths += values >= np.uint64(1 << (7 * place))
    if here is not None:
        lengths[~here] = 0
    offsets = _summed(lengths)
    data = np.empty(int(offsets[-1]), np.uint8)
    longest = int(lengths.max(initial=0))
    for place in range(longest):
        chosen = lengths > place
        part = values[chosen] >> np.uint64(7 * place)
        more = (lengths[chosen] > place + 1).astype(np.uint8) << 7
        data[offsets[:-1][chosen] + place] = (part & np.uint64(0x7F)).astype(np.uint8) | more
    return _binary(data, offsets)


def _zigzag(values: Ints) -> Any:
    return (values << 1 ^ values >> 63).view(np.uint64)


def _integers(array: pa.Array) -> Ints:
    """Values as int64, nulls as 0."""
    filled = array.fill_null(0) if array.null_count else array
    found: Ints = _numpy(filled).astype(np.int64, copy=False)
    return found


def _encoded(layout: RecordLayout, array: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Each value's bytes on the wire, without a tag, and the bytes that its checksum covers."""
    here = None if array.null_count == 0 else _numpy(array.is_valid())
    match layout.kind:
        case Kind.INTEGER:
            values = _integers(array)
            return _varints(_zigzag(values), here), _fixed(values.astype("<i8", copy=False), here)
        case Kind.BOOLEAN:
            flags = _numpy(array.fill_null(False)).astype(np.uint8)
            both = _fixed(flags, here)
            return both, both
        case Kind.FLOAT | Kind.DOUBLE:
            dtype = "<f4" if layout.kind is Kind.FLOAT else "<f8"
            numbers = _numpy(array.fill_null(0.0) if array.null_count else array)
            both = _fixed(numbers.astype(dtype, copy=False), here)
            return both, both
        case Kind.BYTES:
            content = array.cast(pa.large_binary()).fill_null(b"")
            lengths = np.diff(_offsets(content))
            return _joined([_varints(lengths, here), content]), content
        case Kind.MOMENT:
            seconds = _integers(array.field(0))
            nanos = _integers(array.field(1))
            # A null row may hold anything below it.
            wire = [_varints(_zigzag(seconds), here), _varints(_zigzag(nanos), here)]
            summed = [
                _fixed(seconds.astype("<i8", copy=False), here),
                _fixed(nanos.astype("<i4"), here),
            ]
            return _joined(wire), _joined(summed)
        case Kind.LIST:
            return _encoded_list(layout.children[0], array, here)
        case Kind.MAP:
            keys = pa.ListArray.from_arrays(array.offsets, array.keys)
            items = pa.ListArray.from_arrays(array.offsets, array.items)
            first = _encoded_list(layout.children[0], keys, here)
            second = _encoded_list(layout.children[1], items, here)
            return _joined([first[0], second[0]]), _joined([first[1], second[1]])
        case Kind.STRUCT:
            return _encoded_struct(layout, array, here)
        case Kind.VECTOR:
            return _encoded_vector(layout.children[0], array, here)


def _flagged(layout: RecordLayout, values: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Elements: a byte 1 for null, or 0 and the value."""
    wire, summed = _encoded(layout, values)
    flags = np.zeros(len(values), np.uint8)
    if values.null_count:
        flags[~_numpy(values.is_valid())] = 1
    return _joined([_fixed(flags, None), wire]), summed


def _list_bounds(array: pa.Array, here: Mask | None) -> tuple[Ints, Ints]:
    """Where each list begins and ends among the elements; null lists are empty."""
    offsets = np.frombuffer(
        array.offsets.buffers()[1], np.int32, len(array) + 1, array.offsets.offset * 4
    ).astype(np.int64)
    starts, ends = offsets[:-1], offsets[1:]
    return starts, ends if here is None else np.where(here, ends, starts)


def _grouped(elements: pa.Array, starts: Ints, ends: Ints) -> pa.Array:
    """The bytes of each list's elements, which follow each other."""
    offsets = _offsets(elements)
    data = elements.buffers()[2]
    first, last = offsets[starts], offsets[ends]
    if len(starts) == 0 or data is None:
        return _binary(b"", np.zeros(len(starts) + 1, np.int64))
    if np.array_equal(first[1:], last[:-1]):
        return _binary(data, np.append(first, last[-1:]))
    # Elements below null lists are there and belong to nobody: the lists are taken one by one.
    lists = pa.LargeListArray.from_arrays(
        pa.array(_summed(last - first)), _gather(data, first, last)
    )
    return _binary(lists.values.buffers()[1], _summed(last - first))


def _gather(data: Any, starts: Ints, ends: Ints) -> pa.Array:
    lengths = ends - starts
    places = np.repeat(starts - _summed(lengths)[:-1], lengths) + np.arange(int(lengths.sum()))
    return pa.array(np.frombuffer(data, np.uint8)[places])


def _encoded_list(
    child: RecordLayout, array: pa.Array, here: Mask | None
) -> tuple[pa.Array, pa.Array]:
    starts, ends = _list_bounds(array, here)
    wire, summed = _flagged(child, array.values)
    counts = _varints(ends - starts, here)
    return _joined([counts, _grouped(wire, starts, ends)]), _grouped(summed, starts, ends)


def _encoded_struct(
    layout: RecordLayout, array: pa.Array, here: Mask | None
) -> tuple[pa.Array, pa.Array]:
    wire, summed = [], []
    # Fields without the struct's own nulls: those are told by the whole value's absence.
    for place, child in enumerate(layout.children):
        values = array.field(place)
        flagged, covered = _flagged(child, values)
        wire.append(flagged)
        summed.append(covered)
    if not wire:
        nothing = _binary(b"", np.zeros(len(array) + 1, np.int64))
        return nothing, nothing
    return _only(_joined(wire), here), _only(_joined(summed), here)


def _only(rows: pa.Array, here: Mask | None) -> pa.Array:
    """Byte strings, empty where null."""
    if here is None:
        return rows
    return pc.if_else(pa.array(here), rows, pa.scalar(b"", pa.large_binary()))


def _encoded_vector(
    child: RecordLayout, array: pa.Array, here: Mask | None
) -> tuple[pa.Array, pa.Array]:
    if array.values.null_count:
        raise UsageError("a vector has no null elements")
    starts, ends = _list_bounds(array, here)
    elements, _ = _encoded(child, array.values)
    content = _grouped(elements, starts, ends)
    return _joined([_varints(ends - starts, here), content]), content


def _checksums(rows: pa.Array) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """The CRC32C of each byte string: one call of the library a row, made by iterators in C.

    (Rows taken eight bytes at a time in numpy, by look-up in tables of 16 bits, were no faster for
    20 bytes and several times slower for 200.)
    """
    data = rows.buffers()[2]
    bounds = _offsets(rows).tolist()
    view = memoryview(b"" if data is None else data)
    slices = map(view.__getitem__, map(slice, bounds[:-1], bounds[1:]))
    return np.fromiter(map(crc32c, slices), np.uint32, len(rows))
