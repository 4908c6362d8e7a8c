"""Write sessions: their rows, without the rules (``engine/writing/states.py`` has those)."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from sqlalchemy import Connection, func, insert, select, update

from fletching.catalog.database import insert_unless_there
from fletching.catalog.schema import write_sessions
from fletching.errors import ConflictError

if TYPE_CHECKING:
    from sqlalchemy import Row

__all__ = [
    "WriteSessionRow",
    "count_open_write_sessions",
    "end_write_session",
    "ensure_default_session",
    "extend_write_session",
    "find_default_session",
    "find_write_session",
    "insert_write_session",
]


@dataclasses.dataclass(frozen=True, slots=True)
class WriteSessionRow:
    """A row of ``write_sessions``, its JSON columns read."""

    pk: int
    id: str
    table_id: str
    write_mode: str
    state: str
    partition_spec: tuple[tuple[str, str], ...]
    """The statically bound partition columns, in the table's order."""
    overwrite: bool
    enhance_write_check: bool
    flags: dict[str, str]
    schema_version: int
    committed_version: int | None
    commit_request: str | None
    created_at: float
    expires_at: float


def _row(values: Row[tuple[object, ...]]) -> WriteSessionRow:
    return WriteSessionRow(
        pk=values.pk,
        id=values.id,
        table_id=values.table_id,
        write_mode=values.write_mode,
        state=values.state,
        partition_spec=tuple((name, value) for name, value in json.loads(values.partition_spec)),
        overwrite=bool(values.overwrite),
        enhance_write_check=bool(values.enhance_write_check),
        flags=json.loads(values.flags),
        schema_version=values.schema_version,
        committed_version=values.committed_version,
        commit_request=values.commit_request,
        created_at=values.created_at,
        expires_at=values.expires_at,
    )


def count_open_write_sessions(connection: Connection, state: str, now: float, limit: int) -> int:
    """How many sessions are in a state and not expired, counted up to ``limit``."""
    chunk = (
        select(write_sessions.c.pk)
        .where(write_sessions.c.state == state, write_sessions.c.expires_at > now)
        .limit(limit)
        .subquery()
    )
    return int(connection.execute(select(func.count()).select_from(chunk)).scalar_one())


def insert_write_session(
    connection: Connection,
    *,
    session_id: str,
    table_id: str,
    write_mode: str,
    state: str,
    partition_spec: tuple[tuple[str, str], ...],
    overwrite: bool,
    enhance_write_check: bool,
    flags: dict[str, str],
    schema_version: int,
    now: float,
    expires_at: float,
) -> WriteSessionRow:
    """Adds a session."""
    pk = connection.execute(
        insert(write_sessions).values(
            id=session_id,
            table_id=table_id,
            write_mode=write_mode,
            state=state,
            partition_spec=json.dumps([list(item) for item in partition_spec]),
            overwrite=overwrite,
            enhance_write_check=enhance_write_check,
            flags=json.dumps(flags),
            schema_version=schema_version,
            created_at=now,
            expires_at=expires_at,
        )
    ).inserted_primary_key
    assert pk is not None
    row = connection.execute(select(write_sessions).where(write_sessions.c.pk == pk[0])).one()
    return _row(row)


def ensure_default_session(
    connection: Connection,
    *,
    session_id: str,
    table_id: str,
    write_mode: str,
    state: str,
    schema_version: int,
    now: float,
    expires_at: float,
) -> WriteSessionRow:
    """Adds the implicit session of a table and write mode unless it is there; locked in both cases."""
    insert_unless_there(
        connection,
        write_sessions,
        id=session_id,
        table_id=table_id,
        write_mode=write_mode,
        state=state,
        partition_spec="[]",
        overwrite=False,
        enhance_write_check=False,
        flags="{}",
        schema_version=schema_version,
        created_at=now,
        expires_at=expires_at,
    )
    result = find_default_session(connection, table_id, session_id, write_mode, lock=True)
    assert result is not None
    return result


def find_write_session(
    connection: Connection, table_id: str, session_id: str, *, lock: bool = False
) -> WriteSessionRow | None:
    """A table's session by its id; None if there is none. ``lock`` holds it until the end."""
    statement = select(write_sessions).where(
        write_sessions.c.id == session_id, write_sessions.c.table_id == table_id
    )
    row = connection.execute(statement.with_for_update() if lock else statement).first()
    return None if row is None else _row(row)


def find_default_session(
    connection: Connection, table_id: str, session_id: str, write_mode: str, *, lock: bool = False
) -> WriteSessionRow | None:
    """The implicit session of a table and write mode; None before its first use."""
    statement = select(write_sessions).where(
        write_sessions.c.id == session_id,
        write_sessions.c.table_id == table_id,
        write_sessions.c.write_mode == write_mode,
    )
    row = connection.execute(statement.with_for_update() if lock else statement).first()
    return None if row is None else _row(row)


def end_write_session(
    connection: Connection,
    pk: int,
    *,
    from_state: str,
    state: str,
    now: float,
    committed_version: int | None = None,
    commit_request: str | None = None,
) -> None:
    """Moves a session from one state to a final one, with what its commit did if it was one.

    Raises:
        ConflictError: it is in another state by now.
    """
    changed = connection.execute(
        update(write_sessions)
        .where(write_sessions.c.pk == pk, write_sessions.c.state == from_state)
        .values(
            state=state,
            ended_at=now,
            committed_version=committed_version,
            commit_request=commit_request,
        )
        .returning(write_sessions.c.pk)
    )
    if changed.first() is None:
        raise ConflictError("the write session has ended meanwhile; look it up")


def extend_write_session(connection: Connection, pk: int, expires_at: float) -> None:
    """Lets a locked session that has not ended live longer."""
    connection.execute(
        update(write_sessions)
        .where(write_sessions.c.pk == pk, write_sessions.c.ended_at.is_(None))
        .values(expires_at=expires_at)
    )
