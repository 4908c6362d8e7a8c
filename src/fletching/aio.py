"""The client for asyncio: the verbs of `fletching.client`, awaited.

    async with fletching.aio.connect("http://127.0.0.1:8787", access_id=..., access_key=...) as client:
        table = await client.table("events")
        await table.append({"id": [1, 2]})
        async for batch in table.scan(filter="id > 1"):
            ...

Every call of the blocking client that asks the service is a call here that may be awaited, entered with
``async with`` or iterated with ``async for``, whichever its result is made for; what only describes (a
scan, other options) is as it is there. There is no second client underneath: a call runs the blocking
one in a thread of the client's own pool, so that all rules of retrying, resuming and cancelling hold.
The event loop never waits; a batch costs it one hop to a thread (some 0.1 ms) and no copy. Cancelling a
task shuts the connection down under its call, which so ends at once; a session, writer or reader whose
call was cancelled is of no use afterwards.

The module is long because it lists the blocking client's calls once more, class by class, for editors and
readers: what makes them awaited is one class of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import functools
import os
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Mapping,
)
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, Unpack, cast

from fletching import client as blocking
from fletching.client.call_options import ConnectOptions, OptionChanges
from fletching.client.cancellation import LEAVE_SECONDS, Cancellation
from fletching.client.reading.filter_text import Condition
from fletching.client.result import Result
from fletching.client.retry import Timing
from fletching.client.stored_table import Moment
from fletching.client.table import ChangeSet
from fletching.client.transports.channel import Channel
from fletching.types import DEFAULT_SCHEMA, PartitionLike, TableName

__all__ = [
    "AsyncClient",
    "AsyncObject",
    "AsyncResult",
    "AsyncScan",
    "AsyncTable",
    "Pending",
    "connect",
]

MOST_CALLS = 64
"""Calls of one client at once; more wait for their turn. Each that runs holds a thread."""

_P = ParamSpec("_P")
_R = TypeVar("_R")
_T_co = TypeVar("_T_co", covariant=True)

_END = object()


class Pending(Generic[_T_co]):
    """A call that begins when it is awaited, entered or iterated; once, in one of these ways."""

    def __init__(self, begin: Callable[[], Coroutine[object, object, Any]]) -> None:
        self._begin = begin
        self._entered: Any = None

    def __await__(self) -> Generator[object, object, _T_co]:
        """Makes the call; its result."""
        return self._begin().__await__()

    async def __aenter__(self) -> Any:
        """Makes the call and enters its result: a session, a writer, a reader, a file."""
        self._entered = await self._begin()
        return await self._entered.__aenter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leaves the result, as its blocking form is left."""
        await self._entered.__aexit__(exc_type, exc, traceback)

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Makes the call and iterates its result: batches, blobs, names."""
        result = await self._begin()
        if isinstance(result, AsyncObject):
            # Whoever leaves early leaves what is underneath, too.
            async with contextlib.aclosing(result.__aiter__()) as items:
                async for item in items:
                    yield item
            return
        for item in result:
            yield item


def _awaited(
    method: Callable[Concatenate[Any, _P], _R],
) -> Callable[Concatenate[Any, _P], Pending[Any]]:
    """A blocking method as one that is awaited; arguments, words and errors are that method's."""

    @functools.wraps(method)
    def call(self: AsyncObject, *args: _P.args, **words: _P.kwargs) -> Pending[Any]:
        return self._call(method.__name__, args, words)

    return cast("Callable[Concatenate[Any, _P], Pending[Any]]", call)


