"""Bounds-checked reading of flatbuffer tables: the part of the encoding that Arrow's metadata uses.

A flatbuffer is little-endian. The root is a u32 offset at byte 0. A table starts with an i32 that,
subtracted from the table's position, gives its vtable; the vtable is u16 values: its own size, the
table's size, then for each slot the field's position in the table (0: absent, the default holds).
Strings, vectors and tables inside a table are u32 offsets relative to where they stand.

Every position is checked against the input before it is followed; nothing is copied but strings.
Offsets only lead forward, apart from the vtable, so that no chain of tables can go in circles.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from fletching.errors import MalformedFrameError

__all__ = ["Table", "root_table"]

_U16: Final = struct.Struct("<H")
_U16_U16: Final = struct.Struct("<HH")
_U32: Final = struct.Struct("<I")
_I8: Final = struct.Struct("<b")
_U8: Final = struct.Struct("<B")
_I16: Final = struct.Struct("<h")
_I32: Final = struct.Struct("<i")
_I64: Final = struct.Struct("<q")

LAYER: Final = "metadata"


def malformed(
    what: str, position: int, *, expected: object = None, actual: object = None
) -> MalformedFrameError:
    """The error for a flatbuffer that breaks its own encoding; ``position`` counts from its start."""
    detail = "" if expected is None else f": expected {expected}"
    if actual is not None:
        detail += f"{',' if detail else ':'} got {actual}"
    return MalformedFrameError(
        f"metadata flatbuffer: {what}{detail}",
        layer=LAYER,
        offset=position,
        expected=expected,
        actual=actual,
    )


class Table:
    """One table, borrowed from ``data``; slots are numbered from 0 in the order of the schema."""

    __slots__ = ("_end", "_vtable", "_vtable_end", "data", "position")

    def __init__(self, data: memoryview, position: int) -> None:
        size = len(data)
        if not 0 <= position <= size - 4:
            raise malformed("a table lies outside", position, expected=f"at most {size - 4}")
        vtable = position - _I32.unpack_from(data, position)[0]
        if not 0 <= vtable <= size - 4:
            raise malformed(
                "a vtable lies outside", position, expected=f"0..{size - 4}", actual=vtable
            )
        vtable_size, table_size = _U16_U16.unpack_from(data, vtable)
        if vtable_size < 4 or vtable_size & 1 or vtable + vtable_size > size:
            raise malformed(
                "a vtable has a wrong size",
                vtable,
                expected=f"even, 4..{size - vtable}",
                actual=vtable_size,
            )
        if table_size < 4 or position + table_size > size:
            raise malformed(
                "a table has a wrong size",
                position,
                expected=f"4..{size - position}",
                actual=table_size,
            )
        self.data = data
        self.position = position
        self._end = position + table_size
        self._vtable = vtable
        self._vtable_end = vtable + vtable_size

    def _field(self, slot: int, size: int) -> int:
        """Absolute position of a slot's inline value, or 0 when it is absent."""
        entry = self._vtable + 4 + 2 * slot
        if entry >= self._vtable_end:
            return 0
        relative: int = _U16.unpack_from(self.data, entry)[0]
        if relative == 0:
            return 0
        position = self.position + relative
        if relative < 4 or position + size > self._end:
            raise malformed(
                f"slot {slot} lies outside its table",
                position,
                expected=f"{self.position + 4}..{self._end - size}",
                actual=position,
            )
        return position

    def has(self, slot: int) -> bool:
        """Whether the slot is present."""
        return self._field(slot, 1) != 0

    def int8(self, slot: int, default: int = 0) -> int:
        """A signed byte."""
        position = self._field(slot, 1)
        return int(_I8.unpack_from(self.data, position)[0]) if position else default

    def uint8(self, slot: int, default: int = 0) -> int:
        """An unsigned byte: also union tags and booleans."""
        position = self._field(slot, 1)
        return int(_U8.unpack_from(self.data, position)[0]) if position else default

    def boolean(self, slot: int) -> bool:
        """A boolean; false when it is absent."""
        return bool(self.uint8(slot))

    def int16(self, slot: int, default: int = 0) -> int:
        """A signed 16-bit integer: also enumerations."""
        position = self._field(slot, 2)
        return int(_I16.unpack_from(self.data, position)[0]) if position else default

    def int32(self, slot: int, default: int = 0) -> int:
        """A signed 32-bit integer."""
        position = self._field(slot, 4)
        return int(_I32.unpack_from(self.data, position)[0]) if position else default

    def int64(self, slot: int, default: int = 0) -> int:
        """A signed 64-bit integer."""
        position = self._field(slot, 8)
        return int(_I64.unpack_from(self.data, position)[0]) if position else default

    def uint8_position(self, slot: int) -> int:
        """Where a byte stands; 0 when it is absent."""
        return self._field(slot, 1)

    def int64_position(self, slot: int) -> int:
        """Where a 64-bit integer stands, for patching a copy; 0 when it is absent."""
        return self._field(slot, 8)

    def reference_position(self, slot: int) -> int:
        """Where the reference to a nested value stands, for patching a copy; 0 when it is absent."""
        return self._field(slot, 4)

    def _follow(self, slot: int) -> int:
        position = self._field(slot, 4)
        if not position:
            return 0
        offset: int = _U32.unpack_from(self.data, position)[0]
        if offset == 0 or position + offset > len(self.data) - 4:
            raise malformed(
                f"slot {slot} points outside",
                position,
                expected=f"1..{len(self.data) - 4 - position}",
                actual=offset,
            )
        return position + offset

    def table(self, slot: int) -> Table | None:
        """A nested table, or None when it is absent."""
        position = self._follow(slot)
        return Table(self.data, position) if position else None

    def vector(self, slot: int, item_bytes: int) -> tuple[int, int]:
        """Start and item count of a vector of inline items; ``(0, 0)`` when it is absent."""
        position = self._follow(slot)
        if not position:
            return 0, 0
        count: int = _U32.unpack_from(self.data, position)[0]
        start = position + 4
        if count * item_bytes > len(self.data) - start:
            raise malformed(
                f"the vector in slot {slot} is longer than the flatbuffer",
                position,
                expected=f"at most {(len(self.data) - start) // item_bytes} items",
                actual=count,
            )
        return start, count

    def tables(self, slot: int) -> Iterator[Table]:
        """The tables of a vector of tables, in order."""
        start, count = self.vector(slot, 4)
        for index in range(count):
            position = start + 4 * index
            offset: int = _U32.unpack_from(self.data, position)[0]
            if offset == 0 or position + offset > len(self.data) - 4:
                raise malformed(
                    f"item {index} of the vector in slot {slot} points outside",
                    position,
                    expected=f"1..{len(self.data) - 4 - position}",
                    actual=offset,
                )
            yield Table(self.data, position + offset)

    def blob(self, slot: int) -> bytes | None:
        """A string's bytes (a copy), or None when it is absent."""
        start, count = self.vector(slot, 1)
        return bytes(self.data[start : start + count]) if start else None

    def text(self, slot: int) -> str | None:
        """A string, or None when it is absent; it must be UTF-8."""
        raw = self.blob(slot)
        if raw is None:
            return None
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise malformed(f"the string in slot {slot} is not UTF-8", self._follow(slot)) from None


def root_table(data: memoryview) -> Table:
    """The root table of a flatbuffer that starts at byte 0 of ``data``."""
    if len(data) < 4:
        raise malformed("no room for the root offset", 0, expected="at least 4", actual=len(data))
    position: int = _U32.unpack_from(data, 0)[0]
    if position > len(data) - 4:
        raise malformed(
            "the root table lies outside", 0, expected=f"at most {len(data) - 4}", actual=position
        )
    return Table(data, position)
