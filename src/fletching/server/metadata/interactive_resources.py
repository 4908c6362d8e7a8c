"""Query acceleration: sessions that run statements as every statement is run.

The paths are those of docs/conformance.md, "Metadata endpoints".

A first-generation session is an instance that runs and does nothing; its statements are instances of
their own, found by the session's id and their number. The second generation is a path and a quota:
``/mcqa`` before the path of an instance, and whatever quota is named.

::

    GET /projects/{p}/instances/{session}?info&taskname=..&key=status            of the session
    PUT /projects/{p}/instances/{session}?info&taskname=..     Key query: run a statement
    GET /projects/{p}/instances/{session}?info&taskname=..&key=result_{n}        what came of it
    GET /projects/{p}/instances/{session}?info&taskname=..&key=sourcexml_{n}     what it was
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Awaitable, Callable
from xml.etree import ElementTree as ET

from fletching.engine.query.instances import SESSION, InstanceRow, Instances
from fletching.errors import (
    ConflictError,
    InvalidArgumentError,
    InvalidParameterError,
    NotFoundError,
)
from fletching.protocol.http.headers import USER_AGENT
from fletching.server.metadata.documents import element, render
from fletching.server.metadata.jobs import parse_settings
from fletching.server.metadata.scope import Scope

__all__ = [
    "ACCELERATED",
    "connection",
    "info",
    "is_before_0_13",
    "list_quotas",
    "statement_id",
    "tell",
]

_RUNNING, _FAILED, _TERMINATED, _CANCELLED = 2, 4, 5, 6
"""States of a session's statements, by the numbers that clients know."""

_DISABLED = "odps.mcqa.disable"
"""A client's setting by which no session takes its statement; it then runs it without one, if it may."""

Run = Callable[..., Awaitable[InstanceRow]]


def statement_id(session_id: str, number: str) -> str:
    """The id of the instance that a session's statement is.

    Raises:
        InvalidParameterError: statements are numbered otherwise.
    """
    if not (number.isascii() and number.isdecimal() and len(number) <= 10):
        raise InvalidParameterError(f"a session has no statement {number[:20]!r}")
    return f"{session_id}q{int(number)}"


async def info(scope: Scope, row: InstanceRow) -> None:
    """What a client asks a running task for."""
    key = scope.query.get("key", "")
    what, _, number = key.rpartition("_")
    if key == "warnings":
        await scope.reply_json({"warnings": ""})
    elif row.kind == SESSION and key == "status":
        ended = bool(row.ended_at)
        await scope.reply_json(
            {
                "status": _CANCELLED if ended else _RUNNING,
                "result": f"Session name: {row.id}",
                "warnings": "",
            },
        )
    elif row.kind == SESSION and what in {"result", "sourcexml"}:
        instances = scope.service.engine.instances
        statement = await scope.work(instances.get, scope.project, statement_id(row.id, number))
        scope.service.authorize_instance(scope.exchange, statement)
        if what == "result":
            await scope.reply_json(await scope.long_work(_outcome, instances, statement, number))
        else:
            await scope.reply_json({"result": _source(statement)})
    else:
        # Nobody has left anything under this key.
        await scope.exchange.reply(b"", content_type="text/plain")


def _outcome(instances: Instances, row: InstanceRow, number: str) -> dict[str, object]:
    if not row.ended_at:
        status, text = _RUNNING, ""
    elif instances.cancelled(row):
        status, text = _CANCELLED, row.result
    elif row.succeeded:
        status, text = _TERMINATED, instances.result(row)
    else:
        status, text = _FAILED, row.result
    return {"status": status, "result": text, "warnings": "", "subQueryId": int(number)}


def _source(row: InstanceRow) -> str:
    task = element("SQL", element("Name", text=row.task_name), element("Query", text=row.statement))
    return render(task).decode()


