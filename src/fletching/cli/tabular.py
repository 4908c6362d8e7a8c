"""Tabular files as streams of record batches: Parquet, CSV, JSON lines and Arrow IPC, and ``-`` for a pipe.

Text formats may be compressed (``.gz``, ``.zst``). What cannot be read from front to back (Parquet,
the Arrow file format) and comes through a pipe or compressed is spooled to a temporary file, so that
memory stays bounded whatever the input.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import enum
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa

from fletching.cli.output_files import writing
from fletching.errors import StorageError, UsageError

__all__ = [
    "BATCH_ROWS",
    "SUFFIXES",
    "FileFormat",
    "Opened",
    "ReadOptions",
    "format_of",
    "open_batches",
    "write_batches",
]

BATCH_ROWS = 65_536
"""Rows per batch read from Parquet: large enough for the wire, small enough for memory."""

TEXT_BLOCK_BYTES = 8 * 1024 * 1024
"""What one batch of CSV or JSON lines is made of; also what types are told from."""


class FileFormat(enum.StrEnum):
    """File formats that put, get and quickstart know."""

    PARQUET = "parquet"
    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"
    ARROW = "arrow"  # the IPC file format
    STREAM = "stream"  # the IPC stream format


_SUFFIXES = {
    ".parquet": FileFormat.PARQUET,
    ".pq": FileFormat.PARQUET,
    ".csv": FileFormat.CSV,
    ".tsv": FileFormat.TSV,
    ".jsonl": FileFormat.JSONL,
    ".ndjson": FileFormat.JSONL,
    ".arrow": FileFormat.ARROW,
    ".feather": FileFormat.ARROW,
    ".ipc": FileFormat.ARROW,
    ".arrow_file": FileFormat.ARROW,
    ".arrows": FileFormat.STREAM,
    ".stream": FileFormat.STREAM,
}
SUFFIXES = frozenset(_SUFFIXES)
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_TEXT = {FileFormat.CSV, FileFormat.TSV, FileFormat.JSONL}
_DELIMITERS = {FileFormat.CSV: ",", FileFormat.TSV: "\t"}


@dataclasses.dataclass(frozen=True, slots=True)
class ReadOptions:
    """How text is read; Parquet and Arrow say themselves what they hold.

    Attributes:
        delimiter: between fields; None for the format's own.
        encoding: of the text, by Python's names.
        nulls: what stands for null, where it is not quoted. An empty field is null.
        header: whether the first line names the columns; without one they are ``f0``, ``f1``, ...
        types: columns whose type is given; of all others it is told from the first values.
    """

    delimiter: str | None = None
    encoding: str = "utf8"
    nulls: tuple[str, ...] = ("",)
    header: bool = True
    types: pa.Schema | None = None


class Opened(NamedTuple):
    """A file that is open: its schema, its batches, and how many rows there are, if the file says."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    rows: int | None = None


def format_of(path: str) -> FileFormat:
    """The format a path's suffix stands for; a pipe (``-``) is the IPC stream format.

    Raises:
        UsageError: the suffix is not known.
    """
    if path == "-":
        return FileFormat.STREAM
    suffix = Path(_without_compression(path)).suffix.lower()
    if suffix not in _SUFFIXES:
        known = ", ".join(sorted(SUFFIXES))
        raise UsageError(
            f"cannot tell the format of {path}: give --format "
            f"({', '.join(FileFormat)}), or a file named {known}, with .gz or .zst if compressed"
        )
    return _SUFFIXES[suffix]


def is_tabular(path: Path) -> bool:
    """Whether a file's name says that it holds rows."""
    return Path(_without_compression(path.name)).suffix.lower() in SUFFIXES


def _compression(path: str) -> str | None:
    return _COMPRESSIONS.get(Path(path).suffix.lower())


def _without_compression(path: str) -> str:
    return path[: -len(Path(path).suffix)] if _compression(path) else path


# --- reading ---------------------------------------------------------------------------------


