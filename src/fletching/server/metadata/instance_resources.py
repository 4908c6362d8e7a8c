"""SQL instances: run, and ask what came of them."""

from __future__ import annotations

from email.utils import formatdate
from urllib.parse import quote

from fletching.engine.query.instances import InstanceRow
from fletching.protocol.messages.requests import Request
from fletching.protocol.messages.responses import Response
from fletching.server.metadata.documents import Job, element, parse_job, parse_root
from fletching.server.metadata.scope import Scope
from fletching.sql.statements import Namespace

__all__ = ["create", "lookup", "page", "stop"]

MAX_STATEMENT_BYTES = 4 * 1024 * 1024
_TERMINATED = "Terminated"
ANSWER_SECONDS = 0.5
"""How long the answer to a statement waits for its end: most have ended by then."""


def _status(row: InstanceRow) -> str:
    return _TERMINATED if row.ended_at else "Running"


def _task_status(scope: Scope, row: InstanceRow) -> str:
    if not row.ended_at:
        return "Running"
    if scope.service.engine.instances.cancelled(row):
        return "Cancelled"
    return "Success" if row.succeeded else "Failed"


async def create(scope: Scope) -> None:
    """Runs the statement and answers with the instance's address.

    Raises:
        NoPermissionError: the caller has no grant in the project: what it says is not even parsed.
    """
    scope.service.authorize_project(scope.exchange, scope.project)
    job = parse_job(await scope.exchange.read_body(MAX_STATEMENT_BYTES))
    namespace = _namespace(scope, job)

    def authorize(request: Request) -> None:
        scope.service.authorize(scope.exchange, request)

    def visible(response: Response) -> Response:
        return scope.service.visible(scope.exchange, response)

    def run() -> InstanceRow:
        return scope.service.engine.instances.run(
            job.statement,
            namespace,
            owner=scope.exchange.access_id,
            task_name=job.task_name,
            authorize=authorize,
            visible=visible,
            wait_seconds=ANSWER_SECONDS,
        )

    row = await scope.long_work(run)
    scheme = scope.exchange.head.scheme
    host = scope.exchange.header("host")
    path = scope.exchange.raw_path.rstrip("/")
    await scope.exchange.reply(
        b"",
        status=201,
        content_type="application/xml",
        headers={"location": f"{scheme}://{host}{path}/{quote(row.id)}"},
    )


def _namespace(scope: Scope, job: Job) -> Namespace:
    def enabled(name: str) -> bool:
        return job.settings.get(name, "").lower() == "true"

    return Namespace(
        project=scope.project,
        schema=job.settings.get("odps.default.schema") or scope.schema,
        schemas_enabled=enabled("odps.namespace.schema")
        or enabled("odps.sql.allow.namespace.schema")
        or scope.service.settings.schemas_enabled,
    )


async def lookup(scope: Scope) -> None:
    """An instance: its state, its task's, or its result."""
    row = await scope.work(scope.service.engine.instances.get, scope.project, scope.name)
    scope.service.authorize_instance(scope.exchange, row)
    query = scope.query
    headers = {
        "x-odps-start-time": formatdate(row.created_at, usegmt=True),
        "x-odps-end-time": formatdate(row.ended_at, usegmt=True),
        "x-odps-owner": row.owner,
    }
    if not row.ended_at:
        del headers["x-odps-end-time"]
    root = element("Instance", element("Status", text=_status(row)))
    if "taskstatus" in query:
        root.append(
            element(
                "Tasks",
                element(
                    "Task",
                    element("Name", text=row.task_name),
                    element("StartTime", text=headers["x-odps-start-time"]),
                    element("EndTime", text=headers["x-odps-end-time"]),
                    element("Status", text=_task_status(scope, row)),
                    Type="SQL",
                ),
            )
        )
    elif "result" in query:
        text = await scope.long_work(scope.service.engine.instances.result, row)
        root.append(
            element(
                "Tasks",
                element(
                    "Task",
                    element("Name", text=row.task_name),
                    element(
                        "Result",
                        text=text,
                        Format="csv" if scope.service.engine.instances.has_rows(row) else "text",
                    ),
                    Type="SQL",
                ),
            )
        )
    elif "source" in query:
        task = element(
            "SQL", element("Name", text=row.task_name), element("Query", text=row.statement)
        )
        root = element("Job", element("Priority", text="9"), element("Tasks", task))
    await scope.reply(root, headers=headers)


async def stop(scope: Scope) -> None:
    """Cancels an instance; one that has ended stays as it is."""
    parse_root(await scope.exchange.read_body(MAX_STATEMENT_BYTES), "Instance")
    row = await scope.work(scope.service.engine.instances.get, scope.project, scope.name)
    scope.service.authorize_instance(scope.exchange, row)
    if not row.ended_at:
        await scope.work(scope.service.engine.instances.cancel, row)
    await scope.exchange.reply(b"", content_type="application/xml")


async def page(scope: Scope) -> None:
    """The newest instances that the caller may see."""
    rows = await scope.work(scope.service.engine.instances.list, scope.project, scope.max_items)
    seen = [row for row in rows if scope.service.may_see_instance(scope.exchange, row)]
    await scope.reply(
        element(
            "Instances",
            element("Marker", text=""),
            element("MaxItems", text=str(scope.max_items)),
            *(
                element(
                    "Instance",
                    element("Name", text=row.id),
                    element("Owner", text=row.owner),
                    element("StartTime", text=formatdate(row.created_at, usegmt=True)),
                    element(
                        "EndTime", text=formatdate(row.ended_at or row.created_at, usegmt=True)
                    ),
                    element("Status", text=_status(row)),
                )
                for row in seen
            ),
        )
    )
