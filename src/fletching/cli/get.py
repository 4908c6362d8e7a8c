"""``fletching get``: a table, or part of it, comes out as a file or through a pipe."""

from __future__ import annotations

import contextlib
import time
from typing import Annotated

import pyarrow as pa
import typer

from fletching.cli.cli_options import Columns, Filter, Partitions, TableArgument, placed
from fletching.cli.location import Location
from fletching.cli.named_tables import AsOf, columns_named, table_as_of
from fletching.cli.output import counted, progress, say
from fletching.cli.output_files import may_write
from fletching.cli.tabular import FileFormat, format_of, write_batches
from fletching.human_figures import human_bytes

__all__ = ["get"]


@placed
def get(
    location: Location,
    table: TableArgument,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="The file to write; - writes to a pipe.")
    ],
    file_format: Annotated[
        FileFormat | None,
        typer.Option("--format", help="The file's format, when the suffix does not tell."),
    ] = None,
    columns: Columns = "",
    partition: Partitions = None,
    where: Filter = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=0, help="At most so many rows.")
    ] = None,
    as_of: AsOf = None,
    replace: Annotated[
        bool, typer.Option("--replace", "--force", "-f", help="Replace a file without asking.")
    ] = False,
) -> None:
    """Read a table into a Parquet, CSV, JSON lines or Arrow file.

    A name that ends in .gz or .zst is compressed. An existing file is replaced only if you say so.
    """
    started = time.perf_counter()
    chosen = file_format or format_of(file)
    size = 0
    with location.open() as client:
        source = table_as_of(client, table, as_of)
        scan = source.scan(
            columns=columns_named(source, columns),
            partitions=partition or None,
            filter=where,
            limit=limit,
        )
        with contextlib.closing(scan.to_batches()) as batches:
            # Behind what is read: whoever is asked to replace a file for it is not told then that there is none.
            replace = may_write(file, replace=replace)
            total = None
            if where is None and not partition:
                total = source.info.rows if limit is None else min(limit, source.info.rows)
            with progress(table, total, quiet=file == "-") as task:

                def moved(batch: pa.RecordBatch) -> None:
                    nonlocal size
                    size += batch.nbytes
                    task.add(batch.num_rows, batch.nbytes)

                rows = write_batches(
                    file, scan.schema, batches, chosen, replace=replace, on_batch=moved
                )
    say(
        f"{table}: {counted(rows, 'row')}, {human_bytes(size)} "
        f"read in {time.perf_counter() - started:.2f} s"
    )