class AsyncObject:
    """An object of the blocking client whose calls are awaited.

    Whatever is not declared here is looked up there: values are values, methods are calls.
    """

    _plain: frozenset[str] = frozenset()
    """Methods that ask nobody: they are called at once, and their results wrapped."""

    _left_out: Mapping[str, str] = {}
    """What the blocking object has and this has not, and what to take instead."""

    def __init__(self, wrapped: Any, pool: ThreadPoolExecutor, scope: Cancellation) -> None:
        """Wraps ``wrapped``, whose calls run in ``pool`` and are broken off by ``scope``."""
        self._wrapped = wrapped
        self._pool = pool
        self._scope = scope

    # --- calls

    def _call(self, name: str, args: Iterable[object], words: Mapping[str, object]) -> Pending[Any]:
        arguments = [_unwrapped(each) for each in args]
        named = {key: _unwrapped(value) for key, value in words.items()}

        async def begin() -> Any:
            target, scope = self._scoped()
            result = await _in_thread(
                self._pool, scope, lambda: getattr(target, name)(*arguments, **named)
            )
            self._after(target)
            return self if result is target else _wrap(result, self._pool, scope)

        return Pending(begin)

    def _scoped(self) -> tuple[Any, Cancellation]:
        """The object for one call, and what breaks that off. Objects with a state have one for all."""
        return self._wrapped, self._scope

    def _after(self, target: object) -> None:
        """A call on the object for one call has ended."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._left_out:
            raise AttributeError(f"the async client has no {name}: {self._left_out[name]}")
        value = getattr(self._wrapped, name)
        if not callable(value) or isinstance(value, type):
            return _wrap(value, self._pool, self._scope)
        if name in self._plain:

            @functools.wraps(value)
            def plain(*args: object, **words: object) -> Any:
                return _wrap(value(*args, **words), self._pool, self._scope)

            return plain

        @functools.wraps(value)
        def call(*args: object, **words: object) -> Pending[Any]:
            return self._call(name, args, words)

        return call

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self._wrapped)} - set(self._left_out))

    def __repr__(self) -> str:
        """That of the blocking object."""
        return f"<async {self._wrapped!r}>"

    # --- iteration and contexts

    async def __aiter__(self) -> AsyncGenerator[Any, None]:
        """The items of the blocking object; leaving early ends what is waited for."""
        target, scope = self._scoped()
        items = await _in_thread(self._pool, scope, lambda: iter(target))
        try:
            while (
                item := await _in_thread(self._pool, scope, lambda: next(items, _END))
            ) is not _END:
                yield _wrap(item, self._pool, scope)
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                # Returns at once, whatever the service does.
                await asyncio.shield(_in_thread(self._pool, Cancellation(), close))

    async def __aenter__(self) -> Self:
        """As the blocking object is entered."""
        await _in_thread(self._pool, self._scope, self._wrapped.__enter__)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """As the blocking object is left: sessions commit or abort, writers close, files close."""
        leave = functools.partial(self._wrapped.__exit__, exc_type, exc, traceback)
        await _in_thread(self._pool, self._scope, leave)


_READERS = {"to_reader": "pyarrow would wait in it; iterate with `async for`, or to_batches()"}


class AsyncResult(AsyncObject):
    """See `fletching.client.Result`; ``async for batch in result`` reads it."""

    _left_out = _READERS
    _wrapped: Result

    to_table = _awaited(Result.to_table)
    to_pandas = _awaited(Result.to_pandas)
    to_polars = _awaited(Result.to_polars)
    to_batches = _awaited(Result.to_batches)
    to_pylist = _awaited(Result.to_pylist)


class AsyncScan(AsyncObject):
    """See `fletching.client.Scan`; ``async for batch in scan`` reads it."""

    _plain = frozenset({"with_options"})
    _left_out = _READERS
    _wrapped: blocking.Scan

    to_table = _awaited(blocking.Scan.to_table)
    to_pandas = _awaited(blocking.Scan.to_pandas)
    to_polars = _awaited(blocking.Scan.to_polars)
    to_batches = _awaited(blocking.Scan.to_batches)
    count = _awaited(blocking.Scan.count)
    head = _awaited(blocking.Scan.head)
    splits = _awaited(blocking.Scan.splits)
    session = _awaited(blocking.Scan.session)

    def with_options(self, **changes: Unpack[OptionChanges]) -> AsyncScan:
        """The same scan with other options for its calls."""
        return AsyncScan(self._wrapped.with_options(**changes), self._pool, self._scope)

    def _scoped(self) -> tuple[Any, Cancellation]:
        channel, scope = _own_scope(self._wrapped.channel)
        return dataclasses.replace(self._wrapped, _channel=channel), scope


class AsyncTable(AsyncObject):
    """See `fletching.client.Table`."""

    _plain = frozenset({"with_options", "scan"})
    _left_out = _READERS
    _wrapped: blocking.Table

    reload = _awaited(blocking.Table.reload)
    count_rows = _awaited(blocking.Table.count_rows)
    partitions = _awaited(blocking.Table.partitions)
    create_partition = _awaited(blocking.Table.create_partition)
    drop_partition = _awaited(blocking.Table.drop_partition)
    add_columns = _awaited(blocking.Table.add_columns)
    drop_columns = _awaited(blocking.Table.drop_columns)
    rename_column = _awaited(blocking.Table.rename_column)
    alter_column = _awaited(blocking.Table.alter_column)
    rename = _awaited(blocking.Table.rename)
    set_properties = _awaited(blocking.Table.set_properties)
    remove_properties = _awaited(blocking.Table.remove_properties)
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
    as_of = _awaited(blocking.Table.as_of)
    restore = _awaited(blocking.Table.restore)
    tags = _awaited(blocking.Table.tags)
    create_tag = _awaited(blocking.Table.create_tag)
    drop_tag = _awaited(blocking.Table.drop_tag)
    changes = _awaited(blocking.Table.changes)
    watch = _awaited(blocking.Table.watch)
    compact = _awaited(blocking.Table.compact)
    expire_versions = _awaited(blocking.Table.expire_versions)
    write_session = _awaited(blocking.Table.write_session)
    open_write_session = _awaited(blocking.Table.open_write_session)
    stream_writer = _awaited(blocking.Table.stream_writer)

    def scan(
        self,
        columns: Iterable[str] | None = None,
        partitions: Iterable[PartitionLike] | PartitionLike | None = None,
        filter: Condition | None = None,  # noqa: A002  # the query's own word
        limit: int | None = None,
        version: Moment | None = None,
    ) -> AsyncScan:
        """See `fletching.client.Table.scan`: describes a read and asks nobody."""
        found = self._wrapped.scan(columns, partitions, filter, limit, version)
        return AsyncScan(found, self._pool, self._scope)

    def with_options(self, **changes: Unpack[OptionChanges]) -> AsyncTable:
        """The same table with other options for all its calls."""
        return AsyncTable(self._wrapped.with_options(**changes), self._pool, self._scope)

    def _scoped(self) -> tuple[Any, Cancellation]:
        return _copied(self._wrapped)

    def _after(self, target: object) -> None:
        # A call may have learnt of new columns.
        channel = self._wrapped.channel
        self._wrapped.__dict__.update(target.__dict__)
        self._wrapped.channel = channel


class AsyncClient(AsyncObject):
    """See `fletching.client.Client`. Safe to use from any number of tasks of one event loop."""

    _plain = frozenset({"with_options", "table_name"})
    _wrapped: blocking.Client

    create_project = _awaited(blocking.Client.create_project)
    create_table = _awaited(blocking.Client.create_table)
    table = _awaited(blocking.Client.table)
    list_tables = _awaited(blocking.Client.list_tables)
    drop_table = _awaited(blocking.Client.drop_table)
    rename_table = _awaited(blocking.Client.rename_table)
    sql = _awaited(blocking.Client.sql)
    resume = _awaited(blocking.Client.resume)
    get_blob = _awaited(blocking.Client.get_blob)
    get_blobs = _awaited(blocking.Client.get_blobs)
    open_blob = _awaited(blocking.Client.open_blob)
    blob_reader = _awaited(blocking.Client.blob_reader)
    blob_iterator = _awaited(blocking.Client.blob_iterator)

    def table_name(self, name: str) -> TableName:
        """See `fletching.client.Client.table_name`: asks nobody."""
        return self._wrapped.table_name(name)

    def with_options(self, **changes: Unpack[OptionChanges]) -> AsyncClient:
        """The same client with other options for all its calls. Connections are shared."""
        return AsyncClient(self._wrapped.with_options(**changes), self._pool, self._scope)

    def _scoped(self) -> tuple[Any, Cancellation]:
        return _copied(self._wrapped)

    async def close(self) -> None:
        """Closes the client: what other tasks wait for ends with `OperationCancelledError`."""
        # Not in the pool, whose threads may all be waiting for what this ends.
        await asyncio.to_thread(self._wrapped.close)
        self._pool.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        """Returns the client."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Closes the client."""
        await self.close()


