"""Training loops: every row once, in any number of readers, before and after an interruption."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import pickle
import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.connectors.changed_tables import changed_table, random_condition
from tests.sql.random_predicates import evaluated

import fletching
from fletching.client import Client, Scan, Table
from fletching.client.blobs import blob_access, contents_reader
from fletching.connectors import reading_order
from fletching.errors import UsageError, VersionNotFoundError
from fletching.sql.predicates.predicate_compiler import compile_predicate
from fletching.testing.contracts import ConnectorContract
from fletching.testing.engine_rows import sql_of

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader  # noqa: E402  # after the skip

from fletching.connectors.torch import FletchingDataset  # noqa: E402

pytestmark = [
    pytest.mark.engines,
    # What PyTorch 2.4 says of itself whenever a tensor is unpickled.
    pytest.mark.filterwarnings("ignore:You are using `torch.load`:FutureWarning"),
]

ROWS = 1000


@pytest.fixture
def table(client: Client) -> Table:
    schema = pa.schema([("id", pa.int64()), ("x", pa.list_(pa.float32(), 2)), ("s", pa.string())])
    table = client.create_table("numbers", schema)
    for start in (0, 400):
        ids = range(start, 400 if start == 0 else ROWS)
        table.append(
            pa.table(
                {"id": ids, "x": [[n, n / 2] for n in ids], "s": [f"s{n}" for n in ids]},
                schema=schema,
            )
        )
    return table


def ids_of(batches: Any) -> list[int]:
    return [n for batch in batches for n in batch["id"].tolist()]


class TestContract(ConnectorContract):
    writes = False

    def read(self, source: Table | Scan, columns: list[str] | None = None) -> pa.Table:
        scan = source.scan() if isinstance(source, Table) else source
        if scan.limit is not None:
            with pytest.raises(UsageError, match="limit"):
                FletchingDataset(scan, 3)
            return scan.releasing().to_table()
        names = list(columns or scan.schema.names)
        fields = pa.schema([scan.schema.field(name) for name in names])
        plain = [
            f.name for f in fields if pa.types.is_integer(f.type) or pa.types.is_string(f.type)
        ]
        rows = scan.releasing().to_table().select(names)
        numbers = [name for name in plain if pa.types.is_integer(fields.field(name).type)]
        if rows.num_rows == 0 or any(rows[name].null_count for name in numbers):
            assert rows.num_rows == 0 or name_is_refused(scan, rows)
            return rows
        # Tensors have no decimals or nested values: the columns that are the same are compared.
        for batch in FletchingDataset(scan, 100, columns=plain):
            for name in plain:
                assert _values(batch[name]) == rows[name].to_pylist()
        return rows

    def count(self, source: Table | Scan) -> int:
        return sum(len(batch["id"]) for batch in FletchingDataset(source, 3, columns=["id"]))

    def where(self, source: Table, column: str, operator: str, value: Any) -> list[int]:
        condition = sql_of(column, operator, value)
        if isinstance(value, float):
            condition += "D"
        return ids_of(FletchingDataset(source, 3, columns=["id"], filter=condition))

    def stop_early(self, source: Table) -> None:
        batches = iter(FletchingDataset(source, 100, chunk_rows=128))
        assert len(next(batches)["id"]) == 100


def _values(column: Any) -> list[Any]:
    values: list[Any] = column.tolist() if isinstance(column, torch.Tensor) else column
    return values


def name_is_refused(scan: Scan, rows: pa.Table) -> bool:
    """Whether the column of numbers with nulls is named when it is refused."""
    with pytest.raises(UsageError, match="has nulls") as caught:
        list(FletchingDataset(scan, 3))
    return any(f"column {name} " in str(caught.value) for name in rows.column_names)


def test_columns_as_tensors(table: Table) -> None:
    batch = next(iter(FletchingDataset(table, 8)))
    assert batch["id"].dtype == torch.int64
    assert batch["x"].shape == (8, 2)
    assert batch["x"][3].tolist() == [3.0, 1.5]
    assert batch["s"][:2] == ["s0", "s1"]
    batch["id"] += 1  # memory of its own, or a copy: never the table's


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([True, False], pa.bool_(), [True, False]),
        ([1.5, None], pa.float32(), [1.5, "nan"]),
        ([dt.date(1970, 1, 3), dt.date(1969, 12, 31)], pa.date32(), [2, -1]),
        ([dt.datetime(1970, 1, 1, 0, 0, 1)], pa.timestamp("ms"), [1000]),  # noqa: DTZ001
        (["a", None], pa.string(), ["a", None]),
        ([b"\x00", None], pa.binary(), [b"\x00", None]),
        ([[1], None], pa.list_(pa.int64()), [[1], None]),
    ],
    ids=str,
)
def test_types(client: Client, values: list[Any], kind: pa.DataType, expected: list[Any]) -> None:
    data = pa.table({"v": pa.array(values, kind)})
    table = client.create_table("types", data.schema)
    table.append(data)
    (batch,) = FletchingDataset(table, 10)
    result = _values(batch["v"])
    assert ["nan" if each != each else each for each in result] == expected


def test_nulls_of_whole_numbers_are_refused_or_filled(client: Client) -> None:
    table = client.create_table("n", pa.schema([("v", pa.int64())]))
    table.append(pa.table({"v": [1, None]}))
    with pytest.raises(UsageError, match="column v has nulls"):
        list(FletchingDataset(table, 10))
    (batch,) = FletchingDataset(table, 10, fill_null={"v": -1})
    assert batch["v"].tolist() == [1, -1]


def test_rows_one_by_one(table: Table) -> None:
    rows = list(FletchingDataset(table, columns=["id", "s"]))
    assert [int(row["id"]) for row in rows] == list(range(ROWS))
    assert rows[5]["s"] == "s5"


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_every_row_once(table: Table, shuffle: bool, workers: int) -> None:
    dataset = FletchingDataset(table, 64, shuffle=shuffle, seed=1, columns=["id"], chunk_rows=10)
    loader = DataLoader(dataset, batch_size=None, num_workers=workers)
    first = ids_of(loader)
    assert sorted(first) == list(range(ROWS))
    if workers == 0:
        assert len(list(dataset)) == len(dataset)
        assert (first == list(range(ROWS))) is not shuffle
    assert ids_of(loader) == first
    dataset.set_epoch(1)
    again = ids_of(loader)
    assert sorted(again) == list(range(ROWS))
    assert (again != first) is shuffle


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than processors
@pytest.mark.parametrize("client", ["embedded"], indirect=True)
@pytest.mark.parametrize("workers", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("size", "world_size", "options"),
    [
        (None, 1, {}),
        (64, 1, {"shuffle": True}),
        (64, 1, {"drop_last": True}),
        (64, 3, {}),
        (30, 3, {"drop_last": True, "shuffle": True}),
        (999, 1, {}),
        (5000, 2, {"drop_last": True}),
    ],
    ids=str,
)
def test_a_loader_yields_as_many_as_its_length(
    table: Table, workers: int, size: int | None, world_size: int, options: dict[str, Any]
) -> None:
    read: list[int] = []
    for rank in range(world_size):
        dataset = FletchingDataset(
            table, size, columns=["id"], chunk_rows=10, rank=rank, world_size=world_size, **options
        )
        loader = DataLoader(dataset, batch_size=None, num_workers=workers)
        batches = [batch["id"].reshape(-1).tolist() for batch in loader]
        assert len(loader) == len(batches)
        if "drop_last" in options:
            assert [len(batch) for batch in batches] == [size] * (ROWS // world_size // (size or 1))
        read += itertools.chain(*batches)
    assert len(set(read)) == len(read)
    if "drop_last" not in options:
        assert sorted(read) == list(range(ROWS))


def test_ranks_share_the_rows(table: Table) -> None:
    def of(rank: int, **options: Any) -> list[int]:
        return ids_of(
            FletchingDataset(table, 7, columns=["id"], rank=rank, world_size=3, **options)
        )

    parts = [of(rank, shuffle=True, chunk_rows=10) for rank in range(3)]
    assert sorted(itertools.chain(*parts)) == list(range(ROWS))
    whole = [of(rank, drop_last=True) for rank in range(3)]
    assert {len(part) for part in whole} == {ROWS // 3 // 7 * 7}


def test_a_filter_decides_which_rows(table: Table) -> None:
    dataset = FletchingDataset(
        table, 16, columns=["id"], filter="id >= 500", shuffle=True,
        chunk_rows=10,
    )  # fmt: skip
    assert sorted(ids_of(dataset)) == list(range(500, ROWS))
    parts = [
        ids_of(
            FletchingDataset(table, 16, columns=["id"], filter="id < 300", rank=rank, world_size=2,
                             chunk_rows=10)
        )
        for rank in range(2)
    ]  # fmt: skip
    assert sorted(itertools.chain(*parts)) == list(range(300))
    with pytest.raises(TypeError, match="filter"):
        len(dataset)


@pytest.mark.parametrize("seed", range(6))
def test_random_conditions_and_columns_are_read_as_pyarrow_reads_them(
    client: Client, seed: int
) -> None:
    rand = random.Random(f"{seed} {random.randrange(10**6)}")
    table, rows = changed_table(client, rand, "t")
    fields = {field.name: field for field in rows.schema}
    for _ in range(10):
        text = random_condition(rand, table)
        answers = evaluated(rows, compile_predicate(text, fields).expression)
        expected = rows.filter(pa.array(answers, pa.bool_()))
        columns = ["id", *rand.sample(["x", "f", "s", "st", "bin", "later"], 2)]
        world_size = rand.randint(1, 2)
        options: dict[str, Any] = {
            "shuffle": rand.random() < 0.5,
            "chunk_rows": rand.choice([3, 50]),
        }
        read: dict[int, list[Any]] = {}
        for rank in range(world_size):
            dataset = FletchingDataset(
                table, 7, columns=columns, filter=text, rank=rank, world_size=world_size, **options
            )
            for batch in dataset:
                values = [_values(batch[name]) for name in columns]
                read |= {row[0]: list(row[1:]) for row in zip(*values, strict=True)}
        wanted = [_without_nulls(expected[name]) for name in columns]
        assert repr(sorted(read.items())) == repr(
            sorted((row[0], list(row[1:])) for row in zip(*wanted, strict=True))
        ), text


def _without_nulls(column: pa.ChunkedArray) -> list[Any]:
    """The column's values as tensors have them."""
    if pa.types.is_floating(column.type):
        column = column.fill_null(float("nan"))
    result: list[Any] = column.to_pylist()
    return result


