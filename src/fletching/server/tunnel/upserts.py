"""Upsert sessions of the table tunnel, which are write sessions of tables with a primary key.

There is one slot with one bucket: which rows replace which is found by the key when the session is
committed, wherever they came from. Of two records with one key the one that arrived later counts.
"""

from __future__ import annotations

from fletching.errors import InvalidArgumentError
from fletching.protocol.http.headers import RETRY_TRACE_ID
from fletching.protocol.messages.admin import DescribeTable, TableInfo
from fletching.protocol.messages.requests import (
    AbortWriteSession,
    CloseWriteStream,
    CommitWriteSession,
    CreateWriteStream,
    WriteTable,
)
from fletching.protocol.messages.responses import WriteSession
from fletching.protocol.messages.vocabulary import SessionStatus, WriteMode
from fletching.server.tunnel.tunnel_request import TunnelRequest, schema_json
from fletching.server.tunnel.uploads import find_columns, find_session, open_session, receive

__all__ = ["abort", "commit_or_create", "look_up", "write"]

_MODE = WriteMode.BATCH
_SLOT, _BUCKET = "0", 0


async def commit_or_create(request: TunnelRequest) -> None:
    """Commits a session if the request names one, and does so again if asked again; or opens one."""
    if "upsertid" in request.query:
        session = await _find(request)
        if session.status is SessionStatus.NORMAL:
            await request.call(
                CloseWriteStream(
                    table=request.table,
                    session_id=session.session_id,
                    stream_id=_SLOT,
                    write_mode=_MODE,
                )
            )
        await request.call(
            CommitWriteSession(table=request.table, session_id=session.session_id, write_mode=_MODE)
        )
        await _reply(request, await _find(request))
        return
    info: TableInfo = await request.call(DescribeTable(table=request.table))
    if not info.keyed:
        raise InvalidArgumentError(
            f"table {request.table.name} has no primary key, which an upsert goes by"
        )
    session = await open_session(request, _MODE)
    await request.call(
        CreateWriteStream(
            table=request.table, session_id=session.session_id, stream_id=_SLOT, write_mode=_MODE
        )
    )
    await _reply(request, session)


async def look_up(request: TunnelRequest) -> None:
    """Says how a session is."""
    await _reply(request, await _find(request))


async def _find(request: TunnelRequest) -> WriteSession:
    return await find_session(request, request.text("upsertid"), _MODE)


async def _reply(request: TunnelRequest, session: WriteSession) -> None:
    schema = session.opened_schema
    assert schema is not None
    info: TableInfo = await request.call(DescribeTable(table=request.table))
    await request.reply(
        {
            "id": session.session_id,
            "status": session.status.value.lower(),
            "schema": schema_json(schema),
            "slots": [{"slot_id": _SLOT, "worker_addr": request.server, "buckets": [_BUCKET]}],
            "hash_key": list(info.primary_key),
            "hasher": "default",
            "enable_partial_update": False,
            "quota_name": "",
        }
    )


async def write(request: TunnelRequest) -> None:
    """Takes records."""
    session_id = request.text("upsertid")
    found = await find_columns(request, session_id, _MODE)
    if request.count("bucketid") != _BUCKET or request.text("slotid") != _SLOT:
        raise InvalidArgumentError(f"the session has slot {_SLOT} with bucket {_BUCKET} alone")
    await receive(
        request,
        found,
        WriteTable(
            table=request.table,
            session_id=session_id,
            stream_id=_SLOT,
            write_mode=_MODE,
            schema_version=found.schema_version,
            retry_trace_id=request.exchange.header(RETRY_TRACE_ID) or None,
        ),
        upsert=True,
    )
    await request.exchange.reply(b"")


async def abort(request: TunnelRequest) -> None:
    """Drops a session and what was written to it."""
    await request.call(
        AbortWriteSession(
            table=request.table, session_id=request.text("upsertid"), write_mode=_MODE
        )
    )
    await request.reply({})
