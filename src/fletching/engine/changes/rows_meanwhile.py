"""What came into a table while a change was worked out.

A change that looks for rows by their values read a version, and commits into a later one. Whoever would begin
anew whenever rows came would never get done beside a writer that appends all the time; so the rows that came
are looked at, most of them before the change's transaction and the last ones in it, and only those that the
change would have had to know make it begin anew.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sqlalchemy import Connection

from fletching.catalog.database import Database
from fletching.catalog.segment_rows import SegmentRow, visible_segments
from fletching.catalog.table_rows import TableRow, table_by_id
from fletching.catalog.version_rows import versions_between
from fletching.engine.changes.change_conditions import check_nothing_came
from fletching.engine.changes.key_values import key_numbers
from fletching.engine.changes.keyed_merge import KeyedMerge
from fletching.engine.changes.pinned_table import PinnedTable
from fletching.engine.reading.snapshot import Snapshot
from fletching.errors import RowsChangedError
from fletching.protocol.types.row_selection import plain_values

__all__ = ["Check", "InsertedKeys", "RowsMeanwhile"]

_FEW_SEGMENTS, _FEW_ROWS = 64, 1 << 16
"""How much that came meanwhile is looked at with the table locked: some milliseconds."""

_MANY_SEGMENTS, _MANY_ROWS = 1 << 12, 1 << 22
"""How much is looked at before: a change of some seconds beside a writer that commits all the time."""

_LOOKS = 4

_BLIND = frozenset({"append", "upsert"})
"""Operations that look at nothing but keys: they may as well have come after the change."""

Check: TypeAlias = Callable[[PinnedTable], None]
"""Raises `RowsChangedError` if a change would have had to know some of the rows that came."""


class RowsMeanwhile:
    """What a change has seen of what came after the version that it read. Not thread-safe."""

    def __init__(
        self, view: PinnedTable, check: Check | None, merge: KeyedMerge | None, *, blind: bool
    ) -> None:
        """Has seen nothing yet.

        Args:
            view: what the change read.
            check: looks at rows that came; None where their keys are all that counts.
            merge: what the change brings by key, which rows that came must not have; None without keys.
            blind: whether the rows may only be of those who wrote without a look at the table.
        """
        self._view = view
        self._check = check
        self._merge = merge
        self._blind = blind
        self._seen = view.table.version

    def look(self, database: Database) -> None:
        """Looks at what came, without a lock, until little comes while it looks.

        Raises:
            RowsChangedError: the change has to begin anew.
        """
        for _ in range(_LOOKS):
            with database.read() as connection:
                table = table_by_id(connection, self._view.table.id)
                if table is None or not self._changed(table):
                    return
                if self._looked(connection, table, _MANY_SEGMENTS, _MANY_ROWS) < _FEW_SEGMENTS // 4:
                    return

    def recheck(self, connection: Connection, table: TableRow) -> None:
        """Looks at what came since, in the change's transaction, with the table locked.

        Raises:
            RowsChangedError: the change has to begin anew, or it would take long to find out.
        """
        if self._changed(table):
            self._looked(connection, table, _FEW_SEGMENTS, _FEW_ROWS)

    def _changed(self, table: TableRow) -> bool:
        # With other columns the rows cannot be read as the change's; its transaction refuses them by itself.
        return (
            table.version != self._seen and table.schema_version == self._view.table.schema_version
        )

    def _looked(self, connection: Connection, table: TableRow, segments: int, rows: int) -> int:
        """Looks at what came after the last look; returns how many segments that were."""
        view, count = self._view, 0
        try:
            check_nothing_came(connection, table, self._seen)
        except RowsChangedError:
            came = self._few(connection, table, segments, rows)
            if came is None:
                raise
            if self._check is not None:
                snapshot = Snapshot.of(came)
                self._check(dataclasses.replace(view, table=table, snapshot=snapshot))
            if self._merge is not None:
                self._merge.check_free(connection, table, self._seen)
            count = len(came)
        self._seen = table.version
        return count

    def _few(
        self, connection: Connection, table: TableRow, segments: int, rows: int
    ) -> list[SegmentRow] | None:
        """The segments that came; None if they are many, if old ones came back, or if nobody knows.

        Those that upkeep wrote are among them, as it may have put what came beside what was there.
        """
        between = versions_between(connection, table.id, self._seen, table.version)
        brought = {
            row.operation
            for row in between
            if row.data_change and (row.rows_inserted or row.rows_updated)
        }
        known = len(between) == table.version - self._seen
        if not known or "restore" in brought or (self._blind and not brought <= _BLIND):
            return None
        came = visible_segments(connection, table.id, table.version, after=self._seen)
        few = len(came) <= segments and sum(row.rows for row in came) <= rows
        return came if few else None


class InsertedKeys:
    """Values of some columns of the rows that a change inserts because the table has none that is equal.

    What is kept of them is a number for each row. Equal values have equal numbers; the other way round it
    need not be so, which makes a change begin anew that could have been committed.
    """

    def __init__(self, view: PinnedTable, indices: Sequence[int], seed: bytes) -> None:
        """Of no rows yet.

        Args:
            view: the table as the change read it.
            indices: the columns, data columns first, then partition columns.
            seed: 16 secret bytes, the table's.
        """
        self._view = view
        self._indices = tuple(indices)
        self._seed = seed
        self._parts: list[NDArray[np.uint64]] = []
        self._usable: tuple[int, ...] | None = None
        self._any = False

    def add(self, columns: Sequence[pa.Array]) -> None:
        """Rows that are inserted: the values that the table's columns were compared with."""
        if not len(columns) or not len(columns[0]):
            self._any |= not len(columns)
            return
        self._any = True
        if self._usable is None:
            known = self._view.scan_schema.columns
            self._usable = tuple(
                number
                for number, (index, column) in enumerate(zip(self._indices, columns, strict=True))
                if _kind(column.type) and _kind(column.type) == _kind(known.field(index).type)
            )
        if self._usable:
            self._parts.append(_numbers([columns[number] for number in self._usable], self._seed))

    def among(self, came: PinnedTable) -> bool:
        """Whether a row that came may be equal to one that is inserted."""
        if not self._any:
            return False
        if not self._usable:
            return True
        wanted = np.concatenate(self._parts)
        projection = came.projection([self._indices[number] for number in self._usable])
        return any(
            bool(np.isin(_numbers(batch.columns, self._seed), wanted).any())
            for _, batch in came.rows(came.matches(None), projection)
        )


def _kind(data_type: pa.DataType) -> str:
    """How values compare; empty where it is not simply by their bytes or as whole numbers."""
    types = pa.types
    if types.is_dictionary(data_type):
        data_type = data_type.value_type
    if types.is_integer(data_type):
        return "integer"
    if types.is_string(data_type) or types.is_large_string(data_type):
        return "text"
    return "date" if types.is_date32(data_type) else ""


def _numbers(columns: Sequence[pa.Array], seed: bytes) -> NDArray[np.uint64]:
    """The numbers of the rows without nulls: a null is equal to nothing."""
    valid = np.ones(len(columns[0]), dtype=bool)
    for column in columns:
        valid &= column.is_valid().to_numpy(zero_copy_only=False)
    chosen = pa.array(np.flatnonzero(valid))
    result = []
    for column in columns:
        taken = column.take(chosen)
        if pa.types.is_dictionary(taken.type):
            taken = plain_values(taken)
        # Whether blanks at the end count depends on the types that were compared.
        result.append(pc.utf8_rtrim(taken, " ") if _kind(taken.type) == "text" else taken)
    return key_numbers(result, seed)
