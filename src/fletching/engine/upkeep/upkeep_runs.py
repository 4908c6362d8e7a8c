"""What became of upkeep, kept in the catalog: each server and each command sees the last run of a task."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Sequence

from fletching.catalog import upkeep_rows
from fletching.catalog.upkeep_rows import UpkeepRun
from fletching.engine.context import EngineContext
from fletching.errors import FletchingError

__all__ = ["MAX_PROBLEMS", "TASKS", "last_runs", "record_run"]

TASKS = ("compaction", "retention", "verification")

MAX_PROBLEMS = 200
"""So many problems of a run are kept in words; all are counted."""

_MAX_CHARACTERS = 1000
"""So much is kept of each, and of a summary."""

_log = logging.getLogger(__name__)


def record_run(
    context: EngineContext,
    task: str,
    started_at: float,
    summary: str,
    *,
    problems: Sequence[str] = (),
    problem_count: int | None = None,
) -> None:
    """Records a run that has ended just now, in the place of the task's earlier ones.

    A data set that is open for reading only records nothing. Neither does a catalog that fails at it:
    what the run did is done, and its caller learns of it anyway; the log says so.

    Args:
        context: of the engine that ran it.
        task: one of `TASKS`.
        started_at: seconds since the epoch.
        summary: what it did.
        problems: what it found wrong, in words; the first `MAX_PROBLEMS` are kept.
        problem_count: how many it found, if these are not all.
    """
    if context.read_only:
        return
    run = UpkeepRun(
        task=task,
        started_at=started_at,
        ended_at=context.clock(),
        place=f"{platform.node() or 'unknown'}, process {os.getpid()}",
        summary=summary[:_MAX_CHARACTERS],
        problem_count=len(problems) if problem_count is None else problem_count,
        problems=tuple(each[:_MAX_CHARACTERS] for each in problems[:MAX_PROBLEMS]),
    )
    try:
        with context.database.write() as connection:
            upkeep_rows.record_run(connection, run)
    except FletchingError as error:
        _log.warning("the catalog did not take what became of the %s: %s", task, error)


def last_runs(context: EngineContext) -> dict[str, UpkeepRun]:
    """The last run of each task, whoever ran it, by task."""
    with context.database.read() as connection:
        return upkeep_rows.last_runs(connection)
