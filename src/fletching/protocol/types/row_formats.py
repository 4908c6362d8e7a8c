"""Rows as Parquet, CSV, JSON lines and Arrow: how files and bodies of these formats are read and written.

The command line's files and plain HTTP's bodies go through here, so that both mean the same by a
null, a quoted text, bytes in JSON. A source is a path that pyarrow opens, or a binary file object.
"""

from __future__ import annotations

import dataclasses
import enum
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from fletching.errors import LimitExceededError, UsageError
from fletching.protocol.types.decoded_sizes import plain_width
from fletching.protocol.types.json_numbers import LongNumbers
from fletching.protocol.types.json_values import json_lines
from fletching.protocol.types.parquet_pages import parquet_need
from fletching.protocol.types.quoted_fields import QuotesWatched, has_plain_quotes
from fletching.protocol.types.spelt_values import (
    check_finite,
    check_only_numbers,
    has_only_numbers,
    read_from_csv,
    read_from_json,
    stood_for,
)
from fletching.protocol.types.text_encodings import HEAD_BYTES, wide_encoding

__all__ = [
    "BATCH_ROWS",
    "DELIMITERS",
    "TEXT_BLOCK_BYTES",
    "FileFormat",
    "Opened",
    "ReadOptions",
    "check_names",
    "open_csv",
    "open_json_lines",
    "open_parquet",
    "open_stream",
    "row_writer",
    "text_need",
]

BATCH_ROWS = 65_536
"""Rows per batch read from Parquet: large enough for the wire, small enough for memory."""

TEXT_BLOCK_BYTES = 8 * 1024 * 1024
"""What one batch of CSV or JSON lines is made of; also what types are told from."""


class FileFormat(enum.StrEnum):
    """The formats that rows are read from and written to."""

    PARQUET = "parquet"
    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"
    ARROW = "arrow"  # the IPC file format
    STREAM = "stream"  # the IPC stream format


DELIMITERS = {FileFormat.CSV: ",", FileFormat.TSV: "\t"}


@dataclasses.dataclass(frozen=True, slots=True)
class ReadOptions:
    """How text is read; Parquet and Arrow say themselves what they hold.

    Attributes:
        delimiter: between fields; None for the format's own.
        encoding: of the text, by Python's names.
        nulls: what stands for null, where it is not quoted. An empty field is null.
        header: whether the first line names the columns; without one they are ``f0``, ``f1``, ...
        types: columns whose type is given; of all others it is told from the first values.
        block_bytes: what one batch of text is made of.
        only_types: whether columns of JSON that are not in ``types`` are refused, not made.
        whole: whether it is all of a text: what is a part of one may end inside a quoted field.
    """

    delimiter: str | None = None
    encoding: str = "utf8"
    nulls: tuple[str, ...] = ("",)
    header: bool = True
    types: pa.Schema | None = None
    block_bytes: int = TEXT_BLOCK_BYTES
    only_types: bool = False
    whole: bool = True


class Opened(NamedTuple):
    """A file that is open: its schema, its batches, and how many rows there are, if the file says.

    Where it was opened with a limit, ``need`` is what reading a batch takes at most.
    """

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    rows: int | None = None
    need: int = 0


def check_names(name: str, schema: pa.Schema) -> None:
    """Refuses columns that no table can have.

    Raises:
        UsageError: one without a name, or two of one name.
    """
    lowered = [name.casefold() for name in schema.names]
    for column in schema.names:
        if not column:
            raise UsageError(f"{name} has a column without a name: name it in the file")
        if lowered.count(column.casefold()) > 1:
            raise UsageError(
                f"{name} has several columns named {column!r} (upper and lower case are one): rename them"
            )


PARQUET_BUFFER_BYTES = 4 << 20
"""What is read of a column at once."""


