"""Bounds of columns: what they rule out is never there."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.sql.predicates.bounds import (
    Bounds,
    ColumnBounds,
    Physical,
    has_nan,
    has_nulls,
    has_values,
    may_begin_with,
    may_compare,
    may_equal_one,
)

PATH = ("a",)
VALUES = st.lists(st.integers(-5, 5), min_size=1)
COMPARED = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def bounds_of(values: Sequence[Physical]) -> Bounds:
    known = ColumnBounds(min(values), max(values), nulls=False)
    return lambda path: known if path == PATH else None


@given(VALUES, st.integers(-7, 7), st.sampled_from(sorted(COMPARED)))
def test_a_comparison_is_ruled_out_only_where_no_value_meets_it(
    values: list[int], wanted: int, operator: str
) -> None:
    met = any(COMPARED[operator](value, wanted) for value in values)
    may = may_compare(PATH, operator, wanted, bounds_of(values))
    assert may or not met
    # Of the bounds themselves no more can be said.
    low, high = min(values), max(values)
    assert may == any(COMPARED[operator](value, wanted) for value in range(low, high + 1))


@given(VALUES, st.lists(st.integers(-7, 7)))
def test_a_list_is_ruled_out_only_where_none_of_it_is(values: list[int], wanted: list[int]) -> None:
    may = may_equal_one(PATH, sorted(wanted), bounds_of(values))
    assert may == any(min(values) <= each <= max(values) for each in wanted)


@given(st.lists(st.text("abc", max_size=3), min_size=1), st.text("abc", max_size=3))
def test_a_prefix_is_ruled_out_only_where_nothing_begins_with_it(
    values: list[str], prefix: str
) -> None:
    met = any(value.startswith(prefix) for value in values)
    assert may_begin_with(PATH, prefix, bounds_of(values)) or not met


def test_what_is_not_known_rules_nothing_out() -> None:
    for bounds in (lambda _: None, lambda _: ColumnBounds()):
        assert all(may_compare(PATH, operator, 1, bounds) for operator in COMPARED)
        assert may_equal_one(PATH, [1], bounds)
        assert may_begin_with(PATH, "x", bounds)
        assert has_values(PATH)(bounds)
        assert has_nulls(PATH)(bounds)
    assert has_nan(PATH)(lambda _: None)


def test_a_column_of_nulls_meets_nothing_but_is_null() -> None:
    def bounds(_: tuple[str, ...]) -> ColumnBounds:
        return ColumnBounds(values=False, unordered=False)

    assert not any(may_compare(PATH, operator, 1, bounds) for operator in COMPARED)
    assert not may_equal_one(PATH, [1], bounds)
    assert not may_begin_with(PATH, "", bounds)
    assert not has_values(PATH)(bounds)
    assert has_nulls(PATH)(bounds)


@pytest.mark.parametrize("unordered", [True, False])
def test_a_nan_is_unequal_to_everything(unordered: bool) -> None:
    def bounds(_: tuple[str, ...]) -> ColumnBounds:
        return ColumnBounds(1.0, 1.0, unordered=unordered)

    assert may_compare(PATH, "!=", 1.0, bounds) is unordered
    assert has_nan(PATH)(bounds) is unordered
