"""SQL instances: run, list, ask what came of them, cancel."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fletching.engine.query.instances import SESSION, InstanceFilter, InstanceRow
from fletching.errors import ConflictError, InvalidParameterError
from fletching.protocol.http.numbers import parse_seconds
from fletching.protocol.messages.admin import TablePage, new_instance_id
from fletching.protocol.messages.requests import Request
from fletching.server.metadata import instance_reports as reports
from fletching.server.metadata import interactive_resources as interactive
from fletching.server.metadata.documents import element, parse_root
from fletching.server.metadata.jobs import MAX_JOB_BYTES, parse_job
from fletching.server.metadata.scope import Scope, namespace_of
from fletching.sql.functions.time_zones import TIME_ZONE

if TYPE_CHECKING:
    import xml.etree.ElementTree as ET

__all__ = ["change", "create", "get_instance", "list_instances", "list_queueing"]

ANSWER_SECONDS = 0.5
"""How long the answer to a statement waits for its end: most have ended by then."""

BLOCKING_SECONDS = 1.0
"""How long an answer waits for the end if the client says that it may."""


async def create(scope: Scope) -> None:
    """Runs a job and answers with the instance's address.

    Raises:
        NoPermissionError: the caller has no grant in the project: what it says is not even parsed.
        NoSuchProjectError: there is no such project.
        MethodNotAllowedError: a job that nothing here runs.
    """
    scope.service.authorize_more(scope.exchange)
    scope.service.authorize_project(scope.exchange, scope.project)
    body = await scope.exchange.read_body(MAX_JOB_BYTES)
    await scope.require_project()
    job = parse_job(body)
    instances = scope.service.engine.instances
    if job.kind == SESSION:
        open_session = functools.partial(
            instances.open_session, owner=scope.exchange.access_id, source=job.source
        )
        row = await scope.work(
            lambda: open_session(scope.project, task_name=job.task_name),
        )
    else:
        accelerated = "/mcqa/projects/" in scope.exchange.raw_path
        row = await run_statement(
            scope,
            job.statement,
            job.settings,
            instance_id=f"{new_instance_id(time.time())}{interactive.ACCELERATED}"
            if accelerated
            else None,
            task_name=job.task_name,
            kind=job.kind,
            source=job.source,
        )
    await scope.exchange.reply(
        b"",
        status=201,
        content_type="application/xml",
        headers={"location": _location(scope, row.id)},
    )


def _location(scope: Scope, instance_id: str) -> str:
    scheme = scope.exchange.head.scheme
    host = scope.exchange.header("host")
    path = scope.exchange.raw_path.rstrip("/")
    return f"{scheme}://{host}{path}/{quote(instance_id)}"


async def run_statement(
    scope: Scope,
    statement: str,
    settings: dict[str, str],
    **options: Any,
) -> InstanceRow:
    """Runs a statement for the caller of a request; options are those of `Instances.run`."""

    def authorize(request: Request) -> None:
        scope.service.authorize(scope.exchange, request)

    def visible(response: TablePage) -> TablePage:
        return scope.service.visible(scope.exchange, response)

    run = functools.partial(
        scope.service.engine.instances.run,
        statement,
        namespace_of(scope, settings),
        owner=scope.exchange.access_id,
        authorize=authorize,
        visible=visible,
        wait_seconds=ANSWER_SECONDS,
        flags={name: settings[name] for name in (TIME_ZONE,) if name in settings},
        **options,
    )
    return await scope.long_work(run)


async def _visible_row(scope: Scope) -> InstanceRow:
    """The instance in the path, if the caller may see it.

    Raises:
        NotFoundError: there is none, or the caller may not see it.
    """
    row = await scope.work(scope.service.engine.instances.get, scope.project, scope.name)
    scope.service.authorize_instance(scope.exchange, row)
    return row


async def get_instance(scope: Scope) -> None:
    """An instance: its state, or what the query asks of it."""
    query = scope.query
    row = await _visible_row(scope)
    instances = scope.service.engine.instances
    rest, pause = BLOCKING_SECONDS if "instancestatus" in query else 0.0, 0.01
    # No thread waits: a few clients that follow long statements would hold them all.
    while not row.ended_at and row.kind != SESSION and rest > 0:
        await asyncio.sleep(min(pause, rest))
        rest, pause = rest - pause, min(pause * 1.5, 0.5)
        row = await scope.work(instances.get, scope.project, scope.name)
    if "info" in query:
        await interactive.info(scope, row)
        return
    for flag, report in _JSON_REPORTS.items():
        if flag in query:
            document = await scope.work(report, scope, row)
            headers = _headers(row)
            if row.ended_at:
                headers["x-odps-task-finalized"] = "true"
            await scope.reply_json(document, headers=headers)
            return
    if "log" in query:
        # Workers write no logs of their own.
        await scope.exchange.reply(b"", content_type="text/plain")
        return
    if "result" in query:
        root = await scope.long_work(reports.result_document, instances, row)
    elif "taskstatus" in query:
        root = reports.task_document(instances, row)
    elif "instanceprogress" in query:
        root = await scope.work(reports.progress_document, instances, row)
    elif "source" in query:
        root = reports.source_document(row)
    else:
        root = reports.status_document(row)
    await scope.reply(root, headers=_headers(row))


def _headers(row: InstanceRow) -> dict[str, str]:
    started, ended = reports.times(row)
    headers = {"x-odps-owner": row.owner, "x-odps-start-time": started}
    if ended:
        headers["x-odps-end-time"] = ended
    return headers


_JSON_REPORTS: dict[str, Callable[[Scope, InstanceRow], dict[str, object]]] = {
    "instancesummary": lambda scope, row: reports.summary(scope.service.engine.instances, row),
    "instancedetail": lambda _scope, row: reports.detail(row),
    "detail": lambda _scope, row: reports.detail(row),
    "instancequota": lambda _scope, row: reports.quota(row),
    "cached": lambda scope, row: reports.queueing(
        scope.service.engine.instances, row, scope.project
    ),
}


async def change(scope: Scope) -> None:
    """Cancels an instance, or tells a session to run something.

    Raises:
        ConflictError: it has ended; PyODPS knows that as InvalidStateSetting.
    """
    scope.service.authorize_more(scope.exchange)
    root = parse_root(await scope.exchange.read_body(MAX_JOB_BYTES), "Instance")
    row = await _visible_row(scope)
    if "info" in scope.query:
        await interactive.tell(scope, row, root, run_statement)
        return
    if row.ended_at:
        raise ConflictError(f"instance {row.id} has ended")
    await scope.long_work(scope.service.engine.instances.cancel, row)
    await scope.exchange.reply(b"", content_type="application/xml")


async def list_instances(scope: Scope) -> None:
    """A page of the instances that the caller may see, newest first."""
    rows, marker = await _listed(scope, _wanted(scope))
    await scope.reply(
        element(
            "Instances",
            element("Marker", text=marker),
            element("MaxItems", text=str(scope.max_items)),
            *map(_listed_instance, rows),
        )
    )


def _listed_instance(row: InstanceRow) -> ET.Element:
    started, ended = reports.times(row)
    document = element(
        "Instance",
        element("Name", text=row.id),
        element("Owner", text=row.owner),
        element("StartTime", text=started),
    )
    if ended:
        document.append(element("EndTime", text=ended))
    document.append(element("Status", text=reports.status_of(row)))
    return document


async def list_queueing(scope: Scope) -> None:
    """A page of the instances that wait or run."""
    wanted = _wanted(scope)
    if wanted.running is None:
        wanted = InstanceFilter(running=True, owner=wanted.owner)
    rows, marker = await _listed(scope, wanted)
    instances = scope.service.engine.instances
    await scope.reply(
        reports.queueing_page(instances, rows, scope.project, marker, scope.max_items)
    )


async def _listed(scope: Scope, wanted: InstanceFilter) -> tuple[list[InstanceRow], str]:
    """Instances that the caller may see, and the marker of the next page."""
    await scope.require_project()
    most = scope.max_items
    visible: list[InstanceRow] = []
    marker = scope.query.get("marker", "")
    while len(visible) <= most:
        rows = await scope.work(
            scope.service.engine.instances.list, scope.project, most + 1, wanted, marker
        )
        visible += [row for row in rows if scope.service.may_see_instance(scope.exchange, row)]
        if len(rows) <= most:
            break
        marker = rows[-1].id
    more = len(visible) > most
    visible = visible[:most]
    return visible, visible[-1].id if more else ""


def _wanted(scope: Scope) -> InstanceFilter:
    """Reads the filters of a listing.

    Raises:
        InvalidParameterError: a status or date range of another form.
    """
    query = scope.query
    status = query.get("status", "").casefold()
    if status not in {"", "running", "suspended", "terminated"}:
        raise InvalidParameterError(f"status is {status[:20]!r}, not one of an instance")
    since, _, until = query.get("daterange", "").partition(":")
    owner = scope.exchange.access_id if query.get("onlyowner", "").casefold() == "yes" else None
    return InstanceFilter(
        running=None if not status else status == "running",
        since=_seconds(since),
        # Nothing is ever suspended.
        until=0.0 if status == "suspended" else _seconds(until),
        owner=owner,
        task_name=query.get("jobname") or None,
    )


def _seconds(text: str) -> float | None:
    if not text:
        return None
    seconds = parse_seconds(text)
    if seconds is None:
        raise InvalidParameterError(f"daterange has {text[:30]!r}, not seconds since the epoch")
    return seconds
