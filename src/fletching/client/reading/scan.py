"""Reading a table: which columns, partitions and rows; then as table, batches, reader or splits."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol, Unpack

import msgspec
import pyarrow as pa

from fletching.client.argument_checks import whole_number
from fletching.client.call_options import OptionChanges
from fletching.client.cancellation import Cancellation
from fletching.client.html_views import html_view
from fletching.client.progress import ProgressLike
from fletching.client.reading.arrow_reader import ArrowReader
from fletching.client.reading.filter_text import filter_text
from fletching.client.reading.parallel import read_in_order
from fletching.client.reading.read_session import ReadSession, prepared
from fletching.client.reading.readable import OpenedRows, Readable
from fletching.client.reading.residual import Residual
from fletching.client.reading.resume_token import ResumeToken
from fletching.client.reading.row_ends import first_rows, left_with, released
from fletching.client.reading.session_statistics import partition_bounds, partition_of
from fletching.client.reading.split import Split, SplitList
from fletching.client.table_schemas import scan_schema
from fletching.client.transports.channel import Channel
from fletching.client.transports.transport import BatchSource
from fletching.errors import UsageError
from fletching.protocol.messages.requests import (
    ArrowOptions,
    CreateReadSession,
    GetReadSession,
    SplitOptions,
)
from fletching.protocol.messages.responses import ReadSession as ReadSessionReply
from fletching.protocol.messages.session_details import SessionDetails
from fletching.protocol.messages.vocabulary import SplitMode
from fletching.protocol.types.arrow_types import narrowest
from fletching.types import PartitionSpec, TableName

__all__ = ["Scan", "ScannedTable", "session_of"]

_LEAST_SPLIT_BYTES = 8 << 20
"""A smaller part is read in less time than it takes to ask for it over a long way."""


class ScannedTable(Protocol):
    """What a scan takes of its table."""

    @property
    def full_name(self) -> TableName:
        """Project, schema and name."""

    @property
    def table_id(self) -> str:
        """Which of all tables that had the name; empty where the service does not say."""

    @property
    def channel(self) -> Channel:
        """How the table calls."""

    @property
    def name(self) -> str:
        """The table's name without project and schema."""

    @property
    def schema(self) -> pa.Schema:
        """All columns, data columns first."""

    @property
    def partition_columns(self) -> tuple[str, ...]:
        """Names of the partition columns, in order."""


