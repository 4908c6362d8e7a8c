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
columns            the wanted columns, with commas between: Spark cannot tell a Python source
filter             a further SQL predicate, evaluated by the service
versionAsOf        a version's number, or a tag's name
readChangeFeed     ``true``: the rows that versions inserted and deleted, instead of a version's rows
startingVersion    with the change feed, and for streams: after this version
numPartitions      read tasks; one for each 64 MiB by default
idempotencyKey     of a write: a repetition with the same key changes nothing
=================  ==============================================================================

A streaming query reads what each new version inserted. To write one exactly once, use ``foreachBatch``
and the batch's number as `idempotencyKey` (docs/engines.md): a batch that Spark replays, also with
another partitioning, then changes nothing.

Conditions of queries are evaluated by Spark. (It can hand them to a Python source, but keeps what one
query pushed for later queries of the same frame that push nothing, in 4.3.0: rows went missing. The
option `filter` says what the service is to evaluate.) Unsigned columns become the next
wider type; times of day, unions, and decimals of more than 38 digits are refused by the column's name.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

import fletching
from fletching.client import Client, Scan, Table
from fletching.client.writing.write_session import WriteSession
from fletching.connectors.narrowing import missing, narrowed
from fletching.connectors.task_writes import CommitMessage, begin, write_attempt
from fletching.errors import FletchingError, UsageError

try:
    from pyspark.sql import SparkSession
    from pyspark.sql import datasource as spark
    from pyspark.sql.pandas.types import from_arrow_schema
    from pyspark.sql.types import StructType
except ImportError as error:
    raise missing("spark", error) from error

__all__ = ["FletchingDataSource", "register"]

PARTITION_BYTES = 64 << 20
"""About so many stored bytes make a read task, unless their number is given."""

_CONNECTION = ("at", "project", "schema", "accessid", "accesskey")
_OPTIONS = {
    *_CONNECTION,
    *("path", "columns", "filter", "versionasof", "readchangefeed", "startingversion"),
    *("numpartitions", "idempotencykey"),
}


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
        given = {name.lower(): value for name, value in dict(options).items()}
        unknown = sorted(set(given) - _OPTIONS)
        if unknown:
            raise UsageError(
                f"the format fletching has no option {', '.join(unknown)}; it has "
                f"{', '.join(sorted(_OPTIONS))}"
            )
        if not given.get("path"):
            raise UsageError('name the table: .load("table") or .save("table")')
        self._options = given

    def schema(self) -> StructType:
        """The columns of the scan, in Spark's types."""
        return from_arrow_schema(spark_schema(_scan(self._options).schema))

    def reader(self, schema: StructType) -> _Reader:
        """Reads one version, in ranges of its rows."""
        del schema
        return _Reader(self._options)

    def writer(self, schema: StructType, overwrite: bool) -> _Writer:
        """Writes in one commit."""
        del schema
        return _Writer(self._options, overwrite=overwrite)

    def streamReader(self, schema: StructType) -> _StreamReader:  # noqa: N802  # Spark's name
        """Reads what each version inserts."""
        del schema
        return _StreamReader(self._options)

    def streamWriter(self, schema: StructType, overwrite: bool) -> Any:  # noqa: ARG002, N802
        """Refuses: Spark gives a Python sink's tasks nothing that their batch could share.

        Raises:
            UsageError: always; it says what to do instead.
        """
        raise UsageError(
            "write a stream with foreachBatch, and the batch's number as option idempotencyKey: "
            "see docs/engines.md"
        )


def _client(options: Mapping[str, str]) -> Client:
    return fletching.connect(
        options.get("at"),
        options.get("project"),
        access_id=options.get("accessid"),
        access_key=options.get("accesskey"),
        schema=options.get("schema", "default"),
    )


def _table(options: Mapping[str, str]) -> Table:
    return _client(options).table(options["path"])


def _number(options: Mapping[str, str], name: str, default: int) -> int:
    text = options.get(name.lower())
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"{name} is a whole number, not {text!r}")
    return int(text)


