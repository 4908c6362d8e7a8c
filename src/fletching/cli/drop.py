"""``fletching drop``: removes a table or one of its partitions."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from fletching.cli.cli_options import TableArgument, Yes, placed
from fletching.cli.location import Location
from fletching.cli.named_tables import find_table
from fletching.cli.output import ExitCode, say
from fletching.errors import NoSuchPartitionError, NotFoundError, UsageError

__all__ = ["drop"]


@placed
def drop(
    location: Location,
    table: TableArgument,
    partition: Annotated[
        str | None,
        typer.Option("--partition", metavar="K=V", help="Drop only this partition."),
    ] = None,
    if_exists: Annotated[
        bool, typer.Option("--if-exists", help="Succeed when there is nothing to drop.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Drop a table, or one partition of it."""
    what = f"partition {partition} of table {table}" if partition else f"table {table}"
    with location.open() as client:
        try:
            result = find_table(client, table)
            if partition and not result.partitions(partition):
                raise NoSuchPartitionError(f"table {table} has no partition {partition}")
        except NotFoundError:
            if not if_exists:
                raise
            say(f"there is no {what}: nothing to drop")
            return
        if not yes:
            if not sys.stdin.isatty():
                raise UsageError(f"nobody is here to ask: --yes drops {what}")
            # stderr, so that a script's stdout stays clean
            if not typer.confirm(f"drop {what}?", err=True):
                raise typer.Exit(ExitCode.FAILED)
        if partition:
            result.drop_partition(partition, if_exists=if_exists)
        else:
            client.drop_table(table, if_exists=if_exists)
    say(f"dropped {what}")
