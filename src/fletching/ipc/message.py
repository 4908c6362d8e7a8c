"""Encapsulated messages: cutting a buffer of the stream format into them, without copying.

======  =====  =============================================================================
offset  bytes  meaning
======  =====  =============================================================================
0       4      continuation marker, FF FF FF FF; absent before format 0.15 (legacy)
4       4      i32 little-endian: length of the metadata with its padding; 0 ends the stream
8       n      metadata: a flatbuffer, padded so that the body starts at a multiple of 8
8 + n   b      body: the buffers, at the offsets that the metadata gives; b is in the metadata
======  =====  =============================================================================

The end-of-stream marker is a length of 0, with the continuation marker (8 bytes) or without it
(4 bytes). A stream may also just end after a message.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
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
from fletching.ipc.metadata import (
    DictionaryBatchHeader,
    MessageHeader,
    MessageType,
    MetadataVersion,
    RecordBatchHeader,
    read_message_header,
)

__all__ = [
    "END_OF_STREAM",
    "MAGIC",
    "Message",
    "as_view",
    "framed_message",
    "message_at",
    "without_prefix",
]

CONTINUATION: Final = b"\xff\xff\xff\xff"
END_OF_STREAM: Final = CONTINUATION + b"\x00\x00\x00\x00"
"""The 8-byte end-of-stream marker that is written here; the 4-byte legacy form is read as well."""
MAGIC: Final = b"ARROW1"
"""What an IPC file begins (padded to 8 bytes) and ends with."""

_I32: Final = struct.Struct("<i")


def as_view(data: Buffer) -> memoryview:
    """A flat, read-only view of any contiguous buffer (bytes, mmap, pyarrow.Buffer, numpy array).

    Raises:
        UsageError: it is not contiguous.
    """
    view = data if isinstance(data, memoryview) else memoryview(data)
    if not view.c_contiguous:
        raise UsageError("the buffer is not contiguous in memory")
    if view.format != "B" or view.ndim != 1:
        view = view.cast("B")
    return view.toreadonly()


class Message:
    """One encapsulated message. ``metadata`` and ``body`` are views; the input must outlive them.

    Attributes:
        offset: where the message (its length prefix) starts, in bytes from the start of the input.
        prefix_length: 8, or 4 for the legacy form without continuation marker.
        metadata: the flatbuffer with its padding, without the prefix.
        body: the buffers of the message.
    """

    __slots__ = ("_header", "_whole", "body", "metadata", "offset", "prefix_length")

    def __init__(
        self,
        metadata: memoryview,
        body: memoryview,
        *,
        offset: int = 0,
        prefix_length: int = 8,
        header: MessageHeader | None = None,
        whole: memoryview | None = None,
    ) -> None:
        """Wraps metadata and body; the header is read unless it comes along, errors as there.

        ``whole`` is the framed message, where prefix, metadata and body lie side by side.
        """
        self._header = read_message_header(metadata) if header is None else header
        if self._header.body_length != len(body):
            raise MalformedFrameError(
                "metadata and body disagree about the body's length",
                layer="message",
                offset=offset,
                expected=self._header.body_length,
                actual=len(body),
            )
        self.metadata = metadata
        self.body = body
        self.offset = offset
        self.prefix_length = prefix_length
        self._whole = whole

    @property
    def type(self) -> MessageType:
        """What the message carries."""
        return self._header.type

    @property
    def version(self) -> MetadataVersion:
        """The metadata version its writer declared."""
        return self._header.version

    @property
    def header(self) -> MessageHeader:
        """The parsed outermost table."""
        return self._header

    @property
    def metadata_length(self) -> int:
        """Bytes from ``offset`` to the body: prefix, flatbuffer and padding, as a file's footer counts."""
        return self.prefix_length + len(self.metadata)

    @property
    def body_length(self) -> int:
        """Bytes of the body, its padding included."""
        return len(self.body)

    @property
    def end(self) -> int:
        """Where the next message or the end-of-stream marker starts."""
        return self.offset + self.prefix_length + len(self.metadata) + len(self.body)

    @property
    def prefix(self) -> bytes:
        """The length prefix, in the form the message was found in."""
        length = _I32.pack(len(self.metadata))
        return length if self.prefix_length == 4 else CONTINUATION + length

    def frame(self) -> list[Buffer]:
        """The message as it was found, byte for byte: prefix, metadata and body, to be written in turn."""
        return [self.prefix, self.metadata, self.body]

    def record_batch(self, limits: Limits = DEFAULT_LIMITS) -> RecordBatchHeader:
        """Length, nodes, buffer positions, codec and variadic counts; for a dictionary batch, its values'.

        Nothing is compared with a schema yet. Costs one small parse; copies nothing.

        Raises:
            MalformedFrameError: another type of message, or a broken header.
            LimitExceededError: more rows than ``limits.max_rows``.
        """
        try:
            return self._header.record_batch(limits)
        except WireError as error:
            raise self.located(error) from None

    def dictionary_batch(self, limits: Limits = DEFAULT_LIMITS) -> DictionaryBatchHeader:
        """Id, delta flag and values' header of a dictionary batch; errors as for `record_batch`."""
        try:
            return self._header.dictionary_batch(limits)
        except WireError as error:
            raise self.located(error) from None

    def custom_metadata(self, limits: Limits = DEFAULT_LIMITS) -> dict[bytes, bytes]:
        """The message's own key-value pairs, which most writers leave empty (copies)."""
        try:
            return self._header.custom_metadata(limits)
        except WireError as error:
            raise self.located(error) from None

    def buffer(self, index: int) -> memoryview:
        """The bytes of the ``index``-th buffer as stored, compressed if they are; a view of the body.

        Raises:
            UsageError: there is no such buffer.
            MalformedFrameError: it lies outside the body.
        """
        buffers = self.record_batch().buffers
        if not 0 <= index < len(buffers):
            raise UsageError(f"buffer {index} does not exist, the message has {len(buffers)}")
        start, length = buffers[index].tolist()
        if start < 0 or length < 0 or start + length > len(self.body):
            raise MalformedFrameError(
                f"buffer {index} lies outside the body",
                layer="record batch",
                offset=self.offset,
                expected=f"within 0..{len(self.body)}",
                actual=f"{start}, {length} bytes",
            )
        return self.body[start : start + length]

    def located(self, error: WireError) -> WireError:
        """The same error with its offset counted from the start of the input, for re-raising."""
        inner = error.offset or 0
        return type(error)(
            error.message,
            layer=error.layer,
            offset=self.offset + (self.prefix_length + inner if error.layer == "metadata" else 0),
            expected=error.expected,
            actual=error.actual,
            limit=error.limit,
        )

    def to_pyarrow(self) -> pa.Message:
        """The message for pyarrow's own functions: zero-copy, and unchecked beyond its frame."""
        return pyarrow_message(self.metadata, self.body)

    def to_pyarrow_source(self) -> pa.NativeFile | pa.Buffer:
        """The message as ``pyarrow.ipc.read_record_batch`` takes it soonest: one buffer, if it is one."""
        if self._whole is not None:
            return pa.py_buffer(self._whole)
        return self.to_pyarrow()

    def __repr__(self) -> str:
        return f"<Message {self.type.label} at {self.offset}, body {self.body_length} bytes>"


