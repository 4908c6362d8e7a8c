"""A client over HTTP, and one on a folder, for every connector."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import fletching
from fletching.client import Client


@pytest.fixture(params=["http", "embedded"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Client]:
    keys = {"id": "secret"}
    if request.param == "embedded":
        with fletching.connect(tmp_path / "data", project="demo", create=True) as client:
            yield client
        return
    with (
        fletching.serve(tmp_path / "data", port=0, access_keys=keys) as server,
        fletching.connect(
            server.url, project="demo", access_id="id", access_key="secret"
        ) as client,
    ):
        yield client
