"""The blocking client's objects with their calls awaited, class by class.

The module is long because it lists the blocking client's calls once more, for editors and type checkers:
what makes them awaited is `pending_calls`. A result becomes the class here that wraps its type, which
`_awaited` says once to checkers.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Concatenate, ParamSpec, Self, TypeVar, Unpack, cast

import pyarrow as pa

from fletching import client as blocking
from fletching.aio.pending_calls import AsyncItems, AsyncObject, Pending, copied, own_scope
from fletching.client.call_options import OptionChanges
from fletching.client.cancellation import Cancellation
from fletching.client.reading.filter_text import Condition
from fletching.client.reading.residual import Residual
from fletching.client.result import Result
from fletching.client.stored_table import Moment
from fletching.client.table import ChangeSet
from fletching.protocol.messages.admin import TableInfo
from fletching.protocol.messages.vocabulary import WriteMode
from fletching.types import PartitionLike, PartitionSpec, TableName

__all__ = [
    "AsyncArrowReader",
    "AsyncArrowWriter",
    "AsyncBlobDataIterator",
    "AsyncBlobFile",
    "AsyncBlobStreamReader",
    "AsyncBlobStreamWriter",
    "AsyncChangeSet",
    "AsyncClient",
    "AsyncReadSession",
    "AsyncResult",
    "AsyncScan",
    "AsyncSplit",
    "AsyncStreamReader",
    "AsyncStreamWriter",
    "AsyncStreamingWriter",
    "AsyncTable",
    "AsyncWriteSession",
]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_O = TypeVar("_O")
_I = TypeVar("_I")
_A = TypeVar("_A")


def _awaited(
    method: Callable[Concatenate[_O, _P], _R],
) -> Callable[Concatenate[AsyncObject, _P], Pending[_R]]:
    """A blocking method as one that is awaited; arguments, words and errors are that method's."""

    @functools.wraps(method)
    def call(self: AsyncObject, *args: _P.args, **words: _P.kwargs) -> Pending[_R]:
        return self._call(method.__name__, args, words)

    return cast("Callable[Concatenate[AsyncObject, _P], Pending[_R]]", call)


def _awaited_as(
    result: type[_A],  # noqa: ARG001 - for its type
    method: Callable[Concatenate[_O, _P], object],
) -> Callable[Concatenate[AsyncObject, _P], Pending[_A]]:
    """The same of a method that gives an object of the client, which becomes the one that wraps it."""
    return cast("Callable[Concatenate[AsyncObject, _P], Pending[_A]]", _awaited(method))


def _awaited_self(
    method: Callable[Concatenate[_O, _P], _O],
) -> Callable[Concatenate[_A, _P], Pending[_A]]:
    """The same of one that gives an object of its own kind."""
    return cast("Callable[Concatenate[_A, _P], Pending[_A]]", _awaited(method))


def _iterated(
    method: Callable[Concatenate[_O, _P], Iterator[_I]],
) -> Callable[Concatenate[AsyncObject, _P], Pending[AsyncItems[_I]]]:
    """The same of a method that gives an iterator of values."""
    return cast("Callable[Concatenate[AsyncObject, _P], Pending[AsyncItems[_I]]]", _awaited(method))


def _iterated_as(
    item: type[_I],  # noqa: ARG001 - for its type
    method: Callable[Concatenate[_O, _P], object],
) -> Callable[Concatenate[AsyncObject, _P], Pending[AsyncItems[_I]]]:
    """The same of one whose items are objects of the client."""
    return cast("Callable[Concatenate[AsyncObject, _P], Pending[AsyncItems[_I]]]", _awaited(method))


_READERS = {"to_reader": "pyarrow would wait in it; iterate with `async for`, or to_batches()"}


class AsyncResult(AsyncItems[pa.RecordBatch], of=Result):
    """See `fletching.client.Result`; ``async for batch in result`` reads it."""

    _left_out = _READERS
    _wrapped: Result
    schema: pa.Schema
    text: str
    affected_rows: int | None

    to_table = _awaited(Result.to_table)
    to_pandas = _awaited(Result.to_pandas)
    to_polars = _awaited(Result.to_polars)
    to_batches = _iterated(Result.to_batches)
    to_pylist = _awaited(Result.to_pylist)


class AsyncArrowReader(AsyncItems[pa.RecordBatch], of=blocking.ArrowReader):
    """See `fletching.client.ArrowReader`; ``async for batch in reader`` reads it."""

    _left_out = _READERS
    schema: pa.Schema
    token: blocking.ResumeToken

    read = _awaited(blocking.ArrowReader.read)
    read_next_batch = _awaited(blocking.ArrowReader.read_next_batch)
    read_all = _awaited(blocking.ArrowReader.read_all)
    cancel = _awaited(blocking.ArrowReader.cancel)
    close = _awaited(blocking.ArrowReader.close)


