"""`BatchDecoder`: record batches out of the messages of one stream."""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np
import pyarrow as pa

from fletching.errors import (
    DecompressionError,
    InvalidDataError,
    LimitExceededError,
    MalformedFrameError,
    WireError,
    ZeroCopyError,
)
from fletching.ipc.dictionaries import (
    DictionaryField,
    attach,
    dictionary_fields,
    has_dictionary,
    storage_type,
)
from fletching.ipc.encoding import (
    as_big_endian,
    encode_record_batch_metadata,
    encode_schema,
    frame_metadata,
)
from fletching.ipc.layout import BatchLayout
from fletching.ipc.limits import DEFAULT_LIMITS, Limits
from fletching.ipc.message import Message, MessagePieces, relocated
from fletching.ipc.metadata import (
    DictionaryBatchHeader,
    MessageHeader,
    MessageType,
    RecordBatchHeader,
)
from fletching.ipc.schema_header import (
    Endianness,
    SchemaHeader,
    read_schema,
    schema_header,
    schema_message_of,
)
from fletching.ipc.validation import BatchValidator, validate_array

__all__ = ["BatchDecoder"]

_I64: Final = struct.Struct("<q")


class BatchDecoder:
    """Turns the messages of one stream into record batches, and keeps its dictionaries.

    Every array borrows from its message's body. What metadata claims is checked against the body
    and the limits before pyarrow sees it, and what pyarrow made is validated before anybody
    touches an element. Not thread-safe while dictionary batches are being decoded.

    Attributes:
        schema: the stream's schema.
        header: the schema message's header: dictionary ids, byte order.
    """

    def __init__(
        self,
        schema: Message | pa.Schema,
        *,
        limits: Limits = DEFAULT_LIMITS,
        validate_values: bool = False,
        validate_text: bool = True,
        trusted: bool = False,
        require_zero_copy: bool = False,
    ) -> None:
        """Prepares for the batches of one schema.

        Args:
            schema: the stream's schema message, or a schema (dictionary ids are then those that
                `encode_schema` gives).
            limits: what messages may claim.
            validate_values: also refuse values that their types do not allow; see `validate`.
            validate_text: whether text must be UTF-8. Looking at every byte of it takes ten times
                as long as all other checks of a batch; False is for a peer that has done so.
            trusted: skip the validation of contents, for bytes that were validated before and
                are under a checksum since. Metadata is checked all the same.
            require_zero_copy: refuse batches whose buffers cannot be borrowed.

        Raises:
            MalformedFrameError: the message is no schema message, or a broken one.
            LimitExceededError: its schema is above a limit.
            InvalidDataError: its fields make no schema.
        """
        message = schema if isinstance(schema, Message) else schema_message_of(schema)
        self.header: SchemaHeader = schema_header(message, limits)
        self.schema: pa.Schema = (
            read_schema(message, limits) if isinstance(schema, Message) else schema
        )
        self._limits = limits
        self._trusted = trusted
        self._require_zero_copy = require_zero_copy
        self._layouts: dict[int, BatchLayout] = {}
        self._checked: tuple[bytes, int] | None = None  # metadata and body length, found correct
        self._checked_header: MessageHeader | None = None  # of metadata that was found correct
        self._plain = not any(has_dictionary(data_type) for data_type in self.schema.types)
        self._dictionaries: dict[int, pa.Array] = {}
        self._dictionary_bytes: dict[int, int] = {}
        self._all_dictionary_bytes = 0
        self._fields: dict[int, DictionaryField] = {}
        self._storage_schema = self.schema
        self._dictionary_columns: list[int] = []
        if not self._plain:
            self._prepare_dictionaries()
        self._validator = BatchValidator(
            self._storage_schema, values=validate_values, text=validate_text
        )

    def _prepare_dictionaries(self) -> None:
        self._storage_schema = pa.schema(
            [field.with_type(storage_type(field.type)) for field in self.schema],
            self.schema.metadata,
        )
        self._dictionary_columns = [
            index for index, field in enumerate(self.schema) if has_dictionary(field.type)
        ]
        count = len(self.header.dictionary_ids)
        if count > self._limits.max_dictionaries:
            raise LimitExceededError(
                "too many dictionaries in a schema",
                layer="schema",
                actual=count,
                limit=self._limits.max_dictionaries,
            )
        for field, header in zip(self.schema, self.header.fields, strict=True):
            for found in dictionary_fields(field.type, header):
                known = self._fields.setdefault(found.id, found)
                if known.value_type != found.value_type:
                    raise InvalidDataError(
                        f"fields that share dictionary {found.id} disagree about its type",
                        layer="schema",
                        expected=str(known.value_type),
                        actual=str(found.value_type),
                    )

    def value_type(self, dictionary_id: int) -> pa.DataType | None:
        """The type of a dictionary's values, or None if no field uses it."""
        field = self._fields.get(dictionary_id)
        return None if field is None else field.value_type

    def decode(self, message: Message) -> pa.RecordBatch | None:
        """The record batch of a message; None for a dictionary batch, which is remembered.

        Zero-copy: arrays borrow from ``message.body``, which they keep alive; compressed buffers
        are decompressed into memory of their own.

        Raises:
            MalformedFrameError: metadata that does not fit the schema or the body.
            LimitExceededError: rows or claimed uncompressed sizes above the limits.
            DecompressionError: a compressed buffer that does not decode.
            InvalidDataError: contents that are not valid.
            ZeroCopyError: zero-copy was required and a buffer is compressed, misaligned or of
                the other byte order.
        """
        try:
            if message.type is MessageType.RECORD_BATCH:
                return self._decode_batch(message)
            if message.type is MessageType.DICTIONARY_BATCH:
                self._decode_dictionary(message)
                return None
        except WireError as error:
            if error.offset is None:
                raise relocated(error, message.offset) from None
            raise
        raise MalformedFrameError(
            "a stream of record batches holds another message",
            layer="message",
            offset=message.offset,
            expected="record batch or dictionary batch",
            actual=message.type.label,
        )

    def _layout(self, message: Message) -> BatchLayout:
        layout = self._layouts.get(message.version)
        if layout is None:
            layout = BatchLayout(self.schema.types, message.version)
            self._layouts[message.version] = layout
        return layout

    def _decode_batch(self, message: Message) -> pa.RecordBatch:
        self._check_batch(message)
        batch = self._read(message, self._storage_schema)
        self._validate(batch)
        if self._plain:
            return batch
        # Only the columns that change are touched: pyarrow has no Python class for some types.
        for index in self._dictionary_columns:
            field, described = self.schema.field(index), self.header.fields[index]
            column = attach(
                batch.column(index),
                field.type,
                described.dictionary_id,
                described.children,
                self._dictionaries,
            )
            batch = batch.set_column(index, field, column)
        return batch

    def _validate(self, batch: pa.RecordBatch) -> None:
        if not self._trusted:
            self._validator.check(batch)

    def _check_batch(self, message: Message) -> None:
        """Checks a record batch's metadata, unless the batch before had the very same.

        Batches of fixed-width columns without nulls often do, and checking costs ten times as much
        as comparing. Compressed buffers state their sizes in the body, so those are always checked.
        """
        if message.header is self._checked_header:
            return
        said = bytes(message.metadata), len(message.body)
        if said == self._checked:
            self._checked_header = message.header
            return
        header = message.record_batch(self._limits)
        self._check(self._layout(message), header, message)
        if header.compression is None and not self._require_zero_copy:
            self._checked, self._checked_header = said, message.header

    def _check(self, layout: BatchLayout, header: RecordBatchHeader, message: Message) -> int:
        """Checks metadata against body, schema and limits; returns the buffers' uncompressed bytes."""
        body = message.body
        layout.check(header, len(body), self._limits)
        if self._require_zero_copy:
            self._check_zero_copy(header, body)
        if header.compression is None:
            return len(body)
        sizes = claimed_sizes(header, body, self._limits)
        layout.check_sizes(header, sizes)
        return int(sizes.sum())

    def _check_zero_copy(self, header: RecordBatchHeader, body: memoryview) -> None:
        if header.compression is not None and len(header.buffers):
            raise ZeroCopyError(
                f"the buffers are compressed with {header.compression}", layer="record batch"
            )
        if self.header.endianness is Endianness.BIG:
            raise ZeroCopyError("the values are big-endian", layer="record batch")
        if len(body) == 0:
            return
        address = np.frombuffer(body, np.uint8).ctypes.data
        present = header.buffers[:, 1] > 0
        if ((header.buffers[present, 0] + address) & 7).any():
            raise ZeroCopyError(
                "a buffer does not start at a multiple of 8 in memory", layer="record batch"
            )

    def _decode_dictionary(self, message: Message) -> None:
        dictionary = message.dictionary_batch(self._limits)
        field = self._fields.get(dictionary.id)
        if field is None:
            raise MalformedFrameError(
                f"no field of the schema uses dictionary {dictionary.id}",
                layer="dictionary",
                offset=message.offset,
                actual=dictionary.id,
            )
        header = dictionary.data
        layout = BatchLayout([field.value_type], message.version)
        size = self._check(layout, header, message)
        self._count_dictionary_bytes(dictionary, size, message.offset)
        metadata = encode_record_batch_metadata(
            header.length,
            header.nodes,
            header.buffers,
            len(message.body),
            compression=header.compression,
            variadic_counts=header.variadic_counts,
            version=message.version,
        )
        schema = pa.schema([pa.field("values", storage_type(field.value_type))])
        values = self._read(Message(memoryview(metadata), message.body), schema).column(0)
        if not self._trusted:
            validate_array(values, f"dictionary {dictionary.id}")
        values = attach(values, field.value_type, None, field.children, self._dictionaries)
        if dictionary.is_delta:
            before = self._dictionaries.get(dictionary.id)
            if before is None:
                raise MalformedFrameError(
                    f"a delta for dictionary {dictionary.id} came before the dictionary",
                    layer="dictionary",
                    offset=message.offset,
                )
            # Values of an extended dictionary lie in two messages; indices need them in one array.
            values = pa.concat_arrays([before, values])
        self._dictionaries[dictionary.id] = values

    def _count_dictionary_bytes(
        self, dictionary: DictionaryBatchHeader, size: int, offset: int
    ) -> None:
        """Bounds what all dictionaries hold together, before this one is decoded or joined."""
        before = self._dictionary_bytes.get(dictionary.id, 0)
        if dictionary.is_delta:
            size += before
        self._dictionary_bytes[dictionary.id] = size
        self._all_dictionary_bytes += size - before
        total = self._all_dictionary_bytes
        if total > self._limits.max_dictionary_bytes:
            raise LimitExceededError(
                "the dictionaries take too many bytes",
                layer="dictionary",
                offset=offset,
                actual=total,
                limit=self._limits.max_dictionary_bytes,
            )

    def _read(self, message: Message, schema: pa.Schema) -> pa.RecordBatch:
        try:
            if self.header.endianness is Endianness.LITTLE:
                return pa.ipc.read_record_batch(message.to_pyarrow_source(), schema)
            # pyarrow swaps bytes in its stream reader alone, which sees a stream of this batch.
            framed = as_big_endian(encode_schema(schema))
            metadata = frame_metadata(bytes(message.metadata))
            return pa.ipc.open_stream(
                MessagePieces((framed, metadata, message.body))
            ).read_next_batch()
        except (pa.ArrowException, ValueError, TypeError, OSError, StopIteration) as error:
            kind = DecompressionError if "compress" in str(error).lower() else InvalidDataError
            raise kind(f"pyarrow cannot read the batch: {error}", layer="record batch") from None


