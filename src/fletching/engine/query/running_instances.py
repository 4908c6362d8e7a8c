"""The instances that run: their statements, their threads, and who asks through another server to cancel them.

Those whose process has died before they ended have ended with it.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec

from fletching.catalog.database import Database
from fletching.catalog.instance_rows import InstanceRow, asked_to_cancel
from fletching.engine.context import EngineContext
from fletching.engine.presence import DEAD_SECONDS
from fletching.engine.query.instance_results import Selection
from fletching.engine.query.printing import failure_text
from fletching.engine.query.query_runner import Query
from fletching.engine.query.table_readers import Statistics
from fletching.errors import ConflictError, FletchingError, OperationCancelledError, ThrottledError

if TYPE_CHECKING:
    from fletching.engine.query.sealed_duckdb import SealedDuckDB

__all__ = ["CANCEL_SECONDS", "RunningInstances", "RunningStatements", "ended_with_its_process"]


class RunningStatements:
    """Statements of one instance that wait for a thread or run in one. Thread-safe.

    Attributes:
        row: the instance as it began.
        work: runs the statements and returns the row of their outcome; `RunningInstances` sets it.
        future: that row, or what ``work`` raised.
        kept: whether the catalog knows of the instance.
        ended: the row of the outcome, once the catalog has it.
        keeping: held while the catalog is told.
    """

    def __init__(self, row: InstanceRow) -> None:
        self.row = row
        self.work: Callable[[], InstanceRow]
        self.future: Future[InstanceRow] = Future()
        self.kept = False
        self.ended: InstanceRow | None = None
        self.keeping = threading.Lock()
        self._lock = threading.Lock()
        self._begun = False
        self._cancelled = False
        self._duck: SealedDuckDB | None = None
        self._statistics: list[Statistics] = []

    def begin(self) -> None:
        """Does the work, unless another thread does it or has done it."""
        with self._lock:
            if self._begun:
                return
            self._begun = True
        try:
            row = self.work()
        except BaseException as error:  # noqa: BLE001 - whoever waits is told
            self.future.set_exception(error)
        else:
            self.future.set_result(row)

    def began(self, duck: SealedDuckDB) -> None:
        """See `Watched`."""
        with self._lock:
            if self._cancelled:
                raise OperationCancelledError("the statement was cancelled")
            self._duck = duck

    def ran(self, query: Query) -> None:
        """See `Watched`."""
        self._statistics.append(query.statistics)

    @property
    def input_bytes(self) -> int:
        """How much its scans have read so far, decoded."""
        return sum(statistics.bytes for statistics in self._statistics)

    def cancel(self) -> None:
        """Ends it within a moment."""
        with self._lock:
            self._cancelled = True
            duck = self._duck
        if duck is not None:
            duck.interrupt()
        # What still waits for a thread has to end as well, and to say so: its work sees that it is cancelled.
        self.begin()

    def check(self) -> None:
        """Raises if it was cancelled."""
        if self._cancelled:
            raise OperationCancelledError("the statement was cancelled")

    @property
    def progress(self) -> float:
        """How far it is, from 0 to 1."""
        duck = self._duck
        return 0.0 if duck is None else duck.progress


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


_LATE_SECONDS = 600.0
"""How much longer than its time a statement is waited for, where nobody can say that its server is dead."""


def ended_with_its_process(context: EngineContext, row: InstanceRow) -> InstanceRow:
    """A row that runs in no thread of this process, as it is if nothing can be running it any more."""
    seconds = context.settings.sql_seconds
    if row.created_at > context.clock() - seconds - _LATE_SECONDS and not _is_dead(context, row):
        return row
    failure = (500, "InternalServerError", "the server ended before the statement did")
    return dataclasses.replace(
        row,
        ended_at=row.created_at + seconds,
        result=failure_text(*failure[1:]),
        selection=msgspec.msgpack.encode(Selection(error=failure)),
    )


def _is_dead(context: EngineContext, row: InstanceRow) -> bool:
    """Whether the server that ran an instance is known to be dead."""
    if not row.server or 0 <= context.clock() - row.created_at < DEAD_SECONDS:
        return False
    with context.database.read() as connection:
        return context.presence.is_dead(connection, row.server)
