"""One request and its reply, over connections of urllib3's: under timeouts, cancellable, failures as ours.

The one way in which the client sends anything by HTTP: to the service, and to an object store.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from math import inf
from typing import Any

import urllib3
import urllib3.exceptions as urllib3_errors

from fletching.client.cancellation import Cancellation
from fletching.client.transports.http.connections import Interrupter
from fletching.client.transports.http.http_response import Reply, Stopwatch
from fletching.errors import (
    ConnectError,
    ConnectionBrokenError,
    ReadTimeoutError,
    TransportError,
    UntrustedPeerError,
    UsageError,
)

__all__ = ["ask", "translated"]


def ask(
    connections: Any,
    method: str,
    target: str,
    *,
    headers: dict[str, str],
    stopwatch: Stopwatch,
    cancellation: Cancellation,
    url: str,
    body: Any = None,
    most_connect_seconds: float | None = None,
    exact_target: str = "",
) -> Reply:
    """Sends a request; returns its reply once the headers are in, whatever they say. Redirects are not followed.

    Args:
        connections: a pool, or a manager of pools.
        method: of the request.
        target: the URL as the connections take it.
        headers: all of them.
        stopwatch: counts this exchange; its timeouts hold.
        cancellation: breaks it off.
        url: for messages: without what is secret of ``target``.
        body: as of urllib3.
        most_connect_seconds: of the timeout for connecting, at most so much.
        exact_target: path and query that are sent behind ``target``, an origin with a slash, as they are.
            urllib3 spells a path anew, byte by byte, which a signature may not survive, and which
            takes a third of a request's time where the signature is long.

    Raises:
        TransportError: there was no connection, or it ended; see `translated`.
        OperationCancelledError: it was cancelled.
    """
    timeouts = stopwatch.timeouts
    connect = timeouts.connect
    if most_connect_seconds is not None:
        connect = min(connect or inf, most_connect_seconds)
    interrupter = Interrupter(cancellation, exact_target=exact_target)
    try:
        with stopwatch.running(), translated(url), interrupter.around():
            response = connections.urlopen(
                method,
                target,
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(
                    connect=stopwatch.limit(connect), read=stopwatch.limit(timeouts.first_byte)
                ),
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
            )
    except BaseException as error:
        interrupter.end()
        if isinstance(error, TransportError):
            interrupter.check()
        raise
    return Reply(response, stopwatch, url, interrupter)


@contextlib.contextmanager
def translated(url: str) -> Iterator[None]:
    """Turns what sending a request raises into `TransportError`s.

    Raises:
        ConnectError: there was no connection: the request was not sent.
        UntrustedPeerError: because TLS does not verify, or the peer does not speak it.
        ReadTimeoutError: the peer was silent, or took the body too slowly.
        ConnectionBrokenError: the connection ended while the request was sent or answered.
        UsageError: the URL cannot be one.
    """
    try:
        yield
    except (
        urllib3_errors.ConnectTimeoutError,
        urllib3_errors.NewConnectionError,
        urllib3_errors.ProxyError,
    ) as exc:
        if isinstance(exc, urllib3_errors.ProxyError) and isinstance(
            exc.original_error, urllib3_errors.SSLError
        ):
            raise _insecure(exc.original_error, url) from exc
        raise ConnectError(f"no connection to {url}: {_reason(exc)}", url=url) from exc
    except urllib3_errors.ReadTimeoutError as exc:
        raise ReadTimeoutError(f"{url} did not answer: {exc}", url=url) from exc
    except urllib3_errors.SSLError as exc:
        raise _insecure(exc, url) from exc
    except urllib3_errors.LocationValueError as exc:
        raise UsageError(f"cannot be a URL: {exc}") from exc
    except (urllib3_errors.HTTPError, OSError) as exc:
        raise _broken(exc, url) from exc


def _reason(exc: Exception) -> str:
    """What the system said, without urllib3's names for its objects."""
    cause = exc.__cause__
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(exc)


def _broken(exc: Exception, url: str) -> ConnectionBrokenError | ReadTimeoutError | ConnectError:
    """What stands behind a connection that ended; urllib3 wraps the cause."""
    cause = next((arg for arg in exc.args if isinstance(arg, BaseException)), exc.__cause__ or exc)
    if isinstance(cause, TimeoutError):
        return ReadTimeoutError(f"{url} did not take the request in time", url=url)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return UntrustedPeerError(f"no secure connection to {url}: {cause}", url=url)
    return ConnectionBrokenError(
        f"the connection to {url} ended before it answered: {type(cause).__name__}: {cause}",
        url=url,
    )


def _insecure(exc: BaseException, url: str) -> ConnectError:
    """TLS that failed: for good, unless the peer only fell silent or left in mid-handshake."""
    message = f"no secure connection to {url}: {exc}"
    causes = [exc, exc.__cause__, exc.__context__, *exc.args]
    if any(isinstance(cause, ssl.SSLEOFError | TimeoutError) for cause in causes):
        return ConnectError(message, url=url)
    if "WRONG_VERSION_NUMBER" in message:
        message = f"no secure connection to {url}: it does not speak TLS; is it http:// there?"
    return UntrustedPeerError(message, url=url)
