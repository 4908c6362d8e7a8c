"""What an Arrow message's metadata says: message header, record batch header, dictionary header.

::

    Message         version i16 | header type u8 | header | body length i64 | custom metadata
    RecordBatch     length i64 | [FieldNode] | [Buffer] | compression | [variadic count i64]
    DictionaryBatch id i64 | RecordBatch | is delta
    FieldNode       length i64, null count i64      (16 bytes, one per field, depth first)
    Buffer          offset i64, length i64          (16 bytes, relative to the body)

The schema message is read in `schema_header`.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fletching.errors import LimitExceededError, MalformedFrameError
from fletching.ipc.flatbuffer import Table, malformed, root_table
from fletching.ipc.limits import DEFAULT_LIMITS, Limits

__all__ = [
    "Codec",
    "DictionaryBatchHeader",
    "MessageHeader",
    "MessageType",
    "MetadataVersion",
    "RecordBatchHeader",
    "read_message_header",
]


class MessageType(enum.IntEnum):
    """What a message carries; the values are the format's."""

    SCHEMA = 1
    DICTIONARY_BATCH = 2
    RECORD_BATCH = 3
    TENSOR = 4
    SPARSE_TENSOR = 5

    @property
    def label(self) -> str:
        """The type in words, as it is spelt in errors and reports."""
        return self.name.lower().replace("_", " ")


class MetadataVersion(enum.IntEnum):
    """Metadata versions that are read: V4 (0.8 to 0.17) and V5 (since 1.0); the values are the format's."""

    V4 = 3
    V5 = 4


class Codec(enum.StrEnum):
    """How the buffers of a body are compressed, by pyarrow's names: LZ4 frames or Zstandard."""

    LZ4_FRAME = "lz4"
    ZSTD = "zstd"


_CODECS: Final = (Codec.LZ4_FRAME, Codec.ZSTD)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class RecordBatchHeader:
    """A record batch's header; the arrays borrow from the message's metadata and are read-only.

    Attributes:
        length: rows.
        nodes: int64 of shape (fields, 2): length and null count, depth first.
        buffers: int64 of shape (buffers, 2): offset into the body and length, both in bytes.
        compression: the codec of every buffer, or None.
        variadic_counts: for each view-typed field, how many data buffers it has.
    """

    length: int
    nodes: NDArray[np.int64]
    buffers: NDArray[np.int64]
    compression: Codec | None
    variadic_counts: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class DictionaryBatchHeader:
    """A dictionary batch's header: ``data`` describes a batch of one column, the values."""

    id: int
    is_delta: bool
    data: RecordBatchHeader


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class MessageHeader:
    """The outermost table of a message; ``table`` is its header of type ``type``."""

    version: MetadataVersion
    type: MessageType
    body_length: int
    table: Table
    message: Table
    _read: list[RecordBatchHeader] = dataclasses.field(
        default_factory=list, init=False, repr=False
    )  # the record batch, once it was read: several ask, and batches that repeat their metadata

    def record_batch(self, limits: Limits = DEFAULT_LIMITS) -> RecordBatchHeader:
        """The header of a record batch, or of a dictionary batch's values.

        Raises:
            MalformedFrameError: the message is of another type, or its header is broken.
            LimitExceededError: it claims more rows than the limit.
        """
        if self.type is MessageType.RECORD_BATCH:
            if not self._read or self._read[0].length > limits.max_rows:
                self._read[:] = [_read_record_batch(self.table, limits)]
            return self._read[0]
        return self.dictionary_batch(limits).data

    def dictionary_batch(self, limits: Limits = DEFAULT_LIMITS) -> DictionaryBatchHeader:
        """The header of a dictionary batch; errors as for `record_batch`."""
        if self.type is not MessageType.DICTIONARY_BATCH:
            raise MalformedFrameError(
                "a message of another type was expected",
                layer="message",
                expected="record batch or dictionary batch",
                actual=self.type.label,
            )
        data = self.table.table(1)
        if data is None:
            raise malformed("a dictionary batch has no values", self.table.position)
        return DictionaryBatchHeader(
            self.table.int64(0), self.table.boolean(2), _read_record_batch(data, limits)
        )

    def custom_metadata(self, limits: Limits = DEFAULT_LIMITS) -> dict[bytes, bytes]:
        """The message's own key-value pairs (copies); of those that share a key the last."""
        return dict(self.key_values(limits))

    def key_values(self, limits: Limits = DEFAULT_LIMITS) -> tuple[tuple[bytes, bytes], ...]:
        """The message's own key-value pairs as they stand."""
        return read_key_values(self.message, 4, limits)


