"""Finding and forgetting what nobody needs any more. The rules are in ``engine/upkeep/retention.py``.

Each function works inside the caller's ``write`` transaction, which is what makes "nobody" true:
sessions are opened and commits made under the same lock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, delete, exists, func, not_, select, update

from fletching.catalog.schema import (
    accepted_writes,
    blob_packs,
    change_keys,
    deletions,
    partitions,
    read_sessions,
    segments,
    staged_segments,
    table_schemas,
    table_versions,
    tables,
    tags,
    write_sessions,
    write_streams,
)
from fletching.catalog.write_stream_rows import discard_staged

__all__ = [
    "OWNERS",
    "ForgottenObject",
    "delete_sessions",
    "drop_dropped_tables",
    "expire_read_sessions",
    "expire_write_sessions",
    "forget_changes",
    "forget_ended_sessions",
    "forget_idle_streams",
    "forget_removed",
    "known_keys",
    "tables_with_history",
]

_IN_LIMIT = 500

OWNERS = (segments, staged_segments, blob_packs)
"""The tables whose ``key`` column names an object: there is no other reference to one. An object
that none of them names is an orphan."""


class ForgottenObject(NamedTuple):
    """An object that the catalog no longer knows once the transaction commits."""

    key: str
    length: int


def _chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), _IN_LIMIT):
        yield items[start : start + _IN_LIMIT]


def expire_write_sessions(
    connection: Connection, *, normal: str, expired: str, now: float
) -> tuple[list[str], list[str]]:
    """Ends sessions in the state ``normal`` whose time is over; (session ids, object keys)."""
    rows = connection.execute(
        select(write_sessions.c.pk, write_sessions.c.id).where(
            write_sessions.c.state == normal, write_sessions.c.expires_at <= now
        )
    ).all()
    pks = [row.pk for row in rows]
    keys = discard_staged(connection, _streams_of(connection, pks))
    for some in _chunks(pks):
        connection.execute(
            update(write_sessions)
            .where(write_sessions.c.pk.in_(some))
            .values(state=expired, ended_at=now)
        )
    return [row.id for row in rows], keys


def _streams_of(connection: Connection, session_pks: Sequence[int]) -> list[int]:
    found: list[int] = []
    for some in _chunks(session_pks):
        found.extend(
            connection.execute(
                select(write_streams.c.pk).where(write_streams.c.session_pk.in_(some))
            ).scalars()
        )
    return found


def forget_ended_sessions(connection: Connection, *, ended_before: float) -> list[str]:
    """Forgets write sessions that ended before a time; their ids."""
    rows = connection.execute(
        select(write_sessions.c.pk, write_sessions.c.id).where(
            write_sessions.c.ended_at <= ended_before
        )
    ).all()
    delete_sessions(connection, [row.pk for row in rows])
    return [row.id for row in rows]


def delete_sessions(connection: Connection, pks: Sequence[int]) -> list[str]:
    """Forgets write sessions with their streams; the keys of what those still held."""
    streams = _streams_of(connection, pks)
    keys = discard_staged(connection, streams)
    for some in _chunks(streams):
        connection.execute(delete(write_streams).where(write_streams.c.pk.in_(some)))
    for some in _chunks(pks):
        connection.execute(delete(write_sessions).where(write_sessions.c.pk.in_(some)))
    return keys


def forget_idle_streams(
    connection: Connection, *, session_id: str, idle_before: float, writes_before: float
) -> int:
    """Forgets idle streams of implicit sessions, and old accepted writes of all; how many streams."""
    rows = connection.execute(
        select(write_streams.c.pk)
        .join(write_sessions, write_sessions.c.pk == write_streams.c.session_pk)
        .where(write_sessions.c.id == session_id, write_streams.c.modified_at <= idle_before)
    ).scalars()
    pks = list(rows)
    discard_staged(connection, pks)
    for some in _chunks(pks):
        connection.execute(delete(write_streams).where(write_streams.c.pk.in_(some)))
    connection.execute(delete(accepted_writes).where(accepted_writes.c.created_at <= writes_before))
    return len(pks)


def expire_read_sessions(connection: Connection, *, expired_before: float) -> list[str]:
    """Forgets read sessions that expired before a time; their ids. Their snapshots are free then."""
    ids = list(
        connection.execute(
            select(read_sessions.c.id).where(read_sessions.c.expires_at <= expired_before)
        ).scalars()
    )
    for some in _chunks(ids):
        connection.execute(delete(read_sessions).where(read_sessions.c.id.in_(some)))
    return ids


def _unpinned(table: Any) -> Any:
    """The condition that no read session and no tag has a version in which a row is visible."""
    first = func.coalesce(read_sessions.c.since_version, read_sessions.c.table_version)
    reading = exists().where(
        read_sessions.c.table_id == table.c.table_id,
        read_sessions.c.table_version >= table.c.added_version,
        first < table.c.removed_version,
    )
    tagged = exists().where(
        tags.c.table_id == table.c.table_id,
        tags.c.version >= table.c.added_version,
        tags.c.version < table.c.removed_version,
    )
    return and_(not_(reading), not_(tagged))


def forget_removed(
    connection: Connection, table_id: str, *, horizon: int, limit: int
) -> tuple[list[ForgottenObject], bool]:
    """Forgets what no readable version of a locked table shows; (objects to delete, more is left).

    What goes: segments and deletions that were removed in the horizon or before, and that neither
    a read session nor a tag keeps. An object goes with the last row that names it.

    Args:
        connection: an open transaction that holds the table's lock.
        table_id: the table.
        horizon: its oldest readable version.
        limit: at most so many segments, so that a transaction stays short.
    """
    rows = connection.execute(
        select(segments.c.id, segments.c.key, segments.c.bytes)
        .where(
            segments.c.table_id == table_id,
            segments.c.removed_version <= horizon,
            _unpinned(segments),
        )
        .limit(limit)
    ).all()
    for some in _chunks([row.id for row in rows]):
        connection.execute(delete(deletions).where(deletions.c.segment_id.in_(some)))
        connection.execute(delete(segments).where(segments.c.id.in_(some)))
    connection.execute(
        delete(deletions).where(
            deletions.c.table_id == table_id,
            deletions.c.removed_version <= horizon,
            _unpinned(deletions),
        )
    )
    lengths = {row.key: row.bytes for row in rows}
    still = _named(connection, segments, list(lengths))
    objects = [ForgottenObject(key, size) for key, size in lengths.items() if key not in still]
    return objects, len(rows) == limit


def tables_with_history(connection: Connection) -> list[tuple[str, str]]:
    """(id, properties as JSON) of live tables whose horizon is below their newest version."""
    rows = connection.execute(
        select(tables.c.id, tables.c.properties).where(
            tables.c.dropped_at.is_(None), tables.c.oldest_version < tables.c.version
        )
    )
    removed = connection.execute(
        select(segments.c.table_id).where(segments.c.removed_version.is_not(None)).distinct()
    ).scalars()
    found = {row.id: row.properties for row in rows}
    for table_id in removed:
        if table_id not in found:
            properties = connection.execute(
                select(tables.c.properties).where(
                    tables.c.id == table_id, tables.c.dropped_at.is_(None)
                )
            ).scalar()
            if properties is not None:
                found[table_id] = properties
    return sorted(found.items())


def _named(connection: Connection, table: Any, keys: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for some in _chunks(keys):
        found.update(connection.execute(select(table.c.key).where(table.c.key.in_(some))).scalars())
    return found


def drop_dropped_tables(
    connection: Connection, *, dropped_before: float
) -> tuple[list[str], list[ForgottenObject]]:
    """Forgets tables dropped before a time with all that is theirs; (table ids, objects)."""
    ids = list(
        connection.execute(
            select(tables.c.id).where(tables.c.dropped_at <= dropped_before)
        ).scalars()
    )
    objects: list[ForgottenObject] = []
    for table_id in ids:
        objects.extend(
            ForgottenObject(row.key, row.bytes)
            for row in connection.execute(
                select(segments.c.key, segments.c.bytes)
                .where(segments.c.table_id == table_id)
                .distinct()
            )
        )
        sessions = connection.execute(
            select(write_sessions.c.pk).where(write_sessions.c.table_id == table_id)
        ).scalars()
        objects.extend(
            ForgottenObject(key, 0) for key in delete_sessions(connection, list(sessions))
        )
        for table in (
            deletions,
            segments,
            partitions,
            read_sessions,
            table_schemas,
            table_versions,
            tags,
            change_keys,
        ):
            connection.execute(delete(table).where(table.c.table_id == table_id))
        packs = select(blob_packs.c.id).where(blob_packs.c.table_id == table_id)
        if connection.execute(packs.limit(1)).first() is None:
            # While there are packs, they need the row: it says that they are garbage.
            connection.execute(delete(tables).where(tables.c.id == table_id))
    return ids, objects


def known_keys(connection: Connection, keys: Sequence[str]) -> set[str]:
    """Which of some keys the catalog knows: segments visible, removed or staged, and packs."""
    found: set[str] = set()
    for table in OWNERS:
        found |= _named(connection, table, keys)
    return found


def forget_changes(connection: Connection, *, made_before: float) -> None:
    """Forgets the idempotency keys of changes that are older than any repetition."""
    connection.execute(delete(change_keys).where(change_keys.c.created_at <= made_before))
