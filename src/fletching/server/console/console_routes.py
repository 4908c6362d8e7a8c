"""Paths of the console.

::

    GET   /console                         to the tables
    GET   /console/sign-in                 POST signs in
    POST  /console/sign-out
    GET   /console/tables                  ?project= &q= &after=
    GET   /console/tables/{p}/{s}/{t}      ?filter= &version= &offset=
    GET   /console/tables/{p}/{s}/{t}/rows downloads, as plain HTTP gives them
    GET   /console/query                   POST runs a statement
    GET   /console/server                  ?id=
    GET   /console/static/console.css

Every page but signing in needs a session; what is on it, the grants of the session's key.
"""

from __future__ import annotations

import functools
import importlib.resources
import re
from urllib.parse import unquote

from fletching.errors import FletchingError, MethodNotAllowedError, NotFoundError
from fletching.protocol.http.error_codec import encode_fault
from fletching.server.console.console_pages import (
    query_page,
    server_page,
    table_page,
    tables_page,
)
from fletching.server.console.rendering import SECURITY_HEADERS, Pages, wants_json
from fletching.server.console.sign_in import (
    check_form,
    cookie_for,
    form_token,
    no_cookie,
    signed_in,
    signing_in,
)
from fletching.server.http.exchange import Exchange
from fletching.server.plain.rows_out import send_rows
from fletching.server.service import Service
from fletching.types import TableName

__all__ = ["handle_console", "is_console_path"]

_TABLE = re.compile(r"/tables/([^/]+)/([^/]+)/([^/]+)(/rows)?/?")
_STYLE = "/static/console.css"


def is_console_path(path: str) -> bool:
    """Whether a path belongs to the console."""
    return path == "/console" or path.startswith("/console/")


async def handle_console(exchange: Exchange, service: Service) -> None:
    """Answers with a page, also where something is wrong.

    Raises:
        FletchingError: what a download of rows raises.
    """
    path = exchange.raw_path.removeprefix("/console") or "/"
    exchange.action = "console"
    if path == _STYLE:
        headers = SECURITY_HEADERS | {"cache-control": "public, max-age=300"}
        await exchange.reply(_style(), content_type="text/css; charset=utf-8", headers=headers)
        return
    pages = Pages(exchange)
    try:
        if path.rstrip("/") == "/sign-in":
            await _sign_in(exchange, service, pages)
            return
        principal = await signed_in(exchange, service)
        if principal is None:
            await pages.go("/sign-in")
            return
        pages = Pages(exchange, who=principal.access_id, csrf=form_token(exchange))
        await _signed(exchange, service, pages, path)
    except FletchingError as exc:
        if exchange.status is not None or wants_json(exchange):
            raise
        await _problem(exchange, pages, exc)


async def _signed(exchange: Exchange, service: Service, pages: Pages, path: str) -> None:
    match = _TABLE.fullmatch(path)
    if match is not None:
        _only(exchange, "GET", "HEAD")
        project, schema, table = map(unquote, match.groups()[:3])
        name = TableName(project, table, schema)
        if match[4]:
            await send_rows(exchange, service, name)
        else:
            await table_page(exchange, service, pages, name)
        return
    path = path.rstrip("/")
    if path == "":
        await pages.go("/tables")
    elif path == "/tables":
        _only(exchange, "GET", "HEAD")
        await tables_page(exchange, service, pages)
    elif path == "/query":
        _only(exchange, "GET", "HEAD", "POST")
        await query_page(exchange, service, pages)
    elif path == "/server":
        _only(exchange, "GET", "HEAD")
        await server_page(exchange, service, pages)
    elif path == "/sign-out":
        _only(exchange, "POST")
        await check_form(exchange)
        await pages.go("/sign-in", no_cookie(pages.address("")))
    else:
        raise NotFoundError(f"there is no page {path[:200]}")


def _only(exchange: Exchange, *methods: str) -> None:
    if exchange.method not in methods:
        raise MethodNotAllowedError(f"this page takes {' or '.join(methods)}")


async def _sign_in(exchange: Exchange, service: Service, pages: Pages) -> None:
    _only(exchange, "GET", "HEAD", "POST")
    if exchange.method != "POST":
        await pages.show("sign-in", "Sign in", {}, here="/sign-in")
        return
    form = await check_form(exchange, session=False)
    token = await signing_in(exchange, service, form)
    if token is None:
        wrong = "The access id or the secret is wrong."
        await pages.show("sign-in", "Sign in", {}, problem=wrong, status=401)
        return
    secure = (
        service.settings.tls_certificate is not None
        or exchange.header("x-forwarded-proto") == "https"
    )
    await pages.go("/tables", cookie_for(token, secure=secure, path=pages.address("")))


async def _problem(exchange: Exchange, pages: Pages, error: FletchingError) -> None:
    exchange.outcome = type(error).__name__
    fault = encode_fault(error, exchange.request_id)
    headers = {
        name: value for name, value in fault.headers.items() if name.lower() == "retry-after"
    }
    await pages.show(
        "problem",
        "This did not work",
        {"request_id": exchange.request_id},
        problem=getattr(error, "message", str(error))
        if fault.status < 500
        else "The server failed.",
        status=fault.status,
        headers=headers,
    )


@functools.cache
def _style() -> bytes:
    return (
        importlib.resources.files("fletching.server.console")
        .joinpath("static/console.css")
        .read_bytes()
    )
