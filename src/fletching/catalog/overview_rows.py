"""What an operator asks the catalog: who holds what, which tables are large, what upkeep has before it."""

from __future__ import annotations

import dataclasses

from sqlalchemy import Connection, func, select

from fletching.catalog.schema import blob_packs, read_sessions, segments, tables, write_sessions
from fletching.types import TableName

__all__ = [
    "OpenSession",
    "TableSize",
    "count_removed",
    "count_small",
    "largest_tables",
    "open_sessions",
    "totals",
]


@dataclasses.dataclass(frozen=True, slots=True)
class OpenSession:
    """A session that has not ended. Times are seconds since the epoch."""

    id: str
    kind: str
    """``read`` or ``write``."""
    table: TableName
    version: int | None
    """Of a read session: the version that it pins."""
    created_at: float
    expires_at: float


@dataclasses.dataclass(frozen=True, slots=True)
class TableSize:
    """How large a table is, and how finely it is cut."""

    table: TableName
    rows: int
    bytes: int
    segments: int


def _name(row: object) -> TableName:
    return TableName(row.project, row.name, row.schema)  # type: ignore[attr-defined]  # a row of a query


def open_sessions(connection: Connection, now: float, limit: int) -> list[OpenSession]:
    """Sessions that have not ended or expired, oldest first; at most ``limit`` of each kind."""
    reading = (
        select(
            read_sessions.c.id,
            read_sessions.c.table_version,
            read_sessions.c.created_at,
            read_sessions.c.expires_at,
            tables.c.project,
            tables.c.schema,
            tables.c.name,
        )
        .join(tables, tables.c.id == read_sessions.c.table_id)
        .where(read_sessions.c.expires_at > now)
        .order_by(read_sessions.c.created_at)
        .limit(limit)
    )
    writing = (
        select(
            write_sessions.c.id,
            write_sessions.c.created_at,
            write_sessions.c.expires_at,
            tables.c.project,
            tables.c.schema,
            tables.c.name,
        )
        .join(tables, tables.c.id == write_sessions.c.table_id)
        .where(
            write_sessions.c.expires_at > now,
            write_sessions.c.ended_at.is_(None),
        )
        .order_by(write_sessions.c.created_at)
        .limit(limit)
    )
    result = [
        OpenSession(row.id, "read", _name(row), row.table_version, row.created_at, row.expires_at)
        for row in connection.execute(reading)
    ]
    result += [
        OpenSession(row.id, "write", _name(row), None, row.created_at, row.expires_at)
        for row in connection.execute(writing)
    ]
    return sorted(result, key=lambda session: session.created_at)


def largest_tables(connection: Connection, limit: int) -> list[TableSize]:
    """The tables with the most bytes."""
    statement = (
        select(
            tables.c.project,
            tables.c.schema,
            tables.c.name,
            tables.c.rows,
            tables.c.bytes,
            tables.c.segments,
        )
        .where(tables.c.dropped_at.is_(None))
        .order_by(tables.c.bytes.desc(), tables.c.name_key)
        .limit(limit)
    )
    return [
        TableSize(_name(row), row.rows, row.bytes, row.segments)
        for row in connection.execute(statement)
    ]


def totals(connection: Connection) -> dict[str, int]:
    """Tables, rows, segments and bytes of all that is visible, and of blob packs."""
    shown = connection.execute(
        select(
            func.count(),
            func.coalesce(func.sum(tables.c.rows), 0),
            func.coalesce(func.sum(tables.c.segments), 0),
            func.coalesce(func.sum(tables.c.bytes), 0),
        ).where(tables.c.dropped_at.is_(None))
    ).one()
    packs = connection.execute(
        select(func.count(), func.coalesce(func.sum(blob_packs.c.bytes), 0))
    ).one()
    names = ("tables", "rows", "segments", "bytes", "packs", "pack_bytes")
    return dict(zip(names, map(int, (*shown, *packs)), strict=True))


def count_small(connection: Connection, segment_bytes: int, at_least: int) -> tuple[int, int]:
    """(segments, bytes): visible ones below a size, of tables that have at least so many of them.

    Cost: one pass over the live segments of tables with many.
    """
    many = (
        select(tables.c.id)
        .where(tables.c.dropped_at.is_(None), tables.c.segments >= at_least)
        .scalar_subquery()
    )
    per_table = (
        select(func.count().label("segments"), func.sum(segments.c.bytes).label("size"))
        .where(
            segments.c.table_id.in_(many),
            segments.c.removed_version.is_(None),
            segments.c.bytes < segment_bytes,
        )
        .group_by(segments.c.table_id)
        .having(func.count() >= at_least)
        .subquery()
    )
    row = connection.execute(
        select(
            func.coalesce(func.sum(per_table.c.segments), 0),
            func.coalesce(func.sum(per_table.c.size), 0),
        )
    ).one()
    return int(row[0]), int(row[1])


def count_removed(connection: Connection) -> tuple[int, int]:
    """(segments, bytes): those that newer versions do not show and older ones keep."""
    row = connection.execute(
        select(func.count(), func.coalesce(func.sum(segments.c.bytes), 0)).where(
            segments.c.removed_version.is_not(None)
        )
    ).one()
    return int(row[0]), int(row[1])
