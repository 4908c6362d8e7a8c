"""Partitions whose rows a change moves to another: that one comes, and those go, in the change's transaction."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from sqlalchemy import Connection

from fletching.catalog.partition_rows import add_partition, find_partitions, remove_partition
from fletching.catalog.segment_rows import encode_partition
from fletching.catalog.table_rows import TableRow
from fletching.engine.tables.partitions import full_values, spec_of
from fletching.errors import AlreadyExistsError, NoSuchPartitionError, RowsChangedError
from fletching.types import PartitionSpec

__all__ = ["PartitionMove"]


@dataclasses.dataclass(frozen=True, slots=True)
class PartitionMove:
    """Where rows go, and which partitions end with that.

    Attributes:
        into: the partition that the rows go to.
        is_new: whether it must not be there before.
        sources: the others, which end.
    """

    into: PartitionSpec
    is_new: bool
    sources: Sequence[PartitionSpec]

    def begin(self, connection: Connection, table: TableRow, now: float) -> None:
        """Makes the partition that the rows go to, in a transaction that holds the table's lock.

        Raises:
            AlreadyExistsError: it is there and must not be.
        """
        into = encode_partition(full_values(table.partition_columns, self.into))
        if not add_partition(connection, table.id, into, now) and self.is_new:
            raise AlreadyExistsError(f"partition {self.into} already exists")

    def end(self, connection: Connection, table: TableRow) -> None:
        """Ends the partitions that the rows came from, once the version's totals are known.

        Raises:
            NoSuchPartitionError: one of them is gone.
            RowsChangedError: rows came into one while the change was worked out.
        """
        columns = table.partition_columns
        wanted = [full_values(columns, source) for source in self.sources]
        there = {row.values: row for row in find_partitions(connection, table.id, wanted)}
        for values in wanted:
            if values not in there:
                raise NoSuchPartitionError(f"there is no partition {spec_of(columns, values)}")
            if there[values].rows:
                raise RowsChangedError(f"rows came into partition {spec_of(columns, values)}")
            remove_partition(connection, table.id, encode_partition(values))
