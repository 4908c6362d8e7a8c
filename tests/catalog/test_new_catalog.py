"""A new catalog in SQLite is what the migrations make of an empty file."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.catalog import make_new_catalog

from fletching.catalog import migrations
from fletching.catalog.database import Database
from fletching.catalog.migrations import new_catalog
from fletching.catalog.opening import open_catalog

AGAIN = f"write it anew with: python -m {make_new_catalog.__name__}"


def everything(path: Path) -> tuple[list[tuple[object, ...]], list[str]]:
    """What SQLite knows of a file's tables, and every row."""
    with sqlite3.connect(path) as connection:
        known = connection.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY rowid"
        ).fetchall()
        rows = list(connection.iterdump())
    connection.close()
    return known, rows


def test_it_is_what_the_migrations_leave(tmp_path: Path) -> None:
    open_catalog(tmp_path / "new.sqlite").close()
    database = Database.open(tmp_path / "migrated.sqlite")
    migrations.upgrade(database, step_by_step=True)
    with database.read() as connection:
        written = make_new_catalog.dump_tables(connection)
    database.close()
    assert make_new_catalog.FILE.read_text("utf-8") == written, AGAIN
    assert everything(tmp_path / "new.sqlite") == everything(tmp_path / "migrated.sqlite"), AGAIN


def test_a_file_with_tables_in_it_is_migrated_from_where_it_is(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "catalog.sqlite")
    with database.read() as connection:
        assert new_catalog.is_empty(connection)
    migrations.upgrade(database, "0001")
    with database.read() as connection:
        assert not new_catalog.is_empty(connection)
    migrations.upgrade(database)
    with database.read() as connection:
        assert migrations.current_revision(connection) == migrations.NEWEST_REVISION
    database.close()


def test_what_fails_in_the_middle_leaves_an_empty_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements = tmp_path / "broken.sql"
    statements.write_text("CREATE TABLE t (a TEXT);\n\nCREATE TABLE t (a TEXT);\n\n", "utf-8")
    database = Database.open(tmp_path / "catalog.sqlite")
    with monkeypatch.context() as patch:
        patch.setattr(new_catalog, "_FILE", statements)
        with pytest.raises(Exception, match="already exists"):
            migrations.upgrade(database)
    with database.read() as connection:
        assert new_catalog.is_empty(connection)
    migrations.upgrade(database)
    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM tables")).scalar() == 0
    database.close()


def test_a_new_catalog_needs_no_alembic(tmp_path: Path) -> None:
    program = (
        "import sys; from fletching.catalog.opening import open_catalog\n"
        "open_catalog(sys.argv[1]).close()\n"
        "print('alembic' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "catalog.sqlite")],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.stdout.strip() == "False"
