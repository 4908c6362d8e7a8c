from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fletching.client.tabular import alignment
from fletching.client.tabular.alignment import (
    align_batch,
    aligned,
    empty_batch,
    resized,
    with_constants,
)
from fletching.client.tabular.tabular_data import batches_of
from fletching.errors import UsageError
from fletching.protocol.types.blob_type import blob
from fletching.testing.strategies import record_batches, schemas

SCHEMA = pa.schema([("a", pa.int64()), ("b", pa.string())])
BATCH = pa.record_batch([[1, 2, 3], ["x", None, "z"]], schema=SCHEMA)


def test_a_batch_of_the_schema_is_passed_on_itself() -> None:
    assert align_batch(BATCH, SCHEMA) is BATCH
    assert align_batch(BATCH, SCHEMA.with_metadata({"k": "v"})) is BATCH


REFUSED: list[tuple[Any, str]] = [
    (pa.table({"a": [1], "c": [2]}), "no column 'c'"),
    (pa.table({"a": ["no number"]}), "column 'a' is string"),
    (pa.table({"a": [1.5]}), "column 'a' is double"),
    (pa.table([[1], [2]], ["a", "A"]), "two columns named 'A'"),
    ([BATCH, pa.record_batch({"a": [True], "zz": [1]})], "no column 'zz'"),
    ({"a": [1, 2], "b": ["x"]}, "do not make a table"),
    ({"a": [object()]}, "'a' has a value of type object"),
    ([{"a": "x"}], "column 'a' is string"),
    (pd.DataFrame({"a": [object()]}), "value of type object, which is no int64"),
    (pd.DataFrame({"c": [object()]}), "value of type object, which is no value of the others"),
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
    with pytest.raises(UsageError, match="lacks column 'a', which is not nullable"):
        align_batch(pa.record_batch({"b": ["x"]}), target)
    with pytest.raises(UsageError, match="'a' has null"):
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
    target = pa.schema([*SCHEMA, ("pt", pa.string()), ("N", pa.int32())])
    given = [("pt", "2026"), ("B", "not used"), ("n", "7")]
    stream = with_constants(batches_of(BATCH), given, target)
    table = pa.Table.from_batches(list(stream), stream.schema)
    assert table.column_names == ["a", "b", "pt", "n"]
    assert table["pt"].to_pylist() == ["2026"] * 3
    assert aligned(with_constants(batches_of(BATCH), given, target), target).schema == target
    with pytest.raises(UsageError, match="'x' is no int32, the type of column 'n'"):
        with_constants(batches_of(BATCH), [("n", "x")], target)


def test_batches_too_large_for_the_tables_offsets_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "MAX_CONVERTED_BYTES", 1000)
    texts = ["x" * (10 * i) for i in range(40)]
    batch = pa.record_batch({"b": pa.array(texts, pa.large_string())})
    parts = list(aligned(batches_of(batch), SCHEMA))
    assert len(parts) > 4
    assert all(part.num_rows == 1 or part.nbytes <= 2000 for part in parts)
    assert pa.Table.from_batches(parts)["b"].to_pylist() == texts
    assert len(list(aligned(batches_of(BATCH), SCHEMA))) == 1


def test_batches_of_the_schema_are_looked_into_all_the_same() -> None:
    must = pa.field("m", pa.int64(), nullable=False)
    schema = pa.schema([("s", pa.struct([must]))])
    nulls = pa.StructArray.from_arrays([pa.array([None], pa.int64())], fields=[must])
    batch = pa.record_batch([nulls], schema=schema)
    for refused in (
        lambda: align_batch(batch, schema),
        lambda: list(aligned(batches_of(batch), schema)),
    ):
        with pytest.raises(UsageError, match=r"column 's\.m' has null"):
            refused()
