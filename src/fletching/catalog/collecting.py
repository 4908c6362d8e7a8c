"""Finding and forgetting what nobody needs any more. The rules are in ``engine/upkeep/retention.py``.

Each function works inside the caller's ``write`` transaction. What makes "nobody" true on SQLite is
that transaction; on PostgreSQL, where others change the catalog meanwhile, rows are locked in the
order that everybody keeps (write session, table, stream, segments, packs), and what somebody holds is
left to the next pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Connection, and_, delete, exists, func, not_, select, tuple_, update

from fletching.catalog.blob_rows import forget_links
from fletching.catalog.database import insert_unless_there
from fletching.catalog.leases import forget_lease
from fletching.catalog.parameter_chunks import chunks
from fletching.catalog.read_session_rows import exclude_pinning
from fletching.catalog.schema import (
    accepted_writes,
    blob_packs,
    change_keys,
    deletions,
    merged_runs,
    orphans,
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
from fletching.catalog.table_rows import drop_table
from fletching.catalog.write_stream_rows import discard_staged
from fletching.types import UNLISTED_MARK

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Table

__all__ = [
    "OWNERS",
    "ForgottenObject",
    "delete_sessions",
    "drop_abandoned_tables",
    "drop_dropped_tables",
    "drop_tables_of",
    "expire_read_sessions",
    "expire_write_sessions",
    "forget_changes",
    "forget_ended_sessions",
    "forget_idle_streams",
    "forget_orphans",
    "forget_removed",
    "known_keys",
    "known_tables",
    "noted_orphans",
    "ripe_orphans",
    "tables_with_history",
    "tables_with_lifecycle",
]

OWNERS = (segments, staged_segments, blob_packs, merged_runs)
"""The tables whose ``key`` column names an object: there is no other reference to one. An object
that none of them names is an orphan."""


class ForgottenObject(NamedTuple):
    """An object that the catalog no longer knows once the transaction commits."""

    key: str
    length: int


# Locks are taken in this order. As a sum, because by the index of the column itself a database would
# look at every session there is, only to find some in order.
_IN_ORDER = write_sessions.c.pk + 0


def expire_write_sessions(
    connection: Connection, *, normal: str, expired: str, now: float
) -> tuple[list[str], list[ForgottenObject]]:
    """Ends sessions in the state ``normal`` whose time is over; (session ids, what they had staged).

    A session that somebody is working on is left to the next pass.
    """
    rows = connection.execute(
        select(write_sessions.c.pk, write_sessions.c.id)
        .where(write_sessions.c.state == normal, write_sessions.c.expires_at <= now)
        .order_by(_IN_ORDER)
        .with_for_update(skip_locked=True)
    ).all()
    pks = [row.pk for row in rows]
    objects = _discard(connection, _streams_of(connection, pks))
    for chunk in chunks(pks):
        connection.execute(
            update(write_sessions)
            .where(write_sessions.c.pk.in_(chunk), write_sessions.c.state == normal)
            .values(state=expired, ended_at=now)
        )
    return [row.id for row in rows], objects


def _discard(connection: Connection, streams: Sequence[int]) -> list[ForgottenObject]:
    """As ``discard_staged``, with the lengths that the catalog knows: nobody has to ask the store for them."""
    lengths: dict[str, int] = {}
    for chunk in chunks(streams):
        result = connection.execute(
            select(staged_segments.c.key, staged_segments.c.bytes).where(
                staged_segments.c.stream_pk.in_(chunk)
            )
        )
        lengths.update((row.key, row.bytes) for row in result)
    keys = discard_staged(connection, streams)
    forget_links(connection, keys)
    return [ForgottenObject(key, lengths[key]) for key in keys]


def _streams_of(connection: Connection, session_pks: Sequence[int]) -> list[int]:
    result: list[int] = []
    for chunk in chunks(session_pks):
        result.extend(
            connection.execute(
                select(write_streams.c.pk).where(write_streams.c.session_pk.in_(chunk))
            ).scalars()
        )
    return result


def forget_ended_sessions(connection: Connection, *, ended_before: float) -> list[str]:
    """Forgets write sessions that ended before a time; their ids."""
    rows = connection.execute(
        select(write_sessions.c.pk, write_sessions.c.id)
        .where(write_sessions.c.ended_at <= ended_before)
        .order_by(_IN_ORDER)
        .with_for_update(skip_locked=True)
    ).all()
    delete_sessions(connection, [row.pk for row in rows])
    return [row.id for row in rows]


def delete_sessions(connection: Connection, pks: Sequence[int]) -> list[ForgottenObject]:
    """Forgets locked write sessions with their streams; what those still held."""
    streams = _streams_of(connection, pks)
    objects = _discard(connection, streams)
    for chunk in chunks(streams):
        connection.execute(delete(write_streams).where(write_streams.c.pk.in_(chunk)))
    for chunk in chunks(pks):
        connection.execute(delete(write_sessions).where(write_sessions.c.pk.in_(chunk)))
    return objects


def forget_idle_streams(
    connection: Connection, *, session_id: str, idle_before: float, writes_before: float
) -> int:
    """Forgets idle streams of implicit sessions, and old accepted writes of all; how many streams."""
    idle = write_streams.c.modified_at <= idle_before
    with_idle = exists().where(write_streams.c.session_pk == write_sessions.c.pk, idle)
    # The sessions are locked before their streams, as whoever writes to a stream does.
    sessions = connection.execute(
        select(write_sessions.c.pk)
        .where(write_sessions.c.id == session_id, with_idle)
        .order_by(_IN_ORDER)
        .with_for_update(skip_locked=True)
    ).scalars()
    pks: list[int] = []
    for chunk in chunks(sessions):
        pks.extend(
            connection.execute(
                select(write_streams.c.pk).where(write_streams.c.session_pk.in_(chunk), idle)
            ).scalars()
        )
    forget_links(connection, discard_staged(connection, pks))
    for chunk in chunks(pks):
        connection.execute(delete(write_streams).where(write_streams.c.pk.in_(chunk)))
    _forget_old_writes(connection, writes_before)
    return len(pks)


def _forget_old_writes(connection: Connection, writes_before: float) -> None:
    key = accepted_writes.c.stream_pk, accepted_writes.c.retry_trace_id
    old = (
        select(*key)
        .where(accepted_writes.c.created_at <= writes_before)
        .with_for_update(skip_locked=True)
    )
    for chunk in chunks(connection.execute(old).all()):
        connection.execute(
            delete(accepted_writes).where(tuple_(*key).in_([tuple(r) for r in chunk]))
        )


def expire_read_sessions(connection: Connection, *, expired_before: float) -> list[str]:
    """Forgets read sessions that expired before a time; their ids. Their snapshots are free then.

    One that is refreshed meanwhile stays: the statement looks at the time again when it has the row.
    """
    return list(
        connection.execute(
            delete(read_sessions)
            .where(read_sessions.c.expires_at <= expired_before)
            .returning(read_sessions.c.id)
        ).scalars()
    )


def _unpinned(table: Table) -> ColumnElement[bool]:
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
    exclude_pinning(connection)
    rows = connection.execute(
        select(segments.c.id, segments.c.key, segments.c.bytes)
        .where(
            segments.c.table_id == table_id,
            segments.c.removed_version <= horizon,
            _unpinned(segments),
        )
        .limit(limit)
    ).all()
    for chunk in chunks([row.id for row in rows]):
        connection.execute(delete(deletions).where(deletions.c.segment_id.in_(chunk)))
        connection.execute(delete(segments).where(segments.c.id.in_(chunk)))
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
    forget_links(connection, [each.key for each in objects])
    return objects, len(rows) == limit


def tables_with_lifecycle(connection: Connection) -> list[tuple[str, int]]:
    """(id, days) of live tables whose partitions go when they were not modified for so long."""
    rows = connection.execute(
        select(tables.c.id, tables.c.lifecycle_days)
        .where(tables.c.dropped_at.is_(None), tables.c.lifecycle_days.is_not(None))
        .order_by(tables.c.id)
    )
    return [(row.id, row.lifecycle_days) for row in rows]


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
    result = {row.id: row.properties for row in rows}
    for table_id in removed:
        if table_id not in result:
            properties = connection.execute(
                select(tables.c.properties).where(
                    tables.c.id == table_id, tables.c.dropped_at.is_(None)
                )
            ).scalar()
            if properties is not None:
                result[table_id] = properties
    return sorted(result.items())


def _named(connection: Connection, table: Table, keys: Sequence[str]) -> set[str]:
    result: set[str] = set()
    for chunk in chunks(keys):
        result.update(
            connection.execute(select(table.c.key).where(table.c.key.in_(chunk))).scalars()
        )
    return result


def drop_tables_of(
    connection: Connection, project: str, created_before: float, now: float, limit: int = 1000
) -> list[str]:
    """Drops a project's tables that were made before a moment; returns their names."""
    condition = (
        (tables.c.project_key == project)
        & tables.c.dropped_at.is_(None)
        & (tables.c.created_at < created_before)
    )
    rows = connection.execute(
        select(tables.c.id, tables.c.name).where(condition).order_by(tables.c.id).limit(limit)
    ).all()
    for chunk in chunks([row.id for row in rows]):
        connection.execute(update(tables).where(tables.c.id.in_(chunk)).values(dropped_at=now))
    return [row.name for row in rows]


