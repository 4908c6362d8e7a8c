from __future__ import annotations

import duckdb
import pytest

from fletching.engine.query.complaints import complaint_of
from fletching.engine.query.query_limits import QueryLimits


@pytest.mark.parametrize(
    ("sql", "complaint"),
    [
        ("SELECT 1 + [1]", "+ does not take values of the types INT, ARRAY<INT>"),
        ("SELECT upper([[1]])", "upper does not take values of the types ARRAY<ARRAY<INT>>"),
        ("SELECT x", "there is no column x"),
        ("SELECT unnest(1)", "explode takes an array or a map"),
        ("SELECT CAST('x' AS INTEGER)", "Could not convert string 'x' to INT"),
        ("SELECT regexp_matches('a', '(')", "the pattern is no regular expression"),
        ("SELECT CAST(300 AS TINYINT)", "TINYINT"),
        ("SELECT (SELECT 1, 2)", "a subquery has 2 columns where 1 are expected"),
        ("SELECT FROM", "the statement cannot be parsed"),
    ],
)
def test_complaints_are_in_the_dialects_words(sql: str, complaint: str) -> None:
    with duckdb.connect() as connection, pytest.raises(duckdb.Error) as caught:
        connection.execute(sql).fetchall()
    message = complaint_of(caught.value, QueryLimits()).message
    assert complaint in message
    for word in ("Error", "INTEGER", "VARCHAR", "Candidate", "LINE"):
        assert word not in message
