"""Aggregates and windows: the values that they give over nulls and repetitions, and none of them unproven."""

from __future__ import annotations

from typing import Any

import pytest
from tests.sql.function_values import called, computed, same

from fletching.errors import InvalidArgumentError
from fletching.sql.functions.aggregate_functions import AGGREGATE_FUNCTIONS

# v has a null and a repetition, s a null.
ROWS = "from values (1, 3, 'a'), (2, 5, 'b'), (3, 5, null), (4, null, 'd') as t(k, v, s)"
VALUES: list[tuple[str, Any]] = [
    ("count(*)", 4), ("count(v)", 3), ("count(distinct v)", 2), ("count(distinct v, s)", 2),
    ("sum(v)", 13), ("sum(distinct v)", 8), ("avg(v)", 13 / 3), ("min(s)", "a"), ("max(s)", "d"),
    ("median(v)", 5.0), ("stddev(v)", 0.942809041582063), ("stddev_pop(v)", 0.942809041582063),
    ("stddev_samp(v)", 1.1547005383792515), ("variance(v)", 8 / 9), ("var_pop(v)", 8 / 9),
    ("var_samp(v)", 4 / 3), ("corr(k, v)", 0.8660254037844387), ("covar_pop(k, v)", 2 / 3),
    ("covar_samp(k, v)", 1.0), ("skewness(k)", 0.0), ("kurtosis(k)", -1.36),
    ("wm_concat('-', s)", "a-b-d"), ("collect_list(v)", [3, 5, 5]),
    ("sort_array(collect_set(v))", [3, 5]), ("array_agg(v)", [3, 5, 5, None]),
    ("percentile(v, 0.5)", 5.0), ("percentile(k, array(0.0, 1.0))", [1.0, 4.0]),
    ("percentile_cont(k, 0.5)", 2.5), ("percentile_disc(k, 0.5)", 2), ("percentile_approx(k, 0.5)", 2.5),
    ("approx_percentile(k, 0.5)", 2.5), ("approx_distinct(v)", 2), ("any_value(k) is not null", True),
    ("arg_max(k, s)", "d"), ("arg_min(k, s)", "a"), ("max_by(s, k)", "d"), ("min_by(s, k)", "a"),
    ("count_if(v > 3)", 2), ("bool_and(k > 0)", True), ("bool_or(k > 3)", True), ("every(k > 1)", False),
    ("bitwise_and_agg(k)", 0), ("bitwise_or_agg(k)", 7), ("bitwise_xor_agg(k)", 4),
    ("histogram(v)", [(3, 1), (5, 2)]), ("map_agg(k, s)[4]", "d"),
    ("multimap_agg(v, k)[5]", [2, 3]), ("map_union(map(k, v))[2]", 5),
    ("map_union_sum(map('x', v))", [("x", 13)]),
]  # fmt: skip
WINDOWS: list[tuple[str, list[Any]]] = [
    ("row_number() over (order by k desc)", [4, 3, 2, 1]),
    ("rank() over (order by v nulls last)", [1, 2, 2, 4]),
    ("dense_rank() over (order by v nulls last)", [1, 2, 2, 3]),
    ("percent_rank() over (order by k)", [0.0, 1 / 3, 2 / 3, 1.0]),
    ("cume_dist() over (order by k)", [0.25, 0.5, 0.75, 1.0]),
    ("ntile(2) over (order by k)", [1, 1, 2, 2]),
    ("lag(k) over (order by k)", [None, 1, 2, 3]),
    ("lag(k, 2, -1) over (order by k)", [-1, -1, 1, 2]),
    ("lead(k, 1) over (order by k)", [2, 3, 4, None]),
    ("first_value(k) over (order by k)", [1, 1, 1, 1]),
    ("first_value(v, true) over (order by k desc rows between unbounded preceding and current row)", [5, 5, 5, None]),
    ("last_value(v, true) over (order by k)", [3, 5, 5, 5]),
    ("cluster_sample(4) over ()", [True, True, True, True]),
    ("cluster_sample(5, 0) over ()", [False, False, False, False]),
    ("last_value(k) over (order by k rows between current row and unbounded following)", [4, 4, 4, 4]),
    ("nth_value(k, 2) over (order by k rows between unbounded preceding and unbounded following)", [2, 2, 2, 2]),
    ("sum(v) over (order by k)", [3, 8, 13, 13]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), VALUES, ids=[text for text, _ in VALUES])
def test_values(text: str, value: Any) -> None:
    ((result,),) = computed(f"select {text} {ROWS}")
    assert same(result, value), result


def test_windows() -> None:
    for text, values in WINDOWS:
        result = [value for _, value in sorted(computed(f"select k, {text} as w {ROWS}"))]
        assert all(same(*pair) for pair in zip(result, values, strict=True)), (text, result)


def test_nothing_to_sum_up() -> None:
    none = "from values (1, cast(null as bigint)) as t(k, v) where k > 1"
    (row,) = computed(
        f"select count(v), sum(v), max(v), collect_list(v), wm_concat(',', v), avg(v) {none}"
    )
    assert row == (0, None, None, [], None, None)


def test_groups_of_groups() -> None:
    rows = computed(
        "select g, grouping(g), grouping_id(g), sum(k) from values ('x', 1), ('y', 2) as t(g, k)"
        " group by g with rollup order by 4"
    )
    assert rows == [("x", 0, 0, 1), ("y", 0, 0, 2), (None, 1, 1, 3)]


def test_a_sum_beyond_its_type_is_an_error() -> None:
    big = 2**63 - 1
    with pytest.raises(Exception, match=r"(?i)out of range|overflow|convert"):
        computed(f"select sum(v) from values ({big}), (1) as t(v)")


@pytest.mark.parametrize(
    "text", ["sum()", "sum(1, 2)", "percentile(1)", "lag()", "sum('x' || k, 1)"]
)
def test_the_number_of_arguments(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="takes"):
        computed(f"select {text} {ROWS}")


def test_no_function_is_without_a_value() -> None:
    known = {name for text, _ in [*VALUES, *WINDOWS] for name in called(text)}
    assert sorted(set(AGGREGATE_FUNCTIONS) - known - {"grouping", "grouping_id"}) == []
