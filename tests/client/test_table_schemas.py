"""Columns as callers give them, and schemas as services say them."""

from __future__ import annotations

import pyarrow as pa
import pytest

from fletching.client.table_schemas import (
    columns_of,
    gives_columns,
    partition_fields,
    read_schema_message,
)
from fletching.errors import ProtocolError, UsageError
from fletching.protocol.types.table_schema import table_schema

SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string())])


class Foreign:
    def __arrow_c_schema__(self) -> object:
        return SCHEMA.__arrow_c_schema__()


@pytest.mark.parametrize(
    "given",
    [SCHEMA, "id BIGINT, name STRING", Foreign(), list(SCHEMA), [("id", pa.int64()), ("name", pa.string())],
     {"id": pa.int64(), "name": pa.string()}],
)  # fmt: skip
def test_columns(given: object) -> None:
    assert columns_of(given) == SCHEMA
    assert gives_columns(given)


@pytest.mark.parametrize("given", [5, None, [1, 2], "id NONSENSE", {"a": 5}])
def test_what_is_none(given: object) -> None:
    with pytest.raises(UsageError):
        columns_of(given)


@pytest.mark.parametrize(
    "given", [pa.table({"a": [1]}), {"a": [1]}, [{"a": 1}], pa.record_batch({"a": [1]})]
)
def test_rows_are_no_columns(given: object) -> None:
    assert not gives_columns(given)


def test_messages() -> None:
    assert read_schema_message(SCHEMA.serialize().to_pybytes()) == SCHEMA
    for bad in (b"", b"garbage", SCHEMA.serialize().to_pybytes()[:20]):
        with pytest.raises(ProtocolError):
            read_schema_message(bad)


def test_partition_columns_are_never_null() -> None:
    fields = partition_fields(table_schema(SCHEMA, (("pt", "string"), ("hh", "bigint"))))
    assert fields == [
        pa.field("pt", pa.string(), nullable=False),
        pa.field("hh", pa.int64(), nullable=False),
    ]
