"""Paths of the console.

::

    GET   /console                                to the tables
    GET   /console/sign-in                        POST signs in; POST /sign-out, /theme
    GET   /console/tables                         ?project= &schema= &q= &sort= &after=
    GET   /console/tables/{p}/{s}/{t}             ?filter= &version= &offset=
    GET   .../row .../columns .../partitions .../history .../segments .../segments/{id}
    POST  .../history                             restores and tags
    GET   .../rows                                downloads, as plain HTTP gives them; POST appends
    GET   /console/query                          ?instance= &offset=; POST runs a statement
    GET   /console/query/names, /query/rows       names to complete, a result as a file
    POST  /console/query/cancel
    GET   /console/upload                         POST /upload/schema, /upload/table
    GET   /console/overview, /requests, /sessions, /storage, /keys, /settings   for operators
    POST  /console/sessions, /storage, /keys
    GET   /console/static/{name}

Every page but signing in needs a session; what is on it, the grants of the session's key. Every page
has a JSON twin, ``format=json``. All that a page shows is in its address.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from typing import NamedTuple
from urllib.parse import unquote

from fletching.errors import (
    FletchingError,
    InternalServerError,
    MethodNotAllowedError,
    NotFoundError,
)
from fletching.protocol.http.error_codec import encode_error
from fletching.protocol.http.preconditions import is_not_modified
from fletching.server.console.data.columns_page import columns_page
from fletching.server.console.data.history_page import change_history, history_page
from fletching.server.console.data.partitions_page import partitions_page
from fletching.server.console.data.query_page import (
    cancel_query,
    names_page,
    query_page,
    result_rows,
)
from fletching.server.console.data.rows_page import row_page, rows_page
from fletching.server.console.data.segments_page import segment_page, segments_page
from fletching.server.console.data.tables_page import tables_page
from fletching.server.console.data.upload_page import (
    create_from_file,
    file_schema,
    upload_page,
    upload_rows,
)
from fletching.server.console.operator.keys_page import change_keys, keys_page
from fletching.server.console.operator.overview_page import overview_page
from fletching.server.console.operator.requests_page import requests_page
from fletching.server.console.operator.sessions_page import end_session, sessions_page
from fletching.server.console.operator.settings_page import settings_page
from fletching.server.console.operator.storage_page import start_task, storage_page
from fletching.server.console.rendering import (
    THEME_COOKIE,
    THEMES,
    Pages,
    security_headers,
    wants_json,
)
from fletching.server.console.sign_in import (
    check_form,
    cookie_for,
    form_token,
    no_cookie,
    signed_in,
    signing_in,
)
from fletching.server.console.static_files import static_file
from fletching.server.console.visit import Visit
from fletching.server.http.exchange import Exchange
from fletching.server.plain.rows_out import send_rows
from fletching.server.service import Service

__all__ = ["ROUTES", "Route", "handle_console", "is_console_path"]

logger = logging.getLogger("fletching.server")

Handler = Callable[[Visit], Awaitable[None]]


class Route(NamedTuple):
    """A page: its path below ``/console``, and what answers.

    Attributes:
        path: with ``{name}`` for a part that varies.
        show: answers GET and HEAD; None if there is nothing to see.
        do: answers POST; None if there is nothing to do.
        operates: whether it is the operator's alone.
    """

    path: str
    show: Handler | None
    do: Handler | None = None
    operates: bool = False


async def _download(visit: Visit) -> None:
    await send_rows(visit.exchange, visit.service, visit.table)


async def _to_tables(visit: Visit) -> None:
    await visit.pages.go("/tables")


async def _server(visit: Visit) -> None:
    """Where the operator's one page was in earlier releases."""
    asked = visit.asked.get("id", "")
    await visit.pages.go("/requests" if asked else "/overview", {"id": asked})


async def _sign_out(visit: Visit) -> None:
    await visit.form()
    headers = no_cookie(visit.pages.address(""))
    await visit.pages.go("/sign-in", headers=headers)


async def _theme(visit: Visit) -> None:
    """Keeps the colours that were chosen, and goes back to where that was."""
    form = await visit.form()
    theme, back = form.get("theme", ""), form.get("back", "")
    theme = theme if theme in THEMES else THEMES[0]
    # A path of the console, and nothing else.
    safe = back.startswith("/") and not back.startswith("//") and "\\" not in back
    path = back if safe and back.isprintable() else "/"
    kept = f"{THEME_COOKIE}={theme}; Path={visit.pages.address('')}; Max-Age=31536000; SameSite=Lax"
    await visit.pages.go(path, headers={"set-cookie": kept})


