"""Ranges of remote objects, fetched together, several requests at a time and ahead of who wants them.

Ranges are taken in windows of some MiB. Those of a window are joined (`fletching.range_joining`), each
joined range is one request, and the requests of the next windows are under way while one is used: so
what a caller waits for is bandwidth, and hardly ever the time that a request takes.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import pyarrow as pa

from fletching.range_joining import BYTES_PER_REQUEST, LONGEST_BYTES, JoinedRange, join_ranges

__all__ = ["CONCURRENCY", "RangePool"]

CONCURRENCY: Final = 16
"""Requests of one store at once, over all readers."""

FIRST_WINDOW_BYTES: Final = 4 << 20
"""The first window is small, since somebody waits for it, and one request."""

WINDOW_BYTES: Final = 16 << 20
WINDOWS_AHEAD: Final = 2
"""Windows under way beside the one that is used: what a reader holds at most is three."""

FIRST_SPAN_BYTES: Final = LONGEST_BYTES
SPAN_BYTES: Final = 4 * WINDOW_BYTES
"""The most that a window moves for its bytes, gaps included: for a narrow column of a wide table, too, nobody waits
longer than that takes."""

MOSTLY_WANTED: Final = 0.75
"""Of a request that brought less than this part for its reader, the wanted bytes are copied out."""

_ALIGNMENT: Final = 8

Range = tuple[int, int]
Get = Callable[[int, int], memoryview]
"""Fetches bytes ``start`` to ``end``, which are not none; blocks."""


class RangePool:
    """The threads that wait for a store. Thread-safe."""

    def __init__(self, concurrency: int = CONCURRENCY) -> None:
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="fletching-objects")

    def fetch(
        self,
        get: Get,
        ranges: Iterable[Range],
        *,
        ahead: bool = True,
        bytes_per_request: int = BYTES_PER_REQUEST,
    ) -> Generator[memoryview, None, None]:
        """The bytes of ranges of one object, in the order given; blocks.

        Args:
            get: fetches a range.
            ranges: in any order; asked for as they are needed.
            ahead: whether to fetch further windows before they are wanted.
            bytes_per_request: as of ``join_ranges``.

        Memory: the views of one window share memory, that of its requests where most of what those bring is
        wanted. So a reader holds hardly more than the windows' own bytes, and what is under way, however much
        lies between its ranges.

        Raises:
            StorageError: what ``get`` raises.
        """
        windows = _windows(iter(ranges), bytes_per_request)
        # What earlier windows moved beyond, or short of, what their requests are worth.
        spare = 0
        under_way: deque[_Window] = deque()
        try:
            while True:
                while len(under_way) <= (WINDOWS_AHEAD if ahead else 0):
                    window = next(windows, None)
                    if window is None:
                        break
                    begun = _Window(window, get, self._threads, bytes_per_request, spare)
                    spare += begun.moved - begun.requests * bytes_per_request
                    # Where gaps are too long to be closed, windows behind them need not make up for it.
                    spare = max(-bytes_per_request, spare)
                    under_way.append(begun)
                if not under_way:
                    return
                yield from under_way.popleft().views()
        finally:
            for window_left in under_way:
                window_left.cancel()

    def close(self) -> None:
        """Starts nothing any more; what is under way ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _windows(ranges: Iterator[Range], gap_bytes: int) -> Iterator[list[Range]]:
    """Ranges in windows; ``gap_bytes`` is the longest gap that may be fetched with its neighbours."""
    most, span = FIRST_WINDOW_BYTES, FIRST_SPAN_BYTES
    window: list[Range] = []
    size = moved = 0
    for start, end in ranges:
        gap = max(0, start - window[-1][1]) if window else 0
        length = end - start
        moved += length + (gap if gap <= gap_bytes else 0)
        if window and (size + length > most or moved > span):
            yield window
            window, size, moved, most, span = [], 0, length, WINDOW_BYTES, SPAN_BYTES
        window.append((start, end))
        size += length
    if window:
        yield window


class _Window:
    """Ranges that are fetched together.

    Attributes:
        moved, requests: bytes that are asked for, in so many requests.
    """

    def __init__(
        self,
        ranges: Sequence[Range],
        get: Get,
        threads: ThreadPoolExecutor,
        bytes_per_request: int,
        spare_bytes: int,
    ) -> None:
        self._ranges = ranges
        self.moved = 0
        order = sorted(range(len(ranges)), key=ranges.__getitem__)
        self._requests: list[tuple[list[int], JoinedRange, Future[list[memoryview]]]] = []
        for run in _without_overlaps(order, ranges):
            wanted = [ranges[index] for index in run]
            for joined in join_ranges(
                wanted, bytes_per_request=bytes_per_request, spare_bytes=spare_bytes
            ):
                self.moved += joined.length
                future = threads.submit(_fetched, get, joined)
                self._requests.append((run, joined, future))
        self.requests = len(self._requests)

    def views(self) -> Iterator[memoryview]:
        """The ranges' bytes, in the order in which they were asked for."""
        parts: dict[int, list[memoryview]] = {}
        for run, joined, future in self._requests:
            for (index, _, _), view in zip(joined.parts, future.result(), strict=True):
                parts.setdefault(run[index], []).append(view)
        self._requests.clear()
        for position in range(len(self._ranges)):
            result = parts.pop(position, [])
            if len(result) == 1:
                yield result[0]
            else:
                # A copy: the range is longer than a request, and was brought by several at once.
                yield memoryview(b"".join(result))

    def cancel(self) -> None:
        """Gives up what was not begun."""
        for _, _, future in self._requests:
            future.cancel()


def _fetched(get: Get, joined: JoinedRange) -> list[memoryview]:
    """The wanted parts of one request's bytes."""
    data = get(joined.start, joined.end)
    indices = [(start - joined.start, end - joined.start) for _, start, end in joined.parts]
    wanted = sum(end - start for start, end in indices)
    if wanted > MOSTLY_WANTED * joined.length:
        return [data[start:end] for start, end in indices]
    # A copy of what is wanted, so that what lies between is not held until it is sent. The thread gives the memory
    # of its request back itself, which costs no new pages the next time.
    memory = memoryview(pa.allocate_buffer(wanted + _ALIGNMENT * len(indices))).cast("B")
    parts: list[memoryview] = []
    position = 0
    for start, end in indices:
        # Where values are aligned in the object, they stay so.
        position += (joined.start + start - position) % _ALIGNMENT
        part = memory[position : position + end - start]
        part[:] = data[start:end]
        parts.append(part.toreadonly())
        position += end - start
    return parts


def _without_overlaps(order: Sequence[int], ranges: Sequence[Range]) -> list[list[int]]:
    """The places of ascending ranges in runs that do not overlap; nearly always one."""
    runs: list[list[int]] = []
    for index in order:
        for run in runs:
            if ranges[run[-1]][1] <= ranges[index][0]:
                run.append(index)
                break
        else:
            runs.append([index])
    return runs


def slices(start: int, end: int, length: int) -> Iterator[Range]:
    """A range in parts of some length."""
    bounds = [*range(start, end, length), end]
    return itertools.pairwise(bounds)
