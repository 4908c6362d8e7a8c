"""Makes one call after the other fail: of the system on a folder's files, of a bucket, of a catalog.

A catalog is a SQLite file or in PostgreSQL; the failures of PostgreSQL are its own and its driver's, made to happen.

``Calls`` counts what arrives at one of them. A run without a fault tells how many there are; then each of
them can fail in turn, once or from there on, in whichever way such a call fails.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import socket
import sqlite3
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.exceptions import GenericError
from obstore.store import LocalStore as FolderBucket
from sqlalchemy import exc
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.pool import QueuePool

from fletching.objects import mappings, remote_store
from fletching.objects.remote_store import RemoteStore

__all__ = [
    "BUCKET",
    "CATALOG",
    "FOLDER",
    "POSTGRESQL",
    "Calls",
    "bucket_of",
    "failing_bucket",
    "failing_catalog",
    "failing_folder",
    "failing_postgresql",
]


class Calls:
    """Counts calls, and makes one of them fail. Thread-safe.

    Attributes:
        names: of the calls, in the order in which they arrived.
        failed: those of them that failed.
        counting: whether calls count, and may fail.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.failed: list[str] = []
        self._fault = ""
        self._at: int | None = None
        self._onwards = False
        self.counting = False
        self.when_over: list[Callable[[], None]] = []
        """What has still to happen when the faults are gone."""
        self._lock = threading.Lock()

    def begin(self, at: int | None = None, fault: str = "", *, onwards: bool = False) -> None:
        """Counts from nought; the call number ``at`` fails, and with ``onwards`` all after it."""
        with self._lock:
            self.names, self.failed = [], []
            self._at, self._fault, self._onwards = at, fault, onwards
            self.counting = True

    def end(self) -> None:
        """The faults are gone, and nothing is counted."""
        with self._lock:
            self.counting = False
        for finish in self.when_over:
            finish()
        self.when_over.clear()

    def arrive(self, name: str) -> str:
        """Which fault this call meets; empty for none."""
        with self._lock:
            if not self.counting:
                return ""
            number = len(self.names)
            self.names.append(name)
            if self._at is None or not (
                number == self._at or (self._onwards and number > self._at)
            ):
                return ""
            self.failed.append(name)
            return self._fault


# --- the system's calls on a folder's files ---------------------------------------------------

FOLDER = ("EIO", "ENOSPC", "EMFILE", "short", "interrupt")
"""How a call of the system fails: with an error, by doing a part, or by a Ctrl-C meanwhile."""

_BY_PATH = (
    "open", "link", "unlink", "rename", "replace", "mkdir", "rmdir", "scandir", "listdir", "stat",
    "chmod", "utime",
)  # fmt: skip
_BY_DESCRIPTOR = ("write", "writev", "read", "preadv", "pread", "fsync", "fdatasync", "fstat", "ftruncate")  # fmt: skip
_TRANSFERS = {"write", "writev", "read", "preadv", "pread"}


def _raise(fault: str, name: str) -> None:
    if fault == "interrupt":
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
    elif fault in {"EIO", "ENOSPC", "EMFILE"}:
        number = getattr(errno, fault)
        raise OSError(number, os.strerror(number), name)


