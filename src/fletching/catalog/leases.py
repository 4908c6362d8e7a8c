"""Leases: background work that one process at a time should do."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, delete, select, update

from fletching.catalog.database import insert_unless_there
from fletching.catalog.schema import leases

__all__ = ["acquire_lease", "release_lease", "release_leases_of"]


def acquire_lease(
    connection: Connection, name: str, holder: str, *, now: float, seconds: float
) -> bool:
    """Takes or extends a lease in a ``write`` transaction; False if someone else has it."""
    if insert_unless_there(connection, leases, name=name, holder=holder, expires_at=now + seconds):
        return True
    row = connection.execute(
        select(leases.c.holder, leases.c.expires_at).where(leases.c.name == name).with_for_update()
    ).one()
    if row.holder != holder and row.expires_at > now:
        return False
    connection.execute(
        update(leases).where(leases.c.name == name).values(holder=holder, expires_at=now + seconds)
    )
    return True


def release_lease(connection: Connection, name: str, holder: str) -> None:
    """Gives a lease up; does nothing if someone else has it."""
    connection.execute(delete(leases).where(leases.c.name == name, leases.c.holder == holder))


def release_leases_of(connection: Connection, holders: Collection[str]) -> None:
    """Frees what processes held that are known to be dead, instead of waiting for it to run out."""
    connection.execute(delete(leases).where(leases.c.holder.in_(sorted(holders))))
