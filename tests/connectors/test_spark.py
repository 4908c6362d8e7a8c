"""Tables in Spark, in a real Spark on this host."""

from __future__ import annotations

import dataclasses
import itertools
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.connectors.changed_tables import changed_table, random_condition

from fletching.client import Client, Scan, Table
from fletching.client.reading.planned_scan import plan
from fletching.errors import FletchingError, UsageError
from fletching.testing.connector_contract import Change
from fletching.testing.contracts import ENGINE_ROWS, ConnectorContract, sorted_rows
from fletching.testing.engine_rows import sql_of

pyspark = pytest.importorskip("pyspark", minversion="4.0")
if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
    pytest.skip("Spark needs Java 17, and there is none", allow_module_level=True)

from fletching.connectors import spark as spark_connector  # noqa: E402
from fletching.connectors.spark import FletchingDataSource, register, spark_schema  # noqa: E402
from fletching.connectors.spark_sinks import OpenEpochs  # noqa: E402

pytestmark = [
    pytest.mark.engines,
    pytest.mark.filterwarnings("ignore"),  # Spark's and py4j's own
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def session() -> Iterator[Any]:
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    session = (
        pyspark.sql.SparkSession.builder.master("local[2,4]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.sql.python.filterPushdown.enabled", "true")
        .getOrCreate()
    )
    register(session)
    yield session
    session.stop()


@pytest.fixture
def client(http_client: Client) -> Client:
    """Over HTTP only: Spark's workers are processes of their own."""
    return http_client


def options(table: Any) -> dict[str, str]:
    reopen: Any = table.channel.reopen
    return {
        "at": reopen.location, "project": "demo", "accessId": "id", "accessKey": "secret",
    }  # fmt: skip


class TestContract(ConnectorContract):
    @pytest.fixture(autouse=True)
    def _session(self, session: Any) -> None:
        self.session = session

    def frame(self, source: Table | Scan) -> Any:
        scan = source.scan() if isinstance(source, Table) else source
        reader = self.session.read.format("fletching").options(**options(scan.table))
        if scan.columns is not None:
            reader = reader.option("columns", ",".join(scan.columns))
        if scan.filter is not None:
            reader = reader.option("filter", scan.filter)
        if scan.partitions is not None:
            wanted = " AND ".join(f"{n} = '{v}'" for spec in scan.partitions for n, v in spec)
            reader = reader.option("filter", wanted)
        if scan.version is not None:
            reader = reader.option("versionAsOf", str(scan.version))
        frame = reader.option("numPartitions", "2").load(scan.table.name)
        return frame if scan.limit is None else frame.limit(scan.limit)

    def read(self, source: Table | Scan, columns: list[str] | None = None) -> pa.Table:
        scan = source.scan() if isinstance(source, Table) else source
        spark_schema(scan.schema)  # refuses by name before Spark wraps the refusal
        frame = self.frame(source)
        if columns is not None:
            frame = frame.select(*columns)
        # Wider types are Spark's; the contract compares values.
        result: pa.Table = frame.toArrow()
        return result

    def count(self, source: Table | Scan) -> int:
        return int(self.frame(source).count())

    def write(self, data: pa.Table, table: Table, *, overwrite: bool) -> None:
        frame = self.session.createDataFrame(data).repartition(2)
        writer = frame.write.format("fletching").options(**options(table))
        writer.mode("overwrite" if overwrite else "append").save(table.name)

    repeats = True
    # Spark commits in a further process of Python, which dies here, and its driver with it.
    driver = (
        "import tempfile\n"
        "place = tempfile.mkdtemp()\n"
        "with open(place + '/sitecustomize.py', 'w') as file:\n"
        "    file.write('import os\\n'\n"
        "        'from fletching.client.writing.write_session import WriteSession\\n'\n"
        "        'commit = WriteSession.commit\\n'\n"
        "        'def killed(self, *args, **options):\\n'\n"
        '        \'    if os.environ["MOMENT"] == "after":\\n\'\n'
        "        '        commit(self, *args, **options)\\n'\n"
        "        '    os._exit(9)\\n'\n"
        "        'WriteSession.commit = killed\\n')\n"
        "os.environ['MOMENT'] = sys.argv[1]\n"
        "os.environ['PYTHONPATH'] = place + os.pathsep + os.environ.get('PYTHONPATH', '')\n"
        "import pyspark.sql\n"
        "from fletching.connectors.spark import register\n"
        "session = pyspark.sql.SparkSession.builder.master('local[2]')"
        ".config('spark.ui.enabled', 'false').config('spark.driver.host', '127.0.0.1')"
        ".config('spark.sql.session.timeZone', 'UTC').getOrCreate()\n"
        "register(session)\n"
        "known = dict(at=sys.argv[2], project='demo', accessId='id', accessKey='secret')\n"
        "frame = session.read.format('fletching').options(**known).load('t')\n"
        "writer = frame.write.format('fletching').options(**known, idempotencyKey='job')\n"
        "try:\n"
        "    writer.mode('append').save('t')\n"
        "except Exception:\n"
        "    os._exit(9)\n"
    )

    def write_keyed(self, data: pa.Table, table: Table, key: str) -> None:
        frame = self.session.createDataFrame(data).repartition(3)
        writer = frame.write.format("fletching").options(**options(table), idempotencyKey=key)
        writer.mode("append").save(table.name)

    def write_changed(self, data: pa.Table, table: Table, change: Change) -> None:
        frame = self.session.createDataFrame(data).repartition(3)
        schema = data.schema

        def changed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                yield from change(pa.Table.from_batches([batch])).to_batches()

        assert schema.names == frame.columns
        writer = frame.mapInArrow(changed, frame.schema).write.format("fletching")
        writer.options(**options(table)).mode("append").save(table.name)

    def write_doubled(self, data: pa.Table, table: Table) -> None:
        source = FletchingDataSource({**options(table), "path": table.name})
        sink = source.writer(source.schema(), overwrite=False)
        parts = [data.slice(0, 4).to_batches(), data.slice(4).to_batches()]

        def written(number: int, _: Any) -> Iterator[Any]:
            yield sink.write(iter(parts[number // 2]))

        # Four tasks of which two are at the same rows, as where Spark begins a slow one again.
        context = self.session.sparkContext
        messages = context.parallelize(range(4), 4).mapPartitionsWithIndex(written).collect()
        sink.commit(messages[::2])

    def where(self, source: Table, column: str, operator: str, value: Any) -> list[int]:
        result = []
        for pushed in ("false", "true"):
            reader = self.session.read.format("fletching").options(**options(source))
            frame = reader.option("pushdown", pushed).load(source.name)
            condition = sql_of(column, operator, value)
            result.append(sorted(row.id for row in frame.where(condition).collect()))
        assert result[0] == result[1]
        return result[0]

    def later(self, source: Table) -> Callable[[], pa.Table]:
        reader = self.session.read.format("fletching").options(**options(source))
        frame = reader.load(source.name)
        return frame.toArrow

    def where_of_first(self, source: Table, rows: int, column: str, value: float) -> list[int]:
        reader = self.session.read.format("fletching").options(**options(source))
        frame = reader.option("pushdown", "true").option("numPartitions", "1").load(source.name)
        return [row.id for row in frame.limit(rows).where(f"{column} >= {value}").collect()]

    def stop_early(self, source: Table) -> None:
        assert len(self.frame(source).limit(10).collect()) == 10


CLUSTER = """
import os, sys
import pyspark
os.environ["SPARK_HOME"] = os.path.dirname(pyspark.__file__)  # the wheel has the scripts of executors
os.environ["PYSPARK_PYTHON"] = sys.executable
os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
from fletching.connectors.spark import register
session = (
    pyspark.sql.SparkSession.builder.master("local-cluster[2,1,1024]")
    .config("spark.ui.enabled", "false")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.executorEnv.PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    .getOrCreate()
)
register(session)
known = dict(at=sys.argv[1], project="demo", accessId="id", accessKey="secret")
frame = session.read.format("fletching").options(**known, numPartitions="4").load("t")
assert frame.count() == 10
frame.where("id < 6").write.format("fletching").options(**known).mode("append").save("copy")
session.stop()
"""


def test_a_cluster_of_processes_of_their_own(client: Client, open_sessions: Any) -> None:
    table = TestContract().made(client)
    copy = client.create_table("copy", ENGINE_ROWS.schema)
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            "import pyspark.sql\n" + CLUSTER,
            options(table)["at"],
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Before the table is read here, by a session that this client keeps.
    assert open_sessions() == []
    assert sorted_rows(copy.to_table()) == sorted_rows(ENGINE_ROWS.slice(0, 6))


def test_conditions_change_no_later_answer(session: Any, client: Client) -> None:
    table = TestContract().made(client)
    frame = session.read.format("fletching").options(**options(table)).load("t")
    frame.createOrReplaceTempView("t")
    plain = session.createDataFrame(ENGINE_ROWS)
    plain.createOrReplaceTempView("plain")
    for condition in (
        "id > 5",
        "text IN ('f', 'é') AND id < 9",
        "NOT text IN ('f')",
        "number > 2",
        "day >= DATE '2026-01-05'",
        "flag IS NULL",
        "text LIKE 'f%' OR id = 1",
        "true",
        "amount = 0.25",
    ):
        query = f"SELECT id FROM {{}} WHERE {condition} ORDER BY id"
        result = [row.id for row in session.sql(query.format("t")).collect()]
        assert result == [row.id for row in session.sql(query.format("plain")).collect()], condition
        assert result, condition
    few = session.read.format("fletching").options(**options(table), filter="id > 7").load("t")
    assert sorted(row.id for row in few.where("id < 9").collect()) == [8]


def test_versions_tags_and_changes(session: Any, client: Client) -> None:
    table = TestContract().made(client)
    before = table.versions(limit=1)[0].version
    table.create_tag("v1")
    table.delete("id < 3")

    def read(**more: str) -> Any:
        return session.read.format("fletching").options(**options(table), **more).load("t")

    assert read().count() == 7
    assert read(versionAsOf=str(before)).count() == 10
    assert read(versionAsOf="v1").count() == 10
    feed = read(readChangeFeed="true", startingVersion=str(before))
    assert sorted((r.id, r._change_type) for r in feed.collect()) == [
        (0, "delete"),
        (1, "delete"),
        (2, "delete"),
    ]


def test_a_write_with_the_same_key_changes_nothing(session: Any, client: Client) -> None:
    table = client.create_table("sink", ENGINE_ROWS.schema)
    frame = session.createDataFrame(ENGINE_ROWS)
    for parts in (1, 3):
        writer = frame.repartition(parts).write.format("fletching").options(**options(table))
        writer.option("idempotencyKey", "query-7").mode("append").save("sink")
    assert table.count_rows() == 10


def test_a_stream_of_versions_written_once(session: Any, client: Client, tmp_path: Path) -> None:
    source = client.create_table("source", ENGINE_ROWS.schema)
    sink = client.create_table("sink", ENGINE_ROWS.schema)
    source.append(ENGINE_ROWS.slice(0, 4))
    opts = options(source)

    def batch(frame: Any, number: int) -> None:
        writer = frame.write.format("fletching").options(**opts)
        writer.option("idempotencyKey", f"copy-{number}").mode("append").save("sink")

    def run() -> None:
        query = (
            session.readStream.format("fletching").options(**opts).load("source")
            .writeStream.foreachBatch(batch)
            .option("checkpointLocation", str(tmp_path / "checkpoint"))
            .trigger(availableNow=True).start()
        )  # fmt: skip
        query.awaitTermination()

    run()
    assert sorted_rows(sink.to_table()) == sorted_rows(ENGINE_ROWS.slice(0, 4))
    source.append(ENGINE_ROWS.slice(4))
    run()
    assert sorted_rows(sink.to_table()) == sorted_rows(ENGINE_ROWS)


def stream(session: Any, source: Any, sink: str, target: Path, **more: Any) -> Any:
    """A query that copies what there is and ends."""
    frame = session.readStream.format("fletching").options(**options(source)).load(source.name)
    for name, change in more.items():
        frame = change(frame) if name == "frame" else frame
    return (
        frame.writeStream.format("fletching").options(**options(source))
        .option("checkpointLocation", str(target))
        .outputMode(more.get("output_mode", "append"))
        .trigger(availableNow=True).start(sink)
    )  # fmt: skip


def test_a_streaming_sink_writes_each_epoch_once(
    session: Any, client: Client, tmp_path: Path
) -> None:
    source = client.create_table("source", ENGINE_ROWS.schema)
    sink = client.create_table("sink", ENGINE_ROWS.schema)
    target = tmp_path / "checkpoint"
    source.append(ENGINE_ROWS.slice(0, 4))
    stream(session, source, "sink", target).awaitTermination()
    source.append(ENGINE_ROWS.slice(4))
    stream(session, source, "sink", target).awaitTermination()
    assert sorted_rows(sink.to_table()) == sorted_rows(ENGINE_ROWS)
    version = sink.versions(limit=1)[0].version
    # As if the driver had died after our commit and before Spark noted its own: Spark writes the last
    # epoch again, here in other partitions.
    (last,) = [path for path in (target / "commits").iterdir() if path.name == "1"]
    last.unlink()
    (target / "commits" / ".1.crc").unlink()
    stream(session, source, "sink", target, frame=lambda f: f.repartition(3)).awaitTermination()
    assert sorted_rows(sink.to_table()) == sorted_rows(ENGINE_ROWS)
    assert sink.versions(limit=1)[0].version == version
    assert OpenEpochs(sink_options(source, "sink", target)).sessions() == []


def sink_options(source: Any, sink: str, target: Path) -> dict[str, str]:
    given = {**options(source), "path": sink, "checkpointLocation": str(target)}
    return {name.lower(): value for name, value in given.items()}


def test_a_streaming_sink_replaces_all_rows(session: Any, client: Client, tmp_path: Path) -> None:
    source = client.create_table("source", ENGINE_ROWS.schema)
    sink = client.create_table("counts", pa.schema([("flag", pa.bool_()), ("count", pa.int64())]))
    for start in (0, 5):
        source.append(ENGINE_ROWS.slice(start, 5))
        stream(
            session, source, "counts", tmp_path / "checkpoint",
            frame=lambda frame: frame.groupBy("flag").count(), output_mode="complete",
        ).awaitTermination()  # fmt: skip
    counted = ENGINE_ROWS.group_by("flag").aggregate([([], "count_all")])
    result = sorted(map(str, sink.to_table().to_pylist()))
    assert result == sorted(
        str({"flag": row["flag"], "count": row["count_all"]}) for row in counted.to_pylist()
    )


def test_a_failing_epoch_leaves_nothing(session: Any, client: Client, tmp_path: Path) -> None:
    source = client.create_table("source", ENGINE_ROWS.schema)
    sink = client.create_table("sink", ENGINE_ROWS.schema)
    source.append(ENGINE_ROWS)
    target = tmp_path / "checkpoint"
    fails = "if(id = 7, raise_error('this epoch fails'), id) AS id"
    query = stream(
        session, source, "sink", target, frame=lambda frame: frame.selectExpr(fails, "text")
    )
    with pytest.raises(Exception, match="this epoch fails"):
        query.awaitTermination()
    assert sink.count_rows() == 0
    assert OpenEpochs(sink_options(source, "sink", target)).sessions() == []
    # What a driver that died has left open is ended when its query goes on, and not before.
    left = sink.write_session()
    OpenEpochs(sink_options(source, "sink", target)).add(left.id)
    stream(session, source, "sink", target).awaitTermination()
    assert sorted_rows(sink.to_table()) == sorted_rows(ENGINE_ROWS)
    with pytest.raises(FletchingError):
        left.writer()


def test_conditions_are_pushed_where_that_is_asked_for(session: Any, client: Client) -> None:
    table = TestContract().made(client)
    session.createDataFrame(ENGINE_ROWS).createOrReplaceTempView("plain")
    for condition in (
        "id > 5",
        "text IN ('f', 'é') AND id < 9",
        "NOT text IN ('f')",
        "number > 2",
        "number <= 2",
        "day >= DATE '2026-01-05'",
        "flag IS NULL",
        "amount = 0.25",
        "point.x > 3",
        "text LIKE 'f%' OR id = 1",
    ):
        frame = session.read.format("fletching").options(**options(table), pushdown="true")
        result = sorted(row.id for row in frame.load("t").where(condition).collect())
        expected = session.sql(f"SELECT id FROM plain WHERE {condition} ORDER BY id").collect()
        assert result == [row.id for row in expected], condition


@pytest.mark.parametrize("seed", range(1))
def test_random_conditions_are_answered_as_over_rows_of_spark_s_own(
    session: Any, client: Client, seed: int
) -> None:
    rand = random.Random(f"{seed} {random.randrange(10**6)}")
    table, rows = changed_table(client, rand, "t", without=["u", "us", "ms"])
    plain = session.createDataFrame(rows)
    expected: list[Any] = []
    read = None
    for number in itertools.takewhile(lambda _: len(expected) < 4, itertools.count()):
        text = random_condition(rand, table, unknown=["u", "us", "ms", "DATETIME"])
        columns = rand.sample([name for name in rows.column_names if name != "id"], 3)
        chosen = ["id", f"{number} AS number", f"to_json(struct({', '.join(columns)})) AS chosen"]
        try:
            answer = plain.where(text).selectExpr(*chosen).collect()
        except pyspark.errors.PySparkException:
            continue  # values that Spark does not compare
        expected.append(answer)
        reader = session.read.format("fletching").options(**options(table))
        if rand.random() < 0.8:
            reader = reader.option("pushdown", "true")
        frame = reader.load("t").where(text).selectExpr(*chosen)
        read = frame if read is None else read.union(frame)  # one job for all
    assert read is not None
    wanted = [tuple(row) for answer in expected for row in answer]
    assert sorted(tuple(row) for row in read.collect()) == sorted(wanted)


@pytest.mark.parametrize(
    ("mebibytes", "tasks"), [(0, 1), (63, 1), (64, 2), (256, 2), (257, 3), (1024, 8)]
)
def test_tasks_are_as_large_as_those_of_files(
    client: Client, monkeypatch: pytest.MonkeyPatch, mebibytes: int, tasks: int
) -> None:
    table = TestContract().made(client)
    planned = dataclasses.replace(plan(table.scan()), byte_size=mebibytes << 20)
    monkeypatch.setattr(spark_connector, "plan", lambda _scan: planned)
    source = FletchingDataSource({**options(table), "path": "t"})
    assert len(source.reader(source.schema()).partitions()) == tasks


def test_partitions(session: Any, client: Client) -> None:
    table = client.create_table("p", "id BIGINT", partition_by=["day"])
    rows = session.createDataFrame(pa.table({"id": [1, 2, 3]}))
    for day in ("a", "b"):
        write = rows.write.format("fletching").options(**options(table))
        write.option("partition", f"day={day}").mode("append").save("p")
    reader = session.read.format("fletching").options(**options(table))
    assert reader.load("p").count() == 6
    assert reader.option("partition", "day=b").load("p").count() == 3


def test_refusals(client: Client) -> None:
    with pytest.raises(UsageError, match="no option where"):
        FletchingDataSource({"path": "t", "where": "x"})
    with pytest.raises(UsageError, match="name the table"):
        FletchingDataSource({})
    with pytest.raises(UsageError, match="true or false"):
        FletchingDataSource({"path": "t", "pushdown": "yes"}).reader(None)
    for kind in (pa.time64("us"), pa.decimal256(50, 2), pa.month_day_nano_interval()):
        with pytest.raises(UsageError, match="column odd"):
            spark_schema(pa.schema([("odd", kind)]))