@dataclasses.dataclass(frozen=True, slots=True)
class Scan(Readable):
    """Some rows and columns of a table; nothing is read before one of the methods is called.

    Each call of `to_table`, `to_batches`, `to_reader` and `splits` opens a read session of its own: a snapshot of
    the table at that moment. Rows come in the table's order, also when several connections read at once. Batches
    with all columns were compared with their checksums; chosen columns have none (docs/durability.md).

    Attributes:
        columns: the wanted columns in the wanted order; None for all, data columns first, then
            partition columns. An empty sequence gives batches with rows and no columns.
        partitions: full or leading partition specifications; None for all.
        filter: a condition on data and partition columns, an SQL predicate that the service evaluates; of a
            ``pyarrow.compute.Expression`` what of it can be said so; or None.
        limit: at most so many rows, or None.
        residual: what is evaluated of the filter where the rows arrive, or None.
    """

    table: ScannedTable
    columns: tuple[str, ...] | None = None
    partitions: tuple[PartitionSpec, ...] | None = None
    filter: str | None = None
    limit: int | None = None
    version: int | None = None
    since: int | None = None
    residual: Residual | None = None
    _channel: Channel | None = dataclasses.field(default=None, repr=False, compare=False)
    _releases: bool = dataclasses.field(default=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuses a negative limit, a column named twice, and values that mean nothing."""
        object.__setattr__(self, "filter", filter_text(self.filter))
        if self.limit is not None:
            whole_number("limit", self.limit)
        if self.columns is not None:
            for name in self.columns:
                if not isinstance(name, str):
                    raise UsageError(f"a column is named by text, not {name!r}")
            lowered = [name.casefold() for name in self.columns]
            if len(set(lowered)) != len(lowered):
                raise UsageError(f"a scan's columns name one twice: {', '.join(self.columns)}")

    def with_options(self, **changes: Unpack[OptionChanges]) -> Scan:
        """The same scan with other options (see `CallOptions`), e.g. ``connections=8``."""
        return dataclasses.replace(self, _channel=self.channel.changed(**changes))

    def releasing(self) -> Scan:
        """The same scan, of which each read gives its snapshot up when it ends, by one more request.

        Else the snapshot is kept until its session expires. For engines, whose queries are many and
        long; a read that is small takes half as long again by it.
        """
        return dataclasses.replace(self, _releases=True)

    @property
    def schema(self) -> pa.Schema:
        """The schema of what the scan gives; asks the service for the table's if that is not known.

        Raises:
            UsageError: the table has no such column.
        """
        whole = self.table.schema
        if self.columns is None:
            return whole
        by_name = {field.name.casefold(): field for field in whole}
        unknown = [name for name in self.columns if name.casefold() not in by_name]
        if unknown:
            raise UsageError(
                f"table {self.table.name} has no column {', '.join(unknown)}; "
                f"it has {', '.join(whole.names)}"
            )
        return pa.schema([by_name[name.casefold()] for name in self.columns])

    def to_batches(self, *, progress: ProgressLike = None) -> Generator[pa.RecordBatch, None, None]:
        """The rows as record batches, as they are stored where nothing asks for others.

        Memory stays bounded whatever the table's size (see `CallOptions`). The call opens the read
        session and the iterator reads it. Dropping or closing the iterator ends its connections and
        threads at once, whatever the service does.

        Args:
            progress: True for a bar, or a function of one `fletching.Progress`, called per batch.

        Raises:
            ServiceError: the service refused, at once what concerns the whole scan, from the
                iterator what concerns a part.
            TransportError: no answer within the retry budget, or, from the iterator, a connection
                that broke and could not be replaced in time.
            WireError: a reply was not a correct Arrow IPC stream.
        """
        return self._begin(progress).batches

    def count(self) -> int:
        """How many rows the scan has: from the catalog, or, with a filter, by reading.

        Raises:
            ServiceError: the service refused.
            TransportError: no answer within the retry budget.
        """
        if self.filters:
            bare = dataclasses.replace(self, columns=())
            return sum(batch.num_rows for batch in bare.to_batches())
        rows = self._session(
            SplitOptions(split_mode=SplitMode.ROW_OFFSET, split_number=1)
        ).record_count
        return rows if self.limit is None else min(rows, self.limit)

    def head(self, rows: int = 5) -> pa.Table:
        """The first rows, at most so many."""
        whole_number("rows", rows)
        limit = rows if self.limit is None else min(rows, self.limit)
        return dataclasses.replace(self, limit=limit).to_table()

    def session(self) -> ReadSession:
        """Opens a read session: a snapshot to plan with, whose splits many processes can read.

        Raises:
            UsageError: a limit together with a filter: where such a limit falls is known only
                after reading.
            ServiceError: the service refused.
            TransportError: no reply within the retry budget.
        """
        if self.limit is not None and self.filters:
            raise UsageError("a scan with a filter and a limit has no session; drop one of them")
        return self._opened()

    def _opened(self, **more: bool) -> ReadSession:
        """The session, with what else its reply is to have; see `_session`."""
        options = SplitOptions(split_mode=SplitMode.ROW_OFFSET, split_number=1)
        reopen = self.channel.reopen
        return ReadSession(
            self.channel,
            # Whoever reads by a token already hands that on.
            self._session(options, with_token=reopen is None or not reopen.is_scoped, **more),
            table=self.table.full_name,
            columns=self._asked,
            shown=None if self.residual is None else tuple(self.schema.names),
            residual=self.residual,
            filter=self.filter,
            limit=self.limit,
            partitioned=bool(self.table.partition_columns),
        )

    def splits(self, count: int | None = None, *, split_bytes: int | None = None) -> list[Split]:
        """The scan's rows in parts that can be read anywhere, in the table's order.

        Args:
            count: about how many parts.
            split_bytes: about how large each part is; ignored when ``count`` is given.

        Raises:
            UsageError: a limit together with a filter: where such a limit falls is known only
                after reading.
            ServiceError: the service refused.
            TransportError: no reply within the retry budget.
        """
        if self.limit is not None and self.filters:
            raise UsageError("a scan with a filter and a limit has no splits; drop one of them")
        for name, value in (("count", count), ("split_bytes", split_bytes)):
            if value is not None:
                whole_number(f"{name} of splits", value, least=1)
        if self.residual is not None:
            wide = self._read_wide().splits(count, split_bytes=split_bytes)
            return SplitList(each.filtered(self.residual, self.schema) for each in wide)
        partitioned = bool(self.table.partition_columns)
        if self.limit is not None:
            ranges = self._opened(with_partitions=partitioned).splits(count or self._connections)
            return SplitList(each for each in ranges if each.row_count)
        options = SplitOptions(
            split_mode=SplitMode.SIZE, split_number=split_bytes or self.channel.options.split_bytes
        )
        if count is not None:
            options = SplitOptions(split_mode=SplitMode.PARALLELISM, split_number=count)
        session = self._session(
            options, with_token=True, with_splits=True, with_partitions=partitioned
        )
        details = session.details
        if details is None and session.splits_count > 0:
            # A service that was still preparing it, or is older, may say it of the session.
            look = GetReadSession(
                table=self.table.full_name,
                session_id=session.session_id,
                with_splits=True,
                with_partitions=partitioned,
            )
            details = self.channel.call(look).details
        indexes = [{"index": index} for index in range(session.splits_count)]
        return self._split_list(session, indexes, details)

    def _repr_html_(self) -> str:
        properties = {
            "partitions": ", ".join(str(each) for each in self.partitions or ()),
            "filter": self.filter,
            "residual": self.residual,
            "limit": self.limit,
        }
        title = f"scan of {self.table.full_name}"
        return html_view(title, properties, self.schema, self.table.partition_columns)

    # --- sessions ----------------------------------------------------------------------------

    @property
    def filters(self) -> bool:
        """Whether rows are left out by a condition, so that only reading tells how many there are."""
        return self.filter is not None or self.residual is not None

    @property
    def _asked(self) -> tuple[str, ...] | None:
        """The columns to read: those that are wanted, and what remains of the filter needs."""
        if self.residual is None or self.columns is None:
            return self.columns
        return self.residual.asked(self.columns)

    def _read_wide(self) -> Scan:
        """What is read, before the rest of the filter and the limit."""
        return dataclasses.replace(self, columns=self._asked, residual=None, limit=None)

    @property
    def channel(self) -> Channel:
        """How the scan calls; for what is built on it."""
        return self._channel or self.table.channel

    @property
    def _connections(self) -> int:
        """How many connections this scan reads through at once."""
        transport = self.channel.transport
        if not transport.supports_parallel_reads:
            return 1
        wanted = self.channel.options.connections
        return transport.default_connections if wanted == "auto" else wanted

    @property
    def _split_bytes(self) -> int:
        """How large the parts are that connections read ahead of each other.

        The bytes that may be held are shared: a part that is larger than its share would fill them,
        and the connections would read one after another.
        """
        options = self.channel.options
        share = max(options.read_ahead_bytes // self._connections, _LEAST_SPLIT_BYTES)
        # A service counts the bytes of all columns; of a few, more rows make a part of that size.
        whole = len(self.table.schema)
        chosen = whole if self.columns is None else max(1, len(self.columns))
        return min(options.split_bytes, share * max(1, whole // chosen))

    def _split_list(
        self,
        session: ReadSessionReply,
        ranges: Sequence[dict[str, Any]],
        details: SessionDetails | None = None,
    ) -> list[Split]:
        make_token = functools.partial(
            ResumeToken,
            table=self.table.full_name,
            session_id=session.session_id,
            columns=self.columns,
        )
        schema, token = self._schema_of(session), session.session_token
        size = session.estimated_bytes // max(len(ranges), 1)
        sizes: list[tuple[int | None, int]] = [(each.get("length"), size) for each in ranges]
        if details is not None and details.split_rows and details.split_bytes:
            sizes = list(zip(details.split_rows, details.split_bytes, strict=True))
        bounds = partition_bounds(details)
        splits, start = SplitList(), 0
        for asked, (rows, size) in zip(ranges, sizes, strict=True):
            end = start + (rows or 0)
            # How many rows a filter chooses is known before reading only where there are none.
            known = rows if self.filter is None or rows == 0 else None
            partition = partition_of(bounds, start, end)
            splits.append(
                Split(make_token(**asked), schema, known, self.channel, size, partition, token)
            )
            start = end
        return splits

    def _schema_of(self, session: ReadSessionReply) -> pa.Schema:
        schema = scan_schema(session)
        if self.columns is None:
            return schema
        by_name = {field.name.casefold(): field for field in schema}
        return pa.schema([by_name[name.casefold()] for name in self.columns])

    def _session(self, split_options: SplitOptions, **more: bool) -> ReadSessionReply:
        """A session; ``more`` are fields of the request that say what else its reply is to have."""
        request = msgspec.structs.replace(self._session_request(split_options), **more)
        return prepared(self.channel, request.table, self.channel.call(request))

    def _begun_session(
        self, split_options: SplitOptions, cancellation: Cancellation, begun: list[BatchSource]
    ) -> ReadSessionReply:
        """A session; ``begun`` gets the reply to the first read of it, where one request gives both."""
        request = self._session_request(split_options)
        session, rows = self.channel.open_session(request, cancellation)
        if rows is not None:
            begun.append(rows)
        return prepared(self.channel, request.table, session)

    def _session_request(self, split_options: SplitOptions) -> CreateReadSession:
        data_columns, partition_columns = self._wanted()
        pinned = self.since if self.version is None else self.version
        return CreateReadSession(
            table=self.table.full_name,
            required_data_columns=data_columns,
            required_partition_columns=partition_columns,
            required_partitions=self.partitions or (),
            split_options=split_options,
            arrow_options=ArrowOptions(timestamp_unit=None, datetime_unit=None),
            filter_predicate=self.filter or "",
            verbatim_types=True,
            version=self.version,
            since_version=self.since,
            # A version's number means nothing in another table of the name.
            table_id="" if pinned is None else self.table.table_id,
        )

    def _wanted(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The data columns and partition columns to read; ((), ()) means all."""
        columns = self._asked
        if columns is None:
            return (), ()
        # The service takes no columns for all columns: one is asked for and left out here.
        columns = columns or (_count_column(self.table),)
        partition_names = {name.casefold() for name in self.table.partition_columns}
        data = tuple(name for name in columns if name.casefold() not in partition_names)
        partitions = tuple(name for name in columns if name.casefold() in partition_names)
        return data, partitions

    @property
    def _progress_name(self) -> str:  # type: ignore[override]  # of the table, which it is of
        return self.table.name

    def _open(self) -> OpenedRows:
        if self.residual is not None:
            # Its types are those that are read: the table may have changed.
            wide = self._read_wide()._open()  # noqa: SLF001  # another scan
            count = len(wide.schema) if self.columns is None else len(self.columns)
            schema = pa.schema([wide.schema.field(index) for index in range(count)])
            kept = self.residual.rows(wide.batches, schema.names)
            return OpenedRows(schema, first_rows(kept, self.limit))
        begun: list[BatchSource] = []
        try:
            return self._opened_rows(begun)
        except BaseException:
            for each in begun:
                each.close()
            raise

    def _opened_rows(self, begun: list[BatchSource]) -> OpenedRows:
        """A read that has begun; ``begun`` gets what of it nobody has taken yet."""
        channel = self.channel
        # All connections of this scan, so that leaving it ends what any of them waits for.
        cancellation = Cancellation(channel.cancellation)
        if self.limit is not None and self.filter is None:
            session = self._session(SplitOptions(split_mode=SplitMode.ROW_OFFSET, split_number=1))
            rows = min(session.record_count, self.limit)
            size = self._rows_per_split(session)
            ranges = [
                {"offset": start, "length": min(size, rows - start)}
                for start in range(0, rows, size)
            ]
        else:
            options = SplitOptions(split_mode=SplitMode.SIZE, split_number=self._split_bytes)
            if self._connections == 1:
                # Splits are read one after the other, so that dividing would be work for nothing.
                options = SplitOptions(split_mode=SplitMode.PARALLELISM, split_number=1)
            if self.filter is None or self._connections == 1:
                session = self._begun_session(options, cancellation, begun)
            else:
                # Rows that are hard to find in the first split must not keep the others waiting.
                session = self._session(options)
            ranges = [{"index": index} for index in range(session.splits_count)]
        splits = self._split_list(session, ranges)
        openers: list[Callable[[], ArrowReader]] = [
            functools.partial(split.scan_reader, cancellation) for split in splits
        ]
        if begun:
            openers[0] = lambda: splits[0].scan_reader(cancellation, begun.pop())
        parallel = not (self.filter and self.limit is not None)
        batches = read_in_order(
            openers,
            connections=self._connections if parallel else 1,
            read_ahead_bytes=channel.options.read_ahead_bytes,
            cancellation=cancellation,
        )
        known = None if self.filter is not None else max(session.record_count, 0)
        if known is not None and self.limit is not None:
            known = min(known, self.limit)
        rows_read = left_with(first_rows(batches, self.limit), begun)
        if self._releases:
            rows_read = released(rows_read, channel, self.table.full_name, session.session_id)
        return OpenedRows(self._schema_of(session), rows_read, known)

    def _rows_per_split(self, session: ReadSessionReply) -> int:
        """Rows that make about one split's bytes, from the session's own estimate."""
        if self._connections == 1 or min(session.estimated_bytes, session.record_count) <= 0:
            return max(1, session.record_count)
        row_bytes = max(1, session.estimated_bytes // session.record_count)
        return max(1, self._split_bytes // row_bytes)


def session_of(scan: Scan) -> ReadSessionReply:
    """A session of a scan's rows, which the caller ends, with a token for the whole table."""
    options = SplitOptions(split_mode=SplitMode.ROW_OFFSET, split_number=1)
    return scan._session(options, with_table_token=True)  # noqa: SLF001  # ours


def _count_column(table: ScannedTable) -> str:
    """What reads that want only the rows' number read; a partition column costs nothing."""
    if table.partition_columns:
        return table.partition_columns[0]
    if not table.schema.names:
        raise UsageError(f"table {table.name} has no columns")
    return narrowest(table.schema)
