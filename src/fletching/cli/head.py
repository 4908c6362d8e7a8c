"""``fletching head``: the first rows of a table, to look at."""

from __future__ import annotations

from typing import Annotated

import typer

from fletching.cli.cli_options import AccessKey, At, JsonOutput, Project, open_client
from fletching.cli.output import console, print_json, print_table

__all__ = ["head"]

CELL_CHARACTERS = 60
"""A longer cell is cut, so that a row with a document in it still fits on a screen."""


def head(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="The table's name.")],
    rows: Annotated[int, typer.Option("-n", "--rows", min=1, help="How many rows.")] = 10,
    partition: Annotated[
        str | None, typer.Option("--partition", metavar="K=V", help="Only of this partition.")
    ] = None,
    columns: Annotated[
        str, typer.Option("--columns", metavar="A,B", help="Only these columns.")
    ] = "",
    at: At = "./data",
    project: Project = "demo",
    access_key: AccessKey = None,
    as_json: JsonOutput = False,
) -> None:
    """Print the first rows of a table."""
    names = [name.strip() for name in columns.split(",") if name.strip()]
    with open_client(at, project, access_key) as client:
        found = client.table(table).preview(rows, partition=partition, columns=names or None)
    if as_json:
        print_json(found.to_pylist())
    elif found.num_rows == 0:
        console().print(f"{table} has no rows here", markup=False)
    else:
        print_table(
            None,
            [(name, "left") for name in found.column_names],
            ([_cell(value) for value in row.values()] for row in found.to_pylist()),
        )


def _cell(value: object) -> str:
    text = "" if value is None else value.hex() if isinstance(value, bytes) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= CELL_CHARACTERS else f"{text[: CELL_CHARACTERS - 1]}…"
