"""`MessageDecoder`: cuts messages out of bytes that arrive in chunks of any size.

States, in the order in which a message passes through them; all transitions are in
`MessageDecoder._advance`::

    PREFIX ──> METADATA ──> BODY ──> PREFIX ...
      └──> END (a length of 0; everything after it belongs to the caller)
"""

from __future__ import annotations

import collections
import enum
import struct
from collections.abc import Iterator
from typing import Final

import pyarrow as pa
from typing_extensions import Buffer

from fletching.errors import (
    LimitExceededError,
    MalformedFrameError,
    TruncatedStreamError,
    UsageError,
    WireError,
)
from fletching.ipc.limits import DEFAULT_LIMITS, Limits
from fletching.ipc.message import (
    CONTINUATION,
    Message,
    as_view,
    check_metadata_length,
    message_at,
    relocated,
    truncated,
)
from fletching.ipc.metadata import HeaderReader, MessageHeader
from fletching.ipc.recognition import HEAD_BYTES, recognized

__all__ = ["DecoderState", "MessageDecoder"]

_I32: Final = struct.Struct("<i")
READ_AHEAD_BYTES: Final = 64 << 10
"""Default room offered by `MessageDecoder.writable` beyond what is needed: a typical small message."""


class DecoderState(enum.Enum):
    """Why `MessageDecoder.next_message` gave no message."""

    NEED_MORE = "need more"
    """Bytes are missing: feed some, or `finish` if there are none."""
    END = "end"
    """The end-of-stream marker was read; nothing more will come out of this decoder."""


