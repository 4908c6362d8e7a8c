"""The tunnel's paths and who answers them.

::

    R = /projects/{p}/tables/{t}, or /projects/{p}/schemas/{s}/tables/{t}

    POST   R?downloads             opens a download session      GET    R?downloadid     looks it up
    GET    R?data&downloadid       its rows
    POST   R?uploads               opens an upload session       GET    R?uploadid       looks it up
    PUT    R?uploadid&blockid      a block of it                 POST   R?uploadid       commits it
    DELETE R?uploadid              drops it
    POST   R/streams               opens a stream upload         GET    R/streams        looks it up
    PUT    R/streams?uploadid      rows for it                   POST   R/streams?uploadid  ends it
    POST   R/upserts               opens an upsert session       GET    R/upserts        looks it up
    PUT    R/upserts?upsertid      records for it                POST   R/upserts?upsertid  commits it
    DELETE R/upserts?upsertid      drops it
    GET    R/preview               the first rows

    I = /projects/{p}/instances/{id}

    POST   I?downloads             opens a download session      GET    I?downloadid     looks it up
    GET    I?data&downloadid       its rows                      GET    I?data&queryid   a session's

Other requests to R and I are for the metadata endpoints. No answer is ever a redirect: clients take one for
success. Clients may put the path of their endpoint before these, usually ``/api``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from urllib.parse import unquote

from fletching.errors import MethodNotAllowedError
from fletching.server.http.exchange import Exchange
from fletching.server.service import Service
from fletching.server.tunnel import downloads, instance_downloads, stream_uploads, uploads, upserts
from fletching.server.tunnel.instance_downloads import InstanceTunnelRequest
from fletching.server.tunnel.tunnel_request import TunnelRequest
from fletching.types import DEFAULT_SCHEMA, TableName

__all__ = ["handle_tunnel", "is_tunnel_request"]

Handler = Callable[[TunnelRequest], Coroutine[object, object, None]]

_TABLE = re.compile(
    r"(?:/api){0,2}/projects/(?P<project>[^/]+)(?:/schemas/(?P<schema>[^/]+))?"
    r"/tables/(?P<name>[^/]+)(?:/(?P<part>streams|upserts|preview))?/?"
)

_INSTANCE = re.compile(
    r"(?:/api){0,2}(?:/mcqa)?/projects/(?P<project>[^/]+)/instances/(?P<name>[^/]+)/?"
)

InstanceHandler = Callable[[InstanceTunnelRequest], Coroutine[object, object, None]]

_SESSIONS: tuple[tuple[str, dict[str, Handler]], ...] = (
    ("downloads", {"POST": downloads.create}),
    ("uploads", {"POST": uploads.create}),
    (
        "uploadid",
        {
            "GET": uploads.look_up,
            "PUT": uploads.write,
            "POST": uploads.commit,
            "DELETE": uploads.abort,
        },
    ),
    ("downloadid", {"GET": downloads.look_up}),
)
"""By the parameter that tells what a request to the table's own path is about, first come first served."""

_PARTS: dict[str, dict[str, Handler]] = {
    "streams": {
        "GET": stream_uploads.look_up,
        "PUT": stream_uploads.write,
        "POST": stream_uploads.abort_or_create,
    },
    "upserts": {
        "GET": upserts.look_up,
        "PUT": upserts.write,
        "POST": upserts.commit_or_create,
        "DELETE": upserts.abort,
    },
    "preview": {"GET": downloads.preview},
}


def _handlers(exchange: Exchange, part: str | None) -> dict[str, Handler] | None:
    if part is not None:
        return _PARTS[part]
    query = {name for name, _ in exchange.query}
    if {"data", "downloadid"} <= query:
        return {"GET": downloads.send_rows}
    return next((handlers for name, handlers in _SESSIONS if name in query), None)


def _instance_handler(exchange: Exchange) -> InstanceHandler | None:
    query = {name for name, _ in exchange.query}
    match exchange.verb:
        case "POST" if "downloads" in query:
            return instance_downloads.create
        case "GET" if {"data", "downloadid"} <= query:
            return instance_downloads.send_rows
        case "GET" if {"data", "queryid"} <= query:
            return instance_downloads.send_all_rows
        case "GET" if "downloadid" in query:
            return instance_downloads.look_up
    return None


def is_tunnel_request(exchange: Exchange) -> bool:
    """Whether a request is for the tunnel; others to the path of a table or instance are not."""
    match = _TABLE.fullmatch(exchange.raw_path)
    if match is not None:
        return _handlers(exchange, match["part"]) is not None
    return (
        _INSTANCE.fullmatch(exchange.raw_path) is not None
        and _instance_handler(exchange) is not None
    )


async def handle_tunnel(exchange: Exchange, service: Service) -> None:
    """Answers a tunnel request; raises what becomes its error reply.

    Raises:
        FletchingError: the request is wrong, refused, or failed.
    """
    # The raw path: a name may hold an encoded slash.
    instance = _INSTANCE.fullmatch(exchange.raw_path)
    if instance is not None:
        answer = _instance_handler(exchange)
        assert answer is not None
        exchange.action = f"instance_downloads.{answer.__name__}"
        project, instance_id = unquote(instance["project"]), unquote(instance["name"])
        await answer(InstanceTunnelRequest(exchange, service, project, instance_id))
        return
    match = _TABLE.fullmatch(exchange.raw_path)
    assert match is not None
    handlers = _handlers(exchange, match["part"])
    assert handlers is not None
    handler = handlers.get(exchange.verb)
    if handler is None:
        raise MethodNotAllowedError.of(exchange.raw_path, exchange.method, handlers)
    names = {key: unquote(value) for key, value in match.groupdict().items() if value is not None}
    schema = names.get("schema") or dict(exchange.query).get("curr_schema") or DEFAULT_SCHEMA
    exchange.action = f"{handler.__module__.rsplit('.', 1)[-1]}.{handler.__name__}"
    table = TableName(names["project"], names["name"], schema)
    await handler(TunnelRequest(exchange, service, table))
