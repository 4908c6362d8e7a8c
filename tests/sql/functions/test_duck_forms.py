from __future__ import annotations

from typing import Any

import duckdb

from fletching.sql.functions.duck_forms import joined_list, let, map_of_entries, quoted


def value(sql: str) -> Any:
    with duckdb.connect() as connection:
        (row,) = connection.sql(f"select {sql}").fetchall()
        return row[0]


def test_forms() -> None:
    assert quoted("it's") == "'it''s'"
    assert value(let(["a", "b"], ["1", "a + 1"], "a + b")) == 3
    assert value(joined_list("['a', NULL, 'b']", "'-'")) == "a-b"
    assert value(joined_list("['a', 'b']", "upper('x')")) == "aXb"
    assert value(map_of_entries("[{'k': 'a', 'v': 1}, {'k': 'a', 'v': 2}]")) == {"a": 2}
