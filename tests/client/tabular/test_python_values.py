"""Python values become exactly the column's values, or are refused; pyarrow alone would round and drop."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import math
import uuid
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.folding import folded

from fletching.client.tabular import python_values
from fletching.client.tabular.python_values import column_array, matched_items, python_array
from fletching.errors import UsageError
from fletching.testing.strategies import arrow_types, values_of


class Point(NamedTuple):
    b: str
    a: int


class Other(NamedTuple):
    a: int
    c: int


D = decimal.Decimal
UTC = dt.UTC
BERLIN = dt.timezone(dt.timedelta(hours=2))
NOON = dt.datetime(2026, 1, 2, 12)  # noqa: DTZ001  # a reading of a clock
FINE = NOON.replace(microsecond=5)
DAY = NOON.date()
PAIR = pa.struct([("a", pa.int64()), ("b", pa.string())])
WORDS = pa.map_(pa.string(), pa.int8())


class Color(enum.IntEnum):
    RED = 3


KEPT: list[tuple[list[Any], Any, list[Any]]] = [
    ([1, None, -(2**63)], pa.int64(), [1, None, -(2**63)]),
    ([2**64 - 1, 0], pa.uint64(), [2**64 - 1, 0]),
    ([1, 2**70], pa.decimal128(38, 2), [D(1), D(2**70)]),
    ([1, 2.5, None], pa.float64(), [1.0, 2.5, None]),
    ([2**60, 1], pa.float64(), [2.0**60, 1.0]),
    ([2**80, 1.5], pa.float64(), [2.0**80, 1.5]),
    ([1.0, 2], pa.int8(), [1, 2]),
    ([0.5, math.inf], pa.float32(), [0.5, math.inf]),
    ([True, None], pa.bool_(), [True, None]),
    ([np.int8(1), np.uint64(2**63)], pa.uint64(), [1, 2**63]),
    ([np.float32(0.1)], pa.float32(), [np.float32(0.1)]),
    ([np.bool_(True)], pa.bool_(), [True]),
    ([Color.RED], pa.int8(), [3]),
    ([Point(b="x", a=1), None], PAIR, [{"a": 1, "b": "x"}, None]),
    ([Other(a=1, c=2)], pa.list_(pa.int8()), [[1, 2]]),
    (
        [np.ma.array([1, 2], mask=[False, True]), np.array([3])],
        pa.list_(pa.int64()),
        [[1, None], [3]],
    ),
    ([D("1.5"), 2], pa.decimal128(5, 2), [D("1.50"), D("2.00")]),
    ([D("7")], pa.int8(), [7]),
    (["a", None], pa.string_view(), ["a", None]),
    (["ß", b"x"], pa.binary(), ["ß".encode(), b"x"]),
    (["a", b"b"], pa.string_view(), ["a", "b"]),
    ([b"a", bytearray(b"b"), memoryview(b"c")], pa.binary(1), [b"a", b"b", b"c"]),
    (["a", "b", "a"], pa.dictionary(pa.int8(), pa.string()), ["a", "b", "a"]),
    (["a", "a"], pa.run_end_encoded(pa.int32(), pa.string()), ["a", "a"]),
    ([NOON], pa.timestamp("s"), [NOON]),
    ([FINE, None], pa.timestamp("us"), [FINE, None]),
    ([DAY, NOON.replace(hour=0)], pa.date32(), [DAY, DAY]),
    ([DAY], pa.timestamp("us"), [NOON.replace(hour=0)]),
    (
        [NOON.replace(tzinfo=BERLIN), NOON.replace(tzinfo=UTC)],
        pa.timestamp("ms", "UTC"),
        [NOON.replace(hour=10, tzinfo=UTC), NOON.replace(tzinfo=UTC)],
    ),
    ([dt.time(1, 2, 3)], pa.time32("s"), [dt.time(1, 2, 3)]),
    ([dt.timedelta(seconds=3)], pa.duration("ms"), [dt.timedelta(seconds=3)]),
    ([uuid.UUID(int=5)], pa.uuid(), [uuid.UUID(int=5)]),
    ([uuid.UUID(int=5)], pa.binary(), [bytes(15) + b"\5"]),
    ([pd.NA, 1], pa.int8(), [None, 1]),
    ([pd.NaT, pd.Timestamp(NOON)], pa.timestamp("s"), [None, NOON]),
    ([pa.scalar(1), pa.scalar(None, pa.int64())], pa.int8(), [1, None]),
    ([pa.scalar(1), 2, pa.scalar(3.0)], pa.int8(), [1, 2, 3]),
    ([pa.scalar("a", pa.dictionary(pa.int8(), pa.string())), "b"], pa.string(), ["a", "b"]),
    ([pa.scalar("a", pa.dictionary(pa.int8(), pa.string()))], pa.string(), ["a"]),
    ([[pa.scalar(1)], pa.scalar([2])], pa.list_(pa.int8()), [[1], [2]]),
    ([np.datetime64("2026-01-02T12:00:00"), None], pa.timestamp("s"), [NOON, None]),
    ([np.datetime64("2026-01-02"), None], pa.date32(), [NOON.date(), None]),
    ([np.datetime64("2026-01-02"), np.datetime64("NaT", "D")], pa.date32(), [NOON.date(), None]),
    ([[np.datetime64("2026-01-02")]], pa.list_(pa.date32()), [[NOON.date()]]),
    ([None, np.timedelta64(1500, "ms")], pa.duration("ms"), [None, dt.timedelta(seconds=1.5)]),
    ([np.timedelta64(3, "s")], pa.duration("s"), [dt.timedelta(seconds=3)]),
    ([[1, None], [], None], pa.list_(pa.int8()), [[1, None], [], None]),
    ([(1, 2), np.array([3.0, 4.0])], pa.large_list(pa.int8()), [[1, 2], [3, 4]]),
    ([np.array([1, 2], np.int8), np.array([3], np.int8)], pa.list_(pa.int64()), [[1, 2], [3]]),
    ([[1, 2], None], pa.list_(pa.float32(), 2), [[1.0, 2.0], None]),
    ([range(2)], pa.list_view(pa.int8()), [[0, 1]]),
    ([{"A": 1, "b": "x"}, {"B": "y"}, None], PAIR, [{"a": 1, "b": "x"}, {"a": None, "b": "y"}, None]),
    ([(1, "x")], PAIR, [{"a": 1, "b": "x"}]),
    ([{}], PAIR, [{"a": None, "b": None}]),
    ([{"k": 1}, [("k", 2)], [{"key": "k", "value": 3}], None], WORDS, [[("k", 1)], [("k", 2)], [("k", 3)], None]),
    ([[{"a": 1}], []], pa.list_(PAIR), [[{"a": 1, "b": None}], []]),
    ([None, None], PAIR, [None, None]),
    ([None], pa.null(), [None]),
]  # fmt: skip


def plain(array: Any) -> list[Any]:
    return [v.to_pydatetime() if isinstance(v, pd.Timestamp) else v for v in array.to_pylist()]


@folded("values, target, expected", KEPT)
def test_values_are_kept(values: list[Any], target: Any, expected: list[Any]) -> None:
    array = python_array(values, target, "c")
    assert array.type == target
    array.validate(full=True)
    assert plain(array) == expected


REFUSED: list[tuple[list[Any], Any]] = [
    ([Other(a=1, c=2)], PAIR),
    ([300], pa.int8()),
    ([-1], pa.uint8()),
    ([2**70], pa.int64()),
    ([2**53 + 1], pa.float64()),
    ([10**80], pa.decimal256(76, 0)),
    ([1.5], pa.int64()),
    ([math.nan], pa.int64()),
    ([0.1], pa.float32()),
    ([1e300], pa.float32()),
    ([0.5], pa.decimal128(5, 2)),
    ([D("1.005")], pa.decimal128(10, 2)),
    ([D("NaN")], pa.decimal128(10, 2)),
    ([D("Infinity")], pa.decimal128(10, 2)),
    ([D("0.5")], pa.float64()),
    ([np.longdouble(0.1)], pa.float64()),
    ([True], pa.int64()),
    ([1], pa.bool_()),
    ([True, 1], pa.int64()),
    (["1"], pa.int64()),
    ([1], pa.string()),
    (["2026-01-02"], pa.date32()),
    ([b"\xff"], pa.string()),
    (["\ud800"], pa.string()),
    ([FINE], pa.timestamp("ms")),
    ([FINE], pa.date32()),
    ([DAY, NOON], pa.date32()),
    ([NOON.replace(tzinfo=UTC)], pa.timestamp("us")),
    ([NOON], pa.timestamp("us", "UTC")),
    ([NOON, NOON.replace(tzinfo=UTC)], pa.timestamp("us", "UTC")),
    ([NOON.replace(tzinfo=UTC), NOON], pa.timestamp("us")),
    ([pd.Timestamp(1)], pa.timestamp("us")),
    ([pd.Timedelta(1)], pa.duration("us")),
    ([dt.time(1, tzinfo=UTC)], pa.time64("us")),
    ([dt.time(1, 2, 3, 4)], pa.time32("ms")),
    ([dt.timedelta(microseconds=1)], pa.duration("ms")),
    ([np.datetime64("2026-01-02T12:00:00.001")], pa.timestamp("s")),
    ([np.datetime64("2026", "W")], pa.date32()),
    ([np.datetime64("2026-01-02T12:00")], pa.date32()),
    ([uuid.UUID(int=1)], pa.string()),
    ([uuid.UUID(int=1)], pa.large_string()),
    ([uuid.UUID(int=1)], pa.string_view()),
    ([[uuid.UUID(int=1)]], pa.list_(pa.string())),
    ([np.datetime64("1600", "Y"), np.datetime64(1, "ns")], pa.timestamp("ns")),
    ([object()], pa.string()),
    ([{1, 2}], pa.list_(pa.int8())),
    (["ab"], pa.list_(pa.string())),
    ([b"ab"], pa.list_(pa.uint8())),
    ([1], pa.list_(pa.int8())),
    ([[1]], pa.int8()),
    ([[300]], pa.list_(pa.int8())),
    ([[1, 2, 3]], pa.list_(pa.int8(), 2)),
    ([{"a": 1, "z": 2}], PAIR),
    ([{"aa": 1}], PAIR),
    ([{"a": 1, "A": 2}], PAIR),
    ([{1: 1}], PAIR),
    ([{"a": 1.5}], PAIR),
    ([(1,)], PAIR),
    ([[1, "x"]], PAIR),
    ([{"k": 300}], WORDS),
    ([{None: 1}], WORDS),
    ([[("k", 1, 2)]], WORDS),
    ([1], WORDS),
    ([{"a": 1}], pa.string()),
    ([[{"a": 1, "z": 2}]], pa.list_(PAIR)),
    ([{"k": {"a": 1, "z": 2}}], pa.map_(pa.string(), PAIR)),
    ([1], pa.null()),
]


@folded("values, target", REFUSED)
def test_values_that_would_change_are_refused(values: list[Any], target: Any) -> None:
    with pytest.raises(UsageError):
        python_array(values, target, "c")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_values_of_a_type(data: Any) -> None:
    data_type = data.draw(arrow_types(2))
    values = data.draw(st.lists(values_of(data_type), max_size=5))
    if pa.types.is_duration(data_type):
        return  # given as counts, which are no durations
    try:
        expected = pa.array(values, data_type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return
    try:
        result = python_array(values, data_type, "c")
    except UsageError:
        # durations inside, dates beyond nanoseconds, microseconds in a time of seconds
        assert "duration" in str(data_type) or expected.to_pylist() != values
        return
    result.validate(full=True)
    assert result.type == data_type
    assert result.to_pylist() == expected.to_pylist()


# --- without a type from the table ----------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "data_type"),
    [
        ([1, None], pa.int64()),
        ([1, 2.5], pa.float64()),
        ([D("1.5"), 1], pa.decimal128(2, 1)),
        ([2**70], pa.decimal256(76, 0)),
        ([NOON], pa.timestamp("us")),
        ([pd.Timestamp(1)], pa.timestamp("ns")),
        ([NOON.replace(tzinfo=BERLIN)], pa.timestamp("us", "UTC")),
        ([[1], None], pa.list_(pa.int64())),
        ([{"a": 1}, {"b": "x"}], pa.struct([("a", pa.int64()), ("b", pa.string())])),
        ([Point(b="x", a=1)], pa.struct([("b", pa.string()), ("a", pa.int64())])),
        ([None], pa.null()),
        ([[]], pa.list_(pa.null())),
    ],
    ids=str,
)
def test_values_have_a_type_of_their_own(values: list[Any], data_type: Any) -> None:
    assert python_array(values, None, "c").type == data_type


@pytest.mark.parametrize(
    "values",
    [[1, "a"], [DAY, NOON], [NOON, NOON.replace(tzinfo=UTC)], [1, [1]], [True, 1], [{"a": 1}, 1]],
    ids=str,
)
def test_values_of_several_kinds_have_none(values: list[Any]) -> None:
    with pytest.raises(UsageError, match="'c'"):
        python_array(values, None, "c")


# --- columns --------------------------------------------------------------------------------


def test_columns_with_types_of_their_own_keep_them() -> None:
    field = pa.field("c", pa.int64())
    given = pa.array([1], pa.int8())
    assert column_array(given, field, "c") is given
    assert column_array(np.array([1.5], np.float32), field, "c").type == pa.float32()
    assert column_array(pd.Series([1.5, None]), field, "c").to_pylist() == [1.5, None]
    assert column_array(np.ones((2, 3), np.float32), None, "c").type == pa.list_(pa.float32(), 3)
    assert column_array(range(2), field, "c").to_pylist() == [0, 1]
    assert column_array((v for v in (1, 2)), field, "c").to_pylist() == [1, 2]
    assert column_array(np.array(["2026-01-02"], "datetime64[D]"), None, "c").type == pa.date32()


def test_columns_of_objects_have_the_tables_type() -> None:
    field = pa.field("c", WORDS)
    for objects in (
        pd.Series([{"k": 1}, None, math.nan]),
        np.array([{"k": 1}, None, None], object),
    ):
        assert column_array(objects, field, "c").to_pylist() == [[("k", 1)], None, None]
    with pytest.raises(UsageError, match="'c'"):
        column_array(pd.Series([FINE, NOON.replace(tzinfo=UTC)], dtype=object), field, "c")


@pytest.mark.parametrize("values", ["text", b"bytes", 5, {"a": 1}, None], ids=str)
def test_what_is_no_column(values: Any) -> None:
    with pytest.raises(UsageError, match="column 'c' is a"):
        column_array(values, None, "c")


def test_texts_beyond_32_bit_offsets_keep_wider_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are cut into several batches before they become the table's type."""
    monkeypatch.setattr(python_values, "MAX_TEXT_BYTES", 100)
    array = python_array(["x" * 60, None, "y" * 60], pa.string(), "c")
    assert array.type == pa.large_string()
    assert python_array([b"x" * 60, b"y" * 60], pa.binary(), "c").type == pa.large_binary()
    assert python_array(["x"], pa.string(), "c").type == pa.string()


def test_items_are_matched_by_name_in_any_case() -> None:
    rows = [{"A": 1}, None, {"a": 2, "B": 3}]
    assert matched_items(rows, ["a", "b"], "c") == [[1, None, 2], [None, None, 3]]
    with pytest.raises(UsageError, match="'a' twice"):
        matched_items([{"A": 1, "a": 2}], ["a"], "c")
    with pytest.raises(UsageError, match="no struct field 'z'; it has 'a'"):
        matched_items([{"z": 1}], ["a"], "c")
