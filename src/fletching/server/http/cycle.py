"""One request and its reply on a connection: body in, reply out, in ASGI's terms.

Besides ASGI's ``receive`` a cycle offers ``receive_view`` (scope extension ``fletching.body``): the
same body without copies, for uploads; and besides ``send`` a direct sender (``fletching.direct``), for
replies of many megabytes. The connection fills; the cycle hands out.
"""

from __future__ import annotations

import asyncio
import http
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fletching.server.http.connection import Connection
    from fletching.server.http.request_stream import BodySink
    from fletching.server.http.socket_writer import DirectSender

__all__ = ["Cycle"]

BODY_BUFFER_BYTES = 1024 * 1024
"""Receive buffer of a counted body without a sink: large enough that waking the task per buffer
costs little."""
HELD_CHUNK_BYTES = 1024 * 1024
"""Unread bytes of a chunked body at which the socket is no longer read."""

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
    for status in http.HTTPStatus
}
_NO_BODY = frozenset({204, 304})


class Cycle:
    """State of one exchange. Lives on the event loop's thread only.

    Attributes:
        body_complete: every byte of the request's body has arrived.
        response_complete: every byte of the reply has been handed to the transport.
        disconnected: the client is gone; ``send`` raises OSError, ``receive`` says so.
    """

    def __init__(self, connection: Connection, scope: dict[str, Any], *, keep_alive: bool) -> None:
        self.connection = connection
        self.scope = scope
        self.keep_alive = keep_alive
        self.content_length: int | None = None
        self.expect_continue = False
        self.body_complete = False
        self.body_bytes = 0
        self.response_started = False
        self.response_complete = False
        self.disconnected = False
        self._arrived = asyncio.Event()
        self._chunks: deque[bytes] = deque()
        self._held = 0
        # Raw mode: the socket is read straight into this buffer; [_taken:_filled] is unread.
        self._buffer: memoryview | None = None
        self._filled = 0
        self._taken = 0
        self._sink: BodySink | None = None
        self._attention = False
        self._ended_for_asgi = False
        self._bodiless = False
        self._chunked = False
        self._counted = False
        self._owed = 0
        self._discarded = 0
        scope["extensions"] = {"fletching.body": self, "fletching.direct": self}

    # --- the request's body, from the connection's side --------------------------------------

    @property
    def remaining(self) -> int:
        """Body bytes still to come; only meaningful with a Content-Length."""
        return (self.content_length or 0) - self.body_bytes

    def put(self, chunk: bytes) -> bool:
        """Takes a parsed piece of the body; False when the socket should not be read for now."""
        self.body_bytes += len(chunk)
        if self.response_complete:
            self._discarded += len(chunk)
            return True
        if self._sink is not None and not self._chunks:
            return self._noted(more=self._sink.feed(chunk))
        self._chunks.append(chunk)
        self._held += len(chunk)
        self._arrived.set()
        return self._held < HELD_CHUNK_BYTES

    def space(self) -> memoryview:
        """Where the socket may write body bytes next; never beyond the body's end."""
        if self._sink is not None:
            return self._sink.writable()[: self.remaining]
        if self._buffer is None:
            self._buffer = memoryview(bytearray(min(BODY_BUFFER_BYTES, self.remaining)))
        return self._buffer[self._filled : self._filled + self.remaining]

    def advance(self, count: int) -> bool:
        """Counts bytes written to ``space``; False when the socket must wait."""
        self.body_bytes += count
        if self._sink is not None:
            return self._noted(more=self._sink.wrote(count))
        assert self._buffer is not None
        self._filled += count
        self._arrived.set()
        return self._filled < len(self._buffer)

    def discard(self, count: int) -> None:
        """Counts body bytes that came after the reply and were dropped."""
        self.body_bytes += count
        self._discarded += count

    def _noted(self, *, more: bool) -> bool:
        if not more:
            self._attention = True
            self._arrived.set()
        return more

    def finish_body(self) -> None:
        """Marks the body complete."""
        self.body_complete = True
        self._arrived.set()

    def disconnect(self) -> None:
        """Marks the client gone and wakes whoever waits for it."""
        self.disconnected = True
        self._arrived.set()

    @property
    def discarded_bytes(self) -> int:
        """Body bytes that came after the reply and were dropped."""
        return self._discarded

    # --- the request's body, from the application's side -------------------------------------

    async def receive_view(self) -> memoryview | None:
        """Returns the next bytes of the body, or None at its end.

        The view is borrowed: it is valid until the next call. No bytes are copied when the body has
        a Content-Length.

        Raises:
            OSError: the client disappeared before the body's end.
        """
        while True:
            if self._chunks:
                chunk = self._chunks.popleft()
                self._held -= len(chunk)
                return memoryview(chunk)
            if self._taken < self._filled:
                assert self._buffer is not None
                view = self._buffer[self._taken : self._filled]
                self._taken = self._filled
                return view
            if self.body_complete:
                return None
            if self.disconnected:
                raise ConnectionAbortedError("the client disconnected in mid-body")
            await self._wait_for_body()

    async def pump(self, sink: BodySink) -> bool:
        """Receives straight into the sink until it asks for attention or the body ends.

        Returns:
            Whether the body has ended.

        Raises:
            OSError: the client disappeared before the body's end.
        """
        while self._chunks or self._taken < self._filled:
            view = await self.receive_view()
            assert view is not None
            if not sink.feed(view):
                return False
        self._sink = sink
        self._attention = False
        try:
            while not (self._attention or self.body_complete):
                if self.disconnected:
                    raise ConnectionAbortedError("the client disconnected in mid-body")
                await self._wait_for_body()
        finally:
            self._sink = None
        return self.body_complete

    async def receive(self) -> dict[str, Any]:
        """ASGI's receive: the body in owned ``bytes``, then ``http.disconnect``."""
        if self.response_complete or (self.body_complete and self._ended_for_asgi):
            await self._wait_for_disconnect()
            return {"type": "http.disconnect"}
        try:
            view = await self.receive_view()
        except OSError:
            return {"type": "http.disconnect"}
        # A copy because ASGI applications keep the chunks they receive.
        body = b"" if view is None else bytes(view)
        more = not self.body_complete or bool(self._chunks) or self._taken < self._filled
        self._ended_for_asgi = not more
        return {"type": "http.request", "body": body, "more_body": more}

    async def _wait_for_disconnect(self) -> None:
        while not self.disconnected and not self.response_complete:
            self._arrived.clear()
            await self._arrived.wait()

    async def _wait_for_body(self) -> None:
        if self.expect_continue and not self.response_started:
            self.expect_continue = False
            self.connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._buffer is not None:
            self._filled = self._taken = 0
        self._arrived.clear()
        self.connection.resume_reading()
        await self._arrived.wait()

    # --- the reply ----------------------------------------------------------------------------

    async def send(self, message: dict[str, Any]) -> None:
        """ASGI's send; ``body`` may be any buffer and is not copied unless the reply is chunked.

        A buffer must stay unchanged until the transport has sent it. Waits while the client is
        slower than us.

        Raises:
            OSError: the client is gone.
        """
        await self.connection.writable()
        if self.disconnected:
            raise ConnectionResetError("the client disconnected")
        if message["type"] == "http.response.start":
            self._start(message)
        elif message["type"] == "http.response.body":
            self._write(message.get("body", b""), more=message.get("more_body", False))

    async def direct_sender(self) -> DirectSender | None:
        """Waits until all that was written is with the kernel, then lets a worker send the rest.

        Returns:
            None where that cannot be: TLS, a reply without a length, another kind of loop. Else the
            sender, for which `direct_sent` must be called.

        Raises:
            OSError: the client is gone.
        """
        if not self._counted or self._bodiless:
            return None
        sender = await self.connection.direct_sender(self._owed)
        if self.disconnected:
            raise ConnectionResetError("the client disconnected")
        return sender

    def direct_sent(self, sender: DirectSender) -> None:
        """Takes the connection back, and counts what the sender sent."""
        self._owed -= sender.sent_bytes
        self.connection.end_direct(sender)

    def _start(self, message: dict[str, Any]) -> None:
        assert not self.response_started
        status: int = message["status"]
        connection = self.connection
        lines = [_STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n".encode()]
        length: int | None = None
        for name, value in (*connection.default_headers, *message.get("headers", ())):
            if b"\r" in value or b"\n" in value:
                raise ValueError(f"header {name!r} holds a line break")
            lowered = name.lower()
            if lowered == b"content-length":
                length = int(value)
            elif lowered == b"connection":
                self.keep_alive = self.keep_alive and b"close" not in value.lower()
                continue
            lines += (name, b": ", value, b"\r\n")
        bodiless = self.scope["method"] == "HEAD" or status in _NO_BODY
        self._chunked = length is None and not bodiless and self.scope["http_version"] != "1.0"
        self._owed = 0 if bodiless or length is None else length
        if self._chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        elif length is None and not bodiless:
            self.keep_alive = False
        if connection.draining or self._too_much_to_discard():
            self.keep_alive = False
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        elif self.scope["http_version"] == "1.0":
            lines.append(b"connection: keep-alive\r\n")
        lines.append(b"\r\n")
        self._bodiless = bodiless
        self._counted = not self._chunked and length is not None
        self.response_started = True
        connection.write(b"".join(lines))

    def _too_much_to_discard(self) -> bool:
        limit = self.connection.settings.max_discard_bytes
        return self.content_length is not None and self.remaining > limit

    def _write(self, body: Any, *, more: bool) -> None:
        assert self.response_started
        assert not self.response_complete
        length = body.nbytes if isinstance(body, memoryview) else len(body)
        if length and not self._bodiless:
            if self._chunked:
                self.connection.write(b"%x\r\n" % length)
                self.connection.write(body)
                self.connection.write(b"\r\n")
            else:
                if self._counted and length > self._owed:
                    raise ValueError("the reply is longer than its Content-Length")
                self._owed -= length
                self.connection.write(body)
        if more:
            return
        if self._counted and not self._bodiless and self._owed:
            raise ValueError("the reply is shorter than its Content-Length")
        if self._chunked and not self._bodiless:
            self.connection.write(b"0\r\n\r\n")
        self.response_complete = True
        self._chunks.clear()
        self._arrived.set()
        self.connection.on_response_complete(self)
