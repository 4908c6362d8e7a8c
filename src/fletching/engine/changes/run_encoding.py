"""The bytes of key runs: how they are laid out, and who makes them.

What runs are for, and how they are looked into, is in `key_runs`.

======================  ===========  ==================================================================
bytes                   type         meaning
======================  ===========  ==================================================================
each block: w B         uint LE      the keys' numbers (see `key_values`), ascending over all blocks: of
                                     eight bytes, or, of less, the distance from the block's first one
4 B, unless rows are    uint32 LE    the row in its segment that has the key, for each
left out
4 B, if merged          uint32 LE    which segment that is: its index in the catalog's list
to a multiple of 8                   zeros
behind the blocks: 8 b  uint64 LE    the first number of each block
8                       uint64 LE    the last number of all; 0 if there is none
4 b                     uint32 LE    CRC32C of each block
to a multiple of 24 in all           zeros
24                      struct       entries (uint64), B, flags, CRC32C of all this behind the
                                     blocks up to here, magic (uint32 LE each)
======================  ===========  ==================================================================

B is `BLOCK_ENTRIES`, or less in a run that has less; the last block is filled up with all bits set. The
flags: 1 if the run is merged, 2 if rows are left out, and in the second byte 8 - w. Rows are left
out where entry n is of row n, as where keys ascend; w is 0 where, in every block, each number
is one more than the one before. So the run of a table whose key counts up has no blocks at all.

Runs of the first releases are one block without first numbers, ``12 n + 4`` bytes: numbers, rows, and a
CRC32C of both.
"""

from __future__ import annotations

import dataclasses
import struct

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from fletching.engine.changes.key_values import ascend

__all__ = [
    "BLOCK_ENTRIES",
    "FIRST_FORMAT_ENTRY",
    "FIRST_FORMAT_REST",
    "TAIL_BYTES",
    "AscendingKeys",
    "RunBuilder",
    "RunLayout",
    "encode_run",
    "read_tail",
]

BLOCK_ENTRIES = 256
"""Entries of a block: those of a merged one are a page, so that a key costs one page of any run."""

_TAIL = struct.Struct("<QIIII")
TAIL_BYTES = _TAIL.size
_MAGIC = 0x324E5552
FIRST_FORMAT_ENTRY = 12
FIRST_FORMAT_REST = 4
_MERGED, _ROWS_LEFT_OUT = 1, 2
_WIDTHS = (1, 2, 4)

_U64 = NDArray[np.uint64]
_U32 = NDArray[np.uint32]


@dataclasses.dataclass(frozen=True, slots=True)
class RunLayout:
    """What the blocks of a run have.

    Attributes:
        block_entries: how many entries.
        merged: whether each says which segment it is of.
        width: bytes of a number, or of its distance; 0 for none.
        rows: whether each says which row it is of.
    """

    block_entries: int
    merged: bool = False
    width: int = 8
    rows: bool = True

    @property
    def stride(self) -> int:
        """Bytes of a block."""
        length = (self.width + 4 * self.rows + 4 * self.merged) * self.block_entries
        return length + -length % 8

    @property
    def flags(self) -> int:
        """As a run's last bytes have it."""
        return _MERGED * self.merged | _ROWS_LEFT_OUT * (not self.rows) | (8 - self.width) << 8


def read_tail(view: memoryview) -> tuple[int, RunLayout, int] | None:
    """What the last bytes of a run say: entries, layout, checksum; None if they are not those of one."""
    if len(view) < _TAIL.size:
        return None
    entries, size, flags, checksum, magic = _TAIL.unpack(view[-_TAIL.size :])
    layout = RunLayout(
        size, bool(flags & _MERGED), 8 - (flags >> 8 & 0xFF), not flags & _ROWS_LEFT_OUT
    )
    known = layout.width in {0, *_WIDTHS, 8} and layout.flags == flags
    if magic != _MAGIC or not known or not 1 <= size <= BLOCK_ENTRIES:
        return None
    return entries, layout, checksum


def encode_run(numbers: _U64, rows: _U32 | None = None) -> bytearray:
    """The bytes of a run.

    Args:
        numbers: of the keys, in any order.
        rows: that have them; None for each its own index, where the numbers ascend.
    """
    ascending = ascend(numbers)
    if not ascending and rows is not None:
        order = np.argsort(numbers, kind="stable")
        numbers, rows = numbers[order], rows[order]
    if rows is not None and _is_count(rows):
        rows = None
    size = min(BLOCK_ENTRIES, max(len(numbers), 1))
    width = _narrowest(numbers, size, consecutive=ascending)
    builder = RunBuilder(RunLayout(size, False, width, rows is not None))
    data = builder.add(numbers, rows, None)
    data += builder.finish()
    return data


