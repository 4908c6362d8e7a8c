"""A catalog in each database."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Connection

from fletching.catalog.database import Database
from fletching.catalog.namespace_rows import ensure_project
from fletching.catalog.opening import open_catalog
from fletching.catalog.segment_rows import encode_partition
from fletching.catalog.table_rows import TableRow, insert_table
from fletching.catalog.write_stream_rows import NewSegment
from fletching.types import TableName


@pytest.fixture(params=["sqlite", "postgresql"])
def catalog_location(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    """Where an empty catalog is: a path for SQLite, a URL for PostgreSQL."""
    if request.param == "sqlite":
        return tmp_path / "catalog.sqlite"
    return str(request.getfixturevalue("postgresql").create())


@pytest.fixture
def any_database(catalog_location: str | Path) -> Iterator[Database]:
    """An open, empty catalog, once in each database."""
    database = open_catalog(catalog_location)
    yield database
    database.close()


@pytest.fixture(params=["sqlite", "postgresql"], scope="session")
def shared_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    """One open catalog in each database for all tests that undo what they do."""
    location: str | Path = tmp_path_factory.mktemp("catalog") / "catalog.sqlite"
    if request.param == "postgresql":
        location = str(request.getfixturevalue("postgresql_catalog"))
    database = open_catalog(location)
    yield database
    database.close()


@pytest.fixture
def rows(shared_database: Database) -> Iterator[Connection]:
    """A transaction on an empty catalog; nothing of it stays."""
    with shared_database.trial() as connection:
        yield connection


MakeTable = Callable[..., TableRow]
MakeSegment = Callable[..., NewSegment]


@pytest.fixture
def new_table(rows: Connection) -> MakeTable:
    """Makes a table of project ``p`` with the partition column ``pt``."""

    return functools.partial(add_table, rows)


def add_table(connection: Connection, name: str = "T", /, **columns: object) -> TableRow:
    """Makes a table of project ``p`` with the partition column ``pt`` in a transaction."""
    ensure_project(connection, "p", 0.0)
    values: dict[str, object] = {
        "table_id": name.casefold(), "name": TableName("p", name),
        "partition_columns": [("pt", "string")], "arrow_schema": b"schema", "column_ids": [[1], [2]],
        "next_column_id": 3, "owner": "ann", "comment": "", "properties": {}, "primary_key": [],
        "lifecycle_days": None, "now": 1.0,
    }  # fmt: skip
    return insert_table(connection, **(values | columns))  # type: ignore[arg-type]  # any of its words


@pytest.fixture
def new_segment() -> MakeSegment:
    """Makes segments of their own keys: one batch of so many rows."""
    numbers = itertools.count()

    def make(partition: str = "a", rows: int = 1) -> NewSegment:
        return NewSegment(
            key=f"k{next(numbers)}", partition=encode_partition([partition]), schema_version=1,
            rows=rows, length=10 * rows, crc32c=7, batch_index=np.array([0, 8, 8, rows], "<i8").tobytes(),
            dictionary_index=b"", codecs="",
        )  # fmt: skip

    return make
