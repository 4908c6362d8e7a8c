"""``fletching count | describe | sample``: what is in a table, without taking it out."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fletching.cli.cli_options import (
    Columns,
    Filter,
    JsonOutput,
    OnlyPartition,
    Partitions,
    Rows,
    TableArgument,
    placed,
)
from fletching.cli.head import JsonRows, Vertical, print_rows
from fletching.cli.location import Location
from fletching.cli.named_tables import AsOf, columns_named, table_as_of
from fletching.cli.output import (
    bytes_figure,
    count_figure,
    counted,
    print_json,
    print_table,
    progress,
)
from fletching.protocol.types.row_selection import plain_values

if TYPE_CHECKING:
    import pyarrow as pa

    from fletching.client import Scan, Table
    from fletching.client.progress import ProgressMeter

__all__ = ["count", "describe", "sample"]


def _scan(
    table: Table, columns: str, partition: list[str] | None, where: str | None
) -> tuple[Scan, int | None]:
    """The wanted rows, and their number if the catalog has it."""
    scan = table.scan(
        columns=columns_named(table, columns), partitions=partition or None, filter=where
    )
    return scan, None if where or partition else table.info.rows


@placed
def count(
    location: Location,
    table: TableArgument,
    partition: OnlyPartition = None,
    where: Filter = None,
    as_of: AsOf = None,
    as_json: JsonOutput = False,
) -> None:
    """Count a table's rows: from the catalog, or, with a filter, by reading."""
    with location.open() as client:
        rows = table_as_of(client, table, as_of).count_rows(partition, filter=where)
    if as_json:
        print_json({"table": table, "rows": rows})
    else:
        sys.stdout.write(f"{rows}\n")


@placed
def describe(
    location: Location,
    table: TableArgument,
    columns: Columns = "",
    partition: Partitions = None,
    where: Filter = None,
    as_of: AsOf = None,
    as_json: JsonOutput = False,
) -> None:
    """Summarise each column: nulls, least, most and mean value, size. Reads all of it."""
    with location.open() as client:
        scan, total = _scan(table_as_of(client, table, as_of), columns, partition, where)
        result = [_Summary(field) for field in scan.schema]
        rows = 0
        with progress(table, total, quiet=as_json) as task:
            for batch in scan.to_batches():
                rows += batch.num_rows
                for summary, values in zip(result, batch.columns, strict=True):
                    summary.add(values)
                task.add(batch.num_rows, batch.nbytes)
    if as_json:
        print_json({"table": table, "rows": rows, "columns": [each.as_dict() for each in result]})
        return
    from fletching.cli.cells import shown_value

    print_table(
        ["column", "type", "nulls", "least", "most", "mean", "bytes"],
        [
            (
                each.name,
                str(each.type),
                count_figure(each.nulls),
                shown_value(each.least, each.type),
                shown_value(each.most, each.type),
                "" if each.mean is None else f"{each.mean:.6g}",
                bytes_figure(each.bytes),
            )
            for each in result
        ],
        figures=["nulls", "mean", "bytes"],
        caption=counted(rows, "row"),
    )


class _Summary:
    """Least, most, mean and nulls of a column, batch by batch."""

    def __init__(self, field: pa.Field) -> None:
        import pyarrow as pa

        self.name, self.type = field.name, field.type
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        self._ordered = not (
            pa.types.is_nested(kind)
            or pa.types.is_null(kind)
            or pa.types.is_interval(kind)
            or isinstance(kind, pa.BaseExtensionType)
        )
        self._summed = (
            pa.types.is_integer(kind)
            or pa.types.is_floating(kind)
            or pa.types.is_decimal(kind)
            or pa.types.is_boolean(kind)
        )
        self.nulls = self.bytes = self._rows = 0
        self._sum = 0.0
        self._extremes: pa.Array | None = None

    def add(self, values: pa.Array) -> None:
        """Takes a batch's values in."""
        import pyarrow as pa
        import pyarrow.compute as pc

        self.nulls += values.null_count
        self.bytes += values.nbytes
        self._rows += len(values)
        if not self._ordered or values.null_count == len(values):
            return
        if pa.types.is_dictionary(values.type):
            values = plain_values(values)
        if pa.types.is_binary_view(values.type) or pa.types.is_string_view(values.type):
            text = pa.types.is_string_view(values.type)
            values = values.cast(pa.large_string() if text else pa.large_binary())
        if pa.types.is_float16(values.type):
            values = values.cast(pa.float32())
        known = values if self._extremes is None else pa.concat_arrays([values, self._extremes])
        result = pc.min_max(known)
        self._extremes = pa.array([result["min"], result["max"]], known.type)
        if self._summed:
            # Decimals and integers beyond 2**53 lose digits here: a mean is an estimate of size.
            self._sum += pc.sum(values.cast(pa.float64(), safe=False)).as_py() or 0.0

    @property
    def least(self) -> pa.Array | None:
        """The least value, as an array of one; None if there is none."""
        return None if self._extremes is None else self._extremes[:1]

    @property
    def most(self) -> pa.Array | None:
        """The greatest value, likewise."""
        return None if self._extremes is None else self._extremes[1:]

    @property
    def mean(self) -> float | None:
        """The mean of numbers."""
        values = self._rows - self.nulls
        return self._sum / values if self._summed and values else None

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        from fletching.protocol.types.json_values import json_values

        def first(values: pa.Array | None) -> Any:
            return None if values is None else json_values(values)[0]

        mean = self.mean
        if mean is not None and not abs(mean) < float("inf"):
            mean = None
        return {
            "column": self.name,
            "type": str(self.type),
            "nulls": self.nulls,
            "least": first(self.least),
            "most": first(self.most),
            "mean": mean,
            "bytes": self.bytes,
        }


@placed
def sample(
    location: Location,
    table: TableArgument,
    rows: Rows = 10,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Draws the same rows each time.")
    ] = None,
    columns: Columns = "",
    partition: Partitions = None,
    where: Filter = None,
    as_of: AsOf = None,
    vertical: Vertical = False,
    as_json: JsonRows = False,
) -> None:
    """Print rows drawn at random, each as likely as any other. Reads all of it."""
    with location.open() as client:
        scan, total = _scan(table_as_of(client, table, as_of), columns, partition, where)
        with progress(table, total, quiet=as_json) as task:
            drawn = _draw(scan, rows, seed, task)
    print_rows(drawn, vertical=vertical, as_json=as_json, empty=f"{table} has no rows here")


def _draw(scan: Scan, rows: int, seed: int | None, task: ProgressMeter) -> pa.Table:
    """Each row gets a random number, and those of the least numbers are drawn; one pass, bounded."""
    import numpy as np
    import pyarrow as pa

    random = np.random.default_rng(seed)
    drawn = pa.Table.from_batches([], scan.schema)
    numbers = np.empty(0)
    for batch in scan.to_batches():
        mine = random.random(batch.num_rows)
        highest = numbers.max() if len(numbers) == rows else 1.0
        near = np.flatnonzero(mine < highest)
        if len(near):
            drawn = pa.concat_tables([drawn, pa.Table.from_batches([batch]).take(near)])
            numbers = np.concatenate([numbers, mine[near]])
            if len(numbers) > rows:
                # In the table's order, whatever the numbers are.
                kept = np.sort(np.argpartition(numbers, rows)[:rows])
                # Taking copies, so that nothing but the drawn rows is kept of the batches.
                drawn, numbers = drawn.take(kept), numbers[kept]
        task.add(batch.num_rows, batch.nbytes)
    return drawn