def claimed_sizes(
    header: RecordBatchHeader, body: memoryview, limits: Limits
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Uncompressed bytes that each buffer of a compressed batch claims, checked before decoding.

    Each non-empty buffer starts with an i64: its uncompressed length, or -1 if it is stored as is.

    Raises:
        MalformedFrameError: a buffer shorter than that prefix, or a negative length.
        LimitExceededError: the sum, or its ratio to the stored bytes, is above its limit.
    """
    sizes = header.buffers[:, 1].copy()
    total = 0
    for index, (start, length) in enumerate(header.buffers.tolist()):
        if length == 0:
            continue
        if length < 8:
            raise MalformedFrameError(
                f"compressed buffer {index} has no length prefix",
                layer="record batch",
                expected="8 bytes or more",
                actual=length,
            )
        (claimed,) = _I64.unpack_from(body, start)
        if claimed < -1:
            raise MalformedFrameError(
                f"compressed buffer {index} claims a negative length",
                layer="record batch",
                actual=claimed,
            )
        sizes[index] = length - 8 if claimed == -1 else claimed
        total += int(sizes[index])
        if total > limits.max_uncompressed_bytes:
            raise LimitExceededError(
                "a compressed batch claims too many bytes",
                layer="record batch",
                actual=total,
                limit=limits.max_uncompressed_bytes,
            )
    stored = int(header.buffers[:, 1].sum())
    if total > max(limits.ratio_free_bytes, stored * limits.max_compression_ratio):
        raise LimitExceededError(
            "a compressed batch claims too high a compression ratio",
            layer="record batch",
            actual=total // max(stored, 1),
            limit=limits.max_compression_ratio,
        )
    return sizes
