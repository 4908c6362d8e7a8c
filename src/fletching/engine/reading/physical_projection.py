"""How the columns of a reply lie in the segments of each schema version, and how stored rows become the reply's."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TypeAlias

import pyarrow as pa
from typing_extensions import Buffer

from fletching.engine.cache import Budget, RecentlyUsed
from fletching.engine.reading.output_schema import OutputColumn, TableColumns, reply_schema
from fletching.errors import InvalidArgumentError, UsageError
from fletching.ipc import Message, messages
from fletching.ipc.batches import BatchDecoder
from fletching.ipc.constant_arrays import Constant
from fletching.ipc.dictionaries import has_dictionary
from fletching.ipc.encoding import encode_schema
from fletching.ipc.metadata import HeaderReader, MessageType
from fletching.ipc.projection import Projector
from fletching.ipc.renumbering import renumbered
from fletching.ipc.schema_header import schema_header, schema_message_of
from fletching.ipc.type_tree import any_below
from fletching.ipc.validation import BatchValidator
from fletching.protocol.types.constant_columns import constant_column, constant_scalar
from fletching.protocol.types.conversion import convert_for_reply
from fletching.protocol.types.table_schema import odps_type_of_field

__all__ = [
    "OutputMapping",
    "PhysicalProjection",
    "SegmentColumns",
    "stored_columns",
]


_OWN_BYTES = 8 << 20  # kept of what shares its memory with nothing else
_COLUMN_BYTES = 1 << 10
_LEAST_COLUMNS = 16  # what few columns count as


def columns_bytes(count: int) -> int:
    """About how much memory takes what is known of so many columns, and compiled of it."""
    return _COLUMN_BYTES * max(count, _LEAST_COLUMNS)


CompiledProjections: TypeAlias = (
    "RecentlyUsed[tuple[PhysicalProjection, int, tuple[str, ...]], Projector]"
)


def compiled_projections(budget: int | Budget) -> CompiledProjections:
    """Has none; what it keeps counts in a budget of bytes."""
    return RecentlyUsed(budget, weight=lambda projector: columns_bytes(len(projector.schema)))


@dataclasses.dataclass(frozen=True)
class SegmentColumns:
    """The output columns as one schema version's segments hold them.

    Attributes:
        schema: the segments' Arrow schema.
        source: per output column, the field of ``schema`` it comes from; None for a partition
            column, and for a column that was added later.
        whole: the reply's columns are exactly the segments', in order, values unchanged: a record
            batch message can be sent as it is.
        converts: some column's values must be computed.
        appendable: the columns that are not stored stand behind those that are.
        same: a decoded batch is the reply's batch, type for type.
        selected: the reply's batch is just some columns of a decoded one.
    """

    schema: pa.Schema
    source: tuple[int | None, ...]
    whole: bool
    converts: bool
    appendable: bool
    same: bool
    selected: bool

    @functools.cached_property
    def has_dictionaries(self) -> bool:
        """Whether any segment of this schema may hold dictionary batches."""
        return any(has_dictionary(field.type) for field in self.schema)

    @functools.cached_property
    def decoder(self) -> BatchDecoder:
        """Decodes batches of this schema, if it has no dictionaries; shared by all segments.

        Stored bytes were validated when they came in, so only metadata is checked again.
        """
        return BatchDecoder(self.schema, trusted=True)

    @functools.cached_property
    def headers(self) -> HeaderReader:
        """Reads the headers of messages of this schema; shared by all segments, as they repeat."""
        return HeaderReader()

    @functools.cached_property
    def _projected(self) -> dict[tuple[int, ...], ProjectedDecoder]:
        return {}

    @functools.cached_property
    def _part_checks(self) -> dict[tuple[int, ...], BatchValidator | None]:
        return {}

    def check_part(self, batch: pa.RecordBatch, columns: tuple[int, ...]) -> None:
        """Looks at some columns of a message that nobody has compared with its checksum.

        Offsets that a disk has damaged lead outside of the message: whoever follows them crashes. What
        has no offsets has nothing to lead astray, and costs nothing here.

        Raises:
            WireError: a column cannot be read safely.
        """
        if columns not in self._part_checks:
            schema = batch.schema
            safe = not any(any_below(kind, _has_offsets) for kind in schema.types)
            self._part_checks[columns] = None if safe else BatchValidator(schema, text=False)
        validator = self._part_checks[columns]
        if validator is not None:
            validator.check(batch)

    def projected(self, columns: tuple[int, ...]) -> ProjectedDecoder:
        """Decodes some columns alone, so that compressed buffers of the others stay as they are."""
        known = self._projected.get(columns)
        if known is None:
            known = self._projected[columns] = ProjectedDecoder(self.schema, columns)
        return known


def _has_offsets(data_type: pa.DataType) -> bool:
    """Whether values are found by what stands in a buffer, and not by their number alone."""
    types = pa.types
    return not (
        types.is_primitive(data_type)
        or types.is_boolean(data_type)
        or types.is_fixed_size_binary(data_type)
        or types.is_decimal(data_type)
        or types.is_null(data_type)
    )


class ProjectedDecoder:
    """Some columns of batches of one schema without dictionaries, by fewer buffers in the metadata."""

    def __init__(self, schema: pa.Schema, columns: tuple[int, ...]) -> None:
        self._projector = Projector(schema, columns)
        self._decoder = BatchDecoder(self._projector.schema, trusted=True)

    def decode(self, message: Message) -> pa.RecordBatch:
        """The chosen columns of a record batch, borrowing from the message's body.

        Raises:
            WireError: the message does not fit the schema.
        """
        metadata = memoryview(self._projector.select(message.metadata))
        return self._decoder.decode(Message(metadata, message.body))


@dataclasses.dataclass(frozen=True, eq=False)
class PhysicalProjection:
    """What a reply looks like and where its columns come from. Immutable, shared between reads.

    Attributes:
        table: the columns of the table at the session's schema version.
        outputs: the reply's columns.
        versions: the stored columns of every schema version up to the session's.
        compiled: the choices of columns that are compiled; by projection, schema version and partition.
    """

    table: TableColumns
    outputs: tuple[OutputColumn, ...]
    versions: Mapping[int, TableColumns]
    compiled: CompiledProjections = dataclasses.field(
        default_factory=lambda: compiled_projections(_OWN_BYTES)
    )

    @functools.cached_property
    def schema(self) -> pa.Schema:
        """The reply's Arrow schema."""
        return reply_schema(self.outputs, self.table)

    @functools.cached_property
    def schema_message(self) -> bytes:
        """The reply's encapsulated schema message."""
        return encode_schema(self.schema, dictionary_ids=self._dictionary_ids or None)

    @functools.cached_property
    def has_dictionaries(self) -> bool:
        """Whether a column of the reply is dictionary-encoded."""
        return bool(self._dictionary_ids)

    @functools.cached_property
    def _ids(self) -> tuple[tuple[int, ...], ...]:
        """Per output column, the ids of its dictionaries: those of the table's own schema."""
        if not any(has_dictionary(output.field.type) for output in self.outputs):
            return ((),) * len(self.outputs)
        fields = schema_header(schema_message_of(self.table.data)).fields
        return tuple(
            fields[output.index].dictionary_ids
            if output.index < len(fields) and not output.converts
            else ()
            for output in self.outputs
        )

    @property
    def _dictionary_ids(self) -> list[int]:
        return [number for ids in self._ids for number in ids]

    def dictionary_ids_of(self, stored: SegmentColumns) -> list[int]:
        """The reply's dictionary ids of the columns that segments of one schema version hold."""
        return [
            number
            for index, ids in zip(stored.source, self._ids, strict=True)
            if index is not None
            for number in ids
        ]

    def absent_dictionaries(self, stored: SegmentColumns) -> bytes:
        """Messages of empty dictionaries, for the reply's columns that segments of one schema version lack.

        Readers of streams want every dictionary of the schema before the first batch, whether it uses it or not.
        """
        lacking = [
            number
            for number, (index, ids) in enumerate(zip(stored.source, self._ids, strict=True))
            if index is None and ids
        ]
        if not lacking:
            return b""
        schema = pa.schema([self.schema.field(number) for number in lacking])
        sink = pa.BufferOutputStream()
        empty = [constant_column(field.type, None, 0) for field in schema]
        with pa.ipc.new_stream(sink, schema) as writer:
            writer.write_batch(pa.RecordBatch.from_arrays(empty, schema=schema))
        head, *others = messages(sink.getvalue())
        own = [number for field in schema_header(head).fields for number in field.dictionary_ids]
        sent = dict(zip(own, (n for number in lacking for n in self._ids[number]), strict=True))
        parts: list[Buffer] = []
        for message in others:
            if message.type is MessageType.DICTIONARY_BATCH:
                number = sent[message.dictionary_batch().id]
                framed = memoryview(b"".join(message.frame()))
                parts += [
                    renumbered(framed[: message.metadata_length], number),
                    framed[message.metadata_length :],
                ]
        return b"".join(parts)

    @functools.cached_property
    def _stored(self) -> dict[int, SegmentColumns]:
        return {}

    def stored(self, schema_version: int) -> SegmentColumns:
        """The output columns in segments of a schema version.

        Columns are matched by their ids: a name may have been another column's before.
        """
        known = self._stored.get(schema_version)
        if known is None:
            known = self._resolve(self.versions[schema_version])
            self._stored[schema_version] = known  # a repeated computation gives the same
        return known

    def compiled_for(self, schema_version: int, partition: tuple[str, ...]) -> Projector:
        """The compiled choice of columns; kept, as every segment of a partition uses the same."""
        key = self, schema_version, partition
        known = self.compiled.get(key)
        if known is None:
            known = self._compile(schema_version, partition)
            self.compiled.put(key, known)
        return known

    def _compile(self, schema_version: int, partition: tuple[str, ...]) -> Projector:
        stored = self.stored(schema_version)
        count = len(self.table.data)
        constants = [
            Constant(
                output.field,
                constant_scalar(output.field.type, partition[output.index - count])
                if output.index >= count
                else None,
            )
            for output, index in zip(self.outputs, stored.source, strict=True)
            if index is None
        ]
        chosen = [index for index in stored.source if index is not None]
        return Projector(stored.schema, chosen, constants)

    def keeps_columns(self, schema_version: int) -> bool:
        """Whether no column of the segments of a schema version was dropped before the version that is read.

        Whoever gets such a segment whole could read the column's values.
        """
        stored = self.versions[schema_version]
        kept = {ids[0] for ids in self.table.column_ids}
        return all(ids[0] in kept for ids in stored.column_ids[: len(stored.data)])

    def _resolve(self, segment: TableColumns) -> SegmentColumns:
        held = {segment.column_ids[index][0]: index for index in range(len(segment.data))}
        count = len(self.table.data)
        source = tuple(
            held.get(self.table.column_ids[output.index][0]) if output.index < count else None
            for output in self.outputs
        )
        converts = any(
            # A column that was widened since is stored in its type of then.
            output.converts or segment.data.field(index).type != output.stored.type
            for output, index in zip(self.outputs, source, strict=True)
            if index is not None
        )
        whole = source == tuple(range(len(segment.data))) and not converts
        missing = [index is None for index in source]
        selected = not any(missing) and segment.data.metadata == self.schema.metadata
        selected = selected and all(
            output.field.equals(segment.data.field(index), check_metadata=True)
            for output, index in zip(self.outputs, source, strict=True)
            if index is not None
        )
        return SegmentColumns(
            segment.data,
            source,
            whole=whole,
            converts=converts,
            appendable=missing == sorted(missing),
            same=whole and selected,
            selected=selected,
        )


