"""Key runs: where the keys of a segment's rows are, sorted, so that a key is found by bisection.

A run lies in the segment's own object, between the end of its stream and its footer, where readers
of Arrow files never look: it is durable, checked, copied and deleted with the rows that it is of.

======  ==============  ==========================================================================
bytes   type            meaning
======  ==============  ==========================================================================
0       uint64 LE, n     the keys' numbers (see `key_values`), ascending
8n      uint32 LE, n     the row in the segment that has the key, for each
12n     uint32 LE       CRC32C of all before it
======  ==============  ==========================================================================

Rows that were superseded in the write that made the segment are not in it. Which rows an upsert
replaces hangs on these bytes alone, so they are proven before they are used, once per file and process.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from fletching.catalog.segment_rows import SegmentRow
from fletching.engine.reading.cache import RecentlyUsed
from fletching.errors import CorruptObjectError
from fletching.objects.store import ObjectStore

__all__ = ["ENTRY_BYTES", "KeyRun", "ProvenRuns", "encode_run", "read_run"]

ENTRY_BYTES = 12
_CHECKSUM_BYTES = 4
_KEPT_PROOFS = 65_536

ProvenRuns = RecentlyUsed[Hashable, bool]
"""The files whose runs were proven, by key and identity. Thread-safe."""


def proven_runs() -> ProvenRuns:
    """No proofs yet."""
    return ProvenRuns(_KEPT_PROOFS)


@dataclasses.dataclass(frozen=True, slots=True)
class KeyRun:
    """Keys in ascending order and the rows that have them. May be views of the object's mapping."""

    numbers: NDArray[np.uint64]
    rows: NDArray[np.uint32]

    def find(self, wanted: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
        """The entries with some numbers: (place in ``wanted``, row), one pair per entry.

        Args:
            wanted: ascending.

        Cost: a bisection per number, or nothing where the ranges do not meet.
        """
        if not len(self.numbers) or not len(wanted):
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.uint32)
        low = int(np.searchsorted(wanted, self.numbers[0], side="left"))
        high = int(np.searchsorted(wanted, self.numbers[-1], side="right"))
        near = wanted[low:high]
        left = np.searchsorted(self.numbers, near, side="left")
        last = len(self.numbers) - 1
        hit = np.flatnonzero(self.numbers[np.minimum(left, last)] == near)
        if not len(hit):
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.uint32)
        left = left[hit]
        # Numbers repeat only where different keys have the same one: nearly never.
        if not (self.numbers[np.minimum(left + 1, last)] == near[hit]).any() or last == 0:
            return (hit + low).astype(np.int64), self.rows[left]
        counts = np.searchsorted(self.numbers, near[hit], side="right") - left
        places = np.repeat(hit, counts)
        before = np.repeat(np.cumsum(counts) - counts, counts)
        entries = np.repeat(left, counts) + np.arange(len(places)) - before
        return (places + low).astype(np.int64), self.rows[entries]


def encode_run(numbers: NDArray[np.uint64], rows: NDArray[np.uint32]) -> bytes:
    """The bytes of a run, from numbers in any order and their rows."""
    order = np.argsort(numbers, kind="stable")
    run = numbers[order].astype("<u8").tobytes() + rows[order].astype("<u4").tobytes()
    return run + crc32c(run).to_bytes(_CHECKSUM_BYTES, "little")


def read_run(store: ObjectStore, segment: SegmentRow, proven: ProvenRuns | None = None) -> KeyRun:
    """The run of a segment; mapped where the store maps.

    Args:
        store: where it is.
        segment: whose.
        proven: those that need no proof again; None to prove it in any case.

    Raises:
        CorruptObjectError: the segment has none, or what stands there is not one.
    """
    offset, length = segment.key_run_offset, segment.key_run_length
    if offset is None or length is None:
        raise CorruptObjectError("a segment of a table with a key has no key run", key=segment.key)
    if (
        length % ENTRY_BYTES != _CHECKSUM_BYTES
        or length // ENTRY_BYTES > segment.rows
        or offset % 8
    ):
        raise CorruptObjectError("a segment's key run is cut", key=segment.key)
    stored = store.open(segment.key)
    if offset + length > stored.length:
        raise CorruptObjectError("a segment's key run lies outside of it", key=segment.key)
    count = length // ENTRY_BYTES
    view = stored.view(offset, offset + length)
    file = (segment.key, getattr(stored, "identity", None))
    if proven is None or not proven.get(file):
        expected = int.from_bytes(view[-_CHECKSUM_BYTES:], "little")
        if crc32c(view[:-_CHECKSUM_BYTES]) != expected:
            raise CorruptObjectError("a segment's key run fails its checksum", key=segment.key)
        if proven is not None:
            proven.put(file, True)
    return KeyRun(
        np.frombuffer(view[: 8 * count], dtype="<u8"),
        np.frombuffer(view[8 * count : ENTRY_BYTES * count], dtype="<u4"),
    )
