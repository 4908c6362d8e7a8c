"""Functions of dates and times: the values that they give, and none of them unproven."""

from __future__ import annotations

import datetime as dt

from tests.sql.function_values import called, cases_of, differences

from fletching.sql.time_functions import TIME_FUNCTIONS

MORE = [
    ("curdate() = current_date()", True),
    ("current_timezone() is not null", True),
    ("date_diff(date '2024-01-03', date '2024-01-01', 'dd')", 2),
    ("date_part('month', date '2024-02-29')", 2),
    ("dayname(date '2024-02-29')", "Thu"),
    ("monthname(date '2024-02-29')", "Feb"),
    ("to_datetime('2024-02-29 10:11:12')", dt.datetime.fromisoformat("2024-02-29 10:11:12")),
    ("to_timestamp('2024-02-29 10:11:12') is not null", True),
]


def test_values() -> None:
    assert differences([*cases_of(TIME_FUNCTIONS), *MORE]) == []


def test_no_function_is_without_a_value() -> None:
    known = {name for text, _ in [*cases_of(TIME_FUNCTIONS), *MORE] for name in called(text)}
    assert sorted(set(TIME_FUNCTIONS) - known) == []
