"""A new catalog in SQLite: its tables all at once, instead of the whole history one revision after another.

``new_catalog.sql`` is what the migrations leave in an empty file, statement by statement; a test compares
the two. It takes a twentieth of the time and no import of alembic. After a new revision,
``python -m tests.catalog.make_new_catalog`` writes the file anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["BETWEEN", "create_tables", "is_empty"]

_FILE = Path(__file__).with_suffix(".sql")
BETWEEN = ";\n\n"


def is_empty(connection: Connection) -> bool:
    """Whether a SQLite file has no table, index, view or trigger yet."""
    return connection.execute(text("SELECT 1 FROM sqlite_master LIMIT 1")).first() is None


def create_tables(connection: Connection) -> None:
    """Makes the tables of the newest revision in an empty SQLite file, inside the open transaction."""
    for statement in _FILE.read_text("utf-8").removesuffix(BETWEEN).split(BETWEEN):
        connection.exec_driver_sql(statement)
