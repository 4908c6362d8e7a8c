"""Statements: written with the names completed, run, watched, cancelled, explained, their rows paged.

A statement that is run becomes an instance, and its page's address names it: whoever may see it can
open it again for a day, also while it still runs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
from markupsafe import Markup, escape

from fletching.engine.query.instances import InstanceRow
from fletching.errors import FletchingError, InvalidArgumentError
from fletching.protocol.messages.admin import (
    CancelStatement,
    DescribeTable,
    GetStatement,
    ListTables,
    RunStatement,
    StatementState,
)
from fletching.protocol.messages.requests import ReadInstance
from fletching.server.api.admin_endpoints import answer_statement
from fletching.server.console.code_snippets import query_code
from fletching.server.console.data.rows_page import linked_cells
from fletching.server.console.page_cells import Cell
from fletching.server.console.visit import Visit
from fletching.server.plain.rows_out import send_result

__all__ = [
    "Scan",
    "cancel_query",
    "drawn_plan",
    "names_page",
    "query_page",
    "result_rows",
    "scans_of",
]


PAGE_ROWS = 100
FIRST_WAIT_SECONDS = 2.0
"""Most statements end within it, and their page is the answer; others are watched."""

MOST_NAMES = 2000
MOST_DESCRIBED = 50
RECENT = 20


async def query_page(visit: Visit) -> None:
    """Shows an instance, or a form for a statement; a POST runs one and goes to its page."""
    if visit.posted:
        await _run(visit)
        return
    project, instance = visit.project, visit.asked.get("instance", "")
    text = visit.asked.get("text", "")
    data: dict[str, object] = {"project": project, "text": text, "instance": instance}
    problem, picture = "", None
    if instance:
        result, problem = await _shown(visit, project, instance)
        data |= result
        text = str(data["text"])
        picture = drawn_plan(str(data["printed"])) if data.get("explained") else None
    data["recent"] = await _recent(visit, project)
    await visit.pages.show(
        "query",
        "Query",
        data,
        at="query",
        here="/query",
        problem=problem,
        picture=picture,
        code=query_code(visit, project, text) if text else [],
        shows_state=bool(instance),
    )


async def _run(visit: Visit) -> None:
    form = await visit.form()
    project = form.get("project") or visit.service.settings.project
    text = form.get("text", "")
    if form.get("action") == "explain" and not text.lstrip().lower().startswith("explain"):
        text = "EXPLAIN " + text.lstrip()
    request = RunStatement(project=project, text=text, wait_seconds=FIRST_WAIT_SECONDS)
    data: dict[str, object] = {"project": project, "text": text, "instance": "", "recent": []}
    try:
        visit.service.authorize(visit.exchange, request)
        state = await answer_statement(visit.exchange, visit.service, request)
    except FletchingError as exc:
        await _refused(visit, data, getattr(exc, "message", str(exc)))
        return
    assert isinstance(state, StatementState)
    if state.error is not None:
        data["instance"] = state.instance_id
        await _refused(visit, data, state.error[2])
        return
    await visit.pages.go("/query", {"project": project, "instance": state.instance_id})


async def _refused(visit: Visit, data: dict[str, object], message: str) -> None:
    await visit.pages.show(
        "query",
        "Query",
        data,
        at="query",
        problem=message,
        status=400,
        picture=None,
        code=[],
        shows_state=False,
    )


async def _row(visit: Visit, project: str, instance: str) -> InstanceRow:
    service = visit.service
    instances = await service.workers.query.run(lambda: service.engine.instances)
    row = await service.workers.query.run(instances.get, project, instance)
    service.authorize_instance(visit.exchange, row)
    return row


async def _shown(visit: Visit, project: str, instance: str) -> tuple[dict[str, object], str]:
    """What has come of an instance, and why it failed if it did."""
    service = visit.service
    request = GetStatement(project=project, instance_id=instance, wait_seconds=0.0)
    service.authorize(visit.exchange, request)
    row = await _row(visit, project, instance)
    state = await answer_statement(visit.exchange, service, request)
    assert isinstance(state, StatementState)
    offset = visit.number("offset") or 0
    explained = row.statement.lstrip().lower().startswith("explain")
    data: dict[str, object] = {
        # What is run next is the statement, and what explains it again the other button.
        "text": row.statement.lstrip()[len("explain") :].lstrip() if explained else row.statement,
        "running": state.running,
        "progress": round(state.progress, 3),
        "seconds": round((row.ended_at or service.engine.context.clock()) - row.created_at, 3),
        "affected_rows": state.affected_rows,
        "printed": state.printed if state.arrow_schema is None else "",
        "explained": explained,
        "rows": state.rows,
        "offset": offset,
        "names": [],
        "cells": None,
        "previous": None,
        "next": None,
    }
    if state.error is not None:
        return data, state.error[2]
    if state.arrow_schema is not None and not state.running:
        offset = min(offset, state.rows)
        reading = ReadInstance(
            project=project,
            instance_id=instance,
            session_id=instance,
            offset=offset,
            count=PAGE_ROWS,
        )

        def rows() -> tuple[list[str], list[list[Cell]]]:
            plan = service.engine.read(reading)
            result = pa.Table.from_batches(list(plan.batches()), plan.schema)
            return result.column_names, linked_cells(visit, result)

        data["names"], data["cells"] = await service.workers.cpu.run(rows)
        data["previous"] = max(0, offset - PAGE_ROWS) if offset else None
        data["next"] = offset + PAGE_ROWS if offset + PAGE_ROWS < state.rows else None
    return data, ""


async def _recent(visit: Visit, project: str) -> list[dict[str, object]]:
    """The visitor's last statements."""
    service = visit.service
    try:
        instances = await service.workers.query.run(lambda: service.engine.instances)
    except FletchingError:
        return []  # SQL is not installed; running one says so
    rows = await service.workers.query.run(instances.list, project, 200)
    mine = [row for row in rows if row.owner == visit.exchange.access_id]
    return [
        {
            "instance": row.id,
            "text": " ".join(row.statement.split())[:120],
            "created_at": row.created_at,
            "state": "running" if not row.ended_at else "done" if row.succeeded else "failed",
        }
        for row in mine[:RECENT]
    ]


