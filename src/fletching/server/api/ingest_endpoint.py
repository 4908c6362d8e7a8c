"""Feeding an ingest: receiving, and in a worker validating, checksumming and storing, overlap.

::

    socket ──recv──> decoder's own buffers ──> complete messages ──queue──> worker: accept
                     (event loop)               (bounded by bytes)

The loop receives the next message into its place while a worker stores the one before. Bytes of
messages are taken from the service's memory budget before they are received, and what decoding them
needs (`DecodingNeeds`) before they are decoded; both are given back when they are stored, but for what
the stream keeps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from typing_extensions import Buffer

from fletching.errors import MalformedFrameError, WireError
from fletching.ipc import Message, MessageDecoder
from fletching.ipc.message import END_OF_STREAM
from fletching.protocol.http.tunnel_bodies import MemoryNeed
from fletching.server.api.decoding_need import DecodingNeed, DecodingNeeds
from fletching.server.http.exchange import Exchange
from fletching.server.request_limits import MemoryBudget
from fletching.server.workers import Call, Job, Workers
from fletching.wire.stack import DecoderStack

__all__ = ["Ingest", "receive_ingest"]

READ_AHEAD_BYTES = 128 * 1024
"""Messages up to this size are received together and copied once; larger ones into place."""
PASS_ON_BYTES = 1024 * 1024
"""Complete small messages gather up to this before a worker gets them: a hop costs the same."""
PASS_ON_MESSAGES = 1024
"""Likewise in number: a million empty batches are a million messages."""
BACKLOG_BYTES = 8 * 1024 * 1024
"""Bytes that may wait for the worker, besides those it works on, before receiving pauses."""
CODED_CHUNK_BYTES = 1024 * 1024


class Ingest(Protocol):
    """What the engine opens for a TableWrite (architecture: Writing)."""

    decoder: MessageDecoder

    @property
    def ended(self) -> bool:
        """Whether it is finished or aborted."""

    def accept(self, messages: Sequence[Message]) -> None:
        """Validates, checksums and stores; blocks."""

    def finish(self) -> Any:
        """Makes all of it durable and enters it in the catalog; blocks."""

    def abort(self) -> object:
        """Leaves nothing behind unless ``finish`` has begun; blocks; idempotent."""


class DecoderSink:
    """A ``BodySink`` in front of a message decoder. Errors are kept, since a sink must not raise."""

    def __init__(self, decoder: MessageDecoder) -> None:
        self._decoder = decoder
        self._messages: list[Message] = []
        self._scratch: memoryview | None = None
        self._bytes = 0
        self._start = 0  # where the message being received starts in the stream
        self._granted = 0  # budget held for it
        self._covered = 0  # budget held for the complete ones
        self.error: WireError | None = None

    def writable(self) -> memoryview:
        """The decoder's room: a large body's own memory."""
        if self.error is None and not self._decoder.ended:
            return self._decoder.writable(read_ahead=READ_AHEAD_BYTES)
        # The stream is over or broken; what still comes is looked at by `wrote`.
        if self._scratch is None:
            self._scratch = memoryview(bytearray(READ_AHEAD_BYTES))
        return self._scratch

    def wrote(self, count: int) -> bool:
        """Parses what arrived; see ``BodySink``."""
        if self.error is not None:
            return False
        if self._decoder.ended:
            return self._trailing(count)
        try:
            taken = self._decoder.wrote(count)
        except WireError as error:
            self.error = error
            return False
        if taken < count:
            return self._trailing(count - taken)
        return self._gathered()

    def feed(self, chunk: Buffer) -> bool:
        """Parses what was received elsewhere; see ``BodySink``."""
        if self.error is not None:
            return False
        length = memoryview(chunk).nbytes
        try:
            taken = 0 if self._decoder.ended else self._decoder.feed(chunk)
        except WireError as error:
            self.error = error
            return False
        if taken < length:
            return self._trailing(length - taken)
        return self._gathered()

    def _trailing(self, count: int) -> bool:
        self.error = MalformedFrameError(
            f"{count} bytes follow the Arrow stream's end-of-stream marker",
            layer="message",
            offset=self._decoder.bytes_consumed,
        )
        return False

    def _gathered(self) -> bool:
        for message in self._decoder:
            self._messages.append(message)
            self._bytes += message.end - message.offset
            self._start = message.end
            self._covered += self._granted
            self._granted = 0
        if self._bytes >= PASS_ON_BYTES or len(self._messages) >= PASS_ON_MESSAGES:
            return False
        return not self.wanted

    @property
    def wanted(self) -> int:
        """Bytes that the piece being received needs beyond what was granted; 0 if that is little."""
        reach = self._decoder.bytes_consumed + self._decoder.bytes_needed
        missing = reach - self._start - self._granted
        return missing if missing > PASS_ON_BYTES else 0

    def grant(self, count: int) -> None:
        """Lets ``count`` bytes of the message being received in."""
        self._granted += count

    def revoke(self) -> int:
        """Takes back what was granted to the message being received, and says how much."""
        count, self._granted = self._granted, 0
        return count

    @property
    def granted(self) -> int:
        """Budget held by messages that were not handed out yet."""
        return self._granted + self._covered

    def take(self) -> tuple[list[Message], int, int]:
        """Hands out the complete messages, their bytes, and the budget already held for them."""
        taken = self._messages, self._bytes, self._covered
        self._messages, self._bytes, self._covered = [], 0, 0
        return taken


class _Backlog:
    """Messages on their way to the worker; the job lets one call of the ingest run at a time."""

    def __init__(self, job: Job[Ingest], budget: MemoryBudget) -> None:
        self._job = job
        self._budget = budget
        self._waiting: list[Message] = []
        self._waiting_bytes = 0
        self._call: Call[None] | None = None
        self._stopped = False
        self._taken = asyncio.Event()
        self._error: BaseException | None = None

    async def put(self, messages: list[Message], held: int) -> None:
        """Queues messages for which ``held`` bytes of budget were taken; waits while much waits.

        Raises:
            FletchingError: what the ingest raised about earlier messages.
        """
        self._waiting += messages
        self._waiting_bytes += held
        self._go_on()
        while self._waiting_bytes > BACKLOG_BYTES and self._error is None:
            await self._wait()
        self._raise()

    async def drain(self) -> None:
        """Waits until the worker has taken everything; errors as for ``put``."""
        while self._call is not None:
            await self._wait()
        self._raise()

    def stop(self) -> None:
        """Forgets what waits; the call that runs, if one does, is waited for by whoever owns the job."""
        self._stopped = True
        self._budget.give(self._waiting_bytes)
        self._waiting, self._waiting_bytes = [], 0

    async def _wait(self) -> None:
        self._taken.clear()
        await self._taken.wait()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _go_on(self) -> None:
        """Hands everything that waits to the worker, unless it has something to do."""
        if self._call is not None or not self._waiting or self._stopped:
            return
        messages, self._waiting = self._waiting, []
        held, self._waiting_bytes = self._waiting_bytes, 0
        call = self._call = self._job.start(self._job.owned.accept, messages)
        call.on_return(lambda: self._returned(call, held))

    def _returned(self, call: Call[None], held: int) -> None:
        self._call = None
        self._budget.give(held)
        self._error = call.error()
        if self._error is not None:
            self.stop()
        self._go_on()
        self._taken.set()


async def receive_ingest(
    exchange: Exchange,
    open_ingest: Callable[[], Ingest],
    workers: Workers,
    budget: MemoryBudget,
    decoder: DecoderStack | None = None,
    *,
    unmarked: bool = False,
) -> Any:
    """Opens an ingest, feeds a request's body to it and finishes it; whatever goes wrong aborts it.

    Args:
        exchange: with the body.
        open_ingest: blocks.
        workers: where blocking happens.
        budget: of memory.
        decoder: what makes an Arrow IPC stream of the body; None where it is one.
        unmarked: the body's end ends the stream, too, if it comes between two messages.

    Returns:
        What the ingest's ``finish`` returned.

    Raises:
        ConnectionBrokenError: the client disappeared in mid-body.
        WireError: the body is not an Arrow stream, is cut, or goes on behind its end.
        ServiceError: the ingest refused it; or 408, 429.
    """
    async with Job.opened(
        workers.cpu, open_ingest, lambda ingest: ingest.abort(), opens_in=workers.write
    ) as job:
        if decoder is None:
            await _receive_plain(exchange, job, budget)
        else:
            await _receive_coded(exchange, job, budget, decoder)
        messages = job.owned.decoder
        if unmarked and messages.bytes_consumed and messages.between_messages:
            messages.feed(END_OF_STREAM)
        messages.finish()
        return await job.start_in(workers.write, job.owned.finish).outcome()


async def _receive_plain(exchange: Exchange, job: Job[Ingest], budget: MemoryBudget) -> None:
    sink = DecoderSink(job.owned.decoder)
    backlog = _Backlog(job, budget)
    needs = DecodingNeeds(job.owned.decoder.limits)
    kept = 0  # of the budget, for the schema and dictionaries
    try:
        ended = False
        while not ended:
            ended = await exchange.pump(sink)
            if sink.error is not None:
                raise sink.error
            messages, size, held = sink.take()
            if messages:
                need = needs.of(messages)
                grown = max(need.kept - kept, 0)
                if need.passing or grown:
                    # What is held is given back before waiting: nobody waits for who waits.
                    budget.give(held)
                    held = size - need.own + need.passing
                    await budget.take(held + grown, own=kept)
                    kept += grown
                elif held:
                    budget.add(max(size - held, 0))
                    held = max(size, held)
                else:
                    await budget.take(size, own=kept)
                    held = size
                await backlog.put(messages, held)
                del messages
                budget.give(kept - need.kept)  # of dictionaries in whose place there are others now
                kept = need.kept
            if sink.wanted and not ended:
                # What is held for the same message's metadata is given back before waiting.
                budget.give(sink.revoke())
                wanted = sink.wanted
                await budget.take(wanted, own=kept)
                sink.grant(wanted)
        await backlog.drain()
    finally:
        backlog.stop()
        budget.give(sink.granted + kept)


async def _receive_coded(
    exchange: Exchange, job: Job[Ingest], budget: MemoryBudget, stack: DecoderStack
) -> None:
    """A body to be decoded: that belongs in the worker, too, so nothing overlaps here."""
    decoder = _CodedDecoder(job.owned, stack)
    held = kept = 0
    try:
        ended = False
        while not ended:
            chunk, ended = await exchange.receive_part(CODED_CHUNK_BYTES)
            need = await job.run(decoder.begin, chunk, last=ended)
            while need is not None:
                budget.give(held)
                held = 0
                grown = max(need.kept - kept, 0)
                await budget.take(need.passing + grown, own=kept)
                held = need.passing
                budget.give(kept + grown - need.kept)
                kept = need.kept
                need = await job.run(decoder.go_on)
    finally:
        budget.give(held + kept)


class _CodedDecoder:
    """Decodes and passes on, in a worker; stops before whatever needs much memory."""

    def __init__(self, ingest: Ingest, decoder: DecoderStack) -> None:
        self._ingest = ingest
        self._sink = DecoderSink(ingest.decoder)
        self._decoder = decoder
        self._needs = DecodingNeeds(ingest.decoder.limits)
        self._events: Iterator[Any] = iter(())
        self._ready: list[Message] = []
        self._body_kept = 0  # by the layers that decode
        self._last = False

    def begin(self, chunk: bytearray, *, last: bool) -> DecodingNeed | None:
        """Starts on a chunk; the answer as for ``go_on``."""
        self._last = last
        self._decoder.feed(chunk)
        self._events = iter(self._decoder.events())
        return self.go_on()

    def go_on(self) -> DecodingNeed | None:
        """Returns what must be there before the next step, or None when the chunk is done.

        The step is receiving a large message, or decoding compressed ones.

        Raises:
            WireError: the body does not decode or is not an Arrow stream.
        """
        need = self._consume()
        if need is None and self._last:
            self._last = False
            self._decoder.finish()
            self._events = iter(self._decoder.events())
            need = self._consume()
        return need

    def _consume(self) -> DecodingNeed | None:
        while True:
            need = self._pass_on()
            if need is not None:
                return need
            wanted = self._sink.wanted
            if wanted:
                self._sink.grant(wanted)
                return self._need(wanted)
            # Until there is something to do, or nothing more.
            piece = next((p for p in self._events if not self._fed(p)), None)
            if self._sink.error is not None:
                raise self._sink.error
            if piece is None:
                return self._pass_on()
            if isinstance(piece, MemoryNeed):
                self._body_kept = piece.kept
                return self._need(piece.bytes)

    def _need(self, passing: int) -> DecodingNeed:
        return DecodingNeed(passing, self._needs.kept + self._body_kept)

    def _fed(self, piece: Buffer | MemoryNeed) -> bool:
        """Whether the sink took the event and needs nothing."""
        return not isinstance(piece, MemoryNeed) and self._sink.feed(piece)

    def _pass_on(self) -> DecodingNeed | None:
        """Accepts what is complete, unless it needs something first."""
        if self._ready:
            messages, self._ready = self._ready, []
            self._ingest.accept(messages)
            del messages
        messages, size, _ = self._sink.take()
        if messages:
            before = self._needs.kept
            need = self._needs.of(messages)
            if need.passing or need.kept > before:
                self._ready = messages
                return self._need(size - need.own + need.passing)
            self._ingest.accept(messages)
        return None
