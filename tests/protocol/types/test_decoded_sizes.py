"""What rows take once they are plain is told before, whatever stands for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.errors import LimitExceededError
from fletching.protocol.types.conversion import convert
from fletching.protocol.types.decoded_sizes import expands, in_parts, row_bytes

TEXT = "x" * 1000


def run_ended(values: pa.Array, ends: list[int]) -> pa.Array:
    return pa.RunEndEncodedArray.from_arrays(pa.array(ends, pa.int32()), values)


def dictionary(values: pa.Array, indices: list[int | None]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int16()), values)


def views(text: str, count: int) -> pa.Array:
    """One text that all of so many views show."""
    first = pa.array([text], pa.string_view())
    _, view, *data = first.buffers()
    shared = pa.py_buffer(view.to_pybytes()[:16] * count)
    return pa.Array.from_buffers(pa.string_view(), count, [None, shared, *data])


def list_views(values: pa.Array, count: int) -> pa.Array:
    """Lists that all have all of the values."""
    return pa.ListViewArray.from_arrays(
        pa.array([0] * count, pa.int32()), pa.array([len(values)] * count, pa.int32()), values
    )


SHARED: dict[str, tuple[pa.Array, pa.DataType]] = {
    "dictionary": (dictionary(pa.array([TEXT, "y"]), [0, 0, None, 1, 0]), pa.string()),
    "runs": (run_ended(pa.array([TEXT, None, "y"]), [3, 4, 5]), pa.string()),
    "views": (views(TEXT, 5), pa.string()),
    "list views": (list_views(pa.array(range(1000)), 5), pa.list_(pa.int64())),
    "nulls": (pa.nulls(5), pa.int64()),
    "lists of a dictionary": (
        pa.ListArray.from_arrays(
            pa.array([0, 3, 3, 4, 4, 5], pa.int32()), dictionary(pa.array([TEXT]), [0] * 5)
        ),
        pa.list_(pa.string()),
    ),
    "a dictionary of lists": (
        dictionary(pa.array([[TEXT] * 3, []], pa.list_(pa.string())), [0, 1, 0, 0, None]),
        pa.list_(pa.string()),
    ),
    "structs of runs": (
        pa.StructArray.from_arrays([run_ended(pa.array([TEXT]), [5]), pa.array(range(5))], ["a", "b"]),
        pa.struct([("a", pa.string()), ("b", pa.int64())]),
    ),
    "fixed lists of a dictionary": (
        pa.FixedSizeListArray.from_arrays(dictionary(pa.array([TEXT]), [0] * 10), 2),
        pa.list_(pa.string(), 2),
    ),
    "maps of a dictionary": (
        pa.MapArray.from_arrays(
            pa.array([0, 2, 2, 3, 4, 5], pa.int32()),
            pa.array(["a", "b", "c", "d", "e"]),
            dictionary(pa.array([TEXT]), [0] * 5),
        ),
        pa.map_(pa.string(), pa.string()),
    ),
}  # fmt: skip


def plain(array: pa.Array, target: pa.DataType) -> pa.Array:
    return pa.array(array.to_pylist(), target)


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("start", [0, 1, 3])
def test_no_less_than_what_they_become(name: str, start: int) -> None:
    shared, target = SHARED[name]
    shared = shared.slice(start)
    assert expands(shared.type)
    sizes = row_bytes(shared)
    assert len(sizes) == len(shared)
    if name == "nulls":
        return  # what a null becomes is its column's: the caller says it
    for row, size in enumerate(sizes):
        single = plain(shared.slice(row, 1), target)
        assert size >= single.nbytes - 40, (row, size, single.nbytes)
        assert size <= single.nbytes + 60 * (1 + single.nbytes // 1000), (row, size, single.nbytes)


@pytest.mark.parametrize("name", SHARED)
def test_parts_together_are_the_batch(name: str) -> None:
    shared, target = SHARED[name]
    batch = pa.record_batch({"a": shared, "b": pa.array(range(5))})
    parts = list(in_parts(batch, at_most=1e6, part_bytes=1500, beside=16))
    assert pa.Table.from_batches(parts)["b"].to_pylist() == list(range(5))
    joined = [convert(part.column(0), target, "a").to_pylist() for part in parts]
    assert [value for part in joined for value in part] == shared.to_pylist()
    if name != "nulls":
        assert len(parts) > 1


TOO_MUCH: dict[str, Callable[[], Any]] = {
    "dictionary": lambda: dictionary(pa.array(["x" * 10_000]), [0] * 30_000),
    "runs": lambda: run_ended(pa.array(["x" * 10_000]), [30_000]),
    "runs of nulls": lambda: run_ended(pa.nulls(1, pa.int8()), [2**31 - 1]),
    "views": lambda: views("x" * 10_000, 30_000),
    "list views": lambda: list_views(pa.array(range(3_000)), 10_000),
    "list views of nulls": lambda: list_views(pa.nulls(2**31 - 1), 2),
    "nulls": lambda: pa.nulls(2**31 - 1),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_what_stands_for_too_much_is_refused_at_little_cost(name: str) -> None:
    batch = pa.RecordBatch.from_arrays([TOO_MUCH[name]()], ["a"])
    before = pa.total_allocated_bytes()
    with pytest.raises(LimitExceededError, match="dictionaries"):
        next(in_parts(batch, at_most=64 << 20))
    assert pa.total_allocated_bytes() - before < 1 << 20


def test_a_batch_that_does_not_expand_is_given_as_it_is() -> None:
    batch = pa.record_batch({"a": range(10), "s": ["x" * 100] * 10})
    assert list(in_parts(batch, at_most=1, part_bytes=1000)) == [batch]
    assert [len(part) for part in in_parts(batch, at_most=1, part_bytes=80, beside=20)] == [4, 4, 2]
    empty = batch.slice(0, 0)
    assert list(in_parts(empty, at_most=1)) == [empty]


@given(
    st.lists(st.integers(0, 200), min_size=1, max_size=40), st.integers(1, 500), st.integers(0, 50)
)
def test_every_row_is_in_one_part_and_parts_are_as_long_as_may_be(
    lengths: list[int], part: int, beside: int
) -> None:
    texts = pa.array(["x" * length for length in lengths])
    rows = pa.DictionaryArray.from_arrays(pa.array(range(len(lengths)), pa.int16()), texts)
    batch = pa.record_batch({"a": rows})
    result = list(in_parts(batch, at_most=1e9, part_bytes=part, beside=beside))
    assert pa.Table.from_batches(result).num_rows == len(lengths)
    sizes = [length + 8 + beside for length in lengths]
    start = 0
    for each in result:
        end = start + len(each)
        assert sum(sizes[start:end]) <= part or len(each) == 1
        assert end == len(lengths) or sum(sizes[start : end + 1]) > part
        start = end
