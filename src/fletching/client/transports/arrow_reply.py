"""Record batches out of a reply: each message received straight into its own memory."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from fletching.client.transports.coded_reply import ReplyBytes
from fletching.errors import ProtocolError
from fletching.ipc import BatchDecoder, DecoderState, Limits, Message, MessageDecoder

__all__ = ["ArrowReply"]


class ArrowReply:
    """The batches of one reply; a `fletching.client.transport.BatchSource`.

    A message's length is known from its prefix and metadata, so its body is received into one
    buffer of pyarrow's memory pool, which the batch's arrays then borrow: Python copies no payload.

    Attributes:
        schema: of the batches.
        request_id: the service's id of the request.
    """

    def __init__(self, reply: ReplyBytes, request_id: str | None, limits: Limits) -> None:
        """Receives the schema message.

        Raises:
            TruncatedStreamError, MalformedFrameError, LimitExceededError: the reply does not begin
                with a schema message.
            TransportError: the exchange failed.
        """
        self._reply = reply
        self._decoder = MessageDecoder(limits)
        self.request_id = request_id
        try:
            self._batches = BatchDecoder(self._schema_message(), limits=limits)
        except BaseException:
            self.close()
            raise
        self.schema: pa.Schema = self._batches.schema

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """The batches; ends at the end-of-stream marker, and only there.

        Raises:
            TruncatedStreamError: the reply ended without the marker.
            WireError: it is not a correct Arrow IPC stream.
            TransportError: the exchange failed.
        """
        while (message := self._next_message()) is not None:
            batch = self._batches.decode(message)
            if batch is not None:
                yield batch
        self._reply.finish()

    def cancel(self) -> None:
        """Breaks the connection under a read in another thread."""
        self._reply.cancel()

    def close(self) -> None:
        """Gives the connection back, or drops it if the reply was not read to its end."""
        self._reply.close()

    def _schema_message(self) -> Message:
        message = self._next_message()
        if message is None:
            raise ProtocolError("the reply is an Arrow stream without a schema", side="remote")
        return message

    def _next_message(self) -> Message | None:
        decoder, reply = self._decoder, self._reply
        while True:
            message = decoder.next_message()
            if message is DecoderState.END:
                return None
            if isinstance(message, Message):
                return message
            # No reading ahead: the standard library buffers 8 KiB below, so that small pieces cost
            # no system call, and large ones go past that buffer.
            count = reply.readinto(decoder.writable(read_ahead=0))
            if count == 0:
                decoder.finish(require_marker=True)
            decoder.wrote(count)
