"""Read sessions: a table version that stays readable, the columns and rows chosen of it, and their number.

A session lives in the catalog, so any process can answer for it. What was derived from it (columns,
filter, totals) is immutable and kept here, least recently used first out, so that reading asks the
catalog nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import msgspec
from sqlalchemy import Connection

from fletching.catalog.database import Database
from fletching.catalog.partition_rows import PartitionRow, find_partitions, list_partitions
from fletching.catalog.read_session_rows import (
    ReadSessionRow,
    extend_read_session,
    find_read_session,
    forget_read_session,
    hold_snapshots,
    insert_read_session,
    plan_read_session,
)
from fletching.catalog.segment_rows import visible_partitions
from fletching.catalog.table_rows import TableRow, table_by_id
from fletching.engine.cache import Budget, RecentlyUsed
from fletching.engine.engine_settings import EngineSettings
from fletching.engine.reading.change_feed import begin_incremental, choose_incremental
from fletching.engine.reading.kept_snapshots import Snapshots
from fletching.engine.reading.open_sessions import (
    OpenSessions,
    PinnedVersion,
    find_wanted,
    pinned_version,
    pins_current,
    write_waiting_session,
)
from fletching.engine.reading.output_schema import PartitionFilter
from fletching.engine.reading.row_filter import RowFilter, row_filter
from fletching.engine.reading.scan_schema import ScanSchema, ScanSchemas
from fletching.engine.reading.splits import (
    GRID_SEGMENTS,
    Scope,
    Splits,
    check_options,
    count_splits,
)
from fletching.engine.waiting_rows import QUICK_SECONDS, WaitingRows
from fletching.errors import (
    ExpiredSessionError,
    FletchingError,
    InvalidArgumentError,
    NotFoundError,
    ServiceUnavailableError,
    StorageError,
    StorageFullError,
)
from fletching.protocol.messages.requests import CreateReadSession, GetReadSession
from fletching.protocol.messages.responses import ReadSession
from fletching.protocol.messages.vocabulary import SplitMode
from fletching.types import TableName

__all__ = ["OpenSession", "ReadSessions", "check_supported", "filter_of"]

Result = TypeVar("Result")

_SESSION_BYTES = 16 << 10  # what a session takes beside its filter
_FILTER_BYTES = 8  # for a character of its text: the tree, and lists of values as Arrow arrays


class SessionTotals(msgspec.Struct, frozen=True):
    """What was decided when a session was created, as the catalog keeps it."""

    schema_version: int
    rows: int
    bytes: int
    splits: int
    grid: bool


@dataclasses.dataclass(frozen=True, eq=False)
class OpenSession:
    """A session and what follows from it."""

    row: ReadSessionRow
    request: CreateReadSession
    totals: SessionTotals
    scan_schema: ScanSchema
    row_filter: RowFilter | None
    partitions: PartitionFilter

    @property
    def size_bytes(self) -> int:
        """About how much memory this takes; what sessions share is not counted."""
        return _SESSION_BYTES + _FILTER_BYTES * len(self.request.filter_predicate)


class _Pinned(NamedTuple):
    """A table, the version of it that is read, and partitions that were found with it."""

    table: TableRow
    pinned: PinnedVersion
    partitions: dict[tuple[str, ...], PartitionRow]


class ReadSessions:
    """The open read sessions of an engine: created, found, kept alive. Thread-safe.

    Blocks on the catalog only for sessions that this process has not seen lately.
    """

    def __init__(
        self,
        database: Database,
        snapshots: Snapshots,
        *,
        clock: Callable[[], float],
        settings: EngineSettings,
        written_at_once: bool = False,
        budget: Budget,
    ) -> None:
        """Keeps sessions in ``database``; ``clock`` gives seconds since the epoch.

        What is in memory, too, counts in ``budget``, in bytes.

        ``written_at_once``: a session is in the catalog before anybody hears of it, however long
        that takes.
        """
        self._database = database
        self._clock = clock
        self._session_seconds = settings.read_session_seconds
        self._open_sessions = OpenSessions(settings.max_read_sessions)
        self._waiting = WaitingRows(
            database, write_waiting_session, what="read-sessions", durable=False
        )
        # Processes that answer for each other's sessions find them in the catalog alone.
        self._patience = None if written_at_once else QUICK_SECONDS
        self.scan_schemas = ScanSchemas(budget)
        self._sessions = RecentlyUsed[str, OpenSession](
            budget, weight=lambda session: session.size_bytes
        )
        self._snapshots = snapshots

    @property
    def cache(self) -> RecentlyUsed[str, OpenSession]:
        """The sessions that are in memory, too."""
        return self._sessions

    def create(self, request: CreateReadSession) -> ReadSession:
        """Pins the table's current version and divides its rows.

        Raises:
            NoSuchTableError: there is no such table.
            ThrottledError: too many sessions are open; some end by themselves.
            NoSuchPartitionError: a partition named in full does not exist.
            InvalidArgumentError: a column, partition column, split option or filter that means nothing.
        """
        check_options(request.split_options)
        check_supported(request)
        (session,) = self._open([request], self._begin_sendable)
        if session.row.plan is None:
            session = self._counted(session)
        self._sessions.put(session.row.id, session)
        return self._response(session)

    def _open(
        self,
        requests: Sequence[CreateReadSession],
        begin: Callable[[Connection, CreateReadSession, float], OpenSession],
    ) -> list[OpenSession]:
        """Begins sessions of one moment; where somebody else writes for long, they are written down later."""
        now = self._clock()
        # Nobody forgets the segments of a current version soon; those of an older one are kept by what
        # is written down.
        patience = self._patience if all(map(pins_current, requests)) else None

        def written(connection: Connection) -> list[OpenSession]:
            opened = [begin(connection, request, now) for request in requests]
            for session in opened:
                insert_read_session(connection, session.row)
            return opened

        opened = self._write(written, patience, pins=True)
        if opened is None:
            with self._database.read() as connection:
                opened = [begin(connection, request, now) for request in requests]
            for session in opened:
                self._waiting.put(session.row, new=True)
        return opened

    def _write(
        self, work: Callable[[Connection], Result], patience: float | None, *, pins: bool = False
    ) -> Result | None:
        """Does what writes to the catalog; None if it would have to wait for longer than that, or has no room.

        Not durable: opening a session is repeated after a power cut, and waiting for the disk would be
        most of the time until the first batch.
        """
        if self._waiting and patience is not None:
            return None
        try:
            with self._database.write(
                durable=False, wait_seconds=patience, pins=pins
            ) as connection:
                return work(connection)
        except (ServiceUnavailableError, StorageFullError):
            if patience is None:
                raise
            return None

    def _begin(self, connection: Connection, request: CreateReadSession, now: float) -> OpenSession:
        """What a session reads, decided in the transaction that pins it."""
        hold_snapshots(connection)
        table, partitions = find_wanted(connection, request)
        original, request = request, begin_incremental(connection, table, request)
        pinned = pinned_version(connection, table, request)
        columns = self.scan_schemas.versions(connection, table)[pinned.schema_version]
        request = choose_incremental(original, request, columns)
        scan_schema = self.scan_schemas.of(connection, table, pinned.schema_version, request)
        chosen = filter_of(request, scan_schema)
        wanted = PartitionFilter.of(scan_schema.columns, request.required_partitions)
        totals = self._divide(connection, _Pinned(table, pinned, partitions), request, wanted)
        row = ReadSessionRow(
            id=secrets.token_hex(16),
            table_id=table.id,
            table_version=pinned.version,
            request=msgspec.json.encode(request),
            plan=None if pinned.since is not None else msgspec.json.encode(totals),
            created_at=now,
            expires_at=now + self._session_seconds,
            since_version=pinned.since,
        )
        self._open_sessions.admit(connection, now)
        return OpenSession(row, request, totals, scan_schema, chosen, wanted)

    def _counted(self, session: OpenSession) -> OpenSession:
        """A session of changes with their number, which is found out when their versions are pinned.

        That may read keys from the object store: nobody waits for it who wants to write to the catalog.
        """
        row = session.row
        try:
            snapshot = self._snapshots.get(
                row.table_id, row.table_version, session.partitions, row.since_version
            )
            totals = SessionTotals(
                schema_version=session.totals.schema_version,
                rows=snapshot.row_count,
                bytes=int(snapshot.byte_start[-1]),
                splits=Splits(session.request.split_options, snapshot, grid=False).count,
                grid=False,
            )
            plan = msgspec.json.encode(totals)
            with self._database.write(durable=False) as connection:
                known = plan_read_session(connection, row.id, plan)
        except BaseException:
            with contextlib.suppress(FletchingError), self._database.write() as connection:
                forget_read_session(connection, row.id)
            raise
        if not known:
            raise _no_session(row.id)
        return dataclasses.replace(session, row=dataclasses.replace(row, plan=plan), totals=totals)

    def _begin_sendable(
        self, connection: Connection, request: CreateReadSession, now: float
    ) -> OpenSession:
        """The same, of columns that can all be sent; what no read could send is refused here."""
        session = self._begin(connection, request, now)
        _ = session.scan_schema.projection
        return session

    def open_all(self, tables: Sequence[tuple[TableName, int | None]]) -> list[OpenSession]:
        """Opens sessions of versions of tables until `end`; with None of the current ones of one moment.

        Raises:
            NoSuchTableError: one of them does not exist.
            VersionNotFoundError: a version is gone, or still to come.
            ThrottledError: too many sessions are open.
        """
        requests = [CreateReadSession(table=name, version=version) for name, version in tables]
        return self._open(requests, self._begin)

    def end(self, sessions: Sequence[OpenSession]) -> None:
        """Lets their versions go: the sessions have expired from now on.

        A catalog that fails here makes no failure of what has been read or done: it is told later.
        """
        if not sessions:
            return
        now = self._clock()

        def ended(connection: Connection) -> list[bool]:
            return [extend_read_session(connection, each.row.id, now) for each in sessions]

        try:
            written = self._write(ended, self._patience) is not None
        except (ServiceUnavailableError, StorageError, StorageFullError):
            written = False
        if not written:
            for session in sessions:
                self._waiting.put(dataclasses.replace(session.row, expires_at=now), new=False)

    def get(self, request: GetReadSession) -> ReadSession:
        """Looks a session up; with ``refresh`` it lives on from now, also if it had just expired.

        With ``release`` it ends now, so that its snapshot need not be kept.

        Raises:
            NotFoundError: there is no such session of this table.
            ExpiredSessionError: it has expired, and was not refreshed.
        """
        if request.refresh or request.release:
            expires_at = self._clock() + (0 if request.release else self._session_seconds)
            session = self.find(request.session_id, request.table, expired=True)
            expired = session.row.expires_at <= self._clock()
            session = dataclasses.replace(
                session, row=dataclasses.replace(session.row, expires_at=expires_at)
            )
            self._extend(session.row, waits=expired)
            self._sessions.put(request.session_id, session)
            return self._response(session)
        return self._response(self.find(request.session_id, request.table))

    def _extend(self, row: ReadSessionRow, *, waits: bool) -> None:
        """Writes a session's new expiry: at once, or when the catalog's lock is free again.

        Args:
            row: with the new expiry.
            waits: for the lock, as an expired session may be forgotten by whoever holds it.
        """
        written = self._write(
            lambda connection: extend_read_session(connection, row.id, row.expires_at),
            None if waits else self._patience,
        )
        if written is None:
            self._waiting.put(row, new=False)
        elif not written:
            raise _no_session(row.id)

    def close(self) -> None:
        """Stops trying to write sessions down."""
        self._waiting.close()

    def _divide(
        self,
        connection: Connection,
        result: _Pinned,
        request: CreateReadSession,
        wanted: PartitionFilter,
    ) -> SessionTotals:
        """Counts rows, bytes and splits; from the catalog's totals where they are enough."""
        table, pinned = result.table, result.pinned
        options = request.split_options
        grid = pinned.segments > GRID_SEGMENTS
        if pinned.since is not None:
            # Changes are counted when they are pinned.
            return SessionTotals(pinned.schema_version, rows=0, bytes=0, splits=0, grid=False)
        if wanted.everything and options.cross_partition:
            scopes = [Scope(pinned.rows, pinned.bytes)]
        else:
            scopes = self._scopes(connection, result, request, wanted)
        if options.split_mode is SplitMode.SIZE and not grid:
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
        pinned_table: _Pinned,
        request: CreateReadSession,
        wanted: PartitionFilter,
    ) -> list[Scope]:
        """What splits do not leave, in a version of which only some is wanted, or by partition."""
        table, pinned = pinned_table.table, pinned_table.pinned
        if not table.partition_columns:
            return [Scope(pinned.rows, pinned.bytes)]
        named = wanted.named
        if pinned.version != table.version:
            result = visible_partitions(connection, table.id, pinned.version, named)
        else:
            if named is None:
                rows = list_partitions(connection, table.id)
            elif pinned_table.partitions.keys() >= set(named):
                rows = [pinned_table.partitions[values] for values in named]
            else:
                rows = find_partitions(connection, table.id, named)
            result = [(row.values, row.rows, row.bytes) for row in rows]
        chosen = [item for item in result if wanted.matches(item[0])]
        wanted.check_existing([values for values, _, _ in chosen])
        scopes = [Scope(rows, size) for _, rows, size in chosen if size]
        if request.split_options.cross_partition or not scopes:
            total_rows = sum(scope.rows for scope in scopes)
            scopes = [Scope(total_rows, sum(scope.bytes for scope in scopes))]
        return scopes

    def find(self, session_id: str, table: TableName, *, expired: bool = False) -> OpenSession:
        """An open session of a table.

        Raises:
            NotFoundError: there is none of that id and table.
            ExpiredSessionError: it has expired, and ``expired`` is not given.
        """
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

    def _load_session(self, session_id: str) -> OpenSession:
        with self._database.read() as connection:
            row = self._waiting.find(session_id) or find_read_session(connection, session_id)
            table = None if row is None else table_by_id(connection, row.table_id)
            if row is None or table is None or row.plan is None:
                raise _no_session(session_id)
            request = _REQUEST.decode(row.request)
            totals = _TOTALS.decode(row.plan)
            scan_schema = self.scan_schemas.of(connection, table, totals.schema_version, request)
        return OpenSession(
            row=row,
            request=request,
            totals=totals,
            scan_schema=scan_schema,
            row_filter=filter_of(request, scan_schema),
            partitions=PartitionFilter.of(scan_schema.columns, request.required_partitions),
        )

    def _response(self, session: OpenSession) -> ReadSession:
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
            table_id=session.row.table_id,
        )


def check_supported(request: CreateReadSession) -> None:
    """Refuses with an `InvalidArgumentError` what no table here has, or what says too little."""
    if request.required_bucket_ids:
        raise InvalidArgumentError("RequiredBucketIds needs a clustered table")


def _same_table(left: TableName, other: TableName) -> bool:
    return str(left).casefold() == str(other).casefold()


def _no_session(session_id: str) -> NotFoundError:
    return NotFoundError(f"there is no read session {session_id[:64]!r} of this table")


def filter_of(request: CreateReadSession, scan_schema: ScanSchema) -> RowFilter | None:
    """The request's filter over a table's columns; None if it has none."""
    return row_filter(
        request.filter_predicate,
        scan_schema,
        table=request.table.name,
        fallback=request.filter_predicate_fallback,
    )


# At import: see protocol/codec/codec_admin.py.
_REQUEST = msgspec.json.Decoder(CreateReadSession)
_TOTALS = msgspec.json.Decoder(SessionTotals)
