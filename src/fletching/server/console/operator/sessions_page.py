"""Sessions that are open: how old they are, what they pin, and a way to end them."""

from __future__ import annotations

import time

from fletching.server.console.code_snippets import twin_code
from fletching.server.console.visit import Visit, table_path

__all__ = ["end_session", "sessions_page"]


async def sessions_page(visit: Visit) -> None:
    """Answers with read and write sessions, oldest first."""
    service = visit.service
    result = await service.workers.io.run(service.engine.operations.sessions)
    now = time.time()
    sessions = [
        {
            "id": each.id,
            "kind": each.kind,
            "table": str(each.table),
            "version": each.version,
            "created_at": each.created_at,
            "age": now - each.created_at,
            "expires_in": each.expires_at - now,
        }
        for each in result
    ]
    data = {"sessions": sessions, "confirm": visit.asked.get("confirm", "")}
    await visit.pages.show(
        "sessions",
        "Sessions",
        data,
        at="sessions",
        here="/sessions",
        code=twin_code(visit, "/sessions"),
        paths=[visit.pages.address(table_path(each.table)) for each in result],
    )


async def end_session(visit: Visit) -> None:
    """Ends one.

    Raises:
        NotFoundError: it has ended already.
    """
    form = await visit.form()
    service = visit.service
    await service.workers.write.run(
        service.engine.operations.end_session, form.get("id", ""), form.get("kind", "")
    )
    await visit.pages.go("/sessions")