@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"filter": "id < 900"}], ids=str)
@pytest.mark.parametrize("prefetch", [0, 2])
def test_resuming_to_the_row(table: Table, options: dict[str, Any], prefetch: int) -> None:
    def made() -> FletchingDataset:
        return FletchingDataset(
            table, 32, columns=["id"], chunk_rows=10, prefetch=prefetch, **options
        )

    whole = ids_of(made())
    dataset = made()
    reader = iter(dataset)
    read = ids_of(next(reader) for _ in range(5))
    state = json.loads(json.dumps(dataset.state_dict()))
    second = made()
    second.load_state_dict(state)
    resumed = iter(second)
    read += ids_of(next(resumed) for _ in range(5))
    third = made()
    third.load_state_dict(json.loads(json.dumps(second.state_dict())))
    assert read + ids_of(third) == whole


def test_resuming_with_another_number_of_readers(table: Table) -> None:
    def made(rank: int, world: int) -> FletchingDataset:
        return FletchingDataset(
            table, 16, columns=["id"], shuffle=True, chunk_rows=10, rank=rank, world_size=world
        )

    read: list[int] = []
    states = []
    for rank in range(3):
        dataset = made(rank, 3)
        reader = iter(dataset)
        read += ids_of(next(reader) for _ in range(4 + rank))
        states.append(json.loads(json.dumps(dataset.state_dict())))
    merged = FletchingDataset.merge_states(states)
    for rank in range(2):
        dataset = made(rank, 2)
        dataset.load_state_dict(merged)
        read += ids_of(dataset)
    assert sorted(read) == list(range(ROWS))


