"""Writers: openings of an object store that cannot tell by itself which of them live.

A writer is registered before its first object, and renews its row while it lives. Retention removes
the row of one that was silent for too long; from then on nothing that this writer made is recorded
any more (``missing_writers``, in the transaction that would record it), so that its objects may be
deleted whoever's clock is right, and also if the writer was only asleep.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, delete, select, update

from fletching.catalog.database import insert_unless_there
from fletching.catalog.schema import writers

__all__ = [
    "forget_writer_row",
    "known_writers",
    "missing_writers",
    "register_writer",
    "remove_silent_writers",
    "renew_writer",
]


def register_writer(connection: Connection, writer: str, now: float) -> None:
    """Makes a writer known."""
    insert_unless_there(connection, writers, id=writer, started_at=now, seen_at=now)


def renew_writer(connection: Connection, writer: str, now: float) -> bool:
    """Says that a writer lives; False if it was taken for dead."""
    found = connection.execute(
        update(writers).where(writers.c.id == writer).values(seen_at=now).returning(writers.c.id)
    )
    return found.first() is not None


def forget_writer_row(connection: Connection, writer: str) -> None:
    """Ends a writer that closes."""
    connection.execute(delete(writers).where(writers.c.id == writer))


def known_writers(connection: Connection) -> frozenset[str]:
    """Ids of the writers that count as living."""
    return frozenset(connection.execute(select(writers.c.id)).scalars())


def remove_silent_writers(connection: Connection, *, silent_since: float) -> frozenset[str]:
    """Ends writers that have not been seen since a time; their ids."""
    found = connection.execute(
        delete(writers).where(writers.c.seen_at <= silent_since).returning(writers.c.id)
    )
    return frozenset(found.scalars())


def missing_writers(connection: Connection, ids: Collection[str]) -> frozenset[str]:
    """Which writers were taken for dead; the others stay known until the transaction ends."""
    rows = connection.execute(
        select(writers.c.id).where(writers.c.id.in_(sorted(ids))).with_for_update(read=True)
    )
    return frozenset(ids) - frozenset(rows.scalars())
