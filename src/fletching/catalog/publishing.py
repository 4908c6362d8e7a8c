"""Making segments visible or invisible: the one place where a table's version moves on.

Each function works on a table that the caller has locked, inside the caller's transaction, and
keeps the totals of tables and partitions in step with the segments.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, func, insert, select, update

from fletching.catalog.partition_rows import add_partition, change_totals
from fletching.catalog.schema import segments
from fletching.catalog.segment_rows import position_in
from fletching.catalog.table_rows import TableRow, publish_version
from fletching.catalog.write_stream_rows import NewSegment

__all__ = ["publish", "replace_segments"]

_IN_LIMIT = 500


def publish(
    connection: Connection,
    table: TableRow,
    added: Sequence[NewSegment],
    *,
    cleared_partitions: Iterable[str] | None = (),
    new_partitions: Iterable[str] = (),
    now: float,
) -> int:
    """Adds segments, in the given order, in one new version; returns the version.

    Args:
        connection: an open transaction.
        table: the table as read under its lock in this transaction.
        added: what becomes visible.
        cleared_partitions: partitions (the catalog's text) whose present segments go in the same
            version; None clears the whole table.
        new_partitions: partitions to add even if nothing is added to them.
        now: seconds since the epoch.
    """
    version = table.version + 1
    partitioned = bool(table.partition_columns)
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    cleared = None if cleared_partitions is None else list(cleared_partitions)
    if cleared is None or cleared:
        _clear(connection, table.id, version, cleared, totals=totals, now=now)
    for segment in added:
        total = totals[segment.partition]
        total[0] += segment.rows
        total[1] += segment.length
        total[2] += 1
    if partitioned:
        for partition in sorted({*new_partitions, *(segment.partition for segment in added)}):
            add_partition(connection, table.id, partition, now)
        for partition, (rows, length, _) in totals.items():
            change_totals(connection, table.id, partition, rows=rows, length=length, now=now)
    if added:
        connection.execute(
            insert(segments),
            [
                {
                    **segment.columns(),
                    "table_id": table.id,
                    "position": position_in(version, ordinal),
                    "added_version": version,
                }
                for ordinal, segment in enumerate(added)
            ],
        )
    publish_version(
        connection,
        table.id,
        version=version,
        rows=sum(total[0] for total in totals.values()),
        length=sum(total[1] for total in totals.values()),
        segments=sum(total[2] for total in totals.values()),
        now=now,
    )
    return version


def _clear(
    connection: Connection,
    table_id: str,
    version: int,
    cleared: list[str] | None,
    *,
    totals: dict[str, list[int]],
    now: float,
) -> None:
    groups = (
        [None]
        if cleared is None
        else [cleared[i : i + _IN_LIMIT] for i in range(0, len(cleared), _IN_LIMIT)]
    )
    for group in groups:
        condition = (segments.c.table_id == table_id) & segments.c.removed_version.is_(None)
        if group is not None:
            condition &= segments.c.partition.in_(group)
        sums = connection.execute(
            select(
                segments.c.partition,
                func.sum(segments.c.rows),
                func.sum(segments.c.bytes),
                func.count(),
            )
            .where(condition)
            .group_by(segments.c.partition)
        )
        for partition, rows, length, count in sums:
            total = totals[partition]
            total[0] -= int(rows)
            total[1] -= int(length)
            total[2] -= int(count)
        connection.execute(
            update(segments).where(condition).values(removed_version=version, removed_at=now)
        )


def replace_segments(
    connection: Connection,
    table: TableRow,
    replaced: Sequence[int],
    merged: NewSegment,
    *,
    position: int,
    now: float,
) -> bool:
    """Puts one segment in the place of several, in one new version with the same rows.

    Returns False and changes nothing if one of them is no longer visible in the newest version.
    """
    version = table.version + 1
    bytes_before = 0
    for start in range(0, len(replaced), _IN_LIMIT):
        some = replaced[start : start + _IN_LIMIT]
        condition = segments.c.id.in_(some) & segments.c.removed_version.is_(None)
        count, length = connection.execute(
            select(func.count(), func.sum(segments.c.bytes)).where(condition)
        ).one()
        if count != len(some):
            return False
        bytes_before += int(length)
    for start in range(0, len(replaced), _IN_LIMIT):
        connection.execute(
            update(segments)
            .where(segments.c.id.in_(replaced[start : start + _IN_LIMIT]))
            .values(removed_version=version, removed_at=now)
        )
    connection.execute(
        insert(segments).values(
            **merged.columns(),
            table_id=table.id,
            position=position,
            added_version=version,
        )
    )
    growth = merged.length - bytes_before
    if table.partition_columns:
        change_totals(connection, table.id, merged.partition, rows=0, length=growth, now=now)
    publish_version(
        connection,
        table.id,
        version=version,
        rows=0,
        length=growth,
        segments=1 - len(replaced),
        now=now,
    )
    return True
