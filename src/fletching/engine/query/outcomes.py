"""Rows of instances in the catalog, so that any process of a service answers for a statement.

A writer of another process may keep every other out of a catalog file for minutes, and a SELECT does not wait
for it: its row waits in memory (`WaitingRows`), with others that came meanwhile. What is lost with the process
then is what can be asked again; whoever asked has its answer. What statements have
changed is written before anybody hears of it, if the lock is not held for long and the catalog can be written; if
not, it waits like the rest, and a repetition of the statement finds what was changed by the keys of its changes.
Rows that wait are bounded: above that, statements are refused before they begin, never when they have done something.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from sqlalchemy import Connection

from fletching.catalog.database import Database
from fletching.catalog.instance_rows import (
    InstanceFilter,
    InstanceRow,
    find_instance,
    insert_instance,
    list_instances,
    replace_instance,
    update_instance,
)
from fletching.engine.waiting_rows import QUICK_SECONDS, WaitingRows
from fletching.errors import ServiceUnavailableError, StorageError, StorageFullError

__all__ = ["Outcomes"]

MOST_UNWRITTEN = 500
"""Rows that may wait to be written; one may have a result of some 256 KiB."""

logger = logging.getLogger("fletching.engine")


def _write(connection: Connection, row: InstanceRow, new: bool) -> None:
    # One that is there was written by a commit that seemed to fail.
    if new and find_instance(connection, row.project_key, row.id) is None:
        insert_instance(connection, row)
    else:
        update_instance(connection, row)


class Outcomes:
    """Keeps rows of instances and finds them. Thread-safe."""

    def __init__(self, database: Database, *, shared: Callable[[], bool] = lambda: False) -> None:
        """Keeps them in a catalog; has no thread yet.

        ``shared``: whether other processes answer for the same clients, so that every row is in the catalog
        before anybody hears of it.
        """
        self._database = database
        self._shared = shared
        self._waiting = WaitingRows(database, _write, what="outcomes")

    def close(self) -> None:
        """Tries once more to write what waits, and stops."""
        self._waiting.close()

    # --- keeping -----------------------------------------------------------------------------

    def check_room(self) -> None:
        """Refuses to begin with what could not be kept.

        Raises:
            ServiceUnavailableError: too many rows wait to be written.
        """
        if len(self._waiting) >= MOST_UNWRITTEN:
            raise ServiceUnavailableError(
                "the catalog is locked by another process, and too many statements wait to be"
                " recorded; try again"
            )

    def keep(self, row: InstanceRow, *, new: bool, soon: bool = False) -> None:
        """Keeps a row, in the catalog if nobody else writes it for long.

        Args:
            row: of the instance.
            new: whether it has not been kept before.
            soon: it is enough if it is there soon, as it is of what has changed nothing.

        What the catalog cannot keep now is answered for from memory, and tried again: the statement is done, and
        whoever heard of a failure would run it again.
        """
        gathers = soon and not self._shared() and len(self._waiting) < MOST_UNWRITTEN // 2
        # A row whose beginning waits must not overtake it.
        if not gathers and not self._waiting.locked_out and self._waiting.find(row.id) is None:
            try:
                with self._database.write(wait_seconds=QUICK_SECONDS) as connection:
                    if new:
                        insert_instance(connection, row)
                    else:
                        update_instance(connection, row)
            except (ServiceUnavailableError, StorageError, StorageFullError) as error:
                if not isinstance(error, ServiceUnavailableError):
                    logger.warning("the outcome of statement %s waits: %s", row.id, error)
                self._waiting.locked_out = True
            else:
                return
        self._waiting.put(row, new=new)

    def begin_again(self, known: InstanceRow, row: InstanceRow) -> bool:
        """Keeps a row that runs in place of one that is known; False if that is not what is known any more.

        Raises:
            ServiceUnavailableError, StorageError: the catalog cannot be written.
        """
        if self._waiting.find(row.id) is not None:
            return False
        with self._database.write(wait_seconds=QUICK_SECONDS) as connection:
            return replace_instance(connection, known, row)

    # --- finding -----------------------------------------------------------------------------

    def find(self, project: str | None, instance_id: str) -> InstanceRow | None:
        """The row of an instance of a project, or of any; None if there is none."""
        waiting = self._waiting.find(instance_id)
        if waiting is not None and (project is None or waiting.project_key == project.casefold()):
            return waiting
        with self._database.read() as connection:
            return find_instance(connection, project, instance_id)

    def list(
        self,
        project: str,
        limit: int,
        wanted: InstanceFilter,
        marker: tuple[float, str] | None,
    ) -> list[InstanceRow]:
        """The newest instances of a project, newest first; arguments as `list_instances`."""
        with self._database.read() as connection:
            rows = list_instances(connection, project, limit, wanted, marker)
        waiting = [
            row
            for row in self._waiting.rows()
            if row.project_key == project.casefold() and _chosen(row, wanted, marker)
        ]
        if not waiting:
            return rows
        by_id = {row.id: row for row in (*rows, *waiting)}
        newest = sorted(by_id.values(), key=lambda row: (row.created_at, row.id), reverse=True)
        return newest[:limit]


def _chosen(row: InstanceRow, wanted: InstanceFilter, marker: tuple[float, str] | None) -> bool:
    """Whether a listing has a row."""
    return (
        row.kind != wanted.without_kind
        and (wanted.running is None or wanted.running == (not row.ended_at))
        and (wanted.since is None or row.created_at >= wanted.since)
        and (wanted.until is None or row.created_at < wanted.until)
        and (wanted.owner is None or row.owner == wanted.owner)
        and (wanted.task_name is None or row.task_name == wanted.task_name)
        and (marker is None or (row.created_at, row.id) < marker)
    )