@pytest.mark.parametrize("client", ["embedded"], indirect=True)
@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("kept", [False, True])
def test_a_state_is_shared_by_a_loader_s_workers_for_one_epoch(
    table: Table, workers: int, kept: bool
) -> None:
    def made() -> FletchingDataset:
        return FletchingDataset(table, 32, columns=["id"], shuffle=True, chunk_rows=10)

    dataset = made()
    reader = iter(dataset)
    read = ids_of(next(reader) for _ in range(5))
    state = dataset.state_dict()
    for each in (state, FletchingDataset.merge_states([state])):
        resumed = made()
        resumed.load_state_dict(each)
        loader = DataLoader(
            resumed, batch_size=None, num_workers=workers, persistent_workers=kept and workers > 0
        )
        assert sorted(read + ids_of(loader)) == list(range(ROWS))
        for _ in range(2):
            assert sorted(ids_of(loader)) == list(range(ROWS))


def test_the_next_epoch_may_be_set_while_one_is_read(table: Table) -> None:
    dataset = FletchingDataset(table, 300, columns=["id"])
    reader = iter(dataset)
    first = next(reader)
    dataset.set_epoch(1)
    assert ids_of([first, *reader]) == list(range(ROWS))


@pytest.mark.parametrize("client", ["embedded"], indirect=True)
def test_workers_that_are_no_forks_know_their_rank(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = FletchingDataset(table, 100, columns=["id"])
    distributed = torch.distributed
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    loader = DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context="spawn")
    assert ids_of(loader) == list(range(ROWS // 2, ROWS))


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than processors
@pytest.mark.parametrize("client", ["embedded"], indirect=True)
@pytest.mark.parametrize(("before", "after"), [(0, 2), (3, 0), (2, 3)])
def test_a_stateful_loader_goes_on_with_another_number_of_workers(
    table: Table, before: int, after: int
) -> None:
    loading = pytest.importorskip("torchdata.stateful_dataloader")

    def loader(workers: int, state: Any = None, **options: Any) -> Any:
        dataset = FletchingDataset(table, 32, columns=["id"], shuffle=True, chunk_rows=10)
        if state is not None:
            dataset.load_state_dict(FletchingDataset.merge_states([state]))
        return loading.StatefulDataLoader(dataset, batch_size=None, num_workers=workers, **options)

    for batches in (1, 7):
        first = loader(before)
        reader = iter(first)
        read = ids_of(next(reader) for _ in range(batches))
        second = loader(after, {"loops": [first.state_dict()]})
        del reader
        assert sorted(read + ids_of(second)) == list(range(ROWS))
        assert sorted(ids_of(second)) == list(range(ROWS))
    if before:
        seldom = loader(before, snapshot_every_n_steps=3)
        reader = iter(seldom)
        read = ids_of(next(reader) for _ in range(4))
        with pytest.raises(UsageError, match="snapshot_every_n_steps=1"):
            FletchingDataset.merge_states([seldom.state_dict()])


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_state_of_the_end_of_an_epoch_goes_on_with_the_next(table: Table, workers: int) -> None:
    loading = pytest.importorskip("torchdata.stateful_dataloader")

    def loader() -> Any:
        dataset = FletchingDataset(table, 64, columns=["id"])
        return loading.StatefulDataLoader(dataset, batch_size=None, num_workers=workers)

    first = loader()
    assert len(ids_of(first)) == ROWS
    second = loader()
    second.load_state_dict(first.state_dict())
    assert sorted(ids_of(second)) == list(range(ROWS))


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
def test_a_stateful_loader_goes_on_in_its_workers(table: Table) -> None:
    loading = pytest.importorskip("torchdata.stateful_dataloader")

    def loader() -> Any:
        dataset = FletchingDataset(table, 32, columns=["id"], shuffle=True, chunk_rows=10)
        return loading.StatefulDataLoader(dataset, batch_size=None, num_workers=2)

    first = loader()
    reader = iter(first)
    read = ids_of(next(reader) for _ in range(7))
    state = first.state_dict()
    del reader
    second = loader()
    second.load_state_dict(state)
    assert sorted(read + ids_of(second)) == list(range(ROWS))


@pytest.mark.filterwarnings("ignore")  # Lightning's own
def test_lightning_trains_an_epoch_and_goes_on(table: Table, tmp_path: Path) -> None:
    lightning = pytest.importorskip("pytorch_lightning")

    class Model(lightning.LightningModule):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)
            self.seen: list[int] = []

        def training_step(self, batch: Any, _: int) -> Any:
            self.seen += batch["id"].tolist()
            return self.layer(batch["x"]).square().mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=1e-9)

    def trained(epochs: int) -> list[int]:
        dataset = FletchingDataset(table, 64, shuffle=True, seed=3)
        model = Model()
        trainer = lightning.Trainer(
            max_epochs=epochs, accelerator="cpu", devices=1, logger=False, default_root_dir=tmp_path,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(model, DataLoader(dataset, batch_size=None, num_workers=0))
        assert trainer.num_training_batches == len(dataset) == 16
        return model.seen

    assert sorted(trained(1)) == list(range(ROWS))
    assert sorted(trained(2)) == sorted([*range(ROWS), *range(ROWS)])


def test_training_goes_on_in_the_version_that_it_began_with(client: Client) -> None:
    """What became of the table meanwhile is another version, in whatever process it goes on."""
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), ("n", pa.int64())])
    table = client.create_table("trained", schema, primary_key=["id"])
    table.append({"id": list(range(300)), "n": [0] * 300})

    def made() -> FletchingDataset:
        return FletchingDataset(client.table("trained"), 16, shuffle=True, chunk_rows=10)

    whole = [batch["id"].tolist() for batch in made()]
    dataset = made()
    reader = iter(dataset)
    read = [next(reader)["id"].tolist() for _ in range(7)]
    state = json.loads(json.dumps(dataset.state_dict()))
    del reader
    dataset.close()
    table.upsert({"id": [3, 500], "n": [1, 1]})
    table.delete("id % 2 = 0")
    table.compact(purge=True)
    table.rename_column("n", "other")
    resumed = pickle.loads(pickle.dumps(made()))
    resumed.load_state_dict(state)
    for batch in resumed:
        read.append(batch["id"].tolist())
        assert not batch["n"].any()
    assert read == whole
    table.expire_versions(dt.timedelta())
    resumed.close()
    with pytest.raises(VersionNotFoundError):
        made().load_state_dict(state)


