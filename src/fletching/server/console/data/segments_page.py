"""The stored segments of a table, and one of them drawn to scale, byte by byte."""

from __future__ import annotations

import json
import secrets

from fletching.errors import NotFoundError
from fletching.ipc.inspection_page import page
from fletching.protocol.messages.requests import CreateReadSession
from fletching.server.console.code_snippets import segments_code
from fletching.server.console.data.table_summary import described, show_table
from fletching.server.console.rendering import security_headers, wants_json
from fletching.server.console.visit import Visit, table_path

__all__ = ["segment_page", "segments_page"]

PAGE_SEGMENTS = 100


async def segments_page(visit: Visit) -> None:
    """Answers with the segments of the newest version."""
    info = await described(visit)
    first = visit.number("offset") or 0
    rows = await visit.service.workers.io.run(visit.service.engine.operations.segments, visit.table)
    data = {
        "offset": first,
        "count": len(rows),
        "previous": max(0, first - PAGE_SEGMENTS) if first else None,
        "next": first + PAGE_SEGMENTS if first + PAGE_SEGMENTS < len(rows) else None,
        "listed": [
            {
                "id": row.id,
                "key": row.key,
                "partition": "/".join(json.loads(row.partition)),
                "rows": row.rows,
                "bytes": row.length,
                "batches": len(row.batch_index) // 32,
                "codecs": row.codecs or "none",
                "version": row.added_version,
                "crc32c": f"{row.crc32c:08x}",
            }
            for row in rows[first : first + PAGE_SEGMENTS]
        ],
    }
    keys = [row.key for row in rows[first : first + 1]]
    await show_table(visit, info, "segments", data, code=segments_code(keys))


async def segment_page(visit: Visit) -> None:
    """Answers with a segment drawn to scale, or with what is known of it as JSON.

    Raises:
        NotFoundError: there is no such segment.
    """
    visit.service.authorize(visit.exchange, CreateReadSession(table=visit.table))
    number = visit.names["segment"]
    if not (number.isascii() and number.isdecimal() and len(number) <= 18):
        raise NotFoundError(f"there is no segment {number[:40]}")
    engine = visit.service.engine
    with visit.service.reads.enter():
        row, report = await visit.service.workers.cpu.run(
            engine.operations.inspect_segment, visit.table, int(number)
        )
    if wants_json(visit.exchange):
        await visit.pages.show("problem", row.key, {"key": row.key, "report": report})
        return
    nonce = secrets.token_urlsafe(16)
    back = visit.pages.address(table_path(visit.table, "/segments"))
    text = page(report, row.key, nonce=nonce, back=(back, f"Segments of {visit.table}"))
    await visit.exchange.reply(
        text.encode(),
        content_type="text/html; charset=utf-8",
        headers=security_headers(nonce, styles=True),
    )
