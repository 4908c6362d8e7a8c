"""Upload sessions of the table tunnel, which are write sessions of blocks.

Blocks of one session come from any number of processes and through any server; what was written last
to a block counts, and a commit takes every block there is, in the order of their numbers.
"""

from __future__ import annotations

import contextlib
import functools
import re

from fletching.engine.writing.ingest import Ingest
from fletching.errors import InvalidArgumentError, NotFoundError
from fletching.protocol.http.headers import CONTENT_ENCODING
from fletching.protocol.http.tunnel_bodies import (
    arrow_body_decoder,
    record_body_decoder,
    tunnel_columns,
)
from fletching.protocol.messages.admin import CreatePartition, DescribeTable
from fletching.protocol.messages.requests import (
    AbortWriteSession,
    CommitWriteSession,
    CreateWriteSession,
    GetWriteSchema,
    GetWriteSession,
    WriteBlock,
    WriteTable,
)
from fletching.protocol.messages.responses import WriteSchema, WriteSession
from fletching.protocol.messages.vocabulary import SessionStatus, WriteMode
from fletching.server.api.ingest_endpoint import receive_ingest
from fletching.server.tunnel.tunnel_request import TunnelRequest, schema_json

__all__ = [
    "abort",
    "commit",
    "create",
    "drop_session",
    "find_columns",
    "find_session",
    "look_up",
    "open_session",
    "receive",
    "write",
]

MAX_FIELD_BYTES = 64 << 20
"""The longest value that clients are told to send; a row may be twice as long."""
MAX_BLOCK = 1 << 31

_MODE = WriteMode.BATCH_COMPATIBLE
_BLOCK = re.compile(r"block-([0-9]{1,18})-attempt-0")
_WORDS = {
    SessionStatus.NORMAL: "normal",
    SessionStatus.COMMITTED: "closed",
    SessionStatus.EXPIRED: "expired",
}


async def create(request: TunnelRequest) -> None:
    """Opens a session for a table, or for one partition of a partitioned one."""
    session = await open_session(request, _MODE, overwrite=request.flag("overwrite"))
    await _reply(request, session)


async def open_session(
    request: TunnelRequest, mode: WriteMode, *, overwrite: bool = False
) -> WriteSession:
    """Opens a write session for what the request names; makes the partition if it says so.

    Raises:
        InvalidArgumentError: the partition is missing, not whole, or the table has none.
        NoSuchPartitionError: it does not exist.
    """
    wanted = CreateWriteSession(table=request.table, write_mode=mode, overwrite=overwrite)
    request.service.authorize(request.exchange, wanted)
    info = await request.call(DescribeTable(table=request.table))
    if request.flag("create_partition") or request.query.get("create_partition") == "":
        partition = request.whole_partition(info.schema)
        if partition:
            await request.call(
                CreatePartition(table=request.table, partition=partition, if_not_exists=True)
            )
    else:
        partition = await request.check_partition(info.schema)
    return await request.call(
        CreateWriteSession(
            table=request.table, write_mode=mode, partition=partition, overwrite=overwrite
        )
    )


async def find_session(request: TunnelRequest, session_id: str, mode: WriteMode) -> WriteSession:
    """The session of a request.

    Raises:
        NotFoundError: there is none of this kind.
    """
    session = await request.call(
        GetWriteSession(table=request.table, session_id=session_id, write_mode=mode)
    )
    _check_kind(session_id, session.write_mode, mode)
    return session


def _check_kind(session_id: str, mode: WriteMode | None, wanted: WriteMode) -> None:
    if mode is not wanted:
        raise NotFoundError(f"session {session_id[:80]!r} is not one of this tunnel")


async def find_columns(request: TunnelRequest, session_id: str, mode: WriteMode) -> WriteSchema:
    """What a body for a session is taken by: found without what the session holds already.

    Raises:
        NotFoundError: there is no session of this kind.
    """
    result = await request.call(GetWriteSchema(table=request.table, session_id=session_id))
    _check_kind(session_id, result.write_mode, mode)
    return result


