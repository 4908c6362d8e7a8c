"""Writers: servers and other openings of an object store that cannot tell by itself which of them live.

A writer is registered before its first object, and renews its row while it lives. Retention removes
the row of one that was silent for too long; from then on nothing that this writer made is recorded
any more (``missing_writers``, in the transaction that would record it), so that its objects may be
deleted whoever's clock is right, and also if the writer was only asleep.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from sqlalchemy import Connection, delete, select, update

from fletching.catalog.database import insert_unless_there
from fletching.catalog.parameter_chunks import chunks
from fletching.catalog.schema import writers

__all__ = [
    "WriterRow",
    "forget_writer_row",
    "hear_now",
    "known_writers",
    "list_writers",
    "lives",
    "missing_writers",
    "register_writer",
    "remove_silent_writers",
    "renew_writer",
    "silent_writers",
]


@dataclasses.dataclass(frozen=True, slots=True)
class WriterRow:
    """A row of ``writers``. Times are the catalog's, in seconds since the epoch.

    Attributes:
        id: stands in the keys of its objects and in the names of its leases.
        started_at: when it was registered.
        seen_at: when it last said that it lives.
        name, url, release: of a server; empty for other processes.
    """

    id: str
    started_at: float
    seen_at: float
    name: str = ""
    url: str = ""
    release: str = ""


def register_writer(connection: Connection, row: WriterRow) -> None:
    """Makes a writer known; of one that is, says what it is by now."""
    if not insert_unless_there(connection, writers, **dataclasses.asdict(row)):
        values = {"seen_at": row.seen_at, "name": row.name, "url": row.url, "release": row.release}
        connection.execute(update(writers).where(writers.c.id == row.id).values(**values))


def renew_writer(connection: Connection, writer: str, now: float) -> bool:
    """Says that a writer lives; False if it was taken for dead."""
    result = connection.execute(
        update(writers).where(writers.c.id == writer).values(seen_at=now).returning(writers.c.id)
    )
    return result.first() is not None


def forget_writer_row(connection: Connection, writer: str) -> None:
    """Ends a writer that closes."""
    connection.execute(delete(writers).where(writers.c.id == writer))


def list_writers(connection: Connection) -> list[WriterRow]:
    """All rows, by when they were registered."""
    rows = connection.execute(select(writers).order_by(writers.c.started_at, writers.c.id))
    return [WriterRow(**row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's public name


def silent_writers(connection: Connection, *, silent_since: float) -> frozenset[str]:
    """Ids of writers that have not been seen since a time; their rows are locked, and stay."""
    rows = connection.execute(
        select(writers.c.id).where(writers.c.seen_at <= silent_since).with_for_update()
    )
    return frozenset(rows.scalars())


def hear_now(connection: Connection, now: float) -> None:
    """Says of writers that were seen later than now that it was now: the clock has been set back since."""
    connection.execute(update(writers).where(writers.c.seen_at > now).values(seen_at=now))


def lives(connection: Connection, writer: str, *, silent_since: float) -> bool:
    """Whether a writer has been seen since a time."""
    row = connection.execute(
        select(writers.c.id).where(writers.c.id == writer, writers.c.seen_at > silent_since)
    )
    return row.first() is not None


def known_writers(connection: Connection) -> frozenset[str]:
    """Ids of the writers that count as living."""
    return frozenset(connection.execute(select(writers.c.id)).scalars())


def remove_silent_writers(connection: Connection, *, silent_since: float) -> frozenset[str]:
    """Ends writers that have not been seen since a time; their ids."""
    result = connection.execute(
        delete(writers).where(writers.c.seen_at <= silent_since).returning(writers.c.id)
    )
    return frozenset(result.scalars())


def missing_writers(connection: Connection, ids: Collection[str]) -> frozenset[str]:
    """Which writers were taken for dead; the others stay known until the transaction ends."""
    missing = set(ids)
    for chunk in chunks(sorted(ids)):
        known = select(writers.c.id).where(writers.c.id.in_(chunk)).with_for_update(read=True)
        missing.difference_update(connection.execute(known).scalars())
    return frozenset(missing)