class AsyncStreamReader(AsyncItems[bytes], of=blocking.StreamReader):
    """See `fletching.client.StreamReader`."""

    request_id: str | None

    read = _awaited(blocking.StreamReader.read)
    readinto = _awaited(blocking.StreamReader.readinto)
    close = _awaited(blocking.StreamReader.close)


class AsyncSplit(AsyncItems[pa.RecordBatch], of=blocking.Split):
    """See `fletching.client.Split`; ``async for batch in split`` reads it."""

    _left_out = dict.fromkeys(("filtered", "opened"), "sessions and scans make splits by it")
    token: blocking.ResumeToken
    schema: pa.Schema
    row_count: int | None
    byte_size: int | None
    partition: PartitionSpec | None
    locations: tuple[str, ...]
    residual: Residual | None

    reader = _awaited_as(AsyncArrowReader, blocking.Split.reader)
    raw_reader = _awaited_as(AsyncStreamReader, blocking.Split.raw_reader)
    to_table = _awaited(blocking.Split.to_table)
    to_pandas = _awaited(blocking.Split.to_pandas)
    to_polars = _awaited(blocking.Split.to_polars)
    to_batches = _iterated(blocking.Split.to_batches)


class AsyncReadSession(AsyncItems[pa.RecordBatch], of=blocking.ReadSession):
    """See `fletching.client.ReadSession`; ``async for batch in session`` reads it."""

    _left_out = _READERS
    id: str
    table: TableName
    version: int | None
    schema: pa.Schema
    row_count: int
    byte_size: int
    pushed: str | None
    residual: Residual | None
    filters: bool
    expires_at: float | None

    splits = _awaited_as(list[AsyncSplit], blocking.ReadSession.splits)
    rows = _awaited_as(AsyncSplit, blocking.ReadSession.rows)
    refresh = _awaited_self(blocking.ReadSession.refresh)
    release = _awaited(blocking.ReadSession.release)
    statistics = _awaited(blocking.ReadSession.statistics)
    to_table = _awaited(blocking.ReadSession.to_table)
    to_pandas = _awaited(blocking.ReadSession.to_pandas)
    to_polars = _awaited(blocking.ReadSession.to_polars)
    to_batches = _iterated(blocking.ReadSession.to_batches)


class AsyncScan(AsyncItems[pa.RecordBatch], of=blocking.Scan):
    """See `fletching.client.Scan`; ``async for batch in scan`` reads it."""

    _plain = frozenset({"with_options"})
    _left_out = _READERS
    _wrapped: blocking.Scan
    schema: pa.Schema
    table: AsyncTable
    columns: tuple[str, ...] | None
    partitions: tuple[PartitionSpec, ...] | None
    filter: str | None
    limit: int | None
    version: int | None
    since: int | None
    residual: Residual | None
    filters: bool

    to_table = _awaited(blocking.Scan.to_table)
    to_pandas = _awaited(blocking.Scan.to_pandas)
    to_polars = _awaited(blocking.Scan.to_polars)
    to_batches = _iterated(blocking.Scan.to_batches)
    count = _awaited(blocking.Scan.count)
    head = _awaited(blocking.Scan.head)
    splits = _awaited_as(list[AsyncSplit], blocking.Scan.splits)
    session = _awaited_as(AsyncReadSession, blocking.Scan.session)

    def with_options(self, **changes: Unpack[OptionChanges]) -> AsyncScan:
        """The same scan with other options for its calls."""
        return AsyncScan(self._wrapped.with_options(**changes), self._pool, self._scope)

    def _scoped(self) -> tuple[object, Cancellation]:
        channel, scope = own_scope(self._wrapped.channel)
        return dataclasses.replace(self._wrapped, _channel=channel), scope


class AsyncStreamWriter(AsyncObject, of=blocking.StreamWriter):
    """See `fletching.client.StreamWriter`."""

    write = _awaited(blocking.StreamWriter.write)
    finish = _awaited(blocking.StreamWriter.finish)
    close = _awaited(blocking.StreamWriter.close)


class AsyncArrowWriter(AsyncObject, of=blocking.ArrowWriter):
    """See `fletching.client.ArrowWriter`."""

    stream_id: str
    stream_version: int
    schema: pa.Schema
    rows: int
    message: blocking.CommitMessage

    write = _awaited(blocking.ArrowWriter.write)
    flush = _awaited(blocking.ArrowWriter.flush)
    abandon = _awaited(blocking.ArrowWriter.abandon)
    cancel = _awaited(blocking.ArrowWriter.cancel)
    close = _awaited(blocking.ArrowWriter.close)


