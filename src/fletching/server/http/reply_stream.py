"""The reply to one request: its head, its framing, and what it still owes.

::

    Exchange ──start, write, finish──> ReplyStream ──bytes──> connection
                                           └──socket_writer──> worker, past the event loop
"""

from __future__ import annotations

import http
from collections.abc import Sequence
from typing import Protocol

from fletching.server.http.socket_writer import SocketWriter

__all__ = ["BODILESS", "ConnectionReply", "Outlet", "ReplyStream"]

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
    for status in http.HTTPStatus
}
BODILESS = frozenset({204, 304})
"""Statuses of replies that have no body."""

Headers = Sequence[tuple[bytes, bytes]]


class ReplyStream(Protocol):
    """Where an exchange's reply goes."""

    async def start(self, status: int, headers: Headers) -> None:
        """Sends the head.

        Raises:
            OSError: the client is gone.
        """

    async def write(self, view: memoryview) -> None:
        """Sends a piece of the body, at the client's pace; the buffer must stay unchanged.

        Raises:
            OSError: the client is gone.
        """

    async def write_rest(self, view: memoryview) -> None:
        """Sends what a direct sender left over, which is framed already if the reply is chunked.

        Raises:
            OSError: the client is gone.
        """

    async def finish(self) -> None:
        """Ends the reply.

        Raises:
            OSError: the client is gone.
        """

    async def socket_writer(self) -> SocketWriter | None:
        """A sender once all that was written is with the kernel; None if there can be none now.

        Raises:
            OSError: the client is gone.
        """

    def end_socket_writing(self, sender: SocketWriter) -> None:
        """Takes the connection back from a sender, and counts what it sent."""


class Outlet(Protocol):
    """What a reply needs of its connection."""

    def write(self, data: bytes | memoryview) -> None:
        """Hands bytes to the transport, which keeps the buffer until it is sent."""

    async def writable(self) -> None:
        """Waits until the client has taken most of what was written; OSError if it is gone."""

    def keeps_open(self, *, delimited: bool) -> bool:
        """Whether the connection goes on behind this reply, as the rule for reuse says."""

    def default_headers(self) -> Headers:
        """Headers of every reply: Date and Server."""

    def reply_ended(self) -> None:
        """Every byte of the reply was handed over."""

    async def socket_writer(self, owed_bytes: int | None) -> SocketWriter | None:
        """A sender past the transport; None where there is none. OSError if the client is gone."""

    def end_socket_writer(self, sender: SocketWriter) -> None:
        """Closes a direct sender that no worker uses any more."""


class ConnectionReply:
    """A reply on one of our connections. Lives on the event loop's thread only.

    Attributes:
        started: its head was sent.
        complete: every byte of it was handed over.
    """

    def __init__(self, outlet: Outlet, *, method: str, version: str) -> None:
        self.started = False
        self.complete = False
        self._outlet = outlet
        self._head_only = method == "HEAD"
        self._version = version
        self._bodiless = False
        self._chunked = False
        self._counted = False
        self._owed = 0

    async def start(self, status: int, headers: Headers) -> None:
        """Sends the head; see ``ReplyStream``.

        Raises:
            ValueError: a header with a line break: a bug of ours.
            OSError: the client is gone.
        """
        await self._outlet.writable()
        self.begin(status, headers)

    def begin(self, status: int, headers: Headers) -> None:
        """Sends the head without waiting for the client."""
        assert not self.started
        lines = [_STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n".encode()]
        length: int | None = None
        closes = False
        for name, value in (*self._outlet.default_headers(), *headers):
            if b"\r" in value or b"\n" in value or b"\x00" in value:
                raise ValueError(f"header {name!r} holds a line break")
            lowered = name.lower()
            if lowered == b"content-length":
                length = int(value)
            elif lowered == b"connection":
                closes = closes or b"close" in value.lower()
                continue
            lines += (name, b": ", value, b"\r\n")
        bodiless = self._head_only or status in BODILESS
        self._chunked = length is None and not bodiless and self._version != "1.0"
        self._owed = 0 if bodiless or length is None else length
        if self._chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        delimited = bodiless or self._chunked or length is not None
        if not self._outlet.keeps_open(delimited=delimited and not closes):
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        self._bodiless = bodiless
        self._counted = not self._chunked and length is not None
        self.started = True
        self._outlet.write(b"".join(lines))

    async def write(self, view: memoryview) -> None:
        """Sends a piece of the body; see ``ReplyStream``.

        Raises:
            ValueError: more than the Content-Length: a bug of ours.
            OSError: the client is gone.
        """
        await self._outlet.writable()
        self.put(view)

    def put(self, view: memoryview) -> None:
        """Sends a piece of the body without waiting for the client."""
        assert self.started
        assert not self.complete
        if not view.nbytes or self._bodiless:
            return
        if self._chunked:
            self._outlet.write(b"%x\r\n" % view.nbytes)
            self._outlet.write(view)
            self._outlet.write(b"\r\n")
            return
        if self._counted and view.nbytes > self._owed:
            raise ValueError("the reply is longer than its Content-Length")
        self._owed -= view.nbytes
        self._outlet.write(view)

    async def write_rest(self, view: memoryview) -> None:
        """Sends what a direct sender left over; see ``ReplyStream``.

        Raises:
            OSError: the client is gone.
        """
        await self._outlet.writable()
        if self._chunked:
            self._outlet.write(view)
        else:
            self.put(view)

    async def finish(self) -> None:
        """Ends the reply; see ``ReplyStream``.

        Raises:
            ValueError: less than the Content-Length: a bug of ours.
            OSError: the client is gone.
        """
        await self._outlet.writable()
        self.end()

    def end(self) -> None:
        """Ends the reply without waiting for the client."""
        assert self.started
        assert not self.complete
        if self._counted and not self._bodiless and self._owed:
            raise ValueError("the reply is shorter than its Content-Length")
        if self._chunked and not self._bodiless:
            self._outlet.write(b"0\r\n\r\n")
        self.complete = True
        self._outlet.reply_ended()

    async def socket_writer(self) -> SocketWriter | None:
        """A sender past the event loop; see ``ReplyStream``.

        None for TLS, a reply that ends with its connection, another kind of loop.
        """
        if self._bodiless or not (self._counted or self._chunked):
            return None
        return await self._outlet.socket_writer(None if self._chunked else self._owed)

    def end_socket_writing(self, sender: SocketWriter) -> None:
        """Takes the connection back, and counts what the sender sent."""
        if self._counted:
            self._owed -= sender.sent_bytes
        self._outlet.end_socket_writer(sender)
