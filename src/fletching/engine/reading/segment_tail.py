"""The end of a remote segment, fetched once: the checksums of its messages, and the metadata of its batches."""

from __future__ import annotations

import dataclasses
from typing import Final

from fletching.catalog.segment_rows import SegmentRow
from fletching.engine.reading.cache import RecentlyUsed
from fletching.engine.writing.metadata_index import METADATA_KEY, decode_index, parse_entry
from fletching.engine.writing.segment_writer import CRC32C_KEY
from fletching.errors import CorruptObjectError, WireError
from fletching.ipc.footer import Footer, read_footer
from fletching.ipc.limits import Limits
from fletching.ipc.message import MAGIC
from fletching.objects.store import StoredObject

__all__ = ["FOOTER_LIMITS", "SegmentTail", "SegmentTails", "checksums_of"]

FOOTER_LIMITS: Final = Limits(max_metadata_bytes=(1 << 31) - 1)

_LEAST_BYTES: Final = 64 << 10
_BYTES_PER_BATCH: Final = 256
"""A batch's share of the end of a file: 24 bytes of the footer, its checksum, its compressed metadata."""

_KEPT_BYTES: Final = 64 << 20


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
    def weight(self) -> int:
        """About how many bytes it takes."""
        return 40 * len(self.checksums) + sum(len(each) for each in self.metadata or ())


def checksums_of(footer: Footer) -> list[int]:
    """The CRC32C of each message in file order, the schema message first.

    Raises:
        ValueError, KeyError: the footer has none.
    """
    text = footer.custom_metadata[CRC32C_KEY].decode("ascii")
    return [int(text[i : i + 8], 16) for i in range(0, len(text), 8)]


class SegmentTails:
    """The ends of segments, those used last. Thread-safe."""

    def __init__(self) -> None:
        self._kept = RecentlyUsed[str, SegmentTail](_KEPT_BYTES, weight=lambda tail: tail.weight)

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
        footer = read_footer(source, 0, stored.length, FOOTER_LIMITS)
        checksums = checksums_of(footer)
        entry = footer.custom_metadata.get(METADATA_KEY)
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