async def cancel_query(visit: Visit) -> None:
    """Ends a statement that runs, and goes to its page.

    Raises:
        ConflictError: it does not run here.
    """
    form = await visit.form()
    project, instance = form.get("project", ""), form.get("instance", "")
    request = CancelStatement(project=project, instance_id=instance, wait_seconds=5.0)
    visit.service.authorize(visit.exchange, request)
    await answer_statement(visit.exchange, visit.service, request)
    await visit.pages.go("/query", {"project": project, "instance": instance})


async def names_page(visit: Visit) -> None:
    """Answers with the names that a statement may hold: tables, and columns of those it mentions."""
    project, text = visit.project, visit.asked.get("text", "")[:20_000].casefold()
    result = await visit.call(ListTables(project=project, max_items=MOST_NAMES))
    names = [info.table.name for info in result.tables]
    columns: dict[str, list[str]] = {}
    for info in result.tables:
        if len(columns) < MOST_DESCRIBED and info.table.name.casefold() in text:
            item = await visit.call(DescribeTable(table=info.table))
            columns[info.table.name] = [
                column.name
                for column in (*item.schema.data_columns, *item.schema.partition_columns)
            ]
    await visit.pages.json({"tables": names, "columns": columns})


async def result_rows(visit: Visit) -> None:
    """Answers with all rows of a result as a file.

    Raises:
        InvalidArgumentError: a format that is not spoken here.
    """
    project, instance = visit.project, visit.asked.get("instance", "")
    if not instance:
        raise InvalidArgumentError("which instance?")
    await _row(visit, project, instance)
    await send_result(visit.exchange, visit.service, project, instance, visit.asked.get("format"))


_SCAN = re.compile(
    r"^  (?P<table>.+) AS (?P<alias>.+?): columns (?P<columns>.*?); pushed: (?P<pushed>.*)$"
)
_KEPT = re.compile(
    r"^    partitions: (\d+) of (\d+); segments: (\d+) of (\d+); bytes: (\d+) of (\d+)$"
)
_WIDTH, _ROW = 640, 74
_BAR = 300


class Scan(NamedTuple):
    """A mention of a table: what of it is read, and how much that is."""

    table: str
    alias: str
    columns: str
    pushed: str
    kept: tuple[int, ...]
    """Partitions, of all; segments, of all; bytes, of all."""


def scans_of(printed: str) -> list[Scan]:
    """The scans that an explanation lists."""
    result: list[Scan] = []
    for line in printed.splitlines():
        scan, kept = _SCAN.match(line), _KEPT.match(line)
        if scan is not None:
            result.append(Scan(scan["table"], scan["alias"], scan["columns"], scan["pushed"], ()))
        elif kept is not None and result:
            result[-1] = result[-1]._replace(kept=tuple(map(int, kept.groups())))
        elif not line.strip() and result:
            break
    return result


def drawn_plan(printed: str) -> Markup | None:
    """A picture of the scans; None if there are none."""
    scans = scans_of(printed)
    if not scans:
        return None
    parts: list[str] = []
    for number, scan in enumerate(scans):
        y = number * _ROW
        parts.append(
            f'<text class="strong" x="0" y="{y + 14}">{escape(_short(scan.table, 60))}</text>'
            f'<text x="0" y="{y + 30}">filter: {escape(_short(scan.pushed, 90))}</text>'
        )
        parts += _bars(scan.kept, y + 38)
    label = "; ".join(_sentence(scan) for scan in scans)
    # Escaped piece by piece above.
    return Markup(  # noqa: S704
        f'<svg class="plan" viewBox="0 0 {_WIDTH} {len(scans) * _ROW}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def _sentence(scan: Scan) -> str:
    if not scan.kept:
        return f"{scan.table} is read"
    return f"of {scan.table}, {scan.kept[2]} of {scan.kept[3]} segments are read"


def _bars(kept: Sequence[int], y: int) -> list[str]:
    if not kept:
        return []
    parts = []
    for index, name in ((0, "partitions"), (2, "segments")):
        count, of = kept[index], kept[index + 1]
        top = y + 7 * index
        width = _BAR * count / of if of else 0.0
        parts.append(
            f'<rect class="ground" x="0" y="{top}" width="{_BAR}" height="8"/>'
            f'<rect class="s0" x="0" y="{top}" width="{width:.1f}" height="8"/>'
            f'<text x="{_BAR + 8}" y="{top + 8}">{count:,} of {of:,} {name} read</text>'
        )
    return parts


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
