"""Instances whose process has died before they ended: they end with it."""

from __future__ import annotations

import dataclasses

import msgspec

from fletching.catalog.instance_rows import InstanceRow
from fletching.engine.context import EngineContext
from fletching.engine.presence import DEAD_SECONDS
from fletching.engine.query.instance_results import Selection
from fletching.engine.query.printing import failure_text

__all__ = ["ended_with_its_process"]

_LATE_SECONDS = 600.0
"""How much longer than its time a statement is waited for, where nobody can say that its server is dead."""


def ended_with_its_process(context: EngineContext, row: InstanceRow) -> InstanceRow:
    """A row that runs in no thread of this process, as it is if nothing can be running it any more."""
    seconds = context.settings.sql_seconds
    if row.created_at > context.clock() - seconds - _LATE_SECONDS and not _is_dead(context, row):
        return row
    fault = (500, "InternalServerError", "the server ended before the statement did")
    return dataclasses.replace(
        row,
        ended_at=row.created_at + seconds,
        result=failure_text(*fault[1:]),
        selection=msgspec.msgpack.encode(Selection(error=fault)),
    )


def _is_dead(context: EngineContext, row: InstanceRow) -> bool:
    """Whether the server that ran an instance is known to be dead."""
    if not row.server or row.created_at > context.clock() - DEAD_SECONDS:
        return False
    with context.database.read() as connection:
        return context.presence.is_dead(connection, row.server)
