"""Exchanges without a connection: what a test says of a request, and hears of its reply, are ASGI's messages.

A vocabulary that is at hand for both; the service itself has nothing to do with ASGI.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fletching.server.http.exchange import Exchange
from fletching.server.http.incoming_body import BodySink
from fletching.server.http.reply_stream import Headers
from fletching.server.http.request_head import RequestHead
from fletching.server.http.socket_writer import SocketWriter
from fletching.server.request_ids import new_request_id
from fletching.server.server_settings import ServerSettings

__all__ = ["Application", "exchange_of", "serve_over_asgi"]

Message = dict[str, Any]
"""A scope, or a message of the ASGI specification, whose keys depend on its type."""

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

Application = Callable[[Message, Receive, Send], Awaitable[None]]
"""An ASGI 3 application."""


class _AsgiBody:
    """A request's body over ASGI's ``receive``."""

    def __init__(self, receive: Receive, content_length: int | None, idle_seconds: float) -> None:
        self.content_length = content_length
        self._idle_seconds = idle_seconds
        self.body_bytes = 0
        self._receive = receive
        self._ended = False

    async def receive_view(self) -> memoryview | None:
        while not self._ended:
            async with asyncio.timeout(self._idle_seconds):
                message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ConnectionAbortedError("the client disconnected in mid-body")
            self._ended = not message.get("more_body", False)
            body = message.get("body", b"")
            if body:
                self.body_bytes += len(body)
                return memoryview(body)
        return None

    async def pump(self, sink: BodySink) -> bool:
        while (view := await self.receive_view()) is not None:
            if not sink.feed(view):
                return False
        return True

    async def wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


class _AsgiReply:
    """A reply over ASGI's ``send``."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def start(self, status: int, headers: Headers) -> None:
        await self._send(
            {"type": "http.response.start", "status": status, "headers": list(headers)}
        )

    async def write(self, view: memoryview) -> None:
        await self._send({"type": "http.response.body", "body": view, "more_body": True})

    async def write_rest(self, view: memoryview) -> None:
        raise AssertionError("there is no direct sender")

    async def finish(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def socket_writer(self) -> SocketWriter | None:
        return None

    def end_socket_writing(self, sender: SocketWriter) -> None:
        raise AssertionError("there is no direct sender")


def exchange_of(
    scope: Message, receive: Receive, send: Send, request_id: str, settings: ServerSettings
) -> Exchange:
    """The exchange of an ASGI request, whose server has read the head and watches the client's pace."""
    headers = tuple((bytes(name), bytes(value)) for name, value in scope["headers"])
    # Another server's parser: it has made sure that these are numbers and that there is one.
    length = next((int(value) for name, value in headers if name == b"content-length"), None)
    client = scope.get("client")
    head = RequestHead(
        method=scope["method"],
        raw_path=scope["raw_path"],
        query_string=scope["query_string"],
        version=scope.get("http_version", "1.1"),
        headers=headers,
        content_length=length,
        scheme=scope.get("scheme", "http"),
        client=None if client is None else (client[0], client[1]),
    )
    body = _AsgiBody(receive, length, settings.body_idle_seconds)
    return Exchange(head, body, _AsgiReply(send), request_id, settings)


def serve_over_asgi(
    answer: Callable[[Exchange], Awaitable[None]], settings: ServerSettings
) -> Application:
    """An application whose requests are answered by a function of ours."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await answer(exchange_of(scope, receive, send, new_request_id(), settings))

    return app
