"""What tables that change cost: reading around deleted rows, upserts, deletes, the feed, columns."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import fletching
from benchmarks import reading, tables
from benchmarks.processes import server
from benchmarks.rounds import Contender, Outcome, Result, compare

if TYPE_CHECKING:
    from fletching.client import Table

__all__ = ["changes"]

BATCH_ROWS = 65_536
UPSERTED = 10_000
FED = 1_000
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        ("a", pa.float64()),
        ("b", pa.float64()),
        ("c", pa.int64()),
        ("d", pa.int64()),
    ]
)


def changes(folder: Path, *, rounds: int, rows: int, many_rows: int) -> list[Result]:
    """Every measurement.

    Args:
        folder: on the disk that is measured; emptied again.
        rounds: per contender.
        rows: of the tables.
        many_rows: of a table that is to cost as much to upsert into.
    """
    shutil.rmtree(folder, ignore_errors=True)
    try:
        return [
            *_scans(folder / "scans", rounds, min(rows, 8_000_000)),
            *_verbs(folder / "verbs", rounds, rows),
            *_upserts(folder / "upserts", rounds, (rows, many_rows)),
        ]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _batches(rows: int, *, first: int = 0) -> Iterator[pa.RecordBatch]:
    random = np.random.default_rng(first)
    for start in range(first, first + rows, BATCH_ROWS):
        count = min(BATCH_ROWS, first + rows - start)
        columns = [
            np.arange(start, start + count),
            *(random.standard_normal(count) for _ in range(2)),
            *(random.integers(0, 1 << 40, count) for _ in range(2)),
        ]
        yield pa.RecordBatch.from_arrays([pa.array(each) for each in columns], schema=SCHEMA)


def _made(client: Any, name: str, rows: int, **options: Any) -> Table:
    table: Table = client.create_table(name, SCHEMA, **options)
    table.append(pa.RecordBatchReader.from_batches(SCHEMA, _batches(rows)))
    return table


def _scans(folder: Path, rounds: int, rows: int) -> list[Result]:
    """Reading all rows, of tables that have lost some; every value is added up where that is local."""
    batch_run = 100 * BATCH_ROWS
    deletes = {
        "clean": None,
        "0.1 % in 1 % of batches": f"id % {batch_run} < {BATCH_ROWS // 10}",
        "0.1 % at random": "id % 997 = 1",
        "10 % at random": "id % 10 = 1",
        "purged": "id % 997 = 1",
    }
    with fletching.connect(folder, project=tables.PROJECT, create=True) as client:
        made = {}
        for number, (name, where) in enumerate(deletes.items()):
            table = made[name] = _made(client, f"t{number}", rows)
            if where is not None:
                table.delete(where)
        made["purged"].compact(purge=True)
        local = [_sums(name, table, rows) for name, table in made.items()]
        results = compare("changes: sum, embedded", f"{rows:,} rows", local, rounds)
    # On one host a segment that lost nothing is read past the service, which is another matter.
    with (
        server("fletching", folder=str(folder)) as ours,
        reading.connect(ours, direct="never") as client,
    ):
        contenders = [
            _drained(name, client.table(f"t{number}"), rows, ours.pid)
            for number, name in enumerate(deletes)
        ]
        results += compare("changes: read, HTTP", f"{rows:,} rows", contenders, rounds)
    return results


def _sums(name: str, table: Table, rows: int) -> Contender:
    def run(_started: float) -> Outcome:
        count = 0
        for batch in table.scan():
            for column in batch.columns:
                pc.sum(column)
            count += batch.num_rows
        return Outcome(rows * 40, count)

    return Contender(name, run)


def _drained(name: str, table: Table, rows: int, pid: int) -> Contender:
    def run(started: float) -> Outcome:
        return reading.drain(table.scan().to_batches(), started, rows * 40)

    return Contender(name, run, pid)


def _verbs(folder: Path, rounds: int, rows: int) -> list[Result]:
    """A delete beside the scan that it needs, the feed and columns of a small and a large table."""
    with fletching.connect(folder, project=tables.PROJECT, create=True) as client:
        large, small = _made(client, "large", rows), _made(client, "small", max(rows // 100, FED))
        loaded = large.versions(limit=1)[0].version

        as_loaded = large.as_of(loaded)
        hundredth = f"c < {(1 << 40) // 100}"

        def scan(_started: float) -> Outcome:
            found = as_loaded.scan(["c"], filter=hundredth)
            return Outcome(rows * 8, sum(batch.num_rows for batch in found))

        def delete(_started: float) -> Outcome:
            return Outcome(rows * 8, large.delete(hundredth).rows_deleted)

        results = compare(
            "changes: delete",
            f"{rows:,} rows",
            [
                Contender("scan of the predicate's column", scan),
                Contender("delete of 1 %", delete, prepare=lambda: large.restore(loaded)),
            ],
            rounds,
        )
        large.restore(loaded)
        contenders = []
        for name, table in (("small", small), ("large", large)):
            before = table.versions(limit=1)[0].version
            table.delete(f"id < {FED}")
            contenders.append(_feed(name, table, before))
        results += compare("changes: feed", f"{FED:,} rows", contenders, rounds)
        contenders = [
            Contender(name, _renaming(table))
            for name, table in (("small", small), ("large", large))
        ]
        return results + compare("changes: columns", "rename, add and drop", contenders, rounds)


def _feed(name: str, table: Table, since: int) -> Contender:
    def run(_started: float) -> Outcome:
        found = table.changes(since, since + 1).to_table()
        return Outcome(found.nbytes, found.num_rows)

    return Contender(name, run)


def _renaming(table: Table) -> Callable[[float], Outcome]:
    def run(_started: float) -> Outcome:
        table.rename_column("a", "renamed")
        table.rename_column("renamed", "a")
        table.add_columns("added BIGINT")
        table.drop_columns(["added"])
        return Outcome(1, 4)

    return run


def _upserts(folder: Path, rounds: int, sizes: tuple[int, int]) -> list[Result]:
    """Upserts of keys that are there, at random, beside appending as many rows."""
    results: list[Result] = []
    random = np.random.default_rng(1)
    for size in sizes:
        with fletching.connect(folder, project=tables.PROJECT, create=True) as client:
            plain = client.create_table(f"plain{size}", SCHEMA)
            keyed = _made(client, f"keyed{size}", size, primary_key=["id"])
            count = min(UPSERTED, size // 2)

            def rows(size: int = size, count: int = count) -> pa.RecordBatch:
                (batch,) = _batches(count)
                ids = pa.array(random.choice(size, count, replace=False))
                return batch.set_column(0, SCHEMA.field(0), ids)

            def append(_started: float, plain: Any = plain, rows: Any = rows) -> Outcome:
                return _moved(int(plain.append(rows())))

            def upsert(_started: float, keyed: Any = keyed, rows: Any = rows) -> Outcome:
                return _moved(keyed.upsert(rows()).rows_updated)

            # Each leaves a segment: prepared, so that no run is repeated within a round.
            contenders = [
                Contender("append", append, prepare=lambda: None),
                Contender("upsert", upsert, prepare=lambda: None),
            ]
            results += compare("changes: upsert", f"{size:,} rows", contenders, rounds)
        shutil.rmtree(folder)
    return results


def _moved(rows: int) -> Outcome:
    return Outcome(rows * 40, rows)
