"""What a transport does: the same few verbs over HTTP and in process.

Above this interface nothing knows which of the two it speaks to; one test suite proves both.
A transport makes one attempt and reports its failure; repeating is the caller's decision
(`fletching.client.retry`), because only the caller knows what may be repeated and from which row.
Every verb may be broken off by ``attempt.cancellation``, and then raises `OperationCancelledError`
(or a `TransportError` that the retry rule turns into it).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, Self

import pyarrow as pa

from fletching.client.blobs.blob_transfers import BlobTransport
from fletching.client.cancellation import Cancellation
from fletching.client.retry import RetrySequence
from fletching.protocol.messages.requests import (
    AppendRows,
    CreateReadSession,
    PreviewTable,
    ReadInstance,
    ReadTable,
    Reply_co,
    Request,
    WriteTable,
)
from fletching.protocol.messages.responses import ReadSession, WriteResult

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["BatchSource", "BytesSink", "BytesSource", "ReadRequest", "Transport"]

ReadRequest = ReadTable | PreviewTable | ReadInstance
"""The requests whose reply is an Arrow IPC stream."""


class BatchSource(Protocol):
    """The reply to a read: a schema, then record batches until the end-of-stream marker.

    Iterating raises `TransportError` or `TruncatedStreamError` when the reply ends early, never
    `StopIteration`: the end of the data is the marker and nothing else. It ends with
    `OperationCancelledError` when what it was opened under is cancelled. Batches borrow the buffers
    they came in (over HTTP one per message, or a block of some small ones; embedded the mapped segment), which live as long as
    any batch of them does. Not thread-safe.
    """

    schema: pa.Schema
    request_id: str | None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """The batches; can be iterated once."""
        ...

    def hurry(self) -> None:
        """Says that every row is here, so that the end of the reply is waited for a moment only."""
        ...

    def close(self) -> None:
        """Gives the connection back, or drops it if the reply was not read to its end; idempotent."""
        ...


class BytesSource(Protocol):
    """The reply to a read as the bytes of its Arrow IPC stream."""

    @property
    def request_id(self) -> str | None:
        """The service's id of the request, if it says one."""
        ...

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fills ``buffer`` from the start; returns how much, 0 only at the end of the reply."""
        ...

    def close(self) -> None:
        """As `BatchSource.close`."""
        ...


class BytesSink(Protocol):
    """The body of one TableWrite, given as bytes of an Arrow IPC stream."""

    def write(self, data: ReadableBuffer) -> None:
        """Sends bytes; the buffer is not kept."""
        ...

    def finish(self) -> WriteResult:
        """Ends the body and returns the service's reply; the rows are as durable as it says."""
        ...

    def abort(self) -> None:
        """Breaks the request off: nothing of it takes effect; idempotent."""
        ...


class Transport(BlobTransport, Protocol):
    """One way to reach a service. Thread-safe. The verbs for blobs are in `BlobTransport`."""

    supports_parallel_reads: bool
    """Whether reading several splits at once can be faster than one after another."""

    cancellation: Cancellation
    """What every call is made under; cancelled by `close`."""

    @property
    def default_connections(self) -> int:
        """How many connections a scan uses whose caller has not chosen, by what is known now."""
        ...

    def call(self, request: Request[Reply_co], attempt: RetrySequence) -> Reply_co:
        """Sends a request whose reply is one value.

        Raises:
            ServiceError: the service refused.
            TransportError: the exchange failed.
        """
        ...

    def open_session(
        self, request: CreateReadSession, attempt: RetrySequence
    ) -> tuple[ReadSession, BatchSource | None]:
        """Opens a read session; with the rows of its first split, where that saves a round trip.

        Raises:
            ServiceError: the service refused.
            TransportError: the exchange failed.
            WireError: the rows do not begin as an Arrow IPC stream.
        """
        ...

    def read(self, request: ReadRequest, attempt: RetrySequence) -> BatchSource:
        """Starts reading; returns when the schema has arrived.

        Raises:
            ServiceError: the service refused.
            TransportError: the exchange failed.
            WireError: the reply is not an Arrow IPC stream.
        """
        ...

    def write(
        self,
        request: WriteTable | AppendRows,
        batches: Sequence[pa.RecordBatch],
        schema: pa.Schema,
        attempt: RetrySequence,
    ) -> WriteResult:
        """Sends batches of one schema as one body; returns when the service has answered.

        Raises:
            ServiceError: the service refused; nothing of the body was stored.
            TransportError: the exchange failed; whether the body was stored is unknown.
        """
        ...

    def open_read(self, request: ReadRequest, attempt: RetrySequence) -> BytesSource:
        """As `read`, but gives the bytes of the Arrow IPC stream."""
        ...

    def open_write(self, request: WriteTable | AppendRows, attempt: RetrySequence) -> BytesSink:
        """As `write`, but takes the bytes of an Arrow IPC stream as they come."""
        ...

    def close(self) -> None:
        """Closes connections or the engine and ends the calls of other threads; idempotent.

        Later calls raise `OperationCancelledError`; what was handed out may fail.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...
