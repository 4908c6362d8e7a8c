"""Sealed connections of DuckDB, kept for the next statement, and the folder that they spill to.

Opening and sealing a database takes longer than a short query, so one whose statement ended well is used
again: nothing of a statement stays in it but memory that DuckDB keeps. The folder is one per process; a lock
that dies with the process says whether it is in use, so that whoever comes next removes what was left.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from fletching.engine.query.local_times import moved_times
from fletching.engine.query.query_limits import QueryLimits
from fletching.errors import MissingExtraError, StorageError
from fletching.sql.functions.text_functions import SHA2_PREFIX
from fletching.sql.functions.time_zones import TO_LOCAL, TO_UTC

try:
    import duckdb
except ImportError as exc:  # pragma: no cover - the test environment has every extra
    raise MissingExtraError("queries are run by DuckDB: pip install 'fletching[sql]'") from exc

__all__ = ["Connections"]

PREFIX = "fletching-sql-"
_LOCK = "lock"
_YOUNG_SECONDS = 60.0
"""A folder without a lock may be one that another process is just making."""

KEPT = 4
"""Idle connections that are kept."""


class Deadlines:
    """Calls back whoever takes longer than all may. Thread-safe.

    One thread for all statements of a process: starting one for each would cost a short one most of its time.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._changed = threading.Condition()
        # In the order of their ends, as all may take equally long.
        self._waiting: dict[object, tuple[float, Callable[[], None]]] = {}
        self._thread: threading.Thread | None = None
        self._closed = False

    def begin(self, time_is_up: Callable[[], None]) -> object:
        """Has a function called, in the thread, when the time is up; returns what `end` takes."""
        key = object()
        with self._changed:
            self._waiting[key] = time.monotonic() + self._seconds, time_is_up
            self._closed = False
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._watch, name="fletching-sql-deadlines", daemon=True
                )
                self._thread.start()
        return key

    def end(self, key: object) -> None:
        """The time matters no longer; idempotent."""
        with self._changed:
            self._waiting.pop(key, None)

    def close(self) -> None:
        """Ends the thread, until the next one begins; idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _watch(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    self._thread = None
                    return
                now = time.monotonic()
                first = next(iter(self._waiting.items()), None)
                if first is None or first[1][0] > now:
                    # Whoever begins meanwhile ends later than this.
                    due = now + self._seconds if first is None else first[1][0]
                    self._changed.wait(min(due - now, threading.TIMEOUT_MAX))
                    continue
                del self._waiting[first[0]]
            first[1][1]()


class Connections:
    """Opens sealed connections, or hands out those that were given back. Thread-safe.

    Attributes:
        deadlines: ends statements that take too long.
    """

    def __init__(self, limits: QueryLimits, spill_folder: Path | None = None) -> None:
        """Seals with ``limits``; spills into a folder of this process's own in ``spill_folder``."""
        self._limits = limits
        self._parent = spill_folder
        self._lock = threading.Lock()
        self._idle: list[duckdb.DuckDBPyConnection] = []
        self._folder: Path | None = None
        self._locked = -1
        self._number = 0
        self._closed = False
        self.deadlines = Deadlines(limits.seconds)

    def take(self) -> duckdb.DuckDBPyConnection:
        """A connection that nobody else uses.

        Raises:
            StorageError: the folder cannot be made, or DuckDB cannot start.
        """
        with self._lock:
            if self._idle:
                return self._idle.pop()
            folder = self._own_folder()
            self._number += 1
            number = self._number
        return self._opened(folder / str(number))

    def give_back(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Takes a connection whose statement ended well and left nothing registered."""
        with self._lock:
            if not self._closed and len(self._idle) < KEPT:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Closes what is idle and removes the folder; idempotent."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._closed = True
            self.deadlines.close()
            folder, self._folder = self._folder, None
        for connection in idle:
            connection.close()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(self._locked)

    def _opened(self, folder: Path) -> duckdb.DuckDBPyConnection:
        limits = self._limits
        try:
            connection = duckdb.connect(
                ":memory:",
                config={
                    "memory_limit": f"{max(limits.memory_bytes >> 20, 16)}MiB",
                    "threads": limits.threads,
                    "temp_directory": str(folder),
                    "max_temp_directory_size": f"{max(limits.spill_bytes >> 20, 1)}MiB",
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                    "allow_community_extensions": False,
                    "python_enable_replacements": False,
                    "default_null_order": "nulls_first_on_asc_last_on_desc",
                },
            )
            for bits in (224, 384, 512):
                connection.create_function(  # type: ignore[call-overload]  # takes names of types, too
                    f"{SHA2_PREFIX}{bits}",
                    functools.partial(_digests, f"sha{bits}"),
                    ["VARCHAR"],
                    "VARCHAR",
                    type="arrow",
                )
            for name, back in ((TO_LOCAL, False), (TO_UTC, True)):
                connection.create_function(  # type: ignore[call-overload]  # as above
                    name,
                    functools.partial(_moved, back),
                    ["TIMESTAMP", "VARCHAR"],
                    "TIMESTAMP",
                    type="arrow",
                )
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
        except duckdb.Error as error:
            raise StorageError("the query engine cannot be started") from error
        return connection

    # --- the folder --------------------------------------------------------------------------

    def _own_folder(self) -> Path:
        if self._folder is None:
            try:
                if self._parent is not None:
                    self._parent.mkdir(parents=True, exist_ok=True)
                remove_left_behind(self._parent or Path(tempfile.gettempdir()))
                self._folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._parent))
                self._locked = os.open(self._folder / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
                fcntl.flock(self._locked, fcntl.LOCK_EX)
            except OSError as error:
                raise StorageError(
                    f"no folder to spill to can be made: {error.strerror}"
                ) from error
            self._closed = False
        return self._folder


def _digests(name: str, texts: pa.Array) -> pa.Array:
    """Hashes that DuckDB does not have; one value after the other, as the library takes them."""
    return pa.array(
        [
            None if text is None else hashlib.new(name, text.encode()).hexdigest()
            for text in texts.to_pylist()
        ],
        pa.string(),
    )


def _moved(back: bool, moments: pa.Array, zones: pa.Array) -> pa.Array:
    """Times of one zone, which is a constant of the statement."""
    if isinstance(moments, pa.ChunkedArray):
        moments = moments.combine_chunks()
    return moved_times(moments, zones[0].as_py(), back=back) if len(moments) else moments


def remove_left_behind(parent: Path) -> None:
    """Removes the folders of processes that are gone; those in use are left alone."""
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == os.getuid():
                _remove_unused(folder)


def _remove_unused(folder: Path) -> None:
    lock = folder / _LOCK
    if not lock.exists():
        if time.time() - folder.stat().st_mtime > _YOUNG_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
        return
    descriptor = os.open(lock, os.O_RDWR)
    try:
        # It fails while the process that made the folder lives.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)
