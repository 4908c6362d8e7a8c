"""The second wall: what DuckDB itself may not do, whatever text got to it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fletching.engine.query.query_limits import QueryLimits
from fletching.engine.query.sealed_connections import Connections
from fletching.engine.query.sealed_duckdb import SealedDuckDB
from fletching.errors import (
    CorruptObjectError,
    FletchingError,
    InvalidArgumentError,
    OperationCancelledError,
)

secret_table = pa.table({"leaked": [1]})  # DuckDB would find it by its name in a frame


@pytest.fixture
def duck(tmp_path: Path) -> Iterator[SealedDuckDB]:
    with opened(QueryLimits(), tmp_path / "spill") as result:
        yield result


@contextlib.contextmanager
def opened(limits: QueryLimits, folder: Path) -> Iterator[SealedDuckDB]:
    connections = Connections(limits, folder)
    try:
        with SealedDuckDB(limits, connections) as duck:
            yield duck
    finally:
        connections.close()


def run(duck: SealedDuckDB, sql: str) -> list[dict[str, Any]]:
    _, batches = duck.batches(duck.query(sql), 1000)
    return [row for batch in batches for row in batch.to_pylist()]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_blob('/etc/passwd')",
        "SELECT * FROM read_parquet('/tmp/x.parquet')",
        "SELECT * FROM read_json('/tmp/x.json')",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM sniff_csv('/etc/passwd')",
        "SELECT * FROM parquet_metadata('/tmp/x.parquet')",
        "SELECT * FROM read_csv('http://127.0.0.1:1/x.csv')",
        "SELECT * FROM read_parquet('s3://bucket/x')",
        "SELECT * FROM secret_table",
        "SELECT * FROM duckdb_secrets()",
        "COPY (SELECT 1) TO '/tmp/fletching-leak.csv'",
        "EXPORT DATABASE '/tmp/fletching-leak'",
        "IMPORT DATABASE '/tmp/fletching-leak'",
        "ATTACH '/tmp/fletching-leak.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "LOAD '/tmp/x.so'",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "SET memory_limit = '100GB'",
        "SET threads = 64",
        "SET temp_directory = '/tmp'",
        "SET python_enable_replacements = true",
        "SET python_scan_all_frames = true",
        "SET autoload_known_extensions = true",
        "RESET lock_configuration",
        "PRAGMA enable_profiling",
        "PRAGMA profile_output = '/tmp/fletching-leak'",
        "CREATE SECRET s (TYPE s3)",
        "CREATE PERSISTENT SECRET s (TYPE s3)",
        "SELECT getenv('HOME')",
    ],
)
def test_the_ways_out_are_closed(duck: SealedDuckDB, sql: str) -> None:
    with pytest.raises(FletchingError):
        run(duck, sql)
    assert list(Path("/tmp").glob("fletching-leak*")) == []
    assert run(duck, "SELECT 1 AS x") == [{"x": 1}]


def test_it_spills_within_its_bounds_and_leaves_nothing(tmp_path: Path) -> None:
    sql = "SELECT count(*) AS c FROM (SELECT DISTINCT hash(range) AS h FROM range({}))"
    limits = QueryLimits(memory_bytes=64 << 20, threads=2, spill_bytes=1 << 30)
    with opened(limits, tmp_path / "s") as duck:
        assert run(duck, sql.format(6_000_000)) == [{"c": 6_000_000}]
    limits = QueryLimits(memory_bytes=64 << 20, threads=2, spill_bytes=8 << 20)
    with (
        opened(limits, tmp_path / "s") as duck,
        pytest.raises(InvalidArgumentError, match="64 MiB of memory"),
    ):
        run(duck, sql.format(20_000_000))
    assert list((tmp_path / "s").iterdir()) == []


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT len(list(repeat('x', 100000))) FROM range(100000)",
        "SELECT strlen(array_to_string(list(repeat('x', 100000)), ',')) FROM range(5000)",
    ],
    ids=["collect_list", "wm_concat"],
)
def test_what_aggregates_collect_counts_as_memory(sql: str, tmp_path: Path) -> None:
    limits = QueryLimits(memory_bytes=64 << 20, threads=2, spill_bytes=8 << 20)
    with (
        opened(limits, tmp_path / "spill") as duck,
        pytest.raises(InvalidArgumentError, match="64 MiB of memory"),
    ):
        run(duck, sql)


def test_it_ends_when_its_time_is_up(tmp_path: Path) -> None:
    with (
        opened(QueryLimits(seconds=0.2), tmp_path) as duck,
        pytest.raises(InvalidArgumentError, match="longer than"),
    ):
        run(duck, "SELECT count(*) FROM range(1000000000) a, range(1000000000) b")


def test_it_is_interrupted_from_another_thread(duck: SealedDuckDB) -> None:
    timer = threading.Timer(0.2, duck.interrupt)
    timer.start()
    with pytest.raises(OperationCancelledError):
        run(duck, "SELECT count(*) FROM range(1000000000) a, range(1000000000) b")
    timer.join()
    assert 0.0 <= duck.progress <= 1.0


class Connection:
    """A connection that forgets interrupts, as DuckDB does between two steps of a statement."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.interrupts = 0
        self.enough = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)

    def interrupt(self) -> None:
        self.interrupts += 1
        if self.interrupts == 3:
            self.enough.set()