def connect(
    url_or_path: str | os.PathLike[str] | None = None,
    project: str | None = None,
    *,
    access_id: str | None = None,
    access_key: str | None = None,
    schema: str = DEFAULT_SCHEMA,
    sts_token: str | None = None,
    region: str | None = None,
    proxy: str | None = None,
    ca_certificates: str | os.PathLike[str] | None = None,
    create: bool = False,
    read_only: bool | None = None,
    timing: Timing | None = None,
    **options: Unpack[ConnectOptions],
) -> Pending[AsyncClient]:
    """Opens a client, to be awaited or entered with ``async with``.

    Arguments and errors are those of `fletching.connect`.
    """

    async def begin() -> AsyncClient:
        pool = ThreadPoolExecutor(MOST_CALLS, thread_name_prefix="fletching-aio")
        scope = Cancellation()
        opened = await _in_thread(
            pool,
            scope,
            lambda: blocking.connect(
                url_or_path,
                project,
                access_id=access_id,
                access_key=access_key,
                schema=schema,
                sts_token=sts_token,
                region=region,
                proxy=proxy,
                ca_certificates=ca_certificates,
                create=create,
                read_only=read_only,
                timing=timing,
                **options,
            ),
        )
        return AsyncClient(opened, pool, scope)

    return Pending(begin)


