"""Blobs over HTTP: uploads into packs, replies of the Storage API, and single blobs by address.

::

    upload    socket ──recv──> buffer ──> worker: decode, verify, checksum, store ──> pack
                                              └──> thread: MD5
    reply     worker: read, verify, frame, checksum ──> socket
    GET       mapped pages ──> socket
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator, Sequence

import msgspec
import pyarrow as pa
from typing_extensions import Buffer

from fletching.engine.blobs.blob_reading import BlobReadPlan
from fletching.engine.blobs.blob_service import BlobSlice
from fletching.engine.blobs.blob_uploads import BlobUpload
from fletching.errors import MethodNotAllowedError, NoPermissionError, PayloadTooLargeError
from fletching.protocol.codec import encode_response
from fletching.protocol.http import headers as names
from fletching.protocol.http.blob_links import (
    content_disposition,
    content_range,
    parse_range,
    reference_in_path,
)
from fletching.protocol.messages.requests import ReadBlobs, WriteBlob, WriteBlobs
from fletching.protocol.messages.responses import BlobReferences
from fletching.protocol.messages.vocabulary import ApiVersion
from fletching.server.api.response_body import PlanSource, send_source
from fletching.server.http.exchange import Exchange
from fletching.server.request_limits import MemoryBudget
from fletching.server.service import Service
from fletching.server.workers import Workers
from fletching.types import TableName
from fletching.wire.content_coding import ContentCoding

__all__ = ["handle_blob", "read_blobs", "write_blobs"]

FIRST_BUFFER_BYTES = 64 << 10
LAST_BUFFER_BYTES = 1 << 20
"""Uploads are received into buffers that grow from the first size to the last."""
GROUP_BYTES = 2 << 20
"""A reply is prepared by groups of about this size, one ahead of the socket."""
# From PyODPS 0.13.2 on the checksums come off first (PROTOCOL 5.3); older ones cannot read a
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
        return self._filled < len(self._buffer) or not self._turn()

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

    def _turn(self) -> bool:
        if self._filled:
            self._full.append(self._buffer[: self._filled])
            if self._filled == len(self._buffer):
                self._size = min(2 * self._size, LAST_BUFFER_BYTES)
            self._buffer = _allocated(self._size)
            self._filled = 0
        return True

    def take(self, *, ended: bool) -> list[memoryview]:
        """Hands out the full buffers; at the end of the body also the last one."""
        if ended:
            self._turn()
        taken, self._full = self._full, []
        return taken


async def write_blobs(
    exchange: Exchange, service: Service, request: WriteBlob | WriteBlobs, version: ApiVersion
) -> None:
    """Answers a TableWriteBlob."""
    limit = service.engine.context.settings.max_blob_upload_bytes
    if (exchange.body.content_length or 0) > limit:
        raise PayloadTooLargeError(f"the upload is above the limit of {limit} bytes", limit=limit)
    with service.bodies.enter():
        upload = await service.workers.call(service.engine.blobs.open_upload, request)
        result = await _receive(exchange, upload, service.workers, service.memory)
    headers, body = encode_response(result, request, version)
    await exchange.reply(body, headers=headers)


async def _receive(
    exchange: Exchange, upload: BlobUpload, workers: Workers, budget: MemoryBudget
) -> BlobReferences:
    """Feeds the body to the upload, one buffer in the worker while the next is received."""
    sink = _BufferSink()
    storing: asyncio.Future[None] | None = None
    held = 0
    try:
        ended = False
        while not ended:
            ended = await exchange.pump(sink)
            chunks = sink.take(ended=ended)
            if storing is not None:
                await storing
                storing = None
                budget.give(held)
                held = 0
            if chunks:
                size = sum(map(len, chunks))
                await budget.take(size)
                held = size
                storing = workers.bulk(upload.accept, chunks)
                del chunks
        if storing is not None:
            await storing
            storing = None
        return await workers.bulk(upload.finish)
    except BaseException:
        if storing is not None and not storing.done():
            # The upload belongs to one thread at a time.
            await asyncio.wait({storing})
        await workers.bulk(upload.abort)
        raise
    finally:
        budget.give(held)


# --- replies ---------------------------------------------------------------------------------


class _ReplySource:
    """The buffers of a reply, by groups."""

    def __init__(self, plan: BlobReadPlan) -> None:
        self._buffers: Iterator[Buffer] = plan.buffers()
        self.ended = False

    def next_group(self) -> Sequence[Buffer]:
        """Reads, verifies and frames until the group is full; see ``BufferSource``."""
        group: list[Buffer] = []
        room = GROUP_BYTES
        for buffer in self._buffers:
            group.append(buffer)
            room -= memoryview(buffer).nbytes
            if room <= 0:
                return group
        self.ended = True
        return group

    def ready_group(self) -> Sequence[Buffer]:
        """Nothing: every group is made; see ``BufferSource``."""
        return ()

    def close(self) -> None:
        """Closes the generator, and with it the packs it has open."""
        close = getattr(self._buffers, "close", None)
        if close is not None:
            close()


async def read_blobs(
    exchange: Exchange, service: Service, request: ReadBlobs, _version: ApiVersion
) -> None:
    """Answers a BlobRead: everything is looked up before the first byte is sent."""
    agent = exchange.header(names.USER_AGENT).lower() + " "
    if agent.startswith(_UNCOMPRESSED_AGENTS):
        request = msgspec.structs.replace(request, accept_encoding=())

    def begin() -> tuple[BlobReadPlan, _ReplySource, Sequence[Buffer]]:
        plan = service.engine.blobs.read(request)
        for table in plan.tables:
            _check_access(exchange, service, table)
        source = _ReplySource(plan)
        try:
            return plan, source, source.next_group()
        except BaseException:
            source.close()
            raise

    with service.reads.enter():
        plan, source, group = await service.workers.bulk(begin)
        headers = {names.FRAMING: "frames" if plan.framed else "raw"}
        if plan.coding is not ContentCoding.IDENTITY:
            headers[names.CONTENT_ENCODING] = plan.coding.value
        try:
            await exchange.start(plan.length, headers=headers)
        except BaseException:
            await service.workers.bulk(source.close)
            raise
        await send_source(exchange, source, group, service.workers)


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
    """
    exchange.action = "GetBlob"
    if exchange.method not in {"GET", "HEAD"}:
        raise MethodNotAllowedError("a blob can be read with GET and HEAD")
    reference = reference_in_path(exchange.path) or ""
    wanted = parse_range(exchange.header("range"))

    def find() -> tuple[int, BlobSlice]:
        whole = service.engine.blobs.slice(reference)
        _check_access(exchange, service, whole.table)
        if _is_named(whole, exchange.header("if-none-match")):
            return 304, whole
        if wanted is None or exchange.header("if-range") not in {"", f'"{whole.etag}"'}:
            return 200, whole
        return 206, service.engine.blobs.slice(reference, *wanted)

    with service.reads.enter():
        status, found = await service.workers.call(find)
        fields = _blob_headers(found)
        if status == 304:
            await exchange.start(None, status=304, headers=fields)
            await exchange.finish()
            return
        if status == 206:
            fields["content-range"] = content_range(found.range, found.total)
        if exchange.method == "HEAD":
            await exchange.start(found.length, status=status, headers=fields)
            await exchange.finish()
            return
        await _send_slice(exchange, service, found, status, fields)


def _is_named(found: BlobSlice, header: str) -> bool:
    """Whether an ``If-None-Match`` names what the client would get."""
    tags = {tag.strip().removeprefix("W/") for tag in header.split(",")}
    return f'"{found.etag}"' in tags or "*" in tags


def _blob_headers(found: BlobSlice) -> dict[str, str]:
    content_type = found.header.content_type or ""
    if not _MEDIA_TYPE.fullmatch(content_type):
        content_type = names.OCTET_STREAM
    return {
        "content-type": content_type,
        "content-disposition": content_disposition(found.header.file_name),
        "accept-ranges": "bytes",
        "etag": f'"{found.etag}"',
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


async def _send_slice(
    exchange: Exchange, service: Service, found: BlobSlice, status: int, fields: dict[str, str]
) -> None:
    source = PlanSource(found, GROUP_BYTES)
    try:
        group = await service.workers.bulk(source.next_group)
        await exchange.start(found.length, status=status, headers=fields)
    except BaseException:
        with contextlib.suppress(asyncio.CancelledError):
            await service.workers.bulk(source.close)
        raise
    await send_source(exchange, source, group, service.workers)
