"""Who opens a catalog has the tables of this release, or is told why not."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from fletching.catalog import migrations
from fletching.catalog.database import Database
from fletching.catalog.opening import look_at_revision, open_catalog
from fletching.errors import StorageError


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    open_catalog(path).close()
    before = path.read_bytes()
    open_catalog(path).close()
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["plain", "a?mode=ro", "a#b", "50%25", "a;b"])
def test_a_path_may_have_any_form(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "catalog.sqlite"
    path.parent.mkdir()
    open_catalog(Path(f"/{path}")).close()  # with two slashes, which mean no more than one
    assert look_at_revision(path) == migrations.NEWEST_REVISION


def test_a_catalog_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    database = open_catalog(path)
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(StorageError, match="newer Fletching"):
        open_catalog(path)
    with pytest.raises(StorageError, match="newer Fletching"):
        look_at_revision(path)  # `fletching migrate --check` does not say that migrating is needed


def test_tables_of_an_earlier_release_are_migrated_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    database = Database.open(path)
    migrations.upgrade(database, "0001")
    database.close()
    with pytest.raises(StorageError, match=r"at revision 0001 .* run fletching migrate"):
        open_catalog(path, migrate=False)
    assert look_at_revision(path) == "0001"
    open_catalog(path).close()
    assert look_at_revision(path) == migrations.NEWEST_REVISION
    open_catalog(path, migrate=False).close()


def test_looking_makes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    assert look_at_revision(path) is None
    path.touch()
    assert look_at_revision(path) is None
    assert path.stat().st_size == 0
    with pytest.raises(StorageError):
        open_catalog(tmp_path / "none.sqlite", create=False)
    assert [file.name for file in tmp_path.iterdir()] == ["catalog.sqlite"]
