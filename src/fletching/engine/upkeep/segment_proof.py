"""Proves a segment that is to be written anew, by one pass over its bytes.

That they are what was written the catalog's checksum of the whole proves, and with them the footer's checksums of
the messages. What the checksum was before and behind each message tells that of any run of neighbours. So the new
segment gets checksums of what was proven: should bytes become others before they are written, its readers find out.
"""

from __future__ import annotations

import numpy as np
from crc32c import crc32c

from fletching.catalog.segment_rows import SegmentRow
from fletching.engine.reading.message_checks import FOOTER_LIMITS, checksums_of
from fletching.engine.writing.stored_batches import StoredBatches
from fletching.errors import CorruptObjectError, WireError
from fletching.ipc.footer import read_footer_metadata
from fletching.ipc.source import MappedSource
from fletching.objects.store import StoredObject

__all__ = ["proven_batches"]


def proven_batches(stored: StoredObject, row: SegmentRow) -> StoredBatches:
    """Reads a segment, and proves it by length and checksum.

    Raises:
        CorruptObjectError: it is not what was written.
    """
    if stored.length != row.length:
        raise CorruptObjectError(
            f"segment {row.key} has {stored.length} bytes, not {row.length}", key=row.key
        )
    data = stored.view(0, stored.length)
    # Brought in by reading: a failing disk is an error then, and not a signal.
    if not stored.resident(0, stored.length):
        stored.load(0, stored.length)
    index: list[list[int]] = np.frombuffer(row.batch_index, "<i8").reshape(-1, 4).tolist()
    before: list[int] = []
    after: list[int] = []
    position = running = 0
    for offset, metadata_length, body_length, _ in index:
        if offset != position:
            running = crc32c(data[position:offset], running)
        before.append(running)
        position = offset + metadata_length + body_length
        running = crc32c(data[offset:position], running)
        after.append(running)
    if crc32c(data[position:], running) != row.crc32c:
        raise CorruptObjectError(f"segment {row.key} fails its checksum", key=row.key)
    return StoredBatches(data, index, _checksums(data, row), before, after)


def _checksums(data: memoryview, row: SegmentRow) -> list[int]:
    """The CRC32C of each record batch message, from the footer of proven bytes.

    Raises:
        CorruptObjectError: the footer has none, or others than the catalog's messages.
    """
    try:
        checksums = checksums_of(
            read_footer_metadata(MappedSource(data), 0, len(data), FOOTER_LIMITS)
        )
    except (WireError, ValueError, KeyError) as error:
        raise CorruptObjectError(
            f"the footer of segment {row.key} cannot be read: {error}", key=row.key
        ) from error
    offsets = np.frombuffer(row.batch_index, "<i8")[::4]
    others = np.frombuffer(row.dictionary_index, "<i8")[::4]
    # In the order of the file, the schema message first.
    numbers = np.searchsorted(np.sort(np.append(offsets, others)), offsets) + 1
    if len(checksums) != 1 + len(offsets) + len(others):
        raise CorruptObjectError(
            f"the footer of segment {row.key} has checksums of {len(checksums)} messages where the"
            f" catalog has {1 + len(offsets) + len(others)}",
            key=row.key,
        )
    return [checksums[number] for number in numbers.tolist()]
