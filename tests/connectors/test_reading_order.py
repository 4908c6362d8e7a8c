"""Batches cut from blocks, blobs fetched for several of them, and items that are made ahead."""

from __future__ import annotations

import collections
import itertools
import platform
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fletching
from fletching.connectors import reading_order
from fletching.connectors.reading_order import OrderedRows, ahead, take, with_contents
from fletching.connectors.sampling import Position


@pytest.fixture(params=["at hand", "thread"])
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Items made where they are used, and by a thread from the first on."""
    if request.param == "thread":
        monkeypatch.setattr(reading_order, "LEAST_SAVED", 0)


@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=8), size=st.integers(1, 15))
def test_batches_are_the_rows_in_order(lengths: list[int], size: int) -> None:
    numbers = itertools.count()
    pending = collections.deque(
        OrderedRows(pa.table({"n": [next(numbers) for _ in range(length)]}), block, 3)
        for block, length in enumerate(lengths)
    )
    seen: list[int] = []
    while held := sum(rows.length for rows in pending):
        rows, position = take(pending, min(size, held))
        seen += rows["n"].to_pylist()
        # The position is behind the last row: that of its block, which began at row 3.
        before = sum(lengths[: position.block])
        assert position.row == 3 + len(seen) - before
    assert seen == list(range(sum(lengths)))


SCHEMA = pa.schema([("id", pa.int64()), ("image", fletching.blob()), ("more", fletching.blob())])


def _batches(rows: list[int]) -> Iterator[tuple[pa.Table, Position]]:
    start = 0
    for number, count in enumerate(rows):
        ids = range(start, start + count)
        cells = pa.array([b"%d" % n for n in ids], pa.binary())
        blob = fletching.blob()
        columns = [pa.array(ids), blob.wrap_array(cells), blob.wrap_array(cells)]
        yield pa.table(columns, schema=SCHEMA), Position(0, number)
        start += count


@pytest.mark.usefixtures("_both_ways")
@pytest.mark.parametrize("content_bytes", [1, 100, 1 << 20])
@pytest.mark.parametrize("ahead_of_use", [False, True])
def test_each_batch_has_its_own_blobs(
    content_bytes: int, ahead_of_use: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_order, "CONTENT_BYTES", content_bytes)
    asked: list[int] = []

    def fetch(column: pa.ChunkedArray) -> Iterator[bytes | None]:
        asked.append(len(column))
        cells = [cell for chunk in column.chunks for cell in chunk.storage.to_pylist()]
        return iter([None if int(cell) % 5 == 0 else b"data of " + cell for cell in cells])

    sizes = [4, 1, 7, 4, 4, 4, 4, 4, 4, 4, 2]
    result = list(with_contents(_batches(sizes), SCHEMA, fetch, ahead_of_use=ahead_of_use))
    assert [rows.num_rows for rows, _, _ in result] == sizes
    assert [position.row for _, position, _ in result] == list(range(len(sizes)))
    for rows, _, blobs in result:
        wanted = [None if n % 5 == 0 else b"data of %d" % n for n in rows["id"].to_pylist()]
        assert blobs == {"image": wanted, "more": wanted}
    # One batch at first, and of small blobs several at once soon.
    assert asked[:2] == [4, 4]
    assert (len(asked) < 2 * len(sizes)) == (content_bytes > 1) or ahead_of_use


def test_without_blobs_nothing_is_fetched() -> None:
    plain = pa.table({"id": [1, 2]})
    source = iter([(plain, Position(0, 2)), (plain, Position(0, 4))])
    result = with_contents(source, plain.schema, lambda _: pytest.fail("nothing is there"))
    assert [blobs for _, _, blobs in result] == [{}, {}]


@pytest.mark.usefixtures("_both_ways")
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_what_is_made_ahead_is_the_same(depth: int) -> None:
    items: list[Any] = [({"n": n}, Position(0, n)) for n in range(20)]
    assert list(ahead(iter(items), depth)) == items


@pytest.mark.usefixtures("_both_ways")
def test_an_error_of_the_source_is_raised_where_it_is_read() -> None:
    def source() -> Iterator[Any]:
        yield {"n": 1}, Position(0, 1)
        raise ValueError("the source failed")

    items = ahead(source(), 2)
    assert next(items)[0] == {"n": 1}
    with pytest.raises(ValueError, match="the source failed"):
        next(items)


def test_no_more_is_made_than_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_order, "LEAST_SAVED", 0)
    made = 0

    def source() -> Iterator[Any]:
        nonlocal made
        for made in itertools.count(1):  # counted for the test
            yield {}, Position(0, made)

    items = ahead(source(), 2)
    for _ in range(5):
        next(items)
    items.close()  # type: ignore[attr-defined]
    for thread in threading.enumerate():
        if thread.name == "fletching-prefetch":
            thread.join(600)
            assert not thread.is_alive()
    assert made <= 5 + 2 + 1


class Clock:
    """Seconds that a test says have gone by."""

    def __init__(self) -> None:
        self.computed = self.waited = 0.0

    def perf_counter(self) -> float:
        return self.computed + self.waited

    def thread_time(self) -> float:
        return self.computed


@pytest.mark.parametrize(
    ("computed", "waited", "used", "waits_alone", "first_by_thread"),
    [
        # Milliseconds for each item, and the first of forty that a thread makes.
        (5, 0, 0, False, None),  # nothing to make it beside
        (5, 0, 0.2, False, None),  # as long as handing it over takes
        (0.2, 0, 50, False, None),
        (5, 0, 50, False, 3),
        (5, 0, 50, True, None),  # whoever uses it would compute as much later
        (0, 5, 50, True, 3),
        (5, 5, 1.2, True, 11),
        (0, 50, 0, True, None),
    ],
)
def test_a_thread_begins_where_it_saves_time(
    computed: float,
    waited: float,
    used: float,
    waits_alone: bool,
    first_by_thread: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(reading_order, "time", clock)

    def source() -> Iterator[tuple[int, bool]]:
        for number in range(40):
            clock.computed += computed / 1000
            clock.waited += waited / 1000
            yield number, threading.current_thread().name == "fletching-prefetch"

    result = []
    for each in ahead(source(), 2, waits_alone=waits_alone):
        result.append(each)
        clock.waited += used / 1000
    first = 40 if first_by_thread is None else first_by_thread
    assert result == [(number, number >= first) for number in range(40)]


FAULTS = """
import resource
import pyarrow as pa
import fletching
from fletching.connectors.reading_order import with_contents
from fletching.connectors.sampling import Position

schema = pa.schema([("image", fletching.blob())])
rows = pa.table({"image": pa.array([b"x"] * 256, schema.field("image").type.storage_type)})
batches = iter([(rows, Position(0, 0))])
list(with_contents(batches, schema, lambda column: iter([b"x"] * len(column))))
counts = []
for _ in range(10):
    blobs = [bytes([1]) * 32_768 for _ in range(512)]
    del blobs
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(counts[-1] - counts[4])
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="what another C library keeps is its own"
)
def test_memory_of_blobs_is_used_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # Five groups are 80 MiB, or 20,000 pages.
    assert int(done.stdout) < 5_000
