"""What is told of a table: its columns as ODPS sees them, its totals, now or at a version."""

from __future__ import annotations

import dataclasses
import functools

from sqlalchemy import Connection

from fletching.catalog import table_rows as catalog
from fletching.catalog.table_rows import TableRow
from fletching.catalog.version_rows import check_readable
from fletching.engine.tables.schema_checks import read_arrow_schema
from fletching.protocol.messages.admin import TableInfo
from fletching.protocol.messages.responses import TableSchema
from fletching.protocol.types.table_schema import table_schema
from fletching.types import TableName


def table_schema_of(table: TableRow) -> TableSchema:
    """The columns as ODPS sees them, with the ids that the catalog gave them."""
    return _odps_schema(
        table.arrow_schema,
        table.partition_columns,
        table.partition_comments,
        table.primary_key,
        table.column_ids,
    )


# Tables at work: kilobytes each, a megabyte of one with 5,000 columns.
@functools.lru_cache(maxsize=64)
def _odps_schema(
    arrow_schema: bytes,
    partition_columns: tuple[tuple[str, str], ...],
    partition_comments: tuple[str, ...],
    primary_key: tuple[str, ...],
    column_ids: tuple[tuple[int, ...], ...],
) -> TableSchema:
    return table_schema(
        read_arrow_schema(arrow_schema),
        partition_columns,
        partition_comments=partition_comments,
        primary_key=primary_key,
        column_ids=column_ids,
    )


def table_info(table: TableRow) -> TableInfo:
    """A row of the catalog as clients see it."""
    return TableInfo(
        table=table.name,
        table_id=table.id,
        schema=table_schema_of(table),
        arrow_schema=table.arrow_schema,
        version=table.version,
        schema_version=table.schema_version,
        rows=table.rows,
        bytes=table.bytes,
        segments=table.segments,
        created_at=table.created_at,
        modified_at=table.modified_at,
        owner=table.owner,
        comment=table.comment,
        properties=table.properties,
        primary_key=table.primary_key,
        keyed=table.keyed,
        lifecycle_days=table.lifecycle_days,
    )


def as_it_was(connection: Connection, table: TableRow, version: int) -> TableRow:
    """A table with the columns and totals of a version."""
    row = check_readable(connection, table, version)
    schema = catalog.schema_history(connection, table.id)[row.schema_version]
    return dataclasses.replace(
        table,
        arrow_schema=schema.arrow_schema,
        column_ids=schema.column_ids,
        schema_version=row.schema_version,
        version=version,
        rows=row.rows,
        bytes=row.bytes,
        segments=row.segments,
        modified_at=row.committed_us / 1_000_000,
    )


def locked_table(connection: Connection, name: TableName) -> TableRow:
    """A table that nobody else changes until the transaction's end.

    Raises:
        NoSuchTableError: there is none, or NoSuchProjectError.
    """
    return catalog.lock_table(connection, catalog.get_table(connection, name).id)
