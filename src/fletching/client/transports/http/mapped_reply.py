"""Rows of a service on this host, read out of the segments' files, whose descriptors it passed.

The batches borrow from mappings of the files, as those of a client in the service's own process do;
nothing is copied. What the service stores it has validated and proven against its checksums; here
metadata is checked, so that no batch reaches outside its message, and values are taken as they are:
whoever can write the files could change them after any look at them.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator

import pyarrow as pa

from fletching.client.cancellation import Cancellation
from fletching.client.transports.http.passed_files import PassedFiles
from fletching.client.transports.transport import BatchSource
from fletching.errors import CorruptObjectError, ProtocolError, StorageError, WireError
from fletching.ipc import Message
from fletching.ipc.batches import BatchDecoder
from fletching.ipc.limits import DEFAULT_LIMITS, Limits
from fletching.ipc.message import framed_message, message_at
from fletching.ipc.metadata import HeaderReader
from fletching.protocol.messages.mapped_rows import (
    CONSTANT,
    MappedRows,
    SegmentLayout,
    SegmentRun,
    ServiceRun,
)
from fletching.protocol.types.constant_columns import constant_column

__all__ = ["MappedReply", "MappedSegment", "MappedSegments"]


class MappedSegment:
    """A segment's file, mapped. Views of it keep the mapping alive."""

    _descriptor = -1

    def __init__(self, descriptor: int, length: int) -> None:
        """Takes the descriptor over, but of a file that cannot be mapped: that is the caller's still.

        Raises:
            OSError, ValueError: it cannot be mapped, or is shorter than it should be.
        """
        self._map = memoryview(mmap.mmap(descriptor, length, access=mmap.ACCESS_READ))
        self._descriptor = descriptor

    def view(self, start: int, end: int) -> memoryview:
        """Bytes ``start`` to ``end``.

        Raises:
            CorruptObjectError: the file was cut since: using its pages would be a fatal signal.
        """
        size = os.fstat(self._descriptor).st_size
        if size < end:
            raise CorruptObjectError(f"a segment ends at byte {size}; it had {len(self._map)}")
        return self._map[start:end]

    @property
    def is_deleted(self) -> bool:
        """Whether the file has no name any more, so that only mappings keep its disk space."""
        return os.fstat(self._descriptor).st_nlink == 0

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


class MappedSegments(PassedFiles[MappedSegment]):
    """The mappings used last."""

    def __init__(self) -> None:
        super().__init__(MappedSegment)

    def take(self, descriptors: list[int], lengths: tuple[int, ...]) -> list[MappedSegment]:
        """The mappings of open files, whose descriptors are this object's from now on.

        Raises:
            StorageError: one cannot be mapped.
        """
        try:
            return self.open(descriptors, lengths)
        except (OSError, ValueError) as error:
            raise StorageError(f"a segment's file cannot be mapped: {error}") from error


Following = Callable[[int], BatchSource]
"""Reads on behind so many rows of what was asked for."""
ByService = Callable[[ServiceRun], BatchSource]
"""Reads rows from the service."""


