"""Contenders that read a table whose objects are in a bucket: by way of a server, past it, from its cache.

A server over a folder, one over a bucket, one over the same bucket with a cache folder, and the bucket
(`benchmarks.bucket`). Beside them stands what a reader could get at most: the table's objects, fetched whole
by plain GETs over as many connections as our client uses, and dropped.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import urllib3

import fletching
from benchmarks import reading
from benchmarks.bucket import BUCKET, COUNTS_PATH
from benchmarks.processes import ServerProcess, server
from benchmarks.rounds import Contender, Outcome, Result
from benchmarks.tables import PROJECT

__all__ = ["AT_REST", "SEGMENTS", "contenders", "opened", "requests"]

COLUMNS = 10
THREE = ("c0", "c1", "c2")
BATCH_ROWS = 28_000
SEGMENTS = 4
AT_REST = "bucket, nothing asked"
GETTERS = 4
GET_BYTES = 8 << 20
REST_SECONDS = 0.5


class Places:
    """The servers of a run, and clients of them.

    Attributes:
        size: bytes of the table's rows.
    """

    def __init__(self, folder: Path, table_bytes: int, stack: contextlib.ExitStack) -> None:
        """Starts all of them and writes the table."""
        self.folder = folder
        self.bucket = stack.enter_context(server("bucket", folder=str(folder / "bucket")))
        variables = {
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_ENDPOINT": self.bucket.ready["url"],
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
        }
        os.environ.update(variables)
        objects = f"s3://{BUCKET}/data"
        for name, place in (("local", None), ("s3", objects)):
            with fletching.connect(
                str(folder / name / "data"), project=PROJECT, create=True, objects=place
            ):
                pass
        self.local = self._server(stack, "local")
        self.s3 = self._server(stack, "s3", objects=objects)
        self.cached = self._server(
            stack, "s3", objects=objects, cache_dir=str(folder / "cache"), cache_bytes=8 << 30
        )
        self.size = 0
        for writer in (self.local, self.s3):
            with reading.connect(writer) as client:
                self.size = _fill(client, table_bytes)

    def _server(self, stack: contextlib.ExitStack, name: str, **settings: Any) -> ServerProcess:
        folder = str(self.folder / name / "data")
        return stack.enter_context(server("fletching", folder=folder, settings=settings))

    def counts(self) -> dict[str, int]:
        """What the bucket was asked for so far."""
        reply = urllib3.request("GET", self.bucket.ready["url"] + COUNTS_PATH)
        counts: dict[str, int] = reply.json()
        return counts

    def objects(self) -> list[tuple[str, int]]:
        """The path in the bucket and the length of each of the table's objects."""
        root = self.folder / "bucket" / "objects"
        found = [path for path in (root / "data" / "tables").rglob("*.arrow") if path.is_file()]
        return [(path.relative_to(root).as_posix(), path.stat().st_size) for path in found]


@contextlib.contextmanager
def opened(folder: Path, table_bytes: int) -> Iterator[Places]:
    """The servers, until the block ends."""
    before = dict(os.environ)
    with contextlib.ExitStack() as stack:
        try:
            yield Places(folder, table_bytes, stack)
        finally:
            os.environ.clear()
            os.environ.update(before)


def _fill(client: Any, table_bytes: int) -> int:
    rng = np.random.default_rng(1)
    batches = max(1, table_bytes // (SEGMENTS * BATCH_ROWS * COLUMNS * 8))
    size = 0
    table = None
    for _ in range(SEGMENTS):
        made = [
            pa.record_batch({f"c{n}": rng.random(BATCH_ROWS) for n in range(COLUMNS)})
            for _ in range(batches)
        ]
        table = table or client.create_table("t", made[0].schema)
        table.append(pa.Table.from_batches(made))
        size += sum(batch.nbytes for batch in made)
    return size


def contenders(places: Places, stack: contextlib.ExitStack) -> list[Contender]:
    """Everything that is compared, all columns and three of ten; and the server while nobody asks it for anything."""
    made = [_gets(places), Contender(AT_REST, _rest, places.s3.pid)]
    for name, place, direct in (
        ("local", places.local, "never"),
        ("bucket, through the server", places.s3, "never"),
        ("bucket, direct", places.s3, "auto"),
        ("cached", places.cached, "never"),
    ):
        client = stack.enter_context(reading.connect(place, direct=direct))
        table = client.table("t")
        for columns in (None, THREE):
            length = places.size if columns is None else places.size * len(columns) // COLUMNS
            label = name if columns is None else f"{name}, 3 of 10 columns"
            made.append(Contender(label, _read(table, columns, length), place.pid))
    # Fills the cache, and waits for it.
    list(stack.enter_context(reading.connect(places.cached)).table("t").scan().to_batches())
    expected = sum(length for _, length in places.objects())
    deadline = time.monotonic() + 60
    while _cached_bytes(places.folder / "cache") < expected and time.monotonic() < deadline:
        time.sleep(0.05)
    return made


def requests(places: Places, made: list[Contender]) -> list[Result]:
    """What each way asks of the bucket in one read: bytes that it moved, and as rows the requests that it took."""
    found = []
    for contender in made:
        if not contender.name.startswith(("bucket, through", "bucket, direct")):
            continue
        before = places.counts()
        contender.run(time.perf_counter())
        after = places.counts()
        moved, count = after["sent"] - before["sent"], after["requests"] - before["requests"]
        found.append(
            Result(
                question="remote: requests",
                case=f"{SEGMENTS} segments",
                name=contender.name,
                bytes=moved,
                rows=count,
                seconds=[1.0],
                first_seconds=[],
                client_cpu_seconds=0.0,
                server_cpu_seconds=None,
                client_peak_bytes=0,
                server_peak_bytes=None,
            )
        )
    return found


def _cached_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.arrow") if path.is_file())


def _read(table: Any, columns: tuple[str, ...] | None, length: int) -> Callable[[float], Outcome]:
    def run(started: float) -> Outcome:
        return reading.drain(table.scan(columns).to_batches(), started, length)

    return run


def _rest(_started: float) -> Outcome:
    """Nothing: what the server uses meanwhile (heartbeats, timers), it uses during a read, too."""
    time.sleep(REST_SECONDS)
    return Outcome(0, 1)


def _gets(places: Places) -> Contender:
    """The ceiling: all of the objects' bytes over parallel GETs into memory that is used again."""
    url = places.bucket.ready["url"]
    pool = urllib3.PoolManager(num_pools=1, maxsize=GETTERS)
    memory = [bytearray(GET_BYTES) for _ in range(GETTERS)]
    free = list(memory)

    def get(item: tuple[str, int, int]) -> int:
        key, start, end = item
        buffer = free.pop()
        try:
            reply = pool.request(
                "GET", f"{url}/{BUCKET}/{key}", headers={"range": f"bytes={start}-{end - 1}"},
                preload_content=False,
            )  # fmt: skip
            view, count = memoryview(buffer)[: end - start], 0
            while count < end - start:
                count += reply.readinto(view[count:])
            reply.release_conn()
            return count
        finally:
            free.append(buffer)

    ranges = [
        (key, start, min(start + GET_BYTES, length))
        for key, length in places.objects()
        for start in range(0, length, GET_BYTES)
    ]
    threads = ThreadPoolExecutor(GETTERS)

    def run(_started: float) -> Outcome:
        fetched = sum(threads.map(get, ranges))
        assert fetched == sum(end - start for _, start, end in ranges)
        return Outcome(places.size, places.size // (8 * COLUMNS))

    def close() -> None:
        threads.shutdown()
        pool.clear()

    return Contender("bucket, parallel GETs", run, None, close=close)
