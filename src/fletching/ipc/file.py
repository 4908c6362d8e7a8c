"""`open_file`: random access to Arrow IPC files, at any offset inside a larger buffer or file."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from typing import Protocol, Self, Unpack, cast

import pyarrow as pa

from fletching.errors import MalformedFrameError, UsageError
from fletching.ipc.batches import BatchDecoder, ReadOptions
from fletching.ipc.file_writer import Block
from fletching.ipc.footer import read_footer
from fletching.ipc.limits import DEFAULT_LIMITS
from fletching.ipc.listed_messages import ListedMessages, check_not_replaced
from fletching.ipc.message import Message, framed_message
from fletching.ipc.metadata import MessageType
from fletching.ipc.projection import Projection, Projector
from fletching.ipc.source import (
    CLOSED,
    FileSource,
    Input,
    Source,
    is_path,
    merge_ranges,
    open_source,
)
from fletching.types import ByteRange

__all__ = ["ArrowFile", "open_file"]


class Closing(Protocol):
    """What is closed with a file."""

    def close(self) -> None:
        """Closes."""


class ArrowFile:
    """An Arrow IPC file, opened for random access by batch or row; see `open_file`.

    Batches of a mapped file borrow from the mapping, which lives as long as any of them. Reading
    from a Python file is not thread-safe; from memory it is, once the first batch was read.

    Attributes:
        schema: of the batches that come out (the chosen columns, if some were chosen).
        footer: blocks and custom metadata.
    """

    def __init__(
        self,
        source: Source,
        offset: int,
        length: int,
        *,
        columns: Sequence[str | int] | None,
        opened: Closing | None = None,
        **options: Unpack[ReadOptions],
    ) -> None:
        """Reads footer and schema message; errors as for `open_file`. ``opened`` is closed with it."""
        self._source = source
        self._opened = opened
        self._offset = offset
        self._limits = limits = options.get("limits", DEFAULT_LIMITS)
        self.footer = read_footer(source, offset, length, limits)
        self._listed = ListedMessages(source, offset, self.footer, limits)
        message = self._listed.footer_schema
        self._options = options
        self.schema_message = message
        self._projector: Projector | None = None
        if columns is not None:
            self._projector = Projector(message, columns, limits=limits)
            message = framed_message(self._projector.schema_message)
        self._decoder = BatchDecoder(message, **self._options)
        self.schema: pa.Schema = self._decoder.schema
        self._dictionaries_read = False
        self._row_starts = [0]  # of the batches whose metadata was read, and where the last ends

    # --- what is in it ---------------------------------------------------------------------------

    @property
    def num_record_batches(self) -> int:
        """How many record batches the file holds."""
        return len(self.footer.batches)

    @property
    def custom_metadata(self) -> dict[bytes, bytes]:
        """The footer's key-value pairs."""
        return self.footer.custom_metadata

    @property
    def num_rows(self) -> int:
        """Rows of all batches. The first use reads each batch's metadata, and keeps the sums."""
        self._know_rows(None)
        return self._row_starts[-1]

    def _know_rows(self, row: int | None) -> None:
        """Reads batches' metadata until the batch of a row is known; of all of them for None."""
        starts, count = self._row_starts, len(self)
        while len(starts) <= count and (row is None or starts[-1] <= row):
            first = len(starts) - 1
            # As many again as are known: a row far behind takes few steps, a near one little.
            end = count if row is None else min(count, max(8, 2 * first))
            for length in self._listed.row_counts(first, end):
                starts.append(starts[-1] + length)

    def row_range(self, index: int) -> tuple[int, int]:
        """First row of a batch, and the row behind its last. Reads the metadata of those before it."""
        index = self._index(index)
        if len(self._row_starts) < index + 2:
            first = len(self._row_starts) - 1
            for length in self._listed.row_counts(first, index + 1):
                self._row_starts.append(self._row_starts[-1] + length)
        return self._row_starts[index], self._row_starts[index + 1]

    def __len__(self) -> int:
        return len(self.footer.batches)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return (self[index] for index in range(len(self)))

    # --- messages ----------------------------------------------------------------------------------

    def message(self, index: int) -> Message:
        """The record batch message as stored, whole; its offset counts from the start of the source."""
        block = self.footer.batches[self._index(index)]
        return self._listed.message(block, MessageType.RECORD_BATCH)

    def _index(self, index: int) -> int:
        count = len(self.footer.batches)
        if not -count <= index < count:
            raise IndexError(f"batch {index} does not exist, the file has {count}")
        return index % count

    # --- batches -----------------------------------------------------------------------------------

    def __getitem__(self, index: int) -> pa.RecordBatch:
        """A record batch by number; negative numbers count from the end.

        Raises:
            IndexError: there is no such batch.
            WireError: any of its children, when the file is damaged; see `BatchDecoder.decode`.
        """
        self._read_dictionaries()
        block = self.footer.batches[self._index(index)]
        message = (
            self._listed.message(block, MessageType.RECORD_BATCH)
            if self._projector is None
            else self._projected(block, self._projector)
        )
        batch = self._decoder.decode(message)
        if batch is None:  # pragma: no cover - decode gives a batch for this type
            raise MalformedFrameError("no record batch", layer="footer")
        return batch

    def _read_dictionaries(self) -> None:
        if self._dictionaries_read:
            return
        wanted = set(self._decoder.header.dictionary_ids)
        known: set[int] = set()
        for block in self.footer.dictionaries if wanted else ():
            header = self._listed.header(block)
            if header.type is MessageType.DICTIONARY_BATCH and header.table.int64(0) not in wanted:
                continue
            message = self._listed.message(block, MessageType.DICTIONARY_BATCH)
            check_not_replaced(message, known, self._limits)
            self._decoder.decode(message)
        self._dictionaries_read = True

    def _projected(self, block: Block, projector: Projector) -> Message:
        """A message with the chosen columns only, of which only their bytes were read."""
        _, metadata = self._listed.metadata(block)
        self._listed.parsed(block, metadata)
        start = self._offset + block.offset + block.metadata_length
        if self._source.mapped:
            selected = projector.select(metadata)
            body = self._source.view(start, start + block.body_length)
            return Message(memoryview(selected), body, offset=self._offset + block.offset)
        self._listed.check_body_length(block)
        plan = projector.plan(metadata)
        wanted = [body_slice for body_slice in plan.slices if isinstance(body_slice, ByteRange)]
        reads = merge_ranges(wanted)
        views = [self._source.view(start + r.start, start + r.end) for r in reads]
        return _assembled(plan, reads, views, self._offset + block.offset)

    def slice(self, start: int, length: int | None = None) -> list[pa.RecordBatch]:
        """Rows ``start`` to ``start + length`` as slices of the batches they lie in, in order.

        The batch is found by binary search; a slice borrows like its batch. Rows beyond the end
        are not there: the result is shorter then, and empty if start is the number of rows.

        Args:
            start: first row, counted from 0.
            length: rows; None for all that follow.

        Raises:
            UsageError: a negative start or length, or a start behind the end.
        """
        if start < 0 or (length is not None and length < 0):
            raise UsageError(f"rows {start}, {length} cannot be")
        self._know_rows(None if length is None else start + length)
        starts = self._row_starts
        if start > starts[-1]:
            raise UsageError(f"row {start} does not lie in a file of {starts[-1]} rows")
        end = starts[-1] if length is None else min(starts[-1], start + length)
        index = bisect.bisect_right(starts, start) - 1
        slices: list[pa.RecordBatch] = []
        while start < end:
            stop = min(end, starts[index + 1])
            if stop > start:
                slices.append(self[index].slice(start - starts[index], stop - start))
                start = stop
            index += 1
        return slices

    def to_table(self) -> pa.Table:
        """All batches as one table, which borrows like them."""
        return pa.Table.from_batches(list(self), schema=self.schema)

    def to_reader(self) -> pa.RecordBatchReader:
        """The batches as a reader of pyarrow's, each read when it is asked for."""
        return pa.RecordBatchReader.from_batches(self.schema, iter(self))

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The batches by the Arrow PyCapsule interface, each read when it is asked for."""
        return self.to_reader().__arrow_c_stream__(requested_schema)

    def close(self) -> None:
        """Reads no further, and closes the file if it was opened here; idempotent.

        Batches that were read before stay valid: a mapping lives as long as any of them.
        """
        if self._opened is not None:
            self._opened.close()
        self._source = self._listed.source = CLOSED

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def select(self, columns: Sequence[str | int]) -> Self:
        """The same file with only these columns; shares the source."""
        return type(self)(
            self._source,
            self._offset,
            self.footer.end,
            columns=columns,
            **self._options,
        )


def _assembled(
    plan: Projection, reads: list[ByteRange], views: list[memoryview], offset: int
) -> Message:
    """The projected message from the ranges that were read."""
    body = memoryview(pa.allocate_buffer(plan.body_length)).cast("B")
    position = 0
    starts = [read.start for read in reads]
    for body_slice in plan.slices:
        if isinstance(body_slice, ByteRange):
            index = bisect.bisect_right(starts, body_slice.start) - 1
            base = starts[index]
            data: memoryview | bytes = views[index][body_slice.start - base : body_slice.end - base]
        else:
            data = body_slice
        # A copy: what was read has gaps that would otherwise stay in memory with the arrays.
        body[position : position + len(data)] = data
        position += len(data)
    return Message(memoryview(plan.prefix)[8:], body.toreadonly(), offset=offset)


def open_file(
    source: Input | Source,
    offset: int = 0,
    length: int | None = None,
    *,
    columns: Sequence[str | int] | None = None,
    memory_map: bool = True,
    **options: Unpack[ReadOptions],
) -> ArrowFile:
    """Opens an Arrow IPC file for random access. Costs one read of the footer and one of the schema.

    Args:
        source: a path (mapped into memory), any buffer, a seekable binary file, or a `Source`.
        offset: where the file starts in it.
        length: the file's bytes; None for all that follow.
        columns: read only these, by name or index: of a Python file, only their bytes are read
            (small gaps are read along), of a mapped one only their pages are touched.
        memory_map: False reads from a path instead of mapping it.
        **options: ``limits``, ``validate_values``, ``trusted``, ``require_zero_copy``; see `ReadOptions`.

    Raises:
        UsageError: a range outside the source, or an unknown column.
        TruncatedStreamError: the file is cut off or has no footer; `recover` may help.
        MalformedFrameError: it is no Arrow file, or a damaged one.
        LimitExceededError: it claims more than the limits.
        InvalidDataError: its schema is none.
    """
    opened = open_source(source, memory_map=memory_map)
    if length is None:
        length = opened.length - offset
    if offset < 0 or length < 0 or offset + length > opened.length:
        raise UsageError(
            f"{length} bytes at {offset} do not lie in a source of {opened.length} bytes"
        )
    return ArrowFile(
        opened,
        offset,
        length,
        columns=columns,
        opened=cast("Closing", opened.file)
        if isinstance(opened, FileSource) and is_path(source)
        else None,
        **options,
    )
