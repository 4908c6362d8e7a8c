"""Instances: statements that are run, behind one small interface.

A statement runs in a thread of a pool that nothing else uses; whoever asks for it waits as long as he
likes. What came of it, what it printed, which rows it chose, or why it failed, is kept in the catalog for
a day, so that any process of a service answers for it. Rows are kept as they were computed: a few beside
the outcome, more as a table of a project that nobody can name, sealed by its commit.
"""

from __future__ import annotations

import contextlib
import contextvars
import csv
import dataclasses
import datetime as dt
import functools
import io
import itertools
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import pyarrow as pa

from fletching.catalog.instance_rows import (
    InstanceFilter,
    InstanceRow,
    ask_to_cancel,
    asked_to_cancel,
    find_instance,
    forget_instances,
    insert_instance,
    list_instances,
    update_instance,
)
from fletching.engine.context import EngineContext
from fletching.engine.presence import DEAD_SECONDS
from fletching.engine.query.printing import failure_text
from fletching.engine.query.query_limits import QueryLimits
from fletching.engine.query.query_runner import Query, QueryRunner
from fletching.engine.query.row_writing import Writes, cast_to, write_rows
from fletching.engine.query.statement_runner import Outcome, StatementRunner
from fletching.engine.query.table_readers import Statistics
from fletching.engine.query.value_text import csv_cells
from fletching.engine.reading.read_calls import Reading
from fletching.engine.reading.read_plan import Computed, Literal, ReadPlan
from fletching.errors import (
    ConflictError,
    FletchingError,
    InvalidArgumentError,
    NotFoundError,
    OperationCancelledError,
    ServiceError,
    ThrottledError,
)
from fletching.ipc.encoding import encode_batch, encode_schema
from fletching.ipc.message import END_OF_STREAM
from fletching.protocol.http.error_codec import to_service_error
from fletching.protocol.messages.admin import (
    CreateTable,
    DropTable,
    ListTables,
    StatementRequest,
    StatementState,
    TablePage,
)
from fletching.protocol.messages.requests import (
    CreateInstanceReadSession,
    CreateReadSession,
    GetInstanceReadSession,
    ReadInstance,
    ReadTable,
    Request,
    SplitOptions,
)
from fletching.protocol.messages.responses import (
    InstanceReadSession,
    ReadSession,
    Response,
    TableSchema,
)
from fletching.protocol.messages.vocabulary import SplitMode
from fletching.protocol.types.table_schema import table_schema
from fletching.sql.statement_kinds import Namespace
from fletching.sql.statements import placed_statements
from fletching.types import RESULTS_PROJECT, PartitionSpec, TableName

if TYPE_CHECKING:
    from fletching.engine.query.sealed_duckdb import SealedDuckDB

__all__ = [
    "COST",
    "MAX_CSV_ROWS",
    "MERGE",
    "SESSION",
    "SQL",
    "Authorize",
    "InstanceFilter",
    "InstanceRow",
    "Instances",
    "Visible",
]

SQL, COST, MERGE, SESSION = "SQL", "SQLCost", "Merge", "SQLRT"
"""Kinds of instances, by the names of their tasks: statements that are run; statements whose cost is
worked out; small segments of a table put together; sessions, in which further statements are run."""


KEPT_SECONDS = 86_400.0
"""How long an instance can be asked for."""

MAX_RESULT_CHARACTERS = 8 * 1024 * 1024
"""Longest printed result that is kept."""

MAX_CSV_ROWS = 10_000
"""Rows that a query prints when its result is asked for as text."""

INLINE_BYTES = 256 * 1024
"""Results up to this size are kept beside the outcome; larger ones are a table."""

MAX_WAITING = 1000
"""Statements that may wait for a thread."""

_BATCH_ROWS = 65_536
_CLEANING_SECONDS = 600.0
_LATE_SECONDS = 600.0
_CANCEL_SECONDS = 1.0
"""How often a server looks whether it is asked, through another one, to cancel what it runs."""
_END_SECONDS = 10.0

Authorize = Callable[[Request], None]
"""Called with each request before it is executed; raises to refuse it."""

