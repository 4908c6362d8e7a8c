"""Blobs of a service on this host, read out of the packs, whose descriptors it passed.

They are read, not mapped: a blob is handed over in memory of its own, so that a copy is made anyhow, and a read of
a file that was cut since is an error, where using a mapping's page would be a fatal signal. What is read
whole is compared with its checksum, as what comes through a socket is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from crc32c import crc32c

from fletching.client.blobs.blob_transfers import BlobEvents, BlobFileOnHost, BlobInfo
from fletching.client.blobs.open_pack import OpenPack
from fletching.client.transports.http.passed_files import PassedFiles
from fletching.errors import ChecksumMismatchError, ProtocolError
from fletching.protocol.messages.mapped_blobs import MappedBlobs
from fletching.wire.blob_frames import BlobData, BlobDataEnd, BlobDataStart, BlobHeader
from fletching.wire.stored_blobs import header_of

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["OpenPacks", "PackedBlob", "PackedBlobEvents", "PackedBlobRange"]


class PackedBlob:
    """Where one blob is; a `fletching.client.blobs.blob_transfers.BlobFileOnHost`."""

    __slots__ = ("_metadata", "_start", "crc32c", "length", "pack")

    def __init__(
        self, pack: OpenPack | None, start: int, metadata: int, length: int, checksum: int
    ) -> None:
        self.pack = pack
        self._start = start
        self._metadata = metadata
        self.length = length
        self.crc32c = checksum

    @property
    def data_start(self) -> int:
        """Where the data begin in the pack."""
        return self._start + self._metadata

    @property
    def is_shared(self) -> bool:
        """Whether it is in a pack that came along."""
        return self.pack is not None

    def record(self) -> tuple[bytes, bytes]:
        """The metadata and the data; errors as `data`."""
        pack = self._opened
        return pack.read(self._start, self._metadata), self.data()

    def data(self) -> bytes:
        """The data, verified.

        Raises:
            ChecksumMismatchError: it is not what was stored.
            CorruptObjectError: the file was cut.
        """
        contents = self._opened.read(self._start + self._metadata, self.length)
        actual = crc32c(contents)
        if actual != self.crc32c:
            raise ChecksumMismatchError(
                "a blob in its pack is not what was stored",
                layer="crc32c",
                expected=self.crc32c,
                actual=actual,
            )
        return contents

    def readinto_at(self, buffer: WriteableBuffer, position: int) -> int:
        """See `BlobFileOnHost.readinto_at`."""
        view = memoryview(buffer).cast("B")
        view = view[: max(0, self.length - position)]
        self._opened.readinto(view, self._start + self._metadata + position)
        return len(view)

    @property
    def _opened(self) -> OpenPack:
        if self.pack is None:
            raise ProtocolError("the service gave no pack for a blob", side="remote")
        return self.pack


class OpenPacks(PassedFiles[OpenPack]):
    """The packs that were read from last."""

    def __init__(self) -> None:
        super().__init__(OpenPack)

    def take(self, descriptors: Sequence[int], message: MappedBlobs) -> list[PackedBlob]:
        """The blobs of a reply, whose open files are this object's from now on."""
        packs: list[OpenPack | None] = [*self.open(descriptors, message.lengths)]
        packs.append(None)  # which -1, for what is not shared, chooses
        return [PackedBlob(packs[pack], *rest) for pack, *rest in message.entries().tolist()]


class PackedBlobEvents:
    """Blobs of packs that came along; a `fletching.client.blobs.blob_transfers.BlobEvents`.

    Those that did not are asked for by themselves, all at once, when the first of them is wanted.
    """

    framed = True
    on_this_host = True

    def __init__(
        self,
        blobs: Sequence[PackedBlob],
        request_id: str | None,
        by_service: Callable[[Sequence[int]], BlobEvents],
    ) -> None:
        """Reads nothing yet.

        Args:
            blobs: in the order in which they were asked for.
            request_id: the service's id of the request.
            by_service: has the service send those at some places.
        """
        self.request_id = request_id
        self._blobs = blobs
        self._by_service = by_service
        self._sent: BlobEvents | None = None

    def __iter__(self) -> Iterator[BlobDataStart | BlobData | BlobDataEnd]:
        """None: who asks for stored blobs takes them whole."""
        raise ProtocolError("the service sent stored blobs, unasked", side="remote")

    def whole(self) -> Iterator[tuple[BlobHeader, bytes]]:
        """The blobs' headers and data, verified."""
        sent: Iterator[tuple[BlobHeader, bytes]] | None = None
        for blob in self._blobs:
            if blob.is_shared:
                metadata, data = blob.record()
                yield header_of(metadata), data
                continue
            sent = sent or self._asked().whole()
            yield next(sent)

    def packs(self) -> Iterator[tuple[int, OpenPack, int]]:
        """See `BlobEvents.packs`."""
        seen: set[int] = set()
        for number, blob in enumerate(self._blobs):
            pack = blob.pack
            if pack is not None and id(pack) not in seen:
                seen.add(id(pack))
                yield number, pack, blob.data_start

    def contents(self) -> Iterator[bytes]:
        """The blobs' data, verified."""
        sent: Iterator[bytes] | None = None
        for blob in self._blobs:
            if blob.is_shared:
                yield blob.data()
                continue
            sent = sent or self._asked().contents()
            yield next(sent)

    def _asked(self) -> BlobEvents:
        missing = [index for index, blob in enumerate(self._blobs) if not blob.is_shared]
        self._sent = self._by_service(missing)
        return self._sent

    def close(self) -> None:
        """Gives up the packs, and what the service was asked for."""
        sent, self._sent = self._sent, None
        if sent is not None:
            sent.close()
        self._blobs = ()


class PackedBlobRange:
    """Bytes of one blob of a pack; a `fletching.client.blobs.blob_transfers.BlobRange`."""

    def __init__(self, blob: PackedBlob, info: BlobInfo, start: int, end: int | None) -> None:
        self.info = info
        self.file: BlobFileOnHost | None = blob
        self._blob = blob
        self._position = start
        self._end = blob.length if end is None else min(end, blob.length)

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Copies the next bytes; 0 at the end of the range."""
        view = memoryview(buffer).cast("B")[: self._end - self._position]
        count = self._blob.readinto_at(view, self._position) if len(view) else 0
        self._position += count
        return count

    def close(self) -> None:
        """Holds nothing that the blob does not."""
