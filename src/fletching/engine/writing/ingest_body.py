"""`Body`: the batches of one TableWrite's body, validated, matched and routed into segments.

Knows the table's schema and the session's partitions, and nothing of sessions' states, offsets or
the catalog's transaction: those are `Ingest`'s.
"""

from __future__ import annotations

import dataclasses
import functools
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from typing_extensions import Buffer

from fletching import ipc
from fletching.catalog.segment_rows import encode_partition
from fletching.catalog.table_rows import TableRow
from fletching.catalog.write_stream_rows import NewSegment, StagedRows
from fletching.engine.context import EngineContext
from fletching.engine.tables.partitions import partition_fields
from fletching.engine.tables.schema_checks import read_arrow_schema
from fletching.engine.writing.body_checksum import BodyChecksum, BodyChecksums
from fletching.engine.writing.keyed_rows import KeyedRows, deletes_of, staged_rows_of
from fletching.engine.writing.matching import (
    InOrder,
    Match,
    MatchKind,
    dictionary_ids,
    is_aligned,
    match_schema,
    stored_array,
)
from fletching.engine.writing.partition_writer import PartitionWriter, group_rows, partition_rows
from fletching.engine.writing.write_sessions import bound_names
from fletching.engine.writing.write_streams import dynamic_columns
from fletching.engine.writing.write_targets import WriteTarget
from fletching.errors import (
    InvalidArgumentError,
    LimitExceededError,
    SchemaModifiedError,
    UsageError,
)
from fletching.ipc.batches import BatchDecoder
from fletching.ipc.constant_arrays import null_array
from fletching.ipc.metadata import MessageType, RecordBatchHeader
from fletching.ipc.projection import Projector
from fletching.protocol.messages.requests import AppendRows, WriteByPosition, WriteTable
from fletching.protocol.messages.vocabulary import OPERATION
from fletching.protocol.types.decoded_sizes import in_parts, plain_width
from fletching.protocol.types.required_values import RequiredValues

__all__ = ["Body", "CellChecker", "CellCheckers", "Written"]


