"""What tables that change cost: reading around deleted rows, deletes, updates, the feed, columns."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

import fletching
from benchmarks import change_history, keyed_changes, reading, tables
from benchmarks.change_tables import (
    BATCH_ROWS,
    ROW_BYTES,
    SCHEMA,
    batches,
    fact,
    made,
    moved,
    newest,
    stored_bytes,
    timed,
    vector_bytes,
)
from benchmarks.processes import anonymous_bytes, server
from benchmarks.rounds import Contender, Outcome, Result, compare

if TYPE_CHECKING:
    from benchmarks.processes import ServerProcess
    from fletching.client import Table

__all__ = ["changes"]

FED = 1_000


def changes(folder: Path, *, rounds: int, rows: int, many: bool) -> list[Result]:
    """Every measurement.

    Args:
        folder: on the disk that is measured; emptied again.
        rounds: per contender.
        rows: of the tables.
        many: whether upserts are measured in ten times as many rows, too.
    """
    shutil.rmtree(folder, ignore_errors=True)
    sizes = [max(rows // 10, 1), rows, *([rows * 10] if many else [])]
    try:
        return [
            *_scans(folder / "scans", rounds, min(rows, 8_000_000)),
            *_verbs(folder / "verbs", rounds, rows),
            *keyed_changes.measure(folder / "keys", rounds, rows, sizes),
            *change_history.measure(folder / "history", rounds, rows),
        ]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
        made_tables = {}
        for number, (name, where) in enumerate(deletes.items()):
            table = made_tables[name] = made(client, f"t{number}", rows)
            if where is not None:
                table.delete(where)
        made_tables["purged"].compact(purge=True)
        local = [_sums(name, table, rows) for name, table in made_tables.items()]
        results = compare("changes: sum, embedded", f"{rows:,} rows", local, rounds)
    # On one host a segment that lost nothing is read past the service, which is another matter.
    with (
        server("fletching", folder=str(folder)) as ours,
        reading.connect(ours, direct="never") as client,
    ):
        read = {name: client.table(f"t{number}") for number, name in enumerate(deletes)}
        contenders = [_drained(name, table, rows, ours.pid) for name, table in read.items()]
        results += compare("changes: read, HTTP", f"{rows:,} rows", contenders, rounds)
        for name in ("clean", "10 % at random"):
            used = _memory(ours, read[name])
            results.append(fact("changes: memory", f"{rows:,} rows", name, 1.0, count=used))
    return results


def _memory(ours: ServerProcess, table: Table) -> int:
    """How much more memory of its own a server has while it sends a table than before."""
    table.scan().to_batches().close()
    before = anonymous_bytes(ours.pid)
    peak, done = before, threading.Event()

    def look() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, anonymous_bytes(ours.pid))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in table.scan().to_batches():
            pass
    finally:
        done.set()
        looking.join()
    return max(peak - before, 1)


def _sums(name: str, table: Table, rows: int) -> Contender:
    def run(_started: float) -> Outcome:
        count = 0
        for batch in table.scan():
            for column in batch.columns:
                pc.sum(column)
            count += batch.num_rows
        return Outcome(rows * ROW_BYTES, count)

    return Contender(name, run)


def _drained(name: str, table: Table, rows: int, pid: int) -> Contender:
    def run(started: float) -> Outcome:
        return reading.drain(table.scan().to_batches(), started, rows * ROW_BYTES)

    return Contender(name, run, pid)


def _verbs(folder: Path, rounds: int, rows: int) -> list[Result]:
    """Deletes and updates beside what they need, the feed and columns of a small and a large table."""
    with fletching.connect(folder, project=tables.PROJECT, create=True) as client:
        large, small = made(client, "large", rows), made(client, "small", max(rows // 100, FED))
        results = _deletes(client, folder, large, rounds, rows)
        results += _feeds({"small": small, "large": large}, rounds, rows)
        contenders = [
            Contender(name, _renaming(table))
            for name, table in (("small", small), ("large", large))
        ]
        results += compare("changes: columns", "rename, add and drop", contenders, rounds)
        # Beside a table that never changed, in files of its own.
        renamed, clean = made(client, "renamed", rows), made(client, "clean", rows)
        renamed.rename_column("a", "other")
        contenders = [_sums("clean", clean, rows), _sums("renamed", renamed, rows)]
        return results + compare("changes: renamed", f"{rows:,} rows", contenders, rounds)


def _deletes(
    client: fletching.Client, folder: Path, large: Table, rounds: int, rows: int
) -> list[Result]:
    loaded = newest(large)
    as_loaded = large.as_of(loaded)
    case = f"{rows:,} rows"
    hundredth = f"c < {(1 << 40) // 100}"
    plain = client.create_table("plain", SCHEMA)
    (some,) = pa.Table.from_batches(batches(max(rows // 100, 1))).combine_chunks().to_batches()

    def scan(_started: float) -> Outcome:
        found = as_loaded.scan(["c"], filter=hundredth)
        return Outcome(rows * 8, sum(batch.num_rows for batch in found))

    def delete(_started: float) -> Outcome:
        return Outcome(rows * 8, large.delete(hundredth).rows_deleted)

    def update(_started: float) -> Outcome:
        return moved(large.update({"a": "a + 1"}, where=hundredth).rows_updated)

    def back() -> None:
        large.restore(loaded)

    results = compare(
        "changes: delete",
        case,
        [
            Contender("scan of the predicate's column", scan),
            Contender("delete of 1 %", delete, prepare=back),
            Contender("update of 1 %", update, prepare=back),
            timed("append of 1 %", lambda: plain.append(some), prepare=lambda: None),
        ],
        rounds,
    )
    back()

    def copied() -> None:
        large.overwrite(as_loaded.scan().to_batches())

    # Once is enough for a factor of ten, and it takes that much longer.
    results += compare(
        "changes: copy on write", case, [timed("all rows", copied, prepare=back)], min(rounds, 2)
    )
    back()
    before = stored_bytes(folder / "objects")
    deleted = large.delete(hundredth).rows_deleted
    written = stored_bytes(folder / "objects") - before + vector_bytes(client, newest(large))
    results.append(fact("changes: bytes of a delete", case, "written", 1.0, count=max(written, 1)))
    results.append(fact("changes: bytes of a delete", case, "rows", 1.0, count=deleted))
    back()
    parts = client.create_table("parts", SCHEMA, partition_by=["p"])
    for name in ("x", "y"):
        parts.append(pa.RecordBatchReader.from_batches(SCHEMA, batches(rows // 20)), f"p={name}")
    whole = newest(parts)
    contenders = [
        timed("a partition", lambda: parts.delete("p = 'x'"), lambda: parts.restore(whole)),
        timed("by bounds", lambda: parts.delete("id >= 0"), lambda: parts.restore(whole)),
    ]
    return results + compare("changes: delete without looking", case, contenders, rounds)


def _feeds(of_size: dict[str, Table], rounds: int, rows: int) -> list[Result]:
    contenders = []
    for name, table in of_size.items():
        before = newest(table)
        table.delete(f"id < {FED}")
        contenders.append(_feed(name, table, before, before + 1))
    large = of_size["large"]
    before = newest(large)
    for number in range(1, 11):
        large.delete(f"id >= {number * FED} AND id < {(number + 1) * FED}")
    contenders.append(_feed("ten times as many", large, before, newest(large)))
    # What compaction writes anew is in the range, and no change.
    large.compact(purge=True)
    contenders.append(_feed("ten times as many, compacted", large, before, newest(large)))
    return compare("changes: feed", f"{FED:,} rows of {rows:,}", contenders, rounds)


def _feed(name: str, table: Table, since: int, until: int) -> Contender:
    def run(_started: float) -> Outcome:
        found = table.changes(since, until).to_table()
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
