"""What an operator sees and does: sessions, sizes, what upkeep would do, and upkeep that he started."""

from __future__ import annotations

import dataclasses
import shutil
import threading
from collections.abc import Callable, Iterable
from typing import Protocol

from fletching.catalog import overview_rows
from fletching.catalog.overview_rows import OpenSession, TableSize
from fletching.catalog.segment_rows import SegmentRow, visible_segments
from fletching.catalog.table_rows import get_table
from fletching.catalog.upkeep_rows import UpkeepRun
from fletching.engine.context import EngineContext
from fletching.engine.upkeep.compaction_report import CompactionReport, compaction_summary
from fletching.engine.upkeep.maintenance import MAX_PROBLEMS, TASKS, last_runs, record_run
from fletching.engine.upkeep.retention import RetentionReport
from fletching.engine.upkeep.verify import Verification
from fletching.errors import ConflictError, FletchingError, NotFoundError
from fletching.ipc.inspection import inspect_bytes
from fletching.ipc.reports import Inspection
from fletching.protocol.messages.requests import (
    AbortWriteSession,
    GetReadSession,
    Reply_co,
    Request,
)
from fletching.types import TableName

__all__ = ["TASKS", "Operations", "TaskState"]

MAX_SESSIONS = 500


class UpkeepVerbs(Protocol):
    """The engine's verbs that tasks are executed with; see ``Engine``."""

    def call(self, request: Request[Reply_co]) -> Reply_co:
        """Answers a request."""

    def tables_to_compact(self) -> list[TableName]:
        """The tables that a compaction would look at."""

    def compact(self, table: TableName | None = None) -> list[CompactionReport]:
        """Merges small segments."""

    def collect(self, *, progress: Callable[[int, int], None] | None = None) -> RetentionReport:
        """Collects what nobody needs any more."""

    def verify(self) -> Verification:
        """Prepares to prove every checksum and reference."""


@dataclasses.dataclass(slots=True)
class TaskState:
    """One run of upkeep that an operator started. Times are seconds since the epoch.

    Attributes:
        task: one of `TASKS`.
        started_at, ended_at: when; ``ended_at`` is None while it runs.
        done, total: how far it is; ``total`` 0 where that is not known.
        unit: what is counted.
        summary: what it did, once it has ended.
        problems: what is wrong, in words; at most `MAX_PROBLEMS`.
        problem_count: how many there are.
        place: the machine and process of a run that the catalog knows.
    """

    task: str
    started_at: float
    ended_at: float | None = None
    done: int = 0
    total: int = 0
    unit: str = ""
    summary: str = ""
    problems: list[str] = dataclasses.field(default_factory=list)
    problem_count: int = 0
    place: str = ""


