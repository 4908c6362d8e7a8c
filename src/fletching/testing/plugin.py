"""A pytest plugin: a ready server and clients of it, for tests of code that uses Fletching.

Installed with the package (entry point ``pytest11``), so the fixtures are there without an import.
They need the ``[server]`` extra.

    def test_mine(fletching_client):
        table = fletching_client.create_table("t", "id BIGINT")
        ...
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

import fletching

if TYPE_CHECKING:
    from fletching.client import Client
    from fletching.server import Server

__all__ = ["ACCESS_ID", "ACCESS_KEY", "fletching_client", "fletching_server"]

ACCESS_ID = "test-id"
ACCESS_KEY = "test-secret"
"""The one key of `fletching_server`; the server lives on loopback and in a temporary folder only."""


@pytest.fixture(scope="session")
def fletching_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on a free loopback port over a temporary folder, one for the whole run.

    Its ``url`` and ``port`` tell where; `ACCESS_ID` and `ACCESS_KEY` open it. Tests keep apart by
    using projects of their own, as `fletching_client` does.
    """
    folder = tmp_path_factory.mktemp("fletching-server")
    with fletching.serve(folder, port=0, access_keys={ACCESS_ID: ACCESS_KEY}) as server:
        yield server


@pytest.fixture
def fletching_client(fletching_server: Server) -> Iterator[Client]:
    """A client of `fletching_server`, in a project that no other test has."""
    project = f"test_{uuid.uuid4().hex[:16]}"
    with fletching.connect(
        fletching_server.url,
        project=project,
        access_id=ACCESS_ID,
        access_key=ACCESS_KEY,
        create=True,
    ) as client:
        yield client