@contextlib.contextmanager
def open_batches(
    path: str, file_format: FileFormat | None = None, options: ReadOptions | None = None
) -> Iterator[Opened]:
    """Opens a file or ``-``; memory is bounded by a few batches.

    Raises:
        UsageError: the file is missing, unreadable or not of its format; also from the batches,
            since a file may break in its middle.
    """
    chosen = file_format or format_of(path)
    options = options or ReadOptions()
    with contextlib.ExitStack() as stack:
        with _translated(path, chosen):
            if chosen is FileFormat.PARQUET:
                opened = _parquet(_seekable(path, stack))
            elif chosen is FileFormat.ARROW:
                opened = _arrow(_seekable(path, stack), stack)
            elif chosen is FileFormat.JSONL:
                opened = _json_lines(_source(path, stack), options)
            elif chosen is FileFormat.STREAM:
                opened = _stream(_source(path, stack))
            else:
                delimiter = options.delimiter or _DELIMITERS[chosen]
                opened = _csv(path, stack, options, delimiter)
        _check_names(path, opened.schema)
        # Not inside the translation: what the caller's block raises is not about this file.
        yield opened._replace(batches=_guarded(path, chosen, opened.batches))


@contextlib.contextmanager
def _translated(path: str, chosen: FileFormat) -> Iterator[None]:
    """Turns what pyarrow and the system say of a file into our error, with the file's name."""
    try:
        yield
    except pa.ArrowException as exc:
        hint = ""
        if chosen in _TEXT and "conversion error" in str(exc):
            hint = "; --types 'COLUMN STRING' reads a column as text"
        elif chosen in _TEXT and "UTF8" in str(exc):
            hint = "; --encoding names another encoding, such as latin-1"
        raise UsageError(f"{path} is not readable as {chosen}: {_first_line(exc)}{hint}") from exc
    except UnicodeDecodeError as exc:
        raise UsageError(
            f"{path} is not {exc.encoding} text (byte {exc.start}): --encoding names another"
        ) from exc
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}") from None
    except (PermissionError, IsADirectoryError, NotADirectoryError) as exc:
        raise UsageError(f"cannot read {path}: {exc.strerror or exc}") from exc
    except (OSError, EOFError) as exc:
        # pyarrow raises OSError for damage in Parquet pages and compressed streams.
        raise UsageError(f"{path} is not readable as {chosen}: {_first_line(exc)}") from exc


def _first_line(exc: BaseException) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0]


