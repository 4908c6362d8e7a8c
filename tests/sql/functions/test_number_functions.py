"""Functions of numbers and conditions: the values that they give, and none of them unproven."""

from __future__ import annotations

from tests.sql.function_values import called, cases_of, differences

from fletching.sql.functions.number_functions import NUMBER_FUNCTIONS

MORE = [
    ("assert_true(1 = 1)", None),
    ("nullifzero(0)", None),
    ("nullifzero(5)", 5),
    ("random() between 0 and 1", True),
    ("sample(1)", True),
    ("sample(2, 1, 7) <> sample(2, 2, 7)", True),
    ("signum(-3.5)", -1.0),
    ("truncate(1.999D, 2)", 1.99),
]


def test_values() -> None:
    assert differences([*cases_of(NUMBER_FUNCTIONS), *MORE]) == []


def test_no_function_is_without_a_value() -> None:
    known = {name for text, _ in [*cases_of(NUMBER_FUNCTIONS), *MORE] for name in called(text)}
    assert sorted(set(NUMBER_FUNCTIONS) - known) == []