class MessageParts:
    """A file whose bytes are given buffers, handed out uncopied: how pyarrow takes messages in parts.

    A read may not cross from one buffer into the next; pyarrow reads a length prefix in two halves,
    then metadata, then body, so that frames whose metadata and body are buffers of their own suit it.
    """

    mode = "rb"
    closed = False

    def __init__(self, parts: Iterable[Buffer]) -> None:
        self._parts = [view for view in map(as_view, parts) if len(view)]

    def readable(self) -> bool:
        """Always; pyarrow asks."""
        return True

    def read(self, length: int) -> memoryview | bytes:
        """The next bytes, as a view."""
        if not self._parts:
            return b""
        head = self._parts[0]
        if length < len(head):
            self._parts[0] = head[length:]
            return head[:length]
        return self._parts.pop(0)


def pyarrow_message(metadata: Buffer, body: Buffer) -> pa.Message:
    """A `pyarrow.Message` that borrows metadata and body, which need not lie side by side."""
    prefix = CONTINUATION + _I32.pack(memoryview(metadata).nbytes)
    return pa.ipc.read_message(MessageParts((prefix, metadata, body)))


def read_prefix(view: memoryview, position: int, end: int, limits: Limits) -> tuple[int, int]:
    """Prefix length and metadata length at ``position``; the latter is 0 at an end-of-stream marker.

    Raises:
        TruncatedStreamError: the input ends inside the prefix.
        MalformedFrameError: a negative length.
        LimitExceededError: more than ``limits.max_metadata_bytes``.
    """
    available = end - position
    if available < 4:
        raise truncated("the length prefix", position, 4, available)
    (length,) = _I32.unpack_from(view, position)
    prefix = 4
    if length == -1:
        if available < 8:
            raise truncated("the length prefix", position, 8, available)
        length = _I32.unpack_from(view, position + 4)[0]
        prefix = 8
    check_metadata_length(length, position, limits)
    return prefix, length


