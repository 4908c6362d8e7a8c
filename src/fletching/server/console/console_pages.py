"""What each page of the console shows."""

from __future__ import annotations

import dataclasses
import time
from typing import Any
from urllib.parse import quote, urlencode

import pyarrow as pa

from fletching import __version__
from fletching.errors import FletchingError, InvalidArgumentError, NoPermissionError
from fletching.protocol.messages.admin import (
    CreateSchema,
    DescribeTable,
    ListPartitions,
    ListTables,
    PartitionPage,
    RunStatement,
    StatementState,
    TableInfo,
    TablePage,
)
from fletching.protocol.messages.changes import ListVersions, VersionPage
from fletching.protocol.messages.requests import ArrowOptions, CreateReadSession, ReadInstance
from fletching.protocol.types.table_schema import arrow_schema
from fletching.server.api.admin_endpoints import answer_statement
from fletching.server.console.rendering import Pages, cells_of
from fletching.server.console.sign_in import check_form
from fletching.server.http.exchange import Exchange
from fletching.server.service import Service
from fletching.types import TableName

__all__ = ["query_page", "server_page", "table_page", "tables_page"]

PAGE_ROWS = 100
PAGE_TABLES = 200
SHOWN_PARTITIONS = 200
SHOWN_VERSIONS = 30
SHOWN_RESULT_ROWS = 1000
STATEMENT_SECONDS = 25.0
"""How long a page waits for a statement; proxies wait for half a minute and more."""


async def tables_page(exchange: Exchange, service: Service, pages: Pages) -> None:
    """Tables of a project, those that the key may read."""
    query = dict(exchange.query)
    project = query.get("project") or service.settings.project
    prefix = query.get("q", "")
    request = ListTables(
        project=project, prefix=prefix, marker=query.get("after", ""), max_items=PAGE_TABLES
    )
    service.authorize(exchange, request)
    found = await service.call(request)
    assert isinstance(found, TablePage)
    tables = [info for info in found.tables if service.may_read(exchange, info.table)]
    data = {
        "project": project,
        "q": prefix,
        "marker": found.marker,
        "tables": [
            {
                "name": info.table.name,
                "schema": info.table.schema,
                "rows": info.rows,
                "bytes": info.bytes,
                "modified_at": info.modified_at,
            }
            for info in tables
        ],
    }
    await pages.show("tables", "Tables", data, at="tables", here="/tables")


