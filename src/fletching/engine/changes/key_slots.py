"""Which parts of the range of numbers have keys of a run: tells of absent keys, in two bytes for each that is there.

A slot is ``number >> shift``. Slots are 256 to 1,024 times as many as a run's entries, so that of the keys that are
not in it all but about one in so many are in slots that it has none in. Which slots two lists of keys have in common
takes a nanosecond and a half for each entry, a tenth of what a walk along the entries takes. Slots may only say
that a key is surely absent: what is in one that is taken is looked for.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

__all__ = [
    "KeySlots",
    "greatest_in_slots",
    "joined_slots",
    "slot_shift",
    "slots_of",
    "taken_slots",
]

_U64 = NDArray[np.uint64]

_AT_ONCE = 1 << 14
_CONTAINER_BYTES = 48
"""What a bitmap takes for 65,536 neighbouring slots beside two bytes for each that is taken."""
_MOST_IN_LIST = 4096
_LISTS_COOKIE = 12346
"""First number of a bitmap's portable form, if every 65,536 slots are a list."""


@dataclasses.dataclass(frozen=True, slots=True)
class KeySlots:
    """The slots of a run.

    Attributes:
        shift: bits of a number that are below its slot.
        taken: slots with an entry; None where so many entries share slots that they tell little.
        weight: about how many bytes that takes.
    """

    shift: int
    taken: BitMap | None
    weight: int


def slot_shift(entries: int, last: int) -> int:
    """Of how many bits slots take no notice, by the number of entries and the greatest one.

    Runs of about one size have the same, so that what is looked for is put into slots once for all of them.
    """
    length = entries.bit_length()
    return max(last.bit_length() - min(length + length % 2 + 8, 32), 0)


def greatest_in_slots(shift: int) -> int:
    """The greatest number that has a slot: they are numbers of 32 bits."""
    return min((1 << 32 + shift) - 1, (1 << 64) - 1)


def slots_of(parts: Iterable[_U64], entries: int, last: int) -> KeySlots:
    """The slots of ascending numbers that come in parts, each of which is in memory alone.

    Args:
        parts: the numbers.
        entries: how many there are.
        last: the last of them.
    """
    shift = slot_shift(entries, last)
    return joined_slots((taken_slots(part, shift) for part in parts), entries, shift)


def joined_slots(parts: Iterable[BitMap], entries: int, shift: int) -> KeySlots:
    """The slots of a run from those of its parts, none of which is empty."""
    taken = BitMap()
    weight = 0
    for more in parts:
        taken |= more
        weight += 2 * len(more)
        weight += _CONTAINER_BYTES * min(1 + int(more.max() - more.min() >> 16), len(more))
    if 2 * len(taken) < entries:
        return KeySlots(shift, None, 0)
    return KeySlots(shift, taken, weight)


def taken_slots(numbers: _U64, shift: int) -> BitMap:
    """The slots of some ascending numbers, none of them beyond `greatest_in_slots`.

    Lays out the bitmap's portable form at once: adding slots one by one takes ten times as long.
    """
    slots = np.empty(len(numbers), dtype=np.uint32)
    for start in range(0, len(numbers), _AT_ONCE):
        part = numbers[start : start + _AT_ONCE]
        slots[start : start + len(part)] = part >> np.uint64(shift)
    other = np.append(True, slots[1:] != slots[:-1])
    if not other.all():
        slots = slots[other]
    high = slots >> np.uint32(16)
    starts = np.flatnonzero(np.append(True, high[1:] != high[:-1]))
    counts = np.diff(np.append(starts, len(slots)))
    if not len(slots) or counts.max() > _MOST_IN_LIST:
        return BitMap(slots)
    heads = np.stack([high[starts], counts - 1], axis=1).astype("<u2")
    offsets = (8 + 8 * len(starts) + 2 * starts).astype("<u4")
    lists = slots.astype("<u4", copy=False).view("<u2")[::2]
    head = struct.pack("<II", _LISTS_COOKIE, len(starts))
    return BitMap.deserialize(b"".join([head, heads.tobytes(), offsets.tobytes(), lists.tobytes()]))
