"""A catalog in each database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fletching.catalog.database import Database


@pytest.fixture(params=["sqlite", "postgresql"])
def catalog_location(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    """Where an empty catalog is: a path for SQLite, a URL for PostgreSQL."""
    if request.param == "sqlite":
        return tmp_path / "catalog.sqlite"
    return str(request.getfixturevalue("postgresql").create())


@pytest.fixture
def any_database(catalog_location: str | Path) -> Iterator[Database]:
    """An open, empty catalog, once in each database."""
    database = Database.open(catalog_location)
    yield database
    database.close()
