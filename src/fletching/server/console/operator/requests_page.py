"""Requests that run and the last thousand that ended: each found by the id that a user quotes."""

from __future__ import annotations

from fletching.errors import NotFoundError
from fletching.server.console.code_snippets import twin_code
from fletching.server.console.page_cells import clean
from fletching.server.console.visit import Visit

__all__ = ["requests_page"]

PAGE_REQUESTS = 100


async def requests_page(visit: Visit) -> None:
    """Answers with requests, newest first: all, or those that a search leaves.

    Raises:
        NotFoundError: a request id that is not among them.
    """
    monitor = visit.service.monitor
    wanted = visit.asked.get("id", "").strip()
    who, outcome = visit.asked.get("who", ""), visit.asked.get("outcome", "")
    first = visit.number("offset") or 0
    live = [
        {
            "request_id": exchange.request_id,
            "access_id": exchange.access_id,
            "method": exchange.method,
            "action": exchange.action,
            "peer": exchange.peer,
            "path": clean(exchange.raw_path[:120]),
            "milliseconds": exchange.seconds * 1000,
            "received": exchange.body.body_bytes,
            "sent": exchange.sent_bytes,
        }
        for exchange in list(monitor.live.values())
        if exchange is not visit.exchange
        and (not wanted or exchange.request_id == wanted)
        and (not who or exchange.access_id == who)
    ]
    ended = [
        each._asdict()
        for each in reversed(monitor.recent)
        if (not wanted or each.request_id == wanted)
        and (not who or each.access_id == who)
        and (not outcome or (outcome == "failed") == (each.outcome != "ok"))
    ]
    if wanted and not ended and not live:
        raise NotFoundError(
            f"request {clean(wanted[:60])} does not run and is not among the last "
            f"{monitor.recent.maxlen} of this server; its log has older ones"
        )
    data = {
        "id": wanted,
        "who": who,
        "outcome": outcome,
        "offset": first,
        "live": live[:PAGE_REQUESTS],
        "requests": ended[first : first + PAGE_REQUESTS],
        "count": len(ended),
        "previous": max(0, first - PAGE_REQUESTS) if first else None,
        "next": first + PAGE_REQUESTS if first + PAGE_REQUESTS < len(ended) else None,
    }
    kept = {"id": wanted, "who": who, "outcome": outcome}
    await visit.pages.show(
        "requests",
        "Requests",
        data,
        at="requests",
        here="/requests",
        code=twin_code(visit, "/requests"),
        kept=kept,
    )
