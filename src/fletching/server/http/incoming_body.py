"""A request's body as the application takes it, and how a connection fills it.

The connection fills, the application takes; between them is one buffer, or the application's own memory
(a sink), or, for a chunked body, a few pieces.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from typing_extensions import Buffer

__all__ = ["BodySink", "ConnectionBody", "RequestBody"]

BODY_BUFFER_BYTES = 1024 * 1024
"""Receive buffer of a counted body without a sink: large enough that waking the task per buffer
costs little."""
HELD_CHUNK_BYTES = 1024 * 1024
"""Unread bytes of a chunked body at which the socket is no longer read."""


class BodySink(Protocol):
    """Takes body bytes as they arrive, on the event loop: must be quick and must not raise."""

    def writable(self) -> memoryview:
        """Where to receive next; never empty."""

    def wrote(self, count: int) -> bool:
        """Says that ``count`` bytes stand there now; False asks for attention before more."""

    def feed(self, chunk: Buffer) -> bool:
        """Takes bytes that were received elsewhere; the answer as for ``wrote``."""


class RequestBody(Protocol):
    """The body of one request. Used by one task."""

    content_length: int | None
    """Bytes announced, or None for a chunked body."""
    body_bytes: int
    """Bytes received so far."""

    async def receive_view(self) -> memoryview | None:
        """Returns the next bytes, borrowed until the next call, or None at the end.

        Raises:
            OSError: the client disappeared before the body's end.
            TimeoutError: it sends too slowly.
        """

    async def pump(self, sink: BodySink) -> bool:
        """Receives into the sink until it asks for attention (False) or the body ends (True).

        Raises:
            OSError: the client disappeared before the body's end.
            TimeoutError: it sends too slowly.
        """

    async def wait_for_disconnect(self) -> None:
        """Waits until the client is gone or the reply is complete."""


class ConnectionBody:
    """The body of a request on one of our connections. Lives on the event loop's thread only.

    Attributes:
        content_length: bytes announced; 0 if there is no body, None for a chunked one.
        body_bytes: bytes received so far.
        complete: every byte has arrived.
        disconnected: the client is gone before that, or is gone at all.
    """

    def __init__(self, content_length: int | None, want_more: Callable[[], None]) -> None:
        """``want_more`` is called when the application waits for bytes."""
        self.content_length = content_length
        self.body_bytes = 0
        self.complete = content_length == 0
        self.disconnected = False
        self._waited = 0.0
        self._waiting_since: float | None = None
        self._want_more = want_more
        self._too_slow = False
        self._dropped = False
        self._arrived = asyncio.Event()
        self._chunks: deque[bytes] = deque()
        self._held = 0
        # A counted body is received straight into this buffer; [_taken:_filled] is unread.
        self._buffer: memoryview | None = None
        self._filled = 0
        self._taken = 0
        self._sink: BodySink | None = None
        self._attention = False

    # --- from the connection's side -----------------------------------------------------------

    @property
    def remaining(self) -> int:
        """Body bytes still to come; only meaningful with a Content-Length."""
        return (self.content_length or 0) - self.body_bytes

    def waited_seconds(self, now: float) -> float:
        """How long the application has waited for bytes altogether, until ``now`` by the loop's clock."""
        since = self._waiting_since
        return self._waited + (0.0 if since is None else now - since)

    def put(self, chunk: bytes | memoryview) -> bool:
        """Takes a piece of the body; False when the socket should not be read for now."""
        self.body_bytes += len(chunk)
        if self._dropped:
            return True
        if self._sink is not None and not self._chunks:
            return self._noted(more=self._sink.feed(chunk))
        # A copy: the piece is a part of the buffer that all connections share.
        self._chunks.append(bytes(chunk))
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

    def _noted(self, *, more: bool) -> bool:
        if not more:
            self._attention = True
            self._arrived.set()
        return more

    def finish(self) -> None:
        """Marks the body complete."""
        self.complete = True
        self._arrived.set()

    def drop(self) -> None:
        """The reply is complete: nobody takes what comes from now on."""
        self._dropped = True
        self._chunks.clear()
        self._arrived.set()

    def disconnect(self) -> None:
        """Marks the client gone and wakes whoever waits for it."""
        self.disconnected = True
        self._arrived.set()

    def time_out(self) -> None:
        """The client sends too slowly: tells whoever waits for it."""
        self._too_slow = True
        self._arrived.set()

    # --- from the application's side ----------------------------------------------------------

    async def receive_view(self) -> memoryview | None:
        """Returns the next bytes of the body, or None at its end; see ``RequestBody``.

        No bytes are copied when the body has a Content-Length.
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
            if self.complete:
                return None
            await self._wait()

    async def pump(self, sink: BodySink) -> bool:
        """Receives straight into the sink; see ``RequestBody``."""
        while self._chunks or self._taken < self._filled:
            view = await self.receive_view()
            assert view is not None
            if not sink.feed(view):
                return False
        self._sink = sink
        self._attention = False
        try:
            while not (self._attention or self.complete):
                await self._wait()
        finally:
            self._sink = None
        return self.complete

    async def wait_for_disconnect(self) -> None:
        """Waits until the client is gone or the reply is complete."""
        while not (self.disconnected or self._dropped):
            self._arrived.clear()
            await self._arrived.wait()

    async def _wait(self) -> None:
        if self.disconnected:
            raise ConnectionAbortedError("the client disconnected in mid-body")
        if self._too_slow:
            raise TimeoutError
        if self._buffer is not None:
            self._filled = self._taken = 0
        self._arrived.clear()
        clock = asyncio.get_running_loop().time
        self._waiting_since = since = clock()
        try:
            self._want_more()
            await self._arrived.wait()
        finally:
            self._waiting_since = None
            self._waited += clock() - since
