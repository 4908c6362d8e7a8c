"""DuckDB for one statement at a time: sealed off, bounded, and interrupted when it has to be.

A connection is a database in memory of its own; see `sealed_connections` for how it is sealed. It may use no file but
its spill folder, no network, no extension that is not built in and no variable of Python, and its configuration
is locked. What a user's text may call is decided before, by `fletching.sql.functions.function_lookup`; this is the second wall.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Protocol, Self

import pyarrow as pa

from fletching.engine.query.complaints import complaint_of
from fletching.engine.query.query_limits import QueryLimits
from fletching.engine.query.sealed_connections import Connections
from fletching.errors import (
    FletchingError,
    InvalidArgumentError,
    MissingExtraError,
    OperationCancelledError,
)

try:
    import duckdb
except ImportError as exc:  # pragma: no cover - the test environment has every extra
    raise MissingExtraError("queries are run by DuckDB: pip install 'fletching[sql]'") from exc

__all__ = ["SealedDuckDB"]


_AGAIN_SECONDS = 0.05
"""How long an interrupt may take before it is said again."""


class Relation(Protocol):
    """Rows that can be opened again and again."""

    def open(self) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """The columns, and the rows from the first one on."""


class SealedDuckDB:
    """A connection that is good for one statement; use it as a context manager.

    Thread-safe in one respect: `interrupt` and `progress` may be called from any thread.
    """

    def __init__(self, limits: QueryLimits, connections: Connections) -> None:
        """Takes a connection; the statement's time counts from now on.

        Args:
            limits: what the statement may use.
            connections: where connections come from.

        Raises:
            StorageError: there is none to be had.
        """
        self._limits = limits
        self._connections = connections
        self._why: FletchingError | None = None
        self._failure: BaseException | None = None
        self._registered: list[str] = []
        self._unread = 0
        self._lock = threading.Lock()
        self._closed = False
        self._ended = threading.Event()
        self._connection = connections.take()
        self._deadline = connections.deadlines.begin(self._time_is_up)

    # --- running -----------------------------------------------------------------------------

    def register(self, name: str, source: Relation) -> None:
        """Makes a relation of an object with ``__arrow_c_stream__``, read anew by each scan of it."""
        with self._translated():
            self._connection.register(name, _Guarded(source, self._failed))
        self._registered.append(name)

    def query(self, sql: str) -> duckdb.DuckDBPyRelation:
        """Binds a query: its columns and types, nothing is computed yet.

        Raises:
            InvalidArgumentError: it cannot be bound.
        """
        with self._translated():
            return self._connection.sql(sql)

    def batches(
        self, relation: duckdb.DuckDBPyRelation, rows: int
    ) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Runs a query; its batches come as they are computed.

        Raises:
            InvalidArgumentError: a value cannot be computed.
            InvalidArgumentError: it took more memory, spill or time than it may.
            OperationCancelledError: it was interrupted.
        """
        with self._translated():
            reader = relation.to_arrow_reader(rows)

        self._unread += 1

        def made() -> Iterator[pa.RecordBatch]:
            while True:
                with self._translated():
                    try:
                        batch = reader.read_next_batch()
                    except StopIteration:
                        self._unread -= 1
                        return
                yield batch

        return reader.schema, made()

    def explain(self, sql: str) -> str:
        """DuckDB's plan of a query."""
        with self._translated():
            rows = self._connection.execute(f"EXPLAIN {sql}").fetchall()
        return "\n".join(str(row[-1]) for row in rows)

    def value(self, sql: str) -> object:
        """The one value of a constant expression; None if it cannot be computed."""
        with contextlib.suppress(duckdb.Error):
            rows = self._connection.execute(f"SELECT {sql}").fetchall()
            return rows[0][0]
        return None

    @property
    def progress(self) -> float:
        """How far the statement is, from 0 to 1; 0 if that is not known."""
        with self._lock, contextlib.suppress(duckdb.Error):
            if not self._closed:
                return min(max(float(self._connection.query_progress()) / 100, 0.0), 1.0)
        return 0.0

    def interrupt(self, why: FletchingError | None = None) -> None:
        """Ends the statement within a moment; it then raises ``why``."""
        with self._lock:
            # Another statement may have the connection once this one is closed.
            if self._closed:
                return
            first = self._why is None
            self._why = self._why or why or OperationCancelledError("the statement was cancelled")
            self._connection.interrupt()
        if first:
            threading.Thread(
                target=self._interrupt_again, name="fletching-sql-interrupts", daemon=True
            ).start()

    def _interrupt_again(self) -> None:
        # DuckDB forgets an interrupt that reaches it between two steps of a statement.
        while not self._ended.wait(_AGAIN_SECONDS):
            with self._lock:
                if not self._closed:
                    self._connection.interrupt()

    def close(self) -> None:
        """Gives the connection back, or what it used if the statement did not end well; idempotent."""
        self._connections.deadlines.end(self._deadline)
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._ended.set()
        clean = self._why is None and self._failure is None and not self._unread
        with contextlib.suppress(duckdb.Error):
            for name in self._registered:
                self._connection.unregister(name)
            if clean:
                self._connections.give_back(self._connection)
                return
        with contextlib.suppress(duckdb.Error):
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- endings -----------------------------------------------------------------------------

    def _time_is_up(self) -> None:
        self.interrupt(
            InvalidArgumentError(
                f"the statement ran longer than {self._limits.seconds:.0f} seconds"
            )
        )

    def _failed(self, error: BaseException) -> None:
        self._failure = self._failure or error

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Raises DuckDB's complaints, and those of the relations it reads, as ours."""
        if self._why is not None:
            raise self._why  # it came before there was anything to interrupt
        try:
            yield
        except (duckdb.Error, pa.ArrowException, OSError, RuntimeError) as error:
            if self._why is not None:
                raise self._why from error
            if isinstance(self._failure, FletchingError):
                raise self._failure from error
            raise complaint_of(error, self._limits) from error


class _Guarded:
    """A relation that remembers why reading it failed: DuckDB tells only the text."""

    def __init__(self, source: Relation, failed: Callable[[BaseException], None]) -> None:
        self._source = source
        self._failed = failed
        self._schema: pa.Schema | None = None
        self._opened: tuple[pa.Schema, Iterator[pa.RecordBatch]] | None = None

    def __arrow_c_schema__(self) -> object:
        """The columns, which binding asks for, without opening the rows each time."""
        if self._schema is None:
            self._opened = self._source.open()
            self._schema = self._opened[0]
        return self._schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The rows from their beginning."""
        # What was opened for its columns has not been read yet: the first scan of it does.
        opened, self._opened = self._opened, None
        schema, batches = opened or self._source.open()

        def guarded() -> Iterator[pa.RecordBatch]:
            try:
                yield from batches
            except BaseException as error:
                self._failed(error)
                raise

        reader = pa.RecordBatchReader.from_batches(schema, guarded())
        return reader.__arrow_c_stream__(requested_schema)
