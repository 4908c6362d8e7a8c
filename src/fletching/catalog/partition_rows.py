"""Partitions of a table, with the totals of what is visible in each."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from typing import NamedTuple

from sqlalchemy import Connection, CursorResult, bindparam, delete, select, union, update
from sqlalchemy.dialects import postgresql, sqlite

from fletching.catalog.database import insert_unless_there
from fletching.catalog.parameter_chunks import chunks
from fletching.catalog.schema import partitions, segments, tables
from fletching.catalog.segment_rows import decode_partition, encode_partition
from fletching.catalog.table_rows import NAMED, TableRow, get_table, name_keys, table_row
from fletching.types import TableName

__all__ = [
    "PartitionRow",
    "add_partition",
    "change_totals",
    "find_partition",
    "find_partitions",
    "get_table_and_partitions",
    "list_partitions",
    "page_of_partitions",
    "partition_names",
    "remove_partition",
    "sort_key",
    "touch_partition",
    "unmodified_partitions",
]


class PartitionRow(NamedTuple):
    """A row of ``partitions``; a plain tuple, as a list may have 100,000 of them."""

    values: tuple[str, ...]
    """In the order of the table's partition columns."""
    rows: int
    bytes: int
    created_at: float
    modified_at: float


_COLUMNS = [
    partitions.c[name] for name in ("partition", "rows", "bytes", "created_at", "modified_at")
]


def _rows(result: CursorResult[tuple[object, ...]]) -> list[PartitionRow]:
    """The rows of a query of `_COLUMNS`, from the driver's own tuples: SQLAlchemy's cost as much again."""
    return [
        PartitionRow(decode_partition(text), *others) for text, *others in result.cursor.fetchall()
    ]


def find_partition(
    connection: Connection, table_id: str, values: tuple[str, ...]
) -> PartitionRow | None:
    """Looks a partition up by all its values; None if there is none."""
    rows = find_partitions(connection, table_id, [values])
    return rows[0] if rows else None


def sort_key(partition: str) -> bytes:
    """What a partition (the catalog's text) is sorted by: bytes that compare as its values do.

    Values have no control characters, so the zero byte between them is below all of them.
    """
    return "\0".join(decode_partition(partition)).encode()


def unmodified_partitions(
    connection: Connection, table_id: str, *, before: float, limit: int
) -> list[str]:
    """Partitions (the catalog's text) that were last modified before a moment, oldest first."""
    rows = connection.execute(
        select(partitions.c.partition)
        .where(partitions.c.table_id == table_id, partitions.c.modified_at < before)
        .order_by(partitions.c.modified_at, partitions.c.partition)
        .limit(limit)
    )
    return [row.partition for row in rows]


def touch_partition(connection: Connection, table_id: str, partition: str, now: float) -> None:
    """Notes that a partition (the catalog's text) of a locked table was modified."""
    connection.execute(
        update(partitions)
        .where(partitions.c.table_id == table_id, partitions.c.partition == partition)
        .values(modified_at=now)
    )


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
        sort_key=sort_key(partition),
    )


def change_totals(
    connection: Connection,
    table_id: str,
    changes: Mapping[str, tuple[int, int]],
    now: float,
    *,
    modified: bool = True,
) -> None:
    """Adds (rows, bytes) to the totals of a locked table's partitions; negative amounts take away.

    A partition that is not there comes into being. One statement, whatever the number. With
    ``modified`` false, partitions have the same rows afterwards, and keep their time.
    """
    if not changes:
        return
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(partitions)
    statement = statement.on_conflict_do_update(
        index_elements=[partitions.c.table_id, partitions.c.partition],
        set_={
            "rows": partitions.c.rows + statement.excluded.rows,
            "bytes": partitions.c.bytes + statement.excluded.bytes,
            "modified_at": (
                statement.excluded.modified_at if modified else partitions.c.modified_at
            ),
        },
    )
    connection.execute(
        statement,
        [
            {
                "table_id": table_id,
                "partition": partition,
                "rows": rows,
                "bytes": length,
                "created_at": now,
                "modified_at": now,
                "sort_key": sort_key(partition),
            }
            for partition, (rows, length) in sorted(changes.items())
        ],
    )


def remove_partition(connection: Connection, table_id: str, partition: str) -> None:
    """Forgets a partition of a locked table; its segments are the caller's business."""
    connection.execute(
        delete(partitions).where(
            partitions.c.table_id == table_id, partitions.c.partition == partition
        )
    )