def _is_count(rows: _U32) -> bool:
    """Whether rows are 0, 1, 2 and so on."""
    last = len(rows) - 1
    if last < 0 or rows[0] or rows[last] != last:
        return last < 0
    return ascend(rows)


def _narrowest(numbers: _U64, size: int, *, consecutive: bool) -> int:
    """Of how many bytes each number, or its distance from its block's first, can be."""
    ends = np.append(numbers[size - 1 :: size], numbers[-1:])
    spans = ends[: len(numbers[::size])] - numbers[::size]
    if not len(spans):
        return 0
    full = len(numbers) // size
    if consecutive and (spans[:full] == size - 1).all():
        rest = len(numbers) - full * size
        if not rest or spans[-1] == rest - 1:
            return 0
    return _width_of(int(spans.max()))


def _width_of(span: int) -> int:
    return next((width for width in _WIDTHS if span < 1 << 8 * width), 8)


class RunBuilder:
    """Makes the bytes of a run from its entries in ascending order, some at a time. Not thread-safe.

    Attributes:
        entries: how many there are so far.
        last: the number of the last one.
        length: bytes so far.
    """

    def __init__(self, layout: RunLayout) -> None:
        """Begins without entries."""
        self._layout = layout
        none = np.zeros(0, dtype=np.uint32)
        self._numbers: _U64 = np.zeros(0, dtype=np.uint64)
        self._rows = none if layout.rows else None
        self._owners = none if layout.merged else None
        self._first: list[_U64] = []
        self.last = 0
        self._checksums: list[int] = []
        self.entries = 0
        self.length = 0

    def add(self, numbers: _U64, rows: _U32 | None, owners: _U32 | None) -> bytearray:
        """Takes entries that follow those before; the blocks that are full now.

        Rows and owners are None where the layout has none.
        """
        if len(numbers):
            self.last = int(numbers[-1])
        self.entries += len(numbers)
        if len(self._numbers):
            numbers = np.concatenate([self._numbers, numbers])
            rows, owners = _joined(self._rows, rows), _joined(self._owners, owners)
        size = self._layout.block_entries
        full = len(numbers) // size * size
        self._numbers = numbers[full:].copy()
        self._rows = None if rows is None else rows[full:].copy()
        self._owners = None if owners is None else owners[full:].copy()
        return self._full(
            numbers[:full],
            None if rows is None else rows[:full],
            None if owners is None else owners[:full],
        )

    def _full(self, numbers: _U64, rows: _U32 | None, owners: _U32 | None) -> bytearray:
        size, width = self._layout.block_entries, self._layout.width
        values: NDArray[np.unsignedinteger] = numbers.reshape(-1, size)
        first = numbers[::size].astype("<u8")
        if width < 8:
            values = (values - first[:, None]) if width else values[:, :0]
        return self.add_blocks(first, values, rows, owners)

    def add_blocks(
        self,
        first: _U64,
        values: NDArray[np.unsignedinteger],
        rows: _U32 | None = None,
        owners: _U32 | None = None,
    ) -> bytearray:
        """Blocks from what they have: first numbers, and in rows of an array the layout's values.

        Whoever gives them so says of how many entries, and which number is the last.
        """
        layout = self._layout
        count, size, width, stride = len(first), layout.block_entries, layout.width, layout.stride
        data = bytearray(count * stride)
        self._first.append(first)
        if not stride:
            self._checksums += [0] * count
            return data
        blocks = np.frombuffer(data, dtype=np.uint8).reshape(count, stride)
        if width:
            blocks[:, : width * size].view(f"<u{width}")[:] = values
        at = width * size
        for column in (rows, owners):
            if column is not None:
                blocks[:, at : at + 4 * size].view("<u4")[:] = column.reshape(count, size)
                at += 4 * size
        view = memoryview(data)
        self._checksums += [
            crc32c(view[start : start + stride]) for start in range(0, len(data), stride)
        ]
        self.length += len(data)
        return data

    def finish(self) -> bytearray:
        """The last block, and what stands behind the blocks."""
        data = bytearray()
        if len(self._numbers):
            missing = self._layout.block_entries - len(self._numbers)
            filled = np.full(missing, ~np.uint32(0))
            # All bits of the numbers, or of the distances.
            ones = (1 << 8 * self._layout.width) - 1
            most = ones if self._layout.width == 8 else int(self._numbers[0]) + ones
            data = self._full(
                np.concatenate([self._numbers, np.full(missing, most % (1 << 64), np.uint64)]),
                None if self._rows is None else np.concatenate([self._rows, filled]),
                None if self._owners is None else np.concatenate([self._owners, filled]),
            )
        behind = b"".join(part.tobytes() for part in self._first) + struct.pack("<Q", self.last)
        behind += np.array(self._checksums, dtype="<u4").tobytes()
        # Then neither it nor what is left of it without some words is as long as one of the first format.
        behind += bytes(-(self.length + len(behind) + _TAIL.size) % 24)
        head = struct.pack("<QII", self.entries, self._layout.block_entries, self._layout.flags)
        self.length += len(behind) + _TAIL.size
        return data + behind + head + struct.pack("<II", crc32c(head, crc32c(behind)), _MAGIC)


