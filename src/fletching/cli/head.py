"""``fletching head``: the first rows of a table, to look at."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from fletching.cli.cli_options import Columns, OnlyPartition, Rows, TableArgument, placed
from fletching.cli.location import Location
from fletching.cli.named_tables import AsOf, columns_named, table_as_of
from fletching.cli.output import print_json_text, say, tsv_line

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["JsonRows", "Vertical", "head", "print_rows"]

Vertical = Annotated[
    bool, typer.Option("--vertical", help="One line per value, for rows of many columns.")
]
JsonRows = Annotated[bool, typer.Option("--json", help="Print one JSON object per row.")]


@placed
def head(
    location: Location,
    table: TableArgument,
    rows: Rows = 10,
    partition: OnlyPartition = None,
    columns: Columns = "",
    as_of: AsOf = None,
    vertical: Vertical = False,
    as_json: JsonRows = False,
) -> None:
    r"""Print the first rows of a table.

    On a terminal as many columns as fit; elsewhere tab-separated, with \\N for null.
    """
    with location.open() as client:
        source = table_as_of(client, table, as_of)
        result = source.preview(rows, partition=partition, columns=columns_named(source, columns))
    print_rows(result, vertical=vertical, as_json=as_json, empty=f"{table} has no rows here")


def print_rows(
    rows: pa.Table, *, vertical: bool = False, as_json: bool = False, empty: str = "no rows"
) -> None:
    """Prints rows on stdout in the form that fits who reads it."""
    if as_json:
        from fletching.protocol.types.json_values import json_lines

        for batch in rows.to_batches():
            print_json_text(json_lines(batch).decode())
        return
    from fletching.cli.cells import grid_lines, shown_columns, tsv_columns, vertical_lines

    terminal = sys.stdout.isatty()
    if terminal or vertical:
        if rows.num_rows == 0:
            say(empty)
        width = shutil.get_terminal_size().columns
        columns = shown_columns(rows)
        for line in vertical_lines(columns, width) if vertical else grid_lines(columns, width):
            sys.stdout.write(line + "\n")
        return
    sys.stdout.write(tsv_line(rows.column_names))
    for row in zip(*tsv_columns(rows), strict=True):
        sys.stdout.write(tsv_line(row))
