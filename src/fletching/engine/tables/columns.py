"""Columns that change: each schema of a table is kept, and columns are known by their ids."""

from __future__ import annotations

from sqlalchemy import Connection

from fletching.catalog import table_rows as catalog
from fletching.catalog.table_rows import TableRow

__all__ = ["restore_columns"]


def restore_columns(
    connection: Connection, table: TableRow, schema_version: int, now: float
) -> int:
    """Gives a locked table the columns of an older schema, as a new one; returns its version.

    The ids are those of the older columns, so that what was written under them is found again;
    numbers that were given since are not given again.
    """
    then = catalog.schema_history(connection, table.id)[schema_version]
    catalog.add_schema_version(
        connection,
        table,
        arrow_schema=then.arrow_schema,
        column_ids=then.column_ids,
        next_column_id=table.next_column_id,
        now=now,
    )
    return table.schema_version + 1
