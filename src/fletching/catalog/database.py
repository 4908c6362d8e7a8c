"""Connections and transactions on the catalog's database, and its failures in our words.

Every state change is one ``write`` transaction. On SQLite it begins with BEGIN IMMEDIATE, so that
two writers never deadlock on upgrading a read lock, and commits with full synchronisation: when
``write`` has returned, a power cut does not undo it. Inside one process writers queue
(`fletching.catalog.write_queue`) instead of polling the file's lock. On PostgreSQL writers lock the rows that they change
(``with_for_update``, which SQLite does not need and leaves out).

The module is long because the two databases are told apart here and nowhere else: how each is opened,
locked, and complains.
"""

from __future__ import annotations

import contextlib
import enum
import json
import logging
import os
import sqlite3
import stat
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard
from urllib.parse import quote

import msgspec
import sqlalchemy
from sqlalchemy import Connection, Table, event, exc
from sqlalchemy.dialects import postgresql, sqlite

from fletching.catalog.write_queue import WriteQueue
from fletching.errors import (
    CorruptObjectError,
    FletchingError,
    MissingExtraError,
    OutcomeUnknownError,
    ServiceUnavailableError,
    StorageError,
    StorageFullError,
)

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

__all__ = [
    "CatalogLook",
    "Database",
    "insert_unless_there",
    "is_postgres",
    "look_at_catalog",
    "steady_seconds",
    "translated_errors",
]

BUSY_TIMEOUT_SECONDS = 30.0
"""How long a transaction waits for another process's before the write is refused as retryable."""

CLOCK_SECONDS = 60.0
"""How often a PostgreSQL server is asked for its time."""

POOL_CONNECTIONS = 50
POOL_KEPT = 10
"""Connections to PostgreSQL that stay open when they are idle."""

CONNECT_SECONDS = 10
"""How long PostgreSQL may take to accept a connection, unless its URL says otherwise."""

SILENT_TRANSACTION_SECONDS = 30
"""How long PostgreSQL lets a transaction wait for its process, unless the URL has ``options`` of its own. A process
that was frozen, or is cut off, keeps the rows locked that it was changing: of a table that it committed to, say,
which no other server commits to meanwhile. After so long it has failed, and nothing of it is there."""

PATIENT_TRANSACTION_SECONDS = 900
"""The same for one that only reads, and asks the object store meanwhile."""

DEAD_PEER_SECONDS = 30
"""How long a connection to PostgreSQL lasts on which nothing comes back from the other host, unless its URL says
otherwise: the system's own two hours are for nobody who waits."""

PINNING_LOCK = 0x70696E73
"""The number of PostgreSQL's lock that keeps opening sessions and forgetting segments apart."""

HOLDS_SNAPSHOTS = "fletching_holds_snapshots"
"""The execution option of a connection whose transaction holds that lock already."""

_LOG = logging.getLogger("fletching.catalog")

_WRITE = "fletching_write"
_DURABLE = "fletching_durable"
_FULL = "there is no room on the disk of the catalog, so nothing was changed: make room there and try again"
_WAIT_SECONDS = "fletching_wait_seconds"