def open_parquet(source: str | IO[bytes], *, limit: int | None = None) -> Opened:
    """Opens a Parquet file, by its path or as a file that can be sought.

    Args:
        source: whose it is: one that comes from somebody else is a binary file, and has a limit.
        limit: bytes that its rows may take while they are read; then columns that repeat the values
            of a dictionary come as dictionaries.

    Raises:
        LimitExceededError: they take more, however few are read at a time; nothing was decoded.
        InvalidArgumentError: its pages are not where they should be.
    """
    import pyarrow.parquet as pq

    # Without these, pyarrow reads ahead into memory until the whole file is there, and a row group as
    # a whole. The file is closed with its last reference.
    bounded: dict[str, bool | int] = {"pre_buffer": False, "buffer_size": PARQUET_BUFFER_BYTES}
    parquet = pq.ParquetFile(source, **bounded)
    rows, batch_rows, need = parquet.metadata.num_rows, BATCH_ROWS, 0
    if limit is not None:
        if isinstance(source, str):
            raise UsageError("a limit is for files that can be sought")
        result = parquet_need(source, parquet.metadata, limit)
        batch_rows, need = result.batch_rows, result.decoded_bytes
        if result.dictionaries:
            source.seek(0)
            parquet = pq.ParquetFile(source, read_dictionary=result.dictionaries, **bounded)
    return Opened(parquet.schema_arrow, parquet.iter_batches(batch_rows), rows, need)


def text_need(file: IO[bytes], types: pa.Schema, limit: int) -> tuple[int, int]:
    """How a text with a row on each line is to be read: bytes of a block, and what that takes.

    A line of three bytes is a row with all columns: what rows take is told from how many lines a
    block has. Blocks are made smaller until they fit, as long as each holds the longest line.

    Raises:
        LimitExceededError: the lines are so short, and the columns so wide, that no block fits.
    """
    width = sum(map(plain_width, types.types)) + 1
    file.seek(0)
    lines = 0  # of the chunk that has most
    longest = since = 0
    chunks = []
    while chunk := file.read(_CHUNK_BYTES):
        count = chunk.count(b"\n")
        chunks.append(count + 1)
        lines = max(lines, count + 1)
        if not count:
            since += len(chunk)
        else:
            longest = max(longest, since + chunk.index(b"\n"), _longest_line(chunk))
            since = len(chunk) - chunk.rindex(b"\n")
    longest = max(longest, since)
    block = TEXT_BLOCK_BYTES
    while True:
        reach = block // _CHUNK_BYTES + 1
        rows = max((sum(chunks[n : n + reach]) for n in range(0, len(chunks), reach)), default=0)
        need = int(3 * block + 2 * rows * width)
        if need <= limit or block // 2 <= max(longest, _CHUNK_BYTES):
            break
        block //= 2
    if need > limit:
        raise LimitExceededError(
            "the lines of the body stand for more than there is memory for: columns that a line does "
            "not name are null, and take their width; send fewer lines in one body",
            actual=need,
            limit=limit,
        )
    return block, need


_CHUNK_BYTES = 64 << 10


def _longest_line(chunk: bytes) -> int:
    ends = np.flatnonzero(np.frombuffer(chunk, np.uint8) == 10)
    return int(np.diff(ends).max(initial=0))


