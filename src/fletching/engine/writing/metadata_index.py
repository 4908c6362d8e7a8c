"""The metadata of a segment's batches once more, together: what a projection has to read of a segment.

Each record batch has its metadata before its body, so that in a remote store finding a column's buffers
would take a request for each batch. Behind the stream of a segment of some size (readers of Arrow files
never look there) stands one Zstandard frame: the metadata of its record batch messages in file order, each
with its prefix and padding, as the batch index says how long. The footer's custom metadata says where, under
``fletching.metadata``: offset, length, length decompressed and CRC32C of the decompressed bytes, as decimal
numbers with spaces between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import zstandard
from crc32c import crc32c
from typing_extensions import Buffer

from fletching.catalog.segment_rows import SegmentRow
from fletching.errors import CorruptObjectError

__all__ = ["METADATA_KEY", "MetadataIndex", "decode_index"]

METADATA_KEY: Final = b"fletching.metadata"

LEAST_SEGMENT_BYTES: Final = 4 << 20
"""Smaller segments are fetched whole, so that they need none."""

MOST_BYTES: Final = 64 << 20
"""Metadata above this (tables of very many columns) is left where it is: it would be held while it is used."""

_BUFFERED_BYTES: Final = 64 << 10


class MetadataIndex:
    """Collects the metadata of one segment while it is written, compressed."""

    def __init__(self) -> None:
        self._frame: zstandard.ZstdCompressionObj | None = None
        self._waiting = bytearray()
        self._coded: list[bytes] = []
        self._length = 0
        self._crc32c = 0

    def add(self, frame: Sequence[Buffer], metadata_length: int) -> None:
        """Takes the first ``metadata_length`` bytes of a message."""
        self._length += metadata_length
        if self._length > MOST_BYTES:
            self._waiting.clear()
            self._coded.clear()
            return
        for piece in frame:
            view = memoryview(piece).cast("B")[:metadata_length]
            self._waiting += view
            metadata_length -= view.nbytes
            if not metadata_length:
                break
        if len(self._waiting) >= _BUFFERED_BYTES:
            self._compress()

    def _compress(self) -> None:
        if self._frame is None:
            self._frame = zstandard.ZstdCompressor(level=1).compressobj()
        self._crc32c = crc32c(self._waiting, self._crc32c)
        self._coded.append(self._frame.compress(bytes(self._waiting)))
        self._waiting.clear()

    def finish(self, segment_bytes: int, offset: int) -> tuple[bytes, bytes] | None:
        """(what is written at ``offset``, the footer's entry); None if the segment needs none."""
        if segment_bytes < LEAST_SEGMENT_BYTES or not 0 < self._length <= MOST_BYTES:
            return None
        self._compress()
        assert self._frame is not None
        data = b"".join([*self._coded, self._frame.flush()])
        entry = f"{offset} {len(data)} {self._length} {self._crc32c}"
        return data, entry.encode("ascii")


def decode_index(data: memoryview, entry: bytes, segment: SegmentRow) -> list[memoryview]:
    """The metadata of each record batch.

    Args:
        data: what stands where the entry says.
        entry: of the footer.
        segment: whose it is.

    Raises:
        CorruptObjectError: it is not what was written.
    """
    _, _, length, checksum = parse_entry(entry, segment)
    try:
        raw = zstandard.ZstdDecompressor().decompress(data, max_output_size=length)
    except zstandard.ZstdError as error:
        raise CorruptObjectError(
            f"a segment's metadata index does not decompress: {error}", key=segment.key
        ) from None
    if len(raw) != length or crc32c(raw) != checksum:
        raise CorruptObjectError("a segment's metadata index is damaged", key=segment.key)
    view = memoryview(raw)
    result: list[memoryview] = []
    position = 0
    index = memoryview(segment.batch_index).cast("B")
    for start in range(8, len(index), 32):
        end = position + int.from_bytes(index[start : start + 8], "little")
        result.append(view[position:end])
        position = end
    if position != length:
        raise CorruptObjectError(
            "a segment's metadata index is of other batches than the catalog's", key=segment.key
        )
    return result


def parse_entry(entry: bytes, segment: SegmentRow) -> tuple[int, int, int, int]:
    """Offset, length, decompressed length and CRC32C.

    Raises:
        CorruptObjectError: numbers that cannot be.
    """
    words = entry.split(b" ")
    if len(words) == 4 and all(word.isdigit() and len(word) < 19 for word in words):
        offset, length, raw, checksum = (int(word) for word in words)
        if offset + length <= segment.length and raw <= MOST_BYTES:
            return offset, length, raw, checksum
    raise CorruptObjectError("a segment's footer has no place of its metadata", key=segment.key)
