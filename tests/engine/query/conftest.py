"""Statements run by an engine, and what came of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fletching
from fletching.engine.query.instance_results import selection_of
from fletching.errors import FletchingError
from fletching.sql.statements.statement_kinds import Namespace

HERE = Namespace("demo", "default")


class Sql:
    """Runs statements in project ``demo``."""

    def __init__(self, house: Any) -> None:
        house.engine.ensure_project("demo")
        self.house = house
        self.instances = house.engine.instances

    def __call__(self, text: str, **options: Any) -> str:
        """What statements print; they must succeed."""
        row = self.instances.run(text, HERE, **options)
        assert row.succeeded, row.result
        result: str = self.instances.result(row)
        return result

    def rows(self, text: str) -> list[tuple[str, ...]]:
        """The rows of a query as text."""
        _, *lines = csv.reader(io.StringIO(self(text)))
        return [tuple(row) for row in lines]

    def changed(self, text: str) -> int | None:
        """How many rows a statement changed."""
        row = self.instances.run(text, HERE)
        assert row.succeeded, row.result
        return selection_of(row).affected

    def fails(self, text: str, **options: Any) -> str:
        """The failure of statements."""
        try:
            row = self.instances.run(text, HERE, **options)
        except FletchingError as error:
            return error.message
        assert not row.succeeded
        return str(row.result)


@pytest.fixture
def sql(house: Any) -> Sql:
    return Sql(house)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[fletching.Client]:
    with fletching.connect(tmp_path / "data", create=True) as result:
        yield result
