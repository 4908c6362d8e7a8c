"""Engines that read a table: through our connectors, beside their own Parquet and Lance readers.

Each reads the whole table into what its users go on with: a Polars frame, an Arrow table by DuckDB, pandas
with Arrow types by Dask, blocks of Ray, rows that Spark throws away. Parquet and Lance lie on the same disk,
as pyarrow and pylance write them by default, and are in the page cache as our segments are.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import corpus, reading, tables
from benchmarks.processes import server
from benchmarks.rounds import Contender, Outcome, Result, compare

__all__ = ["ENGINES", "measured"]

SHAPES = ("numeric", "strings")
BATCH_ROWS = 65_536


@dataclasses.dataclass(frozen=True)
class Places:
    """One table in all forms.

    Attributes:
        handle: of a client on the service's host, as `fletching.connect` makes it.
        sent: of a client that is sent what it reads, as from another host.
        parquet: the file.
        lance: the data set; None where Lance is not installed.
        url: of the service.
        pid: the service's process.
    """

    table: tables.StoredTable
    handle: Any
    sent: Any
    parquet: Path
    lance: Path | None
    url: str
    pid: int

    def contender(self, name: str, count: Callable[[], int]) -> Contender:
        """Reads by what returns the number of rows."""

        def run(_started: float) -> Outcome:
            return Outcome(self.table.bytes, count())

        return Contender(name, run, self.pid if name.startswith("fletching") else None)


def measured(folder: Path, table_bytes: int, rounds: int, *, small: bool) -> list[Result]:
    """Every engine that is installed, on tables of numbers and of texts.

    Args:
        folder: for the table's forms.
        table_bytes: about how large a table is.
        rounds: measured rounds per contender.
        small: one shape and no engine that has to be started.
    """
    results: list[Result] = []
    for name, (packages, opened) in ENGINES.items():
        absent = [each for each in packages if importlib.util.find_spec(each) is None]
        if name == "Spark" and shutil.which("java") is None and "JAVA_HOME" not in os.environ:
            absent.append("Java 17")
        if absent:
            print(f"{name} is not measured: without {', '.join(absent)}", file=sys.stderr)
            continue
        if small and name in {"Ray", "Spark"}:
            continue
        for shape in SHAPES[:1] if small else SHAPES:
            place = folder / f"{name}-{shape}"
            with _places(place, shape, table_bytes) as places, opened(places) as contenders:
                results += compare("engines", f"{name}, {shape}", contenders, rounds)
    return results


@contextlib.contextmanager
def _places(folder: Path, shape: str, table_bytes: int) -> Iterator[Places]:
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    try:
        table = tables.store(folder / "data", "t", corpus.make(shape, BATCH_ROWS, table_bytes))
        parquet = folder / "t.parquet"
        with pq.ParquetWriter(parquet, table.schema) as writer:
            for batch in table.batches:
                writer.write_batch(batch, row_group_size=1 << 20)
        lance = table.lance(folder) if importlib.util.find_spec("lance") else None
        with (
            server("fletching", folder=str(table.folder)) as ours,
            reading.connect(ours, direct="auto") as client,
            reading.connect(ours) as sent,
        ):
            handles = client.table("t"), sent.table("t")
            yield Places(table, *handles, parquet, lance, ours.ready["url"], ours.pid)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- engines ---------------------------------------------------------------------------------


@contextlib.contextmanager
def _polars(places: Places) -> Iterator[list[Contender]]:
    import polars as pl

    from fletching.connectors.polars import scan_table

    made = [
        places.contender("fletching", lambda: scan_table(places.handle).collect().height),
        places.contender("fletching, sent", lambda: scan_table(places.sent).collect().height),
        places.contender("Parquet", lambda: pl.scan_parquet(places.parquet).collect().height),
    ]
    if places.lance is not None:
        import lance

        data = lance.dataset(str(places.lance))
        made.append(
            places.contender("Lance", lambda: pl.scan_pyarrow_dataset(data).collect().height)
        )
    yield made


@contextlib.contextmanager
def _duckdb(places: Places) -> Iterator[list[Contender]]:
    import duckdb

    from fletching.connectors.duckdb import attach

    with duckdb.connect() as connection:
        attach(connection, places.handle, "near")
        attach(connection, places.sent, "sent")

        def rows(source: str) -> int:
            return int(connection.sql(f"SELECT * FROM {source}").to_arrow_table().num_rows)

        made = [
            places.contender("fletching", functools.partial(rows, "near")),
            places.contender("fletching, sent", functools.partial(rows, "sent")),
            places.contender("Parquet", functools.partial(rows, f"'{places.parquet}'")),
        ]
        if places.lance is not None:
            import lance

            connection.register("lance_rows", lance.dataset(str(places.lance)))
            made.append(places.contender("Lance", functools.partial(rows, "lance_rows")))
        yield made


@contextlib.contextmanager
def _dask(places: Places) -> Iterator[list[Contender]]:
    import dask
    import dask.dataframe as dd
    import pandas as pd

    from fletching.connectors.dask import read_table

    def rows(frame: Callable[[], Any], workers: int = 2) -> int:
        with dask.config.set(scheduler="threads", num_workers=workers):
            return len(frame().compute())

    ours = functools.partial(read_table, places.handle, npartitions=4)
    made = [
        places.contender("fletching", lambda: rows(lambda: read_table(places.handle))),
        places.contender("fletching, sent", lambda: rows(lambda: read_table(places.sent))),
        places.contender("fletching, 4 parts", lambda: rows(ours)),
        places.contender("fletching, 4 parts, 1 worker", lambda: rows(ours, 1)),
        places.contender(
            "Parquet",
            lambda: rows(lambda: dd.read_parquet(places.parquet, dtype_backend="pyarrow")),
        ),
    ]
    if places.lance is not None:
        import lance

        data = lance.dataset(str(places.lance))

        def fragment(number: int) -> Any:
            found = data.get_fragment(number).to_table()
            return found.to_pandas(types_mapper=pd.ArrowDtype)

        numbers = [each.fragment_id for each in data.get_fragments()]
        made.append(places.contender("Lance", lambda: rows(lambda: dd.from_map(fragment, numbers))))
    yield made


@contextlib.contextmanager
def _ray(places: Places) -> Iterator[list[Contender]]:
    import ray
    import ray.data

    from fletching.connectors.ray import read_table

    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False,
        object_store_memory=max(512 << 20, 4 * places.table.bytes), _node_ip_address="127.0.0.1",
    )  # fmt: skip
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False

    def rows(dataset: Any) -> int:
        return int(dataset.materialize().count())

    def ours(**options: Any) -> int:
        return rows(read_table(places.handle, **options))

    try:
        made = [
            places.contender("fletching", ours),
            places.contender("fletching, 4 parts", lambda: ours(override_num_blocks=4)),
            places.contender(
                "fletching, 4 parts, 1 worker", lambda: ours(override_num_blocks=4, concurrency=1)
            ),
            places.contender("Parquet", lambda: rows(ray.data.read_parquet(str(places.parquet)))),
        ]
        if places.lance is not None:
            made.append(
                places.contender("Lance", lambda: rows(ray.data.read_lance(str(places.lance))))
            )
        yield made
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _spark(places: Places) -> Iterator[list[Contender]]:
    import pyspark.sql

    from fletching.connectors.spark import register

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    session = (
        pyspark.sql.SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.sql.execution.pythonUDF.arrow.enabled", "true")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    register(session)

    def rows(frame: Any) -> int:
        # All columns reach the JVM and are thrown away there: Spark's own way to measure a source.
        frame.write.format("noop").mode("overwrite").save()
        return places.table.rows

    def ours(parts: int | None = None) -> int:
        reader = session.read.format("fletching").options(
            at=places.url, project=tables.PROJECT, accessId="bench", accessKey="bench-secret"
        )
        if parts is not None:
            reader = reader.option("numPartitions", str(parts))
        return rows(reader.load("t"))

    try:
        yield [
            places.contender("fletching", ours),
            places.contender("fletching, 2 parts", lambda: ours(2)),
            places.contender("fletching, 1 part", lambda: ours(1)),
            places.contender("Parquet", lambda: rows(session.read.parquet(str(places.parquet)))),
        ]
    finally:
        session.stop()


Opened = Callable[[Places], contextlib.AbstractContextManager[list[Contender]]]

ENGINES: dict[str, tuple[tuple[str, ...], Opened]] = {
    "Polars": (("polars",), _polars),
    "DuckDB": (("duckdb",), _duckdb),
    "Dask": (("dask", "pandas"), _dask),
    "Ray": (("ray", "pandas"), _ray),
    "Spark": (("pyspark", "pandas"), _spark),
}
"""The packages that each needs, and what gives its contenders."""