def list_partitions(connection: Connection, table_id: str) -> list[PartitionRow]:
    """All partitions of a table in the order of their values."""
    return _rows(
        connection.execute(
            select(*_COLUMNS)
            .where(partitions.c.table_id == table_id)
            .order_by(partitions.c.sort_key)
        )
    )


def find_partitions(
    connection: Connection, table_id: str, wanted: Collection[tuple[str, ...]]
) -> list[PartitionRow]:
    """Those of some partitions that exist, in the order of their values; by the primary key."""
    texts = sorted({encode_partition(values) for values in wanted})
    result: list[PartitionRow] = []
    for chunk in chunks(texts):
        rows = connection.execute(
            select(*_COLUMNS).where(
                partitions.c.table_id == table_id, partitions.c.partition.in_(chunk)
            )
        )
        result += _rows(rows)
    return sorted(result, key=lambda row: row.values)


_TABLE_AND_PARTITIONS = (
    select(tables, *(column.label(f"of_{column.name}") for column in _COLUMNS))
    .select_from(
        tables.outerjoin(
            partitions,
            (partitions.c.table_id == tables.c.id)
            & partitions.c.partition.in_(bindparam("texts", expanding=True)),
        )
    )
    .where(NAMED)
)


def get_table_and_partitions(
    connection: Connection, name: TableName, wanted: Collection[tuple[str, ...]]
) -> tuple[TableRow, list[PartitionRow]]:
    """A table by its name and those of some partitions that exist, in order; one statement.

    Raises:
        NoSuchProjectError, NoSuchTableError: as `get_table`.
    """
    texts = sorted({encode_partition(values) for values in wanted})
    rows = connection.execute(_TABLE_AND_PARTITIONS, {**name_keys(name), "texts": texts}).all()
    if not rows:
        return get_table(connection, name), []
    result = [
        PartitionRow(
            decode_partition(row.of_partition),
            row.of_rows,
            row.of_bytes,
            row.of_created_at,
            row.of_modified_at,
        )
        for row in rows
        if row.of_partition is not None
    ]
    return table_row(rows[0]), sorted(result)


def partition_names(connection: Connection, table_id: str, version: int) -> list[tuple[str, ...]]:
    """The values of every partition that may have rows in a version, in order; some may have none.

    Those that there are, and those of which something was removed since: by indexes, whatever the
    number of segments.
    """
    since = (
        select(segments.c.partition)
        .where(segments.c.table_id == table_id, segments.c.removed_version > version)
        .distinct()
    )
    now = select(partitions.c.partition).where(partitions.c.table_id == table_id)
    return sorted(map(decode_partition, connection.execute(union(now, since)).scalars()))


def page_of_partitions(
    connection: Connection,
    table_id: str,
    *,
    wanted: Mapping[int, str],
    marker: tuple[str, ...] | None,
    limit: int,
    reverse: bool = False,
) -> list[PartitionRow]:
    """Up to ``limit`` partitions in the order of their values, from behind a marker on.

    Args:
        connection: an open transaction.
        table_id: the table.
        wanted: values that partitions must have, by the column's place.
        marker: the last partition of the page before; None for the first page.
        limit: how many.
        reverse: from the last to the first.

    Cost: by the index, what the page holds; values of columns behind one that may be anything are
    looked at row by row.
    """
    key = partitions.c.sort_key
    statement = select(*_COLUMNS).where(partitions.c.table_id == table_id)
    leading = list(itertools.takewhile(lambda index: index in wanted, itertools.count()))
    columns = len(leading)
    if columns:
        prefix = "\0".join(wanted[index] for index in leading).encode()
        # What follows the prefix is a zero byte, or nothing where all values are named.
        statement = statement.where(key >= prefix, key < prefix + b"\x01")
    if marker is not None:
        last = "\0".join(marker).encode()
        statement = statement.where(key < last if reverse else key > last)
    statement = statement.order_by(key.desc() if reverse else key)
    if set(wanted) == set(leading):
        return _rows(connection.execute(statement.limit(limit)))
    page: list[PartitionRow] = []
    # Closed where the page is full: a cursor of PostgreSQL's would stay open until the transaction ends.
    with connection.execute(statement, execution_options={"yield_per": 1000}) as result:
        for text, *others in result:
            row = PartitionRow(decode_partition(text), *others)
            if all(row.values[index] == value for index, value in wanted.items()):
                page.append(row)
                if len(page) == limit:
                    break
    return page