class Database:
    """An open catalog. Thread-safe; each ``read`` or ``write`` block has its own connection.

    Attributes:
        observe: told of each transaction that ended its kind (``read``, ``write``) and seconds, the
            wait for its turn included; None if nobody counts them. Called in the thread that had it.
    """

    observe: Callable[[str, float], None] | None = None

    def __init__(self, engine: sqlalchemy.Engine, file: Path | None = None) -> None:
        self._engine = engine
        self._file = file
        self._file_identity = None if file is None else _identity_of(file)
        self._is_sqlite = engine.dialect.name == "sqlite"
        # PostgreSQL has room for many writers.
        self._queue = WriteQueue(self._begun) if self._is_sqlite else None
        self._closed = threading.Event()
        self._timeline = _Timeline()
        self._server_clock = _ServerClock(self)
        event.listen(engine, "checkin", _closing_when(self._closed))
        if not self._is_sqlite:
            event.listen(engine, "connect", self._timeline.look)
        # Who was never closed, a client that came pickled for one, leaves no connection to the collector.
        weakref.finalize(self, _dispose, engine, os.getpid()).atexit = False

    @classmethod
    def open(
        cls,
        url: str | Path,
        *,
        busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS,
        create: bool = True,
        connections: int = POOL_CONNECTIONS,
    ) -> Database:
        """Connects to the catalog and leaves its tables as they are, whatever release wrote them.

        Who works with it opens it with `fletching.catalog.opening.open_catalog`.

        Args:
            url: the path of a SQLite file, or a PostgreSQL URL
                (``postgresql+psycopg://user@host/name``).
            busy_timeout_seconds: how long to wait for other processes' transactions.
            create: whether a SQLite file comes into being if it is absent; its owner alone may
                read it.
            connections: most connections to PostgreSQL at once.

        Raises:
            StorageError: the file cannot be opened, or is absent.
        """
        file = None if is_postgres(url) else Path(url).absolute()
        if file is not None:
            _prepare_file(file, create=create)
        with translated_errors():
            return cls(_create_engine(url, busy_timeout_seconds, connections), file)

    def when_history_is_lost(self, forget: Callable[[], None]) -> None:
        """Has a function called when the newest transactions of the catalog may be gone; it is kept as long as this.

        So they are after a failover to a PostgreSQL server that had not received them yet: versions get the
        numbers again of others that have been read. Each promotion begins a new timeline, and new connections.
        """
        self._timeline.when_changed.append(forget)

    @property
    def is_sqlite(self) -> bool:
        """Whether the catalog is a file of this host."""
        return self._is_sqlite

    def clock(self) -> Callable[[], float]:
        """The time that everybody who shares this catalog goes by, in seconds since the epoch.

        Of SQLite that is the host's clock; of PostgreSQL the database server's, asked for once a
        minute, and by ``ask_time``, and counted on from there, so that nobody's own clock matters.
        """
        return time.time if self._is_sqlite else self._server_clock

    def ask_time(self, connection: Connection) -> None:
        """Sets ``clock`` by the database server: whose clock was set is not to be taken for another's silence."""
        if not self._is_sqlite:
            self._server_clock.ask(connection)

    def _check_file(self) -> None:
        """Refuses to go on in a file that is gone from its place: nobody would find it again."""
        if self._file is not None and _identity_of(self._file) != self._file_identity:
            raise StorageError(
                f"the catalog {self._file} was removed or replaced while it was open:"
                " put it back, or stop what uses it and open the folder anew"
            )

    @contextlib.contextmanager
    def read(self, *, patient: bool = False) -> Iterator[Connection]:
        """A connection whose queries all see one moment; what it changes is rolled back.

        Args:
            patient: the object store is asked, too, before the block ends, which may take its time: PostgreSQL is to
                wait. Nobody waits for what a reader holds but a migration.
        """
        with (
            self._observed("read"),
            translated_errors(),
            self._engine.connect() as connection,
        ):
            if not self._is_sqlite:
                connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin() as transaction:
                self._check_file()
                if patient and not self._is_sqlite:
                    connection.exec_driver_sql(
                        "SET LOCAL idle_in_transaction_session_timeout ="
                        f" {PATIENT_TRANSACTION_SECONDS * 1000}"
                    )
                yield connection
                transaction.rollback()

    @contextlib.contextmanager
    def write(
        self,
        *,
        durable: bool = True,
        wait_seconds: float | None = None,
        shares: bool = False,
        pins: bool = False,
    ) -> Iterator[Connection]:
        """One transaction: durable when the block has ended, undone if it raised.

        Args:
            durable: False does not wait for the disk: a power cut may undo the transaction as a
                whole, never a part of it. For what a client can do again, such as opening a read
                session.
            wait_seconds: how long to wait for other writers of a SQLite file; by default as long as
                the catalog was opened with.
            shares: commit together with others that wait meanwhile, see `WriteQueue.turn`.
            pins: a version is about to be read and pinned: no segment is forgotten until the end
                (`read_session_rows.hold_snapshots`, in a statement that is needed anyway).

        Raises:
            ServiceUnavailableError: the catalog is locked by someone else for too long.
            OutcomeUnknownError: whether the transaction took place was not to be learnt.
            StorageFullError: no room on its disk.
            StorageError: the database failed otherwise.
        """
        with self._observed("write"), translated_errors():
            if self._queue is None:
                turn = self._begun(durable, wait_seconds, pins=pins)
            else:
                turn = self._queue.turn(durable=durable, wait_seconds=wait_seconds, shares=shares)
            with turn as connection:
                self._check_file()
                yield connection

    @contextlib.contextmanager
    def _begun(
        self, durable: bool, wait_seconds: float | None, *, pins: bool = False
    ) -> Iterator[Connection]:  # called by the queue
        """A transaction that changes something, until the block's end."""
        with self._engine.connect() as connection:
            connection.execution_options(
                **{_WRITE: True, _DURABLE: durable, _WAIT_SECONDS: wait_seconds}
            )
            committing = False
            try:
                with connection.begin():
                    if pins and not self._is_sqlite:
                        commits = "on" if durable else "off"
                        connection.exec_driver_sql(
                            f"SELECT set_config('synchronous_commit', '{commits}', true),"
                            f" pg_advisory_xact_lock_shared({PINNING_LOCK})"
                        )
                        connection.execution_options(**{HOLDS_SNAPSHOTS: True})
                    elif not durable and not self._is_sqlite:
                        connection.exec_driver_sql("SET LOCAL synchronous_commit TO off")
                    yield connection
                    committing = True
            except exc.DBAPIError as error:
                if not (committing and _may_be_done(error)):
                    raise
                raise OutcomeUnknownError(
                    f"the catalog did not say whether it has done this: {_first_line(error.orig)};"
                    " the same request with the same key finds out"
                ) from error

    def _observed(self, kind: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self.observe is None else self._timed(kind)

    @contextlib.contextmanager
    def _timed(self, kind: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            if self.observe is not None:
                self.observe(kind, time.perf_counter() - started)

    @contextlib.contextmanager
    def trial(self) -> Iterator[Connection]:
        """A ``write`` transaction that is always undone: to find out what one would do."""
        alone = contextlib.nullcontext() if self._queue is None else self._queue.pause()
        with translated_errors(), alone, self._engine.connect() as connection:
            connection.execution_options(**{_WRITE: True, _DURABLE: False})
            with connection.begin() as transaction:
                yield connection
                transaction.rollback()

    def close(self) -> None:
        """Closes idle connections now, and those in use when their block ends; idempotent."""
        self._closed.set()
        self._engine.dispose()


def _dispose(engine: sqlalchemy.Engine, process: int) -> None:
    """Closes idle connections; in a forked process only lets go of them, since they are the parent's."""
    engine.dispose(close=os.getpid() == process)


def _closing_when(
    closed: threading.Event,
) -> Callable[[DBAPIConnection | None, ConnectionPoolEntry], None]:
    """Closes connections that are given back to a pool that was disposed of: it would keep them open."""

    def given_back(_connection: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
        if closed.is_set():
            entry.invalidate()

    return given_back


def is_postgres(url: str | Path) -> TypeGuard[str]:
    """Whether a catalog's location is a PostgreSQL URL rather than a file's path."""
    return isinstance(url, str) and url.startswith(("postgres:", "postgresql:", "postgresql+"))


class CatalogLook(enum.Enum):
    """What there is where a catalog should be."""

    ABSENT = "absent"
    BLANK = "blank"
    """Its tables are there, and nothing in them: a first opening that did not get further."""
    USED = "used"


def look_at_catalog(url: str | Path) -> CatalogLook:
    """Looks at a catalog of whatever release, and makes nothing.

    A SQLite file without a byte in it is none: it was emptied, or its making was cut short.

    Raises:
        StorageError: the database cannot be asked.
    """
    if not is_postgres(url):
        file = Path(url)
        if not file.is_file() or file.stat().st_size == 0:
            return CatalogLook.ABSENT
    with translated_errors():
        engine = _create_engine(url, BUSY_TIMEOUT_SECONDS)
        try:
            with engine.connect() as connection:
                names = set(sqlalchemy.inspect(connection).get_table_names())
                if "alembic_version" not in names:
                    return CatalogLook.ABSENT
                used = any(
                    connection.execute(sqlalchemy.text(f"SELECT 1 FROM {name} LIMIT 1")).first()  # noqa: S608 - names of our own
                    for name in ("store_identity", "projects", "access_keys")
                    if name in names
                )
                return CatalogLook.USED if used else CatalogLook.BLANK
        finally:
            engine.dispose()


def _identity_of(file: Path) -> tuple[int, int] | None:
    """Which file is there; None if there is none."""
    try:
        status = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StorageError(f"the catalog {file} cannot be looked at: {error.strerror}") from error
    return status.st_dev, status.st_ino


def _prepare_file(file: Path, *, create: bool) -> None:
    """Makes the file, for its owner alone; the database takes the mode of its other files from it.

    A file that is there is never opened here: closing it would drop the locks that other openings
    of this process have on it.
    """
    try:
        if create:
            with contextlib.suppress(FileExistsError):
                os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        mode = stat.S_IMODE(file.stat().st_mode)
    except OSError as error:
        raise StorageError(f"the catalog {file} cannot be opened: {error.strerror}") from error
    if mode & 0o007:
        # Earlier releases let every account of the machine read it.
        with contextlib.suppress(PermissionError):
            file.chmod(mode & ~0o007)


class _ServerClock:
    """A database server's clock, without asking it each time. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._asked_at: float | None = None
        self._offset = 0.0

    def __call__(self) -> float:
        if self._asked_at is None or steady_seconds() - self._asked_at > CLOCK_SECONDS:
            try:
                with self._database.read() as connection:
                    self.ask(connection)
            except FletchingError:
                # Counting on is right for a while; a catalog that is away shows elsewhere.
                if self._asked_at is None:
                    raise
        return steady_seconds() + self._offset

    def ask(self, connection: Connection) -> None:
        """Goes by what the server says now."""
        before = steady_seconds()
        server_time = connection.execute(
            sqlalchemy.text("SELECT extract(epoch FROM clock_timestamp())")
        ).scalar_one()
        now = steady_seconds()
        self._offset = float(server_time) - (before + now) / 2
        self._asked_at = now  # last: whoever sees that it was asked goes by the offset


def steady_seconds() -> float:
    """Seconds that nobody sets, and that a host counts while it sleeps, where it can: it wakes an hour later."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def _create_engine(
    url: str | Path, busy_timeout_seconds: float, connections: int = POOL_CONNECTIONS
) -> sqlalchemy.Engine:
    if is_postgres(url):
        return _postgres_engine(url, connections)
    return _sqlite_engine(Path(url), busy_timeout_seconds)


def _postgres_engine(url: str, connections: int) -> sqlalchemy.Engine:
    try:
        parsed = sqlalchemy.make_url(url)
    except (ValueError, exc.ArgumentError) as error:
        raise StorageError(
            "the catalog failed: its URL cannot be taken apart; postgresql://USER@HOST:PORT/NAME"
            " is one, with a port of digits, and a password's @ written as %40"
        ) from error
    if parsed.drivername in {"postgres", "postgresql"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    kept = min(connections, POOL_KEPT)
    # What the URL says comes before, and libpq has names for it.
    arguments = {name: value for name, value in _DEAD_PEERS.items() if name not in parsed.query}
    try:
        postgres = sqlalchemy.create_engine(
            parsed,
            pool_size=kept,
            max_overflow=connections - kept,
            pool_pre_ping=True,
            connect_args=arguments,
        )
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "a PostgreSQL catalog needs psycopg: pip install 'fletching[postgres]'"
        ) from error
    if "options" not in parsed.query:
        event.listen(postgres, "connect", _end_silent_transactions)
    event.listen(postgres, "handle_error", _leave_who_only_reads)
    return postgres


def _sqlite_engine(path: Path, busy_timeout_seconds: float) -> sqlalchemy.Engine:
    engine = sqlalchemy.create_engine(
        # As a URI that may not create: a connection made after the file was removed must fail.
        sqlalchemy.URL.create(
            "sqlite",
            # With an authority, which is empty: else //folder would be one.
            database=f"file://{quote(str(path.absolute()))}",
            query={"mode": "rw", "uri": "true"},
        ),
        connect_args={"timeout": busy_timeout_seconds, "check_same_thread": False},
        # A connection for whoever asks: the readers of a server are as many as its threads.
        pool_size=16,
        max_overflow=112,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: object) -> None:
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
        wait_seconds = options.get(_WAIT_SECONDS)
        if wait_seconds is None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            return
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(wait_seconds * 1000)}")
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        finally:
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(busy_timeout_seconds * 1000)}")

    return engine


