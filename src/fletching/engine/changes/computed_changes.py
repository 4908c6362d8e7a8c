"""Changes that a query works out: which rows go, which get new values, which come.

The query reads the table through `ComputedChanges.batches`, with two hidden columns that name each row; what
it gives comes back through `ComputedChanges.work`, ordered by these, so that each stored batch is read once
more for the columns that keep their values. Only assigned columns pass through the query: the others are
taken as they are stored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyroaring import BitMap

from fletching.catalog.deletion_rows import bitmap_of
from fletching.engine.changes.attempts import Draft
from fletching.engine.changes.keyed_merge import KeyedMerge
from fletching.engine.changes.pinned_table import Matches, PinnedTable
from fletching.engine.changes.row_update import by_partition
from fletching.engine.changes.row_writer import RowWriter
from fletching.engine.changes.rows_meanwhile import InsertedKeys, RowsMeanwhile
from fletching.engine.context import EngineContext
from fletching.engine.reading.row_filter import RowFilter
from fletching.errors import InvalidArgumentError, RowsChangedError
from fletching.protocol.types.blob_type import contains_blob
from fletching.protocol.types.row_selection import take_rows

if TYPE_CHECKING:
    from fletching.sql.predicates.predicate_compiler import Predicate

__all__ = ["ComputedChanges", "RowAction"]


class RowAction(Protocol):
    """What becomes of a row: see `fletching.sql.queries.row_changes.Action`."""

    @property
    def kind(self) -> str:
        """``update``, ``delete`` or ``insert``."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it gives values."""


