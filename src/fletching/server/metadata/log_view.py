"""Where log view links lead, and the page behind one: what an instance is and what came of it, as text.

::

    GET /logview/host          this service, so that the token in a link goes to nobody else
    GET /logview/?h={endpoint}&p={project}&i={instance}&token={bearer token}

The token in the link says who asks; it is usually one for this instance alone. Where links lead is said
to everybody: clients ask once, and take another's address for good if they are refused.
"""

from __future__ import annotations

import re

from fletching.errors import InvalidParameterError, MethodNotAllowedError
from fletching.server.http.exchange import Exchange
from fletching.server.metadata.instance_reports import state_of, times
from fletching.server.service import Service

__all__ = ["handle_log_view", "is_log_view_path"]

MAX_SHOWN_CHARACTERS = 100_000
"""How much of a statement and of its result is shown."""


_HOST = re.compile(r"(?:/api){0,2}/logview/host/?")


def is_log_view_path(path: str) -> bool:
    """Whether a path is the log view's."""
    return path in {"/logview", "/logview/"} or _HOST.fullmatch(path) is not None


async def handle_log_view(exchange: Exchange, service: Service) -> None:
    """Says where links lead, or shows an instance to whoever has a token for it.

    Raises:
        UnauthorizedError: no token, or none that is genuine and has not ended.
        NotFoundError: there is no such instance, or the token is for another.
        InvalidParameterError: the link names no instance.
        MethodNotAllowedError: the page is only looked at.
    """
    exchange.action = "log_view"
    if exchange.verb != "GET":
        raise MethodNotAllowedError.of("the log view", exchange.method, ["GET"])
    if _HOST.fullmatch(exchange.path) is not None:
        host = service.settings.public_host or exchange.header("host")
        address = f"{exchange.head.scheme}://{host}"
        await exchange.reply(address.encode(), content_type="text/plain")
        return
    query = dict(exchange.query)
    await service.identify_token(exchange, query.get("token", ""))
    project, instance_id = query.get("p", ""), query.get("i", "")
    if not project or not instance_id:
        raise InvalidParameterError("a log view link names a project (p) and an instance (i)")

    def shown() -> str:
        instances = service.engine.instances
        row = instances.get(project, instance_id)
        service.authorize_instance(exchange, row)
        started, ended = times(row)
        lines = [
            f"Instance: {row.id}",
            f"Project: {project}",
            f"Owner: {row.owner}",
            f"Task: {row.task_name} ({row.kind})",
            f"State: {state_of(instances, row)}",
            f"Started: {started}",
            f"Ended: {ended or '-'}",
            "",
            row.statement[:MAX_SHOWN_CHARACTERS],
        ]
        if row.ended_at:
            lines += ["", instances.result(row)[:MAX_SHOWN_CHARACTERS]]
        return "\n".join(lines) + "\n"

    text = await service.workers.query.run(shown)
    await exchange.reply(
        text.encode(),
        content_type="text/plain; charset=utf-8",
        headers={
            "cache-control": "no-store",
            "referrer-policy": "no-referrer",
            "x-content-type-options": "nosniff",
        },
    )
