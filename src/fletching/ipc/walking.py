"""Walking messages: those of a buffer or a file, one after the other, and one at a time from a pipe."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, Self, cast

from fletching.errors import TruncatedStreamError, UsageError, WireError
from fletching.ipc.decoder import MessageDecoder
from fletching.ipc.footer import Footer
from fletching.ipc.limits import DEFAULT_LIMITS, Limits
from fletching.ipc.listed_messages import ListedMessages, find_footer
from fletching.ipc.message import CONTINUATION, MAGIC, Message, message_at, relocated
from fletching.ipc.metadata import MessageType
from fletching.ipc.recognition import HEAD_BYTES, recognized
from fletching.ipc.source import (
    FileSource,
    Input,
    MappedSource,
    Readable,
    Seekable,
    open_input,
    skip,
)

__all__ = [
    "FileMessageIterator",
    "MessageIterator",
    "marker_length",
    "messages",
    "read_message",
    "stream_start",
]

_I32: Final = struct.Struct("<i")
_MAX_PADDED_MAGIC_BYTES: Final = 64
_BARE_SCHEMA_BYTES: Final = 1 << 20
"""How far the end of a schema message without length prefix is looked for."""


class MessageIterator:
    """Walks the messages of one stream or file; see `messages`.

    Attributes:
        position: bytes consumed: the end of the newest message while walking, and once the walk is
            over the exact end of the stream, its end-of-stream marker included.
        marker_length: length of the end-of-stream marker: 8, 4 (legacy), 0 if there is none, and
            None while the walk goes on.
        view, start, limits: what is walked, from where, and what it may claim.
    """

    def __init__(
        self,
        view: memoryview,
        position: int,
        end: int,
        limits: Limits,
        *,
        listed: ListedMessages | None = None,
        first: Message | None = None,
    ) -> None:
        """Prepares to walk ``view`` from ``position`` to ``end``.

        ``listed`` are the messages of a file with a footer, which are walked instead; ``first`` is
        a message that stands before ``position`` in a form of its own.
        """
        self.view = view
        self.start = position
        self._end = end
        self.limits = limits
        self._listed = listed
        self._from_footer = None if listed is None else iter(listed)
        self._last_end = position
        self._first = first
        self.position = position
        self.marker_length: int | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        """The next message; errors as for `messages`."""
        if self.marker_length is not None:
            raise StopIteration
        if self._from_footer is not None:
            return self._next_listed(self._from_footer)
        if self._first is not None:
            first, self._first = self._first, None
            return first
        if self.position == self._end:
            self.marker_length = 0
            raise StopIteration
        try:
            result = message_at(self.view, self.position, self._end, self.limits)
        except WireError as error:
            if self.position != self.start:
                raise
            head = bytes(self.view[self.start : self.start + HEAD_BYTES])
            raise recognized(error, head) from None
        if isinstance(result, int):
            self.marker_length = result
            self.position += result
            raise StopIteration
        self.position = result.end
        return result

    def _next_listed(self, walk: Iterator[Message]) -> Message:
        message = next(walk, None)
        if message is None:
            self.marker_length = marker_length(self.view, self._last_end, self._end)
            self.position = self._last_end + self.marker_length
            raise StopIteration
        if message.end <= self._end:
            self.position = message.end
            self._last_end = max(self._last_end, message.end)
        return message


def marker_length(view: memoryview, position: int, end: int) -> int:
    """Length of the end-of-stream marker at ``position``: 8, 4, or 0 if there is none before ``end``."""
    rest = bytes(view[position : min(end, position + 8)])
    if rest == CONTINUATION + bytes(4):
        return 8
    return 4 if rest[:4] == bytes(4) else 0


class FileMessageIterator:
    """Walks the messages of a stream in an open file, reading no byte behind its end.

    Attributes:
        position: bytes from where the file stood to where it stands now; afterwards the exact end
            of the stream.
        marker_length: as of `MessageIterator`.
    """

    def __init__(self, file: Readable, offset: int, limits: Limits) -> None:
        """Skips ``offset`` bytes."""
        self._file = file
        self.limits = limits
        self._start = offset
        self.position = offset
        self.marker_length: int | None = None
        skip(file, offset)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        """The next message; errors as for `messages`."""
        if self.marker_length is not None:
            raise StopIteration
        decoder = MessageDecoder(self.limits)
        try:
            message = _next_message(self._file, decoder)
        except WireError as error:
            if self.position > self._start:
                # What stands behind a message is damage, not another format.
                error = decoder.error or error
            raise relocated(error, self.position) from None
        if message is None:
            self.marker_length = decoder.marker_length
            self.position += decoder.bytes_consumed
            raise StopIteration
        message.offset = self.position
        self.position = message.end
        return message


def messages(
    source: Input, offset: int = 0, *, limits: Limits = DEFAULT_LIMITS
) -> MessageIterator | FileMessageIterator:
    """Walks the messages of the stream that starts at ``offset``, or of a file that does.

    The cost per message is one small metadata parse, whatever the bodies' size: bodies are not
    touched, so those of a mapped file stay on disk. Bytes after the end-of-stream marker are left
    alone; ``position`` tells where they start.

    If the input starts with a file's magic and ends with a valid footer, the footer decides: the
    schema, then the dictionaries and the batches that it lists. Such files are read of every writer,
    those included that leave no valid stream in the file. A file without footer is walked like the
    stream that it holds.

    Args:
        source: a path (mapped into memory), any contiguous buffer (bytes, memoryview, mmap,
            pyarrow.Buffer), or an open binary file. Messages borrow from a buffer: keep it alive and
            unchanged while they are used. Of an open file, which may be a pipe or a socket's, each
            message is read into memory of its own, from where the file stands.
        offset: where the stream starts, in bytes; the messages' offsets count from the start of the
            buffer, or from where the file stood.
        limits: what the input may claim.

    Raises:
        UsageError: ``offset`` lies outside the data, or the source is none of these.
        TruncatedStreamError: while walking, the input ends inside a message.
        MalformedFrameError: while walking, something that is not a message.
        LimitExceededError: while walking, metadata above its limit.
    """
    data = open_input(source)
    if not isinstance(data, memoryview):
        return _messages_of_file(data, offset, limits)
    view = data
    if not 0 <= offset <= len(view):
        raise UsageError(f"offset {offset} lies outside the data of {len(view)} bytes")
    if bytes(view[offset : offset + len(MAGIC)]) != MAGIC or len(view) - offset < 8:
        return MessageIterator(view, offset, len(view), limits)
    mapped = MappedSource(view)
    footer: Footer | None = find_footer(mapped, offset, len(view) - offset, limits)
    if footer is not None:
        listed = ListedMessages(mapped, offset, footer, limits)
        return MessageIterator(view, offset + 8, offset + footer.start, limits, listed=listed)
    end = _footer_start(view, offset + 8)
    schema, start = stream_start(view, offset, end, limits)
    return MessageIterator(view, start, end, limits, first=schema)


def _messages_of_file(
    file: Readable, offset: int, limits: Limits
) -> MessageIterator | FileMessageIterator:
    if offset < 0:
        raise UsageError(f"offset {offset} is negative")
    seekable = getattr(file, "seekable", None)
    if seekable is not None and seekable():
        file = cast("Seekable", file)
        start = file.tell() + offset
        file.seek(start)
        is_file = file.read(len(MAGIC)) == MAGIC
        file.seek(start - offset)
        if is_file:
            ranges = FileSource(file)
            length = ranges.length - start
            footer = find_footer(ranges, start, length, limits)
            if footer is not None:
                listed = ListedMessages(ranges, start, footer, limits)
                return MessageIterator(memoryview(b""), start, 0, limits, listed=listed)
            # Read whole: where its messages start and end is found by looking at it.
            return messages(ranges.view(start, ranges.length), limits=limits)
    return FileMessageIterator(file, offset, limits)


def _footer_start(view: memoryview, start: int) -> int:
    """Where the footer of a file begins whose trailing magic ends the data, else the data's end."""
    end = len(view)
    if end - start < 10 or bytes(view[end - 6 :]) != MAGIC:
        return end
    (length,) = _I32.unpack_from(view, end - 10)
    footer = end - 10 - length
    return footer if length > 0 and footer >= start else end