_DEAD_PEERS = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": DEAD_PEER_SECONDS // 2,
    "keepalives_interval": DEAD_PEER_SECONDS // 6,
    "keepalives_count": 3,
    "tcp_user_timeout": DEAD_PEER_SECONDS * 1000,
}
"""libpq's settings of a connection, in seconds but for the last, which it wants in milliseconds."""


class _Timeline:
    """The timeline of a PostgreSQL server, as new connections find it."""

    def __init__(self) -> None:
        self.when_changed: list[Callable[[], None]] = []
        self._known = ""

    def look(self, connection: DBAPIConnection, _record: object) -> None:
        """Compares it with the one of earlier connections."""
        now, before = _timeline_of(connection), self._known
        self._known = now or before
        if now and before and now != before:
            _LOG.warning(
                "the catalog's server was promoted (timeline %s, before %s): what is kept of versions is read anew",
                now,
                before,
            )
            for forget in self.when_changed:
                forget()


def _timeline_of(connection: DBAPIConnection) -> str:
    """The timeline of a PostgreSQL server, which every promotion changes; empty if it does not say."""
    cursor = connection.cursor()
    try:
        cursor.execute("SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)")
        row = cursor.fetchone()
    except Exception as error:  # noqa: BLE001 - of whichever driver; what is wrong with a connection shows at once
        _LOG.debug("the server does not tell its timeline: %s", error)
        row = None
    finally:
        cursor.close()
        connection.rollback()
    return "" if row is None else str(row[0])


