"""Choosing columns of a record batch message without decoding it.

The new message's metadata lists the chosen columns' nodes and buffers; its body is made of ranges of
the old body, in the new order. No value is read, copied or decompressed: that works for every type
and codec, because a column is a run of nodes and buffers whatever they hold.

Constant columns can be appended: a partition column, say, that is not stored with the rows. Their
buffers are the only bytes that are made here, once for each number of rows.

The module is long because a plan, what makes it and what tells that it serves again know the same bytes.
"""

from __future__ import annotations

import dataclasses
import functools
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from typing_extensions import Buffer

from fletching.errors import LimitExceededError, MalformedFrameError, UsageError
from fletching.ipc.constant_arrays import Constant, ConstantColumn
from fletching.ipc.dictionaries import dictionary_fields
from fletching.ipc.encoding import (
    as_big_endian,
    encode_batch,
    encode_record_batch_metadata,
    encode_schema,
    frame_metadata,
)
from fletching.ipc.layout import BatchLayout, ColumnSpan
from fletching.ipc.limits import DEFAULT_LIMITS, Limits
from fletching.ipc.message import Message, as_view, without_prefix
from fletching.ipc.metadata import (
    Codec,
    MessageHeader,
    MessageType,
    MetadataVersion,
    RecordBatchHeader,
    read_message_header,
)
from fletching.ipc.schema_header import (
    Endianness,
    FieldHeader,
    read_schema,
    schema_header,
    schema_message_of,
)
from fletching.types import ByteRange

__all__ = ["ProjectedMessage", "Projection", "Projector", "plan_projection", "project"]

_INT64: Final = struct.Struct("<q")
_PAIR_BYTES: Final = 16
_ZEROS: Final = bytes(8)
ALIGNMENT: Final = 8
"""Buffers of a projected body start at multiples of this, as the format demands."""


@dataclasses.dataclass(frozen=True, slots=True)
class Projection:
    """How to make a projected message from the stored one.

    Attributes:
        prefix: length prefix and metadata, ready to be written.
        slices: the body in order: ranges of the old body, or literal bytes (padding, constants).
        body_length: sum of the slices' lengths.
    """

    prefix: bytes
    slices: tuple[ByteRange | bytes, ...]
    body_length: int

    @property
    def length(self) -> int:
        """Bytes of the whole message."""
        return len(self.prefix) + self.body_length

    def frame(self, body: Buffer) -> list[Buffer]:
        """The message as buffers to be written in turn; ranges become views of ``body``."""
        view = as_view(body)
        frame: list[Buffer] = [self.prefix]
        frame += [
            part if isinstance(part, bytes) else view[part.start : part.end] for part in self.slices
        ]
        return frame


@dataclasses.dataclass(frozen=True, slots=True)
class ProjectedMessage:
    """A projected message in memory: framed metadata, and the body as views of the old one.

    Iterates as its buffers: ``sink.writelines(project(message, schema, columns))`` writes the message.
    """

    prefix: bytes
    body: tuple[Buffer, ...]
    body_length: int

    def __iter__(self) -> Iterator[Buffer]:
        """The buffers, in the order in which they are written."""
        return iter(self.frame())

    def __len__(self) -> int:
        return 1 + len(self.body)

    def frame(self) -> list[Buffer]:
        """All of it, to be written in turn."""
        return [self.prefix, *self.body]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Planned:
    """A projection, and what other metadata gives the same.

    Attributes:
        metadata: of the batch, with its prefix if it has one.
        projection: the batch's.
        decisive: bits of the metadata that the projection follows from: all but the body's length and the
            nodes and buffers of columns that are left out. None for all.
        body_length_at: where the body's length stands.
        least_body: how long a body must be to hold the chosen buffers.
    """

    metadata: bytes
    projection: Projection
    decisive: NDArray[np.uint8] | None = None
    body_length_at: int = 0
    least_body: int = 0

    def serves(self, metadata: bytes) -> bool:
        """Whether a batch of other metadata has this projection."""
        if metadata == self.metadata:
            return True
        if self.decisive is None or len(metadata) != len(self.metadata):
            return False
        differ = np.frombuffer(metadata, np.uint8) ^ np.frombuffer(self.metadata, np.uint8)
        differ &= self.decisive
        body_length: int = _INT64.unpack_from(metadata, self.body_length_at)[0]
        return body_length >= self.least_body and not differ.any()


@dataclasses.dataclass(frozen=True, slots=True)
class _Literal:
    """A constant column, encoded: nodes and buffers as in a batch of its own, and its body."""

    nodes: list[tuple[int, int]]
    buffers: list[tuple[int, int]]
    variadic_counts: tuple[int, ...]
    body: bytes


