"""Paths of plain HTTP.

::

    GET   /fletching/v1/tables/{project}/{schema}/{table}/rows     rows as Arrow, Parquet, CSV, JSON lines
    HEAD  the same                                                 without them
    POST  the same                                                 appends rows
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from fletching.errors import MethodNotAllowedError
from fletching.server.http.exchange import Exchange
from fletching.server.plain.rows_in import append_rows
from fletching.server.plain.rows_out import send_rows
from fletching.server.service import Service
from fletching.types import TableName

__all__ = ["handle_plain", "is_plain_path"]

_ROWS = re.compile(
    r"/fletching/v1/tables/(?P<project>[^/]+)/(?P<schema>[^/]+)/(?P<table>[^/]+)/rows/?"
)


def is_plain_path(path: str) -> bool:
    """Whether a path, as it was sent, is one of these."""
    return _ROWS.fullmatch(path) is not None


async def handle_plain(exchange: Exchange, service: Service) -> None:
    """Answers a request; raises what becomes its error reply.

    Raises:
        FletchingError: the request is wrong, refused, or failed.
    """
    match = _ROWS.fullmatch(exchange.raw_path)
    assert match is not None
    name = TableName(unquote(match["project"]), unquote(match["table"]), unquote(match["schema"]))
    if exchange.verb == "GET":
        exchange.action = "rows.get"
        await send_rows(exchange, service, name)
    elif exchange.method == "POST":
        exchange.action = "rows.append"
        await append_rows(exchange, service, name)
    else:
        raise MethodNotAllowedError.of("a path of rows", exchange.method, ["GET", "POST"])
