"""Statements that wait for a thread or run in one, as whoever watches or cancels them sees them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from fletching.catalog.instance_rows import InstanceRow
from fletching.engine.query.query_runner import Query
from fletching.engine.query.table_readers import Statistics
from fletching.errors import OperationCancelledError

if TYPE_CHECKING:
    from fletching.engine.query.sealed_duckdb import SealedDuckDB

__all__ = ["RunningStatements"]


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
        """Waits for `begin`."""
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
