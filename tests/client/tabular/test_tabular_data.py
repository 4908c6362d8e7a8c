from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import nanoarrow as na
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fletching.client.tabular.tabular_data import (
    align_batch,
    aligned,
    batches_of,
    empty_batch,
    resized,
    with_constants,
)
from fletching.errors import UsageError
from fletching.protocol.types.blob_type import blob
from fletching.testing.strategies import record_batches, schemas

SCHEMA = pa.schema([("a", pa.int64()), ("b", pa.string())])
BATCH = pa.record_batch([[1, 2, 3], ["x", None, "z"]], schema=SCHEMA)
TABLE = pa.Table.from_batches([BATCH])


class OnlyStream:
    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return TABLE.__arrow_c_stream__(requested_schema)


class OnlyArray:
    def __arrow_c_array__(self, requested_schema: object = None) -> Any:
        return BATCH.__arrow_c_array__(requested_schema)


KINDS: list[tuple[str, Any]] = [
    ("record batch", BATCH),
    ("table", TABLE),
    ("reader", TABLE.to_reader()),
    ("c stream", OnlyStream()),
    ("c array", OnlyArray()),
    ("polars", pl.DataFrame(TABLE)),
    ("pandas", TABLE.to_pandas()),
    ("nanoarrow", na.ArrayStream(TABLE)),
    ("dataset", pyarrow.dataset.dataset(TABLE)),
    ("scanner", pyarrow.dataset.dataset(TABLE).scanner()),
    ("columns", {"a": [1, 2, 3], "b": ["x", None, "z"]}),
    ("columns of arrays", {"a": np.array([1, 2, 3]), "b": BATCH.column("b")}),
    ("rows", [{"a": 1, "b": "x"}, {"a": 2}, {"a": 3, "b": "z"}]),
    ("list of batches", [BATCH.slice(0, 1), BATCH.slice(1)]),
    ("generator of batches", (BATCH.slice(i, 1) for i in range(3))),
    ("tables of several kinds", iter([TABLE.slice(0, 1), pl.DataFrame(TABLE.slice(1))])),
    ("generator of rows", (row for row in TABLE.to_pylist())),
    ("generator of columns", iter([{"a": [1], "b": ["x"]}, {"a": [2, 3], "b": [None, "z"]}])),
    ("another order and case", pa.table({"B": ["x", None, "z"], "A": [1, 2, 3]})),
    ("other widths", TABLE.cast(pa.schema([("a", pa.int8()), ("b", pa.large_string())]))),
    (
        "dictionary",
        pa.table({"a": [1, 2, 3], "b": pa.array(["x", None, "z"]).dictionary_encode()}),
    ),
]


@pytest.mark.parametrize(("_", "data"), KINDS, ids=[name for name, _ in KINDS])
def test_every_kind_of_data_becomes_the_tables_batches(_: str, data: Any) -> None:
    stream = aligned(batches_of(data, SCHEMA), SCHEMA)
    assert stream.schema == SCHEMA
    assert pa.Table.from_batches(list(stream), SCHEMA) == TABLE


@pytest.mark.parametrize(
    "data", [BATCH, TABLE, TABLE.to_reader(), [BATCH]], ids=["batch", "table", "reader", "list"]
)
def test_arrow_data_is_not_copied(data: Any) -> None:
    (batch,) = aligned(batches_of(data, SCHEMA), SCHEMA)
    for mine, theirs in zip(batch.columns, BATCH.columns, strict=True):
        assert [b and b.address for b in mine.buffers()] == [
            b and b.address for b in theirs.buffers()
        ]


def test_a_batch_of_the_schema_is_passed_on_itself() -> None:
    assert align_batch(BATCH, SCHEMA) is BATCH
    assert align_batch(BATCH, SCHEMA.with_metadata({"k": "v"})) is BATCH


def test_iterables_are_read_one_item_at_a_time() -> None:
    given = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal given
        while True:
            given += 1
            yield BATCH

    stream = aligned(batches_of(batches()), SCHEMA)
    taken = iter(stream)
    for _ in range(5):
        next(taken)
    assert given <= 6


def test_python_values_take_the_tables_types() -> None:
    schema = pa.schema([("a", pa.int8()), ("t", pa.timestamp("ms")), ("l", pa.list_(pa.float32()))])
    moment = dt.datetime(2026, 1, 1)  # noqa: DTZ001  # the column has no zone either
    rows = [{"a": 1, "t": moment, "l": [1.5]}, {"a": None, "l": []}]
    expected = pa.Table.from_pylist(rows, schema)
    assert pa.Table.from_batches(list(batches_of(rows, schema)), schema) == expected
    assert pa.Table.from_batches(list(batches_of(iter(rows), schema)), schema) == expected


def test_a_pandas_index_is_kept_if_it_has_a_name() -> None:
    frame = pd.DataFrame({"b": ["x", "y"]}, index=pd.Index([5, 6], name="a"))
    assert pa.Table.from_batches(list(aligned(batches_of(frame), SCHEMA)))["a"].to_pylist() == [
        5,
        6,
    ]
    frame = pd.DataFrame({"a": [1, 2, 3], "b": list("xyz")})
    frame = frame[frame["a"] > 1]
    assert batches_of(frame).schema.names == ["a", "b"]


def test_long_pandas_frames_are_converted_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fletching.client.tabular.tabular_data.PANDAS_SLICE_ROWS", 2)
    stream = batches_of(pd.DataFrame({"a": [1, 2, 3, 4, 5]}))
    assert [batch.num_rows for batch in stream] == [2, 2, 1]


