"""Writing encapsulated messages: metadata flatbuffers and the frames around them.

Record batch metadata is laid out by hand, front to back, because it is written once per batch on
the path of every projected read, and a general flatbuffer builder takes ten times as long. The
layout is the same every time::

    0   root offset, padding
    8   vtable of Message, padding
    24  Message: header offset, body length, version, type [, custom metadata offset]
    .   vtable of RecordBatch, RecordBatch
    .   [vtable of BodyCompression, BodyCompression]
    .   nodes, buffers, variadic counts [, custom metadata]

All references lead forward, so each is known as soon as the sizes are.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from typing_extensions import Buffer

from fletching.errors import UsageError
from fletching.ipc.array_tree import with_null_indices
from fletching.ipc.dictionaries import has_dictionary
from fletching.ipc.flatbuffer import Table
from fletching.ipc.message import CONTINUATION, END_OF_STREAM, as_view
from fletching.ipc.metadata import Codec, MetadataVersion, read_message_header
from fletching.ipc.type_tree import check_writable

__all__ = [
    "BatchEncoder",
    "encode_batch",
    "encode_record_batch_metadata",
    "encode_schema",
    "frame_metadata",
]

_CODEC_IDS: Final = {Codec.LZ4_FRAME: 0, Codec.ZSTD: 1}
_SCHEMA: Final = 1
_RECORD_BATCH: Final = 3
_ZEROS: Final = bytes(64)
_COPIED_COLUMN_BYTES: Final = 16 << 10
"""A batch of columns that hold so little each is copied into one message: that takes a third to half of the time."""


def frame_metadata(flatbuffer: bytes) -> bytes:
    """The modern prefix, the flatbuffer, and padding to a multiple of 8."""
    pad = -len(flatbuffer) % 8
    return b"".join(
        (CONTINUATION, struct.pack("<i", len(flatbuffer) + pad), flatbuffer, _ZEROS[:pad])
    )


KeyValues = Mapping[bytes, bytes] | Sequence[tuple[bytes, bytes]]
"""Key-value pairs; a sequence may have a key more than once."""


def encode_key_values(pairs: KeyValues) -> bytes:
    """A flatbuffer vector of KeyValue tables, position-independent and a multiple of 4 long."""
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    count = len(pairs)
    tables = bytearray()
    offsets: list[int] = []
    base = 4 + 4 * count
    for key, value in items:
        key_bytes, value_bytes = _string(key), _string(value)
        # vtable (8 bytes), table (soffset, key, value: 12 bytes), strings
        offsets.append(base + len(tables) + 8)
        tables += struct.pack("<HHHH", 8, 12, 4, 8)
        tables += struct.pack("<iII", 8, 8, 4 + len(key_bytes))
        tables += key_bytes + value_bytes
    vector = struct.pack("<I", count)
    vector += b"".join(
        struct.pack("<I", offset - (4 + 4 * index)) for index, offset in enumerate(offsets)
    )
    return vector + bytes(tables)


def _string(text: bytes) -> bytes:
    """Length, bytes, terminator, and padding to a multiple of 4."""
    return struct.pack("<I", len(text)) + text + _ZEROS[: 1 + -(len(text) + 1) % 4]


def encode_record_batch_metadata(
    length: int,
    nodes: NDArray[np.int64],
    buffers: NDArray[np.int64],
    body_length: int,
    *,
    compression: Codec | None = None,
    variadic_counts: Sequence[int] = (),
    version: MetadataVersion = MetadataVersion.V5,
    custom_metadata: KeyValues | None = None,
) -> bytes:
    """The flatbuffer of a record batch message, a multiple of 8 bytes long, without prefix.

    Args:
        length: rows.
        nodes: int64 (fields, 2): length and null count of each field, depth first.
        buffers: int64 (buffers, 2): offset into the body and length of each buffer.
        body_length: bytes of the body, padding included.
        compression: the codec of every buffer.
        variadic_counts: number of data buffers of each view-typed field.
        version: V5, unless unions are kept as V4 laid them out.
        custom_metadata: key-value pairs of the message.
    """
    custom = encode_key_values(custom_metadata) if custom_metadata else b""
    # Message at 24: soffset 4, header 4, body length 8, version 2, type 1, pad 1, custom 4 -> 24
    # vtable at 8: size 14, table size, version, type, header, body length, custom
    message = 24
    batch_vtable = 48
    # RecordBatch vtable: size, table size, length, nodes, buffers, compression, variadic
    batch = batch_vtable + 16
    # RecordBatch: soffset 4, nodes 4, length 8, buffers 4, compression 4, variadic 4, pad 4 -> 32
    position = batch + 32
    compression_vtable = position if compression is not None else 0
    if compression is not None:
        position += 16  # vtable 8, table: soffset 4, codec 1, method 1, pad 2
    compression_table = compression_vtable + 8
    nodes_at = position + 4  # the count; items start at a multiple of 8
    position = nodes_at + 4 + 16 * len(nodes)
    buffers_at = position + 4
    position = buffers_at + 4 + 16 * len(buffers)
    variadic_at = position + 4 if variadic_counts else 0
    if variadic_counts:
        position = variadic_at + 4 + 8 * len(variadic_counts)
    custom_at = position if custom else 0
    parts = [
        struct.pack(
            "<II7H2x",
            message,
            0,
            14,
            24,
            16,  # version
            18,  # type
            4,  # header
            8,  # body length
            20 if custom else 0,
        ),
        struct.pack(
            "<iIqhBxI",
            message - 8,
            batch - (message + 4),
            body_length,
            version,
            _RECORD_BATCH,
            custom_at - (message + 20) if custom else 0,
        ),
        struct.pack(
            "<7H2x",
            14,
            32,
            8,  # length
            4,  # nodes
            16,  # buffers
            20 if compression is not None else 0,
            24 if variadic_counts else 0,
        ),
        struct.pack(
            "<iIqIIII",
            batch - batch_vtable,
            nodes_at - (batch + 4),
            length,
            buffers_at - (batch + 16),
            compression_table - (batch + 20) if compression is not None else 0,
            variadic_at - (batch + 24) if variadic_counts else 0,
            0,
        ),
    ]
    if compression is not None:
        parts.append(struct.pack("<HHHHibbxx", 8, 8, 4, 5, 8, _CODEC_IDS[compression], 0))
    parts += [
        struct.pack("<II", 0, len(nodes)),
        np.ascontiguousarray(nodes, "<i8").tobytes(),
        struct.pack("<II", 0, len(buffers)),
        np.ascontiguousarray(buffers, "<i8").tobytes(),
    ]
    if variadic_counts:
        parts.append(
            struct.pack(f"<II{len(variadic_counts)}q", 0, len(variadic_counts), *variadic_counts)
        )
    parts += [custom, _ZEROS[: -(position + len(custom)) % 8]]
    return b"".join(parts)


def encode_schema(schema: pa.Schema, *, dictionary_ids: Sequence[int] | None = None) -> bytes:
    """The framed schema message.

    Args:
        schema: fields and metadata, all of which are kept.
        dictionary_ids: one id for each dictionary-encoded field, depth first (a field before its
            children, inside value types too). By default they count from 0, as pyarrow's do.

    Raises:
        UsageError: the number of ids is not that of the dictionary-encoded fields, or a type that
            could not be read again.
    """
    check_writable(schema)
    if dictionary_ids is None:
        return bytes(schema.serialize())
    # pyarrow counts ids from 0, and a flatbuffer leaves a 0 out, so it could not be overwritten.
    # A field in front takes the 0 and is cut off again: the fields are a vector of references.
    first = pa.field("", pa.dictionary(pa.int8(), pa.null()))
    framed = bytearray(schema.insert(0, first).serialize())
    view = memoryview(framed)[8:]
    table = read_message_header(view).table
    start, count = table.vector(1, 4)
    positions = [
        position
        for field in list(table.tables(1))[1:]
        for position in _dictionary_id_positions(field)
    ]
    if len(positions) != len(dictionary_ids):
        raise UsageError(
            f"{len(dictionary_ids)} dictionary ids were given for {len(positions)} fields"
        )
    for position, id_ in zip(positions, dictionary_ids, strict=True):
        struct.pack_into("<q", view, position, id_)
    struct.pack_into("<I", view, start, count - 1)
    reference = table.reference_position(1)
    struct.pack_into("<I", view, reference, start - reference)
    view.release()
    return bytes(framed)


def _dictionary_id_positions(field: Table) -> list[int]:
    encoding = field.table(4)
    own = [] if encoding is None else [encoding.int64_position(0)]
    return own + [
        position for child in field.tables(5) for position in _dictionary_id_positions(child)
    ]


def encode_schema_reference(
    flatbuffer: memoryview, position: int, version: MetadataVersion
) -> bytes:
    """A schema message's flatbuffer made of another flatbuffer that holds the Schema table.

    A file's footer has the schema as a table of its own. It is embedded whole behind a Message
    table that refers to it: references are relative, so it reads the same in its new place.
    """
    head = 48
    return b"".join(
        (
            struct.pack("<II6H4x", 24, 0, 12, 20, 16, 18, 4, 8),
            struct.pack("<iIqhBx4x", 16, head + position - 28, 0, version, _SCHEMA),
            flatbuffer,
            _ZEROS[: -len(flatbuffer) % 8],
        )
    )


def encode_batch(
    batch: pa.RecordBatch,
    *,
    compression: Codec | str | None = None,
    options: pa.ipc.IpcWriteOptions | None = None,
    custom_metadata: KeyValues | None = None,
) -> list[Buffer]:
    """One record batch message as framed buffers to be written in turn: prefix and metadata, then body.

    Without compression large buffers are not copied: the body's buffers are views of the batch's
    buffers, which they keep alive. With it, pyarrow compresses buffer by buffer. Dictionaries are messages
    of their own and are not included: `BatchEncoder` writes them where they are needed.

    Args:
        batch: the rows.
        compression: ``"lz4"``, ``"zstd"`` or None.
        options: pyarrow's write options, for everything else; ``compression`` must be None then.
        custom_metadata: key-value pairs of the message.

    Raises:
        UsageError: compression and options are both given, or pyarrow cannot encode the batch.
    """
    encoder = BatchEncoder(batch.schema, compression=compression, options=options)
    return encoder.encode(batch, custom_metadata)[-1]


def as_big_endian(framed_schema: bytes) -> bytes:
    """The framed schema message with its byte order said to be big; fields and metadata are kept.

    Little is the default and is left out by writers, so that there is nothing to overwrite: a new
    Schema table refers to the old one's fields and key-value pairs.
    """
    flatbuffer = memoryview(framed_schema)[8:]
    schema = read_message_header(flatbuffer).table
    fields, _ = schema.vector(1, 4)
    pairs, _ = schema.vector(2, 4)
    # Message vtable 8..24, Message 24..44, Schema vtable 44..54, Schema 56..72, old flatbuffer 72.
    head = 72
    return frame_metadata(
        b"".join(
            (
                struct.pack("<II6H4x", 24, 0, 12, 20, 16, 18, 4, 8),
                struct.pack("<iIqhBx", 16, 56 - 28, 0, MetadataVersion.V5, _SCHEMA),
                struct.pack("<5H2x", 10, 16, 12, 4, 8 if pairs else 0),
                struct.pack(
                    "<iIIhxx",
                    56 - 44,
                    head + fields - 4 - 60,
                    head + pairs - 4 - 64 if pairs else 0,
                    1,
                ),
                flatbuffer,
            )
        )
    )


class BatchEncoder:
    """Encodes the batches of one stream, with the dictionary messages that they need before them.

    A dictionary is sent once, and again (a replacement, or a delta if the options allow it) when a
    later batch comes with another one. Not thread-safe.

    Attributes:
        end_of_stream: the marker to be written last: of 8 bytes, or of 4 in the legacy format.
    """

    def __init__(
        self,
        schema: pa.Schema,
        *,
        compression: Codec | str | None = None,
        options: pa.ipc.IpcWriteOptions | None = None,
    ) -> None:
        """Errors as for `encode_batch`; also for types that could not be read again."""
        if options is not None and compression is not None:
            raise UsageError("give compression or options, not both")
        check_writable(schema)
        self._plain = options is None and compression is None
        if options is None:
            try:
                options = pa.ipc.IpcWriteOptions(
                    compression=None if compression is None else str(compression)
                )
            except (pa.ArrowException, ValueError, TypeError) as error:
                raise UsageError(f"no such compression: {error}") from None
        self._options = options
        self._schema = schema
        self._has_dictionaries = any(map(has_dictionary, schema.types))
        # A batch of no rows with the dictionaries of the newest one, and of the one before.
        self._newest: pa.RecordBatch | None = None
        self._before: pa.RecordBatch | None = None
        self._begin()
        self.end_of_stream: bytes = END_OF_STREAM[4 if options.use_legacy_format else 0 :]

    def _begin(self) -> None:
        self._sink = _Sink()
        self._writer = pa.ipc.new_stream(
            pa.PythonFile(self._sink, mode="w"), self._schema, options=self._options
        )
        self._started = False

    @functools.cached_property
    def schema_message(self) -> bytes:
        """The framed schema message, to be written first."""
        if self._plain:
            return encode_schema(self._schema)
        # In the form that the options ask for: its prefix and its version.
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self._schema, options=self._options):
            pass
        written = bytes(sink.getvalue())
        return written[: len(written) - len(self.end_of_stream)]

    def encode(
        self, batch: pa.RecordBatch, custom_metadata: KeyValues | None = None
    ) -> list[list[Buffer]]:
        """The messages of one batch: its dictionaries' if they are new, and last its own, as buffers.

        Args:
            batch: of the stream's schema.
            custom_metadata: key-value pairs of the batch's message.

        Raises:
            UsageError: pyarrow cannot encode the batch; nothing of it counts as encoded.
        """
        if self._plain and not self._has_dictionaries and custom_metadata is None:
            framed = self._copied(batch)
            if framed is not None:
                return [framed]
        if self._has_dictionaries:
            batch = with_null_indices(batch)
        try:
            if custom_metadata is None:
                self._writer.write_batch(batch)
            else:
                self._writer.write_batch(
                    batch, custom_metadata=_key_value_metadata(custom_metadata)
                )
        except (pa.ArrowException, ValueError, TypeError, OSError) as error:
            self._return_to(self._newest)
            raise UsageError(f"the batch cannot be encoded: {error}") from error
        stream_buffers, self._sink.stream_buffers = self._sink.stream_buffers, []
        messages = _split(stream_buffers)
        if not self._started:
            # pyarrow writes the schema message before the first batch.
            self._started = True
            del messages[0]
        if self._has_dictionaries:
            self._before, self._newest = self._newest, batch.slice(0, 0)
        return messages

    def _copied(self, batch: pa.RecordBatch) -> list[Buffer] | None:
        """A batch of small buffers in one piece, or None for a batch that is better not copied.

        A copy: handing each of many small buffers to Python takes longer than copying them all.
        """
        if batch.get_total_buffer_size() > batch.num_columns * _COPIED_COLUMN_BYTES:
            return None
        if not batch.schema.equals(self._schema):
            return None  # the writer says what is wrong
        try:
            framed = memoryview(batch.serialize())
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise UsageError(f"the batch cannot be encoded: {error}") from error
        length = 8 + int.from_bytes(framed[4:8], "little")
        return [bytes(framed[:length]), *([framed[length:]] if len(framed) > length else [])]

    def undo(self) -> None:
        """Forgets the dictionaries of the newest batch: what was encoded is not going to be written.

        Once after each `encode`.
        """
        self._newest = self._before
        self._return_to(self._newest)

    def _return_to(self, batch: pa.RecordBatch | None) -> None:
        """A new writer that has written the dictionaries of a batch, and nothing else."""
        self._begin()
        if batch is not None:
            self._writer.write_batch(batch)
            self._sink.stream_buffers = []
            self._started = True


def _key_value_metadata(pairs: KeyValues) -> pa.KeyValueMetadata:
    return pa.KeyValueMetadata(list(pairs.items()) if isinstance(pairs, Mapping) else list(pairs))


class _Sink:
    """A file that keeps what is written to it; pyarrow hands buffers over without copying them."""

    closed = False
    mode = "wb"

    def __init__(self) -> None:
        self.stream_buffers: list[Buffer] = []

    def writable(self) -> bool:
        """Always; pyarrow asks."""
        return True

    def write(self, data: Buffer) -> int:
        """Keeps the buffer itself."""
        view = as_view(data)
        self.stream_buffers.append(view)
        return len(view)

    def flush(self) -> None:
        """Nothing is held back."""


def _split(stream_buffers: list[Buffer]) -> list[list[Buffer]]:
    """Cuts a sequence of written buffers into messages; pyarrow never lets one span two."""
    framed: list[list[Buffer]] = []
    index = 0
    while index < len(stream_buffers):
        head = b""
        prefix = 4
        while len(head) < prefix:
            head += bytes(stream_buffers[index])
            index += 1
            if head[:4] == CONTINUATION:
                prefix = 8
        length = prefix + int.from_bytes(head[prefix - 4 : prefix], "little")
        while len(head) < length:
            head += bytes(stream_buffers[index])
            index += 1
        body_length = read_message_header(memoryview(head)[prefix:]).body_length
        message: list[Buffer] = [head]
        while body_length > 0:
            message.append(stream_buffers[index])
            body_length -= memoryview(stream_buffers[index]).nbytes
            index += 1
        framed.append(message)
    return framed
