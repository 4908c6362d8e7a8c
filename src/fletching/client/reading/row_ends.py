"""Rows that end something with themselves: at a limit, replies that have begun, and the session that they are of."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Generator
from typing import cast

import pyarrow as pa

from fletching.client.call_options import OptionChanges
from fletching.client.transports.channel import Channel
from fletching.client.transports.transport import BatchSource
from fletching.errors import FletchingError
from fletching.protocol.messages.requests import GetReadSession
from fletching.types import TableName

__all__ = ["first_rows", "left_with", "release_quietly", "released"]

_LAST_WORDS: OptionChanges = {
    "timeouts": {"connect": 5.0, "first_byte": 10.0, "idle": 10.0},
    "retry": {"budget_seconds": 0.0},
}
"""Options of a release that nobody waits for: what it cannot say, the session's expiry says."""


def release_quietly(channel: Channel, table: TableName, session_id: str) -> None:
    """Gives a session's snapshot up at the end of what used it, whatever that came to.

    Sent outside of the scope that was cancelled, where that is how it ended. A client that is closed,
    or a service that does not answer, lets the session expire by itself.
    """
    last = dataclasses.replace(channel.changed(**_LAST_WORDS), scope=None)
    with contextlib.suppress(FletchingError):
        last.call(GetReadSession(table=table, session_id=session_id, release=True))


def first_rows(
    batches: Generator[pa.RecordBatch, None, None], limit: int | None
) -> Generator[pa.RecordBatch, None, None]:
    """The first ``limit`` rows; ends the source with itself."""
    remaining = limit
    try:
        while remaining is None or remaining > 0:
            batch = next(batches, None)
            if batch is None:
                return
            if remaining is not None:
                batch = batch.slice(0, remaining)
                remaining -= batch.num_rows
            yield batch
    finally:
        batches.close()


def left_with(
    batches: Generator[pa.RecordBatch, None, None], untaken: list[BatchSource]
) -> Generator[pa.RecordBatch, None, None]:
    """The same batches; sources that nobody has taken out by their end are closed with them.

    Args:
        batches: which take out what they read, as a whole or never.
        untaken: replies that have begun.
    """

    def rows() -> Generator[pa.RecordBatch | None, None, None]:
        try:
            yield None  # see `_begun`
            yield from batches
        finally:
            # Another thread may be taking one at this moment.
            with contextlib.suppress(IndexError):
                while True:
                    untaken.pop().close()

    return _begun(rows())


def released(
    batches: Generator[pa.RecordBatch, None, None], channel: Channel, table: TableName, session: str
) -> Generator[pa.RecordBatch, None, None]:
    """The same batches; with their end, or with whoever leaves them, the session ends."""

    def rows() -> Generator[pa.RecordBatch | None, None, None]:
        try:
            yield None  # see `_begun`
            yield from batches
        except BaseException:
            # Left early, or failed: a service that is silent now keeps nobody.
            channel.on_leaving(functools.partial(release_quietly, table=table, session_id=session))
            raise
        release_quietly(channel, table, session)

    return _begun(rows())


def _begun(
    rows: Generator[pa.RecordBatch | None, None, None],
) -> Generator[pa.RecordBatch, None, None]:
    """Takes a generator to its first ``yield``, which gives nothing.

    Closing one that has not begun runs none of it: what it is to leave would stay.
    """
    next(rows)
    return cast("Generator[pa.RecordBatch, None, None]", rows)
