"""One table: its schema, partitions and rows; reading and writing start here.

The module is long because it is one list of verbs, half of it what each promises; those that change the
table are in `changing_table`.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Self, Unpack

import pyarrow as pa

from fletching.client.argument_checks import whole_number
from fletching.client.blobs.blob_cells import with_references
from fletching.client.call_options import OptionChanges
from fletching.client.change_reports import ChangeReport
from fletching.client.html_views import html_view
from fletching.client.progress import ProgressLike, ProgressMeter, metered, rows_of
from fletching.client.reading.filter_text import Condition
from fletching.client.reading.residual import divided
from fletching.client.reading.scan import Scan
from fletching.client.retry import RetrySequence
from fletching.client.table_info import describe
from fletching.client.table_schemas import columns_of, table_schemas
from fletching.client.tabular.catalog_names import Partition
from fletching.client.transports.channel import Channel, Reopening
from fletching.client.writing.batch_writer import append_rows
from fletching.client.writing.direct_append import append_at_once
from fletching.client.writing.stream_writer import StreamingWriter
from fletching.client.writing.write_session import WriteSession
from fletching.errors import UsageError
from fletching.ipc.encoding import encode_schema
from fletching.protocol.messages.admin import (
    AddColumns,
    CreatePartition,
    DescribeTable,
    DropPartition,
    ListPartitions,
    TableInfo,
    pages,
)
from fletching.protocol.messages.requests import AppendRows, PreviewTable
from fletching.protocol.messages.vocabulary import WriteMode
from fletching.protocol.types.blob_type import contains_blob
from fletching.types import PartitionLike, PartitionSpec, TableName

__all__ = ["Moment", "StoredTable", "microseconds"]

Moment = int | str | dt.datetime
"""A version by its number, a tag's name, or an aware moment."""


_EPOCH = dt.datetime.fromtimestamp(0, dt.UTC)


class _Known(NamedTuple):
    """What the catalog said at one time: replaced as a whole, since other threads look at it meanwhile."""

    info: TableInfo
    data_schema: pa.Schema
    schema: pa.Schema


