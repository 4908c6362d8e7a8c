"""The bodies of one TableRead and one TableWrite as files of bytes: the lowest level there is.

For whoever moves Arrow IPC streams without looking into them. Nothing is retried here: a broken
connection is an error, and what was sent by a failed `StreamWriter` may or may not have been stored.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from fletching.client.transports.channel import Channel
from fletching.client.transports.transport import BytesSource, ReadRequest
from fletching.errors import UsageError
from fletching.protocol.messages.field_types import check_field_types
from fletching.protocol.messages.requests import WriteTable
from fletching.protocol.messages.responses import WriteResult

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["StreamReader", "StreamWriter"]


class StreamReader(io.RawIOBase):
    """The bytes of one reply, an Arrow IPC stream, as a readable file.

    ``pyarrow.ipc.open_stream`` takes it as it is. Reading past the end of a reply that was cut
    raises `ConnectionBrokenError`. Not thread-safe.
    """

    def __init__(self, channel: Channel, request: ReadRequest) -> None:
        super().__init__()
        self._channel = channel
        self._request = request
        self._source: BytesSource | None = None

    @property
    def request_id(self) -> str | None:
        """The service's id of the request, once it was sent."""
        return None if self._source is None else self._source.request_id

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Receives into the caller's buffer; 0 at the end of the stream.

        Raises:
            ServiceError: the service refused.
            TransportError: the exchange failed.
        """
        if self.closed:
            raise UsageError("the stream reader is closed")
        if self._source is None:
            sequence = self._channel.sequence()
            self._source = self._channel.transport.open_read(self._request, sequence)
        return self._source.readinto(buffer)

    def read(self, size: int = -1, /) -> bytes:
        """Bytes of the stream: ``size`` of them unless it ends first, or all of the rest.

        Unlike the raw files of the standard library this never returns fewer in the middle: pyarrow
        and others take that for the end. Errors as `readinto`, which spares a copy.
        """
        if size < 0:
            return self.readall()
        room = memoryview(bytearray(size))
        received = 0
        while received < size and (count := self.readinto(room[received:])):
            received += count
        return bytes(room[:received])

    def close(self) -> None:
        """Gives the connection back, or drops it before the end."""
        if self._source is not None:
            self._source.close()
        super().close()


class StreamWriter(io.RawIOBase):
    """The body of one TableWrite as a writable file.

    ``pyarrow.ipc.new_stream`` takes it as its sink. `finish` ends the body and returns what the
    service says; closing without it breaks the request off, so that nothing is stored.
    """

    def __init__(self, channel: Channel, request: WriteTable) -> None:
        super().__init__()
        try:
            check_field_types(request)
            sequence = channel.sequence()
            self._sink = channel.transport.open_write(request, sequence)
        except BaseException:
            super().close()  # there is nothing to break off
            raise
        self._result: WriteResult | None = None

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, data: ReadableBuffer) -> int:
        """Sends bytes; returns their number, always all.

        Raises:
            TransportError: the exchange failed.
            UsageError: the body is finished.
        """
        if self.closed or self._result is not None:
            raise UsageError("the stream writer is finished")
        view = memoryview(data).cast("B")
        if view.nbytes:
            self._sink.write(view)
        return view.nbytes

    def finish(self) -> WriteResult:
        """Ends the body; what it returns is stored. Again returns the same.

        Raises:
            ServiceError: the service refused; nothing of the body was stored.
            TransportError: the exchange failed; whether the body was stored is unknown.
        """
        if self._result is None:
            if self.closed:
                raise UsageError("the stream writer was closed before it was finished")
            self._result = self._sink.finish()
        return self._result

    def close(self) -> None:
        """Breaks the request off if it is not finished; idempotent."""
        if not self.closed and self._result is None:
            self._sink.abort()
        super().close()
