"""One request and its reply: sent as it was said, under timeouts, and broken off by whoever cancels."""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any

import pytest
import urllib3
import urllib3.exceptions as failures

from fletching.client.call_options import Timeouts
from fletching.client.cancellation import Cancellation
from fletching.client.transports.http.connections import make_pool_manager
from fletching.client.transports.http.http_response import Reply, Stopwatch
from fletching.client.transports.http.one_exchange import ask, translated
from fletching.errors import (
    ConnectError,
    ConnectionBrokenError,
    OperationCancelledError,
    ReadTimeoutError,
    TransportError,
    UntrustedPeerError,
    UsageError,
)


def exchange(
    manager: urllib3.PoolManager,
    target: str,
    *,
    cancellation: Cancellation | None = None,
    timeouts: Timeouts | None = None,
    most_connect_seconds: float | None = None,
    exact_target: str = "",
) -> Reply:
    shown = target.partition("?")[0]
    timeouts = timeouts or Timeouts(connect=60, first_byte=60, idle=60)
    return ask(
        manager,
        "GET",
        target,
        headers={"x-asked": "yes"},
        stopwatch=Stopwatch(timeouts, time.monotonic, shown),
        cancellation=cancellation or Cancellation(),
        url=shown,
        most_connect_seconds=most_connect_seconds,
        exact_target=exact_target,
    )


def first_line(request: bytes) -> str:
    return request.partition(b"\r\n")[0].decode()


@pytest.mark.parametrize(
    "target",
    [
        "/bucket/a%2fb/..%2Fc?X-Amz-Signature=00ff%2Bq%7e&X-Amz-Credential=a%2F2026%2fs3",
        "/bucket/a//b/./c/../d?x=%41&y=~*'()!",
        "/[odd]|{but}/signed?q=^`",
    ],
)
def test_an_exact_target_is_sent_as_it_was_signed(
    peer: Any, manager: urllib3.PoolManager, target: str
) -> None:
    """A store signs what it is sent: another spelling of the same place is another signature."""
    reply = exchange(manager, f"{peer.url}/", exact_target=target)
    assert (reply.status, reply.read_exactly(2)) == (200, b"ok")
    reply.finish()
    assert first_line(peer.heard[0]) == f"GET {target} HTTP/1.1"
    assert b"x-asked: yes" in peer.heard[0]


def test_a_proxy_is_told_the_origin_and_the_exact_target(peer: Any) -> None:
    manager = make_pool_manager(peer.url, connections=1, ca_certificates=None)
    exchange(manager, "http://store.invalid:9000/", exact_target="/k%2fx?s=1").close()
    assert first_line(peer.heard[0]) == "GET http://store.invalid:9000/k%2fx?s=1 HTTP/1.1"
    assert b"Host: store.invalid:9000" in peer.heard[0]
    manager.clear()


def test_redirects_and_failures_are_replies(peer: Any, manager: urllib3.PoolManager) -> None:
    for status in (302, 404, 503):
        head = f"HTTP/1.1 {status} Said\r\nlocation: {peer.url}/other\r\ncontent-length: 0\r\n\r\n"
        peer.answers = lambda _, head=head: head.encode()
        reply = exchange(manager, f"{peer.url}/")
        assert reply.status == status
        reply.finish()
    assert len(peer.heard) == 3


def test_nobody_there_was_not_sent(manager: urllib3.PoolManager) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(ConnectError) as caught:
        exchange(manager, f"{url}/k?signature=secret")
    assert "secret" not in str(caught.value)


def test_silence_ends_with_the_timeout(peer: Any, manager: urllib3.PoolManager) -> None:
    peer.answers = lambda _: None
    with pytest.raises(ReadTimeoutError):
        exchange(manager, f"{peer.url}/", timeouts=Timeouts(connect=60, first_byte=0.05))


def test_a_connection_that_ends_is_broken_and_not_repeated(
    peer: Any, manager: urllib3.PoolManager
) -> None:
    peer.answers = lambda _: b""
    with pytest.raises(ConnectionBrokenError):
        exchange(manager, f"{peer.url}/")
    assert len(peer.heard) == 1


