"""Read sessions: a pinned table version, its splits, and the plans of what is read from it.

A session lives in the catalog, so any process can answer for it. What was derived from it (columns,
snapshot, splits) is immutable and kept here, least recently used first out, so that reading asks the
catalog nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
from sqlalchemy import Connection

from fletching.catalog.database import Database
from fletching.catalog.partition_rows import list_partitions
from fletching.catalog.read_session_rows import (
    ReadSessionRow,
    extend_read_session,
    find_read_session,
    hold_snapshots,
    insert_read_session,
)
from fletching.catalog.segment_rows import visible_partitions
from fletching.catalog.table_rows import TableRow, get_table, table_by_id
from fletching.engine.reading.batch_limits import (
    batch_bytes,
    batch_rows,
    buffer_codec,
    not_negative,
    preview_rows,
)
from fletching.engine.reading.cache import RecentlyUsed
from fletching.engine.reading.message_checks import MessageChecks
from fletching.engine.reading.open_sessions import QUICK_SECONDS, OpenSessions, UnwrittenSessions
from fletching.engine.reading.partition_filter import PartitionFilter
from fletching.engine.reading.physical_projection import PhysicalProjection
from fletching.engine.reading.pinning import PinnedVersion, Snapshots, pinned_version
from fletching.engine.reading.planning import ReadOptions, plan_preview, plan_rows
from fletching.engine.reading.read_plan import ReadPlan
from fletching.engine.reading.row_filter import RowFilter, filter_fields, row_filter
from fletching.engine.reading.scan_schema import ScanSchema, ScanSchemas
from fletching.engine.reading.snapshot import Snapshot
from fletching.engine.reading.splits import (
    GRID_SEGMENTS,
    Scope,
    Splits,
    check_options,
    count_splits,
)
from fletching.errors import (
    CorruptObjectError,
    ExpiredSessionError,
    InvalidArgumentError,
    NotFoundError,
    ServiceUnavailableError,
)
from fletching.objects.store import ObjectStore
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
    from fletching.sql.predicates import Predicate

__all__ = ["READ_SESSION_SECONDS", "PinnedTable", "Reading", "SnapshotRows"]

READ_SESSION_SECONDS = 24 * 3600.0
"""How long a read session lives after it was created or refreshed (PROTOCOL 4.1)."""

MAX_READ_SESSIONS = 20_000
"""How many may be open at once: each keeps a snapshot from being collected."""

_CACHED_SESSIONS = 4096


class SessionTotals(msgspec.Struct, frozen=True):
    """What was decided when a session was created, as the catalog keeps it."""

    schema_version: int
    rows: int
    bytes: int
    splits: int
    grid: bool


@dataclasses.dataclass(frozen=True, eq=False)
class _Session:
    """A session and what follows from it."""

    row: ReadSessionRow
    request: CreateReadSession
    totals: SessionTotals
    scan_schema: ScanSchema
    row_filter: RowFilter | None
    partitions: PartitionFilter


class PinnedTable:
    """A table at a version that stays readable until it is let go; made by `Reading.pin`."""

    def __init__(self, reading: Reading, session: _Session) -> None:
        self._reading = reading
        self.session_id = session.row.id
        self._session = session

    @functools.cached_property
    def fields(self) -> dict[str, Any]:
        """The columns as filters see them, data columns first; by case-folded name."""
        return filter_fields(self._session.scan_schema.columns)

    def batches(
        self, columns: Sequence[str], predicate: Predicate | None
    ) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """The columns asked for, and the rows that a predicate chooses, in batches.

        Raises:
            InvalidArgumentError: a column's type has no ODPS type.
            CorruptObjectError: what is stored is damaged.
        """
        session = self._session
        chosen = None if predicate is None else RowFilter(predicate, session.scan_schema)
        projection = session.scan_schema.projection_of(tuple(columns), unordered=True)
        plan = self._reading.plan_of(session, projection, chosen)
        return plan.schema, plan.batches()


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
    """Creates read sessions and plans what is read from them. Thread-safe.

    Blocks on the catalog only for sessions that this process has not seen lately.
    """

    def __init__(
        self,
        database: Database,
        store: ObjectStore,
        *,
        clock: Callable[[], float],
        session_seconds: float = READ_SESSION_SECONDS,
        max_sessions: int = MAX_READ_SESSIONS,
    ) -> None:
        """Reads from ``store`` what ``database`` lists; ``clock`` gives seconds since the epoch."""
        self._database = database
        self._store = store
        self._clock = clock
        self._session_seconds = session_seconds
        self._open_sessions = OpenSessions(max_sessions)
        self._unwritten = UnwrittenSessions(database)
        self._scan_schemas = ScanSchemas()
        self._sessions = RecentlyUsed[str, _Session](_CACHED_SESSIONS)
        self._snapshots = Snapshots(database, store)
        self._splits = RecentlyUsed[str, Splits](_CACHED_SESSIONS)
        self._checks = MessageChecks()

    # --- sessions ------------------------------------------------------------------------------

    def create_session(self, request: CreateReadSession) -> ReadSession:
        """Pins the table's current version and divides its rows (PROTOCOL 2.1).

        Raises:
            NoSuchTableError: there is no such table.
            ThrottledError: too many sessions are open; some end by themselves.
            NoSuchPartitionError: a partition named in full does not exist.
            InvalidArgumentError: a column, partition column, split option or filter that means nothing.
        """
        check_options(request.split_options)
        _check_supported(request)
        now = self._clock()
        if not self._unwritten:
            try:
                # Not durable: opening a session is repeated after a power cut, and waiting for the
                # disk would be most of the time until the first batch.
                with self._database.write(
                    durable=False, wait_seconds=QUICK_SECONDS if _pins_current(request) else None
                ) as connection:
                    session = self._begin_sendable(connection, request, now)
                    insert_read_session(connection, session.row)
            except ServiceUnavailableError:
                if not _pins_current(request):
                    raise
            else:
                self._sessions.put(session.row.id, session)
                return self._response(session)
        if not _pins_current(request):
            with self._database.write(durable=False) as connection:
                session = self._begin_sendable(connection, request, now)
                insert_read_session(connection, session.row)
        else:
            # Somebody else writes for long, and reading does not wait for that.
            with self._database.read() as connection:
                session = self._begin_sendable(connection, request, now)
            self._unwritten.put(session.row, new=True)
        self._sessions.put(session.row.id, session)
        return self._response(session)

    def _begin(self, connection: Connection, request: CreateReadSession, now: float) -> _Session:
        """What a session reads, decided in the transaction that pins it."""
        hold_snapshots(connection)
        table = get_table(connection, request.table)
        pinned = pinned_version(connection, table, request)
        scan_schema = self._scan_schemas.of(connection, table, pinned.schema_version, request)
        chosen = _filter_of(request, scan_schema)
        wanted = PartitionFilter.of(scan_schema.columns, request.required_partitions)
        totals = self._divide(connection, table, pinned, request, wanted)
        row = ReadSessionRow(
            id=secrets.token_hex(16),
            table_id=table.id,
            table_version=pinned.version,
            request=msgspec.json.encode(request),
            plan=msgspec.json.encode(totals),
            created_at=now,
            expires_at=now + self._session_seconds,
            since_version=pinned.since,
        )
        self._open_sessions.admit(connection, now)
        return _Session(row, request, totals, scan_schema, chosen, wanted)

    def _begin_sendable(
        self, connection: Connection, request: CreateReadSession, now: float
    ) -> _Session:
        """The same, of columns that can all be sent; what no read could send is refused here."""
        session = self._begin(connection, request, now)
        _ = session.scan_schema.projection
        return session

    def pin(self, tables: Sequence[TableName]) -> list[PinnedTable]:
        """Pins the current versions of tables, all of one moment, until `unpin`.

        Raises:
            NoSuchTableError: one of them does not exist.
            ThrottledError: too many sessions are open.
        """
        now = self._clock()
        pinned: list[PinnedTable] = []
        with self._database.write(durable=False) as connection:
            for name in tables:
                session = self._begin(connection, CreateReadSession(table=name), now)
                insert_read_session(connection, session.row)
                pinned.append(PinnedTable(self, session))
        return pinned

    def unpin(self, tables: Sequence[PinnedTable]) -> None:
        """Lets pinned tables go: their sessions have expired from now on."""
        if not tables:
            return
        now = self._clock()
        with self._database.write(durable=False) as connection:
            for table in tables:
                extend_read_session(connection, table.session_id, now)

    def plan_of(
        self, session: _Session, projection: PhysicalProjection, row_filter: RowFilter | None
    ) -> ReadPlan:
        """The plan of all rows of a session that a filter chooses."""
        snapshot = self._snapshot_of(session)
        options = ReadOptions(row_filter=row_filter)
        return plan_rows(
            snapshot, self._store, projection, RowRange(0, snapshot.row_count), options
        )

    def get_session(self, request: GetReadSession) -> ReadSession:
        """Looks a session up; with ``refresh`` it lives on from now, also if it had just expired.

        With ``release`` it ends now, so that its snapshot need not be kept.

        Raises:
            NotFoundError: there is no such session of this table.
            ExpiredSessionError: it has expired, and was not refreshed.
        """
        if request.refresh or request.release:
            expires_at = self._clock() + (0 if request.release else self._session_seconds)
            session = self._session(request.session_id, request.table, expired=True)
            expired = session.row.expires_at <= self._clock()
            session = dataclasses.replace(
                session, row=dataclasses.replace(session.row, expires_at=expires_at)
            )
            self._extend(session.row, waits=expired)
            self._sessions.put(request.session_id, session)
            return self._response(session)
        return self._response(self._session(request.session_id, request.table))

    def _extend(self, row: ReadSessionRow, *, waits: bool) -> None:
        """Writes a session's new expiry: at once, or when the catalog's lock is free again.

        Args:
            row: with the new expiry.
            waits: for the lock, as an expired session may be forgotten by whoever holds it.
        """
        if not self._unwritten or waits:
            try:
                with self._database.write(
                    durable=False, wait_seconds=None if waits else QUICK_SECONDS
                ) as connection:
                    if not extend_read_session(connection, row.id, row.expires_at):
                        raise _no_session(row.id)
            except ServiceUnavailableError:
                if waits:
                    raise
            else:
                return
        self._unwritten.put(row, new=False)

    def close(self) -> None:
        """Stops trying to write sessions down."""
        self._unwritten.close()

    def _divide(
        self,
        connection: Connection,
        table: TableRow,
        pinned: PinnedVersion,
        request: CreateReadSession,
        wanted: PartitionFilter,
    ) -> SessionTotals:
        """Counts rows, bytes and splits; from the catalog's totals where they are enough."""
        options = request.split_options
        grid = pinned.segments > GRID_SEGMENTS
        if pinned.since is not None:
            snapshot = self._snapshots.load(
                connection, table.id, pinned.version, wanted, pinned.since
            )
            grid = False
            splits = Splits(options, snapshot, grid=grid).count
            scopes = [Scope(snapshot.row_count, int(snapshot.byte_start[-1]))]
        elif wanted.everything and options.cross_partition:
            scopes = [Scope(pinned.rows, pinned.bytes)]
        else:
            scopes = self._scopes(connection, table, pinned, request, wanted)
        if pinned.since is not None:
            pass
        elif options.split_mode is SplitMode.SIZE and not grid:
            snapshot = self._snapshots.load(connection, table.id, pinned.version, wanted)
            splits = Splits(options, snapshot, grid=grid).count
        else:
            splits = sum(count_splits(options, scopes))
        return SessionTotals(
            schema_version=pinned.schema_version,
            rows=sum(scope.rows for scope in scopes),
            bytes=sum(scope.bytes for scope in scopes),
            splits=splits,
            grid=grid,
        )

    @staticmethod
    def _scopes(
        connection: Connection,
        table: TableRow,
        pinned: PinnedVersion,
        request: CreateReadSession,
        wanted: PartitionFilter,
    ) -> list[Scope]:
        """What splits do not leave, in a version of which only some is wanted, or by partition."""
        if not table.partition_columns:
            return [Scope(pinned.rows, pinned.bytes)]
        if pinned.version == table.version:
            found = [
                (row.values, row.rows, row.bytes) for row in list_partitions(connection, table.id)
            ]
        else:
            found = visible_partitions(connection, table.id, pinned.version)
        chosen = [item for item in found if wanted.matches(item[0])]
        wanted.check_found([values for values, _, _ in chosen])
        scopes = [Scope(rows, size) for _, rows, size in chosen if size]
        if request.split_options.cross_partition or not scopes:
            total_rows = sum(scope.rows for scope in scopes)
            scopes = [Scope(total_rows, sum(scope.bytes for scope in scopes))]
        return scopes

    def _session(self, session_id: str, table: TableName, *, expired: bool = False) -> _Session:
        session = self._sessions.get(session_id)
        now = self._clock()
        if session is None or session.row.expires_at <= now:
            # Another process may have refreshed it since.
            session = self._load_session(session_id)
            self._sessions.put(session_id, session)
        if not _same_table(session.request.table, table):
            raise _no_session(session_id)
        if session.row.expires_at <= now and not expired:
            raise ExpiredSessionError(
                f"read session {session_id} has expired; refresh it or open a new one"
            )
        return session

    def _load_session(self, session_id: str) -> _Session:
        with self._database.read() as connection:
            row = self._unwritten.find(session_id) or find_read_session(connection, session_id)
            table = None if row is None else table_by_id(connection, row.table_id)
            if row is None or table is None or row.plan is None:
                raise _no_session(session_id)
            request = msgspec.json.decode(row.request, type=CreateReadSession)
            totals = msgspec.json.decode(row.plan, type=SessionTotals)
            scan_schema = self._scan_schemas.of(connection, table, totals.schema_version, request)
        return _Session(
            row=row,
            request=request,
            totals=totals,
            scan_schema=scan_schema,
            row_filter=_filter_of(request, scan_schema),
            partitions=PartitionFilter.of(scan_schema.columns, request.required_partitions),
        )

    def _response(self, session: _Session) -> ReadSession:
        request, totals = session.request, session.totals
        return ReadSession(
            session_id=session.row.id,
            split_mode=request.split_options.split_mode,
            splits_count=totals.splits,
            record_count=totals.rows,
            estimated_bytes=totals.bytes,
            schema=session.scan_schema.odps_schema,
            arrow_schema=session.scan_schema.projection.schema_message,
            expiration_time_ms=int(session.row.expires_at * 1000),
            latest_version=session.row.table_version,
        )

    # --- rows ----------------------------------------------------------------------------------

    def read(self, request: ReadTable) -> ReadPlan:
        """The plan of one TableRead (PROTOCOL 2.3).

        Raises:
            NotFoundError: no such session of this table.
            ExpiredSessionError: the session has expired.
            InvalidArgumentError: a split, range, limit or column outside what there is.
            CorruptObjectError: what is stored is damaged.
        """
        session = self._session(request.session_id, request.table)
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
        wanted = self._range(session, snapshot, request)
        return plan_rows(snapshot, self._store, projection, wanted, options, checks=self._checks)

    def _range(self, session: _Session, snapshot: Snapshot, request: ReadTable) -> RowRange:
        """The rows that a request addresses: of one split, of the session, or of a part of either."""
        if request.index is None:
            whole = RowRange(0, snapshot.row_count)
            place = "the session"
        else:
            splits = self._splits.get(session.row.id)
            if splits is None:
                splits = Splits(session.request.split_options, snapshot, grid=session.totals.grid)
                if splits.count != session.totals.splits:
                    raise CorruptObjectError(
                        f"the snapshot has {splits.count} splits where the session has"
                        f" {session.totals.splits}"
                    )
                self._splits.put(session.row.id, splits)
            whole = splits.rows(request.index)
            place = f"split {request.index}"
        offset = not_negative("Offset", request.offset or 0)
        if offset > whole.length:
            raise InvalidArgumentError(
                f"Offset {offset} is behind the {whole.length} rows of {place}",
                actual=offset,
                limit=whole.length,
            )
        count = whole.length - offset
        if request.count is not None:
            count = min(not_negative("Count", request.count), count)
        return RowRange(whole.start + offset, whole.start + offset + count)

    def _snapshot_of(self, session: _Session) -> Snapshot:
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
            scan_schema = self._scan_schemas.of(connection, table, table.schema_version, request)
            return scan_schema, self._snapshots.load(
                connection, table.id, table.version, PartitionFilter()
            )

    # --- rows without a session ------------------------------------------------------------------

    def snapshot_rows(
        self, request: CreateReadSession, *, offset: int = 0, count: int | None = None
    ) -> SnapshotRows:
        """The plan of a read that begins now and has no session: nothing is entered in the catalog.

        Segments that are removed while the plan is executed stay for as long as retention keeps
        them, which must be longer than that takes.

        Args:
            request: which columns, partitions, rows and version.
            offset: rows to leave out at the beginning; with a filter they are the caller's to count.
            count: most rows; likewise.

        Raises:
            NoSuchTableError: there is no such table.
            InvalidArgumentError: a column or filter that means nothing, or a version that cannot be
                read.
        """
        _check_supported(request)
        with self._database.read() as connection:
            table = get_table(connection, request.table)
            pinned = pinned_version(connection, table, request)
            scan_schema = self._scan_schemas.of(connection, table, pinned.schema_version, request)
            chosen = _filter_of(request, scan_schema)
            wanted = PartitionFilter.of(scan_schema.columns, request.required_partitions)
            snapshot = self._snapshots.load(connection, table.id, pinned.version, wanted)
        rows = RowRange(0, snapshot.row_count)
        if chosen is None:
            start = min(offset, rows.end)
            rows = RowRange(start, rows.end if count is None else min(rows.end, start + count))
        plan = plan_rows(
            snapshot,
            self._store,
            scan_schema.projection,
            rows,
            ReadOptions(row_filter=chosen),
            checks=self._checks,
        )
        return SnapshotRows(table.id, pinned.version, snapshot.row_count, plan)

    # --- preview -------------------------------------------------------------------------------

    def preview(self, request: PreviewTable) -> ReadPlan:
        """The plan of a TablePreview: the first rows, without a session (PROTOCOL 2.4).

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
            table = get_table(connection, request.table)
            scan_schema = self._scan_schemas.of(connection, table, table.schema_version, everything)
            specs = (request.partition,) if len(request.partition) else ()
            wanted = PartitionFilter.of(scan_schema.columns, specs)
            snapshot = self._snapshots.load(connection, table.id, table.version, wanted)
        projection = scan_schema.projection_of(request.columns, unordered=True)
        rows = min(limit, snapshot.row_count)
        return plan_preview(snapshot, self._store, projection, rows, checks=self._checks)


def _check_supported(request: CreateReadSession) -> None:
    if request.required_bucket_ids:
        raise InvalidArgumentError("RequiredBucketIds needs a clustered table")
    if request.incremental and request.since_version is None:
        raise InvalidArgumentError("an incremental read needs the version that it begins after")


def _pins_current(request: CreateReadSession) -> bool:
    """Whether a session reads the table's version of this moment, whose segments nobody forgets soon."""
    return request.version is None and request.since_version is None


def _same_table(one: TableName, other: TableName) -> bool:
    return str(one).casefold() == str(other).casefold()


def _no_session(session_id: str) -> NotFoundError:
    return NotFoundError(f"there is no read session {session_id[:64]!r} of this table")


def _filter_of(request: CreateReadSession, scan_schema: ScanSchema) -> RowFilter | None:
    return row_filter(
        request.filter_predicate,
        scan_schema,
        table=request.table.name,
        fallback=request.filter_predicate_fallback,
    )
