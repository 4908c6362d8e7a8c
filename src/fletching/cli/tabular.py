"""Tabular files as streams of record batches: Parquet, CSV and Arrow IPC, and ``-`` for a pipe."""

from __future__ import annotations

import contextlib
import enum
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from fletching.errors import UsageError

__all__ = ["BATCH_ROWS", "FileFormat", "format_of", "open_batches", "write_batches"]

BATCH_ROWS = 65_536
"""Rows per batch read from Parquet: large enough for the wire, small enough for memory."""

CSV_BLOCK_BYTES = 8 * 1024 * 1024


class FileFormat(enum.StrEnum):
    """File formats that put, get and quickstart know."""

    PARQUET = "parquet"
    CSV = "csv"
    ARROW = "arrow"  # the IPC file format
    STREAM = "stream"  # the IPC stream format


_SUFFIXES = {
    ".parquet": FileFormat.PARQUET,
    ".pq": FileFormat.PARQUET,
    ".csv": FileFormat.CSV,
    ".tsv": FileFormat.CSV,
    ".arrow": FileFormat.ARROW,
    ".feather": FileFormat.ARROW,
    ".ipc": FileFormat.ARROW,
    ".arrow_file": FileFormat.ARROW,
    ".arrows": FileFormat.STREAM,
    ".stream": FileFormat.STREAM,
}
SUFFIXES = frozenset(_SUFFIXES)


def format_of(path: str) -> FileFormat:
    """The format a path's suffix stands for; a pipe (``-``) is the IPC stream format.

    Raises:
        UsageError: the suffix is not known.
    """
    if path == "-":
        return FileFormat.STREAM
    suffix = Path(path).suffix.lower()
    if suffix not in _SUFFIXES:
        known = ", ".join(sorted(SUFFIXES))
        raise UsageError(f"cannot tell the format of {path}: use --format, or one of {known}")
    return _SUFFIXES[suffix]


@contextlib.contextmanager
def _reading(path: str) -> Iterator[Any]:
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        with pa.OSFile(path, "rb") as file:
            yield file
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}") from None
    except (PermissionError, IsADirectoryError) as exc:
        raise UsageError(f"cannot read {path}: {exc.strerror or exc}") from exc


def _parquet(file: Any) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    import pyarrow.parquet as pq

    parquet = pq.ParquetFile(file)
    return parquet.schema_arrow, parquet.iter_batches(BATCH_ROWS)


def _csv(file: Any, delimiter: str) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    from pyarrow import csv

    reader = csv.open_csv(
        file,
        read_options=csv.ReadOptions(block_size=CSV_BLOCK_BYTES),
        parse_options=csv.ParseOptions(delimiter=delimiter),
    )
    return reader.schema, iter(reader)


def _stream(file: Any) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    reader = pa.ipc.open_stream(file)
    return reader.schema, iter(reader)


def _arrow(file: Any, path: str) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    # A ".arrow" file may hold either IPC format: the file format starts with its magic.
    if file.read(6) != b"ARROW1":
        file.seek(0)
        return _stream(file)
    # Mapped, so that batches borrow from the page cache instead of being copied to the heap.
    reader = pa.ipc.open_file(pa.memory_map(path, "rb"))
    return reader.schema, (reader.get_batch(i) for i in range(reader.num_record_batches))


@contextlib.contextmanager
def open_batches(
    path: str, file_format: FileFormat | None = None
) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """Opens a file or ``-`` as (schema, batches); memory is bounded by a few batches.

    Raises:
        UsageError: the file is missing, unreadable or not of its format.
    """
    chosen = file_format or format_of(path)
    with _reading(path) as file:
        try:
            if chosen is FileFormat.PARQUET:
                # Parquet needs its end first; a pipe is therefore read whole.
                yield _parquet(pa.BufferReader(file.read()) if path == "-" else file)
            elif chosen is FileFormat.CSV:
                yield _csv(file, "\t" if path.lower().endswith(".tsv") else ",")
            elif chosen is FileFormat.ARROW and path != "-":
                yield _arrow(file, path)
            else:
                yield _stream(file)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as exc:
            raise UsageError(f"{path} is not readable as {chosen}: {exc}") from exc


def write_batches(
    path: str,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    file_format: FileFormat | None = None,
    *,
    on_batch: Callable[[pa.RecordBatch], None] = lambda _: None,
) -> int:
    """Writes batches to a file or ``-`` one by one; returns the rows written.

    A file appears under its name only when it is complete: it is written beside it and renamed.

    Raises:
        UsageError: the file cannot be written, or its format lacks one of the types.
    """
    chosen = file_format or format_of(path)
    if path == "-":
        return _write(sys.stdout.buffer, schema, batches, chosen, on_batch)
    unfinished = Path(f"{path}.part")
    try:
        with unfinished.open("wb") as sink:
            rows = _write(sink, schema, batches, chosen, on_batch)
        unfinished.replace(path)
    except OSError as exc:
        raise UsageError(f"cannot write {path}: {exc.strerror or exc}") from exc
    finally:
        unfinished.unlink(missing_ok=True)
    return rows


def _write(
    sink: IO[bytes],
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    chosen: FileFormat,
    on_batch: Callable[[pa.RecordBatch], None],
) -> int:
    rows = 0
    try:
        with _writer(sink, schema, chosen) as writer:
            for batch in batches:
                writer.write_batch(batch)
                rows += batch.num_rows
                on_batch(batch)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as exc:
        raise UsageError(f"the {chosen} format cannot hold this table: {exc}") from exc
    return rows


def _writer(sink: IO[bytes], schema: pa.Schema, chosen: FileFormat) -> Any:
    if chosen is FileFormat.PARQUET:
        import pyarrow.parquet as pq

        return pq.ParquetWriter(sink, schema)
    if chosen is FileFormat.CSV:
        from pyarrow import csv

        return csv.CSVWriter(sink, schema)
    if chosen is FileFormat.ARROW:
        return pa.ipc.new_file(sink, schema)
    return pa.ipc.new_stream(sink, schema)
