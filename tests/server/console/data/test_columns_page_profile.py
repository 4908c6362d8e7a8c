from __future__ import annotations

import datetime as dt
import decimal

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.protocol.types.blob_type import blob
from fletching.server.console.data.columns_page import BINS, ColumnProfile, profile


def of(values: list[object], kind: pa.DataType | None = None) -> ColumnProfile:
    return profile(pa.chunked_array([pa.array(values, kind)]))


def test_numbers() -> None:
    result = of([1, 2, 2, None, 9])
    assert (result.rows, result.nulls, result.distinct) == (5, 1, 3)
    assert (result.lower, result.upper, result.mean) == ("1", "9", 3.5)
    assert result.top[0] == ("2", 2)
    assert sum(count for _, count in result.bars) == 4
    assert len(result.bars) == BINS


@pytest.mark.parametrize(
    ("values", "kind", "ends"),
    [
        ([dt.date(2026, 1, 1), dt.date(2026, 2, 1)], None, ("2026-01-01", "2026-02-01")),
        ([decimal.Decimal("1.50"), decimal.Decimal("-2.25")], None, ("-2.25", "1.50")),
        ([0, 10**18], pa.timestamp("ns"), ("1970-01-01T00:00:00.000000000", None)),
        (["b", "a"], None, ("a", "b")),
        ([b"\1", b"\2"], None, ("x'01'", "x'02'")),
        (["x", "y"], pa.dictionary(pa.int32(), pa.string()), ("x", "y")),
        ([1, 2], pa.duration("s"), ("PT1S", "PT2S")),
    ],
)
def test_other_kinds(values: list[object], kind: pa.DataType, ends: tuple[str, str | None]) -> None:
    result = of(values, kind)
    assert result.lower == ends[0]
    assert ends[1] is None or result.upper == ends[1]
    assert sum(count for _, count in result.bars) == 2


@pytest.mark.parametrize(
    "array",
    [
        pa.nulls(3),
        pa.array([None, None], pa.string()),
        pa.array([{"a": 1}]),
        pa.array([[1, 2], None]),
        pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
        pa.ExtensionArray.from_storage(blob(), pa.array([b"AAA="], pa.binary())),
        pa.array([float("nan"), float("inf"), -float("inf")]),
        pa.array([1.7e308, -1.7e308]),
        pa.array([True, False, None]),
        pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
        pa.array([], pa.int64()),
    ],
)
def test_whatever_a_column_holds_there_is_a_profile(array: pa.Array) -> None:
    result = profile(pa.chunked_array([array]))
    assert (result.rows, result.nulls) == (len(array), array.null_count)


def test_lengths_of_lists_and_of_many_different_texts() -> None:
    assert of([[1], [1, 2], None]).of == "lengths"
    assert of([f"text {n}" for n in range(100)]).of == "lengths"


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True) | st.none(), max_size=40))
def test_bars_count_every_finite_value(values: list[float | None]) -> None:
    result = of(list(values), pa.float64())
    finite = pc.sum(pc.is_finite(pa.array(values, pa.float64()))).as_py() or 0
    assert sum(count for _, count in result.bars) == finite
