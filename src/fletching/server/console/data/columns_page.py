"""The columns of a table: their types, and what values they have in a sample of its rows.

Of each: nulls, distinct values, least and greatest, and how they are spread. A profile is pure, from an array to
numbers; the page draws them.
"""

from __future__ import annotations

import contextlib
import time

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from fletching.engine.engine import Engine
from fletching.protocol.messages.requests import CreateReadSession
from fletching.protocol.types.blob_type import contains_blob
from fletching.protocol.types.json_values import json_values
from fletching.server.console import charts
from fletching.server.console.code_snippets import rows_code
from fletching.server.console.data.table_summary import (
    described,
    reading_of,
    rows_at,
    show_table,
    whole_schema,
)
from fletching.server.console.page_cells import clean
from fletching.server.console.visit import Visit

__all__ = ["ColumnProfile", "columns_page", "profile"]


SAMPLE_SPANS = 40
SAMPLE_ROWS = 800
"""Rows are looked at in so many places of the table, so many in each; a multiple of the bars, so that
values which grow with the rows do not look as if they came in lumps."""

_STEP = 17
"""Places are gone through in such steps, so that those looked at in time are from all over the table."""

SAMPLE_SECONDS = 1.0
"""Then the page is answered with what has been found."""

PAGE_COLUMNS = 20


async def columns_page(visit: Visit) -> None:
    """Answers with the columns, a page at a time."""
    info = await described(visit)
    schema = whole_schema(info)
    columns = [
        (column, partition)
        for group, partition in (
            (info.schema.data_columns, False),
            (info.schema.partition_columns, True),
        )
        for column in group
    ]
    wanted = visit.asked.get("column", "")
    first = visit.number("offset") or 0
    shown = [
        each
        for each in columns[first : first + PAGE_COLUMNS]
        if not wanted or each[0].name.casefold() == wanted.casefold()
    ]
    if wanted:
        shown = [each for each in columns if each[0].name.casefold() == wanted.casefold()]
    names = [
        column.name for column, _ in shown if not contains_blob(schema.field(column.name).type)
    ]
    request = reading_of(
        visit,
        required_data_columns=tuple(c.name for c, partition in shown if not partition),
        required_partition_columns=tuple(c.name for c, partition in shown if partition),
    )
    service = visit.service
    service.authorize(visit.exchange, request)
    profiles: dict[str, ColumnProfile] = {}
    looked = 0
    if names and info.rows:
        with service.reads.enter():
            profiles, looked = await service.workers.cpu.run(
                _profiles, service.engine, request, info.rows, names
            )
    result = []
    pictures = {}
    for column, partition in shown:
        values = profiles.get(column.name)
        result.append(
            {
                "name": column.name,
                "type": column.type,
                "arrow_type": str(schema.field(column.name).type),
                "nullable": column.nullable,
                "partition": partition,
                "comment": column.comment or "",
                "profile": None if values is None else msgspec.to_builtins(values),
            }
        )
        if values is not None and values.bars:
            pictures[column.name] = _picture(column.name, values)
    data = {
        "column": wanted,
        "offset": first,
        "previous": max(0, first - PAGE_COLUMNS) if first and not wanted else None,
        "next": first + PAGE_COLUMNS
        if first + PAGE_COLUMNS < len(columns) and not wanted
        else None,
        "count": len(columns),
        "looked": looked,
        "columns": result,
        "primary_key": list(info.primary_key),
    }
    await show_table(
        visit, info, "columns", data, pictures=pictures, code=rows_code(visit, visit.table)
    )


