"""`FileWriter`: Arrow IPC files, from batches or from messages as they are.

::

    "ARROW1" 00 00 | schema message | dictionary and record batch messages | end-of-stream marker
    | footer flatbuffer | i32 footer length | "ARROW1"

    Footer  version i16 | Schema | [Block] dictionaries | [Block] record batches | custom metadata
    Block   offset i64 | metadata length i32 | padding | body length i64       (24 bytes)
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, Final, NamedTuple, Protocol, Self

import pyarrow as pa
from typing_extensions import Buffer

from fletching.errors import LimitExceededError, MalformedFrameError, UsageError
from fletching.ipc.dictionaries import dictionary_fields
from fletching.ipc.encoding import (
    BatchEncoder,
    KeyValues,
    encode_key_values,
    encode_schema,
    frame_metadata,
)
from fletching.ipc.message import (
    CONTINUATION,
    END_OF_STREAM,
    MAGIC,
    Message,
    as_view,
    framed_message,
)
from fletching.ipc.metadata import (
    Codec,
    DictionaryBatchHeader,
    MessageHeader,
    MessageType,
    read_message_header,
)
from fletching.ipc.projection import ProjectedMessage
from fletching.ipc.renumbering import renumbered
from fletching.ipc.schema_header import Endianness, read_schema, schema_header
from fletching.ipc.source import check_sink, is_path

__all__ = ["Block", "FileWriter", "Sink", "encode_footer"]

_BLOCK: Final = struct.Struct("<qi4xq")
_MAX_I32: Final = (1 << 31) - 1


class Sink(Protocol):
    """Where bytes go; only `write` is needed, and what it is given may be a view."""

    def write(self, data: Buffer, /) -> object:
        """Takes all of the buffer."""


class Block(NamedTuple):
    """Where a message stands in a file: offset from the file's start, and its two lengths.

    ``metadata_length`` counts the length prefix and padding, so the body starts at their sum.
    """

    offset: int
    metadata_length: int
    body_length: int

    @property
    def end(self) -> int:
        """Where the message ends."""
        return self.offset + self.metadata_length + self.body_length


def encode_footer(
    schema_metadata: Buffer,
    dictionaries: Sequence[Block],
    batches: Sequence[Block],
    custom_metadata: KeyValues | None = None,
) -> bytes:
    """The footer's flatbuffer. The schema is the schema message's own table, byte for byte.

    The flatbuffer of the schema message is embedded whole and referred to from the footer: all its
    references are relative, so it reads the same in its new place.
    """
    view = as_view(schema_metadata)
    message = read_message_header(view)
    custom = encode_key_values(custom_metadata) if custom_metadata else b""
    # root 4, padding 4 | vtable 14, padding 2 | Footer: soffset, schema, dictionaries, batches,
    # custom, version: 24 bytes at 24 | two vectors of blocks | schema message | custom metadata
    table = 24
    dictionaries_at = table + 24 + 4
    batches_at = dictionaries_at + 4 + 24 * len(dictionaries) + 4
    schema_at = batches_at + 4 + 24 * len(batches)
    custom_at = schema_at + len(view) + (-len(view) % 8)
    return b"".join(
        (
            struct.pack("<II7H2x", table, 0, 14, 24, 20, 4, 8, 12, 16 if custom else 0),
            struct.pack(
                "<iIIIIhxx",
                table - 8,
                schema_at + message.table.position - (table + 4),
                dictionaries_at - (table + 8),
                batches_at - (table + 12),
                custom_at - (table + 16) if custom else 0,
                message.version,
            ),
            struct.pack("<II", 0, len(dictionaries)),
            b"".join(_BLOCK.pack(*block) for block in dictionaries),
            struct.pack("<II", 0, len(batches)),
            b"".join(_BLOCK.pack(*block) for block in batches),
            view,
            bytes(-len(view) % 8),
            custom,
            bytes(-len(custom) % 8),
        )
    )


def _digest(dictionary: DictionaryBatchHeader, body: Sequence[Buffer]) -> bytes:
    """What tells a dictionary's values from others: their header and bytes."""
    digest = hashlib.blake2b(digest_size=16)
    data = dictionary.data
    digest.update(repr((data.length, data.compression, data.variadic_counts)).encode())
    digest.update(data.nodes.tobytes())
    digest.update(data.buffers.tobytes())
    for buffer in body:
        digest.update(buffer)
    return digest.digest()