class MessageDecoder:
    """Push parser for one stream of encapsulated messages; does no I/O and keeps no clock.

    Two ways in, which may be mixed::

        decoder.feed(chunk)                       # bytes that somebody else received
        decoder.wrote(sock.recv_into(decoder.writable()))   # receive straight into place

    and one way out: iterate the decoder, or call `next_message`, which tells "need more" from "end".
    At the end of the input call `finish`.

    Ownership: a message owns its metadata and body, which are allocated once, at the size the
    checked prefix and metadata announce; payload is copied once by `feed`, and not at all by
    `feed(..., borrow=True)` for messages that lie wholly inside the chunk, nor by `writable`,
    apart from what arrives together with a message's metadata (at most ``read_ahead`` bytes).
    A body starts at a multiple of 64 in memory. Not thread-safe.

    After an error the decoder refuses further input with the same error.

    Attributes:
        bytes_consumed: bytes of the stream parsed so far, its end-of-stream marker included and
            nothing after it.
        ended: whether the end-of-stream marker was read.
        marker_length: length of that marker, 8 or 4; 0 before.
        error: what the input was refused for, if it was, without a guess at what it is instead.
    """

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._headers = HeaderReader()
        self._ready: collections.deque[Message] = collections.deque()
        self._error: WireError | None = None
        self._offset = 0  # where the current message starts
        self._small = bytearray(8)  # prefix, then metadata, as far as they are here
        self._target: memoryview = memoryview(self._small)[:4]  # what is being filled
        self._received = 0
        self._prefix_length = 4
        self._header: MessageHeader | None = None  # set while the body is being filled
        self._metadata: memoryview | None = None
        self._whole: memoryview | None = None  # the message's own memory, framed
        self._reading_prefix = True
        self._ahead: bytearray | None = None  # lent out by writable() for small parts
        self._lent: memoryview | None = None
        self._left_over: bytes = b""
        self.error: WireError | None = None
        self._head = bytearray()  # the first bytes of all, for errors
        self.bytes_consumed = 0
        self.ended = False
        self.marker_length = 0

    # --- in ------------------------------------------------------------------------------------

    @property
    def limits(self) -> Limits:
        """What messages may ask for."""
        return self._limits

    def feed(self, chunk: Buffer, *, borrow: bool = False) -> int:
        """Takes bytes of the stream; returns how many belong to it.

        That is all of the chunk, unless the stream ends inside it: what follows the end-of-stream
        marker is the caller's.

        Args:
            chunk: bytes of any length, also none. Copied, so the caller may reuse it at once.
            borrow: the chunk stays unchanged for as long as the messages live: those that lie
                wholly inside it become views of it and are not copied.

        Raises:
            MalformedFrameError: the bytes are not a message.
            LimitExceededError: a message claims more than the limits; nothing was allocated for it.
        """
        if self._error is not None:
            raise self._error
        view = as_view(chunk)
        if self._offset == 0:
            self._head += view[: HEAD_BYTES - len(self._head)]
        try:
            return self._feed(view, borrow=borrow)
        except WireError as error:
            raise self._refused(error) from None

    def _refused(self, error: WireError) -> WireError:
        """Remembers an error for all further calls; in the first message it says what came instead."""
        self.error = error
        if self._offset == 0:
            error = recognized(error, bytes(self._head))
        self._error = error
        return error

    def _feed(self, view: memoryview, *, borrow: bool) -> int:
        position, size = 0, len(view)
        while position < size and not self.ended:
            if borrow and self.between_messages:
                accepted = self._borrow(view, position)
                if accepted:
                    position += accepted
                    continue
            count = min(size - position, len(self._target) - self._received)
            # The one copy of payload: a chunk is its owner's, who will reuse it.
            self._target[self._received : self._received + count] = view[
                position : position + count
            ]
            position += count
            self._took(count)
        return position

    @property
    def between_messages(self) -> bool:
        """Whether no byte of the next message has come: what is fed now begins with its prefix."""
        return self._reading_prefix and self._received == 0 and self._prefix_length == 4

    def _borrow(self, view: memoryview, position: int) -> int:
        """Takes a message that lies wholly in the chunk as views; 0 if there is none."""
        try:
            result = message_at(view, position, len(view), self._limits, self._headers.read)
        except TruncatedStreamError:
            return 0  # the usual way takes it, and reports what is wrong with it
        except WireError as error:
            raise relocated(error, self._offset - position) from None
        if isinstance(result, int):
            return 0
        result.offset = self._offset
        self._check_body_length(result.body_length)
        self._ready.append(result)
        length = result.end - result.offset
        self.bytes_consumed += length
        self._offset += length
        return length

    def writable(self, *, read_ahead: int = READ_AHEAD_BYTES) -> memoryview:
        """Room to receive into, never empty; follow with `wrote`, before any `feed`.

        While a body is being received this is the body's own memory, so that payload goes from the
        socket to its place without a copy. Otherwise it is a scratch area of ``read_ahead`` bytes
        (or more if more is needed), so that a small message takes one receive.

        Args:
            read_ahead: how far to read beyond what the current part needs. With 0 nothing behind
                the end of the stream is ever taken from the source, at the price of more receives.

        Raises:
            UsageError: the stream has ended, there is nothing to receive.
        """
        if self._error is not None:
            raise self._error
        if self.ended:
            raise UsageError("the stream has ended: nothing more is to be received")
        need = len(self._target) - self._received
        if need >= read_ahead:
            self._lent = None
            return self._target[self._received :]
        if self._ahead is None or len(self._ahead) < read_ahead:
            self._ahead = bytearray(read_ahead)
        self._lent = memoryview(self._ahead)
        return self._lent[:read_ahead]

    def wrote(self, count: int) -> int:
        """Says that ``count`` bytes were received into `writable`; returns how many belong to the stream.

        Bytes behind the end of the stream are kept in `unconsumed`. Errors as for `feed`.
        """
        if self._error is not None:
            raise self._error
        lent, self._lent = self._lent, None
        if lent is not None:
            if not 0 <= count <= len(lent):
                raise UsageError(f"{count} bytes cannot have been written to {len(lent)}")
            accepted = self.feed(lent[:count])
            if accepted < count:
                self._left_over = bytes(lent[accepted:count])
            return accepted
        if not 0 <= count <= len(self._target) - self._received:
            raise UsageError(f"{count} bytes cannot have been written")
        if self._offset == 0:
            end = min(count, HEAD_BYTES - len(self._head))
            self._head += self._target[self._received : self._received + end]
        try:
            self._took(count)
        except WireError as error:
            raise self._refused(error) from None
        return count

    @property
    def unconsumed(self) -> bytes:
        """What `wrote` brought in from behind the end of the stream; empty until then."""
        return self._left_over

    @property
    def bytes_needed(self) -> int:
        """How many more bytes the part being read (prefix, metadata or body) lacks; 0 at the end."""
        return 0 if self.ended else len(self._target) - self._received

    # --- the states ----------------------------------------------------------------------------

    def _took(self, count: int) -> None:
        self._received += count
        self.bytes_consumed += count
        while not self.ended and self._received == len(self._target):
            self._advance()

    def _advance(self) -> None:
        """One transition, made when the current part is complete."""
        if self._reading_prefix:
            self._advance_from_prefix()
        elif self._header is None:
            self._advance_from_metadata()
        else:
            self._complete(self._header, self._target)

    def _advance_from_prefix(self) -> None:
        (length,) = _I32.unpack_from(self._small, self._received - 4)
        if length == -1 and self._prefix_length == 4:
            self._prefix_length = 8
            self._target = memoryview(self._small)
            return
        check_metadata_length(length, self._offset, self._limits)
        if length == 0:
            self.ended = True
            self.marker_length = self._prefix_length
            return
        self._reading_prefix = False
        self._target = memoryview(bytearray(length))
        self._received = 0

    def _advance_from_metadata(self) -> None:
        metadata = self._target.toreadonly()
        try:
            header = self._headers.read(metadata)
        except WireError as error:
            raise relocated(error, self._offset + self._prefix_length) from None
        self._check_body_length(header.body_length)
        self._header = header
        # Prefix, metadata and body in one buffer, which pyarrow reads soonest, the body at a multiple
        # of 64 in it. pyarrow's allocator aligns to 64 bytes and does not clear the memory first.
        head = 8 + len(metadata)
        start = -head % 64
        store = memoryview(pa.allocate_buffer(start + head + header.body_length)).cast("B")
        store[start : start + 8] = CONTINUATION + _I32.pack(len(metadata))
        store[start + 8 : start + head] = metadata
        self._metadata = store[start + 8 : start + head].toreadonly()
        self._whole = store[start:].toreadonly()
        self._target = store[start + head :]
        self._received = 0

    def _check_body_length(self, length: int) -> None:
        if length > self._limits.max_body_bytes:
            raise LimitExceededError(
                "a message's body is too long",
                layer="message",
                offset=self._offset,
                actual=length,
                limit=self._limits.max_body_bytes,
            )

    def _complete(self, header: MessageHeader, body: memoryview) -> None:
        if self._metadata is None:
            raise MalformedFrameError("a body without metadata", layer="message")
        message = Message(
            self._metadata,
            body.toreadonly(),
            offset=self._offset,
            prefix_length=self._prefix_length,
            header=header,
            whole=self._whole,
        )
        self._ready.append(message)
        self._offset = message.end
        self._header = self._metadata = self._whole = None
        self._reading_prefix = True
        self._prefix_length = 4
        self._target = memoryview(self._small)[:4]
        self._received = 0

    # --- out -----------------------------------------------------------------------------------

    def next_message(self) -> Message | DecoderState:
        """The next complete message, or why there is none: more bytes are needed, or the stream ended."""
        if self._ready:
            return self._ready.popleft()
        return DecoderState.END if self.ended else DecoderState.NEED_MORE

    def __iter__(self) -> Iterator[Message]:
        """The messages that are complete now, each once."""
        while self._ready:
            yield self._ready.popleft()

    def finish(self, *, require_marker: bool = False) -> None:
        """Says that no more bytes will come. Idempotent.

        Args:
            require_marker: also refuse a stream that ends after a message but without the
                end-of-stream marker, which the format allows: such an end cannot be told from
                a cut at that place.

        Raises:
            TruncatedStreamError: the input ended inside a message, before the first one, or (with
                ``require_marker``) before the end-of-stream marker.
        """
        if self._error is not None:
            raise self._error
        if self.ended:
            return
        if not self.between_messages:
            what = "a length prefix" if self._reading_prefix else "a message's body"
            if not self._reading_prefix and self._header is None:
                what = "a message's metadata"
            raise self._refused(truncated(what, self._offset, len(self._target), self._received))
        if require_marker or self.bytes_consumed == 0:
            raise truncated("the stream, before its end-of-stream marker", self._offset, 8, 0)
