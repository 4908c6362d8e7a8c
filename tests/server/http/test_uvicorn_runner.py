"""The installed uvicorn has what our runner touches of it, and calls what we give it as we expect."""

from __future__ import annotations

import asyncio
import inspect
import socket
import sys
import threading
import time
import types
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from fletching.server.http.connection import Connection
from fletching.server.http.exchange import Exchange
from fletching.server.http.uvicorn_runner import Runner, queued, take_no_more
from fletching.server.server_settings import ServerSettings


async def answer(exchange: Exchange) -> None:
    await exchange.reply(b"{}")


def runner(**settings: Any) -> Runner:
    service = types.SimpleNamespace(settings=ServerSettings(**settings), draining=False)
    return Runner(service, answer)


def test_what_is_overridden_is_there_and_called_the_same_way() -> None:
    for name, parameters in {
        "startup": ["self", "sockets"],
        "main_loop": ["self"],
        "shutdown": ["self", "sockets"],
        "capture_signals": ["self"],
        "on_tick": ["self", "counter"],
    }.items():
        assert list(inspect.signature(getattr(uvicorn.Server, name)).parameters) == parameters
        assert name == "on_tick" or getattr(Runner, name) is not getattr(uvicorn.Server, name)


def test_what_is_used_is_there() -> None:
    running = runner()
    for name in ("server_state", "should_exit", "force_exit"):
        assert hasattr(running, name)
    state = ServerState()
    assert state.total_requests == 0
    assert state.connections == set()
    assert state.tasks == set()
    assert state.default_headers == []


def test_a_connection_is_made_as_uvicorn_makes_it() -> None:
    running = runner()

    async def make() -> Connection:
        factory: Any = running.config.http_protocol_class
        made = factory(config=running.config, server_state=running.server_state, app_state={})
        assert isinstance(made, Connection)
        return made

    assert asyncio.run(make()).settings is running._service.settings


def test_it_serves_with_its_headers_and_stops() -> None:
    running = runner(drain_idle_seconds=0.01)
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
    thread.start()
    assert running.ready.wait(600)
    assert isinstance(running.servers, list)
    with socket.create_connection(listening.getsockname(), timeout=600) as client:
        client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        received = client.recv(1000)
        assert received.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nserver: fletching\r\n" in received
        assert b"\r\ndate: " in received
        (connection,) = running.server_state.connections
        assert isinstance(connection, Connection)
        running.stop()
        assert client.recv(1) == b""
    thread.join(600)
    assert not thread.is_alive()
    assert running._service.draining
    assert running.server_state.total_requests == 1


@pytest.mark.skipif(sys.platform != "linux", reason="socket filters and queues are Linux's")
def test_connections_under_way_are_let_in_and_new_ones_left_unanswered() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        assert queued(listening) == 0
        with socket.create_connection(address) as before:
            while not queued(listening):
                time.sleep(0.001)
            take_no_more(listening)
            before.sendall(b"asked")
            with socket.socket() as late:
                late.settimeout(0.2)  # no answer ever comes, however long it is waited for
                with pytest.raises(TimeoutError):
                    late.connect(address)
            assert queued(listening) == 1
            accepted, _ = listening.accept()
            with accepted:
                assert queued(listening) == 0
                assert accepted.recv(5) == b"asked"
                accepted.sendall(b"told")
                assert before.recv(4) == b"told"
