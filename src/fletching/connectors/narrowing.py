"""A scan made narrower by what an engine pushes into it: columns, a filter, a number of rows.

Every connector takes a table or a scan, and adds to what the scan says already. A filter is never
pushed below a limit: the first hundred rows that match are not the matches of the first hundred.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from fletching.client import Scan, Table
from fletching.client.reading.expressions import pushdown
from fletching.errors import MissingExtraError, UsageError
from fletching.protocol.types.row_selection import matching_rows

__all__ = [
    "filtered_batches",
    "missing",
    "narrowed",
    "scan_of",
    "table_of",
]


def scan_of(source: Table | Scan) -> Scan:
    """The scan to read: of everything when a table is given.

    Raises:
        UsageError: neither a table nor a scan.
    """
    if isinstance(source, Table):
        return source.scan()
    if isinstance(source, Scan):
        return source
    raise UsageError(f"a table or a scan of Fletching is read, not a {type(source).__name__}")


def table_of(target: object) -> Table:
    """The table that is written to.

    Raises:
        UsageError: no table.
    """
    if isinstance(target, Table):
        return target
    raise UsageError(f"rows are written to a table of Fletching, not to a {type(target).__name__}")


def narrowed(
    scan: Scan,
    columns: Sequence[str] | None = None,
    filter: str | None = None,  # noqa: A002  # the query's own word
    limit: int | None = None,
) -> Scan:
    """The scan with fewer columns, a further condition, a smaller limit; None leaves a part as it is.

    Raises:
        UsageError: a condition on a scan that has a limit, or columns that are no list of names.
    """
    if isinstance(columns, str) or not isinstance(columns, Iterable | None):
        raise UsageError(f"columns is a list of names, not {columns!r}")
    if filter is not None and scan.limit is not None:
        raise UsageError("a scan with a limit takes no further filter")
    both = scan.filter if filter is None else filter
    if filter is not None and scan.filter is not None:
        both = f"({scan.filter}) AND ({filter})"
    limits = [each for each in (scan.limit, limit) if each is not None]
    return dataclasses.replace(
        scan,
        columns=scan.columns if columns is None else tuple(columns),
        filter=both,
        limit=min(limits, default=None),
    )


def filtered_batches(
    scan: Scan,
    columns: Sequence[str] | None,
    expression: pc.Expression | None,
    declared: pa.Schema | None = None,
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The rows of a scan for which an expression is true, with the wanted columns.

    What the service surely understands is pushed into the scan; what remains is evaluated here, on
    the columns that it needs besides the wanted ones.

    Args:
        scan: of the rows.
        columns: names in the wanted order; None for the scan's.
        expression: over the scan's columns, or None for all rows.
        declared: the scan's columns as the engine was told them, which it takes the batches to have:
            of a table that was changed since, others are not read, and other types are an error.

    Returns:
        The schema of the wanted columns, and the batches.
    """
    whole = scan.schema if declared is None else declared
    wanted = list(whole.names if columns is None else columns)
    schema = pa.schema([whole.field(name) for name in wanted])
    # A query's snapshot is over with the query.
    scan = scan.releasing()
    if expression is None:
        return schema, _remaining(narrowed(scan, wanted), None, wanted, schema)
    parts = pushdown(expression, whole)
    residual = parts.residual
    if scan.limit is not None:
        # The limit comes first: all of the condition waits until the rows are here.
        parts = dataclasses.replace(parts, pushed=None)
        residual = expression
    needed = parts.columns if residual is parts.residual else frozenset(whole.names)
    read = [*wanted, *sorted(needed - set(wanted))]
    source = narrowed(scan, read, parts.pushed)
    read_schema = pa.schema([whole.field(name) for name in read])
    return schema, _remaining(source, residual, wanted, read_schema)


def _remaining(
    scan: Scan, residual: pc.Expression | None, wanted: list[str], declared: pa.Schema
) -> Iterator[pa.RecordBatch]:
    with contextlib.closing(scan.to_batches()) as batches:
        for batch in batches:
            _check_declared(scan, batch.schema, declared)
            kept = batch if residual is None else matching_rows(batch, residual)
            yield kept if kept.schema.names == wanted else kept.select(wanted)


def _check_declared(scan: Scan, schema: pa.Schema, declared: pa.Schema) -> None:
    """Refuses what an engine would take for values of other types, since it does not look.

    Raises:
        UsageError: a column has another type than the engine was told.
    """
    if schema.equals(declared):
        return
    for field, other in zip(declared, schema, strict=True):
        if field.type != other.type:
            raise UsageError(
                f"column {field.name} of table {scan.table.name} is {other.type} now, and was {field.type} "
                "when the engine was given the table: give it the table again"
            )


def missing(engine: str, error: ImportError) -> MissingExtraError:
    """The error of a connector whose engine is not installed."""
    return MissingExtraError(
        f"{engine} is not installed: pip install 'fletching[{engine}]' ({error})"
    )
