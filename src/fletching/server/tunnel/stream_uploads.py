"""Stream uploads of the table tunnel, which are streaming write sessions: rows are visible at once.

There is one slot a session, which any server serves. A pack that is sent again is told by its trace id.
"""

from __future__ import annotations

from fletching.errors import InvalidArgumentError, NoSuchSchemaError
from fletching.protocol.messages.admin import DescribeTable
from fletching.protocol.messages.responses import WriteSession
from fletching.protocol.messages.vocabulary import WriteMode
from fletching.server.tunnel.slots import SLOT, open_slot, receive_records
from fletching.server.tunnel.tunnel_request import TunnelRequest, schema_json
from fletching.server.tunnel.uploads import drop_session, find_session

__all__ = ["abort_or_create", "look_up", "write"]

_MODE = WriteMode.STREAMING


async def abort_or_create(request: TunnelRequest) -> None:
    """Ends a session if the request names one: its rows stay. Opens one otherwise."""
    if "uploadid" in request.query:
        await drop_session(request, request.text("uploadid"), _MODE)
        await request.reply({})
        return
    if request.flag("dynamic_partition"):
        raise InvalidArgumentError("streams name their partition; dynamic_partition is not taken")
    wanted = request.query.get("schema_version", "")
    if wanted:
        info = await request.call(DescribeTable(table=request.table))
        if wanted != str(info.schema_version):
            raise NoSuchSchemaError(
                f"table {request.table.name} has version {info.schema_version} of its schema, not"
                f" {wanted[:20]}"
            )
    await _reply(request, await open_slot(request, _MODE))


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
        "QuotaName": request.quota,
    }
    await request.reply(document)


async def write(request: TunnelRequest) -> None:
    """Takes a pack; its rows are visible when this is answered."""
    await receive_records(request, request.text("uploadid"), _MODE)
    headers = {"odps-tunnel-routed-server": request.server, "odps-tunnel-slot-num": "1"}
    await request.exchange.reply(b"", headers=headers)