def _less(name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of a transfer that takes about half of what it was asked for."""
    first, data, *more = arguments
    if name in {"read", "pread"}:
        return first, max(1, data // 2), *more
    views = [data] if name == "write" else list(data)
    view = memoryview(views[0]).cast("B")
    half = view[: max(1, len(view) // 2)]
    return first, half if name == "write" else [half], *more


@contextlib.contextmanager
def failing_folder(calls: Calls, folder: Path) -> Iterator[None]:
    """Has the calls of Python on what is in a folder arrive at ``calls``; SQLite's own do not."""
    root = str(folder)
    real = {name: getattr(os, name) for name in (*_BY_PATH, *_BY_DESCRIPTOR)}

    def lies_in_folder(target: Any, options: dict[str, Any]) -> bool:
        directory = options.get("dir_fd")
        if directory is not None or isinstance(target, int):
            try:
                number = target if directory is None else directory
                target = Path(f"/proc/self/fd/{number}").readlink()
            except OSError:
                return False
        if isinstance(target, bytes) or not isinstance(target, str | os.PathLike):
            return False
        name = os.fspath(target)
        return name.startswith(root)

    def failing(name: str) -> Callable[..., Any]:
        method = real[name]

        def call(*arguments: Any, **options: Any) -> Any:
            target = arguments[0] if arguments else options.get("path")
            if calls.counting and lies_in_folder(target, options):
                fault = calls.arrive(name)
                if fault == "short" and name in _TRANSFERS:
                    arguments = _less(name, arguments)
                elif fault:
                    _raise(fault, name)
            return method(*arguments, **options)

        return call

    def map_file(*arguments: Any, **options: Any) -> mmap.mmap:
        _raise(calls.arrive("mmap"), "mmap")
        return mmap.mmap(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        for name in real:
            patch.setattr(os, name, failing(name))
        names = {name: getattr(mmap, name) for name in dir(mmap)}
        patch.setattr(mappings, "mmap", types.SimpleNamespace(**{**names, "mmap": map_file}))
        yield


# --- a catalog's statements and commits -------------------------------------------------------

CATALOG = ("disk I/O error", "database or disk is full", "database is locked", "answer lost", "interrupt")  # fmt: skip
"""How a statement or a commit fails. Of a lost answer it took effect, which only a commit can tell."""

_SQLITE_NAMES = {
    "disk I/O error": "SQLITE_IOERR_WRITE",
    "database or disk is full": "SQLITE_FULL",
    "database is locked": "SQLITE_BUSY",
    "answer lost": "SQLITE_IOERR_FSYNC",
}


def _sqlite_error(fault: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error" if fault == "answer lost" else fault)
    error.sqlite_errorname = _SQLITE_NAMES[fault]
    return error


@contextlib.contextmanager
def failing_catalog(calls: Calls) -> Iterator[None]:
    """Has every statement and every commit of a SQLite catalog arrive at ``calls``."""
    real = {
        name: getattr(DefaultDialect, name)
        for name in ("do_execute", "do_executemany", "do_execute_no_params", "do_commit")
    }

    def failed(fault: str, connection: Any) -> None:
        if fault == "interrupt":
            _raise(fault, "")
            return
        if fault in {"disk I/O error", "database or disk is full"} and connection.in_transaction:
            # As SQLite does of itself.
            connection.execute("ROLLBACK")
        raise _sqlite_error(fault)

    def failing(name: str) -> Callable[..., Any]:
        method = real[name]

        def call(dialect: Any, cursor: Any, *arguments: Any, **options: Any) -> Any:
            statement = arguments[0].split(None, 3)[:3] if arguments else ["COMMIT"]
            connection = cursor.connection if arguments else cursor.dbapi_connection
            fault = calls.arrive(" ".join(statement))
            if fault and fault != "answer lost":
                failed(fault, connection)
            result = method(dialect, cursor, *arguments, **options)
            if fault == "answer lost":
                raise _sqlite_error(fault)
            return result

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in real:
            patch.setattr(DefaultDialect, name, failing(name))
        yield


# --- statements, commits and connections of a catalog in PostgreSQL ----------------------------

_REFUSED = {
    "serialization failure": "40001",
    "deadlock": "40P01",
    "statement timeout": "57014",
    "lock timeout": "55P03",
    "no room": "53100",
    "standby": "25006",
}
"""The SQLSTATE with which the server refuses a statement, or a commit, that it has not done."""

POSTGRESQL = (
    *_REFUSED, "shut down", "connection lost", "answer lost", "answer late", "no connection free", "interrupt",
)  # fmt: skip
"""How a statement, a commit or a connection fails. Of a lost answer the commit took effect, of a late one it will."""

_GONE = {"shut down", "connection lost", "answer lost", "answer late"}
"""After which nobody can connect, where it goes on."""

LATE_SECONDS = 0.05
"""How long a commit takes whose answer nobody waited for."""


class _Postgres:
    """Has what goes to PostgreSQL arrive at ``calls``."""

    def __init__(self, calls: Calls) -> None:
        import psycopg

        self._calls = calls
        self._driver = psycopg
        self._execute = psycopg.Cursor.execute
        self._commit = psycopg.Connection.commit
        self._connect = psycopg.connect
        self._check_out = QueuePool._do_get

    def _fail(self, fault: str, connection: Any) -> None:
        """Has the server, or the network, fail on a connection."""
        if fault == "interrupt":
            _raise(fault, "")
        elif fault == "shut down":
            self._execute(connection.cursor(), "SELECT pg_terminate_backend(pg_backend_pid())")
        elif fault in _REFUSED:
            refuse = f"DO $$ BEGIN RAISE 'injected' USING ERRCODE = '{_REFUSED[fault]}'; END $$"
            self._execute(connection.cursor(), refuse)
        elif fault in _GONE:
            self._cut(connection)

    def _cut(self, connection: Any) -> None:
        """Ends the stream below a connection, and has the driver notice."""
        with socket.socket(fileno=os.dup(connection.pgconn.socket)) as stream:
            stream.shutdown(socket.SHUT_RDWR)
        self._execute(connection.cursor(), "SELECT 1")

    def _commit_late(self, connection: Any) -> None:
        """Has a commit go on by itself while its connection is lost to who waits for it."""
        going_on = self._connect(connection.info.dsn, password="")
        going_on.pgconn, connection.pgconn = connection.pgconn, going_on.pgconn

        def commit() -> None:
            self._commit(going_on)
            going_on.close()

        timer = threading.Timer(LATE_SECONDS, commit)
        timer.start()
        self._calls.when_over.append(timer.join)
        self._cut(connection)

    def execute(self, cursor: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        text = query.decode() if isinstance(query, bytes) else str(query)
        self._fail(self._calls.arrive(" ".join(text.split(None, 3)[:3])), cursor.connection)
        return self._execute(cursor, query, *arguments, **options)

    def commit(self, connection: Any) -> None:
        if connection.info.transaction_status == self._driver.pq.TransactionStatus.IDLE:
            self._commit(connection)
            return
        fault = self._calls.arrive("COMMIT")
        if fault == "answer late":
            self._commit_late(connection)
        if fault == "answer lost":
            self._commit(connection)
        self._fail(fault, connection)
        self._commit(connection)

    def connect(self, *arguments: Any, **options: Any) -> Any:
        if self._calls.arrive("CONNECT") in _GONE:
            options["host"] = "/nowhere"
        return self._connect(*arguments, **options)

    def check_out(self, pool: Any) -> Any:
        if self._calls.arrive("CHECK OUT") == "no connection free":
            raise exc.TimeoutError("injected: QueuePool limit reached, connection timed out")
        return self._check_out(pool)


@contextlib.contextmanager
def failing_postgresql(calls: Calls) -> Iterator[None]:
    """Has every statement, commit and connection of a catalog in PostgreSQL arrive at ``calls``."""
    failing = _Postgres(calls)
    driver = failing._driver
    with pytest.MonkeyPatch.context() as patch:
        for kind, name, method in (
            (driver.Cursor, "execute", failing.execute),
            (driver.Connection, "commit", failing.commit),
            (QueuePool, "_do_get", failing.check_out),
        ):
            patch.setattr(kind, name, _as_method(method))
        patch.setattr(driver, "connect", failing.connect)
        yield


def _as_method(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        return function(self, *arguments, **options)

    return call


# --- a bucket's requests ----------------------------------------------------------------------

BUCKET = ("refused", "answer lost")
"""A request that was not done, and one that was done and whose answer is an error."""

_REQUESTS = ("put", "get", "head", "delete", "get_range", "get_ranges", "open_writer")


def bucket_of(folder: Path) -> Any:
    """A bucket that is a folder, so that it can be copied."""
    folder.mkdir(exist_ok=True)
    return RemoteStore(FolderBucket(folder))


class _Upload:
    """A multipart upload whose requests arrive, too."""

    def __init__(self, calls: Calls, upload: Any) -> None:
        self._calls, self._upload = calls, upload

    def write(self, data: bytes) -> None:
        _asked(self._calls, "upload.write", self._upload.write)(data)

    def close(self) -> None:
        _asked(self._calls, "upload.close", self._upload.close)()


def _asked(calls: Calls, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        fault = calls.arrive(name)
        if fault == "refused":
            raise GenericError("injected: status code: 503 Service Unavailable")
        result = method(*arguments, **options)
        if fault == "answer lost":
            raise GenericError("injected: connection closed before message completed")
        return result

    return call


@contextlib.contextmanager
def failing_bucket(calls: Calls, *, part_bytes: int | None = None) -> Iterator[None]:
    """Has every request to a bucket arrive at ``calls``; objects above ``part_bytes`` go in parts."""

    def open_writer(*arguments: Any, **options: Any) -> _Upload:
        return _Upload(calls, obstore.open_writer(*arguments, **options))

    def listed(*arguments: Any, **options: Any) -> Iterator[Any]:
        for page in obstore.list(*arguments, **options):
            yield _asked(calls, "list", lambda page=page: page)()

    methods = {name: getattr(obstore, name) for name in _REQUESTS} | {"open_writer": open_writer}
    package = types.SimpleNamespace(
        **{name: _asked(calls, name, method) for name, method in methods.items()},
        list=listed,
        store=obstore.store,
        exceptions=obstore.exceptions,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote_store, "_package", lambda: package)
        if part_bytes is not None:
            patch.setattr(remote_store, "BUFFERED_BYTES", part_bytes)
        yield


if sys.platform != "linux":  # pragma: no cover - where a descriptor's file is asked for differs
    pytest.skip("asks /proc which file a descriptor is of", allow_module_level=True)
