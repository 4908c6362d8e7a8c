from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Iterator
from typing import Any

import nanoarrow as na
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pytest

from fletching.client.tabular.alignment import aligned
from fletching.client.tabular.tabular_data import batches_of
from fletching.errors import UsageError

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


def test_what_an_index_or_a_period_would_lose_is_refused() -> None:
    twice = pd.DataFrame({"a": [1]}, index=pd.Index([5], name="a"))
    with pytest.raises(UsageError, match="makes no columns: cannot insert a"):
        batches_of(twice)
    months = pd.DataFrame({"a": pd.period_range("2020-01", periods=1, freq="M")})
    with pytest.raises(UsageError, match="periods are numbered since 1970"):
        list(aligned(batches_of(months), pa.schema([("a", pa.int64())])).batches)


def test_a_pandas_index_is_kept_if_it_has_a_name() -> None:
    frame = pd.DataFrame({"b": ["x", "y"]}, index=pd.Index([5, 6], name="a"))
    assert pa.Table.from_batches(list(aligned(batches_of(frame), SCHEMA)))["a"].to_pylist() == [
        5,
        6,
    ]
    frame = pd.DataFrame({"a": [1, 2, 3], "b": list("xyz")})
    frame = frame[frame["a"] > 1]
    assert batches_of(frame).schema.names == ["a", "b"]


@pytest.mark.parametrize("with_objects", [False, True])
def test_arrow_columns_of_pandas_may_be_in_chunks(with_objects: bool) -> None:
    parts = [TABLE.slice(start, 1).to_pandas(types_mapper=pd.ArrowDtype) for start in range(3)]
    frame = pd.concat(parts, ignore_index=True)
    frame["a"] = pd.arrays.ArrowExtensionArray(  # in other chunks
        pa.chunked_array([[1], [2, 3]])
    )
    schema = SCHEMA
    if with_objects:
        schema = SCHEMA.append(pa.field("c", pa.int64()))
        frame["c"] = pd.Series([7, None, 9], dtype=object)
    (batch,) = batches_of(frame, schema).batches
    assert batch.column("a").to_pylist() == [1, 2, 3]
    assert batch.column("b").to_pylist() == ["x", None, "z"]
    (several,) = batches_of(frame[frame["a"] != 2], schema).batches
    assert several.column("a").to_pylist() == [1, 3]
    assert list(batches_of(frame[frame["a"] > 9], schema).batches) == []


_ZONED = dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=9)))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([pd.Timestamp("2026-01-01 00:00:00.123456789")], pa.timestamp("ns")),
        ([pd.Timedelta(1, "ns"), None], pa.duration("ns")),
        ([[1.5, float("nan")], None], pa.list_(pa.float64())),
        ([1, 1.5, float("nan"), pd.NA], pa.float64()),
        ([_ZONED, pd.NaT], pa.timestamp("us", "UTC")),
    ],
    ids=["nanoseconds", "durations", "lists", "numbers", "zoned"],
)
def test_objects_of_a_frame_keep_their_values_without_a_tables_type(
    values: list[object], kind: pa.DataType
) -> None:
    stream = batches_of(pd.DataFrame({"v": pd.Series(values, dtype=object)}))
    (batch,) = stream
    assert stream.schema.field("v").type == batch.column("v").type == kind
    given = [
        None if pd.api.types.is_scalar(value) and pd.isna(value) else value for value in values
    ]
    assert str(batch.column("v").to_pylist()) == str(pa.array(given, kind).to_pylist())


@pytest.mark.parametrize(
    "values",
    [
        [_ZONED, _ZONED.replace(tzinfo=None)],
        [[_ZONED.replace(tzinfo=None)], [_ZONED]],
        [dt.date(2026, 1, 1), _ZONED.replace(tzinfo=None)],
        [decimal.Decimal("1.1"), decimal.Decimal("NaN")],
        [b"a", "a"],
        [1 << 300],
    ],
    ids=["zoned and not", "in lists", "dates and times", "decimals", "bytes and texts", "integers"],
)
def test_objects_of_a_frame_without_a_common_type_are_refused(values: list[object]) -> None:
    with pytest.raises(UsageError, match="column 'v"):
        batches_of(pd.DataFrame({"v": pd.Series(values, dtype=object)}))


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


@pytest.mark.parametrize(
    "data",
    [
        [{}, {}],
        iter([{}, {}]),
        pd.DataFrame(index=[0, 1]),
        pa.table({"a": [1, 2]}).select([]),
    ],
    ids=["rows", "iterator", "pandas", "arrow"],
)
def test_rows_that_say_nothing_are_rows(data: Any) -> None:
    result = pa.Table.from_batches(list(aligned(batches_of(data, SCHEMA), SCHEMA)))
    assert result.to_pylist() == [{"a": None, "b": None}] * 2


@pytest.mark.parametrize(
    "data",
    [[None], [None, {"a": 1}], iter([None, {"a": 1}]), [{"a": 1}, None]],
    ids=["alone", "first", "first of an iterator", "last"],
)
def test_none_is_no_row_and_takes_no_other_along(data: Any) -> None:
    with pytest.raises(UsageError, match="NoneType"):
        list(batches_of(data, SCHEMA))


def test_columns_of_a_frame_may_be_named_by_numbers() -> None:
    assert batches_of(pd.DataFrame([[1, 2]])).schema.names == ["0", "1"]
    schema = pa.schema([("0", pa.int64()), ("1", pa.decimal128(10, 2))])
    frame = pd.DataFrame([[1, decimal.Decimal("1.5")]]).astype({1: object})
    result = pa.Table.from_batches(list(aligned(batches_of(frame, schema), schema)))
    assert result.to_pydict() == {"0": [1], "1": [decimal.Decimal("1.50")]}
    pairs = pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")]))
    assert batches_of(pairs).schema.names == ["('a', 'x')", "('a', 'y')"]
    for names in (["a", "a"], [1, "1"]):
        with pytest.raises(UsageError, match="two columns"):
            batches_of(pd.DataFrame([[1, 2]], columns=names))


def test_columns_and_batches_follow_each_other() -> None:
    parts = [
        {"a": [1], "b": ["x"]},
        pa.record_batch({"a": [2], "b": ["y"]}),
        {"a": [3], "b": ["z"]},
    ]
    for order in (parts, parts[1:] + parts[:1]):
        stream = aligned(batches_of(iter(order), SCHEMA), SCHEMA)
        result = pa.Table.from_batches(list(stream))
        assert sorted(result["a"].to_pylist()) == [1, 2, 3]
