"""Answering requests: routes, health, identity, errors, and one log line per request."""

from __future__ import annotations

import logging

from fletching import caller
from fletching.errors import (
    ConnectionBrokenError,
    FletchingError,
    InternalServerError,
    MethodNotAllowedError,
    NotFoundError,
    ServiceUnavailableError,
    StorageError,
    StorageFullError,
)
from fletching.protocol.codec import is_admin_path, parse_storage_path
from fletching.protocol.http.blob_links import BLOB_PREFIX
from fletching.protocol.http.error_codec import encode_error
from fletching.protocol.http.headers import USER_AGENT
from fletching.server.api.admin_endpoints import handle_admin
from fletching.server.api.blob_endpoints import handle_blob
from fletching.server.api.dispatch import handle_storage
from fletching.server.api.first_version import handle_first_version, is_first_version_path
from fletching.server.console.console_routes import handle_console, is_console_path
from fletching.server.http.connection import Answer
from fletching.server.http.exchange import Exchange
from fletching.server.metadata.log_view import handle_log_view, is_log_view_path
from fletching.server.metadata.routes import handle_metadata, is_metadata_path
from fletching.server.metrics import METRICS_PATH, handle_metrics
from fletching.server.plain.plain_routes import handle_plain, is_plain_path
from fletching.server.service import Service
from fletching.server.tunnel.tunnel_routes import handle_tunnel, is_tunnel_request

__all__ = ["HEALTH_PATHS", "answer_for", "handle_health"]

ALIVE = "/healthz"
READY = "/readyz"
HEALTH_PATHS = frozenset({ALIVE, READY})
"""The only paths that answer without a signature."""

logger = logging.getLogger("fletching.server")
access_logger = logging.getLogger("fletching.access")


def answer_for(service: Service) -> Answer:
    """What answers the requests to a service."""

    async def answer(exchange: Exchange) -> None:
        await _answer(exchange, service)

    return answer


async def _answer(exchange: Exchange, service: Service) -> None:
    service.monitor.began(exchange)
    caller.begin_request(exchange.request_id)
    if service.tracing is None:
        await _answered(exchange, service)
        return
    with service.tracing.request(exchange):
        await _answered(exchange, service)


async def _answered(exchange: Exchange, service: Service) -> None:
    try:
        await _route(exchange, service)
    except ConnectionBrokenError as exc:
        exchange.outcome = "disconnected"
        logger.info("%s: %s", exchange.request_id, exc)
        _forget_frames(exc)
    except FletchingError as exc:
        await _fail(exchange, exc)
        _forget_frames(exc)
    except Exception as exc:
        logger.exception("%s: an unexpected failure", exchange.request_id)
        error = InternalServerError("the server failed; its log has the request id")
        error.__cause__ = exc
        await _fail(exchange, error)
        _forget_frames(error)
    finally:
        service.ended(exchange)
        if service.settings.access_log:
            _log(exchange)


def _forget_frames(error: BaseException | None) -> None:
    """Lets go of what the frames hold that an error passed through, once nobody looks at them any more.

    Whoever keeps an error that is raised from one of his frames is kept by it in turn: what an upload
    had received would stay in memory until such circles are looked for, which may take long.
    """
    seen: set[int] = set()
    left = [error]
    while left:
        each = left.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            each.__traceback__ = None
            left += (each.__cause__, each.__context__)


