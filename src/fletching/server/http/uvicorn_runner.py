"""uvicorn's part: the loop, the listening sockets, signals and the life cycle.

Everything of uvicorn that its documentation does not promise is touched here and nowhere else:

- ``Server.startup``, ``main_loop``, ``shutdown`` and ``capture_signals`` are overridden; ``on_tick``,
  ``servers``, ``server_state``, ``lifespan``, ``should_exit`` and ``force_exit`` are used.
- ``Config.http`` takes what makes a connection: called with ``config``, ``server_state``, ``app_state``
  and perhaps ``_loop``.
- ``server_state`` has ``total_requests``, ``connections``, ``tasks`` and ``default_headers``.

``tests/server/http/test_uvicorn_runner.py`` holds the installed version to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import logging
import signal
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Protocol, cast

import uvicorn

from fletching.errors import UsageError
from fletching.server.http.connection import HEAD_BUFFER_BYTES, Answer, Connection, ServerState
from fletching.server.server_settings import ServerSettings

__all__ = ["Runner", "Stoppable"]

TICK_SECONDS = 0.1
TICKS_PER_DAY = 864_000
DRAIN_POLL_SECONDS = 0.01
QUEUE_POLLS = 500
"""How often it is looked whether the connections in the kernel's queue are taken in."""
CUT_SECONDS = 5.0
"""How long requests that were cut at the end of a drain may take to clear up."""

_SO_ATTACH_FILTER = 26  # from asm-generic/socket.h; the socket module does not have it
_QUEUED_AT = (
    24  # tcpi_unacked in Linux's struct tcp_info: of a listening socket, its queue's length
)

logger = logging.getLogger("fletching.server")


class Stoppable(Protocol):
    """What is served."""

    settings: ServerSettings
    draining: bool


class Runner(uvicorn.Server):
    """uvicorn's server with our way of stopping."""

    def __init__(
        self, service: Stoppable, answer: Answer, *, beside: socket.socket | None = None
    ) -> None:
        """Prepares to serve.

        Args:
            service: whose settings hold, and which is told when the server drains.
            answer: answers each request.
            beside: a bound Unix socket at which the same requests are answered; closed at the end.

        Raises:
            UsageError: the TLS certificate cannot be used.
        """
        super().__init__(_configuration(service.settings, answer))
        self._service = service
        self._beside = beside
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self.ready = threading.Event()
        self.announce: Callable[[], None] | None = None

    def stop(self) -> None:
        """Begins to drain; from any thread."""
        self.should_exit = True
        if self._loop is not None:
            # A loop that is closed has stopped already.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stopping.set)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to listen."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self._beside is not None:
            make = functools.partial(
                cast("Any", self.config.http_protocol_class),
                self.config,
                self.server_state,
                self.lifespan.state,
            )
            # Not among uvicorn's sockets: it makes servers of TCP out of those.
            self.servers.append(
                await self._loop.create_unix_server(
                    make, sock=self._beside, backlog=self.config.backlog
                )
            )
        self.ready.set()
        if self.announce is not None:
            self.announce()

    async def main_loop(self) -> None:
        """Keeps the Date header current until it is time to stop."""
        ticks = 0
        while not await self.on_tick(ticks):
            ticks = (ticks + 1) % TICKS_PER_DAY
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drains: no new connections, requests in flight finish, every connection is closed."""
        self._service.draining = True
        state = self.server_state
        # Closing the port resets the connections that the kernel has queued, so no more are let
        # into the queue and those in it are taken in first.
        for listening in sockets or ():
            take_no_more(listening)
        for _ in range(QUEUE_POLLS):
            await asyncio.sleep(DRAIN_POLL_SECONDS)
            if not any(map(queued, sockets or ())):
                break
        for server in self.servers:
            server.close()
        for listening in sockets or ():
            listening.close()
        deadline = time.monotonic() + self._service.settings.drain_seconds
        while (state.connections or state.tasks) and not self.force_exit:
            if time.monotonic() > deadline:
                logger.error("%d requests did not finish in time: cut", len(state.tasks))
                break
            # In each round, as one that was just accepted appears a moment later.
            for connection in list(state.connections):
                drained = cast("Any", connection)
                if not drained.draining:
                    drained.shutdown()
            await asyncio.sleep(DRAIN_POLL_SECONDS)
        cut = list(state.tasks)
        for task in cut:
            task.cancel()
        if cut:
            await asyncio.wait(cut, timeout=CUT_SECONDS)
        await self.lifespan.shutdown()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT drain; a second SIGINT gives up waiting.

        Unlike the inherited one this does not raise the signal again afterwards: a drained server
        has done what was asked and exits with 0.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        signals = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, self._on_signal) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.should_exit and number == signal.SIGINT:
            self.force_exit = True
        self.stop()


def take_no_more(listening: socket.socket) -> None:
    """Leaves further attempts to connect unanswered; they are repeated, and refused by then.

    Done with a socket filter that drops the first packet of a connection (SYN without ACK, in the byte of
    flags of its TCP header) and lets through the last packet of a handshake that is under way. Only
    Linux has it; elsewhere a connection that comes in the last microseconds may be reset.
    """
    if sys.platform != "linux":
        return
    code = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in (
            (0x30, 0, 0, 13),  # load the byte of flags
            (0x54, 0, 0, 0x12),  # keep SYN and ACK
            (0x15, 0, 1, 0x02),  # SYN alone?
            (0x06, 0, 0, 0),  # drop it
            (0x06, 0, 0, 0xFFFFFFFF),  # take all of it
        )
    )
    program = ctypes.create_string_buffer(code)
    with contextlib.suppress(OSError):
        listening.setsockopt(
            socket.SOL_SOCKET,
            _SO_ATTACH_FILTER,
            struct.pack("HP", len(code) // 8, ctypes.addressof(program)),
        )


def queued(listening: socket.socket) -> int:
    """How many connections the kernel has queued for a listening socket, where it tells (Linux)."""
    if sys.platform != "linux":
        return 0
    with contextlib.suppress(OSError):
        information = listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _QUEUED_AT + 4)
        return int(struct.unpack_from("I", information, _QUEUED_AT)[0])
    return 0


class _ConnectionFactory:
    """What uvicorn calls for each connection; holds what a server's connections share."""

    def __init__(self, settings: ServerSettings, answer: Answer) -> None:
        self._settings = settings
        self._answer = answer
        self._head_buffer = memoryview(bytearray(HEAD_BUFFER_BYTES))

    def __call__(
        self,
        config: uvicorn.Config,  # noqa: ARG002  uvicorn's signature
        server_state: ServerState,
        app_state: dict[str, object],  # noqa: ARG002
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> Connection:
        return Connection(self._answer, self._settings, server_state, self._head_buffer)


async def _no_application(_scope: object, _receive: object, _send: object) -> None:
    """What uvicorn takes for the application: it is asked for the lifespan alone, which is off."""
    raise AssertionError("requests are answered by our connections")


def _configuration(settings: ServerSettings, answer: Answer) -> uvicorn.Config:
    config = uvicorn.Config(
        cast("Any", _no_application),
        # uvicorn only calls what is given here.
        http=cast("Any", _ConnectionFactory(settings, answer)),
        loop="auto",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        headers=[("server", "fletching")],
        backlog=settings.backlog,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as exc:
        raise UsageError(
            f"the TLS certificate {settings.tls_certificate} cannot be used: {exc}"
        ) from exc
    return config