class MappedReply:
    """The batches of one read; a `fletching.client.transports.transport.BatchSource`."""

    def __init__(
        self,
        message: MappedRows,
        segments: list[MappedSegment],
        request_id: str | None,
        *,
        cancellation: Cancellation,
        by_service: ByService,
        following: Following,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """Reads no batch yet.

        Args:
            message: where the rows are.
            segments: those that it speaks of.
            request_id: the service's id of the request.
            cancellation: what the read was asked for under.
            by_service: reads what must come from the service.
            following: reads on behind these rows.
            limits: what messages may claim.

        Raises:
            WireError: the reply's schema, or a segment's, is none.
        """
        self._message = message
        self._segments = segments
        self._cancellation = cancellation
        self._by_service = by_service
        self._following = following
        self._limits = limits
        self._source: BatchSource | None = None
        self.request_id = request_id
        self.schema: pa.Schema = BatchDecoder(framed_message(message.schema), limits=limits).schema
        self._layouts = [_Layout(each, self.schema, limits) for each in message.layouts]

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """The batches; ends behind the last row.

        Raises:
            CorruptObjectError: a file was cut, or a batch in it does not decode.
            OperationCancelledError: the read was cancelled.
            ServiceError, TransportError: the service, where it is asked.
        """
        for run in self._message.runs:
            if isinstance(run, ServiceRun):
                yield from self._from(self._by_service(run))
            else:
                yield from self._from_segment(run)
        if self._message.more:
            yield from self._from(self._following(self._message.rows))

    def _from(self, source: BatchSource) -> Iterator[pa.RecordBatch]:
        self._source = source
        yield from source
        source.close()
        self._source = None

    def _from_segment(self, run: SegmentRun) -> Iterator[pa.RecordBatch]:
        segment, layout = self._segments[run.segment], self._layouts[run.layout]
        decode = layout.decoder(segment, run)
        skip, left = run.skip, run.rows
        try:
            for start, end, rows in run.entries():
                self._cancellation.check()
                if left <= 0:
                    return
                batch = decode(layout.message(segment, start, end))
                if batch is None or batch.num_rows != rows:
                    raise CorruptObjectError(f"a stored batch has not the {rows} rows of its index")
                if skip or rows > left:
                    batch = batch.slice(skip, left)
                    skip = 0
                left -= batch.num_rows
                if batch.num_rows:
                    yield layout.apply(batch)
        except WireError as error:
            raise CorruptObjectError(
                f"a stored record batch does not decode: {error.message}"
            ) from error

    def hurry(self) -> None:
        """Nothing is waited for but what the service is asked for."""
        if self._source is not None:
            self._source.hurry()

    def close(self) -> None:
        """Gives up the mappings, which batches keep, and what the service is asked for."""
        source, self._source = self._source, None
        if source is not None:
            source.close()
        self._segments = []


class _Layout:
    """Segments of one schema, and how their columns become the reply's."""

    def __init__(self, layout: SegmentLayout, schema: pa.Schema, limits: Limits) -> None:
        self._schema_message = framed_message(layout.schema)
        self._limits = limits
        # Bytes at rest were validated when they came in and are under checksums since.
        self._decoder = BatchDecoder(self._schema_message, limits=limits, trusted=True)
        self._headers = HeaderReader()
        self._columns = layout.columns
        self._constants = layout.constants
        self._schema = schema
        stored: pa.Schema = self._decoder.schema
        if len(layout.columns) != len(schema) or not all(
            CONSTANT <= column < len(stored) for column in layout.columns
        ):
            raise ProtocolError("a layout is not that of the reply's columns", side="remote")
        self._selected = layout.selected and CONSTANT not in layout.columns
        self._same = self._selected and list(layout.columns) == list(range(len(stored)))

    def decoder(
        self, segment: MappedSegment, run: SegmentRun
    ) -> Callable[[Message], pa.RecordBatch | None]:
        """What decodes the run's batches, its dictionaries read."""
        if not self._decoder.has_dictionaries:
            return self._decoder.decode
        decoder = self._decoder.anew()
        waiting = iter(run.dictionary_entries())
        following = next(waiting, None)

        def decode(message: Message) -> pa.RecordBatch | None:
            nonlocal following
            # A later dictionary may replace an earlier one: each is read before the batches behind it.
            while following is not None and following[0] < message.offset:
                decoder.decode(self.message(segment, following[0], following[1]))
                following = next(waiting, None)
            return decoder.decode(message)

        return decode

    def message(self, segment: MappedSegment, start: int, end: int) -> Message:
        """The message at a place of the file."""
        view = segment.view(start, end)
        result = message_at(view, 0, len(view), self._limits, self._headers.read)
        if not isinstance(result, Message):
            raise CorruptObjectError("a segment ends where a record batch should be")
        result.offset = start
        return result

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows of a stored batch as the reply has them; shares every stored value."""
        if self._same:
            return batch
        if self._selected:
            return batch.select(list(self._columns))
        constants = iter(self._constants)
        arrays = [
            constant_column(field.type, next(constants), batch.num_rows)
            if column == CONSTANT
            else batch.column(column)
            for field, column in zip(self._schema, self._columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)
