"""``fletching get``: a table, or part of it, comes out as a file or through a pipe."""

from __future__ import annotations

import time
from typing import Annotated

import pyarrow as pa
import typer

from fletching.cli.cli_options import AccessKey, At, Project, open_client
from fletching.cli.output import diagnostics, human_bytes, human_count, progress_bars
from fletching.cli.tabular import FileFormat, write_batches

__all__ = ["get"]


def get(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="The table's name.")],
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="The file to write; - writes to a pipe.")
    ],
    file_format: Annotated[
        FileFormat | None,
        typer.Option("--format", help="The file's format, when the suffix does not tell."),
    ] = None,
    columns: Annotated[
        str, typer.Option("--columns", metavar="A,B", help="Only these columns.")
    ] = "",
    partition: Annotated[
        list[str] | None,
        typer.Option("--partition", metavar="K=V", help="Only this partition; may be repeated."),
    ] = None,
    where: Annotated[
        str | None, typer.Option("--filter", metavar="SQL", help='A predicate: "id > 10".')
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=0, help="At most so many rows.")
    ] = None,
    at: At = "./data",
    project: Project = "demo",
    access_key: AccessKey = None,
) -> None:
    """Read a table into a Parquet, CSV or Arrow file."""
    started = time.perf_counter()
    size = 0
    with open_client(at, project, access_key) as client, progress_bars(quiet=file == "-") as bars:
        scan = client.table(table).scan(
            columns=[name.strip() for name in columns.split(",") if name.strip()] or None,
            partitions=partition or None,
            filter=where,
            limit=limit,
        )
        task = bars.add_task(table, total=None)

        def moved(batch: pa.RecordBatch) -> None:
            nonlocal size
            size += batch.nbytes
            bars.update(task, advance=batch.num_rows)

        rows = write_batches(file, scan.schema, scan.to_batches(), file_format, on_batch=moved)
    diagnostics().print(
        f"{table}: {human_count(rows)} rows, {human_bytes(size)} "
        f"read in {time.perf_counter() - started:.2f} s",
        markup=False,
    )
