"""Writes the rows that a change brings, into segments of its own."""

from __future__ import annotations

import secrets
from collections.abc import Collection

import numpy as np
import pyarrow as pa

from fletching.catalog.write_stream_rows import StagedRows
from fletching.engine.changes.pinned_table import PinnedTable
from fletching.engine.context import EngineContext
from fletching.engine.writing.keyed_rows import KeyedRows, staged_rows_of
from fletching.engine.writing.partition_writer import PartitionWriter
from fletching.errors import InvalidArgumentError, UsageError
from fletching.protocol.types.required_values import RequiredValues

__all__ = ["RowWriter"]


class RowWriter:
    """New rows of a table on their way into segments. Not thread-safe."""

    def __init__(self, context: EngineContext, view: PinnedTable) -> None:
        """Begins without rows, in the columns that the table had when it was pinned.

        Args:
            context: the engine's.
            view: the table as it was pinned.
        """
        self._context = context
        self._table = view.table
        self._schema = view.schema
        self._required = RequiredValues(self._schema)
        self._checker = view.checker
        self._keys: list[int] = []
        if view.table.keyed:
            names = {name.casefold(): number for number, name in enumerate(self._schema.names)}
            self._keys = [names[name.casefold()] for name in view.table.primary_key]
        self._done: list[StagedRows] = []
        self._begin()

    def _begin(self) -> None:
        """Segments of their own for what comes next, and in a table with a key their keys."""
        context, table = self._context, self._table
        self._writer = PartitionWriter(
            context.create_object,
            key_prefix=f"tables/{table.id}/{context.store.writer}-{secrets.token_hex(6)}",
            schema=self._schema,
            schema_message=table.arrow_schema,
            schema_version=table.schema_version,
            # As many as the table has: a change may touch all of them.
            max_partitions=1 << 62,
        )
        self._keyed: KeyedRows | None = None
        if table.keyed:
            seed = context.key_seed(table.id)
            self._keyed = KeyedRows(table.primary_key, seed, self._writer.queue)

    def write(
        self,
        partition: str,
        batch: pa.RecordBatch,
        codec: str | None,
        *,
        new: Collection[int] = (),
    ) -> None:
        """Takes rows of one partition (the catalog's text).

        Args:
            partition: theirs.
            batch: the rows.
            codec: of the segments that they come from.
            new: the numbers of the columns whose values were not stored before. The others are kept as they
                are, also what an earlier release took and a column would not take now.

        Raises:
            InvalidArgumentError: a null where there may be none, or a value that its type lacks.
        """
        try:
            self._required.check(lambda number: batch.column(number) if number in new else None)
        except UsageError as error:
            raise InvalidArgumentError(error.message) from error
        if self._checker is not None:
            try:
                self._checker.check_batch(batch, self._schema)
            except InvalidArgumentError:
                # References that this server's key does not prove are kept as they are.
                self._checker = None
        if self._keyed is not None:
            if self._keyed.is_full:
                self._done += self._ended()
                self._begin()
                assert self._keyed is not None
            keys = [batch.column(number) for number in self._keys]
            none_go = np.zeros(batch.num_rows, dtype=bool)
            self._keyed.add(partition, keys, none_go, batch.get_total_buffer_size())
        self._writer.write_part(partition, batch, codec if codec in {"lz4", "zstd"} else None)

    @property
    def packs(self) -> frozenset[str] | None:
        """The packs that the rows refer to; None if that is not known, or there are no blobs."""
        return None if self._checker is None else self._checker.packs

    def finish(self) -> list[StagedRows]:
        """Makes the segments durable; they are in no catalog yet.

        Raises:
            StorageError: the store failed; call ``abort``.
        """
        self._done += self._ended()
        return self._done

    def _ended(self) -> list[StagedRows]:
        keyed = self._keyed
        if keyed is None:
            return [StagedRows(each) for each in self._writer.finish()]
        return staged_rows_of(keyed, self._writer.finish(keyed.run_maker(deletes=False)))

    def abort(self) -> None:
        """Drops everything."""
        done = [each.segment.key for each in self._done]
        self._context.delete_objects(dict.fromkeys([*done, *self._writer.abort()]))
