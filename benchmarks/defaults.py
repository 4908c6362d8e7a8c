"""The calls of the README with their defaults: what users call is what is measured here.

A table of numbers and text is written by `append`, and read whole by every call that reads. A client on
the service's host maps the files; the same calls with ``direct="never"`` are what one on another host does,
over loopback. Small calls are measured beside a bare request of the same server.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import urllib3

import fletching
from benchmarks import corpus, reading, tables
from benchmarks.processes import ServerProcess
from benchmarks.rounds import Contender, Outcome

__all__ = ["mixed", "reading_contenders", "small_contenders", "store_by_append"]

WRITERS = 8
WIDE_COLUMNS = 5000
APPENDS = 8
"""Of each writer in a run."""


def mixed(total_bytes: int) -> list[pa.RecordBatch]:
    """Batches of 65,536 rows: three columns of numbers of 8 bytes, one of small ones, one of text.

    The first column ascends.
    """
    random = np.random.default_rng([corpus.SEED, 5])
    rows = 65_536

    def batch(number: int) -> pa.RecordBatch:
        words = corpus._WORDS[random.integers(0, len(corpus._WORDS), rows)]
        return pa.record_batch(
            {
                "id": np.arange(number * rows, (number + 1) * rows),
                "x": random.random(rows),
                "y": random.random(rows),
                "kind": random.integers(0, 9, rows).astype(np.int32),
                "text": pa.array(np.char.add(words, " of a stream")),
            }
        )

    distinct = [batch(number) for number in range(3)]
    count = max(2, total_bytes // distinct[0].nbytes)
    return [
        distinct[number % 3].set_column(
            0, "id", pa.array(np.arange(number * rows, (number + 1) * rows))
        )
        for number in range(count)
    ]


def store_by_append(ours: ServerProcess, folder: Path, name: str, total_bytes: int) -> Any:
    """A table written as its user writes it: one `append` over HTTP."""
    batches = mixed(total_bytes)
    with reading.connect(ours) as client:
        table = client.create_table(name, batches[0].schema)
        table.append(pa.Table.from_batches(batches))
    rows = sum(batch.num_rows for batch in batches)
    return tables.StoredTable(folder, name, batches[0].schema, rows, batches)


def summed(batches: Iterator[pa.RecordBatch]) -> int:
    """Adds up every number of every batch; how many rows there were."""
    rows, total = 0, 0.0
    for batch in batches:
        rows += batch.num_rows
        total += sum(pc.sum(batch.column(column)).as_py() for column in range(batch.num_columns))
    assert total > 0
    return rows


def reading_contenders(
    ours: ServerProcess, near: Any, far: Any, table: tables.StoredTable
) -> list[Contender]:
    """Every call that reads, by a client of this host and by one that is sent the rows.

    Args:
        ours: the server.
        near, far: clients with the defaults, and with ``direct="never"``.
        table: what is read.
    """
    numbers = ["id", "x", "y", "kind"]
    calls: dict[str, Callable[[Any], int]] = {
        "to_batches": lambda it: sum(batch.num_rows for batch in it.scan().to_batches()),
        "to_table": lambda it: it.to_table().num_rows,
        "sum": lambda it: summed(it.scan(columns=numbers).to_batches()),
        "one column": lambda it: sum(
            batch.num_rows for batch in it.scan(columns=["x"]).to_batches()
        ),
        "to_pandas of numbers": lambda it: len(it.scan(columns=numbers).to_pandas()),
        "1 % of the rows": lambda it: sum(
            batch.num_rows for batch in it.scan(filter=few).to_batches()
        ),
    }
    first = table.rows // 2
    few = f"id >= {first} AND id < {first + table.rows // 100}"
    narrow = sum(field.type.bit_width // 8 for field in table.schema if field.name in numbers)
    lengths = {
        "sum": narrow * table.rows,
        "to_pandas of numbers": narrow * table.rows,
        "one column": 8 * table.rows,
        "1 % of the rows": table.bytes // 100,
    }

    def contender(name: str, handle: Any, call: Callable[[Any], int], length: int) -> Contender:
        def run(_started: float) -> Outcome:
            return Outcome(length, call(handle))

        return Contender(name, run, ours.pid)

    return [
        contender(
            f"{call}, {where}", client.table(table.name), made, lengths.get(call, table.bytes)
        )
        for call, made in calls.items()
        for where, client in (("same host", near), ("sent", far))
    ]


def small_contenders(ours: ServerProcess, client: Any) -> list[Contender]:
    """One row, 1,000 rows, a count; beside a request that asks for nothing. Rows count calls."""
    row = pa.table({"a": [1], "s": ["x"]})
    log = client.create_table("log", row.schema)
    wide_row = pa.table({f"c{number}": [number] for number in range(WIDE_COLUMNS)})
    wide = client.create_table("wide", wide_row.schema)
    small = client.create_table("small", pa.table({"a": range(1000), "s": ["x"] * 1000}))
    pool: Any = urllib3.PoolManager()
    clients = [reading.connect(ours) for _ in range(WRITERS)]

    def once(call: Callable[[], object]) -> Callable[[float], Outcome]:
        def run(_started: float) -> Outcome:
            call()
            return Outcome(1, 1)

        return run

    def together(_started: float) -> Outcome:
        handles = [each.table("log") for each in clients]

        def work(handle: Any) -> None:
            for _ in range(APPENDS):
                handle.append(row)

        threads = [threading.Thread(target=work, args=(handle,)) for handle in handles]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return Outcome(WRITERS * APPENDS, WRITERS * APPENDS)

    def close() -> None:
        pool.clear()
        for each in clients:
            each.close()

    return [
        Contender(
            "bare request",
            once(lambda: pool.request("GET", f"{ours.ready['url']}/healthz")),
            ours.pid,
            close=close,
        ),
        Contender("append of a row", once(lambda: log.append(row)), ours.pid),
        Contender(
            f"append of a row of {WIDE_COLUMNS:,} columns",
            once(lambda: wide.append(wide_row)),
            ours.pid,
        ),
        Contender("scan of 1,000 rows", once(lambda: small.scan().to_table()), ours.pid),
        Contender("count", once(small.count_rows), ours.pid),
        Contender(f"append of a row, {WRITERS} writers", together, ours.pid),
    ]


def make_project(folder: Path) -> None:
    """The project that the server's clients expect."""
    with fletching.connect(str(folder), project=tables.PROJECT, create=True):
        pass
