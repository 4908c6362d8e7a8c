"""Projects and schemas: made once, whatever the case of their names."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection

from fletching.catalog.namespace_rows import (
    drop_schema,
    ensure_project,
    ensure_schema,
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