class AsyncStreamingWriter(AsyncObject, of=blocking.StreamingWriter):
    """See `fletching.client.StreamingWriter`."""

    stream_id: str
    exactly_once: bool
    schema: pa.Schema
    row_offset: int
    staging_id: str | None

    write = _awaited(blocking.StreamingWriter.write)
    flush = _awaited(blocking.StreamingWriter.flush)
    close = _awaited(blocking.StreamingWriter.close)


class AsyncBlobFile(AsyncItems[bytes], of=blocking.BlobFile):
    """See `fletching.client.BlobFile`."""

    name: str
    reference: str
    length: int
    content_type: str | None
    file_name: str | None

    read = _awaited(blocking.BlobFile.read)
    readinto = _awaited(blocking.BlobFile.readinto)
    readline = _awaited(blocking.BlobFile.readline)
    seek = _awaited(blocking.BlobFile.seek)
    tell = _awaited(blocking.BlobFile.tell)
    close = _awaited(blocking.BlobFile.close)


class AsyncBlobStreamReader(AsyncItems[bytes], of=blocking.BlobStreamReader):
    """See `fletching.client.BlobStreamReader`."""

    content_type: str | None
    mime_type: str | None
    file_name: str | None
    length: int | None
    request_id: str | None

    next = _awaited(blocking.BlobStreamReader.next)
    read = _awaited(blocking.BlobStreamReader.read)
    readinto = _awaited(blocking.BlobStreamReader.readinto)
    close = _awaited(blocking.BlobStreamReader.close)


class AsyncBlobDataIterator(AsyncItems[blocking.Blob], of=blocking.BlobDataIterator):
    """See `fletching.client.BlobDataIterator`."""

    close = _awaited(blocking.BlobDataIterator.close)


class AsyncBlobStreamWriter(AsyncObject, of=blocking.BlobStreamWriter):
    """See `fletching.client.BlobStreamWriter`."""

    status: blocking.BlobStatus
    request_id: str | None
    trace_id: str

    write = _awaited(blocking.BlobStreamWriter.write)
    finish = _awaited(blocking.BlobStreamWriter.finish)
    abort = _awaited(blocking.BlobStreamWriter.abort)
    close = _awaited(blocking.BlobStreamWriter.close)


class AsyncWriteSession(AsyncObject, of=blocking.WriteSession):
    """See `fletching.client.WriteSession`."""

    id: str
    table: TableName
    write_mode: WriteMode

    writer = _awaited_as(AsyncArrowWriter, blocking.WriteSession.writer)
    raw_writer = _awaited_as(AsyncStreamWriter, blocking.WriteSession.raw_writer)
    put_blob = _awaited(blocking.WriteSession.put_blob)
    put_blobs = _awaited(blocking.WriteSession.put_blobs)
    blob_writer = _awaited_as(AsyncBlobStreamWriter, blocking.WriteSession.blob_writer)
    closed_streams = _awaited(blocking.WriteSession.closed_streams)
    min_uncommitted_staging_id = _awaited(blocking.WriteSession.min_uncommitted_staging_id)
    commit = _awaited(blocking.WriteSession.commit)
    abort = _awaited(blocking.WriteSession.abort)


class AsyncChangeSet(AsyncObject, of=ChangeSet):
    """See `fletching.client.Table.watch`: the changes of one version."""

    version: int
    changes: AsyncScan


