"""Opening a catalog: connect, then bring its tables to the newest revision, or look which one they have."""

from __future__ import annotations

from pathlib import Path

from fletching.catalog.database import (
    BUSY_TIMEOUT_SECONDS,
    POOL_CONNECTIONS,
    CatalogLook,
    Database,
    look_at_catalog,
    translated_errors,
)
from fletching.catalog.migrations import check_revision, current_revision, refuse_newer, upgrade

__all__ = ["look_at_revision", "open_catalog"]


def open_catalog(
    url: str | Path,
    *,
    busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS,
    migrate: bool = True,
    create: bool = True,
    connections: int = POOL_CONNECTIONS,
) -> Database:
    """Opens a catalog whose tables are those of this release.

    Args:
        url: as for `Database.open`.
        busy_timeout_seconds: how long to wait for other processes' transactions.
        migrate: whether tables of an earlier release are brought to this one's, or refused.
        create: whether a SQLite file comes into being if it is absent.
        connections: most connections to PostgreSQL at once.

    Raises:
        StorageError: it cannot be opened, is absent, or is of another release: of a newer one, or of
            any other where it may not be migrated.
    """
    database = Database.open(
        url, busy_timeout_seconds=busy_timeout_seconds, create=create, connections=connections
    )
    try:
        with translated_errors():
            if migrate:
                upgrade(database)
            else:
                check_revision(database)
    except BaseException:
        database.close()
        raise
    return database


def look_at_revision(location: str | Path) -> str | None:
    """The revision of a catalog that may be absent, and is not made.

    Raises:
        StorageError: it cannot be asked, or was written by a newer release.
    """
    if look_at_catalog(location) is CatalogLook.ABSENT:
        return None
    database = Database.open(location, create=False)
    try:
        with database.read() as connection:
            current = current_revision(connection)
            refuse_newer(current)
            return current
    finally:
        database.close()
