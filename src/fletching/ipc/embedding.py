"""Arrow streams inside a larger format: self-delimiting streams and length-prefixed sections.

A *stream* delimits itself by its end-of-stream marker, so it can stand between other bytes without
its length being written anywhere. A *section* is any bytes behind their length::

    u64 little-endian length | bytes

Everything that is read borrows from the buffer it is read from, which the arrays keep alive.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any, Final

import pyarrow as pa
from typing_extensions import Buffer

from fletching.errors import (
    InvalidDataError,
    LimitExceededError,
    MalformedFrameError,
    TruncatedStreamError,
    UsageError,
)
from fletching.ipc.batches import BatchDecoder
from fletching.ipc.encoding import BatchEncoder
from fletching.ipc.file_writer import Sink
from fletching.ipc.limits import DEFAULT_LIMITS, Limits
from fletching.ipc.message import MAGIC, as_view, truncated
from fletching.ipc.metadata import Codec
from fletching.ipc.walking import MessageIterator

__all__ = [
    "Batches",
    "read_prefixed",
    "read_prefixed_at",
    "read_single",
    "read_single_at",
    "read_stream",
    "read_stream_at",
    "write_prefixed",
    "write_stream",
]

_U64: Final = struct.Struct("<Q")


class Batches(list[pa.RecordBatch]):
    """The record batches of one stream, with the schema that an empty list would lose."""

    def __init__(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch] = ()) -> None:
        super().__init__(batches)
        self.schema = schema

    @property
    def num_rows(self) -> int:
        """Rows of all batches."""
        return sum(len(batch) for batch in self)

    def to_table(self) -> pa.Table:
        """The batches as a table that borrows like them."""
        return pa.Table.from_batches(self, schema=self.schema)


def _batches_of(source: Any, schema: pa.Schema | None) -> tuple[pa.Schema, Iterator[Any]]:
    """Schema and batches of whatever holds some."""
    if isinstance(source, pa.RecordBatch):
        return source.schema, iter((source,))
    if isinstance(source, pa.Table):
        return source.schema, iter(source.to_batches())
    if isinstance(source, pa.RecordBatchReader):
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


def _chained(first: pa.RecordBatch, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def write_stream(
    batches: Any,
    sink: Sink,
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
        sink: has ``write(buffer)`` and takes all it is given.
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
    sink.write(encoder.schema_message)
    written = len(encoder.schema_message)
    for item in remaining:
        batch, custom_metadata = _with_metadata(item)
        if not batch.schema.equals(chosen):
            raise UsageError("the batches of one stream have one schema, this one differs")
        for pieces in encoder.encode(batch, custom_metadata):
            for piece in pieces:
                sink.write(piece)
                written += memoryview(piece).nbytes
    sink.write(encoder.end_of_stream)
    return written + len(encoder.end_of_stream)


def _with_metadata(item: Any) -> tuple[pa.RecordBatch, Any]:
    """A batch and the key-value pairs of its message, if it comes as a pair."""
    batch, pairs = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
    if not isinstance(batch, pa.RecordBatch):
        raise UsageError(f"a {type(batch).__name__} is no record batch")
    return batch, pairs


def read_stream_at(
    data: Buffer,
    offset: int = 0,
    *,
    limits: Limits = DEFAULT_LIMITS,
    validate_values: bool = False,
    trusted: bool = False,
    require_zero_copy: bool = False,
) -> tuple[Batches, int]:
    """Reads the stream that starts at ``offset``; returns its batches and where it ends.

    The end is exact: behind the end-of-stream marker, or the end of the data if there is none.

    Args:
        data: any contiguous buffer; the arrays borrow from it and keep it alive.
        offset: where the stream starts.
        limits: what it may claim.
        validate_values: also check values against their types; see `validate`.
        trusted: skip the validation of contents; see `BatchDecoder`.
        require_zero_copy: raise where a column would have to be copied or decompressed.

    Raises:
        UsageError: an offset outside the data.
        TruncatedStreamError: the data ends inside the stream, or holds nothing at the offset.
        MalformedFrameError: what stands there is no stream.
        LimitExceededError: it claims more than the limits.
        DecompressionError: a compressed buffer does not decode.
        InvalidDataError: contents that are not valid.
        ZeroCopyError: ``require_zero_copy`` cannot be kept.
    """
    view = as_view(data)
    if not 0 <= offset <= len(view):
        raise UsageError(f"offset {offset} lies outside the data of {len(view)} bytes")
    if bytes(view[offset : offset + len(MAGIC)]) == MAGIC:
        raise MalformedFrameError(
            "this is the file format, not the stream format: use open_file",
            layer="message",
            offset=offset,
        )
    walk = MessageIterator(view, offset, len(view), limits)
    schema = next(walk, None)
    if schema is None:
        raise truncated("the stream, before its schema message", offset, 8, len(view) - offset)
    decoder = BatchDecoder(
        schema,
        limits=limits,
        validate_values=validate_values,
        trusted=trusted,
        require_zero_copy=require_zero_copy,
    )
    decoded = (decoder.decode(message) for message in walk)
    batches = Batches(decoder.schema, (batch for batch in decoded if batch is not None))
    return batches, walk.position


def read_stream(
    data: Buffer,
    *,
    limits: Limits = DEFAULT_LIMITS,
    validate_values: bool = False,
    trusted: bool = False,
    require_zero_copy: bool = False,
) -> Batches:
    """Reads a stream that is all of the data; arguments and errors as for `read_stream_at`.

    Raises:
        MalformedFrameError: also if bytes follow the stream, so that nothing is lost in silence.
    """
    batches, end = read_stream_at(
        data,
        limits=limits,
        validate_values=validate_values,
        trusted=trusted,
        require_zero_copy=require_zero_copy,
    )
    _check_end(data, end, "the stream")
    return batches


def read_single_at(
    data: Buffer,
    offset: int = 0,
    *,
    limits: Limits = DEFAULT_LIMITS,
    validate_values: bool = False,
    trusted: bool = False,
    require_zero_copy: bool = False,
) -> tuple[pa.RecordBatch, int]:
    """Reads a stream of exactly one batch; arguments and errors as for `read_stream_at`.

    Raises:
        InvalidDataError: also if the stream holds another number of batches, which it names.
    """
    batches, end = read_stream_at(
        data,
        offset,
        limits=limits,
        validate_values=validate_values,
        trusted=trusted,
        require_zero_copy=require_zero_copy,
    )
    if len(batches) != 1:
        raise InvalidDataError(
            f"a stream of exactly one record batch was expected, this one has {len(batches)}",
            layer="stream",
            offset=offset,
            expected=1,
            actual=len(batches),
        )
    return batches[0], end


def read_single(
    data: Buffer,
    *,
    limits: Limits = DEFAULT_LIMITS,
    validate_values: bool = False,
    trusted: bool = False,
    require_zero_copy: bool = False,
) -> pa.RecordBatch:
    """Reads the one batch of a stream that is all of the data; see `read_single_at`, `read_stream`."""
    batch, end = read_single_at(
        data,
        limits=limits,
        validate_values=validate_values,
        trusted=trusted,
        require_zero_copy=require_zero_copy,
    )
    _check_end(data, end, "the stream")
    return batch


def _check_end(data: Buffer, end: int, what: str) -> None:
    rest = len(as_view(data)) - end
    if rest:
        raise MalformedFrameError(
            f"{rest} bytes follow {what}; the functions whose names end in _at say where it ends",
            layer="stream",
            offset=end,
            expected=0,
            actual=rest,
        )


def write_prefixed(sink: Sink, data: Buffer | Iterable[Buffer]) -> int:
    """Writes one section: its length as u64, then the bytes; returns how many were written in all.

    Args:
        sink: has ``write(buffer)`` and takes all it is given.
        data: one buffer, or several that make up the section; they are not joined.
    """
    try:
        pieces = [as_view(data)]  # type: ignore[arg-type]  # what is no buffer raises TypeError
    except TypeError:
        pieces = [as_view(piece) for piece in data]  # type: ignore[union-attr]  # an iterable then
    length = sum(map(len, pieces))
    sink.write(_U64.pack(length))
    for piece in pieces:
        sink.write(piece)
    return _U64.size + length


def read_prefixed_at(data: Buffer, offset: int = 0) -> tuple[memoryview, int]:
    """The section at ``offset`` as a view, and where it ends.

    Raises:
        UsageError: an offset outside the data.
        TruncatedStreamError: the data ends inside the section.
    """
    view = as_view(data)
    if not 0 <= offset <= len(view):
        raise UsageError(f"offset {offset} lies outside the data of {len(view)} bytes")
    start = offset + _U64.size
    if start > len(view):
        raise _truncated_section("length", offset, _U64.size, len(view) - offset)
    (length,) = _U64.unpack_from(view, offset)
    if length > len(view) - start:
        raise _truncated_section("bytes", offset, length, len(view) - start)
    return view[start : start + length], start + length


def read_prefixed(source: Any, *, limits: Limits = DEFAULT_LIMITS) -> memoryview | None:
    """Reads the next section of a blocking file; None if the file ends before it. Or of a buffer.

    Args:
        source: has ``read(n)``, and ``readinto`` if the bytes are to be read straight into place;
            or a buffer that is exactly one section, of which a view is returned.
        limits: ``max_body_bytes`` bounds a section that is read from a file.

    Raises:
        TruncatedStreamError: the source ends inside the section.
        LimitExceededError: the section is longer than the limit; nothing was allocated for it.
        MalformedFrameError: bytes follow the section in a buffer.
    """
    if not hasattr(source, "read"):
        section, end = read_prefixed_at(source)
        _check_end(source, end, "the section")
        return section
    head = _read_exactly(source, _U64.size)
    if len(head) == 0:
        return None
    if len(head) < _U64.size:
        raise _truncated_section("length", 0, _U64.size, len(head))
    (length,) = _U64.unpack(head)
    if length > limits.max_body_bytes:
        raise LimitExceededError(
            "a section is too long", layer="section", actual=length, limit=limits.max_body_bytes
        )
    section = _read_exactly(source, length)
    if len(section) < length:
        raise _truncated_section("bytes", 0, length, len(section))
    return section


def _read_exactly(file: Any, length: int) -> memoryview:
    """Reads until there are so many bytes or the file ends, into memory aligned to 64 bytes."""
    target = memoryview(pa.allocate_buffer(length)).cast("B")
    readinto = getattr(file, "readinto", None)
    filled = 0
    while filled < length:
        if readinto is not None:
            count = readinto(target[filled:]) or 0
        else:
            chunk = file.read(length - filled)
            count = len(chunk)
            # Such a file hands out its own bytes, which need not be aligned.
            target[filled : filled + count] = chunk
        if not count:
            break
        filled += count
    return target[:filled].toreadonly()


def _truncated_section(what: str, offset: int, expected: int, actual: int) -> TruncatedStreamError:
    return TruncatedStreamError(
        f"the input ends inside a section's {what}: {expected} bytes expected, {actual} present",
        layer="section",
        offset=offset,
        expected=expected,
        actual=actual,
    )
