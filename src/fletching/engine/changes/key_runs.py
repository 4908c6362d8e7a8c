"""Key runs: where the keys of rows are, sorted and in blocks, so that few blocks tell where a key is.

The run of a segment lies in the segment's own object, between the end of its stream and its footer,
where readers of Arrow files never look: it is durable, checked, copied and deleted with the rows that
it is of. A *merged* run is an object of its own and has the entries of many segments, so that a key
is looked for in a few runs, however many segments there are; it can be made anew from theirs at any
time (`engine/upkeep/run_merging.py`).

Their bytes are laid out in `run_encoding`: blocks, and behind them the first number of each and its checksum.
A run is searched by the first numbers, which stay in memory, and then in the blocks that they point at: of
a run of any size a change reads about one block for each of its keys. Which rows an upsert replaces hangs
on these bytes alone, so a block is proven before it is used, once per file and process.

Where many keys are looked for, each entry would have to be looked at. Most of new keys are in no run: for that
the slots of runs are kept in memory (`key_slots`), as far as there is room; the remaining keys are searched as
a few are.

Rows that were superseded in the write that made the segment are not in its run.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Hashable, Sequence

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray
from pyroaring import BitMap

from fletching.catalog.segment_rows import SegmentRow
from fletching.engine.cache import RecentlyUsed
from fletching.engine.changes.block_search import Rows, Sought, common_indices, lower_bound
from fletching.engine.changes.key_slots import KeySlots, joined_slots, slot_shift, slots_of
from fletching.engine.changes.run_encoding import (
    BLOCK_ENTRIES,
    FIRST_FORMAT_ENTRY,
    FIRST_FORMAT_REST,
    TAIL_BYTES,
    RunLayout,
    read_tail,
)
from fletching.errors import CorruptObjectError
from fletching.objects.store import ObjectStore, StoredObject

__all__ = ["Entries", "KeyRun", "RunIndex", "RunIndexes", "open_run", "run_at", "run_indexes"]

_KEPT_BYTES = 64 << 20
_GAP_BYTES = 64 << 10
"""Where each range is a request: what lies between two blocks that is not worth another."""
_DENSE = 16
"""Keys that are at least one for so many entries are looked for among all of them."""
_SLOT_ENTRIES = 1 << 17
"""A run of fewer entries is walked along in little more time than its slots take: 10,000 keys that were upserted
into half a million, in five such runs, took 0.9 of it."""
_ENTRIES_AT_ONCE = 1 << 18
_SAMPLE = 64
"""Keys that are looked for to see whether most are there, before slots are made of a run."""

_U64 = NDArray[np.uint64]
_U32 = NDArray[np.uint32]
_Hits = tuple[NDArray[np.int64], _U32, _U32 | None]


@dataclasses.dataclass(frozen=True, slots=True)
class Entries:
    """Entries of a run, ascending by number. May be views of the object's mapping.

    Attributes:
        numbers: of the keys.
        rows: of the segments that have them.
        owners: which segment each is of, in a merged run; None in a segment's own.
    """

    numbers: _U64
    rows: _U32
    owners: _U32 | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class RunIndex:
    """What is kept in memory of a run: see the module.

    ``stride`` is the bytes of a block; ``proven`` is written to by whoever proves one; ``slots`` are None until
    many keys were looked for most of which were not there.
    """

    entries: int
    layout: RunLayout
    stride: int
    first_numbers: _U64
    last_number: int
    checksums: _U32
    proven: NDArray[np.bool_]
    slots: KeySlots | None = None

    @property
    def weight(self) -> int:
        """About how many bytes it takes."""
        return 800 + 13 * len(self.checksums) + (0 if self.slots is None else self.slots.weight)


RunIndexes = RecentlyUsed[Hashable, RunIndex]
"""What is kept of runs, by key and identity of their files. Thread-safe."""


def run_indexes() -> RunIndexes:
    """Nothing is kept yet."""
    return RunIndexes(_KEPT_BYTES, weight=lambda index: index.weight)


def _nothing(merged: bool) -> tuple[_U64, _U32, _U32 | None]:
    none = np.zeros(0, dtype=np.uint32)
    return np.zeros(0, dtype=np.uint64), none, none if merged else None


def _no_hits(merged: bool) -> _Hits:
    numbers, rows, owners = _nothing(merged)
    return numbers.astype(np.int64), rows, owners


def open_run(store: ObjectStore, segment: SegmentRow, indexes: RunIndexes | None = None) -> KeyRun:
    """The run of a segment; mapped where the store maps.

    Args:
        store: where it is.
        segment: whose.
        indexes: what is known of runs already; None to read and prove it in any case.

    Raises:
        CorruptObjectError: the segment has none, or what stands there is not one.
    """
    offset, length = segment.key_run_offset, segment.key_run_length
    if offset is None or length is None:
        raise CorruptObjectError("a segment of a table with a key has no key run", key=segment.key)
    stored = store.open(segment.key)
    if offset % 8 or length < 0 or offset + length > stored.length:
        raise CorruptObjectError("a segment's key run is cut", key=segment.key)
    return run_at(stored, offset, length, most=segment.rows, merged=False, indexes=indexes)


def run_at(
    stored: StoredObject,
    offset: int,
    length: int,
    *,
    most: int,
    merged: bool,
    indexes: RunIndexes | None,
) -> KeyRun:
    """The run in some bytes of an object.

    Args:
        stored: the object, which has these bytes.
        offset: where they begin.
        length: how many.
        most: how many entries it can have.
        merged: whether it is a merged one.
        indexes: as in `open_run`.

    Raises:
        CorruptObjectError: it is none.
    """
    file = (stored.key, getattr(stored, "identity", None))
    index = None if indexes is None else indexes.get(file)
    if index is None:
        if length % FIRST_FORMAT_ENTRY == FIRST_FORMAT_REST and not merged:
            index = _index_of_first_format(stored, offset, length, most)
        else:
            index = _read_index(stored, offset, length, most, merged)
        if indexes is not None:
            indexes.put(file, index)
    return KeyRun(stored, offset, index, indexes, file)


def _index_of_first_format(stored: StoredObject, offset: int, length: int, most: int) -> RunIndex:
    entries = length // FIRST_FORMAT_ENTRY
    if entries > most:
        raise CorruptObjectError("a segment's key run is cut", key=stored.key)
    view = stored.view(offset, offset + length)
    expected = int.from_bytes(view[-FIRST_FORMAT_REST:], "little")
    if crc32c(view[:-FIRST_FORMAT_REST]) != expected:
        raise CorruptObjectError("a segment's key run fails its checksum", key=stored.key)
    first = np.frombuffer(view[: 8 * min(entries, 1)], dtype="<u8").copy()
    last = int(np.frombuffer(view[: 8 * entries], dtype="<u8")[-1]) if entries else 0
    # One block, which is not filled up to a multiple of eight bytes, and proven by now.
    size, sums = max(entries, 1), np.zeros(len(first), np.uint32)
    proven = np.ones(len(first), dtype=bool)
    stride = FIRST_FORMAT_ENTRY * size
    return RunIndex(entries, RunLayout(size), stride, first, last, sums, proven)


def _read_index(
    stored: StoredObject, offset: int, length: int, most: int, merged: bool
) -> RunIndex:
    damaged = CorruptObjectError("a key run fails its checksum", key=stored.key)
    # What is behind the blocks of the longest run there can be, in one read.
    behind = min(length, 12 * -(-most // BLOCK_ENTRIES) + 88)
    view = stored.view(offset + length - behind, offset + length)
    tail = read_tail(view)
    if tail is None or tail[1].merged != merged:
        raise damaged
    entries, layout, checksum = tail
    if entries > most:
        raise CorruptObjectError("a key run has more entries than rows", key=stored.key)
    count = -(-entries // layout.block_entries)
    rest = length - count * layout.stride
    # Behind the table are zeros, as many as make the run so long; before, 8 at most.
    if not 0 <= rest - (12 * count + 8) - TAIL_BYTES < 24:
        raise damaged
    if rest > behind:  # its blocks are smaller than those of today
        view = stored.view(offset + length - rest, offset + length)
    else:
        view = view[behind - rest :]
    if crc32c(view[:-8]) != checksum:
        raise damaged
    first = np.frombuffer(view[: 8 * count], dtype="<u8").copy()
    if (first[1:] < first[:-1]).any():
        raise damaged
    sums = np.frombuffer(view[8 * count + 8 : 12 * count + 8], dtype="<u4").copy()
    (last,) = struct.unpack_from("<Q", view, 8 * count)
    proven = np.zeros(count, dtype=bool)
    return RunIndex(entries, layout, layout.stride, first, last, sums, proven)


class KeyRun:
    """A run to look in. Thread-safe."""

    def __init__(
        self,
        stored: StoredObject,
        offset: int,
        index: RunIndex,
        indexes: RunIndexes | None = None,
        file: Hashable = None,
    ) -> None:
        """Looks at the run whose blocks begin at an offset of an object.

        Args:
            stored: the object.
            offset: where the blocks begin.
            index: of the run.
            indexes: where that is kept; None if it is not.
            file: under which key.
        """
        self._stored = stored
        self._offset = offset
        self._index = index
        self._indexes = indexes
        self._file = file

    @property
    def count(self) -> int:
        """How many entries it has."""
        return self._index.entries

    @property
    def first_numbers(self) -> _U64:
        """The first number of each block."""
        return self._index.first_numbers

    def all(self) -> Entries:
        """All entries, in memory; errors as of `between`."""
        return self.between(0, self._index.entries)

    def between(self, start: int, end: int) -> Entries:
        """The entries from one to another, in memory.

        Raises:
            CorruptObjectError: a block is damaged.
        """
        index, size = self._index, self._index.layout.block_entries
        if start >= end:
            return Entries(*_nothing(index.layout.merged))
        first, last = start // size, (end - 1) // size
        values, rows, owners = self._columns(self._read(first, last + 1))
        part = slice(start - first * size, end - first * size)
        return Entries(
            self._numbers(values, first)[:].reshape(-1)[part],
            np.arange(start, end, dtype=np.uint32) if rows is None else rows.reshape(-1)[part],
            None if owners is None else owners.reshape(-1)[part],
        )

    def below(self, number: int) -> int:
        """How many entries have a smaller number; errors as of `between`."""
        index = self._index
        wanted = np.uint64(number)
        block = int(np.searchsorted(index.first_numbers, wanted, side="left")) - 1
        if block < 0:
            return 0
        size = index.layout.block_entries
        start = block * size
        result = self.between(start, min(start + size, index.entries))
        return start + int(np.searchsorted(result.numbers, wanted, side="left"))

    def find(self, sought: Sought) -> _Hits:
        """The entries with some numbers: (index in ``sought``, row, owner), one per entry.

        Reads the blocks that the first numbers point at, and of a run that has none of the numbers mostly none.
        Errors as of `between`.
        """
        index, wanted = self._index, sought.numbers
        least, greatest = (np.uint64(number) for number in self.range)
        low = int(np.searchsorted(wanted, least))
        high = int(np.searchsorted(wanted, greatest, side="right"))
        if not index.entries or low >= high:
            return _no_hits(index.layout.merged)
        near = wanted[low:high]
        # A number that begins a block may also end the one before.
        start = max(int(np.searchsorted(index.first_numbers, near[0], side="left")) - 1, 0)
        end = int(np.searchsorted(index.first_numbers, near[-1], side="right"))
        entries = (end - start) * index.layout.block_entries
        if len(near) * _DENSE < entries:
            result = self._find_few(near)
            return result[0] + low, *result[1:]
        slots = self._slots(near)
        doubtful = None if slots is None else sought.near(slots)
        if doubtful is not None and len(doubtful) * _DENSE < entries:
            result = self._find_few(wanted[doubtful])
            return doubtful[result[0]], *result[1:]
        result = self._find_many(sought.part(low, high), start, end)
        return result[0] + low, *result[1:]

    def _slots(self, near: _U64) -> KeySlots | None:
        """The run's slots, which are made if it may have few of some numbers and there is room; else None."""
        if not self._lacks_slots:
            return self._index.slots
        index = self._index
        sample = near[:: -(-len(near) // _SAMPLE)]
        if 2 * len(self._find_few(sample)[0]) > len(sample):
            return None
        parts = (
            self.between(start, min(start + _ENTRIES_AT_ONCE, index.entries)).numbers
            for start in range(0, index.entries, _ENTRIES_AT_ONCE)
        )
        return self._keep(slots_of(parts, index.entries, index.last_number))

    @property
    def _lacks_slots(self) -> bool:
        """Whether there are no slots yet, and room for them."""
        index, indexes = self._index, self._indexes
        if index.slots is not None or indexes is None or index.entries < _SLOT_ENTRIES:
            return False
        # What is kept does not make way for them, or each of too many would be made again for every change.
        return indexes.budget.total + 3 * index.entries <= indexes.budget.capacity

    def _keep(self, slots: KeySlots) -> KeySlots:
        self._index = dataclasses.replace(self._index, slots=slots)
        if self._indexes is not None:
            self._indexes.put(self._file, self._index)
        return slots

    @property
    def slot_shift(self) -> int:
        """The size of the run's slots."""
        return slot_shift(self._index.entries, self._index.last_number)

    def keep_slots(self, parts: Sequence[BitMap]) -> None:
        """Keeps slots that somebody has made: of all entries, and of the run's size."""
        if self._lacks_slots:
            self._keep(joined_slots(filter(None, parts), self._index.entries, self.slot_shift))

    @property
    def range(self) -> tuple[int, int]:
        """The least and the greatest number; the other way round if there is none."""
        index = self._index
        return (int(index.first_numbers[0]), index.last_number) if index.entries else (1, 0)

    def spans(self, low: int, high: int) -> bool:
        """Whether numbers from one to another may be among its entries."""
        least, greatest = self.range
        return max(least, low) <= min(greatest, high)

    def _find_many(self, sought: Sought, start: int, end: int) -> _Hits:
        """What `find` gives where most blocks of a range have some: looks at each of their entries."""
        index, size = self._index, self._index.layout.block_entries
        values, rows, owners = self._columns(self._read(start, end))
        last = index.entries - start * size
        entries, indices = common_indices(self._numbers(values, start), sought)
        # Behind the last entry a block is filled up.
        entries, indices = entries[entries < last], indices[entries < last]
        row, at = np.divmod(entries, size)
        chosen = (entries + start * size).astype(np.uint32) if rows is None else rows[row, at]
        return indices, chosen, None if owners is None else owners[row, at]

    def _find_few(self, wanted: _U64) -> _Hits:
        """What `find` gives where few blocks have some: searches each number in its block."""
        if not len(wanted):
            return _no_hits(self._index.layout.merged)
        index, size = self._index, self._index.layout.block_entries
        first = index.first_numbers
        right = np.searchsorted(first, wanted, side="right") - 1
        left = np.maximum(np.searchsorted(first, wanted, side="left") - 1, 0)
        spans = right - left + 1
        indices = np.repeat(np.arange(len(wanted)), spans)
        before = np.repeat(np.cumsum(spans) - spans, spans)
        block = np.repeat(left, spans) + np.arange(len(indices)) - before
        blocks, row = self._spread(block)
        values, rows, owners = self._columns(blocks)
        asked = wanted[indices]
        if index.layout.width < 8:
            asked = asked - first[block]
        counts = np.minimum(index.entries - block * size, size)
        at = lower_bound(values, row, counts, asked)
        result: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        which = np.arange(len(indices))
        while len(which):
            # One round finds all; more only where a number repeats.
            there = at < counts[which]
            there[there] = values[row[which[there]], at[there]] == asked[which[there]]
            which, at = which[there], at[there]
            result.append((which, at))
            at = at + 1
        which, at = (np.concatenate([each[n] for each in result]) for n in range(2))
        row = row[which]
        chosen = (block[which] * size + at).astype(np.uint32) if rows is None else rows[row, at]
        return indices[which], chosen, None if owners is None else owners[row, at]

    def _read(self, first: int, end: int) -> NDArray[np.uint8]:
        """Blocks that follow each other, one in each row; proven."""
        index, stride = self._index, self._index.stride
        if not stride or not len(index.checksums):
            return np.zeros((end - first, stride), dtype=np.uint8)
        view = self._stored.view(self._offset + first * stride, self._offset + end * stride)
        self._prove(np.arange(first, end), view, first)
        return np.frombuffer(view, dtype=np.uint8).reshape(-1, stride)

    def _spread(self, wanted: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Blocks, one in each row, of which only the wanted ones are proven; the row of each of those."""
        index, stride = self._index, self._index.stride
        if not stride:
            return np.zeros((len(index.checksums), 0), dtype=np.uint8), wanted
        needed = np.flatnonzero(np.bincount(wanted, minlength=len(index.checksums)))
        first, end = int(needed[0]), int(needed[-1]) + 1
        fetch = getattr(self._stored, "fetch", None)
        if fetch is None or end - first == len(needed):
            view = self._stored.view(self._offset + first * stride, self._offset + end * stride)
            self._prove(needed, view, first)
            return np.frombuffer(view, dtype=np.uint8).reshape(-1, stride), wanted - first
        starts = (self._offset + needed * stride).tolist()
        ranges = ((start, start + stride) for start in starts)
        result = bytearray(len(needed) * stride)
        views = fetch(ranges, bytes_per_request=_GAP_BYTES)
        for start, view in zip(range(0, len(result), stride), views, strict=True):
            result[start : start + stride] = view
        self._prove(needed, memoryview(result), None)
        array = np.frombuffer(result, dtype=np.uint8).reshape(-1, stride)
        return array, np.searchsorted(needed, wanted)

    def _prove(self, blocks: NDArray[np.int64], data: memoryview, first: int | None) -> None:
        """Compares checksums of blocks; ``data`` begins with block ``first``, or has these alone."""
        index = self._index
        stride = index.stride
        doubtful = np.flatnonzero(~index.proven[blocks])
        if not len(doubtful):
            return
        numbers = blocks[doubtful]
        starts = (doubtful if first is None else numbers - first) * stride
        expected = index.checksums[numbers].tolist()
        for start, checksum in zip(starts.tolist(), expected, strict=True):
            if crc32c(data[start : start + stride]) != checksum:
                raise CorruptObjectError("a key run fails its checksum", key=self._stored.key)
        index.proven[numbers] = True

    def _columns(
        self, blocks: NDArray[np.uint8]
    ) -> tuple[NDArray[np.unsignedinteger], _U32 | None, _U32 | None]:
        """Numbers or their distances, rows and owners of blocks, one block in each row."""
        layout = self._index.layout
        size, width = layout.block_entries, layout.width
        if width:
            values = blocks[:, : width * size].view(f"<u{width}")
        else:
            values = np.broadcast_to(np.arange(size, dtype=np.uint64), (len(blocks), size))
        ends = [width * size + 4 * size * n for n in range(3)]
        columns = [blocks[:, start : start + 4 * size] for start in ends]
        rows = columns.pop(0).view("<u4") if layout.rows else None
        return values, rows, columns[0].view("<u4") if layout.merged else None

    def _numbers(self, values: NDArray[np.unsignedinteger], first: int) -> Rows:
        """The numbers of blocks from the first of them on."""
        if self._index.layout.width == 8:
            return values
        return _Distances(self._index.first_numbers[first : first + len(values), None], values)


@dataclasses.dataclass(frozen=True, slots=True)
class _Distances:
    """Numbers of blocks, made of some at a time."""

    first: _U64
    values: NDArray[np.unsignedinteger]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def __getitem__(self, part: slice, /) -> _U64:
        return self.first[part] + self.values[part]
