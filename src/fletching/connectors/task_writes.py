"""Writes by many tasks, of which an engine repeats, doubles or kills some: one commit, by the driver.

Each attempt of a task writes a stream of its own, and returns what names it. The driver commits exactly
the streams of the attempts whose results the engine kept; the others' rows never become visible, and go
with the session. A task that dies leaves an open stream, which no commit takes.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterable

import pyarrow as pa

from fletching.client import Table
from fletching.client.writing.write_session import WriteSession
from fletching.errors import UsageError

__all__ = ["CommitMessage", "begin", "commit", "write_attempt"]


@dataclasses.dataclass(frozen=True, slots=True)
class CommitMessage:
    """What a task's attempt wrote; pickles."""

    stream_id: str
    version: int
    rows: int


def begin(table: Table, mode: str) -> WriteSession:
    """Opens the session that all tasks write into.

    Raises:
        UsageError: a mode that is neither ``append`` nor ``overwrite``.
    """
    if mode not in {"append", "overwrite"}:
        raise UsageError(f"a table is written with mode append or overwrite, not {mode!r}")
    return table.write_session(overwrite=mode == "overwrite")


def write_attempt(session: WriteSession, batches: Iterable[pa.Table]) -> CommitMessage:
    """Writes an attempt's rows, durable but not visible.

    Raises:
        UsageError, ServiceError, TransportError: as the writer's.
    """
    stream_id = f"attempt-{uuid.uuid4().hex}"
    rows = 0
    with session.writer(stream_id, version=1) as writer:
        for batch in batches:
            rows += batch.num_rows
            writer.write(batch)
    return CommitMessage(stream_id, 1, rows)


def commit(session: WriteSession, messages: Iterable[CommitMessage]) -> int:
    """Makes the rows of these attempts visible in one step; returns how many. Again does nothing."""
    kept = list(messages)
    session.commit([(each.stream_id, each.version) for each in kept])
    return sum(each.rows for each in kept)
