"""The questions that are measured; each takes a `Run` and gives results (and notes beside them)."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

import fletching
from benchmarks import (
    bench_catalog,
    blobs,
    changes,
    corpus,
    defaults,
    engines,
    messages,
    pages,
    querying,
    reading,
    releases,
    remote,
    several,
    tables,
    training,
    tunnel,
    writing,
)
from benchmarks.processes import anonymous_bytes, cpu_seconds, server
from benchmarks.rounds import Contender, Outcome, Result, compare
from fletching.client.cancellation import Cancellation
from fletching.client.reading.parallel import read_in_order

__all__ = ["QUESTIONS", "Run"]


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run works with.

    Attributes:
        disk: a folder on the disk that is measured.
        memory: a folder on a memory file system.
        rounds: measured rounds per contender.
        table_bytes: about how large a table is.
        small: whether this is the run that only proves the code.
        changed_rows: of the tables that are changed.
        many: whether upserts are measured in ten times as many rows, too.
        before: the source tree of an earlier release, whose scans and appends are measured beside ours.
    """

    disk: Path
    memory: Path
    rounds: int
    table_bytes: int
    small: bool
    changed_rows: int = 10_000_000
    many: bool = False
    before: Path | None = None


Question = Callable[[Run], list[Result]]


def _installed(package: str) -> bool:
    """Whether a rival is here; `make bench` installs them all."""
    return importlib.util.find_spec(package) is not None


@contextlib.contextmanager
def _folder(parent: Path, name: str) -> Iterator[Path]:
    folder = parent / name
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read(run: Run) -> list[Result]:
    """1, 2, 4: one split as stored beside everything; two splits; cut to PyODPS's 4,096 rows."""
    results: list[Result] = []
    for name, case, batches in _read_tables(run):
        with _folder(run.disk, f"read-{name}") as folder:
            table = tables.store(folder / "data", name, batches)
            results += _read_case(run, folder, table, case)
    return results


