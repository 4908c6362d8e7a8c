"""What transports do with blobs: the body of an upload, the events of a reply, a range of one blob."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from crc32c import crc32c
from typing_extensions import Buffer

from fletching.client.blobs.blob_values import BlobSource
from fletching.client.blobs.open_pack import OpenPack
from fletching.client.retry import RetrySequence
from fletching.hashing import RunningMd5
from fletching.protocol.messages.requests import ReadBlobs, WriteBlob, WriteBlobs
from fletching.protocol.messages.responses import BlobReferences
from fletching.wire import blob_frames
from fletching.wire.blob_frames import BlobData, BlobDataEnd, BlobHeader, ChecksumType, Event

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = [
    "BatchBody",
    "BlobBody",
    "BlobEvents",
    "BlobFileOnHost",
    "BlobInfo",
    "BlobRange",
    "BlobTransport",
    "PushedBody",
    "SingleBody",
    "UploadChecksum",
    "whole_of",
]


class BlobBody(Protocol):
    """The body of one upload before any coding.

    Attributes:
        length: bytes, or None if only iterating tells.
        repeatable: whether it can be iterated again from its start.
    """

    length: int | None
    repeatable: bool

    def __iter__(self) -> Iterator[Buffer]:
        """The buffers to send; they stay unchanged."""
        ...


class UploadChecksum(enum.Enum):
    """How an upload is compared with what the service got."""

    NONE = "none"
    """Not at all: nothing lies between."""
    MD5 = "md5"
    """By what every service of the protocol tells."""
    CRC32C = "crc32c"
    """By what ours tells as well, at a thirtieth of the cost."""


class SingleBody:
    """One blob as it is, its checksum taken while it is sent: MD5 in a thread of its own."""

    def __init__(
        self, source: BlobSource, *, checksum: UploadChecksum = UploadChecksum.MD5
    ) -> None:
        self._source = source
        self._checksum = checksum
        self.length = source.length
        self.repeatable = source.rewindable
        self.md5: str | None = None
        self.crc32c: int | None = None
        """Of what was sent; the one that was asked for is set when iteration has ended."""

    def __iter__(self) -> Iterator[Buffer]:
        self.md5 = self.crc32c = None
        if self._checksum is not UploadChecksum.MD5:
            sent = 0
            for chunk in self._source.chunks():
                if self._checksum is UploadChecksum.CRC32C:
                    sent = crc32c(chunk, sent)
                yield chunk
            if self._checksum is UploadChecksum.CRC32C:
                self.crc32c = sent
            return
        running = RunningMd5()
        try:
            for chunk in self._source.chunks():
                running.update(chunk)
                yield chunk
            self.md5 = running.hexdigest()
        finally:
            running.close()


class BatchBody:
    """Many blobs as frames, each with the CRC-32 of its data."""

    def __init__(self, blobs: Sequence[tuple[BlobSource, BlobHeader]]) -> None:
        """Takes blobs whose length is known, with the headers of their frames."""
        self._blobs = blobs
        self.length: int | None = None
        self.repeatable = all(source.rewindable for source, _ in blobs)

    def __iter__(self) -> Iterator[Buffer]:
        encoder = blob_frames.Encoder(checksum=ChecksumType.CRC32)
        for source, header in self._blobs:
            assert source.length is not None
            yield from encoder.start(header, source.length)
            for chunk in source.chunks():
                yield from encoder.data(chunk)
            yield from encoder.end()


class PushedBody:
    """One blob that another thread hands over piece by piece."""

    length: int | None = None
    repeatable = False

    def __init__(self, take: Callable[[], Buffer | None]) -> None:
        """Takes chunks from ``take`` until it returns None; what it raises breaks the upload off."""
        self._take = take

    def __iter__(self) -> Iterator[Buffer]:
        while (chunk := self._take()) is not None:
            yield chunk


@dataclasses.dataclass(frozen=True, slots=True)
class BlobInfo:
    """What is known of a blob without reading it."""

    length: int
    content_type: str | None
    file_name: str | None
    crc32c: int | None = None
    """Of all its bytes, where the service says."""


class BlobFileOnHost(Protocol):
    """One blob in a file of this host, which the service let the client open."""

    def readinto_at(self, buffer: WriteableBuffer, position: int) -> int:
        """Fills ``buffer`` with the blob's bytes from ``position`` on, as far as it goes; asks nobody.

        Raises:
            CorruptObjectError: the file was cut.
        """
        ...


class BlobRange(Protocol):
    """A range of one blob being received.

    Attributes:
        info: of the whole blob.
        file: where all of the blob can be read without asking the service, if there is such a way.
    """

    info: BlobInfo
    file: BlobFileOnHost | None

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fills ``buffer`` from the start; returns how much, 0 only at the end of the range."""
        ...

    def close(self) -> None:
        """Gives the connection back, or drops it; idempotent."""
        ...