def check_metadata_length(length: int, offset: int, limits: Limits) -> None:
    """Refuses a metadata length that is negative, impossible or above the limit."""
    if length < 0:
        raise MalformedFrameError(
            "negative metadata length",
            layer="message",
            offset=offset,
            expected="0 or more",
            actual=length,
        )
    if length > limits.max_metadata_bytes:
        raise LimitExceededError(
            "a message's metadata is too long",
            layer="message",
            offset=offset,
            actual=length,
            limit=limits.max_metadata_bytes,
        )


def truncated(what: str, offset: int, expected: int, actual: int) -> TruncatedStreamError:
    """The error for input that ends inside ``what``, which starts at ``offset``."""
    return TruncatedStreamError(
        f"the input ends inside {what}: {expected} bytes expected, {actual} present",
        layer="message",
        offset=offset,
        expected=expected,
        actual=actual,
    )


def message_at(
    view: memoryview,
    position: int,
    end: int,
    limits: Limits,
    read_header: Callable[[memoryview], MessageHeader] = read_message_header,
) -> Message | int:
    """The message at ``position``, or the length of the end-of-stream marker that stands there.

    ``read_header`` is `HeaderReader.read` where the messages of one stream are read one by one.

    Raises:
        TruncatedStreamError: the input ends inside the message.
        MalformedFrameError: what stands there is no message.
        LimitExceededError: its metadata is longer than the limit.
    """
    prefix, length = read_prefix(view, position, end, limits)
    if length == 0:
        return prefix
    start = position + prefix
    if length > end - start:
        raise truncated("a message's metadata", position, length, end - start)
    metadata = view[start : start + length]
    try:
        header = read_header(metadata)
    except WireError as error:
        raise relocated(error, start) from None
    start += length
    if header.body_length > end - start:
        raise truncated("a message's body", position, header.body_length, end - start)
    stop = start + header.body_length
    return Message(
        metadata,
        view[start:stop],
        offset=position,
        prefix_length=prefix,
        header=header,
        whole=view[position:stop] if prefix == 8 else None,
    )


def relocated(error: WireError, offset: int) -> WireError:
    """The same error with ``offset`` added to its own, for re-raising by whoever knows the place."""
    return type(error)(
        error.message,
        layer=error.layer,
        offset=offset + (error.offset or 0),
        expected=error.expected,
        actual=error.actual,
        limit=error.limit,
    )


def framed_message(framed: Buffer) -> Message:
    """The message that a buffer of exactly one framed message holds; errors as for `message_at`."""
    view = as_view(framed)
    result = message_at(view, 0, len(view), DEFAULT_LIMITS)
    if not isinstance(result, Message):
        raise MalformedFrameError("an end-of-stream marker is no message", layer="message")
    return result


def without_prefix(view: memoryview) -> memoryview:
    """A message's metadata without its (modern) length prefix, if it has one."""
    if bytes(view[:4]) != CONTINUATION:
        return view
    if len(view) < 8:
        raise MalformedFrameError("a length prefix without its length", layer="message")
    (length,) = _I32.unpack_from(view, 4)
    if not 0 <= length <= len(view) - 8:
        raise MalformedFrameError(
            "the length prefix disagrees with the metadata",
            layer="message",
            expected=length,
            actual=len(view) - 8,
        )
    return view[8 : 8 + length]
