"""Upkeep in the background of a long-running process: retention and compaction."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Sequence

from fletching.errors import FletchingError

__all__ = ["Maintenance", "Task"]

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
