"""Blobs in this process: the engine's uploads and plans, without any layer between."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fletching.client.blobs.blob_transfers import BlobInfo, whole_of
from fletching.wire.blob_frames import (
    BlobData,
    BlobDataEnd,
    BlobDataStart,
    BlobHeader,
    ChecksumType,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["EmbeddedBlobEvents", "EmbeddedBlobRange"]


class EmbeddedBlobEvents:
    """The blobs of an engine's plan; a `fletching.client.blobs.blob_transfers.BlobEvents`.

    Data are views of the mapped packs, verified as a server's reply is.
    """

    def __init__(self, plan: Any) -> None:
        self._plan = plan
        self._records = plan.records()
        self.request_id: str | None = None
        self.framed = True

    def __iter__(self) -> Iterator[BlobDataStart | BlobData | BlobDataEnd]:
        """The events; errors of the engine as they are."""
        for index, record in enumerate(self._records):
            header = BlobHeader.from_json(record.header)
            yield BlobDataStart(index, 0, header, record.reference.length)
            for piece in record.pieces:
                if len(piece):
                    yield BlobData(piece)
            yield BlobDataEnd(index, ChecksumType.NONE, {})

    def whole(self) -> Iterator[tuple[BlobHeader, bytes]]:
        """The blobs' headers and data; errors of the engine as they are."""
        return whole_of(self)

    def contents(self) -> Iterator[bytes]:
        """The blobs' data; errors of the engine as they are."""
        contents: Iterator[bytes] = self._plan.contents()
        return contents

    def close(self) -> None:
        """Closes the packs."""
        self._records.close()


class EmbeddedBlobRange:
    """A range of one blob; a `fletching.client.blobs.blob_transfers.BlobRange`."""

    def __init__(self, found: Any) -> None:
        self.info = BlobInfo(found.total, found.header.content_type, found.header.file_name)
        self._rest = memoryview(b"")
        for extent in found.pieces:
            self._rest = extent.object.view(extent.start, extent.end)

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Copies the next bytes; 0 at the end of the range."""
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._rest))
        target[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        """Lets go of the pack."""
        self._rest = memoryview(b"")
