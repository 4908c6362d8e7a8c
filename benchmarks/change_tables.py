"""Tables for the measurements of changes, and contenders that several of them share."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from benchmarks.rounds import Contender, Outcome, Result

if TYPE_CHECKING:
    from fletching.client import Client, Table

__all__ = [
    "BATCH_ROWS",
    "ROW_BYTES",
    "SCHEMA",
    "batches",
    "engine_of",
    "fact",
    "made",
    "moved",
    "newest",
    "stored_bytes",
    "timed",
    "under_the_lock",
    "vector_bytes",
]

BATCH_ROWS = 65_536
ROW_BYTES = 40
_ROW_BYTES = 200
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        ("a", pa.float64()),
        ("b", pa.float64()),
        ("c", pa.int64()),
        ("d", pa.int64()),
    ]
)
_NUMBERS = np.random.default_rng(7)
_REALS = [_NUMBERS.standard_normal(BATCH_ROWS) for _ in range(2)]


def batches(rows: int, *, first: int = 0) -> Iterator[pa.RecordBatch]:
    """Rows with ascending ids and numbers at random; ``c`` and ``d`` are below 2**40."""
    for start in range(first, first + rows, BATCH_ROWS):
        count = min(BATCH_ROWS, first + rows - start)
        columns = [
            np.arange(start, start + count),
            *(each[:count] for each in _REALS),
            *(_NUMBERS.integers(0, 1 << 40, count) for _ in range(2)),
        ]
        yield pa.RecordBatch.from_arrays([pa.array(each) for each in columns], schema=SCHEMA)


def made(client: Client, name: str, rows: int, **options: Any) -> Table:
    """A table of so many rows in one commit."""
    table = client.create_table(name, SCHEMA, **options)
    table.append(pa.RecordBatchReader.from_batches(SCHEMA, batches(rows)))
    return table


def newest(table: Table) -> int:
    """The version that a table has now."""
    return table.versions(limit=1)[0].version


def moved(rows: int) -> Outcome:
    """So many rows of `SCHEMA`."""
    return Outcome(rows * ROW_BYTES, rows)


def timed(
    name: str, run: Callable[[], object], prepare: Callable[[], object] | None = None
) -> Contender:
    """A contender of which only the seconds count."""

    def measured(_started: float) -> Outcome:
        run()
        return Outcome(1, 1)

    return Contender(name, measured, prepare=prepare)


def fact(question: str, case: str, name: str, seconds: float, *, count: int = 1) -> Result:
    """One number that no rounds gave: seconds of one run, or bytes as ``count``."""
    return Result(
        question=question,
        case=case,
        name=name,
        bytes=count,
        rows=1,
        seconds=[seconds],
        first_seconds=[],
        client_cpu_seconds=0.0,
        server_cpu_seconds=None,
        client_peak_bytes=0,
        server_peak_bytes=None,
    )


def stored_bytes(folder: Path) -> int:
    """What the files of a folder take."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def vector_bytes(client: Client, version: int) -> int:
    """What the catalog keeps of the rows that went in a version: an allowance for each of its rows, too."""
    from sqlalchemy import func, select

    from fletching.catalog import schema

    kept = schema.deletions.c
    with engine_of(client).context.database.read() as connection:
        found = connection.execute(
            select(
                func.count(),
                func.sum(func.coalesce(func.length(kept.vector), 0)),
                func.sum(func.length(kept.batch_counts)),
            ).where(kept.added_version == version)
        ).one()
    return int(found[0]) * _ROW_BYTES + sum(int(each or 0) for each in found[1:])


def engine_of(client: Any) -> Any:
    """The engine behind an embedded client."""
    return client.channel.transport.engine


@contextlib.contextmanager
def under_the_lock(client: Client) -> Iterator[list[float]]:
    """Collects how long each write transaction of an embedded client holds the catalog."""
    database = engine_of(client).context.database
    plain = database.write
    taken: list[float] = []

    @contextlib.contextmanager
    def write(*arguments: Any, **options: Any) -> Iterator[Any]:
        with plain(*arguments, **options) as connection:
            started = time.perf_counter()
            try:
                yield connection
            finally:
                taken.append(time.perf_counter() - started)

    database.write = write
    try:
        yield taken
    finally:
        del database.write
