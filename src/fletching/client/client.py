"""A project of a service: its tables, and where a broken read is taken up again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Protocol, Self, Unpack

from fletching.client.argument_checks import items_of, names_of, properties_of, text_of
from fletching.client.blobs.blob_access import BlobFile, get_blob, get_blobs, open_blob
from fletching.client.blobs.blob_streams import BlobDataIterator, BlobStreamReader
from fletching.client.blobs.blob_values import Blob
from fletching.client.call_options import OptionChanges
from fletching.client.progress import ProgressLike, progress_meter, rows_of
from fletching.client.reading.arrow_reader import ArrowReader
from fletching.client.reading.resume_token import ResumeToken
from fletching.client.result import Result, run_statements
from fletching.client.sql_parameters import with_parameters
from fletching.client.table import Table
from fletching.client.table_creation import filled_table, split_columns
from fletching.client.table_info import describe
from fletching.client.table_schemas import columns_of, gives_columns
from fletching.client.tabular.catalog_names import TableEntry
from fletching.client.tabular.tabular_data import BatchStream, batches_of
from fletching.client.transports.channel import Channel
from fletching.errors import AlreadyExistsError, NoSuchTableError, UsageError
from fletching.ipc.encoding import encode_schema
from fletching.protocol.messages.admin import (
    CreateProject,
    CreateTable,
    DropTable,
    ListTables,
    pages,
)
from fletching.types import DEFAULT_SCHEMA, TableName

__all__ = ["Client"]


class Client:
    """One project of a service or of a local folder; made by `fletching.connect`. Thread-safe.

    As a context manager it closes its connections, or the folder's engine, at the end. A pickled
    client, and every table, split and session of it, carries what it was connected with,
    credentials included.

    Attributes:
        project: whose tables these are.
        schema: the namespace of tables named without one.
        channel: how the client calls; for what is built on it.
    """

    def __init__(
        self,
        channel: Channel,
        project: str,
        *,
        schema: str = DEFAULT_SCHEMA,
        close: Callable[[], None] | None = None,
    ) -> None:
        """Calls through ``channel``; ``close`` is called once instead of closing its transport."""
        self.channel = channel
        self._close = close or channel.transport.close
        self._closed = False
        self.project = project
        self.schema = schema

    def with_options(self, **changes: Unpack[OptionChanges]) -> Client:
        """The same client with other options for all its calls (see `CallOptions`).

        ``timeouts`` and ``retry`` may be dicts of what changes:
        ``client.with_options(timeouts={"idle": 5.0}, connections=8)``. Connections are shared.
        """
        return Client(self.channel.changed(**changes), self.project, schema=self.schema)

    # --- projects ----------------------------------------------------------------------------

    def create_project(self, name: str | None = None, *, if_not_exists: bool = False) -> None:
        """Creates a project: this client's own unless another is named.

        Tables are made in projects that exist, so that a mistyped name is an error. The project that
        ``fletching serve`` begins with (``demo`` unless told otherwise) exists from the start.

        Raises:
            AlreadyExistsError: it is there, and ``if_not_exists`` was not given.
            InvalidArgumentError: a name of other characters than letters, digits and ``_``.
            NoPermissionError: the key may not administer every table of it.
        """
        self.channel.call(CreateProject(project=name or self.project, if_not_exists=if_not_exists))

    # --- tables ------------------------------------------------------------------------------

    def create_table(
        self,
        name: str,
        data_or_schema: object,
        partition_by: Sequence[str] | Mapping[str, str] | str | None = None,
        *,
        if_not_exists: bool = False,
        comment: str = "",
        properties: Mapping[str, object] | None = None,
        primary_key: Iterable[str] = (),
        lifecycle_days: int | None = None,
        progress: ProgressLike = None,
    ) -> Table:
        """Creates a table.

        Args:
            name: ``table``, ``schema.table`` or ``project.schema.table``.
            data_or_schema: an Arrow schema, or columns as text: ``"id BIGINT, image BLOB, tags
                ARRAY<STRING>"``; or rows, as `Table.append` takes them, which give the columns and
                are appended. Nobody sees the table before they are in it, and there is none if that fails.
            partition_by: partition columns. One that the schema has is taken out of the data
                columns and keeps its type; any other is text. A dict gives ODPS types by name.
            if_not_exists: return the table that is there, whatever its columns are; rows are not
                appended to it.
            comment: kept with the table.
            properties: likewise.
            primary_key: names of key columns, or the name of one.
            lifecycle_days: partitions that were not modified for so many days are dropped; of a
                table without partitions it is only kept.
            progress: of appending the rows, as for `Table.append`.

        Raises:
            AlreadyExistsError: the table exists.
            UsageError: columns that do not parse, or an empty name.
            InvalidArgumentError: the service cannot store a column.
        """
        rows = None
        if gives_columns(data_or_schema):
            columns = columns_of(data_or_schema)
        else:
            if if_not_exists:
                with contextlib.suppress(NoSuchTableError):
                    return self.table(name)
            rows = batches_of(data_or_schema)
            rows = BatchStream(rows.schema, rows.batches, rows_of(data_or_schema))
            # Not what pandas keeps beside its columns: it tells of these rows, not of the table's.
            columns = rows.schema.remove_metadata()
        data, partition_columns = split_columns(columns, partition_by)
        request = CreateTable(
            table=self.table_name(name),
            arrow_schema=encode_schema(data),
            partition_columns=partition_columns,
            comment=comment,
            properties=properties_of(properties),
            primary_key=names_of("primary_key", primary_key),
            lifecycle_days=lifecycle_days,
            if_not_exists=if_not_exists,
        )
        if rows is None:
            return Table(self.channel, self.channel.call(request))
        try:
            with filled_table(self.channel, request) as table:
                table.append(rows, progress=progress)
        except AlreadyExistsError:
            if if_not_exists:  # another was faster
                return self.table(name)
            raise
        return table

    def table(self, name: str) -> Table:
        """Looks a table up.

        Raises:
            NoSuchTableError: there is none of this name.
        """
        return Table(self.channel, describe(self.channel, self.table_name(name)))

    def list_tables(self, prefix: str = "", *, schema: str | None = None) -> list[TableEntry]:
        """The tables' names in order, each with what the catalog knows of it (see `TableEntry`)."""
        request = ListTables(project=self.project, schema=schema or self.schema, prefix=prefix)
        return [
            TableEntry(info) for page in pages(self.channel.call, request) for info in page.tables
        ]

    def drop_table(self, name: str, *, if_exists: bool = False) -> None:
        """Drops a table: nobody finds it from then on.

        A read session that is open is a snapshot and reads on until it is over; what is being written
        cannot be committed any more.

        Raises:
            NoSuchTableError: there is none, and ``if_exists`` was not given.
        """
        self.channel.call(DropTable(table=self.table_name(name), if_exists=if_exists))

    def rename_table(self, name: str, new_name: str) -> Table:
        """Gives a table another name in its schema; returns it under that.

        Raises:
            NoSuchTableError: there is none.
            AlreadyExistsError: the name is taken.
        """
        return self.table(name).rename(new_name)

    def table_name(self, name: str) -> TableName:
        """Reads ``table``, ``schema.table`` or ``project.schema.table``.

        Raises:
            UsageError: an empty part, or more than three.
        """
        parts = text_of("a table's name", name).split(".")
        if not all(parts) or len(parts) > 3:
            raise UsageError(
                f"table name {name!r} is not table, schema.table or project.schema.table"
            )
        project = parts[0] if len(parts) == 3 else self.project
        schema = parts[-2] if len(parts) >= 2 else self.schema
        return TableName(project, parts[-1], schema)

    # --- SQL ---------------------------------------------------------------------------------

    def sql(
        self, text: str, parameters: Sequence[object] | Mapping[str, object] | None = None
    ) -> Result:
        """Runs SQL statements in MaxCompute's dialect and waits for their end; see docs/sql.md.

        Args:
            text: one statement, or several with ``;`` between them.
            parameters: values for ``?``, or by name for ``:name``; they are written as literals,
                never as text of the statement.

        Returns:
            The last statement's rows (`Result.to_table`, ...), text, or number of changed rows.

        Raises:
            SqlSyntaxError: the text cannot be parsed.
            InvalidArgumentError: a statement cannot be run: an unknown name, a wrong type.
            ServiceError: the service refused, or a statement failed; those before it are done.
            UsageError: a parameter without a place, or a place without one.
        """
        return run_statements(
            self.channel, self.project, self.schema, with_parameters(text, parameters)
        )

    # --- reading on --------------------------------------------------------------------------

    def resume(self, token: ResumeToken | str) -> ArrowReader:
        """Reads a split on from a token that ``ArrowReader.token`` gave, in this or another process.

        Raises:
            UsageError: the token is not one.
        """
        return ArrowReader(self.channel, ResumeToken.parse(token))

    # --- blobs -------------------------------------------------------------------------------

    def get_blob(self, reference: object) -> Blob:
        """One blob, whole, with its content type and file name.

        Args:
            reference: its text, or what a BLOB cell holds.

        Raises:
            NotFoundError: the service does not know the reference.
            UsageError: what is given is no reference.
            TransportError: no answer within the retry budget.
        """
        return get_blob(self.channel, self.project, reference)

    def get_blobs(
        self, references: Iterable[object], *, progress: ProgressLike = None
    ) -> Iterator[Blob | None]:
        """Many blobs in the order of their references, ten thousand to a request; null gives None.

        Each is whole in memory while it is looked at.

        Args:
            references: any iterable of them, or an Arrow column.
            progress: True for a bar, or a function of one `fletching.Progress`, called per blob.

        Raises:
            As `get_blob`, from the iterator.
        """
        blobs = get_blobs(self.channel, self.project, items_of("references", references))
        meter = progress_meter(progress, "blobs", "blobs")
        if meter is None:
            return blobs
        meter.total = len(references) if isinstance(references, Sized) else None
        return meter.blobs(blobs)

    def open_blob(self, reference: object, *, buffer_bytes: int = 256 << 10) -> BlobFile:
        """One blob as a file, seekable, read by ranges of ``buffer_bytes`` or what is asked for.

        Raises:
            As `get_blob`.
        """
        return open_blob(self.channel, reference, buffer_bytes=buffer_bytes)

    def blob_reader(self, references: Iterable[object]) -> BlobStreamReader:
        """The blobs of one request as a file that goes from one to the next; nothing is retried."""
        return BlobStreamReader(
            self.channel, self.project, list(items_of("references", references))
        )

    def blob_iterator(self, references: Iterable[object]) -> BlobDataIterator:
        """The blobs of one request, whole, in order; nothing is retried (see `get_blobs`)."""
        return BlobDataIterator(
            self.channel, self.project, list(items_of("references", references))
        )

    def close(self) -> None:
        """Closes connections, or the folder's engine; what other threads wait for ends. Idempotent.

        A client that arrived pickled shares them with its like: they close with the last of those.
        """
        if not self._closed:
            self._closed = True
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client {self.project} at {self.channel.reopen}>"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles by what reopens it."""
        return _reopened, (self.channel.reopen, self.project, self.schema)


class _Reopening(Protocol):
    """What a client was connected with."""

    def open_client(self, project: str, schema: str) -> Client:
        """The same client in this process."""


def _reopened(reopen: _Reopening, project: str, schema: str) -> Client:
    return reopen.open_client(project, schema)