def test_a_state_of_something_else_is_refused(table: Table) -> None:
    state = FletchingDataset(table, 8, seed=1).state_dict()
    with pytest.raises(UsageError, match="seed 1, this dataset 2"):
        FletchingDataset(table, 8, seed=2).load_state_dict(state)
    state = FletchingDataset(table, 8, seed=1).state_dict() | {"snapshot": "session 7"}
    with pytest.raises(UsageError, match="snapshot"):
        FletchingDataset(table, 8, seed=1).load_state_dict(state)
    with pytest.raises(UsageError, match="no states"):
        FletchingDataset.merge_states([])


def test_blobs_are_fetched_and_decoded(client: Client) -> None:
    table = client.create_table(
        "images", pa.schema([("id", pa.int64()), ("image", fletching.blob())])
    )
    table.append({"id": list(range(20)), "image": [bytes([n] * 12) for n in range(19)] + [None]})

    def decode(data: bytes) -> Any:
        return torch.frombuffer(bytearray(data), dtype=torch.uint8).reshape(3, 2, 2)

    dataset = FletchingDataset(
        table, 8, decode={"image": decode}, shuffle=True, filter="id < 19", chunk_rows=4
    )
    for workers in (0, 2):
        for batch in DataLoader(dataset, batch_size=None, num_workers=workers):
            assert batch["image"].shape[1:] == (3, 2, 2)
            assert batch["image"][:, 0, 0, 0].tolist() == batch["id"].tolist()
    for options in ({}, {"collate_fn": dict}):  # the loader's own conversion, and none
        (batch,) = DataLoader(FletchingDataset(table, 20), batch_size=None, **options)
        assert isinstance(batch["id"], torch.Tensor)
        assert batch["image"] == [bytes([n] * 12) for n in range(19)] + [None]


