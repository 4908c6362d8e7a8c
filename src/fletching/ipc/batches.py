"""`BatchDecoder`: record batches out of the messages of one stream."""

from __future__ import annotations

from typing import Final, TypedDict

import numpy as np
import pyarrow as pa

from fletching.errors import (
    DecompressionError,
    FletchingError,
    InvalidDataError,
    LimitExceededError,
    MalformedFrameError,
    WireError,
    ZeroCopyError,
)
from fletching.ipc.array_tree import with_type_ids
from fletching.ipc.compressed_sizes import claimed_sizes
from fletching.ipc.dictionaries import (
    DictionaryField,
    GrowingArray,
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
from fletching.ipc.layout import BatchLayout, layout_of
from fletching.ipc.limits import DEFAULT_LIMITS, Limits
from fletching.ipc.message import Message, MessageParts, relocated
from fletching.ipc.metadata import (
    DictionaryBatchHeader,
    MessageHeader,
    MessageType,
    MetadataVersion,
    RecordBatchHeader,
)
from fletching.ipc.schema_header import (
    Endianness,
    SchemaHeader,
    read_schema,
    schema_header,
    schema_message_of,
)
from fletching.ipc.type_tree import any_below
from fletching.ipc.validation import BatchValidator

__all__ = ["BatchDecoder", "ReadOptions"]

FOREIGN_ERRORS: Final = (
    pa.ArrowException,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What pyarrow, and extension types that programs register with it, may raise on somebody's bytes."""


class ReadOptions(TypedDict, total=False):
    """How streams and files are read, the same for every function that does.

    Attributes:
        limits: what the metadata may claim.
        validate_values: also check values against their types; see `validate`.
        trusted: skip the validation of contents, for bytes that were validated before and are under
            a checksum since. Metadata is checked all the same.
        require_zero_copy: raise where a column would have to be copied or decompressed.
    """

    limits: Limits
    validate_values: bool
    trusted: bool
    require_zero_copy: bool


class BatchDecoder:
    """Turns the messages of one stream into record batches, and keeps its dictionaries.

    Every array borrows from its message's body. What metadata claims is checked against the body
    and the limits before pyarrow sees it, and what pyarrow made is validated before anybody
    touches an element. Not thread-safe while dictionary batches are being decoded.

    Attributes:
        schema: the stream's schema.
        header: the schema message's header: dictionary ids, byte order.
        validator: checks the contents of batches, dictionaries being indices.
        trusted, validate_values, require_zero_copy: as they were given.
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
        self._limits = limits
        self.trusted = trusted
        self.validate_values = validate_values
        self.require_zero_copy = require_zero_copy
        try:
            self._prepare(schema, text=validate_text)
        except FletchingError:
            raise
        except FOREIGN_ERRORS as error:
            raise InvalidDataError(
                f"batches of this schema cannot be read: {error}", layer="schema"
            ) from None

    def _prepare(self, schema: Message | pa.Schema, *, text: bool) -> None:
        limits = self._limits
        message = schema if isinstance(schema, Message) else schema_message_of(schema)
        self._schema_message = schema
        self.header: SchemaHeader = schema_header(message, limits)
        self.schema: pa.Schema = (
            read_schema(message, limits) if isinstance(schema, Message) else schema
        )
        self._layouts: dict[int, BatchLayout] = {}
        self._checked: tuple[bytes, int] | None = None  # metadata and body length, found correct
        self._checked_header: MessageHeader | None = None  # of metadata that was found correct
        self._plain = not any(has_dictionary(data_type) for data_type in self.schema.types)
        self._unions = any(
            any_below(data_type, pa.types.is_union) for data_type in self.schema.types
        )
        self._dictionaries: dict[int, GrowingArray] = {}
        self._value_layouts: dict[tuple[int, int], BatchLayout] = {}
        self._value_readers: dict[int, tuple[pa.Schema, BatchValidator]] = {}
        self._dictionary_bytes: dict[int, int] = {}
        self._all_dictionary_bytes = 0
        self._fields: dict[int, DictionaryField] = {}
        self._storage_schema = self.schema
        self._dictionary_columns: list[int] = []
        if not self._plain:
            self._prepare_dictionaries()
        self.validator = BatchValidator(
            self._storage_schema, values=self.validate_values, text=text
        )

    def _prepare_dictionaries(self) -> None:
        # Field by field: the schema's metadata stays as it is, keys that occur twice included.
        for index, field in enumerate(self.schema):
            if has_dictionary(field.type):
                self._storage_schema = self._storage_schema.set(
                    index, field.with_type(storage_type(field.type))
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
            for result in dictionary_fields(field.type, header):
                known = self._fields.setdefault(result.id, result)
                if known.value_type != result.value_type:
                    raise InvalidDataError(
                        f"fields that share dictionary {result.id} disagree about its type",
                        layer="schema",
                        expected=str(known.value_type),
                        actual=str(result.value_type),
                    )

    def anew(self) -> BatchDecoder:
        """A decoder of the same stream that has seen no dictionary."""
        if self._plain:
            return self
        return BatchDecoder(
            self._schema_message,
            limits=self._limits,
            validate_values=self.validate_values,
            trusted=self.trusted,
            require_zero_copy=self.require_zero_copy,
        )

    @property
    def has_dictionaries(self) -> bool:
        """Whether the schema has dictionaries."""
        return not self._plain

    @property
    def dictionary_bytes(self) -> int:
        """Bytes of all dictionaries that are remembered."""
        return self._all_dictionary_bytes

    def only_dictionary(self, column: int) -> int | None:
        """How many values the dictionary of a column has; None if it has none yet."""
        id_ = self.header.fields[column].dictionary_id
        result = None if id_ is None else self._dictionaries.get(id_)
        return None if result is None else len(result.array)

    @property
    def has_unions(self) -> bool:
        """Whether the schema has unions, at any depth."""
        return self._unions

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
        except FletchingError:
            raise
        except FOREIGN_ERRORS as error:
            raise _foreign(error, message.offset) from None
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
            layout = layout_of(self.schema.types, message.version)
            self._layouts[message.version] = layout
        return layout

    def _decode_batch(self, message: Message) -> pa.RecordBatch:
        self._check_batch(message)
        batch = self._read(message, self._storage_schema)
        if not self.trusted:
            self.validator.check(batch, len(message.body))
        if self._unions and self._layout(message).has_empty_union(message.record_batch()):
            batch = with_type_ids(batch)
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

    def _check_batch(self, message: Message) -> None:
        """Checks a record batch's metadata, unless the batch before had the very same.

        Batches of fixed-width columns without nulls often do, and checking costs ten times as much
        as comparing. Compressed buffers state their sizes in the body, so those are always checked.
        """
        if message.header is self._checked_header:
            return
        identity = bytes(message.metadata), len(message.body)
        if identity == self._checked:
            self._checked_header = message.header
            return
        header = message.record_batch(self._limits)
        self._check(self._layout(message), header, message)
        if header.compression is None and not self.require_zero_copy:
            self._checked, self._checked_header = identity, message.header

    def _check(self, layout: BatchLayout, header: RecordBatchHeader, message: Message) -> int:
        """Checks metadata against body, schema and limits; returns the buffers' uncompressed bytes."""
        body = message.body
        layout.check(header, len(body), self._limits)
        if self.require_zero_copy:
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
        layout = self._value_layout(field, message.version)
        size = self._check(layout, header, message)
        self._count_dictionary_bytes(dictionary, size, message.offset)
        schema, validator = self._value_reader(field)
        metadata = encode_record_batch_metadata(
            header.length,
            header.nodes,
            header.buffers,
            len(message.body),
            compression=header.compression,
            variadic_counts=header.variadic_counts,
            version=message.version,
        )
        batch = self._read(Message(memoryview(metadata), message.body), schema)
        if not self.trusted:
            try:
                validator.check(batch, len(message.body))
            except InvalidDataError as error:
                raise InvalidDataError(
                    f"dictionary {dictionary.id}: {error.message}", layer=error.layer
                ) from None
        if self._unions and layout.has_empty_union(header):
            batch = with_type_ids(batch)
        values = batch.column(0)
        if has_dictionary(field.value_type):
            values = attach(values, field.value_type, None, field.children, self._dictionaries)
        if not dictionary.is_delta:
            self._dictionaries[dictionary.id] = GrowingArray(values)
            return
        before = self._dictionaries.get(dictionary.id)
        if before is None:
            raise MalformedFrameError(
                f"a delta for dictionary {dictionary.id} came before the dictionary",
                layer="dictionary",
                offset=message.offset,
            )
        before.append(values)

    def _value_layout(self, field: DictionaryField, version: MetadataVersion) -> BatchLayout:
        layout = self._value_layouts.get((field.id, version))
        if layout is None:
            layout = BatchLayout([field.value_type], version)
            self._value_layouts[field.id, version] = layout
        return layout

    def _value_reader(self, field: DictionaryField) -> tuple[pa.Schema, BatchValidator]:
        reader = self._value_readers.get(field.id)
        if reader is None:
            schema = pa.schema([pa.field("values", storage_type(field.value_type))])
            reader = schema, BatchValidator(schema, values=self.validate_values)
            self._value_readers[field.id] = reader
        return reader

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
                MessageParts((framed, metadata, message.body))
            ).read_next_batch()
        except (*FOREIGN_ERRORS, StopIteration) as error:
            raise _foreign(error, None) from None


def _foreign(error: Exception, offset: int | None) -> WireError:
    """Ours for an error that pyarrow raised on a message."""
    if isinstance(error, MemoryError):
        return LimitExceededError(
            "there is no memory for what the batch claims to hold",
            layer="record batch",
            offset=offset,
        )
    kind = DecompressionError if "compress" in str(error).lower() else InvalidDataError
    return kind(
        f"pyarrow cannot read the batch: {error or type(error).__name__}",
        layer="record batch",
        offset=offset,
    )