async def _in_thread(pool: ThreadPoolExecutor, scope: Cancellation, call: Callable[[], _R]) -> _R:
    """Runs a blocking call; when this task is cancelled, the call is broken off first.

    Raises:
        BaseException: what the call raises; the end of an iterator as `StopAsyncIteration`.
    """
    context = contextvars.copy_context()

    def run() -> _R:
        try:
            return context.run(call)
        except StopIteration as exc:
            # A future cannot carry it.
            raise StopAsyncIteration from exc

    future = asyncio.get_running_loop().run_in_executor(pool, run)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        scope.cancel("the task was cancelled")
        future.add_done_callback(_looked_at)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({future}, timeout=LEAVE_SECONDS)
        raise


def _looked_at(future: asyncio.Future[Any]) -> None:
    """Takes a result that nobody waits for any more, so that its error is not reported as lost."""
    if not future.cancelled():
        future.exception()


def _own_scope(channel: Channel) -> tuple[Channel, Cancellation]:
    scope = Cancellation(channel.transport.cancellation)
    return dataclasses.replace(channel, scope=scope), scope


def _copied(owner: Any) -> tuple[Any, Cancellation]:
    """A copy of a client or table whose calls can be broken off without the others'."""
    channel, scope = _own_scope(owner.channel)
    made = object.__new__(type(owner))
    made.__dict__.update(owner.__dict__)
    made.channel = channel
    return made, scope


def _wrap(value: object, pool: ThreadPoolExecutor, scope: Cancellation) -> Any:
    """A result of the blocking client as one of this."""
    if isinstance(value, list):
        return [_wrap(each, pool, scope) for each in value]
    for kind, wrapper in _WRAPPERS:
        if isinstance(value, kind):
            return wrapper(value, pool, scope)
    if isinstance(value, Generator):
        return AsyncObject(value, pool, scope)
    return value


def _unwrapped(value: object) -> object:
    return value._wrapped if isinstance(value, AsyncObject) else value  # noqa: SLF001  # of this module


_WRAPPERS: tuple[tuple[type, type[AsyncObject]], ...] = (
    (blocking.Client, AsyncClient),
    (blocking.Table, AsyncTable),
    (blocking.Scan, AsyncScan),
    (Result, AsyncResult),
    (ChangeSet, AsyncObject),
    (blocking.ReadSession, AsyncObject),
    (blocking.Split, AsyncObject),
    (blocking.ArrowReader, AsyncObject),
    (blocking.WriteSession, AsyncObject),
    (blocking.ArrowWriter, AsyncObject),
    (blocking.StreamingWriter, AsyncObject),
    (blocking.StreamReader, AsyncObject),
    (blocking.StreamWriter, AsyncObject),
    (blocking.BlobFile, AsyncObject),
    (blocking.BlobStreamWriter, AsyncObject),
    (blocking.BlobStreamReader, AsyncObject),
    (blocking.BlobDataIterator, AsyncObject),
)
