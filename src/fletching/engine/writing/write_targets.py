"""What a write request is about: table, session and stream, found and checked in a transaction."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import re
from typing import Protocol

from sqlalchemy import Connection

from fletching.catalog import table_rows as catalog_tables
from fletching.catalog import write_session_rows as write_sessions
from fletching.catalog import write_stream_rows as write_streams
from fletching.catalog.table_rows import TableRow
from fletching.catalog.write_session_rows import WriteSessionRow
from fletching.catalog.write_stream_rows import WriteStreamRow
from fletching.engine.context import EngineContext
from fletching.engine.tables.schema_checks import check_no_view
from fletching.engine.writing.states import SessionEvent, SessionState, next_session_state
from fletching.errors import InvalidArgumentError, NoPermissionError, NotFoundError
from fletching.protocol.messages.requests import DEFAULT_SESSION_ID
from fletching.protocol.messages.vocabulary import MAX_IDENTIFIER, MAX_TRACE_ID, WriteMode
from fletching.types import TableName, is_text

__all__ = [
    "FAR_FUTURE",
    "WriteTarget",
    "check_stream_name",
    "check_token",
    "check_trace_id",
    "find_session",
    "find_stream",
    "find_target",
    "keep_alive",
    "session_state",
    "stream_name",
    "token_digest",
]

FAR_FUTURE = 253_402_300_799.0
"""When a ``default`` session expires: 9999-12-31, that is, never."""

_NAME = re.compile(rf"[^\x00-\x1f\x7f]{{1,{MAX_IDENTIFIER}}}")
_MAX_VERSION = (1 << 63) - 1


@dataclasses.dataclass(frozen=True, slots=True)
class WriteTarget:
    """A table and one of its write sessions."""

    table: TableRow
    session: WriteSessionRow
    mode: WriteMode
    is_default: bool


def stream_name(stream_id: str, version: int) -> str:
    """How messages call an attempt."""
    return f"{stream_id!r} version {version}"


def session_state(session: WriteSessionRow, now: float) -> SessionState:
    """The session's state at a time."""
    state = SessionState(session.state)
    if state is SessionState.NORMAL and session.expires_at <= now:
        return SessionState.EXPIRED
    return state


def find_session(
    connection: Connection,
    context: EngineContext,
    name: TableName,
    session_id: str,
    mode: WriteMode,
    *,
    event: SessionEvent,
    lock: bool,
) -> WriteTarget:
    """The table and session of a request, if the session allows what is asked.

    The ``default`` session of a table and streaming mode comes into being at its first use, which
    needs a ``write`` transaction (``lock``).

    Raises:
        NotFoundError: no such session, or NoSuchTableError, ExpiredSessionError.
        ConflictError: the session is committed.
    """
    table = check_no_view(catalog_tables.get_table(connection, name))
    now = context.clock()
    is_default = session_id == DEFAULT_SESSION_ID
    if is_default:
        # A client of API version 2 says only "default", and means streaming.
        mode = mode if mode.is_streaming else WriteMode.STREAMING
        session = write_sessions.find_default_session(
            connection, table.id, session_id, mode.value, lock=lock
        )
        if session is None and lock:
            # Without the table's lock: sessions are locked before tables, by everybody.
            session = write_sessions.ensure_default_session(
                connection,
                session_id=session_id,
                table_id=table.id,
                write_mode=mode.value,
                state=SessionState.NORMAL.value,
                schema_version=table.schema_version,
                now=now,
                expires_at=FAR_FUTURE,
            )
    else:
        session = write_sessions.find_write_session(connection, table.id, session_id, lock=lock)
    if session is None:
        raise NotFoundError(f"there is no write session {session_id[:80]!r} of table {name}")
    next_session_state(session_state(session, now), event, session_id)
    return WriteTarget(table, session, WriteMode(session.write_mode), is_default)


class SessionRequest(Protocol):
    """A request about a write session; of one that says no mode it is ``BATCH``."""

    @property
    def table(self) -> TableName:
        """The session's table."""

    @property
    def session_id(self) -> str:
        """The session."""


def find_target(
    connection: Connection,
    context: EngineContext,
    request: SessionRequest,
    event: SessionEvent,
    *,
    lock: bool = True,
) -> WriteTarget:
    """What a request is about; see `find_session`."""
    mode: WriteMode = getattr(request, "write_mode", WriteMode.BATCH)
    return find_session(
        connection, context, request.table, request.session_id, mode, event=event, lock=lock
    )


def keep_alive(connection: Connection, context: EngineContext, target: WriteTarget) -> None:
    """Lets a session live on from now: somebody writes to it."""
    if not target.is_default:
        expires_at = context.clock() + context.settings.write_session_seconds
        write_sessions.extend_write_session(connection, target.session.pk, expires_at)


def check_stream_name(stream_id: str, version: int) -> None:
    """Refuses stream ids and versions that cannot be.

    Raises:
        InvalidArgumentError: empty, too long, with control characters, or a negative version.
    """
    if not _NAME.fullmatch(stream_id):
        raise InvalidArgumentError(
            f"stream id {stream_id[:80]!r} is not 1 to {MAX_IDENTIFIER} characters without control"
            " characters"
        )
    if not 0 <= version <= _MAX_VERSION:
        raise InvalidArgumentError(f"stream version {version} is not a number from 0 up")


def check_trace_id(trace_id: str | None) -> None:
    """Refuses a retry trace id that cannot be kept as it is.

    Raises:
        InvalidArgumentError: it is too long, or no text.
    """
    if trace_id is not None and not is_text(trace_id):
        raise InvalidArgumentError("a retry trace id is text in UTF-8")
    if trace_id is not None and len(trace_id) > MAX_TRACE_ID:
        raise InvalidArgumentError(
            f"a retry trace id has at most {MAX_TRACE_ID} characters, not {len(trace_id)}",
            limit=MAX_TRACE_ID,
            actual=len(trace_id),
        )


def find_stream(
    connection: Connection, target: WriteTarget, stream_id: str, version: int
) -> WriteStreamRow:
    """One attempt of a session.

    Raises:
        NotFoundError: it was never created.
    """
    check_stream_name(stream_id, version)
    stream = write_streams.find_write_stream(connection, target.session.pk, stream_id, version)
    if stream is None:
        raise NotFoundError(
            f"there is no write stream {stream_name(stream_id, version)} in session "
            f"{target.session.id}; create it first"
        )
    return stream


def token_digest(token: str) -> bytes:
    """What the catalog keeps of an access token: a leaked catalog opens no stream."""
    return hashlib.sha256(token.encode()).digest()


def check_token(stream: WriteStreamRow, token: str | None) -> None:
    """Fences off whoever does not hold the stream's newest access token.

    Raises:
        NoPermissionError: wrong, missing or superseded.
    """
    name = stream_name(stream.stream_id, stream.stream_version)
    if not stream.exactly_once:
        if token:
            raise NoPermissionError(
                f"write stream {name} was created again without exactly-once mode; "
                "this access token is superseded"
            )
        return
    if not token or not hmac.compare_digest(stream.token_digest or b"", token_digest(token)):
        raise NoPermissionError(
            f"the access token of write stream {name} is missing, wrong or superseded; "
            "look the stream up to take it over"
        )
