"""``fletching drop``: removes a table or one of its partitions."""

from __future__ import annotations

from typing import Annotated

import typer

from fletching.cli.cli_options import AccessKey, At, Project, open_client
from fletching.cli.output import ExitCode, diagnostics

__all__ = ["drop"]


def drop(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="The table's name.")],
    partition: Annotated[
        str | None,
        typer.Option("--partition", metavar="K=V", help="Drop only this partition."),
    ] = None,
    if_exists: Annotated[
        bool, typer.Option("--if-exists", help="Succeed when there is nothing to drop.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    at: At = "./data",
    project: Project = "demo",
    access_key: AccessKey = None,
) -> None:
    """Drop a table, or one partition of it."""
    what = f"partition {partition} of table {table}" if partition else f"table {table}"
    # stderr, so that a script's stdout stays clean
    if not yes and not typer.confirm(f"drop {what}?", err=True):
        raise typer.Exit(ExitCode.FAILED)
    with open_client(at, project, access_key) as client:
        if partition:
            client.table(table).drop_partition(partition, if_exists=if_exists)
        else:
            client.drop_table(table, if_exists=if_exists)
    diagnostics().print(f"dropped {what}", markup=False)
