"""One HTTP reply: its body received into the caller's memory, its end proven, its errors translated."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import urllib3

from fletching.client.call_options import Timeouts
from fletching.client.transports.http.connections import (
    DescriptorSocket,
    Interrupter,
    ReplyConnection,
)
from fletching.client.transports.http.socket_reader import SocketReader
from fletching.errors import (
    ConnectionBrokenError,
    OperationCancelledError,
    ProtocolError,
    ReadTimeoutError,
)
from fletching.protocol.http.headers import REQUEST_ID

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["Reply", "Stopwatch", "stated_length"]

RECEIVE_BYTES = 4 * 1024 * 1024
"""Longest receive asked for at once: between two, cancelling and the total timeout are looked at."""

WAKE_BYTES = 512 * 1024
"""How much a large receive waits for. Each wake-up costs the sender, too, on one machine: with fewer of
them it sends a fifth faster."""

FINISH_SECONDS = 0.2
"""How long the end of a reply is waited for when all that it says is here: only a connection is saved."""


class Stopwatch:
    """Adds up the time spent waiting for the peer, for the total timeout."""

    def __init__(self, timeouts: Timeouts, clock: Callable[[], float], url: str) -> None:
        self.timeouts = timeouts
        self._clock = clock
        self._url = url
        self._spent = 0.0

    def limit(self, seconds: float | None) -> float | None:
        """The shorter of a timeout and what is left of the total.

        Raises:
            ReadTimeoutError: nothing is left.
        """
        total = self.timeouts.total
        if total is None:
            return seconds
        left = total - self._spent
        if left <= 0:
            raise ReadTimeoutError(
                f"{self._url} took longer than the total timeout of {total} s", url=self._url
            )
        return left if seconds is None else min(seconds, left)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Counts the time inside."""
        started = self._clock()
        try:
            yield
        finally:
            self._spent += self._clock() - started


