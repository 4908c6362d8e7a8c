"""One request and its reply, over connections of urllib3's: under timeouts, cancellable, failures as ours.

The one way in which the client sends anything by HTTP: to the service, and to an object store.
"""

from __future__ import annotations

from math import inf
from typing import Any

import urllib3

from fletching.client.cancellation import Cancellation
from fletching.client.transports.http.connections import Interrupter
from fletching.client.transports.http.http_response import Reply, Stopwatch
from fletching.client.transports.http.transport_errors import translated
from fletching.errors import TransportError

__all__ = ["ask"]


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
