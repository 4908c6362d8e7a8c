"""One HTTP/1.1 connection: parsing, reading without copies, timeouts, and closing without resets.

uvicorn runs this protocol in place of its own (``http=``). What it adds to the usual one:

- A body with a Content-Length is received straight into the upload's buffer, past the parser.
- Heads, trailers and pipelined requests are bounded; slow heads and stuck readers time out.
- A connection is closed so that the last reply arrives: it says ``Connection: close``, the rest of
  the request is swallowed for a while, and only the write side is shut first. Draining keeps idle
  connections answering for a moment, because a request may already be on its way.

States of a connection::

    HEAD ──headers──> BODY ──body and reply complete──> HEAD
      │                 │
      └─────────────────┴── close ──> LINGER (write side shut, input dropped) ──> gone

The module is long because that state machine is one: parsing, flow and closing share every state, and
apart they would call each other on each event. What belongs to one exchange is in ``cycle``, what
leaves the loop in ``direct``.
"""

from __future__ import annotations

import asyncio
import logging
import select
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, cast
from urllib.parse import unquote

import httptools
import msgspec

from fletching.errors import (
    InternalServerError,
    InvalidParameterError,
    ServiceError,
    ThrottledError,
)
from fletching.server.http.cycle import Cycle
from fletching.server.http.socket_writer import DirectSender
from fletching.server.request_ids import new_request_id
from fletching.server.server_settings import ServerSettings

__all__ = ["Application", "Connection", "ConnectionFactory"]

