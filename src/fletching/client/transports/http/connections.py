"""urllib3's connections, with replies received into the caller's memory, and ways to stop waiting.

Sending has a timeout, and another thread can break an exchange off wherever it waits. urllib3 keeps pooling, TLS, proxies and the check for connections that the server closed meanwhile.
"""

from __future__ import annotations

import array
import contextlib
import contextvars
import errno
import http.client
import os
import selectors
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from fletching.client.cancellation import Cancellation
from fletching.client.transports.http.request_body import RequestBody, StreamedBody

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = [
    "SOCKET_OPTIONS",
    "DescriptorSocket",
    "DirectPool",
    "Interrupter",
    "ReplyConnection",
    "make_pool_manager",
]

# Small requests must not wait for the acknowledgement of the ones before, as Arrow Flight's do, and
# a connection that idles in the pool is noticed when its peer vanishes. The receive buffer is left
# to the kernel: setting SO_RCVBUF ends its tuning and caps it at net.core.rmem_max.
SOCKET_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
)


_CONNECT_SLICE_SECONDS = 0.05
"""How often a connection that is being made looks whether it is still wanted: a socket that has not
begun to connect cannot be shut down."""


class Interrupter:
    """Breaks one exchange off: shuts down the connection that it goes over, whichever that is.

    The thread that cancels calls it; the thread that waits sees the connection end.

    Attributes:
        interrupted: whether the exchange was broken off.
        exact_target: what the request line ends with, see `fletching.client.transports.http.one_exchange.ask`.
    """

    __slots__ = ("_cancellation", "_connection", "_release", "exact_target", "interrupted")

    def __init__(self, cancellation: Cancellation, *, exact_target: str = "") -> None:
        """Waits for ``cancellation`` until `end`.

        Raises:
            OperationCancelledError: it was cancelled before.
        """
        self._connection: ReplyConnection | None = None
        self._cancellation = cancellation
        self.interrupted = False
        self.exact_target = exact_target
        self._release = cancellation.register(self._interrupt)

    def _interrupt(self) -> None:
        self.interrupted = True
        connection = self._connection
        if connection is not None:
            connection.shut_down()

    def attach(self, connection: ReplyConnection) -> None:
        """Says which connection the exchange uses now."""
        self._connection = connection
        if self.interrupted:
            connection.shut_down()

    def end(self) -> None:
        """The exchange is over, and its connection may serve others; idempotent."""
        self._release()
        self._connection = None

    def check(self) -> None:
        """Returns unless the exchange was cancelled.

        Raises:
            OperationCancelledError: it was.
        """
        self._cancellation.check()

    @contextlib.contextmanager
    def around(self) -> Iterator[None]:
        """Connections that this thread uses inside of the block belong to this exchange."""
        token = _exchange.set(self)
        try:
            yield
        finally:
            _exchange.reset(token)


# urllib3 chooses and makes the connections, so that an exchange cannot hand itself over to its own.
_exchange: contextvars.ContextVar[Interrupter | None] = contextvars.ContextVar(
    "fletching_exchange", default=None
)


class ReplyConnection:
    """Mixed into urllib3's connections; urllib3 makes the connections, so state comes with the body.

    Attributes:
        raw_reply: the standard library's response under the latest urllib3 response: the only
            one of the two that fills a caller's buffer without a copy.
    """

    sock: socket.socket | None
    raw_reply: http.client.HTTPResponse | None = None

    # What urllib3's connections have.
    host: str
    port: int
    timeout: float | None
    _dns_host: str

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._opening: socket.socket | None = None
        # The standard library's hook for another response class, used to see the response it makes.
        setattr(self, "response_class", self._make_reply)  # noqa: B010  # typed as a class, called as a function

    def _make_reply(self, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:
        self.raw_reply = http.client.HTTPResponse(*args, **kwargs)
        return self.raw_reply

    def request(self, method: str, url: str, body: Any = None, *args: Any, **kwargs: Any) -> None:
        """Sends a request; each chunk of its body under the body's own timeout."""
        exchange = _exchange.get()
        if exchange is not None:
            exchange.attach(self)
            url = url.removesuffix("/") + exchange.exact_target if exchange.exact_target else url
        if isinstance(body, RequestBody | StreamedBody):
            if self.sock is None:
                self.connect()
            assert self.sock is not None
            self.sock.settimeout(body.idle_seconds)
        super().request(method, url, body, *args, **kwargs)  # type: ignore[misc]  # likewise

    def shut_down(self) -> None:
        """Ends the connection under whoever waits for it in another thread; it is of no use then."""
        for sock in (self._opening, self.sock):
            # TLS inside TLS is an object around a socket. The class's own method: the one of a TLS
            # socket would take its state away from the thread that reads.
            inner = getattr(sock, "socket", sock)
            if inner is not None:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(inner, socket.SHUT_RDWR)

    def connect(self) -> None:
        """Connects; TLS too, where it is used."""
        exchange = _exchange.get()
        if exchange is not None:
            # urllib3 lets TLS shake hands before it hands the request over.
            exchange.attach(self)
        try:
            super().connect()  # type: ignore[misc]  # the connection this is mixed into has it
            self._shut_down_if_interrupted()
        finally:
            opening, self._opening = self._opening, None
            if opening is not None:
                opening.close()

    def _shut_down_if_interrupted(self) -> None:
        """Catches up with an interruption that came while the connection had no socket to shut down.

        To be called whenever a socket was put where `shut_down` finds it: whoever interrupts sets the
        flag first and looks for sockets then, so that one of the two sees the other.
        """
        exchange = _exchange.get()
        if exchange is not None and exchange.interrupted:
            self.shut_down()

    def _new_conn(self) -> socket.socket:
        """As urllib3's, by connects that can be interrupted."""
        try:
            sock = self._connected()
        except socket.gaierror as exc:
            raise NameResolutionError(self.host, self, exc) from exc  # type: ignore[arg-type]  # what this is mixed into
        except TimeoutError as exc:
            raise ConnectTimeoutError(
                self, f"Connection to {self.host} timed out. (connect timeout={self.timeout})"
            ) from exc
        except OSError as exc:
            raise NewConnectionError(self, f"Failed to establish a new connection: {exc}") from exc  # type: ignore[arg-type]  # likewise
        # While TLS shakes hands, the socket belongs to it and is reached by this copy only.
        self._opening = sock.dup()
        self._shut_down_if_interrupted()
        return sock

    def _connected(self) -> socket.socket:
        """The first of the host's addresses that takes a connection.

        Raises:
            OSError: none does; the last one's.
        """
        failure: OSError | None = None
        host = self._dns_host.strip("[]")
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, self.port, type=socket.SOCK_STREAM
        ):
            sock = socket.socket(family, kind, protocol)
            try:
                for option in SOCKET_OPTIONS:
                    sock.setsockopt(*option)
                _connect(sock, address, self.timeout)
                sock.settimeout(self.timeout)
            except OSError as exc:
                sock.close()
                failure = exc
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise failure or OSError("the host has no address")


