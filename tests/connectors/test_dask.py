"""Tables as Dask dataframes."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import fletching
from fletching.client import Client, Scan, Table
from fletching.errors import UsageError
from fletching.testing.contracts import ENGINE_ROWS, ConnectorContract, sorted_rows

dd = pytest.importorskip("dask.dataframe")
import dask  # noqa: E402  # after the skip
import pandas as pd  # noqa: E402

from fletching.connectors.dask import read_table, write_table  # noqa: E402

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture(autouse=True)
def _threads() -> Any:
    with dask.config.set(scheduler="threads", **{"dataframe.convert-string": False}):
        yield


def arrow(frame: Any, schema: pa.Schema) -> pa.Table:
    if not schema.names:
        # pyarrow counts columns' rows, and there are none; the index has them.
        return pa.table({"row": range(len(frame))}).select([])
    return pa.Table.from_pandas(frame, schema=schema, preserve_index=False)


class TestContract(ConnectorContract):
    def read(self, source: Table | Scan, columns: list[str] | None = None) -> pa.Table:
        scan = source.scan() if isinstance(source, Table) else source
        frame = read_table(source, npartitions=3)
        names = list(scan.schema.names if columns is None else columns)
        if columns is not None:
            frame = frame[columns]
        return arrow(frame.compute(), pa.schema([scan.schema.field(name) for name in names]))

    def count(self, source: Table | Scan) -> int:
        return len(read_table(source, npartitions=2))

    def write(self, data: pa.Table, table: Table, *, overwrite: bool) -> None:
        import pandas as pd

        frame = dd.from_pandas(data.to_pandas(types_mapper=pd.ArrowDtype), npartitions=2)
        write_table(frame, table, mode="overwrite" if overwrite else "append")


def test_the_snapshot_is_one(client: Client) -> None:
    table = TestContract().made(client)
    frame = read_table(table, npartitions=4)
    table.append(ENGINE_ROWS.slice(0, 2))
    assert len(frame) == 10
    assert len(read_table(table)) == 12


def test_only_wanted_columns_are_read(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    table = TestContract().made(client)
    read: list[Any] = []
    original = Scan.session

    def spy(self: Scan) -> Any:
        read.append(self.columns)
        return original(self)

    frame = read_table(table, npartitions=2)
    monkeypatch.setattr(Scan, "session", spy)
    assert frame["id"].sum().compute() == 45
    assert set(read) == {("id",)}


def test_the_same_frame_has_the_same_token(client: Client) -> None:
    table = TestContract().made(client)
    assert read_table(table, npartitions=2)._name == read_table(table, npartitions=2)._name
    first = read_table(table, npartitions=2)
    table.append(ENGINE_ROWS.slice(0, 1))
    assert read_table(table, npartitions=2)._name != first._name


def test_another_service_and_another_client_are_not_taken_for_it(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with fletching.connect(tmp_path / name, project="demo", create=True) as client:
            client.create_table("t", pa.table({"name": [name]}))
    kept = []
    for _ in range(2):
        for name in ("one", "two"):
            with fletching.connect(tmp_path / name, project="demo") as client:
                frame = read_table(client.table("t"))
                assert frame["name"].compute().tolist() == [name]
                kept.append(frame)  # as in a notebook: the client is closed, the frame is there


def test_one_failing_partition_changes_nothing(client: Client) -> None:
    table = TestContract().made(client)

    def broken(frame: Any) -> Any:
        if len(frame) and int(frame["id"].iloc[0]) > 3:
            raise RuntimeError("this partition fails")
        return frame

    frame = read_table(table, npartitions=3).map_partitions(broken, meta=read_table(table)._meta)
    with pytest.raises(RuntimeError, match="this partition fails"):
        write_table(frame, table, mode="overwrite")
    assert sorted_rows(table.to_table()) == sorted_rows(ENGINE_ROWS)


def test_workers_of_their_own(client: Client) -> None:
    distributed = pytest.importorskip("distributed")
    if not str(client.channel.reopen).startswith("http"):
        pytest.skip("a folder is for one host's processes; threads are proven above")
    table = TestContract().made(client)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True
        ) as cluster,
        distributed.Client(cluster),
        dask.config.set(scheduler=None),
    ):
        frame = read_table(table, npartitions=4)
        assert int(frame["id"].sum().compute()) == 45
        assert write_table(frame[frame["id"] < 5], table) == 5
    assert table.count_rows() == 15


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_driver_that_is_killed_can_be_run_again(
    http_client: Client, killed_driver: Any, moment: str
) -> None:
    table = TestContract().made(http_client)
    killed_driver(
        moment,
        "import dask\n"
        "from fletching.connectors.dask import read_table, write_table\n"
        "with dask.config.set(scheduler='threads'):\n"
        "    write_table(read_table(table, npartitions=2), table, idempotency_key='job')\n",
    )
    assert table.count_rows() == (10 if moment == "before" else 20)
    rows = dd.from_pandas(ENGINE_ROWS.to_pandas(types_mapper=pd.ArrowDtype), npartitions=3)
    write_table(rows, table, idempotency_key="job")
    assert table.count_rows() == 20


def dies_once(frame: Any, place: str) -> Any:
    """Ends its process, the first time that it is called with rows."""
    with contextlib.suppress(FileExistsError):
        if len(frame):
            os.close(os.open(place, os.O_CREAT | os.O_EXCL))
            os._exit(9)  # that is its name
    return frame


def test_killed_and_repeated_tasks_write_once(
    http_client: Client, open_sessions: Any, tmp_path: Path
) -> None:
    distributed = pytest.importorskip("distributed")
    table = TestContract().made(http_client)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True
        ) as cluster,
        distributed.Client(cluster),
        dask.config.set(scheduler=None),
    ):
        frame = read_table(table, npartitions=4)
        place = str(tmp_path / "died")
        mapped = frame.map_partitions(dies_once, place, meta=frame._meta)
        assert write_table(mapped, table) == 10
    assert (tmp_path / "died").exists()
    assert sorted_rows(table.to_table()) == sorted_rows(pa.concat_tables([ENGINE_ROWS] * 2))
    assert [name for name in open_sessions() if name.startswith("write")] == []


def test_refusals(client: Client) -> None:
    table = TestContract().made(client)
    with pytest.raises(UsageError, match="at least 1 partition"):
        read_table(table, npartitions=0)
    with pytest.raises(UsageError, match="append or overwrite"):
        write_table(read_table(table), table, mode="replace")
