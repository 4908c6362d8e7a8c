"""A peer that says over its connections what a test wants, byte by byte."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import urllib3

from fletching.client.transports.http.connections import make_pool_manager

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Peer:
    """Takes connections, notes what is sent on them, and answers as it is told.

    Attributes:
        url: its origin.
        heard: what came, a request each.
        answers: made for each request; None is silence, b"" the end of the connection.
    """

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.answers: Callable[[bytes], bytes | None] = lambda _: OK
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        data = b""
        while True:
            try:
                more = connection.recv(65536)
            except OSError:
                return
            if not more:
                return
            data += more
            if b"\r\n\r\n" not in data:
                continue
            self.heard.append(data)
            data = b""
            answer = self.answers(self.heard[-1])
            if answer is not None:
                connection.sendall(answer)
                if not answer:
                    connection.close()
                    return

    def close(self) -> None:
        for each in (self._listener, *self._open):
            each.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.close()


@pytest.fixture
def manager() -> Iterator[urllib3.PoolManager]:
    made = make_pool_manager(None, connections=2, ca_certificates=None)
    yield made
    made.clear()
