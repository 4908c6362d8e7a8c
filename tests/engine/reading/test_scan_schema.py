"""The columns of a session: found once per table and choice, of the change feed those of the feed as well."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from fletching.catalog.table_rows import table_by_id
from fletching.engine.cache import Budget
from fletching.engine.reading.change_feed import CHANGE_COLUMNS
from fletching.engine.reading.scan_schema import ScanSchemas
from fletching.errors import InvalidArgumentError
from fletching.protocol.messages.requests import ArrowOptions, CreateReadSession
from fletching.types import TableName

SCHEMA = pa.schema([("a", pa.int64()), ("b", pa.string())])
TABLE = TableName("demo", "events")


def of(shelf: Any, schemas: ScanSchemas, version: int = 1, **what: Any) -> Any:
    request = CreateReadSession(
        table=TABLE,
        verbatim_types=True,
        arrow_options=ArrowOptions(timestamp_unit=None, datetime_unit=None),
        **what,
    )
    with shelf.database.read() as connection:
        table = table_by_id(connection, shelf.table_id)
        assert table is not None
        return schemas.of(connection, table, version, request)


def test_a_choice_is_worked_out_once(shelf: Any) -> None:
    shelf.create(SCHEMA, [("pt", "string")])
    schemas = ScanSchemas(Budget(1 << 20))
    whole = of(shelf, schemas)
    assert whole is of(shelf, schemas)
    assert whole.projection.schema.names == ["a", "b", "pt"]
    schema = of(shelf, schemas, required_data_columns=("B",))
    assert schema is not whole
    assert schema.projection.schema.names == ["b"]
    assert whole.projection_of(("pt", "a"), unordered=True).schema.names == ["pt", "a"]
    assert whole.projection_of(("pt", "a"), unordered=False).schema.names == ["a", "pt"]
    assert whole.projection_of(("a",), unordered=True) is whole.projection_of(
        ("a",), unordered=True
    )
    assert whole.projection_of((), unordered=True) is whole.projection
    with pytest.raises(InvalidArgumentError):
        schema.projection_of(("a",), unordered=True)


def test_each_schema_version_is_its_own(shelf: Any) -> None:
    shelf.create(SCHEMA)
    schemas = ScanSchemas(Budget(1 << 20))
    shelf.add_columns(pa.field("late", pa.int8()))
    assert of(shelf, schemas, 1).projection.schema.names == ["a", "b"]
    assert of(shelf, schemas, 2).projection.schema.names == ["a", "b", "late"]
    assert set(of(shelf, schemas, 2).versions) == {1, 2}


def test_a_feed_has_more_columns(shelf: Any) -> None:
    shelf.create(SCHEMA)
    names = of(shelf, ScanSchemas(Budget(1 << 20)), since_version=0).projection.schema.names
    assert names == ["a", "b", *(name for name, _ in CHANGE_COLUMNS)]


def test_a_table_s_own_column_of_such_a_name_is_refused(shelf: Any) -> None:
    shelf.create(pa.schema([("_Change_Type", pa.int8())]))
    of(shelf, ScanSchemas(Budget(1 << 20)))
    with pytest.raises(InvalidArgumentError, match="_change_type"):
        of(shelf, ScanSchemas(Budget(1 << 20)), since_version=0)
