"""Searches in many sorted rows at once."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from fletching.engine.changes.key_slots import KeySlots, greatest_in_slots, taken_slots

__all__ = ["Rows", "Sought", "common_indices", "lower_bound"]

_U64 = NDArray[np.uint64]

_ROWS_AT_ONCE = 64
_SLOTS_PER_NUMBER = 32
_MOST_SLOTS = 1 << 24


class Rows(Protocol):
    """Numbers in rows of equal length: an array of two dimensions, or what makes parts of one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """How many rows, and how many numbers each has."""

    def __getitem__(self, part: slice, /) -> NDArray[np.unsignedinteger]:
        """Some rows."""


def lower_bound(
    numbers: NDArray[np.unsignedinteger],
    row: NDArray[np.int64],
    counts: NDArray[np.int64],
    wanted: _U64,
) -> NDArray[np.int64]:
    """For each wanted number the first index in its row of numbers that is not below it."""
    low = np.zeros(len(row), dtype=np.int64)
    high = counts.astype(np.int64)
    last = numbers.shape[1] - 1
    for _ in range(int(numbers.shape[1]).bit_length()):
        middle = (low + high) >> 1
        less = (numbers[row, np.minimum(middle, last)] < wanted) & (low < high)
        low, high = np.where(less, middle + 1, low), np.where(less, high, middle)
    return low


class _Slots(NamedTuple):
    """Which parts of a range of numbers have some: part ``number - first >> shift`` has if it is ``seen``."""

    first: np.uint64
    shift: np.uint64
    seen: NDArray[np.bool_]


class Sought:
    """Ascending numbers that are looked for, in one list after another. Not thread-safe.

    The table that a list is walked along with takes as long to make as the walk along as many numbers, and so do
    the slots of runs that the numbers are in: each is made once.

    Attributes:
        numbers: some, or none, which have no table.
    """

    def __init__(self, numbers: _U64, slots: _Slots | None = None) -> None:
        """Makes no table yet; ``slots`` is one in which the numbers are."""
        self.numbers = numbers
        self._slots = slots
        self._taken: dict[int, BitMap] = {}

    def part(self, start: int, end: int) -> Sought:
        """Some of the numbers: with a table of their own where they are few of all."""
        few = 2 * (end - start) < len(self.numbers)
        return Sought(self.numbers[start:end], None if few else self.slots)

    def near(self, slots: KeySlots) -> NDArray[np.int64] | None:
        """Indices of the numbers that may be in a run; None where its slots do not tell."""
        if slots.taken is None:
            return None
        shift = slots.shift
        mine = self._taken.get(shift)
        if mine is None:
            most = np.uint64(greatest_in_slots(shift))
            count = int(np.searchsorted(self.numbers, most, side="right"))
            mine = self._taken[shift] = taken_slots(self.numbers[:count], shift)
        common = np.frombuffer((mine & slots.taken).to_array(), dtype=np.uint32)
        least = common.astype(np.uint64) << np.uint64(shift)
        start = np.searchsorted(self.numbers, least, side="left")
        most_of = least | np.uint64((1 << shift) - 1)
        counts = np.searchsorted(self.numbers, most_of, side="right") - start
        before = np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(start, counts) + np.arange(len(before)) - before

    def known_slots(self, shift: int) -> BitMap | None:
        """The slots that the numbers are in, if `near` has asked for them."""
        return self._taken.get(shift)

    @property
    def slots(self) -> _Slots:
        """The table: 32 bytes for each number, 16 MiB at most."""
        if self._slots is None:
            self._slots = _slots_of(self.numbers)
        return self._slots


def _slots_of(numbers: _U64) -> _Slots:
    first, span = numbers[0], int(numbers[-1] - numbers[0])
    slots = min(max(len(numbers) * _SLOTS_PER_NUMBER, 1 << 10), _MOST_SLOTS)
    # At least one bit, so that slots are no negative indices.
    shift = np.uint64(max((span // slots).bit_length(), 1))
    if int(first >> shift) <= slots:
        first = np.uint64(0)  # hashes begin near it: nothing needs to be taken off each number
    # Of what is beyond the last one, one slot that is empty.
    seen = np.zeros((int(numbers[-1] - first) >> int(shift)) + 2, dtype=bool)
    seen[((numbers - first) >> shift).view(np.int64)] = True
    return _Slots(first, shift, seen)


def common_indices(numbers: Rows, sought: Sought) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where two ascending lists of numbers are equal: (index in ``numbers``, index in ``sought``) of each pair.

    Args:
        numbers: in rows of equal length, counted as if they were one; need not be contiguous.
        sought: what is looked for among them.

    Cost: a look at one byte for each of ``numbers``, in a table that both walk along in order; only what
    is in a slot with a wanted number is searched. Copies no more than some rows at a time.
    """
    wanted = sought.numbers
    first, shift, seen = sought.slots
    scratch = np.empty((_ROWS_AT_ONCE, numbers.shape[1]), dtype=np.uint64)
    near_one = np.empty(scratch.shape, dtype=bool)
    indices: list[NDArray[np.int64]] = []
    result: list[NDArray[np.unsignedinteger]] = []
    for start in range(0, numbers.shape[0], _ROWS_AT_ONCE):
        part = numbers[start : start + _ROWS_AT_ONCE]
        slot, hit = scratch[: len(part)], near_one[: len(part)]
        if first:
            np.subtract(part, first, out=slot)
            slot >>= shift
        else:
            np.right_shift(part, shift, out=slot)
        # What is less than the first has wrapped around, beyond the last.
        np.take(seen, slot.view(np.int64), out=hit, mode="clip")
        near = np.flatnonzero(hit)
        indices.append(near + start * numbers.shape[1])
        result.append(part[np.divmod(near, numbers.shape[1])])
    index, number = np.concatenate(indices), np.concatenate(result)
    left = np.searchsorted(wanted, number, side="left")
    equal = np.flatnonzero(wanted[np.minimum(left, len(wanted) - 1)] == number)
    index, number, left = index[equal], number[equal], left[equal]
    counts = np.searchsorted(wanted, number, side="right") - left
    before = np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(index, counts), np.repeat(left, counts) + np.arange(len(before)) - before