class AsyncTable(AsyncObject, of=blocking.Table):
    """See `fletching.client.Table`."""

    _plain = frozenset({"with_options", "scan"})
    _left_out = _READERS
    _wrapped: blocking.Table
    full_name: TableName
    table_id: str
    name: str
    schema: pa.Schema
    data_schema: pa.Schema
    partition_columns: tuple[str, ...]
    properties: dict[str, str]
    info: TableInfo

    reload = _awaited_self(blocking.Table.reload)
    count_rows = _awaited(blocking.Table.count_rows)
    partitions = _awaited(blocking.Table.partitions)
    create_partition = _awaited(blocking.Table.create_partition)
    drop_partition = _awaited(blocking.Table.drop_partition)
    add_columns = _awaited_self(blocking.Table.add_columns)
    drop_columns = _awaited_self(blocking.Table.drop_columns)
    rename_column = _awaited_self(blocking.Table.rename_column)
    alter_column = _awaited_self(blocking.Table.alter_column)
    rename = _awaited_self(blocking.Table.rename)
    set_properties = _awaited_self(blocking.Table.set_properties)
    remove_properties = _awaited_self(blocking.Table.remove_properties)
    to_table = _awaited(blocking.Table.to_table)
    head = _awaited(blocking.Table.head)
    preview = _awaited(blocking.Table.preview)
    append = _awaited(blocking.Table.append)
    overwrite = _awaited(blocking.Table.overwrite)
    truncate = _awaited(blocking.Table.truncate)
    delete = _awaited(blocking.Table.delete)
    update = _awaited(blocking.Table.update)
    upsert = _awaited(blocking.Table.upsert)
    merge = _awaited(blocking.Table.merge)
    delete_keys = _awaited(blocking.Table.delete_keys)
    enforce_primary_key = _awaited(blocking.Table.enforce_primary_key)
    versions = _awaited(blocking.Table.versions)
    as_of = _awaited_self(blocking.Table.as_of)
    restore = _awaited(blocking.Table.restore)
    tags = _awaited(blocking.Table.tags)
    create_tag = _awaited(blocking.Table.create_tag)
    drop_tag = _awaited(blocking.Table.drop_tag)
    changes = _awaited_as(AsyncScan, blocking.Table.changes)
    watch = _iterated_as(AsyncChangeSet, blocking.Table.watch)
    compact = _awaited(blocking.Table.compact)
    expire_versions = _awaited(blocking.Table.expire_versions)
    write_session = _awaited_as(AsyncWriteSession, blocking.Table.write_session)
    open_write_session = _awaited_as(AsyncWriteSession, blocking.Table.open_write_session)
    stream_writer = _awaited_as(AsyncStreamingWriter, blocking.Table.stream_writer)

    def scan(
        self,
        columns: Iterable[str] | None = None,
        partitions: Iterable[PartitionLike] | PartitionLike | None = None,
        filter: Condition | None = None,  # noqa: A002  # the query's own word
        limit: int | None = None,
        version: Moment | None = None,
    ) -> AsyncScan:
        """See `fletching.client.Table.scan`: describes a read and asks nobody.

        But for what the table's columns are, where nobody has asked yet: for an old version, and for an
        expression that is no predicate.
        """
        result = self._wrapped.scan(columns, partitions, filter, limit, version)
        return AsyncScan(result, self._pool, self._scope)

    def with_options(self, **changes: Unpack[OptionChanges]) -> AsyncTable:
        """The same table with other options for all its calls."""
        return AsyncTable(self._wrapped.with_options(**changes), self._pool, self._scope)

    def _scoped(self) -> tuple[object, Cancellation]:
        return copied(self._wrapped)

    def _after(self, target: object, before: Mapping[str, object]) -> None:
        # What the call has learnt, such as a new name or new columns. The rest is as old as the
        # call's beginning, and another call may have learnt better meanwhile.
        learnt = {key: each for key, each in vars(target).items() if each is not before.get(key)}
        vars(self._wrapped).update(learnt)


class AsyncClient(AsyncObject, of=blocking.Client):
    """See `fletching.client.Client`. Safe to use from any number of tasks of one event loop."""

    _plain = frozenset({"with_options", "table_name"})
    _wrapped: blocking.Client
    project: str
    schema: str

    create_project = _awaited(blocking.Client.create_project)
    create_table = _awaited_as(AsyncTable, blocking.Client.create_table)
    table = _awaited_as(AsyncTable, blocking.Client.table)
    list_tables = _awaited(blocking.Client.list_tables)
    drop_table = _awaited(blocking.Client.drop_table)
    rename_table = _awaited_as(AsyncTable, blocking.Client.rename_table)
    sql = _awaited_as(AsyncResult, blocking.Client.sql)
    resume = _awaited_as(AsyncArrowReader, blocking.Client.resume)
    get_blob = _awaited(blocking.Client.get_blob)
    get_blobs = _iterated(blocking.Client.get_blobs)
    open_blob = _awaited_as(AsyncBlobFile, blocking.Client.open_blob)
    blob_reader = _awaited_as(AsyncBlobStreamReader, blocking.Client.blob_reader)
    blob_iterator = _awaited_as(AsyncBlobDataIterator, blocking.Client.blob_iterator)

    def table_name(self, name: str) -> TableName:
        """See `fletching.client.Client.table_name`: asks nobody."""
        return self._wrapped.table_name(name)

    def with_options(self, **changes: Unpack[OptionChanges]) -> AsyncClient:
        """The same client with other options for all its calls. Connections are shared."""
        return AsyncClient(self._wrapped.with_options(**changes), self._pool, self._scope)

    def _scoped(self) -> tuple[object, Cancellation]:
        return copied(self._wrapped)

    async def close(self) -> None:
        """Closes the client: what other tasks wait for ends with `OperationCancelledError`."""
        # Not in the pool, whose threads may all be waiting for what this ends.
        try:
            await asyncio.to_thread(self._wrapped.close)
        finally:
            self._pool.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()