async def _find(request: TunnelRequest) -> WriteSession:
    return await find_session(request, request.text("uploadid"), _MODE)


async def look_up(request: TunnelRequest) -> None:
    """Says which blocks a session has."""
    await _reply(request, await _find(request))


async def _reply(request: TunnelRequest, session: WriteSession) -> None:
    assert session.opened_schema is not None
    blocks = sorted(int(match[1]) for match in map(_BLOCK.fullmatch, session.streams) if match)
    await request.reply(
        {
            "UploadID": session.session_id,
            "Status": _WORDS[session.status],
            "Schema": schema_json(session.opened_schema),
            "UploadedBlockList": [{"BlockID": number} for number in blocks],
            "MaxFieldSize": MAX_FIELD_BYTES,
            "QuotaName": request.quota,
        }
    )


async def write(request: TunnelRequest) -> None:
    """Takes a block."""
    number = request.count("blockid")
    if number >= MAX_BLOCK:
        raise InvalidArgumentError(f"block {number} is not below {MAX_BLOCK}", limit=MAX_BLOCK)
    session_id = request.text("uploadid")
    result = await find_columns(request, session_id, _MODE)
    await receive(
        request,
        result,
        WriteBlock(
            table=request.table,
            session_id=session_id,
            stream_id="",
            write_mode=_MODE,
            block_number=number,
            schema_version=result.schema_version,
        ),
        arrow=request.query.get("arrow") == "" or request.flag("arrow"),
    )
    await request.exchange.reply(b"")


async def receive(
    request: TunnelRequest,
    write_schema: WriteSchema,
    write_table: WriteTable,
    *,
    arrow: bool = False,
    upsert: bool = False,
) -> None:
    """Takes the body of a request into a session.

    Raises:
        WireError: the body is malformed, damaged or cut.
        ServiceError: a value does not fit the table, or the session does not take it; or 408, 429.
        ConnectionBrokenError: the client disappeared in mid-body.
    """
    exchange, service = request.exchange, request.service
    service.authorize(exchange, write_table)
    assert write_schema.opened_schema is not None
    # A body does not say which columns it has: those that its client was told.
    columns = tunnel_columns(write_schema.opened_schema.data_columns)
    coding = exchange.header(CONTENT_ENCODING)
    decoder = (
        arrow_body_decoder(columns, coding)
        if arrow
        else record_body_decoder(columns, coding, upsert=upsert)
    )

    opening: functools.partial[Ingest] = functools.partial(service.engine.open_ingest, write_table)
    with service.bodies.enter():
        await receive_ingest(exchange, opening, service.workers, service.memory, decoder)


async def commit(request: TunnelRequest) -> None:
    """Makes the rows of all blocks visible; a repetition changes nothing and gets the same answer."""
    session = await _find(request)
    await request.call(
        CommitWriteSession(table=request.table, session_id=session.session_id, write_mode=_MODE)
    )
    await _reply(request, await _find(request))


async def abort(request: TunnelRequest) -> None:
    """Drops a session and its blocks."""
    await drop_session(request, request.text("uploadid"), _MODE)
    await request.exchange.reply(b"")


async def drop_session(request: TunnelRequest, session_id: str, mode: WriteMode) -> None:
    """Drops a session, or one that was dropped before, with what is not visible of it yet.

    Raises:
        NotFoundError: there is none of this kind.
    """
    result: WriteSchema | None = None
    with contextlib.suppress(NotFoundError):
        # One that was dropped is not found any more: whether there ever was one is told below.
        result = await request.call(GetWriteSchema(table=request.table, session_id=session_id))
    if result is not None:
        _check_kind(session_id, result.write_mode, mode)
    await request.call(
        AbortWriteSession(table=request.table, session_id=session_id, write_mode=mode)
    )
