"""Upsert sessions of the table tunnel, which are write sessions of tables with a primary key.

There is one slot with one bucket: which rows replace which is found by the key when the session is
committed, wherever they came from. Of two records with one key the one that arrived later counts.
"""

from __future__ import annotations

from fletching.errors import ConflictError, InvalidArgumentError
from fletching.protocol.messages.admin import DescribeTable
from fletching.protocol.messages.requests import CloseWriteStream, CommitWriteSession
from fletching.protocol.messages.responses import WriteSession
from fletching.protocol.messages.vocabulary import SessionStatus, WriteMode
from fletching.server.tunnel.slots import SLOT, open_slot, receive_records
from fletching.server.tunnel.tunnel_request import TunnelRequest, schema_json
from fletching.server.tunnel.uploads import drop_session, find_session

__all__ = ["abort", "commit_or_create", "look_up", "write"]

_MODE = WriteMode.BATCH
_BUCKET = 0


async def commit_or_create(request: TunnelRequest) -> None:
    """Commits a session if the request names one, and does so again if asked again; or opens one."""
    if "upsertid" in request.query:
        session = await _find(request)
        if session.status is SessionStatus.NORMAL:
            await _close(request, session.session_id)
        await request.call(
            CommitWriteSession(table=request.table, session_id=session.session_id, write_mode=_MODE)
        )
        await _reply(request, await _find(request))
        return
    info = await request.call(DescribeTable(table=request.table))
    if not info.keyed:
        raise InvalidArgumentError(
            f"table {request.table.name} has no primary key, which an upsert goes by"
        )
    await _reply(request, await open_slot(request, _MODE))


async def _close(request: TunnelRequest, session_id: str) -> None:
    """Ends the slot of a session, unless somebody committed it in this moment."""
    try:
        await request.call(
            CloseWriteStream(
                table=request.table, session_id=session_id, stream_id=SLOT, write_mode=_MODE
            )
        )
    except ConflictError:
        if (await _find(request)).status is not SessionStatus.COMMITTED:
            raise


async def look_up(request: TunnelRequest) -> None:
    """Says how a session is."""
    await _reply(request, await _find(request))


async def _find(request: TunnelRequest) -> WriteSession:
    return await find_session(request, request.text("upsertid"), _MODE)


async def _reply(request: TunnelRequest, session: WriteSession) -> None:
    schema = session.opened_schema
    assert schema is not None
    info = await request.call(DescribeTable(table=request.table))
    await request.reply(
        {
            "id": session.session_id,
            "status": session.status.value.lower(),
            "schema": schema_json(schema),
            "slots": [{"slot_id": SLOT, "worker_addr": request.server, "buckets": [_BUCKET]}],
            "hash_key": list(info.primary_key),
            "hasher": "default",
            "enable_partial_update": False,
            "quota_name": request.quota,
        }
    )


async def write(request: TunnelRequest) -> None:
    """Takes records."""
    if request.count("bucketid") != _BUCKET:
        raise InvalidArgumentError(f"the session has bucket {_BUCKET} alone")
    await receive_records(request, request.text("upsertid"), _MODE, upsert=True)
    await request.exchange.reply(b"")


async def abort(request: TunnelRequest) -> None:
    """Drops a session and what was written to it."""
    await drop_session(request, request.text("upsertid"), _MODE)
    await request.reply({})
