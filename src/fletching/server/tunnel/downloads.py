"""Download sessions of the table tunnel, which are read sessions; and previews, which have none.

A session pins a version of the table: its rows have a fixed order and number for as long as it lives,
so that a reader which was cut off goes on at its row.
"""

from __future__ import annotations

import re

from fletching.engine.reading.read_plan import ReadPlan
from fletching.errors import InvalidArgumentError
from fletching.protocol.http.numbers import parse_count
from fletching.protocol.messages.admin import DescribeTable
from fletching.protocol.messages.requests import (
    CreateReadSession,
    GetReadSession,
    PreviewTable,
    ReadTable,
)
from fletching.protocol.messages.responses import ReadSession
from fletching.protocol.messages.vocabulary import MAX_PREVIEW_ROWS
from fletching.server.api.response_body import reply_with_plan
from fletching.server.tunnel.tunnel_replies import reply_with_rows
from fletching.server.tunnel.tunnel_request import TunnelRequest, schema_json

__all__ = ["create", "look_up", "preview", "row_range", "send_rows"]

_RANGE = re.compile(r"\(\s*([0-9]{1,18})\s*,\s*([0-9]{1,18})\s*\)")


async def create(request: TunnelRequest) -> None:
    """Opens a session over a table, or over one partition of a partitioned one."""
    info = await request.call(DescribeTable(table=request.table))
    partition = await request.check_partition(info.schema)
    session = await request.call(
        CreateReadSession(
            table=request.table, required_partitions=(partition,) if partition else ()
        )
    )
    await _reply(request, session)


async def look_up(request: TunnelRequest) -> None:
    """Says what a session holds."""
    session_id = request.text("downloadid")
    session = await request.call(GetReadSession(table=request.table, session_id=session_id))
    await _reply(request, session)


async def _reply(request: TunnelRequest, session: ReadSession) -> None:
    await request.reply(
        {
            "DownloadID": session.session_id,
            "Status": session.status.value.lower(),
            "RecordCount": session.record_count,
            "Schema": schema_json(session.schema),
            "QuotaName": request.quota,
            "SupportReadByRawSize": False,
        }
    )


async def send_rows(request: TunnelRequest) -> None:
    """Sends rows of a session: records with columns in the order asked for, or Arrow in the table's."""
    service = request.service
    arrow = request.flag("arrow") or request.query.get("arrow") == ""
    start, count = row_range(request.text("rowrange"))
    wanted = tuple(name for name in request.query.get("columns", "").split(",") if name)
    look = GetReadSession(table=request.table, session_id=request.text("downloadid"))
    service.authorize(request.exchange, look)

    def plan() -> ReadPlan:
        session = service.engine.call(look)
        columns = wanted or tuple(column.name for column in session.schema.data_columns)
        return service.engine.read(
            ReadTable(
                table=look.table,
                session_id=look.session_id,
                offset=start,
                count=count,
                data_columns=columns,
                data_columns_unordered=not arrow,
            )
        )

    await reply_with_rows(request.exchange, service, plan, arrow=arrow)


def row_range(text: str) -> tuple[int, int]:
    """Reads a row range: ``(first row, number of rows)``.

    Raises:
        InvalidArgumentError: it has another form.
    """
    match = _RANGE.fullmatch(text)
    if match is None:
        raise InvalidArgumentError(f"rowrange is {text[:60]!r}, not (first row,number of rows)")
    return int(match[1]), int(match[2])


async def preview(request: TunnelRequest) -> None:
    """Sends the first rows of a table as a whole Arrow stream."""
    text = request.query.get("limit", "-1")
    limit = None if text == "-1" else parse_count(text)
    if limit is None and text != "-1":
        raise InvalidArgumentError(f"limit is {text[:20]!r}, not a count")
    service = request.service
    wanted = PreviewTable(
        table=request.table,
        limit=None if limit is None else min(limit, MAX_PREVIEW_ROWS),
        partition=request.partition,
        columns=tuple(name for name in request.query.get("columns", "").split(",") if name),
    )
    service.authorize(request.exchange, wanted)
    with service.reads.enter():
        await reply_with_plan(
            request.exchange,
            lambda: service.engine.read(wanted),
            service.workers.cpu,
            group_bytes=max(service.settings.read_memory_bytes // 4, 1),
        )
