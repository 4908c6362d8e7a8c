"""A request's body as the application takes it.

Our own connections give it without copies; any other ASGI server through ``receive``.
"""

from __future__ import annotations

from typing import Any, Protocol

from typing_extensions import Buffer

__all__ = ["AsgiBody", "BodySink", "RequestBody"]


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
        """

    async def pump(self, sink: BodySink) -> bool:
        """Receives into the sink until it asks for attention (False) or the body ends (True).

        Raises:
            OSError: the client disappeared before the body's end.
        """


class AsgiBody:
    """The body over ASGI's ``receive``: what there is when another server runs the application."""

    def __init__(self, scope: Any, receive: Any) -> None:
        self._receive = receive
        self._ended = False
        self.body_bytes = 0
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        self.content_length = int(lengths[0]) if lengths else None

    async def receive_view(self) -> memoryview | None:
        """Returns the next bytes, or None at the end; see ``RequestBody``."""
        while not self._ended:
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
        """Feeds the sink; see ``RequestBody``."""
        while (view := await self.receive_view()) is not None:
            if not sink.feed(view):
                return False
        return True
