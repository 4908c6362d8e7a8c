"""Filter predicates of read sessions, bound to a table's columns."""

from __future__ import annotations

import functools
from typing import Any

from fletching.engine.reading.output_mapping import RowFilter, constant_scalar
from fletching.engine.reading.output_schema import TableColumns, output_columns
from fletching.engine.reading.physical_projection import ReplyLayout
from fletching.engine.reading.scan_projection import Shape
from fletching.engine.tables.statistics import physical_value, read_statistics
from fletching.errors import InvalidArgumentError
from fletching.protocol.messages.requests import ArrowOptions

__all__ = ["row_filter"]

_AS_STORED = ArrowOptions(timestamp_unit=None, datetime_unit=None)


def row_filter(text: str, shape: Shape, *, fallback: bool = False) -> RowFilter | None:
    """The filter of a session; None for an empty predicate.

    Args:
        text: the predicate.
        shape: the session's table, whose columns may all be mentioned, read or not.
        fallback: choose all rows if the predicate is not understood.

    Raises:
        InvalidArgumentError: the text is no predicate, or names an unknown column.
    """
    if not text.strip():
        return None
    # sqlglot takes a while to import, so only who filters does it.
    from fletching.sql.predicates import compile_predicate

    columns = shape.columns
    try:
        predicate = compile_predicate(text, _fields(columns))
    except InvalidArgumentError:
        if fallback:
            return None
        raise
    names = predicate.columns or columns.names[:1]
    places = [columns.places[name.casefold()] for name in names]
    outputs = output_columns(columns, places, _AS_STORED, verbatim_types=False)
    return RowFilter(
        predicate.expression,
        ReplyLayout(columns, outputs, shape.versions),
        functools.partial(_may_match, columns, predicate.may_match),
    )


def _fields(columns: TableColumns) -> dict[str, Any]:
    """The columns as filters see them: the nearest ODPS type, in the stored unit."""
    fields: dict[str, Any] = {}
    for place, name in enumerate(columns.names):
        try:
            (output,) = output_columns(columns, [place], _AS_STORED, verbatim_types=False)
        except InvalidArgumentError:
            # A type that ODPS lacks: it cannot be filtered by, but others can.
            continue
        fields[name.casefold()] = output.field
    return fields


def _may_match(
    columns: TableColumns, may_match: Any, statistics: bytes | None, partition: tuple[str, ...]
) -> bool:
    """Whether a segment of a partition can hold a chosen row."""
    from fletching.sql.predicates import ColumnBounds

    known = read_statistics(statistics)
    count = len(columns.data)

    def bounds(name: str) -> Any:
        place = columns.places[name.casefold()]
        if place >= count:
            field = columns.partition_fields[place - count]
            scalar = constant_scalar(field.type, partition[place - count])
            value = physical_value(scalar)
            return None if value is None else ColumnBounds(value, value, nulls=False)
        column = known.get(columns.data.field(place).name)
        if column is None:
            return None
        return ColumnBounds(
            column.lower, column.upper, column.nulls, column.values, column.unordered
        )

    return bool(may_match(bounds))
