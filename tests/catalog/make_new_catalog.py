"""Writes ``new_catalog.sql`` anew after a new revision: ``python -m tests.catalog.make_new_catalog``."""

from __future__ import annotations

import tempfile
from pathlib import Path

from sqlalchemy import Connection, text

from fletching.catalog.database import Database
from fletching.catalog.migrations import new_catalog, upgrade

FILE = Path(new_catalog.__file__).with_suffix(".sql")


def dump_tables(connection: Connection) -> str:
    """What makes the tables of an empty catalog, and its revision, in the order in which they came."""
    statements = connection.execute(
        text("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid")
    ).scalars()
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    last = f"INSERT INTO alembic_version (version_num) VALUES ('{revision}')"
    return "".join(f"{statement}{new_catalog.BETWEEN}" for statement in [*statements, last])


def write_file() -> None:
    """Runs the whole history in an empty file and keeps what it leaves."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database.open(Path(folder) / "catalog.sqlite")
        upgrade(database, step_by_step=True)
        with database.read() as connection:
            FILE.write_text(dump_tables(connection), "utf-8")
        database.close()


if __name__ == "__main__":
    write_file()
