"""Proves stored messages against their checksums before they are served, once per file and process.

A segment's footer has a CRC32C of every message. The first use of a message as a whole compares it,
in the thread that brings its pages in; the answer is kept as long as the file is the same one, by its
identity (device, inode, length, times of change), so that every later use costs a look at a flag. A
file that was changed in place is another one, and is proven again.

What this proves: batches that are sent or decoded with all their columns, schema messages and
dictionaries. A projected read touches chosen buffers only, of which no checksum is kept: its metadata is
checked for structure, its values are as the disk gave them. Objects in a remote store come over a
protocol that has checksums of its own, and are not proven here.
"""

from __future__ import annotations

import bisect
import threading
from typing import Final

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from fletching.catalog.segment_rows import SegmentRow
from fletching.engine.reading.cache import RecentlyUsed
from fletching.engine.reading.segment_tail import FOOTER_LIMITS, SegmentTails, checksums_of
from fletching.errors import CorruptObjectError, WireError
from fletching.ipc.footer import read_footer
from fletching.objects.store import StoredObject

__all__ = ["CheckedObject", "MessageChecks", "recorded_checksums"]

_FILE_PREFIX_BYTES: Final = 8
_KEPT_MESSAGES: Final = 4_000_000
"""Messages whose checksums and flags are kept, some 17 bytes each."""


def recorded_checksums(stored: StoredObject) -> list[int]:
    """The CRC32C of each message in file order, the schema message first, from the footer.

    Raises:
        FletchingError, ValueError, KeyError: the footer cannot be read, or has none.
    """
    return checksums_of(read_footer(_ReadSource(stored), 0, stored.length, FOOTER_LIMITS))


class _ReadSource:
    """An object as a source of the IPC room: read, not mapped, so that bad disks are errors."""

    mapped = False

    def __init__(self, stored: StoredObject) -> None:
        self._stored = stored
        self.length: int = stored.length

    def view(self, start: int, end: int) -> memoryview:
        """Bytes ``start`` to ``end``."""
        return self._stored.read(start, end)


