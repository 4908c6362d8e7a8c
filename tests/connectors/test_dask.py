"""Tables as Dask dataframes."""

from __future__ import annotations

import math
import operator
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.connectors.changed_tables import changed_table

import fletching
from fletching.client import Client, Scan, Table
from fletching.errors import UsageError
from fletching.testing.connector_contract import Change, DiesOnce
from fletching.testing.contracts import ENGINE_ROWS, ConnectorContract, sorted_rows

dd = pytest.importorskip("dask.dataframe")
import dask  # noqa: E402  # after the skip
import pandas as pd  # noqa: E402

from fletching.connectors.dask import _write_partition, read_table, write_table  # noqa: E402
from fletching.connectors.task_writes import begin, commit  # noqa: E402

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

    repeats = True
    driver = (
        "import dask\n"
        "from fletching.connectors.dask import read_table, write_table\n"
        "with dask.config.set(scheduler='threads'):\n"
        "    write_table(read_table(table, npartitions=2), table, idempotency_key='job')\n"
    )

    def write_keyed(self, data: pa.Table, table: Table, key: str) -> None:
        frame = dd.from_pandas(data.to_pandas(types_mapper=pd.ArrowDtype), npartitions=3)
        write_table(frame, table, idempotency_key=key)

    def write_changed(self, data: pa.Table, table: Table, change: Change) -> None:
        frame = dd.from_pandas(data.to_pandas(types_mapper=pd.ArrowDtype), npartitions=3)
        frame = frame.map_partitions(_changed, change, data.schema, meta=frame._meta)
        if not isinstance(change, DiesOnce):
            write_table(frame, table)
            return
        distributed = pytest.importorskip("distributed")
        if not hasattr(table.channel.transport, "endpoint"):
            pytest.skip("a folder is for one host's processes")
        with (
            distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True
            ) as cluster,
            distributed.Client(cluster),
            dask.config.set(scheduler=None),
        ):
            assert write_table(frame, table) == data.num_rows

    def write_doubled(self, data: pa.Table, table: Table) -> None:
        session = begin(table, "append")
        frames = [each.to_pandas(types_mapper=pd.ArrowDtype) for each in (data[:4], data[4:])]
        tasks = [dask.delayed(_write_partition)(each, session) for each in frames for _ in range(2)]
        commit(session, dask.compute(*tasks)[::2])

    def where(self, source: Table, column: str, operator: str, value: Any) -> list[int]:
        frame = read_table(source, npartitions=2)
        given = frame[column]
        chosen = given.isna() if value is None else OPERATORS[operator](given, value)
        result: list[int] = frame[chosen.fillna(False)]["id"].compute().tolist()
        return result

    def where_of_first(self, source: Table, rows: int, column: str, value: float) -> list[int]:
        few = read_table(source, npartitions=1).head(rows, compute=False)
        result: list[int] = few[(few[column] >= value).fillna(False)]["id"].compute().tolist()
        return result

    def later(self, source: Table) -> Callable[[], pa.Table]:
        frame = read_table(source, npartitions=2)
        return lambda: pa.Table.from_pandas(frame.compute(), preserve_index=False)

    def stop_early(self, source: Table) -> None:
        assert len(read_table(source, npartitions=4).head(10)) == 10


def _changed(frame: Any, change: Change, schema: pa.Schema) -> Any:
    rows = change(pa.Table.from_pandas(frame, schema=schema, preserve_index=False))
    return rows.to_pandas(types_mapper=pd.ArrowDtype)


OPERATORS = {
    ">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le, "==": operator.eq,
    "!=": operator.ne,
}  # fmt: skip


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


def test_no_columns_are_no_columns(client: Client) -> None:
    table = client.create_table("t", pa.schema([("id", pa.int64()), ("text", pa.string())]))
    table.append({"id": [1, 2, 3], "text": ["a", "b", "c"]})
    frame = read_table(table, npartitions=2)
    assert frame[[]].compute().shape == (3, 0)
    assert len(frame[[]]) == 3


