"""A new catalog in SQLite: its tables all at once, instead of the whole history one revision after another.

``new_catalog.sql`` is what the migrations leave in an empty file, statement by statement; a test compares
the two. It takes a twentieth of the time and no import of alembic. After a new revision,
``python -m fletching.catalog.migrations.new_catalog`` writes the file anew.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["create_tables", "dump_tables", "is_empty"]

_FILE = Path(__file__).with_suffix(".sql")
_BETWEEN = ";\n\n"


def is_empty(connection: Connection) -> bool:
    """Whether a SQLite file has no table, index, view or trigger yet."""
    return connection.execute(text("SELECT 1 FROM sqlite_master LIMIT 1")).first() is None


def create_tables(connection: Connection) -> None:
    """Makes the tables of the newest revision in an empty SQLite file, inside the open transaction."""
    for statement in _FILE.read_text("utf-8").removesuffix(_BETWEEN).split(_BETWEEN):
        connection.exec_driver_sql(statement)


def dump_tables(connection: Connection) -> str:
    """What makes the tables of an empty catalog, and its revision, in the order in which they came."""
    statements = connection.execute(
        text("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid")
    ).scalars()
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    last = f"INSERT INTO alembic_version (version_num) VALUES ('{revision}')"  # noqa: S608 - a revision's own number
    return "".join(f"{statement}{_BETWEEN}" for statement in [*statements, last])


def _write_file() -> None:
    from fletching.catalog.database import Database
    from fletching.catalog.migrations import upgrade

    with tempfile.TemporaryDirectory() as folder:
        database = Database.open(Path(folder) / "catalog.sqlite", migrate=False)
        upgrade(database, step_by_step=True)
        with database.read() as connection:
            _FILE.write_text(dump_tables(connection), "utf-8")
        database.close()


if __name__ == "__main__":
    _write_file()
