"""Rows to tunnel clients: a read plan as a record stream, or as framed Arrow; compressed if asked for.

A reply that cannot be completed is cut, never ended: clients take an early end for the last row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
from typing_extensions import Buffer

from fletching.engine.reading.read_plan import Literal, Piece, ReadPlan
from fletching.errors import InvalidArgumentError, UsageError
from fletching.ipc.encoding import BatchEncoder
from fletching.ipc.message import END_OF_STREAM
from fletching.ipc.type_tree import any_below
from fletching.protocol.http.headers import ACCEPT_ENCODING, CONTENT_ENCODING
from fletching.protocol.http.tunnel_bodies import RecordBodyEncoder, reply_coding, tunnel_encoder
from fletching.protocol.types.arrow_types import odps_type_of_field
from fletching.protocol.types.tunnel_values import moments_as_structs
from fletching.server.api.response_body import (
    FIRST_GROUP_BYTES,
    BufferSource,
    CodedSource,
    PlanSource,
    PreparedReply,
    send_prepared,
)
from fletching.server.http.exchange import Exchange
from fletching.server.server_settings import ReplyCompression
from fletching.server.service import Service
from fletching.server.workers import Job
from fletching.wire.content_coding import ContentCoding
from fletching.wire.tunnel_chunks import ChunkEncoder, framed_length

__all__ = ["reply_with_rows"]

STEP_BYTES = 2 << 20
"""Arrow bytes that are encoded as records at a time: what is made of them is about as long."""


async def reply_with_rows(
    exchange: Exchange,
    service: Service,
    make_plan: Callable[[], ReadPlan],
    *,
    arrow: bool,
    moments: bool = False,
    headers: dict[str, str] | None = None,
) -> None:
    """Answers with the rows of a plan, in the coding that the client accepts.

    Args:
        exchange: to answer.
        service: whose limits hold.
        make_plan: blocks; what it raises becomes the reply, since nothing has been sent by then.
        arrow: framed record batches instead of a record stream.
        moments: Arrow timestamps as structs of seconds and nanoseconds, as the instance tunnel has them.
        headers: more reply headers.

    Raises:
        ConnectionBrokenError: the client is gone.
        FletchingError: what ``make_plan`` raised, or (with the reply begun) what encoding raised.
    """
    coding = reply_coding(exchange.header(ACCEPT_ENCODING))
    if service.settings.reply_compression is ReplyCompression.OFF:
        coding = ""
    group_bytes = max(service.settings.read_memory_bytes // 4, 1)

    def begin() -> PreparedReply:
        plan = make_plan()
        source, length = _source(plan, group_bytes, arrow=arrow, moments=moments)
        encoder = tunnel_encoder(coding)
        if encoder is not None:
            source, length = CodedSource(source, encoder), None
        try:
            return PreparedReply(source, source.next_chunk(), length, ContentCoding.IDENTITY)
        except UsageError as error:
            source.close()
            raise InvalidArgumentError(error.message) from error
        except BaseException:
            source.close()
            raise

    fields = {**(headers or {}), **({CONTENT_ENCODING: coding} if coding else {})}
    with service.reads.enter():
        async with Job.opened(service.workers.cpu, begin, PreparedReply.close) as job:
            await send_prepared(exchange, job, job.owned, headers=fields)


def _source(
    plan: ReadPlan, group_bytes: int, *, arrow: bool, moments: bool
) -> tuple[BufferSource, int | None]:
    """What is sent, and its length if that is known."""
    if not arrow:
        return _RecordSource(plan, group_bytes), None
    if moments and any(any_below(kind, _counts_nanoseconds) for kind in plan.schema.types):
        return CodedSource(_MomentSource(plan, group_bytes), ChunkEncoder()), None
    messages = _Messages(plan)
    source = PlanSource(messages, group_bytes)
    return CodedSource(source, ChunkEncoder()), messages.framed_length


class _Messages:
    """The record batch messages of a plan: its pieces without the schema and the end mark."""

    def __init__(self, plan: ReadPlan) -> None:
        self._plan = plan

    @property
    def framed_length(self) -> int | None:
        """Bytes of all messages in the tunnel's framing; None when only making them can tell."""
        if self._plan.length is None:
            return None
        schema = next(iter(self._plan.pieces))
        assert isinstance(schema, Literal)
        return framed_length(self._plan.length - schema.length - len(END_OF_STREAM))

    @property
    def pieces(self) -> Iterator[Piece]:
        """The messages; see `HasPieces`."""
        pieces = iter(self._plan.pieces)
        next(pieces)  # the schema
        held = next(pieces)
        for piece in pieces:
            yield held
            held = piece
        assert isinstance(held, Literal)
        assert held.data == END_OF_STREAM


class _BatchSource:
    """What an encoder makes of a plan's batches. Used by one thread at a time."""

    def __init__(self, plan: ReadPlan, group_bytes: int) -> None:
        self.ended = False
        self._group_bytes = group_bytes
        self._room = min(group_bytes, FIRST_GROUP_BYTES)
        self._buffers = self._encoded(plan.batches())

    def _encoded(self, batches: Iterator[pa.RecordBatch]) -> Iterator[Buffer]:
        raise NotImplementedError

    def next_chunk(self) -> Sequence[Buffer]:
        """Encodes until the group is full; see ``BufferSource``."""
        group: list[Buffer] = []
        room, self._room = self._room, min(2 * self._room, self._group_bytes)
        while room > 0:
            buffer = next(self._buffers, None)
            if buffer is None:
                self.ended = True
                break
            length = memoryview(buffer).nbytes
            if length:
                group.append(buffer)
                room -= length
        return group

    def buffered_chunk(self) -> Sequence[Buffer]:
        """Nothing: encoding is work."""
        return ()

    def close(self) -> None:
        """Closes the plan's generator, and with it the objects it has open."""
        close: Callable[[], object] | None = getattr(self._buffers, "close", None)
        if close is not None:
            close()


class _RecordSource(_BatchSource):
    """A record stream."""

    def __init__(self, plan: ReadPlan, group_bytes: int) -> None:
        self._encoder = RecordBodyEncoder([odps_type_of_field(field) for field in plan.schema])
        super().__init__(plan, group_bytes)

    def _encoded(self, batches: Iterator[pa.RecordBatch]) -> Iterator[Buffer]:
        for batch in batches:
            for part in _steps(batch):
                yield self._encoder.encode(part)
        yield self._encoder.finish()


class _MomentSource(_BatchSource):
    """Record batch messages with timestamps as structs."""

    def _encoded(self, batches: Iterator[pa.RecordBatch]) -> Iterator[Buffer]:
        encoder: BatchEncoder | None = None
        for batch in batches:
            arrays = [moments_as_structs(column) for column in batch.columns]
            made = pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)
            if encoder is None:
                encoder = BatchEncoder(made.schema)
            for message in encoder.encode(made):
                yield from message


def _steps(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    rows = batch.num_rows
    step = max(1, min(rows, rows * STEP_BYTES // max(batch.nbytes, 1)))
    for start in range(0, rows, step):
        yield batch.slice(start, step)


def _counts_nanoseconds(kind: pa.DataType) -> bool:
    return pa.types.is_timestamp(kind) and kind.unit == "ns"
