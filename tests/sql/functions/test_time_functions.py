"""Functions of dates and times: the values that they give, and none of them unproven."""

from __future__ import annotations

import datetime as dt

import pytest
from tests.sql.function_values import called, cases_of, differences

from fletching.errors import InvalidArgumentError
from fletching.sql.functions.time_functions import TIME_FUNCTIONS

MORE = [
    ("curdate() = current_date()", True),
    ("current_timezone() is not null", True),
    ("date_diff(date '2024-01-03', date '2024-01-01', 'dd')", 2),
    ("date_part('month', date '2024-02-29')", 2),
    ("dayname(date '2024-02-29')", "Thu"),
    ("monthname(date '2024-02-29')", "Feb"),
    ("to_datetime('2024-02-29 10:11:12')", dt.datetime.fromisoformat("2024-02-29 10:11:12")),
    ("to_timestamp('2024-02-29 10:11:12') is not null", True),
    ("trunc_time('2024-02-29 10:11:12', 'hour')", "2024-02-29 10:00:00"),
    ("trunc_time(date '2024-02-29', 'MONTH')", "2024-02"),
    ("cast(current_timestamp_ntz() as datetime) = getdate()", True),
    ("interval_day_time('2 12:30:11.1345')", {"sec": 217811, "nano": 134500000}),
    ("interval_day_time('-0 0:0:1.5')", {"sec": -2, "nano": 500000000}),
    ("interval_year_month('10-11')", 131),
    ("interval_year_month('-1-2')", -14),
    ("interval '3 00:00:01' day to second", {"sec": 259201, "nano": 0}),
    ("interval '-2-0' year to month", -24),
]


def test_values() -> None:
    assert differences([*cases_of(TIME_FUNCTIONS), *MORE]) == []


@pytest.mark.parametrize(
    "text",
    [
        "interval_day_time('1 24:00:00')",
        "interval_day_time('1:00:00')",
        "interval_day_time('1 0:60:0')",
        "interval_day_time('9999999999 0:0:0')",
        "interval_year_month('1-12')",
        "interval '1' year to month",
        "interval '1 0:0:0.1234567890' day to second",
    ],
)
def test_what_is_no_interval(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="is no interval"):
        differences([(text, None)])


def test_no_function_is_without_a_value() -> None:
    known = {name for text, _ in [*cases_of(TIME_FUNCTIONS), *MORE] for name in called(text)}
    assert sorted(set(TIME_FUNCTIONS) - known) == []
