"""The history of the catalog's tables: one revision per change, run when a catalog is opened (`fletching.catalog.opening`).

Revisions are the modules of ``versions``, in order. Each is written out with alembic's operations
and never refers to ``schema.py``, which moves on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy
from sqlalchemy import Connection, text

from fletching.catalog.migrations.new_catalog import create_tables, is_empty
from fletching.errors import StorageError

if TYPE_CHECKING:
    from fletching.catalog.database import Database

__all__ = ["NEWEST_REVISION", "check_revision", "current_revision", "refuse_newer", "upgrade"]

NEWEST_REVISION = "0012"
"""What this release writes. Known without alembic, whose import would cost every opening."""

_MIGRATION_LOCK = 0x666C6574636869
"""The number of the lock under which one process at a time migrates a PostgreSQL catalog."""


def current_revision(connection: Connection) -> str | None:
    """The revision that the catalog is at; None before its first."""
    if not sqlalchemy.inspect(connection).has_table("alembic_version"):
        return None
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if revision is None else str(revision)


def check_revision(database: Database) -> None:
    """Only looks whether the catalog is what this release works with.

    Raises:
        StorageError: it is of another release.
    """
    with database.read() as connection:
        current = current_revision(connection)
    if current == NEWEST_REVISION:
        return
    refuse_newer(current)
    raise StorageError(
        f"the catalog is at revision {current or 'none'} and this release works with"
        f" {NEWEST_REVISION}: run fletching migrate first"
    )


def refuse_newer(current: str | None) -> None:
    """Refuses a catalog's revision that only a newer release makes.

    Raises:
        StorageError: it is one.
    """
    if current is not None and current > NEWEST_REVISION:
        raise _newer(current)


def _newer(current: str) -> StorageError:
    return StorageError(
        f"the catalog is at revision {current}, which this release does not know: "
        "it was written by a newer Fletching; upgrade to open it"
    )


def upgrade(
    database: Database, revision: str = NEWEST_REVISION, *, step_by_step: bool = False
) -> None:
    """Brings the catalog up to a revision in one transaction; does nothing if it is there.

    Args:
        database: the open catalog.
        revision: the one to stop at.
        step_by_step: run the whole history in an empty SQLite file too, see `new_catalog`.

    Raises:
        StorageError: the catalog was written by a release that is newer than this one.
    """
    with database.read() as connection:
        if current_revision(connection) == revision:
            return
    if database.is_sqlite and revision == NEWEST_REVISION and not step_by_step:
        with database.write() as connection:
            if is_empty(connection):
                create_tables(connection)
                return
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.operations import Operations
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", __path__[0].replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    # Two processes that open a new folder at once take turns here: the second reads the revision
    # again inside its transaction and finds nothing left to do.
    with database.write() as connection:
        if not database.is_sqlite:
            # Without a table to lock there is only this. It goes with the transaction.
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
        current = current_revision(connection)
        if current is not None and current not in known:
            raise _newer(current)
        context = MigrationContext.configure(
            connection,
            opts={
                # What alembic itself passes: the steps between where the catalog is and `revision`.
                "fn": lambda start, _context: scripts._upgrade_revs(revision, start),  # noqa: SLF001 - alembic's command does the same; its public way wants an env.py
            },
        )
        with Operations.context(context):
            context.run_migrations()
