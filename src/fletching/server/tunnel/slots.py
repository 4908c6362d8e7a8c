"""Sessions of one slot: what stream uploads and upserts have in common.

Clients spread what they write over the slots that a session names, each at a server of its own. Here
every server takes everything, so that there is one slot, a write stream of the session.
"""

from __future__ import annotations

from fletching.errors import InvalidArgumentError
from fletching.protocol.http.headers import RETRY_TRACE_ID
from fletching.protocol.messages.requests import CreateWriteStream, WriteTable
from fletching.protocol.messages.responses import WriteSession
from fletching.protocol.messages.vocabulary import WriteMode
from fletching.server.tunnel.tunnel_request import TunnelRequest
from fletching.server.tunnel.uploads import find_columns, open_session, receive

__all__ = ["SLOT", "open_slot", "receive_records"]

SLOT = "0"


async def open_slot(request: TunnelRequest, mode: WriteMode) -> WriteSession:
    """Opens a session and its slot.

    Raises:
        FletchingError: what `open_session` raises.
    """
    session = await open_session(request, mode)
    await request.call(
        CreateWriteStream(
            table=request.table, session_id=session.session_id, stream_id=SLOT, write_mode=mode
        )
    )
    return session


async def receive_records(
    request: TunnelRequest, session_id: str, mode: WriteMode, *, upsert: bool = False
) -> None:
    """Takes records into a session's slot; those that are sent again, told by their trace id, add nothing.

    Raises:
        NotFoundError: there is no session of this kind.
        InvalidArgumentError: the request names another slot.
        FletchingError: what `receive` raises.
    """
    result = await find_columns(request, session_id, mode)
    if request.text("slotid") != SLOT:
        raise InvalidArgumentError(f"the session has slot {SLOT} alone")
    await receive(
        request,
        result,
        WriteTable(
            table=request.table,
            session_id=session_id,
            stream_id=SLOT,
            write_mode=mode,
            schema_version=result.schema_version,
            retry_trace_id=request.exchange.header(RETRY_TRACE_ID) or None,
        ),
        upsert=upsert,
    )
