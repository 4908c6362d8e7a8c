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
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Unpack

from fletching import client as blocking
from fletching.aio.async_objects import (
    AsyncArrowReader,
    AsyncArrowWriter,
    AsyncBlobDataIterator,
    AsyncBlobFile,
    AsyncBlobStreamReader,
    AsyncBlobStreamWriter,
    AsyncChangeSet,
    AsyncClient,
    AsyncReadSession,
    AsyncResult,
    AsyncScan,
    AsyncSplit,
    AsyncStreamingWriter,
    AsyncStreamReader,
    AsyncStreamWriter,
    AsyncTable,
    AsyncWriteSession,
)
from fletching.aio.pending_calls import AsyncItems, AsyncObject, Pending, in_thread
from fletching.client.call_options import ConnectOptions
from fletching.client.cancellation import Cancellation, opening
from fletching.client.retry import Timing
from fletching.types import DEFAULT_SCHEMA

__all__ = [
    "AsyncArrowReader",
    "AsyncArrowWriter",
    "AsyncBlobDataIterator",
    "AsyncBlobFile",
    "AsyncBlobStreamReader",
    "AsyncBlobStreamWriter",
    "AsyncChangeSet",
    "AsyncClient",
    "AsyncItems",
    "AsyncObject",
    "AsyncReadSession",
    "AsyncResult",
    "AsyncScan",
    "AsyncSplit",
    "AsyncStreamReader",
    "AsyncStreamWriter",
    "AsyncStreamingWriter",
    "AsyncTable",
    "AsyncWriteSession",
    "Pending",
    "connect",
]

MOST_CALLS = 64
"""Calls of one client at once; more wait for their turn. Each that runs holds a thread."""


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

    async def connected() -> AsyncClient:
        pool = ThreadPoolExecutor(MOST_CALLS, thread_name_prefix="fletching-aio")
        scope = Cancellation()

        def opened() -> blocking.Client:
            opening.set(scope)
            return blocking.connect(
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
            )

        try:
            return AsyncClient(await in_thread(pool, scope, opened), pool, scope)
        except BaseException:
            pool.shutdown(wait=False)
            raise

    return Pending(connected())