def _guarded(
    path: str, chosen: FileFormat, batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """The batches; an error of the file in their midst is ours, one of their taker is not touched."""
    while True:
        with _translated(path, chosen):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def _source(path: str, stack: contextlib.ExitStack) -> Any:
    """The bytes of a file or pipe, decompressed if its name says that it is compressed."""
    if path == "-":
        file: Any = sys.stdin.buffer
    elif not Path(path).is_file() and not Path(path).is_dir() and Path(path).exists():
        # A named pipe, a device or a process substitution: it cannot be sought.
        file = stack.enter_context(Path(path).open("rb"))  # noqa: SIM115  # the stack closes it
    else:
        file = stack.enter_context(pa.OSFile(path, "rb"))
    compression = _compression(path)
    if compression is None:
        return file
    return stack.enter_context(pa.CompressedInputStream(file, compression))


def _seekable(path: str, stack: contextlib.ExitStack) -> str:
    """The path of a file with these bytes that can be sought: the file itself, or a spool of them."""
    if path != "-" and _compression(path) is None and Path(path).is_file():
        return path
    source = _source(path, stack)
    # Its name goes with the block; nothing is left of it.
    spool = stack.enter_context(tempfile.NamedTemporaryFile(prefix="fletching-"))  # noqa: SIM115  # as above
    shutil.copyfileobj(source, spool, 1 << 20)
    spool.flush()
    return spool.name


def _check_names(path: str, schema: pa.Schema) -> None:
    lowered = [name.casefold() for name in schema.names]
    for name in schema.names:
        if not name:
            raise UsageError(f"{path} has a column without a name: name it in the file")
        if lowered.count(name.casefold()) > 1:
            raise UsageError(
                f"{path} has several columns named {name!r} (upper and lower case are one): rename them"
            )


def _parquet(path: str) -> Opened:
    import pyarrow.parquet as pq

    parquet = pq.ParquetFile(path)  # closed with its last reference
    return Opened(parquet.schema_arrow, parquet.iter_batches(BATCH_ROWS), parquet.metadata.num_rows)


def _csv(path: str, stack: contextlib.ExitStack, options: ReadOptions, delimiter: str) -> Opened:
    from pyarrow import csv

    types = {
        field.name: field.type for field in options.types or () if _is_read_from_text(field.type)
    }

    def reading(*, skip_empty_lines: bool) -> Any:
        return csv.open_csv(
            _source(path, stack),
            read_options=csv.ReadOptions(
                block_size=TEXT_BLOCK_BYTES,
                encoding=options.encoding,
                autogenerate_column_names=not options.header,
            ),
            parse_options=csv.ParseOptions(
                delimiter=delimiter,
                newlines_in_values=True,
                ignore_empty_lines=skip_empty_lines,
            ),
            convert_options=csv.ConvertOptions(
                column_types=types,
                null_values=list(options.nulls),
                # An empty field is null and a quoted one is empty text, as they are written by get.
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )

    reader = reading(skip_empty_lines=True)
    if len(reader.schema) == 1 and path != "-" and Path(path).is_file():
        # An empty line of a file with one column is a null, and no line to be passed over.
        reader = reading(skip_empty_lines=False)
    schema = reader.schema
    if options.delimiter is None and len(schema) == 1:
        for other in (";", "\t", "|", ","):
            if other != delimiter and other in schema.names[0]:
                raise UsageError(
                    f"{path} has one column named {schema.names[0][:60]!r}: "
                    f"if {other!r} stands between its fields, give --delimiter {other!r}"
                )
    for field in schema:
        if pa.types.is_binary(field.type) and field.name not in types:
            raise UsageError(
                f"{path}: column {field.name!r} is not UTF-8 text: give its --encoding (latin-1, "
                f"cp1252, ...), or --types '{field.name} BINARY' to keep the bytes"
            )
    return Opened(schema, iter(reader))


def _is_read_from_text(kind: pa.DataType) -> bool:
    """Whether a field of CSV can be read as this type at once; others are told and cast."""
    if pa.types.is_dictionary(kind) or isinstance(kind, pa.BaseExtensionType):
        return False
    return not (
        pa.types.is_nested(kind)
        or pa.types.is_null(kind)
        or pa.types.is_float16(kind)
        or pa.types.is_duration(kind)
        or pa.types.is_interval(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_run_end_encoded(kind)
    )


def _json_lines(file: Any, options: ReadOptions) -> Opened:
    from pyarrow import json

    if options.encoding != "utf8":
        raise UsageError("JSON lines are UTF-8: --encoding is for CSV")
    given = [
        field for field in options.types or () if not isinstance(field.type, pa.BaseExtensionType)
    ]
    # Bytes are base64 in JSON; they and dates come as text first.
    texts = {field.name: field.type for field in given if _is_text_in_json(field.type)}
    given = [field.with_type(pa.string()) if field.name in texts else field for field in given]
    reader = json.open_json(
        file,
        read_options=json.ReadOptions(block_size=TEXT_BLOCK_BYTES),
        parse_options=json.ParseOptions(
            newlines_in_values=False, explicit_schema=pa.schema(given) if given else None
        ),
    )
    if not texts:
        return Opened(reader.schema, iter(reader))
    schema = pa.schema(
        [field.with_type(texts.get(field.name, field.type)) for field in reader.schema]
    )
    return Opened(schema, (_from_texts(batch, schema, texts) for batch in reader))


def _is_text_in_json(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_date(kind)


def _from_texts(
    batch: pa.RecordBatch, schema: pa.Schema, texts: dict[str, pa.DataType]
) -> pa.RecordBatch:
    """The batch with the columns that were read as text made what they stand for."""
    columns = []
    for field, values in zip(schema, batch.columns, strict=True):
        kind = texts.get(field.name)
        if kind is None:
            columns.append(values)
        elif pa.types.is_date(kind):
            columns.append(values.cast(kind))
        else:
            columns.append(_from_base64(field.name, values, kind))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _from_base64(name: str, values: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        decoded = [
            None if text is None else base64.b64decode(text, validate=True)
            for text in values.to_pylist()
        ]
    except ValueError as exc:
        raise pa.ArrowInvalid(f"column {name!r} is not base64: {exc}") from exc
    return pa.array(decoded, kind)


def _stream(file: Any) -> Opened:
    reader = pa.ipc.open_stream(file)
    return Opened(reader.schema, iter(reader))


def _arrow(path: str, stack: contextlib.ExitStack) -> Opened:
    # Mapped, so that batches borrow from the page cache instead of being copied to the heap.
    file = stack.enter_context(pa.memory_map(path, "rb"))
    # A ".arrow" file may hold either IPC format: the file format starts with its magic.
    magic = file.read(6)
    file.seek(0)
    if magic != b"ARROW1":
        return _stream(file)
    reader = pa.ipc.open_file(file)
    return Opened(
        reader.schema, (reader.get_batch(index) for index in range(reader.num_record_batches))
    )


# --- writing ---------------------------------------------------------------------------------


def write_batches(
    path: str,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    file_format: FileFormat | None = None,
    *,
    replace: bool = True,
    on_batch: Callable[[pa.RecordBatch], None] = lambda _: None,
) -> int:
    """Writes batches to a file or ``-`` one by one; returns the rows written.

    A file appears under its name only when it is complete (see `fletching.cli.output_files`).

    Raises:
        UsageError: the place is no place for a file, the file is there and ``replace`` is not
            given, or the format lacks one of the types.
        StorageError: the system took not all of it.
        BrokenPipeError: whoever reads stdout went away.
    """
    chosen = file_format or format_of(path)
    place = "standard output" if path == "-" else path
    rows = 0
    try:
        with writing(path, replace=replace) as file, _compressed(file, path) as sink:
            writer = _writer(sink, schema, chosen)
            with contextlib.closing(writer):
                for batch in batches:
                    writer.write_batch(batch)
                    rows += batch.num_rows
                    on_batch(batch)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as exc:
        raise UsageError(f"the {chosen} format cannot hold this table: {_first_line(exc)}") from exc
    except BrokenPipeError:
        raise
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as exc:
        raise UsageError(f"cannot write {place}: {exc.strerror or exc}") from exc
    except OSError as exc:
        raise StorageError(f"cannot write {place}: {exc.strerror or exc}") from exc
    return rows


@contextlib.contextmanager
def _compressed(file: IO[bytes], path: str) -> Iterator[Any]:
    compression = _compression(path)
    if compression is None:
        yield file
        return
    with pa.CompressedOutputStream(file, compression) as sink:
        yield sink


class _JsonLines:
    """A writer of JSON lines, in the shape of pyarrow's writers."""

    def __init__(self, sink: Any) -> None:
        self._sink = sink

    def write_batch(self, batch: pa.RecordBatch) -> None:
        from fletching.protocol.types.json_values import json_lines

        for start in range(0, batch.num_rows, _JSON_ROWS):
            self._sink.write(json_lines(batch.slice(start, _JSON_ROWS)))

    def close(self) -> None:
        """Nothing ends JSON lines."""


_JSON_ROWS = 8192
"""Rows made to Python objects at once."""


def _writer(sink: Any, schema: pa.Schema, chosen: FileFormat) -> Any:
    if chosen is FileFormat.PARQUET:
        import pyarrow.parquet as pq

        return pq.ParquetWriter(sink, schema)
    if chosen in _DELIMITERS:
        from pyarrow import csv

        return csv.CSVWriter(
            sink, schema, write_options=csv.WriteOptions(delimiter=_DELIMITERS[chosen])
        )
    if chosen is FileFormat.JSONL:
        return _JsonLines(sink)
    if chosen is FileFormat.ARROW:
        return pa.ipc.new_file(sink, schema)
    return pa.ipc.new_stream(sink, schema)
