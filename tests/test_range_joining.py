"""Joined ranges: every wanted byte once, few requests, and not much that nobody wants."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.range_joining import BYTES_PER_REQUEST, LONGEST_BYTES, join_ranges

MIB = 1 << 20


@st.composite
def ascending(draw: st.DrawFn) -> list[tuple[int, int]]:
    ranges, position = [], 0
    sizes = st.integers(0, 3 * MIB) | st.integers(0, 100) | st.just(20 * MIB)
    for _ in range(draw(st.integers(0, 12))):
        position += draw(sizes)
        end = position + draw(sizes)
        ranges.append((position, end))
        position = end
    return ranges


@given(ascending())
def test_every_wanted_byte_is_in_one_request(ranges: list[tuple[int, int]]) -> None:
    received: dict[int, list[tuple[int, int]]] = {}
    last = -1
    for joined in join_ranges(ranges):
        assert joined.start >= last
        assert joined.length <= LONGEST_BYTES
        last = joined.end
        assert joined.parts
        assert joined.parts[0][1] == joined.start
        assert joined.parts[-1][2] == joined.end
        for index, start, end in joined.parts:
            assert joined.start <= start < end <= joined.end
            received.setdefault(index, []).append((start, end))
    for index, (start, end) in enumerate(ranges):
        pieces = received.pop(index, [])
        position = start
        for first, stop in pieces:
            assert first == position
            position = stop
        assert position == end
    assert not received


@given(ascending())
def test_requests_are_as_few_as_what_is_moved_allows(ranges: list[tuple[int, int]]) -> None:
    joined = join_ranges(ranges, longest_bytes=1 << 40)
    moved = sum(each.length for each in joined)
    gaps = [second.start - first.end for first, second in itertools.pairwise(joined)]
    # Unless the gaps that are left are worth more than the requests they would save.
    few = len(joined) <= max(1, moved / BYTES_PER_REQUEST)
    assert few or all(gap > BYTES_PER_REQUEST for gap in gaps)


@pytest.mark.parametrize(
    ("ranges", "requests"),
    [
        ([], 0),
        ([(5, 5)], 0),
        ([(0, 10), (20, 30)], 1),
        ([(0, 8 * MIB), (9 * MIB, 17 * MIB)], 2),
        ([(0, MIB), (2 * MIB, 3 * MIB)], 1),
        ([(0, 100), (100 + 5 * MIB, 200 + 5 * MIB)], 2),
        ([(0, 24 * MIB)], 3),
    ],
)
def test_known_cases(ranges: list[tuple[int, int]], requests: int) -> None:
    assert len(join_ranges(ranges)) == requests


@pytest.mark.parametrize(
    ("spare", "requests"), [(-3 * MIB, 1), (0, 1), (MIB, 2), (2 * MIB, 2), (6 * MIB, 3)]
)
def test_what_was_moved_before_may_be_spent(spare: int, requests: int) -> None:
    ranges = [(0, 2 * MIB), (3 * MIB, 5 * MIB), (6 * MIB, 8 * MIB)]
    assert len(join_ranges(ranges, spare_bytes=spare)) == requests


@pytest.mark.parametrize("ranges", [[(0, 10), (5, 20)], [(10, 20), (0, 5)]])
def test_ranges_out_of_order(ranges: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="order"):
        join_ranges(ranges)
