"""The way of every request: who it belongs to, what becomes of a failure, what is logged of it."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from tests.server.conftest import RawClient, Start

from fletching.errors import MethodNotAllowedError, ServiceUnavailableError
from fletching.server.http import app
from fletching.server.http.app import HEALTH_PATHS, handle_health


@pytest.fixture
def client(start: Start) -> RawClient:
    return RawClient(start(access_log=True).url)


def test_what_needs_no_signature_and_what_does(client: RawClient) -> None:
    assert client.request("GET", "/healthz", signed=False).status == 200
    icon = client.request("GET", "/favicon.ico", signed=False)
    assert (icon.status, icon.body) == (204, b"")
    for path in (
        "/metrics",
        "/api/projects",
        "/api/storage/v2",
        "/fletching/v1/tables/demo/default/t/rows",
        "/fletching/v1/projects/demo/schemas/default/tables",
        "/nothing/there",
    ):
        assert client.request("GET", path, signed=False).status == 401, path
    assert client.request("GET", "/nothing/there").status == 404


def test_connections_of_clients_that_fork_are_not_kept(client: RawClient) -> None:
    for agent, kept in (("PyODPS/0.13.2", False), ("pyodps/0.12", False), ("curl/8", True)):
        reply = client.request("GET", "/api/projects", headers={"User-Agent": agent})
        assert (reply.headers.get("connection") != "close") == kept, agent


def test_an_unexpected_failure_tells_nothing_but_a_request_id(
    client: RawClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("the password is swordfish")

    monkeypatch.setattr(app, "is_metadata_path", broken)
    with caplog.at_level(logging.ERROR, "fletching.server"):
        reply = client.request("GET", "/api/projects")
    assert reply.status == 500
    assert b"swordfish" not in reply.body
    request_id = reply.headers["x-odps-request-id"]
    assert request_id.encode() in reply.body
    assert any(record.exc_info and request_id in record.getMessage() for record in caplog.records)
    assert client.request("GET", "/healthz", signed=False).status == 200


def test_the_access_log_has_one_line_for_each_request_and_no_secrets(
    client: RawClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "fletching.access"):
        client.request("GET", "/api/projects", {"token": "swordfish"})
        client.request("GET", "/api/%0aforged%20line", signed=False)
    lines = [record.getMessage() for record in caplog.records if record.name == "fletching.access"]
    assert len(lines) == 2
    first, second = sorted(lines, key=lambda line: "forged" in line)
    assert '"GET /api/projects"' in first
    assert " 200 " in first
    assert "swordfish" not in first
    assert "Authorization" not in first
    assert " 401 " in second
    assert "\n" not in second


def answered(
    path: str, method: str = "GET", *, draining: bool = False, ready: bool = True
) -> bytes:
    sent: list[bytes] = []

    async def reply(body: bytes) -> None:
        sent.append(body)

    async def check() -> None:
        if not ready:
            raise ServiceUnavailableError("the catalog does not answer")

    exchange: Any = SimpleNamespace(
        method=method, verb="GET" if method == "HEAD" else method, path=path, reply=reply
    )
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
