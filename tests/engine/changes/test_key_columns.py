"""The key of rows is read whatever the schema that their segment was written in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.engine.changes.conftest import MakeTable, engine_of, seen

from fletching.catalog.segment_rows import visible_segments
from fletching.catalog.table_rows import get_table
from fletching.client import Table
from fletching.engine.changes.key_columns import KeyColumns

SCHEMA = pa.schema(
    [
        ("note", pa.string()),
        pa.field("Id", pa.int32(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
    ]
)


def keys(table: Table, wanted: list[int]) -> Any:
    """The key columns of some rows of each segment."""
    context = engine_of(table).context
    name = seen(table, lambda computed: computed.view.table.name)
    with context.database.read() as connection:
        row = get_table(connection, name)
        columns = KeyColumns(context.store, connection, row)
        segments = visible_segments(connection, row.id, row.version)
    found = [columns.columns(segment, np.array(wanted)) for segment in segments]
    return columns, [[column.to_pylist() for column in each] for each in found]


def rows(first: int) -> pa.Table:
    return pa.table(
        {
            "note": ["x", "y", "z"],
            "Id": pa.array([first, first + 1, first + 2], pa.int32()),
            "name": [f"n{first}", f"n{first + 1}", f"n{first + 2}"],
        }
    )


@pytest.mark.parametrize("primary_key", [["id"], ["name", "ID"]])
def test_the_key_follows_its_columns(new_table: MakeTable, primary_key: list[str]) -> None:
    table = new_table(SCHEMA, rows(1), primary_key=primary_key)
    table.rename_column("note", "remark")
    table.drop_columns("remark")
    table.add_columns("late INT")
    table.append(pa.table({"Id": pa.array([7, 8, 9], pa.int32()), "name": ["n7", "n8", "n9"]}))
    columns, found = keys(table, [2, 0, 0])
    expected = [
        {"id": [3, 1, 1], "name": ["n3", "n1", "n1"]},
        {"id": [9, 7, 7], "name": ["n9", "n7", "n7"]},
    ]
    assert found == [[each[name.casefold()] for name in primary_key] for each in expected]
    assert columns.exact is (primary_key == ["id"])
    assert [str(kind) for kind in columns.types] == [
        {"id": "int32", "name": "string"}[name.casefold()] for name in primary_key
    ]


def test_no_rows_have_no_keys(new_table: MakeTable) -> None:
    table = new_table(SCHEMA, rows(1), primary_key=["id"])
    columns, found = keys(table, [])
    assert found == [[[]]]
    assert columns.types == [pa.int32()]
