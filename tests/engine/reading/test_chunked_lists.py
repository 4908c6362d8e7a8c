"""Chunked numbers: what numpy does with flat arrays, whatever the chunks."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.engine.reading import chunked_lists
from fletching.engine.reading.chunked_lists import ChunkedNumbers

number_lists = st.lists(st.integers(-50, 50), max_size=40)


@pytest.fixture(autouse=True)
def small_chunks() -> Iterator[None]:
    with mock.patch.object(chunked_lists, "CHUNK", 3):
        yield


def flat(numbers: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(numbers, dtype=np.int64)


def indices_in(length: int, wanted: list[int]) -> list[int]:
    return sorted({each % length for each in wanted}) if length else []


@given(number_lists, st.lists(st.integers(0, 60), max_size=8))
def test_it_looks_like_a_flat_array(numbers: list[int], indices: list[int]) -> None:
    chunked, expected = ChunkedNumbers.of(flat(numbers)), flat(numbers)
    assert len(chunked) == len(numbers)
    assert chunked.tolist() == list(chunked) == numbers
    assert np.asarray(chunked).tolist() == numbers
    assert np.array(chunked, dtype=np.int32).dtype == np.int32
    for first in indices:
        for end in indices:
            assert chunked[first:end].tolist() == expected[first:end].tolist()
    inside = indices_in(len(numbers), indices)
    assert [chunked[index] for index in inside] == [numbers[index] for index in inside]
    assert [chunked[index - len(numbers)] for index in inside] == [numbers[p] for p in inside]
    assert chunked.take(flat(inside)).tolist() == expected[inside].tolist()
    for outside in (len(numbers), -len(numbers) - 1):
        with pytest.raises(IndexError):
            _ = chunked[outside]
    with pytest.raises(ValueError, match="step"):
        _ = chunked[::2]
    wanted = set(indices)
    assert chunked.indices_of(wanted).tolist() == [n for n, v in enumerate(numbers) if v in wanted]


@given(number_lists, st.lists(st.integers(-60, 60), max_size=20))
def test_it_is_searched_like_a_flat_array(numbers: list[int], values: list[int]) -> None:
    expected = flat(sorted(numbers))
    chunked = ChunkedNumbers.of(expected)
    for side in ("left", "right"):
        result = np.searchsorted(expected, values, side=side).tolist()
        assert [chunked.searchsorted(value, side) for value in values] == result
        assert chunked.searchsorted_all(flat(values), side).tolist() == result
        few = flat(values[:1])
        assert chunked.searchsorted_all(few, side).tolist() == result[:1]


@given(
    number_lists,
    st.lists(
        st.tuples(
            st.sampled_from(["insert", "remove", "shift", "replace", "totals"]),
            st.lists(st.integers(0, 60), max_size=8),
            st.integers(-9, 9),
        ),
        max_size=6,
    ),
)
def test_it_changes_like_a_flat_array(
    numbers: list[int], steps: list[tuple[str, list[int], int]]
) -> None:
    expected = flat(numbers)
    chunked = ChunkedNumbers.of(expected)
    for verb, wanted, number in steps:
        before = chunked.tolist()
        after = chunked
        if verb == "insert":
            at = sorted(each % (len(expected) + 1) for each in wanted)
            values = flat([number + n for n in range(len(at))])
            after = chunked.inserted(flat(at), values)
            expected = np.insert(expected, flat(at), values)
        elif verb == "remove":
            indices = flat(indices_in(len(expected), wanted))
            after = chunked.without(indices)
            expected = np.delete(expected, indices)
        elif verb == "shift":
            at = sorted(each % (len(expected) + 1) for each in wanted)
            after = chunked.shifted(flat(at), np.full(len(at), number))
            behind = [sum(index <= n for index in at) for n in range(len(expected))]
            expected = expected + number * flat(behind)
        elif verb == "replace":
            runs = [(index, flat([number])) for index in indices_in(len(expected), wanted)]
            after = chunked.replaced(runs)
            expected = expected.copy()
            for index, values in runs:
                expected[index : index + 1] = values
        elif len(expected) < 200:
            after = ChunkedNumbers.totals_of(chunked)
            expected = np.concatenate([[0], np.cumsum(expected)])
        assert after.tolist() == expected.tolist()
        assert chunked.tolist() == before
        assert all(len(chunk) for chunk in after._chunks)
        chunked = after


def test_a_long_run_is_replaced_over_chunks() -> None:
    chunked = ChunkedNumbers.of(np.arange(20)).shifted(flat([0]), flat([100]))
    values = np.arange(11, dtype=np.int64)
    expected = [*range(100, 104), *range(11), *range(115, 120)]
    assert chunked.replaced([(4, values)]).tolist() == expected
