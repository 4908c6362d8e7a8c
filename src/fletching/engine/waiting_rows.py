"""Rows that are answered for from memory until a thread has written them to the catalog.

A writer of another process may keep every other out of a catalog file for minutes, and what can be asked again,
should it be lost with the process, need not wait for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from sqlalchemy import Connection

from fletching.catalog.database import Database
from fletching.errors import ServiceUnavailableError

__all__ = ["QUICK_SECONDS", "WaitingRows"]

QUICK_SECONDS = 0.25
"""How long a row waits for the catalog's lock, if nobody is known to hold it for long."""

_TRY_SECONDS = 1.0
_PAUSE_SECONDS = 0.2
_FAILURE_PAUSE_SECONDS = 5.0
_GATHER_SECONDS = 0.02
_LINGER_SECONDS = 2.0

logger = logging.getLogger("fletching.engine")


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


_Row = TypeVar("_Row", bound=_Identified)


class WaitingRows(Generic[_Row]):
    """Keeps rows until they are written, each in its newest form. Thread-safe."""

    def __init__(
        self,
        database: Database,
        write: Callable[[Connection, _Row, bool], object],
        *,
        what: str,
        durable: bool = True,
    ) -> None:
        """Writes a row by ``write``, which is told whether it is new; ``what`` names the rows in logs."""
        self.locked_out = False
        """Whether nothing could be written when that was last tried."""
        self._database = database
        self._write_row = write
        self._what = what
        self._durable = durable
        self._woken = threading.Condition()
        self._rows: dict[str, tuple[_Row, bool]] = {}  # and whether it is new
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._rows)

    def put(self, row: _Row, *, new: bool) -> None:
        """Answers for a row until it is written; ``new`` where the catalog has none with its id."""
        with self._woken:
            known = self._rows.get(row.id)
            self._rows[row.id] = (row, new or (known is not None and known[1]))
            self._woken.notify_all()
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(
                    target=self._write, name=f"fletching-{self._what}", daemon=True
                )
                self._thread.start()

    def find(self, id_: str) -> _Row | None:
        """The row with an id that waits."""
        result = self._rows.get(id_)
        return None if result is None else result[0]

    def rows(self) -> list[_Row]:
        """All that wait."""
        return [row for row, _ in list(self._rows.values())]

    def close(self) -> None:
        """Tries once more to write what waits, and stops."""
        with self._woken:
            self._closed.set()
            self._woken.notify_all()
        thread = self._thread
        if thread is not None:
            thread.join()

    def _write(self) -> None:
        while True:
            with self._woken:
                # It stays a little longer than it is needed: the next row comes soon, as a rule.
                if not self._rows and not self._closed.is_set():
                    self._woken.wait(_LINGER_SECONDS)
                if not self._rows:
                    self._thread = None
                    return
            self._closed.wait(_GATHER_SECONDS)
            with self._woken:
                taken = dict(self._rows)
            last = self._closed.is_set()
            try:
                with self._database.write(
                    durable=self._durable, wait_seconds=_TRY_SECONDS
                ) as connection:
                    for row, new in taken.values():
                        self._write_row(connection, row, new)
            except ServiceUnavailableError:
                pause = _PAUSE_SECONDS
            except Exception:  # whatever it is, the thread goes on: nobody else writes these rows
                logger.exception("%d %s could not be written", len(taken), self._what)
                pause = _FAILURE_PAUSE_SECONDS
            else:
                pause = 0.0
                with self._woken:
                    for id_, (row, _) in taken.items():
                        now, _ = self._rows[id_]
                        if now is row:
                            del self._rows[id_]
                        else:  # there is a newer form of it meanwhile
                            self._rows[id_] = (now, False)
            self.locked_out = pause > 0
            if last:
                with self._woken:
                    self._thread = None
                return
            self._closed.wait(pause)
