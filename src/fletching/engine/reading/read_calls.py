"""What an engine reads: sessions, the plans of what is read from them, previews, and reads without a session."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from fletching.catalog.database import Database
from fletching.catalog.table_rows import TableRow, get_table
from fletching.engine.cache import Budget, RecentlyUsed
from fletching.engine.engine_settings import EngineSettings
from fletching.engine.reading.batch_strategies import (
    KeptSegments,
    ReadOptions,
    batch_bytes,
    batch_rows,
    buffer_codec,
    kept_segments,
    not_negative,
    preview_rows,
)
from fletching.engine.reading.change_feed import ADDED_COLUMNS
from fletching.engine.reading.kept_snapshots import Snapshots
from fletching.engine.reading.manifests import signed_sources
from fletching.engine.reading.message_checks import MessageChecks
from fletching.engine.reading.open_sessions import pinned_version
from fletching.engine.reading.output_schema import PartitionFilter
from fletching.engine.reading.physical_projection import PhysicalProjection
from fletching.engine.reading.planning import plan_preview, plan_rows
from fletching.engine.reading.read_plan import DirectRead, ReadPlan
from fletching.engine.reading.read_sessions import (
    OpenSession,
    ReadSessions,
    check_supported,
    filter_of,
)
from fletching.engine.reading.row_filter import RowFilter
from fletching.engine.reading.scan_schema import ScanSchema
from fletching.engine.reading.segment_sharing import SharedSegments, share_rows
from fletching.engine.reading.session_description import session_details
from fletching.engine.reading.snapshot import Snapshot
from fletching.engine.reading.splits import Splits
from fletching.engine.tables.schema_checks import check_no_view
from fletching.errors import CorruptObjectError, InvalidArgumentError
from fletching.objects.store import ObjectStore
from fletching.protocol.messages.manifest import SourceKind
from fletching.protocol.messages.requests import (
    ArrowOptions,
    CreateReadSession,
    GetReadSession,
    PreviewTable,
    ReadTable,
)
from fletching.protocol.messages.responses import ReadSession
from fletching.protocol.messages.vocabulary import SplitMode
from fletching.types import RowRange, TableName

if TYPE_CHECKING:
    from fletching.sql.predicates.predicate_compiler import Predicate

__all__ = ["PinnedTable", "Reading", "SnapshotRows"]

SIGNED_SECONDS = 900.0
"""How long a signed URL is good for. Clients ask for others by their session when it has passed."""

LEAST_SIGNED_SECONDS = 60.0
"""What is good for less time is not handed out."""

KEPT_BYTES = 768 << 20
"""About how much memory takes what reads keep for the next ones: snapshots, sessions, splits, schemas and
compiled projections, and what is known of segments' messages."""


class PinnedTable:
    """A table at a version that stays readable until it is let go; made by `Reading.pin`."""

    def __init__(self, reading: Reading, session: OpenSession) -> None:
        self._reading = reading
        self.session = session

    @property
    def fields(self) -> Mapping[str, pa.Field]:
        """The columns as filters see them, data columns first; by case-folded name."""
        return self.session.scan_schema.columns.filter_fields

    def batches(
        self, columns: Sequence[str], predicate: Predicate | None
    ) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """The columns asked for, and the rows that a predicate chooses, in batches.

        Raises:
            InvalidArgumentError: a column's type has no ODPS type.
            CorruptObjectError: what is stored is damaged.
        """
        session = self.session
        chosen = None if predicate is None else RowFilter(predicate, session.scan_schema)
        projection = session.scan_schema.projection_of(tuple(columns), unordered=True)
        # A query asks its conditions again. Leaving rows out of numbers costs more than that; of texts,
        # which it would look at one by one, it costs less.
        loose = all(map(_has_width, projection.schema.types))
        plan = self._reading.plan_of(session, projection, chosen, loose=loose)
        return plan.schema, plan.batches()

    def kept(self, predicate: Predicate | None) -> KeptSegments:
        """What such a read opens."""
        chosen = None if predicate is None else RowFilter(predicate, self.session.scan_schema)
        return self._reading.kept_of(self.session, chosen)


def _has_width(data_type: pa.DataType) -> bool:
    """Whether all values of a type are of one size."""
    try:
        return bool(data_type.bit_width)
    except ValueError:
        return False


@dataclasses.dataclass(frozen=True, slots=True)
class SnapshotRows:
    """A read without a session.

    Attributes:
        table_id, version: what is read.
        total: rows of the chosen partitions, before a filter.
        plan: the rows.
    """

    table_id: str
    version: int
    total: int
    plan: ReadPlan


