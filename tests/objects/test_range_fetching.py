"""Ranges come in the order asked for, in few requests, ahead of who wants them and not further."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fletching.objects.range_fetching import (
    FIRST_WINDOW_BYTES,
    SPAN_BYTES,
    WINDOW_BYTES,
    WINDOWS_AHEAD,
    RangePool,
    slices,
)
from fletching.range_joining import LONGEST_BYTES

DATA = bytes(range(256)) * 64
MIB = 1 << 20


@pytest.fixture
def pool() -> Iterator[RangePool]:
    pool = RangePool(4)
    yield pool
    pool.close()


class Source:
    """Counts requests; a range of any length costs no memory."""

    def __init__(self) -> None:
        self.requests: list[tuple[int, int]] = []
        self._zeros = memoryview(bytes(1))

    def get(self, start: int, end: int) -> memoryview:
        self.requests.append((start, end))
        return memoryview(DATA)[start:end]

    def fake(self, start: int, end: int) -> memoryview:
        self.requests.append((start, end))
        return self._zeros


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, len(DATA) - 1), st.integers(1, 300)), max_size=30),
    st.booleans(),
    st.sampled_from([1, 100, 1 << 20]),
)
def test_every_range_has_its_bytes_in_the_order_asked_for(
    asked: list[tuple[int, int]], ahead: bool, most: int
) -> None:
    ranges = [(start, min(len(DATA), start + length)) for start, length in asked]
    source, pool = Source(), RangePool(2)
    chunks = list(pool.fetch(source.get, ranges, ahead=ahead, bytes_per_request=most))
    assert [bytes(view) for view in chunks] == [DATA[start:end] for start, end in ranges]
    pool.close()


def test_neighbours_share_a_request_and_its_memory(pool: RangePool) -> None:
    source = Source()
    first, second = pool.fetch(source.get, [(100, 200), (0, 100)])
    assert source.requests == [(0, 200)]
    assert bytes(first) + bytes(second) == DATA[100:200] + DATA[:100]
    assert first.obj is second.obj


def test_a_range_longer_than_a_request_is_brought_by_several(pool: RangePool) -> None:
    length = LONGEST_BYTES + 5
    data, asked = memoryview(DATA * (length // len(DATA) + 1)), []

    def get(start: int, end: int) -> memoryview:
        asked.append((start, end))
        return data[start:end]

    (view,) = pool.fetch(get, [(0, length)])
    assert view == data[:length]
    first, second = sorted(asked)
    assert first[0] == 0
    assert first[1] == second[0]
    assert second[1] == length


@pytest.mark.parametrize(("share", "copied"), [(0.2, True), (0.9, False)])
def test_what_lies_between_is_not_held(pool: RangePool, share: float, copied: bool) -> None:
    """A tenth of what requests bring must not keep the other nine in memory until it is sent."""
    data = np.arange(1 << 18, dtype=np.uint8).data
    step = 1 << 12
    ranges = [(8 * n + n * step, 8 * n + n * step + int(share * step)) for n in range(60)]

    def get(start: int, end: int) -> memoryview:
        return data[start:end]

    views = list(pool.fetch(get, ranges))
    assert [bytes(view) for view in views] == [bytes(data[start:end]) for start, end in ranges]
    assert all(view.readonly for view in views) or not copied
    whole = np.frombuffer(data, np.uint8)
    assert copied is not np.shares_memory(whole, np.frombuffer(views[0], np.uint8))
    held = {id(view.obj): memoryview(view.obj).nbytes for view in views}
    if copied:
        assert sum(held.values()) < 2 * sum(end - start for start, end in ranges)
        for (start, _), view in zip(ranges, views, strict=True):
            assert (np.frombuffer(view, np.uint8).ctypes.data - start) % 8 == 0


def test_little_of_a_wide_table_is_waited_for_no_longer_than_much(pool: RangePool) -> None:
    """10 kB of each 3 MB: the first come after one request, and few are under way ahead of them."""
    source, zeros = Source(), memoryview(bytes(LONGEST_BYTES))

    def get(start: int, end: int) -> memoryview:
        source.requests.append((start, end))
        return zeros[: end - start]

    chunks = pool.fetch(get, ((n * 3 * MIB, n * 3 * MIB + 10_000) for n in range(1_000)))
    next(chunks)
    assert source.requests[0][1] <= LONGEST_BYTES
    moved = sum(end - start for start, end in source.requests)
    assert moved <= LONGEST_BYTES + WINDOWS_AHEAD * SPAN_BYTES
    chunks.close()


def wanted(lengths: list[int], *, ahead: bool) -> list[int]:
    """How many ranges were asked for when each is handed out."""
    asked = 0

    def ranges() -> Iterator[tuple[int, int]]:
        nonlocal asked
        position = 0
        for length in lengths:
            asked += 1
            yield position, position + length
            position += length

    source, pool = Source(), RangePool(1)
    taken = [
        asked for _ in pool.fetch(source.fake, ranges(), ahead=ahead, bytes_per_request=1 << 40)
    ]
    pool.close()
    return taken


def test_the_first_window_is_small_and_the_others_are_not() -> None:
    first, later = FIRST_WINDOW_BYTES // MIB, WINDOW_BYTES // MIB
    # A window is known to be full by the range that it has no more room for.
    taken = wanted([MIB] * (first + 2 * later + 1), ahead=False)
    assert taken[:first] == [first + 1] * first
    assert taken[first : first + later] == [first + later + 1] * later
    assert taken[-1] == len(taken)


@pytest.mark.parametrize(("length", "asked"), [(FIRST_WINDOW_BYTES, 2), (WINDOW_BYTES + 1, 2)])
def test_a_range_that_fills_a_window_is_alone_in_it(length: int, asked: int) -> None:
    assert wanted([length, 1, 1], ahead=False)[0] == asked


def test_so_many_windows_are_under_way_and_no_more() -> None:
    lengths = [WINDOW_BYTES] * 9
    ahead, alone = wanted(lengths, ahead=True), wanted(lengths, ahead=False)
    assert ahead[0] == WINDOWS_AHEAD + 2
    assert alone[0] == 2
    assert ahead == [min(9, WINDOWS_AHEAD + 2 + n) for n in range(9)]


def test_leaving_early_gives_up_what_was_not_begun() -> None:
    begun, release, asked = threading.Event(), threading.Event(), []

    def get(start: int, end: int) -> memoryview:
        asked.append(start)
        if start:
            begun.set()
            assert release.wait(600)
        return memoryview(bytes(1))

    pool = RangePool(1)
    # Two windows: the first, then two requests.
    ranges = [(n * WINDOW_BYTES, n * WINDOW_BYTES + LONGEST_BYTES) for n in range(3)]
    chunks = pool.fetch(get, ranges)
    next(chunks)
    assert begun.wait(600)
    chunks.close()
    release.set()
    pool._threads.shutdown(wait=True)
    assert asked == [0, WINDOW_BYTES]


def test_a_failed_request_is_told_where_its_range_is_wanted(pool: RangePool) -> None:
    def get(start: int, end: int) -> memoryview:
        if start:
            raise ConnectionError("gone")
        return memoryview(DATA)[start:end]

    chunks = pool.fetch(get, [(0, LONGEST_BYTES), (WINDOW_BYTES, WINDOW_BYTES + 1)])
    assert len(next(chunks)) == len(DATA)
    with pytest.raises(ConnectionError):
        next(chunks)


def test_a_closed_pool_begins_nothing() -> None:
    pool = RangePool()
    pool.close()
    with pytest.raises((RuntimeError, CancelledError)):
        next(pool.fetch(Source().get, [(0, 1)]))


@pytest.mark.parametrize(
    ("start", "end", "length", "parts"),
    [
        (0, 10, 4, [(0, 4), (4, 8), (8, 10)]),
        (3, 11, 4, [(3, 7), (7, 11)]),
        (5, 6, 4, [(5, 6)]),
        (5, 5, 4, []),
    ],
)
def test_slices(start: int, end: int, length: int, parts: list[tuple[int, int]]) -> None:
    assert list(slices(start, end, length)) == parts