_TABLE = "/tables/{project}/{schema}/{table}"
ROUTES = (
    Route("", _to_tables),
    Route("/tables", tables_page),
    Route(_TABLE, rows_page),
    Route(f"{_TABLE}/row", row_page),
    Route(f"{_TABLE}/rows", _download, upload_rows),
    Route(f"{_TABLE}/columns", columns_page),
    Route(f"{_TABLE}/partitions", partitions_page),
    Route(f"{_TABLE}/history", history_page, change_history),
    Route(f"{_TABLE}/segments", segments_page),
    Route(f"{_TABLE}/segments/{{segment}}", segment_page),
    Route("/query", query_page, query_page),
    Route("/query/names", names_page),
    Route("/query/rows", result_rows),
    Route("/query/cancel", None, cancel_query),
    Route("/upload", upload_page),
    Route("/upload/schema", None, file_schema),
    Route("/upload/table", None, create_from_file),
    Route("/overview", overview_page, operates=True),
    Route("/requests", requests_page, operates=True),
    Route("/sessions", sessions_page, end_session, operates=True),
    Route("/storage", storage_page, start_task, operates=True),
    Route("/keys", keys_page, change_keys, operates=True),
    Route("/settings", settings_page, operates=True),
    Route("/server", _server, operates=True),
    Route("/theme", None, _theme),
    Route("/sign-out", None, _sign_out),
)


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path)) + "/?")


_PATTERNS = tuple((_pattern(route.path), route) for route in ROUTES)


def is_console_path(path: str) -> bool:
    """Whether a path belongs to the console."""
    return path == "/console" or path.startswith("/console/")


async def handle_console(exchange: Exchange, service: Service) -> None:
    """Answers with a page, also where something is wrong.

    Raises:
        FletchingError: what a download, an upload or a script's request raises.
    """
    path = exchange.raw_path.removeprefix("/console")
    exchange.action = "console"
    if path.startswith("/static/"):
        await _static(exchange, path.removeprefix("/static/"))
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
        pages = Pages(
            exchange,
            who=principal.access_id,
            csrf=form_token(exchange),
            operates=service.may_operate(exchange),
        )
        await _routed(exchange, service, pages, path)
    except FletchingError as exc:
        if exchange.status is not None or wants_json(exchange) or _is_of_script(exchange):
            raise
        await _problem(exchange, pages, exc)
    except Exception as exc:
        if exchange.status is not None or wants_json(exchange) or _is_of_script(exchange):
            raise
        error = InternalServerError("the server failed; its log has the request id")
        error.__cause__ = exc
        await _problem(exchange, pages, error)


async def _routed(exchange: Exchange, service: Service, pages: Pages, path: str) -> None:
    for pattern, route in _PATTERNS:
        match = pattern.fullmatch(path)
        if match is None:
            continue
        names = {name: unquote(value) for name, value in match.groupdict().items()}
        visit = Visit(exchange, service, pages, names)
        handler = route.do if exchange.method == "POST" else route.show
        if handler is None or exchange.verb not in {"GET", "POST"}:
            takes = {"GET": route.show, "POST": route.do}
            allowed = [method for method, answer in takes.items() if answer is not None]
            raise MethodNotAllowedError.of("this page", exchange.method, allowed)
        if route.operates:
            visit.must_operate()
        await handler(visit)
        return
    raise NotFoundError(f"there is no page {path[:200]}")


def _is_of_script(exchange: Exchange) -> bool:
    """Whether a page's script asks, which reads errors as plain HTTP gives them."""
    return "application/json" in exchange.header("accept")


async def _static(exchange: Exchange, name: str) -> None:
    result = static_file(name)
    if result is None:
        raise NotFoundError(f"there is no file {name[:100]}")
    if exchange.verb != "GET":
        raise MethodNotAllowedError.of("a file", exchange.method, ["GET"])
    # The address changes with the file; without that, it is asked for again.
    kept = ("v", result.digest) in exchange.query
    age = "public, max-age=31536000, immutable" if kept else "no-cache"
    headers = security_headers() | {"cache-control": age, "etag": f'"{result.digest}"'}
    if is_not_modified(exchange.joined_header, f'"{result.digest}"'):
        await exchange.reply(b"", status=304, headers=headers)
        return
    await exchange.reply(result.body, content_type=result.media_type, headers=headers)


async def _sign_in(exchange: Exchange, service: Service, pages: Pages) -> None:
    if exchange.verb not in {"GET", "POST"}:
        raise MethodNotAllowedError.of("this page", exchange.method, ["GET", "POST"])
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
    cookie = cookie_for(token, secure=secure, path=pages.address(""))
    await pages.go("/tables", headers=cookie)


async def _problem(exchange: Exchange, pages: Pages, error: FletchingError) -> None:
    exchange.outcome = type(error).__name__
    failure = encode_error(error, exchange.request_id)
    if failure.status >= 500:
        logger.error("%s: %s", exchange.request_id, error, exc_info=error)
    headers = {
        name: value for name, value in failure.headers.items() if name in {"retry-after", "allow"}
    }
    await pages.show(
        "problem",
        "This did not work",
        {"request_id": exchange.request_id},
        problem=getattr(error, "message", str(error))
        if failure.status < 500
        else "The server failed.",
        status=failure.status,
        headers=headers,
    )
