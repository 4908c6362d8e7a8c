"""What versions, restores, compaction and retention cost, by how much of them there is."""

from __future__ import annotations

import datetime as dt
import functools
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from sqlalchemy import insert, select, update

import fletching
from benchmarks import tables
from benchmarks.bench_catalog import NAME, fill
from benchmarks.change_tables import (
    SCHEMA,
    batches,
    engine_of,
    fact,
    made,
    newest,
    timed,
    under_the_lock,
)
from benchmarks.rounds import Contender, Result, compare
from fletching.catalog import schema

if TYPE_CHECKING:
    from fletching.client import Client, Table

__all__ = ["measure"]

PIECES = 64
RESTORED = 10_000


def measure(folder: Path, rounds: int, rows: int) -> list[Result]:
    """Everything about versions that are not the newest.

    Args:
        folder: on the disk that is measured.
        rounds: per contender.
        rows: of tables that have any.
    """
    small = rows < 1_000_000
    results = []
    with fletching.connect(folder, project=tables.PROJECT, create=True) as client:
        results += _compaction(client, rounds, min(rows // 5, 2_000_000))
        results += _versions(client, rounds, 100 if small else 10_000)
    for segments in (100, 1_000) if small else (10_000, 100_000):
        shutil.rmtree(folder)
        with fletching.connect(folder, project=NAME.project, create=True) as client:
            results += _segments(client, rounds, segments, tags=segments // 100)
    return results


def _compaction(client: Client, rounds: int, rows: int) -> list[Result]:
    """Merging segments of which one batch in twenty lost rows, beside merging them as they are."""
    contenders: list[Contender] = []
    for name in ("plain", "5 % of the batches dirty"):
        table = client.create_table(f"pieces{len(contenders)}", SCHEMA)
        size = max(rows // PIECES, 20)
        for number in range(PIECES):
            data = pa.Table.from_batches(batches(size, first=number * size))
            cut = data.combine_chunks().to_batches(max_chunksize=max(size // 20, 1))
            table.append(pa.RecordBatchReader.from_batches(SCHEMA, cut))
        if contenders:
            table.delete(f"id % {size} < {max(size // 200, 1)}")
        before = newest(table)
        contenders.append(
            timed(
                name,
                functools.partial(table.compact, purge=True),
                functools.partial(table.restore, before),
            )
        )
    return compare("changes: compaction", f"{rows:,} rows", contenders, rounds)


def _versions(client: Client, rounds: int, count: int) -> list[Result]:
    """An old version behind many, and a page of the list; the versions are put into the catalog."""
    table = made(client, "versioned", 10_000)
    _fill_versions(engine_of(client), table, count)
    old = table.as_of(1)

    def opens(of: Any) -> Any:
        def run() -> None:
            session = of.scan().session()
            assert session.row_count == 10_000
            session.release()

        return run

    contenders = [
        timed("current", opens(table.reload())),
        timed("old", opens(old)),
        timed("a page of versions", lambda: table.versions(limit=100)),
    ]
    return compare("changes: old versions", f"{count:,} versions", contenders, rounds)


def _fill_versions(engine: Any, table: Table, count: int) -> None:
    """Versions that changed nothing, as upkeep makes them."""
    first = newest(table) + 1
    _put_versions(engine, table, range(first, first + count))
    with engine.context.database.write() as connection:
        connection.execute(
            update(schema.tables)
            .where(schema.tables.c.name == table.name)
            .values(version=first + count - 1)
        )


def _put_versions(engine: Any, table: Table, numbers: range) -> None:
    """Puts versions like the newest into the catalog."""
    versions, tables_ = schema.table_versions, schema.tables
    with engine.context.database.write() as connection:
        last = connection.execute(
            select(versions)
            .join(tables_, tables_.c.id == versions.c.table_id)
            .where(tables_.c.name == table.name)
            .order_by(versions.c.version.desc())
            .limit(1)
        ).one()
        row = dict(last._mapping) | {"operation": "compact", "data_change": False}
        later = row["committed_us"] - row["version"]
        made_rows = [
            row | {"version": number, "committed_us": later + number} for number in numbers
        ]
        connection.execute(insert(versions), made_rows)


def _segments(client: Client, rounds: int, segments: int, *, tags: int) -> list[Result]:
    """Clearing, restoring and forgetting many segments. No object exists, and none may be read."""
    case = f"{segments:,} segments"
    table = client.create_table(NAME.name, "id BIGINT")
    engine = engine_of(client)
    fill(engine, segments, 0)
    full = newest(table)

    def empty() -> None:
        if table.reload().count_rows():
            table.truncate()

    def back() -> None:
        if not table.reload().count_rows():
            table.restore(full)

    contenders = [
        timed("clear", table.truncate, prepare=back),
        timed("restore", lambda: table.restore(full), prepare=empty),
    ]
    # Of the larger table only what retention does counts.
    results = (
        [] if segments > RESTORED else compare("changes: restore", case, contenders, min(rounds, 3))
    )
    # Tags of the first versions keep a part; the rest is forgotten.
    first = full - 99
    _put_versions(engine, table, range(first, first + 10))
    for number in range(tags):
        table.create_tag(f"kept-{number}", first + number % 10)
    empty()
    table.set_properties({"acid.data.retain.hours": "0"})
    with under_the_lock(client) as taken:
        started = time.perf_counter()
        table.expire_versions(dt.timedelta())
        engine.collect()
        seconds = time.perf_counter() - started
    results.append(fact("changes: retention", case, "all", seconds))
    results.append(fact("changes: retention", case, "longest transaction", max(taken)))
    return results
