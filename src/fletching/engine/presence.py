"""Presence: this opening's row among the catalog's writers, where the store cannot tell who lives.

A local folder knows by locks which of its writers live. Of an object store nobody knows, so a writer
keeps a row in the catalog: made before its first object, renewed while it lives, removed when it
closes. A server has its row from its start, with its name and address. All times are the catalog's, whose
clock is asked at each beat: where it is set, nobody goes by the time of before for longer than that.

A writer that was silent for ``DEAD_SECONDS`` is dead to the others: its leases are free, its statements
have failed. That costs nothing if it was only slow, for leases are fenced. Its row stays, and with it
its right to record what it has uploaded, until ``SILENT_SECONDS``: then retention removes the row, what
a writer without a row made is not recorded any more (``check``), and so retention may delete it.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Collection

from sqlalchemy import Connection

from fletching._version import __version__
from fletching.catalog.database import Database
from fletching.catalog.leases import release_leases_of
from fletching.catalog.writer_rows import (
    WriterRow,
    forget_writer_row,
    hear_now,
    list_writers,
    lives,
    missing_writers,
    register_writer,
    renew_writer,
    silent_writers,
)
from fletching.errors import FletchingError, ServiceUnavailableError
from fletching.objects.store import ObjectStore, writer_of

__all__ = ["BEAT_SECONDS", "DEAD_SECONDS", "SILENT_SECONDS", "Presence"]

BEAT_SECONDS = 3.0
DEAD_SECONDS = 12.0
"""A writer that did not renew its row for so long is dead to the others: four beats."""
SILENT_SECONDS = 60.0
"""And after so long its objects are."""

_LOG = logging.getLogger("fletching.engine.presence")


class Presence:
    """Keeps one writer known. Thread-safe. Does nothing over a store that knows its writers."""

    def __init__(self, database: Database, store: ObjectStore, clock: Callable[[], float]) -> None:
        self._database = database
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._registered: str | None = None
        self._thread: threading.Thread | None = None
        self._server: tuple[str, str] | None = None
        self._buried: frozenset[str] = frozenset()
        self.on_death: Callable[[], None] | None = None
        """Called after leases of dead writers were freed, in the thread of the beats."""

    def join(self, name: str, url: str) -> None:
        """Makes this opening known as a server, at once.

        Raises:
            StorageError: the catalog failed.
        """
        self._server = (name, url)
        self.ensure()

    @property
    def is_server(self) -> bool:
        """Whether this opening is a server's."""
        return self._server is not None

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
            now = self._clock()
            name, url = self._server or ("", "")
            release = __version__ if self._server else ""
            row = WriterRow(self._store.writer, now, now, name, url, release)
            with self._database.write() as connection:
                register_writer(connection, row)
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

    def is_dead(self, connection: Connection, writer: str) -> bool:
        """Whether nothing that this writer began goes on any more."""
        if writer == self._store.writer:
            return False
        if self._store.knows_writers:
            return writer not in self._store.living_writers()
        return not lives(connection, writer, silent_since=self._clock() - DEAD_SECONDS)

    def servers(self) -> list[WriterRow]:
        """The servers that there are, the dead among them until retention removes their rows."""
        with self._database.read() as connection:
            return [row for row in list_writers(connection) if row.name]

    def _run(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            self.beat()

    def beat(self) -> None:
        """Says that the writer lives, and frees what the dead held."""
        self.renew()
        try:
            self.bury()
        except FletchingError as error:
            _LOG.warning("leases of dead processes cannot be freed: %s", error)

    def renew(self) -> None:
        """Says that the writer lives; after having been taken for dead, it goes on as another."""
        writer = self._registered
        if writer is None:
            return
        try:
            with self._database.write(durable=False) as connection:
                self._database.ask_time(connection)
                known = renew_writer(connection, writer, self._clock())
            if known:
                return
            with self._lock:
                self._store.writer = secrets.token_hex(6)
                self._registered = None
            _LOG.warning("this process was taken for dead, and goes on as another writer")
            if self._server is not None:
                self.ensure()
        except FletchingError as error:
            _LOG.warning("the catalog cannot be told that this process lives: %s", error)

    def bury(self) -> None:
        """Frees the leases of those that died since the last time.

        Raises:
            StorageError: the catalog failed.
        """
        now = self._clock()
        since = now - DEAD_SECONDS
        with self._database.read() as connection:
            rows = list_writers(connection)
        if any(row.seen_at > now + DEAD_SECONDS for row in rows):
            with self._database.write(durable=False) as connection:
                hear_now(connection, now)
        silent = {row.id for row in rows if row.seen_at <= since}
        died = frozenset(silent) - self._buried
        if not died:
            self._buried = frozenset(silent)
            return
        with self._database.write() as connection:
            # Looked at again under a lock: one that is heard of meanwhile keeps what it has.
            dead = silent_writers(connection, silent_since=since) & died
            release_leases_of(connection, dead)
        for writer in sorted(dead):
            _LOG.warning("the process %s is silent: what it was at is free for others", writer)
        if dead and self.on_death is not None:
            self.on_death()
        # Only now: what the catalog's failure has broken off is done at the next beat.
        self._buried = frozenset(silent)

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
