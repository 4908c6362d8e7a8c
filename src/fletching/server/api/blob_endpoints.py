"""Blobs over HTTP: uploads into packs, replies of the Storage API, and single blobs by address.

::

    upload    socket ──recv──> buffer ──> worker: decode, verify, checksum, store ──> pack
                                              └──> thread: MD5
    reply     worker: read, verify, frame, checksum ──> socket
    GET       mapped pages ──> socket

A client on this host that asks for it at the Unix socket gets the packs' descriptors in place of the last two,
where the packs can be shared (`fletching.engine.blobs.pack_sharing`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence

import msgspec
import pyarrow as pa
from typing_extensions import Buffer

from fletching.engine.blobs.blob_reading import BlobReadPlan
from fletching.engine.blobs.blob_service import BlobSlice
from fletching.engine.blobs.blob_uploads import BlobUpload
from fletching.engine.blobs.pack_sharing import SharedPacks
from fletching.engine.reading.segment_sharing import SharedFiles
from fletching.errors import MethodNotAllowedError, NoPermissionError, PayloadTooLargeError
from fletching.protocol.codec import encode_response
from fletching.protocol.http import headers as header_names
from fletching.protocol.http.blob_links import (
    content_disposition,
    content_range,
    parse_range,
    reference_in_path,
)
from fletching.protocol.http.preconditions import is_not_modified, range_holds
from fletching.protocol.messages.mapped_blobs import encode_mapped_blobs
from fletching.protocol.messages.requests import ReadBlobs, WriteBlob, WriteBlobs
from fletching.server.api.response_body import FIRST_GROUP_BYTES, PlanSource, send_source
from fletching.server.http.exchange import Exchange
from fletching.server.request_limits import MemoryBudget
from fletching.server.service import Service
from fletching.server.workers import Call, Job
from fletching.types import TableName
from fletching.wire.content_coding import ContentCoding

__all__ = ["handle_blob", "read_blobs", "write_blobs"]

FIRST_BUFFER_BYTES = 64 << 10
LAST_BUFFER_BYTES = 1 << 20
"""Uploads are received into buffers that grow from the first size to the last."""
GROUP_BYTES = 2 << 20
"""A reply is prepared by groups of about this size, one ahead of the socket."""
# From PyODPS 0.13.2 on the checksums come off first; older ones cannot read a
# compressed reply.
_UNCOMPRESSED_AGENTS = ("pyodps/0.12.", "pyodps/0.13.0", "pyodps/0.13.1 ", "pyodps/0.13.1.")


# --- uploads ---------------------------------------------------------------------------------


def _allocated(size: int) -> memoryview:
    """Memory out of pyarrow's pool: used pages again, where a bytearray has new ones to be cleared."""
    return memoryview(pa.allocate_buffer(size)).cast("B")


class _BufferSink:
    """A ``BodySink`` into buffers that are handed out when they are full and never used again."""

    def __init__(self) -> None:
        self._size = FIRST_BUFFER_BYTES
        self._buffer = _allocated(self._size)
        self._filled = 0
        self._full: list[memoryview] = []

    def writable(self) -> memoryview:
        """The rest of the buffer."""
        return self._buffer[self._filled :]

    def wrote(self, count: int) -> bool:
        """Asks for attention when the buffer is full; see ``BodySink``."""
        self._filled += count
        if self._filled < len(self._buffer):
            return True
        self._turn()
        return False

    def feed(self, chunk: Buffer) -> bool:
        """Copies what was received elsewhere, which is only lent; see ``BodySink``."""
        view = memoryview(chunk).cast("B")
        while len(view):
            count = min(len(view), len(self._buffer) - self._filled)
            self._buffer[self._filled : self._filled + count] = view[:count]
            self._filled += count
            view = view[count:]
            if self._filled == len(self._buffer):
                self._turn()
        return not self._full

    def _turn(self) -> None:
        """Puts what is filled with the full buffers, and begins the next one."""
        if self._filled:
            self._full.append(self._buffer[: self._filled])
            if self._filled == len(self._buffer):
                self._size = min(2 * self._size, LAST_BUFFER_BYTES)
            self._buffer = _allocated(self._size)
            self._filled = 0

    def take(self, *, ended: bool) -> list[memoryview]:
        """Hands out the full buffers; at the end of the body also the last one."""
        if ended:
            self._turn()
        taken, self._full = self._full, []
        return taken


