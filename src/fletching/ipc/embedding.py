"""Arrow streams inside a larger format: they delimit themselves.

A stream ends with its end-of-stream marker, so it can stand between other bytes without its length
being written anywhere. Everything that is read from a buffer borrows from it, and the arrays keep it
alive.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Literal, Protocol, Self, TypeAlias, Unpack, overload

import pyarrow as pa

from fletching.errors import InvalidDataError, MalformedFrameError, UsageError
from fletching.ipc.batches import BatchDecoder, ReadOptions
from fletching.ipc.bulk_reading import read_in_bulk
from fletching.ipc.encoding import BatchEncoder
from fletching.ipc.file_writer import Sink
from fletching.ipc.limits import DEFAULT_LIMITS
from fletching.ipc.message import MAGIC, truncated
from fletching.ipc.metadata import Codec
from fletching.ipc.sections import check_end
from fletching.ipc.source import Input, open_input, open_sink
from fletching.ipc.walking import FileMessageIterator, MessageIterator

__all__ = [
    "BatchIterator",
    "Batches",
    "read_single",
    "read_single_at",
    "read_stream",
    "read_stream_at",
    "write_stream",
]


class Batches:
    """The record batches of one stream, with the schema that an empty list would lose.

    Exports an Arrow stream, so that every library that takes one takes this; it is used as a list is,
    and is none, as such libraries take lists apart themselves. Equal to a list of equal batches. As a
    context manager it lets go of its batches at the end of the block.
    """

    __hash__ = None  # type: ignore[assignment]  # equal to lists, which have none

    def __init__(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch] = ()) -> None:
        self._batches = list(batches)
        self.schema = schema

    def __len__(self) -> int:
        return len(self._batches)

    @overload
    def __getitem__(self, index: int) -> pa.RecordBatch: ...

    @overload
    def __getitem__(self, index: slice) -> list[pa.RecordBatch]: ...

    def __getitem__(self, index: int | slice) -> pa.RecordBatch | list[pa.RecordBatch]:
        """A batch by number, from the end if it is negative; a list of them by a slice."""
        return self._batches[index]

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return iter(self._batches)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Batches):
            return self.schema.equals(other.schema) and self._batches == other._batches
        return self._batches == other if isinstance(other, list) else NotImplemented

    def __repr__(self) -> str:
        return f"<Batches: {len(self)} of {self.num_rows} rows, {', '.join(self.schema.names)}>"

    @property
    def num_rows(self) -> int:
        """Rows of all batches."""
        return sum(len(batch) for batch in self)

    def to_table(self) -> pa.Table:
        """The batches as a table that borrows like them."""
        return pa.Table.from_batches(self._batches, schema=self.schema)

    def to_reader(self) -> pa.RecordBatchReader:
        """The batches as a reader of pyarrow's."""
        return pa.RecordBatchReader.from_batches(self.schema, self)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The batches by the Arrow PyCapsule interface; nothing is copied."""
        return self.to_reader().__arrow_c_stream__(requested_schema)

    def close(self) -> None:
        """Lets go of the batches; memory that they borrow can go once nobody else has them."""
        self._batches.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class BatchIterator:
    """The record batches of one stream, each read when it is asked for; see `read_stream_at`.

    Attributes:
        schema: the stream's schema.
        end: where the stream ends, as `read_stream_at` counts; None until the last batch was read.
    """

    def __init__(
        self,
        walk: MessageIterator | FileMessageIterator,
        decoder: BatchDecoder,
        length: int | None = None,
    ) -> None:
        """With a length, bytes behind the stream are refused once its end is reached."""
        self._walk = walk
        self._decoder = decoder
        self._length = length
        self._schema_start: int | None = None
        self._closed = False
        if isinstance(walk, MessageIterator) and walk.position > walk.start:
            self._schema_start = walk.start
        self.schema: pa.Schema = decoder.schema
        self.end: int | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> pa.RecordBatch:
        """The next batch; errors as for `read_stream_at`.

        Raises:
            UsageError: the reader was closed before the end: batches are left, and silence would hide them.
        """
        self._check_open()
        if self.end is not None:
            raise StopIteration
        self._schema_start = None
        for message in self._walk:
            batch = self._decoder.decode(message)
            if batch is not None:
                return batch
        self.end = self._walk.position
        if self._length is not None:
            check_end(self._length, self.end, "the stream")
        raise StopIteration

    def read_rest(self) -> Batches:
        """All batches that are left."""
        self._check_open()
        if isinstance(self._walk, MessageIterator) and self._schema_start is not None:
            start, self._schema_start = self._schema_start, None
            result = read_in_bulk(self._walk.view, start, self._decoder, self._walk.limits)
            if result is not None:
                batches, self.end = result
                if self._length is not None:
                    check_end(self._length, self.end, "the stream")
                return Batches(self.schema, batches)
            self._decoder = self._decoder.anew()
        return Batches(self.schema, self)

    def to_reader(self) -> pa.RecordBatchReader:
        """The batches as a reader of pyarrow's."""
        return pa.RecordBatchReader.from_batches(self.schema, self)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The batches that are left, by the Arrow PyCapsule interface."""
        return self.to_reader().__arrow_c_stream__(requested_schema)

    def close(self) -> None:
        """Reads no further; idempotent."""
        self._closed = self.end is None

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("the reader was closed before the end of its stream")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


Pairs: TypeAlias = Mapping[bytes, bytes] | Sequence[tuple[bytes, bytes]]
Item: TypeAlias = pa.RecordBatch | tuple[pa.RecordBatch, Pairs | None]
"""A batch, or one with the key-value pairs of its message."""


class ArrowStream(Protocol):
    """Batches of any library, by Arrow's C interface."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The stream's capsule."""


BatchSource: TypeAlias = pa.RecordBatch | pa.Table | ArrowStream | Iterable[Item]


def _batches_of(source: BatchSource, schema: pa.Schema | None) -> tuple[pa.Schema, Iterator[Item]]:
    """Schema and batches of whatever holds some."""
    if isinstance(source, pa.RecordBatch):
        return source.schema, iter((source,))
    if isinstance(source, pa.Table):
        return source.schema, iter(source.to_batches())
    if isinstance(source, pa.RecordBatchReader | Batches | BatchIterator):
        return source.schema, iter(source)
    if hasattr(source, "__arrow_c_stream__"):
        reader = pa.RecordBatchReader.from_stream(source)
        return reader.schema, iter(reader)
    batches = iter(source)
    first = next(batches, None)
    if first is None:
        schema = schema or getattr(source, "schema", None)
        if schema is None:
            raise UsageError("there is no batch to take the schema from: pass schema=")
        return schema, iter(())
    return schema or _with_metadata(first)[0].schema, _chained(first, batches)


def _chained(first: Item, rest: Iterator[Item]) -> Iterator[Item]:
    yield first
    yield from rest


def write_stream(
    batches: BatchSource,
    sink: Sink | str | PurePath,
    *,
    schema: pa.Schema | None = None,
    compression: Codec | str | None = None,
    options: pa.ipc.IpcWriteOptions | None = None,
) -> int:
    """Writes one complete stream: schema, dictionaries, batches, end-of-stream marker.

    Buffers are handed to the sink from where they are, unless they are compressed.

    Args:
        batches: one batch, an iterable of them, a table, a reader, or anything that exports an
            Arrow stream. With a schema it may be empty: the stream then holds the schema alone. A
            batch may come as a pair with the key-value pairs of its message.
        sink: has ``write(buffer)`` and takes all it is given; or a path, whose file is made anew.
        schema: needed only if there may be no batch.
        compression: ``"lz4"``, ``"zstd"`` or None.
        options: pyarrow's write options instead.

    Returns:
        How many bytes were written.

    Raises:
        UsageError: no batch and no schema, or batches of different schemas.
    """
    chosen, remaining = _batches_of(batches, schema)
    encoder = BatchEncoder(chosen, compression=compression, options=options)
    with open_sink(sink) as file:
        file.write(encoder.schema_message)
        written = len(encoder.schema_message)
        for item in remaining:
            batch, custom_metadata = _with_metadata(item)
            if not batch.schema.equals(chosen):
                raise UsageError("the batches of one stream have one schema, this one differs")
            for message_buffers in encoder.encode(batch, custom_metadata):
                for buffer in message_buffers:
                    file.write(buffer)
                    written += memoryview(buffer).nbytes
        file.write(encoder.end_of_stream)
    return written + len(encoder.end_of_stream)


def _with_metadata(item: Item) -> tuple[pa.RecordBatch, Pairs | None]:
    """A batch and the key-value pairs of its message, if it comes as a pair."""
    batch, pairs = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
    if not isinstance(batch, pa.RecordBatch):
        raise UsageError(f"a {type(batch).__name__} is no record batch")
    return batch, pairs


def _open_stream(
    source: Input,
    offset: int,
    *,
    whole: bool = False,
    **options: Unpack[ReadOptions],
) -> BatchIterator:
    data = open_input(source)
    limits = options.get("limits", DEFAULT_LIMITS)
    walk: MessageIterator | FileMessageIterator
    length = None
    if isinstance(data, memoryview):
        if not 0 <= offset <= len(data):
            raise UsageError(f"offset {offset} lies outside the data of {len(data)} bytes")
        length = len(data)
        if bytes(data[offset : offset + len(MAGIC)]) == MAGIC:
            raise MalformedFrameError(
                "this is the file format, not the stream format: use open_file",
                layer="message",
                offset=offset,
            )
        walk = MessageIterator(data, offset, len(data), limits)
    else:
        if offset < 0:
            raise UsageError(f"offset {offset} is negative")
        walk = FileMessageIterator(data, offset, limits)
    schema = next(walk, None)
    if schema is None:
        left = 0 if length is None else length - offset
        raise truncated("the stream, before its schema message", offset, 8, left)
    decoder = BatchDecoder(schema, **options)
    return BatchIterator(walk, decoder, length if whole else None)


@overload
def read_stream_at(
    source: Input,
    offset: int = 0,
    *,
    lazy: Literal[False] = False,
    **options: Unpack[ReadOptions],
) -> tuple[Batches, int]: ...


@overload
def read_stream_at(
    source: Input,
    offset: int = 0,
    *,
    lazy: Literal[True],
    **options: Unpack[ReadOptions],
) -> BatchIterator: ...


def read_stream_at(
    source: Input,
    offset: int = 0,
    *,
    lazy: bool = False,
    **options: Unpack[ReadOptions],
) -> tuple[Batches, int] | BatchIterator:
    """Reads the stream that starts at ``offset``; returns its batches and where it ends.

    The end is exact: behind the end-of-stream marker, or the end of the data if there is none. An
    open file then stands there.

    Args:
        source: a path (mapped into memory), any contiguous buffer, or an open binary file, which is
            read from where it stands. The arrays borrow from a buffer and keep it alive.
        offset: where the stream starts in it; the end counts from the same place.
        lazy: return a `BatchIterator` that reads each batch when it is asked for, and knows the end
            once it is over.
        **options: ``limits``, ``validate_values``, ``trusted``, ``require_zero_copy``; see `ReadOptions`.

    Raises:
        UsageError: an offset outside the data.
        TruncatedStreamError: the data ends inside the stream, or holds nothing at the offset.
        MalformedFrameError: what stands there is no stream.
        LimitExceededError: it claims more than the limits.
        DecompressionError: a compressed buffer does not decode.
        InvalidDataError: contents that are not valid.
        ZeroCopyError: ``require_zero_copy`` cannot be kept.
    """
    reader = _open_stream(
        source,
        offset,
        **options,
    )
    if lazy:
        return reader
    batches = reader.read_rest()
    return batches, reader.end or 0


def read_stream(
    source: Input,
    **options: Unpack[ReadOptions],
) -> Batches:
    """Reads a stream that is all of a buffer or path; arguments and errors as for `read_stream_at`.

    Of an open file one stream is read, and nothing behind it.

    Raises:
        MalformedFrameError: also if bytes follow the stream, so that nothing is lost in silence.
    """
    reader = _open_stream(
        source,
        0,
        whole=True,
        **options,
    )
    return reader.read_rest()


def read_single_at(
    source: Input,
    offset: int = 0,
    **options: Unpack[ReadOptions],
) -> tuple[pa.RecordBatch, int]:
    """Reads a stream of exactly one batch; arguments and errors as for `read_stream_at`.

    Raises:
        InvalidDataError: also if the stream holds another number of batches, which it names.
    """
    batches, end = read_stream_at(
        source,
        offset,
        **options,
    )
    return _single(batches, offset), end


def _single(batches: Batches, offset: int) -> pa.RecordBatch:
    if len(batches) != 1:
        raise InvalidDataError(
            f"a stream of exactly one record batch was expected, this one has {len(batches)}",
            layer="stream",
            offset=offset,
            expected=1,
            actual=len(batches),
        )
    return batches[0]


def read_single(
    source: Input,
    **options: Unpack[ReadOptions],
) -> pa.RecordBatch:
    """Reads the one batch of a stream that is all of the data; see `read_single_at`, `read_stream`."""
    batches = read_stream(
        source,
        **options,
    )
    return _single(batches, 0)