def stream_start(
    view: memoryview, start: int, end: int, limits: Limits = DEFAULT_LIMITS
) -> tuple[Message | None, int]:
    """Where the first message of a file without footer stands, behind its magic and padding.

    Writers pad the magic to 8 bytes or to 64. One (polars) leaves out the schema message's length
    prefix: such a message is returned, with the place of the next.

    Args:
        view: the file's bytes.
        start: where the magic stands.
        end: where the messages end at the latest.
        limits: what the file may claim.
    """
    position = start + 8
    padded = bytes(view[position : min(end, start + _MAX_PADDED_MAGIC_BYTES + 8)])
    zeros = len(padded) - len(padded.lstrip(b"\0"))
    if zeros < len(padded):
        position += zeros & ~7
    try:
        message_at(view, position, end, limits)
    except TruncatedStreamError:
        pass
    except WireError:
        result = _bare_schema(view, position, end, limits)
        if result is not None:
            return result
    return None, position


def _bare_schema(
    view: memoryview, position: int, end: int, limits: Limits
) -> tuple[Message, int] | None:
    """A schema message without length prefix: it ends where the next message's marker stands."""
    stop = min(end, position + limits.max_metadata_bytes, position + _BARE_SCHEMA_BYTES)
    head = bytes(view[position:stop])  # copied, since a memoryview cannot be searched
    length = head.find(CONTINUATION, 8)
    while length > 0 and length % 8:
        length = head.find(CONTINUATION, length + 1)
    if length < 0:
        return None
    metadata_end = position + length
    try:
        result = Message(view[position:metadata_end], view[:0], offset=position, prefix_length=0)
    except WireError:
        return None
    return (result, metadata_end) if result.type is MessageType.SCHEMA else None


def read_message(source: Input, *, limits: Limits = DEFAULT_LIMITS) -> Message | None:
    """Reads one message; None at the end-of-stream marker or where the input ends before it.

    Args:
        source: an open binary file, a pipe or socket too: has ``read(n)``, which may return fewer
            bytes than asked for. A file with ``readinto`` is read straight into the message's own
            buffers, without another copy. Or a path or a buffer, whose first message is returned.
        limits: checked before anything is allocated.

    Raises:
        TruncatedStreamError: the file ended inside the message.
        MalformedFrameError: it is no message.
        LimitExceededError: metadata or body above their limits.
    """
    file = open_input(source)
    if isinstance(file, memoryview):
        return next(messages(file, limits=limits), None)
    return _next_message(file, MessageDecoder(limits))


def _next_message(file: Readable, decoder: MessageDecoder) -> Message | None:
    readinto = getattr(file, "readinto", None)
    while True:
        for message in decoder:
            return message
        if decoder.ended:
            return None
        if readinto is None:
            chunk = file.read(decoder.bytes_needed)
            count = len(chunk)
            decoder.feed(chunk)
        else:
            count = readinto(decoder.writable(read_ahead=0)) or 0
            decoder.wrote(count)
        if not count:
            if decoder.bytes_consumed == 0:
                return None
            decoder.finish()
