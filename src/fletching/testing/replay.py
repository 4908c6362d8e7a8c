"""An HTTP peer on loopback that answers from a script: right, wrong, cut, silent, or not at all.

    with ReplayPeer([Answer(body=b"{}"), Answer(status=503), Answer(body=data, cut=100)]) as peer:
        ...  # talk to peer.url
    assert [request.query["Action"] for request in peer.requests] == [...]

The script is a list of answers, given in the order in which requests arrive on any connection, or
a function from request to answer. The peer sleeps nowhere: silence lasts until the client goes or
the peer is closed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import struct
import threading
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from typing import Self

__all__ = ["Answer", "ReplayPeer", "ReplayRequest"]

RECEIVE_BYTES = 64 * 1024


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer.

    Attributes:
        status: the HTTP status.
        headers: beside Content-Length or Transfer-Encoding, which follow from the body.
        body: the body.
        chunk_bytes: send the body chunked, in chunks of this size.
        announced_length: the Content-Length to claim instead of the true one; -1 for none at all.
        cut: close the connection after so many bytes of the answer, status line and headers
            included.
        reset: end a cut, or the connection after the answer, with a reset instead of a close.
        close: close the connection after the answer.
        silent_after: send only so many bytes of the answer and then nothing until the client goes.
        request_bytes: how many bytes of the request's body to take before answering; None for all.
        send_bytes: send the answer in parts of this size, each its own segment where the
            kernel lets it be.
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    chunk_bytes: int | None = None
    announced_length: int | None = None
    cut: int | None = None
    reset: bool = False
    close: bool = False
    silent_after: int | None = None
    request_bytes: int | None = None
    send_bytes: int | None = None

    def wire(self) -> bytes:
        """Every byte of the answer."""
        lines = [f"HTTP/1.1 {self.status} Scripted"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        body = self.body
        if self.chunk_bytes is not None:
            lines.append("transfer-encoding: chunked")
            size = self.chunk_bytes
            parts = [body[start : start + size] for start in range(0, len(body), size)]
            body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        elif self.announced_length is None:
            lines.append(f"content-length: {len(body)}")
        elif self.announced_length >= 0:
            lines.append(f"content-length: {self.announced_length}")
        if self.close or self.announced_length == -1:
            lines.append("connection: close")
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRequest:
    """A request as it arrived; header names are lower-case, the body is what was taken of it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int
    """Which connection it came on, counted from 0."""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        """The decoded query; of repeated parameters the last."""
        return dict(urllib.parse.parse_qsl(self.target.partition("?")[2], keep_blank_values=True))


Script = Iterable[Answer] | Callable[[ReplayRequest], Answer]


class ReplayPeer:
    """The peer; a context manager that ends its threads.

    Attributes:
        url: where it listens.
        requests: what arrived so far.
        connections: how many connections were accepted.
    """

    def __init__(self, script: Script) -> None:
        self._answer = script if callable(script) else _in_turn(iter(script))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._closed = False
        self.requests: list[ReplayRequest] = []
        self.connections = 0
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._start(self._accept)

    def close(self) -> None:
        """Ends every connection and thread; idempotent."""
        with self._lock:
            self._closed = True
            sockets, threads = list(self._sockets), list(self._threads)
        for sock in (self._listening, *sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        self._listening.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _start(self, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=run, daemon=True, name="fletching-replay")
        with self._lock:
            self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            with self._lock:
                if self._closed:
                    sock.close()
                    return
                number, self.connections = self.connections, self.connections + 1
                self._sockets.append(sock)
            self._start(lambda sock=sock, number=number: self._serve(sock, number))  # type: ignore[misc]  # mypy cannot infer a lambda with defaults

    def _serve(self, sock: socket.socket, number: int) -> None:
        with sock, contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pending = bytearray()
            while (head := _read_head(sock, pending)) is not None and self._reply(
                sock, number, head, pending
            ):
                pass

    def _reply(self, sock: socket.socket, number: int, head: bytes, pending: bytearray) -> bool:
        """Answers one request; False when the connection ends with it."""
        method, target, headers = _parse_head(head)
        request = ReplayRequest(
            method=method, target=target, headers=headers, body=b"", connection=number
        )
        with self._lock:
            # The answer may depend on the body, and how much of the body to take on the answer:
            # a script that is a list decides first, a function sees the whole body.
            early = None if not isinstance(self._answer, _InTurn) else self._answer(request)
        wanted = None if early is None else early.request_bytes
        body = _read_body(sock, headers, pending, wanted)
        request = dataclasses.replace(request, body=body)
        with self._lock:
            self.requests.append(request)
        answer = self._answer(request) if early is None else early
        wire = answer.wire()
        end = min(
            len(wire) if limit is None else limit for limit in (answer.cut, answer.silent_after)
        )
        size = answer.send_bytes or max(1, end)
        for start in range(0, end, size):
            sock.sendall(wire[start : min(start + size, end)])
        if answer.silent_after is not None:
            while sock.recv(RECEIVE_BYTES):
                pass
            return False
        if answer.reset:
            # A linger time of 0 makes the close a reset.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        ends = answer.close or answer.reset or answer.announced_length == -1
        return not (ends or answer.cut is not None or wanted is not None)


class _InTurn:
    """Answers from a list; after its end every request meets a server error that names the script."""

    def __init__(self, answers: Iterator[Answer]) -> None:
        self._answers = answers

    def __call__(self, request: ReplayRequest) -> Answer:
        del request
        answer = next(self._answers, None)
        if answer is not None:
            return answer
        text = b'{"Code":"InvalidArgument","Message":"the script has no further answer"}'
        return Answer(status=400, body=text)


def _in_turn(answers: Iterator[Answer]) -> _InTurn:
    return _InTurn(answers)


def _read_head(sock: socket.socket, pending: bytearray) -> bytes | None:
    while (end := pending.find(b"\r\n\r\n")) < 0:
        received = sock.recv(RECEIVE_BYTES)
        if not received:
            return None
        pending += received
    head = bytes(pending[:end])
    del pending[: end + 4]
    return head


def _parse_head(head: bytes) -> tuple[str, str, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in lines)
    return method, target, {name.strip().lower(): value.strip() for name, _, value in pairs}


def _take(sock: socket.socket, pending: bytearray, length: int) -> bytes:
    while len(pending) < length:
        received = sock.recv(RECEIVE_BYTES)
        if not received:
            raise ConnectionError("the client went in mid-body")
        pending += received
    taken = bytes(pending[:length])
    del pending[:length]
    return taken


def _read_body(
    sock: socket.socket, headers: dict[str, str], pending: bytearray, wanted: int | None
) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = bytearray()
        while True:
            line = bytearray()
            while not line.endswith(b"\r\n"):
                line += _take(sock, pending, 1)
            size = int(line, 16)
            part = _take(sock, pending, size + 2)
            if size == 0:
                return bytes(body)
            body += part[:-2]
    length = int(headers.get("content-length", "0"))
    return _take(sock, pending, length if wanted is None else min(wanted, length))
