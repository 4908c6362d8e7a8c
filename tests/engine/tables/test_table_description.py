"""What is told of a table: now, and as it was at a version."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from fletching.catalog.table_rows import get_table
from fletching.engine.tables.table_description import (
    as_it_was,
    locked_table,
    table_info,
    table_schema_of,
)
from fletching.errors import NoSuchTableError, VersionNotFoundError
from fletching.protocol.messages.admin import AddColumns
from fletching.types import TableName

T = TableName("demo", "t")
BATCH = pa.record_batch({"n": [1, 2]})


def test_now_and_then(house: Any) -> None:
    house.create(BATCH.schema, ["pt"])
    house.append(BATCH, "pt=a")
    house.clock.advance(5)
    more = pa.schema([("late", pa.string())]).serialize().to_pybytes()
    house.engine.call(AddColumns(table=T, arrow_schema=more))
    house.append(pa.record_batch({"n": [3], "late": ["x"]}), "pt=a")
    with house.engine.context.database.read() as connection:
        row = get_table(connection, T)
        now, then = table_info(row), table_info(as_it_was(connection, row, 1))
        for version in (-1, 9):
            with pytest.raises(VersionNotFoundError):
                as_it_was(connection, row, version)
    assert (now.rows, now.version, now.segments) == (3, 3, 2)
    assert (then.rows, then.version, then.segments) == (2, 1, 1)
    assert [c.name for c in now.schema.data_columns] == ["n", "late"]
    assert [c.name for c in then.schema.data_columns] == ["n"]
    assert then.modified_at < now.modified_at
    assert now.schema is table_schema_of(row)  # worked out once
    assert [c.name for c in now.schema.partition_columns] == ["pt"]


def test_a_table_is_locked_by_its_name(house: Any) -> None:
    house.create(BATCH.schema)
    with house.engine.context.database.write() as connection:
        assert locked_table(connection, TableName("DEMO", "T")).name == T
        with pytest.raises(NoSuchTableError):
            locked_table(connection, TableName("demo", "none"))
