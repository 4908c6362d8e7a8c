"""What a type checker must take and refuse at the front doors; checked by mypy, never run.

A line that must be refused says so by its ``type: ignore``: mypy is told to warn about one that is
not needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import pyarrow.compute as pc

import fletching
import fletching.aio
from fletching.aio import (
    AsyncArrowReader,
    AsyncClient,
    AsyncReadSession,
    AsyncResult,
    AsyncScan,
    AsyncTable,
)
from fletching.client import (
    ArrowReader,
    BlobStreamWriter,
    ChangeReport,
    StreamReader,
    StreamWriter,
    TableEntry,
)


def takes() -> None:
    client = fletching.connect(
        "http://h",
        access_id="a",
        access_key="b",
        timeouts={"idle": 5.0, "total": None},
        retry={"budget_seconds": 1.0},
        connections="auto",
        compression="zstd",
    )
    assert_type(client, fletching.Client)
    fletching.connect("folder", create=True, timeouts=fletching.Timeouts(idle=1.0))
    fletching.connect(retry=fletching.NO_RETRIES, split_bytes=1 << 20)
    assert_type(client.with_options(connections=4), fletching.Client)
    table = client.table("t").with_options(lz4_stream=True)
    assert_type(table, fletching.Table)
    assert_type(table.scan().with_options(read_ahead_bytes=0), fletching.Scan)
    assert_type(table.scan().session(), fletching.ReadSession)
    assert_type(len(table), int)
    table.scan(filter=pc.field("a") > 1)
    table.delete(pc.field("a") > 1)
    with table.write_session() as session:
        assert_type(session.raw_writer("s"), StreamWriter)
        assert_type(session.blob_writer("image"), BlobStreamWriter)
    for split in table.scan().splits():
        assert_type(split.reader(3), ArrowReader)
        assert_type(split.raw_reader(), StreamReader)
    server = fletching.serve(
        "folder",
        port=0,
        access_keys={"a": "b"},
        max_bodies=3,
        log_format="json",
        catalog="postgresql://h/d",
        sql_spill_folder=Path("spill"),
        drain_seconds=1,
    )
    assert_type(server, fletching.Server)


def refuses(client: fletching.Client) -> None:
    fletching.connect("http://h", conections=4)  # type: ignore[call-arg]
    fletching.connect("http://h", connections="many")  # type: ignore[arg-type]
    fletching.connect("http://h", timeouts={"idel": 5.0})  # type: ignore[arg-type]
    fletching.connect("http://h", compression="snappy")  # type: ignore[arg-type]
    fletching.connect(7)  # type: ignore[arg-type]
    client.with_options(retry={"jitter": "0.5"})  # type: ignore[arg-type]
    client.with_options(no_such=1)  # type: ignore[call-arg]
    client.table(5)  # type: ignore[arg-type]
    client.table("t").scan(filter=5)  # type: ignore[arg-type]
    client.table("t").delete(5)  # type: ignore[arg-type]
    client.table("t").update(where=["a"])  # type: ignore[arg-type]
    fletching.serve("folder", max_body=3)  # type: ignore[call-arg]
    fletching.serve("folder", port="8787")  # type: ignore[arg-type]
    fletching.serve("folder", max_bodies="3")  # type: ignore[arg-type]
    fletching.serve("folder", log_format="xml")  # type: ignore[arg-type]


async def awaits() -> None:
    async with fletching.aio.connect("http://h", access_id="a", access_key="b") as client:
        assert_type(client, AsyncClient)
        assert_type(await client.list_tables(), list[TableEntry])
        table = await client.create_table("t", "n BIGINT")
        assert_type(table, AsyncTable)
        assert_type(await table.reload(), AsyncTable)
        assert_type(await table.append({"n": [1]}), ChangeReport)
        assert_type(await table.changes(1), AsyncScan)
        assert_type(await client.sql("select 1"), AsyncResult)
        async for partition in table.partitions():
            assert_type(partition, fletching.Partition)
        async for changed in table.watch():
            assert_type(changed.changes, AsyncScan)
        async for blob in client.get_blobs(["x"]):
            assert_type(blob, fletching.Blob | None)
        async with table.scan().session() as session:
            assert_type(session, AsyncReadSession)
            for split in await session.splits(2):
                assert_type(await split.reader(3), AsyncArrowReader)
        async with table.write_session() as writing, writing.writer() as writer:
            assert_type(await writer.write({"n": [1]}), int)
        await client.tabel("t")  # type: ignore[attr-defined]
        await table.append()  # type: ignore[call-arg]
        await table.scan(limit="x")  # type: ignore[arg-type,misc]
    fletching.aio.connect("http://h", conections=4)  # type: ignore[call-arg]
