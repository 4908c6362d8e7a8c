"""Searches in many sorted rows at once: each is what a search in that row alone finds."""

from __future__ import annotations

import numpy as np

from fletching.engine.changes.block_search import lower_bound


def test_each_row_is_searched_as_far_as_it_counts() -> None:
    random = np.random.default_rng(5)
    numbers = np.sort(random.integers(0, 40, (7, 33)).astype(np.uint64), axis=1)
    row = random.integers(0, 7, 500)
    counts = random.integers(0, 34, 500)
    wanted = random.integers(0, 42, 500).astype(np.uint64)
    found = lower_bound(numbers, row, counts, wanted)
    expected = [
        int(np.searchsorted(numbers[place, :count], number, side="left"))
        for place, count, number in zip(row, counts, wanted, strict=True)
    ]
    assert found.tolist() == expected
