"""CRC32C of many rows at once: each row's values are in columns, and no row is put together for it.

The checksum's register after a message is linear in the message and the register before it. A step over
bytes of one width is a look-up in a table of 256 words for each byte's place, the same for all rows; the
register goes into the first four bytes. Strings take steps of eight bytes, then of four, two and one.

Source: CRC32C as in `crc32c_blocks`; tables as in "slicing by 8" (Kounavis and Berry, 2005).
"""

from __future__ import annotations

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

__all__ = ["RowChecksums"]

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Sums = NDArray[np.uint32]

_POLYNOMIAL = 0x82F63B78
_MAX_WIDTH = 24
"""The widest step: a field's number and a moment."""
_LONG = 96
"""Strings longer than this cost less in calls of the library, one each, made by iterators in C."""


def _tables() -> list[Sums]:
    """For each distance from the end of a step, the register after a byte and so many zeros."""
    first = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        first = np.where(first & 1, first >> 1 ^ np.uint32(_POLYNOMIAL), first >> 1)
    tables = [first]
    for _ in range(_MAX_WIDTH - 1):
        last = tables[-1]
        tables.append(last >> 8 ^ first[last & 0xFF])
    return tables


_AFTER = _tables()


def _look_up(octets: Bytes, last: int) -> Sums:
    """The register after bytes (rows, places), the last of which has ``last`` bytes behind it."""
    width = octets.shape[1]
    # A byte is in its table: "clip" only saves looking whether it is.
    result = np.take(_AFTER[last + width - 1], octets[:, 0], mode="clip")
    for index in range(1, width):
        result ^= np.take(_AFTER[last + width - 1 - index], octets[:, index], mode="clip")
    return result


def _bytes_of(values: NDArray[np.generic]) -> Bytes:
    result: Bytes = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1)
    return result


class RowChecksums:
    """The checksums of some rows, taken further column by column."""

    def __init__(self, rows: int) -> None:
        self._register = np.full(rows, 0xFFFFFFFF, np.uint32)

    @property
    def sums(self) -> Sums:
        """The checksums so far."""
        return ~self._register

    def fixed(self, number: int, parts: list[NDArray[np.generic]], here: Mask | None) -> None:
        """Takes a field's number and values of one width.

        Args:
            number: 4 bytes, little-endian.
            parts: arrays of the values' parts, in order; little-endian, of one width each.
            here: in which rows; None for all.
        """
        octets = [_bytes_of(part) for part in parts]
        left = sum(each.shape[1] for each in octets)
        result = _look_up(_bytes_of(self._register ^ np.uint32(number)), left)
        for each in octets:
            left -= each.shape[1]
            result ^= _look_up(each, left)
        self._step(result, here)

    def strings(self, number: int, data: Bytes, offsets: Ints, here: Mask | None) -> None:
        """Takes a field's number and byte strings.

        Args:
            number: as above.
            data: holds the strings.
            offsets: where each begins, and the last ends.
            here: in which rows; None for all. Elsewhere the strings are empty.
        """
        result = _look_up(_bytes_of(self._register ^ np.uint32(number)), 0)
        self._step(result, here)
        starts, lengths = offsets[:-1], np.diff(offsets)
        longest = int(lengths.max(initial=0))
        if longest <= _LONG:
            self._short(data, starts, lengths, longest)
            return
        long = lengths > _LONG
        self._long(data, starts, lengths, np.flatnonzero(long))
        self._short(data, starts, np.where(long, 0, lengths), _LONG)

    def _step(self, after: Sums, here: Mask | None) -> None:
        self._register = after if here is None else np.where(here, after, self._register)

    def _long(self, data: Bytes, starts: Ints, lengths: Ints, rows: Ints) -> None:
        begin = starts[rows]
        slices = map(slice, begin.tolist(), (begin + lengths[rows]).tolist())
        before = (~self._register[rows]).tolist()
        sums = map(crc32c, map(data.data.__getitem__, slices), before)
        self._register[rows] = ~np.fromiter(sums, np.uint32, len(rows))

    def _short(self, data: Bytes, starts: Ints, lengths: Ints, longest: int) -> None:
        register = self._register
        position = starts
        if longest >= 8:
            words = np.ndarray((max(0, len(data) - 7),), "<u8", data, 0, (1,))
            steps = lengths >> 3
            for step in range(longest >> 3):
                rows = np.flatnonzero(steps > step)
                if not len(rows):
                    break
                mixed = words[position[rows] + 8 * step] ^ register[rows]
                register[rows] = _look_up(_bytes_of(mixed), 0)
            position = position + (lengths & ~7)
        for width, kind in ((4, "<u4"), (2, "<u2"), (1, "u1")):
            rows = np.flatnonzero(lengths & width)
            if not len(rows):
                continue
            views = np.ndarray((len(data) - width + 1,), kind, data, 0, (1,))
            before = register[rows]
            mixed = (before ^ views[position[rows]]).astype(kind)
            result = _look_up(_bytes_of(mixed), 0)
            register[rows] = result if width == 4 else result ^ before >> np.uint32(8 * width)
            position = position + (lengths & width)
