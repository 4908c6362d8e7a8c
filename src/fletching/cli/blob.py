"""``fletching blob``: a folder of files goes into a table, one row per file, and comes back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from fletching.cli.cli_options import (
    JsonOutput,
    Overwrite,
    Partitions,
    TableArgument,
    TargetPartition,
    placed,
)
from fletching.cli.location import Location
from fletching.cli.named_tables import filled_table, find_table
from fletching.cli.output import (
    Figure,
    bytes_figure,
    counted,
    print_json,
    print_table,
    progress,
    say,
)
from fletching.errors import AlreadyExistsError, NoSuchProjectError, NoSuchTableError
from fletching.human_figures import human_bytes

if TYPE_CHECKING:
    from fletching.client import Table

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Files as blobs: a folder becomes a table with one row per file, and back.",
)

Column = Annotated[
    str | None,
    typer.Option("--column", metavar="NAME", help="The BLOB column, if there are several."),
]
Where = Annotated[
    str | None, typer.Option("--filter", metavar="SQL", help='A predicate: "size > 1000".')
]
Limit = Annotated[int | None, typer.Option("--limit", min=0, help="At most so many files.")]


@app.command()
@placed
def put(
    location: Location,
    table: TableArgument,
    sources: Annotated[
        list[str], typer.Argument(metavar="FOLDER|FILE...", help="Folders and files to store.")
    ],
    column: Column = None,
    partition: TargetPartition = None,
    overwrite: Overwrite = False,
    create: Annotated[
        bool,
        typer.Option(
            "--create",
            help="Create the table if absent: path, size, modified, content_type, data.",
        ),
    ] = False,
    as_json: JsonOutput = False,
) -> None:
    """Store files in a table: one row per file, all of them in one commit."""
    from fletching.client.blobs.folders import FILE_SCHEMA, FileEntry, files_of, put_files

    started = time.perf_counter()
    entries = list(files_of(sources))
    with (
        location.open(create=create) as client,
        progress(table, len(entries), unit="files", quiet=as_json) as task,
    ):

        def stored(entry: FileEntry) -> None:
            task.add(1, entry.size or 0)

        def put(target: Table) -> tuple[int, int]:
            return put_files(
                target,
                entries,
                column=column,
                partition=partition,
                overwrite=overwrite,
                on_file=stored,
            )

        try:
            known = find_table(client, table)
        except (NoSuchProjectError, NoSuchTableError):
            if not create:
                raise
            client.create_project(if_not_exists=True)
            try:
                with filled_table(client, table, FILE_SCHEMA) as target:
                    files, size = put(target)
            except AlreadyExistsError:  # another has made it meanwhile
                files, size = put(find_table(client, table))
        else:
            files, size = put(known)
    _say(table, files, size, time.perf_counter() - started, "stored", as_json=as_json)


@app.command()
@placed
def get(
    location: Location,
    table: TableArgument,
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Where the files go.")],
    column: Column = None,
    partition: Partitions = None,
    where: Where = None,
    limit: Limit = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace files that are there already.")
    ] = False,
    as_json: JsonOutput = False,
) -> None:
    """Write the files of a table into a folder; every checksum on the way is verified."""
    from fletching.client.blobs.folders import get_files, list_files

    started = time.perf_counter()
    with location.open() as client, progress(table, unit="files", quiet=as_json) as task:
        entries = list_files(
            find_table(client, table), column=column, partitions=partition, where=where, limit=limit
        )
        files, size = get_files(
            client,
            entries,
            folder,
            replace=replace,
            on_file=lambda _path, size: task.add(1, size),
        )
    _say(table, files, size, time.perf_counter() - started, "written", as_json=as_json)


@app.command()
@placed
def ls(
    location: Location,
    table: TableArgument,
    column: Column = None,
    partition: Partitions = None,
    where: Where = None,
    limit: Limit = None,
    as_json: JsonOutput = False,
) -> None:
    """List the files of a table."""
    from fletching.client.blobs.folders import list_files

    with location.open() as client:
        entries = list(
            list_files(
                find_table(client, table),
                column=column,
                partitions=partition,
                where=where,
                limit=limit,
            )
        )
    if as_json:
        keys = ("path", "size", "modified", "content_type", "reference")
        print_json([{key: getattr(entry, key) for key in keys} for entry in entries])
        return
    total = sum(entry.size or 0 for entry in entries)
    print_table(
        ["path", "size", "modified", "content type"],
        (
            (
                entry.path or "-",
                "-" if entry.size is None else bytes_figure(entry.size),
                Figure(f"{entry.modified:%Y-%m-%d %H:%M}", entry.modified.isoformat())
                if entry.modified
                else "-",
                entry.content_type or "-",
            )
            for entry in entries
        ),
        figures=["size"],
        caption=f"{counted(len(entries), 'file')}, {human_bytes(total)}",
    )


def _say(table: str, files: int, size: int, seconds: float, done: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"table": table, "files": files, "bytes": size, "seconds": seconds})
        return
    say(f"{table}: {counted(files, 'file')}, {human_bytes(size)} {done} in {seconds:.2f} s")