async def table_page(exchange: Exchange, service: Service, pages: Pages, name: TableName) -> None:
    """A table: rows from an offset on, columns, partitions, history, and the same as code."""
    query = dict(exchange.query)
    info_request = DescribeTable(table=name)
    service.authorize(exchange, info_request)
    info = await service.call(info_request)
    assert isinstance(info, TableInfo)
    versions = await service.call(ListVersions(table=name, max_items=SHOWN_VERSIONS))
    assert isinstance(versions, VersionPage)
    partitions: tuple[Any, ...] = ()
    more_partitions = False
    if info.schema.partition_columns:
        listed = await service.call(ListPartitions(table=name, max_items=SHOWN_PARTITIONS))
        assert isinstance(listed, PartitionPage)
        partitions, more_partitions = listed.partitions, bool(listed.marker)
    offset = _number(query.get("offset", ""), "offset") or 0
    version = _number(query.get("version", ""), "version")
    request = CreateReadSession(
        table=name,
        filter_predicate=query.get("filter", ""),
        arrow_options=ArrowOptions(timestamp_unit=None, datetime_unit=None),
        verbatim_types=True,
        version=version,
    )

    def rows() -> pa.Table:
        found = service.engine.snapshot_rows(request, offset=offset, count=PAGE_ROWS + 1)
        skip = offset if found.plan.rows is None else 0
        taken: list[pa.RecordBatch] = []
        left = PAGE_ROWS + 1
        for batch in found.plan.batches():
            if skip >= batch.num_rows:
                skip -= batch.num_rows
                continue
            part = batch.slice(skip, left)
            skip = 0
            taken.append(part)
            left -= part.num_rows
            if left == 0:
                break
        return pa.Table.from_batches(taken, found.plan.schema)

    problem = ""
    try:
        with service.reads.enter():
            shown = await service.workers.cpu.run(rows)
    except InvalidArgumentError as exc:
        # A filter that is none: the page is shown, and says so.
        problem, shown = exc.message, pa.table({})
    path = f"/tables/{quote(name.project)}/{quote(name.schema)}/{quote(name.name)}"

    def query_of(start: int) -> str:
        kept = {key: query[key] for key in ("filter", "version") if query.get(key)}
        return urlencode(kept | {"offset": str(start)})

    data_schema = pa.ipc.read_schema(pa.py_buffer(info.arrow_schema))
    parts = arrow_schema(info.schema.partition_columns)
    data = {
        "name": name.name,
        "rows": info.rows,
        "bytes": info.bytes,
        "segments": info.segments,
        "version": info.version,
        "modified_at": info.modified_at,
        "comment": info.comment,
        "filter": query.get("filter", ""),
        "asked_version": query.get("version", ""),
        "offset": offset,
        "previous": max(0, offset - PAGE_ROWS) if offset else None,
        "next": offset + PAGE_ROWS if shown.num_rows > PAGE_ROWS else None,
        "query_of": query_of,
        "names": shown.column_names,
        "cells": cells_of(shown.slice(0, PAGE_ROWS)),
        "columns": [
            {
                "name": column.name,
                "type": column.type,
                "arrow_type": str(schema.field(column.name).type),
                "note": note or ("" if column.nullable else "not null"),
            }
            for columns, schema, note in (
                (info.schema.data_columns, data_schema, ""),
                (info.schema.partition_columns, parts, "partition"),
            )
            for column in columns
        ],
        "partitions": [
            {"partition": str(each.partition), "rows": each.rows, "bytes": each.bytes}
            for each in partitions
        ],
        "more_partitions": more_partitions,
        "versions": [
            {
                "version": each.version,
                "committed_at": each.committed_us / 1e6,
                "operation": each.operation,
                "rows_inserted": each.rows_inserted,
                "rows_deleted": each.rows_deleted,
                "rows": each.rows,
                "access_id": each.access_id,
            }
            for each in versions.versions
        ],
        "code": _code(exchange, name, query.get("filter", "")),
    }
    await pages.show(
        "table",
        str(name),
        data,
        at="tables",
        here=path,
        problem=problem,
        status=400 if problem else 200,
    )


