"""A reply's bytes: under our own content coding decoded while they are received, or handed out as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from fletching.client.transports.http.http_response import WAKE_BYTES, Reply
from fletching.protocol.http import headers as header_names
from fletching.protocol.http.body_codings import StreamCoding, table_body_coding
from fletching.protocol.http.layers import table_body_decoder

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["CodedReply", "ReplyBytes", "uncoded"]

RECEIVE_BYTES = 256 * 1024
"""Room for coded bytes: some tens of blocks at a time decode faster than one by one."""


class ReplyBytes(Protocol):
    """What readers of a reply's body need of it; see `Reply`."""

    @property
    def request_id(self) -> str | None:
        """The service's id of the request, if it says one."""

    def readinto(self, buffer: WriteableBuffer, *, wake_bytes: int = WAKE_BYTES) -> int:
        """The next bytes; 0 at the end. With fewer than ``wake_bytes`` here it may wait for more."""

    def finish(self) -> None:
        """Takes what stands behind the data."""

    def hurry(self) -> None:
        """Lets the peer be silent for a moment only."""

    def close(self) -> None:
        """Gives the connection back, or drops it."""


class CodedReply:
    """The decoded body of a reply; used like the reply itself.

    Decoded bytes are copied once more than those of a plain reply: LZ4 decodes into its own memory.
    """

    def __init__(self, reply: ReplyBytes, coding: StreamCoding) -> None:
        self._reply = reply
        self.request_id = reply.request_id
        self._decoder = table_body_decoder(coding)
        self._events = self._decoder.events()
        self._chunk = memoryview(b"")
        self._room = bytearray(RECEIVE_BYTES)
        self._ended = False

    def readinto(self, buffer: WriteableBuffer, *, wake_bytes: int = WAKE_BYTES) -> int:  # noqa: ARG002  decoding blocks decides
        """The next decoded bytes into ``buffer``; 0 at the end of the body.

        Raises:
            WireError: the body does not decode, or was cut.
            TransportError: the exchange failed.
        """
        target = memoryview(buffer).cast("B")
        if not target.nbytes:
            return 0
        while not self._chunk:
            chunk = next(self._events, None)
            if chunk is not None:
                self._chunk = memoryview(chunk)
            elif self._ended:
                return 0
            else:
                self._receive()
        count = min(len(self._chunk), target.nbytes)
        target[:count] = self._chunk[:count]
        self._chunk = self._chunk[count:]
        return count

    def _receive(self) -> None:
        # The room is free again: the decoder borrows it only until its events are exhausted.
        count = self._reply.readinto(self._room)
        if count:
            self._decoder.feed(memoryview(self._room)[:count])
        else:
            self._ended = True
            self._decoder.finish()
        self._events = self._decoder.events()

    def finish(self) -> None:
        """Takes what stands behind the data: the end mark, so that the connection can be reused."""
        self._reply.finish()

    def hurry(self) -> None:
        """As the reply's."""
        self._reply.hurry()

    def close(self) -> None:
        """As the reply's."""
        self._reply.close()


def uncoded(reply: Reply) -> ReplyBytes:
    """The reply itself, or its decoded form if its headers name our own coding."""
    coding = reply.headers.get(header_names.CONTENT_ENCODING)
    if coding and table_body_coding(coding) is StreamCoding.LZ4_STREAM:
        return CodedReply(reply, StreamCoding.LZ4_STREAM)
    return reply
