from __future__ import annotations

import math

import pyarrow as pa
import pytest

from fletching.cli.quickstart.compare import first_difference, same_values

TABLE = pa.table({"a": list(range(100)), "b": [str(i) for i in range(100)]})


@pytest.mark.parametrize("left", [1, 7, 100])
@pytest.mark.parametrize("right", [1, 13, 100])
def test_chunking_is_no_difference(left: int, right: int) -> None:
    assert first_difference(TABLE.to_batches(left), TABLE.to_batches(right)) is None


@pytest.mark.parametrize("row", [0, 41, 99])
def test_one_changed_value_is_found_where_it_is(row: int) -> None:
    values = TABLE["b"].to_pylist()
    values[row] = "changed"
    changed = TABLE.set_column(1, "b", [values])
    result = first_difference(TABLE.to_batches(9), changed.to_batches(20))
    assert result is not None
    assert (result.row, result.column) == (row, "b")


def test_missing_and_surplus_rows_are_differences() -> None:
    fewer = TABLE.slice(0, 99).to_batches()
    missing = first_difference(TABLE.to_batches(), fewer)
    surplus = first_difference(fewer, TABLE.to_batches())
    assert missing is not None
    assert "missing" in str(missing)
    assert surplus is not None
    assert "more rows" in str(surplus)


def test_order_names_and_types_matter() -> None:
    assert first_difference(TABLE.to_batches(), TABLE.take(list(range(99, -1, -1))).to_batches())
    assert first_difference(TABLE.to_batches(), TABLE.rename_columns(["x", "b"]).to_batches())
    cast = TABLE.cast(pa.schema([("a", pa.int32()), ("b", pa.string())]))
    result = first_difference(TABLE.to_batches(), cast.to_batches())
    assert result is not None
    assert "type is int32" in str(result)


def test_floats_compare_by_their_bits() -> None:
    nan = pa.array([math.nan, None, 1.0])
    assert same_values(nan, pa.array([math.nan, None, 1.0]))
    assert not same_values(pa.array([0.0]), pa.array([-0.0]))
    nested = pa.array([[{"x": math.nan}], None, []])
    assert same_values(nested, pa.array([[{"x": math.nan}], None, []]))
    assert not same_values(nested, pa.array([[{"x": 1.0}], None, []]))
    assert not same_values(nested, pa.array([[{"x": math.nan}], [], []]))


def test_maps_with_nan_equal_themselves() -> None:
    kind = pa.map_(pa.string(), pa.float64())
    left = pa.array([[("k", math.nan)], None], kind)
    assert same_values(left, pa.array([[("k", math.nan)], None], kind))
    assert not same_values(left, pa.array([[("k", 1.0)], None], kind))
