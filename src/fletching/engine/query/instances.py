"""Instances: statements that are run, behind one small interface.

A statement runs in a thread of a pool that nothing else uses; whoever asks for it waits as long as he
likes. What came of it, what it printed, which rows it chose, or why it failed, is kept in the catalog for
a day, so that any process of a service answers for it. Rows are kept as they were computed: a few beside
the outcome, more as a table of a project that nobody can name, sealed by its commit.

The module is long because an instance has one life: whoever starts, follows, stops or forgets one has to
see what the others do meanwhile.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path

import msgspec

from fletching.catalog.instance_rows import (
    InstanceFilter,
    InstanceRow,
    ask_to_cancel,
    forget_instances,
)
from fletching.engine.context import EngineContext
from fletching.engine.query.instance_results import MAX_CSV_ROWS, Results, Selection, selection_of
from fletching.engine.query.kept_work import KeptStatements
from fletching.engine.query.outcomes import Outcomes
from fletching.engine.query.printing import bounded_text, failure_text
from fletching.engine.query.query_limits import QueryLimits
from fletching.engine.query.query_runner import QueryRunner
from fletching.engine.query.result_segments import KEPT_SECONDS, forget_results
from fletching.engine.query.row_writing import Writes
from fletching.engine.query.running_instances import (
    CANCEL_SECONDS,
    RunningInstances,
    RunningStatements,
    ended_with_its_process,
)
from fletching.engine.query.statement_runner import CHANGE_NOTHING, Outcome, StatementRunner
from fletching.engine.reading.read_calls import Reading
from fletching.engine.reading.read_plan import ReadPlan
from fletching.errors import (
    ConflictError,
    FletchingError,
    NotFoundError,
    OperationCancelledError,
    ServiceError,
    SqlSyntaxError,
)
from fletching.ipc.encoding import encode_schema
from fletching.protocol.http.error_codec import to_service_error
from fletching.protocol.messages.admin import (
    StatementRequest,
    StatementState,
    TablePage,
    new_instance_id,
)
from fletching.protocol.messages.requests import (
    CreateInstanceReadSession,
    GetInstanceReadSession,
    ReadInstance,
    Request,
)
from fletching.protocol.messages.responses import InstanceReadSession, TableSchema
from fletching.sql.statements.statement_kinds import Namespace

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


_CLEANING_SECONDS = 600.0
_CLEANING_PATIENCE = 0.25
_END_SECONDS = 10.0

logger = logging.getLogger("fletching.engine")

Authorize = Callable[[Request], None]
"""Called with each request before it is executed; raises to refuse it."""

Visible = Callable[[TablePage], TablePage]
"""Takes out of a reply what its caller may not know of."""


class Instances:
    """Runs statements and answers for them. Thread-safe; blocks on the catalog and on storage."""

    def __init__(
        self, context: EngineContext, verbs: Writes, reading: Reading, spill_folder: Path | None
    ) -> None:
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
        context.database.when_history_is_lost(self._queries.kept_rows.clear)
        self._runner = StatementRunner(self._queries, verbs)
        self._results = Results(context)
        self._statements = KeptStatements()
        # Beside a server there may be others that answer for what it runs, of one folder as well.
        self._outcomes = Outcomes(
            context.database,
            shared=lambda: context.presence.is_server or not context.answers_alone,
        )
        self._running = RunningInstances(context.database, settings.sql_workers)
        self._lock = threading.Lock()
        self._cleaned_at = float("-inf")

    def close(self) -> None:
        """Cancels what runs and waits for it; idempotent."""
        self._running.close()
        self._queries.close()
        self._outcomes.close()

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
        flags: Mapping[str, str] | None = None,
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
            instance_id: by default a new one. Statements that are known by it already are not run
                again, if they are the same ones of the same owner: their row is what is returned. Where it is
                not known what came of them, or the service failed and not they, they are run again, and rows
                that they have changed are not changed again.
            flags: what is set before the first statement, as by SET.

        Raises:
            NoPermissionError: ``authorize`` refused (and nothing else is raised for a statement
                that fails: that is its outcome).
            ThrottledError: too many statements wait already.
            ConflictError: other statements have the instance's id.
            ServiceUnavailableError, StorageFullError: the catalog cannot keep the outcome.
        """
        known = None
        if instance_id is not None:
            known = self._known(instance_id, namespace.project, wait_seconds)
            if known is not None:
                if (known.statement, known.owner, known.kind) != (statement, owner, kind):
                    raise ConflictError(f"other statements have the id {instance_id}")
                if not self._may_do_better(known):
                    return known
        self._outcomes.check_room()
        started = self._context.clock()
        run = RunningStatements(
            InstanceRow(
                id=instance_id or new_instance_id(started),
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
        if known is not None:
            if not self._outcomes.begin_again(known, run.row):
                return self.get(namespace.project, run.row.id)
            run.kept = True
        work = functools.partial(
            self._execute, run, namespace, authorize or _allow, visible or _everything, flags
        )
        try:
            self._running.begin(run, work)
        except FletchingError:
            if known is not None:
                self._outcomes.keep(known, new=False)
            raise
        try:
            return run.future.result(wait_seconds)
        except FutureTimeoutError:
            return self._keep_running(run)
        except BaseException:
            if not run.future.done():
                run.cancel()  # whoever waited was interrupted: nobody will ask for it
            raise
        finally:
            if run.future.done():
                self._running.forget(run)

    def _known(
        self, instance_id: str, project: str, wait_seconds: float | None
    ) -> InstanceRow | None:
        """The row of an instance that has begun, after waiting for its end for some time.

        Raises:
            ConflictError: statements of another project have the id, which is one to all projects.
        """
        run = self._running.find(instance_id)
        if run is not None and run.row.project_key == project.casefold():
            with contextlib.suppress(FutureTimeoutError):
                return run.future.result(wait_seconds)
            return run.ended or run.row
        row = self._outcomes.find(None, instance_id) if run is None else run.row
        if row is not None and row.project_key != project.casefold():
            raise ConflictError(f"other statements have the id {instance_id}")
        return row

    def _may_do_better(self, row: InstanceRow) -> bool:
        """Whether statements that are known have ended with what is no outcome of theirs."""
        row = self._ended_with_its_process(row)
        error = selection_of(row).error if row.ended_at and not row.succeeded else None
        return error is not None and not _is_outcome(error[0])

    def _keep_running(self, run: RunningStatements) -> InstanceRow:
        """Keeps a statement that goes on, so that it can be asked for."""
        # Who asks for it through another server must find that this one lives.
        self._context.presence.ensure()
        with run.keeping:
            if run.ended is not None:
                return run.ended
            if not run.future.done():
                if not run.kept:
                    self._outcomes.keep(run.row, new=True)
                    run.kept = True
                self._running.keep(run)
                return run.row
        return run.future.result()

    def _execute(
        self,
        run: RunningStatements,
        namespace: Namespace,
        authorize: Authorize,
        visible: Visible,
        flags: Mapping[str, str] | None,
    ) -> InstanceRow:
        outcome, printed, cancelled, harmless = Outcome(), "", False, True
        refused: Exception | None = None
        refusal: ServiceError | None = None
        try:
            run.check()
            statements = self._statements.located(run.row.statement, namespace)
            harmless = all(isinstance(statement, CHANGE_NOTHING) for statement, _ in statements)
            if run.row.kind == COST:
                read = [statement for statement, _ in statements]
                outcome = self._runner.cost(read, namespace, authorize=authorize)
            else:
                outcome = self._runner.run(
                    statements,
                    namespace,
                    authorize=authorize,
                    visible=visible,
                    store=self._results.store,
                    watched=run,
                    run_id=run.row.id,
                    text=run.row.statement,
                    flags=flags,
                )
            printed = bounded_text(outcome.printed)
        except OperationCancelledError as error:
            refusal, cancelled = ConflictError(error.message, code="Cancelled"), True
        except FletchingError as error:
            refusal = to_service_error(error, run.row.id)
            if not _is_outcome(refusal.http_status):
                refused = error
        except RecursionError:
            # Of whatever goes into a tree's depth; the statement is at fault, not the service.
            refusal = to_service_error(SqlSyntaxError("the statement nests too deeply"), run.row.id)
        except Exception as error:  # noqa: BLE001 - whoever waits for the outcome gets one
            refusal, refused = to_service_error(error, run.row.id), error
        selection = Selection()
        if refusal is not None:
            printed = failure_text(refusal.code, refusal.message)
            failure = (refusal.http_status, refusal.code, refusal.message)
            selection = Selection(error=failure, cancelled=cancelled)
        else:
            selection = outcome.stored if outcome.stored is not None else selection
            selection = msgspec.structs.replace(selection, affected=outcome.affected)
        selection = msgspec.structs.replace(selection, input_bytes=run.input_bytes)
        row = dataclasses.replace(
            run.row,
            succeeded=refusal is None,
            result=printed,
            selection=msgspec.msgpack.encode(selection),
            ended_at=max(self._context.clock(), run.row.created_at, 1e-9),
        )
        with run.keeping:
            kept = run.kept
            if refused is None or kept:
                self._outcomes.keep(row, new=not kept, soon=harmless)
                # Whoever stops waiting just now must not keep it once more.
                run.ended = row
        if refused is not None and not kept:
            raise refused
        self._clean()
        return row

    def _clean(self) -> None:
        """Forgets, once in a while, what nobody can ask for any more."""
        now = self._context.steady()
        with self._lock:
            if now - self._cleaned_at < _CLEANING_SECONDS:
                return
            self._cleaned_at = now
        # Whoever waits for this statement does not wait for a writer that keeps others out, nor hears that it
        # failed because old ones could not be forgotten: another statement cleans.
        try:
            with self._context.database.write(wait_seconds=_CLEANING_PATIENCE) as connection:
                forget_instances(connection, self._context.age_clock() - KEPT_SECONDS)
            forget_results(self._context)
        except FletchingError as error:
            logger.info("old statements are forgotten later: %s", error)

    # --- sessions ----------------------------------------------------------------------------

    def open_session(
        self, project: str, *, owner: str, task_name: str, source: str = ""
    ) -> InstanceRow:
        """Keeps a session: an instance that runs, until it is cancelled or forgotten, and does nothing.

        Statements of a session are instances of their own, made and found by their number.
        """
        now = self._context.clock()
        row = InstanceRow(
            id=new_instance_id(now),
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
        self._outcomes.keep(row, new=True)
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
        selection = selection_of(row)
        if not row.succeeded:
            return StatementState(
                instance_id=row.id, error=selection.error or (400, "", row.result)
            )
        schema = self._results.arrow_schema(row)
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
        row = self._outcomes.find(project, instance_id)
        if row is None:
            raise NotFoundError(f"there is no instance {instance_id} in project {project}")
        return self._ended_with_its_process(row)

    def _ended_with_its_process(self, row: InstanceRow) -> InstanceRow:
        """A row that still runs, as it is once nothing can be running it any more."""
        here = self._running.find(row.id) is not None
        if row.ended_at or here or row.kind == SESSION:
            return row
        return ended_with_its_process(self._context, row)

    def wait(self, project: str, instance_id: str, seconds: float) -> InstanceRow:
        """As `get`, after waiting for the end for some time."""
        run = self._running.find(instance_id)
        if run is not None:
            with contextlib.suppress(FutureTimeoutError, FletchingError):
                run.future.result(seconds)
        return self.get(project, instance_id)

    def progress(self, row: InstanceRow) -> float:
        """How far an instance is, from 0 to 1."""
        run = self._running.find(row.id)
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
                selection=msgspec.msgpack.encode(Selection(cancelled=True)),
            )
            self._outcomes.keep(ended, new=False)
            return
        run = self._running.find(row.id)
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
            time.sleep(CANCEL_SECONDS / 4)

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
        marker = None
        if after:
            last = self.get(project, after)
            marker = (last.created_at, last.id)
        rows = self._outcomes.list(project, limit, wanted or InstanceFilter(), marker)
        return [self._ended_with_its_process(row) for row in rows]

    def has_rows(self, row: InstanceRow) -> bool:
        """Whether the last statement was a query that succeeded."""
        return row.succeeded and selection_of(row).has_rows

    def affected(self, row: InstanceRow) -> int | None:
        """How many rows were changed; None for statements that change none."""
        return selection_of(row).affected

    def input_bytes(self, row: InstanceRow) -> int:
        """How much an instance that has ended read, decoded."""
        return selection_of(row).input_bytes

    def cancelled(self, row: InstanceRow) -> bool:
        """Whether it was cancelled."""
        return selection_of(row).cancelled

    # --- rows of queries ---------------------------------------------------------------------

    def result_schema(self, row: InstanceRow) -> TableSchema:
        """The columns of a query's result.

        Raises:
            InvalidArgumentError: the statement chose no rows.
            ConflictError: it has not ended.
        """
        return self._results.schema(row)

    def result_rows(self, row: InstanceRow) -> int:
        """How many rows a query chose."""
        return self._results.rows(row)

    def result(self, row: InstanceRow) -> str:
        """What the statement printed; a query prints its first rows as CSV."""
        return self._results.text(row)

    def create_read_session(self, request: CreateInstanceReadSession) -> InstanceReadSession:
        """Opens the result of a query.

        Raises:
            NotFoundError: there is no such instance, or its result has expired.
            InvalidArgumentError: the statement chose no rows.
        """
        return self._results.session(self.get(request.project, request.instance_id))

    def get_read_session(self, request: GetInstanceReadSession) -> InstanceReadSession:
        """Looks such a session up; errors as for ``create_read_session``."""
        row = self.get(request.project, request.instance_id)
        session = self._results.session(row)
        if session.session_id != request.session_id:
            raise NotFoundError(f"instance {row.id} has no read session {request.session_id}")
        return session

    def read(self, request: ReadInstance) -> ReadPlan:
        """Plans rows of a result.

        Raises:
            NotFoundError: no such instance or session.
            InvalidArgumentError: an offset or column outside the result.
        """
        return self._results.read(self.get(request.project, request.instance_id), request)


def _is_outcome(status: int) -> bool:
    """Whether a failure is the statement's own. Others are the service's or the key's, and may pass."""
    return status < 500 and status not in {401, 403, 429}


def _everything(response: TablePage) -> TablePage:
    """Leaves nothing out."""
    return response


def _allow(_request: Request) -> None:
    """Refuses nothing."""
