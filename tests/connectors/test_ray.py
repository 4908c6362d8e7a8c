"""Tables in Ray Data, in a real Ray of two processes."""

from __future__ import annotations

import math
import operator
import random
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from tests.connectors.changed_tables import changed_table, random_scan

from fletching.client import Client, Scan, Table
from fletching.errors import UsageError
from fletching.testing.connector_contract import Change
from fletching.testing.contracts import ENGINE_ROWS, ConnectorContract, sorted_rows

ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")

from ray.data.expressions import col  # noqa: E402  # after the skip

from fletching.connectors.ray import TableDatasink, TableDatasource, read_table, write_table  # noqa: E402

pytestmark = [
    pytest.mark.engines,
    pytest.mark.filterwarnings("ignore"),  # Ray's own are many, and change with each release
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    for left in reversed(range(5)):
        try:
            ray.init(
                num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False,
                object_store_memory=100 << 20, _node_ip_address="127.0.0.1",
            )  # fmt: skip
        except Exception as error:  # Ray raises no other class
            # It waits thirty seconds for its own processes, whatever else the host does.
            if not left or "timed out during startup" not in str(error):
                raise
            ray.shutdown()
        else:
            break
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


def arrow(dataset: Any, schema: pa.Schema) -> pa.Table:
    tables = list(dataset.iter_batches(batch_format="pyarrow", batch_size=None))
    tables = [each.select(schema.names).cast(schema) for each in tables if each.num_rows]
    return pa.concat_tables(tables) if tables else schema.empty_table()


@pytest.fixture
def client(http_client: Client) -> Client:
    """Over HTTP only: Ray's workers are processes, which share no engine."""
    return http_client


class TestContract(ConnectorContract):
    def read(self, source: Table | Scan, columns: list[str] | None = None) -> pa.Table:
        scan = source.scan() if isinstance(source, Table) else source
        dataset = read_table(source, override_num_blocks=2)
        names = list(scan.schema.names if columns is None else columns)
        if columns is not None:
            dataset = dataset.select_columns(columns)
        return arrow(dataset, pa.schema([scan.schema.field(name) for name in names]))

    def count(self, source: Table | Scan) -> int:
        return int(read_table(source, override_num_blocks=2).count())

    def write(self, data: pa.Table, table: Table, *, overwrite: bool) -> None:
        dataset = ray.data.from_arrow([data.slice(0, 2), data.slice(2)])
        write_table(dataset, table, mode="overwrite" if overwrite else "append")

    repeats = True
    driver = (
        "import ray\n"
        "ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False,"
        " object_store_memory=100 << 20, _node_ip_address='127.0.0.1')\n"
        "from fletching.connectors.ray import read_table, write_table\n"
        "write_table(read_table(table), table, idempotency_key='job')\n"
    )

    def write_keyed(self, data: pa.Table, table: Table, key: str) -> None:
        dataset = ray.data.from_arrow([data.slice(0, 2), data.slice(2)])
        write_table(dataset, table, idempotency_key=key)

    def write_changed(self, data: pa.Table, table: Table, change: Change) -> None:
        dataset = ray.data.from_arrow([data.slice(0, 3), data.slice(3, 3), data.slice(6)])

        def changed(
            rows: pa.Table,
        ) -> pa.Table:  # Ray calls functions, and makes objects of classes
            return change(rows)

        write_table(dataset.map_batches(changed, batch_format="pyarrow"), table)

    def write_doubled(self, data: pa.Table, table: Table) -> None:
        sink = TableDatasink(table)
        run = ray.remote(TableDatasink.write)
        parts = [data.slice(0, 4), data.slice(4)]
        results = ray.get([run.remote(sink, [part], None) for part in parts for _ in range(2)])
        sink.on_write_complete(SimpleNamespace(write_returns=results[::2]))

    def where(self, source: Table, column: str, operator: str, value: Any) -> list[int]:
        given = col(column)
        compared: Any = given.is_null() if value is None else OPERATORS[operator](given, value)
        dataset = read_table(source, override_num_blocks=1).filter(expr=compared)
        return [row["id"] for row in dataset.select_columns(["id"]).take_all()]

    def where_of_first(self, source: Table, rows: int, column: str, value: float) -> list[int]:
        few = (
            read_table(source, override_num_blocks=1).limit(rows).filter(expr=col(column) >= value)
        )
        return [row["id"] for row in few.take_all()]

    def later(self, source: Table) -> Callable[[], pa.Table]:
        dataset = read_table(source, override_num_blocks=2)
        return lambda: pa.concat_tables(
            list(dataset.iter_batches(batch_format="pyarrow", batch_size=None))
        )

    def stop_early(self, source: Table) -> None:
        batches = read_table(source, override_num_blocks=4).iter_batches(batch_size=10)
        assert len(next(iter(batches))["id"]) == 10


OPERATORS = {
    ">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le, "==": operator.eq,
    "!=": operator.ne,
}  # fmt: skip


def test_a_condition_is_pushed_and_changes_no_answer(client: Client) -> None:
    table = TestContract().made(client)
    dataset = read_table(table, override_num_blocks=3).filter(expr=col("id") > 5)
    assert sorted(arrow(dataset, ENGINE_ROWS.schema)["id"].to_pylist()) == [6, 7, 8, 9]
    assert dataset.count() == 4
    narrow = read_table(table).filter(expr=(col("id") > 2) & (col("text") == "h"))
    assert [row["id"] for row in narrow.select_columns(["id"]).take_all()] == [7]


def test_sizes_and_tasks_come_from_the_session(client: Client) -> None:
    source = TableDatasource(TestContract().made(client).scan())
    assert source.estimate_inmemory_data_size()
    tasks = source.get_read_tasks(4)
    assert [task.metadata.num_rows for task in tasks] == [2, 3, 2, 3]
    assert len(source.get_read_tasks(100)) == 10


def test_the_snapshot_is_one(client: Client) -> None:
    table = TestContract().made(client)
    dataset = read_table(table, override_num_blocks=2)
    table.append(ENGINE_ROWS.slice(0, 2))
    assert dataset.count() == 10
    assert dataset.limit(3).count() == 3


def test_no_secret_travels(client: Client) -> None:
    source = TableDatasource(TestContract().made(client).scan(filter="id > 3"))
    for task in source.get_read_tasks(2):
        assert b"secret" not in ray.cloudpickle.dumps(task.read_fn)


def test_refusals(client: Client) -> None:
    table = TestContract().made(client)
    with pytest.raises(UsageError, match="append or overwrite"):
        write_table(ray.data.range(1), table, mode="create")
    with pytest.raises(UsageError, match="not to a str"):
        write_table(ray.data.range(1), "t")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="dataset of Ray is written, not a Table"):
        write_table(table, ray.data.range(1))
    with pytest.raises(UsageError, match="not a str"):
        read_table("t")  # type: ignore[arg-type]


