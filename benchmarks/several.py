"""Contenders that share a data set: one server for all clients, and three; over PostgreSQL and a bucket.

The same clients do the same work. Each keeps to one server, as behind a balancer that knows clients, and of three
servers each gets a third of them. All processes share the machine's processor, so that three servers cannot
be faster than one that has it alone; what this shows is that they are not slower: that nothing which servers
share (rows, locks, heartbeats, snapshots that each loads anew) costs what the other servers bring.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import fletching
from benchmarks import reading
from benchmarks.bucket import BUCKET
from benchmarks.processes import server
from benchmarks.rounds import Contender, Outcome
from benchmarks.tables import PROJECT

__all__ = ["contenders", "opened"]

CLIENTS = 6
SERVERS = 3
APPENDS = 10
"""Rows that each client appends, one by one, in a run."""

BATCH_ROWS = 28_000
COLUMNS = 10


@contextlib.contextmanager
def opened(folder: Path, catalog: str, table_bytes: int) -> Iterator[Places]:
    """The servers, until the block ends.

    Args:
        folder: for the bucket.
        catalog: URL of an empty PostgreSQL database.
        table_bytes: about how large the table is that all read.
    """
    before = dict(os.environ)
    with contextlib.ExitStack() as stack:
        try:
            yield Places(folder, catalog, table_bytes, stack)
        finally:
            os.environ.clear()
            os.environ.update(before)


class Places:
    """The servers of a run: one that is used alone, and three; all four are members of one data set.

    Attributes:
        alone: the server that all clients of the first contenders use.
        several: those of the others.
        size: bytes of the table's rows.
        rows: of the table.
    """

    def __init__(
        self, folder: Path, catalog: str, table_bytes: int, stack: contextlib.ExitStack
    ) -> None:
        """Starts all of them and writes the table."""
        bucket = stack.enter_context(server("bucket", folder=str(folder / "bucket")))
        os.environ.update(
            AWS_ACCESS_KEY_ID="bench",
            AWS_SECRET_ACCESS_KEY="bench",  # which the bucket of a run believes
            AWS_ENDPOINT=bucket.ready["url"],
            AWS_ALLOW_HTTP="true",
            AWS_REGION="us-east-1",
        )
        key = folder / "server-key"
        key.write_text("5c" * 32)
        place: dict[str, Any] = {
            "catalog": catalog,
            "objects": f"s3://{BUCKET}/data",
            "server_key_file": str(key),
        }
        with fletching.connect(project=PROJECT, create=True, **place):
            pass
        servers = [
            stack.enter_context(server("fletching", folder=None, settings=place))
            for _ in range(1 + SERVERS)
        ]
        self.alone, *self.several = servers
        with reading.connect(self.alone) as client:
            self.rows, self.size = _fill(client, table_bytes)


def _fill(client: Any, table_bytes: int) -> tuple[int, int]:
    rng = np.random.default_rng(1)
    batches = [
        pa.record_batch({f"c{n}": rng.random(BATCH_ROWS) for n in range(COLUMNS)})
        for _ in range(max(1, table_bytes // (BATCH_ROWS * COLUMNS * 8)))
    ]
    client.create_table("read", batches[0].schema).append(pa.Table.from_batches(batches))
    for number in range(CLIENTS):
        client.create_table(f"written_{number}", pa.schema([("id", pa.int64())]))
    return sum(batch.num_rows for batch in batches), sum(batch.nbytes for batch in batches)


def contenders(places: Places, stack: contextlib.ExitStack) -> list[Contender]:
    """Reads of one table by all clients, and appends of single rows to a table of each; one server, and three."""
    made = []
    for name, servers in (("one server", [places.alone]), ("three servers", places.several)):
        clients = [
            stack.enter_context(reading.connect(servers[number % len(servers)]))
            for number in range(CLIENTS)
        ]
        pool = stack.enter_context(ThreadPoolExecutor(CLIENTS))
        made += [
            Contender(f"{name}: read", _reads(places, clients, pool)),
            Contender(f"{name}: append", _appends(clients, pool)),
        ]
    return made


def _reads(places: Places, clients: list[Any], pool: ThreadPoolExecutor) -> Any:
    def read(client: Any) -> int:
        return sum(batch.num_rows for batch in client.table("read").scan().to_batches())

    def run(_started: float) -> Outcome:
        assert list(pool.map(read, clients)) == [places.rows] * CLIENTS
        return Outcome(places.size * CLIENTS, places.rows * CLIENTS)

    return run


def _appends(clients: list[Any], pool: ThreadPoolExecutor) -> Any:
    row = pa.table({"id": pa.array([1], pa.int64())})

    def append(number: int) -> None:
        table = clients[number].table(f"written_{number}")
        for _ in range(APPENDS):
            table.append(row)

    def run(_started: float) -> Outcome:
        list(pool.map(append, range(CLIENTS)))
        return Outcome(8 * CLIENTS * APPENDS, CLIENTS * APPENDS)

    return run
