"""Partitions whose lifecycle is over."""

from __future__ import annotations

from sqlalchemy import Connection

from fletching.catalog.partition_rows import find_partitions, unmodified_partitions
from fletching.catalog.segment_rows import encode_partition
from fletching.catalog.table_rows import TableRow
from fletching.sql.statements.partition_lifecycles import KEPT_PARTITIONS, MAX_KEPT, kept_partitions

__all__ = ["expired_partitions"]


def expired_partitions(
    connection: Connection, table: TableRow, *, before: float, limit: int
) -> list[str]:
    """Partitions (the catalog's text) of a table not modified since a moment, without those that stay."""
    kept = kept_partitions(table.properties.get(KEPT_PARTITIONS))
    stay = {
        encode_partition(row.values)
        for row in find_partitions(connection, table.id, [*kept])
        if kept[row.values] == row.created_at
    }
    old = unmodified_partitions(connection, table.id, before=before, limit=limit + MAX_KEPT)
    return [partition for partition in old if partition not in stay][:limit]
