"""A client over HTTP, and one on a folder, for every connector."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fletching
from fletching.client import Client


@pytest.fixture
def http_client(tmp_path: Path) -> Iterator[Client]:
    with (
        fletching.serve(tmp_path / "data", port=0, access_keys={"id": "secret"}) as server,
        fletching.connect(
            server.url, project="demo", access_id="id", access_key="secret"
        ) as client,
    ):
        yield client


@pytest.fixture(params=["http", "embedded"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Client]:
    if request.param == "http":
        yield request.getfixturevalue("http_client")
        return
    with fletching.connect(tmp_path / "data", project="demo", create=True) as client:
        yield client


@pytest.fixture
def open_sessions(tmp_path: Path) -> Callable[[], list[str]]:
    """The read and write sessions of the data folder that have neither ended nor expired."""

    def look() -> list[str]:
        place = f"file:{tmp_path / 'data' / 'catalog.sqlite'}?mode=ro"
        with contextlib.closing(sqlite3.connect(place, uri=True)) as catalog:
            reads = catalog.execute(
                "SELECT 'read ' || id FROM read_sessions WHERE expires_at > ?", (time.time(),)
            )
            writes = catalog.execute(
                "SELECT 'write ' || id FROM write_sessions WHERE ended_at IS NULL AND expires_at > ?",
                (time.time(),),
            )
            return [name for (name,) in [*reads, *writes]]

    return look