async def write_blobs(
    exchange: Exchange, service: Service, request: WriteBlob | WriteBlobs
) -> None:
    """Answers a TableWriteBlob."""
    limit = service.engine.context.settings.max_blob_upload_bytes
    if (exchange.body.content_length or 0) > limit:
        raise PayloadTooLargeError(f"the upload is above the limit of {limit} bytes", limit=limit)
    with service.bodies.enter():
        opening = functools.partial(service.engine.blobs.open_upload, request)
        workers = service.workers
        async with Job.opened(
            workers.cpu, opening, BlobUpload.abort, opens_in=workers.write
        ) as job:
            await _receive(exchange, job, service.memory)
            result = await job.start_in(workers.write, job.owned.finish).outcome()
    headers, body = encode_response(result, request)
    await exchange.reply(body, headers=headers)


async def _receive(exchange: Exchange, job: Job[BlobUpload], budget: MemoryBudget) -> None:
    """Feeds the body to the upload, one buffer in the worker while the next is received."""
    sink, upload = _BufferSink(), job.owned
    storing: Call[None] | None = None
    ended = False
    while not ended:
        ended = await exchange.pump(sink)
        chunks = sink.take(ended=ended)
        if storing is not None:
            await storing.outcome()
            storing = None
        if chunks:
            size = sum(map(len, chunks))
            await budget.take(size)
            storing = job.start(upload.accept, chunks)
            storing.on_return(functools.partial(budget.give, size))
            del chunks
    if storing is not None:
        await storing.outcome()


# --- replies ---------------------------------------------------------------------------------


class _ReplySource:
    """The buffers of a reply, by groups."""

    def __init__(self, plan: BlobReadPlan) -> None:
        """Begins; blocks. What fails here becomes the reply, since nothing has been sent by then."""
        self.plan = plan
        self._buffers: Iterator[Buffer] = plan.buffers()
        # The first is small: it passes through the event loop, and a client waits for it.
        self._room = FIRST_GROUP_BYTES
        self.ended = False
        try:
            self.first = self.next_chunk()
        except BaseException:
            self.close()
            raise

    def next_chunk(self) -> Sequence[Buffer]:
        """Reads, verifies and frames until the group is full; see ``BufferSource``."""
        group: list[Buffer] = []
        room, self._room = self._room, GROUP_BYTES
        for buffer in self._buffers:
            group.append(buffer)
            room -= memoryview(buffer).nbytes
            if room <= 0:
                return group
        self.ended = True
        return group

    def buffered_chunk(self) -> Sequence[Buffer]:
        """Nothing: every group is made; see ``BufferSource``."""
        return ()

    def close(self) -> None:
        """Closes the generator, and with it the packs it has open."""
        close = getattr(self._buffers, "close", None)
        if close is not None:
            close()


async def read_blobs(exchange: Exchange, service: Service, request: ReadBlobs) -> None:
    """Answers a BlobRead: everything is looked up before the first byte is sent."""
    agent = exchange.header(header_names.USER_AGENT).lower() + " "
    if agent.startswith(_UNCOMPRESSED_AGENTS):
        request = msgspec.structs.replace(request, accept_encoding=())

    def begin() -> _ReplySource | SharedPacks:
        if request.mapped:
            shared = _shared(exchange, service, request.references)
            if shared is not None:
                return shared
        plan = service.engine.blobs.read(request)
        for table in plan.tables:
            _check_access(exchange, service, table)
        return _ReplySource(plan)

    with service.reads.enter():
        async with Job.opened(service.workers.cpu, begin, _close) as job:
            source = job.owned
            if isinstance(source, SharedFiles):
                await _send_shared(exchange, source, {})
                return
            headers = {header_names.FRAMING: source.plan.framing}
            if source.plan.coding is not ContentCoding.IDENTITY:
                headers[header_names.CONTENT_ENCODING] = source.plan.coding.value
            await exchange.start(source.plan.length, headers=headers)
            await send_source(exchange, job, source, source.first)


def _close(owned: _ReplySource | SharedPacks) -> None:
    owned.close()


def _shared(exchange: Exchange, service: Service, references: Sequence[str]) -> SharedPacks | None:
    """The packs of blobs, for a caller who may have them and whom they can be passed to."""
    if not exchange.head.same_host:
        return None
    # A session may show some of a table's rows, and its token is for those.
    reading = exchange.principal.reading
    return service.engine.blobs.share(
        references,
        check=functools.partial(_check_access, exchange, service),
        session_id=None if reading is None else reading.session_id,
    )


