"""One service per test, and clients of it with fewer rights."""

from __future__ import annotations

import pytest
from tests.server.conftest import RawClient, Start

from fletching.server.server import Server


@pytest.fixture
def server(start: Start) -> Server:
    return start(key_refresh_seconds=0.0)


@pytest.fixture
def client(server: Server) -> RawClient:
    return RawClient(server.url)