def _end_silent_transactions(connection: DBAPIConnection, _record: object) -> None:
    """Has PostgreSQL end transactions whose process is silent.

    By a statement, not among the parameters of the connection: PgBouncer refuses those that it does not know.
    """
    cursor = connection.cursor()
    try:
        cursor.execute(
            f"SET idle_in_transaction_session_timeout = {int(SILENT_TRANSACTION_SECONDS * 1000)}"
        )
    finally:
        cursor.close()
    connection.commit()


def _leave_who_only_reads(context: sqlalchemy.engine.ExceptionContext) -> None:
    """Gives up all connections where one leads to a database that is not the primary any more.

    After a failover they may stay open, and would refuse every write for as long as they do; a new one goes to
    where the address leads now.
    """
    if getattr(context.original_exception, "sqlstate", None) == "25006":
        context.is_disconnect = True


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


def insert_unless_there(connection: Connection, table: Table, **values: object) -> bool:
    """Inserts a row unless one with its key exists; says whether it did. Two at once do not clash."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table).values(**values).on_conflict_do_nothing()
    # A row comes back if one was inserted. Drivers count the rows of this statement differently.
    key = list(table.primary_key.columns)
    return connection.execute(statement.returning(*key)).first() is not None


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
    except (UnicodeDecodeError, msgspec.DecodeError, json.JSONDecodeError) as error:
        # What others send is read before: this is what the catalog has.
        raise _damaged(error) from error


def _damaged(error: Exception) -> CorruptObjectError:
    return CorruptObjectError(f"the catalog is damaged ({error}): restore it from a copy")


def _may_be_done(error: exc.DBAPIError) -> bool:
    """Whether a commit that failed like this may have taken place: the disk or the connection failed meanwhile."""
    original = error.orig
    if isinstance(original, sqlite3.Error):
        return getattr(original, "sqlite_errorname", "").startswith("SQLITE_IOERR")
    state = getattr(original, "sqlstate", None) or ""
    return error.connection_invalidated or not state or state.startswith(("08", "57P"))


def _translated(error: exc.DBAPIError) -> FletchingError:
    original = error.orig
    if isinstance(original, sqlite3.Error):
        name = getattr(original, "sqlite_errorname", "")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return ServiceUnavailableError("the catalog is locked by another process")
        if name.startswith("SQLITE_FULL"):
            return StorageFullError(_FULL)
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return _damaged(original)
        return StorageError(f"the catalog failed: {original} ({name or type(original).__name__})")
    state = getattr(original, "sqlstate", None) or ""
    # PostgreSQL's classes: 53100 disk full; 40 serialisation or deadlock; 08 and 57P connections; 25P03 a
    # transaction that was silent for too long, 25006 a standby.
    if state == "53100":
        return StorageFullError(_FULL)
    if (
        error.connection_invalidated
        or state[:2] in {"40", "08", "53"}
        or state[:3] in {"57P", "55P"}
        or state in {"25006", "25P03", "25P04"}
    ):
        return ServiceUnavailableError(f"the catalog is not available: {_first_line(original)}")
    if not state and isinstance(error, exc.OperationalError):
        return ServiceUnavailableError(f"the catalog is not available: {_first_line(original)}")
    return StorageError(
        f"the catalog failed: {_first_line(original)} (SQLSTATE {state or 'unknown'})"
    )


def _first_line(error: object) -> str:
    """What a driver says, without the lines of detail that name rows and statements."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
