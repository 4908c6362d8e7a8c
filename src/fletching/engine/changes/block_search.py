"""Searches in many sorted rows at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["lower_bound"]

_U64 = NDArray[np.uint64]


def lower_bound(
    numbers: _U64, row: NDArray[np.int64], counts: NDArray[np.int64], wanted: _U64
) -> NDArray[np.int64]:
    """For each wanted number the first place in its row of numbers that is not below it."""
    low = np.zeros(len(row), dtype=np.int64)
    high = counts.astype(np.int64)
    last = numbers.shape[1] - 1
    for _ in range(int(numbers.shape[1]).bit_length()):
        middle = (low + high) >> 1
        less = (numbers[row, np.minimum(middle, last)] < wanted) & (low < high)
        low, high = np.where(less, middle + 1, low), np.where(less, high, middle)
    return low
