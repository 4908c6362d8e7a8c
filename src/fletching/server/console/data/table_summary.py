"""What the pages of one table have in common: what it is called, how large it is, its other pages."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from fletching.engine.reading.read_calls import SnapshotRows
from fletching.errors import OperationCancelledError
from fletching.protocol.messages.admin import DescribeTable, TableInfo
from fletching.protocol.messages.requests import ArrowOptions, CreateReadSession
from fletching.protocol.types.table_schema import arrow_schema
from fletching.server.console.visit import Visit, table_path

__all__ = [
    "described",
    "reading_of",
    "rows_at",
    "show_table",
    "summary_of",
    "until",
    "whole_schema",
]


async def described(visit: Visit, version: int | None = None) -> TableInfo:
    """The table that the visit's path names.

    Raises:
        NoPermissionError: the visitor may not read it.
        NoSuchTableError: there is none.
    """
    return await visit.call(DescribeTable(table=visit.table, version=version))


def summary_of(info: TableInfo) -> dict[str, object]:
    """What every page of a table says of it."""
    return {
        "name": info.table.name,
        "schema": info.table.schema,
        "project": info.table.project,
        "rows": info.rows,
        "bytes": info.bytes,
        "segments": info.segments,
        "version": info.version,
        "modified_at": info.modified_at,
        "comment": info.comment,
        "partitioned": bool(info.schema.partition_columns),
    }


def whole_schema(info: TableInfo) -> pa.Schema:
    """The Arrow schema of all columns, those of partitions behind the others."""
    stored = pa.ipc.read_schema(pa.py_buffer(info.arrow_schema))
    return pa.schema([*stored, *arrow_schema(info.schema.partition_columns)])


def reading_of(visit: Visit, **options: Any) -> CreateReadSession:
    """A read of the table with types as they are stored."""
    return CreateReadSession(
        table=visit.table,
        arrow_options=ArrowOptions(timestamp_unit=None, datetime_unit=None),
        verbatim_types=True,
        **options,
    )


def until(seconds: float) -> Callable[[], None]:
    """What ends a read so many seconds from now, for `Engine.snapshot_rows`."""
    deadline = time.monotonic() + seconds

    def check() -> None:
        if time.monotonic() > deadline:
            raise OperationCancelledError(f"the read was given up after {seconds:.0f} seconds")

    return check


def rows_at(snapshot: SnapshotRows, offset: int, count: int) -> tuple[pa.Table, bool]:
    """Rows of a plan, and whether all were looked at that might be among them.

    Args:
        snapshot: the plan.
        offset: with a filter, counted among the rows that it lets through.
        count: most rows.
    """
    skip = offset if snapshot.plan.rows is None else 0
    parts: list[pa.RecordBatch] = []
    left = count
    whole = True
    batches = snapshot.plan.batches()
    try:
        for batch in batches:
            if skip >= batch.num_rows:
                skip -= batch.num_rows
                continue
            part = batch.slice(skip, left)
            skip = 0
            parts.append(part)
            left -= part.num_rows
            if left == 0:
                break
    except OperationCancelledError:
        whole = False
    finally:
        # What is being computed ahead for it is of no use any more.
        getattr(batches, "close", lambda: None)()
    return pa.Table.from_batches(parts, snapshot.plan.schema), whole


async def show_table(
    visit: Visit,
    info: TableInfo,
    page: str,
    data: Mapping[str, object],
    *,
    problem: str = "",
    status: int = 200,
    **extra: Any,
) -> None:
    """Answers with a page of a table; ``page`` is its template and, but for rows, its path's end."""
    path = table_path(info.table)
    await visit.pages.show(
        f"table-{page}",
        str(info.table),
        {**summary_of(info), **data},
        at="tables",
        here=path if page == "rows" else f"{path}/{page}",
        problem=problem,
        status=status,
        tab=page,
        base=visit.pages.address(path),
        **extra,
    )
