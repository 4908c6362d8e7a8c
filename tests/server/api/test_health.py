"""The two paths that answer without a signature."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from fletching.errors import MethodNotAllowedError, ServiceUnavailableError
from fletching.server.api.health import HEALTH_PATHS, handle_health


def answered(
    path: str, method: str = "GET", *, draining: bool = False, ready: bool = True
) -> bytes:
    sent: list[bytes] = []

    async def reply(body: bytes) -> None:
        sent.append(body)

    async def check() -> None:
        if not ready:
            raise ServiceUnavailableError("the catalog does not answer")

    exchange: Any = SimpleNamespace(method=method, path=path, reply=reply)
    service: Any = SimpleNamespace(draining=draining, readiness=SimpleNamespace(check=check))
    asyncio.run(handle_health(exchange, service))
    return sent[0]


@pytest.mark.parametrize("path", sorted(HEALTH_PATHS))
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_all_is_well(path: str, method: str) -> None:
    assert answered(path, method) == b'{"status":"ok"}'


def test_who_lives_may_not_be_ready() -> None:
    for draining, ready in ((True, True), (False, False)):
        assert answered("/healthz", draining=draining, ready=ready)
        with pytest.raises(ServiceUnavailableError):
            answered("/readyz", draining=draining, ready=ready)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_else_is_done_there(method: str) -> None:
    for path in HEALTH_PATHS:
        with pytest.raises(MethodNotAllowedError, match=method):
            answered(path, method)
