"""Stream uploads of the table tunnel, which are streaming write sessions: rows are visible at once.

There is one slot a session, which any server serves. A pack that is sent again is told by its trace id.
"""

from __future__ import annotations

from fletching.errors import InvalidArgumentError, NoSuchSchemaError
from fletching.protocol.http.headers import RETRY_TRACE_ID
from fletching.protocol.messages.admin import DescribeTable, TableInfo
from fletching.protocol.messages.requests import AbortWriteSession, CreateWriteStream, WriteTable
from fletching.protocol.messages.responses import WriteSession
from fletching.protocol.messages.vocabulary import WriteMode
from fletching.server.tunnel.tunnel_request import TunnelRequest, schema_json
from fletching.server.tunnel.uploads import find_columns, find_session, open_session, receive

__all__ = ["abort_or_create", "look_up", "write"]

SLOT = "0"
_MODE = WriteMode.STREAMING


async def abort_or_create(request: TunnelRequest) -> None:
    """Ends a session if the request names one: its rows stay. Opens one otherwise."""
    if "uploadid" in request.query:
        await request.call(
            AbortWriteSession(
                table=request.table, session_id=request.text("uploadid"), write_mode=_MODE
            )
        )
        await request.reply({})
        return
    if request.flag("dynamic_partition"):
        raise InvalidArgumentError("streams name their partition; dynamic_partition is not taken")
    wanted = request.query.get("schema_version", "")
    if wanted:
        info: TableInfo = await request.call(DescribeTable(table=request.table))
        if wanted != str(info.schema_version):
            raise NoSuchSchemaError(
                f"table {request.table.name} has version {info.schema_version} of its schema, not"
                f" {wanted[:20]}"
            )
    session = await open_session(request, _MODE)
    await request.call(
        CreateWriteStream(
            table=request.table, session_id=session.session_id, stream_id=SLOT, write_mode=_MODE
        )
    )
    await _reply(request, session)


async def look_up(request: TunnelRequest) -> None:
    """Says where a session's slots are."""
    await _reply(request, await find_session(request, request.text("uploadid"), _MODE))


async def _reply(request: TunnelRequest, session: WriteSession) -> None:
    assert session.opened_schema is not None
    document: dict[str, object] = {
        "session_name": session.session_id,
        "status": session.status.value.lower(),
        "schema": schema_json(session.opened_schema),
        "slots": [[SLOT, request.server]],
        "schema_version": str(session.schema_version),
        "last_batch_id": None,
        "last_batch_commit_time": None,
        "QuotaName": "",
    }
    await request.reply(document)


async def write(request: TunnelRequest) -> None:
    """Takes a pack; its rows are visible when this is answered."""
    session_id = request.text("uploadid")
    found = await find_columns(request, session_id, _MODE)
    if request.text("slotid") != SLOT:
        raise InvalidArgumentError(f"the session has slot {SLOT} alone")
    await receive(
        request,
        found,
        WriteTable(
            table=request.table,
            session_id=session_id,
            stream_id=SLOT,
            write_mode=_MODE,
            schema_version=found.schema_version,
            retry_trace_id=request.exchange.header(RETRY_TRACE_ID) or None,
        ),
    )
    headers = {"odps-tunnel-routed-server": request.server, "odps-tunnel-slot-num": "1"}
    await request.exchange.reply(b"", headers=headers)