def test_later_epochs_ask_for_no_blobs_until_the_dataset_is_closed(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = pa.schema([("id", pa.int64()), ("image", fletching.blob())])
    table = client.create_table("images", schema)
    images = [bytes([n]) * 20_000 for n in range(12)]
    table.append({"id": range(12), "image": images})
    asked: list[int] = []
    ahead = blob_access.contents_ahead

    def counted(channel: Any, project: str, column: pa.ChunkedArray, **options: Any) -> Any:
        asked.append(len(column))
        return ahead(channel, project, column, **options)

    monkeypatch.setattr(contents_reader, "contents_ahead", counted)
    dataset = FletchingDataset(table, batch_size=12, shuffle=True)
    for epoch in range(3):
        dataset.set_epoch(epoch)
        (batch,) = dataset
        assert batch["image"] == [images[n] for n in batch["id"].tolist()]
    assert asked == [12]
    assert dataset._snapshot.opened() is dataset._snapshot.opened()
    dataset.close()
    assert dataset._snapshot._reader is None


def test_leaving_early_ends_the_thread(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_order, "LEAST_SAVED", 0)
    reader = iter(FletchingDataset(table, 8, prefetch=2))
    next(reader)
    threads = [each for each in threading.enumerate() if each.name == "fletching-prefetch"]
    assert threads
    reader.close()  # type: ignore[attr-defined]
    for thread in threads:
        thread.join(600)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size is a whole number from 1 on"),
        ({"batch_size": "64"}, "not '64'"),
        ({"batch_size": 2.5}, "not 2.5"),
        ({"seed": None}, "seed is a whole number"),
        ({"seed": -1}, "not -1"),
        ({"prefetch": -1}, "prefetch"),
        ({"chunk_rows": 0}, "chunk_rows"),
        ({"block_rows": 0}, "block_rows"),
        ({"rank": -1, "world_size": 2}, "not -1"),
        ({"columns": "id"}, "list of names, not 'id'"),
        ({"decode": "image"}, "decode is a dict by name"),
        ({"decode": {"s": "jpeg"}}, "a function for s"),
        ({"fill_null": 0}, "fill_null is a dict by name"),
        ({"fill_null": {"s": "none"}}, "for columns of numbers; s is string"),
        ({"fill_null": {"id": "none"}}, "'none', which is no int64"),
        ({"fill_null": {"id": 0.5}}, "0.5, which is no int64"),
        ({"fill_null": {"id": None}}, "None, which is no int64"),
        ({"columns": []}, "choose at least one column"),
        ({"rank": 1}, "belong together"),
        ({"rank": 2, "world_size": 2}, "none of 2"),
        ({"decode": {"nothing": bytes}}, "not read"),
        ({"decode": {"s": bytes}}, "BLOB"),
        ({"chunk_rows": 10, "block_rows": 15}, "multiple"),
    ],
    ids=str,
)
def test_refusals(table: Table, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        list(FletchingDataset(table, **options))


@pytest.mark.parametrize("copied", [False, True])
def test_workers_that_are_kept_read_the_epoch_that_is_set(table: Table, copied: bool) -> None:
    dataset = FletchingDataset(table, 8, shuffle=True, seed=1, columns=["id"])
    if copied:
        original, dataset = dataset, pickle.loads(pickle.dumps(dataset))
        assert original.state_dict() == dataset.state_dict()
    loader = DataLoader(dataset, batch_size=None, num_workers=1, persistent_workers=True)
    orders = []
    for epoch in (0, 1, 1):
        dataset.set_epoch(epoch)
        orders.append(ids_of(loader))
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1] == orders[2]


def test_what_is_no_state_is_refused(table: Table) -> None:
    dataset = FletchingDataset(table, 8)
    state = dataset.state_dict()
    wrong: list[Any] = [None, [], {**state, "epoch": "first"}, {**state, "epoch": -1}]
    for each in wrong:
        with pytest.raises(UsageError, match="state"):
            dataset.load_state_dict(each)


def test_numbers_of_numpy_and_torch_count_too(table: Table) -> None:
    count: Any = np.int64(8)
    dataset = FletchingDataset(table, count, seed=torch.tensor(3), shuffle=True)
    dataset.set_epoch(count)
    assert json.loads(json.dumps(dataset.state_dict()))["seed"] == 3
    with pytest.raises(UsageError, match="epoch"):
        dataset.set_epoch(-1)
