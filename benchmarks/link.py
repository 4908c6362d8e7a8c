"""A network link in a process: a proxy with a delay, a shared rate, and a window for each connection.

What comes from the service is passed on half a round trip later, no faster than the link, and of each
connection no more than a window is under way before it has been acknowledged, which takes the other half.
There is no slow start and no loss, and a proxy uses the machine's processors, too: it shows what a delay does
to readers, not how fast a network is.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time

__all__ = ["WINDOW_BYTES", "Link"]

WINDOW_BYTES = 3 << 20
"""Of a connection; what Linux' largest send buffer by default comes to."""

_CHUNK = 256 << 10


class Link:
    """Accepts connections and forwards them; each has two threads a direction.

    Attributes:
        port: where it listens, on 127.0.0.1.
    """

    def __init__(self, target: tuple[str, int], *, round_trip: float, bytes_per_second: float):
        self._target = target
        self._delay = round_trip / 2
        self._rate = bytes_per_second
        self._free_at = 0.0  # when the link has sent what it was given
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            far = socket.create_connection(self._target)
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._forward(far, near)
            self._forward(near, far)

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        under_way: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        window = _Window()
        for job in (self._take, self._give):
            args = (source, sink, under_way, window)
            threading.Thread(target=job, args=args, daemon=True).start()

    def _take(
        self,
        source: socket.socket,
        _sink: socket.socket,
        under_way: queue.SimpleQueue[tuple[float, bytes]],
        window: _Window,
    ) -> None:
        data = b"."
        while data:
            try:
                data = source.recv(_CHUNK)
            except OSError:
                data = b""
            window.wait(len(data))
            now = time.monotonic()
            with self._lock:
                self._free_at = max(self._free_at, now) + len(data) / self._rate
                arrives = self._free_at + self._delay
            window.took(len(data), arrives + self._delay)
            under_way.put((arrives, data))

    @staticmethod
    def _give(
        source: socket.socket,
        sink: socket.socket,
        under_way: queue.SimpleQueue[tuple[float, bytes]],
        _window: _Window,
    ) -> None:
        with contextlib.suppress(OSError):
            while True:
                arrives, data = under_way.get()
                wait = arrives - time.monotonic()
                if wait > 0:
                    time.sleep(wait)
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)
        # The other side does not read on: whoever sends is told so.
        with contextlib.suppress(OSError):
            source.shutdown(socket.SHUT_RDWR)


class _Window:
    """What one connection has under way in one direction; used by one thread."""

    def __init__(self) -> None:
        self._acknowledged: list[tuple[float, int]] = []
        self._bytes = 0

    def wait(self, length: int) -> None:
        """Waits until so many bytes more may be under way."""
        while True:
            now = time.monotonic()
            while self._acknowledged and self._acknowledged[0][0] <= now:
                self._bytes -= self._acknowledged.pop(0)[1]
            if not self._bytes or self._bytes + length <= WINDOW_BYTES:
                return
            time.sleep(self._acknowledged[0][0] - now)

    def took(self, length: int, acknowledged_at: float) -> None:
        """Counts bytes until they are acknowledged."""
        self._acknowledged.append((acknowledged_at, length))
        self._bytes += length
