"""Tables in Spark 4: ``spark.read.format("fletching")`` and ``df.write.format("fletching")``.

Call `register` once per Spark session. Options have Spark's habit of spelling (``versionAsOf``); an
option that is not known is an error that lists the known ones.

=================  ==============================================================================
option             meaning
=================  ==============================================================================
at                 a service's URL, a profile's name, or a folder; else the environment's
project, schema    whose tables
accessId           names the access key; else the profile's or the environment's
accessKey          its secret; better left to the environment of driver and workers
path               the table, also the argument of ``load`` and ``save``
partition          of reads and writes: ``day=2026-01-01``, a partition or the leading part of several
columns            the wanted columns, with commas between: Spark cannot tell a Python source
filter             a further SQL predicate, evaluated by the service
pushdown           ``true``: conditions of the query go to the service first; for frames queried once
versionAsOf        a version's number, or a tag's name
readChangeFeed     ``true``: the rows that versions inserted and deleted, instead of a version's rows
startingVersion    with the change feed, and for streams: after this version
numPartitions      read tasks; by default one for each 128 MiB, and two from 64 MiB on
idempotencyKey     of a write: a repetition with the same key changes nothing
=================  ==============================================================================

A streaming query reads what each new version inserted, and writes each epoch in one commit, once: an epoch
that Spark writes again, also in other partitions, changes nothing. `idempotencyKey` names the query, which
has an id of its own in its checkpoint. With a `foreachBatch` of your own, give each batch a key.

Conditions of queries are evaluated by Spark, and with `pushdown` by the service first, so that less is
moved. Spark keeps what one query pushed for later queries of the same frame that push nothing (4.1 to 4.3),
whose rows would be missing: so it is for frames that are queried once, and needs
``spark.sql.python.filterPushdown.enabled``. The option `filter` says what the service is to evaluate
in any case. Unsigned columns become the next wider type; times of day, unions, and decimals of more than 38
digits are refused by the column's name.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from fletching.client import Scan
from fletching.client.reading.expressions import pushdown
from fletching.client.reading.planned_scan import PlannedScan, plan
from fletching.client.tabular.alignment import align_batch
from fletching.connectors.narrowing import missing, narrowed
from fletching.connectors.spark_options import (
    checked,
    number_of,
    scan_of_options,
    switch_of,
    table_of_options,
)
from fletching.connectors.spark_types import spark_schema
from fletching.errors import UsageError

if TYPE_CHECKING:
    from pyspark.sql.datasource import Filter

try:
    from pyspark.sql import SparkSession
    from pyspark.sql import datasource as spark
    from pyspark.sql.pandas.types import from_arrow_schema
    from pyspark.sql.types import StructType

    from fletching.connectors.spark_filters import spark_expression
    from fletching.connectors.spark_sinks import JobSink, StreamSink
except ImportError as error:
    raise missing("spark", error) from error

__all__ = ["FletchingDataSource", "register", "spark_schema"]

PARTITION_BYTES = 128 << 20
"""About so many stored bytes make a read task, unless their number is given: as of a file of Spark's own."""
LEAST_BYTES = 32 << 20
"""A task of fewer takes longer to start than to read them; two of so many are read beside each other."""


def register(session: SparkSession) -> None:
    """Makes the format ``fletching`` known to a Spark session."""
    session.dataSource.register(FletchingDataSource)


class FletchingDataSource(spark.DataSource):  # type: ignore[misc]  # Spark is not there to look at
    """The format ``fletching``; see the module."""

    @classmethod
    def name(cls) -> str:
        """The format's name."""
        return "fletching"

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__(options)
        self._options = checked(dict(options))

    def schema(self) -> StructType:
        """The columns of the scan, in Spark's types."""
        result = spark_schema(scan_of_options(self._options).schema)
        # Spark 4.0 makes moments in its session's zone of times without a zone unless it is told not to.
        return from_arrow_schema(result, prefer_timestamp_ntz=True)

    def reader(self, schema: StructType) -> _Reader:
        """Reads one version, in ranges of its rows."""
        kind = _PushingReader if switch_of(self._options, "pushdown") else _Reader
        return kind(self._options, schema.names)

    def writer(self, schema: StructType, overwrite: bool) -> Any:
        """Writes in one commit."""
        del schema
        return JobSink(self._options, overwrite=overwrite)

    def streamReader(self, schema: StructType) -> _StreamReader:  # noqa: N802  # Spark's name
        """Reads what each version inserts."""
        return _StreamReader(self._options, schema.names)

    def streamWriter(self, schema: StructType, overwrite: bool) -> Any:  # noqa: N802
        """Writes each epoch in one commit, once."""
        return StreamSink(self._options, schema, overwrite=overwrite)