_MESSAGE_TYPES: Final = {int(member): member for member in MessageType}
_VERSIONS: Final = {int(member): member for member in MetadataVersion}


def read_message_header(metadata: memoryview) -> MessageHeader:
    """Reads a message's flatbuffer; ``metadata`` starts after the length prefix. Borrows from it.

    Raises:
        MalformedFrameError: it is not the metadata of a message, or of an unknown version or type.
    """
    message = root_table(metadata)
    version = _VERSIONS.get(message.int16(0))
    if version is None:
        raise malformed(
            "unknown metadata version",
            message.position,
            expected="V4 or V5",
            actual=f"V{message.int16(0) + 1}",
        )
    kind = _MESSAGE_TYPES.get(message.uint8(1))
    if kind is None:
        raise malformed(
            "unknown message type", message.position, expected="1..5", actual=message.uint8(1)
        )
    table = message.table(2)
    if table is None:
        raise malformed("a message has no header", message.position)
    body_length = message.int64(3)
    if body_length < 0:
        raise malformed("negative body length", message.position, actual=body_length)
    return MessageHeader(version, kind, body_length, table, message)


class HeaderReader:
    """`read_message_header` for the messages of one stream, whose batches often repeat their metadata.

    Fixed-width columns without nulls do, batch after batch of one length. Comparing takes a fifth
    of the time of reading; a header that came before is the very same object, so that what was
    found out about it need not be found out again. Thread-safe: one reference is replaced.
    """

    __slots__ = ("_newest",)

    def __init__(self) -> None:
        self._newest: tuple[bytes, MessageHeader] | None = None

    def read(self, metadata: memoryview) -> MessageHeader:
        """The header; errors as for `read_message_header`. Borrows from a copy of ``metadata``."""
        copied = bytes(metadata)  # the newest header outlives the message it came with
        newest = self._newest
        if newest is not None and newest[0] == copied:
            return newest[1]
        header = read_message_header(memoryview(copied))
        self._newest = copied, header
        return header


def read_key_values(table: Table, slot: int, limits: Limits) -> tuple[tuple[bytes, bytes], ...]:
    """Key-value pairs of a message, schema, field or footer; absent keys and values are empty.

    A key may occur more than once: Arrow keeps them all, and so does what copies them.
    """
    start, count = table.vector(slot, 4)
    if count > limits.max_custom_metadata_entries:
        raise LimitExceededError(
            "too many custom metadata entries",
            layer="metadata",
            offset=start,
            actual=count,
            limit=limits.max_custom_metadata_entries,
        )
    return tuple((pair.blob(0) or b"", pair.blob(1) or b"") for pair in table.tables(slot))


def _pairs(table: Table, slot: int) -> NDArray[np.int64]:
    start, count = table.vector(slot, 16)
    return np.frombuffer(table.data, "<i8", count * 2, start).reshape(count, 2)


def _read_record_batch(table: Table, limits: Limits) -> RecordBatchHeader:
    length = table.int64(0)
    if length < 0:
        raise malformed("negative batch length", table.position, actual=length)
    if length > limits.max_rows:
        raise LimitExceededError(
            "too many rows in one batch",
            layer="record batch",
            actual=length,
            limit=limits.max_rows,
        )
    compression = None
    codec = table.table(3)
    if codec is not None:
        index, method = codec.int8(0), codec.int8(1)
        if index not in (0, 1) or method != 0:
            raise malformed(
                "unknown body compression",
                codec.position,
                expected="codec 0 or 1 by buffer (method 0)",
                actual=f"codec {index}, method {method}",
            )
        compression = _CODECS[index]
    start, count = table.vector(4, 8)
    variadic = tuple(np.frombuffer(table.data, "<i8", count, start).tolist()) if count else ()
    return RecordBatchHeader(length, _pairs(table, 1), _pairs(table, 2), compression, variadic)
