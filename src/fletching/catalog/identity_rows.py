"""Which object store is this catalog's, and which server key made what is sealed in it."""

from __future__ import annotations

import dataclasses

from sqlalchemy import Connection, delete, select, update

from fletching.catalog.database import insert_unless_there
from fletching.catalog.schema import blob_packs, segments, staged_segments, store_identity

__all__ = ["IdentityRow", "any_object_key", "ensure_identity", "find_identity", "replace_identity"]

_ONLY = 1  # the table has one row


@dataclasses.dataclass(frozen=True, slots=True)
class IdentityRow:
    """What a catalog says of itself."""

    store_id: str
    key_fingerprint: str | None
    """Of the server key; None until one is known."""
    created_at: float


def find_identity(connection: Connection) -> IdentityRow | None:
    """The catalog's identity; None before its first opening by a release that gives one."""
    row = connection.execute(
        select(
            store_identity.c.store_id,
            store_identity.c.key_fingerprint,
            store_identity.c.created_at,
        ).where(store_identity.c.pk == _ONLY)
    ).first()
    return None if row is None else IdentityRow(*row)


def ensure_identity(connection: Connection, row: IdentityRow) -> IdentityRow:
    """Gives the catalog an identity unless it has one; returns the one that it has now."""
    insert_unless_there(
        connection,
        store_identity,
        pk=_ONLY,
        store_id=row.store_id,
        key_fingerprint=row.key_fingerprint,
        created_at=row.created_at,
    )
    known = find_identity(connection)
    assert known is not None
    if known.key_fingerprint is None and row.key_fingerprint is not None:
        known = dataclasses.replace(known, key_fingerprint=row.key_fingerprint)
        connection.execute(
            update(store_identity)
            .where(store_identity.c.pk == _ONLY, store_identity.c.key_fingerprint.is_(None))
            .values(key_fingerprint=row.key_fingerprint)
        )
    return known


def replace_identity(connection: Connection, row: IdentityRow) -> None:
    """Gives the catalog another identity, for a person who says so."""
    connection.execute(delete(store_identity))
    ensure_identity(connection, row)


def any_object_key(connection: Connection) -> str | None:
    """The key of some object that the catalog lists; None if it lists none."""
    for table in (segments, blob_packs, staged_segments):
        key = connection.execute(select(table.c.key).limit(1)).scalar()
        if key is not None:
            return str(key)
    return None
