"""A client over HTTP, and one on a folder, for every connector."""

from __future__ import annotations

from collections.abc import Iterator
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
