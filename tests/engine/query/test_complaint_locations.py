"""A complaint about a name says where the statement has it, and which name may have been meant."""

from __future__ import annotations

import pytest
from tests.engine.query.conftest import Sql


@pytest.mark.parametrize(
    ("query", "location", "words"),
    [
        ("select amuont from t", "1:8", "amount"),
        ("select t.amount,\n  t.usr from t", "2:5", "user"),
        ("select amount from t\nwhere usre = 'x'", "2:7", "user"),
        ("select tt.amount from t", "1:8", "t"),
        ("with c as (select amount as total from t) select totl from c", None, "total"),
    ],
)
def test_the_place_and_the_near_name(
    sql: Sql, query: str, location: str | None, words: str
) -> None:
    sql("create table t (amount bigint, `user` string)")
    failure = sql.fails(query)
    assert words in failure
    if location is not None:
        line, column = location.split(":")
        assert f"line {line}" in failure or location in failure or f"[{line},{column}]" in failure


def test_a_complaint_about_no_name_stays_as_it_is(sql: Sql) -> None:
    assert "did you mean" not in sql.fails("select 1 + 'x' || from")
