"""What is stored, what upkeep would do about it, and upkeep that is started here."""

from __future__ import annotations

import dataclasses

from fletching.engine.upkeep.operations import TASKS
from fletching.server.console import charts
from fletching.server.console.code_snippets import twin_code
from fletching.server.console.visit import Visit, table_path

__all__ = ["start_task", "storage_page"]


async def storage_page(visit: Visit) -> None:
    """Answers with the largest tables, upkeep's debt, and how far its tasks are.

    With ``plan=retention`` also with what a pass would collect, which is found out by trying.
    """
    service = visit.service
    operations, run = service.engine.operations, service.workers.io.run
    tables = await run(operations.largest_tables)
    totals, disk, debt = (
        await run(operations.totals),
        await run(operations.disk),
        await run(operations.debt),
    )
    planned = None
    if visit.asked.get("plan") == "retention":
        report = await service.workers.write.run(lambda: service.engine.collect(dry_run=True))
        planned = {
            "counts": report.counts(),
            "bytes": report.bytes,
            "skipped": report.skipped,
            "refused": report.refused,
        }
    now = service.engine.context.clock()
    tasks = [
        dataclasses.asdict(state) | {"seconds": (state.ended_at or now) - state.started_at}
        for state in operations.tasks()
    ]
    most = max((each.bytes for each in tables), default=0)
    data = {
        "totals": totals,
        "disk": None if disk is None else {"free": disk[0], "total": disk[1]},
        "debt": debt,
        "planned": planned,
        "tasks": tasks,
        "running": any(task["ended_at"] is None for task in tasks),
        "names": list(TASKS),
        "tables": [
            {
                "table": str(each.table),
                "rows": each.rows,
                "bytes": each.bytes,
                "segments": each.segments,
            }
            for each in tables
        ],
    }
    await visit.pages.show(
        "storage",
        "Storage",
        data,
        at="storage",
        here="/storage",
        code=twin_code(
            visit,
            "/storage",
            "fletching verify --at FOLDER",
            "fletching gc --dry-run --at FOLDER",
            "fletching compact --at FOLDER",
        ),
        paths=[visit.pages.address(table_path(each.table)) for each in tables],
        pictures=[charts.shares(f"{t.bytes} bytes", t.bytes, most) for t in tables],
        meter=None
        if disk is None
        else charts.meter("Disk that is used", disk[1] - disk[0], disk[1]),
    )


async def start_task(visit: Visit) -> None:
    """Starts a task of upkeep; the page says how far it is.

    Raises:
        ConflictError: one runs already.
    """
    form = await visit.form()
    service = visit.service
    await service.workers.io.run(service.engine.operations.start, form.get("task", ""))
    await visit.pages.go("/storage")
