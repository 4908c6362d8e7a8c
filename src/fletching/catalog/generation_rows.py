"""The generation of a catalog: how often somebody began to write objects with it.

It is a row of the leases, which have what it takes: a number that only grows, and who made it grow.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, case, select, update

from fletching.catalog.database import insert_unless_there
from fletching.catalog.schema import leases

__all__ = ["Generation", "begin_generation", "find_generation"]

_NAME = "generation of the objects"


class Generation(NamedTuple):
    """A number, from 1 up, and what tells it from another catalog's of the same number."""

    number: int
    token: str


def find_generation(connection: Connection) -> Generation:
    """The newest generation; 0 before the first one."""
    row = connection.execute(
        select(leases.c.number, leases.c.holder).where(leases.c.name == _NAME)
    ).first()
    return Generation(0, "") if row is None else Generation(int(row.number), row.holder)


def begin_generation(connection: Connection, token: str, above: int = 0) -> int:
    """Begins the next generation in a ``write`` transaction; returns its number, which is greater than ``above``."""
    reached = case((leases.c.number > above, leases.c.number), else_=above)
    begun = (
        update(leases)
        .where(leases.c.name == _NAME)
        .values(holder=token, number=reached + 1)
        .returning(leases.c.number)
    )
    # But for the first time the row is there, and a statement takes longer to make than to execute.
    number = connection.execute(begun).scalar_one_or_none()
    if number is None:
        insert_unless_there(connection, leases, name=_NAME, holder="", expires_at=0.0, number=0)
        number = connection.execute(begun).scalar_one()
    return int(number)