class ComputedChanges:
    """A query's changes of a table as it was pinned. Not thread-safe."""

    def __init__(self, context: EngineContext, view: PinnedTable) -> None:
        self._context = context
        self.view = view
        self._indices = {row.id: index for index, row in enumerate(view.snapshot.segments)}

    # --- reading -----------------------------------------------------------------------------

    def batches(
        self, columns: Sequence[str], hidden: tuple[str, str], predicate: Predicate | None
    ) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Rows that a predicate of a scan may choose, with their segments and numbers behind them."""
        view = self.view
        names = view.scan_schema.columns
        indices = [names.indices[name.casefold()] for name in columns if name not in hidden]
        projection = view.projection(indices)
        chosen = None if predicate is None else RowFilter(predicate, view.scan_schema)
        fields = [names.field(index).remove_metadata() for index in indices]
        schema = pa.schema([*map(_plain, fields), *(pa.field(name, pa.int64()) for name in hidden)])

        def made() -> Iterator[pa.RecordBatch]:
            for matches, batch in view.chosen_rows(chosen, projection):
                index, rows = view.positions(matches)
                segment = np.full(len(rows), view.snapshot.segments[index].id, dtype=np.int64)
                arrays = [
                    column.storage if isinstance(column, pa.ExtensionArray) else column
                    for column in batch.columns
                ]
                arrays += [pa.array(segment), pa.array(rows.astype(np.int64))]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)

        return schema, made()

    # --- changing ----------------------------------------------------------------------------

    def work(
        self,
        batches: Iterator[pa.RecordBatch],
        actions: Sequence[RowAction],
        keys: Sequence[str] = (),
    ) -> Draft:
        """Finds out what goes and comes.

        Args:
            batches: of the query, ordered by their first two columns; behind the first three, for each
                action in turn, the values of its columns.
            actions: by number, from 1.
            keys: behind these comes for each of some columns what it was compared with: rows are inserted
                where no row of the table is equal in all of them.

        Raises:
            InvalidArgumentError: a value that cannot be stored, a column that cannot be changed, or two
                new values for one row.
        """
        writer = RowWriter(self._context, self.view)
        try:
            inserted = InsertedKeys(
                self.view,
                [self.view.scan_schema.columns.indices[name.casefold()] for name in keys],
                self._context.key_seed(self.view.table.id),
            )
            work = _Work(self.view, self._indices, writer, actions, inserted=inserted)
            return work.draft(self._context, batches)
        except BaseException:
            writer.abort()
            raise


class _Work:
    def __init__(
        self,
        view: PinnedTable,
        indices: Mapping[int, int],
        writer: RowWriter,
        actions: Sequence[RowAction],
        *,
        inserted: InsertedKeys,
    ) -> None:
        self._view = view
        self._indices = indices
        self._writer = writer
        self._actions = actions
        known = view.scan_schema.columns
        self._inserted = inserted
        # For each action which column of the query is for which of the table's.
        self._columns: list[dict[int, int]] = []
        self._gone: dict[int, BitMap] = defaultdict(BitMap)
        self._sources: dict[str, None] = {}
        self._updated = 0
        self._moves = self._blobs = False
        self._last: tuple[tuple[int, int], bool] | None = None
        first = 3
        keys = {name.casefold() for name in view.table.primary_key} if view.table.keyed else set()
        for action in actions:
            own = [known.indices[name.casefold()] for name in action.columns]
            self._columns.append(dict(zip(own, range(first, first + len(own)), strict=True)))
            first += len(own)
            for name in action.columns:
                index = known.indices[name.casefold()]
                if action.kind == "update" and name.casefold() in keys:
                    raise InvalidArgumentError(
                        f"column {name} is part of the primary key; delete the row and append another"
                    )
                self._blobs |= contains_blob(known.field(index).type)
                self._moves |= action.kind == "update" and index >= len(view.schema)
        self._width = first

    def draft(self, context: EngineContext, batches: Iterator[pa.RecordBatch]) -> Draft:
        inserts = any(action.kind == "insert" for action in self._actions)
        for batch in batches:
            self._take(batch)
        staged = self._writer.finish()
        draft = Draft(
            deleted=self._gone,
            added=[each.segment for each in staged],
            updated=self._updated,
            sources=list(self._sources),
            packs=self._writer.packs,
            new_packs=self._view.checker.packs
            if self._blobs and self._view.checker is not None
            else frozenset(),
        )
        merge: KeyedMerge | None = None
        if self._view.table.keyed and staged and (inserts or self._moves):
            table = self._view.table
            merge = KeyedMerge.prepare(context, table.id, staged, version=table.version)
            self._check_free(merge, staged)
        if inserts or merge is not None:
            # The query may have read this table in any way: whoever changed it by a look must be known.
            draft.meanwhile = RowsMeanwhile(self._view, self._check_came, merge, blind=True)
        return draft

    def _take(self, batch: pa.RecordBatch) -> None:
        numbers = batch.column(2).to_numpy(zero_copy_only=False)
        self._check_once(batch, numbers)
        for number in np.unique(numbers).tolist():
            action, columns = self._actions[int(number) - 1], self._columns[int(number) - 1]
            chosen = np.flatnonzero(numbers == number)
            rows = batch if len(chosen) == batch.num_rows else batch.take(pa.array(chosen))
            if action.kind == "insert":
                self._insert(rows, columns)
                continue
            segments = rows.column(0).to_numpy(zero_copy_only=False)
            indices = rows.column(1).to_numpy(zero_copy_only=False)
            for segment in np.unique(segments).tolist():
                self._gone[segment] |= bitmap_of(indices[segments == segment])
            if action.kind == "update":
                self._update(rows, segments, indices, columns)

    def _check_once(self, batch: pa.RecordBatch, numbers: NDArray[np.generic]) -> None:
        """Rows come in order, so that two decisions about one stand beside each other.

        Deleting a row twice is deleting it; two values for it, or a value and the end, are a mistake.
        """
        updates = np.array([False, *(action.kind == "update" for action in self._actions)])
        if not updates.any() or not batch.num_rows:
            return
        named = batch.column(0).is_valid().to_numpy(zero_copy_only=False)
        segments, indices = (
            batch.column(i).fill_null(-1).to_numpy(zero_copy_only=False) for i in range(2)
        )
        changed = updates[numbers]
        same = (np.diff(segments) == 0) & (np.diff(indices) == 0) & named[1:]
        again = bool((same & (changed[1:] | changed[:-1])).any())
        first = (int(segments[0]), int(indices[0]))
        if self._last is not None and self._last[0] == first and named[0]:
            again |= bool(changed[0]) or self._last[1]
        self._last = ((int(segments[-1]), int(indices[-1])), bool(changed[-1]))
        if again:
            raise InvalidArgumentError(
                "several rows of the source are for one row of the table; nothing was changed"
            )

    def _update(
        self,
        rows: pa.RecordBatch,
        segments: NDArray[np.int64],
        indices: NDArray[np.int64],
        columns: Mapping[int, int],
    ) -> None:
        """Writes rows anew: what is assigned from the query, the rest as it is stored."""
        view = self._view
        known = view.scan_schema.columns
        count = len(view.schema)
        projection = view.projection(range(len(known.names)))
        self._updated += rows.num_rows
        snapshot = view.snapshot
        for segment in np.unique(segments).tolist():
            index = self._indices[segment]
            row = snapshot.segments[index]
            self._sources[row.key] = None
            inside = np.flatnonzero(segments == segment)
            first, starts = snapshot.batches_of(index)[0], view.batch_starts(index)
            owner = np.searchsorted(starts, indices[inside], side="right") - 1
            for number in np.unique(owner).tolist():
                mine = inside[owner == number]
                matches = Matches(first + number, indices[mine] - starts[number])
                ((_, old),) = view.rows(iter([matches]), projection)
                new = rows.take(pa.array(mine))
                arrays = [
                    self._value(new, columns[at], at) if at in columns else old.column(at)
                    for at in range(len(known.names))
                ]
                self._write(arrays, count, row.partition, row.codecs or None, columns)

    def _write(
        self,
        arrays: list[pa.Array],
        count: int,
        partition: str | None,
        codec: str | None,
        new: Collection[int],
    ) -> None:
        made = pa.RecordBatch.from_arrays(arrays[:count], schema=self._view.schema)
        if partition is not None and not any(index >= count for index in new):
            self._writer.write(partition, made, codec, new=new)
            return
        columns = self._view.table.partition_columns
        if not columns:
            self._writer.write(_UNPARTITIONED, made, codec, new=new)
            return
        for result, chosen in by_partition(columns, arrays[count:]):
            self._writer.write(result, take_rows(made, pa.array(chosen)), codec, new=new)

    def _insert(self, rows: pa.RecordBatch, columns: Mapping[int, int]) -> None:
        self._inserted.add(rows.columns[self._width :])
        known = self._view.scan_schema.columns
        arrays = [
            self._value(rows, columns[at], at)
            if at in columns
            else pa.nulls(rows.num_rows, known.field(at).type)
            for at in range(len(known.names))
        ]
        # Of a column that is not named the new value is null, which it may be or not.
        self._write(arrays, len(self._view.schema), None, None, range(len(known.names)))

    def _value(self, rows: pa.RecordBatch, column: int, index: int) -> pa.Array:
        return self._view.computed_value(rows.column(column), index)

    def _check_free(self, merge: KeyedMerge, staged: Sequence[pa.Array]) -> None:
        """Refuses rows that would come to stand beside another with their key."""
        taken = any(
            rows - self._gone.get(number, BitMap()) for number, rows in merge.replaced().items()
        ) or any(len(merge.absent[each.segment.key]) for each in staged)
        if taken:
            keys = ", ".join(self._view.table.primary_key)
            raise InvalidArgumentError(
                f"the change would put a row beside another with its primary key ({keys});"
                " nothing was changed"
            )

    def _check_came(self, came: PinnedTable) -> None:
        if self._inserted.among(came):
            raise RowsChangedError("rows came that may be equal to rows that are inserted")


_UNPARTITIONED = "[]"


def _plain(field: pa.Field) -> pa.Field:
    """A column as the query sees it: extension types as what they are stored as."""
    kind = field.type
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    return pa.field(field.name, kind)
