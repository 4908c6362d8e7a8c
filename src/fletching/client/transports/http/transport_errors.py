"""urllib3's failures as ours: whether the request was sent is what retries need to know."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator

import urllib3.exceptions as failures

from fletching.errors import (
    ConnectError,
    ConnectionBrokenError,
    ReadTimeoutError,
    UntrustedPeerError,
    UsageError,
)

__all__ = ["translated"]


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
        failures.ConnectTimeoutError,
        failures.NewConnectionError,
        failures.ProxyError,
    ) as exc:
        if isinstance(exc, failures.ProxyError) and isinstance(
            exc.original_error, failures.SSLError
        ):
            raise _insecure(exc.original_error, url) from exc
        raise ConnectError(f"no connection to {url}: {_reason(exc)}", url=url) from exc
    except failures.ReadTimeoutError as exc:
        raise ReadTimeoutError(f"{url} did not answer: {exc}", url=url) from exc
    except failures.SSLError as exc:
        raise _insecure(exc, url) from exc
    except failures.LocationValueError as exc:
        raise UsageError(f"cannot be a URL: {exc}") from exc
    except (failures.HTTPError, OSError) as exc:
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