def _scan_of(options: Mapping[str, str], names: Sequence[str]) -> Scan:
    """The scan with the columns that Spark was told, which the table may have more of by now."""
    scan = scan_of_options(options)
    return scan if scan.schema.names == list(names) else narrowed(scan, names)


@dataclasses.dataclass
class _Range(spark.InputPartition):  # type: ignore[misc]
    """Rows from `start` up to, and without, `end`."""

    start: int
    end: int

    def __init__(self, start: int, end: int) -> None:
        super().__init__((start, end))
        self.start, self.end = start, end


class _Reader(spark.DataSourceReader):  # type: ignore[misc]
    """Plans on the driver, reads in the workers; pickles."""

    def __init__(self, options: Mapping[str, str], names: Sequence[str]) -> None:
        self._count = number_of(options, "numPartitions", 0)
        self._scan: Scan | None = _scan_of(options, names)
        self._schema = spark_schema(self._scan.schema)
        self._plan: PlannedScan | None = None

    def partitions(self) -> Sequence[_Range]:
        """Ranges of rows of about equal length."""
        planned = self._planned()
        size = planned.byte_size
        count = self._count or max(1, min(2, size // LEAST_BYTES), -(-size // PARTITION_BYTES))
        bounds = [planned.row_count * part // count for part in range(count + 1)]
        return [_Range(start, end) for start, end in itertools.pairwise(bounds)]

    def read(self, partition: _Range) -> Iterator[pa.RecordBatch]:
        """The rows of a range, a batch at a time."""
        with self._planned().scan.session() as session:
            for batch in session.rows(partition.start, partition.end).to_batches():
                yield align_batch(batch, self._schema)

    def _planned(self) -> PlannedScan:
        if self._plan is None:
            assert self._scan is not None
            self._plan = plan(self._scan)
        return self._plan

    def __getstate__(self) -> dict[str, object]:
        # What tasks need is the plan, which has no secret; conditions have been pushed by then.
        self._planned()
        return self.__dict__ | {"_scan": None}


class _PushingReader(_Reader):
    """A reader that takes conditions, for frames that are queried once (see the option)."""

    def pushFilters(self, filters: list[Filter]) -> Iterator[Filter]:  # noqa: N802  # Spark's name
        """Takes what is surely understood into the scan; Spark evaluates all of it once more."""
        assert self._scan is not None
        for expression in map(spark_expression, filters):
            if expression is not None:
                pushed = pushdown(expression, self._scan.schema).pushed
                self._scan = narrowed(self._scan, None, pushed)
        yield from filters


class _StreamReader(spark.DataSourceStreamReader):  # type: ignore[misc]
    """Offsets are versions; a batch is what the versions between two of them inserted."""

    def __init__(self, options: Mapping[str, str], names: Sequence[str]) -> None:
        self._options = dict(options)
        self._names = list(names)
        self._start = number_of(options, "startingVersion", 0)
        self._feed = switch_of(options, "readChangeFeed")

    def initialOffset(self) -> dict[str, int]:  # noqa: N802  # Spark's name
        """After which version a new query begins."""
        return {"version": self._start}

    def latestOffset(self, *_: object) -> dict[str, int]:  # noqa: N802
        """The newest version."""
        (newest,) = table_of_options(self._options).versions(limit=1)
        return {"version": newest.version}

    def partitions(self, start: dict[str, int], end: dict[str, int]) -> Sequence[_Range]:
        """One task: a batch's rows keep the order of versions."""
        return [_Range(start["version"], end["version"])]

    def read(self, partition: _Range) -> Iterator[pa.RecordBatch]:
        """The rows that came after one version, up to another."""
        wanted = _scan_of(self._options, self._names).schema
        schema = spark_schema(wanted)
        changes = table_of_options(self._options).changes(
            since=partition.start, until=partition.end
        )
        for batch in changes.to_batches():
            if not self._feed:
                kinds = batch.column("_change_type")
                if pc.any(pc.equal(kinds, "delete")).as_py():
                    raise UsageError(
                        "rows were deleted from the table that is streamed: read it with "
                        "readChangeFeed=true"
                    )
            yield align_batch(batch.select(wanted.names), schema)