class Reply:
    """A reply whose headers are in; not thread-safe.

    Its exchange goes on until `close`: cancelling breaks the connection under a read that waits.

    Attributes:
        status: the HTTP status.
        headers: by lower-case name.
        url: without query, for messages.
    """

    def __init__(
        self,
        response: urllib3.BaseHTTPResponse,
        stopwatch: Stopwatch,
        url: str,
        interrupter: Interrupter,
    ) -> None:
        self._response: urllib3.BaseHTTPResponse | None = response
        connection: object = response.connection
        assert isinstance(connection, ReplyConnection)
        raw = connection.raw_reply
        assert raw is not None
        self._raw: http.client.HTTPResponse = raw
        self._socket: socket.socket | None = connection.sock
        self._attached = connection.sock if isinstance(connection.sock, DescriptorSocket) else None
        self._stopwatch = stopwatch
        self._interrupter = interrupter
        self._interrupter.attach(connection)
        self._patience: float | None = None
        self._limit: float | None = -1.0
        self._chunked = bool(raw.chunked)
        self._expects_end = self._chunked or raw.length is not None
        self._ended = False
        self._reader: SocketReader | None = None
        self.url = url
        self.status: int = response.status
        self.headers: dict[str, str] = {
            name.lower(): value for name, value in response.headers.items()
        }

    @property
    def request_id(self) -> str | None:
        """The service's id of the request, if it says one."""
        return self.headers.get(REQUEST_ID)

    @property
    def came_from_this_host(self) -> bool:
        """Whether both ends of the connection have one address: the peer is, or goes on from, this host."""
        sock = self._socket
        if sock is None:
            return False
        try:
            return bool(sock.getpeername()[0] == sock.getsockname()[0])
        except (OSError, IndexError):
            return False

    def take_descriptors(self) -> list[int]:
        """The open files that came with the body's first byte, once that is read; the caller closes them.

        To be called before the body's last byte is read, since the connection may serve others then.
        """
        return [] if self._attached is None else self._attached.take_descriptors()

    def read_with_descriptors(self, limit: int) -> tuple[list[int], bytes]:
        """The open files that came with the body, which the caller closes, and the body; ends the reply.

        Raises:
            TransportError, ProtocolError: as `read_all`; no file stays open then.
        """
        try:
            first = self.read_exactly(1)
            descriptors = self.take_descriptors()
        except BaseException:
            self.close()
            raise
        try:
            return descriptors, first + self.read_all(limit)
        except BaseException:
            for number in descriptors:
                os.close(number)
            raise

    def readinto(self, buffer: WriteableBuffer, *, wake_bytes: int = WAKE_BYTES) -> int:
        """Receives into ``buffer`` up to its length; 0 only at the reply's proven end.

        Payload is copied once, from the kernel into the buffer (but for what came with the headers
        or a chunk's head, up to 8 KiB). A body of known length over plain TCP is received past the
        standard library, ``wake_bytes`` or more at a time while so much is still to come.

        Raises:
            ConnectionBrokenError: the connection ended, or the body was shorter than announced.
            ReadTimeoutError: the peer was silent for the idle timeout, or the total one ran out.
            OperationCancelledError: the exchange was cancelled.
        """
        view = memoryview(buffer)
        if self._ended or not view.nbytes:
            return 0
        if self._interrupter.interrupted:
            # What the kernel has already would still be given after the connection was shut down.
            self.close()
            self._interrupter.check()
        view = view.cast("B")[:RECEIVE_BYTES]
        try:
            if self._limit == -1.0:
                self._reader = SocketReader.of(self._raw, self._socket)
            self._arm()
            with self._stopwatch.running():
                if self._reader is None:
                    count = self._raw.readinto(view)
                else:
                    count = self._reader.readinto(view, wake_bytes)
                    if not self._reader.left and not count:
                        # The standard library lets go of the connection when it sees the body's end.
                        self._raw.length = 0
                        self._raw.readinto(bytearray(1))
        except (TimeoutError, BlockingIOError) as exc:
            self.close()
            raise ReadTimeoutError(
                f"{self.url} sent nothing for {self._limit} s", url=self.url
            ) from exc
        except (OSError, http.client.HTTPException, ValueError) as exc:
            # ValueError: the socket's file was closed in another thread.
            self.close()
            self._interrupter.check()
            raise self._broken(f"{type(exc).__name__}: {exc}") from exc
        if count:
            return count
        left = self._raw.length if self._reader is None else self._reader.left
        if not self._chunked and left:
            self.close()
            self._interrupter.check()
            raise self._broken(f"the body ended {left} bytes short of its Content-Length")
        self._end()
        return 0

    def read_all(self, limit: int) -> bytes:
        """The rest of the body.

        Raises:
            ConnectionBrokenError: the connection ended first, or there is more than ``limit`` bytes.
            ReadTimeoutError: as `readinto`.
        """
        parts = bytearray()
        room = bytearray(64 * 1024)
        while count := self.readinto(room):
            parts += memoryview(room)[:count]
            if len(parts) > limit:
                self.close()
                raise self._broken(f"a reply of one value is longer than {limit} bytes")
        return bytes(parts)

    def read_exactly(self, length: int) -> bytes:
        """The next ``length`` bytes of the body.

        Raises:
            ConnectionBrokenError: the connection ended first, or the body is shorter.
            ReadTimeoutError: as `readinto`.
        """
        data = bytearray(length)
        room = memoryview(data)
        while room:
            count = self.readinto(room)
            if not count:
                raise self._broken(f"the body ends {len(room)} bytes early")
            room = room[count:]
        return bytes(data)

    def finish(self, limit: int = 64 * 1024) -> None:
        """Takes what stands behind the data, so that the connection can be used again.

        A peer that sends more than ``limit`` bytes, breaks off now or falls silent costs only the
        connection.
        """
        self.hurry()
        room = bytearray(8 * 1024)
        discarded = 0
        try:
            while (count := self.readinto(room)) and discarded <= limit:
                discarded += count
        except (ConnectionBrokenError, ReadTimeoutError, OperationCancelledError):
            # Closed by `readinto`; the data before was complete by its own marker.
            return
        self.close()

    @property
    def says_where_it_ends(self) -> bool:
        """Whether the headers have a length that can be read, or chunks."""
        return self._expects_end

    def hurry(self) -> None:
        """From now on the peer may be silent for `FINISH_SECONDS` only."""
        self._patience = FINISH_SECONDS

    def close(self) -> None:
        """Gives the connection back if the reply has ended, else closes it; idempotent."""
        response, self._response = self._response, None
        # From here on the connection may serve another exchange.
        self._interrupter.end()
        self._socket = None
        if self._reader is not None:
            self._reader.close(reusable=self._ended and response is not None)
        if response is None:
            return
        if not self._ended or self._interrupter.interrupted:
            response.close()
        response.release_conn()

    def _end(self) -> None:
        self._ended = True
        self.close()

    def _arm(self) -> None:
        """Sets the socket's timeout, where it changed: that is a system call."""
        idle = self._stopwatch.timeouts.idle
        if self._patience is not None:
            idle = self._patience if idle is None else min(idle, self._patience)
        limit = self._stopwatch.limit(idle)
        if limit != self._limit and self._socket is not None:
            self._limit = limit
            # The socket of a reply whose connection ends with it lives on in the reply's file only.
            with contextlib.suppress(OSError):
                if self._reader is None:
                    self._socket.settimeout(limit)
                else:
                    self._reader.set_timeout(limit)

    def _broken(self, reason: str) -> ConnectionBrokenError:
        return ConnectionBrokenError(
            f"the connection to {self.url} broke in mid-reply: {reason}", url=self.url
        )


def stated_length(reply: Reply, name: str, most: int) -> int | None:
    """The length of a part of the body that a header of ours states; None without the header.

    Raises:
        ProtocolError: it is no such number, or above ``most``; the reply is closed.
    """
    value = reply.headers.get(name)
    if value is None:
        return None
    if not value.isascii() or not value.isdigit() or len(value) > 12 or int(value) > most:
        reply.close()
        raise ProtocolError(
            f"{name} of the reply is {value[:40]!r}, and at most {most}", side="remote"
        )
    return int(value)
