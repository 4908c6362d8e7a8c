"""The instances that run in this process: their threads, and who asks through another server to cancel them."""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from fletching.catalog.database import Database
from fletching.catalog.instance_rows import InstanceRow, asked_to_cancel
from fletching.engine.query.running_statements import RunningStatements
from fletching.errors import ConflictError, FletchingError, ThrottledError

__all__ = ["CANCEL_SECONDS", "RunningInstances"]

MAX_WAITING = 1000
"""Statements that may wait for a thread."""

CANCEL_SECONDS = 1.0
"""How often a server looks whether it is asked, through another one, to cancel what it runs."""


class RunningInstances:
    """Runs statements in a pool that nothing else uses. Thread-safe."""

    def __init__(self, database: Database, threads: int) -> None:
        """Runs so many at once; looks into a catalog for who wants to cancel one."""
        self._database = database
        self._lock = threading.Lock()
        self._runs: dict[str, RunningStatements] = {}
        self._pool = ThreadPoolExecutor(threads, "fletching-sql")
        self._closed = threading.Event()
        self._watching: threading.Thread | None = None

    def close(self) -> None:
        """Cancels what runs and waits for it; idempotent."""
        self._closed.set()
        with self._lock:
            running = list(self._runs.values())
            watching = self._watching
        for run in running:
            run.cancel()
        if watching is not None:
            watching.join()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def begin(self, run: RunningStatements, work: Callable[[], InstanceRow]) -> None:
        """Has statements run as soon as there is a thread, in the caller's context.

        Raises:
            ThrottledError: too many wait already.
            ConflictError: statements of this id run already.
        """
        with self._lock:
            if run.row.id in self._runs:
                raise ConflictError(f"instance {run.row.id} runs already")
            if len(self._runs) >= MAX_WAITING:
                raise ThrottledError(f"{MAX_WAITING} statements wait already")
            run.work = work
            # The version that a statement makes says for whom.
            self._pool.submit(contextvars.copy_context().run, run.begin)
            self._runs[run.row.id] = run

    def find(self, instance_id: str) -> RunningStatements | None:
        """An instance that runs here; None if it does not."""
        with self._lock:
            return self._runs.get(instance_id)

    def forget(self, run: RunningStatements) -> None:
        """Leaves an instance that has ended out from now on."""
        with self._lock:
            self._runs.pop(run.row.id, None)

    def keep(self, run: RunningStatements) -> None:
        """Follows an instance that nobody waits for until it ends, or somebody wants it cancelled."""
        run.future.add_done_callback(lambda _future: self.forget(run))
        with self._lock:
            if self._watching is None or not self._watching.is_alive():
                self._watching = threading.Thread(
                    target=self._look_for_cancels, name="fletching-cancels", daemon=True
                )
                self._watching.start()

    def _look_for_cancels(self) -> None:
        while not self._closed.wait(CANCEL_SECONDS):
            with self._lock:
                kept = {id_: run for id_, run in self._runs.items() if run.kept}
                if not kept:
                    self._watching = None
                    return
            with contextlib.suppress(FletchingError):
                with self._database.read() as connection:
                    asked = asked_to_cancel(connection, kept)
                for id_ in asked:
                    kept[id_].cancel()
