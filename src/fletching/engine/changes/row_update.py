"""Updates: rows that a predicate chooses get new values, worked out from what they were."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from pyroaring import BitMap

from fletching.catalog.segment_rows import encode_partition
from fletching.engine.changes.attempts import Draft
from fletching.engine.changes.expression_rows import Evaluator
from fletching.engine.changes.keyed_merge import KeyedMerge
from fletching.engine.changes.pinned_table import GatheredRows, Matches, PinnedTable
from fletching.engine.changes.row_writer import RowWriter
from fletching.engine.changes.rows_meanwhile import RowsMeanwhile
from fletching.engine.context import EngineContext
from fletching.engine.tables.partitions import canonical_value
from fletching.engine.tables.table_description import table_schema_of
from fletching.errors import ConflictError, InvalidArgumentError
from fletching.ipc.batch_sizes import bytes_of
from fletching.protocol.types.blob_type import contains_blob
from fletching.protocol.types.row_selection import take_rows

__all__ = ["RowUpdate", "by_partition"]


_GROUP_ROWS = 1 << 17
_GROUP_BYTES = 8 << 20
"""Chosen rows that are worked on at once, so that memory does not grow with the table."""


class RowUpdate:
    """An update bound to a table as it was pinned."""

    def __init__(
        self,
        context: EngineContext,
        view: PinnedTable,
        expressions: Mapping[str, str],
        values: pa.RecordBatch | None,
    ) -> None:
        """Binds the assignments.

        Raises:
            InvalidArgumentError: an unknown column, one that cannot be changed, an expression that
                is none, or a value that does not fit.
        """
        self._context = context
        self._view = view
        columns = view.scan_schema.columns
        # Arrays of one value each.
        self._plain: dict[int, pa.Array] = {}
        self._blobs = False
        self._computed: dict[int, str] = {}
        self._used: set[int] = set()
        given = list(expressions) + ([] if values is None else values.schema.names)
        if not given:
            raise InvalidArgumentError("an update needs a column to change")
        for name in given:
            if given.count(name) > 1:
                raise InvalidArgumentError(f"column {name} is assigned twice")
        if values is not None:
            for name, column in zip(values.schema.names, values.columns, strict=True):
                index = self._index(name)
                self._plain[index] = view.stored_value(column, index)
        known = {name.casefold(): name for name in columns.names}
        for name, text in expressions.items():
            from fletching.sql.queries.value_expressions import compile_expression

            index = self._index(name)
            compiled = compile_expression(text, known, table=view.table.name.name)
            self._computed[index] = compiled.duckdb
            self._used |= {columns.indices[each.casefold()] for each in compiled.columns}

    def _index(self, name: str) -> int:
        view = self._view
        columns = view.scan_schema.columns
        index = columns.indices.get(name.casefold())
        if index is None:
            raise InvalidArgumentError(f"table {view.table.name} has no column {name!r}")
        if view.table.keyed and name.casefold() in {
            each.casefold() for each in view.table.primary_key
        }:
            raise InvalidArgumentError(
                f"column {name} is part of the primary key; delete the row and append another"
            )
        if index in self._plain or index in self._computed:
            raise InvalidArgumentError(f"column {name} is assigned twice")
        self._blobs |= contains_blob(columns.field(index).type)
        return index

    def work(self, where: str) -> Draft:
        """Finds the rows and writes them anew.

        Raises:
            InvalidArgumentError: the predicate is none, or a value cannot be worked out or stored.
        """
        writer = RowWriter(self._context, self._view)
        try:
            return self._work(where, writer)
        except BaseException:
            writer.abort()
            raise

    def _work(self, where: str, writer: RowWriter) -> Draft:
        view = self._view
        columns = view.scan_schema.columns
        count = len(view.schema)
        condition = view.filter(where)
        assigned = {*self._plain, *self._computed}
        moved = any(index >= count for index in assigned)
        # Partition values come with the rows where an expression may ask for them.
        projection = view.projection(range(len(columns.names)))
        gathered: dict[int, GatheredRows] = defaultdict(GatheredRows)
        sources: dict[str, None] = {}
        total = 0
        declared = {each.name: each.type for each in table_schema_of(view.table).data_columns}
        targets = [
            (columns.field(index), declared.get(columns.names[index], ""))
            for index in self._computed
        ]
        with Evaluator(list(self._computed.values()), targets) as evaluate:
            for group in self._groups(view.chosen_rows(condition, projection)):
                for matches, batch in group:
                    index, rows = view.positions(matches)
                    segment = view.snapshot.segments[index]
                    gathered[segment.id].add(rows)
                    sources[segment.key] = None
                    total += batch.num_rows
                for batch in _joined([batch for _, batch in group]):
                    arrays = self._arrays(batch, evaluate)
                    made = pa.RecordBatch.from_arrays(arrays[:count], schema=view.schema)
                    codec = segment.codecs or None
                    if not moved:
                        writer.write(segment.partition, made, codec, new=assigned)
                        continue
                    for partition, chosen in by_partition(
                        view.table.partition_columns, arrays[count:]
                    ):
                        part = take_rows(made, pa.array(chosen))
                        writer.write(partition, part, codec, new=assigned)
        staged = writer.finish()
        gone = {number: rows.bitmap() for number, rows in gathered.items()}
        draft = Draft(
            deleted=gone,
            added=[each.segment for each in staged],
            updated=total,
            sources=list(sources),
            packs=writer.packs,
            new_packs=self._view.checker.packs
            if self._blobs and self._view.checker is not None
            else frozenset(),
        )
        if moved and view.table.keyed:
            merge = KeyedMerge.prepare(
                self._context, view.table.id, staged, version=view.table.version
            )
            self._check_free(merge, gone, staged)
            draft.meanwhile = RowsMeanwhile(view, None, merge, blind=False)
        return draft

    def _groups(
        self, result: Iterator[tuple[Matches, pa.RecordBatch]]
    ) -> Iterator[list[tuple[Matches, pa.RecordBatch]]]:
        """Chosen rows of many batches, as long as they may be written beside each other.

        A batch of the table may have few of them; to evaluate an expression costs some milliseconds
        however few rows there are, and what is written small is read slowly.
        """
        snapshot = self._view.snapshot
        group: list[tuple[Matches, pa.RecordBatch]] = []
        rows = size = 0
        alike: tuple[str, str] | None = None
        for matches, batch in result:
            segment = snapshot.segments[snapshot.batch_segment[matches.batch]]
            mine = (segment.partition, segment.codecs)
            bytes_here = bytes_of(batch)
            full = rows + batch.num_rows > _GROUP_ROWS or size + bytes_here > _GROUP_BYTES
            if group and (full or mine != alike):
                yield group
                group, rows, size = [], 0, 0
            alike = mine
            group.append((matches, batch))
            rows += batch.num_rows
            size += bytes_here
        if group:
            yield group

    def _arrays(
        self, batch: pa.RecordBatch, evaluate: Callable[[pa.RecordBatch], list[pa.Array]]
    ) -> list[pa.Array]:
        """The columns of the rows with their new values, all worked out from the old ones."""
        arrays = list(batch.columns)
        used = batch.select(sorted(self._used)) if self._used else batch.select([])
        for index, array in zip(
            self._computed, evaluate(used) if self._computed else [], strict=True
        ):
            arrays[index] = self._view.computed_value(array, index)
        for index, value in self._plain.items():
            single = pa.RecordBatch.from_arrays([value], names=["value"])
            again = pa.array(np.zeros(batch.num_rows, dtype=np.int64))
            arrays[index] = take_rows(single, again).column(0)
        return arrays

    def _check_free(
        self, merge: KeyedMerge, gone: Mapping[int, BitMap], staged: list[pa.Array]
    ) -> None:
        """Refuses rows that would come to stand beside another with their key."""
        taken = any(
            rows - gone.get(number, BitMap()) for number, rows in merge.replaced().items()
        ) or any(len(merge.absent[each.segment.key]) for each in staged)
        if taken:
            raise ConflictError(
                "the update would move a row into a partition that has a row with its key"
            )


def _joined(batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """One batch of several, where pyarrow can join their types; copies the rows."""
    if len(batches) == 1:
        return batches
    try:
        result: list[pa.RecordBatch] = pa.Table.from_batches(batches).combine_chunks().to_batches()
    except (pa.ArrowException, NotImplementedError):
        return batches
    return result


def by_partition(
    columns: Sequence[tuple[str, str]], arrays: Sequence[pa.Array]
) -> list[tuple[str, pa.Array]]:
    """(the catalog's text of the partition, rows) of rows by their partition values.

    Args:
        columns: names and types of the partition columns.
        arrays: their values.

    Raises:
        InvalidArgumentError: a value is null, or none of its type.
    """
    texts = []
    for (name, kind), array in zip(columns, arrays, strict=True):
        if array.null_count:
            raise InvalidArgumentError(f"partition column {name} would be null")
        encoded = array.cast(pa.string()).dictionary_encode()
        spelt = [canonical_value(name, kind, each) for each in encoded.dictionary.to_pylist()]
        texts.append(pa.array(spelt).take(encoded.indices).dictionary_encode())
    codes = np.stack([each.indices.to_numpy(zero_copy_only=False) for each in texts], axis=1)
    distinct, inverse = np.unique(codes, axis=0, return_inverse=True)
    result = []
    for number, row in enumerate(distinct.tolist()):
        values = [text.dictionary[code].as_py() for text, code in zip(texts, row, strict=True)]
        result.append((encode_partition(values), np.flatnonzero(inverse.reshape(-1) == number)))
    return result
