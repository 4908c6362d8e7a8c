"""Which byte ranges of one remote file are fetched together.

A request costs a remote store, and whoever waits for it, about as much as some MiB of payload. So
ranges that lie near to each other are fetched in one request, with what lies between them, which is
dropped: gaps are closed, the smallest first, until there is no more than one request for each
``bytes_per_request`` that are moved, or only gaps are left that cost more than the request they save.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Final

__all__ = ["BYTES_PER_REQUEST", "JoinedRange", "join_ranges"]

BYTES_PER_REQUEST: Final = 4 << 20
"""So many bytes cost about as much as a request."""

SMALL_GAP_BYTES: Final = 64 << 10
"""Smaller gaps are always closed."""

LONGEST_BYTES: Final = 8 << 20
"""Longer ranges are divided, so that several requests bring them at once."""


@dataclasses.dataclass(frozen=True, slots=True)
class JoinedRange:
    """One request: bytes ``start`` to ``end``, and the parts of them that are wanted.

    Attributes:
        start, end: what is fetched.
        parts: (index of a wanted range, start, end) in ascending order: bytes of the file.
    """

    start: int
    end: int
    parts: tuple[tuple[int, int, int], ...]

    @property
    def length(self) -> int:
        """Bytes moved."""
        return self.end - self.start


def join_ranges(
    ranges: Sequence[tuple[int, int]],
    *,
    bytes_per_request: int = BYTES_PER_REQUEST,
    longest_bytes: int = LONGEST_BYTES,
    spare_bytes: int = 0,
) -> list[JoinedRange]:
    """The requests that fetch some ranges of one file.

    Args:
        ranges: (start, end) of each, half-open, ascending and without overlaps; empty ones are left
            out.
        bytes_per_request: what a request is worth.
        longest_bytes: the longest request; a range that is longer is in several.
        spare_bytes: count as moved, too: by so much earlier requests of the same file brought more than they had
            to; below 0 if less.

    Raises:
        ValueError: ranges that overlap, or are not in order.
    """
    wanted = [(index, start, end) for index, (start, end) in enumerate(ranges) if start < end]
    if not wanted:
        return []
    gaps = [following[1] - before[2] for before, following in itertools.pairwise(wanted)]
    if any(gap < 0 for gap in gaps):
        raise ValueError("the ranges overlap, or are not in order")
    lengths = [end - start for _, start, end in wanted]
    closed = _closed_gaps(gaps, lengths, bytes_per_request, longest_bytes, spare_bytes)
    joined: list[JoinedRange] = []
    parts: list[tuple[int, int, int]] = []
    for number, part in enumerate(wanted):
        parts.append(part)
        if number == len(gaps) or not closed[number]:
            joined += _divided(parts, longest_bytes)
            parts = []
    return joined


def _closed_gaps(
    gaps: Sequence[int],
    lengths: Sequence[int],
    bytes_per_request: int,
    longest_bytes: int,
    spare_bytes: int,
) -> list[bool]:
    """Which gaps are fetched with their neighbours; what they join is not longer than a request may be."""
    closed = [False] * len(gaps)
    divisions = [-(-length // longest_bytes) for length in lengths]
    requests = sum(divisions)
    worth = spare_bytes + sum(lengths)
    # Of each run of joined ranges, at its first and its last place: where it ends and begins, and how long its last
    # request is. A range that is longer than a request begins one.
    ends = list(range(len(lengths)))
    begins = list(ends)
    sizes = [-(-length // count) for length, count in zip(lengths, divisions, strict=True)]
    for index in sorted(range(len(gaps)), key=gaps.__getitem__):
        gap = gaps[index]
        few = requests * bytes_per_request <= worth
        if gap > SMALL_GAP_BYTES and (few or gap > bytes_per_request):
            break
        first, last = begins[index], ends[index + 1]
        size = sizes[index] + gap + sizes[last]
        if size > longest_bytes or divisions[index + 1] > 1:
            continue
        closed[index] = True
        ends[first], begins[last] = last, first
        sizes[first] = sizes[last] = size
        requests -= 1
        worth += gap
    return closed


def _divided(parts: list[tuple[int, int, int]], longest_bytes: int) -> list[JoinedRange]:
    """One request, or several, which end where wanted ranges do unless one alone is too long."""
    divided: list[JoinedRange] = []
    taken: list[tuple[int, int, int]] = []

    def end_request() -> None:
        if taken:
            divided.append(JoinedRange(taken[0][1], taken[-1][2], tuple(taken)))
            taken.clear()

    for index, start, end in parts:
        if taken and end - taken[0][1] > longest_bytes:
            end_request()
        count = -(-(end - start) // longest_bytes)
        for number in range(count):
            first = start + (end - start) * number // count
            last = start + (end - start) * (number + 1) // count
            taken.append((index, first, last))
            if number + 1 < count:
                end_request()
    end_request()
    return divided
