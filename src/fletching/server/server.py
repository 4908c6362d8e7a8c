"""Running the service: in a background thread of any program, or in the foreground until a signal."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import dataclasses
import errno
import logging
import os
import signal
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self, cast

import uvicorn

from fletching.engine.engine import Engine
from fletching.engine.engine_settings import EngineSettings
from fletching.errors import TransportError, UsageError
from fletching.server.auth.key_ring import FolderKeys, StaticKeys, first_key
from fletching.server.http.app import create_app
from fletching.server.http.connection import Connection, ConnectionFactory
from fletching.server.server_settings import ServerSettings
from fletching.server.service import Service

__all__ = ["Server", "serve"]

TICK_SECONDS = 0.1
TICKS_PER_DAY = 864_000
DRAIN_POLL_SECONDS = 0.01
CUT_SECONDS = 5.0
"""How long requests that were cut at the end of a drain may take to clear up."""

_SO_ATTACH_FILTER = 26  # from asm-generic/socket.h; the socket module does not have it

logger = logging.getLogger("fletching.server")


class _Runner(uvicorn.Server):
    """uvicorn's server with our way of stopping."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
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
            _take_no_more(listening)
        await asyncio.sleep(DRAIN_POLL_SECONDS)
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
                drained = cast("Connection", connection)
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


class Server:
    """A service over one data folder, listening.

    Attributes:
        url: where it answers, e.g. ``http://127.0.0.1:8787``.
        port: the port it got.
        access_keys: id to secret of the keys that it was started with.
        new_key: whether the folder's key was generated by this start.
        settings: the settings in force.
    """

    def __init__(
        self,
        path: str | Path,
        access_keys: Mapping[str, str] | None,
        settings: ServerSettings,
        engine_settings: EngineSettings | None = None,
    ) -> None:
        """Binds the socket and opens the folder; ``start`` or ``run`` serves.

        Raises:
            TransportError: the address cannot be listened on.
            StorageError: the folder cannot be used.
        """
        self.new_key = False
        ring = None if access_keys is None else StaticKeys(access_keys)
        self._socket = _bind(settings)
        try:
            self.port: int = self._socket.getsockname()[1]
            self.settings = settings = dataclasses.replace(settings, port=self.port)
            engine = Engine.open(
                path,
                settings=dataclasses.replace(
                    # A project that is mistyped is an error, not a new one.
                    engine_settings
                    or EngineSettings.from_environment(os.environ, create_projects=False),
                    objects_resident_bytes=settings.mapped_bytes,
                ),
            )
            try:
                engine.ensure_project(settings.project)
                if access_keys is None or ring is None:
                    # Last of all that can fail: a new key is told only by the start that made it.
                    access_id, secret, self.new_key = first_key(Path(path))
                    access_keys = {access_id: secret}
                    ring = StaticKeys(access_keys)
                self.access_keys = dict(access_keys)
                engine.start_maintenance()
                keys = FolderKeys(
                    ring, engine.access_keys, refresh_seconds=settings.key_refresh_seconds
                )
                self.service = Service(engine, settings, keys)
                self._runner = _Runner(_configuration(self.service), self.service)
            except BaseException:
                engine.close()
                raise
        except BaseException:
            self._socket.close()
            raise
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    @property
    def url(self) -> str:
        """Scheme, host and port to connect to."""
        scheme = "https" if self.settings.tls_certificate else "http"
        host = self.settings.host
        if host in {"", "0.0.0.0", "::"}:  # noqa: S104  compared with, not listened on
            host = "127.0.0.1"
        return (
            f"{scheme}://[{host}]:{self.port}" if ":" in host else f"{scheme}://{host}:{self.port}"
        )

    @property
    def access_key(self) -> tuple[str, str]:
        """Id and secret of the first of the access keys."""
        return next(iter(self.access_keys.items()))

    def run(self, announce: Callable[[], None] | None = None) -> None:
        """Serves in this thread until SIGTERM or SIGINT, then drains.

        Args:
            announce: called when requests are answered and signals drain.
        """
        self._runner.announce = announce
        try:
            self._runner.run(sockets=[self._socket])
        finally:
            self._socket.close()
            self.service.close()

    def start(self) -> Self:
        """Serves in a background thread; returns when connections are answered."""

        def run() -> None:
            try:
                self.run()
            except BaseException as exc:
                self._failure = exc
                logger.exception("the server stopped")
            finally:
                self._runner.ready.set()

        self._thread = threading.Thread(target=run, name="fletching-server", daemon=True)
        self._thread.start()
        self._runner.ready.wait()
        if self._failure is not None:
            raise TransportError("the server could not start") from self._failure
        return self

    def close(self) -> None:
        """Drains and stops: requests in flight finish, then every connection is closed. Idempotent."""
        self._runner.stop()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def serve(
    path: str | Path,
    port: int = 0,
    host: str = "127.0.0.1",
    *,
    access_keys: Mapping[str, str] | None = None,
    project: str = "demo",
    catalog: str | None = None,
    objects: str | None = None,
    server_key_file: str | Path | None = None,
    **settings: Any,
) -> Server:
    """Serves a data folder from a background thread of this process.

    Use it as a context manager, or call ``close``; both drain. Environment variables
    ``FLETCHING_*`` set what is not given here.

    Args:
        path: the data folder; created if it does not exist.
        port: 0 takes a free one, see ``Server.port`` and ``Server.url``.
        host: address to listen on.
        access_keys: id to secret; by default the folder's own key, generated at the first start.
        project: the project that exists from the start.
        catalog: a PostgreSQL URL; by default the catalog is in the folder, in SQLite.
        objects: an object store's URL (``s3://bucket/prefix``); by default they are in the folder.
        server_key_file: the server key that servers of one data set share; by default
            ``server.key`` in the folder.
        settings: any other field of ``ServerSettings``.

    Raises:
        UsageError: a setting that cannot work.
        TransportError: the address cannot be listened on.
        StorageError: the folder cannot be used.
    """
    chosen = ServerSettings.from_environment(
        os.environ, port=port, host=host, project=project, **settings
    )
    parts = EngineSettings.from_environment(
        os.environ,
        catalog=catalog,
        objects=objects,
        server_key_file=server_key_file,
        create_projects=False,
    )
    return Server(path, access_keys, chosen, parts).start()


