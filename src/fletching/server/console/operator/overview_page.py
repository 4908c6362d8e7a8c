"""The service at a glance: rates, latencies, errors, limits, memory, room; and whether it is well."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence

from markupsafe import Markup

from fletching import __version__
from fletching.engine.presence import DEAD_SECONDS
from fletching.errors import FletchingError
from fletching.server.console import charts
from fletching.server.console.code_snippets import twin_code
from fletching.server.console.page_cells import clean
from fletching.server.console.visit import Visit
from fletching.server.monitor import SLOT_SECONDS, Monitor, Slot, quantile

__all__ = ["overview_page"]

SPAN_SECONDS = 1800
LATENCY_SPAN = 3
"""Slots that a point of the latencies' lines is made of."""
MAX_ERRORS = 20
"""Kinds of errors that are listed."""


def _milliseconds(value: float) -> str:
    return f"{value:.3g} ms"


def _rate(value: float) -> str:
    return f"{value:.3g}/s"


def _bytes(value: float) -> str:
    return f"{value / 1e6:.3g} MB/s"


async def overview_page(visit: Visit) -> None:
    """Answers with the overview; a page that stays open renews itself."""
    service = visit.service
    run = service.workers.io.run
    operations = service.engine.operations
    health = ""
    try:
        await run(service.engine.check_ready)
    except FletchingError as exc:
        health = str(exc)
    totals, disk, debt = (
        await run(operations.totals),
        await run(operations.disk),
        await run(operations.debt),
    )
    servers = await run(service.engine.context.presence.servers)
    now = service.engine.context.clock()
    slots = service.monitor.slots(SPAN_SECONDS)
    limiters = {"uploads": service.bodies, "replies": service.reads, "calls": service.calls}
    data: dict[str, object] = {
        "version": __version__,
        "python": platform.python_version(),
        "host": platform.node(),
        "pid": os.getpid(),
        "started_at": service.started_at,
        "uptime": time.time() - service.started_at,
        "draining": service.draining,
        "healthy": not health and not service.draining,
        "health": health or ("stopping" if service.draining else "ready"),
        "catalog": "SQLite" if service.engine.context.database.is_sqlite else "PostgreSQL",
        "store": type(service.engine.context.store).__name__.removesuffix("Store").lower(),
        "totals": totals,
        "debt": debt,
        "disk": None if disk is None else {"free": disk[0], "total": disk[1]},
        "requests": service.monitor.total,
        "live": len(service.monitor.live),
        "last_minute": _last_minute(slots[-7:-1]),
        # Those that share the data set; of a folder, which is one machine's, none is kept count of.
        "servers": [
            {
                "name": row.name,
                "url": clean(row.url),
                "release": row.release,
                "up": now - row.started_at,
                "seen": now - row.seen_at,
                "lives": row.seen_at > now - DEAD_SECONDS,
            }
            for row in servers
        ],
        "errors": _errors(service.monitor),
        "gates": [
            {"kind": kind, "open": limiter.open, "limit": limiter.limit, "refused": limiter.refused}
            for kind, limiter in limiters.items()
        ],
        "pools": [
            {
                "name": name,
                "running": pool.running,
                "waiting": pool.waiting,
                "threads": pool.threads,
            }
            for name, pool in service.workers.pools()
        ],
        "memory": {
            "held": service.memory.held,
            "peak": service.memory.peak,
            "limit": service.memory.limit,
        },
    }
    meters = {
        kind: charts.meter(f"{limiter.open} of {limiter.limit} {kind}", limiter.open, limiter.limit)
        for kind, limiter in limiters.items()
    }
    meters["memory"] = charts.meter(
        "Memory that uploads hold", service.memory.held, service.memory.limit
    )
    if disk is not None:
        meters["disk"] = charts.meter("Disk that is used", disk[1] - disk[0], disk[1])
    await visit.pages.show(
        "overview",
        "Overview",
        data,
        at="overview",
        here="/overview",
        code=twin_code(visit, "/overview"),
        pictures=_pictures(slots),
        meters=meters,
    )


def _last_minute(slots: Sequence[Slot]) -> dict[str, object]:
    """What the whole slots of the last minute come to."""
    span = SLOT_SECONDS * len(slots)
    return {
        "requests_per_second": sum(slot.requests for slot in slots) / span,
        "received_per_second": sum(slot.received for slot in slots) / span,
        "sent_per_second": sum(slot.sent for slot in slots) / span,
        "failed": sum(slot.failed for slot in slots),
        "refused": sum(slot.refused for slot in slots),
        "median_ms": _in_ms(quantile(slots, 0.5)),
        "p95_ms": _in_ms(quantile(slots, 0.95)),
    }


def _errors(monitor: Monitor) -> list[dict[str, object]]:
    """How requests ended that did not end well, the most frequent end first."""
    # A copy: requests go on to end while they are sorted.
    result = sorted(dict(monitor.outcomes).items(), key=lambda item: -item[1])
    errors = [
        dict[str, object](status=status or None, outcome=outcome, count=count)
        for (status, outcome), count in result
        if outcome != "ok"
    ]
    return errors[:MAX_ERRORS]


def _pictures(slots: Sequence[Slot]) -> dict[str, Markup]:
    """Rates, latencies and bytes over the span, drawn as lines."""
    minutes = f"{SPAN_SECONDS // 60} minutes"
    latencies = [
        (
            name,
            [
                None if value is None else value * 1000
                for value in (
                    quantile(slots[max(0, end - LATENCY_SPAN) : end], share)
                    for end in range(1, len(slots) + 1)
                )
            ],
        )
        for name, share in (("half within", 0.5), ("95 of 100 within", 0.95))
    ]
    return {
        "rates": charts.lines(
            f"Requests per second over the last {minutes}",
            [
                ("requests", [slot.requests / SLOT_SECONDS for slot in slots]),
                ("failed or refused", [(s.failed + s.refused) / SLOT_SECONDS for s in slots]),
            ],
            form=_rate,
            span=minutes,
        ),
        "latencies": charts.lines(
            f"Durations of requests over the last {minutes}",
            latencies,
            form=_milliseconds,
            span=minutes,
        ),
        "bytes": charts.lines(
            f"Bytes of bodies per second over the last {minutes}",
            [
                ("sent", [slot.sent / SLOT_SECONDS for slot in slots]),
                ("received", [slot.received / SLOT_SECONDS for slot in slots]),
            ],
            form=_bytes,
            span=minutes,
        ),
    }


def _in_ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
