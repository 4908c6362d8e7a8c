"""What a type checker must take and refuse at the front doors; checked by mypy, never run.

A line that must be refused says so by its ``type: ignore``: mypy is told to warn about one that is
not needed.
"""

from __future__ import annotations

from typing import assert_type

import fletching
import fletching.aio


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


def refuses(client: fletching.Client) -> None:
    fletching.connect("http://h", conections=4)  # type: ignore[call-arg]
    fletching.connect("http://h", connections="many")  # type: ignore[arg-type]
    fletching.connect("http://h", timeouts={"idel": 5.0})  # type: ignore[arg-type]
    fletching.connect("http://h", compression="snappy")  # type: ignore[arg-type]
    fletching.connect(7)  # type: ignore[arg-type]
    client.with_options(retry={"jitter": "0.5"})  # type: ignore[arg-type]
    client.with_options(no_such=1)  # type: ignore[call-arg]


async def awaits() -> None:
    async with fletching.aio.connect("http://h", access_id="a", access_key="b") as client:
        await client.list_tables()
    fletching.aio.connect("http://h", conections=4)  # type: ignore[call-arg]
