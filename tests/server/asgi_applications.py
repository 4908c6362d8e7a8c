"""Lets an ASGI application answer the exchanges of our connections, in place of the service."""

from __future__ import annotations

from tests.server.asgi_exchanges import Application, Message

from fletching.errors import ConnectionBrokenError
from fletching.server.http.exchange import Exchange


async def answer_with_asgi(exchange: Exchange, app: Application, root_path: str = "") -> None:
    """Lets an ASGI application answer an exchange.

    Args:
        exchange: of which nothing was read or answered yet.
        app: sees HTTP requests only; it must have no lifespan of its own.
        root_path: under which it is mounted.

    Raises:
        Exception: what the application raises.
    """
    head = exchange.head
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": head.version,
        "method": head.method,
        "scheme": head.scheme,
        "path": head.path,
        "raw_path": head.raw_path,
        "query_string": head.query_string,
        "root_path": root_path,
        "headers": list(head.headers),
        "client": head.client,
        "server": None,
        "state": {},
        "extensions": {"fletching.exchange": exchange},
    }
    ended = answered = False

    async def receive() -> Message:
        nonlocal ended
        if ended:
            if not answered:
                await exchange.wait_for_disconnect()
            return {"type": "http.disconnect"}
        try:
            view = await exchange.receive_view()
        except ConnectionBrokenError:
            ended = True
            return {"type": "http.disconnect"}
        ended = view is None
        # A copy because ASGI applications keep the chunks they receive.
        body = b"" if view is None else bytes(view)
        return {"type": "http.request", "body": body, "more_body": not ended}

    async def send(message: Message) -> None:
        nonlocal answered
        try:
            if message["type"] == "http.response.start":
                # With the application's headers alone: those of our own replies are no test of it.
                exchange.status = message["status"]
                reply = exchange._reply.start(exchange.status, message.get("headers", ()))
                await exchange._sent(reply)
            elif message["type"] == "http.response.body":
                body = message.get("body", b"")
                if body:
                    await exchange.write_all([body])
                if not message.get("more_body", False):
                    answered = True
                    await exchange.finish()
        except ConnectionBrokenError as exc:
            raise ConnectionResetError("the client disconnected") from exc

    await app(scope, receive, send)