def open_csv(
    name: str, source: Callable[[], IO[bytes]], options: ReadOptions, delimiter: str, *, again: bool
) -> Opened:
    """Opens CSV.

    Args:
        name: for messages.
        source: gives the bytes, from their beginning.
        options: how to read.
        delimiter: between the fields, where ``options`` name none.
        again: whether ``source`` may be asked twice; else it is asked once, and its first blocks are kept
            until they have been read.

    Raises:
        UsageError: it is CSV of another kind than the options say; also from the batches, if it
            ends inside a quoted field.
        pyarrow.ArrowException, UnicodeDecodeError, OSError: it is none; also from the batches.
    """
    from pyarrow import csv

    delimiter = options.delimiter or delimiter
    if not again:
        # Types are told from the first block. Readers look ahead, so that it is not the last one here.
        once = source()
        beginning = once.read(_BLOCKS_FOR_TYPES * options.block_bytes)
        files: Iterator[Any] = iter([io.BytesIO(beginning), _Joined(beginning, once)])
        source = files.__next__

    else:
        beginning = source().read(HEAD_BYTES)
    wide = wide_encoding(beginning[:HEAD_BYTES]) if has_plain_quotes(options.encoding) else None
    if wide is not None:
        raise UsageError(
            f"{name} looks like {wide[:6].upper()} text, and is read as {options.encoding}: give its encoding"
            f" (--encoding {wide})"
        )

    read = {field.name: read_from_csv(field.type) for field in options.types or ()}
    types = {name: kind for name, kind in read.items() if kind is not None}
    # A column that is told from its values is one of truths only if all are spelt out: 1 and true are two texts.
    truths = {} if pa.bool_() in types.values() else _SPELT_TRUTHS
    watching = options.whole and has_plain_quotes(options.encoding)

    def reading(*, skip_empty_lines: bool, watching: bool) -> pa.RecordBatchReader:
        file = source()
        return csv.open_csv(
            QuotesWatched(file, name, delimiter) if watching else file,
            read_options=csv.ReadOptions(
                block_size=options.block_bytes,
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
                **truths,
            ),
        )

    reader = reading(skip_empty_lines=True, watching=watching and again)
    untyped = [
        field
        for field in reader.schema
        if field.name not in read
        and (pa.types.is_floating(field.type) or pa.types.is_integer(field.type))
    ]
    if not again or untyped or len(reader.schema) == 1:
        # Numbers are read as those of columns that have a type, now that it is known. An empty line of a
        # file with one column is a null, and no line to be passed over.
        types |= {field.name: pa.string() for field in untyped}
        reader = reading(skip_empty_lines=len(reader.schema) > 1, watching=watching)
    schema = reader.schema
    if options.delimiter is None and len(schema) == 1:
        for other in (";", "\t", "|", ","):
            if other != delimiter and other in schema.names[0]:
                raise UsageError(
                    f"{name} has one column named {schema.names[0][:60]!r}: "
                    f"if {other!r} stands between its fields, give --delimiter {other!r}"
                )
    for field in schema:
        if pa.types.is_binary(field.type) and field.name not in types:
            raise UsageError(
                f"{name}: column {field.name!r} is not UTF-8 text: give its --encoding (latin-1, "
                f"cp1252, ...), or --types '{field.name} BINARY' to keep the bytes"
            )
    batches: Iterator[pa.RecordBatch] = iter(reader)
    if untyped:
        first = list(itertools.islice(batches, 1))
        batches = itertools.chain(first, batches)
        # pyarrow tells numbers from hexadecimal digits, and from texts that are none of their equal, too.
        texts = dict(zip(schema.names, first[0].columns if first else (), strict=False))
        untyped = [
            field
            for field in untyped
            if field.name not in texts or has_only_numbers(texts[field.name], field.type)
        ]
    wanted = {field.name: field.type for field in (*untyped, *(options.types or ()))}
    inferred = {field.name: field.type for field in untyped}

    def check(arrays: Sequence[pa.Array]) -> None:
        for column, array in zip(schema.names, arrays, strict=True):
            if column in inferred:
                check_only_numbers(array, inferred[column], column)

    return _meant(batches, schema, wanted, check)


_BLOCKS_FOR_TYPES = 3
_SPELT_TRUTHS = {
    "true_values": ["true", "True", "TRUE"],
    "false_values": ["false", "False", "FALSE"],
}