def drop_abandoned_tables(
    connection: Connection, *, session_id: str, idle_before: float, now: float
) -> list[str]:
    """Drops unlisted tables to which nobody has written since a moment, or can any more; their ids.

    Whoever was to fill them has died, or has given up and could not say so. The session of the given id is
    open for ever, and so says nothing.
    """
    written = exists().where(
        write_sessions.c.table_id == tables.c.id,
        write_sessions.c.id != session_id,
        write_sessions.c.ended_at.is_(None),
        write_sessions.c.expires_at > now,
    )
    result: list[str] = []
    for table_id in connection.execute(
        select(tables.c.id)
        .where(
            tables.c.dropped_at.is_(None),
            tables.c.name_key.like(f"%{UNLISTED_MARK}%"),
            tables.c.modified_at <= idle_before,
            not_(written),
        )
        .order_by(tables.c.id)
        .with_for_update(skip_locked=True)
    ).scalars():
        drop_table(connection, table_id, now)
        result.append(table_id)
    return result


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
        # Sessions before their table, as a commit does.
        sessions = list(
            connection.execute(
                select(write_sessions.c.pk)
                .where(write_sessions.c.table_id == table_id)
                .order_by(_IN_ORDER)
                .with_for_update()
            ).scalars()
        )
        connection.execute(select(tables.c.id).where(tables.c.id == table_id).with_for_update())
        objects.extend(
            ForgottenObject(row.key, row.bytes)
            for row in connection.execute(
                select(segments.c.key, segments.c.bytes)
                .where(segments.c.table_id == table_id)
                .distinct()
            )
        )
        forget_links(connection, [each.key for each in objects])
        objects.extend(
            ForgottenObject(row.key, row.bytes)
            for row in connection.execute(
                select(merged_runs.c.key, merged_runs.c.bytes).where(
                    merged_runs.c.table_id == table_id
                )
            )
        )
        objects.extend(delete_sessions(connection, sessions))
        for table in (
            deletions,
            merged_runs,
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
        forget_lease(connection, f"compact-{table_id}")
    return ids, objects


def known_keys(connection: Connection, keys: Sequence[str]) -> set[str]:
    """Which of some keys the catalog knows: segments visible, removed or staged, packs, key runs."""
    result: set[str] = set()
    for table in OWNERS:
        result |= _named(connection, table, keys)
    return result


def known_tables(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Which of some tables the catalog knows: those that are there, and dropped ones that are not forgotten."""
    result: set[str] = set()
    for chunk in chunks(ids):
        result.update(
            connection.execute(select(tables.c.id).where(tables.c.id.in_(chunk))).scalars()
        )
    return result


def forget_changes(connection: Connection, *, made_before: float) -> None:
    """Forgets the idempotency keys of changes that are older than any repetition."""
    connection.execute(delete(change_keys).where(change_keys.c.created_at <= made_before))


def ripe_orphans(
    connection: Connection, keys: Sequence[str], *, now: float, seen_before: float
) -> set[str]:
    """Notes objects that nobody knows; which of them have been known as such since before a time.

    Ages by the catalog's clock alone: what another machine's says of the object does not matter.
    """
    ripe: set[str] = set()
    for chunk in chunks(keys):
        seen = {
            row.key: row.seen_at
            for row in connection.execute(select(orphans).where(orphans.c.key.in_(chunk)))
        }
        ripe.update(key for key, seen_at in seen.items() if seen_at <= seen_before)
        for key in chunk:
            if key not in seen:
                insert_unless_there(connection, orphans, key=key, seen_at=now)
    return ripe


def forget_orphans(connection: Connection, keys: Sequence[str]) -> None:
    """Removes the notes of objects that are gone, or known after all."""
    for chunk in chunks(keys):
        connection.execute(delete(orphans).where(orphans.c.key.in_(chunk)))


def noted_orphans(connection: Connection) -> list[str]:
    """Keys of every object that is noted as known to nobody."""
    return list(connection.execute(select(orphans.c.key)).scalars())
