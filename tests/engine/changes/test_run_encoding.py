"""How runs are laid out: no more bytes than the keys need, and the same however they came."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.engine.changes import run_encoding
from fletching.engine.changes.run_encoding import (
    BLOCK_ENTRIES,
    AscendingKeys,
    RunLayout,
    encode_run,
    read_tail,
)

COUNT = 10 * BLOCK_ENTRIES + 3


@pytest.mark.parametrize(
    ("step", "width"), [(1, 0), (2, 2), (250, 2), (251, 2), (300, 4), (1 << 24, 4), (1 << 25, 8)]
)
def test_numbers_take_as_many_bytes_as_their_distances_need(step: int, width: int) -> None:
    numbers = np.arange(COUNT, dtype=np.uint64) * np.uint64(step)
    data = encode_run(numbers)
    tail = read_tail(memoryview(data))
    assert tail is not None
    entries, layout, _ = tail
    assert (entries, layout) == (COUNT, RunLayout(BLOCK_ENTRIES, width=width, rows=False))
    assert len(data) < 11 * (BLOCK_ENTRIES * width + 12) + 60


def test_rows_are_left_out_where_they_count_up() -> None:
    numbers = np.arange(0, 3 * COUNT, 3, dtype=np.uint64)
    rows = np.arange(COUNT, dtype=np.uint32)
    assert encode_run(numbers, rows) == encode_run(numbers)
    backwards = encode_run(numbers[::-1], rows)
    tail = read_tail(memoryview(backwards))
    assert tail is not None
    assert tail[1] == RunLayout(BLOCK_ENTRIES, width=2)


def test_what_is_no_tail() -> None:
    data = encode_run(np.arange(5, dtype=np.uint64))
    assert read_tail(memoryview(data)) is not None
    for damaged in (data[:-1], data[-20:], data[:-1] + b"x"):
        assert read_tail(memoryview(damaged)) is None
    # Flags of which this release knows nothing.
    for at, value in ((-12, 4), (-11, 3), (-10, 1)):
        other = bytearray(data)
        other[at] |= value
        assert read_tail(memoryview(other)) is None


@given(
    steps=st.lists(st.sampled_from([1, 1, 1, 3, 300, 1 << 40]), max_size=60),
    cuts=st.lists(st.integers(1, 9), min_size=1, max_size=4),
)
def test_keys_that_ascend_make_the_run_that_all_at_once_make(
    steps: list[int], cuts: list[int]
) -> None:
    numbers = np.cumsum([0, *steps]).astype(np.uint64)[1:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_encoding, "BLOCK_ENTRIES", 4)
        keys, start = AscendingKeys(), 0
        for number in range(len(numbers)):
            size = cuts[number % len(cuts)]
            assert keys.add(numbers[start : start + size])
            start += size
        assert keys.count == len(numbers)
        assert keys.numbers().tolist() == numbers.tolist()
        assert keys.run() == encode_run(numbers)
        if len(numbers):
            for late in (numbers[-1:], numbers[-1:] - 1, numbers[-1] + np.array([2, 1], np.uint64)):
                assert not keys.add(late)
            assert keys.run() == encode_run(numbers)
