"""How do reads, commits and lists grow with the number of segments and partitions in the catalog?

The rows of a table of many segments are put into the catalog directly; what is measured goes through the
engine, in this process: the first call, the best of some, and the least CPU time of this process, in milliseconds,
and how many statements it took. The objects do not exist, so that plans are made and measured but nothing is read.

    make bench BENCH=catalog
    python -m benchmarks.bench_catalog --segments 1000000 --partitions 10000
    python -m benchmarks.bench_catalog --catalog postgresql://... --segments 1000000 --partitions 10000

A database that is named must be empty, and is filled.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from sqlalchemy import event, insert, update

import fletching
from benchmarks.rounds import Result
from fletching.catalog import schema
from fletching.catalog.partition_rows import sort_key
from fletching.catalog.publishing import publish
from fletching.catalog.segment_rows import encode_partition, position_in
from fletching.catalog.table_rows import get_table, lock_table
from fletching.catalog.write_stream_rows import NewSegment
from fletching.engine.engine import Engine
from fletching.protocol.messages.admin import ListPartitions
from fletching.protocol.messages.requests import CreateReadSession, ReadTable, SplitOptions
from fletching.protocol.messages.vocabulary import SplitMode
from fletching.types import PartitionSpec, TableName

NAME = TableName("demo", "t")
ROWS = 1000
INDEX = np.array([[640, 256, 8 * ROWS, ROWS]], "<i8").tobytes()
AT_ONCE = 20_000


def part(number: int) -> str:
    return encode_partition([f"{number:06d}"])


def fill(engine: Engine, segments: int, partitions: int) -> None:
    """Gives the table segments in a hundred versions, dealt out over its partitions."""
    database = engine.context.database
    with database.read() as connection:
        table = get_table(connection, NAME)
    first = table.version + 1
    versions = 100

    def rows(start: int, end: int) -> Iterator[dict[str, Any]]:
        for number in range(start, end):
            version = first + number * versions // segments
            yield {
                "key": f"tables/{table.id}/0-{number}",
                "table_id": table.id,
                "partition": part(number % partitions) if partitions else "[]",
                "position": position_in(version, number % 1_000_000),
                "schema_version": table.schema_version,
                "rows": ROWS,
                "bytes": 10_000,
                "crc32c": 0,
                "batch_index": INDEX,
                "dictionary_index": b"",
                "codecs": "",
                "added_version": version,
            }

    for start in range(0, segments, AT_ONCE):
        with database.write() as connection:
            connection.execute(
                insert(schema.segments), list(rows(start, min(start + AT_ONCE, segments)))
            )
    now = time.time()
    version = first + versions - 1
    totals = {"rows": segments * ROWS, "bytes": segments * 10_000, "segments": segments}
    with database.write() as connection:
        if partitions:
            counts = np.bincount(np.arange(segments) % partitions, minlength=partitions).tolist()
            connection.execute(
                insert(schema.partitions),
                [
                    {
                        "table_id": table.id,
                        "partition": part(number),
                        "rows": ROWS * count,
                        "bytes": 10_000 * count,
                        "created_at": now,
                        "modified_at": now,
                        "sort_key": sort_key(part(number)),
                    }
                    for number, count in enumerate(counts)
                ],
            )
        connection.execute(
            insert(schema.table_versions),
            {
                "table_id": table.id,
                "version": version,
                "committed_us": int(now * 1e6),
                "operation": "append",
                "data_change": True,
                "schema_version": table.schema_version,
                **totals,
                "rows_inserted": totals["rows"],
                "rows_updated": 0,
                "rows_deleted": 0,
                "access_id": "",
                "read_version": table.version,
            },
        )
        connection.execute(
            update(schema.tables)
            .where(schema.tables.c.id == table.id)
            .values(version=version, **totals)
        )
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("ANALYZE")


class Measured:
    """Times calls and counts their statements."""

    def __init__(self, engine: Engine, segments: int) -> None:
        self.segments = segments
        self.results: dict[str, dict[str, float]] = {}
        self.taken: dict[str, list[float]] = {}
        self.used: dict[str, list[float]] = {}
        self._statements = 0
        event.listen(
            engine.context.database._engine,  # nothing else sees all statements
            "before_cursor_execute",
            self._count,
        )

    def _count(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self._statements += not statement.startswith(("PRAGMA", "BEGIN"))

    def results_of(self, database: str, case: str) -> list[Result]:
        """What was measured, as results of a run."""
        return [
            Result(
                question="catalog",
                case=case,
                name=f"{database}: {name}",
                bytes=0,
                rows=self.segments,
                seconds=[each / 1000 for each in self.taken[name]],
                first_seconds=[],
                client_cpu_seconds=sum(self.used[name]) / 1000,
                server_cpu_seconds=None,
                client_peak_bytes=0,
                server_peak_bytes=None,
            )
            for name in self.results
        ]

    def __call__(
        self,
        name: str,
        call: Callable[[], object],
        times: int = 5,
        before: Callable[[], object] = lambda: None,
    ) -> None:
        """Runs ``before`` and ``call`` several times; only the second is measured."""
        taken: list[float] = []
        used: list[float] = []
        for _ in range(times):
            before()
            self._statements = 0
            started, cpu = time.perf_counter(), time.process_time()
            call()
            taken.append(1000 * (time.perf_counter() - started))
            used.append(1000 * (time.process_time() - cpu))
        self.taken[name], self.used[name] = taken, used
        self.results[name] = {
            "first": taken[0],
            "best": min(taken),
            "best_cpu": min(used),
            "statements": self._statements,
        }
        times_taken = f"{taken[0]:10.1f} {min(taken):10.1f} {min(used):10.1f}"
        print(f"{name:44} {times_taken} {self._statements:6}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--segments", type=int, default=1_000_000)
    parser.add_argument("--partitions", type=int, default=10_000, help="0: a table without any")
    parser.add_argument("--catalog", help="URL of an empty PostgreSQL database; else SQLite")
    parser.add_argument("--json", action="store_true", help="print the results as JSON, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        run(folder, options.segments, options.partitions, options.catalog, as_json=options.json)


def databases(
    *, small: bool = False
) -> Iterator[tuple[str, contextlib.AbstractContextManager[str | None]]]:
    """The databases that are here: a name, and what gives the URL of an empty one; SQLite for ``small``."""
    yield "SQLite", contextlib.nullcontext()
    if small:
        return
    with postgresql() as url:
        if url is not None:
            yield "PostgreSQL", contextlib.nullcontext(url)


@contextlib.contextmanager
def postgresql() -> Iterator[str | None]:
    """The URL of an empty database of a server that ends with the block; None, said aloud, where there is none."""
    try:
        from tests.postgresql import PostgresServer

        server = PostgresServer(Path(tempfile.gettempdir()))  # on the disk that commits wait for
    except (ImportError, RuntimeError) as error:
        print(f"without PostgreSQL: {error}", file=sys.stderr)
        yield None
        return
    with contextlib.closing(server):
        yield server.url


def measured(
    folder: str, segments: int, partitions: int, catalog: str | None, database: str, case: str
) -> list[Result]:
    """As `run`; the results of a question."""
    return run(folder, segments, partitions, catalog, as_json=False).results_of(database, case)


def run(
    folder: str, segments: int, partitions: int, catalog: str | None, *, as_json: bool
) -> Measured:
    """Fills a catalog and measures."""
    client = fletching.connect(folder, project="demo", create=True, catalog=catalog)
    with client:
        columns = pa.schema([("id", pa.int64())])
        table = client.create_table("t", columns, partition_by=["p"] if partitions else [])
        engine: Engine = client.table("t").channel.transport.engine  # type: ignore[attr-defined]  # embedded
        started = time.perf_counter()
        fill(engine, segments, partitions)
        print(
            f"filled in {time.perf_counter() - started:.0f} s; milliseconds: first, best, CPU of the best; statements"
        )
        found = Measured(engine, segments)
        measure(found, engine, table, partitions)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(f"most memory of the process: {peak} MiB")
        if as_json:
            print(json.dumps(found.results))
        return found


def measure(measured: Measured, engine: Engine, table: fletching.Table, partitions: int) -> None:
    one = {"p": f"{partitions // 2:06d}"} if partitions else None
    batch = pa.table({"id": pa.array([1], pa.int64())})
    whole = SplitOptions(split_mode=SplitMode.PARALLELISM, split_number=1)

    def opened(*wanted: PartitionSpec) -> str:
        request = CreateReadSession(
            table=NAME, split_options=whole, required_partitions=wanted, verbatim_types=True
        )
        return str(engine.call(request).session_id)

    def planned(session: str) -> None:
        plan = engine.read(ReadTable(table=NAME, session_id=session, index=0))
        assert plan.rows

    def append() -> None:
        table.append(batch, partition=one)

    def read_anew() -> None:
        planned(opened())

    def list_all() -> int:
        marker, count = "", 0
        while True:
            page = engine.call(ListPartitions(table=NAME, marker=marker))
            count += len(page.partitions)
            marker = page.marker
            if not marker:
                return count

    measured("open a session", opened)
    assert measured.results["open a session"]["statements"] <= 3
    if partitions:
        spec = PartitionSpec(tuple((one or {}).items()))
        measured("open a session of one partition", lambda: opened(spec))
        assert measured.results["open a session of one partition"]["statements"] <= 3
        measured("first plan of one partition", lambda: planned(opened(spec)), 1)
        measured("list all partitions", list_all, 3)
    measured("first plan of everything", read_anew, 1)
    measured("plan again", read_anew)
    measured("commit of one segment", append)
    measured("first plan after one commit", read_anew, 5, before=append)
    if partitions:
        measured(
            "first plan of one partition after a commit", lambda: planned(opened(spec)), 5, append
        )
        numbers = iter(range(10))

        def publish_all() -> None:
            with engine.context.database.write() as connection:
                row = lock_table(connection, get_table(connection, NAME).id)
                batch_number = next(numbers)
                added = [
                    NewSegment(
                        key=f"tables/{row.id}/1-{batch_number}-{number}",
                        partition=part(number),
                        schema_version=row.schema_version,
                        rows=ROWS,
                        length=10_000,
                        crc32c=0,
                        batch_index=INDEX,
                        dictionary_index=b"",
                        codecs="",
                    )
                    for number in range(partitions)
                ]
                publish(connection, row, added, now=time.time())

        measured(f"commit to {partitions} partitions", publish_all, 2)
        measured("first plan after it", read_anew, 2, before=publish_all)


if __name__ == "__main__":
    main()
