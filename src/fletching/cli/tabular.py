"""Tabular files as streams of record batches: Parquet, CSV, JSON lines and Arrow IPC, and ``-`` for a pipe.

Text formats may be compressed (``.gz``, ``.zst``). What cannot be read from front to back (Parquet,
the Arrow file format) and comes through a pipe or compressed is spooled to a temporary file, so that
memory stays bounded whatever the input.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from fletching.cli.output_files import writing
from fletching.errors import StorageError, UsageError
from fletching.protocol.types.row_formats import (
    BATCH_ROWS,
    DELIMITERS,
    TEXT_BLOCK_BYTES,
    FileFormat,
    Opened,
    ReadOptions,
    check_names,
    open_csv,
    open_json_lines,
    open_parquet,
    open_stream,
    row_writer,
)

__all__ = [
    "BATCH_ROWS",
    "SUFFIXES",
    "TEXT_BLOCK_BYTES",
    "FileFormat",
    "Opened",
    "ReadOptions",
    "format_of",
    "open_batches",
    "write_batches",
]

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
TEXT_FORMATS = {FileFormat.CSV, FileFormat.TSV, FileFormat.JSONL}
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


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
                opened = open_parquet(_seekable(path, stack))
            elif chosen is FileFormat.ARROW:
                opened = _arrow(_seekable(path, stack), stack)
            elif chosen is FileFormat.JSONL:
                opened = open_json_lines(_source(path, stack), options)
            elif chosen is FileFormat.STREAM:
                opened = open_stream(_source(path, stack))
            else:
                opened = open_csv(
                    path,
                    lambda: _source(path, stack),
                    options,
                    DELIMITERS[chosen],
                    again=path != "-" and Path(path).is_file(),
                )
        check_names(path, opened.schema)
        # Not inside the translation: what the caller's block raises is not about this file.
        yield opened._replace(batches=_guarded(path, chosen, opened.batches))


@contextlib.contextmanager
def _translated(path: str, chosen: FileFormat) -> Iterator[None]:
    """Turns what pyarrow and the system say of a file into our error, with the file's name."""
    try:
        yield
    except pa.ArrowException as exc:
        hint = ""
        if chosen in TEXT_FORMATS and "UTF8" in str(exc):
            hint = "; --encoding names another encoding, such as latin-1"
        elif chosen in TEXT_FORMATS and "conversion error" in str(exc):
            hint = "; --types 'COLUMN STRING' reads a column as text"
        elif chosen in DELIMITERS and "Expected" in str(exc) and "columns" in str(exc):
            hint = "; --delimiter names what stands between its fields"
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
    if path != "-" and (Path(path).is_char_device() or Path(path).is_block_device()):
        # Some have no end, and all of it would be kept.
        raise UsageError(f"{path} is not a file or pipe")
    source = _source(path, stack)
    # Its name goes with the block; nothing is left of it.
    spool = stack.enter_context(tempfile.NamedTemporaryFile(prefix="fletching-"))  # noqa: SIM115  # as above
    shutil.copyfileobj(source, spool, 1 << 20)
    spool.flush()
    return spool.name


def _arrow(path: str, stack: contextlib.ExitStack) -> Opened:
    # Mapped, so that batches borrow from the page cache instead of being copied to the heap.
    file = stack.enter_context(pa.memory_map(path, "rb"))
    # A ".arrow" file may hold either IPC format: the file format starts with its magic.
    magic = file.read(6)
    file.seek(0)
    if magic != b"ARROW1":
        return open_stream(file)
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
    location = "standard output" if path == "-" else path
    rows = 0
    try:
        with writing(path, replace=replace) as file, _compressed(file, path) as sink:
            writer = row_writer(sink, schema, chosen)
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
        raise UsageError(f"cannot write {location}: {exc.strerror or exc}") from exc
    except OSError as exc:
        raise StorageError(f"cannot write {location}: {exc.strerror or exc}") from exc
    return rows


@contextlib.contextmanager
def _compressed(file: IO[bytes], path: str) -> Iterator[IO[bytes]]:
    compression = _compression(path)
    if compression is None:
        yield file
        return
    with pa.CompressedOutputStream(file, compression) as sink:
        yield sink
