"""Rows of a table, from any offset on, and one row in full."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from typing import NamedTuple

import pyarrow as pa

from fletching.errors import (
    FletchingError,
    InvalidArgumentError,
    NotFoundError,
    VersionNotFoundError,
)
from fletching.protocol.messages.admin import TableInfo
from fletching.protocol.messages.requests import CreateReadSession
from fletching.protocol.types.blob_type import contains_blob
from fletching.server.console.code_snippets import rows_code
from fletching.server.console.data.sorted_rows import first_in_order
from fletching.server.console.data.table_summary import (
    described,
    reading_of,
    rows_at,
    show_table,
    until,
    whole_schema,
)
from fletching.server.console.page_cells import Cell, cells_of, clean, references_of
from fletching.server.console.visit import Visit, table_path

__all__ = ["linked_cells", "row_page", "rows_page"]

PAGE_ROWS = 100
PAGE_CELLS = 1500
"""Of wide tables fewer rows are shown, so that no page is large."""

PAGE_COLUMNS = 100
"""And not more columns than these, of which alone anything is read; links lead to the others."""

ROW_CHARACTERS = 50_000
FILTER_SECONDS = 5.0
"""How long a filter may look for the rows of a page; then the page says that it gave up."""

SORT_SECONDS = 5.0
"""How long rows may be looked at for the first in an order; then the page says how far that came."""

SORT_ROWS = 10_000
"""So far pages go in an order; all rows that come before are held to find those of a page."""

LINK_SECONDS = 300.0
"""How long the links to blobs that a page holds are good for."""

TEXT_BYTES = 160
"""So much of a blob of text is shown in its cell."""


_GIVEN_UP = (
    f"The filter was given up after {FILTER_SECONDS:.0f} seconds: there may be more rows. "
    "A download or a query looks at all of them."
)


class _Page(NamedTuple):
    """Rows of a table, as a page shows them."""

    rows: pa.Table = pa.table({})
    cells: Sequence[list[Cell]] = ()
    numbers: Sequence[int] = ()
    """Of each row its place among all that the filter lets through."""
    total: int = 0
    more: bool = False
    given_up: str = ""
    """What the page does not show, in words."""


class _Columns(NamedTuple):
    """Those columns of a table that a page shows."""

    first: int
    total: int
    data: tuple[str, ...]
    partition: tuple[str, ...]
    others: tuple[tuple[str, ...], tuple[str, ...]]
    """The names of all data columns, and of all partition columns."""

    @classmethod
    def of(cls, info: TableInfo, first: int) -> _Columns:
        data = tuple(column.name for column in info.schema.data_columns)
        partition = tuple(column.name for column in info.schema.partition_columns)
        total = len(data) + len(partition)
        first = first if first < total else 0
        end = first + PAGE_COLUMNS
        split = len(data)
        rest = slice(max(0, first - split), max(0, end - split))
        return cls(first, total, data[first:end], partition[rest], (data, partition))

    @property
    def shown(self) -> tuple[str, ...]:
        return (*self.data, *self.partition)

    @property
    def end(self) -> int:
        return self.first + len(self.shown)

    def projection(self, order: str) -> dict[str, tuple[str, ...]]:
        """What is to be read: these columns, and the one that gives the order."""
        if len(self.shown) == self.total:
            return {}
        result = []
        for own, every in zip((self.data, self.partition), self.others, strict=True):
            result.append(
                own
                + tuple(
                    name
                    for name in every
                    if name.casefold() == order.casefold() and name not in own
                )
            )
        return {"required_data_columns": result[0], "required_partition_columns": result[1]}


def _page_rows(columns: int) -> int:
    return max(10, min(PAGE_ROWS, PAGE_CELLS // max(1, columns)))


def linked_cells(visit: Visit, rows: pa.Table, *, most: int = 0) -> list[list[Cell]]:
    """The rows as cells, with blobs as what they are; blocks, as it reads the blobs' headers."""
    cells = cells_of(rows, most=most) if most else cells_of(rows)
    blobs = visit.service.engine.blobs
    for index, references in references_of(rows).items():
        for number, reference in enumerate(references):
            if reference is None:
                continue
            try:
                result = blobs.slice(reference)
            except FletchingError:
                cells[number][index] = Cell("the blob is gone", "empty")
                continue
            if not visit.service.may_read(visit.exchange, result.table):
                continue
            media = (result.header.content_type or "").partition(";")[0].strip().lower()
            text = clean(result.header.file_name or "") or "blob"
            if media.startswith("text/") and result.total:
                head = blobs.slice(reference, 0, TEXT_BYTES)
                data = b"".join(
                    bytes(each.object.view(each.start, each.end)) for each in head.pieces
                )
                text = clean(data.decode("utf-8", "replace").rstrip("\N{REPLACEMENT CHARACTER}"))
            cells[number][index] = Cell(
                f"{text} ({result.total:,} bytes)" if not media.startswith("text/") else text,
                "blob",
                cut=result.total > TEXT_BYTES and media.startswith("text/"),
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
    service = visit.service
    columns = _Columns.of(shown_info, visit.number("column") or 0)
    count = _page_rows(len(columns.shown))
    order, descending = visit.asked.get("sort", ""), visit.asked.get("order") == "desc"
    if order:
        offset = min(offset, SORT_ROWS - count)
    request = reading_of(
        visit, filter_predicate=predicate, version=version, **columns.projection(order)
    )

    def read() -> _Page:
        if order:
            names = columns.shown
            return _in_order(
                visit, request, order, offset, count, names=names, descending=descending
            )
        return _as_stored(visit, request, offset, count)

    page = _Page(total=shown_info.rows)
    try:
        service.authorize(visit.exchange, request)
        with service.reads.enter():
            page = await service.workers.cpu.run(read)
    except InvalidArgumentError as exc:
        problem = exc.message
    total = page.total
    last = None if predicate or order or not total else max(0, (total - 1) // count * count)
    data = {
        "filter": predicate,
        "asked_version": visit.asked.get("version", ""),
        "offset": offset,
        "count": count,
        "total": total,
        "previous": max(0, offset - count) if offset else None,
        "next": offset + count if page.more else None,
        "last": last,
        "column": columns.first,
        "columns": columns.total,
        "previous_column": max(0, columns.first - PAGE_COLUMNS) if columns.first else None,
        "next_column": columns.end if columns.end < columns.total else None,
        "names": page.rows.column_names,
        "numbers": page.numbers,
        "cells": page.cells,
        "sort": order,
        "descending": descending,
        "given_up": page.given_up,
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
        orders=_orders(visit, shown_info, columns.shown, order, descending=descending),
        sorted_kept=_kept(visit, "sort", "order", "column"),
        at_row=_kept(visit, "sort", "order", "offset"),
        code=rows_code(
            *(visit, visit.table),
            predicate=predicate,
            version=version,
            order=order,
            descending=descending,
        ),
    )


def _as_stored(visit: Visit, request: CreateReadSession, offset: int, count: int) -> _Page:
    """A page of rows in the table's own order; blocks."""
    result = visit.service.engine.snapshot_rows(
        request,
        offset=offset,
        count=count + 1,
        check=until(FILTER_SECONDS) if request.filter_predicate else None,
    )
    rows, whole = rows_at(result, offset, count + 1)
    shown = rows.slice(0, count)
    return _Page(
        shown,
        linked_cells(visit, shown),
        list(range(offset, offset + shown.num_rows)),
        result.total,
        rows.num_rows > count,
        "" if whole else _GIVEN_UP,
    )


def _kept(visit: Visit, *more: str) -> dict[str, str]:
    """What the links to other rows keep of the query."""
    names = ("filter", "version", *more)
    return {name: visit.asked[name] for name in names if visit.asked.get(name)}


def _orders(
    visit: Visit, info: TableInfo, shown: Sequence[str], order: str, *, descending: bool
) -> dict[str, dict[str, str]]:
    """Per column that has an order: what a click on its name asks for, and what is so now."""
    result = {}
    for field in map(whole_schema(info).field, shown):
        if pa.types.is_nested(field.type) or contains_blob(field.type):
            continue
        now = field.name.casefold() == order.casefold()
        query = _kept(visit, "column") | {"sort": field.name}
        if now and not descending:
            query["order"] = "desc"
        elif now:
            del query["sort"]  # and a third click leaves them as they are stored
        state = ("descending" if descending else "ascending") if now else ""
        result[field.name] = {
            "address": visit.pages.address(table_path(visit.table), query),
            "state": state,
        }
    return result


def _in_order(
    visit: Visit,
    request: CreateReadSession,
    column: str,
    offset: int,
    count: int,
    *,
    names: Sequence[str],
    descending: bool,
) -> _Page:
    """A page of the named columns of the rows in the order of a column; blocks."""
    deadline = until(SORT_SECONDS)
    result = visit.service.engine.snapshot_rows(request, check=deadline)

    def batches() -> Generator[pa.RecordBatch, None, None]:
        read = result.plan.batches()
        try:
            for batch in read:
                yield batch
                deadline()
        finally:
            # What is being computed ahead for it is of no use any more.
            getattr(read, "close", lambda: None)()

    end = offset + count
    with contextlib.closing(batches()) as rows:
        first = first_in_order(
            rows, result.plan.schema, column, count=min(end + 1, SORT_ROWS), descending=descending
        )
    shown = first.rows.slice(offset, count).select(list(names))
    note = ""
    if not first.whole:
        note = (
            f"Sorting was given up after {SORT_SECONDS:.0f} seconds: these are the first of the"
            f" {first.looked:,} rows that were looked at. A query looks at all of them."
        )
    elif first.rows.num_rows == SORT_ROWS <= end:
        note = f"In an order pages go as far as row {SORT_ROWS:,}; a query goes on."
    return _Page(
        shown,
        linked_cells(visit, shown),
        first.numbers[offset:end],
        result.total,
        first.rows.num_rows > end,
        note,
    )


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

    def read() -> tuple[list[str], list[list[Cell]], bool]:
        result = service.engine.snapshot_rows(
            request, offset=offset, count=2, check=until(FILTER_SECONDS) if predicate else None
        )
        rows, _ = rows_at(result, offset, 2)
        most = max(200, ROW_CHARACTERS // max(1, rows.num_columns))
        return rows.column_names, linked_cells(visit, rows.slice(0, 1), most=most), len(rows) < 2

    with service.reads.enter():
        names, cells, last = await service.workers.cpu.run(read)
    if not cells:
        raise NotFoundError(f"there is no row {offset}")
    data = {
        "offset": offset,
        "last": last,
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