def _read_tables(run: Run) -> Iterator[tuple[str, str, list[pa.RecordBatch]]]:
    """(table, case, batches): every shape in every batch size, then quickstart's real tables."""
    for shape in corpus.SHAPES:
        for rows in corpus.BATCH_ROWS:
            if not run.small or (shape, rows) == ("numeric", 65_536):
                batches = corpus.make(shape, rows, run.table_bytes)
                yield f"{shape}_{rows}", f"{shape}, {rows:,} rows", batches
    if run.small:
        return
    from fletching.cli.quickstart.sources import standard_library

    for source in standard_library():
        once = [
            pa.RecordBatch.from_arrays(
                batch.select(source.schema.names).columns, schema=source.schema
            )
            for load in source.loads
            for batch in load.batches()
        ]
        times = -(-run.table_bytes // sum(batch.nbytes for batch in once))
        yield source.table, f"{source.table}, as quickstart has it", once * times


def _read_case(run: Run, folder: Path, table: tables.StoredTable, case: str) -> list[Result]:
    path = table.parquet(folder)
    joined = folder / "segments.bin"
    with joined.open("wb") as out:
        for segment in table.segments:
            with segment.open("rb") as source:
                shutil.copyfileobj(source, out, 1 << 20)
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(server("fletching", folder=str(table.folder)))
        raw = stack.enter_context(server("socket", path=str(joined)))
        paths = [str(segment) for segment in table.segments]
        rpc = stack.enter_context(server("flight", paths=paths))
        files = stack.enter_context(server("files", folder=str(folder)))
        client = stack.enter_context(reading.connect(ours))
        contenders = [
            reading.fletching_http(ours, client, table),
            reading.raw_socket(raw, table),
            reading.flight(rpc, table),
            reading.fletching_splits(ours, client, table, name="fletching, 2 splits", splits=2),
            reading.fletching_http(
                ours, client, table, name="fletching, 2 splits in order", splits=2
            ),
            reading.fletching_read(
                ours, client, table, name="fletching, cut to 4,096", max_batch_rows=4096
            ),
            reading.parquet_http(files, path, table),
            reading.memcpy(table),
        ]
        if _installed("odps"):
            contenders[3:3] = [
                reading.pyodps(ours, table, max_batch_rows=0, name="PyODPS"),
                reading.pyodps(ours, table, max_batch_rows=4096, name="PyODPS, cut to 4,096"),
            ]
        return compare("read", case, contenders, run.rounds)


def projection(run: Run) -> list[Result]:
    """3: k of n equal columns, beside the whole."""
    columns = 10
    results: list[Result] = []
    for rows in (65_536,) if run.small else (65_536, 1_000_000):
        with _folder(run.disk, f"projection-{rows}") as folder:
            # Twice the size: opening a session does not shrink with the columns.
            batches = corpus.make("numeric", rows, 2 * run.table_bytes)
            table = tables.store(folder / "data", f"projection_{rows}", batches)
            with (
                server("fletching", folder=str(table.folder)) as ours,
                reading.connect(ours) as client,
            ):
                contenders = [reading.fletching_http(ours, client, table, name="10 of 10")]
                for chosen in (1, 2, 5):
                    names = [f"f{2 * n % columns}" for n in range(chosen)]
                    contenders.append(
                        reading.fletching_http(
                            ours,
                            client,
                            table,
                            name=f"{chosen} of {columns}",
                            columns=names,
                            length=table.bytes * chosen // columns,
                        )
                    )
                case = f"numeric, {rows:,} rows"
                results += compare("projection", case, contenders, run.rounds)
    return results


def compressed(run: Run) -> list[Result]:
    """9: what was stored compressed is sent as stored."""
    results: list[Result] = []
    for codec in ("lz4", "zstd"):
        with _folder(run.disk, f"compressed-{codec}") as folder:
            batches = corpus.make("strings", 65_536, run.table_bytes)
            schema = batches[0].schema
            with fletching.connect(
                str(folder / "data"), project=tables.PROJECT, create=True
            ) as client:
                table = client.create_table("t", schema).with_options(compression=codec)
                table.append(pa.RecordBatchReader.from_batches(schema, iter(batches)))
            rows = sum(batch.num_rows for batch in batches)
            stored = tables.StoredTable(folder / "data", "t", schema, rows, batches)
            length = sum(path.stat().st_size for path in stored.segments)
            with (
                server("fletching", folder=str(stored.folder)) as ours,
                reading.connect(ours) as client,
            ):
                contenders = [
                    reading.fletching_http(ours, client, stored, length=length),
                    wire_bytes(ours, client, stored),
                ]
                results += compare("compressed", f"strings, {codec}", contenders, run.rounds)
    return results


def wire_bytes(ours: Any, client: Any, table: tables.StoredTable) -> Contender:
    """The reply's bytes, counted and not decoded: the server's part alone."""
    room = bytearray(4 << 20)

    def run(_started: float) -> Outcome:
        (split,) = client.table(table.name).scan().splits(split_bytes=1 << 50)
        total = 0
        with split.raw_reader() as stream:
            while count := stream.readinto(room):
                total += count
        return Outcome(total, table.rows)

    return Contender("bytes alone", run, ours.pid)


def write(run: Run) -> list[Result]:
    """5: durable writes beside `write` + `fsync`; on a memory file system beside Flight DoPut."""
    results: list[Result] = []
    shapes = ["numeric"] if run.small else ["numeric", "strings", "nested"]
    for shape in shapes:
        batches = corpus.make(shape, 65_536, run.table_bytes)
        for place, parent in (("disk", run.disk), ("memory", run.memory)):
            results += _write_case(run, parent, f"{shape}, {place}", batches)
    # What each batch costs beside its bytes: with large ones a millisecond for each is hardly seen.
    batches = corpus.make("numeric", 8_192, run.table_bytes // 4)
    return results + _write_case(run, run.memory, SMALL_WRITTEN, batches)


SMALL_WRITTEN = "batches of 8,192 rows, memory"


def _write_case(run: Run, parent: Path, case: str, batches: list[pa.RecordBatch]) -> list[Result]:
    rows = sum(batch.num_rows for batch in batches)
    with _folder(parent, "write") as folder, contextlib.ExitStack() as stack:
        table = tables.StoredTable(folder, "w", batches[0].schema, rows, batches)
        with fletching.connect(str(folder / "data"), project=tables.PROJECT, create=True):
            pass  # makes the project
        ours = stack.enter_context(server("fletching", folder=str(folder / "data")))
        contenders = [writing.fletching_write(ours, folder / "data", table)]
        if case != SMALL_WRITTEN:
            contenders += [
                writing.fletching_write(ours, folder / "data", table, streams=2),
                writing.write_fsync(folder, table),
            ]
        if parent == run.memory:
            rpc = stack.enter_context(server("flight", paths=[]))
            contenders.append(writing.flight_put(rpc, table))
        return compare("write", case, contenders, run.rounds)


def embedded(run: Run) -> list[Result]:
    """6: tables in this process: time to a usable table, and a sum over one column."""
    results: list[Result] = []
    sizes = [run.table_bytes // 8, run.table_bytes] if not run.small else [run.table_bytes]
    for size in sizes:
        with _folder(run.disk, f"embedded-{size}") as folder:
            batches = corpus.make("numeric", 65_536, size)
            table = tables.store(folder / "data", "t", batches)
            case = f"numeric, {table.bytes / 1e6:,.0f} MB"
            results += compare("embedded: table", case, _openers(table), run.rounds)
            results += compare("embedded: sum", case, _summers(folder, table), run.rounds)
    return results


def _openers(table: tables.StoredTable) -> list[Contender]:
    client = fletching.connect(str(table.folder), project=tables.PROJECT)
    handle = client.table("t")
    paths = [str(path) for path in table.segments]

    def ours(_started: float) -> Outcome:
        return Outcome(table.bytes, handle.to_table().num_rows)

    def plain(_started: float) -> Outcome:
        rows = 0
        for path in paths:
            rows += pa.ipc.open_file(pa.memory_map(path)).read_all().num_rows
        return Outcome(table.bytes, rows)

    return [
        Contender("fletching", ours, close=client.close),
        Contender("pyarrow, mapped file", plain),
    ]


def _summers(folder: Path, table: tables.StoredTable) -> list[Contender]:
    client = fletching.connect(str(table.folder), project=tables.PROJECT)
    handle = client.table("t")
    paths = [str(path) for path in table.segments]
    length = table.bytes // len(table.schema)

    def summed(batches: Any) -> Outcome:
        rows, total = 0, 0.0
        for batch in batches:
            total += pc.sum(batch.column(0)).as_py()
            rows += batch.num_rows
        assert total > 0
        return Outcome(length, rows)

    def summed_whole(found: pa.Table) -> Outcome:
        assert pc.sum(found.column(0)).as_py() > 0
        return Outcome(length, found.num_rows)

    def ours(_started: float) -> Outcome:
        return summed(handle.scan(columns=["f3"]).to_batches())

    def ours_whole(_started: float) -> Outcome:
        return summed_whole(handle.scan(columns=["f3"]).to_table())

    def plain(_started: float) -> Outcome:
        def batches() -> Iterator[pa.RecordBatch]:
            for path in paths:
                reader = pa.ipc.open_file(pa.memory_map(path))
                for number in range(reader.num_record_batches):
                    yield reader.get_batch(number).select(["f3"])

        return summed(batches())

    def plain_whole(_started: float) -> Outcome:
        readers = [pa.ipc.open_file(pa.memory_map(path)) for path in paths]
        parts = [reader.read_all().select(["f3"]) for reader in readers]
        return summed_whole(pa.concat_tables(parts))

    contenders = [
        Contender("fletching", ours),
        Contender("fletching, table", ours_whole, close=client.close),
        Contender("pyarrow, mapped file", plain),
        Contender("pyarrow, table", plain_whole),
    ]
    if _installed("lance"):
        import lance

        dataset = lance.dataset(str(table.lance(folder)))

        def rival(_started: float) -> Outcome:
            return summed(dataset.scanner(columns=["f3"]).to_batches())

        def rival_whole(_started: float) -> Outcome:
            return summed_whole(dataset.to_table(columns=["f3"]))

        contenders.append(Contender("Lance scan", rival))
        contenders.append(Contender("Lance table", rival_whole))
    return contenders


def sessions(run: Run) -> list[Result]:
    """7: first batch of 1,000 segments; opening a session on 100 and on very many segments."""
    results: list[Result] = []
    with _folder(run.disk, "sessions") as folder:
        count = 50 if run.small else 1000
        batches = corpus.make("numeric", 1000, 1000 * 1000 * 80)[:count]
        table = _many_segments(folder / "data", "t", batches)
        with contextlib.ExitStack() as stack:
            ours = stack.enter_context(server("fletching", folder=str(folder / "data")))
            paths = [str(path) for path in table.segments]
            rpc = stack.enter_context(server("flight", paths=paths))
            client = stack.enter_context(reading.connect(ours))
            handle = client.table("t")

            def first_batch(started: float) -> Outcome:
                scan = handle.scan().with_options(split_bytes=1 << 50, connections=1)
                batches = scan.to_batches()
                batch = next(iter(batches))
                seconds = time.perf_counter() - started
                batches.close()
                return Outcome(batch.nbytes, batch.num_rows, seconds)

            whole = reading.flight(rpc, table)
            flight_client = stack.enter_context(_flight_client(rpc))

            def first_of_flight(started: float) -> Outcome:
                return _first_of_flight(flight_client, started)

            # As a job begins: once, and after a pause, not in a loop that keeps everything warm.
            contenders = [
                Contender("fletching, new session", first_batch, ours.pid, _pause),
                Contender("Flight DoGet", first_of_flight, rpc.pid, _pause),
            ]
            case = f"{len(batches):,} segments of 1,000 rows"
            rounds = run.rounds if run.small else 5 * run.rounds
            results += compare("first batch", case, contenders, rounds)
            whole_read = [reading.fletching_http(ours, client, table), whole]
            results += compare("read", case, whole_read, run.rounds)
    for count in (100, 1_000 if run.small else 100_000):
        with _folder(run.disk, f"sessions-{count}") as folder:
            results += _open_sessions(run, folder, count)
    return results


def _pause() -> None:
    time.sleep(0.05)


def _flight_client(rpc: Any) -> Any:
    from pyarrow import flight

    return flight.connect(f"grpc://127.0.0.1:{rpc.ready['port']}")


def _first_of_flight(client: Any, started: float) -> Outcome:
    from pyarrow import flight

    reader = client.do_get(flight.Ticket(b"null"))
    batch = reader.read_chunk().data
    seconds = time.perf_counter() - started
    reader.cancel()
    return Outcome(batch.nbytes, batch.num_rows, seconds)


def _many_segments(folder: Path, name: str, batches: list[pa.RecordBatch]) -> tables.StoredTable:
    """A table with a segment per batch."""
    schema = batches[0].schema
    with fletching.connect(str(folder), project=tables.PROJECT, create=True) as client:
        table = client.create_table(name, schema)
        with table.write_session() as session:
            for number, batch in enumerate(batches):
                with session.writer(f"s{number:06}") as writer:
                    writer.write(batch)
    rows = sum(batch.num_rows for batch in batches)
    return tables.StoredTable(folder, name, schema, rows, batches)


def _open_sessions(run: Run, folder: Path, count: int) -> list[Result]:
    """Opening a read session on a table of ``count`` segments, whose catalog rows are made directly."""
    batch = corpus.make("numeric", 10, 1)[0]
    _many_segments(folder / "data", "t", [batch])
    _multiply_segments(folder / "data", count)
    with server("fletching", folder=str(folder / "data")) as ours, reading.connect(ours) as client:
        from fletching.protocol.messages.requests import SplitOptions

        handle = client.table("t")

        def run_(_started: float) -> Outcome:
            session = handle.scan()._session(SplitOptions())
            return Outcome(1, session.record_count)

        contender = Contender("open a session", run_, ours.pid)
        return compare("open a session", f"{count:,} segments", [contender], max(run.rounds, 9))


def _multiply_segments(folder: Path, count: int) -> None:
    """Lists the one segment of the table ``t`` ``count`` times: 100,000 files would measure the disk."""
    import sqlite3

    with contextlib.closing(sqlite3.connect(folder / "catalog.sqlite")) as connection:
        connection.row_factory = sqlite3.Row
        (row,) = connection.execute("select * from segments").fetchall()
        names = [name for name in row.keys() if name != "id"]  # noqa: SIM118  # a Row iterates over values
        holes = ", ".join("?" * len(names))

        def copy(number: int) -> list[Any]:
            values = dict(row)
            values["key"] = f"{row['key']}-{number}"
            values["position"] = row["position"] + number
            return [values[name] for name in names]

        made = [copy(number) for number in range(1, count)]
        connection.executemany(
            f"insert into segments ({', '.join(names)}) values ({holes})",  # names from the table itself
            made,
        )
        connection.execute(
            "update tables set rows = rows * ?, bytes = bytes * ?, segments = ?",
            (count, count, count),
        )
        connection.commit()


def server_cost(run: Run) -> list[Result]:
    """8: CPU per GB beside the raw socket's; memory from 1 to 16 GB and from 1 to 64 connections."""
    results: list[Result] = []
    with _folder(run.disk, "cost") as folder:
        batches = corpus.make("numeric", 65_536, run.table_bytes)
        table = tables.store(folder / "data", "t", batches)
        for total in (1, 2) if run.small else (1, 16):
            times = max(1, round(total * 1e9 / table.bytes)) if not run.small else total
            results += [
                _served(folder, table, times, connections)
                for connections in ((1, 4) if run.small else (1, 64))
            ]
    return results


def _served(folder: Path, table: tables.StoredTable, times: int, connections: int) -> Result:
    """Reads the table ``times`` times in all over so many connections at once; memory is the point."""
    import concurrent.futures

    with server("fletching", folder=str(folder / "data")) as ours, reading.connect(ours) as client:
        handle = client.table(table.name)
        (split,) = handle.scan().splits(split_bytes=1 << 50)
        # one small read, so that what the first request loads is not counted
        next(iter(handle.scan(limit=1).to_batches()))
        idle = anonymous_bytes(ours.pid)
        peak = idle
        before = cpu_seconds(ours.pid)
        started = time.perf_counter()

        def one(_number: int) -> int:
            return sum(batch.num_rows for batch in split.to_batches())

        rounds = max(times, connections)
        with concurrent.futures.ThreadPoolExecutor(connections) as pool:
            pending = {pool.submit(one, number) for number in range(rounds)}
            while pending:
                _, pending = concurrent.futures.wait(pending, timeout=0.02)
                peak = max(peak, anonymous_bytes(ours.pid))
        return Result(
            question="server memory",
            case=f"{rounds * table.bytes / 1e9:,.0f} GB, {connections} connections",
            name="fletching",
            bytes=rounds * table.bytes,
            rows=rounds * table.rows,
            seconds=[time.perf_counter() - started],
            first_seconds=[],
            client_cpu_seconds=0.0,
            server_cpu_seconds=cpu_seconds(ours.pid) - before,
            client_peak_bytes=0,
            server_peak_bytes=peak - idle,
        )


def blob(run: Run) -> list[Result]:
    """Block framing, one large upload, many small blobs in one call."""
    mebibytes = 16 if run.small else 256
    results = compare(
        "blob: CRC32C blocks",
        f"{mebibytes} MiB",
        blobs.block_contenders(mebibytes << 20, rival=_installed("odps")),
        run.rounds,
    )
    # On a memory file system: an upload is as durable as the disk is fast, which is measured above.
    with (
        _folder(run.memory, "blobs") as folder,
        blobs.open_blobs(folder) as (ours, client, table),
    ):
        contenders = blobs.upload_contenders(ours, table, mebibytes << 20)
        results += compare("blob: upload", f"{mebibytes} MiB", contenders, run.rounds)
        cases = [(500, 10_000, 100)] if run.small else [(10_000, 10_000, 1000), (256, 1 << 20, 64)]
        for count, length, singles in cases:
            contenders = blobs.many_contenders(ours, client, table, count, length, singles)
            case = f"{count:,} of {length:,} bytes"
            results += compare("blob: read", case, contenders, run.rounds)
    return results


def table_tunnel(run: Run) -> list[Result]:
    """Records beside PyODPS's compiled reader and writer; Arrow beside records, end to end."""
    if not _installed("odps"):
        return []
    # With fewer than the first, end to end shows what opening a session costs.
    rows = min(20_000 if run.small else 200_000, max(run.table_bytes // 2_000, 2_000))
    batch = tunnel.sales(rows)
    case = f"{rows:,} rows of {batch.num_columns} columns"
    results = compare("tunnel: codec", case, tunnel.codec_contenders(batch), run.rounds)
    with _folder(run.memory, "tunnel") as folder:
        table = tables.store(folder / "data", "sales", [batch])
        with server("fletching", folder=str(folder / "data")) as ours:
            reads = tunnel.reading_contenders(ours, table)
            results += compare("tunnel: read", case, reads, run.rounds)
            writes = tunnel.writing_contenders(ours, table)
            results += compare("tunnel: write", case, writes, run.rounds)
    return results


def statements(run: Run) -> list[Result]:
    """9: SQL statements over a stored table beside DuckDB over the same arrays in memory."""
    if not _installed("duckdb"):
        return []
    with _folder(run.disk, "statements") as folder:
        rows = max(run.table_bytes // 24, 1000)
        return querying.statements(folder / "data", rows, run.rounds)


def console_pages(run: Run) -> list[Result]:
    """Pages of the console over a table of ten million rows."""
    with _folder(run.disk, "pages") as folder:
        return pages.pages(folder / "data", 20_000 if run.small else 10_000_000, run.rounds)


def changing(run: Run) -> list[Result]:
    """What tables that change cost, beside what they cost when they do not."""
    rows = 20_000 if run.small else run.changed_rows
    results = changes.changes(
        run.disk / "changes", rounds=run.rounds, rows=rows, many=run.many or run.small
    )
    if run.before is not None:
        results += releases.compared(
            run.disk / "releases", run.before, rounds=run.rounds, rows=rows
        )
    return results


def by_default(run: Run) -> list[Result]:
    """The README's calls with their defaults, beside the raw socket, Flight and PyODPS; small calls."""
    results: list[Result] = []
    with _folder(run.disk, "defaults") as folder, contextlib.ExitStack() as stack:
        defaults.make_project(folder / "data")
        ours = stack.enter_context(server("fletching", folder=str(folder / "data")))
        table = defaults.store_by_append(ours, folder / "data", "mixed", run.table_bytes)
        joined = folder / "segments.bin"
        with joined.open("wb") as out:
            for segment in table.segments:
                with segment.open("rb") as source:
                    shutil.copyfileobj(source, out, 1 << 20)
        raw = stack.enter_context(server("socket", path=str(joined)))
        rpc = stack.enter_context(server("flight", paths=[str(each) for each in table.segments]))
        near = stack.enter_context(reading.connect(ours, direct="auto"))
        far = stack.enter_context(reading.connect(ours))
        contenders = [
            reading.raw_socket(raw, table),
            reading.raw_socket_kept(raw, table),
            reading.flight(rpc, table),
            *defaults.reading_contenders(ours, near, far, table),
        ]
        if _installed("odps"):
            contenders += [
                reading.pyodps(ours, table, max_batch_rows=0, name="PyODPS"),
                reading.pyodps(ours, table, max_batch_rows=4096, name="PyODPS, cut to 4,096"),
            ]
        results += compare("defaults", "numbers and text", contenders, run.rounds)
    # In memory, so that it is the calls that are measured: each append waits for three syncs.
    with _folder(run.memory, "small-calls") as folder:
        defaults.make_project(folder / "data")
        with (
            server("fletching", folder=str(folder / "data")) as ours,
            reading.connect(ours, direct="auto") as client,
        ):
            small = defaults.small_contenders(ours, client)
            results += compare("small calls", "in memory", small, run.rounds)
    return results


LINK_CHOICES: dict[str, dict[str, Any]] = {
    "default": {},
    "1 connection": {"connections": 1},
    "4 connections, 32 MiB": {"connections": 4, "split_bytes": 32 << 20},
    "8 connections, 16 MiB": {"connections": 8, "split_bytes": 16 << 20},
    "16 connections, 8 MiB": {"connections": 16, "split_bytes": 8 << 20},
}
"""Options of a scan."""

ONCE_THE_DEFAULT = "4 connections, 128 MiB"
"""Pieces as large as all that may be held, so that the connections mostly wait for each other. No option of
today gives such a scan: pieces are never larger than what each connection may hold."""


def links(run: Run) -> list[Result]:
    """A scan over a link of 10 Gbit/s with a delay: the defaults beside fixed numbers of connections."""
    results: list[Result] = []
    with _folder(run.disk, "links") as folder:
        batches = corpus.make("numeric", 65_536, run.table_bytes)
        table = tables.store(folder / "data", "t", batches)
        for milliseconds in (1, 20):
            with contextlib.ExitStack() as stack:
                ours = stack.enter_context(server("fletching", folder=str(table.folder)))
                link = stack.enter_context(
                    server(
                        "link",
                        port=int(ours.ready["url"].rpartition(":")[2]),
                        round_trip=milliseconds / 1e3,
                        bytes_per_second=1.25e9,
                    )
                )
                contenders = []
                for name, options in LINK_CHOICES.items():
                    client = stack.enter_context(reading.connect(link, **options))
                    scanned = functools.partial(_scanned, client.table(table.name), table)
                    contenders.append(Contender(name, scanned, ours.pid))
                once = functools.partial(_scanned_once, client.table(table.name), table)
                contenders.append(Contender(ONCE_THE_DEFAULT, once, ours.pid))
                case = f"10 Gbit/s, {milliseconds} ms"
                results += compare("links", case, contenders, run.rounds)
    return results


def _scanned(handle: Any, table: tables.StoredTable, _started: float) -> Outcome:
    return Outcome(table.bytes, sum(batch.num_rows for batch in handle.scan().to_batches()))


def _scanned_once(handle: Any, table: tables.StoredTable, _started: float) -> Outcome:
    """As a scan read with its defaults before they followed from the way to the service."""
    cancellation = Cancellation()
    splits = handle.scan().splits(split_bytes=128 << 20)
    batches = read_in_order(
        [functools.partial(split.scan_reader, cancellation) for split in splits],
        connections=4,
        read_ahead_bytes=128 << 20,
        cancellation=cancellation,
    )
    return Outcome(table.bytes, sum(batch.num_rows for batch in batches))


def arrow_messages(run: Run) -> list[Result]:
    """Arrow IPC by itself beside pyarrow; processor time counts."""
    results: list[Result] = []
    with _folder(run.memory, "ipc") as folder:
        for case, contenders in messages.cases(folder, 1000):
            results += compare("ipc", case, contenders, run.rounds)
    return results


def remote_objects(run: Run) -> list[Result]:
    """Objects in a bucket: by way of the server, past it, and from the server's cache."""
    if not _installed("obstore"):
        return []
    results: list[Result] = []
    with _folder(run.memory, "remote") as folder, contextlib.ExitStack() as stack:
        size = run.table_bytes // 4 if run.small else run.table_bytes
        places = stack.enter_context(remote.opened(folder, size))
        made = remote.contenders(places, stack)
        results += compare("remote", "10 columns of doubles", made, run.rounds)
        results += remote.requests(places, made)
    return results


def catalog_size(run: Run) -> list[Result]:
    """A catalog of many segments and partitions, in each database that is here."""
    segments, partitions = (5_000, 200) if run.small else (1_000_000, 10_000)
    results: list[Result] = []
    for name, place in bench_catalog.databases(small=run.small):
        with _folder(run.disk, f"catalog-{name}") as folder, place as url:
            case = f"{segments:,} segments, {partitions:,} partitions"
            results += bench_catalog.measured(str(folder), segments, partitions, url, name, case)
    return results


def in_engines(run: Run) -> list[Result]:
    """Each connector beside its engine's own readers; images for training in all forms."""
    size = run.table_bytes if run.small else run.table_bytes // 2
    folder = run.disk / "engines"
    results = engines.measured(folder / "tables", size, run.rounds, small=run.small)
    return results + training.measured(folder / "images", size, run.rounds, small=run.small)


def several_servers(run: Run) -> list[Result]:
    """One server and three over one data set, in PostgreSQL and a bucket."""
    if not _installed("obstore"):
        return []
    results: list[Result] = []
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(bench_catalog.postgresql())
        if url is None:
            return []
        folder = stack.enter_context(_folder(run.memory, "several"))
        size = run.table_bytes // 8
        places = stack.enter_context(several.opened(folder, url, size))
        made = several.contenders(places, stack)
        results += compare("several", "six clients", made, run.rounds)
    return results


QUESTIONS: dict[str, Question] = {
    "defaults": by_default,
    "read": read,
    "projection": projection,
    "compressed": compressed,
    "write": write,
    "embedded": embedded,
    "sessions": sessions,
    "server": server_cost,
    "blob": blob,
    "tunnel": table_tunnel,
    "statements": statements,
    "changes": changing,
    "remote": remote_objects,
    "catalog": catalog_size,
    "several": several_servers,
    "links": links,
    "ipc": arrow_messages,
    "engines": in_engines,
    "pages": console_pages,
}