class Reading:
    """Answers the reads of an engine. Thread-safe.

    Blocks on the catalog only for sessions that this process has not seen lately.

    Attributes:
        checks: which stored messages this process has proven.
        budget: of all that is kept for the next reads.
    """

    def __init__(
        self,
        database: Database,
        store: ObjectStore,
        *,
        clock: Callable[[], float],
        settings: EngineSettings,
        written_at_once: bool = False,
    ) -> None:
        """Reads from ``store`` what ``database`` lists; ``clock`` gives seconds since the epoch."""
        self._database = database
        self._store = store
        self._clock = clock
        self.budget = budget = Budget(KEPT_BYTES)
        database.when_history_is_lost(budget.clear)
        self._snapshots = Snapshots(database, store, budget)
        self._sessions = ReadSessions(
            database,
            self._snapshots,
            clock=clock,
            settings=settings,
            written_at_once=written_at_once,
            budget=budget,
        )
        self._splits = RecentlyUsed[str, Splits](budget, weight=lambda splits: splits.size_bytes)
        self.checks = MessageChecks(budget)
        self.close = self._sessions.close

    def pin(self, tables: Sequence[tuple[TableName, int | None]]) -> list[PinnedTable]:
        """Pins versions of tables until `unpin`; with None the current ones, all of one moment.

        Raises:
            NoSuchTableError: one of them does not exist.
            VersionNotFoundError: a version is gone, or still to come.
            ThrottledError: too many sessions are open.
        """
        return [PinnedTable(self, session) for session in self._sessions.open_all(tables)]

    def unpin(self, tables: Sequence[PinnedTable]) -> None:
        """Lets pinned tables go: their sessions have expired from now on."""
        self._sessions.end([table.session for table in tables])

    def plan_of(
        self,
        session: OpenSession,
        projection: PhysicalProjection,
        row_filter: RowFilter | None,
        *,
        loose: bool = False,
    ) -> ReadPlan:
        """The plan of all rows of a session that a filter chooses; if ``loose``, of others with them."""
        snapshot = self._snapshot_of(session)
        options = ReadOptions(row_filter=row_filter, loose=loose)
        rows = RowRange(0, snapshot.row_count)
        return plan_rows(snapshot, self._store, projection, rows, options, checks=self.checks)

    def plan_of_segment(
        self, snapshot: Snapshot, index: int, projection: PhysicalProjection
    ) -> ReadPlan:
        """The plan of the rows that a snapshot, which the caller has pinned, shows of one segment."""
        first, end = snapshot.batches_of(index)
        rows = RowRange(snapshot.row_start[first], snapshot.row_start[end])
        options = ReadOptions()
        return plan_rows(snapshot, self._store, projection, rows, options, checks=self.checks)

    def kept_of(self, session: OpenSession, row_filter: RowFilter | None) -> KeptSegments:
        """What a read of a session opens."""
        return kept_segments(self._snapshot_of(session), row_filter)

    def caches(self) -> tuple[tuple[str, RecentlyUsed[Any, Any]], ...]:
        """The caches by name, for whoever counts their hits."""
        return (
            ("sessions", self._sessions.cache),
            ("snapshots", self._snapshots.cache),
            ("splits", self._splits),
        )

    def create_session(self, request: CreateReadSession) -> ReadSession:
        """Opens a session; as `ReadSessions.create`, and with the details that are asked for."""
        return self._described(self._sessions.create(request), request)

    def get_session(self, request: GetReadSession) -> ReadSession:
        """Looks a session up; as `ReadSessions.get`, and with the details that are asked for.

        Raises:
            CorruptObjectError: what the catalog says of its rows is damaged.
        """
        return self._described(self._sessions.get(request), request)

    def _described(
        self, reply: ReadSession, request: CreateReadSession | GetReadSession
    ) -> ReadSession:
        statistics = isinstance(request, GetReadSession) and request.with_statistics
        if not (request.with_splits or request.with_partitions or statistics):
            return reply
        session = self._sessions.find(reply.session_id, request.table)
        snapshot = self._snapshot_of(session)
        names = [name for name, _ in session.scan_schema.columns.partition]
        if session.request.since_version is not None:
            names = names[: -len(ADDED_COLUMNS)]
        # Splits of so many rows each say themselves how many, and may be a billion.
        counts = request.with_splits and reply.split_mode is not SplitMode.ROW_OFFSET
        details = session_details(
            snapshot,
            splits=self._splits_of(session, snapshot) if counts else None,
            total_bytes=session.totals.bytes,
            partition_columns=names if request.with_partitions else None,
            scan_schema=session.scan_schema if statistics else None,
        )
        return msgspec.structs.replace(reply, details=details)

    # --- rows ----------------------------------------------------------------------------------

    def read(self, request: ReadTable) -> ReadPlan:
        """The plan of one TableRead.

        Raises:
            NotFoundError: no such session of this table.
            ExpiredSessionError: the session has expired.
            InvalidArgumentError: a split, range, limit or column outside what there is.
            CorruptObjectError: what is stored is damaged.
        """
        snapshot, projection, wanted, options = self._what(request)
        return plan_rows(snapshot, self._store, projection, wanted, options, checks=self.checks)

    def share(self, request: ReadTable) -> SharedSegments | None:
        """Where the rows of one TableRead are, for a client that maps the segments itself; blocks.

        None if there is something to be made for it: then `read` answers.

        Raises:
            As `read`.
        """
        snapshot, projection, wanted, options = self._what(request)
        if options != ReadOptions(skip_rows=options.skip_rows):
            return None
        wanted = RowRange(min(wanted.start + options.skip_rows, wanted.end), wanted.end)
        return share_rows(snapshot, self._store, projection, wanted, checks=self.checks)

    def direct_read(
        self, request: ReadTable, plan: ReadPlan, *, least_bytes: int
    ) -> DirectRead | None:
        """The plan of a `read` as a manifest of signed URLs, if the client asked for one; blocks.

        None where the plain reply is to be sent: the store signs nothing, the session ends soon,
        or there is too little to fetch.

        Args:
            request: what was read.
            plan: what `read` gave for it.
            least_bytes: fewer bytes of segments are not worth the client's way to them.

        Raises:
            CorruptObjectError: what is stored is damaged.
        """
        sign = getattr(self._store, "sign", None)
        wanted = SourceKind.SIGNED in request.sources
        if not wanted or sign is None or plan.manifest is None:
            return None
        session = self._sessions.find(request.session_id, request.table)
        # Segments stay as long as the session does, and URLs must not outlive them.
        seconds = min(SIGNED_SECONDS, session.row.expires_at - self._clock())
        if seconds < LEAST_SIGNED_SECONDS:
            return None
        return plan.manifest(
            kind=SourceKind.SIGNED,
            names=signed_sources(sign, seconds),
            least_bytes=least_bytes,
            valid_seconds=seconds,
        )

    def _what(
        self, request: ReadTable
    ) -> tuple[Snapshot, PhysicalProjection, RowRange, ReadOptions]:
        """What a TableRead asks for: rows of a snapshot, in which columns and form."""
        session = self._sessions.find(request.session_id, request.table)
        options = ReadOptions(
            max_rows=batch_rows(request.max_batch_rows),
            max_bytes=batch_bytes(request.max_batch_bytes),
            codec=buffer_codec(request.buffer_codec),
            row_filter=session.row_filter,
            skip_rows=not_negative("SkipRowNum", request.skip_rows),
        )
        projection = session.scan_schema.projection_of(
            request.data_columns, unordered=request.data_columns_unordered
        )
        snapshot = self._snapshot_of(session)
        return snapshot, projection, self._range(session, snapshot, request), options

    def _range(self, session: OpenSession, snapshot: Snapshot, request: ReadTable) -> RowRange:
        """The rows that a request addresses: of one split, of the session, or of a part of either."""
        if request.index is None:
            whole = RowRange(0, snapshot.row_count)
            scope = "the session"
        else:
            whole = self._splits_of(session, snapshot).rows(request.index, snapshot)
            scope = f"split {request.index}"
        offset = not_negative("Offset", request.offset or 0)
        if offset > whole.length:
            raise InvalidArgumentError(
                f"Offset {offset} is behind the {whole.length} rows of {scope}",
                actual=offset,
                limit=whole.length,
            )
        count = whole.length - offset
        if request.count is not None:
            count = min(not_negative("Count", request.count), count)
        return RowRange(whole.start + offset, whole.start + offset + count)

    def _splits_of(self, session: OpenSession, snapshot: Snapshot) -> Splits:
        splits = self._splits.get(session.row.id)
        if splits is None:
            splits = Splits(session.request.split_options, snapshot, grid=session.totals.grid)
            if splits.count != session.totals.splits:
                raise CorruptObjectError(
                    f"the snapshot has {splits.count} splits where the session has"
                    f" {session.totals.splits}"
                )
            self._splits.put(session.row.id, splits)
        return splits

    def _snapshot_of(self, session: OpenSession) -> Snapshot:
        row = session.row
        snapshot = self._snapshots.get(
            row.table_id, row.table_version, session.partitions, row.since_version
        )
        if snapshot.row_count != session.totals.rows:
            raise CorruptObjectError(
                f"the snapshot has {snapshot.row_count} rows where the session has"
                f" {session.totals.rows}"
            )
        return snapshot

    def whole_table(self, table: TableRow) -> tuple[ScanSchema, Snapshot]:
        """All columns as stored, and all rows, of a version that the caller has pinned."""
        request = CreateReadSession(
            table=table.name,
            arrow_options=ArrowOptions(timestamp_unit=None, datetime_unit=None),
            verbatim_types=True,
        )
        with self._database.read() as connection:
            scan_schema = self._sessions.scan_schemas.of(
                connection, table, table.schema_version, request
            )
            return scan_schema, self._snapshots.load(
                connection, table.id, table.version, PartitionFilter()
            )

    def rows_of_session(
        self, session_id: str, table: TableName
    ) -> tuple[ScanSchema, Snapshot] | None:
        """The columns and rows that a session shows; None if it has a filter, or reads changes.

        Raises:
            NotFoundError: no such session of this table.
            ExpiredSessionError: the session has expired.
        """
        session = self._sessions.find(session_id, table)
        if session.row_filter is not None or session.row.since_version is not None:
            return None
        return session.scan_schema, self._snapshot_of(session)

    # --- rows without a session ------------------------------------------------------------------

    def snapshot_rows(
        self,
        request: CreateReadSession,
        *,
        offset: int = 0,
        count: int | None = None,
        check: Callable[[], None] | None = None,
    ) -> SnapshotRows:
        """The plan of a read that begins now and has no session: nothing is entered in the catalog.

        Segments that are removed while the plan is executed stay for as long as retention keeps
        them, which must be longer than that takes.

        Args:
            request: which columns, partitions, rows and version.
            offset: rows to leave out at the beginning; with a filter they are the caller's to count.
            count: most rows; likewise.
            check: called while rows are computed; see `ReadOptions`.

        Raises:
            NoSuchTableError: there is no such table.
            InvalidArgumentError: a column or filter that means nothing, or a version that cannot be
                read.
        """
        check_supported(request)
        with self._database.read() as connection:
            table = check_no_view(get_table(connection, request.table))
            pinned = pinned_version(connection, table, request)
            scan_schema = self._sessions.scan_schemas.of(
                connection, table, pinned.schema_version, request
            )
            chosen = filter_of(request, scan_schema)
            wanted = PartitionFilter.of(scan_schema.columns, request.required_partitions)
            snapshot = self._snapshots.load(
                connection, table.id, pinned.version, wanted, pinned.since
            )
        rows = RowRange(0, snapshot.row_count)
        if chosen is None:
            start = min(offset, rows.end)
            rows = RowRange(start, rows.end if count is None else min(rows.end, start + count))
        plan = plan_rows(
            snapshot,
            self._store,
            scan_schema.projection,
            rows,
            ReadOptions(row_filter=chosen, check=check),
            checks=self.checks,
        )
        return SnapshotRows(table.id, pinned.version, snapshot.row_count, plan)

    # --- preview -------------------------------------------------------------------------------

    def preview(self, request: PreviewTable) -> ReadPlan:
        """The plan of a TablePreview: the first rows, without a session.

        A partition that does not exist gives no rows.

        Raises:
            NoSuchTableError: there is no such table.
            InvalidArgumentError: an unknown column or partition column, or a limit out of range.
        """
        limit = preview_rows(request.limit)
        options = ArrowOptions()
        if request.verbatim_types:
            options = ArrowOptions(timestamp_unit=None, datetime_unit=None)
        everything = CreateReadSession(
            table=request.table, arrow_options=options, verbatim_types=request.verbatim_types
        )
        with self._database.read() as connection:
            table = check_no_view(get_table(connection, request.table))
            scan_schema = self._sessions.scan_schemas.of(
                connection, table, table.schema_version, everything
            )
            specs = (request.partition,) if len(request.partition) else ()
            wanted = PartitionFilter.of(scan_schema.columns, specs)
            snapshot = self._snapshots.load(connection, table.id, table.version, wanted)
        projection = scan_schema.projection_of(request.columns, unordered=True)
        rows = min(limit, snapshot.row_count)
        return plan_preview(snapshot, self._store, projection, rows, checks=self.checks)