def _scan(options: Mapping[str, str]) -> Scan:
    """The scan that the options say, at a version."""
    table = _table(options)
    columns = options.get("columns")
    chosen = (
        None if columns is None else [name.strip() for name in columns.split(",") if name.strip()]
    )
    if options.get("readchangefeed", "false").lower() == "true":
        since = _number(options, "startingVersion", 0)
        changes = table.changes(since=since)
        return narrowed(changes, chosen, options.get("filter"))
    version: Any = options.get("versionasof")
    if version is not None and version.isascii() and version.isdigit():
        version = int(version)
    return narrowed(table.scan(version=version), chosen, options.get("filter"))


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

    def __init__(self, options: Mapping[str, str]) -> None:
        scan = _scan(options)
        with scan.session() as session:
            self._rows, self._bytes = session.row_count, session.byte_size
            version = session.version
        # Changes name their versions themselves; rows are those of one version.
        self._scan = scan if scan.since is not None else dataclasses.replace(scan, version=version)
        self._schema = spark_schema(scan.schema)
        self._count = _number(options, "numPartitions", 0)

    def partitions(self) -> Sequence[_Range]:
        """Ranges of rows of about equal length."""
        count = self._count or max(1, -(-self._bytes // PARTITION_BYTES))
        bounds = [self._rows * part // count for part in range(count + 1)]
        return [_Range(start, end) for start, end in itertools.pairwise(bounds)]

    def read(self, partition: _Range) -> Iterator[pa.RecordBatch]:
        """The rows of a range, a batch at a time."""
        with self._scan.session() as session:
            for batch in session.rows(partition.start, partition.end).to_batches():
                yield batch.cast(self._schema)


class _StreamReader(spark.DataSourceStreamReader):  # type: ignore[misc]
    """Offsets are versions; a batch is what the versions between two of them inserted."""

    def __init__(self, options: Mapping[str, str]) -> None:
        self._options = dict(options)
        self._start = _number(options, "startingVersion", 0)
        self._feed = options.get("readchangefeed", "false").lower() == "true"

    def initialOffset(self) -> dict[str, int]:  # noqa: N802  # Spark's name
        """After which version a new query begins."""
        return {"version": self._start}

    def latestOffset(self, *_: object) -> dict[str, int]:  # noqa: N802
        """The newest version."""
        (newest,) = _table(self._options).versions(limit=1)
        return {"version": newest.version}

    def partitions(self, start: dict[str, int], end: dict[str, int]) -> Sequence[_Range]:
        """One task: a batch's rows keep the order of versions."""
        return [_Range(start["version"], end["version"])]

    def read(self, partition: _Range) -> Iterator[pa.RecordBatch]:
        """The rows that came after one version, up to another."""
        wanted = _scan(self._options).schema
        schema = spark_schema(wanted)
        changes = _table(self._options).changes(since=partition.start, until=partition.end)
        for batch in changes.to_batches():
            if not self._feed:
                kinds = batch.column("_change_type")
                if pc.any(pc.equal(kinds, "delete")).as_py():
                    raise UsageError(
                        "rows were deleted from the table that is streamed: read it with "
                        "readChangeFeed=true"
                    )
            yield batch.select(wanted.names).cast(schema)


class _Writer(spark.DataSourceArrowWriter):  # type: ignore[misc]
    """Opens a write session on the driver, writes a stream for each attempt, commits once; pickles."""

    def __init__(self, options: Mapping[str, str], *, overwrite: bool) -> None:
        self._key = options.get("idempotencykey")
        self._session: WriteSession = begin(_table(options), "overwrite" if overwrite else "append")

    def write(self, iterator: Iterator[pa.RecordBatch]) -> _Message:
        """Writes a task's rows, durable but not visible."""
        tables = (pa.Table.from_batches([batch]) for batch in iterator if batch.num_rows)
        return _Message(write_attempt(self._session, tables))

    def commit(self, messages: list[_Message | None]) -> None:
        """Makes the rows of the attempts that Spark kept visible."""
        kept = [each.message for each in messages if each is not None]
        self._session.commit(
            [(each.stream_id, each.version) for each in kept], idempotency_key=self._key
        )

    def abort(self, messages: list[_Message | None]) -> None:
        """Drops what was written; if that cannot be said now, the session expires by itself."""
        del messages
        try:
            self._session.abort()
        except FletchingError:
            return


@dataclasses.dataclass
class _Message(spark.WriterCommitMessage):  # type: ignore[misc]
    message: CommitMessage


# --- types --------------------------------------------------------------------------------------


def spark_schema(schema: pa.Schema) -> pa.Schema:
    """The schema with types that Spark has.

    Raises:
        UsageError: a column of a type that has no counterpart.
    """
    return pa.schema([field.with_type(_spark_type(field.type, field.name)) for field in schema])


_WIDER = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
    pa.float16(): pa.float32(),
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
    pa.date64(): pa.date32(),
    pa.null(): pa.string(),
}
_SAME = {
    *(pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64()),
    *(pa.string(), pa.binary(), pa.date32()),
}


def _spark_type(kind: pa.DataType, name: str) -> pa.DataType:
    types = pa.types
    if kind in _SAME:
        return kind
    if kind in _WIDER:
        return _WIDER[kind]
    if types.is_decimal(kind) and kind.precision <= 38 and kind.scale >= 0:
        return pa.decimal128(kind.precision, kind.scale)
    if types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    if types.is_duration(kind):
        return pa.duration("us")
    if types.is_fixed_size_binary(kind):
        return pa.binary()
    if types.is_dictionary(kind):
        return _spark_type(kind.value_type, name)
    if types.is_map(kind):
        return pa.map_(_spark_type(kind.key_type, name), _spark_type(kind.item_type, name))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_spark_type(kind.value_type, name)))
    if types.is_struct(kind):
        return pa.struct([each.with_type(_spark_type(each.type, name)) for each in kind])
    if isinstance(kind, pa.BaseExtensionType):
        return _spark_type(kind.storage_type, name)
    raise UsageError(f"Spark has no type for column {name} ({kind}): leave it out with columns=")
