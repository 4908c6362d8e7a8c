"""Executing read plans: stored bytes to the socket at the client's pace.

While the loop sends one chunk of buffers, a worker prepares the next: it opens objects, brings in
pages that are not resident, computes what must be computed. The loop never waits for a disk, and a
reply holds at most two chunks. A `Job` owns what is prepared, so that it is closed once, and never
while a worker uses it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from typing_extensions import Buffer

from fletching.engine.reading.read_plan import (
    Computed,
    DirectRead,
    Extent,
    Literal,
    Piece,
    ReadPlan,
    run_checked,
)
from fletching.engine.reading.segment_sharing import SharedSegments
from fletching.protocol.http.body_codings import TableBodyCoding
from fletching.protocol.http.headers import (
    CONTENT_TYPE,
    DESCRIPTORS,
    DIRECT,
    MANIFEST,
    MANIFEST_TYPE,
)
from fletching.protocol.http.layers import table_body_encoder
from fletching.protocol.messages.manifest import encode_manifest
from fletching.protocol.messages.mapped_rows import encode_mapped_rows
from fletching.server.http.exchange import Exchange
from fletching.server.workers import Job, Pool
from fletching.wire.content_coding import ContentCoding
from fletching.wire.stack import ByteEncoder

__all__ = [
    "FIRST_GROUP_BYTES",
    "BufferSource",
    "CodedSource",
    "PlanSource",
    "PreparedReply",
    "prepare_manifest",
    "prepare_plan",
    "reply_with_plan",
    "send_prepared",
    "send_source",
]

SLICE_BYTES = 4 * 1024 * 1024
"""The most that is handed to the socket at once: an extent may be as long as a batch."""

FIRST_GROUP_BYTES = 256 * 1024
"""The first group is small: a client waits for it, and opening many small objects takes time. Each
group is at most twice the one before, so that a client which leaves early has cost little."""


class BufferSource(Protocol):
    """What a reply is made of, group by group. ``next_chunk`` and ``close`` block."""

    ended: bool
    """Nothing more will come and nothing is held; a short reply needs no more hops then."""

    def next_chunk(self) -> Sequence[Buffer]:
        """Returns the next buffers, ready to be sent; none at the end."""

    def buffered_chunk(self) -> Sequence[Buffer]:
        """Returns the next buffers if having them takes no waiting, else none. Does not block."""

    def close(self) -> None:
        """Gives up what the source holds; idempotent."""


class HasPieces(Protocol):
    """What can be sent piece by piece: a read plan, or a range of a blob."""

    @property
    def pieces(self) -> Iterable[Piece]:
        """The pieces in order."""


class PlanSource:
    """The buffers of a read plan, about ``group_bytes`` at a time. Used by one thread at a time."""

    def __init__(self, plan: HasPieces, group_bytes: int) -> None:
        self.plan = plan
        self.ended = False
        self._group_bytes = group_bytes
        self._room = min(group_bytes, FIRST_GROUP_BYTES)
        self._pieces: Iterator[Piece] = iter(plan.pieces)
        self._piece: Piece | None = None  # the next one, where it was looked at already
        self._extent: Extent | None = None
        self._position = 0
        self._fetched: Iterator[memoryview] | None = None

    def next_chunk(self) -> Sequence[Buffer]:
        """Prepares buffers until the group is full; see ``BufferSource``.

        Raises:
            FletchingError: the store failed, or computed batches are not what was announced.
        """
        group: list[Buffer] = []
        room, self._room = self._room, min(2 * self._room, self._group_bytes)
        while room > 0:
            if self._fetched is not None:
                fetched = next(self._fetched, None)
                if fetched is None:
                    self._fetched = None
                else:
                    group.append(fetched)
                    room -= fetched.nbytes
                continue
            if self._extent is not None:
                view = self._next_slice(self._extent, room)
                group.append(view)
                room -= view.nbytes
                continue
            piece = self._piece or next(self._pieces, None)
            self._piece = None
            if piece is None:
                self.ended = True
                break
            if isinstance(piece, Extent):
                if piece.length:
                    self._begin(piece)
            elif isinstance(piece, Literal):
                group.append(piece.data)
                room -= piece.length
            else:
                room -= self._compute(piece, group)
                room -= self._look_on(group)
                if self.ended:
                    break
        return group

    def _look_on(self, group: list[Buffer]) -> int:
        """Takes a literal that follows computed batches, and finds out whether anything else does.

        So a reply that is whole has ended, and with that a length, however large its batches are.
        Looking on computes nothing. Returns the literal's length.
        """
        taken = 0
        self._piece = next(self._pieces, None)
        if isinstance(self._piece, Literal):
            group.append(self._piece.data)
            taken = self._piece.length
            self._piece = next(self._pieces, None)
        self.ended = self._piece is None
        return taken

    def buffered_chunk(self) -> Sequence[Buffer]:
        """Returns more of the extent that was begun, if its pages are in memory; see ``BufferSource``."""
        extent = self._extent
        if extent is None:
            return ()
        start = self._position
        end = min(extent.end, start + min(self._group_bytes, SLICE_BYTES))
        if not extent.object.resident(start, end):
            return ()
        return (self._take(extent, end),)

    def _begin(self, extent: Extent) -> None:
        """Begins an extent: where ranges are requests, they are made ahead of the socket."""
        stream = getattr(extent.object, "stream", None)
        if stream is None:
            self._extent, self._position = extent, extent.start
        else:
            self._fetched = stream(extent.start, extent.end)

    def _next_slice(self, extent: Extent, room: int) -> memoryview:
        start = self._position
        end = min(extent.end, start + min(room, SLICE_BYTES))
        if not extent.object.resident(start, end):
            extent.object.load(start, end)
        return self._take(extent, end)

    def _take(self, extent: Extent, end: int) -> memoryview:
        start, self._position = self._position, end
        if end == extent.end:
            self._extent = None
        return extent.object.view(start, end)

    @staticmethod
    def _compute(piece: Computed, group: list[Buffer]) -> int:
        size = 0
        for buffer in run_checked(piece):
            length = memoryview(buffer).nbytes
            if length:
                group.append(buffer)
                size += length
        return size

    def close(self) -> None:
        """Closes the plan's generator, and with it the objects it has open."""
        self._extent = None
        for generator in (self._fetched, self._pieces):
            close = getattr(generator, "close", None)
            if close is not None:
                close()


