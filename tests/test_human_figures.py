"""Sizes and counts for people."""

from __future__ import annotations

import pytest

from fletching.human_figures import human_bytes, human_count


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_500_000, "1.5 MB"),
        (-2_000, "-2.0 kB"),
        (2_500_000_000, "2.5 GB"),
        (2.5e13, "25.0 TB"),
        (5e15, "5000.0 TB"),
    ],
)
def test_bytes_are_in_decimal_units(count: float, text: str) -> None:
    assert human_bytes(count) == text


def test_thousands_are_separated() -> None:
    assert [human_count(n) for n in (0, 999, 1234567)] == ["0", "999", "1,234,567"]
