"""``fletching ls``: the tables of a project, or the partitions of a table."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import typer

from fletching.cli.cli_options import AccessKey, At, JsonOutput, Project, open_client
from fletching.cli.output import console, human_bytes, human_count, print_json, print_table

__all__ = ["ls", "when"]


def when(seconds: float) -> str:
    """A point in time for people: local, to the minute."""
    local = dt.datetime.fromtimestamp(seconds, dt.UTC).astimezone()
    return local.strftime("%Y-%m-%d %H:%M")


def ls(
    table: Annotated[
        str | None, typer.Argument(metavar="TABLE", help="A table: list its partitions instead.")
    ] = None,
    at: At = "./data",
    project: Project = "demo",
    access_key: AccessKey = None,
    as_json: JsonOutput = False,
) -> None:
    """List tables, or the partitions of one."""
    with open_client(at, project, access_key) as client:
        if table is None:
            tables = [each.info for each in client.list_tables()]
            if as_json:
                print_json(
                    [
                        {
                            "table": info.table.name,
                            "rows": info.rows,
                            "bytes": info.bytes,
                            "segments": info.segments,
                            "modified_at": info.modified_at,
                        }
                        for info in tables
                    ]
                )
            elif not tables:
                console().print(f"no tables in project {project}", markup=False)
            else:
                print_table(
                    None,
                    [("table", "left"), ("rows", "right"), ("bytes", "right"), ("changed", "left")],
                    [
                        (
                            info.table.name,
                            human_count(info.rows),
                            human_bytes(info.bytes),
                            when(info.modified_at),
                        )
                        for info in tables
                    ],
                )
            return
        partitions = client.table(table).partitions()
        if as_json:
            print_json(
                [{"partition": str(p), "rows": p.rows, "bytes": p.bytes} for p in partitions]
            )
        elif not partitions:
            console().print(f"{table} has no partitions", markup=False)
        else:
            print_table(
                None,
                [("partition", "left"), ("rows", "right"), ("bytes", "right")],
                [(str(p), human_count(p.rows), human_bytes(p.bytes)) for p in partitions],
            )