LITERALS: dict[str, list[Any]] = {
    "i": [0, 1, -128], "big": [2**53 + 1, -(2**63), 0], "x": [0.0, -0.0, 0.1, math.nan, math.inf],
    "f": [0.5, -1.5], "s": ["", "a%", "O'B"], "b": [True], "later": [0.0, 0.5], "day": ["d1"],
    "bin": [b"", b"\x00\xff"],
}  # fmt: skip


def chosen(rand: random.Random, depth: int, names: list[str]) -> Any:
    """A random condition of Ray's."""
    if depth and rand.random() < 0.7:
        first = chosen(rand, depth - 1, names)
        if rand.random() < 0.3:
            return ~first
        second = chosen(rand, depth - 1, names)
        return first & second if rand.random() < 0.5 else first | second
    name = rand.choice(names)
    kind = rand.randrange(5)
    if kind == 0:
        return col(name).is_null()
    if kind == 1:
        return col(name).is_not_null()
    if kind == 2:
        return col(name).is_in(rand.sample(LITERALS[name], 1))
    return OPERATORS[rand.choice(list(OPERATORS))](col(name), rand.choice(LITERALS[name]))


@pytest.mark.parametrize("seed", range(2))
def test_random_conditions_columns_and_limits_are_answered_as_by_pyarrow(
    client: Client, seed: int
) -> None:
    rand = random.Random(f"{seed} {random.randrange(10**6)}")
    table, rows = changed_table(client, rand, "t")
    known = [name for name in LITERALS if name in rows.column_names]
    for _ in range(4):
        scan, expected = random_scan(rand, table, rows)
        dataset = read_table(scan, override_num_blocks=rand.randint(1, 3))
        if scan.limit is None and rand.random() < 0.8:
            condition = chosen(rand, 2, known)
            dataset = dataset.filter(expr=condition)
            expected = expected.filter(condition.to_pyarrow())
        columns = ["id", *rand.sample([name for name in rows.column_names if name != "id"], 2)]
        dataset = dataset.select_columns(columns)
        limits = [] if scan.limit is None else [scan.limit]
        if rand.random() < 0.3:
            limits.append(rand.randint(0, 10))
            dataset = dataset.limit(limits[-1])
        schema = pa.schema([rows.schema.field(name) for name in columns])
        result = sorted_rows(arrow(dataset, schema))
        whole = sorted_rows(expected.select(columns))
        # With a limit, any of the rows, each once.
        assert len(result) == min([len(whole), *limits]), (scan, columns, limits)
        assert set(result) <= set(whole), (scan, columns)
        assert len(set(result)) == len(result), (scan, columns)
