"""The first rows in an order: the same as sorting everything, from any cut into batches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.errors import InvalidArgumentError, OperationCancelledError
from fletching.server.console.data.sorted_rows import first_in_order


def rank(value: Any, *, descending: bool) -> tuple[int, Any]:
    """NaN behind the numbers, null behind all."""
    if value is None:
        return 2, 0
    if isinstance(value, float) and math.isnan(value):
        return 1, 0
    return 0, -value if descending else value


def sorted_plainly(values: list[Any], *, descending: bool) -> list[int]:
    return sorted(range(len(values)), key=lambda n: rank(values[n], descending=descending))


@given(
    st.lists(st.none() | st.integers(-5, 5) | st.just(math.nan), max_size=60),
    st.integers(1, 70),
    st.lists(st.integers(0, 60), max_size=5),
    st.booleans(),
)
def test_it_is_the_beginning_of_a_whole_sort(
    values: list[Any], count: int, cuts: list[int], descending: bool
) -> None:
    table = pa.table(
        {
            "n": pa.array([None if v is None else float(v) for v in values], pa.float64()),
            "at": pa.array(range(len(values)), pa.int64()),
        }
    )
    bounds = [0, *sorted(min(cut, len(values)) for cut in cuts), len(values)]
    batches = [
        batch
        for start, end in itertools.pairwise(bounds)
        for batch in table.slice(start, end - start).to_batches()
    ]
    result = first_in_order(batches, table.schema, "N", count=count, descending=descending)
    expected = sorted_plainly(values, descending=descending)[:count]
    assert result.rows["at"].to_pylist() == result.numbers == expected
    assert (result.looked, result.whole) == (len(values), True)


@pytest.mark.parametrize(
    "values",
    [
        pa.array(["b", "a", None, "c"]),
        pa.array(["b", "a", None, "c"], pa.string_view()),
        pa.array(["b", "a", None, "c"]).dictionary_encode(),
        pa.array([b"b", b"a", None, b"c"], pa.binary(1)),
        pa.array([Decimal("1.2"), Decimal("-1.1"), None, Decimal("3.0")]),
        pa.array([2, 1, None, 3], pa.timestamp("us", "UTC")),
        pa.array([2.0, 1.0, None, 3.0], pa.float16()),
        pa.array([2, 1, None, 3], pa.uint64()),
    ],
    ids=lambda array: str(array.type),
)
def test_types_that_have_an_order(values: pa.Array) -> None:
    table = pa.table({"v": values, "nested": [[1], [2], None, [3]]})
    batches = table.to_batches(max_chunksize=2)
    assert first_in_order(batches, table.schema, "v", count=3).numbers == [1, 0, 3]
    result = first_in_order(batches, table.schema, "v", count=2, descending=True)
    assert result.numbers == [3, 0]
    assert result.rows["nested"].to_pylist() == [[3], [1]]


def test_what_has_no_order_is_refused() -> None:
    table = pa.table({"nested": [[1]], "v": pa.array([None], pa.month_day_nano_interval())})
    for column in ("nested", "v", "nowhere"):
        with pytest.raises(InvalidArgumentError, match=column):
            first_in_order(table.to_batches(), table.schema, column, count=1)


def test_time_that_is_over_gives_what_was_found() -> None:
    table = pa.table({"v": [3, 1, 2]})

    def batches() -> Iterator[pa.RecordBatch]:
        yield from table.to_batches()
        raise OperationCancelledError("over")

    result = first_in_order(batches(), table.schema, "v", count=2)
    assert (result.numbers, result.looked, result.whole) == ([1, 2], 3, False)
    nothing = first_in_order([], table.schema, "v", count=2)
    assert (nothing.rows.num_rows, nothing.rows.schema) == (0, table.schema)
