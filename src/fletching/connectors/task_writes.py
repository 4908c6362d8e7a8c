"""Writes by many tasks, of which an engine repeats, doubles or kills some: one commit, by the driver.

Each attempt of a task writes a stream version of its own, and returns what names it. The driver commits
exactly those of the attempts whose results the engine kept; the others' rows never become visible, and
go with the session. A task that dies leaves an open stream, which no commit takes.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable

import pyarrow as pa

from fletching.client import CommitMessage, Table
from fletching.client.writing.write_session import WriteSession
from fletching.connectors.narrowing import table_of
from fletching.errors import FletchingError, UsageError

__all__ = ["abort_quietly", "begin", "commit", "write_attempt"]


def begin(table: Table, mode: str) -> WriteSession:
    """Opens the session that all tasks write into.

    Raises:
        UsageError: no table, or a mode that is neither ``append`` nor ``overwrite``.
    """
    if mode not in {"append", "overwrite"}:
        raise UsageError(f"a table is written with mode append or overwrite, not {mode!r}")
    return table_of(table).write_session(overwrite=mode == "overwrite")


def write_attempt(
    session: WriteSession,
    batches: Iterable[pa.Table],
    *,
    task: str | None = None,
    attempt: int = 1,
) -> CommitMessage:
    """Writes an attempt's rows, durable but not visible.

    Args:
        session: of all tasks.
        batches: the rows.
        task: what is the same for each attempt at these rows, and for no others; None where the
            engine does not say, so that each attempt is a stream of its own.
        attempt: a number that is greater for each later attempt; it is the stream's version.

    Raises:
        UsageError, ServiceError, TransportError: as the writer's.
    """
    stream_id = f"attempt-{uuid.uuid4().hex}" if task is None else f"task-{task}"
    with session.writer(stream_id, version=attempt) as writer:
        for batch in batches:
            writer.write(batch)
    return writer.message


def commit(
    session: WriteSession, messages: Iterable[CommitMessage], idempotency_key: str | None = None
) -> int:
    """Makes the rows of these attempts visible in one step; returns how many were written.

    Again does nothing, and nothing more than the first with its key.
    """
    kept = list(messages)
    session.commit(kept, idempotency_key=idempotency_key)
    return sum(each.rows for each in kept)


def abort_quietly(session: WriteSession) -> None:
    """Drops what was written after a failure; if that cannot be said now, the session expires."""
    with contextlib.suppress(FletchingError):
        session.abort()
