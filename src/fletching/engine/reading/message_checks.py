"""Proves stored messages against their checksums before they are served, once per file and process.

A segment's footer has a CRC32C of every message. The first use of a message as a whole compares it,
in the thread that brings its pages in; the answer is kept as long as the file is the same one, by its
identity (device, inode, length, times of change), so that every later use costs a look at a flag. A
file that was changed in place is another one, and is proven again.

Of an object in a bucket nothing is kept between two reads: each message is compared every time it comes,
while its bytes are handed on.

What this proves: batches that are sent or decoded with all their columns, schema messages and
dictionaries. A projected read touches chosen buffers only, of which no checksum is kept: its metadata is
checked for structure, its values are as the disk gave them.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import itertools
import threading
from array import array
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Final, Protocol, runtime_checkable

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from fletching.catalog.segment_rows import SegmentRow
from fletching.engine.cache import Budget, RecentlyUsed
from fletching.engine.writing.metadata_index import METADATA_KEY, decode_index, parse_entry
from fletching.engine.writing.segment_writer import CRC32C_KEY
from fletching.errors import CorruptObjectError, WireError
from fletching.ipc.footer import read_footer
from fletching.ipc.limits import Limits
from fletching.ipc.message import MAGIC
from fletching.objects.remote_object import HeldObject
from fletching.objects.store import StoredObject
from fletching.range_joining import BYTES_PER_REQUEST

__all__ = [
    "FOOTER_LIMITS",
    "CheckedObject",
    "CheckedRemoteObject",
    "MessageChecks",
    "SegmentTail",
    "SegmentTails",
    "checksums_of",
    "recorded_checksums",
]

FOOTER_LIMITS: Final = Limits(max_metadata_bytes=(1 << 31) - 1)

_LEAST_BYTES: Final = 64 << 10
_BYTES_PER_BATCH: Final = 256
"""A batch's share of the end of a file: 24 bytes of the footer, its checksum, its compressed metadata."""

_KEPT_BYTES: Final = 64 << 20
_SEGMENT_BYTES: Final = 1000  # of what is known of a segment, without its messages
_MESSAGE_BYTES: Final = 21  # where it begins and ends, its checksum, and whether it is proven


@dataclasses.dataclass(frozen=True, slots=True)
class SegmentTail:
    """What a remote segment's end says.

    Attributes:
        checksums: the CRC32C of each message in file order, the schema message first.
        metadata: of each record batch; None where the segment has no index of it.
    """

    checksums: list[int]
    metadata: list[memoryview] | None

    @property
    def size_bytes(self) -> int:
        """About how many bytes it takes."""
        return 40 * len(self.checksums) + sum(len(each) for each in self.metadata or ())


def checksums_of(metadata: Mapping[bytes, bytes]) -> list[int]:
    """The CRC32C of each message in file order, the schema message first, from a footer's custom metadata.

    Raises:
        ValueError, KeyError: the footer has none.
    """
    text = metadata[CRC32C_KEY].decode("ascii")
    return [int(text[i : i + 8], 16) for i in range(0, len(text), 8)]


class SegmentTails:
    """The ends of segments, those used last. Thread-safe."""

    def __init__(self, budget: Budget) -> None:
        self._kept = RecentlyUsed[str, SegmentTail](budget, weight=lambda tail: tail.size_bytes)

    def get(self, stored: StoredObject, row: SegmentRow) -> SegmentTail:
        """The end of a segment; blocks for a request, seldom two, the first time.

        Raises:
            CorruptObjectError: it is not what a segment ends with.
        """
        tail = self._kept.get(row.key)
        if tail is None:
            tail = _read(stored, row)
            self._kept.put(row.key, tail)
        return tail


class _TailSource:
    """The end of an object as a source of the IPC room."""

    mapped = True

    def __init__(self, stored: StoredObject, start: int) -> None:
        self._stored = stored
        self._start = start
        self._data = stored.read(start, stored.length)
        self.length = stored.length

    def view(self, start: int, end: int) -> memoryview:
        """Bytes of the file; those of its head are known without looking."""
        if start >= self._start:
            return self._data[start - self._start : end - self._start]
        if end <= 64:
            return memoryview(MAGIC.ljust(64, b"\0"))[start:end]
        return self._stored.read(start, end)


