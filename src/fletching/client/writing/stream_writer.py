"""Streaming writes: rows are visible when a flush returns, each exactly once.

The rule of an exactly-once writer, and why nothing is lost or doubled:

- Every flush names the row offset at which its rows start, and the access token of this writer. The
  service appends at the offset it expects, recognises rows it already has, and refuses a gap, an
  overlap, or the token of a writer that another has replaced.
- Only an answer proves acceptance. When a request fails so that it may have been carried out, the
  writer asks the service for the stream's offset: at the end of the rows they are stored, and it
  goes on; at their start they are not, and they are sent again, at the same offset. Every other
  offset means that somebody else wrote: that is an error, never a guess, and no new stream.
- A writer that failed stays failed. Open the stream again with ``resume=True`` and go on from
  ``row_offset``, which is how many rows of the stream are stored.
"""

from __future__ import annotations

import warnings
from typing import Self

import msgspec
import pyarrow as pa

from fletching.client.retry import Effect, RetrySequence, effect_of
from fletching.client.table_schemas import write_schema
from fletching.client.tabular.alignment import aligned, with_constants
from fletching.client.tabular.tabular_data import batches_of
from fletching.client.transports.channel import Channel
from fletching.client.writing.batching import Body, BodyBuffer
from fletching.errors import (
    ConflictError,
    PayloadTooLargeError,
    RowOffsetError,
    ServiceError,
    TransportError,
    TruncatedStreamError,
    UsageError,
)
from fletching.protocol.messages.requests import (
    DEFAULT_SESSION_ID,
    CreateWriteStream,
    GetWriteStream,
    WriteTable,
)
from fletching.protocol.messages.responses import WriteResult, WriteStream
from fletching.protocol.messages.vocabulary import WriteMode
from fletching.types import PartitionSpec, TableName

__all__ = ["StreamingWriter"]

_VERSION = 1
"""Streaming writes have one attempt per stream: offsets, not versions, tell repetitions apart."""