class CellChecker(Protocol):
    """Checks cells that only other parts of the engine understand: BLOB references."""

    @property
    def packs(self) -> frozenset[str]:
        """Ids of the packs that the checked cells refer to."""

    def check_batch(self, batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
        """Checks a validated batch with the columns of ``schema``.

        Returns:
            The batch itself if it may be stored as it is, else the batch to store.
        """


CellCheckers = Callable[[TableRow, Any], CellChecker | None]
"""Makes the checker for a table and its Arrow schema; None if the table needs none."""


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """What a body became: its rows, and keys whose rows are to go, in its order."""

    staged: list[StagedRows]

    @property
    def segments(self) -> list[NewSegment]:
        """Its rows."""
        return [each.segment for each in self.staged if not each.deletes]

    @property
    def keys(self) -> list[str]:
        """Of all its objects."""
        return [each.segment.key for each in self.staged]


class Body:
    """The batches of one body on their way into segments.

    Attributes:
        writer: owns the segments; whoever made the body finishes, aborts or releases it.
    """

    def __init__(
        self,
        context: EngineContext,
        request: WriteTable | AppendRows,
        target: WriteTarget,
        schema_message: ipc.Message,
        cell_checker: CellCheckers | None,
    ) -> None:
        settings = context.settings
        table, session = target.table, target.session
        self._settings = settings
        self._limits = settings.write_limits
        self._columns = table.partition_columns
        self._bound = dict(session.partition_spec)
        self._dynamic = dynamic_columns(table, bound_names(session))
        self._dynamic_fields = partition_fields(self._dynamic)
        self._schema = read_arrow_schema(table.arrow_schema)
        self._decoder = BatchDecoder(
            schema_message, limits=self._limits, validate_values=settings.validate_values
        )
        self._match = self._matched(request, target)
        self._required = RequiredValues(self._schema)
        self._checker = None if cell_checker is None else cell_checker(table, self._schema)
        stored_ids = dictionary_ids(table.arrow_schema)
        self._projector: Projector | None = None
        if self._match.kind is MatchKind.PROJECT:
            self._projector = Projector(
                schema_message,
                [c for c in self._match.columns if c is not None],
                limits=self._limits,
            )
        fields = self._decoder.header.fields
        chosen = [fields[column] for column in self._match.columns if column is not None]
        ids = tuple(number for field in chosen for number in field.dictionary_ids)
        # As they are, messages can only be stored under the dictionary ids of the table's schema.
        self._as_is = (
            self._match.kind is not MatchKind.CONVERT
            and ids == stored_ids
            and self._decoder.header.endianness.name == "LITTLE"
        )
        self._ids = stored_ids
        self._dictionaries: dict[int, list[ipc.Message]] = {}
        self._checksums = BodyChecksums(schema_message)
        self._batches = 0
        self._empty_batches = 0
        self._static = (
            encode_partition(self._bound[name] for name, _ in self._columns)
            if not self._dynamic
            else None
        )
        prefix = f"tables/{table.id}/{context.store.writer}-{secrets.token_hex(6)}"

        def writer(key_prefix: str) -> PartitionWriter:
            return PartitionWriter(
                context.create_object,
                key_prefix=key_prefix,
                schema=self._schema,
                schema_message=table.arrow_schema,
                schema_version=table.schema_version,
                max_partitions=settings.max_write_partitions,
            )

        self._new_writer = writer
        self._prefix = prefix
        self.writer = writer(prefix)
        self._staged: list[StagedRows] = []
        self._keyed: KeyedRows | None = None
        self._keys: list[int] = []
        if table.keyed:
            names = {name.casefold(): number for number, name in enumerate(self._schema.names)}
            self._keys = [names[name.casefold()] for name in table.primary_key]
            self._new_keys = functools.partial(
                KeyedRows, table.primary_key, context.key_seed(table.id)
            )
            self._keyed = self._new_keys(self.writer.queue)
            self.deletes = writer(f"{prefix}-d")

    def _matched(self, request: WriteTable | AppendRows, target: WriteTarget) -> Match:
        try:
            return match_schema(
                self._decoder.schema,
                self._schema,
                self._dynamic_fields,
                operation_name=OPERATION if target.table.keyed else None,
                keys={name.casefold() for name in target.table.primary_key},
                by_position=isinstance(request, WriteByPosition),
                fixed={name.casefold() for name in self._bound},
            )
        except InvalidArgumentError as error:
            current = target.table.schema_version
            if request.schema_version is None or request.schema_version == current:
                raise
            raise SchemaModifiedError(
                f"{error.message} (the table's schema is at version {current}, the writer knew "
                f"{request.schema_version})",
                latest_schema_version=current,
            ) from error

    @property
    def checksum(self) -> BodyChecksum | None:
        """Of all messages with rows until now; None if one was not stored as it came."""
        return self._checksums.result()

    @property
    def packs(self) -> frozenset[str]:
        """Ids of the blob packs that stored rows refer to."""
        return frozenset() if self._checker is None else self._checker.packs

    def accept(self, message: ipc.Message) -> int:
        """Stores a dictionary or record batch message; returns its rows.

        Raises:
            WireError: the message is broken, hostile or above a limit.
            InvalidArgumentError: a value does not fit the table.
            StorageError: the store failed, or StorageFullError.
        """
        if message.type is MessageType.DICTIONARY_BATCH:
            self._decoder.decode(message)
            dictionary = message.dictionary_batch(self._limits)
            held = self._dictionaries.setdefault(dictionary.id, [])
            if not dictionary.is_delta:
                held.clear()
            held.append(message)
            self._check_dictionary_bytes()
            return 0
        batch = self._decoder.decode(message)
        if batch is None:
            return 0
        self._count(batch.num_rows)
        if batch.num_rows:
            self._store(message, batch)
        return int(batch.num_rows)

    def _check_dictionary_bytes(self) -> None:
        limit = self._limits.max_dictionary_bytes
        held = sum(len(m.body) for messages in self._dictionaries.values() for m in messages)
        if held > limit:
            raise LimitExceededError("the dictionaries are too large", actual=held, limit=limit)

    def _count(self, rows: int) -> None:
        self._batches += 1
        if not rows:
            self._empty_batches += 1
        for what, count, limit in (
            ("record batches", self._batches, self._settings.max_write_batches),
            ("empty record batches", self._empty_batches, self._settings.max_write_empty_batches),
        ):
            if count > limit:
                raise LimitExceededError(f"a body has too many {what}", actual=count, limit=limit)

    # --- the end ---

    def finish(self) -> Written:
        """Makes everything durable; it is in no catalog yet.

        Raises:
            StorageError: the store failed; call ``abort``.
        """
        if self._keyed is None:
            return Written([StagedRows(each) for each in self.writer.finish()])
        self._end_keyed(self._keyed)
        return Written(self._staged)

    def _end_keyed(self, keyed: KeyedRows) -> None:
        """Ends the segments of the rows until now, which takes no more of their keys."""
        self._staged += staged_rows_of(keyed, self.writer.finish(keyed.run_maker(deletes=False)))
        # Of one key one operation counts, so their order does not.
        deletes = self.deletes.finish(keyed.run_maker(deletes=True))
        self._staged += [StagedRows(each, deletes=True) for each in deletes]

    def release(self) -> None:
        """Gives up every object without touching the store: from now on they are the catalog's."""
        self._staged = []
        self.writer.release()
        if self._keyed is not None:
            self.deletes.release()

    def abort(self) -> list[str]:
        """Drops what is not durable; returns the keys of all, durable ones to be deleted."""
        keys = [each.segment.key for each in self._staged]
        keys += self.writer.abort()
        if self._keyed is not None:
            keys += self.deletes.abort()
        return list(dict.fromkeys(keys))

    # --- one batch ---

    def _store(self, message: ipc.Message, batch: pa.RecordBatch) -> None:
        if self._match.kind is not MatchKind.CONVERT:
            self._store_part(message, batch)
            return
        # What a conversion makes is bounded by parts: a few bytes can stand for very many.
        for part in in_parts(
            batch, at_most=self._limits.max_uncompressed_bytes, beside=self._made_bytes
        ):
            self._store_part(message, part)

    @functools.cached_property
    def _made_bytes(self) -> float:
        """What a conversion makes of each row at least: columns that are not taken as they are."""
        result = 0.0
        for number, source in enumerate(self._match.columns):
            field = self._schema.field(number)
            if source is None or self._decoder.schema.field(source).type != field.type:
                result += plain_width(field.type)
        return result

    def _store_part(self, message: ipc.Message, batch: pa.RecordBatch) -> None:
        if self._keyed is not None:
            if self._keyed.is_full:
                self._begin_keyed(self._keyed)
            self._store_keyed(self._keyed, message, batch)
            return
        self._check_required(batch)
        header = message.record_batch(self._limits)
        codec = None if header.compression is None else header.compression.value
        data = self._checked_cells(batch)
        groups = self._groups(batch)
        if data is None and self._fits_as_is(message, header, groups):
            self._store_as_is(groups[0][0], message, batch, codec)
            return
        self._checksums.give_up()
        if data is None:
            data = self._converted(batch)
        if len(groups) == 1:
            self.writer.write_batch(groups[0][0], data, codec)
            return
        for partition, rows in groups:
            self.writer.write_part(partition, partition_rows(data, rows), codec)

    def _fits_as_is(
        self,
        message: ipc.Message,
        header: RecordBatchHeader,
        groups: Sequence[tuple[str, pa.Array | None]],
    ) -> bool:
        return len(groups) == 1 and self._as_is and is_aligned(message, header)

    def _begin_keyed(self, keyed: KeyedRows) -> None:
        """Segments of their own for what comes next, so that memory does not grow with the body."""
        self._end_keyed(keyed)
        prefix = f"{self._prefix}-{len(self._staged)}"
        self.writer, self.deletes = self._new_writer(prefix), self._new_writer(f"{prefix}-d")
        self._keyed = self._new_keys(self.writer.queue)

    def _store_keyed(self, keyed: KeyedRows, message: ipc.Message, batch: pa.RecordBatch) -> None:
        """Stores the rows that are upserted, and apart from them the keys whose rows are to go."""
        match = self._match
        deletes = np.zeros(batch.num_rows, dtype=bool)
        if match.operation is not None:
            deletes = deletes_of(batch.column(match.operation))
        if match.missing and not deletes.all():
            name = self._schema.field(match.missing[0]).name
            raise InvalidArgumentError(f"the data lacks column {name}, which is not null")
        groups = self._groups(batch)
        self._add_keys(keyed, batch, groups, deletes)
        header = message.record_batch(self._limits)
        codec = None if header.compression is None else header.compression.value
        if (
            not deletes.any()
            and self._fits_as_is(message, header, groups)
            and self._checked_cells(batch) is None
        ):
            self._check_required(batch)
            self._store_as_is(groups[0][0], message, batch, codec)
            return
        self._checksums.give_up()
        data = self._converted(batch)
        for partition, rows in groups:
            indices = np.arange(batch.num_rows) if rows is None else np.asarray(rows)
            stays, goes = indices[~deletes[indices]], indices[deletes[indices]]
            if len(stays):
                whole = len(stays) == batch.num_rows
                written = data if whole else partition_rows(data, pa.array(stays))
                self._check_columns(written.column)
                if self._checker is not None:
                    written = self._checker.check_batch(written, self._schema)
                write = self.writer.write_batch if whole else self.writer.write_part
                write(partition, written, codec)
            if len(goes):
                gone = self._only_keys(partition_rows(data, pa.array(goes)))
                self.deletes.write_part(partition, gone, codec)

    def _add_keys(
        self,
        keyed: KeyedRows,
        batch: pa.RecordBatch,
        groups: Sequence[tuple[str, pa.Array | None]],
        deletes: NDArray[np.bool_],
    ) -> None:
        keys = []
        for number in self._keys:
            field, source = self._schema.field(number), self._match.columns[number]
            assert source is not None  # a key column is in every body
            column = batch.column(source)
            if column.type != field.type and not column.null_count:
                column = stored_array(column, field.type, field.name)
            keys.append(column)
        for partition, rows in groups:
            if rows is None:
                keyed.add(partition, keys, deletes, batch.get_total_buffer_size())
            else:
                chosen = [column.take(rows) for column in keys]
                size = sum(column.get_total_buffer_size() for column in chosen)
                keyed.add(partition, chosen, deletes[np.asarray(rows)], size)

    def _only_keys(self, data: pa.RecordBatch) -> pa.RecordBatch:
        """Rows of which only the key is kept: nothing else of them is looked at, now or later."""
        arrays = [
            column if number in self._keys else null_array(column.type, data.num_rows)
            for number, column in enumerate(data.columns)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _check_required(self, batch: pa.RecordBatch) -> None:
        def column(number: int) -> pa.Array:
            source = self._match.columns[number]
            return None if source is None else batch.column(source)

        self._check_columns(column)

    def _check_columns(self, column: Callable[[int], pa.Array]) -> None:
        try:
            self._required.check(column)
        except UsageError as error:
            raise InvalidArgumentError(error.message) from error

    def _checked_cells(self, batch: pa.RecordBatch) -> pa.RecordBatch | None:
        """The batch to store instead, if the cell check changed it; None to store what came."""
        if self._checker is None:
            return None
        data = self._converted(batch)
        checked = self._checker.check_batch(data, self._schema)
        return None if checked is data else checked

    def _converted(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The data columns in the table's own types; columns that fit are not copied."""
        arrays = []
        for number, source in enumerate(self._match.columns):
            field = self._schema.field(number)
            if source is None:
                arrays.append(null_array(field.type, batch.num_rows))
            else:
                arrays.append(stored_array(batch.column(source), field.type, field.name))
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _groups(self, batch: pa.RecordBatch) -> list[tuple[str, pa.Array | None]]:
        """(catalog's text of the partition, its rows or None for all)."""
        if self._static is not None:
            return [(self._static, None)]
        arrays = [batch.column(number) for number in self._match.partition_columns]
        groups = group_rows(self._dynamic, self._dynamic_fields, arrays)
        return [(self._partition(values), rows) for values, rows in groups]

    def _partition(self, dynamic: tuple[str, ...]) -> str:
        values = dict(zip((name for name, _ in self._dynamic), dynamic, strict=True))
        values |= self._bound
        return encode_partition(values[name] for name, _ in self._columns)

    def _store_as_is(
        self, partition: str, message: ipc.Message, batch: pa.RecordBatch, codec: str | None
    ) -> None:
        if self._projector is None:
            frame: list[Buffer] = message.frame()
            metadata_length, body_length = message.metadata_length, message.body_length
        else:
            projected = self._projector.project(message)
            frame = projected.frame()
            metadata_length, body_length = len(projected.prefix), projected.body_length
            self._checksums.give_up()
        checksum = self.writer.write_message(
            partition,
            frame,
            metadata_length=metadata_length,
            body_length=body_length,
            rows=batch.num_rows,
            codec=codec,
            columns=InOrder(batch, self._match.columns),
            dictionaries=[(id_, self._dictionaries.get(id_, ())) for id_ in self._ids],
        )
        self._checksums.add(metadata_length, body_length, batch.num_rows, checksum)
