"""A reply's body of known length, received from its socket past the standard library's buffer.

Large receives are woken by the kernel when much of the body has come (a low-water mark), and wait under
the kernel's own timeout. Both are taken back at the end, for the next reply on the connection.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import select
import socket
import struct
import sys

__all__ = ["LARGE_BYTES", "SocketReader"]

LARGE_BYTES = 64 * 1024
"""From this length on the kernel is asked to wake a receive only when much of it has arrived."""

_TIMEVAL = struct.Struct("@ll")


class SocketReader:
    """What is left of one body; not thread-safe.

    Attributes:
        left: bytes that are still to come.
    """

    def __init__(self, sock: socket.socket, length: int, head: memoryview) -> None:
        """Takes a socket, how long the body is, and what of it is here already."""
        self._socket: socket.socket | None = sock
        self.left = length
        self._head = head
        self._timeout: float | None = None
        self._low_water = 1
        self._poll: select.poll | None = None
        if sys.platform == "linux":
            # Elsewhere it is not known which calls honour the low-water mark.
            self._poll = select.poll()
            self._poll.register(sock, select.POLLIN)

    @classmethod
    def of(cls, raw: http.client.HTTPResponse, sock: socket.socket | None) -> SocketReader | None:
        """Goes on where the standard library stands; None where only that can read the body."""
        length, buffered = raw.length, raw.fp
        if type(sock) is not socket.socket or raw.chunked or os.name != "posix":
            return None
        if not length or buffered is None:
            return None
        # What the buffer holds, without receiving: the socket does not wait, and what it gives all
        # the same is in the buffer then. One look is enough, for it shows all that is there.
        sock.setblocking(False)
        head = memoryview(b"")
        with contextlib.suppress(BlockingIOError):
            head = memoryview(buffered.read(len(buffered.peek())) or b"")[:length]
        return cls(sock, length, head)

    def readinto(self, view: memoryview, wake_bytes: int) -> int:
        """Receives up to the length of ``view``; 0 at the body's end, or if the peer has gone.

        Args:
            view: flat.
            wake_bytes: so many are waited for, where that is worth it and so many are to come.

        Raises:
            OSError: the connection failed; BlockingIOError after the timeout.
            ValueError: it was closed here.
        """
        view = view[: self.left]
        if not view.nbytes:
            return 0
        if self._head:
            count = min(len(self._head), view.nbytes)
            view[:count] = self._head[:count]
            self._head = self._head[count:]
        else:
            count = self._receive(view, wake_bytes)
        self.left -= count
        return count

    def _receive(self, view: memoryview, wake_bytes: int) -> int:
        sock = self._socket
        if sock is None:
            raise ValueError("the connection was closed")
        if self._poll is None or view.nbytes < LARGE_BYTES:
            self._wake_at(1)
            return sock.recv_into(view)
        self._wake_at(min(view.nbytes, wake_bytes))
        # Waiting is left to poll. A receive that waits takes what has come, and is then not woken
        # by what follows unless that, too, reaches the mark.
        self._poll.poll(None if self._timeout is None else self._timeout * 1000)
        # After a timeout there may be less, which is progress; else BlockingIOError.
        return sock.recv_into(view, view.nbytes, socket.MSG_DONTWAIT)

    def _wake_at(self, low_water: int) -> None:
        """Sets the socket's low-water mark, where it changed.

        It must never be above what is still to come: the kernel would not wake us for less. The end
        of the connection, an error, the timeout or a full receive buffer wakes us all the same.
        """
        if low_water != self._low_water and self._socket is not None:
            self._low_water = low_water
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, low_water)

    def set_timeout(self, seconds: float | None) -> None:
        """From now on each receive waits so long at most.

        By the kernel's own timeout: with Python's each receive would first ask whether there is
        anything, a second system call.
        """
        sock = self._socket
        if sock is None:
            return
        self._timeout = seconds
        sock.settimeout(None)
        whole, part = divmod(seconds or 0.0, 1.0)
        # A timeout of 0 means none, so the shortest is a microsecond.
        micro = max(int(part * 1e6), 0 if whole or seconds is None else 1)
        value = _TIMEVAL.pack(int(whole), micro)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)

    def close(self, *, reusable: bool) -> None:
        """Lets go of the socket; where another reply may come on it, as it was before."""
        if reusable:
            with contextlib.suppress(OSError):
                self.set_timeout(None)
                self._wake_at(1)
        self._socket = None
