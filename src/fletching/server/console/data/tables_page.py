"""The tables of a project, and its schemas."""

from __future__ import annotations

from fletching.protocol.messages.admin import ListSchemas, ListTables
from fletching.server.console.code_snippets import tables_code
from fletching.server.console.visit import Visit, table_path
from fletching.types import DEFAULT_SCHEMA

__all__ = ["tables_page"]

PAGE_TABLES = 200
SORTS = ("name", "rows", "bytes", "modified_at")


async def tables_page(visit: Visit) -> None:
    """Answers with tables that the visitor may read: searched, sorted, a page at a time."""
    asked, project = visit.asked, visit.project
    schema = asked.get("schema") or DEFAULT_SCHEMA
    prefix, order = asked.get("q", ""), asked.get("sort", "name")
    order = order if order in SORTS else "name"
    result = await visit.call(
        ListTables(
            project=project,
            schema=schema,
            prefix=prefix,
            marker=asked.get("after", ""),
            max_items=PAGE_TABLES,
        )
    )
    schemas = await visit.call(ListSchemas(project=project))
    tables = [
        {
            "name": info.table.name,
            "schema": info.table.schema,
            "rows": info.rows,
            "bytes": info.bytes,
            "modified_at": info.modified_at,
            "version": info.version,
            "comment": info.comment,
        }
        for info in result.tables
    ]
    if order != "name":
        tables.sort(key=lambda table: table[order], reverse=True)  # type: ignore[arg-type, return-value]  # numbers
    paths = [table_path(info.table) for info in result.tables]
    by_name = {info.table.name: path for info, path in zip(result.tables, paths, strict=True)}
    projects = [
        name
        for name in await visit.service.workers.io.run(visit.service.engine.projects)
        if visit.service.may_enter(visit.exchange, name)
    ]
    data = {
        "project": project,
        "schema": schema,
        "projects": projects,
        "schemas": [each.schema for each in schemas.schemas],
        "q": prefix,
        "sort": order,
        "after": asked.get("after", ""),
        "marker": result.marker,
        "tables": tables,
    }
    await visit.pages.show(
        "tables",
        "Tables",
        data,
        at="tables",
        here="/tables",
        paths=by_name,
        code=tables_code(visit, project, prefix),
    )
