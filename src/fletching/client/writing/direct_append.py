"""A whole append in one request, for data that fits one body.

A write session takes five requests, each a durable transaction of the service; small appends are
nothing but these. So rows are gathered first: if the data ends before a body is full, it goes out as one
request, recognised by its trace id when it is repeated. Otherwise, and wherever the service does not take
it so, what was gathered goes into a session, followed by what is still to come.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa

from fletching.client.tabular.alignment import aligned, size_of
from fletching.client.tabular.tabular_data import BatchStream, batches_of
from fletching.client.transports.channel import Channel
from fletching.client.writing.batching import Body, BodyBuffer
from fletching.errors import (
    InvalidParameterError,
    PayloadTooLargeError,
    SchemaModifiedError,
    UsageError,
)
from fletching.protocol.messages.field_types import check_field_types
from fletching.protocol.messages.requests import AppendRows
from fletching.protocol.messages.responses import WriteResult

if TYPE_CHECKING:
    from fletching.client.retry import RetrySequence

__all__ = ["append_at_once"]


def append_at_once(
    channel: Channel, request: AppendRows, schema: pa.Schema, data: object
) -> tuple[WriteResult | None, BatchStream]:
    """Appends data that fits one body.

    Args:
        channel: the way to the service.
        request: the append, without its rows' number.
        schema: what the table stores, as far as the client knows it.
        data: anything tabular; consumed as far as a body holds.

    Returns:
        The service's answer; or None and the same data, of which nothing was stored.

    Raises:
        ServiceError: the service refused; nothing of it is visible.
        TransportError: no answer within the retry budget; whether the rows are visible is unknown.
    """
    check_field_types(request)
    stream = batches_of(data, schema)
    held: list[pa.RecordBatch] = []
    size = 0
    for batch in stream.batches:
        held.append(batch)
        # pyarrow cannot tell the size of every batch without rows
        size += size_of(batch) if batch.num_rows else 0
        if size > channel.options.write_body_bytes:
            return None, BatchStream(stream.schema, itertools.chain(held, stream.batches))
    again = BatchStream(stream.schema, iter(held))
    try:
        body = _body(held, stream.schema, schema, channel.options.write_body_bytes)
    except UsageError:
        return None, again  # the table may have changed since the client looked; a session knows
    if body is None:
        return None, again
    counted = msgspec.structs.replace(request, count=body.rows)

    def send(attempt: RetrySequence) -> WriteResult:
        return channel.transport.write(counted, body.batches, body.schema, attempt)

    try:
        return channel.retrying(send, repeatable=True), again
    except (PayloadTooLargeError, SchemaModifiedError):
        return None, again
    except InvalidParameterError as error:
        if "TableAppend" not in error.message:
            raise
        return None, again  # a service that does not know the action


def _body(
    held: list[pa.RecordBatch], given: pa.Schema, schema: pa.Schema, limit: int
) -> Body | None:
    """The only body, or None if there are no rows or more than one."""
    buffer = BodyBuffer(limit)
    batches: Iterator[pa.RecordBatch] = aligned(BatchStream(given, iter(held)), schema).batches
    full = [body for batch in batches for body in buffer.add(batch)]
    last = buffer.take()
    bodies = [*full, *([] if last is None else [last])]
    return bodies[0] if len(bodies) == 1 else None
