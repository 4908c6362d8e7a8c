"""Sending the bulk of a reply from a worker, past the event loop, as long as the client keeps up.

A send copies megabytes into the kernel. The loop would do that under the interpreter's lock, one
connection after the other; a worker gives the lock away, so that the loop stays free and
connections share the processors. A client that is slower than we are gets its bytes from the loop,
so that no thread ever waits for a client.
"""

from __future__ import annotations

import array
import contextlib
import select
import socket
from collections.abc import Sequence
from typing import Protocol

from typing_extensions import Buffer

__all__ = ["ChunkSource", "SocketWriter"]

PATIENCE_MILLISECONDS = 20
"""How long a worker waits for the client to take more before it leaves the rest to the loop."""
TURN_BYTES = 64 * 1024 * 1024
"""After so much a worker is given up, since others may wait for one."""
MAX_BUFFERS = 256
"""Per system call; Linux allows 1,024."""
CALL_BYTES = 1024 * 1024
"""The most that one system call gets. A longer call keeps the socket to itself while it copies, and the
client's acknowledgements wait behind it. Over loopback, one connection carried 0.70 of what a raw socket
does without this limit, and 0.83 to 0.97 with it; 2 MiB gave 0.79, and 512 KiB no more than 1 MiB."""
_CHUNK_END = memoryview(b"\r\n")


class ChunkSource(Protocol):
    """What is sent: groups of buffers, none at the end."""

    def next_chunk(self) -> Sequence[Buffer]:
        """Returns the next buffers, ready to be sent; none at the end."""


class SocketWriter:
    """Writes to a connection whose transport has nothing left to send.

    It has a descriptor of its own, so that the transport's can be closed, and its number given to
    another connection, while a worker sends. ``send`` is called by one worker at a time and never
    beside the transport's own writes; ``cut`` by any thread.

    Attributes:
        sent_bytes: so far, with the frames of chunks.
    """

    def __init__(self, descriptor: int, *, owed_bytes: int | None) -> None:
        """Shares a connected socket, which is in non-blocking mode.

        Args:
            descriptor: of the socket; duplicated.
            owed_bytes: what the reply may still have, by its Content-Length; None for a chunked
                reply, of which each group becomes a chunk.
        """
        self._socket = socket.socket(fileno=socket.dup(descriptor))
        self._socket.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLOUT)
        self._owed_bytes = owed_bytes
        self.sent_bytes = 0

    def send(self, source: ChunkSource) -> Sequence[memoryview]:
        """Sends groups until the source ends, the client is slow, or this worker's turn is over.

        Returns:
            What was prepared but not sent, because the client was slow; empty otherwise. Of a chunked
            reply, with what frames it.

        Raises:
            OSError: the client is gone.
            ValueError: the source has more bytes than are owed; no byte too many was sent.
            FletchingError: preparing failed.
        """
        end = self.sent_bytes + TURN_BYTES
        while self.sent_bytes < end:
            views = [view for buffer in source.next_chunk() if (view := memoryview(buffer)).nbytes]
            if not views:
                break
            length = sum(view.nbytes for view in views)
            if self._owed_bytes is None:
                views = [memoryview(b"%x\r\n" % length), *views, _CHUNK_END]
            elif length > self._owed_bytes - self.sent_bytes:
                raise ValueError("the reply is longer than its Content-Length")
            rest = self._send_all(views)
            if rest:
                return rest
        return ()

    def _send_all(self, views: list[memoryview]) -> list[memoryview]:
        first = 0
        while first < len(views):
            try:
                sent = self._socket.sendmsg(_at_most(views, first))
            except BlockingIOError:
                if not self._poll.poll(PATIENCE_MILLISECONDS):
                    return views[first:]
                continue
            self.sent_bytes += sent
            while first < len(views) and sent >= views[first].nbytes:
                sent -= views[first].nbytes
                first += 1
            if sent:
                views[first] = views[first][sent:]
        return []

    def pass_descriptors(self, data: Buffer, descriptors: Sequence[int]) -> None:
        """Sends a little data over a Unix socket, and open files with its first byte; does not wait.

        Raises:
            OSError: the client is gone, or takes nothing.
        """
        rights = array.array("i", descriptors)
        self.sent_bytes += self._socket.sendmsg(
            [data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
        )

    def cut(self) -> None:
        """Makes a send that is running fail: the connection is gone."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Gives the descriptor up; not while a worker sends."""
        self._socket.close()


def _at_most(views: list[memoryview], first: int) -> list[memoryview]:
    """The views from ``first`` on that fit one system call; the last of them may be cut."""
    chosen: list[memoryview] = []
    room = CALL_BYTES
    for view in views[first : first + MAX_BUFFERS]:
        chosen.append(view[:room])
        room -= view.nbytes
        if room <= 0:
            break
    return chosen