class FileWriter:
    """Writes one Arrow IPC file. Use it as a context manager, or call `close` when all went well.

    Bytes go to the sink as they come; nothing is kept but 24 bytes per message for the footer. A
    file whose writer was never closed has no footer: `recover` can give it one.

    Attributes:
        schema: the file's schema.
        position: bytes written so far.
        dictionaries: where the dictionary batches stand.
        batches: where the record batches stand.
    """

    def __init__(
        self,
        sink: Sink | str | PurePath,
        schema: pa.Schema | Message,
        *,
        compression: Codec | str | None = None,
        options: pa.ipc.IpcWriteOptions | None = None,
    ) -> None:
        """Writes the magic and the schema message.

        Args:
            sink: has ``write(buffer)`` and takes all it is given; it is not closed here. Or a path,
                whose file is made anew, and closed with the writer.
            schema: the file's schema, or a schema message to be kept byte for byte.
            compression: of the batches given to `write`: ``"lz4"``, ``"zstd"`` or None.
            options: pyarrow's write options instead, also for `write` alone.

        Raises:
            MalformedFrameError: the message is no schema message.
        """
        if not is_path(sink):
            check_sink(sink)
        self._opened = pa.OSFile(str(sink), "wb") if is_path(sink) else None
        self._sink: Any = self._opened or sink
        self._open = True
        self._failed = False
        self.position = 0
        self.dictionaries: list[Block] = []
        self.batches: list[Block] = []
        self._newest: dict[int, bytes] = {}  # by dictionary id, the digest of its newest message
        if isinstance(schema, Message):
            self.schema: pa.Schema = read_schema(schema)
            self._endianness = schema_header(schema).endianness
            message = schema
        else:
            self.schema = schema
            self._endianness = Endianness.LITTLE
            message = framed_message(encode_schema(schema))
        self._schema_message = message
        self._schema_metadata = bytes(message.metadata)
        self._compression = compression
        self._options = options
        self._encoder: BatchEncoder | None = None
        self._ids: dict[int, int] = {}  # the encoder's dictionary ids, and the file's
        self._put(MAGIC + b"\0\0")
        self._put_message(message)

    def _start_encoder(self) -> BatchEncoder:
        encoder = BatchEncoder(self.schema, compression=self._compression, options=self._options)
        own = schema_header(framed_message(encoder.schema_message))
        ours, theirs = (
            [
                result.id
                for field, described in zip(self.schema, header.fields, strict=True)
                for result in dictionary_fields(field.type, described)
            ]
            for header in (own, schema_header(self._schema_message))
        )
        self._ids = dict(zip(ours, theirs, strict=True))
        self._encoder = encoder
        return encoder

    def write(self, batch: pa.RecordBatch, custom_metadata: KeyValues | None = None) -> Block:
        """Encodes and writes a batch, its new dictionaries before it; returns where it stands.

        Without compression large buffers are written from where they are. A batch that is refused
        leaves no trace: it is refused again, and others are written as if it had not been.

        Args:
            batch: of the file's schema.
            custom_metadata: key-value pairs of the batch's message.

        Raises:
            UsageError: another schema, a writer that is closed or that failed before, or a
                dictionary that differs from the one the file already has: files allow additions
                (deltas) only.
        """
        self._check_open()
        if self._endianness is Endianness.BIG:
            raise UsageError("batches are written little-endian, the file's schema says big-endian")
        if not batch.schema.equals(self.schema):
            raise UsageError("the batch has another schema than the file")
        encoder = self._encoder or self._start_encoder()
        try:
            messages, newest = self._checked(encoder.encode(batch, custom_metadata))
        except UsageError:
            encoder.undo()
            raise
        self._newest.update(newest)
        for prefix, body, header in messages:
            block = Block(self.position, len(prefix), header.body_length)
            self._put(prefix)
            for buffer in body:
                self._put(buffer)
            self._note(header.type, block)
        return self.batches[-1]

    def _checked(
        self, encoded: list[list[Buffer]]
    ) -> tuple[list[tuple[bytes, list[Buffer], MessageHeader]], dict[int, bytes]]:
        """The messages to be written, with the file's dictionary ids, before any of them is."""
        messages: list[tuple[bytes, list[Buffer], MessageHeader]] = []
        newest: dict[int, bytes] = {}
        for head, *body in encoded:
            prefix = bytes(as_view(head))
            start = 8 if prefix[:4] == CONTINUATION else 4
            header = read_message_header(memoryview(prefix)[start:])
            if header.type is MessageType.DICTIONARY_BATCH:
                dictionary = header.dictionary_batch()
                id_ = self._ids[dictionary.id]
                digest = _digest(dictionary, body)
                if not self._is_new(id_, digest, newest, is_delta=dictionary.is_delta):
                    continue
                newest[id_] = digest
                if id_ != dictionary.id:
                    prefix = renumbered(memoryview(frame_metadata(prefix[start:])), id_)
            messages.append((prefix, body, header))
        return messages, newest

    def _is_new(self, id_: int, digest: bytes, newest: dict[int, bytes], *, is_delta: bool) -> bool:
        """Whether a dictionary message is to be written; False if the file has the very same.

        Fields that share a dictionary id each come with the message, and so does a dictionary that
        the file got as a message before.

        Raises:
            UsageError: it would replace another.
        """
        before = newest.get(id_) or self._newest.get(id_)
        if before == digest:
            return False
        if before is not None and not is_delta:
            raise UsageError(
                f"dictionary {id_} differs from the one in the file: a file allows deltas only;"
                " unify the dictionaries first"
            )
        return True

    def write_message(self, message: Message | ProjectedMessage) -> Block:
        """Writes a dictionary or record batch message as it is; returns where it stands in the file.

        Metadata and body stay as they are, byte for byte, and so does the length prefix where the
        file format's alignment to 8 bytes allows it.

        Args:
            message: a message, or what `project` made of one.

        Raises:
            UsageError: the writer is closed or failed before, or a dictionary would replace another.
            MalformedFrameError: another type of message, or a body that is not padded to 8 bytes.
        """
        self._check_open()
        if isinstance(message, ProjectedMessage):
            block = Block(self.position, len(message.prefix), message.body_length)
            for buffer in message.frame():
                self._put(buffer)
            self.batches.append(block)
            return block
        if message.type not in (MessageType.DICTIONARY_BATCH, MessageType.RECORD_BATCH):
            raise MalformedFrameError(
                "a file holds one schema, then dictionary and record batches",
                layer="message",
                offset=message.offset,
                actual=message.type.label,
            )
        if message.type is MessageType.DICTIONARY_BATCH:
            dictionary = message.dictionary_batch()
            digest = _digest(dictionary, [message.body])
            if dictionary.id in self._newest and not dictionary.is_delta:
                self._is_new(dictionary.id, b"another", {}, is_delta=False)
            block = self._put_message(message)
            self._newest[dictionary.id] = digest
        else:
            block = self._put_message(message)
        self._note(message.type, block)
        return block

    def _put_message(self, message: Message) -> Block:
        if message.body_length % 8:
            raise MalformedFrameError(
                "a message's body is not padded to 8 bytes",
                layer="message",
                offset=message.offset,
                actual=message.body_length,
            )
        start = self.position
        if message.metadata_length % 8 == 0:
            self._put(message.prefix)
            self._put(message.metadata)
        else:
            pad = -len(message.metadata) % 8
            self._put(CONTINUATION + struct.pack("<i", len(message.metadata) + pad))
            self._put(message.metadata)
            self._put(bytes(pad))
        block = Block(start, self.position - start, message.body_length)
        if message.body_length:
            self._put(message.body)
        return block

    def _note(self, kind: MessageType, block: Block) -> None:
        (self.batches if kind is MessageType.RECORD_BATCH else self.dictionaries).append(block)

    def _put(self, data: Buffer) -> None:
        try:
            self._sink.write(data)
        except BaseException:
            self._failed = True
            raise
        self.position += memoryview(data).nbytes

    def _check_open(self) -> None:
        if not self._open:
            raise UsageError("the file writer is closed")
        if self._failed:
            raise UsageError("writing failed before: the file is broken where it ended")

    def close(self, custom_metadata: KeyValues | None = None) -> int:
        """Writes the end-of-stream marker and the footer; returns the file's length. Once only.

        Args:
            custom_metadata: key-value pairs for the footer.

        Raises:
            UsageError: it was closed before.
            LimitExceededError: the footer would be longer than the format can say.
        """
        self._check_open()
        self._open = False
        self._put(END_OF_STREAM)
        footer = encode_footer(
            self._schema_metadata, self.dictionaries, self.batches, custom_metadata
        )
        if len(footer) > _MAX_I32:
            raise LimitExceededError(
                "the footer is too long", layer="footer", actual=len(footer), limit=_MAX_I32
            )
        self._put(footer)
        self._put(struct.pack("<i", len(footer)) + MAGIC)
        self._release()
        return self.position

    def _release(self) -> None:
        if self._opened is not None:
            self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Closes the file unless an error is on its way: a broken file must not look whole."""
        if kind is None and self._open and not self._failed:
            self.close()
        self._release()