def _connect(sock: socket.socket, address: Any, timeout: float | None) -> None:
    """Connects within the timeout, unless the exchange is interrupted.

    Raises:
        TimeoutError: there was no answer in time.
        OSError: there was one, or the exchange was interrupted.
    """
    exchange = _exchange.get()
    deadline = None if timeout is None else time.monotonic() + timeout
    sock.setblocking(False)
    code = sock.connect_ex(address)
    while code in {errno.EINPROGRESS, errno.EWOULDBLOCK}:
        if exchange is not None and exchange.interrupted:
            raise OSError(errno.ECANCELED, "the exchange was cancelled")
        left = _CONNECT_SLICE_SECONDS
        if deadline is not None:
            left = min(left, deadline - time.monotonic())
        if left <= 0:
            raise TimeoutError(errno.ETIMEDOUT, "the peer did not take the connection in time")
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_WRITE)
            if selector.select(left):
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


class _HttpConnection(ReplyConnection, HTTPConnection):
    """Over TCP."""


class _HttpsConnection(ReplyConnection, HTTPSConnection):
    """Over TLS."""


class DescriptorSocket(socket.socket):
    """A Unix socket that keeps the open files which come with what is received.

    Attributes:
        descriptors: of the files, in order; whoever takes them out closes them.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.descriptors: list[int] = []

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        """As a socket's; the standard library's replies are received by it."""
        view = memoryview(buffer).cast("B")
        count, attached, _, _ = self.recvmsg_into(
            [view[:nbytes] if nbytes else view], _ATTACHED_BYTES, flags | _CLOSE_ON_EXEC
        )
        for level, kind, data in attached:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
                self.descriptors += numbers
        return count

    def take_descriptors(self) -> list[int]:
        """The files that came since the last call; the caller closes them."""
        received, self.descriptors = self.descriptors, []
        return received

    def close(self) -> None:
        """Closes the socket, and the files that nobody took."""
        for number in self.take_descriptors():
            os.close(number)
        super().close()

    def __del__(self) -> None:
        """Closes what a reply that was dropped unread has left: files would stay open with it."""
        with contextlib.suppress(OSError, AttributeError):
            self.close()


_MOST_DESCRIPTORS = 253  # of one message, on Linux
_ATTACHED_BYTES = getattr(socket, "CMSG_SPACE", lambda _: 0)(_MOST_DESCRIPTORS * 4)
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class DirectConnection(_HttpConnection):
    """Over the Unix socket of a service on this host."""

    def __init__(self, *args: Any, socket_address: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._socket_address = socket_address

    def _connected(self) -> socket.socket:
        """The connection; nobody who waits behind the name makes one wait.

        Raises:
            OSError: there is none.
        """
        sock = DescriptorSocket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.connect(self._socket_address)  # at once, or not at all: its queue is full then
            sock.settimeout(self.timeout)
        except BaseException:
            sock.close()
            raise
        return sock


class DirectPool(HTTPConnectionPool):
    """Connections to the Unix socket of a service on this host, by the socket's address."""

    ConnectionCls = DirectConnection

    def __init__(self, endpoint: str, socket_address: str, *, connections: int) -> None:
        """Speaks to the socket as to ``endpoint``."""
        parts = urllib3.util.parse_url(endpoint)
        super().__init__(
            parts.host or "localhost",
            parts.port,
            maxsize=connections,
            block=False,
            retries=False,
            socket_address=socket_address,
        )


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


def make_pool_manager(
    proxy: str | None, *, connections: int, ca_certificates: str | None
) -> urllib3.PoolManager:
    """A pool that keeps up to ``connections`` open per host; more are made, used once and closed."""
    settings: dict[str, Any] = {
        "maxsize": connections,
        "block": False,
        "retries": False,
    }
    if ca_certificates is not None:
        settings["ca_certs"] = ca_certificates
    manager = (
        urllib3.PoolManager(**settings)
        if proxy is None
        else urllib3.ProxyManager(proxy, **settings)
    )
    # urllib3 lets go of the pools that it clears, and they close when nobody refers to them. The errors of
    # exchanges that were broken off do, in circles that the garbage collector finds at some time.
    manager.pools.dispose_func = HTTPConnectionPool.close
    manager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
    return manager