async def tell(scope: Scope, row: InstanceRow, root: ET.Element, run: Run) -> None:
    """Takes what a client tells a running task: a session runs a query, others take and drop it.

    Raises:
        InvalidParameterError: a query of another form.
        InvalidArgumentError: its settings keep it from sessions.
        ConflictError: the session has ended.
    """
    path = f"{scope.exchange.raw_path.rstrip('/')}?info"
    headers = {"location": f"{scope.exchange.head.scheme}://{scope.exchange.header('host')}{path}"}
    if row.kind != SESSION or root.findtext("Key") != "query":
        await scope.exchange.reply(b"", content_type="text/plain", headers=headers)
        return
    if row.ended_at:
        raise ConflictError(f"session {row.id} has ended")
    try:
        document = json.loads(root.findtext("Value") or "")
        text, settings = document["query"], document.get("settings") or {}
    except (ValueError, TypeError, KeyError, RecursionError):
        raise InvalidParameterError("a session takes JSON with a query and its settings") from None
    if not isinstance(text, str) or not isinstance(settings, dict):
        raise InvalidParameterError("a session takes a query as text and its settings as an object")
    parsed = parse_settings(json.dumps(settings))
    if parsed.get(_DISABLED, "").lower() == "true":
        raise InvalidArgumentError(
            f"{_DISABLED} is set: the statement is not for a session", code="SQAUnsupportedFeature"
        )
    number = secrets.randbelow(2**31 - 1) + 1
    await run(
        scope,
        text,
        parsed,
        task_name=row.task_name,
        instance_id=statement_id(row.id, str(number)),
    )
    reply = {"status": "ok", "result": json.dumps({"queryId": number, "result": "submitted"})}
    await scope.exchange.reply(json.dumps(reply).encode(), headers=headers)


# --- second generation -----------------------------------------------------------------------

_CONNECTION = "fletching"
"""What clients send back with each request: there is nothing to be told apart."""


ACCELERATED = "_mcqa"
"""How ids of instances end that were run so: by it clients know where to look for them."""

_CLIENT = re.compile(r"pyodps/(\d{1,4})\.(\d{1,4})\b", re.IGNORECASE)


def is_before_0_13(user_agent: str) -> bool:
    """Whether a client is a PyODPS that speaks as it did before 0.13."""
    match = _CLIENT.match(user_agent)
    return match is not None and (int(match[1]), int(match[2])) < (0, 13)


_QUOTA = "default"
"""The quota that there is: the one pool of statements."""


async def connection(scope: Scope) -> None:
    """How a quota is connected to: every one is, as it stands for the one pool of statements."""
    quota = scope.query.get("quota") or _QUOTA
    await scope.reply_json(
        {"connInfo": _CONNECTION, "quotaNickName": quota, "quotaType": "FUXI_VW"}
    )


async def list_quotas(scope: Scope) -> None:
    """The one quota that there is; whichever else a client connects to stands for it.

    Raises:
        NotFoundError: the path names another.
    """
    # Before 0.13 PyODPS connects by looking up the quota, and names its tenant only then.
    connecting = "tenant" in scope.query and is_before_0_13(scope.exchange.header(USER_AGENT))
    if scope.name and scope.name.casefold() != _QUOTA and not connecting:
        raise NotFoundError(
            f"there is no quota {scope.name[:100]}: {_QUOTA} has all statements, and /connection/mcqa takes"
            " every name for it"
        )
    names = [scope.name or _QUOTA]
    quotas = [
        element(
            "Quota",
            element("Name", text=name),
            element("Nickname", text=name),
            element("ID", text="1"),
            element("IsEnabled", text="true"),
            element("ResourceSystemType", text="FUXI_VW"),
            element("Status", text="ON"),
            element("Properties", text="{}"),
        )
        for name in names
    ]
    root = quotas[0] if scope.name else element("Quotas", *quotas)
    await scope.reply(root, headers={"x-odps-mcqa-conn": _CONNECTION})
