"""One service per test, and clients of it with fewer rights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.server.conftest import RawClient, Start

from fletching.engine.access.permissions import Grant, Permission
from fletching.server.server import Server


@pytest.fixture
def server(start: Start) -> Server:
    return start(key_refresh_seconds=0.0)


@pytest.fixture
def client(server: Server) -> RawClient:
    return RawClient(server.url)


@pytest.fixture
def granted(server: Server) -> Callable[..., RawClient]:
    """Makes keys with grants, each ``project table permission``."""
    numbers = iter(range(100))

    def make(*grants: tuple[str, str, str], **options: Any) -> RawClient:
        keys = server.service.engine.access_keys
        key = keys.create(access_id=f"key{next(numbers)}", **options)
        for project, table, permission in grants:
            keys.grant(Grant(key.access_id, project, table, Permission(permission)))
        return RawClient(server.url, key.access_id, key.secret)

    return make
