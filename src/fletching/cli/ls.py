"""``fletching ls``: the tables of a project, or the partitions of a table."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import typer

from fletching.cli.cli_options import JsonOutput, placed
from fletching.cli.location import Location
from fletching.cli.named_tables import find_table
from fletching.cli.output import Figure, bytes_figure, count_figure, print_json, print_table, say

__all__ = ["ls", "when"]


def when(seconds: float) -> str:
    """A point in time for people: local, to the minute."""
    local = dt.datetime.fromtimestamp(seconds, dt.UTC).astimezone()
    return local.strftime("%Y-%m-%d %H:%M")


def _iso(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="milliseconds")


@placed
def ls(
    location: Location,
    table: Annotated[
        str | None, typer.Argument(metavar="TABLE", help="A table: list its partitions instead.")
    ] = None,
    as_json: JsonOutput = False,
) -> None:
    """List tables, or the partitions of one."""
    with location.open() as client:
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
                say(f"no tables in project {location.project}")
            else:
                print_table(
                    ["table", "rows", "bytes", "changed"],
                    [
                        (
                            info.table.name,
                            count_figure(info.rows),
                            bytes_figure(info.bytes),
                            Figure(when(info.modified_at), _iso(info.modified_at)),
                        )
                        for info in tables
                    ],
                    figures=["rows", "bytes"],
                )
            return
        partitions = find_table(client, table).partitions()
        if as_json:
            print_json(
                [{"partition": str(p), "rows": p.rows, "bytes": p.bytes} for p in partitions]
            )
        elif not partitions:
            say(f"{table} has no partitions")
        else:
            print_table(
                ["partition", "rows", "bytes"],
                [(str(p), count_figure(p.rows), bytes_figure(p.bytes)) for p in partitions],
                figures=["rows", "bytes"],
            )
