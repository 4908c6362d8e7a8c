"""Reads one blob by ranges: reading on streams, reading here and there fetches what is read.

A request has a price, a round trip, and so has a range that is not read to its end: its connection is
lost. So the first range after a seek is as long as what is asked for, and each that follows on the one
before is four times as long, up to `MOST_BYTES`: whoever reads on soon receives as fast as from a socket.
A service on this host that gives the blob's file is asked once: all is read from that.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from fletching.client.blobs.blob_transfers import BlobFileOnHost, BlobInfo, BlobRange
from fletching.client.transports.channel import Channel
from fletching.errors import (
    ProtocolError,
    RangeNotSatisfiableError,
    ServiceError,
    TransportError,
    TruncatedStreamError,
    UsageError,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from fletching.client.retry import RetrySequence

__all__ = ["BlobRanges"]

MOST_BYTES = 128 << 20
"""Longest range of one request."""

GROWTH = 4

SKIPPED_BYTES = 256 << 10
"""A seek forward by no more than this receives what lies between instead of asking anew."""


class BlobRanges(io.RawIOBase):
    """The raw file under a `BlobFile`. Not thread-safe.

    A range that breaks is begun again at the byte it has reached, under the retry policy.

    Attributes:
        info: of the blob.
    """

    def __init__(self, channel: Channel, reference: str, least_bytes: int) -> None:
        """Asks what the blob is.

        Args:
            channel: how it calls.
            reference: the blob's.
            least_bytes: what a request fetches at least.
        """
        super().__init__()
        self._channel = channel
        self._reference = reference
        self._least_bytes = max(1, least_bytes)
        self._position = 0
        self._stream: BlobRange | None = None
        self._file: BlobFileOnHost | None = None
        self._stream_at = 0
        self._stream_end = 0
        self._range_bytes = 0
        self.info: BlobInfo = channel.retrying(
            lambda attempt: channel.transport.blob_info(reference, attempt),
            repeatable=True,
        )

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Moves the position; asks for nothing."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.info.length}
        if whence not in base:
            raise UsageError(f"whence {whence} is none of 0, 1 and 2")
        position = base[whence] + offset
        if position < 0:
            raise UsageError(f"position {position} is before the blob's first byte")
        self._position = position
        return position

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fills ``buffer`` unless the blob ends first.

        Raises:
            ServiceError: the service refused.
            TransportError: no answer within the retry budget.
        """
        target = memoryview(buffer).cast("B")
        start = self._position
        end = min(start + target.nbytes, self.info.length)
        received = 0
        sequence = self._channel.sequence()
        while self._position < end:
            if self._file is not None:
                count = self._file.readinto_at(target[received : end - start], self._position)
                received += count
                self._position += count
                continue
            try:
                stream = self._stream_here(end, sequence)
                if self._file is not None:
                    continue
                count = stream.readinto(target[received : received + end - self._position])
            except (ServiceError, TransportError, TruncatedStreamError) as error:
                self._drop()
                sequence.wait(error, repeatable=True)
                continue
            except BaseException:
                self._drop()
                raise
            if not count:
                # The reply ended where it said; another range follows.
                self._drop()
                continue
            received += count
            self._position += count
            self._stream_at += count
            sequence.progressed()
        return received

    def _stream_here(self, end: int, sequence: RetrySequence) -> BlobRange:
        """The range that goes on at the position: the one that is open, or a new one."""
        ahead = self._position - self._stream_at
        near = 0 <= ahead <= SKIPPED_BYTES and self._position < self._stream_end
        if self._stream is not None and near and self._skip(ahead):
            return self._stream
        follows = self._position == self._stream_end and self._range_bytes > 0
        self._drop()
        wanted = max(end - self._position, self._least_bytes)
        if follows:
            wanted = max(wanted, min(self._range_bytes * GROWTH, MOST_BYTES))
        last = min(self._position + wanted, self.info.length)
        try:
            self._stream = self._channel.transport.read_range(
                self._reference, self._position, last, sequence
            )
        except RangeNotSatisfiableError as exc:
            raise ProtocolError("the blob is shorter than it was", side="remote") from exc
        self._file = self._stream.file
        self._stream_at, self._stream_end = self._position, last
        self._range_bytes = wanted
        return self._stream

    def _skip(self, length: int) -> bool:
        """Receives bytes that nobody wants; False if the range ends in them."""
        assert self._stream is not None
        room = memoryview(bytearray(min(length, SKIPPED_BYTES)))
        while length:
            count = self._stream.readinto(room[:length])
            if not count:
                return False
            length -= count
            self._stream_at += count
        return True

    def _drop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def close(self) -> None:
        """Gives the connection back, or drops it in the middle of a range; idempotent."""
        self._drop()
        self._file = None
        super().close()