def _bind(settings: ServerSettings) -> socket.socket:
    where = f"{settings.host}:{settings.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host or None, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as exc:
        raise TransportError(f"cannot listen on {where}: {exc.strerror}", url=where) from exc
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        # From here on clients may connect: they wait in the backlog until the loop runs.
        listening.listen(settings.backlog)
    except OSError as exc:
        listening.close()
        reason = exc.strerror
        if exc.errno == errno.EADDRINUSE:
            reason = "another process listens there; choose another port, or 0 for a free one"
        raise TransportError(f"cannot listen on {where}: {reason}", url=where) from exc
    listening.set_inheritable(True)
    return listening


def _take_no_more(listening: socket.socket) -> None:
    """Leaves further attempts to connect unanswered; they are repeated, and refused by then.

    Done with a socket filter that accepts no packet. Only Linux has it; elsewhere a connection that
    comes in the last microseconds may be reset.
    """
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF: return 0
    with contextlib.suppress(OSError):
        listening.setsockopt(
            socket.SOL_SOCKET,
            _SO_ATTACH_FILTER,
            struct.pack("HP", 1, ctypes.addressof(program)),
        )


def _configuration(service: Service) -> uvicorn.Config:
    settings = service.settings
    config = uvicorn.Config(
        create_app(service),
        # uvicorn only calls what is given here; a factory lets connections share a buffer.
        http=cast("Any", ConnectionFactory(settings)),
        loop="auto",
        ws="none",
        lifespan="on",
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