Visible = Callable[[Response], Response]
"""Takes out of a reply what its caller may not know of."""


class Verbs(Writes, Protocol):
    """The engine's verbs, which statements are executed with."""

    def read(self, request: Any) -> ReadPlan:
        """Plans the reply to a request for rows."""

    def ensure_project(self, project: str) -> None:
        """Creates a project unless it exists."""


class _Selection(msgspec.Struct, frozen=True, omit_defaults=True):
    """What statements left beside their text.

    Attributes:
        has_rows: whether the last one was a query.
        rows: how many rows it chose.
        stream: the rows as an Arrow IPC stream, if they are few.
        table, session_id: the table that holds them otherwise, and a read session of it.
        affected: how many rows were changed; None for statements that change none.
        cancelled: whether the statement was cancelled.
        error: (HTTP status, code, message) of a failure.
        input_bytes: how much the scans have read, decoded.
    """

    has_rows: bool = False
    rows: int = 0
    stream: bytes = b""
    table: TableName | None = None
    session_id: str = ""
    affected: int | None = None
    cancelled: bool = False
    error: tuple[int, str, str] | None = None
    input_bytes: int = 0


class _Run:
    """A statement that waits for a thread or runs in one."""

    def __init__(self, row: InstanceRow) -> None:
        self.row = row
        self.future: Future[InstanceRow]
        self.kept = False
        self.ended: InstanceRow | None = None
        self.keeping = threading.Lock()
        self._lock = threading.Lock()
        self._cancelled = False
        self._duck: SealedDuckDB | None = None
        self._statistics: list[Statistics] = []

    def began(self, duck: SealedDuckDB) -> None:
        """See `Watched`."""
        with self._lock:
            if self._cancelled:
                raise OperationCancelledError("the statement was cancelled")
            self._duck = duck

    def ran(self, query: Query) -> None:
        """See `Watched`."""
        self._statistics.append(query.statistics)

    @property
    def input_bytes(self) -> int:
        """How much its scans have read so far, decoded."""
        return sum(statistics.bytes for statistics in self._statistics)

    def cancel(self) -> None:
        """Ends it within a moment."""
        with self._lock:
            self._cancelled = True
            duck = self._duck
        self.future.cancel()
        if duck is not None:
            duck.interrupt()

    def check(self) -> None:
        """Raises if it was cancelled."""
        if self._cancelled:
            raise OperationCancelledError("the statement was cancelled")

    @property
    def progress(self) -> float:
        """How far it is, from 0 to 1."""
        duck = self._duck
        return 0.0 if duck is None else duck.progress


