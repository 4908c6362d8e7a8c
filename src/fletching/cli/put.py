"""``fletching put``: files or a pipe go into a table in one commit."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Generator, Iterator
from typing import Annotated, NamedTuple

import pyarrow as pa
import typer

from fletching.cli.cli_options import AccessKey, At, JsonOutput, Project, open_client
from fletching.cli.output import (
    diagnostics,
    human_bytes,
    human_count,
    print_json,
    progress_bars,
)
from fletching.cli.tabular import FileFormat, open_batches
from fletching.errors import NoSuchTableError

__all__ = ["put"]


def put(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="The table's name.")],
    files: Annotated[
        list[str],
        typer.Argument(help="Parquet, CSV or Arrow files; - reads a pipe.", metavar="FILE..."),
    ],
    file_format: Annotated[
        FileFormat | None,
        typer.Option("--format", help="The files' format, when the suffix does not tell."),
    ] = None,
    partition: Annotated[
        str | None,
        typer.Option("--partition", metavar="K=V", help="The partition to write to."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what is there instead of appending.")
    ] = False,
    create: Annotated[
        bool, typer.Option("--create", help="Create the table from the first file if absent.")
    ] = False,
    at: At = "./data",
    project: Project = "demo",
    access_key: AccessKey = None,
    as_json: JsonOutput = False,
) -> None:
    """Write files into a table: all of them in one commit, or nothing."""
    started = time.perf_counter()
    rows = size = 0
    opened = _opened(files, file_format)
    with (
        contextlib.closing(opened),
        open_client(at, project, access_key) as client,
        progress_bars(quiet=as_json) as bars,
    ):
        first = next(opened)
        if create:
            client.create_table(table, first.schema, if_not_exists=True)
        try:
            target = client.table(table)
        except NoSuchTableError:
            diagnostics().print("hint: --create makes the table from the first file's columns")
            raise
        with (
            target.write_session(partition=partition, overwrite=overwrite) as session,
            session.writer("stream-0") as writer,
        ):
            for source in itertools.chain([first], opened):
                task = bars.add_task(source.name, total=None)
                for batch in source.batches:
                    writer.write(batch)
                    rows += batch.num_rows
                    size += batch.nbytes
                    bars.update(task, advance=batch.num_rows)
    seconds = time.perf_counter() - started
    if as_json:
        print_json({"table": table, "rows": rows, "bytes": size, "seconds": seconds})
    else:
        diagnostics().print(
            f"{table}: {human_count(rows)} rows, {human_bytes(size)} committed in {seconds:.2f} s",
            markup=False,
        )


class _Opened(NamedTuple):
    name: str
    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


def _opened(files: list[str], file_format: FileFormat | None) -> Generator[_Opened, None, None]:
    """Opens each file when its turn comes and closes it when the next one is asked for."""
    for name in files:
        with open_batches(name, file_format) as (schema, batches):
            yield _Opened(name, schema.remove_metadata(), batches)