def test_no_url_is_an_error_of_usage(manager: urllib3.PoolManager) -> None:
    with pytest.raises(UsageError):
        exchange(manager, "http:///nowhere")


def test_cancelling_ends_the_wait_and_leaves_nothing_registered(
    peer: Any, manager: urllib3.PoolManager
) -> None:
    cancellation = Cancellation()

    def silent(_: bytes) -> None:
        cancellation.cancel("enough")

    peer.answers = silent
    with pytest.raises(OperationCancelledError, match="enough"):
        exchange(manager, f"{peer.url}/", cancellation=cancellation)
    with pytest.raises(OperationCancelledError):
        exchange(manager, f"{peer.url}/", cancellation=cancellation)
    assert len(peer.heard) == 1, "what is cancelled before is not sent"
    assert not cancellation._interrupts


URL = "http://store/bucket/key"
POOL: Any = object()


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


CERTIFICATE = ssl.SSLCertVerificationError("certificate verify failed: self-signed certificate")

CASES: list[tuple[str, Exception, type[Exception], str]] = [
    ("refused", caused(failures.NewConnectionError(POOL, "x"), ConnectionRefusedError(111, "Connection refused")),
     ConnectError, "no connection to http://store/bucket/key: Connection refused"),
    ("slow to connect", failures.ConnectTimeoutError(POOL, "timed out"), ConnectError, "timed out"),
    ("no name", failures.NameResolutionError("store", POOL, socket.gaierror(-2, "no such name")),
     ConnectError, "no connection"),
    ("proxy", failures.ProxyError("proxy said no", OSError(111, "refused")), ConnectError, "proxy said no"),
    ("TLS behind a proxy", failures.ProxyError("x", failures.SSLError(str(CERTIFICATE))),
     UntrustedPeerError, "self-signed"),
    ("silence", failures.ReadTimeoutError(POOL, "/", "read timed out"), ReadTimeoutError, "did not answer"),
    ("a bad certificate", failures.SSLError(CERTIFICATE), UntrustedPeerError, "self-signed"),
    ("plain text", failures.SSLError("[SSL: WRONG_VERSION_NUMBER] wrong version number"),
     UntrustedPeerError, "is it http:// there?"),
    ("left in mid-handshake", failures.SSLError(ssl.SSLEOFError(8, "EOF")), ConnectError, "no secure connection"),
    ("silent in the handshake", failures.SSLError(TimeoutError("timed out")), ConnectError, "no secure"),
    ("no host", failures.LocationValueError("No host specified."), UsageError, "cannot be a URL"),
    ("cut", failures.ProtocolError("aborted", ConnectionResetError(104, "reset by peer")),
     ConnectionBrokenError, "ConnectionResetError"),
    ("slow to take the body", failures.ProtocolError("aborted", TimeoutError("timed out")),
     ReadTimeoutError, "did not take the request in time"),
    ("the body's certificate", failures.ProtocolError("aborted", CERTIFICATE), UntrustedPeerError, "self-signed"),
    ("the system", BrokenPipeError(32, "Broken pipe"), ConnectionBrokenError, "Broken pipe"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("raised", "expected", "says"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_a_failure_is_ours(raised: Exception, expected: type[Exception], says: str) -> None:
    with pytest.raises((TransportError, UsageError)) as caught, translated(URL):
        raise raised
    assert type(caught.value) is expected
    assert says in str(caught.value)
    assert caught.value.__cause__ is raised
    if isinstance(caught.value, TransportError):
        assert caught.value.url == URL


def test_what_tells_retries_apart_is_the_type() -> None:
    """Not sent may be sent again whatever it does; broken off may have been done."""
    assert not issubclass(ConnectionBrokenError, ConnectError)
    assert issubclass(UntrustedPeerError, ConnectError)


@pytest.mark.parametrize("error", [ValueError("x"), OperationCancelledError("x")])
def test_others_pass_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, translated(URL):
        raise error
    assert caught.value is error