class CodedSource:
    """Another source's bytes through an encoder: of a content coding, or of a framing."""

    def __init__(self, source: BufferSource, encoder: ByteEncoder) -> None:
        self._source = source
        self._encoder = encoder
        self.ended = False

    def next_chunk(self) -> Sequence[Buffer]:
        """Encodes groups until something comes out; see ``BufferSource``."""
        coded: list[Buffer] = []
        while not coded and not self.ended:
            group = self._source.next_chunk()
            for buffer in group:
                coded += self._encoder.encode(buffer)
            if not group or self._source.ended:
                self.ended = True
                coded += self._encoder.finish()
        return coded

    def buffered_chunk(self) -> Sequence[Buffer]:
        """Nothing: encoding is work."""
        return ()

    def close(self) -> None:
        """Closes the inner source."""
        self._source.close()


def _length(group: Sequence[Buffer]) -> int:
    return sum(memoryview(buffer).nbytes for buffer in group)


async def send_source(
    exchange: Exchange, job: Job[Any], source: BufferSource, group: Sequence[Buffer]
) -> None:
    """Sends ``group``, which was prepared already, and the rest of the source, and ends the reply.

    Args:
        exchange: to answer.
        job: owns the source; whoever opened it closes it.
        source: the rest.
        group: what the source gave first.

    Raises:
        ConnectionBrokenError: the client is gone.
        FletchingError: preparing failed; the reply cannot be completed.
    """
    if exchange.is_bodiless:
        await exchange.finish()
        return
    if not source.ended:
        # At once, since somebody waits for it; the rest need not pass through the loop.
        await exchange.write_all(group)
        group = ()
        while not source.ended and await exchange.send_by_worker(source, job):
            pass
        if not source.ended:
            group = await job.run(source.next_chunk)
    while group:
        # A hop to a worker and back costs more than looking whether it is needed.
        following = () if source.ended else source.buffered_chunk()
        ahead = None if source.ended or following else job.start(source.next_chunk)
        await exchange.write_all(group)
        # The reference to sent buffers goes before the next group is waited for.
        group, following = following, ()
        if ahead is not None:
            group = await ahead.outcome()
    await exchange.finish()


