"""Stored blobs: many blobs one after the other as they are stored, behind one list of their lengths.

======  ==============  ====================================================================
offset  bytes           meaning
======  ==============  ====================================================================
0       8               how many blobs there are, N
8       16 per blob     length of the metadata (4 bytes), CRC32C of the data (4), length of
                        the data (8)
..      4               CRC32C of all before
..      ..              per blob, in the order of the list: metadata, data
======  ==============  ====================================================================

All numbers are unsigned and little-endian. The metadata is the CRC32C of a JSON text and the text: the
header of the blob's frame (`fletching.wire.blob_frames`). Nothing stands between the data, so that who
sends it need not look at it, and who receives it copies it once. The end is known by the list.

Limits: ``max_metadata_bytes`` and ``max_data_bytes`` of one blob. Lengths are checked before anything is
kept, and no memory is taken for data that has not arrived.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator

import numpy as np
from crc32c import crc32c
from typing_extensions import Buffer

from fletching.errors import (
    ChecksumMismatchError,
    LimitExceededError,
    MalformedFrameError,
    TruncatedStreamError,
)
from fletching.wire.blob_frames import DEFAULT_MAX_DATA_BYTES, DEFAULT_MAX_HEADER_BYTES
from fletching.wire.blob_headers import BlobHeader

__all__ = ["header_of", "stored_blobs", "stored_list", "stored_list_bytes"]

LAYER = "stored_blobs"
_COUNT_BYTES = 8
_CHECKSUM_BYTES = 4
_ENTRY = np.dtype([("metadata", "<u4"), ("crc32c", "<u4"), ("length", "<u8")])


def stored_list_bytes(count: int) -> int:
    """How long the list of so many blobs is."""
    return _COUNT_BYTES + _ENTRY.itemsize * count + _CHECKSUM_BYTES


def stored_list(blobs: Iterable[tuple[int, int, int]]) -> bytes:
    """The list before the blobs.

    Args:
        blobs: of each the length of its metadata, the CRC32C of its data, and the length of that.
    """
    entries = np.array(list(blobs), _ENTRY)
    text = struct.pack("<Q", len(entries)) + entries.tobytes()
    return text + struct.pack("<I", crc32c(text))


def stored_blobs(
    chunks: Iterable[memoryview],
    count: int,
    *,
    max_metadata_bytes: int = DEFAULT_MAX_HEADER_BYTES,
    max_data_bytes: int = DEFAULT_MAX_DATA_BYTES,
) -> Iterator[tuple[bytes, bytes]]:
    """The metadata and the verified data of each blob, both in memory of their own.

    Args:
        chunks: the bytes as they come, cut anywhere; each is used until the next is asked for.
        count: how many blobs were asked for.
        max_metadata_bytes: of one blob.
        max_data_bytes: likewise.

    Raises:
        TruncatedStreamError: the chunks end before the last blob does.
        MalformedFrameError: another number of blobs, or bytes behind the last.
        LimitExceededError: a length is above its limit.
        ChecksumMismatchError: a list or data other than it was sent.
    """
    reader = _ChunkReader(chunks)
    entries = _list_of(reader, count)
    for name, limit in (("metadata", max_metadata_bytes), ("length", max_data_bytes)):
        most = int(entries[name].max(initial=0))
        if most > limit:
            raise LimitExceededError(
                f"a blob's {name} is of {most} bytes, the limit is {limit}",
                layer=LAYER,
                limit=limit,
            )
    for metadata, checksum, length in entries.tolist():
        about = reader.take(metadata)
        data = reader.take(length)
        actual = crc32c(data)
        if actual != checksum:
            raise ChecksumMismatchError(
                "other bytes of a blob arrived than the service has",
                layer="crc32c",
                offset=reader.offset - length,
                expected=checksum,
                actual=actual,
            )
        yield about, data
    reader.end()


def header_of(metadata: Buffer) -> BlobHeader:
    """What a blob's metadata says.

    Raises:
        ChecksumMismatchError: it is not as it was stored.
        MalformedFrameError: it is none.
    """
    view = memoryview(metadata).cast("B")
    if view.nbytes < _CHECKSUM_BYTES:
        raise MalformedFrameError(
            f"the metadata of a blob has {view.nbytes} bytes", layer=LAYER, actual=view.nbytes
        )
    expected = int.from_bytes(view[:_CHECKSUM_BYTES], "little")
    actual = crc32c(view[_CHECKSUM_BYTES:])
    if actual != expected:
        raise ChecksumMismatchError(
            "the metadata of a blob disagrees with its checksum",
            layer="crc32c",
            expected=expected,
            actual=actual,
        )
    return BlobHeader.from_json(view[_CHECKSUM_BYTES:])


def _list_of(reader: _ChunkReader, count: int) -> np.ndarray:
    head = reader.take(_COUNT_BYTES)
    actual = int.from_bytes(head, "little")
    if actual != count:
        raise MalformedFrameError(
            f"the list is of {actual} blobs where {count} were asked for",
            layer=LAYER,
            offset=0,
            expected=count,
            actual=actual,
        )
    rows = reader.take(_ENTRY.itemsize * count)
    expected = int.from_bytes(reader.take(_CHECKSUM_BYTES), "little")
    result = crc32c(rows, crc32c(head))
    if result != expected:
        raise ChecksumMismatchError(
            "the list of blobs disagrees with its checksum",
            layer="crc32c",
            offset=0,
            expected=expected,
            actual=result,
        )
    return np.frombuffer(rows, _ENTRY)


class _ChunkReader:
    """Takes bytes out of chunks.

    Attributes:
        offset: how many were taken.
    """

    def __init__(self, chunks: Iterable[memoryview]) -> None:
        self._chunks = iter(chunks)
        self._chunk = memoryview(b"")
        self._at = 0
        self.offset = 0

    def take(self, length: int) -> bytes:
        """The next so many bytes, copied: the chunk is only lent."""
        start, end = self._at, self._at + length
        if end <= len(self._chunk):
            self._at = end
            self.offset += length
            return bytes(self._chunk[start:end])
        return self._gathered(length)

    def _gathered(self, length: int) -> bytes:
        # A file in memory grows with what arrives, and gives its bytes away without a copy.
        file = io.BytesIO()
        left = length
        while left:
            if self._at == len(self._chunk):
                self._next(left)
            part = self._chunk[self._at : self._at + left]
            file.write(part)
            self._at += len(part)
            self.offset += len(part)
            left -= len(part)
        return file.getvalue()

    def _next(self, missing: int) -> None:
        chunk = next(self._chunks, None)
        if chunk is None:
            raise TruncatedStreamError(
                f"stored blobs end {missing} bytes early", layer=LAYER, offset=self.offset
            )
        self._chunk, self._at = chunk, 0

    def end(self) -> None:
        """Sees that nothing is left."""
        left = len(self._chunk) - self._at
        while not left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return
            left = len(chunk)
        raise MalformedFrameError(
            f"{left} bytes stand behind the last blob", layer=LAYER, offset=self.offset
        )