class Projector:
    """A choice of columns, compiled for one schema; use it for every message of a stream.

    Attributes:
        columns: indices of the chosen columns, in their new order.
        schema: the resulting schema: chosen fields, then constants; metadata is kept.
        dictionary_ids: the ids of the dictionaries that the chosen columns use.
    """

    def __init__(
        self,
        schema: pa.Schema | Message,
        columns: Iterable[str | int] | None = None,
        constants: Sequence[ConstantColumn] = (),
        *,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """Compiles the choice.

        Args:
            schema: of the stored batches; the stream's schema message if it has dictionaries whose
                ids another writer chose.
            columns: names or indices, in the wanted order; None for all.
            constants: columns to append, each a `Constant` or a field and an array of as many rows
                as every batch that will be projected.
            limits: what messages may claim.

        Raises:
            UsageError: an unknown or ambiguous column, or constants for big-endian batches.
        """
        self._message = schema if isinstance(schema, Message) else None
        if isinstance(schema, Message):
            self._endianness = schema_header(schema, limits).endianness
            source = read_schema(schema, limits)
        else:
            self._endianness = Endianness.LITTLE
            source = schema
        self._limits = limits
        self._source = source
        self.columns = _resolve(source, columns)
        self._constants = tuple(constants)
        if self._constants and self._endianness is Endianness.BIG:
            raise UsageError("constant columns cannot be appended to big-endian batches")
        fields = [source.field(index) for index in self.columns]
        fields += [c.field if isinstance(c, Constant) else c[0] for c in self._constants]
        pairs = None
        if source.metadata is not None:
            # From the message: pyarrow's own mapping loses keys that occur twice.
            header = schema_header(self._message or schema_message_of(source), limits)
            pairs = pa.KeyValueMetadata(list(header.pairs))
        self.schema: pa.Schema = pa.schema(fields, pairs)
        self._types = source.types
        self._layouts: dict[int, BatchLayout] = {}
        self._latest: _Planned | None = None
        # Of other columns each batch has lengths of its own.
        self._repeats = all(pa.types.is_primitive(self._types[index]) for index in self.columns)
        # Batches of one table have few lengths, and so their constants.
        self._literals = functools.lru_cache(maxsize=16)(self._encode_constants)

    @functools.cached_property
    def _chosen_headers(self) -> list[FieldHeader]:
        message = self._message or schema_message_of(self._source)
        fields = schema_header(message, self._limits).fields
        return [fields[index] for index in self.columns]

    @functools.cached_property
    def dictionary_ids(self) -> frozenset[int]:
        """The ids of the dictionaries that the chosen columns use: pass their messages on as they are."""
        return frozenset(self._ids_in_order)

    @functools.cached_property
    def _ids_in_order(self) -> list[int]:
        # Along the types, not the header: a header may have children that its type does not use.
        return [
            result.id
            for index, header in zip(self.columns, self._chosen_headers, strict=True)
            for result in dictionary_fields(self._types[index], header)
        ]

    @functools.cached_property
    def schema_message(self) -> bytes:
        """The framed schema message of the projected stream; dictionaries keep their ids."""
        framed = encode_schema(self.schema, dictionary_ids=self._ids_in_order or None)
        return as_big_endian(framed) if self._endianness is Endianness.BIG else framed

    def plan(self, metadata: Buffer) -> Projection:
        """The projection of one record batch, from its metadata alone.

        The latest one is kept: of fixed-width columns without nulls the next batch often has the very
        same, whatever the lengths of the columns that are left out.

        Args:
            metadata: the message's flatbuffer, with or without its (modern) length prefix. The body
                need not be in memory.

        Raises:
            MalformedFrameError: the metadata does not fit the schema, or is no record batch's.
            LimitExceededError: it claims more than the limits.
        """
        copied = bytes(metadata)
        latest = self._latest
        if latest is not None and latest.serves(copied):
            return latest.projection
        planned = self._latest = self._plan(copied)
        return planned.projection

    def _plan(self, metadata: bytes) -> _Planned:
        message = read_message_header(without_prefix(as_view(metadata)))
        header = self._checked(message)
        spans = self._layout(message.version).spans(header)
        nodes: list[NDArray[np.int64]] = []
        variadic: list[int] = []
        positions: list[tuple[int, int]] = []
        slices: list[ByteRange | bytes] = []
        length = 0
        previous = -2
        buffers = header.buffers.tolist()
        for column in self.columns:
            span = spans[column]
            nodes.append(header.nodes[span.node_start : span.node_end])
            variadic += header.variadic_counts[span.variadic_start : span.variadic_end]
            length = _append_buffers(
                buffers[span.buffer_start : span.buffer_end],
                message.body_length,
                length,
                positions,
                slices,
                follows=column == previous + 1,
            )
            previous = column
        for literal in self._literals(header.length, header.compression) if self._constants else ():
            nodes.append(np.array(literal.nodes, np.int64).reshape(-1, 2))
            variadic += literal.variadic_counts
            positions += [(start + length, size) for start, size in literal.buffers]
            if literal.body:
                slices.append(literal.body)
            length += len(literal.body)
        prefix = frame_metadata(
            encode_record_batch_metadata(
                header.length,
                np.concatenate(nodes) if nodes else np.empty((0, 2), np.int64),
                np.array(positions, np.int64).reshape(-1, 2),
                length,
                compression=header.compression,
                variadic_counts=variadic,
                version=message.version,
                custom_metadata=message.key_values(self._limits),
            )
        )
        planned = Projection(prefix, tuple(slices), length)
        chosen = [spans[column] for column in self.columns]
        return self._repeated(metadata, planned, message, chosen)

    def _repeated(
        self,
        metadata: bytes,
        projection: Projection,
        message: MessageHeader,
        chosen: list[ColumnSpan],
    ) -> _Planned:
        """The projection of a batch, with what tells others that have the same."""
        ends = [part.end for part in projection.slices if isinstance(part, ByteRange)]
        body_length_at = message.message.int64_position(3)
        # Where the body cuts padding off, that of a longer one would belong to the buffer.
        padded = body_length_at and not any(end % ALIGNMENT for end in ends)
        if not self._repeats or not padded or message.record_batch(self._limits).compression:
            return _Planned(metadata, projection)
        shift = 8 if len(message.message.data) < len(metadata) else 0  # the length prefix
        decisive = np.full(len(metadata), 0xFF, np.uint8)
        decisive[body_length_at + shift :][:8] = 0
        nodes = [(span.node_start, span.node_end) for span in chosen]
        buffers = [(span.buffer_start, span.buffer_end) for span in chosen]
        for slot, kept in ((1, nodes), (2, buffers)):
            start, count = message.table.vector(slot, _PAIR_BYTES)
            pairs = decisive[start + shift :][: count * _PAIR_BYTES].reshape(count, _PAIR_BYTES)
            pairs[:] = 0
            for first, end in kept:
                pairs[first:end] = 0xFF
        return _Planned(
            metadata, projection, decisive, body_length_at + shift, max(ends, default=0)
        )

    def select(self, metadata: Buffer) -> bytes:
        """Metadata of the chosen columns that points into the old body: for reading it in place.

        Without prefix. Constants are not supported here. Errors as for `plan`.
        """
        message = read_message_header(without_prefix(as_view(metadata)))
        header = self._checked(message)
        spans = [self._layout(message.version).spans(header)[column] for column in self.columns]
        empty = np.empty((0, 2), np.int64)
        return encode_record_batch_metadata(
            header.length,
            np.concatenate([empty, *(header.nodes[s.node_start : s.node_end] for s in spans)]),
            np.concatenate(
                [empty, *(header.buffers[s.buffer_start : s.buffer_end] for s in spans)]
            ),
            message.body_length,
            compression=header.compression,
            variadic_counts=[
                count
                for s in spans
                for count in header.variadic_counts[s.variadic_start : s.variadic_end]
            ],
            version=message.version,
        )

    def project(self, message: Message) -> ProjectedMessage:
        """The projection of a message in memory; its body's buffers are views. Errors as for `plan`."""
        plan = self.plan(message.metadata)
        _, *body = plan.frame(message.body)
        return ProjectedMessage(plan.prefix, tuple(body), plan.body_length)

    def _layout(self, version: MetadataVersion) -> BatchLayout:
        layout = self._layouts.get(version)
        if layout is None:
            layout = self._layouts[version] = BatchLayout(self._types, version)
        return layout

    def _checked(self, message: MessageHeader) -> RecordBatchHeader:
        if message.type is not MessageType.RECORD_BATCH:
            raise MalformedFrameError(
                "only record batches can be projected",
                layer="message",
                expected=MessageType.RECORD_BATCH.label,
                actual=message.type.label,
            )
        header = message.record_batch(self._limits)
        self._layout(message.version).check(header, message.body_length, self._limits)
        return header

    def _encode_constants(self, rows: int, codec: Codec | None) -> tuple[_Literal, ...]:
        return tuple(
            _encode_constant(constant, rows, codec, self._limits) for constant in self._constants
        )


def _encode_constant(
    constant: ConstantColumn, rows: int, codec: Codec | None, limits: Limits
) -> _Literal:
    if isinstance(constant, Constant):
        field, item = constant.field, constant.array(1)
        if rows * item.nbytes > limits.max_body_bytes:
            raise LimitExceededError(
                f"constant column {field.name!r} would be too long",
                layer="record batch",
                actual=rows * item.nbytes,
                limit=limits.max_body_bytes,
            )
        array = constant.array(rows)
    else:
        field, array = constant
    if len(array) != rows:
        raise UsageError(
            f"constant column {field.name!r} has {len(array)} rows, the batch has {rows}"
        )
    batch = pa.record_batch([array], schema=pa.schema([field]))
    # One copy of made-up bytes, kept for every further batch of this length.
    prefix, *body = encode_batch(batch, compression=codec)
    header = read_message_header(memoryview(prefix)[8:]).record_batch()
    return _Literal(
        [tuple(node) for node in header.nodes.tolist()],
        [tuple(buffer) for buffer in header.buffers.tolist()],
        header.variadic_counts,
        b"".join(bytes(part) for part in body),
    )


def _append_buffers(
    buffers: list[list[int]],
    body_length: int,
    length: int,
    positions: list[tuple[int, int]],
    slices: list[ByteRange | bytes],
    *,
    follows: bool,
) -> int:
    """Appends one column's buffers to the new body of ``length`` bytes; returns its new length.

    Buffers that follow each other in the old body with nothing but padding between them stay one
    buffer, their padding included; with ``follows``, so do those of the column before.
    """
    joins = follows
    for start, size in buffers:
        if size == 0:
            length = _pad(length, slices)
            positions.append((length, 0))
            continue
        end = min(start + size + (-size % ALIGNMENT), body_length)
        run = slices[-1] if slices and joins else None
        if (
            isinstance(run, ByteRange)
            and run.start % ALIGNMENT == 0 == start % ALIGNMENT
            and 0 <= start - run.end < 64
        ):
            # Arrow pads to 8 or 64 bytes, so a gap below 64 is padding.
            positions.append((length + start - run.end, size))
            length += end - run.end
            slices[-1] = ByteRange(run.start, end)
        else:
            length = _pad(length, slices)
            positions.append((length, size))
            slices.append(ByteRange(start, end))
            length += end - start
        joins = True
    return _pad(length, slices)


def _pad(length: int, slices: list[ByteRange | bytes]) -> int:
    pad = -length % ALIGNMENT
    if pad:
        slices.append(_ZEROS[:pad])
    return length + pad


def _resolve(schema: pa.Schema, columns: Iterable[str | int] | None) -> tuple[int, ...]:
    if columns is None:
        return tuple(range(len(schema)))
    if isinstance(columns, str):
        raise UsageError("columns is a sequence of names, not one name")
    result: list[int] = []
    for column in columns:
        if isinstance(column, int):
            if not 0 <= column < len(schema):
                raise UsageError(f"column {column} does not exist, there are {len(schema)}")
            result.append(column)
            continue
        indices = schema.get_all_field_indices(column)
        if len(indices) != 1:
            what = "is ambiguous" if indices else "does not exist"
            raise UsageError(f"column {column!r} {what}")
        result.append(indices[0])
    if len(set(result)) != len(result):
        raise UsageError("a column is named twice")
    return tuple(result)


@functools.lru_cache(maxsize=64)  # choices of columns that one program makes, kilobytes each
def _projector(schema: pa.Schema, columns: tuple[str | int, ...] | None) -> Projector:
    return Projector(schema, columns)


def plan_projection(
    metadata: Buffer,
    schema: pa.Schema,
    columns: Sequence[str | int] | None,
    constants: Sequence[ConstantColumn] = (),
) -> Projection:
    """The projection of one record batch from its metadata alone; see `Projector.plan`.

    For many batches of one schema a `Projector` saves the look-up of the compiled choice.

    Raises:
        UsageError: an unknown or ambiguous column.
        MalformedFrameError: the metadata does not fit the schema, or is no record batch's.
        LimitExceededError: it claims more than the default limits.
    """
    if constants:
        return Projector(schema, columns, constants).plan(metadata)
    return _projector(schema, None if columns is None else tuple(columns)).plan(metadata)


def project(
    message: Message, schema: pa.Schema, columns: Sequence[str | int] | None
) -> ProjectedMessage:
    """The chosen columns of a record batch message: new metadata, and the body's buffers as views.

    Errors as for `plan_projection`. The views borrow from ``message.body``.
    """
    return _projector(schema, None if columns is None else tuple(columns)).project(message)
