"""Writes record batches to one write stream of a session.

Batches are gathered into bodies of bounded size; each body is one TableWrite. A body that may or
may not have arrived is sent again under the same trace id, which the service recognises, so
its rows are stored once. Only a closed stream version is committed: a writer that fails leaves nothing
behind, and the stream can be written anew under the next version.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import pyarrow as pa

from fletching.client.cancellation import Cancellation
from fletching.client.retry import RetrySequence
from fletching.client.table_schemas import write_schema
from fletching.client.tabular.alignment import aligned
from fletching.client.tabular.tabular_data import batches_of
from fletching.client.transports.channel import Channel
from fletching.client.writing.batching import Body, BodyBuffer
from fletching.client.writing.commit_message import CommitMessage
from fletching.errors import PayloadTooLargeError, UsageError
from fletching.protocol.messages.requests import CloseWriteStream, CreateWriteStream, WriteTable
from fletching.protocol.messages.responses import WriteResult
from fletching.protocol.messages.vocabulary import WriteMode
from fletching.types import TableName

__all__ = ["ArrowWriter"]


class ArrowWriter:
    """One attempt (stream id, stream version) at one write stream; made by `WriteSession.writer`.

    As a context manager it closes the stream when the block succeeds and leaves it unclosed, so
    never committed, when it raises. Not thread-safe: one writer per thread, as many writers as
    wanted per session.

    Attributes:
        stream_id, stream_version: the attempt.
        closed: whether it can be committed.
        failed: whether an error ended it; then the session is not committed before another attempt
            at the same stream is closed.
        schema: what the service stores as it comes; data of another schema is cast to it.
        rows: rows the service has acknowledged.
    """

    def __init__(
        self,
        channel: Channel,
        table: TableName,
        session_id: str,
        stream_id: str,
        stream_version: int,
        *,
        write_mode: WriteMode = WriteMode.BATCH,
        schema: pa.Schema | None = None,
        partition_columns: Iterable[str] = (),
    ) -> None:
        # Those that the schema lacks have the values that the session's partition says.
        self._fixed = {name.casefold() for name in partition_columns}
        self._channel = channel
        self._cancellation = Cancellation(channel.cancellation)
        self._table = table
        self._session_id = session_id
        self._write_mode = write_mode
        self.stream_id = stream_id
        self.stream_version = stream_version
        stream = channel.call(
            CreateWriteStream(
                table=table,
                session_id=session_id,
                stream_id=stream_id,
                stream_version=stream_version,
                write_mode=write_mode,
            )
        )
        self._stream = stream
        self.schema: pa.Schema = write_schema(stream) if schema is None else schema
        self._buffer = BodyBuffer(channel.options.write_body_bytes)
        self.rows = 0
        self.closed = False
        self.failed = False
        self.abandoned = False

    def write(self, data: object) -> int:
        """Takes tabular data (see `fletching.client.tabular.tabular_data`), sends what fills a body; returns its rows.

        Data is borrowed until it was sent. Iterables are consumed as they are sent.

        Raises:
            UsageError: data of another shape, or the writer is closed or failed.
            ServiceError: the service refused; the stream version is lost.
            TransportError: no answer within the retry budget; likewise.
        """
        self._check_open()
        rows = 0
        for batch in aligned(batches_of(data, self.schema), self.schema, fixed=self._fixed):
            rows += batch.num_rows
            for body in self._buffer.add(batch):
                self._send(body)
        return rows

    def flush(self) -> None:
        """Sends what is held; returns when the service has stored it, still invisible.

        Raises:
            ServiceError, TransportError: as `write`.
        """
        self._check_open()
        body = self._buffer.take()
        if body is not None:
            self._send(body)

    def close(self) -> None:
        """Sends what is held and closes the stream version, so that it can be committed; idempotent.

        Raises:
            ServiceError, TransportError: as `write`.
        """
        if self.closed:
            return
        self.flush()
        self._channel.call(
            CloseWriteStream(
                table=self._table,
                session_id=self._session_id,
                stream_id=self.stream_id,
                stream_version=self.stream_version,
                write_mode=self._write_mode,
            )
        )
        self.closed = True

    @property
    def message(self) -> CommitMessage:
        """What this stream version is, for whoever commits the session.

        Raises:
            UsageError: the writer is not closed, so that there is nothing to commit.
        """
        if not self.closed:
            raise UsageError(f"writer {self.stream_id!r} is not closed: close it, then commit")
        return CommitMessage(self._session_id, self.stream_id, self.stream_version, self.rows)

    def cancel(self) -> None:
        """Ends a write that waits in another thread, which raises `OperationCancelledError` there.

        Returns at once; nothing of the stream version is committed. Every thread may call it.
        """
        self._cancellation.cancel("the writer was cancelled")

    def abandon(self) -> None:
        """Gives the stream version up on purpose: what it wrote is never committed; idempotent."""
        if not self.closed:
            self.abandoned = True
            self._buffer.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *exc: object) -> None:
        """Closes the stream version, or gives it up if the block raised."""
        if exc_type is None:
            self.close()
        else:
            self._fail()

    def _fail(self) -> None:
        if not self.closed:
            self.failed = True
            self._buffer.clear()

    def _check_open(self) -> None:
        if self.closed:
            raise UsageError(f"writer {self.stream_id!r} is closed; open another stream")
        if self.failed or self.abandoned:
            raise UsageError(
                f"writer {self.stream_id!r} was given up and nothing of it will be committed; open "
                "the stream again with session.writer(...) and write its rows anew"
            )

    def _send(self, body: Body) -> None:
        request = WriteTable(
            table=self._table,
            session_id=self._session_id,
            stream_id=self.stream_id,
            stream_version=self.stream_version,
            write_mode=self._write_mode,
            count=body.rows,
            table_id=self._stream.table_id or None,
            schema_version=self._stream.schema_version or None,
        )
        try:
            self._channel.retrying(
                lambda attempt: self._write(request, body, attempt),
                repeatable=True,
                cancellation=self._cancellation,
            )
        except PayloadTooLargeError:
            # The service took nothing of it; what it allows is known only to it.
            halves = body.halves()
            if halves is None:
                self._fail()
                raise
            for half in halves:
                self._send(half)
            return
        except BaseException:
            # Which of the rows are stored is unknown now, so no later ones may follow them.
            self._fail()
            raise
        self.rows += body.rows

    def _write(self, request: WriteTable, body: Body, attempt: RetrySequence) -> WriteResult:
        return self._channel.transport.write(request, body.batches, body.schema, attempt)