class BlobEvents(Protocol):
    """The reply to a BlobRead.

    A raw reply gives the events of a single frame without header whose length is -1. One of stored blobs
    (`ReadBlobs.stored`) gives none, but whole blobs.

    Attributes:
        request_id: the service's id of the request.
        framed: whether the reply is framed, as the service says or else the count of references.
        on_this_host: whether blobs are read where they are, so that none is on its way meanwhile.
    """

    request_id: str | None
    framed: bool
    on_this_host: bool

    def __iter__(self) -> Iterator[Event]:
        """The events; raises if the reply ends early. Data is valid until the next event."""
        ...

    def whole(self) -> Iterator[tuple[BlobHeader, bytes]]:
        """In place of the events, of several blobs: of each its header and data."""
        ...

    def contents(self) -> Iterator[bytes]:
        """Likewise, the data of each alone, in memory of its own."""
        ...

    def packs(self) -> Iterator[tuple[int, OpenPack, int]]:
        """The packs that may be read here as a whole.

        Of each a blob in it, by its number in the request, the pack, and where that blob's data begin.
        """
        ...

    def close(self) -> None:
        """Gives the connection back, or drops it before the end; idempotent."""
        ...


def whole_of(events: Iterable[Event]) -> Iterator[tuple[BlobHeader, bytes]]:
    """The header and data of each blob of a reply's events."""
    header, chunks = BlobHeader(), list[Buffer]()
    for event in events:
        if isinstance(event, BlobData):
            chunks.append(event.data)
        elif isinstance(event, BlobDataEnd):
            # Joined: a copy, because data comes in the chunks of the network's choosing.
            yield header, b"".join(chunks)
            chunks = []
        else:
            header, chunks = event.header, []


class BlobTransport(Protocol):
    """The verbs for blobs that every transport has.

    Attributes:
        upload_checksum: how a single upload is compared with what the service got.
        reads_whole_blobs: whether `read_range` is the faster way to a whole blob, and known to be there.
    """

    @property
    def upload_checksum(self) -> UploadChecksum: ...  # noqa: D102  # see the class

    @property
    def reads_whole_blobs(self) -> bool: ...  # noqa: D102  # see the class

    def upload_blobs(
        self,
        request: WriteBlob | WriteBlobs,
        body: BlobBody,
        attempt: RetrySequence,
    ) -> BlobReferences:
        """Sends an upload; returns when it is durable.

        Raises:
            ServiceError: the service refused; nothing was stored.
            TransportError: the exchange failed; whether it was stored is unknown, but harmless:
                what nobody refers to is collected.
        """
        ...

    def read_blobs(self, request: ReadBlobs, attempt: RetrySequence) -> BlobEvents:
        """Starts a BlobRead; returns when the service has found every blob.

        Raises:
            ServiceError: the service refused.
            TransportError: the exchange failed.
        """
        ...

    def read_range(
        self,
        reference: str,
        start: int,
        end: int | None,
        attempt: RetrySequence,
    ) -> BlobRange:
        """Starts reading bytes ``start`` to ``end`` (None: the last) of one blob.

        Raises:
            RangeNotSatisfiableError: the range begins behind the blob.
            ServiceError: the service refused, or knows no ranges.
            TransportError: the exchange failed.
        """
        ...

    def blob_info(self, reference: str, attempt: RetrySequence) -> BlobInfo:
        """Asks what a blob is; errors as `read_range`."""
        ...