@dataclasses.dataclass(frozen=True, slots=True)
class PreparedReply:
    """A reply whose beginning is in memory; a `Job` owns it.

    Attributes:
        source: the rest.
        group: what ``source`` gave first.
        length: bytes of all, None if only making them tells.
        coding: of the whole body.
        headers: what the reply says of its form.
        shared: files whose descriptors go along.
    """

    source: BufferSource
    group: Sequence[Buffer]
    length: int | None
    coding: TableBodyCoding
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    shared: SharedSegments | None = None

    @property
    def ended(self) -> bool:
        """Whether there is nothing to give up any more."""
        return self.source.ended and self.shared is None

    def close(self) -> None:
        """Closes the source, and the segments; blocks."""
        self.source.close()
        if self.shared is not None:
            self.shared.close()


def prepare_plan(
    plan: ReadPlan,
    *,
    group_bytes: int,
    coding: TableBodyCoding = ContentCoding.IDENTITY,
    level: int | None = None,
) -> PreparedReply:
    """Begins to execute a plan; blocks.

    Args:
        plan: what is answered.
        group_bytes: how much is prepared at a time.
        coding: of the whole body; anything but identity makes the reply chunked.
        level: of the coding.

    Raises:
        FletchingError: it cannot be executed.
    """
    source: BufferSource = PlanSource(plan, group_bytes)
    length = plan.length
    if coding is not ContentCoding.IDENTITY:
        source, length = CodedSource(source, table_body_encoder(coding, level=level)), None
    try:
        group = source.next_chunk()
        if length is None and source.ended:
            length = _length(group)
        return PreparedReply(source, group, length, coding)
    except BaseException:
        source.close()
        raise


class _Ended:
    """A source that has given all it had."""

    ended = True

    def next_chunk(self) -> Sequence[Buffer]:
        """Nothing."""
        return ()

    def buffered_chunk(self) -> Sequence[Buffer]:
        """Nothing."""
        return ()

    def close(self) -> None:
        """Holds nothing."""


def prepare_manifest(direct: DirectRead) -> PreparedReply:
    """The reply that sends a manifest instead of rows."""
    data = encode_manifest(direct.manifest)
    for stored in direct.objects:
        stored.close()
    headers = {CONTENT_TYPE: MANIFEST_TYPE, MANIFEST: str(len(data))}
    return PreparedReply(_Ended(), [data], len(data), ContentCoding.IDENTITY, headers)


def prepare_shared(shared: SharedSegments) -> PreparedReply:
    """The reply that says where rows are, and passes the descriptors of the files they are in."""
    data = encode_mapped_rows(shared.message)
    headers = {CONTENT_TYPE: MANIFEST_TYPE, DIRECT: DESCRIPTORS}
    return PreparedReply(
        _Ended(), [data], len(data), ContentCoding.IDENTITY, headers, shared=shared
    )


async def send_prepared(
    exchange: Exchange,
    job: Job[Any],
    prepared: PreparedReply,
    *,
    headers: dict[str, str] | None = None,
    head: bytes = b"",
) -> None:
    """Answers with what was prepared, ``head`` before it; arguments and errors as for ``send_source``."""
    fields = {**(headers or {}), **prepared.headers}
    if prepared.coding is not ContentCoding.IDENTITY:
        fields["content-encoding"] = prepared.coding.value
    if prepared.shared is not None:
        await exchange.reply_with_descriptors(
            b"".join((head, *prepared.group)), prepared.shared.descriptors, headers=fields
        )
        return
    length = None if prepared.length is None else len(head) + prepared.length
    await exchange.start(length, headers=fields)
    group = [head, *prepared.group] if head else prepared.group
    await send_source(exchange, job, prepared.source, group)


async def reply_with_plan(
    exchange: Exchange,
    make_plan: Callable[[], ReadPlan],
    pool: Pool,
    *,
    group_bytes: int,
    coding: TableBodyCoding = ContentCoding.IDENTITY,
    level: int | None = None,
) -> None:
    """Makes a plan, and answers with what it says; with its length announced if it is known.

    Args:
        exchange: to answer.
        make_plan: blocks; what it raises becomes the reply, since nothing has been sent by then.
        pool: where blocking happens.
        group_bytes: as for ``prepare_plan``.
        coding: likewise.
        level: likewise.

    Raises:
        ConnectionBrokenError: the client is gone.
        FletchingError: what ``make_plan`` raised, or (with the reply begun) what preparing raised.
    """

    def begin() -> PreparedReply:
        return prepare_plan(make_plan(), group_bytes=group_bytes, coding=coding, level=level)

    async with Job.opened(pool, begin, PreparedReply.close) as job:
        await send_prepared(exchange, job, job.owned)
