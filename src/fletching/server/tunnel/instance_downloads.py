"""The instance tunnel: rows that a statement chose, with their types.

Part of docs/conformance.md, "Table tunnel".

::

    I = /projects/{p}/instances/{id}

    POST  I?downloads[&instance_tunnel_limit_enabled]    opens a session
    GET   I?downloadid                                   looks it up
    GET   I?data&downloadid&rowrange[&columns][&arrow]   its rows
    GET   I?cached&taskname&queryid&data[&arrow]         all rows of a session's statement, with the
                                                         schema in a reply header

A result never changes, so a session's id is its instance's; with the limit there are no rows behind the
first `LIMITED_ROWS`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json

from fletching.engine.query.instances import InstanceRow
from fletching.engine.reading.read_plan import ReadPlan
from fletching.errors import ExpiredSessionError, InvalidArgumentError, ServiceError
from fletching.protocol.http.headers import USER_AGENT
from fletching.protocol.messages.requests import ReadInstance
from fletching.protocol.messages.responses import TableSchema
from fletching.server.http.exchange import Exchange
from fletching.server.metadata.interactive_resources import is_before_0_13, statement_id
from fletching.server.service import Service
from fletching.server.tunnel.downloads import row_range
from fletching.server.tunnel.tunnel_replies import reply_with_rows
from fletching.server.tunnel.tunnel_request import schema_json

__all__ = ["InstanceTunnelRequest", "create", "look_up", "send_all_rows", "send_rows"]

LIMITED_ROWS = 10_000
"""Rows of a session that was opened with the limit."""

WAIT_SECONDS = 5.0
"""How long opening a session waits for the statement's end."""

SCHEMA_HEADER = "odps-tunnel-schema"

_LIMITED = ".limited"


@dataclasses.dataclass(frozen=True)
class InstanceTunnelRequest:
    """One request to an instance's tunnel.

    Attributes:
        exchange: the request and its reply.
        service: the engine and its limits.
        project, instance_id: from the path.
    """

    exchange: Exchange
    service: Service
    project: str
    instance_id: str

    @property
    def query(self) -> dict[str, str]:
        """The query parameters; flags have an empty value."""
        return dict(self.exchange.query)

    async def result(self, instance_id: str = "") -> _Result:
        """What the instance chose, once it has ended.

        Args:
            instance_id: another than the path's.

        Raises:
            NotFoundError: there is no such instance, or the caller may not see it.
            InvalidArgumentError: it has not ended yet (code InstanceNotTerminate), or it chose no rows
                (code InstanceTypeNotSupported), whereupon clients ask for its text.
            ServiceError: the statement failed: its own code and message.
        """
        instances = self.service.engine.instances
        wanted = instance_id or self.instance_id

        def look() -> _Result | None:
            row = instances.get(self.project, wanted)
            self.service.authorize_instance(self.exchange, row)
            if not row.ended_at:
                return None
            failure = instances.state(row).error if not row.succeeded else None
            if failure is not None and not instances.cancelled(row):
                # Clients of query acceleration ask for rows first, and learn of the failure here. Always
                # 400, since they would repeat a request that got the statuses of some failures.
                _, code, message = failure
                raise ServiceError(message, http_status=400, code=code or "InvalidArgument")
            if not instances.has_rows(row):
                raise InvalidArgumentError(
                    f"instance {row.id} chose no rows: only those of a SELECT that succeeded can be"
                    " downloaded",
                    code="InstanceTypeNotSupported",
                )
            return _Result(row, instances.result_schema(row), instances.result_rows(row))

        rest, pause = WAIT_SECONDS, 0.01
        while True:
            result = await self.service.workers.query.run(look)
            if result is not None:
                return result
            if rest <= 0:
                raise InvalidArgumentError(
                    f"instance {wanted} has not ended yet", code="InstanceNotTerminate"
                )
            # No thread waits: a few clients that wait for long statements would hold them all.
            await asyncio.sleep(min(pause, rest))
            rest, pause = rest - pause, min(pause * 1.5, 0.5)


@dataclasses.dataclass(frozen=True, slots=True)
class _Result:
    """The rows of a statement that has ended."""

    row: InstanceRow
    schema: TableSchema
    rows: int


async def create(request: InstanceTunnelRequest) -> None:
    """Opens a session."""
    result = await request.result()
    limited = "instance_tunnel_limit_enabled" in request.query
    await _reply(request, result, limited=limited)


async def look_up(request: InstanceTunnelRequest) -> None:
    """Says what a session holds."""
    result = await request.result()
    await _reply(request, result, limited=_limited(request))


def _limited(request: InstanceTunnelRequest) -> bool:
    """Whether a session was opened with the limit.

    Raises:
        ExpiredSessionError: the instance has no such session.
    """
    session_id = request.query.get("downloadid", "")
    if session_id not in {request.instance_id, request.instance_id + _LIMITED}:
        raise ExpiredSessionError(
            f"instance {request.instance_id} has no session {session_id[:100]!r}"
        )
    return session_id.endswith(_LIMITED)


async def _reply(request: InstanceTunnelRequest, result: _Result, *, limited: bool) -> None:
    document = {
        "DownloadID": request.instance_id + (_LIMITED if limited else ""),
        "Status": "normal",
        "RecordCount": min(result.rows, LIMITED_ROWS) if limited else result.rows,
        "Schema": schema_json(result.schema),
        "QuotaName": request.query.get("quotaName", ""),
        "SupportReadByRawSize": False,
    }
    await request.exchange.reply(json.dumps(document, ensure_ascii=False).encode())


async def send_rows(request: InstanceTunnelRequest) -> None:
    """Sends rows of a session."""
    limited = _limited(request)
    start, count = row_range(request.query.get("rowrange", ""))
    result = await request.result()
    if limited:
        count = min(count, max(LIMITED_ROWS - start, 0))
    await _send(request, result, start, count)


async def send_all_rows(request: InstanceTunnelRequest) -> None:
    """Sends all rows of a statement that a session of query acceleration ran."""
    number = request.query.get("queryid", "")
    result = await request.result(statement_id(request.instance_id, number))
    schema = json.dumps(schema_json(result.schema))
    await _send(request, result, 0, result.rows, {SCHEMA_HEADER: schema})


async def _send(
    request: InstanceTunnelRequest,
    result: _Result,
    start: int,
    count: int,
    headers: dict[str, str] | None = None,
) -> None:
    query = request.query
    arrow = "arrow" in query
    columns = tuple(name for name in query.get("columns", "").split(",") if name)
    if arrow and columns:
        # Records come in the order that is asked for, batches in the result's own.
        wanted = {name.casefold() for name in columns}
        known = [column.name for column in result.schema.data_columns]
        if len(wanted - {name.casefold() for name in known}) == 0:
            columns = tuple(name for name in known if name.casefold() in wanted)
    read = ReadInstance(
        project=request.project,
        instance_id=result.row.id,
        session_id=result.row.id,
        offset=start,
        count=count,
        columns=columns,
    )

    def plan() -> ReadPlan:
        return request.service.engine.read(read)

    await reply_with_rows(
        request.exchange,
        request.service,
        plan,
        arrow=arrow,
        # Timestamps as structs of seconds and nanoseconds: others take the buffers for timestamps.
        moments=not is_before_0_13(request.exchange.header(USER_AGENT)),
        headers=headers,
    )
