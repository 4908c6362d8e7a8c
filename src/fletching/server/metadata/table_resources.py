"""Tables and their partitions: lookup, listing, a few rows as CSV."""

from __future__ import annotations

import csv
import io

import pyarrow as pa

from fletching.engine.query.value_text import csv_cells
from fletching.errors import InvalidArgumentError, NoSuchPartitionError
from fletching.protocol.http.numbers import parse_count
from fletching.protocol.messages.admin import DescribeTable, ListPartitions, ListTables
from fletching.protocol.messages.requests import PreviewTable
from fletching.server.metadata.documents import (
    partition_document,
    partition_page,
    table_document,
    table_page,
    type_of,
)
from fletching.server.metadata.scope import Scope
from fletching.sql.statements.table_properties import PARTITION_TIERS

__all__ = ["get_table", "list_tables"]

MAX_HEAD_ROWS = 10_000


async def list_tables(scope: Scope) -> None:
    """A page of tables; ``name`` is a prefix, ``owner`` and ``type`` are compared."""
    scope = await scope.with_schema()
    query = scope.query
    result = await scope.call(
        ListTables(
            project=scope.project,
            schema=scope.schema,
            prefix=query.get("name", ""),
            marker=query.get("marker", ""),
            max_items=scope.max_items,
        )
    )
    tables = result.tables
    if query.get("owner"):
        tables = tuple(info for info in tables if info.owner == query["owner"])
    if query.get("type"):
        tables = tuple(info for info in tables if type_of(info) == query["type"].upper())
    await scope.reply(table_page(tables, result.marker, scope.max_items))


async def get_table(scope: Scope) -> None:
    """A table, or what the query asks of it."""
    scope = await scope.with_schema()
    query = scope.query
    if "partitions" in query:
        await _partitions(scope)
    elif "data" in query:
        await _head(scope)
    elif "partition" in query:
        await _partition(scope, query["partition"])
    else:
        info = await scope.call(DescribeTable(table=scope.table))
        await scope.reply(table_document(info, extended="extended" in query))


async def _partitions(scope: Scope) -> None:
    query = scope.query
    result = await scope.call(
        ListPartitions(
            table=scope.table,
            prefix=scope.partition(query.get("partition", "")),
            marker=query.get("marker", ""),
            max_items=scope.max_items,
            reverse="reverse" in query,
        )
    )
    await scope.reply(partition_page(result.partitions, result.marker, scope.max_items))


async def _partition(scope: Scope, text: str) -> None:
    """One partition.

    Raises:
        NoSuchPartitionError: there is none of all these values.
        InvalidArgumentError: not all partition columns are named.
    """
    wanted = scope.partition(text)
    info = await scope.call(DescribeTable(table=scope.table))
    columns = [column.name.casefold() for column in info.schema.partition_columns]
    if sorted(name.casefold() for name, _ in wanted) != sorted(columns):
        raise InvalidArgumentError(
            f"partition {text[:100]!r} does not name the table's partition columns"
        )
    result = await scope.call(ListPartitions(table=scope.table, prefix=wanted, max_items=1))
    if not result.partitions:
        raise NoSuchPartitionError(f"there is no partition {wanted} in table {scope.name}")
    info_of = result.partitions[0]
    tiers = info.properties.get(PARTITION_TIERS)
    await scope.reply(partition_document(info_of, extended="extended" in scope.query, tiers=tiers))


async def _head(scope: Scope) -> None:
    """The first rows as CSV, as clients without Arrow read them."""
    query = scope.query
    text = query.get("linenum", "")
    lines = parse_count(text)
    if lines is None:
        raise InvalidArgumentError(f"linenum is {text[:20]!r}, not a count")
    request = PreviewTable(
        table=scope.table,
        limit=min(lines, MAX_HEAD_ROWS),
        partition=scope.partition(query.get("partition", "")),
        columns=tuple(name for name in query.get("cols", "").split(",") if name),
    )
    scope.service.authorize(scope.exchange, request)

    def render() -> bytes:
        plan = scope.service.engine.read(request)
        sink = io.StringIO()
        writer = csv.writer(sink, lineterminator="\n")
        writer.writerow(plan.schema.names)
        table = pa.Table.from_batches(list(plan.batches()), plan.schema)
        # Text is what was asked for, and there are at most MAX_HEAD_ROWS rows.
        writer.writerows(zip(*map(csv_cells, table.columns, plan.schema), strict=True))
        return sink.getvalue().encode()

    # Without a charset clients take text for Latin-1.
    await scope.exchange.reply(
        await scope.long_work(render), content_type="text/csv; charset=utf-8"
    )
