"""Finds the rows of a table that may have one of some keys, batch by batch.

Where the keys are the table's primary key, its key runs know where each is. Else every row is looked at; few of
a large table match, and most are told by a look at one byte, and not by a search.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fletching.catalog.table_rows import table_by_id
from fletching.engine.changes.key_columns import KeyColumns
from fletching.engine.changes.key_lookup import Located, Wanted, located
from fletching.engine.changes.key_values import key_numbers
from fletching.engine.changes.pinned_table import PinnedTable
from fletching.engine.context import EngineContext
from fletching.errors import NoSuchTableError

__all__ = ["NearRows", "near_by_key", "near_by_scan", "without_nulls"]

_TASK_BATCHES = 4
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


class NearRows(NamedTuple):
    """Rows of one batch whose keys may be among those that are looked for."""

    batch: int
    rows: NDArray[np.int64]
    """Their indices in the batch as stored."""
    columns: Callable[[], list[pa.Array]]
    """Gives the values of their keys."""
    numbers: NDArray[np.uint64]
    """Of their keys."""


def near_by_scan(
    view: PinnedTable,
    indices: Sequence[int],
    wanted: NDArray[np.uint64],
    seed: bytes,
    partitions: Collection[str] | None = None,
) -> Iterator[NearRows]:
    """Looks at all rows, or those of some partitions.

    Args:
        view: the table.
        indices: the columns of the keys; a row with a null in one has none.
        wanted: the numbers of the keys.
        seed: of the numbers.
        partitions: where the keys may be (the catalog's text); None for anywhere.
    """
    seen = np.zeros(_slot_count(len(wanted)), dtype=bool)
    seen[_slots(wanted, len(seen))] = True

    def look(batch: int, rows: pa.RecordBatch, shown: NDArray[np.bool_] | None) -> NearRows:
        columns, valid = list(rows.columns), None
        if any(column.null_count for column in columns):
            valid = np.flatnonzero(without_nulls(rows))
            columns = [column.take(pa.array(valid)) for column in columns]
        numbers = key_numbers(columns, seed)
        near = np.flatnonzero(seen.take(_slots(numbers, len(seen)).view(np.int64)))
        result = near if valid is None else valid[near]
        if shown is not None:
            near, result = near[shown[result]], result[shown[result]]

        def values() -> list[pa.Array]:
            return [column.take(pa.array(near)) for column in columns]

        return NearRows(batch, result, values, numbers[near])

    return view.stored(view.projection(indices), look, _TASK_BATCHES, partitions=partitions)


def near_by_key(
    context: EngineContext, view: PinnedTable, wanted: NDArray[np.uint64]
) -> Iterator[NearRows]:
    """Looks into the key runs of a table with a primary key.

    Args:
        context: the engine's.
        view: the table.
        wanted: the numbers of the keys, ascending.

    Raises:
        CorruptObjectError: a key run is damaged.
        NoSuchTableError: the table has been dropped.
    """
    snapshot = view.snapshot
    indices = {segment.id: index for index, segment in enumerate(snapshot.segments)}
    distinct = np.unique(wanted)
    by_partition = dict.fromkeys(
        (segment.partition for segment in snapshot.segments), Wanted.of(distinct)
    )
    with context.database.read(patient=True) as connection:
        table = table_by_id(connection, view.table.id)
        if table is None:
            raise NoSuchTableError("the table has been dropped")
        keys = KeyColumns(context.store, connection, table)
        hits = list(
            located(
                context.store,
                connection,
                table.id,
                list(snapshot.segments),
                by_partition,
                indexes=context.run_indexes,
            )
        )
    for hit in sorted(hits, key=lambda each: indices[each.segment.id]):
        yield from _by_batch(view, keys, indices[hit.segment.id], hit, distinct)


def _by_batch(
    view: PinnedTable, keys: KeyColumns, index: int, hit: Located, wanted: NDArray[np.uint64]
) -> Iterator[NearRows]:
    """The rows of one segment that are shown."""
    snapshot = view.snapshot
    order = np.argsort(hit.rows, kind="stable")
    rows, numbers = hit.rows[order].astype(np.int64), wanted[hit.indices[order]]
    first, starts = snapshot.batches_of(index)[0], view.batch_starts(index)
    owner = np.searchsorted(starts, rows, side="right") - 1
    for mine in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(owner)) + 1):
        if not len(mine):
            continue
        number = int(owner[mine[0]])
        shown = snapshot.mask(first + number)
        if shown is not None:
            mine = mine[shown[rows[mine] - starts[number]]]  # noqa: PLW2901 - those that are shown
        columns = functools.partial(keys.columns, hit.segment, rows[mine])
        yield NearRows(first + number, rows[mine] - starts[number], columns, numbers[mine])


def _slot_count(keys: int) -> int:
    """A power of two: some eighty slots for each key, as far as they stay in a core's own cache, then twenty."""
    bits = (keys * 16).bit_length()
    return 1 << min(max(bits, min(bits + 2, 19), 12), 24)


def _slots(numbers: NDArray[np.uint64], count: int) -> NDArray[np.uint64]:
    """For each key the slot that it falls into; neighbours are spread over all of them."""
    shift = np.uint64(65 - count.bit_length())
    return (numbers * _SPREAD) >> shift


def without_nulls(batch: pa.RecordBatch) -> NDArray[np.bool_]:
    """For each row of a batch whether all of its columns have a value."""
    valid = np.ones(batch.num_rows, dtype=bool)
    for column in batch.columns:
        if column.null_count:
            valid &= column.is_valid().to_numpy(zero_copy_only=False)
    return valid
