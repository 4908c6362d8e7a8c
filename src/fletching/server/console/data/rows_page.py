"""Rows of a table, from any offset on, and one row in full."""

from __future__ import annotations

import pyarrow as pa

from fletching.errors import (
    FletchingError,
    InvalidArgumentError,
    NotFoundError,
    VersionNotFoundError,
)
from fletching.server.console.code_snippets import rows_code
from fletching.server.console.data.table_facts import (
    described,
    reading_of,
    show_table,
    taken,
    until,
)
from fletching.server.console.page_cells import Cell, cells_of, clean, references_of
from fletching.server.console.visit import Visit, table_path

__all__ = ["linked_cells", "row_page", "rows_page"]

PAGE_ROWS = 100
PAGE_CELLS = 1500
"""Of wide tables fewer rows are shown, so that no page is large."""

ROW_CHARACTERS = 50_000
FILTER_SECONDS = 5.0
"""How long a filter may look for the rows of a page; then the page says that it gave up."""

LINK_SECONDS = 300.0
"""How long the links to blobs that a page holds are good for."""

TEXT_BYTES = 160
"""So much of a blob of text is shown in its cell."""


def _page_rows(columns: int) -> int:
    return max(10, min(PAGE_ROWS, PAGE_CELLS // max(1, columns)))


def linked_cells(visit: Visit, rows: pa.Table, *, most: int = 0) -> list[list[Cell]]:
    """The rows as cells, with blobs as what they are; blocks, as it reads the blobs' headers."""
    cells = cells_of(rows, most=most) if most else cells_of(rows)
    blobs = visit.service.engine.blobs
    for place, references in references_of(rows).items():
        for number, reference in enumerate(references):
            if reference is None:
                continue
            try:
                found = blobs.slice(reference)
            except FletchingError:
                cells[number][place] = Cell("the blob is gone", "empty")
                continue
            if not visit.service.may_read(visit.exchange, found.table):
                continue
            media = (found.header.content_type or "").partition(";")[0].strip().lower()
            text = clean(found.header.file_name or "") or "blob"
            if media.startswith("text/") and found.total:
                head = blobs.slice(reference, 0, TEXT_BYTES)
                data = b"".join(
                    bytes(each.object.view(each.start, each.end)) for each in head.pieces
                )
                text = clean(data.decode("utf-8", "replace").rstrip("\N{REPLACEMENT CHARACTER}"))
            cells[number][place] = Cell(
                f"{text} ({found.total:,} bytes)" if not media.startswith("text/") else text,
                "blob",
                cut=found.total > TEXT_BYTES and media.startswith("text/"),
                media=media,
                link=visit.pages.prefix
                + visit.service.blob_link(visit.exchange, reference, LINK_SECONDS),
            )
    return cells


async def rows_page(visit: Visit) -> None:
    """Answers with rows; a filter that means nothing is said on the page."""
    offset, version = visit.number("offset") or 0, visit.number("version")
    predicate = visit.asked.get("filter", "")
    info = await described(visit)
    shown_info, problem = info, ""
    if version is not None:
        try:
            shown_info = await described(visit, version)
        except VersionNotFoundError as exc:
            problem, version = exc.message, None
    count = _page_rows(
        len(shown_info.schema.data_columns) + len(shown_info.schema.partition_columns)
    )
    request = reading_of(visit, filter_predicate=predicate, version=version)
    service = visit.service

    def read() -> tuple[pa.Table, list[list[Cell]], int, bool]:
        found = service.engine.snapshot_rows(
            request,
            offset=offset,
            count=count + 1,
            check=until(FILTER_SECONDS) if predicate else None,
        )
        rows, whole = taken(found, offset, count + 1)
        return rows, linked_cells(visit, rows.slice(0, count)), found.total, whole

    names: list[str] = []
    cells: list[list[Cell]] = []
    more, total, whole = False, shown_info.rows, True
    try:
        service.authorize(visit.exchange, request)
        with service.reads.enter():
            rows, cells, total, whole = await service.workers.cpu.run(read)
        names, more = rows.column_names, rows.num_rows > count
    except InvalidArgumentError as exc:
        problem = exc.message
    last = None if predicate or not total else max(0, (total - 1) // count * count)
    data = {
        "filter": predicate,
        "asked_version": visit.asked.get("version", ""),
        "offset": offset,
        "count": count,
        "total": total,
        "previous": max(0, offset - count) if offset else None,
        "next": offset + count if more else None,
        "last": last,
        "names": names,
        "cells": cells,
        "given_up": ""
        if whole
        else f"The filter was given up after {FILTER_SECONDS:.0f} seconds: there may be more rows. "
        "A download or a query looks at all of them.",
    }
    path = table_path(visit.table)
    await show_table(
        visit,
        info,
        "rows",
        data,
        to=lambda query: visit.pages.address(path, query),
        problem=problem,
        status=400 if problem else 200,
        kept=_kept(visit),
        code=rows_code(visit, visit.table, predicate=predicate, version=version),
    )


def _kept(visit: Visit) -> dict[str, str]:
    """What the links to other rows keep of the query."""
    return {name: visit.asked[name] for name in ("filter", "version") if visit.asked.get(name)}


async def row_page(visit: Visit) -> None:
    """Answers with one row in full.

    Raises:
        NotFoundError: there is no such row.
    """
    offset, version = visit.number("offset") or 0, visit.number("version")
    predicate = visit.asked.get("filter", "")
    info = await described(visit)
    request = reading_of(visit, filter_predicate=predicate, version=version)
    service = visit.service
    service.authorize(visit.exchange, request)

    def read() -> tuple[list[str], list[list[Cell]]]:
        found = service.engine.snapshot_rows(
            request, offset=offset, count=1, check=until(FILTER_SECONDS) if predicate else None
        )
        rows, _ = taken(found, offset, 1)
        most = max(200, ROW_CHARACTERS // max(1, rows.num_columns))
        return rows.column_names, linked_cells(visit, rows, most=most)

    with service.reads.enter():
        names, cells = await service.workers.cpu.run(read)
    if not cells:
        raise NotFoundError(f"there is no row {offset}")
    data = {
        "offset": offset,
        "filter": predicate,
        "asked_version": visit.asked.get("version", ""),
        "names": names,
        "cells": cells[0],
    }
    path = table_path(visit.table)
    await show_table(
        visit,
        info,
        "row",
        data,
        to_rows=lambda query: visit.pages.address(path, query),
        kept=_kept(visit),
        code=rows_code(
            visit, visit.table, predicate=predicate, version=version, offset=offset, limit=1
        ),
    )
