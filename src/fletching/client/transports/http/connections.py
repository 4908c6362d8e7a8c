"""urllib3's connections, with a timeout while sending and replies received into the caller's memory.

urllib3 keeps pooling, TLS, proxies and the check for connections that the server closed meanwhile.
"""

from __future__ import annotations

import http.client
import socket
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from fletching.client.transports.http.request_body import RequestBody, StreamedBody

__all__ = ["SOCKET_OPTIONS", "ReplyConnection", "make_pool_manager"]

# Small requests must not wait for the acknowledgement of the ones before (USERS: Arrow Flight), and
# a connection that idles in the pool is noticed when its peer vanishes. The receive buffer is left
# to the kernel: setting SO_RCVBUF ends its tuning and caps it at net.core.rmem_max.
SOCKET_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
)


class ReplyConnection:
    """Mixed into urllib3's connections; urllib3 makes the connections, so state comes with the body.

    Attributes:
        raw_reply: the standard library's response under the latest urllib3 response: the only
            one of the two that fills a caller's buffer without a copy.
    """

    sock: socket.socket | None
    raw_reply: http.client.HTTPResponse | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The standard library's hook for another response class, used to see the response it makes.
        setattr(self, "response_class", self._make_reply)  # noqa: B010  # typed as a class, called as a function

    def _make_reply(self, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:
        self.raw_reply = http.client.HTTPResponse(*args, **kwargs)
        return self.raw_reply

    def request(self, method: str, url: str, body: Any = None, *args: Any, **kwargs: Any) -> None:
        """Sends a request; each piece of its body under the body's own timeout."""
        if isinstance(body, RequestBody | StreamedBody):
            if self.sock is None:
                self.connect()  # type: ignore[attr-defined]  # the connection this is mixed into has it
            assert self.sock is not None
            self.sock.settimeout(body.idle_seconds)
        super().request(method, url, body, *args, **kwargs)  # type: ignore[misc]  # likewise


class _HttpConnection(ReplyConnection, HTTPConnection):
    """Over TCP."""


class _HttpsConnection(ReplyConnection, HTTPSConnection):
    """Over TLS."""


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


def make_pool_manager(
    *, connections: int, proxy: str | None, ca_certificates: str | None
) -> urllib3.PoolManager:
    """A pool that keeps up to ``connections`` open per host; more are made, used once and closed."""
    settings: dict[str, Any] = {
        "maxsize": connections,
        "block": False,
        "retries": False,
        "socket_options": list(SOCKET_OPTIONS),
    }
    if ca_certificates is not None:
        settings["ca_certs"] = ca_certificates
    manager = (
        urllib3.PoolManager(**settings)
        if proxy is None
        else urllib3.ProxyManager(proxy, **settings)
    )
    manager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
    return manager
