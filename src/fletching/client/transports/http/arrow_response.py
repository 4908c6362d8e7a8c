"""Record batches out of a reply: each message received straight into its own memory."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from fletching.client.transports.http.coded_response import ReplyBytes
from fletching.errors import ProtocolError
from fletching.ipc import Limits, Message, MessageDecoder
from fletching.ipc.batches import BatchDecoder
from fletching.ipc.decoder import DecoderState
from fletching.ipc.metadata import MessageType

__all__ = ["ArrowReply"]

METADATA_BYTES = 4096
"""Received at once where a large message begins: its metadata, and the first bytes of its body, which
are the only ones to be copied once more."""

SMALL_BYTES = 1024 * 1024
"""After a batch shorter than this several are received at once, into a block that they share: making
memory ready and asking the kernel for each takes longer than copying it."""

BLOCK_BYTES = 2 * 1024 * 1024
"""Length of a block. Its batches keep it alive together; one that does not end in it is moved."""

WAKE_BYTES = 64 * 1024
"""How much of a block must have come, or as much as the batch before had, so that a whole one is likely:
more would make the first of small batches wait for the others."""

_ALIGNMENT = 64


class ArrowReply:
    """The batches of one reply; a `fletching.client.transports.transport.BatchSource`.

    A message's length is known from its prefix and metadata, so its body is received into one
    buffer of pyarrow's memory pool, which the batch's arrays then borrow. Small batches share blocks.
    Python copies no payload but the first bytes of a message, or of a small one that began at the end
    of what had come.

    Attributes:
        schema: of the batches.
        request_id: the service's id of the request.
    """

    def __init__(self, reply: ReplyBytes, limits: Limits) -> None:
        """Receives the schema message.

        Raises:
            TruncatedStreamError, MalformedFrameError, LimitExceededError: the reply does not begin
                with a schema message.
            TransportError: the exchange failed.
        """
        self._reply = reply
        self._decoder = MessageDecoder(limits)
        self._small = False
        self._expected = 0  # bytes of the newest message
        self._block = memoryview(b"")
        self.request_id = reply.request_id
        try:
            # The service has validated text when it was written; offsets are checked here again,
            # so that a service that lies cannot make this process read outside its memory.
            self._batches = BatchDecoder(self._schema_message(), limits=limits, validate_text=False)
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

    def hurry(self) -> None:
        """All rows are here: what follows is not worth a wait."""
        self._reply.hurry()

    def close(self) -> None:
        """Gives the connection back, or drops it if the reply was not read to its end."""
        self._reply.close()

    def _schema_message(self) -> Message:
        message = self._next_message()
        if message is None:
            raise ProtocolError("the reply is an Arrow stream without a schema", side="remote")
        return message

    def _next_message(self) -> Message | None:
        decoder = self._decoder
        while True:
            message = decoder.next_message()
            if message is DecoderState.END:
                return None
            if isinstance(message, Message):
                # Nothing is known yet of the batches behind a schema or a dictionary.
                self._small = (
                    message.type is MessageType.RECORD_BATCH and message.body_length < SMALL_BYTES
                )
                self._expected = message.end - message.offset
                return message
            if self._small and decoder.between_messages:
                self._receive_block()
            else:
                self._receive_message()

    def _receive_message(self) -> None:
        """Receives more of one message into its own memory."""
        decoder = self._decoder
        count = self._reply.readinto(decoder.writable(read_ahead=METADATA_BYTES))
        if count == 0:
            decoder.finish(require_marker=True)
        decoder.wrote(count)

    def _receive_block(self) -> None:
        """Receives messages into a block; whole ones stay there, the last one's beginning is moved."""
        if len(self._block) < SMALL_BYTES:
            self._block = memoryview(pa.allocate_buffer(BLOCK_BYTES)).cast("B")
        count = self._reply.readinto(self._block, wake_bytes=max(WAKE_BYTES, self._expected))
        if count == 0:
            self._decoder.finish(require_marker=True)
        self._decoder.feed(self._block[:count].toreadonly(), borrow=True)
        self._block = self._block[count + -count % _ALIGNMENT :]