class OutputMapping:
    """How stored batches of one segment become the reply's; shares every value that is not converted."""

    def __init__(
        self,
        projection: PhysicalProjection,
        schema_version: int,
        partition: tuple[str, ...],
        columns: tuple[int, ...],
    ) -> None:
        """Finds out what is to be done, which is the same for every batch.

        Args:
            projection: the reply's columns.
            schema_version: which of the table's schemas the segment has.
            partition: the values of its partition columns.
            columns: which of the segment's columns the batches have, in order.
        """
        self._projection = projection
        self._partition = partition
        stored = projection.stored(schema_version)
        position = {index: number for number, index in enumerate(columns)}
        self._indices = [None if index is None else position[index] for index in stored.source]
        # By output: of a struct that is stored, the ids of its nodes, where the table has not all of them now.
        self._lost: list[tuple[int, ...]] = [()] * len(stored.source)
        if stored.converts:
            held = projection.versions[schema_version].column_ids
            for number, (output, index) in enumerate(
                zip(projection.outputs, stored.source, strict=True)
            ):
                known = projection.table.column_ids[output.index]
                if index is not None and not set(held[index]) <= set(known):
                    self._lost[number] = held[index]
        self._same = stored.same or (stored.selected and self._indices == list(range(len(columns))))
        self._selected = stored.selected
        self._names = None if stored.selected else _only_renamed(projection.schema, stored)

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows of a stored batch as the reply wants them.

        Raises:
            InvalidArgumentError: a value does not fit the type asked for.
        """
        if self._same:
            return batch
        if self._selected:
            return batch.select(self._indices)
        if self._names is not None:
            return batch.select(self._indices).rename_columns(self._names)
        projection = self._projection
        count = len(projection.table.data)
        arrays: list[pa.Array] = []
        for output, index, lost in zip(projection.outputs, self._indices, self._lost, strict=True):
            data_type = output.field.type
            if index is None:
                value = self._partition[output.index - count] if output.index >= count else None
                arrays.append(constant_column(data_type, value, batch.num_rows))
            else:
                column = batch.column(index)
                if lost:
                    known = frozenset(projection.table.column_ids[output.index])
                    column = _known_fields(column, lost, known)
                arrays.append(_converted(column, data_type, output.field.name))
        return pa.RecordBatch.from_arrays(arrays, schema=projection.schema)


def _only_renamed(reply: pa.Schema, stored: SegmentColumns) -> list[str] | None:
    """The names of the reply's columns, if these are stored columns with other names, and nothing else."""
    chosen = [stored.schema.field(index) for index in stored.source if index is not None]
    if len(chosen) != len(reply):
        return None
    fields = [field.with_name(name) for field, name in zip(chosen, reply.names, strict=True)]
    renamed = pa.schema(fields, stored.schema.metadata)
    return list(reply.names) if renamed.equals(reply, check_metadata=True) else None