def _read(stored: StoredObject, row: SegmentRow) -> SegmentTail:
    wanted = _LEAST_BYTES + _BYTES_PER_BATCH * (len(row.batch_index) // 32)
    try:
        source = _TailSource(stored, max(stored.length - wanted, 0))
        metadata = read_footer(source, 0, stored.length, FOOTER_LIMITS).custom_metadata
        checksums = checksums_of(metadata)
        entry = metadata.get(METADATA_KEY)
    except CorruptObjectError:
        raise
    except (WireError, ValueError, KeyError) as error:
        # What the store failed of is no damage, and may be asked for again.
        raise CorruptObjectError(
            f"the footer of segment {row.key} cannot be read: {error}", key=row.key
        ) from error
    if entry is None:
        return SegmentTail(checksums, None)
    offset, length, _, _ = parse_entry(entry, row)
    return SegmentTail(checksums, decode_index(source.view(offset, offset + length), entry, row))


FILE_PREFIX_BYTES: Final = 8


def recorded_checksums(stored: StoredObject) -> list[int]:
    """The CRC32C of each message in file order, the schema message first, from the footer.

    Raises:
        FletchingError, ValueError, KeyError: the footer cannot be read, or has none.
    """
    footer = read_footer(_ReadSource(stored), 0, stored.length, FOOTER_LIMITS)
    return checksums_of(footer.custom_metadata)


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
        # Arrays of numbers: as lists, a message would take six times as much.
        self.starts = array("q", starts)
        self.ends = array("q", ends)
        self._checksums = array("I", checksums)
        self._proven = bytearray(len(starts))
        self._left = len(starts)
        self._lock = threading.Lock()

    @property
    def all_proven(self) -> bool:
        """Whether nothing is left to prove."""
        return self._left == 0

    @property
    def size_bytes(self) -> int:
        """About how many bytes it takes."""
        return _SEGMENT_BYTES + _MESSAGE_BYTES * len(self.starts)

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

    def compare(self, number: int, checksum: int, key: str) -> None:
        """Compares the checksum of one message with what was written.

        Raises:
            CorruptObjectError: it is another.
        """
        if checksum != self._checksums[number]:
            raise CorruptObjectError(
                f"the message at byte {self.starts[number]} of segment {key} fails its checksum:"
                " its bytes are not what was written",
                key=key,
            )

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
            try:
                self.compare(number, crc32c(stored.view(first, last)), stored.key)
            except CorruptObjectError:
                disown = getattr(stored, "disown", None)
                if disown is not None:
                    disown()  # a copy: the next read fetches another
                raise
            with self._lock:
                if not self._proven[number]:
                    self._proven[number] = 1
                    self._left -= 1


class MessageChecks:
    """What is known of the segments of one process. Thread-safe.

    Attributes:
        tails: the ends of remote segments.
    """

    def __init__(self, budget: Budget | None = None) -> None:
        """Knows nothing yet; what it keeps counts in a budget of bytes, of its own if none is given."""
        budget = budget or Budget(_KEPT_BYTES)
        self._segments = RecentlyUsed[tuple[object, ...], _SegmentChecks](
            budget, weight=lambda checks: checks.size_bytes
        )
        self.tails = SegmentTails(budget)

    def checked(self, stored: StoredObject, row: SegmentRow) -> StoredObject:
        """The object, proving messages as they are used; itself where all are proven.

        Blocks the first time a segment in a folder is seen: its footer is read. The footer of one in a bucket
        is fetched when the first of its bytes have come.

        Raises:
            CorruptObjectError: the footer does not say what the messages must be.
        """
        if getattr(stored, "identity", None) is not None:
            checks = self._checks(stored, row)
            return stored if checks.all_proven else CheckedObject(stored, checks)
        if isinstance(stored, HeldObject):
            if crc32c(stored.view(0, stored.length)) == row.crc32c:
                return stored
            # Only the messages that are damaged are refused.
            return CheckedObject(stored, self._checks_of(stored, row))
        # Asked last: a look at each name of a protocol takes as long as opening a file.
        if isinstance(stored, RemoteBytes):
            return CheckedRemoteObject(stored, lambda: self._checks(stored, row))
        return stored

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
        starts_list = [FILE_PREFIX_BYTES, *starts.tolist()]
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


@runtime_checkable
class RemoteBytes(StoredObject, Protocol):
    """A stored object of which each range is a request; see ``StoredObject``."""

    def fetch(
        self,
        ranges: Iterable[tuple[int, int]],
        *,
        ahead: bool = ...,
        bytes_per_request: int = ...,
    ) -> Generator[memoryview, None, None]:
        """Fetches ranges in few requests."""

    def stream(self, start: int, end: int) -> Generator[memoryview, None, None]:
        """Fetches one range piece by piece."""


class _Comparison:
    """The messages of one range, compared while its bytes pass; those that it has in part are not."""

    def __init__(self, checks: _SegmentChecks, key: str, start: int) -> None:
        self._checks = checks
        self._key = key
        self._position = start
        self._number = bisect.bisect_left(checks.starts, start)
        self._checksum = 0

    def take(self, data: memoryview) -> None:
        """Looks at the bytes that follow.

        Raises:
            CorruptObjectError: a message that ends in them is not what was written.
        """
        first, self._position = self._position, self._position + data.nbytes
        checks = self._checks
        while self._number < len(checks.starts) and checks.starts[self._number] < self._position:
            start, end = checks.starts[self._number], checks.ends[self._number]
            part = data[max(start - first, 0) : end - first]
            self._checksum = crc32c(part, self._checksum)
            if end > self._position:
                return
            checks.compare(self._number, self._checksum, self._key)
            self._number, self._checksum = self._number + 1, 0


class CheckedRemoteObject:
    """An object in a bucket whose messages are compared each time they come. See ``StoredObject``."""

    def __init__(self, stored: RemoteBytes, checks: Callable[[], _SegmentChecks]) -> None:
        """Knows the object, and how to learn the checksums of its messages, which may take a request."""
        self.key = stored.key
        self.length = stored.length
        self._stored = stored
        self._learn = checks

    @functools.cached_property
    def _checks(self) -> _SegmentChecks:
        return self._learn()

    def _compared(self, start: int, data: memoryview) -> memoryview:
        _Comparison(self._checks, self.key, start).take(data)
        return data

    def view(self, start: int, end: int) -> memoryview:
        """Fetches the range, and compares the whole messages in it."""
        return self._compared(start, self._stored.view(start, end))

    def read(self, start: int, end: int) -> memoryview:
        """The same."""
        return self._compared(start, self._stored.read(start, end))

    def fetch(
        self,
        ranges: Iterable[tuple[int, int]],
        *,
        ahead: bool = True,
        bytes_per_request: int = BYTES_PER_REQUEST,
    ) -> Generator[memoryview, None, None]:
        """Fetches ranges, and compares the whole messages in each."""
        asked, known = itertools.tee(ranges)
        fetched = self._stored.fetch(asked, ahead=ahead, bytes_per_request=bytes_per_request)
        try:
            for (start, _), data in zip(known, fetched, strict=True):
                yield self._compared(start, data)
        finally:
            fetched.close()

    def stream(self, start: int, end: int) -> Generator[memoryview, None, None]:
        """Fetches a range piece by piece; a message is compared before its last piece is handed on."""
        fetched = self._stored.stream(start, end)
        comparison: _Comparison | None = None
        try:
            for data in fetched:
                # The first bytes are under way before the footer is asked for.
                comparison = comparison or _Comparison(self._checks, self.key, start)
                comparison.take(data)
                yield data
        finally:
            fetched.close()

    def resident(self, start: int, end: int) -> bool:
        """Never: a network is in between."""
        del start, end
        return False

    def load(self, start: int, end: int) -> None:
        """Does nothing: there is no cache that the range could be brought into."""

    def close(self) -> None:
        """Closes the stored object."""
        self._stored.close()
