"""Applications of ASGI behind our connections, and exchanges whose messages a test makes itself."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from typing import Any

import pytest
from tests.server.asgi_exchanges import serve_over_asgi
from tests.server.conftest import Run, read_all, read_reply
from tests.server.http.test_connection import echo, request

from fletching.errors import ConnectionBrokenError, InvalidParameterError
from fletching.server.http.exchange import Exchange
from fletching.server.server_settings import ServerSettings

NOBODY: Any = None  # no byte is received or sent

SCOPE: dict[str, Any] = {
    "type": "http",
    "http_version": "1.1",
    "method": "POST",
    "scheme": "https",
    "path": "/a b",
    "raw_path": b"/a%20b",
    "query_string": b"c=d",
    "headers": [(b"content-length", b"6"), (b"x-a", b"1")],
    "client": ["10.0.0.1", 5],
}


def test_an_ordinary_application_sees_an_ordinary_scope(run_app: Run) -> None:
    seen: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        await echo(scope, receive, send)

    with run_app(app).connect() as connection:
        connection.sendall(request(b"abc", path=b"/a%20b?c=%31"))
        assert json.loads(read_reply(connection)[1])["length"] == 3
    (scope,) = seen
    assert scope["type"] == "http"
    assert (scope["method"], scope["path"], scope["raw_path"]) == ("POST", "/a b", b"/a%20b")
    assert scope["query_string"] == b"c=%31"
    assert scope["headers"] == [(b"host", b"x"), (b"content-length", b"3")]
    assert (scope["scheme"], scope["root_path"], scope["http_version"]) == ("http", "", "1.1")
    assert scope["client"][0] == "127.0.0.1"


def test_a_starlette_application_is_mounted(run_app: Run) -> None:
    starlette = pytest.importorskip("starlette.applications")
    from starlette.responses import PlainTextResponse, StreamingResponse
    from starlette.routing import Route

    async def upload(asked: Any) -> Any:
        return PlainTextResponse(f"{len(await asked.body())} {asked.path_params['name']}")

    async def stream(_: Any) -> Any:
        return StreamingResponse(iter([b"one", b"two"]), headers={"x-more": "1"})

    app = starlette.Starlette(
        routes=[Route("/up/{name}", upload, methods=["POST"]), Route("/stream", stream)]
    )
    with run_app(app).connect() as connection:
        connection.sendall(request(b"x" * 100_000, path=b"/up/me", chunked=True))
        assert read_reply(connection)[1] == b"100000 me"
        connection.sendall(b"GET /stream HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        received = read_all(connection)
    assert b"x-more: 1" in received
    assert received.endswith(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")


def test_an_application_hears_that_its_client_left(run_app: Run) -> None:
    heard, asked = threading.Event(), threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "http.request"
        assert (await receive())["more_body"] is False
        asked.set()
        if (await receive())["type"] == "http.disconnect":
            heard.set()

    connection = run_app(app).connect()
    connection.sendall(request(b"abc"))
    assert asked.wait(600)
    # A reset: an ordinary close looks like a client that has only shut its side, and is answered.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    assert heard.wait(600)


def run(
    messages: list[dict[str, Any]], answer: Any, **settings: Any
) -> tuple[list[dict[str, Any]], list[Exchange]]:
    """Runs an answer behind another server's ASGI."""
    sent: list[dict[str, Any]] = []
    exchanges: list[Exchange] = []

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append({**message, "body": bytes(message.get("body", b""))})

    async def answered(exchange: Exchange) -> None:
        exchanges.append(exchange)
        await answer(exchange)

    app = serve_over_asgi(answered, ServerSettings(**settings))
    asyncio.run(app(SCOPE, receive, send))  # type: ignore[arg-type]  # it is a coroutine
    return sent, exchanges


def body(data: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": data, "more_body": more}


def test_an_exchange_reads_a_body_that_comes_in_pieces() -> None:
    async def answer(exchange: Exchange) -> None:
        data = await exchange.read_body()
        assert not await exchange.send_by_worker(None, None)  # type: ignore[arg-type]
        await exchange.reply(data, headers={"x-b": "2"})

    sent, (exchange,) = run([body(b"abc", more=True), body(b"def", more=False)], answer)
    assert sent[0]["status"] == 200
    assert dict(sent[0]["headers"])[b"content-length"] == b"6"
    assert dict(sent[0]["headers"])[b"x-b"] == b"2"
    assert b"".join(message["body"] for message in sent[1:]) == b"abcdef"
    assert sent[-1]["more_body"] is False
    assert (exchange.path, exchange.target) == ("/a b", "/a%20b?c=d")
    assert exchange.head.scheme == "https"
    assert exchange.peer == "10.0.0.1:5"
    assert exchange.body.content_length == 6


def test_slow_and_lost_clients_are_told_apart() -> None:
    async def slow(exchange: Exchange) -> None:
        with pytest.raises(InvalidParameterError) as caught:
            await exchange.read_body()
        assert caught.value.http_status == 408

    run([body(b"abc", more=True)], slow, body_idle_seconds=0.02)

    async def lost(exchange: Exchange) -> None:
        with pytest.raises(ConnectionBrokenError):
            await exchange.read_body()

    run([body(b"abc", more=True), {"type": "http.disconnect"}], lost)