def test_the_same_frame_has_the_same_token(client: Client) -> None:
    table = TestContract().made(client)
    assert read_table(table, npartitions=2)._name == read_table(table, npartitions=2)._name
    first = read_table(table, npartitions=2)
    table.append(ENGINE_ROWS.slice(0, 1))
    assert read_table(table, npartitions=2)._name != first._name


def test_views_in_lists_and_run_ends_are_read(client: Client) -> None:
    views = pa.array([["a" * 20, None], None], pa.list_(pa.string_view()))
    ends = pa.array(["a", "a"], pa.run_end_encoded(pa.int32(), pa.string()))
    rows = pa.table({"views": views, "ends": ends})
    table = client.create_table("odd", rows.schema)
    table.append(rows)
    schema = pa.schema([("views", pa.list_(pa.string())), ("ends", pa.string())])
    frame = read_table(table, npartitions=2).compute()
    assert sorted_rows(arrow(frame, schema)) == sorted_rows(rows)


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


def test_refusals(client: Client) -> None:
    table = TestContract().made(client)
    for count in (0, 2.5, "3", True):
        with pytest.raises(UsageError, match="npartitions is a whole number from 1 on"):
            read_table(table, npartitions=count)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not to a str"):
        write_table(read_table(table), "t")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="dataframe of Dask is written, not a Table"):
        write_table(table, read_table(table))
    with pytest.raises(UsageError, match="append or overwrite"):
        write_table(read_table(table), table, mode="replace")


def test_an_index_with_a_name_is_a_column(client: Client) -> None:
    table = client.create_table("sums", "id BIGINT, n BIGINT")
    frame = read_table(TestContract().made(client), npartitions=2)[["id"]].assign(n=1)
    assert write_table(frame.set_index("id"), table) == 10
    assert sorted(table.to_table()["id"].to_pylist()) == list(range(10))


LITERALS: dict[str, list[Any]] = {
    "i": [0, 1, -128], "big": [2**53 + 1, -(2**63), 0], "x": [0.0, -0.0, 0.1, math.nan, math.inf],
    "f": [0.5, -1.5], "s": ["", "a%", "O'B"], "b": [True], "later": [0.0, 0.5], "day": ["d1"],
}  # fmt: skip


def chosen(rand: random.Random, frame: Any, depth: int, names: list[str]) -> Any:
    """A random condition; the same random numbers make the same of a frame of pandas and one of Dask."""
    if depth and rand.random() < 0.7:
        kind = rand.randrange(3)
        first = chosen(rand, frame, depth - 1, names)
        if kind == 0:
            return ~first
        second = chosen(rand, frame, depth - 1, names)
        return first & second if kind == 1 else first | second
    name = rand.choice(names)
    column = frame[name]
    kind = rand.randrange(4)
    if kind == 0:
        return column.isna()
    if kind == 1:
        return column.isin(rand.sample(LITERALS[name], 1))
    return OPERATORS[rand.choice(list(OPERATORS))](column, rand.choice(LITERALS[name]))


@pytest.mark.parametrize("seed", range(6))
def test_random_conditions_and_columns_are_answered_as_by_pandas(client: Client, seed: int) -> None:
    rand = random.Random(f"{seed} {random.randrange(10**6)}")
    table, rows = changed_table(client, rand, "t")
    frame = read_table(table, npartitions=rand.randint(1, 3))
    whole = rows.to_pandas(types_mapper=pd.ArrowDtype)
    known = [name for name in LITERALS if name in rows.column_names]
    for _ in range(5):
        columns = ["id", *rand.sample([n for n in rows.column_names if n != "id"], 2)]
        draw = rand.random()
        both = []
        for each in (frame, whole):
            mask = chosen(random.Random(draw), each, 2, known).fillna(False)
            both.append(each[mask][columns])
        schema = pa.schema([rows.schema.field(name) for name in columns])
        assert sorted_rows(arrow(both[0].compute(), schema)) == sorted_rows(arrow(both[1], schema))