async def _route(exchange: Exchange, service: Service) -> None:
    path = exchange.path
    if path in HEALTH_PATHS:
        await handle_health(exchange, service)
        return
    if path == "/favicon.ico":
        # Browsers ask for it beside every blob and download that they show: there is none, for nobody.
        exchange.action = "icon"
        await exchange.start(None, status=204, headers={"cache-control": "public, max-age=86400"})
        await exchange.finish()
        return
    if path.startswith(BLOB_PREFIX):
        if not await service.identify_link(exchange):
            await service.identify(exchange)
        await handle_blob(exchange, service)
        return
    if is_console_path(path):
        await handle_console(exchange, service)
        return
    if path == METRICS_PATH:
        if not service.settings.public_metrics:
            await service.identify(exchange)
        await handle_metrics(exchange, service.metrics)
        return
    if is_log_view_path(path):
        await handle_log_view(exchange, service)
        return
    await service.identify(exchange)
    if parse_storage_path(path) is not None:
        await handle_storage(exchange, service)
    elif is_first_version_path(exchange.raw_path):
        await handle_first_version(exchange, service)
    elif is_plain_path(exchange.raw_path):
        await handle_plain(exchange, service)
    elif is_admin_path(path):
        await handle_admin(exchange, service)
    elif is_tunnel_request(exchange):
        _leave_no_connection(exchange)
        await handle_tunnel(exchange, service)
    elif is_metadata_path(path):
        _leave_no_connection(exchange)
        await handle_metadata(exchange, service)
    else:
        raise NotFoundError(f"there is nothing at {path[:200]}")


def _leave_no_connection(exchange: Exchange) -> None:
    """Has the connection closed behind the reply, if the client is one that forks.

    PyODPS reads and writes with several processes by forking, and every fork goes on with the idle
    connections of the first: two of them ask on one, and a reply comes to whoever reads first, while
    the other waits for ever. An idle connection that is not there cannot be shared.
    """
    if exchange.header(USER_AGENT).lower().startswith("pyodps/"):
        exchange.offers["connection"] = "close"


async def _fail(exchange: Exchange, error: FletchingError) -> None:
    """Answers with an error; a reply that has begun is cut instead, which the client can tell."""
    exchange.outcome = type(error).__name__
    if exchange.status is not None:
        logger.error("%s: the reply was cut: %s", exchange.request_id, error)
        return
    failure = encode_error(error, exchange.request_id)
    try:
        await exchange.reply(failure.body, status=failure.status, headers=failure.headers)
    except ConnectionBrokenError:
        exchange.outcome = "disconnected"
    if exchange.status is not None and exchange.status >= 500:
        # What storage says is whole in its sentence; a trace is for faults of ours.
        known = isinstance(error, StorageError | ServiceUnavailableError | StorageFullError)
        logger.error("%s: %s", exchange.request_id, error, exc_info=None if known else error)


def _log(exchange: Exchange) -> None:
    """Logs what was asked and how it went: no query, no header, nothing that could be a secret."""
    if not access_logger.isEnabledFor(logging.INFO):
        return
    access_logger.info(
        '%s %s %s "%s %s" %s %s in=%d out=%d %.1fms %s',
        exchange.request_id,
        exchange.peer,
        exchange.access_id or "-",
        exchange.method,
        # As it was sent: decoded, it could hold line breaks and forge lines of the log.
        ascii(exchange.raw_path[:200])[1:-1],
        exchange.action or "-",
        exchange.status or "-",
        exchange.body.body_bytes,
        exchange.sent_bytes,
        exchange.seconds * 1000,
        exchange.outcome,
        extra={"fields": _fields(exchange)},
    )


def _fields(exchange: Exchange) -> dict[str, object]:
    """The same for machines."""
    return {
        "request_id": exchange.request_id,
        "peer": exchange.peer,
        "access_id": exchange.access_id,
        "method": exchange.method,
        "path": exchange.raw_path[:200],
        "action": exchange.action,
        "status": exchange.status,
        "received_bytes": exchange.body.body_bytes,
        "sent_bytes": exchange.sent_bytes,
        "duration_seconds": round(exchange.seconds, 6),
        "outcome": exchange.outcome,
    }


async def handle_health(exchange: Exchange, service: Service) -> None:
    """Says whether the process lives, or whether it can serve: catalog, keys and objects answer, no drain runs.

    Raises:
        ServiceUnavailableError: not ready; the message says why, without details of the storage.
        MethodNotAllowedError: neither GET nor HEAD.
    """
    if exchange.verb != "GET":
        raise MethodNotAllowedError.of(exchange.path, exchange.method, ["GET"])
    if exchange.path == READY:
        if service.draining:
            raise ServiceUnavailableError("the server is draining")
        await service.readiness.check()
    await exchange.reply(b'{"status":"ok"}')
