"""``fletching versions | restore | delete | changes | rename``: a table's history, and what changes it."""

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated

import typer

from fletching.cli.cli_options import Columns, JsonOutput, TableArgument, Yes, placed
from fletching.cli.head import JsonRows, Vertical, print_rows
from fletching.cli.location import Location
from fletching.cli.named_tables import as_moment, columns_named, find_table
from fletching.cli.output import (
    ExitCode,
    Figure,
    count_figure,
    counted,
    print_json,
    print_table,
    say,
)
from fletching.errors import UsageError

__all__ = ["changes", "delete", "enforce_key", "rename", "restore", "versions"]

_CHANGE_COLUMNS = ("_change_type", "_commit_version")


@placed
def versions(
    location: Location,
    table: TableArgument,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="How many.")] = 20,
    as_json: JsonOutput = False,
) -> None:
    """List a table's versions, newest first: what was done, by whom, and what it changed."""
    with location.open() as client:
        result = find_table(client, table)
        listed = result.versions(limit)
        tags: dict[int, list[str]] = {}
        for name, version in result.tags().items():
            tags.setdefault(version, []).append(name)
    if as_json:
        print_json(
            [{**dataclasses.asdict(each), "tags": tags.get(each.version, [])} for each in listed]
        )
        return
    print_table(
        ["version", "when", "what", "in", "changed", "out", "rows", "by", "tags"],
        [
            (
                str(each.version),
                Figure(
                    each.committed_at.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
                    each.committed_at.isoformat(),
                ),
                each.operation + ("" if each.readable else " (gone)"),
                count_figure(each.rows_inserted),
                count_figure(each.rows_updated),
                count_figure(each.rows_deleted),
                count_figure(each.rows),
                each.access_id or "-",
                " ".join(tags.get(each.version, [])),
            )
            for each in listed
        ],
        figures=["version", "in", "changed", "out", "rows"],
    )


def _sure(question: str, *, yes: bool) -> None:
    """Asks, unless ``yes``; leaves the command if the answer is no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"nobody is here to ask: --yes answers the question '{question}'")
    if not typer.confirm(question, err=True):
        raise typer.Exit(ExitCode.FAILED)


@placed
def restore(
    location: Location,
    table: TableArgument,
    to: Annotated[
        str, typer.Argument(metavar="VERSION|TIME|TAG", help="What the table is to be again.")
    ],
    yes: Yes = False,
    as_json: JsonOutput = False,
) -> None:
    """Restore a table to an older version. That makes a new version, which can be undone as well."""
    with location.open() as client:
        result = find_table(client, table)
        moment = as_moment(to)
        # What there is not is said before anybody is asked.
        result.as_of(moment)
        _sure(f"make table {table} what it was at {to}?", yes=yes)
        report = result.restore(moment)
    if as_json:
        print_json({"table": table, "version": report.version})
    else:
        say(f"{table} is again as at {to}: version {report.version}")


@placed
def enforce_key(
    location: Location,
    table: TableArgument,
    keep_last: Annotated[
        bool, typer.Option("--keep-last", help="Of rows with one key, keep the last.")
    ] = False,
    yes: Yes = False,
    as_json: JsonOutput = False,
) -> None:
    """Keep a table's declared primary key unique from now on; writes all of its rows anew."""
    with location.open() as client:
        result = find_table(client, table)
        if keep_last:
            _sure(f"delete rows of table {table} that a later one has the key of?", yes=yes)
        report = result.enforce_primary_key(keep_last=keep_last)
    if as_json:
        print_json({"table": table, "rows": report.rows_deleted, "version": report.version})
    else:
        gone = counted(report.rows_deleted, "row")
        say(f"{table} keeps its primary key unique: version {report.version}, {gone} deleted")


@placed
def delete(
    location: Location,
    table: TableArgument,
    where: Annotated[
        str, typer.Argument(metavar="PREDICATE", help="Which rows: \"id > 10 AND day = 'd1'\".")
    ],
    yes: Yes = False,
    as_json: JsonOutput = False,
) -> None:
    """Delete the rows for which a predicate is true."""
    with location.open() as client:
        result = find_table(client, table)
        if not yes:
            rows = result.count_rows(filter=where)
            _sure(f"delete {counted(rows, 'row')} of table {table}?", yes=False)
        report = result.delete(where)
    if as_json:
        print_json({"table": table, "rows": report.rows_deleted, "version": report.version})
    else:
        say(f"{table}: {counted(report.rows_deleted, 'row')} deleted, version {report.version}")


@placed
def rename(
    location: Location,
    table: TableArgument,
    new_name: Annotated[str, typer.Argument(metavar="NEW", help="What it is called from now on.")],
) -> None:
    """Rename a table; running reads continue."""
    with location.open() as client:
        made = find_table(client, table).rename(new_name)
    say(f"{table} is now {made.name}")


@placed
def changes(
    location: Location,
    table: TableArgument,
    since: Annotated[
        str, typer.Option("--since", metavar="VERSION|TIME|TAG", help="Changes after this one.")
    ],
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="VERSION|TIME|TAG", help="The last one. [default: now]"),
    ] = None,
    rows: Annotated[int, typer.Option("-n", "--rows", min=1, help="At most so many rows.")] = 1000,
    columns: Columns = "",
    vertical: Vertical = False,
    as_json: JsonRows = False,
) -> None:
    """Print the rows that were inserted and deleted between two versions."""
    import pyarrow as pa

    with location.open() as client:
        result = find_table(client, table)
        scan = result.changes(as_moment(since), None if until is None else as_moment(until))
        names = columns_named(scan.table, columns)
        if names is not None:
            scan = dataclasses.replace(scan, columns=(*names, *_CHANGE_COLUMNS))
        taken: list[pa.RecordBatch] = []
        left = rows
        for batch in scan.to_batches():
            taken.append(batch.slice(0, left))
            left -= batch.num_rows
            if left <= 0:
                break
        shown = pa.Table.from_batches(taken, scan.schema)
    if vertical or sys.stdout.isatty():
        # First what says which rows came and which went: at the end it might not fit.
        first = [name for name in _CHANGE_COLUMNS if name in shown.column_names]
        shown = shown.select([*first, *(n for n in shown.column_names if n not in first)])
    print_rows(shown, vertical=vertical, as_json=as_json, empty="nothing changed")