Application = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI 3 application."""

HEAD_BUFFER_BYTES = 256 * 1024
MAX_PIPELINED = 16
IDLE_LINGER_SECONDS = 0.2
"""Longer than a round trip; a pooled client notices our end only when it wants to ask again."""
GATHERED_BYTES = 16 * 1024
"""Shorter pieces of replies are joined up to this length."""
WRITE_HIGH_BYTES = 4 * 1024 * 1024
WRITE_LOW_BYTES = 1024 * 1024
"""Unsent bytes of a reply at which the application waits, and at which it goes on."""

logger = logging.getLogger("fletching.server")


class ConnectionFactory:
    """What uvicorn calls for each connection; holds what a server's connections share."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        # Heads are parsed as soon as they arrive and nothing of the buffer is kept between two
        # calls, so all connections of the server's one event loop read them through this one.
        self.head_buffer = memoryview(bytearray(HEAD_BUFFER_BYTES))

    def __call__(
        self,
        config: Any,
        server_state: Any,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> Connection:
        """Makes the protocol object of a connection that was just accepted."""
        return Connection(self, config.loaded_app, server_state, app_state)


class Connection(asyncio.BufferedProtocol):
    """The protocol object of one connection. Lives on the event loop's thread only.

    Attributes:
        settings: the service's settings.
        draining: the server is stopping; every further reply says ``Connection: close``.
    """

    def __init__(
        self,
        factory: ConnectionFactory,
        app: Application,
        server_state: Any,
        app_state: dict[str, Any],
    ) -> None:
        self.settings = factory.settings
        self.draining = False
        self._app = app
        self._server_state = server_state
        self._app_state = app_state
        self._loop = asyncio.get_running_loop()
        self._head_buffer = factory.head_buffer
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._parser = httptools.HttpRequestParser(self)
        self._tls = False
        self._excess = False
        self._lingering = False
        self._paused = False
        # The cycle whose request is being read, the one being answered, and those behind it.
        self._incoming: Cycle | None = None
        self._active: Cycle | None = None
        self._waiting: deque[Cycle] = deque()
        # The head being parsed.
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._unseen_bytes = 0
        self._in_head = False
        self._timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._gathered = bytearray()
        self._direct: DirectSender | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """Headers of every reply: Date and Server."""
        return cast("list[tuple[bytes, bytes]]", self._server_state.default_headers)

    # --- the transport's calls ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Starts reading; an idle connection is closed after the keep-alive time."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES, low=WRITE_LOW_BYTES)
        self._tls = transport.get_extra_info("sslcontext") is not None
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family in {socket.AF_INET, socket.AF_INET6}:
            # Not every loop does this: a reply's last bytes must not wait for an acknowledgement.
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._server_state.connections.add(self)
        self._excess = len(self._server_state.connections) > self.settings.max_connections
        self._arm(self.settings.keep_alive_seconds, self._close_idle)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        """Tells everyone who waits that the client is gone."""
        self._server_state.connections.discard(self)
        self._disarm()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
        if self._direct is not None:
            self._direct.cut()
        for cycle in (self._incoming, self._active, *self._waiting):
            if cycle is not None:
                cycle.disconnect()
        self._waiting.clear()
        self._writable.set()

    def eof_received(self) -> bool:
        """Keeps a half-closed connection for the replies it still expects."""
        if self._lingering:
            return False
        if self._incoming is not None and not self._incoming.body_complete:
            self._incoming.disconnect()
            return False
        if self._active is None or self._tls:
            return False
        (self._waiting[-1] if self._waiting else self._active).keep_alive = False
        return True

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  asyncio's signature
        """Where to receive: the upload's own buffer in a counted body, else the head buffer."""
        cycle = self._incoming
        if cycle is None or self._lingering or not self._raw(cycle):
            return self._head_buffer
        if cycle.response_complete:
            return self._head_buffer[: cycle.remaining]
        return cycle.space()

    def buffer_updated(self, nbytes: int) -> None:
        """Takes what was received."""
        if self._lingering:
            return
        cycle = self._incoming
        if cycle is not None and self._raw(cycle):
            if cycle.response_complete:
                cycle.discard(nbytes)
            elif not cycle.advance(nbytes):
                self._pause_reading()
            if not cycle.remaining:
                # The parser never saw this body: a new one starts clean at the next head.
                self._parser = httptools.HttpRequestParser(self)
                self._end_of_request(cycle)
            elif cycle.response_complete:
                self._check_discarded(cycle)
            return
        self._feed(self._head_buffer[:nbytes])

    def pause_writing(self) -> None:
        """The client is slower than we are: ``writable`` waits, and a stall is watched for."""
        self._writable.clear()
        self._watch_stall(self._transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """The client took enough."""
        self._writable.set()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def shutdown(self) -> None:
        """The server's call to drain: finish what runs, answer what is on its way, then close."""
        self.draining = True
        if self._active is None and not self._in_head and not self._lingering:
            self._arm(self.settings.drain_idle_seconds, self._close_idle)

    # --- parsing --------------------------------------------------------------------------------

    @staticmethod
    def _raw(cycle: Cycle) -> bool:
        return cycle.content_length is not None and not cycle.body_complete

    def _feed(self, data: memoryview) -> None:
        before = self._incoming
        # Whether all of the data belongs to the head that is unfinished after it.
        whole = self._in_head or before is None or before.body_complete
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            # No other protocol is spoken here. The request itself is an ordinary one, so it is
            # answered as such and what follows it is parsed anew.
            self._parser = httptools.HttpRequestParser(self)
            if self._incoming is not None and not self._incoming.body_complete:
                self._end_of_request(self._incoming)
            rest = data[exc.args[0] :]
            if rest:
                self._feed(rest)
            return
        except httptools.HttpParserError as exc:
            # A callback's exception comes out wrapped.
            reason = exc.__context__
            if not isinstance(reason, ServiceError):
                reason = InvalidParameterError(f"not an HTTP/1.1 request: {type(exc).__name__}")
            self._reject(reason)
            return
        if self._in_head and whole and self._incoming is before:
            # Counts bytes that no callback has seen yet, such as an endless header name.
            self._unseen_bytes += len(data)
            if self._unseen_bytes > self.settings.max_head_bytes:
                self._reject(self._head_too_large())
        cycle = self._incoming
        if cycle is not None and self._raw(cycle) and not cycle.response_complete:
            # The application says where the rest of the body is to go before it is read.
            self._pause_reading()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._url = b""
        self._headers = []
        self._head_bytes = self._unseen_bytes = 0
        self._in_head = True
        if self._active is None:
            self._arm(self.settings.head_timeout_seconds, self._on_slow_head)

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        self._url += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which is dropped: nothing here uses trailers."""
        self._count_head(len(name) + len(value) + 4)
        if self._in_head:
            self._headers.append((name.lower(), value))

    def _count_head(self, count: int) -> None:
        self._head_bytes += count
        if self._head_bytes > self.settings.max_head_bytes:
            raise self._head_too_large()

    def _head_too_large(self) -> ServiceError:
        limit = self.settings.max_head_bytes
        return InvalidParameterError(
            f"the request's line and headers are above the limit of {limit} bytes", http_status=431
        )

    def on_headers_complete(self) -> None:
        """Starts the application, or queues a pipelined request behind the one being answered."""
        self._in_head = False
        self._head_bytes = 0
        self._disarm()
        target = httptools.parse_url(self._url)
        raw_path = target.path or b""
        version = self._parser.get_http_version()
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": version,
            "method": self._parser.get_method().decode("ascii"),
            "scheme": "https" if self._tls else "http",
            "path": unquote(raw_path.decode("latin-1")),
            "raw_path": raw_path,
            "query_string": target.query or b"",
            "root_path": "",
            "headers": self._headers,
            "client": self._transport.get_extra_info("peername"),
            "server": self._transport.get_extra_info("sockname"),
            "state": self._app_state.copy(),
        }
        cycle = Cycle(self, scope, keep_alive=version != "1.0" and self._parser.should_keep_alive())
        for name, value in self._headers:
            if name == b"content-length":
                cycle.content_length = int(value)
            elif name == b"expect":
                cycle.expect_continue = value.lower() == b"100-continue"
        self._incoming = cycle
        if self._active is None:
            self._start(cycle)
        else:
            self._waiting.append(cycle)
            self._pause_reading()
            if len(self._waiting) > MAX_PIPELINED:
                raise InvalidParameterError(f"more than {MAX_PIPELINED} requests were pipelined")

    def on_body(self, body: bytes) -> None:
        """A piece of the body that came through the parser: chunked, or right behind the head."""
        cycle = self._incoming
        assert cycle is not None
        if not cycle.put(body):
            self._pause_reading()
        if cycle.response_complete:
            self._check_discarded(cycle)

    def on_message_complete(self) -> None:
        """The end of a request that the parser saw whole."""
        cycle = self._incoming
        if cycle is not None and not cycle.body_complete:
            self._end_of_request(cycle)

    def _end_of_request(self, cycle: Cycle) -> None:
        cycle.finish_body()
        if cycle.response_complete and cycle is self._active:
            self._next()

    # --- exchanges ------------------------------------------------------------------------------

    def _start(self, cycle: Cycle) -> None:
        self._active = cycle
        task = self._loop.create_task(self._run(cycle))
        self._server_state.tasks.add(task)
        task.add_done_callback(self._server_state.tasks.discard)

    async def _run(self, cycle: Cycle) -> None:
        """Runs the application; whatever happens, the client gets a whole reply or a closed end."""
        try:
            if self._excess:
                cycle.keep_alive = False
                await self._refuse(cycle, self._too_many_connections())
            else:
                await self._app(cycle.scope, cycle.receive, cycle.send)
        except Exception:
            if cycle.disconnected:
                return
            logger.exception("the application failed")
            if not cycle.response_started:
                await self._refuse(cycle, InternalServerError("the server failed"))
        finally:
            # A reply that cannot be completed must not look complete: the client sees the end of
            # the connection before the end of the body.
            if not cycle.response_complete and not cycle.disconnected:
                self._close()

    async def _refuse(self, cycle: Cycle, error: ServiceError) -> None:
        request_id = new_request_id()
        body = _error_body(error, request_id)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"x-odps-request-id", request_id.encode()),
        ]
        if error.retry_after_seconds is not None:
            headers.append((b"retry-after", b"%d" % error.retry_after_seconds))
        start = {"type": "http.response.start", "status": error.http_status, "headers": headers}
        await cycle.send(start)
        await cycle.send({"type": "http.response.body", "body": body})

    def _too_many_connections(self) -> ServiceError:
        return ThrottledError(
            f"more than {self.settings.max_connections} connections are open",
            retry_after_seconds=max(1.0, self.settings.retry_after_seconds),
        )

    def on_response_complete(self, cycle: Cycle) -> None:
        """Goes on to the next request, or closes."""
        self._server_state.total_requests += 1
        if self._transport.is_closing():
            return
        if not cycle.keep_alive:
            if cycle.body_complete and not self._waiting:
                self._close()
            else:
                self._close_gently()
        elif cycle.body_complete:
            self._next()
        else:
            # The rest of the body is swallowed, so that the client can finish sending and read.
            self._arm(self.settings.keep_alive_seconds, self._close_idle)
            self.resume_reading()

    def _check_discarded(self, cycle: Cycle) -> None:
        if cycle.discarded_bytes > self.settings.max_discard_bytes and not self._lingering:
            self._close_gently()

    def _next(self) -> None:
        if self._incoming is self._active:
            self._incoming = None
        self._active = None
        if self._transport.is_closing():
            return
        if self._waiting:
            self._disarm()
            self._start(self._waiting.popleft())
        elif self.draining:
            self._arm(self.settings.drain_idle_seconds, self._close_idle)
        elif not self._in_head:
            self._arm(self.settings.keep_alive_seconds, self._close_idle)
        if not self._waiting:
            self.resume_reading()

    # --- refusing and closing -------------------------------------------------------------------

    def _on_slow_head(self) -> None:
        self._reject(
            InvalidParameterError("the request's headers did not arrive in time", http_status=408)
        )

    def _reject(self, error: ServiceError) -> None:
        """Answers bytes that are not a request we can serve, and closes."""
        cycle = self._incoming
        if cycle is not None and not cycle.body_complete:
            cycle.disconnect()
        active = self._active
        if active is None or not (active.response_started or self._waiting):
            request_id = new_request_id()
            body = _error_body(error, request_id)
            self.write(
                b"HTTP/1.1 %d Refused\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
                b"x-odps-request-id: %s\r\nconnection: close\r\n\r\n%s"
                % (error.http_status, len(body), request_id.encode(), body)
            )
        if active is not None:
            active.disconnect()
        self._close_gently()

    def _close_idle(self) -> None:
        """Ends a connection that asks nothing; a request that crosses our end is still taken off."""
        self._close_gently(min(IDLE_LINGER_SECONDS, self.settings.linger_seconds))

    def _close_gently(self, linger_seconds: float | None = None) -> None:
        """Shuts the write side and drops what still comes, so that no reset overtakes our reply."""
        if self._transport.is_closing() or self._lingering:
            return
        if self._tls or not self._transport.can_write_eof():
            self._close()
            return
        self._flush()
        self._lingering = True
        self._paused = False
        self._transport.write_eof()
        self._transport.resume_reading()
        seconds = self.settings.linger_seconds if linger_seconds is None else linger_seconds
        self._arm(seconds, self._transport.close)

    def _close(self) -> None:
        """Ends the connection once the client has taken what was written."""
        self._flush()
        self._transport.close()

    # --- flow -----------------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        """Hands bytes to the transport, which keeps the buffer until it is sent.

        Small ones wait for what is written behind them in the same step of the loop: each system
        call makes segments of its own and wakes the client.
        """
        if self._transport.is_closing() or self._lingering:
            return
        size = data.nbytes if isinstance(data, memoryview) else len(data)
        if size >= GATHERED_BYTES:
            self._flush()
            self._transport.write(data)
            return
        if not self._gathered:
            self._loop.call_soon(self._flush)
        # A copy, because this much costs less to move than to send by itself.
        self._gathered += data
        if len(self._gathered) >= GATHERED_BYTES:
            self._flush()

    def _flush(self) -> None:
        gathered, self._gathered = self._gathered, bytearray()
        if gathered and not self._transport.is_closing():
            self._transport.write(gathered)

    async def writable(self) -> None:
        """Waits until the client has taken most of what was written."""
        if not self._writable.is_set():
            await self._writable.wait()

    async def direct_sender(self, owed_bytes: int) -> DirectSender | None:
        """A sender past the transport, once the transport has nothing left; None where there is none."""
        if self._tls or self._transport.is_closing() or self._lingering:
            return None
        peer = self._transport.get_extra_info("socket")
        if peer is None or not hasattr(select, "poll"):
            return None
        self._flush()
        if self._transport.get_write_buffer_size():
            # As a limit of 0 bytes, which are reached when the last one is sent.
            self._transport.set_write_buffer_limits(high=0)
            await self.writable()
            self._transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES, low=WRITE_LOW_BYTES)
        if self._transport.is_closing() or self._transport.get_write_buffer_size():
            return None
        self._direct = DirectSender(peer.fileno(), owed_bytes=owed_bytes)
        return self._direct

    def end_direct(self, sender: DirectSender) -> None:
        """Closes a direct sender that no worker uses any more."""
        if self._direct is sender:
            self._direct = None
        sender.close()

    def resume_reading(self) -> None:
        """Reads the socket again, if the request being read is the one being answered."""
        if self._paused and not self._waiting:
            self._paused = False
            self._transport.resume_reading()

    def _pause_reading(self) -> None:
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def _watch_stall(self, size: int) -> None:
        self._stall_timer = self._loop.call_later(
            self.settings.reader_stall_seconds, self._on_stall, size
        )

    def _on_stall(self, before: int) -> None:
        size = self._transport.get_write_buffer_size()
        if size < before:
            self._watch_stall(size)
            return
        logger.warning("a reader took nothing for %s s: cut", self.settings.reader_stall_seconds)
        # A graceful close would wait for the same reader for ever.
        self._transport.abort()

    def _arm(self, seconds: float, action: Callable[[], None]) -> None:
        self._disarm()
        self._timer = self._loop.call_later(seconds, action)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _error_body(error: ServiceError, request_id: str) -> bytes:
    return msgspec.json.encode(
        {"Code": error.code, "Message": error.message, "RequestId": request_id}
    )