class StreamingWriter:
    """Appends to a named stream of a table; made by ``table.stream_writer``. Not thread-safe.

    As a context manager it flushes at the end of the block; when the block raises, what is not
    flushed is dropped. One that goes out of use with rows that were not flushed warns of them
    (``ResourceWarning``).

    Attributes:
        stream_id: the stream's name, one per writing process.
        exactly_once: whether offsets guard the rows. Without, a flush whose answer was lost is
            repeated, and recognised only as long as the service remembers it.
        schema: what the service stores as it comes; data of another schema is cast to it.
        row_offset: rows of the stream that are stored and visible. Without ``exactly_once``, those
            of this writer.
        staging_id: the service's id of the latest flush; later ones compare greater.
    """

    def __init__(
        self,
        channel: Channel,
        table: TableName,
        stream_id: str,
        *,
        exactly_once: bool = True,
        resume: bool = False,
        partition: PartitionSpec | None = None,
        write_mode: WriteMode = WriteMode.STREAMING,
    ) -> None:
        if not write_mode.is_streaming:
            raise UsageError(f"a stream writer needs a streaming write mode, not {write_mode}")
        if resume and not exactly_once:
            raise UsageError("only an exactly-once stream can be resumed: others have no offset")
        self._channel = channel
        self._table = table
        self._partition = partition or PartitionSpec()
        self._write_mode = write_mode
        self.stream_id = stream_id
        self.exactly_once = exactly_once
        stream = self._fence_stream() if resume else self._create_stream()
        self._stream = stream
        self.schema: pa.Schema = write_schema(stream)
        self._buffer = BodyBuffer(channel.options.write_body_bytes)
        stored = stream.row_offset or 0
        if resume and stream.row_offset is None:
            raise ConflictError(
                f"the service does not tell the row offset of stream {stream_id!r}; "
                "it cannot be resumed without a guess"
            )
        self.row_offset = stored if resume else 0
        # A new writer on a stream with rows would have its first rows taken for repetitions.
        self._unexpected_rows = 0 if resume or not exactly_once else stored
        self.staging_id: str | None = None
        self._failure: str | None = None

    def write(self, data: object) -> int:
        """Takes tabular data (see `fletching.client.tabular.tabular_data`), sends what fills a body; returns its rows.

        Raises:
            UsageError: data of another shape, or the writer is closed or has failed.
            RowOffsetError: the stream is not where this writer left it; nothing was appended.
            ConflictError: the stream has rows already and was not resumed.
            NoPermissionError: another writer has taken the stream over.
            ServiceError: the service refused.
            TransportError: no answer within the retry budget; resume to learn what is stored.
        """
        self._check_open()
        rows = 0
        stream = batches_of(data, self.schema)
        if self._partition:
            stream = with_constants(stream, self._partition, self.schema)
        for batch in aligned(stream, self.schema):
            rows += batch.num_rows
            for body in self._buffer.add(batch):
                self._send(body)
        return rows

    def flush(self) -> int:
        """Sends what is held; returns `row_offset` when all of it is stored and visible.

        Raises:
            UsageError, ServiceError, TransportError: as `write`.
        """
        self._check_open()
        body = self._buffer.take()
        if body is not None:
            self._send(body)
        return self.row_offset

    def close(self) -> None:
        """Flushes and ends the writer; the stream stays and can be resumed. Idempotent.

        Raises:
            ServiceError, TransportError: as `write`.
        """
        if self._failure is None:
            self.flush()
            self._failure = "closed"
        self._buffer.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *exc: object) -> None:
        """Flushes, or drops what is held if the block raised."""
        if exc_type is None:
            self.close()
        else:
            self._buffer.clear()
            self._failure = self._failure or "closed after an error"

    def __del__(self) -> None:
        """Warns of rows that were written and are lost, as Python does of files that were not closed."""
        buffer = getattr(self, "_buffer", None)
        if buffer is not None and buffer.held_rows:
            message = (
                f"stream writer {self.stream_id!r} was dropped with {buffer.held_rows} rows that were never sent:"
                " flush or close it"
            )
            warnings.warn(message, ResourceWarning, stacklevel=2, source=self)

    # --- the service -------------------------------------------------------------------------

    def _create_stream(self) -> WriteStream:
        return self._channel.call(
            CreateWriteStream(
                table=self._table,
                session_id=DEFAULT_SESSION_ID,
                stream_id=self.stream_id,
                stream_version=_VERSION,
                write_mode=self._write_mode,
                exactly_once=self.exactly_once,
            )
        )

    def _get_request(self, *, fence: bool) -> GetWriteStream:
        return GetWriteStream(
            table=self._table,
            session_id=DEFAULT_SESSION_ID,
            stream_id=self.stream_id,
            stream_version=_VERSION,
            write_mode=self._write_mode,
            exactly_once=fence,
        )

    def _fence_stream(self) -> WriteStream:
        """Looks the stream up, and makes this writer the only one that may write."""
        return self._channel.call(self._get_request(fence=True))

    def _check_open(self) -> None:
        if self._failure is not None:
            raise UsageError(
                f"stream writer {self.stream_id!r} is at its end ({self._failure}); open the stream "
                "again with resume=True and go on from its row_offset"
            )
        if self._unexpected_rows:
            raise ConflictError(
                f"stream {self.stream_id!r} already has {self._unexpected_rows} rows: open it with "
                "resume=True and go on from its row_offset, or write to another stream"
            )

    # --- sending -----------------------------------------------------------------------------

    def _send(self, body: Body) -> None:
        try:
            if self.exactly_once:
                self._send_exactly_once(body)
            else:
                self._done(self._repeatedly(body), body)
        except PayloadTooLargeError as exc:
            # The service took nothing of it, so its halves may follow at the same offset.
            halves = body.halves()
            if halves is None:
                self._fail(exc)
                raise
            for half in halves:
                self._send(half)
        except BaseException as exc:
            self._fail(exc)
            raise

    def _fail(self, exc: BaseException) -> None:
        self._failure = f"{type(exc).__name__} while flushing"
        self._buffer.clear()

    def _request(self, body: Body) -> WriteTable:
        return WriteTable(
            table=self._table,
            session_id=DEFAULT_SESSION_ID,
            stream_id=self.stream_id,
            stream_version=_VERSION,
            write_mode=self._write_mode,
            count=body.rows,
            table_id=self._stream.table_id or None,
            schema_version=self._stream.schema_version or None,
        )

    def _repeatedly(self, body: Body) -> WriteResult:
        request = self._request(body)
        result: WriteResult = self._channel.retrying(
            lambda attempt: self._write(request, body, attempt), repeatable=True
        )
        return result

    def _write(self, request: WriteTable, body: Body, attempt: RetrySequence) -> WriteResult:
        return self._channel.transport.write(request, body.batches, body.schema, attempt)

    def _send_exactly_once(self, body: Body) -> None:
        sequence = self._channel.sequence()
        must_ask = False
        while True:
            try:
                if must_ask and self._is_stored(body, sequence):
                    self.row_offset += body.rows
                    return
                must_ask = False
                request = msgspec.structs.replace(
                    self._request(body),
                    row_offset=self.row_offset,
                    access_token=self._stream.access_token,
                )
                self._done(self._write(request, body, sequence), body)
            except (ServiceError, TransportError, TruncatedStreamError) as error:
                # Once unknown, unknown until the service has said where the stream is: a later
                # failure to connect says nothing about the earlier attempt.
                must_ask = must_ask or effect_of(error) is Effect.UNKNOWN
                sequence.wait(error, repeatable=True)
            else:
                return

    def _is_stored(self, body: Body, sequence: RetrySequence) -> bool:
        """Asks where the stream is after a failure that leaves it open whether the rows arrived."""
        stream = self._ask(sequence, fence=False)
        if stream.row_offset is None:
            # A service that tells the offset only together with a new access token.
            stream = self._ask(sequence, fence=True)
            self._stream = msgspec.structs.replace(self._stream, access_token=stream.access_token)
        start, end = self.row_offset, self.row_offset + body.rows
        if stream.row_offset not in {start, end}:
            raise RowOffsetError(
                f"stream {self.stream_id!r} is at row offset {stream.row_offset} where this writer "
                f"expects {start} or {end}: somebody else wrote to it",
                expected_offset=stream.row_offset,
            )
        return stream.row_offset == end

    def _ask(self, sequence: RetrySequence, *, fence: bool) -> WriteStream:
        return self._channel.transport.call(self._get_request(fence=fence), sequence)

    def _done(self, result: WriteResult, body: Body) -> None:
        end = self.row_offset + body.rows
        if self.exactly_once and result.exactly_once_row_offset not in {None, end}:
            raise RowOffsetError(
                f"stream {self.stream_id!r} is at row offset {result.exactly_once_row_offset} after "
                f"rows that end at {end}: it does not hold what this writer wrote",
                expected_offset=result.exactly_once_row_offset,
            )
        self.row_offset = end
        self.staging_id = result.staging_id or self.staging_id