class _SegmentChecks:
    """The messages of one file: where they are, their checksums, and which are proven."""

    def __init__(self, starts: list[int], ends: list[int], checksums: list[int]) -> None:
        self.starts = starts
        self.ends = ends
        self._checksums = checksums
        self._proven = bytearray(len(starts))
        self._left = len(starts)
        self._lock = threading.Lock()

    @property
    def all_proven(self) -> bool:
        """Whether nothing is left to prove."""
        return self._left == 0

    @property
    def weight(self) -> int:
        """What this counts in the cache."""
        return len(self.starts) + 1

    def _touched(self, start: int, end: int) -> range:
        first = bisect.bisect_right(self.ends, start)
        return range(first, bisect.bisect_left(self.starts, end, first))

    def recorded(self, start: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
        """Lengths and checksums of the messages of a range; they must fill it."""
        touched = self._touched(start, end)
        window = slice(touched.start, touched.stop)
        starts = np.array(self.starts[window], dtype=np.int64)
        ends = np.array(self.ends[window], dtype=np.int64)
        whole = len(starts) and starts[0] == start and ends[-1] == end
        if not whole or (starts[1:] != ends[:-1]).any():
            raise CorruptObjectError(f"bytes {start} to {end} of a segment are no whole messages")
        return ends - starts, np.array(self._checksums[window], dtype=np.uint32)

    def proven(self, start: int, end: int) -> bool:
        """Whether every message that a range touches is proven."""
        if self._left == 0:
            return True
        touched = self._touched(start, end)
        return 0 not in self._proven[touched.start : touched.stop]

    def prove(self, stored: StoredObject, start: int, end: int) -> None:
        """Compares the messages that a range touches; blocks.

        Raises:
            CorruptObjectError: one is not what was written.
        """
        for number in self._touched(start, end):
            if self._proven[number]:
                continue
            first, last = self.starts[number], self.ends[number]
            # Brought in by reading: a failing disk is an error then, and not a signal.
            if not stored.resident(first, last):
                stored.load(first, last)
            if crc32c(stored.view(first, last)) != self._checksums[number]:
                disown = getattr(stored, "disown", None)
                if disown is not None:
                    disown()  # a copy: the next read fetches another
                raise CorruptObjectError(
                    f"the message at byte {first} of segment {stored.key} fails its checksum:"
                    " its bytes are not what was written",
                    key=stored.key,
                )
            with self._lock:
                if not self._proven[number]:
                    self._proven[number] = 1
                    self._left -= 1


class MessageChecks:
    """What is known of the segments of one process. Thread-safe.

    Attributes:
        tails: the ends of remote segments.
    """

    def __init__(self, kept_messages: int = _KEPT_MESSAGES) -> None:
        self._segments = RecentlyUsed[tuple[object, ...], _SegmentChecks](
            kept_messages, weight=lambda checks: checks.weight
        )
        self.tails = SegmentTails()

    def checked(self, stored: StoredObject, row: SegmentRow) -> StoredObject:
        """The object, proving messages as they are used; itself where all are proven.

        Blocks the first time a segment is seen: its footer is read.

        Raises:
            CorruptObjectError: the footer does not say what the messages must be.
        """
        if getattr(stored, "identity", None) is None:
            return stored
        checks = self._checks(stored, row)
        return stored if checks.all_proven else CheckedObject(stored, checks)

    def recorded(
        self, stored: StoredObject, row: SegmentRow, start: int, end: int
    ) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
        """Length and CRC32C of each message from ``start`` to ``end``, as the footer has them.

        Blocks the first time a segment is seen: its footer is read.

        Raises:
            CorruptObjectError: the footer does not say what the messages must be, or the range is
                not one of whole messages.
        """
        return self._checks(stored, row).recorded(start, end)

    def _checks(self, stored: StoredObject, row: SegmentRow) -> _SegmentChecks:
        # Without an identity, as in a remote store, objects are as immutable as their keys.
        identity: tuple[object, ...] = getattr(stored, "identity", None) or (stored.length,)
        key = (row.key, *identity)
        checks = self._segments.get(key)
        if checks is None:
            checks = self._checks_of(stored, row)
            self._segments.put(key, checks)
        return checks

    def _checks_of(self, stored: StoredObject, row: SegmentRow) -> _SegmentChecks:
        if hasattr(stored, "fetch"):
            return _segment_checks(self.tails.get(stored, row).checksums, stored, row)
        try:
            checksums = recorded_checksums(stored)
        except (WireError, ValueError, KeyError) as error:
            # What the store failed of is no damage, and may be asked for again.
            raise CorruptObjectError(
                f"the footer of segment {row.key} cannot be read: {error}", key=row.key
            ) from error
        return _segment_checks(checksums, stored, row)


def _segment_checks(checksums: list[int], stored: StoredObject, row: SegmentRow) -> _SegmentChecks:
    index = np.frombuffer(row.batch_index + row.dictionary_index, "<i8").reshape(-1, 4)
    order = np.argsort(index[:, 0], kind="stable")
    starts = index[order, 0]
    ends = starts + index[order, 1] + index[order, 2]
    if len(starts):
        starts_list = [_FILE_PREFIX_BYTES, *starts.tolist()]
        ends_list = [int(starts[0]), *ends.tolist()]
    else:
        starts_list = ends_list = []
        checksums = []
    if len(checksums) != len(starts_list) or (ends_list and ends_list[-1] > stored.length):
        raise CorruptObjectError(
            f"the footer of segment {row.key} has checksums of {len(checksums)} messages where the"
            f" catalog has {len(starts_list)}",
            key=row.key,
        )
    return _SegmentChecks(starts_list, ends_list, checksums)


class CheckedObject:
    """A stored object whose messages are proven before they are handed out."""

    def __init__(self, stored: StoredObject, checks: _SegmentChecks) -> None:
        self.key = stored.key
        self.length = stored.length
        self._stored = stored
        self._checks = checks

    def view(self, start: int, end: int) -> memoryview:
        """Bytes of proven messages; blocks if they are not yet. See ``StoredObject``."""
        if not self._checks.proven(start, end):
            self._checks.prove(self._stored, start, end)
        return self._stored.view(start, end)

    def read(self, start: int, end: int) -> memoryview:
        """The same, read into memory of its own."""
        if not self._checks.proven(start, end):
            self._checks.prove(self._stored, start, end)
        return self._stored.read(start, end)

    def resident(self, start: int, end: int) -> bool:
        """Whether neither a disk nor a proof has to be waited for."""
        return self._checks.proven(start, end) and self._stored.resident(start, end)

    def load(self, start: int, end: int) -> None:
        """Brings the range in, and proves the messages that it touches; blocks."""
        self._stored.load(start, end)
        self._checks.prove(self._stored, start, end)

    def close(self) -> None:
        """Closes the stored object."""
        self._stored.close()
