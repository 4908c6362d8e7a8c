"""One HTTP/1.1 connection: bytes and states. What is asked on it is an `Exchange`.

uvicorn runs this protocol in place of its own (``uvicorn_runner``). What it adds to the usual one:

- A body with a Content-Length is received straight into the upload's buffer, past every parser.
- Every state has a timer and every input is bounded; ``connection_states`` has the table.
- One request is in work at a time. What comes behind it waits unparsed, and when that is too much the
  socket is not read.
- A connection is closed so that the last reply arrives: it says ``Connection: close``, the rest of the
  request is swallowed for a while, and only the write side is shut first. A client that shuts its own
  side after asking is answered.

The module is long because the state is one: what comes in, what goes out, time and closing share it, and
apart they would call each other on each event. What can be told without it stands in modules of its own:
the table, heads, chunks, bodies, replies.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import select
import socket
from collections.abc import Awaitable, Callable, MutableSet
from typing import Any, Protocol, cast

import msgspec

from fletching.errors import (
    InternalServerError,
    InvalidParameterError,
    ServiceError,
    ThrottledError,
)
from fletching.server.http.chunked_body import ChunkedDecoder
from fletching.server.http.connection_states import TIMERS, Event, Reuse, State, next_state
from fletching.server.http.exchange import Exchange
from fletching.server.http.incoming_body import ConnectionBody
from fletching.server.http.reply_stream import ConnectionReply, Headers
from fletching.server.http.request_head import RequestHead, parse_head
from fletching.server.http.socket_writer import SocketWriter
from fletching.server.request_ids import new_request_id
from fletching.server.server_settings import ServerSettings

__all__ = ["Answer", "Connection", "ServerState"]

Answer = Callable[[Exchange], Awaitable[None]]
"""Answers one request; whatever it raises or leaves undone, the client gets an end."""

HEAD_BUFFER_BYTES = 256 * 1024
TIMER_SLACK_SECONDS = 0.001
IDLE_LINGER_SECONDS = 0.2
"""Longer than a round trip; a pooled client notices our end only when it wants to ask again."""
GATHERED_BYTES = 16 * 1024
"""Shorter pieces of replies are joined up to this length."""
WRITE_HIGH_BYTES = 4 * 1024 * 1024
WRITE_LOW_BYTES = 1024 * 1024
"""Unsent bytes of a reply at which the application waits, and at which it goes on."""

_UNIX = getattr(socket, "AF_UNIX", None)

logger = logging.getLogger("fletching.server")


class ServerState(Protocol):
    """What a server's connections share, and the server's view of them."""

    total_requests: int
    connections: MutableSet[Any]
    tasks: MutableSet[asyncio.Task[None]]
    default_headers: list[tuple[bytes, bytes]]


class Connection(asyncio.BufferedProtocol):
    """The protocol object of one connection. Lives on the event loop's thread only.

    Attributes:
        settings: the service's settings.
        state: see ``connection_states``.
        draining: the server is stopping; every further reply says ``Connection: close``.
    """

    def __init__(
        self,
        answer: Answer,
        settings: ServerSettings,
        server_state: ServerState,
        head_buffer: memoryview,
    ) -> None:
        """Waits for its transport.

        Args:
            answer: called for each request, as a task of its own.
            settings: the service's.
            server_state: where the connection and its tasks are listed.
            head_buffer: what heads are received into. Nothing of it is kept between two steps of the
                loop, so all connections of a loop read them through one.
        """
        self.settings = settings
        self.state = State.IDLE
        self.draining = False
        self._answer = answer
        self._server_state = server_state
        self._loop = asyncio.get_running_loop()
        self._head_buffer = head_buffer
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._tls = False
        self._client: tuple[str, int] | None = None
        self._same_host = False
        self._excess = False
        self._paused = False
        self._half_closed = False
        # Received and not parsed: the head that comes in, or what is behind the request in work.
        self._unread = bytearray()
        self._searched = 0
        # The request in work.
        self._body: ConnectionBody | None = None
        self._reply: ConnectionReply | None = None
        self._chunks: ChunkedDecoder | None = None
        self._reuse = Reuse(wanted=True)
        self._discarded_from = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_mark = (0.0, 0)
        self._stall_timer: asyncio.TimerHandle | None = None
        self._gathered = bytearray()
        self._direct: SocketWriter | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def _step(self, event: Event, *, arm: bool = True) -> None:
        """The one place where the state changes, and with it the timer.

        ``arm`` is False where the next step may follow at once; who says so arms the timer otherwise.
        """
        before, self.state = self.state, next_state(self.state, event)
        if self.state is not before and arm:
            self._arm()

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
        self._same_host = peer is not None and peer.family == _UNIX
        address = transport.get_extra_info("peername")
        if isinstance(address, tuple):
            self._client = (str(address[0]), int(address[1]))
        self._server_state.connections.add(self)
        self._excess = len(self._server_state.connections) > self.settings.max_connections
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        """Tells everyone who waits that the client is gone."""
        self._server_state.connections.discard(self)
        self._step(Event.LOST)
        self._disarm()
        self._forget_stall()
        if self._direct is not None:
            self._direct.cut()
        if self._body is not None:
            self._body.disconnect()
        self._unread.clear()
        self._writable.set()

    def eof_received(self) -> bool:
        """Keeps a half-closed connection for the replies it still expects."""
        self._half_closed = True
        before = self.state
        self._step(Event.END)
        if before is State.BODY and self._body is not None:
            self._body.disconnect()
        self._flush()
        if self._tls:
            return False  # TLS has no half-close: the transport ends by itself
        if self.state is not State.REPLY:
            # Told to end by itself, the transport may drop what was written in this step of the loop.
            self._transport.close()
        return True

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  asyncio's signature
        """Where to receive: the upload's own buffer in a counted body, else the head buffer."""
        body = self._body
        if body is None or self._chunks is not None:
            return self._head_buffer
        if self.state is State.BODY:
            return body.space()
        if self.state is State.DISCARD:
            return self._head_buffer[: body.remaining]
        return self._head_buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Takes what was received."""
        body = self._body
        if self.state is State.BODY and body is not None and self._chunks is None:
            if not body.advance(nbytes):
                self._pause_reading()
            if not body.remaining:
                self._end_body(body)
        else:
            self._take(self._head_buffer[:nbytes])

    def pause_writing(self) -> None:
        """The client is slower than we are: ``writable`` waits, and a stall is watched for."""
        self._writable.clear()
        self._watch_stall(self._transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """The client took enough."""
        self._writable.set()
        self._forget_stall()

    def shutdown(self) -> None:
        """The server's call to drain: finish what runs, answer what is on its way, then close."""
        self.draining = True
        self._arm()

    # --- what comes in --------------------------------------------------------------------------

    def _take(self, data: memoryview) -> None:
        if self.state in {State.LINGER, State.CLOSED}:
            return
        if self.state in {State.BODY, State.DISCARD}:
            data = data[self._take_body(data) :]
            if not data:
                return
        # A copy because the buffer serves all connections; heads are short.
        self._unread += data
        self._go_on()

    def _take_body(self, data: memoryview) -> int:
        """Gives received bytes to the body; returns how many were the body's."""
        body = self._body
        assert body is not None
        if self._chunks is None:
            used = min(len(data), body.remaining)
            chunks = [data[:used]]
            ended = used == body.remaining
        else:
            try:
                chunks, used = self._chunks.feed(data)
            except ServiceError as error:
                self._refuse(error)
                return len(data)
            ended = self._chunks.ended
        wants_more = True
        for piece in chunks:
            if piece:
                wants_more = body.put(piece)
        if ended:
            self._end_body(body)
        elif self.state is State.DISCARD:
            if body.body_bytes - self._discarded_from > self.settings.max_discard_bytes:
                self._shut()
        elif not wants_more:
            self._pause_reading()
        return used

    def _end_body(self, body: ConnectionBody) -> None:
        body.finish()
        if self.state is State.DISCARD:
            self._next()
        else:
            self._step(Event.BODY_END)
            self._resume_reading()

    def _go_on(self) -> None:
        """Begins with the next request, if enough of it is there."""
        while self._unread and self.state in {State.IDLE, State.HEAD}:
            begun = False
            if self.state is State.IDLE:
                # Empty lines before a request are ignored (RFC 9112, 2.2).
                while self._unread.startswith((b"\r", b"\n")):
                    del self._unread[:1]
                if not self._unread:
                    return
                self._searched = 0
                self._step(Event.BYTES, arm=False)
                begun = True
            try:
                head = self._next_head()
                if head is None:
                    if begun:
                        self._arm()
                    return
                request = parse_head(
                    head, scheme="https" if self._tls else "http", client=self._client
                )
                if self._same_host:
                    request = dataclasses.replace(request, same_host=True)
            except ServiceError as error:
                self._refuse(error)
                return
            self._begin(request)
        if len(self._unread) > self.settings.max_head_bytes:
            self._pause_reading()  # until the request in work is answered

    def _next_head(self) -> bytes | None:
        """The bytes of a head, once they are there with the empty line at their end."""
        unread, limit = self._unread, self.settings.max_head_bytes
        if not unread[:1].isupper():
            raise InvalidParameterError("not an HTTP/1.1 request: it begins with no method")
        end = unread.find(b"\r\n\r\n", self._searched)
        if (end if end >= 0 else len(unread)) > limit:
            raise InvalidParameterError(
                f"the request's line and headers are above the limit of {limit} bytes",
                http_status=431,
            )
        if end < 0:
            # A line that ends in LF alone is none of ours: its empty line would never be found.
            first = unread.find(b"\n", self._searched)
            while first >= 0:
                if unread[max(first - 1, 0) : first] != b"\r":
                    raise InvalidParameterError(
                        "a line of the request's head does not end in CR LF"
                    )
                first = unread.find(b"\n", first + 1)
            self._searched = max(len(unread) - 3, 0)
            return None
        head = bytes(unread[: end + 4])
        del unread[: end + 4]
        return head

    def _begin(self, head: RequestHead) -> None:
        """Starts to answer a request."""
        expects = [head.expect_continue]
        length = None if head.chunked else head.content_length or 0
        self._body = body = ConnectionBody(length, lambda: self._wanted(expects))
        self._chunks = ChunkedDecoder(self.settings.max_head_bytes) if head.chunked else None
        self._reply = ConnectionReply(self, method=head.method, version=head.version)
        self._reuse = Reuse(wanted=head.keep_alive and not self._excess)
        self._step(Event.HEAD_OF_BODY if head.has_body else Event.REQUEST)
        exchange = Exchange(head, body, self._reply, new_request_id(), self.settings)
        task = self._loop.create_task(self._run(exchange, body, self._reply))
        self._server_state.tasks.add(task)
        task.add_done_callback(self._server_state.tasks.discard)
        if self.state is State.BODY:
            # A copy of what came with the head; the rest is received into place.
            rest, self._unread = self._unread, bytearray()
            with memoryview(rest) as view:
                used = self._take_body(view)
            self._unread = rest[used:]
            if self.state is State.BODY and self._chunks is None:
                # The application says where the rest of the body is to go before it is read.
                self._pause_reading()

    def _wanted(self, expects: list[bool]) -> None:
        """The application waits for more of the body."""
        if expects[0] and self._reply is not None and not self._reply.started:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        expects[0] = False
        self._resume_reading()

    # --- exchanges ------------------------------------------------------------------------------

    async def _run(self, exchange: Exchange, body: ConnectionBody, reply: ConnectionReply) -> None:
        """Answers; whatever happens, the client gets a whole reply or a closed end."""
        try:
            if self._excess:
                self._say(reply, self._too_many_connections())
            else:
                await self._answer(exchange)
        except Exception:
            if body.disconnected:
                return
            logger.exception("the application failed")
            if not reply.started:
                self._say(reply, InternalServerError("the server failed"))
        finally:
            # A reply that cannot be completed must not look complete: the client sees the end of
            # the connection before the end of the body.
            if not reply.complete and not body.disconnected:
                self._cut()

    def _say(self, reply: ConnectionReply, error: ServiceError) -> None:
        """A whole reply that says an error, without waiting for the client."""
        status, headers, body = _error_reply(error)
        reply.begin(status, headers)
        reply.put(memoryview(body))
        reply.end()

    def _too_many_connections(self) -> ServiceError:
        return ThrottledError(
            f"more than {self.settings.max_connections} connections are open",
            retry_after_seconds=max(1.0, self.settings.retry_after_seconds),
        )

    def default_headers(self) -> Headers:
        """Headers of every reply; see ``Outlet``."""
        return self._server_state.default_headers

    def keeps_open(self, *, delimited: bool) -> bool:
        """Applies the rule for reuse; see ``Outlet``."""
        body = self._body
        limit = self.settings.max_discard_bytes
        self._reuse.delimited = delimited
        self._reuse.draining = self.draining
        self._reuse.discardable = (
            body is None or body.content_length is None or body.remaining <= limit
        )
        return bool(self._reuse)

    def reply_ended(self) -> None:
        """Goes on to the next request, or closes; see ``Outlet``."""
        self._server_state.total_requests += 1
        body = self._body
        assert body is not None
        body.drop()
        if self.state in {State.LINGER, State.CLOSED}:
            return
        if not self._reuse:
            if self.state is State.REPLY and not self._unread:
                self._end()
            else:
                self._shut()
        elif self.state is State.REPLY:
            self._next()
        else:
            # The rest of the body is swallowed, so that the client can finish sending and read.
            self._discarded_from = body.body_bytes
            self._step(Event.REPLY_END)
            self._resume_reading()

    def _next(self) -> None:
        """Both the request and its reply are complete."""
        self._body = self._reply = self._chunks = None
        self._step(Event.REPLY_END if self.state is State.REPLY else Event.BODY_END)
        self._resume_reading()
        self._go_on()
        if self.state in {State.IDLE, State.HEAD} and self._half_closed:
            self._end()  # nothing more can come

    # --- refusing and closing -------------------------------------------------------------------

    def _refuse(self, error: ServiceError) -> None:
        """Answers bytes that are not a request we can serve, and closes."""
        reply, body = self._reply, self._body
        if reply is None or not reply.started:
            status, headers, text = _error_reply(error)
            lines = [b"HTTP/1.1 %d Refused\r\n" % status]
            for name, value in (*self.default_headers(), *headers):
                lines += (name, b": ", value, b"\r\n")
            self.write(b"".join((*lines, b"connection: close\r\n\r\n", text)))
        if body is not None:
            body.disconnect()
        self._shut()

    def _shut(self, linger_seconds: float | None = None) -> None:
        """Shuts the write side and drops what still comes, so that no reset overtakes our reply."""
        if self.state in {State.LINGER, State.CLOSED} or self._transport.is_closing():
            return  # an aborted transport is lost in a moment
        if self._tls or self._half_closed or not self._transport.can_write_eof():
            self._end()
            return
        self._flush()
        self._step(Event.SHUT)
        self._transport.write_eof()
        self._resume_reading()
        if linger_seconds is not None:
            self._disarm()
            self._timer = self._loop.call_later(linger_seconds, self._on_timer)

    def _end(self) -> None:
        """Ends the connection once the client has taken what was written, or lets that be."""
        self._flush()
        if self.state is not State.LINGER:
            self._step(Event.SHUT)
        self._transport.close()

    def _cut(self) -> None:
        """Ends a reply that cannot be completed."""
        if self.state not in {State.LINGER, State.CLOSED}:
            self._end()

    # --- time -----------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Starts the timer of the state, as the table has it."""
        self._disarm()
        timer = TIMERS.get(self.state)
        if timer is None or self.state is State.REPLY:
            return  # a reply's timer runs while the transport holds bytes: see `_watch_stall`
        name = timer.draining if self.draining and timer.draining else timer.setting
        if self._body is not None:
            waited = self._body.waited_seconds(self._loop.time())
            self._timer_mark = (waited, self._body.body_bytes)
        self._timer = self._loop.call_later(getattr(self.settings, name), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self.state is State.IDLE:
            # A request that crosses our end is still taken off.
            self._shut(min(IDLE_LINGER_SECONDS, self.settings.linger_seconds))
        elif self.state is State.HEAD:
            self._refuse(
                InvalidParameterError(
                    "the request's headers did not arrive in time", http_status=408
                )
            )
        elif self.state in {State.BODY, State.DISCARD}:
            self._on_slow_body()
        elif self.state is State.LINGER and self._transport.get_write_buffer_size():
            self._watch_stall(self._transport.get_write_buffer_size())
        elif self.state is State.LINGER:
            self._transport.abort()

    def _on_slow_body(self) -> None:
        body = self._body
        assert body is not None
        since, received = self._timer_mark
        slow = body.body_bytes - received < self.settings.body_progress_bytes
        if self.state is State.DISCARD:
            if slow or self.draining:
                self._shut()
            else:
                self._arm()
            return
        # The span is one of waiting: what the application does in between does not count.
        left = self.settings.body_idle_seconds - (body.waited_seconds(self._loop.time()) - since)
        if left > TIMER_SLACK_SECONDS:
            self._timer = self._loop.call_later(left, self._on_timer)
        elif slow:
            self._reuse.wanted = False
            body.time_out()
        else:
            self._arm()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch_stall(self, size: int) -> None:
        self._forget_stall()
        self._stall_timer = self._loop.call_later(
            self.settings.reader_stall_seconds, self._on_stall, size
        )

    def _on_stall(self, before: int) -> None:
        size = self._transport.get_write_buffer_size()
        if not size and self.state is State.LINGER:
            self._transport.abort()  # everything was taken, and nothing is expected
            return
        if size < before:
            self._watch_stall(size)
            return
        logger.warning("a reader took nothing for %s s: cut", self.settings.reader_stall_seconds)
        # A graceful close would wait for the same reader for ever.
        self._transport.abort()

    def _forget_stall(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    # --- flow -----------------------------------------------------------------------------------

    def write(self, data: bytes | memoryview) -> None:
        """Hands bytes to the transport, which keeps the buffer until it is sent.

        Small ones wait for what is written behind them in the same step of the loop: each system
        call makes segments of its own and wakes the client.
        """
        if self.state in {State.LINGER, State.CLOSED} or self._transport.is_closing():
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
        """Waits until the client has taken most of what was written; see ``Outlet``."""
        if not self._writable.is_set():
            await self._writable.wait()
        # A write that failed has closed the transport; that the connection is lost is told in a later
        # step of the loop, which whoever writes without a pause never lets come.
        if self._body is None or self._body.disconnected or self._transport.is_closing():
            raise ConnectionResetError("the client disconnected")

    async def socket_writer(self, owed_bytes: int | None) -> SocketWriter | None:
        """A sender past the transport, once the transport has nothing left; see ``Outlet``."""
        if self._tls or self._transport.is_closing() or self.state is State.LINGER:
            return None
        peer = self._transport.get_extra_info("socket")
        if peer is None or not hasattr(select, "poll"):
            return None
        self._flush()
        if self._transport.get_write_buffer_size():
            # As a limit of 0 bytes, which are reached when the last one is sent.
            self._transport.set_write_buffer_limits(high=0)
            try:
                await self.writable()
            finally:
                if not self._transport.is_closing():  # a closed one takes no more settings
                    self._transport.set_write_buffer_limits(
                        high=WRITE_HIGH_BYTES, low=WRITE_LOW_BYTES
                    )
        if self._body is None or self._body.disconnected:
            raise ConnectionResetError("the client disconnected")
        if self._transport.is_closing() or self._transport.get_write_buffer_size():
            return None
        self._direct = SocketWriter(peer.fileno(), owed_bytes=owed_bytes)
        return self._direct

    def end_socket_writer(self, sender: SocketWriter) -> None:
        """Closes a direct sender that no worker uses any more; see ``Outlet``."""
        if self._direct is sender:
            self._direct = None
        sender.close()

    def _resume_reading(self) -> None:
        if self._paused and not self._transport.is_closing():
            if self.state is State.REPLY and len(self._unread) > self.settings.max_head_bytes:
                return
            self._paused = False
            with contextlib.suppress(RuntimeError):  # the client has ended
                self._transport.resume_reading()

    def _pause_reading(self) -> None:
        if not self._paused and not self._transport.is_closing() and not self._half_closed:
            self._paused = True
            self._transport.pause_reading()


def _error_reply(error: ServiceError) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    request_id = new_request_id()
    body = msgspec.json.encode(
        {"Code": error.code, "Message": error.message, "RequestId": request_id}
    )
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-odps-request-id", request_id.encode()),
    ]
    if error.retry_after_seconds is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after_seconds))
    return error.http_status, headers, body