@pytest.mark.parametrize(
    "data",
    [5, "text", b"bytes", None, [1, 2], ["a"], [], iter([]), [(1, 2)], pa.array([1])],
    ids=lambda data: type(data).__name__,
)
def test_what_is_no_table_is_refused(data: Any) -> None:
    with pytest.raises(UsageError):
        list(batches_of(data))


def test_an_empty_iterable_has_the_tables_schema() -> None:
    stream = batches_of(iter([]), SCHEMA)
    assert stream.schema == SCHEMA
    assert list(stream) == []


REFUSED: list[tuple[Any, str]] = [
    (pa.table({"a": [1], "c": [2]}), "no column 'c'"),
    (pa.table({"a": ["no number"]}), "column 'a' is string"),
    (pa.table({"a": [1.5]}), "column 'a' is double"),
    (pa.table([[1], [2]], ["a", "A"]), "two columns named 'A'"),
    ([BATCH, pa.record_batch({"a": [True], "zz": [1]})], "no column 'zz'"),
    ({"a": [1, 2], "b": ["x"]}, "do not make a table"),
    ({"a": [object()]}, "do not make a table"),
    ([{"a": "x"}], "do not make a table"),
    (pd.DataFrame({"a": [object()]}), "no Arrow type"),
]


@pytest.mark.parametrize(("data", "text"), REFUSED, ids=[text for _, text in REFUSED])
def test_data_that_does_not_fit_is_refused_with_the_columns_name(data: Any, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        list(aligned(batches_of(data, SCHEMA), SCHEMA))


def test_a_stream_that_cannot_fit_is_refused_before_its_first_batch() -> None:
    reader = pa.RecordBatchReader.from_batches(pa.schema([("zz", pa.int64())]), iter(()))
    with pytest.raises(UsageError, match="no column 'zz'"):
        aligned(batches_of(reader), SCHEMA)


def test_required_columns() -> None:
    target = pa.schema([pa.field("a", pa.int64(), nullable=False), ("b", pa.string())])
    assert align_batch(BATCH, target).schema == target
    with pytest.raises(UsageError, match="'a' is missing and is not nullable"):
        align_batch(pa.record_batch({"b": ["x"]}), target)
    with pytest.raises(UsageError, match="'a' holds nulls"):
        align_batch(pa.record_batch({"a": pa.array([None], pa.int64())}), target)


def test_missing_columns_are_null() -> None:
    batch = align_batch(pa.record_batch({"a": [1, 2]}), SCHEMA)
    assert batch.column("b").null_count == 2


def test_extension_columns_take_their_storage_and_text() -> None:
    target = pa.schema([("image", blob())])
    expected = blob().wrap_array(pa.array([b"cmVm", None], pa.binary()))
    for given_array in (
        expected,
        expected.storage,
        pa.array(["cmVm", None]),
        pa.array(["cmVm", None], pa.large_string()),
        pa.array(["cmVm", None]).dictionary_encode(),
    ):
        batch = align_batch(pa.record_batch([given_array], ["image"]), target)
        assert batch.column(0) == expected
    assert align_batch(pa.record_batch([], []), target).schema == target
    plain = pa.schema([("image", pa.binary())])
    assert align_batch(pa.record_batch([expected], ["image"]), plain).column(0) == expected.storage


def test_run_end_encoded_columns_are_decoded() -> None:
    encoded = pa.RunEndEncodedArray.from_arrays([2, 3], ["x", "y"])
    batch = align_batch(pa.record_batch([encoded], ["b"]), pa.schema([("b", pa.string())]))
    assert batch.column(0).to_pylist() == ["x", "x", "y"]


@settings(deadline=None, max_examples=60)
@given(record_batches(max_rows=8), st.randoms(use_true_random=False))
def test_any_batch_keeps_its_values_in_another_order(batch: Any, random: Any) -> None:
    order = list(batch.schema.names)
    random.shuffle(order)
    shuffled = align_batch(batch.select(order), batch.schema)
    assert shuffled.equals(batch)


@settings(deadline=None, max_examples=60)
@given(schemas())
def test_any_schema_has_an_empty_batch(schema: pa.Schema) -> None:
    batch = empty_batch(schema)
    assert batch.num_rows == 0
    assert batch.schema == schema
    batch.validate(full=True)


@settings(deadline=None, max_examples=60)
@given(st.lists(record_batches(SCHEMA, max_rows=40), max_size=5), st.integers(1, 300))
def test_resizing_keeps_the_rows_and_their_memory(batches: list[Any], limit: int) -> None:
    parts = list(resized(iter(batches), limit))
    assert pa.Table.from_batches(parts, SCHEMA) == pa.Table.from_batches(batches, SCHEMA)
    assert all(part.num_rows for part in parts)
    for part in parts:
        # rows of equal length would fit; these differ, so a part may be as long as its rows make it
        assert part.num_rows == 1 or part.num_rows <= 40


def test_resizing_cuts_rows_of_equal_length_to_the_size() -> None:
    batch = pa.record_batch({"a": pa.array(range(1000), pa.int64())})
    parts = list(resized([batch], 800))
    assert [part.num_rows for part in parts] == [100] * 10
    assert parts[3].column(0).buffers()[1].address == batch.column(0).buffers()[1].address
    assert [part.num_rows for part in resized([batch], 1)] == [1] * 1000
    assert list(resized([batch], 8000)) == [batch]


def test_constants_are_added_where_they_are_missing() -> None:
    stream = with_constants(batches_of(BATCH), [("pt", "2026"), ("B", "not used")])
    table = pa.Table.from_batches(list(stream), stream.schema)
    assert table.column_names == ["a", "b", "pt"]
    assert table["pt"].to_pylist() == ["2026"] * 3
