"""``/healthz`` and ``/readyz``: the only paths that answer without a signature."""

from __future__ import annotations

from fletching.errors import MethodNotAllowedError, ServiceUnavailableError
from fletching.server.http.exchange import Exchange
from fletching.server.service import Service

__all__ = ["HEALTH_PATHS", "handle_health"]

ALIVE = "/healthz"
READY = "/readyz"
HEALTH_PATHS = frozenset({ALIVE, READY})


async def handle_health(exchange: Exchange, service: Service) -> None:
    """Says whether the process lives, or whether it can serve: catalog, keys and objects answer, no drain runs.

    Raises:
        ServiceUnavailableError: not ready; the message says why, without details of the storage.
        MethodNotAllowedError: neither GET nor HEAD.
    """
    if exchange.method not in {"GET", "HEAD"}:
        raise MethodNotAllowedError(f"{exchange.path} takes GET or HEAD, not {exchange.method}")
    if exchange.path == READY:
        if service.draining:
            raise ServiceUnavailableError("the server is draining")
        await service.readiness.check()
    await exchange.reply(b'{"status":"ok"}')
