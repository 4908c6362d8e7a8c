"""Servers on free loopback ports, and plain sockets to misbehave with."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import uvicorn

from fletching.server.connection import Application, ConnectionFactory
from fletching.server.settings import ServerSettings


class RunningApp:
    """Any ASGI application behind our connections, in a thread."""

    def __init__(self, app: Application, settings: ServerSettings) -> None:
        config = uvicorn.Config(
            cast("Any", app),
            http=cast("Any", ConnectionFactory(settings)),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=10,
        )
        self.server = uvicorn.Server(config)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )

    def start(self) -> None:
        self._thread.start()
        while not self.server.started:
            threading.Event().wait(0.005)

    def begin_stop(self) -> None:
        self.server.should_exit = True

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()
        self._socket.close()

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


Run = Callable[..., RunningApp]


@pytest.fixture
def run_app() -> Iterator[Run]:
    """Starts an ASGI application; stopped at the end of the test."""
    with contextlib.ExitStack() as stack:

        def run(app: Application, **settings: Any) -> RunningApp:
            settings.setdefault("drain_idle_seconds", 0.05)
            running = RunningApp(app, ServerSettings(**settings))
            running.start()
            stack.callback(running.stop)
            return running

        yield run


def read_all(connection: socket.socket) -> bytes:
    """Everything until the peer ends; a reset is an error."""
    parts = []
    while part := connection.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def read_reply(connection: socket.socket) -> tuple[bytes, bytes]:
    """One reply with a Content-Length: head and body."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(1 << 16)
        assert part, f"the connection ended inside a head: {data!r}"
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    )
    while len(body) < length:
        part = connection.recv(1 << 16)
        assert part, "the connection ended inside a body"
        body += part
    assert len(body) == length
    return head, body