def _known_fields(column: pa.Array, ids: tuple[int, ...], known: frozenset[int]) -> pa.Array:
    """A struct without the fields that the table has not any more, as after a restore.

    Args:
        column: the values.
        ids: of its nodes: its own, then those of its fields and what is in them.
        known: those that the table has.
    """
    if not pa.types.is_struct(column.type) or known.issuperset(ids):
        return column
    fields, children, start = [], [], 1
    for number in range(column.type.num_fields):
        field = column.type.field(number)
        mine = ids[start : start + odps_type_of_field(field).node_count]
        start += len(mine)
        if mine and mine[0] in known:
            child = _known_fields(column.field(number), mine, known)
            fields.append(field.with_type(child.type))
            children.append(child)
    if not fields:
        return column
    mask = column.is_null() if column.null_count else None
    return pa.StructArray.from_arrays(children, fields=fields, mask=mask)


def _converted(column: pa.Array, sent: pa.DataType, name: str) -> pa.Array:
    try:
        return convert_for_reply(column, sent, name)
    except UsageError as error:
        raise InvalidArgumentError(error.message) from error


def stored_columns(*projections: PhysicalProjection, schema_version: int) -> tuple[int, ...]:
    """The columns of segments of a schema version that any of the projections needs, in order."""
    sources = [projection.stored(schema_version).source for projection in projections]
    return tuple(sorted({index for source in sources for index in source if index is not None}))
