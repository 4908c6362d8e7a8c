"""What upserts, merges, keys and changes at once cost, beside appends of as many rows."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

import fletching
from benchmarks import tables
from benchmarks.change_tables import (
    SCHEMA,
    batches,
    engine_of,
    fact,
    made,
    moved,
    newest,
    timed,
    under_the_lock,
)
from benchmarks.rounds import Contender, Outcome, Result, compare

if TYPE_CHECKING:
    from fletching.client import Client, Table

__all__ = ["measure"]

UPSERTED = 10_000
COMMITS = 1_000
SINGLE = 20
WRITERS = 16
EACH = 4


def measure(folder: Path, rounds: int, rows: int, sizes: Sequence[int]) -> list[Result]:
    """Everything about keys.

    Args:
        folder: on the disk that is measured.
        rounds: per contender.
        rows: of the tables.
        sizes: of the tables that are upserted into.
    """
    results: list[Result] = []
    for size in sizes:
        with fletching.connect(folder, project=tables.PROJECT, create=True) as client:
            results += _upserts(client, rounds, size, pieces=size == rows)
            if size == rows:
                results += _merges(client, rounds, rows)
        shutil.rmtree(folder)
    with fletching.connect(folder, project=tables.PROJECT, create=True) as client:
        results += _singles(client, rounds, min(rows, 2_000_000))
        results += _ingest(client, rounds, min(rows // 10, 1_000_000))
        results += _together(client, rounds, each=EACH if rows >= UPSERTED * 10 else 1)
    shutil.rmtree(folder)
    return results


def _chosen(size: int, count: int) -> Callable[[], pa.RecordBatch]:
    """Makes rows of which the keys are there, at random."""
    random = np.random.default_rng(1)

    def rows() -> pa.RecordBatch:
        (batch,) = batches(count)
        ids = np.unique(random.integers(0, size, count + count // 10))
        while len(ids) < count:
            ids = np.unique(np.append(ids, random.integers(0, size, count)))
        ids = random.permutation(ids)[:count]
        return batch.set_column(0, SCHEMA.field(0), pa.array(ids))

    return rows


def _upserts(client: Client, rounds: int, size: int, *, pieces: bool) -> list[Result]:
    """Upserts of keys that are there, beside appending as many rows."""
    case = f"{size:,} rows"
    plain = client.create_table("plain", SCHEMA)
    keyed = made(client, "keyed", size, primary_key=["id"])
    count = min(UPSERTED, size // 2)
    rows = _chosen(size, count)

    def upsert(table: Table) -> Callable[[float], Outcome]:
        return lambda _started: moved(table.upsert(next(ready)).rows_updated)

    def append(_started: float) -> Outcome:
        return moved(int(plain.append(next(ready))))

    ready: Any = iter(rows, None)
    # Each leaves a segment: prepared, so that no run is repeated within a round.
    contenders = [
        Contender("append", append, prepare=lambda: None),
        Contender("upsert", upsert(keyed), prepare=lambda: None),
    ]
    if pieces:
        parts = client.create_table("parts", SCHEMA, primary_key=["id"])
        # A run that only proves the code makes fewer.
        step = max(size // COMMITS, 1_000)
        for first in range(0, size, step):
            parts.append(
                pa.Table.from_batches(batches(min(step, size - first), first=first), SCHEMA)
            )
        parts.compact()
        contenders.append(
            Contender("upsert, by 1,000 commits", upsert(parts), prepare=lambda: None)
        )
    results = compare("changes: upsert", case, contenders, rounds)
    seconds, locked = [], []
    for _ in range(rounds):
        batch = rows()
        with under_the_lock(client) as taken:
            started = time.perf_counter()
            keyed.upsert(batch)
            seconds.append(time.perf_counter() - started)
        locked.append(sum(taken))
    results.append(fact("changes: lock", case, "upsert", float(np.median(seconds))))
    results.append(fact("changes: lock", case, "under the lock", float(np.median(locked))))
    return results


def _merges(client: Client, rounds: int, rows: int) -> list[Result]:
    """A merge into a table without a key has to look at the column that it meets on; with one, at its runs."""
    table, plain = made(client, "merged", rows), client.create_table("beside", SCHEMA)
    keyed = made(client, "merged_by_key", rows, primary_key=["id"])
    count = min(UPSERTED, rows // 2)
    ready: Any = iter(_chosen(rows, count), None)

    def scan(_started: float) -> Outcome:
        return Outcome(rows * 8, sum(batch.num_rows for batch in table.scan(["id"])))

    def merge(table: Table) -> Callable[[float], Outcome]:
        return lambda _started: moved(table.merge(next(ready), on=["id"]).rows_updated)

    def append(_started: float) -> Outcome:
        return moved(int(plain.append(next(ready))))

    contenders = [
        Contender("scan of the key", scan),
        Contender("append", append, prepare=lambda: None),
        Contender("merge", merge(table), prepare=lambda: None),
        Contender("merge on the key", merge(keyed), prepare=lambda: None),
    ]
    return compare("changes: merge", f"{count:,} into {rows:,} rows", contenders, rounds)


def _singles(client: Client, rounds: int, rows: int) -> list[Result]:
    """Rows one by one, each a commit: into a table without a key, one with, and one that lost half."""
    contenders: list[Contender] = []
    random = np.random.default_rng(3)
    for name in ("append", "upsert", "upsert, half deleted"):
        keyed = name != "append"
        table = made(client, f"single{len(contenders)}", rows, primary_key=["id"] if keyed else ())
        if "deleted" in name:
            table.delete("id % 2 = 0")
        writer = table.stream_writer("one", exactly_once=False)

        def run(writer: Any = writer) -> None:
            (batch,) = batches(SINGLE)
            for place in range(SINGLE):
                ids = pa.array(random.integers(0, rows, 1))
                writer.write(batch.slice(place, 1).set_column(0, SCHEMA.field(0), ids))
                writer.flush()

        contenders.append(timed(name, run, prepare=table.compact))
    return compare("changes: single rows", f"{rows:,} rows", contenders, rounds)


def _ingest(client: Client, rounds: int, rows: int) -> list[Result]:
    """What keeping a key costs while rows come that have new ones, and on disk."""
    results = []
    numbers, names = pa.field("id", pa.int64(), False), pa.field("id", pa.string(), False)
    for kind, field in (("bigint", numbers), ("text", names)):
        schema = SCHEMA.set(0, field)
        first = 0

        def fresh(schema: pa.Schema = schema, field: pa.Field = field) -> pa.Table:
            nonlocal first
            first += rows
            table = pa.Table.from_batches(batches(rows, first=first))
            ids = table["id"].cast(field.type)
            if field.type == pa.string():
                ids = pa.compute.binary_join_element_wise("key of the row ", ids, "")
            return table.set_column(0, field, ids).cast(schema)

        contenders: list[Contender] = []
        for name in ("plain", "keyed"):
            keys = ["id"] if name == "keyed" else ()
            table = client.create_table(f"{name}_{kind}", schema, primary_key=keys)
            held: dict[str, pa.Table] = {}

            def give(held: dict[str, pa.Table] = held, fresh: Any = fresh) -> None:
                held["rows"] = fresh()

            def append(table: Table = table, held: dict[str, pa.Table] = held) -> None:
                table.append(held["rows"])

            contenders.append(timed(name, append, give))
        results += compare(f"changes: ingest, {kind}", f"{rows:,} rows", contenders, rounds)
        engine = engine_of(client)
        with engine.context.database.read() as connection:
            used = _run_bytes(connection, f"keyed_{kind}")
        results.append(
            fact(f"changes: key runs, {kind}", "bytes in 1,000 rows", "keyed", 1.0, count=used)
        )
    return results


def _run_bytes(connection: Any, table: str) -> int:
    """Bytes of key runs for a thousand rows of a table."""
    from sqlalchemy import func, select

    from fletching.catalog import schema

    tables_, segments = schema.tables, schema.segments
    (number,) = connection.execute(select(tables_.c.id).where(tables_.c.name == table)).one()
    found = connection.execute(
        select(func.sum(segments.c.key_run_length), func.sum(segments.c.rows)).where(
            segments.c.table_id == number
        )
    ).one()
    return int(1000 * found[0] // found[1])


def _together(client: Client, rounds: int, *, each: int) -> list[Result]:
    """Sixteen that change rows of their own in one segment, beside one that does all of it."""
    results = []
    rows = WRITERS * 1_000
    updated, keyed = (
        made(client, "updated", rows),
        made(client, "upserted", rows, primary_key=["id"]),
    )
    whole = {one.name: newest(one) for one in (updated, keyed)}

    def update(writer: int, turn: int) -> None:
        first = writer * 1_000 + turn * 10
        report = updated.update({"a": "a + 1"}, where=f"id >= {first} AND id < {first + 10}")
        assert report.rows_updated == 10

    def upsert(writer: int, turn: int) -> None:
        (batch,) = batches(10, first=writer * 1_000 + turn * 10)
        assert keyed.upsert(batch).rows_updated == 10

    for name, table, verb in (("update", updated, update), ("upsert", keyed, upsert)):

        def alone(verb: Any = verb) -> None:
            for writer in range(WRITERS):
                for turn in range(each):
                    verb(writer, turn)

        def together(verb: Any = verb) -> None:
            with ThreadPoolExecutor(WRITERS) as pool:
                done = [
                    pool.submit(verb, writer, turn)
                    for turn in range(each)
                    for writer in range(WRITERS)
                ]
                for future in done:
                    future.result()

        def back(table: Table = table) -> None:
            table.restore(whole[table.name])

        contenders = [timed("1 writer", alone, back), timed("16 writers", together, back)]
        results += compare(f"changes: together, {name}", f"{rows:,} rows", contenders, rounds)
    return results