class _Joined(io.RawIOBase):
    """Bytes that were read of a file already, and those that follow in it."""

    def __init__(self, beginning: bytes, file: IO[bytes]) -> None:
        super().__init__()
        self._beginning = io.BytesIO(beginning)
        self._file = file

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes; those of the beginning first."""
        data = self._beginning.read(size)
        return data or self._file.read(size)


def open_json_lines(file: IO[bytes], options: ReadOptions) -> Opened:
    """Opens JSON lines; columns of ``options.types`` that no line has are null.

    Raises:
        UsageError: another encoding than UTF-8 is wanted.
        pyarrow.ArrowException, OSError: it is no JSON; also from the batches.
    """
    from pyarrow import json

    if options.encoding != "utf8":
        raise UsageError("JSON lines are UTF-8: --encoding is for CSV")
    given = [field.with_type(read_from_json(field.type)) for field in options.types or ()]
    watched = LongNumbers(file, [field.name for field in given])
    reader = json.open_json(
        watched,
        read_options=json.ReadOptions(block_size=options.block_bytes),
        parse_options=json.ParseOptions(
            newlines_in_values=False,
            explicit_schema=pa.schema(given) if given else None,
            unexpected_field_behavior="error" if options.only_types else "infer",
        ),
    )
    watched.tell(reader.schema)
    wanted = {field.name: field.type for field in options.types or ()}

    def check(arrays: Sequence[pa.Array]) -> None:
        watched.check()
        # What pyarrow made infinities of is text that nobody can look at any more.
        if watched.has_long_numbers:
            for name, array in zip(reader.schema.names, arrays, strict=True):
                check_finite(array, name)

    return _meant(reader, reader.schema, wanted, check)


def _meant(
    reader: Iterable[pa.RecordBatch],
    read: pa.Schema,
    wanted: Mapping[str, pa.DataType],
    check: Callable[[Sequence[pa.Array]], None],
) -> Opened:
    """What was read, with what its values stand for in the columns that have types; ``check`` may refuse it."""
    kinds = [wanted.get(field.name, field.type) for field in read]

    def meant(arrays: Sequence[pa.Array]) -> list[pa.Array]:
        check(arrays)
        return [stood_for(*each) for each in zip(arrays, kinds, read.names, strict=True)]

    empty = meant([pa.nulls(0, kind) for kind in read.types])
    schema = pa.schema(
        [field.with_type(array.type) for field, array in zip(read, empty, strict=True)]
    )
    return Opened(
        schema,
        (pa.RecordBatch.from_arrays(meant(batch.columns), schema=schema) for batch in reader),
    )


def open_stream(file: IO[bytes]) -> Opened:
    """Opens an Arrow IPC stream."""
    reader = pa.ipc.open_stream(file)
    return Opened(reader.schema, iter(reader))


class Sink(Protocol):
    """Where the bytes of rows go."""

    def write(self, data: bytes, /) -> object:
        """Takes the next bytes."""


class RowWriter(Protocol):
    """A writer of one format, as pyarrow has them."""

    def write_batch(self, batch: pa.RecordBatch, /) -> object:
        """Writes rows."""

    def close(self) -> None:
        """Ends what was written; the sink stays open."""


class _JsonLines:
    """A writer of JSON lines, in the shape of pyarrow's writers."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write_batch(self, batch: pa.RecordBatch) -> None:
        for start in range(0, batch.num_rows, _JSON_ROWS):
            self._sink.write(json_lines(batch.slice(start, _JSON_ROWS)))

    def close(self) -> None:
        """Nothing ends JSON lines."""


_JSON_ROWS = 8192
"""Rows made to Python objects at once."""


def row_writer(sink: Sink, schema: pa.Schema, chosen: FileFormat) -> RowWriter:
    """A writer of a format: ``write_batch`` and ``close``, which does not close the sink.

    Raises:
        pyarrow.ArrowException: the format cannot hold the schema.
    """
    if chosen is FileFormat.PARQUET:
        import pyarrow.parquet as pq

        return pq.ParquetWriter(sink, schema)
    if chosen in DELIMITERS:
        from pyarrow import csv

        return csv.CSVWriter(
            sink, schema, write_options=csv.WriteOptions(delimiter=DELIMITERS[chosen])
        )
    if chosen is FileFormat.JSONL:
        return _JsonLines(sink)
    if chosen is FileFormat.ARROW:
        return pa.ipc.new_file(sink, schema)
    return pa.ipc.new_stream(sink, schema)
