"""``fletching create``: makes a table from column text or from a file's schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fletching.cli.cli_options import JsonOutput, TableArgument, placed
from fletching.cli.location import Location
from fletching.cli.named_tables import names_of
from fletching.cli.output import counted, print_json, say
from fletching.cli.tabular import FileFormat, open_batches
from fletching.errors import UsageError

__all__ = ["create"]


@placed
def create(
    location: Location,
    table: TableArgument,
    columns: Annotated[
        str | None,
        typer.Argument(
            metavar="COLUMNS", help='Columns as text: "id BIGINT, image BLOB, tags ARRAY<STRING>".'
        ),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option("--like", metavar="FILE", help="Take the columns of this file instead."),
    ] = None,
    file_format: Annotated[
        FileFormat | None, typer.Option("--format", help="The format of --like's file.")
    ] = None,
    partition_by: Annotated[
        str, typer.Option("--partition-by", metavar="A,B", help="Partition columns.")
    ] = "",
    if_not_exists: Annotated[
        bool, typer.Option("--if-not-exists", help="Succeed when the table is there already.")
    ] = False,
    as_json: JsonOutput = False,
) -> None:
    """Create a table."""
    if (columns is None) == (like is None):
        raise UsageError("give either the columns as text or --like FILE")
    schema: object = columns
    if like is not None:
        with open_batches(str(like), file_format) as opened:
            schema = opened.schema.remove_metadata()
    with location.open(create=True) as client:
        made = client.create_table(
            table, schema, partition_by=names_of(partition_by), if_not_exists=if_not_exists
        )
        if as_json:
            print_json({"table": made.name, "columns": made.schema.names})
        else:
            say(f"{made.name}: {counted(len(made.schema.names), 'column')}")
