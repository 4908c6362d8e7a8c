"""The keys of one TableWrite into a table with a primary key: which of its rows count, and their runs.

Rows come with an operation each: ``U`` puts a row in the place of the one with its key, ``D`` takes
that row away. The last operation on a key wins. Rows of ``U`` are stored like any other, those that
do not count among them; rows of ``D`` go into objects of their own, which never become segments.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyroaring import BitMap

from fletching.catalog.deletion_rows import bitmap_of
from fletching.catalog.write_stream_rows import NewSegment, StagedRows
from fletching.engine.changes.key_values import ascend, is_exact, key_numbers, last_indices
from fletching.engine.changes.run_encoding import AscendingKeys, encode_run
from fletching.errors import InvalidArgumentError
from fletching.objects.write_behind import WriteBehindQueue
from fletching.protocol.messages.vocabulary import DELETE_CODE, OPERATION, UPSERT_CODE
from fletching.protocol.types.row_selection import plain_values

__all__ = [
    "KEYS_AT_ONCE",
    "KEY_BYTES_AT_ONCE",
    "KeyedRows",
    "deletes_of",
    "staged_rows_of",
]

KEYS_AT_ONCE = 1 << 21
"""Of so many rows the keys are held in memory before their segments are ended: some 100 MB."""

KEY_BYTES_AT_ONCE = 64 << 20
"""Or of so many bytes of keys that are texts or the like."""


def deletes_of(column: pa.Array) -> NDArray[np.bool_]:
    """For each row whether its operation is a delete.

    Raises:
        InvalidArgumentError: an operation that is neither ``U`` nor ``D``.
    """
    if not pa.types.is_integer(column.type):
        raise InvalidArgumentError(
            f"column {OPERATION} is {column.type}; expected int8: 85 to upsert, 68 to delete"
        )
    # Null means upsert, and so does 1, which some clients send.
    values = column.fill_null(UPSERT_CODE).to_numpy(zero_copy_only=False)
    deletes = values == DELETE_CODE
    wrong = ~deletes & (values != UPSERT_CODE) & (values != 1)
    if wrong.any():
        raise InvalidArgumentError(
            f"column {OPERATION} has {int(values[wrong][0])}; expected 85 to upsert or 68 to delete"
        )
    return np.asarray(deletes)


class _Partition:
    def __init__(self) -> None:
        # Until a key does not ascend, or has another operation than those before it.
        self.ascending: AscendingKeys | None = AscendingKeys()
        self.all_go = False
        self.columns: list[list[pa.Array]] = []
        self.numbers: list[NDArray[np.uint64]] = []
        self.deletes: list[NDArray[np.bool_]] = []
        self.stored: list[int] = []  # rows of either operation
        self.winners: list[_Winners] = []

    def add_mixed(
        self, columns: Sequence[pa.Array], deletes: NDArray[np.bool_], seed: bytes
    ) -> None:
        """Takes keys whose numbers are not exact, with copies of their values.

        Views of the message would have all of it, and its other columns, live as long.
        """
        self.numbers.append(key_numbers(columns, seed))
        self.columns.append([_copied(column) for column in columns])
        self.deletes.append(deletes)


class _Winners(NamedTuple):
    """The rows of one operation that have the last word on their keys, ascending by number."""

    numbers: NDArray[np.uint64]
    rows: NDArray[np.int64] | None
    """Counted among the rows with the operation; None where every row counts and they ascend already."""


class KeyedRows:
    """Collects the keys of a body, per partition, in the order of its rows. Not thread-safe.

    Holds the keys in memory until they end: eight bytes for each, and their values if the numbers are not
    exact; less where they are exact and ascend, as those of rows that are counted do.
    """

    def __init__(
        self, names: Sequence[str], seed: bytes, queue: WriteBehindQueue | None = None
    ) -> None:
        """Begins without rows.

        Args:
            names: of the key columns, for errors.
            seed: of the table's key numbers.
            queue: mixes texts and the like while the caller goes on; whoever drops it gives up the keys,
                too. Without it they are mixed at once.
        """
        self._names = names
        self._seed = seed
        self._queue = queue
        self._partitions: dict[str, _Partition] = {}
        self._finished = False
        self.count = 0
        """How many rows there are."""
        self.value_bytes = 0
        """Bytes of their keys' values, as far as they are held."""

    @property
    def is_full(self) -> bool:
        """Whether their segments should be ended before more rows come."""
        return self.count >= KEYS_AT_ONCE or self.value_bytes >= KEY_BYTES_AT_ONCE

    def add(
        self,
        partition: str,
        columns: Sequence[pa.Array],
        deletes: NDArray[np.bool_],
        message_bytes: int = 0,
    ) -> None:
        """Takes the keys of some rows, all of one partition.

        Args:
            partition: the catalog's text.
            columns: of the keys.
            deletes: for each row whether its key's row goes.
            message_bytes: of the memory that the columns are in, and which they keep while they wait.

        Raises:
            InvalidArgumentError: a key is null.
        """
        for name, column in zip(self._names, columns, strict=True):
            if column.null_count:
                raise InvalidArgumentError(
                    f"column {name} has null in the data and is part of the primary key"
                )
        result = self._partitions.setdefault(partition, _Partition())
        self.count += len(deletes)
        if not is_exact([column.type for column in columns]):
            result.ascending = None
            self.value_bytes += sum(map(_size_of, columns))
            task = functools.partial(result.add_mixed, columns, deletes, self._seed)
            if self._queue is None:
                task()
            else:
                self._queue.run(task, message_bytes)
            return
        numbers = key_numbers(columns, self._seed)
        ascending = result.ascending
        if ascending is not None:
            some_go = bool(deletes.any())
            if not ascending.count:
                result.all_go = some_go
            alike = some_go == result.all_go and (not some_go or bool(deletes.all()))
            if alike and ascending.add(numbers):
                return
            result.numbers = [ascending.numbers()]
            result.deletes = [np.full(ascending.count, result.all_go)]
            result.ascending = None
        # Of their own: views of the message would have all of it, and its other columns, live as long.
        result.numbers.append(numbers.copy())
        result.deletes.append(deletes)

    def finish(self) -> None:
        """Finds out which rows count: the last of each key; once."""
        if self._finished:
            return
        self._finished = True
        if self._queue is not None:
            self._queue.flush()
        for each in self._partitions.values():
            if each.ascending is not None:
                each.stored = [each.ascending.count, 0]
                if each.all_go:
                    each.stored.reverse()
                continue
            numbers, deletes = np.concatenate(each.numbers), np.concatenate(each.deletes)
            each.numbers, each.deletes = [], []
            parts, each.columns = each.columns, []
            some_go = bool(deletes.any())
            if not some_go and ascend(numbers):
                each.stored = [len(numbers), 0]
                each.winners = [_Winners(numbers, None), _Winners(numbers[:0], None)]
                continue

            def chosen(
                rows: NDArray[np.int64], parts: Sequence[Sequence[pa.Array]] = parts
            ) -> list[pa.Array]:
                columns = [_joined(column) for column in zip(*parts, strict=True)]
                return [column.take(pa.array(rows)) for column in columns]

            last, ordered = last_indices(numbers, chosen if parts else None)
            if not some_go:
                none = last[:0]
                each.stored = [len(numbers), 0]
                each.winners = [_Winners(ordered, last), _Winners(ordered[:0], none)]
                continue
            for operation in (False, True):
                mine = deletes == operation
                rows = last[mine[last]]
                each.stored.append(int(mine.sum()))
                each.winners.append(_Winners(numbers[rows], (np.cumsum(mine) - 1)[rows]))

    def run_maker(self, *, deletes: bool) -> Callable[[str, int, int], bytearray]:
        """Ends the keys, if they are not yet; makes runs of the rows of one operation."""
        self.finish()
        return functools.partial(self.run, deletes=deletes)

    def run(self, partition: str, start: int, end: int, *, deletes: bool) -> bytearray:
        """The key run of the rows from ``start`` to ``end`` that were stored with one operation."""
        known = self._partitions[partition]
        if known.ascending is not None:
            if not start and end == known.ascending.count:
                return known.ascending.run()
            return encode_run(known.ascending.numbers()[start:end])
        numbers, rows = known.winners[deletes]
        if rows is None:
            return encode_run(numbers[start:end])
        if start or end < known.stored[deletes]:
            mine = (rows >= start) & (rows < end)
            numbers, rows = numbers[mine], rows[mine]
        return encode_run(numbers, (rows - start).astype(np.uint32))

    def superseded(self, partition: str, start: int, end: int) -> BitMap:
        """Which of the stored rows from ``start`` to ``end``, counted from it, do not count."""
        result = self._partitions[partition]
        if result.ascending is not None:
            return BitMap()
        _, rows = result.winners[False]
        if rows is None or len(rows) == result.stored[False]:
            return BitMap()
        rows = rows[(rows >= start) & (rows < end)]
        if len(rows) == end - start:
            return BitMap()
        gone = np.ones(end - start, dtype=bool)
        gone[rows - start] = False
        return bitmap_of(np.flatnonzero(gone))


def staged_rows_of(keyed: KeyedRows, segments: Sequence[NewSegment]) -> list[StagedRows]:
    """Segments of rows whose keys have ended, in row order per partition, with what they say of them."""
    ends: dict[str, int] = {}
    result = []
    for segment in segments:
        start = ends.get(segment.partition, 0)
        ends[segment.partition] = start + segment.rows
        rows = keyed.superseded(segment.partition, start, start + segment.rows)
        result.append(StagedRows(segment, superseded=rows))
    return result


def _copied(column: pa.Array) -> pa.Array:
    return pa.concat_arrays([column.slice(0, 1), column.slice(1)])


def _size_of(column: pa.Array) -> int:
    """Of a dictionary's values, which columns share, nothing."""
    plain = column.indices if pa.types.is_dictionary(column.type) else column
    return int(plain.nbytes)


def _joined(parts: Sequence[pa.Array]) -> pa.Array:
    if len(parts) == 1:
        return parts[0]
    plain = [plain_values(part) for part in parts]
    return pa.concat_arrays(plain)
