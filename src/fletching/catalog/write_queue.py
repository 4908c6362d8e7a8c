"""One writer of a SQLite catalog at a time, and one commit for those that wait for their turn.

A commit waits for the disk, which takes longer than what most writers do. So a writer that shares does
not commit while another such one waits: that one goes on in the same transaction, behind a savepoint, and
the last one commits for all. Each returns when the commit is durable, or raises when it failed. What a
writer does is seen by those behind it, as if it had been committed before; if it raises, the savepoint
undoes it and nothing else.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Connection

from fletching.errors import ServiceUnavailableError, StorageError

__all__ = ["WriteQueue"]

MOST_WRITERS = 64
"""In one transaction, so that the first of them is not kept waiting."""

Begin = Callable[[bool, float | None], "contextlib.AbstractContextManager[Connection]"]
"""Begins a transaction, durable or not, waiting so long for other processes; it ends with the block."""


class _Group:
    """A transaction and the writers that wait for its commit."""

    def __init__(self, stack: contextlib.ExitStack, connection: Connection) -> None:
        self.stack = stack
        self.connection = connection
        self.writers = 0
        self.done = threading.Event()
        self.error: BaseException | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the database has not undone the transaction by itself, as on a full disk."""
        raw: Any = self.connection.connection.dbapi_connection
        return bool(raw.in_transaction)


class WriteQueue:
    """The writers of one process. Thread-safe; not re-entrant."""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin
        self._lock = threading.Lock()
        self._counting = threading.Lock()
        self._sharing = 0  # writers that share and wait for the lock
        self._group: _Group | None = None  # left open for the next of them; used under the lock

    @contextlib.contextmanager
    def turn(
        self, *, durable: bool, wait_seconds: float | None, shares: bool
    ) -> Iterator[Connection]:
        """One writer's turn: what it did is committed when the block has ended, or undone if it raised.

        Args:
            durable: whether the commit waits for the disk; writers that share always do.
            wait_seconds: how long to wait for other writers; None for as long as it takes.
            shares: commit together with others. The caller must hold nothing that another such
                writer could wait for inside its turn.

        Raises:
            ServiceUnavailableError: its turn did not come in time.
            StorageError: the database undid what others had done in the same transaction.
        """
        self._enter(wait_seconds, shares=shares)
        try:
            group = self._group
            if group is not None and not shares:
                self._commit(group)
                group = None
            if group is None:
                stack = contextlib.ExitStack()
                group = _Group(stack, stack.enter_context(self._begin(durable, wait_seconds)))
        except BaseException:
            self._lock.release()
            raise
        self._group = group
        try:
            if group.writers:
                with group.connection.begin_nested():
                    yield group.connection
            else:
                yield group.connection
        except BaseException as error:
            self._failed(group, error)
            raise
        group.writers += 1
        if shares and self._sharing and group.writers < MOST_WRITERS:
            self._lock.release()
            group.done.wait()
        else:
            try:
                self._commit(group)
            finally:
                self._lock.release()
        if group.error is not None:
            raise group.error

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Nobody writes inside of the block, and what was written is committed."""
        self._enter(None, shares=False)
        try:
            if self._group is not None:
                self._commit(self._group)
            yield
        finally:
            self._lock.release()

    def _enter(self, wait_seconds: float | None, *, shares: bool) -> None:
        if not shares:
            if not self._lock.acquire(timeout=-1 if wait_seconds is None else wait_seconds):
                raise ServiceUnavailableError("the catalog is being written to")
            return
        with self._counting:
            self._sharing += 1
        taken = False
        try:
            self._lock.acquire()
            taken = True
        finally:
            with self._counting:
                self._sharing -= 1
            if not taken:
                # Interrupted: whoever counted on this writer to commit must not wait for ever.
                with self.pause():
                    pass

    def _failed(self, group: _Group, error: BaseException) -> None:
        """Ends the turn of a writer that raised; what others did before it stays."""
        try:
            if not group.writers:
                self._group = None
                # The exception undoes the transaction.
                group.stack.__exit__(type(error), error, error.__traceback__)
            elif not group.is_alive:
                self._end(group, error)
            elif not self._sharing:
                with contextlib.suppress(BaseException):  # told to those whose commit it was
                    self._commit(group)
        finally:
            self._lock.release()

    def _commit(self, group: _Group) -> None:
        """Commits for all; what goes wrong is in ``error``, and raised for each of them."""
        self._group = None
        if not group.is_alive:
            # Committing nothing would succeed.
            wrong = StorageError("the catalog undid a transaction that it could not go on with")
            self._end(group, wrong)
            return
        try:
            group.stack.close()
        except BaseException as error:  # noqa: BLE001  # raised by everybody who waits
            self._end(group, error)
        else:
            group.done.set()

    def _end(self, group: _Group, error: BaseException) -> None:
        self._group = None
        group.error = error
        with contextlib.suppress(BaseException):
            group.stack.__exit__(type(error), error, error.__traceback__)
        group.done.set()
