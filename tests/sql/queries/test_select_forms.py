from __future__ import annotations

import pytest

from fletching.sql.parsing.dialect import exp, parse_one, sql_text
from fletching.sql.queries.query_sources import PATTERN
from fletching.sql.queries.select_forms import (
    choose_by_patterns,
    group_ids,
    lift_rows,
    name_columns,
    order_sorted,
    sample_buckets,
)


def test_names_of_columns() -> None:
    tree = parse_one("select 1, a, b + 1, (select 2), count(*) c, *")
    name_columns(tree)
    assert [expression.alias_or_name for expression in tree.expressions] == [
        "_c0",
        "a",
        "_c2",
        "_c3",
        "c",
        "*",
    ]


def test_rows_that_a_call_makes() -> None:
    tree = parse_one("select id, explode(x) as (k, v) from t")
    lift_rows(tree)
    (lateral,) = tree.args["laterals"]
    assert [column.name for column in lateral.args["alias"].columns] == ["k", "v"]
    alone = parse_one("select posexplode(array(1))")
    lift_rows(alone)
    assert alone.args["from_"] is not None


@pytest.mark.parametrize("by", ["a, b with rollup", "rollup(a, b)", "grouping sets ((a, b), (a))"])
def test_grouping_ids(by: str) -> None:
    tree = parse_one(f"select grouping__id from t group by {by}")
    group_ids(tree)
    assert "grouping_id(a, b)" in sql_text(tree).lower()


def test_sorting_within_workers_sorts_all() -> None:
    tree = parse_one("select a from t distribute by a sort by a desc")
    order_sorted(tree)
    assert sql_text(tree).upper().startswith("SELECT A FROM T ORDER BY A DESC")


def test_patterns_of_names() -> None:
    tree = parse_one("select `a.b`, `(a|b)?+.+`, `x|y`, `plain`, bare from t")
    choose_by_patterns(tree, {"x|y"})
    result = [
        expression.meta.get(PATTERN)
        for expression in tree.expressions
        if isinstance(expression, exp.Star)
    ]
    assert result == ["(a|b)?+.+"]


def test_samples_of_buckets() -> None:
    tree = parse_one("select * from t tablesample (bucket 2 out of 4 on a) s")
    sample_buckets(tree)
    (inner,) = tree.find_all(exp.Subquery)
    assert inner.alias == "s"
    (bucket,) = inner.find_all(exp.EQ)
    assert bucket.this.name == "bucket of"
    assert bucket.expression.name == "1"
