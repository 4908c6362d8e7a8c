"""The record batch messages of a proven segment, on their way into another one as they are."""

from __future__ import annotations

import dataclasses

from crc32c import crc32c

from fletching.hashing import crc32c_combine

__all__ = ["StoredBatches"]

_DERIVED_BYTES = 1 << 20
"""The checksum of a run from this length on is derived; a pass over less takes no longer."""


@dataclasses.dataclass(frozen=True, slots=True)
class StoredBatches:
    """A segment's bytes, which are what was written.

    Attributes:
        data: all of them.
        index: offset, metadata length, body length and rows of each record batch.
        checksums: the CRC32C of each batch's message.
        before, after: the CRC32C of all bytes up to the beginning, and to the end, of each.
    """

    data: memoryview
    index: list[list[int]]
    checksums: list[int]
    before: list[int]
    after: list[int]

    def end(self, number: int) -> int:
        """Where a batch's message ends."""
        offset, metadata_length, body_length, _ = self.index[number]
        return offset + metadata_length + body_length

    def checksum_behind(self, checksum: int, first: int, last: int) -> int:
        """A CRC32C that goes on with neighbouring messages, from one to another."""
        start, end = self.index[first][0], self.end(last)
        if end - start < _DERIVED_BYTES:
            return crc32c(self.data[start:end], checksum)
        own = crc32c_combine(self.before[first], self.after[last], end - start)
        return crc32c_combine(checksum, own, end - start)