def _joined(before: _U32 | None, values: _U32 | None) -> _U32 | None:
    return None if before is None or values is None else np.concatenate([before, values])


class AscendingKeys:
    """Keys of the rows of a segment from its first on, as long as they ascend. Not thread-safe.

    Held as their run will have them, which is a fraction of what they are, and made while they are at hand.

    Attributes:
        count: how many there are.
    """

    def __init__(self) -> None:
        """Begins without keys."""
        self.count = 0
        self._last: np.uint64 | None = None
        self._first: list[_U64] = []
        # Of the blocks beside them; of no columns where each number is one more than the one before.
        self._values: list[NDArray[np.unsignedinteger]] = []
        self._rest: _U64 = np.zeros(0, dtype=np.uint64)

    def add(self, numbers: _U64) -> bool:
        """Takes the next rows' keys; False, with none taken, if one is not more than that before it."""
        if not len(numbers):
            return True
        follows = self._last is None or numbers[0] > self._last
        if not follows or not ascend(numbers):
            return False
        self._last = numbers[-1]
        self.count += len(numbers)
        if len(self._rest):
            numbers = np.concatenate([self._rest, numbers])
        size = BLOCK_ENTRIES
        full = len(numbers) // size * size
        self._rest = numbers[full:].copy()
        if full:
            blocks = numbers[:full].reshape(-1, size)
            first = blocks[:, 0].copy()
            width = _narrowest(numbers[:full], size, consecutive=True)
            self._first.append(first)
            if not width:
                self._values.append(np.zeros((len(first), 0), dtype=np.uint8))
            elif width < 8:
                self._values.append((blocks - first[:, None]).astype(f"<u{width}"))
            else:
                self._values.append(blocks.copy())
        return True

    def numbers(self) -> _U64:
        """All of them."""
        return np.concatenate([*map(_decoded, self._first, self._values), self._rest])

    def run(self) -> bytearray:
        """The bytes of their run."""
        size = min(BLOCK_ENTRIES, max(self.count, 1))
        widths = [0 if not each.shape[1] else each.dtype.itemsize for each in self._values]
        width = max([_narrowest(self._rest, size, consecutive=True), *widths])
        builder = RunBuilder(RunLayout(size, width=width, rows=False))
        data = bytearray()
        for first, values, mine in zip(self._first, self._values, widths, strict=True):
            builder.entries += len(first) * size
            if width == 8 and mine < 8:
                values = _decoded(first, values).reshape(-1, size)  # noqa: PLW2901 - the same keys
            elif width and not mine:
                values = np.arange(size, dtype=np.uint8)  # noqa: PLW2901 - the same keys
            data += builder.add_blocks(first, values)
        if self._last is not None:
            builder.last = int(self._last)
        data += builder.add(self._rest, None, None)
        data += builder.finish()
        return data


def _decoded(first: _U64, values: NDArray[np.unsignedinteger]) -> _U64:
    """The numbers of blocks, one after the other."""
    if not values.shape[1]:
        values = np.arange(BLOCK_ENTRIES, dtype=np.uint64)[None, :]
    elif values.dtype.itemsize == 8:
        return values.reshape(-1).astype(np.uint64, copy=False)
    return (first[:, None] + values).reshape(-1)
