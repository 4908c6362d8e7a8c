"""Reads the rows of one split as record batches, and goes on by row after a broken connection."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Self, TypeVar

import msgspec
import pyarrow as pa

from fletching.client.cancellation import Cancellation
from fletching.client.reading.resume_token import ResumeToken
from fletching.client.retry import RetrySequence
from fletching.client.tabular.alignment import align_batch, empty_batch, joined
from fletching.client.transports.channel import Channel
from fletching.client.transports.transport import BatchSource
from fletching.errors import (
    ProtocolError,
    ServiceError,
    TransportError,
    TruncatedStreamError,
    UsageError,
)
from fletching.protocol.messages.requests import ReadTable

__all__ = ["ArrowReader"]

_T = TypeVar("_T")


class ArrowReader:
    """The record batches of one split, in order; has the surface of ``pyarrow.RecordBatchReader``.

    The connection is opened by the first use. When it breaks, or the service restarts, the reader
    asks for the rest from the row it has reached; what was handed out is never repeated and nothing
    is left out, because a read session is a snapshot. Only the end-of-stream marker (or the last
    row of a split whose length is known) ends the data.

    At most one batch is in memory beside those the caller holds. Batches borrow the memory that
    they were received into, which small ones share (2 MiB); nothing is copied. Not thread-safe but for `cancel`, which any thread may call.

    Attributes:
        row: how many rows of the split have been handed out.
        request_id: of the latest request; quote it when asking the service's operator.
    """

    def __init__(
        self,
        channel: Channel,
        token: ResumeToken,
        *,
        schema: pa.Schema | None = None,
        begun: BatchSource | None = None,
        cancellation: Cancellation | None = None,
    ) -> None:
        """Asks for nothing yet.

        Args:
            channel: how it calls.
            token: where it reads.
            schema: of the batches, where it is known.
            begun: the reply to the first request, if it is there already.
            cancellation: what that was asked for under; None makes one.
        """
        self._channel = channel
        self._cancellation = cancellation or Cancellation(channel.cancellation)
        self._begun = begun
        self._token = token
        self._schema = schema
        self._source: BatchSource | None = None
        self._batches: Iterator[pa.RecordBatch] | None = None
        self._positions: list[int] | None = None
        self._sequence: RetrySequence | None = None
        self._aligns = False
        self._ended = False
        self.row = token.row
        self.request_id: str | None = None

    @property
    def schema(self) -> pa.Schema:
        """The schema of the batches; asks the service if it is not known yet.

        Raises:
            ServiceError: the service refused.
            TransportError: no reply within the retry budget.
        """
        while self._schema is None:
            self._attempt(self._connect)
        return self._schema

    @property
    def token(self) -> ResumeToken:
        """Where reading would go on: durable text, see `ResumeToken`."""
        return self._token.at(self.row)

    def read_next_batch(self) -> pa.RecordBatch:
        """The next batch.

        Raises:
            StopIteration: there is none.
            ServiceError: the service refused.
            TransportError: the connection broke and no other could be made within the retry budget.
            WireError: the reply is not a correct Arrow IPC stream.
            OperationCancelledError: the reader was cancelled, or its client closed.
        """
        while not self._ended:
            batch = self._attempt(self._advance)
            if batch is not None and batch.num_rows:
                return batch
        raise StopIteration

    def read(self) -> pa.RecordBatch | None:
        """The next batch, or None at the end."""
        return next(self, None)

    def read_all(self) -> pa.Table:
        """The remaining rows as a table."""
        schema = self.schema
        return joined(self, schema)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self

    def __next__(self) -> pa.RecordBatch:
        return self.read_next_batch()

    def to_reader(self) -> pa.RecordBatchReader:
        """The remaining batches as pyarrow's own kind of reader."""
        return pa.RecordBatchReader.from_batches(self.schema, self)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The remaining batches for any library that takes Arrow's C stream."""
        return self.to_reader().__arrow_c_stream__(requested_schema)

    def cancel(self) -> None:
        """Ends a read that waits in another thread, whatever for; the reader is of no use then.

        Returns at once; the read raises `OperationCancelledError`.
        """
        self._cancellation.cancel("the reader was cancelled")

    def close(self) -> None:
        """Gives the connection back; idempotent."""
        self._ended = True
        self._drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- one attempt after another -----------------------------------------------------------

    def _attempt(self, step: Callable[[], _T]) -> _T | None:
        """Takes one step; a failure that may pass is waited for and forgotten."""
        try:
            self._cancellation.check()
            return step()
        except (ServiceError, TransportError, TruncatedStreamError) as error:
            self._drop()
            # `wait` raises the error itself when another attempt must not be made.
            self._retries().wait(error, repeatable=True)
            return None
        except BaseException:
            self._drop()
            raise

    def _retries(self) -> RetrySequence:
        if self._sequence is None:
            self._sequence = self._channel.sequence(self._cancellation)
        return self._sequence

    def _connect(self) -> None:
        if self._source is not None:
            return
        source, self._begun = self._begun, None
        if source is None:
            source = self._channel.transport.read(self._request(), self._retries())
        self._source = source
        self.request_id = source.request_id
        names = self._token.columns
        self._positions = None if names is None else positions_of(source.schema, names)
        schema = source.schema
        if self._positions is not None:
            schema = pa.schema([schema.field(position) for position in self._positions])
        if self._schema is None:
            self._schema = schema
        self._aligns = not self._schema.equals(schema)
        if self._aligns:
            self._aligned(empty_batch(schema))
        self._batches = iter(source)

    def _advance(self) -> pa.RecordBatch | None:
        length = self._token.row_count
        if length is not None and self.row == length:
            # Every row the split has is here, so that nothing is left to ask for, even if the
            # connection breaks before the end-of-stream marker.
            self._finish()
            return None
        self._connect()
        assert self._batches is not None
        batch = next(self._batches, None)
        if batch is None:
            if length is not None and self.row != length:
                raise TruncatedStreamError(
                    f"the reply ended after row {self.row} of a split of {length} rows",
                    layer="arrow",
                    expected=length,
                    actual=self.row,
                )
            self._ended = True
            self._drop()
            return None
        if length is not None and self.row + batch.num_rows > length:
            raise ProtocolError(
                f"the service sent {self.row + batch.num_rows} rows of a split of {length}",
                side="remote",
            )
        self.row += batch.num_rows
        self._retries().progressed()
        if self._positions is not None:
            batch = batch.select(self._positions)
        return self._aligned(batch) if self._aligns else batch

    def _aligned(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch in the schema that was announced, as a service without ours only can roughly."""
        try:
            return align_batch(batch, self._schema)
        except UsageError as exc:
            raise ProtocolError(
                f"the rows are not of the schema that the service announced: {exc}", side="remote"
            ) from exc

    def _request(self) -> ReadTable:
        return msgspec.structs.replace(self._token.request(), skip_rows=self.row)

    def _finish(self) -> None:
        self._ended = True
        if self._batches is not None:
            assert self._source is not None
            self._source.hurry()
            # Reading to the marker lets the connection carry the next request; without a marker it
            # is dropped, and no row is missing for it.
            with contextlib.suppress(TransportError, TruncatedStreamError):
                if any(batch.num_rows for batch in self._batches):
                    raise ProtocolError(
                        f"the service sent more rows than the split's {self._token.length}",
                        side="remote",
                    )
        self._drop()

    def _drop(self) -> None:
        for source in (self._source, self._begun):
            if source is not None:
                source.close()
        self._source = self._begun = self._batches = None


def positions_of(schema: pa.Schema, names: tuple[str, ...]) -> list[int]:
    """Where the fields of these names stand, without regard to case.

    Raises:
        ProtocolError: the service left a column out that was asked for.
    """
    by_name = {name.casefold(): position for position, name in enumerate(schema.names)}
    missing = [name for name in names if name.casefold() not in by_name]
    if missing:
        raise ProtocolError(f"the reply lacks column {', '.join(missing)}", side="remote")
    return [by_name[name.casefold()] for name in names]