class StoredTable:
    """The part of a `Table` that says what it is, reads its rows and takes new ones; not made by itself.

    Attributes:
        full_name: project, schema and name.
        channel: how the table calls; for what is built on it.
    """

    def __init__(self, channel: Channel, info: TableInfo) -> None:
        self.channel = channel
        self.full_name: TableName = info.table
        self._set(info)

    def _set(self, info: TableInfo) -> None:
        self._known = _Known(info, *table_schemas(info))

    # --- what it is --------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The table's name without project and schema."""
        return self.full_name.name

    @property
    def table_id(self) -> str:
        """Which of all tables that had the name, one after the other; empty where the service does not say."""
        return self.info.table_id

    @property
    def schema(self) -> pa.Schema:
        """What a scan of everything returns: the data columns, then the partition columns.

        As of when the object was made, or of the last `reload`.
        """
        return self._known.schema

    @property
    def data_schema(self) -> pa.Schema:
        """The data columns alone."""
        return self._known.data_schema

    @property
    def partition_columns(self) -> tuple[str, ...]:
        """The names of the partition columns, in order; empty for a table without partitions."""
        _, data_schema, schema = self._known
        return tuple(schema.names[len(data_schema) :])

    @property
    def info(self) -> TableInfo:
        """What the catalog knew of the table when the object was made, or at the last `reload`."""
        return self._known.info

    def reload(self) -> Self:
        """Asks the catalog again; returns the table itself.

        Raises:
            NoSuchTableError: it was dropped.
        """
        self._set(describe(self.channel, self.full_name))
        return self

    def _info_at(self, version: Moment) -> TableInfo:
        request = DescribeTable(table=self.full_name)
        if isinstance(version, int) and not isinstance(version, bool):
            request = DescribeTable(table=self.full_name, version=version)
        elif isinstance(version, str) and version:
            request = DescribeTable(table=self.full_name, tag=version)
        elif isinstance(version, dt.datetime):
            request = DescribeTable(table=self.full_name, moment_us=microseconds(version))
        else:
            raise UsageError(
                f"{version!r} is no version: a number, a tag's name or an aware datetime is"
            )
        return self.channel.call(request)

    def with_options(self, **changes: Unpack[OptionChanges]) -> Self:
        """The same table with other options for all its calls (see `CallOptions`)."""
        return type(self)(self.channel.changed(**changes), self.info)

    def count_rows(
        self,
        partition: PartitionLike | None = None,
        *,
        filter: Condition | None = None,  # noqa: A002  # the query's own word
    ) -> int:
        """How many rows are visible now: from the catalog, or, with a filter, by reading.

        Args:
            partition: only this partition, or all that a leading part names.
            filter: only the rows for which this is true; as of `scan`.

        Raises:
            NoSuchTableError: the table was dropped.
        """
        if filter is not None:
            partitions = None if partition is None else [partition]
            scan = self.scan(columns=[], partitions=partitions, filter=filter)
            return sum(batch.num_rows for batch in scan.to_batches())
        if partition is None:
            return describe(self.channel, self.full_name).rows
        return sum(each.rows for each in self.partitions(partition))

    _partitions_version: int | None = None

    def partitions(self, prefix: PartitionLike | None = None) -> list[Partition]:
        """The partitions in the order of their values, each a text with figures (see `Partition`)."""
        request = ListPartitions(
            table=self.full_name,
            prefix=PartitionSpec.parse(prefix),
            version=self._partitions_version,
        )
        return [
            Partition(info)
            for page in pages(self.channel.call, request)
            for info in page.partitions
        ]

    def create_partition(
        self, partition: PartitionLike, *, if_not_exists: bool = False
    ) -> Partition:
        """Adds an empty partition.

        Raises:
            AlreadyExistsError: it is there, and ``if_not_exists`` was not given.
        """
        spec = PartitionSpec.parse(partition)
        info = self.channel.call(
            CreatePartition(table=self.full_name, partition=spec, if_not_exists=if_not_exists)
        )
        return Partition(info)

    def drop_partition(self, partition: PartitionLike, *, if_exists: bool = False) -> None:
        """Removes a partition with its rows.

        Raises:
            NoSuchPartitionError: it is not there, and ``if_exists`` was not given.
        """
        spec = PartitionSpec.parse(partition)
        self.channel.call(DropPartition(table=self.full_name, partition=spec, if_exists=if_exists))

    def add_columns(self, columns: pa.Schema | str) -> Self:
        """Appends nullable columns; older rows have nulls there. Returns the table, reloaded."""
        schema = columns_of(columns)
        self.channel.call(AddColumns(table=self.full_name, arrow_schema=encode_schema(schema)))
        return self.reload()

    # --- reading -----------------------------------------------------------------------------

    def scan(
        self,
        columns: Iterable[str] | None = None,
        partitions: Iterable[PartitionLike] | PartitionLike | None = None,
        filter: Condition | None = None,  # noqa: A002  # the query's own word
        limit: int | None = None,
        version: Moment | None = None,
    ) -> Scan:
        """Describes a read; nothing happens before one of the scan's methods is called.

        Args:
            columns: the wanted columns in the wanted order; None for all.
            partitions: one or several specifications, full or leading parts; None for all.
            filter: an SQL predicate over data and partition columns: ``"id > 10 AND pt = 'a'"``; or
                a ``pyarrow.compute.Expression``. What cannot be said of it as a predicate is evaluated
                here, on the rows that arrive (`Scan.residual`).
            limit: at most so many rows, the table's first.
            version: the table as it was; see `as_of`, which also gives its columns of then.

        Raises:
            UsageError: a column named twice, a negative limit, a malformed partition, or an expression that
                is no condition on the table's columns.
        """
        if isinstance(columns, str):
            raise UsageError(f"columns is a list of names; give [{columns!r}]")
        if columns is not None and not isinstance(columns, Iterable):
            raise UsageError(f"columns is a list of names, not {type(columns).__name__}")
        if partitions is not None and not isinstance(partitions, Iterable):
            raise UsageError(f"partitions is a list of them, not {type(partitions).__name__}")
        if isinstance(partitions, str | PartitionSpec | Mapping):
            partitions = [partitions]
        if version is not None:
            info = self._info_at(version)
            scan = type(self)(self.channel, info).scan(columns, partitions, filter, limit)
            return dataclasses.replace(scan, version=info.version)
        pushed, residual = divided(filter, lambda: self.schema)
        return Scan(
            table=self,
            columns=None if columns is None else tuple(columns),
            partitions=None
            if partitions is None
            else tuple(PartitionSpec.parse(each) for each in partitions),
            filter=pushed,
            limit=limit,
            residual=residual,
        )

    def to_table(self, *, progress: ProgressLike = None) -> pa.Table:
        """All rows in memory: ``scan().to_table()``."""
        return self.scan().to_table(progress=progress)

    def head(self, rows: int = 5) -> pa.Table:
        """The first rows, at most so many: ``scan().head(rows)``."""
        return self.scan().head(rows)

    def __len__(self) -> int:
        """As `count_rows`: asks the service each time."""
        return self.count_rows()

    def __bool__(self) -> bool:
        """Always: a table is there also when it is empty, and asking costs a request."""
        return True

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """All rows for any library that takes Arrow's C stream."""
        return self.scan().__arrow_c_stream__(requested_schema)

    def preview(
        self,
        limit: int = 10,
        *,
        partition: PartitionLike | None = None,
        columns: Iterable[str] | None = None,
    ) -> pa.Table:
        """A few rows, without a session: the first in the order of partitions.

        Raises:
            UsageError: a limit that is no whole number from 0 on, or columns that are no names.
            ServiceError: the service refused, for a column that it does not know for example.
            TransportError: no answer within the retry budget.
        """
        whole_number("limit", limit)
        request = PreviewTable(
            table=self.full_name,
            limit=limit,
            partition=PartitionSpec.parse(partition),
            columns=_names(columns),
            verbatim_types=True,
        )
        table: pa.Table = self.channel.retrying(
            lambda attempt: self._preview(request, attempt), repeatable=True
        )
        return table

    def _preview(self, request: PreviewTable, attempt: RetrySequence) -> pa.Table:
        source = self.channel.transport.read(request, attempt)
        try:
            return pa.Table.from_batches(list(source), schema=source.schema)
        finally:
            source.close()

    # --- writing -----------------------------------------------------------------------------

    def append(
        self,
        data: object,
        partition: PartitionLike | None = None,
        *,
        streams: int = 1,
        if_version: int | None = None,
        idempotency_key: str | None = None,
        progress: ProgressLike = None,
    ) -> ChangeReport:
        """Adds rows, all or none; returns how many when they are durable and visible.

        In a table with a primary key they take the place of the rows with their keys (see `upsert`).

        Args:
            data: anything tabular (see `fletching.client.tabular.tabular_data`), read a batch at a time. Contents
                found in BLOB columns, as bytes, paths or open files, are uploaded
                (see `fletching.client.blobs.blob_cells`).
            partition: the partition of all rows. None, or a leading part, on a partitioned table:
                the remaining partition columns are in the data, and each row goes to its own.
            streams: how many streams to write at once. One keeps the rows' order.
            if_version: refuse if anything but upkeep has happened since this version.
            idempotency_key: an append with the key of an earlier one adds nothing, and is answered
                as that one was.
            progress: True for a bar, or a function of one `fletching.Progress`, called per batch
                that is handed over to be sent, and when all is committed.

        Raises:
            UsageError: data that does not fit the table.
            ServiceError: the service refused; nothing is visible.
            TransportError: no answer within the retry budget. If that was the commit's, the rows may
                be visible: open a session with `write_session` where that must be known.
        """
        with metered(progress, self.name) as meter:
            return self._append(
                data, partition, streams, if_version, idempotency_key=idempotency_key, meter=meter
            )

    def _append(
        self,
        data: object,
        partition: PartitionLike | None,
        streams: int,
        if_version: int | None,
        *,
        idempotency_key: str | None,
        meter: ProgressMeter | None,
    ) -> ChangeReport:
        if streams == 1 and self._takes_direct_appends:
            spec = PartitionSpec.parse(partition)
            bound = {name.casefold() for name, _ in spec}
            info, _, schema = self._known
            if bound:
                schema = pa.schema([f for f in schema if f.name.casefold() not in bound])
            if meter is not None:
                data, meter = meter.data(data, schema), None
            request = AppendRows(
                table=self.full_name,
                partition=spec,
                schema_version=info.schema_version or None,
                if_version=if_version,
                idempotency_key=idempotency_key,
            )
            result, data = append_at_once(self.channel, request, schema, data)
            if result is not None:
                return ChangeReport.of(result.report, count=result.rows)
        if meter is not None:
            meter.total = rows_of(data)  # which what uploads contents does not tell
        with self.write_session(partition) as session:
            uploaded = self.with_uploads(session, data, partition)
            rows = append_rows(session, uploaded, streams, meter)
            return ChangeReport.of(
                session.commit(if_version=if_version, idempotency_key=idempotency_key), count=rows
            )

    @property
    def _takes_direct_appends(self) -> bool:
        """Whether rows can go out in one request: of our service, and without uploads.

        Whether the service takes the coding of `lz4_stream` is known only once it has answered.
        """
        return bool(
            self.info.table_id
            and not self.channel.options.lz4_stream
            and not any(map(contains_blob, self.data_schema.types))
        )

    def with_uploads(
        self, session: WriteSession, data: object, partition: PartitionLike | None
    ) -> object:
        """Uploads contents found in BLOB columns (see `fletching.client.blobs.blob_cells`)."""

        def upload(column: str, contents: Sequence[object]) -> list[str]:
            return session.put_blobs(contents, column, partition=PartitionSpec.parse(partition))

        return with_references(data, self.data_schema, upload)

    def write_session(
        self, partition: PartitionLike | None = None, overwrite: bool = False
    ) -> WriteSession:
        """Opens a write session (see `WriteSession`); arguments as for `append` and `overwrite`.

        Raises:
            UsageError: a malformed partition.
            ServiceError: the service refused.
        """
        return WriteSession.open(
            self.channel,
            self.full_name,
            partition=PartitionSpec.parse(partition),
            overwrite=overwrite,
            columns=self.info.schema,
        )

    def open_write_session(self, session_id: str) -> WriteSession:
        """Joins a session that another process opened."""
        return WriteSession(self.channel, self.full_name, session_id, columns=self.info.schema)

    def stream_writer(
        self,
        stream_id: str,
        *,
        exactly_once: bool = True,
        resume: bool = False,
        partition: PartitionLike | None = None,
        realtime: bool = False,
    ) -> StreamingWriter:
        """Opens a stream whose rows are visible when a flush returns (see `StreamingWriter`).

        Args:
            stream_id: a name that stays the same over restarts of its writer.
            exactly_once: guard the rows by offsets; without, a lost answer may double rows.
            resume: go on after the rows that the stream has; whoever wrote before can no longer.
            partition: values for partition columns that the data lacks.
            realtime: the service's real-time mode, where it tells the two apart.

        Raises:
            UsageError: ``resume`` without ``exactly_once``.
            ServiceError: the service refused.
        """
        return StreamingWriter(
            self.channel,
            self.full_name,
            stream_id,
            exactly_once=exactly_once,
            resume=resume,
            partition=PartitionSpec.parse(partition),
            write_mode=WriteMode.STREAMING_REALTIME if realtime else WriteMode.STREAMING,
        )

    def _repr_html_(self) -> str:
        info = self.info
        properties = {"rows": info.rows, "bytes": info.bytes, "comment": info.comment}
        return html_view(str(self.full_name), properties, self.schema, self.partition_columns)

    def __repr__(self) -> str:
        return f"<Table {self.full_name} ({', '.join(self.schema.names)})>"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles by name and by what reopens the client."""
        return _reopened, (type(self), self.channel.reopen, self.info)


def _names(columns: Iterable[str] | None) -> tuple[str, ...]:
    if isinstance(columns, str):
        raise UsageError(f"columns is a list of names; give [{columns!r}]")
    names = tuple(columns or ())
    for name in names:
        if not isinstance(name, str):
            raise UsageError(f"a column is named by text, not {name!r}")
    return names


def _reopened(kind: type[StoredTable], reopen: Reopening, info: TableInfo) -> StoredTable:
    return kind(reopen(), info)


def microseconds(moment: dt.datetime) -> int:
    """An aware moment in microseconds since the epoch.

    Raises:
        UsageError: it is none.
    """
    if not isinstance(moment, dt.datetime):
        raise UsageError(f"a moment is an aware datetime, not {type(moment).__name__}")
    if moment.utcoffset() is None:
        raise UsageError(
            "a moment needs a time zone: datetime.now(timezone.utc), not datetime.now()"
        )
    return (moment - _EPOCH) // dt.timedelta(microseconds=1)
