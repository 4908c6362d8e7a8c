"""Access keys and grants: who may sign requests, and what they may do."""

from __future__ import annotations

import dataclasses

from sqlalchemy import Connection, delete, select, update

from fletching.catalog.database import insert_unless_there
from fletching.catalog.schema import access_keys, grants
from fletching.errors import AlreadyExistsError, NotFoundError

__all__ = [
    "GrantRow",
    "KeyRow",
    "delete_grant",
    "find_key",
    "insert_grant",
    "insert_key",
    "list_grants",
    "list_keys",
    "replace_secret",
    "revoke_key",
]


@dataclasses.dataclass(frozen=True, slots=True)
class KeyRow:
    """A row of ``access_keys``. Times are seconds since the epoch; secrets are encrypted."""

    id: str
    owner: str
    secret: bytes = dataclasses.field(repr=False)
    security_token: bytes | None = dataclasses.field(repr=False)
    comment: str
    created_at: float
    expires_at: float | None
    revoked_at: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class GrantRow:
    """A row of ``grants``: an access id or owner may do something to what the patterns match."""

    grantee: str
    project_pattern: str
    table_pattern: str
    permission: str
    created_at: float


def insert_key(connection: Connection, row: KeyRow) -> None:
    """Keeps a key.

    Raises:
        AlreadyExistsError: the id is taken, by a revoked key also.
    """
    if not insert_unless_there(connection, access_keys, **dataclasses.asdict(row)):
        raise AlreadyExistsError(f"access key {row.id} already exists")


def find_key(connection: Connection, access_id: str) -> KeyRow | None:
    """Looks a key up; None if there is none."""
    row = connection.execute(select(access_keys).where(access_keys.c.id == access_id)).first()
    return None if row is None else KeyRow(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name


def list_keys(connection: Connection) -> list[KeyRow]:
    """All keys by age."""
    rows = connection.execute(
        select(access_keys).order_by(access_keys.c.created_at, access_keys.c.id)
    )
    return [KeyRow(**row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's public name


def revoke_key(connection: Connection, access_id: str, now: float) -> None:
    """Ends a key for good; repeated, the first time counts.

    Raises:
        NotFoundError: there is no such key.
    """
    connection.execute(
        update(access_keys)
        .where(access_keys.c.id == access_id, access_keys.c.revoked_at.is_(None))
        .values(revoked_at=now)
    )
    if find_key(connection, access_id) is None:
        raise NotFoundError(f"there is no access key {access_id}")


def replace_secret(
    connection: Connection, access_id: str, secret: bytes, security_token: bytes | None
) -> None:
    """Gives a key another secret.

    Raises:
        NotFoundError: there is no such key, or it was revoked.
    """
    changed = connection.execute(
        update(access_keys)
        .where(access_keys.c.id == access_id, access_keys.c.revoked_at.is_(None))
        .values(secret=secret, security_token=security_token)
        .returning(access_keys.c.id)
    )
    if changed.first() is None:
        raise NotFoundError(f"there is no access key {access_id} in use")


def insert_grant(connection: Connection, row: GrantRow) -> bool:
    """Keeps a grant; says whether it is new."""
    return insert_unless_there(connection, grants, **dataclasses.asdict(row))


def delete_grant(connection: Connection, row: GrantRow) -> bool:
    """Removes a grant; says whether there was one."""
    result = connection.execute(
        delete(grants)
        .where(
            grants.c.grantee == row.grantee,
            grants.c.project_pattern == row.project_pattern,
            grants.c.table_pattern == row.table_pattern,
            grants.c.permission == row.permission,
        )
        .returning(grants.c.pk)
    )
    return result.first() is not None


def list_grants(connection: Connection) -> list[GrantRow]:
    """All grants by age."""
    rows = connection.execute(
        select(
            grants.c.grantee,
            grants.c.project_pattern,
            grants.c.table_pattern,
            grants.c.permission,
            grants.c.created_at,
        ).order_by(grants.c.pk)
    )
    return [GrantRow(*row) for row in rows]
