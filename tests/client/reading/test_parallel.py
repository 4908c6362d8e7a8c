from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any, Self

import pyarrow as pa
import pytest

from fletching.client.cancellation import Cancellation
from fletching.client.reading.parallel import read_in_order
from fletching.errors import NotFoundError

ROW_BYTES = 8


class Reader:
    """Stands for an `ArrowReader` whose batches are numbered."""

    def __init__(self, log: Log, split: int, batches: int, error: BaseException | None) -> None:
        self.log, self.split, self.batches, self.error = log, split, batches, error

    def __enter__(self) -> Self:
        with self.log.lock:
            self.log.open += 1
            self.log.most_open = max(self.log.most_open, self.log.open)
        return self

    def __exit__(self, *exc: object) -> None:
        with self.log.lock:
            self.log.open -= 1

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for number in range(self.batches):
            with self.log.lock:
                self.log.made += 1
                self.log.most_ahead = max(self.log.most_ahead, self.log.made - self.log.taken)
            yield pa.record_batch({"n": pa.array([self.split * 1000 + number], pa.int64())})
        if self.error is not None:
            raise self.error


class Log:
    """What the readers did; batches made and taken."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.open = self.most_open = self.made = self.taken = self.most_ahead = 0

    def openers(
        self, counts: list[int], errors: dict[int, BaseException] | None = None
    ) -> list[Callable[[], Any]]:
        errors = errors or {}
        return [
            functools.partial(Reader, self, split, count, errors.get(split))
            for split, count in enumerate(counts)
        ]

    def read(self, batches: Iterator[pa.RecordBatch]) -> Iterator[int]:
        for batch in batches:
            with self.lock:
                self.taken += 1
            yield batch.column(0)[0].as_py()


def expected(counts: list[int]) -> list[int]:
    return [split * 1000 + number for split, count in enumerate(counts) for number in range(count)]


@pytest.mark.parametrize("connections", [1, 2, 3, 16])
@pytest.mark.parametrize(
    "counts", [[], [0], [5], [3, 0, 7, 1, 0, 0, 4], [1] * 40, [200, 1, 1]], ids=str
)
@pytest.mark.parametrize("ahead", [0, ROW_BYTES * 3, 10**6])
def test_batches_come_in_the_order_of_the_splits(
    connections: int, counts: list[int], ahead: int
) -> None:
    log = Log()
    batches = read_in_order(
        log.openers(counts),
        connections=connections,
        read_ahead_bytes=ahead,
        cancellation=Cancellation(),
    )
    assert list(log.read(batches)) == expected(counts)
    assert log.open == 0
    assert log.most_open <= connections


def test_what_is_held_is_bounded() -> None:
    log = Log()
    batches = read_in_order(
        log.openers([100] * 6),
        connections=3,
        read_ahead_bytes=ROW_BYTES * 10,
        cancellation=Cancellation(),
    )
    assert len(list(log.read(batches))) == 600
    # ten in the budget, one in each worker's hand, one for the lane in turn, one with the caller
    assert log.most_ahead <= 10 + 3 + 1 + 1


def test_workers_really_work_at_once() -> None:
    meeting = threading.Barrier(3, timeout=600)

    class Meeting(Reader):
        def __iter__(self) -> Iterator[pa.RecordBatch]:
            meeting.wait()
            yield from super().__iter__()

    log = Log()
    openers = [functools.partial(Meeting, log, split, 2, None) for split in range(3)]
    batches = read_in_order(
        openers,  # type: ignore[arg-type]  # stands for a reader
        connections=3,
        read_ahead_bytes=10**6,
        cancellation=Cancellation(),
    )
    assert list(log.read(batches)) == expected([2, 2, 2])


def test_an_error_is_raised_in_its_turn() -> None:
    log = Log()
    error = NotFoundError("gone")
    batches = log.read(
        read_in_order(
            log.openers([3, 2, 5], {1: error}),
            connections=3,
            read_ahead_bytes=10**6,
            cancellation=Cancellation(),
        )
    )
    assert [next(batches) for _ in range(5)] == [0, 1, 2, 1000, 1001]
    with pytest.raises(NotFoundError) as caught:
        next(batches)
    assert caught.value is error
    assert log.open == 0


def test_dropping_the_iterator_ends_the_threads() -> None:
    log = Log()
    batches = read_in_order(
        log.openers([1000] * 5), connections=4, read_ahead_bytes=0, cancellation=Cancellation()
    )
    before = set(threading.enumerate())  # those of other tests may end meanwhile
    next(batches)
    assert set(threading.enumerate()) - before
    batches.close()
    assert not set(threading.enumerate()) - before
    assert log.open == 0


def test_nothing_starts_before_the_first_batch_is_wanted() -> None:
    before = threading.active_count()
    read_in_order(
        Log().openers([1, 1]), connections=2, read_ahead_bytes=0, cancellation=Cancellation()
    )
    assert threading.active_count() <= before


def test_leaving_does_not_wait_for_a_reader_that_waits() -> None:
    cancellation = Cancellation()
    waits, ended = threading.Event(), threading.Event()

    class Silent(Reader):
        """Its second split waits for a peer that says nothing."""

        def __iter__(self) -> Iterator[pa.RecordBatch]:
            yield from super().__iter__()
            if self.split:
                waits.set()
                try:
                    cancellation.wait(600)
                finally:
                    ended.set()

    log = Log()
    openers = [functools.partial(Silent, log, split, 2, None) for split in range(3)]
    batches = read_in_order(
        openers,  # type: ignore[arg-type]  # stands for a reader
        connections=3,
        read_ahead_bytes=10**6,
        cancellation=cancellation,
    )
    next(batches)
    assert waits.wait(600)
    batches.close()
    assert cancellation.cancelled
    assert ended.wait(600)


def test_a_reader_that_cannot_be_woken_does_not_hold_up_who_leaves() -> None:
    stuck, release = threading.Event(), threading.Event()

    class Stuck(Reader):
        """Waits for what nothing interrupts, such as a name that is looked up."""

        def __iter__(self) -> Iterator[pa.RecordBatch]:
            yield from super().__iter__()
            if self.split:
                stuck.set()
                release.wait(600)

    log = Log()
    before = set(threading.enumerate())
    openers = [functools.partial(Stuck, log, split, 2, None) for split in range(2)]
    batches = read_in_order(
        openers,  # type: ignore[arg-type]  # stands for a reader
        connections=2,
        read_ahead_bytes=10**6,
        cancellation=Cancellation(),
    )
    next(batches)
    assert stuck.wait(600)
    batches.close()
    left = [thread for thread in set(threading.enumerate()) - before if "read" in thread.name]
    assert left
    release.set()
    for thread in left:
        thread.join(20)


def test_what_was_taken_makes_room_again() -> None:
    # Three times the budget passes through; in its second half a lane still gets ahead.
    log = Log()
    batches = log.read(
        read_in_order(
            log.openers([20, 20, 20]),
            connections=2,
            read_ahead_bytes=ROW_BYTES * 20,
            cancellation=Cancellation(),
        )
    )
    for _ in range(41):
        next(batches)
    deadline = threading.Event()
    for _ in range(2000):
        with log.lock:
            ahead = log.made - log.taken
        if ahead >= 10:
            break
        deadline.wait(0.01)
    assert ahead >= 10
    assert len(list(batches)) == 19
