"""The versions of a table: a timeline, the difference of two, tags, and going back to one."""

from __future__ import annotations

import pyarrow as pa

from fletching.errors import InvalidArgumentError
from fletching.protocol.messages.changes import (
    CreateTag,
    DropTag,
    ListTags,
    ListVersions,
    RestoreTable,
)
from fletching.server.console import charts
from fletching.server.console.code_snippets import history_code
from fletching.server.console.data.rows_page import linked_cells
from fletching.server.console.data.table_summary import described, reading_of, rows_at, show_table
from fletching.server.console.page_cells import Cell
from fletching.server.console.visit import Visit, table_path

__all__ = ["change_history", "history_page"]

PAGE_VERSIONS = 50
SHOWN_CHANGES = 100


async def history_page(visit: Visit) -> None:
    """Answers with versions, newest first; with ``from`` and ``to`` also with what changed between."""
    info = await described(visit)
    page = await visit.call(
        ListVersions(table=visit.table, before=visit.number("before"), max_items=PAGE_VERSIONS)
    )
    tags = (await visit.call(ListTags(table=visit.table))).tags
    by_version: dict[int, list[str]] = {}
    for tag, version in tags.items():
        by_version.setdefault(version, []).append(tag)
    most = max(
        (v.rows_inserted + v.rows_updated + v.rows_deleted for v in page.versions), default=0
    )
    versions = [
        {
            "version": each.version,
            "committed_at": each.committed_us / 1e6,
            "operation": each.operation,
            "data_change": each.data_change,
            "rows_inserted": each.rows_inserted,
            "rows_updated": each.rows_updated,
            "rows_deleted": each.rows_deleted,
            "rows": each.rows,
            "access_id": each.access_id,
            "readable": each.readable,
            "tags": by_version.get(each.version, []),
        }
        for each in page.versions
    ]
    pictures = [
        charts.shares(
            f"{v.rows_inserted + v.rows_updated} rows came, {v.rows_deleted} went",
            v.rows_inserted + v.rows_updated,
            most,
            v.rows_deleted,
        )
        for v in page.versions
    ]
    since, until = visit.number("from"), visit.number("to")
    data: dict[str, object] = {
        "versions": versions,
        "before": page.before,
        "asked_before": visit.number("before"),
        "tags": tags,
        "from": since,
        "to": until,
        "difference": None,
        "confirm": _confirmed(visit),
    }
    problem = ""
    if since is not None and until is not None:
        try:
            data["difference"] = await _difference(visit, since, until)
        except InvalidArgumentError as exc:
            problem = exc.message
    await show_table(
        visit,
        info,
        "history",
        data,
        problem=problem,
        status=400 if problem else 200,
        pictures=pictures,
        code=history_code(visit, visit.table, since, until),
    )


def _confirmed(visit: Visit) -> dict[str, object] | None:
    """What the visitor is asked to confirm."""
    action, version = visit.asked.get("confirm", ""), visit.number("version")
    if action not in {"restore", "tag", "untag"}:
        return None
    if version is None and action != "untag":
        raise InvalidArgumentError("which version?")
    return {"action": action, "version": version, "name": visit.asked.get("name", "")}


async def _difference(visit: Visit, since: int, until: int) -> dict[str, object]:
    """What came and went in the versions above one, up to another; the first rows of it."""
    if since >= until:
        raise InvalidArgumentError("the first version of a difference is the older one")
    service = visit.service
    request = reading_of(visit, version=until, since_version=since)
    service.authorize(visit.exchange, request)

    def read() -> tuple[pa.Table, list[list[Cell]], int]:
        result = service.engine.snapshot_rows(request, count=SHOWN_CHANGES)
        rows, _ = rows_at(result, 0, SHOWN_CHANGES)
        return rows, linked_cells(visit, rows), result.total

    with service.reads.enter():
        rows, cells, total = await service.workers.cpu.run(read)
    names = rows.column_names
    kind = names.index("_change_type")
    return {
        "total": total,
        "names": ["_change_type", *(name for name in names if name != "_change_type")],
        "cells": [[row[kind], *row[:kind], *row[kind + 1 :]] for row in cells],
    }


async def change_history(visit: Visit) -> None:
    """Restores or names a version, once that was confirmed.

    Raises:
        FletchingError: the visitor may not, or there is no such version.
    """
    form = await visit.form()
    action = form.get("action", "")
    version = _version(form.get("version", ""))
    request: RestoreTable | CreateTag | DropTag
    if action == "restore":
        # Nothing but what the visitor looked at may have happened since.
        request = RestoreTable(
            table=visit.table,
            version=_needed(version),
            if_version=_version(form.get("if_version", "")),
            idempotency_key=form.get("key") or None,
        )
    elif action == "tag":
        request = CreateTag(
            table=visit.table, name=form.get("name", "").strip(), version=_needed(version)
        )
    elif action == "untag":
        request = DropTag(table=visit.table, name=form.get("name", ""))
    else:
        raise InvalidArgumentError("a history's action is restore, tag or untag")
    await visit.call(request)
    await visit.pages.go(table_path(visit.table, "/history"))


def _version(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None


def _needed(version: int | None) -> int:
    if version is None:
        raise InvalidArgumentError("which version?")
    return version
