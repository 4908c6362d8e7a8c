from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fletching.protocol.types.row_selection import (
    distinct_values,
    filter_rows,
    first_row,
    matching_rows,
    plain_values,
    take_rows,
    true_rows,
)
from fletching.testing.strategies import record_batches

REE = pa.run_end_encoded(pa.int32(), pa.string())
COLUMNS = {
    "text view": pa.array(["a" * 30, None, "b", "c"], pa.string_view()),
    "binary view": pa.array([b"a" * 30, None, b"b", b"c"], pa.binary_view()),
    "list of views": pa.array([["a"], None, [], ["b", "c"]], pa.list_(pa.string_view())),
    "runs": pa.RunEndEncodedArray.from_arrays([2, 3, 4], ["a", None, "b"]),
    "struct of runs": pa.StructArray.from_arrays(
        [pa.RunEndEncodedArray.from_arrays([2, 3, 4], ["a", None, "b"])], ["r"]
    ),
    "numbers": pa.array([1, 2, None, 4]),
    "list of runs": pa.ListArray.from_arrays(
        pa.array([0, 1, 3, 3, 4], pa.int32()),
        pa.RunEndEncodedArray.from_arrays([2, 4], ["a", None]),
    ),
    "dictionary": pa.array(["a", "b", None, "a"]).dictionary_encode(),
    "union": pa.UnionArray.from_sparse(
        pa.array([0, 1, 0, 1], pa.int8()), [pa.array([1, 2, 3, 4]), pa.array(["a", "b", "c", "d"])]
    ),
}


@given(st.lists(st.sampled_from([True, False, None])), st.integers(0, 20), st.integers(0, 40))
def test_rows_of_which_a_mask_is_true(values: list[bool | None], start: int, count: int) -> None:
    mask = pa.array(values, pa.bool_()).slice(start, count)
    chosen = [row for row, value in enumerate(values[start : start + count]) if value]
    assert true_rows(mask).tolist() == chosen


@pytest.mark.parametrize("name", COLUMNS)
def test_rows_of_every_type(name: str) -> None:
    column = COLUMNS[name]
    batch = pa.record_batch([column], ["c"])
    values = column.to_pylist()
    for rows in ([], [0], [3], [0, 1, 2, 3], [1, 3], [3, 0], [2, 2]):
        taken = take_rows(batch, pa.array(rows, pa.int64()))
        taken.validate(full=True)
        assert taken.schema == batch.schema
        assert taken.column(0).to_pylist() == [values[row] for row in rows]
    chosen = filter_rows(batch, pa.array([True, None, False, True]))
    assert chosen.column(0).to_pylist() == [values[0], values[3]]
    assert filter_rows(batch, pa.array([False] * 4)).num_rows == 0
    # Of many rows a few go.
    many = take_rows(batch, pa.array(list(range(4)) * 8))
    mask = [row not in {5, 18} for row in range(32)]
    several = filter_rows(many, pa.array(mask))
    several.validate(full=True)
    assert several.schema == batch.schema
    assert several.column(0).to_pylist() == [
        values[row % 4] for row, keep in enumerate(mask) if keep
    ]


@pytest.mark.parametrize("name", COLUMNS)
def test_rows_of_every_type_that_match_an_expression(name: str) -> None:
    column = COLUMNS[name]
    numbers = pa.array([n if n % 3 else None for n in range(len(column))])
    batch = pa.record_batch([column, numbers], names=["a", "n"])
    kept = matching_rows(batch, pc.field("n") > 1)
    assert kept.to_pylist() == [row for row in batch.to_pylist() if (row["n"] or 0) > 1]
    with pytest.raises(pa.ArrowException):
        matching_rows(batch, pc.field("n") > "text")


@pytest.mark.parametrize("name", COLUMNS)
def test_plain_values_of_every_type(name: str) -> None:
    column = COLUMNS[name]
    values = column.to_pylist()
    assert plain_values(column).to_pylist() == values
    rows = [3, None, 0, 1, 1, None, 2]
    encoded = pa.DictionaryArray.from_arrays(pa.array(rows, pa.uint8()), column)
    runs = pa.RunEndEncodedArray.from_arrays([2, 3, 7, 9], column)
    repeated = [values[0]] * 2 + [values[1]] + [values[2]] * 4 + [values[3]] * 2
    for start, length in [(0, 9), (0, 0), (1, 3), (2, 1), (4, 5), (6, 0), (8, 1)]:
        part = runs.slice(start, length)
        plain = plain_values(part)
        plain.validate(full=True)
        assert plain.type == column.type or name in {"runs", "dictionary"}
        assert plain.to_pylist() == repeated[start : start + length]
        part = encoded.slice(start, length)
        plain = plain_values(part)
        plain.validate(full=True)
        expected = [None if row is None else values[row] for row in rows[start : start + length]]
        assert plain.to_pylist() == expected


@settings(max_examples=50, deadline=None)
@given(record_batches(max_rows=8), st.data())
def test_any_rows_of_any_batch(batch: Any, data: Any) -> None:
    mask = data.draw(st.lists(st.booleans(), min_size=batch.num_rows, max_size=batch.num_rows))
    rows = [row for row, keep in zip(batch.to_pylist(), mask, strict=True) if keep]
    assert filter_rows(batch, pa.array(mask, pa.bool_())).to_pylist() == rows


@pytest.mark.parametrize(
    "gone", [[], [5], [0, 5], list(range(1, 31, 2)), list(range(3, 32)), list(range(32))]
)
def test_a_batch_without_columns_has_rows(gone: list[int]) -> None:
    """As where nothing but partition columns is read: the rows that are left are counted all the same."""
    batch = pa.record_batch([pa.array(range(32))], ["c"]).select([])
    kept = [row for row in range(32) if row not in gone]
    assert filter_rows(batch, pa.array([row in kept for row in range(32)])).num_rows == len(kept)
    assert take_rows(batch, pa.array(kept, pa.int64())).num_rows == len(kept)


@pytest.mark.parametrize("name", ["dictionary", "runs", "numbers"])
@pytest.mark.parametrize("start", [0, 1, 3, 4])
def test_distinct_values_are_those_of_the_rows(name: str, start: int) -> None:
    array = COLUMNS[name][start:]
    assert set(distinct_values(array).to_pylist()) == set(array.to_pylist())


def test_distinct_values_of_a_dictionary_of_views() -> None:
    values = pa.array(["a" * 30, "b", None], pa.string_view())
    array = pa.DictionaryArray.from_arrays(pa.array([2, 0, None, 0]), values)
    assert set(distinct_values(array).to_pylist()) == {None, "a" * 30}


@given(st.lists(st.booleans(), min_size=1).filter(any))
def test_the_first_row_that_is_refused(refused: list[bool]) -> None:
    assert first_row(pa.array(refused), lambda part: part.true_count) == refused.index(True)
