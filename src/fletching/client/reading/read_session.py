"""A snapshot of a scan's rows that many processes read parts of: what engines plan with.

The rows of a session are numbered, and a split is a range of them: the same session gives the same
splits in every process, as many as are asked for.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self, TypedDict

import msgspec
import pyarrow as pa

from fletching.client.argument_checks import names_of, whole_number
from fletching.client.cancellation import Cancellation
from fletching.client.reading.parallel import read_in_order
from fletching.client.reading.readable import OpenedRows, Readable
from fletching.client.reading.residual import Residual
from fletching.client.reading.resume_token import ResumeToken
from fletching.client.reading.row_ends import release_quietly
from fletching.client.reading.session_statistics import (
    PartitionBounds,
    SessionStatistics,
    partition_bounds,
    partition_of,
    session_statistics,
)
from fletching.client.reading.split import Split, SplitList
from fletching.client.table_schemas import scan_schema
from fletching.client.transports.channel import Channel, Reopening, patience
from fletching.errors import ConflictError, ReadTimeoutError, UsageError
from fletching.protocol.messages.requests import GetReadSession
from fletching.protocol.messages.responses import ReadSession as ReadSessionReply
from fletching.protocol.messages.vocabulary import SessionStatus
from fletching.protocol.types.arrow_types import narrowest
from fletching.types import PartitionSpec, TableName

__all__ = ["ReadSession", "prepared"]

_READY_SECONDS = 600.0
"""How long a session may stay in preparation; ours is ready at once."""

MOST_SPLITS = 1_000_000


class _Described(TypedDict):
    """What a session is of, beside what the service said."""

    table: TableName
    columns: tuple[str, ...] | None
    filter: str | None
    limit: int | None
    partitioned: bool
    shown: tuple[str, ...] | None
    residual: Residual | None
    bounds: list[PartitionBounds] | None
    statistics: SessionStatistics | None


class ReadSession(Readable):
    """An open read session: a table's rows at one moment, as a scan chooses them.

    Made by ``scan.session()``. Pickles as its splits do: with a token of the service's that reads
    this session and no more, in place of the key. As a context manager it releases the snapshot at
    the end; else that is kept until the session expires (a day after it was opened or refreshed).
    Thread-safe. Sessions are equal, and have the same hash in every process, where they are the same
    snapshot with the same columns.

    The process that opened it plans and releases; one that it was pickled to reads, may keep it for
    another while (`refresh`, for a week), and cannot release it.

    Attributes:
        id: the service's id of the session.
        table: the table read.
        version: the table's version that is read; None if the service does not say.
        row_count: rows before the filter and up to the limit; with a filter it is the most there
            can be.
        byte_size: an estimate of their bytes as they are stored, all columns.
        pushed: the filter that the service evaluates; None if there is none.
        residual: what is evaluated of the filter where the rows are read, by the session and its splits
            themselves; None if that is nothing.
        expires_at: seconds since the epoch; None if the service does not say.
    """

    def __init__(
        self,
        channel: Channel,
        reply: ReadSessionReply,
        *,
        table: TableName,
        columns: tuple[str, ...] | None,
        filter: str | None,  # noqa: A002  # the query's own word
        limit: int | None,
        partitioned: bool,
        shown: tuple[str, ...] | None = None,
        residual: Residual | None = None,
        bounds: list[PartitionBounds] | None = None,
        statistics: SessionStatistics | None = None,
    ) -> None:
        self._channel = channel
        self._reply = reply
        self._columns = columns
        self._shown = shown
        self._limit = limit
        self._partitioned = partitioned
        # What partitions there are is said at the opening, if a planner asked for it, or when it is asked.
        self._bounds = (
            partition_bounds(reply.details) if bounds is None and reply.details else bounds
        )
        self._statistics = statistics
        self._released = False
        self.table = table
        self.id = reply.session_id
        self.version = reply.latest_version if reply.latest_version >= 0 else None
        self.pushed = filter
        self.residual = residual
        rows = max(reply.record_count, 0)
        self.row_count = rows if limit is None else min(rows, limit)
        self.byte_size = (
            reply.estimated_bytes if self.row_count == rows else self._bytes_of(self.row_count)
        )

    @property
    def schema(self) -> pa.Schema:
        """The schema of the rows."""
        wide = self._wide_schema
        return wide if self._shown is None else pa.schema([wide.field(n) for n in self._shown])

    @property
    def _wide_schema(self) -> pa.Schema:
        """Of what the service sends: the rows' columns, and those that the rest of the filter needs."""
        schema = scan_schema(self._reply)
        if self._columns is None:
            return schema
        by_name = {field.name.casefold(): field for field in schema}
        return pa.schema([by_name[name.casefold()] for name in self._columns])

    @property
    def filters(self) -> bool:
        """Whether rows are left out by a condition, so that only reading tells how many there are."""
        return self.pushed is not None or self.residual is not None

    @property
    def expires_at(self) -> float | None:
        """When the session ends, in seconds since the epoch."""
        milliseconds = self._reply.expiration_time_ms
        return milliseconds / 1000 if milliseconds > 0 else None

    def splits(self, count: int = 1, *, columns: Sequence[str] | None = None) -> list[Split]:
        """The rows in exactly ``count`` parts of about equal numbers of rows, in the table's order.

        The same session gives the same splits in every process. With fewer rows than parts, some
        have no rows. Nothing is asked of the service but, for a partitioned table and once, what
        partitions there are.

        Args:
            count: how many.
            columns: some of the session's, in the wanted order; None for all. No others are sent.

        Raises:
            UsageError: not a whole number from 1 on, a column that the session has not, or the
                session is released.
        """
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MOST_SPLITS:
            raise UsageError(f"a session has 1 to {MOST_SPLITS} splits, not {count!r}")
        if self._released:
            raise UsageError(f"read session {self.id} is released")
        bounds = [self.row_count * part // count for part in range(count + 1)]
        make = self._splitter(columns)
        return SplitList(make(start, end) for start, end in itertools.pairwise(bounds))

    def rows(self, start: int, end: int, *, columns: Sequence[str] | None = None) -> Split:
        """The rows from ``start`` up to, and without, ``end`` as a split; columns as for `splits`.

        Raises:
            UsageError: a range or a column that is none of the session's, or the session is released.
        """
        whole_number("start", start)
        whole_number("end", end)
        if not start <= end <= self.row_count:
            raise UsageError(f"the session has {self.row_count} rows, and none of {start}..{end}")
        if self._released:
            raise UsageError(f"read session {self.id} is released")
        return self._splitter(columns)(start, end)

    @property
    def channel(self) -> Channel:
        """How the session calls; for what is built on it."""
        return self._channel

    def refresh(self) -> Self:
        """Keeps the snapshot for another while, also if it has just expired; returns the session.

        Splits that were made before read on until the time that was theirs; those made from now on
        are for the new time.

        Raises:
            NotFoundError: the service has forgotten the session.
            UnauthorizedError: in a process that the session was pickled to, and it has expired.
            NoPermissionError: likewise, and it was opened a week ago.
            ServiceError: the service refused.
            TransportError: no answer within the retry budget.
        """
        reply = self._ask(refresh=True, with_token=True)
        if self._is_carried and reply.session_token is not None:
            reopen = self._channel.reopen_with(reply.session_token)
            assert reopen is not None  # what was carried here was reopened
            self._channel = reopen()
        self._reply = reply
        self._released = False
        return self

    @property
    def _is_carried(self) -> bool:
        """Whether this process has the session's token and not the key that opened it."""
        reopen = self._channel.reopen
        return reopen is not None and bool(reopen.is_scoped)

    def release(self) -> None:
        """Says that the snapshot is not needed any longer; splits of it cannot be read. Idempotent.

        Raises:
            ServiceError, TransportError: as `refresh`; the session then expires by itself.
        """
        if not self._released:
            self._ask(release=True)
            self._released = True

    def _ask(self, **what: bool) -> ReadSessionReply:
        request = GetReadSession(table=self.table, session_id=self.id, **what)
        return self._channel.call(request)

    def _bytes_of(self, rows: int) -> int:
        whole = max(self._reply.record_count, 1)
        return self._reply.estimated_bytes * rows // whole

    def _splitter(self, columns: Sequence[str] | None) -> Callable[[int, int], Split]:
        """Makes splits of the session's rows with some of its columns."""
        columns = None if columns is None else names_of("columns", columns)
        residual = self.residual
        if residual is None:
            chosen = self._chosen(columns)
            return lambda start, end: self._split(start, end, chosen)
        names = self.schema.names if columns is None else columns
        shown = self._of(self.schema, names)
        wide = self._chosen(residual.asked([field.name for field in shown]))
        return lambda start, end: self._split(start, end, wide).filtered(residual, pa.schema(shown))

    def _of(self, schema: pa.Schema, names: Sequence[str]) -> list[pa.Field]:
        """Some columns by their names.

        Raises:
            UsageError: one that there is not, or one named twice.
        """
        by_name = {field.name.casefold(): field for field in schema}
        unknown = [name for name in names if name.casefold() not in by_name]
        if unknown:
            raise UsageError(
                f"the session reads no column {', '.join(unknown)}; it reads {', '.join(by_name)}"
            )
        fields = [by_name[name.casefold()] for name in names]
        column_names = [field.name for field in fields]
        if len(set(column_names)) != len(column_names):
            raise UsageError(f"the columns of a split name one twice: {', '.join(column_names)}")
        return fields

    def _chosen(self, columns: Sequence[str] | None) -> _Columns:
        """What splits have of the columns that the service sends."""
        schema = self._wide_schema
        if columns is None or (self._columns is None and list(columns) == schema.names):
            return _Columns(schema, self._columns, None)
        fields = self._of(schema, columns)
        names = tuple(field.name for field in fields)
        if not names and self._columns == ():
            # The session sends a column that nobody sees already.
            return _Columns(pa.schema([]), names, None)
        # A reply has columns: rows alone are told by the one whose values are the fewest bytes.
        asked = names or (narrowest(schema),)
        return _Columns(pa.schema(fields), names, asked)

    def _split(self, start: int, end: int, columns: _Columns) -> Split:
        filtered = self.pushed is not None
        return Split(
            ResumeToken(
                table=self.table,
                session_id=self.id,
                columns=columns.names,
                offset=start,
                length=end - start,
                filtered=filtered,
                asked=columns.asked,
            ),
            columns.schema,
            None if filtered and end > start else end - start,
            self._channel,
            self._bytes_of(end - start),
            self._partition_of(start, end),
            self._reply.session_token,
        )

    def _partition_of(self, start: int, end: int) -> PartitionSpec | None:
        """The partition that all rows of a range are of; None if there are several, or none."""
        if not self._partitioned or start == end:
            return None
        if self._bounds is None:
            # What partitions there are is told to who opened the session, who plans; not to who reads.
            if self._is_carried:
                return None
            self._bounds = partition_bounds(self._ask(with_partitions=True).details)
        return partition_of(self._bounds, start, end)

    def statistics(self) -> SessionStatistics:
        """What the service knows of the rows and columns without reading any; asked once.

        It is of the whole snapshot: neither the filter nor the limit narrows what is known of columns.
        The service parses the statistics of every segment, some microseconds for each; no data is read.

        Raises:
            UsageError: the session was pickled to this process before anybody asked: its token reads rows
                and tells nothing of those that a filter leaves out.
            ServiceError: the service refused.
            TransportError: no answer within the retry budget.
        """
        if self._statistics is None:
            if self._is_carried:
                raise UsageError(
                    "a session that was pickled to another process tells statistics there only if they "
                    "were asked for before: call statistics() where the session was opened"
                )
            details = self._ask(with_statistics=True).details
            self._statistics = session_statistics(
                details, self.schema, self.row_count, self.byte_size
            )
        return self._statistics

    @property
    def _progress_name(self) -> str:  # type: ignore[override]  # of the table, which it is of
        return self.table.name

    def _open(self) -> OpenedRows:
        cancellation = Cancellation(self._channel.cancellation)
        (split,) = self.splits(1)
        if self.residual is not None:
            return split.opened()
        batches = read_in_order(
            [lambda: split.scan_reader(cancellation)],
            connections=1,
            read_ahead_bytes=0,
            cancellation=cancellation,
        )
        return OpenedRows(self.schema, batches, self.row_count)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *exc: object) -> None:
        """Releases the snapshot; an error of the block matters more than one of that."""
        if exc_type is None:
            self.release()
        elif not self._released:
            self._released = True
            release = functools.partial(release_quietly, table=self.table, session_id=self.id)
            self._channel.on_leaving(release, patience(exc_type))

    def __repr__(self) -> str:
        version = "" if self.version is None else f" at version {self.version}"
        return f"<ReadSession of {self.table}{version}: {self.row_count} rows>"

    def __eq__(self, other: object) -> bool:
        """Whether it is the same snapshot with the same columns."""
        if not isinstance(other, ReadSession):
            return NotImplemented
        return self.__dask_tokenize__() == other.__dask_tokenize__()

    def __hash__(self) -> int:
        """The same in every process, unlike that of text."""
        digest = hashlib.blake2b(repr(self.__dask_tokenize__()).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little", signed=True)

    def __dask_tokenize__(self) -> tuple[object, ...]:
        """What the session is, the same in every process (see `Split`)."""
        shown = () if self.residual is None else (self._shown, self.residual.written)
        return (
            "fletching.ReadSession",
            str(self.table),
            self.id,
            self._columns,
            self._limit,
            *shown,
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles by what the service said and what reopens the client to read it."""
        return _reopened, (
            self._channel.reopen_with(self._reply.session_token),
            msgspec.structs.replace(self._reply, session_token=None),
            {
                "table": self.table,
                "columns": self._columns,
                "filter": self.pushed,
                "limit": self._limit,
                "partitioned": self._partitioned,
                "shown": self._shown,
                "residual": self.residual,
                "bounds": self._bounds,
                "statistics": self._statistics,
            },
        )


class _Columns(NamedTuple):
    """The columns of splits: their schema, the order in which they are handed out, and what is asked for."""

    schema: pa.Schema
    names: tuple[str, ...] | None
    asked: tuple[str, ...] | None


def _reopened(reopen: Reopening, reply: ReadSessionReply, described: _Described) -> ReadSession:
    return ReadSession(reopen(), reply, **described)


def prepared(channel: Channel, table: TableName, session: ReadSessionReply) -> ReadSessionReply:
    """Waits while the service prepares a session, as the real one may.

    Raises:
        ReadTimeoutError: it takes too long.
        ConflictError: the session has failed.
    """
    sequence, waited = channel.sequence(), 0.0
    while session.status is SessionStatus.INIT:
        if waited >= _READY_SECONDS:
            raise ReadTimeoutError(
                f"read session {session.session_id} is still in preparation after {waited:.0f} s"
            )
        sequence.pause(1.0)
        waited += 1.0
        look = GetReadSession(
            table=table,
            session_id=session.session_id,
            with_token=session.session_token is not None,
        )
        session = channel.call(look)
    if session.status is not SessionStatus.NORMAL:
        raise ConflictError(
            f"read session {session.session_id} is {session.status}: {session.message}"
        )
    return session