class Instances:
    """Runs statements and answers for them. Thread-safe; blocks on the catalog and on storage."""

    def __init__(
        self, context: EngineContext, verbs: Verbs, reading: Reading, spill_folder: Path | None
    ) -> None:
        """Executes with ``verbs`` and keeps outcomes in the catalog."""
        self._context = context
        self._verbs = verbs
        settings = context.settings
        limits = QueryLimits(
            memory_bytes=settings.sql_memory_bytes,
            threads=settings.sql_threads,
            spill_bytes=settings.sql_spill_bytes,
            seconds=settings.sql_seconds,
        )
        self._queries = QueryRunner(reading, verbs, limits, context.clock, spill_folder)
        self._runner = StatementRunner(self._queries, verbs)
        self._lock = threading.Lock()
        self._running: dict[str, _Run] = {}
        self._pool = ThreadPoolExecutor(settings.sql_workers, "fletching-sql")
        self._cleaned_at = float("-inf")
        self._closed = threading.Event()
        self._watching: threading.Thread | None = None

    def close(self) -> None:
        """Cancels what runs and waits for it; idempotent."""
        self._closed.set()
        with self._lock:
            running = list(self._running.values())
            watching = self._watching
        for run in running:
            run.cancel()
        if watching is not None:
            watching.join()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._queries.close()

    # --- running -----------------------------------------------------------------------------

    def run(
        self,
        statement: str,
        namespace: Namespace,
        *,
        owner: str = "",
        task_name: str = "AnonymousSQLTask",
        authorize: Authorize | None = None,
        visible: Visible | None = None,
        wait_seconds: float | None = None,
        kind: str = SQL,
        source: str = "",
        instance_id: str | None = None,
    ) -> InstanceRow:
        """Executes statements and keeps their outcome, failure included.

        Args:
            statement: the SQL text, one statement or several.
            namespace: where names without project or schema belong.
            owner: who asks.
            task_name: what the client calls it.
            authorize: asked before each request is executed.
            visible: leaves out of a reply what the caller may not know of.
            wait_seconds: how long to wait for the end; None for as long as it takes. A row that is
                still running has ``ended_at`` 0.
            kind: `SQL`, `MERGE`, or `COST`, which executes nothing.
            source: what the client submitted, kept for it as it is.
            instance_id: by default a new one.

        Raises:
            NoPermissionError: ``authorize`` refused (and nothing else is raised for a statement
                that fails: that is its outcome).
            ThrottledError: too many statements wait already.
            ServiceUnavailableError, StorageFullError: the catalog cannot keep the outcome.
        """
        started = self._context.clock()
        run = _Run(
            InstanceRow(
                id=instance_id or _new_id(started),
                project_key=namespace.project.casefold(),
                owner=owner,
                task_name=task_name,
                statement=statement,
                succeeded=False,
                result="",
                selection=None,
                created_at=started,
                ended_at=0.0,
                kind=kind,
                source=source,
                server=self._context.store.writer,
            )
        )
        work = functools.partial(
            self._execute, run, namespace, authorize or _allow, visible or _everything
        )
        with self._lock:
            if len(self._running) >= MAX_WAITING:
                raise ThrottledError(f"{MAX_WAITING} statements wait already")
            # The version that a statement makes says for whom.
            run.future = self._pool.submit(contextvars.copy_context().run, work)
            self._running[run.row.id] = run
        try:
            return run.future.result(wait_seconds)
        except FutureTimeoutError:
            return self._keep_running(run)
        finally:
            if run.future.done():
                self._forget(run)

    def _keep_running(self, run: _Run) -> InstanceRow:
        """Keeps a statement that goes on, so that it can be asked for."""
        # Who asks for it through another server must find that this one lives.
        self._context.presence.ensure()
        with run.keeping:
            if run.ended is not None:
                return run.ended
            if not run.future.done():
                with self._context.database.write() as connection:
                    insert_instance(connection, run.row)
                run.kept = True
                run.future.add_done_callback(lambda _future: self._forget(run))
                self._watch()
                return run.row
        return run.future.result()

    def _watch(self) -> None:
        """Begins to look whether somebody asks another server to cancel what runs here."""
        with self._lock:
            if self._watching is None or not self._watching.is_alive():
                self._watching = threading.Thread(
                    target=self._look_for_cancels, name="fletching-cancels", daemon=True
                )
                self._watching.start()

    def _look_for_cancels(self) -> None:
        while not self._closed.wait(_CANCEL_SECONDS):
            with self._lock:
                kept = {id_: run for id_, run in self._running.items() if run.kept}
                if not kept:
                    self._watching = None
                    return
            with contextlib.suppress(FletchingError):
                with self._context.database.read() as connection:
                    asked = asked_to_cancel(connection, kept)
                for id_ in asked:
                    kept[id_].cancel()

    def _forget(self, run: _Run) -> None:
        with self._lock:
            self._running.pop(run.row.id, None)

    def _execute(
        self, run: _Run, namespace: Namespace, authorize: Authorize, visible: Visible
    ) -> InstanceRow:
        outcome, printed, cancelled = Outcome(), "", False
        refused: Exception | None = None
        fault: ServiceError | None = None
        try:
            run.check()
            statements = placed_statements(run.row.statement, namespace)
            if run.row.kind == COST:
                read = [statement for statement, _ in statements]
                outcome = self._runner.cost(read, namespace, authorize=authorize)
            else:
                outcome = self._runner.run(
                    statements,
                    namespace,
                    authorize=authorize,
                    visible=visible,
                    store=functools.partial(self._store, run.row.id),
                    watched=run,
                )
            printed = _bounded(outcome.printed)
        except OperationCancelledError as error:
            fault, cancelled = ConflictError(error.message, code="Cancelled"), True
        except FletchingError as error:
            fault = to_service_error(error, run.row.id)
            if fault.http_status in {401, 403} or fault.http_status >= 500:
                refused = error
        except Exception as error:  # noqa: BLE001 - whoever waits for the outcome gets one
            fault, refused = to_service_error(error, run.row.id), error
        selection = _Selection()
        if fault is not None:
            printed = failure_text(fault.code, fault.message)
            failure = (fault.http_status, fault.code, fault.message)
            selection = _Selection(error=failure, cancelled=cancelled)
        else:
            selection = outcome.stored if outcome.stored is not None else selection
            selection = msgspec.structs.replace(selection, affected=outcome.affected)
        selection = msgspec.structs.replace(selection, input_bytes=run.input_bytes)
        succeeded = fault is None
        row = InstanceRow(
            **{
                **{name: getattr(run.row, name) for name in InstanceRow.__slots__},
                "succeeded": succeeded,
                "result": printed,
                "selection": msgspec.msgpack.encode(selection),
                "ended_at": max(self._context.clock(), run.row.created_at, 1e-9),
            }
        )
        with run.keeping:
            kept = run.kept
            if refused is None or kept:
                with self._context.database.write() as connection:
                    if kept:
                        update_instance(connection, row)
                    else:
                        insert_instance(connection, row)
                # Whoever stops waiting just now must not keep it once more.
                run.ended = row
        if refused is not None and not kept:
            raise refused
        self._clean()
        return row

    def _clean(self) -> None:
        """Forgets, once in a while, what nobody can ask for any more."""
        now = self._context.clock()
        with self._lock:
            if now - self._cleaned_at < _CLEANING_SECONDS:
                return
            self._cleaned_at = now
        with self._context.database.write() as connection:
            forget_instances(connection, now - KEPT_SECONDS)
        with contextlib.suppress(NotFoundError):
            page = self._verbs.call(ListTables(project=RESULTS_PROJECT, max_items=10_000))
            assert isinstance(page, TablePage)
            for info in page.tables:
                if info.created_at < now - KEPT_SECONDS:
                    self._verbs.call(DropTable(table=info.table, if_exists=True))

    # --- results -----------------------------------------------------------------------------

    def _store(
        self, instance_id: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch]
    ) -> _Selection:
        """Keeps the rows of a query as they come."""
        held: list[pa.RecordBatch] = []
        size = 0
        for batch in batches:
            held.append(batch)
            size += batch.nbytes
            if size > INLINE_BYTES:
                break
        else:
            sink = io.BytesIO()
            with pa.ipc.new_stream(sink, schema) as writer:
                for batch in held:
                    writer.write_batch(batch)
            rows = sum(batch.num_rows for batch in held)
            return _Selection(has_rows=True, rows=rows, stream=sink.getvalue())
        table = TableName(RESULTS_PROJECT, f"i{instance_id}")
        self._verbs.ensure_project(RESULTS_PROJECT)
        self._verbs.call(CreateTable(table=table, arrow_schema=encode_schema(schema)))
        try:
            rows = write_rows(
                self._verbs,
                table,
                itertools.chain(held, batches),
                partition=PartitionSpec(),
                overwrite=False,
                columns_of=cast_to(schema),
                schema=schema,
            )
            session = self._verbs.call(
                CreateReadSession(
                    table=table,
                    split_options=SplitOptions(split_mode=SplitMode.ROW_OFFSET, split_number=2**62),
                    verbatim_types=True,
                )
            )
        except BaseException:
            self._verbs.call(DropTable(table=table, if_exists=True))
            raise
        assert isinstance(session, ReadSession)
        return _Selection(has_rows=True, rows=rows, table=table, session_id=session.session_id)

    # --- sessions ----------------------------------------------------------------------------

    def open_session(
        self, project: str, *, owner: str, task_name: str, source: str = ""
    ) -> InstanceRow:
        """Keeps a session: an instance that runs, until it is cancelled or forgotten, and does nothing.

        Statements of a session are instances of their own, whose ids `session_statement_id` makes.
        """
        now = self._context.clock()
        row = InstanceRow(
            id=_new_id(now),
            project_key=project.casefold(),
            owner=owner,
            task_name=task_name,
            statement="",
            succeeded=False,
            result="",
            selection=None,
            created_at=now,
            ended_at=0.0,
            kind=SESSION,
            source=source,
        )
        with self._context.database.write() as connection:
            insert_instance(connection, row)
        return row

    # --- asking ------------------------------------------------------------------------------

    @staticmethod
    def namespace(request: StatementRequest) -> Namespace:
        """Where names without project or schema belong in a request's statements."""
        return Namespace(request.project, request.schema)

    def state(self, row: InstanceRow) -> StatementState:
        """What has come of an instance so far."""
        if not row.ended_at:
            return StatementState(instance_id=row.id, running=True, progress=self.progress(row))
        selection = self._decoded(row) if row.selection else _Selection()
        if not row.succeeded:
            return StatementState(
                instance_id=row.id, error=selection.error or (400, "", row.result)
            )
        schema = next(self._batches(selection, 0, 0, ())) if selection.has_rows else None
        return StatementState(
            instance_id=row.id,
            printed=row.result,
            arrow_schema=None if schema is None else encode_schema(schema),
            rows=selection.rows,
            affected_rows=selection.affected,
        )

    def get(self, project: str, instance_id: str) -> InstanceRow:
        """Looks an instance up.

        Raises:
            NotFoundError: there is none (or not any more).
        """
        with self._context.database.read() as connection:
            row = find_instance(connection, project, instance_id)
        if row is None:
            raise NotFoundError(f"there is no instance {instance_id} in project {project}")
        return self._ended_with_its_process(row)

    def _ended_with_its_process(self, row: InstanceRow) -> InstanceRow:
        """A row that still runs, as it is once nothing can be running it any more."""
        with self._lock:
            here = row.id in self._running
        if row.ended_at or here or row.kind == SESSION:
            return row
        oldest = self._context.clock() - self._context.settings.sql_seconds - _LATE_SECONDS
        if row.created_at > oldest and not self._server_is_dead(row):
            return row
        fault = (500, "InternalServerError", "the server ended before the statement did")
        return dataclasses.replace(
            row,
            ended_at=row.created_at + self._context.settings.sql_seconds,
            result=failure_text(*fault[1:]),
            selection=msgspec.msgpack.encode(_Selection(error=fault)),
        )

    def _server_is_dead(self, row: InstanceRow) -> bool:
        context = self._context
        if not row.server or row.created_at > context.clock() - DEAD_SECONDS:
            return False
        with context.database.read() as connection:
            return context.presence.is_dead(connection, row.server)

    def wait(self, project: str, instance_id: str, seconds: float) -> InstanceRow:
        """As `get`, after waiting for the end for some time."""
        with self._lock:
            run = self._running.get(instance_id)
        if run is not None:
            with contextlib.suppress(FutureTimeoutError, FletchingError):
                run.future.result(seconds)
        return self.get(project, instance_id)

    def progress(self, row: InstanceRow) -> float:
        """How far an instance is, from 0 to 1."""
        with self._lock:
            run = self._running.get(row.id)
        if run is None:
            return 1.0 if row.ended_at else 0.0
        return run.progress

    def cancel(self, row: InstanceRow) -> None:
        """Ends a session, or an instance, in whichever process it runs; returns once it has ended.

        Raises:
            ConflictError: it has ended.
        """
        if row.kind == SESSION and not row.ended_at:
            ended = dataclasses.replace(
                row,
                ended_at=max(self._context.clock(), row.created_at, 1e-9),
                selection=msgspec.msgpack.encode(_Selection(cancelled=True)),
            )
            with self._context.database.write() as connection:
                update_instance(connection, ended)
            return
        with self._lock:
            run = self._running.get(row.id)
        if run is not None:
            run.cancel()
            with contextlib.suppress(FletchingError, FutureTimeoutError, Exception):
                run.future.result(_END_SECONDS)
            return
        with self._context.database.write() as connection:
            if not ask_to_cancel(connection, row.id):
                raise ConflictError(f"instance {row.id} has ended")
        end = time.monotonic() + _END_SECONDS
        while time.monotonic() < end and not self.get(row.project_key, row.id).ended_at:
            time.sleep(_CANCEL_SECONDS / 4)

    def list(
        self,
        project: str,
        limit: int = 1000,
        wanted: InstanceFilter | None = None,
        after: str = "",
    ) -> list[InstanceRow]:
        """The newest instances of a project, newest first; sessions are none of them.

        Args:
            project: whose.
            limit: how many at most.
            wanted: which of them; all by default.
            after: the id of the last one that the caller has; what came before it follows.

        Raises:
            NotFoundError: there is no instance ``after``, or not any more.
        """
        place = None
        if after:
            last = self.get(project, after)
            place = (last.created_at, last.id)
        with self._context.database.read() as connection:
            rows = list_instances(connection, project, limit, wanted or InstanceFilter(), place)
        return [self._ended_with_its_process(row) for row in rows]

    def has_rows(self, row: InstanceRow) -> bool:
        """Whether the last statement was a query that succeeded."""
        return bool(row.succeeded and row.selection and self._decoded(row).has_rows)

    def affected(self, row: InstanceRow) -> int | None:
        """How many rows were changed; None for statements that change none."""
        return self._decoded(row).affected if row.selection else None

    def input_bytes(self, row: InstanceRow) -> int:
        """How much an instance that has ended read, decoded."""
        return self._decoded(row).input_bytes if row.selection else 0

    def cancelled(self, row: InstanceRow) -> bool:
        """Whether it was cancelled."""
        return bool(row.selection) and self._decoded(row).cancelled

    def result_schema(self, row: InstanceRow) -> TableSchema:
        """The columns of a query's result.

        Raises:
            InvalidArgumentError: the statement chose no rows.
            ConflictError: it has not ended.
        """
        return self._schema(self._selection(row))

    def result_rows(self, row: InstanceRow) -> int:
        """How many rows a query chose."""
        return self._selection(row).rows

    def result(self, row: InstanceRow) -> str:
        """What the statement printed; a query prints its first rows as CSV."""
        if not self.has_rows(row):
            return row.result
        selection = self._decoded(row)
        sink = io.StringIO()
        writer = csv.writer(sink, quoting=csv.QUOTE_ALL, lineterminator="\n")
        batches = self._batches(selection, 0, min(selection.rows, MAX_CSV_ROWS), ())
        schema = next(batches)
        writer.writerow(schema.names)
        for batch in batches:
            columns = [csv_cells(batch.column(i)) for i in range(batch.num_columns)]
            # Rows of text are what was asked for, and there are at most MAX_CSV_ROWS of them.
            writer.writerows(zip(*columns, strict=True))
        return sink.getvalue()

    # --- reading results ---------------------------------------------------------------------

    def create_read_session(self, request: CreateInstanceReadSession) -> InstanceReadSession:
        """Opens the result of a query (PROTOCOL 2.17).

        Raises:
            NotFoundError: there is no such instance, or its result has expired.
            InvalidArgumentError: the statement chose no rows.
        """
        return self._session(self.get(request.project, request.instance_id))

    def get_read_session(self, request: GetInstanceReadSession) -> InstanceReadSession:
        """Looks such a session up; errors as for ``create_read_session``."""
        row = self.get(request.project, request.instance_id)
        session = self._session(row)
        if session.session_id != request.session_id:
            raise NotFoundError(f"instance {row.id} has no read session {request.session_id}")
        return session

    def _session(self, row: InstanceRow) -> InstanceReadSession:
        selection = self._selection(row)
        return InstanceReadSession(
            session_id=row.id,
            record_count=selection.rows,
            schema=self._schema(selection),
            owner=row.owner,
            initiated=formatdate(row.created_at, usegmt=True),
        )

    @staticmethod
    def _decoded(row: InstanceRow) -> _Selection:
        assert row.selection is not None
        return msgspec.msgpack.decode(row.selection, type=_Selection)

    def _selection(self, row: InstanceRow) -> _Selection:
        if not row.ended_at:
            raise ConflictError(f"instance {row.id} has not ended yet")
        if not self.has_rows(row):
            raise InvalidArgumentError(f"instance {row.id} is no SELECT: it has no rows to read")
        return self._decoded(row)

    def _schema(self, selection: _Selection) -> TableSchema:
        return table_schema(next(self._batches(selection, 0, 0, ())))

    def read(self, request: ReadInstance) -> ReadPlan:
        """Plans rows of a result (PROTOCOL 2.18).

        Raises:
            NotFoundError: no such instance or session.
            InvalidArgumentError: an offset or column outside the result.
        """
        row = self.get(request.project, request.instance_id)
        selection = self._selection(row)
        if row.id != request.session_id:
            raise NotFoundError(f"instance {row.id} has no read session {request.session_id}")
        if request.offset > selection.rows:
            raise InvalidArgumentError(
                f"offset {request.offset} is beyond the {selection.rows} rows of the result"
            )
        rest = selection.rows - request.offset
        count = rest if request.count is None else min(request.count, rest)
        if selection.table is not None:
            return self._verbs.read(
                ReadTable(
                    table=selection.table,
                    session_id=selection.session_id,
                    offset=request.offset,
                    count=count,
                    data_columns=request.columns,
                    data_columns_unordered=True,
                    max_batch_rows=request.max_batch_rows,
                    buffer_codec=request.buffer_codec,
                )
            )
        return self._computed(selection, request, count)

    def _computed(self, selection: _Selection, request: ReadInstance, count: int) -> ReadPlan:
        """Rows that are kept beside the outcome."""

        def batches() -> Iterator[pa.RecordBatch]:
            found = self._batches(selection, request.offset, count, request.columns)
            next(found)
            for batch in found:
                step = request.max_batch_rows or _BATCH_ROWS
                for start in range(0, batch.num_rows, step):
                    yield batch.slice(start, step)

        def pieces() -> Iterator[Any]:
            yield Literal(encode_schema(schema))
            for batch in batches():
                encode = functools.partial(encode_batch, batch, compression=request.buffer_codec)
                yield Computed(encode, None)
            yield Literal(END_OF_STREAM)

        schema = next(self._batches(selection, 0, 0, request.columns))
        return ReadPlan(
            schema=schema, rows=count, length=None, pieces=_Again(pieces), batches=batches
        )

    def _batches(
        self, selection: _Selection, offset: int, count: int, columns: tuple[str, ...]
    ) -> Iterator[Any]:
        """The result's schema, then rows ``offset`` to ``offset + count`` of it."""
        if selection.table is None:
            with pa.ipc.open_stream(selection.stream) as reader:
                whole = reader.read_all()
            if columns:
                by_name = {name.casefold(): name for name in whole.schema.names}
                unknown = [name for name in columns if name.casefold() not in by_name]
                if unknown:
                    raise InvalidArgumentError(f"the result has no column {unknown[0]!r}")
                whole = whole.select([by_name[name.casefold()] for name in columns])
            yield whole.schema
            yield from (b for b in whole.slice(offset, count).to_batches() if b.num_rows)
            return
        plan = self._verbs.read(
            ReadTable(
                table=selection.table,
                session_id=selection.session_id,
                offset=offset,
                count=count,
                data_columns=columns,
                data_columns_unordered=True,
            )
        )
        yield plan.schema
        if count:
            yield from plan.batches()


class _Again:
    """Pieces that are made anew by each iteration."""

    def __init__(self, make: Callable[[], Iterator[Any]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[Any]:
        return self._make()


def _bounded(printed: str) -> str:
    if len(printed) > MAX_RESULT_CHARACTERS:
        raise InvalidArgumentError(
            f"the result has {len(printed)} characters, above the limit of {MAX_RESULT_CHARACTERS}"
        )
    return printed


def _everything(response: Response) -> Response:
    """Leaves nothing out."""
    return response


def _allow(_request: Request) -> None:
    """Refuses nothing."""


def _new_id(now: float) -> str:
    """An id that sorts by time, as the real service's do."""
    moment = dt.datetime.fromtimestamp(now, dt.UTC)
    return f"{moment:%Y%m%d%H%M%S}{moment.microsecond // 1000:03d}{secrets.token_hex(6)}"
