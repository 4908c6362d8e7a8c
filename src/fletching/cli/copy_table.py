"""``fletching copy``: a table's rows go into another table, here or on another server."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fletching.cli.cli_options import Columns, Filter, JsonOutput, Overwrite, Partitions, placed
from fletching.cli.location import Location
from fletching.cli.named_tables import columns_named, filled_table, find_table
from fletching.cli.output import counted, print_json, progress, say
from fletching.errors import NoSuchProjectError, NoSuchTableError, UsageError
from fletching.human_figures import human_bytes

if TYPE_CHECKING:
    import pyarrow as pa

    from fletching.client import Client, Table
    from fletching.client.writing.write_session import WriteSession

__all__ = ["copy"]

BLOB_ROWS = 64
"""Rows whose blobs are read and written together."""


@placed
def copy(
    location: Location,
    source: Annotated[str, typer.Argument(metavar="FROM", help="The table that is read.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="The table that is written.")],
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="URL|FOLDER|PROFILE",
            help="Where that table is, if elsewhere; a folder is made if it is absent.",
        ),
    ] = None,
    to_project: Annotated[
        str | None, typer.Option("--to-project", metavar="NAME", help="In which project.")
    ] = None,
    to_access_key_file: Annotated[
        Path | None,
        typer.Option("--to-access-key-file", metavar="FILE", help="The access key there."),
    ] = None,
    columns: Columns = "",
    partition: Partitions = None,
    where: Filter = None,
    overwrite: Overwrite = False,
    as_json: JsonOutput = False,
) -> None:
    """Copy a table, or part of it, in one commit; the target is made if it is absent.

    Blobs are copied too.
    """
    started = time.perf_counter()
    there = location
    if to is not None:
        there = Location(to, to_project or location.project, access_key_file=to_access_key_file)
    elif to_project is not None:
        there = location.in_project(to_project)
    rows = size = 0
    with contextlib.ExitStack() as stack:
        reading = stack.enter_context(location.open())
        origin = find_table(reading, source)
        scan = origin.scan(
            columns=columns_named(origin, columns), partitions=partition or None, filter=where
        )
        schema = scan.schema
        # What is not there, or does not filter these columns, makes no folder: rows are read first.
        batches = stack.enter_context(contextlib.closing(scan.to_batches()))
        first = next(batches, None)
        writing = stack.enter_context(there.open(create=to is not None))
        made = stack.enter_context(_target(writing, target, origin, schema))
        if to is None and made.full_name == origin.full_name:
            raise UsageError(f"{source} and {target} are one table")
        with (
            made.write_session(overwrite=overwrite) as session,
            session.writer("stream-0") as writer,
            progress(
                source, None if where or partition else origin.info.rows, quiet=as_json
            ) as task,
        ):
            whole = batches if first is None else itertools.chain([first], batches)
            del first  # the chain drops it when the next one is asked for
            for batch in _moved(whole, reading, session):
                writer.write(batch)
                rows += batch.num_rows
                size += batch.nbytes
                task.add(batch.num_rows, batch.nbytes)
    seconds = time.perf_counter() - started
    if as_json:
        print_json({"table": target, "rows": rows, "bytes": size, "seconds": seconds})
    else:
        say(
            f"{source} -> {made.full_name}: {counted(rows, 'row')}, {human_bytes(size)} "
            f"committed in {seconds:.2f} s"
        )


def _target(
    client: Client, name: str, origin: Table, schema: pa.Schema
) -> contextlib.AbstractContextManager[Table]:
    """The table that is written; one that is made is seen once the block has filled it."""
    try:
        return contextlib.nullcontext(client.table(name))
    except (NoSuchProjectError, NoSuchTableError):
        by = [column for column in origin.partition_columns if column in schema.names]
        comment = origin.info.comment
        return filled_table(client, name, schema, partition_by=by, comment=comment)


def _moved(
    batches: Iterator[pa.RecordBatch], reading: Client, session: WriteSession
) -> Iterator[pa.RecordBatch]:
    """The batches with references to blobs of the target: one refers to its own table's alone."""
    import pyarrow as pa

    from fletching.protocol.types.blob_type import BlobType, contains_blob

    for batch in batches:
        blobs = [index for index, field in enumerate(batch.schema) if contains_blob(field.type)]
        for index in blobs:
            if not isinstance(batch.schema.field(index).type, BlobType):
                raise UsageError(
                    f"column {batch.schema.names[index]!r} holds blobs inside another type, "
                    "which copy does not follow: leave it out with --columns"
                )
        if not blobs:
            yield batch
            continue
        for start in range(0, batch.num_rows, BLOB_ROWS):
            part = batch.slice(start, BLOB_ROWS)
            columns = list(part.columns)
            for index in blobs:
                name = part.schema.names[index]
                references = columns[index].to_pylist()
                present = [each for each in references if each is not None]
                # One blob at a time is in memory, on its way from one side to the other.
                contents = (each for each in reading.get_blobs(present) if each is not None)
                stored = iter(session.put_blobs(contents, name))
                texts = [None if each is None else next(stored).encode() for each in references]
                columns[index] = pa.ExtensionArray.from_storage(
                    columns[index].type, pa.array(texts, pa.binary())
                )
            yield pa.RecordBatch.from_arrays(columns, schema=part.schema)
