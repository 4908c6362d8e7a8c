"""Upkeep in the background of a long-running process, and what became of it.

The last run of a task is kept in the catalog, where each server and each command sees it.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import platform
import threading
from collections.abc import Callable, Sequence

from fletching.catalog import upkeep_rows
from fletching.catalog.upkeep_rows import UpkeepRun
from fletching.engine.context import EngineContext
from fletching.errors import FletchingError

__all__ = ["MAX_PROBLEMS", "TASKS", "Maintenance", "Task", "last_runs", "record_run"]

_LOG = logging.getLogger("fletching.engine.upkeep.maintenance")


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """Something to do.

    Attributes:
        name: what the log calls it.
        run: does it; blocks.
        every: in which rounds: each, every second, every tenth.
    """

    name: str
    run: Callable[[], object]
    every: int = 1


class Maintenance:
    """A thread that runs tasks in turn, again and again, until it is stopped.

    Tasks take leases where only one process should do them, so every process may have one of these.
    A task that fails is logged and tried again in the next round: upkeep can wait, service not.
    """

    def __init__(self, tasks: Sequence[Task], *, interval_seconds: float) -> None:
        """Starts the thread; the first round comes after one interval.

        Args:
            tasks: what to do.
            interval_seconds: between the end of a round and the next.
        """
        self._tasks = tuple(tasks)
        self._round = 0
        self._interval_seconds = interval_seconds
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fletching-maintenance", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            self._wake.wait(self._interval_seconds)
            self._wake.clear()
            if self._stop.is_set():
                return
            self.run_once()

    def wake(self) -> None:
        """Lets the next round come at once: another process died, and left work."""
        self._wake.set()

    def run_once(self) -> None:
        """One round, in the calling thread."""
        self._round += 1
        for task in self._tasks:
            if self._stop.is_set():
                return
            if self._round % task.every:
                continue
            try:
                task.run()
            except FletchingError as error:
                _LOG.warning("%s failed and will be tried again: %s", task.name, error)
            except Exception:  # noqa: BLE001 - a broken task must not end the thread that others need
                _LOG.exception("%s failed and will be tried again", task.name)

    def stop(self) -> None:
        """Ends the thread after the task it is in; blocks; idempotent."""
        self._stop.set()
        self._wake.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()


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
