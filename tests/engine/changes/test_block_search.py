"""Searches in many sorted rows at once: each is what a search in that row alone finds."""

from __future__ import annotations

import numpy as np
import pytest

from fletching.engine.changes.block_search import Sought, common_indices, lower_bound


def test_each_row_is_searched_as_far_as_it_counts() -> None:
    random = np.random.default_rng(5)
    numbers = np.sort(random.integers(0, 40, (7, 33)).astype(np.uint64), axis=1)
    row = random.integers(0, 7, 500)
    counts = random.integers(0, 34, 500)
    wanted = random.integers(0, 42, 500).astype(np.uint64)
    indices = lower_bound(numbers, row, counts, wanted)
    expected = [
        int(np.searchsorted(numbers[index, :count], number, side="left"))
        for index, count, number in zip(row, counts, wanted, strict=True)
    ]
    assert indices.tolist() == expected


@pytest.mark.parametrize("greatest", [1, 50, 1 << 20, (1 << 64) - 1])
def test_pairs_of_equal_numbers(greatest: int) -> None:
    random = np.random.default_rng(greatest % 97)

    def numbers(count: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
        return np.sort(random.integers(0, greatest, count, dtype=np.uint64, endpoint=True))

    for _ in range(20):
        rows, wanted = numbers(6 * 70), numbers(int(random.integers(1, 300)))
        rows[::5] = wanted[random.integers(0, len(wanted), len(rows[::5]))]
        rows.sort()
        expected = [
            (index, other)
            for index, number in enumerate(rows.tolist())
            for other in np.flatnonzero(wanted == np.uint64(number)).tolist()
        ]
        sought = Sought(wanted)
        indices, others = common_indices(rows.reshape(70, 6), sought)
        assert list(zip(indices.tolist(), others.tolist(), strict=True)) == expected
        for start, end in ((0, len(wanted)), (len(wanted) // 5, len(wanted)), (0, 1)):
            indices, others = common_indices(rows.reshape(70, 6), sought.part(start, end))
            part = [(index, other - start) for index, other in expected if start <= other < end]
            assert list(zip(indices.tolist(), others.tolist(), strict=True)) == part


def test_lists_are_walked_along_with_one_table() -> None:
    sought = Sought(np.arange(0, 1000, 10).astype(np.uint64))
    assert sought.part(0, 100).slots is sought.part(30, 90).slots
    assert len(sought.part(0, 10).slots.seen) < len(sought.slots.seen)
