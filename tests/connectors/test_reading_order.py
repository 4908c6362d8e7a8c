"""Rows in the order of reading: batches over blocks' borders, positions after them, blobs fetched together."""

from __future__ import annotations

import collections
import threading
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.connectors.reading_order import OrderedRows, ahead, take
from fletching.connectors.sampling import Position


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=6), st.lists(st.integers(1, 7), max_size=12)
)
def test_batches_are_cut_from_blocks(lengths: list[int], counts: list[int]) -> None:
    pending: collections.deque[OrderedRows] = collections.deque()
    places: list[tuple[int, int]] = []
    for block, length in enumerate(lengths):
        start = len(places)
        pending.append(OrderedRows(pa.table({"n": range(start, start + length)}), block, 0))
        places += [(block, row + 1) for row in range(length)]
    done = 0
    for count in counts:
        if done + count > len(places):
            break
        rows, position = take(pending, count)
        assert rows["n"].to_pylist() == list(range(done, done + count))
        done += count
        assert position == Position(*places[done - 1])


def items(most: int, made: list[int]) -> Iterator[tuple[dict[str, Any], Position]]:
    for number in range(most):
        made.append(number)
        yield {"n": number}, Position(0, number)


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_the_same_items_whoever_makes_them(depth: int) -> None:
    found = list(ahead(items(10, []), depth))
    assert [each["n"] for each, _ in found] == list(range(10))
    assert found[-1][1] == Position(0, 9)


def test_no_more_are_made_ahead_than_asked_for_and_leaving_ends_it() -> None:
    made: list[int] = []
    source = ahead(items(1000, made), 3)
    next(source)
    source.close()  # type: ignore[attr-defined]  # a generator
    for thread in threading.enumerate():
        if thread.name == "fletching-prefetch":
            thread.join(60)
    assert len(made) <= 8


def test_what_making_raises_is_raised_in_its_place() -> None:
    def failing() -> Iterator[tuple[dict[str, Any], Position]]:
        yield {}, Position(0, 1)
        raise ZeroDivisionError

    source = ahead(failing(), 2)
    next(source)
    with pytest.raises(ZeroDivisionError):
        next(source)
