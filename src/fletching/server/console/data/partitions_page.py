"""The partitions of a table as a tree, with what each branch holds."""

from __future__ import annotations

from typing import Any

from fletching.errors import InvalidArgumentError, UsageError
from fletching.protocol.messages.admin import ListPartitions, PartitionInfo
from fletching.server.console import charts
from fletching.server.console.code_snippets import partitions_code
from fletching.server.console.data.table_summary import described, show_table
from fletching.server.console.visit import Visit, table_path
from fletching.types import PartitionSpec

__all__ = ["partitions_page"]

MOST_PARTITIONS = 10_000
"""Listed for one page; of a larger tree the first ones, which the page says."""

PAGE_BRANCHES = 200


async def partitions_page(visit: Visit) -> None:
    """Answers with one level of the tree."""
    info = await described(visit)
    under_text = visit.asked.get("under", "")
    first = visit.number("offset") or 0
    try:
        under = PartitionSpec.parse(under_text) if under_text else PartitionSpec()
    except UsageError as exc:
        raise InvalidArgumentError(exc.message) from exc
    result: list[PartitionInfo] = []
    marker = ""
    if info.schema.partition_columns:
        while len(result) < MOST_PARTITIONS:
            page = await visit.call(ListPartitions(table=visit.table, prefix=under, marker=marker))
            result += page.partitions
            marker = page.marker
            if not marker:
                break
    depth = len(under)
    branches: dict[tuple[str, str], dict[str, Any]] = {}
    for each in result:
        key = list(each.partition)[depth] if depth < len(each.partition) else ("", "")
        branch = branches.setdefault(
            key,
            {
                "partition": str(PartitionSpec((*under, key))) if key[0] else str(each.partition),
                "value": key[1],
                "leaf": depth + 1 >= len(each.partition),
                "partitions": 0,
                "rows": 0,
                "bytes": 0,
            },
        )
        branch["partitions"] += 1
        branch["rows"] += each.rows
        branch["bytes"] += each.bytes
    listed = list(branches.values())
    most = max((branch["bytes"] for branch in listed), default=0)
    shown = listed[first : first + PAGE_BRANCHES]
    types = {column.name.casefold(): column.type for column in info.schema.partition_columns}
    data = {
        "under": under_text,
        "columns": [column.name for column in info.schema.partition_columns],
        "depth": depth,
        "above": [str(PartitionSpec(tuple(under)[:level])) for level in range(1, depth + 1)],
        "offset": first,
        "previous": max(0, first - PAGE_BRANCHES) if first else None,
        "next": first + PAGE_BRANCHES if first + PAGE_BRANCHES < len(listed) else None,
        "branches": shown,
        "count": len(listed),
        "cut": bool(marker),
    }
    await show_table(
        visit,
        info,
        "partitions",
        data,
        rows_of=lambda text: visit.pages.address(
            table_path(visit.table), {"filter": _filter(text, types)}
        ),
        url_with=lambda offset: visit.pages.address(
            table_path(visit.table, "/partitions"), {"under": under_text, "offset": offset or ""}
        ),
        pictures=[charts.shares(f"{b['bytes']} bytes", b["bytes"], most) for b in shown],
        code=partitions_code(visit, visit.table),
    )


def _filter(partition: str, types: dict[str, str]) -> str:
    """The rows of a partition, as a filter."""
    terms = []
    for name, value in PartitionSpec.parse(partition):
        kind = types.get(name.casefold(), "string").lower()
        if kind in {"tinyint", "smallint", "int", "bigint"}:
            literal = value
        else:
            literal = "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
        terms.append(f"{name} = {literal}")
    return " AND ".join(terms)
