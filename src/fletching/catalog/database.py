"""Connections and transactions on the catalog's database, and its failures in our words.

Every state change is one ``write`` transaction. On SQLite it begins with BEGIN IMMEDIATE, so that
two writers never deadlock on upgrading a read lock, and commits with full synchronisation: when
``write`` has returned, a power cut does not undo it. Inside one process writers queue on a lock
instead of polling the file's. On PostgreSQL writers lock the rows that they change
(``with_for_update``, which SQLite does not need and leaves out).
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, Table, event, exc
from sqlalchemy.dialects import postgresql, sqlite

from fletching.errors import (
    FletchingError,
    ServiceUnavailableError,
    StorageError,
    StorageFullError,
)

__all__ = ["Database", "insert_unless_there", "translated_errors"]

BUSY_TIMEOUT_SECONDS = 30.0
"""How long a transaction waits for another process's before the write is refused as retryable."""

_WRITE = "fletching_write"
_DURABLE = "fletching_durable"


class Database:
    """An open catalog. Thread-safe; each ``read`` or ``write`` block has its own connection."""

    def __init__(self, engine: sqlalchemy.Engine) -> None:
        self._engine = engine
        self._is_sqlite = engine.dialect.name == "sqlite"
        self._writers = threading.Lock() if self._is_sqlite else contextlib.nullcontext()

    @classmethod
    def open(
        cls,
        url: str | Path,
        *,
        busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS,
        migrate: bool = True,
    ) -> Database:
        """Opens the catalog and brings it to the newest migration.

        Args:
            url: the path of a SQLite file, or a PostgreSQL URL
                (``postgresql+psycopg://user@host/name``).
            busy_timeout_seconds: how long to wait for other processes' transactions.
            migrate: False leaves the tables as they are, for tools that inspect old folders.

        Raises:
            StorageError: the file cannot be opened, or was written by a newer release.
        """
        with translated_errors():
            database = cls(_create_engine(url, busy_timeout_seconds))
            if migrate:
                from fletching.catalog.migrations import upgrade

                try:
                    upgrade(database)
                except BaseException:
                    database.close()
                    raise
        return database

    @property
    def is_sqlite(self) -> bool:
        """Whether the catalog is a file of this host."""
        return self._is_sqlite

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection whose queries all see one moment; what it changes is rolled back."""
        with translated_errors(), self._engine.connect() as connection:
            if not self._is_sqlite:
                connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin() as transaction:
                yield connection
                transaction.rollback()

    @contextlib.contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Connection]:
        """One transaction: durable when the block has ended, undone if it raised.

        Args:
            durable: False does not wait for the disk: a power cut may undo the transaction as a
                whole, never a part of it. For what a client can do again, such as opening a read
                session.

        Raises:
            ServiceUnavailableError: the catalog is locked by someone else for too long.
            StorageFullError: no room on its disk.
            StorageError: the database failed otherwise.
        """
        with translated_errors(), self._writers, self._engine.connect() as connection:
            connection.execution_options(**{_WRITE: True, _DURABLE: durable})
            with connection.begin():
                if not durable and not self._is_sqlite:
                    connection.exec_driver_sql("SET LOCAL synchronous_commit TO off")
                yield connection

    @contextlib.contextmanager
    def trial(self) -> Iterator[Connection]:
        """A ``write`` transaction that is always undone: to find out what one would do."""
        with translated_errors(), self._writers, self._engine.connect() as connection:
            connection.execution_options(**{_WRITE: True, _DURABLE: False})
            with connection.begin() as transaction:
                yield connection
                transaction.rollback()

    def close(self) -> None:
        """Closes idle connections; idempotent."""
        self._engine.dispose()


def _create_engine(url: str | Path, busy_timeout_seconds: float) -> sqlalchemy.Engine:
    if isinstance(url, str) and url.startswith("postgres"):
        parsed = sqlalchemy.make_url(url)
        if parsed.drivername in {"postgres", "postgresql"}:
            parsed = parsed.set(drivername="postgresql+psycopg")
        try:
            return sqlalchemy.create_engine(
                parsed, pool_size=10, max_overflow=40, pool_pre_ping=True
            )
        except ModuleNotFoundError as error:
            from fletching.errors import MissingExtraError

            raise MissingExtraError(
                "a PostgreSQL catalog needs psycopg: pip install 'fletching[postgres]'"
            ) from error
    engine = sqlalchemy.create_engine(
        sqlalchemy.URL.create("sqlite", database=str(url)),
        connect_args={"timeout": busy_timeout_seconds, "check_same_thread": False},
        # A connection for whoever asks: the readers of a server are as many as its threads.
        pool_size=16,
        max_overflow=112,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: Any) -> None:
        # The driver must not begin transactions by its own rules; the event below does.
        connection.isolation_level = None
        cursor = connection.cursor()
        _use_write_ahead_log(cursor, busy_timeout_seconds)
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA temp_store = MEMORY")
        cursor.execute("PRAGMA cache_size = -16384")
        cursor.execute("PRAGMA mmap_size = 268435456")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if not options.get(_WRITE, False):
            connection.exec_driver_sql("BEGIN")
            return
        level = "FULL" if options.get(_DURABLE, True) else "NORMAL"
        connection.exec_driver_sql(f"PRAGMA synchronous = {level}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _use_write_ahead_log(cursor: sqlite3.Cursor, busy_timeout_seconds: float) -> None:
    """Switches a new file to WAL; once it is, this only looks.

    The switch needs the file to itself and does not wait for it as transactions do, so that two
    processes that open a new folder at once would fail here.
    """
    deadline = time.monotonic() + busy_timeout_seconds
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorname.startswith("SQLITE_BUSY")
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def insert_unless_there(connection: Connection, table: Table, **values: Any) -> bool:
    """Inserts a row unless one with its key exists; says whether it did. Two at once do not clash."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table).values(**values).on_conflict_do_nothing()
    return connection.execute(statement).rowcount == 1


@contextlib.contextmanager
def translated_errors() -> Iterator[None]:
    """Raises the database driver's failures as ours; the one place where they are known."""
    try:
        yield
    except FletchingError:
        raise
    except exc.TimeoutError as error:
        raise ServiceUnavailableError("no connection to the catalog became free in time") from error
    except exc.DBAPIError as error:
        raise _translated(error) from error


def _translated(error: exc.DBAPIError) -> FletchingError:
    original = error.orig
    if isinstance(original, sqlite3.Error):
        name = getattr(original, "sqlite_errorname", "")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return ServiceUnavailableError("the catalog is locked by another process")
        if name.startswith("SQLITE_FULL"):
            return StorageFullError("the catalog's disk is full")
        return StorageError(f"the catalog failed: {original} ({name or type(original).__name__})")
    state = getattr(original, "sqlstate", None) or ""
    # PostgreSQL's classes: 53100 disk full; 40 serialisation or deadlock; 08 and 57P connections.
    if state == "53100":
        return StorageFullError("the catalog's disk is full")
    if (
        error.connection_invalidated
        or state[:2] in {"40", "08", "53"}
        or state[:3] in {"57P", "55P"}
    ):
        return ServiceUnavailableError(f"the catalog is not available: {original}")
    if not state and isinstance(error, exc.OperationalError):
        return ServiceUnavailableError(f"the catalog is not available: {original}")
    return StorageError(f"the catalog failed: {original} (SQLSTATE {state or 'unknown'})")
