"""Leases: background work that one process at a time should do.

A lease is short, is renewed while its holder works, and has a number that grows with each change of
holder: a transaction that depends on the lease checks the number, so that a holder who slept through
the end of its lease cannot do late what another has taken over.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, delete, or_, select, update

from fletching.catalog.database import insert_unless_there
from fletching.catalog.schema import leases

__all__ = [
    "acquire_lease",
    "find_note",
    "forget_lease",
    "holds_lease",
    "keep_note",
    "release_lease",
    "release_leases_of",
    "renew_lease",
]


def acquire_lease(
    connection: Connection, name: str, holder: str, *, now: float, seconds: float
) -> int | None:
    """Takes or extends a lease in a ``write`` transaction.

    One that ends later than if it were renewed now was taken by a clock that has been set back since: it ends
    then, unless its holder renews it.

    Returns:
        The lease's number, from 1 up; None if someone else has it.
    """
    insert_unless_there(connection, leases, name=name, holder="", expires_at=0.0, number=0)
    row = connection.execute(
        select(leases.c.holder, leases.c.expires_at, leases.c.number)
        .where(leases.c.name == name)
        .with_for_update()
    ).one()
    if row.holder != holder and row.holder and row.expires_at > now:
        if row.expires_at > now + seconds:
            renew_lease(connection, name, int(row.number), now=now, seconds=seconds)
        return None
    number = int(row.number) if row.holder == holder else int(row.number) + 1
    connection.execute(
        update(leases)
        .where(leases.c.name == name)
        .values(holder=holder, expires_at=now + seconds, number=number)
    )
    return number


def renew_lease(
    connection: Connection, name: str, number: int, *, now: float, seconds: float
) -> bool:
    """Extends a lease; False if it has passed to someone else."""
    result = connection.execute(
        update(leases)
        .where(leases.c.name == name, leases.c.number == number, leases.c.holder != "")
        .values(expires_at=now + seconds)
        .returning(leases.c.name)
    )
    return result.first() is not None


def holds_lease(connection: Connection, name: str, number: int) -> bool:
    """Whether the lease is still the one with this number; it stays so until the transaction ends."""
    row = connection.execute(
        select(leases.c.holder, leases.c.number)
        .where(leases.c.name == name)
        .with_for_update(read=True)
    ).first()
    return row is not None and row.holder != "" and row.number == number


def release_lease(connection: Connection, name: str, holder: str) -> None:
    """Gives a lease up; does nothing if someone else has it. Its number is kept."""
    connection.execute(
        update(leases)
        .where(leases.c.name == name, leases.c.holder == holder)
        .values(holder="", expires_at=0.0)
    )


def release_leases_of(connection: Connection, holders: Collection[str]) -> None:
    """Frees what holders had whose names begin with these: of processes that are known to be dead."""
    if not holders:
        return
    theirs = (leases.c.holder.startswith(holder, autoescape=True) for holder in sorted(holders))
    connection.execute(update(leases).where(or_(*theirs)).values(holder="", expires_at=0.0))


def forget_lease(connection: Connection, name: str) -> None:
    """Removes a lease whose work cannot come again."""
    connection.execute(delete(leases).where(leases.c.name == name))


# --- notes: rows that nobody holds, whose holder is what is noted ---


def find_note(connection: Connection, name: str) -> str | None:
    """What was noted under a name; None if nothing was."""
    return connection.execute(select(leases.c.holder).where(leases.c.name == name)).scalar()


def keep_note(connection: Connection, name: str, text: str) -> None:
    """Notes a text in the place of the one before."""
    insert_unless_there(connection, leases, name=name, holder="", expires_at=0.0, number=0)
    connection.execute(update(leases).where(leases.c.name == name).values(holder=text))
