from __future__ import annotations

import datetime as dt

import pytest

from fletching.protocol.types.dates import parse_date


@pytest.mark.parametrize("text", ["2026-01-31", "20260131"])
def test_days(text: str) -> None:
    assert parse_date(text) == dt.date(2026, 1, 31)


@pytest.mark.parametrize(
    "text",
    [
        *("2026-1-31", "2026-02-30", "2026-W05-6", "2026-0131", "202601-31", "", "0000-01-01"),
        *("\uff12026-01-31", "2026-01-31 ", "+2026-01-31", "2026-01-31T00:00"),
    ],
)
def test_what_is_no_day(text: str) -> None:
    assert parse_date(text) is None
