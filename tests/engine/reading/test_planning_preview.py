"""Previews: the first rows in one batch, without a session."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from fletching.engine.reading import planning
from fletching.errors import InvalidArgumentError, NoSuchTableError
from fletching.ipc import lowlevel
from fletching.protocol.messages.requests import PreviewTable
from fletching.types import PartitionSpec, TableName

SCHEMA = pa.schema([("id", pa.int64()), ("when", pa.timestamp("us"))])
TABLE = TableName("demo", "events")


def batch(start: int, rows: int) -> pa.RecordBatch:
    numbers = pa.array(range(start, start + rows), pa.int64())
    return pa.record_batch({"id": numbers, "when": numbers.cast(pa.timestamp("us"))})


@pytest.fixture
def filled(shelf: Any) -> Any:
    shelf.create(SCHEMA, [("day", "string")])
    shelf.add([batch(0, 10), batch(10, 10)], ["mon"])
    shelf.add(batch(20, 10), ["tue"])
    return shelf


def read(shelf: Any, **request: Any) -> list[pa.RecordBatch]:
    plan = shelf.reading.preview(PreviewTable(table=TABLE, **request))
    sent = b"".join(map(bytes, plan.buffers()))
    with pa.ipc.open_stream(sent) as reader:
        assert reader.schema.equals(plan.schema)
        batches = list(reader)
    assert sum(b.num_rows for b in batches) == plan.rows
    assert pa.Table.from_batches(plan.batches(), plan.schema) == pa.Table.from_batches(
        batches, plan.schema
    )
    return batches


def test_the_limit_is_met_in_the_first_batch(filled: Any) -> None:
    (first,) = read(filled, limit=15)
    assert first.column("id").to_pylist() == list(range(15))
    assert first.schema.names == ["id", "when", "day"]
    assert first.schema.field("when").type == pa.timestamp("ns")
    (first,) = read(filled, limit=15, verbatim_types=True)
    assert first.schema.field("when").type == pa.timestamp("us")


def test_without_a_limit_all_of_a_small_table_comes(filled: Any) -> None:
    (first,) = read(filled)
    assert first.num_rows == 30


def test_columns_come_in_the_order_asked_for(filled: Any) -> None:
    (first,) = read(filled, limit=2, columns=("day", "ID"))
    assert first.to_pydict() == {"day": ["mon"] * 2, "id": [0, 1]}


def test_a_partition_or_a_prefix_narrows(filled: Any) -> None:
    (first,) = read(filled, partition=PartitionSpec.parse("day=tue"))
    assert first.column("id").to_pylist() == list(range(20, 30))
    assert read(filled, partition=PartitionSpec.parse("day=wed")) == []


def test_nothing_is_a_whole_stream(filled: Any, shelf: Any) -> None:
    assert read(filled, limit=0) == []


def test_large_and_dictionary_encoded_rows_stay_in_their_batches(
    filled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "MAX_COMBINED_BYTES", 100)
    assert [b.num_rows for b in read(filled, limit=15)] == [10, 5]


def test_dictionaries_are_previewed(shelf: Any) -> None:
    column = pa.array(["a", "b", "a"]).dictionary_encode()
    shelf.create(pa.schema([("d", column.type)]))
    shelf.add(pa.record_batch({"d": column}))
    shelf.add(pa.record_batch({"d": pa.array(["c"]).dictionary_encode()}))
    batches = read(shelf, verbatim_types=True)
    assert [value for b in batches for value in b.column("d").to_pylist()] == ["a", "b", "a", "c"]
    (only,) = read(shelf)
    assert only.column("d") == pa.array(["a", "b", "a", "c"])


@pytest.mark.parametrize(
    "request_",
    [
        {"limit": -1},
        {"limit": 10_001},
        {"columns": ("nope",)},
        {"columns": ("id", "id")},
        {"partition": PartitionSpec.parse("nope=1")},
    ],
)
def test_what_means_nothing_is_refused(filled: Any, request_: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        read(filled, **request_)


def test_an_unknown_table_is_refused(filled: Any) -> None:
    with pytest.raises(NoSuchTableError):
        filled.reading.preview(PreviewTable(table=TableName("demo", "nope")))


def test_the_end_is_marked(filled: Any) -> None:
    plan = filled.reading.preview(PreviewTable(table=TABLE, limit=3))
    assert b"".join(map(bytes, plan.buffers())).endswith(lowlevel.END_OF_STREAM)