def _number(text: str, what: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise InvalidArgumentError(f"{what} is a whole number from 0 on")
    return int(text)


def _code(exchange: Exchange, name: TableName, predicate: str) -> dict[str, str]:
    """What shows the same in other places."""
    secure = exchange.header("x-forwarded-proto") == "https"
    url = f"{'https' if secure else 'http'}://{exchange.header('host')}"
    filtered = f"filter={predicate!r}" if predicate else ""
    path = f"{quote(name.project)}/{quote(name.schema)}/{quote(name.name)}"
    query = urlencode({"format": "csv"} | ({"filter": predicate} if predicate else {}))
    option = " --filter " + _shell_word(predicate) if predicate else ""
    return {
        "python": f"client = fletching.connect({url!r}, project={name.project!r}, access_id=..., access_key=...)\n"
        f"client.table({name.name!r}).scan({filtered}).to_table()",
        "shell": f"fletching get {name.name} {name.name}.parquet{option} --at {url} --project {name.project}",
        "curl": f"curl -H \"Authorization: Bearer $TOKEN\" '{url}/fletching/v1/tables/{path}/rows?{query}'",
        "pyodps": f"ODPS(access_id, secret, project={name.project!r}, endpoint={url + '/api'!r})"
        f".get_table({name.name!r})",
    }


def _shell_word(text: str) -> str:
    import shlex

    return shlex.quote(text)


async def query_page(exchange: Exchange, service: Service, pages: Pages) -> None:
    """A statement, and what came of it; shown by GET, run by POST."""
    form = await check_form(exchange) if exchange.method == "POST" else {}
    project = form.get("project") or dict(exchange.query).get("project") or service.settings.project
    text = form.get("text", "") or dict(exchange.query).get("text", "")
    data: dict[str, Any] = {"project": project, "text": text, "done": False}
    if exchange.method != "POST":
        await pages.show("query", "Query", data, at="query", here="/query")
        return
    started = time.monotonic()
    try:
        data |= await _ran(exchange, service, project, text)
    except FletchingError as exc:
        message = getattr(exc, "message", str(exc))
        await pages.show("query", "Query", data, at="query", problem=message, status=400)
        return
    data |= {"done": True, "seconds": f"{time.monotonic() - started:.2f}"}
    await pages.show("query", "Query", data, at="query", here="/query")


async def _ran(exchange: Exchange, service: Service, project: str, text: str) -> dict[str, Any]:
    request = RunStatement(project=project, text=text, wait_seconds=STATEMENT_SECONDS)
    service.authorize(exchange, request)
    state = await answer_statement(exchange, service, request)
    assert isinstance(state, StatementState)
    if state.error is not None:
        raise InvalidArgumentError(state.error[2])
    if state.running:
        raise InvalidArgumentError(
            f"the statement still runs, as instance {state.instance_id}; pages wait for "
            f"{STATEMENT_SECONDS:.0f} seconds: fletching sql waits for its end"
        )
    found: dict[str, Any] = {
        "cells": None,
        "affected_rows": state.affected_rows,
        "printed": state.printed,
    }
    if state.arrow_schema is None:
        return found
    reading = ReadInstance(
        project=project, instance_id=state.instance_id, session_id=state.instance_id, offset=0
    )

    def rows() -> pa.Table:
        plan = service.engine.read(reading)
        taken: list[pa.RecordBatch] = []
        left = SHOWN_RESULT_ROWS
        for batch in plan.batches():
            taken.append(batch.slice(0, left))
            left -= taken[-1].num_rows
            if left <= 0:
                break
        return pa.Table.from_batches(taken, plan.schema)

    shown = await service.workers.cpu.run(rows)
    return found | {
        "names": shown.column_names,
        "cells": cells_of(shown),
        "rows": state.rows,
    }


async def server_page(exchange: Exchange, service: Service, pages: Pages) -> None:
    """The service, for its operator: limits, the last requests, settings.

    Raises:
        NoPermissionError: the key was not granted everything.
    """
    # What a key may do only if all projects are its own.
    service.authorize(exchange, CreateSchema(project="*", schema="*"))
    wanted = dict(exchange.query).get("id", "").strip()
    requests = [
        dataclasses.asdict(each)
        for each in reversed(service.recent)
        if not wanted or each.request_id == wanted
    ]
    if wanted and not requests:
        raise NoPermissionError(
            f"request {wanted[:60]} is not among the last {service.recent.maxlen}"
        )
    gates = (("uploads", service.bodies), ("replies", service.reads), ("calls", service.calls))
    data = {
        "version": __version__,
        "started_at": service.started_at,
        "draining": service.draining,
        "gates": [
            {"kind": kind, "open": gate.open, "limit": gate.limit, "refused": gate.refused}
            for kind, gate in gates
        ],
        "memory": {"held": service.memory.held, "limit": service.memory.limit},
        "id": wanted,
        "requests": requests[:200],
        "settings": [
            {
                "name": field.name,
                "value": str(getattr(service.settings, field.name)),
                "default": str(field.default),
            }
            for field in dataclasses.fields(service.settings)
        ],
    }
    await pages.show("server", "Server", data, at="server", here="/server")
