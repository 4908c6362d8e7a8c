"""The keys of one TableWrite into a table with a primary key: which of its rows count, and their runs.

Rows come with an operation each: ``U`` puts a row in the place of the one with its key, ``D`` takes
that row away. The last operation on a key wins. Rows of ``U`` are stored like any other, those that
do not count among them; rows of ``D`` go into objects of their own, which never become segments.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyroaring import BitMap

from fletching.engine.changes.key_runs import encode_run
from fletching.engine.changes.key_values import is_exact, key_numbers, last_of_key
from fletching.errors import InvalidArgumentError

__all__ = ["OPERATION", "KeyedRows", "deletes_of"]

OPERATION = "__operation"
"""The system column that says what a row of the body is for."""

_UPSERT = 85  # "U"
_DELETE = 68  # "D"


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
    values = column.fill_null(_UPSERT).to_numpy(zero_copy_only=False)
    deletes = values == _DELETE
    wrong = ~deletes & (values != _UPSERT) & (values != 1)
    if wrong.any():
        raise InvalidArgumentError(
            f"column {OPERATION} has {int(values[wrong][0])}; expected 85 to upsert or 68 to delete"
        )
    return np.asarray(deletes)


class _Partition:
    def __init__(self) -> None:
        self.columns: list[list[pa.Array]] = []
        self.deletes: list[NDArray[np.bool_]] = []
        self.rows: NDArray[np.uint64] | None = None
        self.counts: NDArray[np.bool_] | None = None
        self.is_delete: NDArray[np.bool_] | None = None


class KeyedRows:
    """Collects the keys of a body, per partition, in the order of its rows. Not thread-safe.

    Holds the key columns of the body in memory until it ends.
    """

    def __init__(self, names: Sequence[str], seed: bytes) -> None:
        """Begins without rows.

        Args:
            names: of the key columns, for errors.
            seed: of the table's key numbers.
        """
        self._names = names
        self._seed = seed
        self._partitions: dict[str, _Partition] = {}

    def add(self, partition: str, columns: Sequence[pa.Array], deletes: NDArray[np.bool_]) -> None:
        """Takes the keys of some rows, all of one partition.

        Raises:
            InvalidArgumentError: a key is null.
        """
        for name, column in zip(self._names, columns, strict=True):
            if column.null_count:
                raise InvalidArgumentError(
                    f"column {name} has null in the data and is part of the primary key"
                )
        found = self._partitions.setdefault(partition, _Partition())
        found.columns.append(list(columns))
        found.deletes.append(deletes)

    def finish(self) -> None:
        """Finds out which rows count: the last of each key."""
        for each in self._partitions.values():
            columns = [
                _joined([part[number] for part in each.columns])
                for number in range(len(self._names))
            ]
            each.columns = []
            each.is_delete = np.concatenate(each.deletes)
            each.rows = key_numbers(columns, self._seed)
            exact = is_exact([column.type for column in columns])

            def chosen(
                rows: NDArray[np.int64], columns: Sequence[pa.Array] = columns
            ) -> list[pa.Array]:
                return [column.take(pa.array(rows)) for column in columns]

            each.counts = last_of_key(each.rows, None if exact else chosen)

    def run(self, partition: str, start: int, end: int, *, deletes: bool) -> bytearray:
        """The key run of the rows from ``start`` to ``end`` that were stored with one operation."""
        numbers, counts = self._stored(partition, deletes=deletes)
        rows = np.flatnonzero(counts[start:end])
        return encode_run(numbers[start:end][rows], rows.astype(np.uint32))

    def superseded(self, partition: str, start: int, end: int) -> BitMap:
        """Which of the stored rows from ``start`` to ``end``, counted from it, do not count."""
        _, counts = self._stored(partition, deletes=False)
        return BitMap(np.flatnonzero(~counts[start:end]).astype(np.uint32))

    def _stored(
        self, partition: str, *, deletes: bool
    ) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        each = self._partitions[partition]
        assert each.rows is not None
        assert each.counts is not None
        assert each.is_delete is not None
        mine = each.is_delete == deletes
        return each.rows[mine], each.counts[mine]


def _joined(parts: list[pa.Array]) -> pa.Array:
    if len(parts) == 1:
        return parts[0]
    plain = [
        part.dictionary_decode() if pa.types.is_dictionary(part.type) else part for part in parts
    ]
    return pa.concat_arrays(plain)
