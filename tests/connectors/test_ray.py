"""Tables in Ray Data, in a real Ray of two processes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fletching.client import Client, Scan, Table
from fletching.errors import UsageError
from fletching.testing.contracts import ENGINE_ROWS, ConnectorContract, sorted_rows

ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")

from ray.data.expressions import col  # noqa: E402  # after the skip

from fletching.connectors.ray import TableDatasource, read_table, write_table  # noqa: E402

pytestmark = [
    pytest.mark.engines,
    pytest.mark.filterwarnings("ignore"),  # Ray's own are many, and change with each release
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20,
        configure_logging=False, _node_ip_address="127.0.0.1",
    )  # fmt: skip
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


def test_a_failing_task_changes_nothing(client: Client) -> None:
    table = TestContract().made(client)

    def broken(batch: pa.Table) -> pa.Table:
        if 7 in batch["id"].to_pylist():
            raise RuntimeError("this task fails")
        return batch

    dataset = read_table(table, override_num_blocks=3).map_batches(broken, batch_format="pyarrow")
    with pytest.raises(Exception, match="this task fails"):
        write_table(dataset, table, mode="overwrite")
    assert sorted_rows(table.to_table()) == sorted_rows(ENGINE_ROWS)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_driver_that_is_killed_can_be_run_again(
    client: Client, killed_driver: Any, moment: str
) -> None:
    table = TestContract().made(client)
    killed_driver(
        moment,
        "import ray\n"
        "ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False,"
        " object_store_memory=100 << 20, _node_ip_address='127.0.0.1')\n"
        "from fletching.connectors.ray import read_table, write_table\n"
        "write_table(read_table(table), table, idempotency_key='job')\n",
    )
    assert table.count_rows() == (10 if moment == "before" else 20)
    write_table(ray.data.from_arrow(ENGINE_ROWS), table, idempotency_key="job")
    assert table.count_rows() == 20


def test_killed_and_repeated_tasks_write_once(
    client: Client, open_sessions: Any, tmp_path: Path
) -> None:
    table = TestContract().made(client)
    place = str(tmp_path / "died")

    def dies_once(batch: pa.Table) -> pa.Table:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(place, os.O_CREAT | os.O_EXCL))
            os._exit(9)  # that is its name
        return batch

    dataset = read_table(table, override_num_blocks=3)
    write_table(dataset.map_batches(dies_once, batch_format="pyarrow"), table)
    assert (tmp_path / "died").exists()
    assert sorted_rows(table.to_table()) == sorted_rows(pa.concat_tables([ENGINE_ROWS] * 2))
    assert [name for name in open_sessions() if name.startswith("write")] == []


def test_no_secret_travels(client: Client) -> None:
    source = TableDatasource(TestContract().made(client).scan(filter="id > 3"))
    for task in source.get_read_tasks(2):
        assert b"secret" not in ray.cloudpickle.dumps(task.read_fn)


def test_refusals(client: Client) -> None:
    table = TestContract().made(client)
    with pytest.raises(UsageError, match="append or overwrite"):
        write_table(ray.data.range(1), table, mode="create")
    with pytest.raises(UsageError, match="not a str"):
        read_table("t")  # type: ignore[arg-type]