def test_an_interrupt_is_said_again_until_the_statement_ends(tmp_path: Path) -> None:
    with opened(QueryLimits(), tmp_path) as duck:
        forgetful = Connection(duck._connection)
        duck._connection = forgetful  # type: ignore[assignment]
        duck.interrupt()
        duck.interrupt()
        assert forgetful.enough.wait(600)
    interrupts = forgetful.interrupts
    duck.interrupt()
    assert forgetful.interrupts == interrupts


def test_a_relation_is_refused_once_it_is_interrupted(duck: SealedDuckDB) -> None:
    duck.interrupt()
    with pytest.raises(OperationCancelledError):
        duck.register("r", Rows())


class Rows:
    def __init__(self, error: Exception | None = None) -> None:
        self.opened = 0
        self.error = error

    def open(self) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        self.opened += 1
        schema = pa.schema([("n", pa.int64())])

        def batches() -> Iterator[pa.RecordBatch]:
            yield pa.record_batch([pa.array([1, 2])], schema)
            if self.error is not None:
                raise self.error

        return schema, batches()


def test_relations_are_read_anew_by_each_scan(duck: SealedDuckDB) -> None:
    rows = Rows()
    duck.register("r", rows)
    assert run(duck, "SELECT count(*) AS c FROM r AS a, r AS b") == [{"c": 4}]
    assert rows.opened >= 2


def test_what_reading_raises_is_what_the_query_raises(duck: SealedDuckDB) -> None:
    duck.register("r", Rows(CorruptObjectError("damaged", key="k")))
    with pytest.raises(CorruptObjectError, match="damaged"):
        run(duck, "SELECT sum(n) FROM r")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ('SELECT "b" FROM r', "there is no column b"),
        ("SELECT n, count(*) FROM r", "neither grouped by nor"),
        ("SELECT CAST('x' AS BIGINT)", "[Cc]onvert"),
        ("SELECT 9223372036854775807 + n FROM r", "Overflow"),
        ("SELECT * FROM nowhere", "nowhere"),
        ("SELEC 1", "cannot be parsed"),
    ],
)
def test_complaints_are_in_our_words(duck: SealedDuckDB, sql: str, message: str) -> None:
    duck.register("r", Rows())
    with pytest.raises(InvalidArgumentError, match=message) as caught:
        run(duck, sql)
    assert "Error:" not in caught.value.message
    assert "LINE" not in caught.value.message