def _profiles(
    engine: Engine, request: CreateReadSession, table_rows: int, names: list[str]
) -> tuple[dict[str, ColumnProfile], int]:
    """The columns' profiles in a sample from all over the table, and its rows; blocks, as it reads them."""
    deadline = time.monotonic() + SAMPLE_SECONDS
    parts: list[pa.Table] = []
    step = max(SAMPLE_ROWS, table_rows // SAMPLE_SPANS)
    spans = -(-table_rows // step)
    order = [number * _STEP % spans for number in range(spans)]
    if len(set(order)) < spans:
        order = list(range(spans))
    for span in order:
        offset = span * step
        count = min(step, SAMPLE_ROWS)
        result = engine.snapshot_rows(request, offset=offset, count=count)
        parts.append(rows_at(result, offset, count)[0])
        if time.monotonic() > deadline:
            break
    rows = pa.concat_tables(parts)
    return {name: profile(rows.column(name)) for name in names}, rows.num_rows


def _picture(name: str, values: ColumnProfile) -> Markup:
    """How a column's values, or their lengths, are spread."""
    lower, upper = values.lower, values.upper
    if values.of != "values":
        lower, upper = values.bars[0][0], values.bars[-1][0]
    return charts.bars(
        f"How the {values.of} of {name} are spread",
        values.bars,
        lower=lower,
        upper=upper if len(values.bars) > 1 else "",
    )


BINS = 20
TOP = 8
TEXT = 40


class ColumnProfile(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in the rows that were looked at.

    Attributes:
        rows, nulls, distinct: counts; ``distinct`` is None where it was not counted.
        lower, upper: the least and greatest value, as text.
        mean: of numbers.
        of: what the bars count: ``values``, ``lengths`` or ``counts`` of the most frequent values.
        bars: labels and counts.
        top: the most frequent values and their counts.
    """

    rows: int
    nulls: int
    distinct: int | None = None
    lower: str = ""
    upper: str = ""
    mean: float | None = None
    of: str = ""
    bars: tuple[tuple[str, int], ...] = ()
    top: tuple[tuple[str, int], ...] = ()


def profile(values: pa.ChunkedArray) -> ColumnProfile:
    """Looks at a column."""
    rows, nulls = len(values), values.null_count
    kind = values.type
    if rows == nulls or contains_blob(kind):
        return ColumnProfile(rows=rows, nulls=nulls)
    if isinstance(kind, pa.BaseExtensionType):
        values = pa.chunked_array([chunk.storage for chunk in values.chunks], kind.storage_type)
        kind = values.type
    if pa.types.is_dictionary(kind):
        values = values.cast(kind.value_type)
        kind = values.type
    if pa.types.is_nested(kind):
        return _nested(values, rows, nulls)
    result = ColumnProfile(rows=rows, nulls=nulls)
    with contextlib.suppress(pa.ArrowException):
        result = _scalars(values.drop_null(), kind, rows, nulls)
    return result


def _texts(array: pa.Array) -> list[str]:
    shown = json_values(array, lambda data: f"x'{data[: TEXT // 2].hex()}'")
    return [_short("null" if value is None else str(value)) for value in shown]


def _short(text: str) -> str:
    return clean(text if len(text) <= TEXT else text[: TEXT - 1] + "…")


def _nested(values: pa.ChunkedArray, rows: int, nulls: int) -> ColumnProfile:
    if not (pa.types.is_list(values.type) or pa.types.is_large_list(values.type)):
        return ColumnProfile(rows=rows, nulls=nulls)
    lengths = pc.list_value_length(values).drop_null().to_numpy()
    return ColumnProfile(rows=rows, nulls=nulls, of="lengths", bars=_bins(lengths))


def _scalars(values: pa.ChunkedArray, kind: pa.DataType, rows: int, nulls: int) -> ColumnProfile:
    # Arrow counts and compares durations as what they are stored as.
    plain = values.cast(pa.int64()) if pa.types.is_duration(kind) else values
    counted = plain.value_counts()
    names, counts = counted.field("values"), counted.field("counts")
    order = pc.sort_indices(counts, sort_keys=[("", "descending")])[:TOP]
    top = tuple(
        zip(_texts(names.take(order).cast(kind)), counts.take(order).to_pylist(), strict=True)
    )
    bounds = pc.min_max(plain)
    ends = pa.array([bounds["min"].as_py(), bounds["max"].as_py()], plain.type).cast(kind)
    lower, upper = _texts(ends)
    mean: float | None = None
    of, bars = "counts", top
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = values.cast(pa.float64(), safe=False).to_numpy()
        finite = numbers[np.isfinite(numbers)]
        with np.errstate(over="ignore"):
            mean = float(finite.mean()) if len(finite) else None
        of, bars = "values", _bins(numbers)
    elif pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        width = pa.int32() if kind.bit_width == 32 else pa.int64()
        of, bars = "values", _bins(values.cast(width).to_numpy())
    elif not pa.types.is_boolean(kind) and len(counted) > 3 * TOP:
        of, bars = "lengths", _bins(pc.binary_length(values).to_numpy())
    return ColumnProfile(
        rows=rows,
        nulls=nulls,
        distinct=len(counted),
        lower=lower,
        upper=upper,
        mean=mean if mean is None or np.isfinite(mean) else None,
        of=of,
        bars=bars,
        # Where every value is another one, none is there often.
        top=top if len(counted) < len(values) else (),
    )


def _bins(numbers: pa.Array) -> tuple[tuple[str, int], ...]:
    numbers = np.asarray(numbers, dtype=np.float64)
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return ()
    least, most = float(numbers.min()), float(numbers.max())
    if least == most:
        return ((f"{least:.6g}", len(numbers)),)
    # Scaled first: the distance between the ends of float64 is no float64.
    scaled = numbers / 2 - least / 2
    counts, _ = np.histogram(scaled, bins=BINS, range=(0.0, most / 2 - least / 2))
    step = (most / 2 - least / 2) / BINS * 2
    labels = [
        f"{least + index * step:.4g} to {least + (index + 1) * step:.4g}" for index in range(BINS)
    ]
    return tuple(zip(labels, map(int, counts), strict=True))
