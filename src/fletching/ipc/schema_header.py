"""What a schema message says before pyarrow sees it: fields, dictionary ids, endianness, metadata.

pyarrow keeps dictionary ids to itself, and without them dictionary batches cannot be matched to
columns; and a schema is to be bounded (fields, depth) before anything is built from it. So the
field tree is read here, and pyarrow reads the same bytes to make its types.

::

    Schema              endianness i16 | [Field] | [KeyValue] | [feature i64]
    Field               name | nullable | type tag u8 | type | DictionaryEncoding | [Field] | [KeyValue]
    DictionaryEncoding  id i64 | index type Int | ordered | kind i16
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Iterator

import pyarrow as pa

from fletching.errors import InvalidDataError, LimitExceededError, MalformedFrameError, WireError
from fletching.ipc.flatbuffer import Table, malformed
from fletching.ipc.limits import DEFAULT_LIMITS, Limits
from fletching.ipc.message import Message, framed_message, pyarrow_message
from fletching.ipc.metadata import (
    MessageType,
    MetadataVersion,
    read_key_values,
    read_message_header,
)

__all__ = ["Endianness", "FieldHeader", "SchemaHeader", "read_schema"]

MAX_KEPT_BYTES = 1 << 20
"""Metadata of a schema message above which its header is read anew each time."""


class Endianness(enum.IntEnum):
    """Byte order of the values in all bodies; the values are the format's."""

    LITTLE = 0
    BIG = 1


@dataclasses.dataclass(frozen=True, slots=True)
class FieldHeader:
    """One field of a schema as written.

    Attributes:
        name: may be empty, and need not be unique.
        nullable: whether nulls are allowed.
        dictionary_id: which dictionary holds the values, or None.
        children: child fields; of a dictionary-encoded field, its value type's.
    """

    name: str
    nullable: bool
    dictionary_id: int | None
    children: tuple[FieldHeader, ...]

    def walk(self) -> Iterator[FieldHeader]:
        """This field and all below it, depth first."""
        yield self
        for child in self.children:
            yield from child.walk()

    @property
    def dictionary_ids(self) -> tuple[int, ...]:
        """The ids of its dictionaries and of those below it, depth first."""
        ids = (field.dictionary_id for field in self.walk())
        return tuple(id_ for id_ in ids if id_ is not None)


@dataclasses.dataclass(frozen=True, slots=True)
class SchemaHeader:
    """The fields of a schema message, its byte order and its key-value pairs."""

    version: MetadataVersion
    endianness: Endianness
    fields: tuple[FieldHeader, ...]
    pairs: tuple[tuple[bytes, bytes], ...]

    @property
    def custom_metadata(self) -> dict[bytes, bytes]:
        """The key-value pairs; of those that share a key the last."""
        return dict(self.pairs)

    @property
    def dictionary_ids(self) -> list[int]:
        """The ids of all dictionaries, in the order in which fields first name them."""
        return list(dict.fromkeys(id_ for top in self.fields for id_ in top.dictionary_ids))


class _Reader:
    """Reads the field tree under the limits on its size and depth."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._count = 0

    def field(self, table: Table, depth: int) -> FieldHeader:
        limits = self._limits
        self._count += 1
        if self._count > limits.max_fields:
            raise LimitExceededError(
                "too many fields in a schema",
                layer="metadata",
                offset=table.position,
                actual=self._count,
                limit=limits.max_fields,
            )
        if depth > limits.max_depth:
            raise LimitExceededError(
                "the fields of a schema nest too deep",
                layer="metadata",
                offset=table.position,
                actual=depth,
                limit=limits.max_depth,
            )
        if table.table(3) is None:
            raise malformed("a field has no type", table.position)
        encoding = table.table(4)
        if encoding is not None and encoding.int16(3) != 0:
            raise malformed(
                "unknown dictionary kind", encoding.position, expected=0, actual=encoding.int16(3)
            )
        read_key_values(table, 6, limits)
        return FieldHeader(
            table.text(0) or "",
            table.boolean(1),
            None if encoding is None else encoding.int64(0),
            tuple(self.field(child, depth + 1) for child in table.tables(5)),
        )


def read_schema_header(
    table: Table, version: MetadataVersion, limits: Limits = DEFAULT_LIMITS
) -> SchemaHeader:
    """Reads a Schema table, of a schema message or of a file's footer.

    Raises:
        MalformedFrameError: it is broken.
        LimitExceededError: too many fields, or nested too deep.
    """
    endianness = table.int16(0)
    if endianness not in (0, 1):
        raise malformed("unknown endianness", table.position, expected="0 or 1", actual=endianness)
    reader = _Reader(limits)
    fields = tuple(reader.field(child, 1) for child in table.tables(1))
    return SchemaHeader(version, Endianness(endianness), fields, read_key_values(table, 2, limits))


def schema_header(message: Message, limits: Limits = DEFAULT_LIMITS) -> SchemaHeader:
    """The header of a schema message.

    Raises:
        MalformedFrameError: another type of message, or a broken one.
        LimitExceededError: too many fields, or nested too deep.
    """
    if message.type is not MessageType.SCHEMA:
        raise MalformedFrameError(
            "a stream starts with a schema message",
            layer="message",
            offset=message.offset,
            expected=MessageType.SCHEMA.label,
            actual=message.type.label,
        )
    try:
        if len(message.metadata) > MAX_KEPT_BYTES:
            return read_schema_header(message.header.table, message.version, limits)
        return _kept_header(bytes(message.metadata), message.version, limits)
    except WireError as error:
        raise message.located(error) from None


# One append meets its table's schema message six times, and reading 5,000 fields takes 60 ms. Longer messages
# than `MAX_KEPT_BYTES` are not kept, so that a few are bounded by their number.
@functools.lru_cache(maxsize=8)
def _kept_header(metadata: bytes, version: MetadataVersion, limits: Limits) -> SchemaHeader:
    """The header in a schema message's metadata, kept for the few that were read last."""
    return read_schema_header(read_message_header(memoryview(metadata)).table, version, limits)


def read_schema(message: Message, limits: Limits = DEFAULT_LIMITS) -> pa.Schema:
    """The schema of a schema message, in this machine's byte order; its header is checked first.

    Raises:
        MalformedFrameError: another type of message, or a broken one.
        LimitExceededError: too many fields, or nested too deep.
        InvalidDataError: the fields make no Arrow schema: an unknown type, wrong children.
    """
    header = schema_header(message, limits)
    schema = _to_pyarrow(message)
    if header.endianness is Endianness.LITTLE:
        return schema
    # The flag stays with pyarrow's schema and would make it differ from that of any batch.
    return pa.schema(
        list(schema), pa.KeyValueMetadata(list(header.pairs)) if header.pairs else None
    )


def _to_pyarrow(message: Message) -> pa.Schema:
    try:
        return pa.ipc.read_schema(pyarrow_message(message.metadata, message.body))
    except (pa.ArrowException, ValueError, TypeError, KeyError, OSError) as error:
        raise InvalidDataError(
            f"the fields of the schema message make no Arrow schema: {error}",
            layer="schema",
            offset=message.offset,
        ) from None


def schema_message_of(schema: pa.Schema) -> Message:
    """The schema message that pyarrow writes for a schema, as a value."""
    return framed_message(schema.serialize())
