"""Table administration of our own: JSON under ``/fletching/v1``."""

from __future__ import annotations

from fletching.protocol.codec import decode_admin_request, encode_admin_response
from fletching.server.http.exchange import Exchange
from fletching.server.service import Service

__all__ = ["handle_admin"]


async def handle_admin(exchange: Exchange, service: Service) -> None:
    """Answers an administration request; raises what becomes its error reply.

    Raises:
        FletchingError: the request is wrong, refused, or failed.
    """
    body = await exchange.read_body()
    request = decode_admin_request(exchange.method, exchange.raw_path, exchange.query, body)
    exchange.action = type(request).__name__
    service.authorize(exchange, request)
    with service.calls.enter():
        response = await service.call(request)
        headers, body = encode_admin_response(service.visible(exchange, response))
    await exchange.reply(body, headers=headers)
