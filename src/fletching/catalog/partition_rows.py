"""Partitions of a table, with the totals of what is visible in each."""

from __future__ import annotations

import dataclasses
from typing import Any

from sqlalchemy import Connection, delete, select, update

from fletching.catalog.database import insert_unless_there
from fletching.catalog.schema import partitions
from fletching.catalog.segment_rows import decode_partition, encode_partition

__all__ = [
    "PartitionRow",
    "add_partition",
    "change_totals",
    "find_partition",
    "list_partitions",
    "remove_partition",
]


@dataclasses.dataclass(frozen=True, slots=True)
class PartitionRow:
    """A row of ``partitions``."""

    values: tuple[str, ...]
    """In the order of the table's partition columns."""
    rows: int
    bytes: int
    created_at: float
    modified_at: float


def _row(values: Any) -> PartitionRow:
    return PartitionRow(
        decode_partition(values.partition),
        values.rows,
        values.bytes,
        values.created_at,
        values.modified_at,
    )


def find_partition(
    connection: Connection, table_id: str, values: tuple[str, ...]
) -> PartitionRow | None:
    """Looks a partition up by all its values; None if there is none."""
    row = connection.execute(
        select(partitions).where(
            partitions.c.table_id == table_id,
            partitions.c.partition == encode_partition(values),
        )
    ).first()
    return None if row is None else _row(row)


def add_partition(connection: Connection, table_id: str, partition: str, now: float) -> bool:
    """Adds an empty partition (the catalog's text) of a locked table; says whether it was new."""
    return insert_unless_there(
        connection,
        partitions,
        table_id=table_id,
        partition=partition,
        rows=0,
        bytes=0,
        created_at=now,
        modified_at=now,
    )


def change_totals(
    connection: Connection, table_id: str, partition: str, *, rows: int, length: int, now: float
) -> None:
    """Adds to a partition's totals; negative amounts take away."""
    connection.execute(
        update(partitions)
        .where(partitions.c.table_id == table_id, partitions.c.partition == partition)
        .values(rows=partitions.c.rows + rows, bytes=partitions.c.bytes + length, modified_at=now)
    )


def remove_partition(connection: Connection, table_id: str, partition: str) -> None:
    """Forgets a partition of a locked table; its segments are the caller's business."""
    connection.execute(
        delete(partitions).where(
            partitions.c.table_id == table_id, partitions.c.partition == partition
        )
    )


def list_partitions(connection: Connection, table_id: str) -> list[PartitionRow]:
    """All partitions of a table in the order of their values.

    JSON text does not sort like the values in it, so the order is made here.
    """
    rows = connection.execute(select(partitions).where(partitions.c.table_id == table_id))
    return sorted((_row(row) for row in rows), key=lambda row: row.values)
