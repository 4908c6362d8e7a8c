"""Data of changes: chosen columns, keys that are to go, plain values."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Iterator
from typing import Any, cast

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from fletching.client.change_data import deleting, one_row, only_columns, whole_rows
from fletching.errors import UsageError

SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string()), ("price", pa.decimal128(10, 2))])


def test_columns_are_chosen_by_name_in_any_case() -> None:
    data = {"extra": [0, 0], "NAME": ["a", "b"], "Id": [1, 2]}
    stream = only_columns(pa.table(data), pa.schema([SCHEMA.field(0), SCHEMA.field(1)]))
    result = pa.Table.from_batches(list(stream.batches), stream.schema)
    assert result.to_pydict() == {"Id": [1, 2], "NAME": ["a", "b"]}
    with pytest.raises(UsageError, match="price"):
        only_columns(pa.table(data), SCHEMA)


@pytest.mark.parametrize(
    "lacking",
    [
        {"ID": [1], "name": ["a"]},
        [{"id": 1, "name": "a"}, {"id": 2}],
        pa.table({"id": [1], "name": ["a"]}),
        pa.table({"id": [1], "name": ["a"]}).to_pandas(),
        iter([{"id": [1], "name": ["a"]}]),
    ],
    ids=["columns", "rows", "arrow", "pandas", "iterator"],
)
def test_rows_that_replace_others_are_whole(lacking: Any) -> None:
    with pytest.raises(
        UsageError, match=r"lacks columns? (name, )?price: an upsert replaces whole"
    ):
        whole_rows(lacking, SCHEMA)


ROW: dict[str, Any] = {"id": 1, "name": "a", "PRICE": None}
PART = {"id": 2, "name": "b"}


@pytest.mark.parametrize(
    "lacking",
    [
        [ROW, PART],
        iter([ROW, PART]),
        [pa.Table.from_pylist([ROW]), pa.Table.from_pylist([PART])],
        (pa.record_batch([[1]] * len(row), list(row)) for row in (ROW, PART)),
        (pd.DataFrame([row]) for row in (ROW, PART)),
        iter([[ROW, ROW], [ROW, PART]]),
    ],
    ids=["rows", "iterator of rows", "tables", "batches", "frames", "lists"],
)
def test_each_row_is_whole(lacking: Any) -> None:
    with pytest.raises(UsageError, match="lacks column price: an upsert replaces whole rows"):
        list(cast("Iterator[object]", whole_rows(lacking, SCHEMA)))


def test_whole_rows_are_what_was_given() -> None:
    table = pa.table({"price": [None], "Name": ["a"], "id": [1]})
    frame = table.to_pandas().set_index("id")
    rows = [ROW, {name.upper(): value for name, value in ROW.items()}]
    for data in (table, frame, rows, ROW, [], "x"):
        assert whole_rows(data, SCHEMA) is data
    given: Any = whole_rows(iter([rows, table, pl.from_arrow(table)]), SCHEMA)
    first, second, third = given
    assert (first, second) == (rows, table)
    assert sum(batch.num_rows for batch in third) == 1
    assert list(cast("Iterator[object]", whole_rows(iter(()), SCHEMA))) == []


def test_keys_that_go_carry_their_operation() -> None:
    target = pa.schema([SCHEMA.field(0), pa.field("__operation", pa.int8())])
    batches = [pa.record_batch({"id": pa.array(ids, pa.int64())}) for ids in ([1, 2], [], [3])]
    result = pa.Table.from_batches(list(deleting(batches, target)), target)
    assert result["id"].to_pylist() == [1, 2, 3]
    assert set(result["__operation"].to_pylist()) == {ord("D")}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"ID": 7}, {"ID": 7}),
        ({"price": decimal.Decimal("1.50")}, {"price": decimal.Decimal("1.50")}),
        ({"name": None}, {"name": None}),
        ({"unknown": "x"}, {"unknown": "x"}),
    ],
)
def test_plain_values_have_the_columns_types(
    values: dict[str, Any], expected: dict[str, Any]
) -> None:
    table = pa.ipc.open_stream(one_row(values, SCHEMA)).read_all()
    assert table.to_pylist() == [expected]
    for name in values:
        if name.casefold() in SCHEMA.names:
            assert table.schema.field(name).type == SCHEMA.field(name.casefold()).type


TEXTS = pa.dictionary(pa.int32(), pa.string())


@pytest.mark.parametrize(
    ("value", "data_type"),
    [
        (pa.scalar("a"), TEXTS),  # pyarrow itself crashes on this one
        (pa.scalar("a", TEXTS), TEXTS),
        (pa.scalar("a", TEXTS), pa.string()),
        (pa.scalar(None, TEXTS), TEXTS),
        ([pa.scalar("a"), "b"], pa.list_(TEXTS)),
        ({"x": pa.scalar("a")}, pa.struct([("x", TEXTS)])),
        (pa.scalar("a"), pa.run_end_encoded(pa.int32(), pa.string())),
        (pa.scalar(b"0" * 16, pa.uuid()), pa.uuid()),
        (pa.scalar(1, pa.int8()), pa.int64()),
    ],
    ids=str,
)
def test_scalars_of_pyarrow(value: Any, data_type: Any) -> None:
    result = pa.ipc.open_stream(one_row({"v": value}, pa.schema([("v", data_type)]))).read_all()
    stored = data_type.storage_type if isinstance(data_type, pa.BaseExtensionType) else data_type
    assert result.schema.field("v").type == stored
    assert result.num_rows == 1


@pytest.mark.parametrize(
    "values", [{"id": "x"}, {"id": 1 << 70}, {"name": object()}, {"id": pa.scalar("x")}]
)
def test_values_that_do_not_fit_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"become|no string"):
        one_row(values, SCHEMA)


@pytest.mark.parametrize(
    ("value", "data_type"),
    [
        (1.5, pa.int64()),
        (decimal.Decimal("1.5"), pa.int64()),
        (True, pa.float64()),
        (0.1, pa.float32()),
        (5, pa.date32()),
        (dt.datetime(2020, 1, 1, 1), pa.date32()),  # noqa: DTZ001  # a clock's reading, as the column's
        (dt.datetime(2020, 1, 1, microsecond=1), pa.timestamp("ms")),  # noqa: DTZ001
        (dt.datetime(2020, 1, 1, tzinfo=dt.UTC), pa.timestamp("us")),
        ({"a": 1, "c": 2}, pa.struct([("a", pa.int64())])),
        ({"a": 1.5}, pa.struct([("a", pa.int64())])),
        ([1.5], pa.list_(pa.int32())),
        ([("k", 1.5)], pa.map_(pa.string(), pa.int32())),
    ],
    ids=str,
)
def test_no_plain_value_is_changed_on_its_way(value: object, data_type: pa.DataType) -> None:
    with pytest.raises(UsageError, match="'x"):
        one_row({"x": value}, pa.schema([("x", data_type)]))


def test_struct_fields_of_a_plain_value_are_found_in_any_case() -> None:
    schema = pa.schema([("x", pa.struct([("a", pa.int64()), ("b", pa.string())]))])
    table = pa.ipc.open_stream(one_row({"x": {"A": 1, "B": "t"}}, schema)).read_all()
    assert table["x"].to_pylist() == [{"a": 1, "b": "t"}]


def test_half_of_a_character_names_no_column() -> None:
    with pytest.raises(UsageError, match="half of a character"):
        one_row({"\ud800": 1}, SCHEMA)
