from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest

from fletching.testing.engine_rows import (
    CONDITIONS,
    ENGINE_ROWS,
    TYPE_VALUES,
    rows_where,
    sorted_rows,
    sql_of,
)


@pytest.mark.parametrize("condition", CONDITIONS, ids=str)
def test_conditions_choose_some_rows_and_mean_the_same_as_sql(
    condition: tuple[str, str, object],
) -> None:
    expected = rows_where(ENGINE_ROWS, *condition)["id"].to_pylist()
    assert 0 < len(expected) < ENGINE_ROWS.num_rows
    # Text of DuckDB has no escapes.
    query = f"SELECT id FROM rows WHERE {sql_of(*condition)}".replace("\\\\", "\\")
    with duckdb.connect() as connection:
        connection.register("rows", ENGINE_ROWS)
        assert [n for (n,) in connection.sql(query).fetchall()] == expected


def test_rows_are_compared_without_their_order_and_nothing_else() -> None:
    backwards = ENGINE_ROWS.take(pa.array(range(9, -1, -1)))
    assert sorted_rows(backwards) == sorted_rows(ENGINE_ROWS)
    for name in ENGINE_ROWS.column_names:
        column = ENGINE_ROWS[name].take(pa.array([1, *range(1, 10)]))
        position = ENGINE_ROWS.column_names.index(name)
        assert sorted_rows(ENGINE_ROWS.set_column(position, name, column)) != sorted_rows(
            ENGINE_ROWS
        )


def test_every_type_has_a_value_and_a_null() -> None:
    for kind, values in TYPE_VALUES.values():
        assert pa.array(values, kind).null_count
