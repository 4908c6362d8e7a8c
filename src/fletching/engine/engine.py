"""`Engine`: the rules of the service behind a handful of verbs (docs/architecture.md).

The module is long because every verb stands here, with what it promises.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from fletching import faultpoints
from fletching.catalog.database import Database, steady_seconds
from fletching.catalog.identity_rows import IdentityRow, find_identity
from fletching.catalog.namespace_rows import ensure_project, list_projects
from fletching.catalog.table_rows import TableRow
from fletching.engine.access.access_keys import AccessKeys
from fletching.engine.access.permissions import Permission, needed_permission
from fletching.engine.blobs.blob_service import Blobs
from fletching.engine.cache import RecentlyUsed
from fletching.engine.changes.change_verbs import Changes
from fletching.engine.changes.made_changes import reports_of_run
from fletching.engine.context import Clock, EngineContext
from fletching.engine.data_folder import DataFolder
from fletching.engine.engine_settings import EngineSettings
from fletching.engine.identity import check_identity, check_store, match_identity
from fletching.engine.presence import Presence
from fletching.engine.reading.read_calls import Reading, SnapshotRows
from fletching.engine.reading.read_plan import DirectRead, ReadPlan
from fletching.engine.reading.segment_sharing import SharedSegments
from fletching.engine.start_checks import check_clock, check_writable, reaching
from fletching.engine.stored_calls import Verbs, stored_calls
from fletching.engine.tables.tables import Tables
from fletching.engine.upkeep.compaction import Compactor
from fletching.engine.upkeep.compaction_report import CompactionReport
from fletching.engine.upkeep.maintenance import Maintenance, Task
from fletching.engine.upkeep.operations import Operations
from fletching.engine.upkeep.retention import Retention, RetentionReport
from fletching.engine.upkeep.verify import Checked, Verification, recount
from fletching.engine.writing.appending_ingest import open_append
from fletching.engine.writing.ingest import CellChecker, Ingest, open_ingest
from fletching.errors import UsageError
from fletching.objects.object_errors import translated
from fletching.objects.store import ObjectStore, Observe, ObservedStore
from fletching.protocol.messages import admin, changes, requests
from fletching.protocol.messages.requests import (
    AppendRows,
    PreviewTable,
    ReadInstance,
    ReadTable,
    Reply_co,
    Request,
    WriteTable,
)
from fletching.protocol.messages.responses import Done, Response
from fletching.protocol.types.blob_type import contains_blob
from fletching.types import RESULTS_PROJECT, TableName

if TYPE_CHECKING:
    from fletching.engine.changes.attempts import Draft
    from fletching.engine.changes.computed_changes import ComputedChanges
    from fletching.engine.changes.made_changes import Intent
    from fletching.engine.query.instances import Instances

__all__ = ["Engine"]


class Engine:
    """Tables in a data folder. Thread-safe; several processes may open the same folder.

    Attributes:
        context: the parts that every room of the engine works with.
        blobs: uploads of blobs, replies and ranges.
        access_keys: who may sign requests to a service over this folder, and what each may do.
        operations: what an operator sees and does.
    """

    def __init__(self, context: EngineContext) -> None:
        self.context = context
        self._lock = threading.Lock()
        self._closed = False
        self._maintenance: Maintenance | None = None
        self._instances: Instances | None = None
        self._reading = Reading(
            context.database,
            context.store,
            clock=context.clock,
            settings=context.settings,
            written_at_once=not context.answers_alone,
        )
        self.blobs = Blobs(context, self._reading)
        self.access_keys = AccessKeys(
            context.database, context.server_key, context.clock, context.check_may_change
        )
        self._retention = Retention(context)
        self._compactor = Compactor(context, self._cell_checker)
        self.operations = Operations(context, self)
        changing = self._changing = Changes(context, self._reading, self._cell_checker)
        self._calls: Verbs = {
            **stored_calls(context),
            changes.DeleteRows: changing.delete,
            changes.MergeRows: changing.merge,
            changes.ReplaceRows: changing.replace,
            changes.RestoreTable: changing.restore,
            changes.UpdateRows: changing.update,
            changes.TruncateTable: changing.truncate,
            changes.EnforceKey: changing.enforce_key,
            changes.CompactTable: self._compact_table,
            requests.CreateReadSession: self._reading.create_session,
            requests.GetReadSession: self._reading.get_session,
            admin.RunStatement: self._run_statement,
            admin.GetStatement: self._get_statement,
            admin.CancelStatement: self._cancel_statement,
            requests.CreateInstanceReadSession: self._create_instance_session,
            requests.GetInstanceReadSession: self._get_instance_session,
        }
        self._reads: dict[type[Request], Callable[[Any], ReadPlan]] = {
            PreviewTable: self._reading.preview,
            ReadTable: self._reading.read,
            ReadInstance: self._read_instance,
        }

    @classmethod
    @translated("opening the data folder", None)
    def open(
        cls,
        location: str | Path | None,
        *,
        settings: EngineSettings | None = None,
        clock: Clock | None = None,
        steady: Clock | None = None,
        store: ObjectStore | None = None,
        create: bool = True,
        adopt: bool = False,
        read_only: bool | None = False,
    ) -> Self:
        """Opens a data folder and clears up after processes that died.

        Catalog, objects and server key are compared first (``fletching.engine.identity``): where
        one of them is missing beside the others, or does not belong to them, nothing is opened and
        nothing is made.

        Args:
            location: the folder: ``catalog.sqlite``, ``objects/`` and ``server.key`` are in it
                unless the settings put them elsewhere; None if they put all of them.
            settings: see ``EngineSettings``; by default what the environment says.
            clock: seconds since the epoch; by default the time that all who share the catalog go by.
            steady: seconds that nobody sets, by which it shows that a clock was; by default the machine's,
                or ``clock``, which is never doubted then.
            store: an object store to use instead; closed with the engine, and the caller's if there is none.
            create: whether a folder in which nothing of ours is yet becomes a data folder. False is
                for whoever only looks.
            adopt: accept catalog, objects and server key as they are now as belonging together,
                making what is missing: for a person who knows what was lost.
            read_only: nothing in the folder is written, and changes are refused: see
                ``fletching.engine.read_only``. None for a folder that this process cannot write to.

        Raises:
            IdentityError: something is missing, or does not belong to the rest.
            StorageError: the folder cannot be used, or was written by a newer release.
            SettingsError: a database or an object store cannot be used as the settings say.
        """
        settings = settings or EngineSettings.from_environment(os.environ)
        folder = None if location is None else Path(location)
        if read_only is None:
            read_only = folder is not None and folder.is_dir() and not os.access(folder, os.W_OK)
        parts = DataFolder(folder, settings, read_only=read_only)
        create, adopt = create and not read_only, adopt and not read_only
        parts.check_usable(create=create or adopt)
        # The order matters: see ``fletching.engine.identity``.
        look = parts.look_at_objects(store, adopt=adopt)
        presence: Presence | None = None
        database: Database | None = None
        opened: ObjectStore | None = None
        try:
            parts.check_complete(look, create=create, adopt=adopt)
            key = parts.server_key()
            database = parts.open_catalog()
            steady = steady or clock or steady_seconds
            clock = clock or database.clock()
            if store is None:
                store = opened = parts.open_store()
            presence = Presence(database, store, clock)
            context = EngineContext(
                database, store, settings, clock, key, presence, steady, read_only=read_only
            )
            with (
                reaching("catalog", settings.catalog_url),
                reaching("object store", settings.objects_url),
            ):
                check_clock(context)
                context.age_clock()  # from here on it is noticed when the clock is set
                match_identity(context, look, adopt=adopt)
                # From here on: what an opening makes for the first time is not a place to count.
                faultpoints.arm_from_environment()
                engine = cls(context)
                if not read_only:
                    Retention(context).recover()
        except BaseException:
            if presence is not None:
                presence.close()
            if database is not None:
                database.close()
            if opened is not None:
                opened.close()
            parts.drop_scratch()
            raise
        return engine

    # --- the verbs ---

    def call(self, request: Request[Reply_co]) -> Reply_co:
        """Answers a request that has no body and whose answer is a value.

        Raises:
            UsageError: a request of another kind.
            FletchingError: what the request deserves; see the method that answers it.
        """
        self._check_open()
        answer = self._calls.get(type(request))
        if answer is None:
            raise UsageError(f"{type(request).__name__} is not answered by Engine.call")
        if self.context.read_only and needed_permission(type(request)) is not Permission.READ:
            self.context.check_may_change()
        reply: Reply_co = answer(request)
        return reply

    def read(self, request: ReadTable | PreviewTable | ReadInstance) -> ReadPlan:
        """Plans the reply to a request for rows.

        Raises:
            UsageError: a request of another kind.
            FletchingError: no such session or split, or wrong limits.
        """
        self._check_open()
        plan = self._reads.get(type(request))
        if plan is None:
            raise UsageError(f"{type(request).__name__} is not answered by Engine.read")
        return plan(request)

    def share(self, request: ReadTable) -> SharedSegments | None:
        """Where rows are, for a client that maps the segments itself; see ``Reading.share``."""
        self._check_open()
        return self._reading.share(request)

    def direct_read(
        self, request: ReadTable, plan: ReadPlan, *, least_bytes: int
    ) -> DirectRead | None:
        """A read's plan as a manifest, if it was asked for and there can be one.

        See ``Reading.direct_read``.
        """
        self._check_open()
        return self._reading.direct_read(request, plan, least_bytes=least_bytes)

    def snapshot_rows(
        self,
        request: requests.CreateReadSession,
        *,
        offset: int = 0,
        count: int | None = None,
        check: Callable[[], None] | None = None,
    ) -> SnapshotRows:
        """Plans a read without a session; see ``Reading.snapshot_rows``."""
        self._check_open()
        return self._reading.snapshot_rows(request, offset=offset, count=count, check=check)

    def open_ingest(self, request: WriteTable | AppendRows) -> Ingest:
        """Prepares to take the body of a TableWrite or an append; see ``writing.ingest``."""
        self._check_open()
        self.context.check_may_change()
        if isinstance(request, AppendRows):
            return open_append(self.context, request, cell_checker=self._cell_checker)
        return open_ingest(self.context, request, cell_checker=self._cell_checker)

    def compute_changes(
        self,
        request: changes.ChangeRequest,
        intent: Intent,
        compute: Callable[[ComputedChanges], Draft],
    ) -> changes.Changed:
        """Makes a change of rows that a query works out; see `Changes.compute`."""
        self._check_open()
        return self._changing.compute(request, intent, compute)

    def reports_of_run(self, run_id: str, text: str) -> Mapping[int, Sequence[changes.Changed]]:
        """What changes that statements have made came to; see `reports_of_run`."""
        self._check_open()
        with self.context.database.read() as connection:
            return reports_of_run(connection, run_id, text)

    def replace_view(self, request: admin.CreateTable, table_id: str) -> admin.TableInfo:
        """Creates a view in the place of another; see `Tables.replace`."""
        self._check_open()
        return Tables(self.context).replace(request, table_id)

    def _cell_checker(self, table: TableRow, schema: pa.Schema) -> CellChecker | None:
        if not any(map(contains_blob, schema.types)):
            return None
        return self.blobs.checker(table.id)

    @property
    def instances(self) -> Instances:
        """SQL statements: running them and asking for what came of them.

        Raises:
            MissingExtraError: sqlglot is not installed.
        """
        from fletching.engine.query.instances import Instances

        with self._lock:
            if self._instances is None:
                self._check_open()
                folder = self.context.settings.sql_spill_folder
                self._instances = Instances(
                    self.context, self, self._reading, None if folder is None else Path(folder)
                )
            return self._instances

    # Methods of their own because sqlglot is imported only when SQL is used.

    def _create_instance_session(self, request: requests.CreateInstanceReadSession) -> Response:
        return self.instances.create_read_session(request)

    def _get_instance_session(self, request: requests.GetInstanceReadSession) -> Response:
        return self.instances.get_read_session(request)

    def _run_statement(self, request: admin.RunStatement) -> Response:
        instances = self.instances
        row = instances.run(
            request.text,
            instances.namespace(request),
            wait_seconds=request.wait_seconds,
            instance_id=request.instance_id or None,
        )
        return instances.state(row)

    def _get_statement(self, request: admin.GetStatement) -> Response:
        row = self.instances.wait(request.project, request.instance_id, request.wait_seconds)
        return self.instances.state(row)

    def _cancel_statement(self, request: admin.CancelStatement) -> Response:
        row = self.instances.get(request.project, request.instance_id)
        if not row.ended_at:
            self.instances.cancel(row)
        return self.instances.state(self.instances.get(request.project, request.instance_id))

    def _read_instance(self, request: ReadInstance) -> ReadPlan:
        return self.instances.read(request)

    # --- projects ---

    def ensure_project(self, project: str) -> None:
        """Creates a project unless it exists."""
        self._check_open()
        self.context.check_may_change()
        with self.context.database.write() as connection:
            ensure_project(connection, project, self.context.clock())

    def projects(self) -> list[str]:
        """Names of all projects."""
        self._check_open()
        with self.context.database.read() as connection:
            return [name for name in list_projects(connection) if name != RESULTS_PROJECT]

    def check_ready(self) -> None:
        """Asks for what every request needs: the catalog, and the objects that belong to it.

        Raises:
            IdentityError: catalog and objects are not what was opened.
            StorageError: one of them does not answer, or ServiceUnavailableError.
        """
        self._check_open()
        check_identity(self.context)

    def identity(self) -> IdentityRow | None:
        """What the catalog says that its store and its server key are.

        Raises:
            StorageError: the catalog does not answer, or ServiceUnavailableError.
        """
        self._check_open()
        with self.context.database.read() as connection:
            return find_identity(connection)

    def check_objects(self, known: IdentityRow | None) -> None:
        """Asks whether the objects are still those of the catalog.

        Raises:
            IdentityError: they are not.
            StorageError: the store does not answer.
        """
        self._check_open()
        check_store(self.context, known)

    # --- upkeep ---

    def collect(
        self,
        *,
        dry_run: bool = False,
        force: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> RetentionReport:
        """Collects what nobody needs any more; see ``Retention.collect``."""
        self._check_open()
        self.context.check_may_change()
        return self._retention.collect(dry_run=dry_run, force=force, progress=progress)

    def compact(
        self,
        table: TableName | None = None,
        *,
        min_segments: int | None = None,
        purge: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[CompactionReport]:
        """Merges small segments of one table or of all; see ``Compactor``.

        With ``purge`` every segment is written anew that has lost rows, however few; see
        `CompactionReport.check_purged`. ``progress`` is told how many of all tables are done, and of how many.
        """
        self._check_open()
        self.context.check_may_change()
        if table is None:
            return self._compactor.compact_tables(
                min_segments=min_segments, purge=purge, progress=progress
            )
        return [self._compactor.compact_table(table, min_segments=min_segments, purge=purge)]

    def observe(self, *, catalog: Observe, store: Observe) -> None:
        """Has the durations of transactions and of calls to the object store counted, by kind."""
        self.context.database.observe = catalog
        if isinstance(self.context.store, ObservedStore):
            self.context.store.observe = store

    def tables_to_compact(self) -> list[TableName]:
        """The tables that a compaction would look at."""
        self._check_open()
        return self._compactor.candidates()

    def remembered_bytes(self) -> int:
        """About how much memory this process uses for what it keeps for the next reads and upserts."""
        return self._reading.budget.total + self.context.run_indexes.budget.total

    def caches(self) -> tuple[tuple[str, RecentlyUsed[Any, Any]], ...]:
        """The caches by name, for whoever counts their hits."""
        return self._reading.caches()

    def _compact_table(self, request: changes.CompactTable) -> Response:
        report = self._compactor.compact_table(request.table, purge=request.purge)
        report.check_purged()
        return Done(warning_message="; ".join(filter(None, (report.skipped, *report.problems))))

    def check_writable(self) -> None:
        """Proves that objects can be stored; see ``fletching.engine.start_checks``."""
        self._check_open()
        check_writable(self.context)

    def verify(self) -> Verification:
        """Prepares to prove every checksum and reference; iterate the result."""
        self._check_open()
        return Verification(self.context)

    def recount(self) -> list[Checked]:
        """Repairs recorded totals that are not those of the visible rows; see ``recount``."""
        self._check_open()
        self.context.check_may_change()
        return recount(self.context)

    def start_maintenance(self) -> None:
        """Compacts and collects in the background until ``close``; does nothing if it does already.

        How often is the setting ``maintenance_seconds``; 0 means never.
        """
        self._check_open()
        seconds = self.context.settings.maintenance_seconds
        with self._lock:
            if self._maintenance is None and seconds:
                self._maintenance = Maintenance(
                    [
                        Task("compaction", self.compact),
                        # Lists every object, and nothing waits for it: not in every round.
                        Task("retention", self.collect, every=10),
                    ],
                    interval_seconds=seconds,
                )
                self.context.presence.on_death = self._maintenance.wake

    def join(self, name: str, url: str) -> None:
        """Makes this process known to the others as a server; see ``Presence``."""
        self._check_open()
        self.context.presence.join(name, url)

    # --- its life ---

    def close(self) -> None:
        """Ends this opening of the folder; idempotent. Plans that are under way stay readable."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        # Last in, first out; each is closed whatever another one raises, also after a Ctrl-C.
        with contextlib.ExitStack() as parts:
            parts.callback(self.context.database.close)
            parts.callback(self.context.store.close)
            parts.callback(self._reading.close)
            parts.callback(self.context.presence.close)
            if self._maintenance is not None:
                parts.callback(self._maintenance.stop)
            if self._instances is not None:
                parts.callback(self._instances.close)
            parts.callback(self.operations.close)

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("the engine is closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
