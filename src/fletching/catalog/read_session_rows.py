"""Read sessions: the snapshots that readers hold, and until when."""

from __future__ import annotations

import dataclasses

from sqlalchemy import Connection, bindparam, delete, func, insert, select, text, update

from fletching.catalog.database import HOLDS_SNAPSHOTS, PINNING_LOCK
from fletching.catalog.schema import read_sessions

__all__ = [
    "ReadSessionRow",
    "count_open_read_sessions",
    "exclude_pinning",
    "extend_read_session",
    "find_read_session",
    "forget_read_session",
    "hold_snapshots",
    "insert_read_session",
    "plan_read_session",
]


@dataclasses.dataclass(frozen=True, slots=True)
class ReadSessionRow:
    """A row of ``read_sessions``."""

    id: str
    table_id: str
    table_version: int
    request: bytes
    plan: bytes | None
    created_at: float
    expires_at: float
    since_version: int | None = None
    """Of a change feed: the version that it begins after."""


# Made once: making an expression costs more than sending it.
_INSERT = insert(read_sessions)
_FIND = select(read_sessions).where(read_sessions.c.id == bindparam("session_id"))
_OPEN = select(read_sessions.c.id).where(read_sessions.c.expires_at > bindparam("now"))
_COUNT_OPEN = select(func.count()).select_from(_OPEN.limit(bindparam("some")).subquery())
_COLUMNS = [field.name for field in dataclasses.fields(ReadSessionRow)]


def count_open_read_sessions(connection: Connection, now: float, limit: int) -> int:
    """How many sessions have not expired, counted up to ``limit``."""
    return int(connection.execute(_COUNT_OPEN, {"now": now, "some": limit}).scalar_one())


def insert_read_session(connection: Connection, row: ReadSessionRow) -> None:
    """Pins a snapshot.

    Read the table's version and insert the session in one ``write`` transaction: retention, which
    decides under the same lock, then either sees the session or ran before the version was read.
    """
    connection.execute(_INSERT, {name: getattr(row, name) for name in _COLUMNS})


def find_read_session(connection: Connection, session_id: str) -> ReadSessionRow | None:
    """Looks a session up, expired ones too until retention removes them."""
    row = connection.execute(_FIND, {"session_id": session_id}).first()
    if row is None:
        return None
    return ReadSessionRow(
        row.id,
        row.table_id,
        row.table_version,
        bytes(row.request),
        None if row.plan is None else bytes(row.plan),
        row.created_at,
        row.expires_at,
        row.since_version,
    )


def plan_read_session(connection: Connection, session_id: str, plan: bytes) -> bool:
    """Keeps what was decided of a session after it was pinned; False if there is none any more."""
    result = connection.execute(
        update(read_sessions)
        .where(read_sessions.c.id == session_id)
        .values(plan=plan)
        .returning(read_sessions.c.id)
    )
    return result.first() is not None


def extend_read_session(connection: Connection, session_id: str, expires_at: float) -> bool:
    """Lets a session live longer; False if there is none any more."""
    result = connection.execute(
        update(read_sessions)
        .where(read_sessions.c.id == session_id)
        .values(expires_at=expires_at)
        .returning(read_sessions.c.id)
    )
    return result.first() is not None


def hold_snapshots(connection: Connection) -> None:
    """Until the transaction ends, no segment is forgotten: call it before a version is read to be pinned.

    Those who pin do not wait for each other. On SQLite the transaction alone does that.
    """
    if connection.get_execution_options().get(HOLDS_SNAPSHOTS):
        return
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock_shared({PINNING_LOCK})"))


def exclude_pinning(connection: Connection) -> None:
    """Until the transaction ends, no session is opened; waits for those that are being opened."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({PINNING_LOCK})"))


def forget_read_session(connection: Connection, session_id: str) -> None:
    """Frees a snapshot; does nothing if the session is gone."""
    connection.execute(delete(read_sessions).where(read_sessions.c.id == session_id))
