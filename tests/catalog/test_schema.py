"""What the tables themselves refuse, in each database, and the conventions that every column keeps."""

from __future__ import annotations

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
    Integer,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import IntegrityError
from tests.catalog.conftest import MakeTable
from tests.folding import folded

from fletching.catalog import schema
from fletching.catalog.database import Database
from fletching.catalog.schema import leases, metadata, segments, tables

EVERY_COLUMN = [column for table in metadata.sorted_tables for column in table.columns]


def test_each_table_can_be_named() -> None:
    assert {name for name in schema.__all__ if name != "metadata"} == set(metadata.tables)
    assert all(getattr(schema, name).name == name for name in metadata.tables)


@folded("column", EVERY_COLUMN)
def test_columns_keep_the_conventions(column: Column[object]) -> None:
    if column.name.endswith("_at"):
        assert isinstance(column.type, Float)
    counts = column.name in {"version", "bytes", "rows"} or column.name.endswith("_version")
    if counts and column.name != "schema_version":
        assert isinstance(column.type, BigInteger)  # 32 bits would end
    if column.name in {"id", "pk"} and isinstance(column.type, BigInteger):
        # SQLite counts by itself in columns of this type alone.
        assert isinstance(column.type.dialect_impl(sqlite.dialect()), Integer)


def test_the_tables_are_those_of_the_newest_migration(shared_database: Database) -> None:
    with shared_database.read() as connection:
        inspector = inspect(connection)
        names = set(inspector.get_table_names()) - {"alembic_version"}
        assert names == set(metadata.tables)
        for table in metadata.sorted_tables:
            assert {each["name"] for each in inspector.get_columns(table.name)} == set(
                table.c.keys()
            )
            assert {each["name"] for each in inspector.get_indexes(table.name)} >= {
                each.name for each in table.indexes
            }


def segment(key: str, version: int) -> dict[str, object]:
    return {
        "key": key, "table_id": "t", "partition": "[]", "position": 1, "schema_version": 1,
        "rows": 1, "bytes": 1, "crc32c": 1, "batch_index": b"", "dictionary_index": b"",
        "codecs": "", "added_version": version,
    }  # fmt: skip


def test_a_live_name_is_one_table_s(rows: Connection, new_table: MakeTable) -> None:
    new_table()
    row = dict(rows.execute(select(tables)).mappings().one())
    rows.execute(update(tables).values(dropped_at=1.0))
    rows.execute(insert(tables).values({**row, "id": "u"}))
    rows.execute(insert(tables).values({**row, "id": "v", "dropped_at": 2.0}))
    with pytest.raises(IntegrityError):
        rows.execute(insert(tables).values({**row, "id": "w"}))


def test_an_object_comes_once_in_a_version(rows: Connection, new_table: MakeTable) -> None:
    new_table()
    rows.execute(insert(segments).values(segment("k", 1)))
    rows.execute(insert(segments).values(segment("k", 3)))  # restored
    with pytest.raises(IntegrityError):
        rows.execute(insert(segments).values(segment("k", 3)))


def test_numbers_have_64_bits(rows: Connection) -> None:
    most = 2**63 - 1
    rows.execute(insert(leases).values(name="a", holder="b", expires_at=1e300, number=most))
    assert rows.execute(select(leases.c.number, leases.c.expires_at)).one() == (most, 1e300)
