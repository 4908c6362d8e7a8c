"""``fletching put``: files, folders or a pipe go into a table in one commit."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pyarrow as pa
import typer

from fletching.cli.cli_options import JsonOutput, Overwrite, TableArgument, TargetPartition, placed
from fletching.cli.input_files import InputFile, input_files
from fletching.cli.location import Location
from fletching.cli.named_tables import filled_table, find_table, names_of
from fletching.cli.output import counted, print_json, printable, progress, say
from fletching.cli.tabular import FileFormat, Opened, ReadOptions, open_batches
from fletching.errors import AlreadyExistsError, NoSuchProjectError, NoSuchTableError, UsageError
from fletching.human_figures import human_bytes
from fletching.protocol.types.constant_columns import scalar_of_text
from fletching.types import PartitionSpec

if TYPE_CHECKING:
    from fletching.client import Client, Table

__all__ = ["Delimiter", "Encoding", "Header", "Nulls", "Types", "put", "read_options"]

Delimiter = Annotated[
    str | None, typer.Option("--delimiter", metavar="CHAR", help="Between the fields of CSV.")
]
Encoding = Annotated[
    str, typer.Option("--encoding", metavar="NAME", help="Of CSV: latin-1, cp1252, utf-16, ...")
]
Nulls = Annotated[
    list[str] | None,
    typer.Option("--null", metavar="TEXT", help="Means null in CSV, like NA; may be repeated."),
]
Types = Annotated[
    str | None,
    typer.Option(
        "--types",
        metavar="COLUMNS",
        help='Types of columns of CSV and JSON lines: "id BIGINT, zip STRING". By default the '
        "table's, or what the first values tell.",
    ),
]
Header = Annotated[
    bool,
    typer.Option("--header/--no-header", help="Whether the first line of CSV names the columns."),
]


def read_options(
    *,
    delimiter: str | None,
    encoding: str,
    nulls: list[str] | None,
    types: str | None,
    header: bool,
) -> ReadOptions:
    """The options of text files, checked.

    Raises:
        UsageError: an encoding that is not known, a delimiter that is none, types that do not parse.
    """
    import codecs

    from fletching.client.table_schemas import columns_of

    if delimiter is not None:
        delimiter = {"\\t": "\t", "tab": "\t"}.get(delimiter, delimiter)
        if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n':
            raise UsageError(f"--delimiter is one character, such as ';', not {delimiter!r}")
    try:
        encoding = codecs.lookup(encoding).name
    except LookupError:
        raise UsageError(f"--encoding {encoding!r} is not known; latin-1, cp1252 are") from None
    return ReadOptions(
        delimiter=delimiter,
        encoding="utf8" if encoding == "utf-8" else encoding,
        nulls=("", *(nulls or ())),
        header=header,
        types=None if types is None else columns_of(types),
    )


@placed
def put(
    location: Location,
    table: TableArgument,
    files: Annotated[
        list[str],
        typer.Argument(
            help="Parquet, CSV, JSON lines or Arrow files, or folders of them; - reads a pipe.",
            metavar="FILE...",
        ),
    ],
    file_format: Annotated[
        FileFormat | None,
        typer.Option("--format", help="The files' format, when the suffix does not tell."),
    ] = None,
    delimiter: Delimiter = None,
    encoding: Encoding = "utf-8",
    nulls: Nulls = None,
    types: Types = None,
    header: Header = True,
    partition: TargetPartition = None,
    overwrite: Overwrite = False,
    create: Annotated[
        bool,
        typer.Option(
            "--create",
            help="Create the table from the first file if absent, the project and the data folder.",
        ),
    ] = False,
    partition_by: Annotated[
        str,
        typer.Option(
            "--partition-by", metavar="A,B", help="Partition columns of the table that is created."
        ),
    ] = "",
    as_json: JsonOutput = False,
) -> None:
    """Write files into a table: all of them in one commit, or nothing.

    The keys of Hive folders (year=2024/month=01/...) are columns, and partition a created table.
    Columns of the table that a file lacks become null, which is said.
    """
    started = time.perf_counter()
    options = read_options(
        delimiter=delimiter, encoding=encoding, nulls=nulls, types=types, header=header
    )
    if Path(table).is_file() and not any(Path(file).exists() for file in files if file != "-"):
        raise UsageError(
            f"there is no file {files[0]}, and {table} is one: the table comes first, then its files"
        )
    inputs = input_files(files)
    rows = size = 0
    lacking: dict[str, str] = {}

    def write(client: Client, target: Table | None) -> None:
        nonlocal rows, size
        rows = size = 0
        lacking.clear()
        sources = _Sources(inputs, file_format, options, partition, target)
        with contextlib.ExitStack() as stack:
            opened = stack.enter_context(contextlib.closing(sources.opened()))
            first = next(opened)
            if target is None:
                target = sources.target = stack.enter_context(
                    _created(client, table, first, inputs[0], partition, names_of(partition_by))
                )
            session = stack.enter_context(
                target.write_session(partition=partition, overwrite=overwrite)
            )
            writer = stack.enter_context(session.writer("stream-0"))
            task = stack.enter_context(progress(inputs[0].path, first.rows, quiet=as_json))
            source: Opened | None = first
            while source is not None:
                for name in sources.lacking(source.schema):
                    lacking.setdefault(name, sources.name)
                for batch in source.batches:
                    writer.write(batch)
                    rows += batch.num_rows
                    size += batch.nbytes
                    task.add(batch.num_rows, batch.nbytes)
                source = next(opened, None)
                if source is not None:
                    task.restart(printable(sources.name), source.rows)

    with location.open(create=create) as client:
        target = _existing(client, table, create=create)
        try:
            write(client, target)
        except AlreadyExistsError:
            # Another has made it meanwhile: what can be read once more goes into that one.
            if target is not None or not all(Path(file.path).is_file() for file in inputs):
                raise
            write(client, _existing(client, table, create=False))
    seconds = time.perf_counter() - started
    if as_json:
        done = {"table": table, "rows": rows, "bytes": size, "seconds": seconds}
        print_json(done | {"filled_with_null": list(lacking)})
    else:
        for name, path in lacking.items():
            say(f"note: {path} has no column {name}: its rows are null there")
        say(f"{table}: {counted(rows, 'row')}, {human_bytes(size)} committed in {seconds:.2f} s")


def _existing(client: Client, table: str, *, create: bool) -> Table | None:
    """The table; None if it has to be created, in a project that is there then."""
    try:
        return find_table(client, table)
    except (NoSuchProjectError, NoSuchTableError) as error:
        if not create:
            say("hint: --create makes the table from the first file's columns")
            raise
        if isinstance(error, NoSuchProjectError):
            client.create_project(if_not_exists=True)
        return None


def _created(
    client: Client,
    name: str,
    first: Opened,
    file: InputFile,
    partition: str | None,
    partition_by: list[str] | None,
) -> contextlib.AbstractContextManager[Table]:
    """A table of the first file's columns; its folders' keys partition it unless said otherwise."""
    by = partition_by or [key for key, _ in PartitionSpec.parse(partition)] or list(file.key_names)
    return filled_table(client, name, first.schema, partition_by=by)


class _Sources:
    """Opens each file when its turn comes and closes it when the next one is asked for."""

    def __init__(
        self,
        files: list[InputFile],
        file_format: FileFormat | None,
        options: ReadOptions,
        partition: str | None,
        target: Table | None,
    ) -> None:
        self._files, self._format, self._options = files, file_format, options
        self._fixed = {key.casefold() for key, _ in PartitionSpec.parse(partition)}
        self.target = target
        self.name = files[0].path

    def opened(self) -> Generator[Opened, None, None]:
        for file in self._files:
            self.name = file.path
            with open_batches(file.path, self._format, self._for_table(file)) as source:
                schema = source.schema.remove_metadata()
                yield _with_keys(file, schema, source, self._fixed, self.target)

    def lacking(self, schema: pa.Schema) -> list[str]:
        """The table's columns that a file has no values for."""
        given = {name.casefold() for name in schema.names} | self._fixed
        known = () if self.target is None else self.target.schema.names
        return [name for name in known if name.casefold() not in given]

    def _for_table(self, file: InputFile) -> ReadOptions:
        """The options, with the table's types for text: ``007`` stays text in a text column."""
        import dataclasses

        if self.target is None:
            return self._options
        given = {field.name: field for field in self._options.types or ()}
        # Columns whose values come from elsewhere are not looked for in the file.
        elsewhere = self._fixed | {name.casefold() for name in file.key_names}
        known = {
            field.name: field
            for field in self.target.schema
            if field.name.casefold() not in elsewhere
        }
        return dataclasses.replace(self._options, types=pa.schema((known | given).values()))


def _with_keys(
    file: InputFile, schema: pa.Schema, source: Opened, fixed: set[str], target: Table | None
) -> Opened:
    """The file's batches with the columns that its folders name, unless it has them itself."""
    present = {name.casefold() for name in schema.names} | fixed
    keys = [(name, value) for name, value in file.keys if name.casefold() not in present]
    if not keys:
        return source._replace(schema=schema)
    types = {} if target is None else {field.name.casefold(): field.type for field in target.schema}
    values = []
    whole = schema
    for name, text in keys:
        kind = types.get(name.casefold(), pa.string())
        try:
            values.append(scalar_of_text(text, kind))
        except pa.ArrowException as exc:
            raise UsageError(
                f"{file.path}: {name}={text} is no {kind}, as column {name} is: {exc}"
            ) from exc
        whole = whole.append(pa.field(name, kind, nullable=False))

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in source.batches:
            columns = [pa.repeat(value, batch.num_rows) for value in values]
            yield pa.RecordBatch.from_arrays([*batch.columns, *columns], schema=whole)

    return source._replace(schema=whole, batches=batches())