async def _send_shared(exchange: Exchange, shared: SharedPacks, fields: dict[str, str]) -> None:
    await exchange.reply_with_descriptors(
        encode_mapped_blobs(shared.message),
        shared.descriptors,
        headers={**fields, header_names.DIRECT: header_names.DESCRIPTORS},
    )


# --- single blobs by address -----------------------------------------------------------------


# The bytes are a user's: a browser may show them, but not let them act in this server's name.
_SAFETY_HEADERS = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; img-src 'self' data:; media-src 'self'; "
    "style-src 'unsafe-inline'; sandbox",
}
_MEDIA_TYPE = re.compile(
    r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(?:\s*;\s*[\w!#$&^.+-]+=[\w!#$&^.+-]+)*", re.ASCII
)


async def handle_blob(exchange: Exchange, service: Service) -> None:
    """Answers ``GET`` and ``HEAD /fletching/v1/blobs/{reference}``, ranges included.

    Raises:
        MethodNotAllowedError: another method.
        NotFoundError: the reference is not known.
        RangeNotSatisfiableError: the range lies outside the blob.
        PreconditionFailedError: another blob was wanted.
    """
    exchange.action = "GetBlob"
    if exchange.verb != "GET":
        raise MethodNotAllowedError.of("a blob", exchange.method, ["GET"])
    reference = reference_in_path(exchange.path) or ""
    # Of HEAD a range is no part (RFC 9110, 14.2).
    wanted = None if exchange.is_bodiless else parse_range(exchange.joined_header("range"))

    def find() -> _BlobReply:
        whole = service.engine.blobs.slice(reference)
        _check_access(exchange, service, whole.table)
        if is_not_modified(exchange.joined_header, f'"{whole.etag}"'):
            return _BlobReply(304, whole)
        if (
            not exchange.is_bodiless
            and exchange.header(header_names.DIRECT) == header_names.DESCRIPTORS
        ):
            shared = _shared(exchange, service, [reference])
            if shared is not None:
                return _BlobReply(200, whole, shared=shared)
        if wanted is None or not range_holds(exchange.joined_header, f'"{whole.etag}"'):
            return _BlobReply(200, whole, sends=not exchange.is_bodiless)
        part = service.engine.blobs.slice(reference, *wanted)
        return _BlobReply(206, part, sends=True)

    with service.reads.enter():
        async with Job.opened(service.workers.cpu, find, _BlobReply.close) as job:
            blob = job.owned
            fields = _blob_headers(blob.slice)
            if blob.status == 304:
                await exchange.start(None, status=304, headers=fields)
                await exchange.finish()
                return
            if blob.shared is not None:
                await _send_shared(exchange, blob.shared, fields)
                return
            if blob.status == 206:
                fields["content-range"] = content_range(blob.slice.range, blob.slice.total)
            await exchange.start(blob.slice.length, status=blob.status, headers=fields)
            if blob.source is None:
                await exchange.finish()
                return
            await send_source(exchange, job, blob.source, blob.first)


class _BlobReply:
    """A blob's range and, unless only its headers are sent, the source of its bytes, or its pack."""

    def __init__(
        self,
        status: int,
        part: BlobSlice,
        *,
        sends: bool = False,
        shared: SharedPacks | None = None,
    ) -> None:
        self.status = status
        self.slice = part
        self.shared = shared
        self.source: PlanSource | None = None
        self.first: Sequence[Buffer] = ()
        if sends:
            self.source = PlanSource(part, GROUP_BYTES)
            try:
                self.first = self.source.next_chunk()
            except BaseException:
                self.close()
                raise

    @property
    def ended(self) -> bool:
        return self.shared is None and (self.source is None or self.source.ended)

    def close(self) -> None:
        if self.source is not None:
            self.source.close()
        if self.shared is not None:
            self.shared.close()


def _blob_headers(blob: BlobSlice) -> dict[str, str]:
    content_type = blob.header.content_type or ""
    if not _MEDIA_TYPE.fullmatch(content_type):
        content_type = header_names.OCTET_STREAM
    return {
        "content-type": content_type,
        "content-disposition": content_disposition(blob.header.file_name),
        "accept-ranges": "bytes",
        "etag": f'"{blob.etag}"',
        # What a reference names never changes; who may read it can.
        "cache-control": "private, max-age=3600",
        **_SAFETY_HEADERS,
    }


def _check_access(exchange: Exchange, service: Service, table: TableName) -> None:
    """Refuses a blob of a table that the caller was not granted.

    Raises:
        NoPermissionError: it was not.
    """
    if not service.may_read(exchange, table):
        raise NoPermissionError("the blobs of a table that you may not read were asked for")