class Operations:
    """For operators' pages: all methods block. Thread-safe; one task runs at a time."""

    def __init__(self, context: EngineContext, engine: UpkeepVerbs) -> None:
        self._context = context
        self._engine = engine
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._states: dict[str, TaskState] = {}

    # --- looking ---

    def sessions(self) -> list[OpenSession]:
        """Read and write sessions that have not ended, oldest first."""
        with self._context.database.read() as connection:
            return overview_rows.open_sessions(connection, self._context.clock(), MAX_SESSIONS)

    def end_session(self, session: str, kind: str) -> OpenSession:
        """Ends a session: a reader's next request fails, what a writer staged is dropped.

        Raises:
            NotFoundError: there is none that is open.
        """
        for result in self.sessions():
            if (result.id, result.kind) == (session, kind):
                break
        else:
            raise NotFoundError(f"there is no open {kind} session {session}")
        if result.kind == "read":
            self._engine.call(
                GetReadSession(table=result.table, session_id=result.id, release=True)
            )
        else:
            self._engine.call(AbortWriteSession(table=result.table, session_id=result.id))
        return result

    def largest_tables(self, limit: int = 50) -> list[TableSize]:
        """The tables with the most bytes."""
        with self._context.database.read() as connection:
            return overview_rows.largest_tables(connection, limit)

    def totals(self) -> dict[str, int]:
        """Tables, rows, segments, bytes; blob packs and theirs."""
        with self._context.database.read() as connection:
            return overview_rows.totals(connection)

    def debt(self) -> dict[str, float]:
        """What compaction and retention have before them, about."""
        settings = self._context.settings
        with self._context.database.read() as connection:
            small = overview_rows.count_small(
                connection, settings.compact_segment_bytes, settings.compact_min_segments
            )
            removed = overview_rows.count_removed(connection)
        return {
            "compaction_segments": small[0],
            "compaction_bytes": small[1],
            "retention_segments": removed[0],
            "retention_bytes": removed[1],
        }

    def disk(self) -> tuple[int, int] | None:
        """(free, total) bytes where objects are, if that is a folder."""
        root = getattr(self._context.store, "root", None)
        if root is None:
            return None
        usage = shutil.disk_usage(root)
        return usage.free, usage.total

    def segments(self, name: TableName) -> list[SegmentRow]:
        """The segments of a table's newest version, in the order of rows.

        Raises:
            NoSuchTableError: there is no such table.
        """
        with self._context.database.read() as connection:
            table = get_table(connection, name)
            return visible_segments(connection, table.id, table.version)

    def inspect_segment(self, name: TableName, segment_id: int) -> tuple[SegmentRow, Inspection]:
        """One of them, and what it looks like inside; metadata is read, bodies are not.

        Raises:
            NotFoundError: the table has no such segment now.
            StorageError: it cannot be read.
        """
        for row in self.segments(name):
            if row.id == segment_id:
                break
        else:
            raise NotFoundError(f"table {name} has no segment {segment_id} now")
        stored = self._context.store.open(row.key)
        try:
            return row, inspect_bytes(stored.view(0, stored.length))
        finally:
            stored.close()

    # --- doing ---

    def tasks(self) -> list[TaskState]:
        """The last run of each task: the one that this process is at, else what the catalog knows."""
        result = {
            run.task: TaskState(
                run.task,
                run.started_at,
                run.ended_at,
                summary=run.summary,
                problems=list(run.problems),
                problem_count=run.problem_count,
                place=run.place,
            )
            for run in last_runs(self._context).values()
        }
        with self._lock:
            for task, state in self._states.items():
                known = result.get(task)
                if known is None or state.ended_at is None or state.started_at > known.started_at:
                    result[task] = dataclasses.replace(state)
        return [result[task] for task in TASKS if task in result]

    def last_run(self, task: str) -> UpkeepRun | None:
        """The last run of a task that came to its end, whoever ran it."""
        return last_runs(self._context).get(task)

    def start(self, task: str) -> None:
        """Begins a task in a thread of its own; `tasks` says how far it is.

        Raises:
            NotFoundError: there is no such task.
            ConflictError: one runs already.
        """
        if task not in TASKS:
            raise NotFoundError(f"there is no task {task[:40]}; there are {', '.join(TASKS)}")
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                raise ConflictError("a task runs already; wait for its end")
            if self._stop.is_set():
                raise ConflictError("the service is stopping")
            state = self._states[task] = TaskState(task, self._context.clock())
            self._thread = threading.Thread(
                target=self._run, args=(state,), name=f"fletching-{task}", daemon=True
            )
            self._thread.start()

    def _run(self, state: TaskState) -> None:
        work: dict[str, Callable[[TaskState], str]] = {
            "compaction": self._compact,
            "retention": self._collect,
            "verification": self._verify,
        }
        try:
            summary = work[state.task](state)
        except FletchingError as error:
            summary = f"failed: {error}"
        except Exception as error:  # noqa: BLE001 - said on the page: nobody waits for this thread
            summary = f"failed: {type(error).__name__}: {error}"
        if state.task != "verification" or summary.startswith("failed"):
            # One that came to its end is recorded by itself, whoever iterated it.
            record_run(
                *(self._context, state.task, state.started_at, summary),
                problems=state.problems,
                problem_count=state.problem_count,
            )
        with self._lock:
            state.summary, state.ended_at = summary, self._context.clock()

    def _compact(self, state: TaskState) -> str:
        names = self._engine.tables_to_compact()
        state.total, state.unit = len(names), "tables"
        reports = []
        for name in names:
            if self._stop.is_set():
                return "stopped with the service"
            try:
                (report,) = self._engine.compact(name)
            except NotFoundError:
                continue  # dropped since it was listed
            finally:
                state.done += 1
            reports.append(report)
            self._note(state, report.problems)
        return compaction_summary(reports)

    def _collect(self, state: TaskState) -> str:
        def looked(done: int, total: int) -> None:
            state.done, state.total, state.unit = done, total, "steps"

        report = self._engine.collect(progress=looked)
        self._note(state, filter(None, (report.refused,)))
        return report.summary

    def _verify(self, state: TaskState) -> str:
        verification = self._engine.verify()
        state.total, state.unit = verification.total_objects, "objects"
        for looked, checked in enumerate(verification, 1):
            if self._stop.is_set():
                return "failed: stopped with the service"
            state.done = min(looked, state.total)
            self._note(state, (f"{checked.name}: {problem}" for problem in checked.problems))
        return verification.summary

    def _note(self, state: TaskState, problems: Iterable[str]) -> None:
        for problem in problems:
            state.problem_count += 1
            if len(state.problems) < MAX_PROBLEMS:
                state.problems.append(problem)

    def close(self) -> None:
        """Has the running task end soon, and waits for it; idempotent."""
        self._stop.set()
        thread = self._thread
        if thread is not None:
            thread.join()
