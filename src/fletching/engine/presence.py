"""Presence: this opening's row among the catalog's writers, where the store cannot tell who lives.

A local folder knows by locks which of its writers live. Of an object store nobody knows, so a writer
keeps a row in the catalog: made before its first object, renewed while it lives, removed when it
closes. What a writer without a row made is not recorded any more (``check``), and so retention may
delete it.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Collection

from sqlalchemy import Connection

from fletching.catalog.database import Database
from fletching.catalog.writer_rows import (
    forget_writer_row,
    missing_writers,
    register_writer,
    renew_writer,
)
from fletching.errors import FletchingError, ServiceUnavailableError
from fletching.objects.store import ObjectStore, writer_of

__all__ = ["SILENT_SECONDS", "Presence"]

SILENT_SECONDS = 60.0
"""A writer that did not renew its row for so long counts as dead."""
RENEW_SECONDS = 10.0

_LOG = logging.getLogger("fletching.engine.presence")


class Presence:
    """Keeps one writer known. Thread-safe. Does nothing over a store that knows its writers."""

    def __init__(self, database: Database, store: ObjectStore, clock: Callable[[], float]) -> None:
        """Registers nothing yet; ``clock`` gives seconds since the epoch."""
        self._database = database
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._registered: str | None = None
        self._thread: threading.Thread | None = None

    def ensure(self) -> None:
        """Makes the writer known, if it is not: before it creates an object.

        Raises:
            StorageError: the catalog failed.
        """
        if self._store.knows_writers or self._registered is not None:
            return
        with self._lock:
            if self._registered is not None or self._stop.is_set():
                return
            with self._database.write() as connection:
                register_writer(connection, self._store.writer, self._clock())
            self._registered = self._store.writer
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="fletching-presence", daemon=True
                )
                self._thread.start()

    def check(self, connection: Connection, keys: Collection[str]) -> None:
        """Refuses to record objects whose writer was taken for dead: they may be gone.

        Call it in the transaction that records them. Until that ends, retention waits.

        Raises:
            ServiceUnavailableError: their writer's row is gone; writing again gets a new one.
        """
        if self._store.knows_writers or not keys:
            return
        if missing_writers(connection, {writer_of(key) for key in keys}):
            raise ServiceUnavailableError(
                "this process was silent for so long that what it wrote may have been collected;"
                " write it again"
            )

    def _run(self) -> None:
        while not self._stop.wait(RENEW_SECONDS):
            self.renew()

    def renew(self) -> None:
        """Says that the writer lives; after having been taken for dead, it goes on as another."""
        writer = self._registered
        if writer is None:
            return
        try:
            with self._database.write(durable=False) as connection:
                lives = renew_writer(connection, writer, self._clock())
        except FletchingError as error:
            _LOG.warning("the catalog cannot be told that this process lives: %s", error)
            return
        if not lives:
            with self._lock:
                self._store.writer = secrets.token_hex(6)
                self._registered = None
            _LOG.warning("this process was taken for dead, and goes on as another writer")

    def close(self) -> None:
        """Ends the writer; idempotent."""
        self._stop.set()
        if self._thread is not None and threading.current_thread() is not self._thread:
            self._thread.join()
        with self._lock:
            writer, self._registered = self._registered, None
        if writer is not None:
            try:
                with self._database.write() as connection:
                    forget_writer_row(connection, writer)
            except FletchingError as error:
                _LOG.warning("the catalog cannot be told that this process ends: %s", error)
