"""The columns of a table: their types, and what values they have in a sample of its rows."""

from __future__ import annotations

import time

import msgspec
import pyarrow as pa
from markupsafe import Markup

from fletching.engine.engine import Engine
from fletching.protocol.messages.requests import CreateReadSession
from fletching.protocol.types.blob_type import contains_blob
from fletching.server.console import charts
from fletching.server.console.code_snippets import rows_code
from fletching.server.console.data.column_profile import ColumnProfile, profile
from fletching.server.console.data.table_summary import (
    described,
    reading_of,
    rows_at,
    show_table,
    whole_schema,
)
from fletching.server.console.visit import Visit

__all__ = ["columns_page"]

SAMPLE_SPANS = 40
SAMPLE_ROWS = 800
"""Rows are looked at in so many places of the table, so many in each; a multiple of the bars, so that
values which grow with the rows do not look as if they came in lumps."""

_STEP = 17
"""Places are gone through in such steps, so that those looked at in time are from all over the table."""

SAMPLE_SECONDS = 1.0
"""Then the page is answered with what has been found."""

PAGE_COLUMNS = 20


async def columns_page(visit: Visit) -> None:
    """Answers with the columns, a page at a time."""
    info = await described(visit)
    schema = whole_schema(info)
    columns = [
        (column, partition)
        for group, partition in (
            (info.schema.data_columns, False),
            (info.schema.partition_columns, True),
        )
        for column in group
    ]
    wanted = visit.asked.get("column", "")
    first = visit.number("offset") or 0
    shown = [
        each
        for each in columns[first : first + PAGE_COLUMNS]
        if not wanted or each[0].name.casefold() == wanted.casefold()
    ]
    if wanted:
        shown = [each for each in columns if each[0].name.casefold() == wanted.casefold()]
    names = [
        column.name for column, _ in shown if not contains_blob(schema.field(column.name).type)
    ]
    request = reading_of(
        visit,
        required_data_columns=tuple(c.name for c, partition in shown if not partition),
        required_partition_columns=tuple(c.name for c, partition in shown if partition),
    )
    service = visit.service
    service.authorize(visit.exchange, request)
    profiles: dict[str, ColumnProfile] = {}
    looked = 0
    if names and info.rows:
        with service.reads.enter():
            profiles, looked = await service.workers.cpu.run(
                _profiles, service.engine, request, info.rows, names
            )
    result = []
    pictures = {}
    for column, partition in shown:
        values = profiles.get(column.name)
        result.append(
            {
                "name": column.name,
                "type": column.type,
                "arrow_type": str(schema.field(column.name).type),
                "nullable": column.nullable,
                "partition": partition,
                "comment": column.comment or "",
                "profile": None if values is None else msgspec.to_builtins(values),
            }
        )
        if values is not None and values.bars:
            pictures[column.name] = _picture(column.name, values)
    data = {
        "column": wanted,
        "offset": first,
        "previous": max(0, first - PAGE_COLUMNS) if first and not wanted else None,
        "next": first + PAGE_COLUMNS
        if first + PAGE_COLUMNS < len(columns) and not wanted
        else None,
        "count": len(columns),
        "looked": looked,
        "columns": result,
        "primary_key": list(info.primary_key),
    }
    await show_table(
        visit, info, "columns", data, pictures=pictures, code=rows_code(visit, visit.table)
    )


def _profiles(
    engine: Engine, request: CreateReadSession, table_rows: int, names: list[str]
) -> tuple[dict[str, ColumnProfile], int]:
    """The columns' profiles in a sample from all over the table, and its rows; blocks, as it reads them."""
    deadline = time.monotonic() + SAMPLE_SECONDS
    parts: list[pa.Table] = []
    step = max(SAMPLE_ROWS, table_rows // SAMPLE_SPANS)
    spans = -(-table_rows // step)
    order = [number * _STEP % spans for number in range(spans)]
    if len(set(order)) < spans:
        order = list(range(spans))
    for span in order:
        offset = span * step
        count = min(step, SAMPLE_ROWS)
        result = engine.snapshot_rows(request, offset=offset, count=count)
        parts.append(rows_at(result, offset, count)[0])
        if time.monotonic() > deadline:
            break
    rows = pa.concat_tables(parts)
    return {name: profile(rows.column(name)) for name in names}, rows.num_rows


def _picture(name: str, values: ColumnProfile) -> Markup:
    """How a column's values, or their lengths, are spread."""
    lower, upper = values.lower, values.upper
    if values.of != "values":
        lower, upper = values.bars[0][0], values.bars[-1][0]
    return charts.bars(
        f"How the {values.of} of {name} are spread",
        values.bars,
        lower=lower,
        upper=upper if len(values.bars) > 1 else "",
    )
