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

from fletching.range_joining import BYTES_PER_REQUEST, JoinedRange, join_ranges

__all__ = ["CONCURRENCY", "RangePool"]

CONCURRENCY: Final = 16
"""Requests of one store at once, over all readers."""

FIRST_WINDOW_BYTES: Final = 4 << 20
"""The first window is small, since somebody waits for it, and one request."""

WINDOW_BYTES: Final = 16 << 20
WINDOWS_AHEAD: Final = 2
"""Windows under way beside the one that is used: what a reader holds at most is three."""

Range = tuple[int, int]
Get = Callable[[int, int], memoryview]
"""Fetches bytes ``start`` to ``end``, which are not none; blocks."""


class RangePool:
    """The threads that wait for a store. Thread-safe."""

    def __init__(self, concurrency: int = CONCURRENCY) -> None:
        """Starts no thread yet."""
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

        Memory: the views of one window share the memory of its requests.

        Raises:
            StorageError: what ``get`` raises.
        """
        windows = _windows(iter(ranges))
        under_way: deque[_Window] = deque()
        try:
            while True:
                while len(under_way) <= (WINDOWS_AHEAD if ahead else 0):
                    window = next(windows, None)
                    if window is None:
                        break
                    under_way.append(_Window(window, get, self._threads, bytes_per_request))
                if not under_way:
                    return
                yield from under_way.popleft().views()
        finally:
            for window_left in under_way:
                window_left.cancel()

    def close(self) -> None:
        """Starts nothing any more; what is under way ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _windows(ranges: Iterator[Range]) -> Iterator[list[Range]]:
    most = FIRST_WINDOW_BYTES
    window: list[Range] = []
    size = 0
    for start, end in ranges:
        if window and size + end - start > most:
            yield window
            window, size, most = [], 0, WINDOW_BYTES
        window.append((start, end))
        size += end - start
    if window:
        yield window


class _Window:
    """Ranges that are fetched together."""

    def __init__(
        self,
        ranges: Sequence[Range],
        get: Get,
        threads: ThreadPoolExecutor,
        bytes_per_request: int,
    ) -> None:
        self._ranges = ranges
        order = sorted(range(len(ranges)), key=ranges.__getitem__)
        self._requests: list[tuple[list[int], JoinedRange, Future[memoryview]]] = []
        for run in _without_overlaps(order, ranges):
            wanted = [ranges[place] for place in run]
            for joined in join_ranges(wanted, bytes_per_request=bytes_per_request):
                future = threads.submit(get, joined.start, joined.end)
                self._requests.append((run, joined, future))

    def views(self) -> Iterator[memoryview]:
        """The ranges' bytes, in the order in which they were asked for."""
        pieces: dict[int, list[memoryview]] = {}
        for run, joined, future in self._requests:
            data = future.result()
            for index, start, end in joined.parts:
                view = data[start - joined.start : end - joined.start]
                pieces.setdefault(run[index], []).append(view)
        self._requests.clear()
        for place in range(len(self._ranges)):
            found = pieces.pop(place, [])
            if len(found) == 1:
                yield found[0]
            else:
                # A copy: the range is longer than a request, and was brought by several at once.
                yield memoryview(b"".join(found))

    def cancel(self) -> None:
        """Gives up what was not begun."""
        for _, _, future in self._requests:
            future.cancel()


def _without_overlaps(order: Sequence[int], ranges: Sequence[Range]) -> list[list[int]]:
    """The places of ascending ranges in runs that do not overlap; nearly always one."""
    runs: list[list[int]] = []
    for place in order:
        for run in runs:
            if ranges[run[-1]][1] <= ranges[place][0]:
                run.append(place)
                break
        else:
            runs.append([place])
    return runs


def slices(start: int, end: int, length: int) -> Iterator[Range]:
    """A range in parts of some length."""
    bounds = [*range(start, end, length), end]
    return itertools.pairwise(bounds)
