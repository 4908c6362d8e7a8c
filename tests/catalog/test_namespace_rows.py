"""Projects and schemas: made once, whatever the case of their names."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy
from sqlalchemy import Connection
from tests.waiting import until

from fletching.catalog.database import Database
from fletching.catalog.namespace_rows import (
    drop_schema,
    ensure_project,
    ensure_schema,
    hold_project,
    list_projects,
    list_schemas,
)
from fletching.errors import NoSuchProjectError


def test_names_are_kept_as_first_written(rows: Connection) -> None:
    ensure_project(rows, "Beta", 1.0)
    ensure_project(rows, "alpha", 2.0)
    ensure_project(rows, "BETA", 3.0)
    assert list_projects(rows) == ["alpha", "Beta"]
    ensure_schema(rows, "beta", "Two", 4.0)
    ensure_schema(rows, "Beta", "TWO", 5.0)
    ensure_schema(rows, "Beta", "one", 6.0)
    assert list_schemas(rows, "bETA") == [("one", 6.0), ("Two", 4.0)]
    assert list_schemas(rows, "alpha") == []
    drop_schema(rows, "BETA", "two")
    drop_schema(rows, "BETA", "two")
    assert list_schemas(rows, "beta") == [("one", 6.0)]


def test_an_unknown_project_has_no_schemas(rows: Connection) -> None:
    for call in (lambda: list_schemas(rows, "none"), lambda: ensure_schema(rows, "none", "s", 1.0)):
        with pytest.raises(NoSuchProjectError):
            call()
    assert list_projects(rows) == []


WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"


def test_of_two_who_make_a_project_at_once_the_later_finds_it(any_database: Database) -> None:
    def make(connection: Connection) -> bool:
        there = hold_project(connection, "Q")
        ensure_project(connection, "Q", 1.0)
        return there

    def later() -> bool:
        with any_database.write() as connection:
            return make(connection)

    with ThreadPoolExecutor(1) as pool:
        with any_database.write() as connection:
            there = hold_project(connection, "q")
            second = pool.submit(later)
            if connection.dialect.name == "postgresql":
                waiting = sqlalchemy.text(WAITING)
                until(lambda: second.done() or connection.execute(waiting).scalar_one() > 0)
            there |= make(connection)
        assert [there, second.result()] == [False, True]
