"""Each failure of urllib3's as ours: what was not sent, what broke, whom nobody should trust."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest
import urllib3.exceptions as failures

from fletching.client.transports.http.transport_errors import translated
from fletching.errors import (
    ConnectError,
    ConnectionBrokenError,
    OperationCancelledError,
    ReadTimeoutError,
    TransportError,
    UntrustedPeerError,
    UsageError,
)

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
