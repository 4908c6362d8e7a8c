"""The Storage API's one handler: action to request, request to engine verb, answer to HTTP.

Both versions and every spelling of the path come here. Nothing is decided about tables or sessions.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from fletching.errors import FletchingError
from fletching.protocol.codec import STREAMING_BODIES, decode_request, encode_response, parse_action
from fletching.protocol.http.body_codings import (
    TableBodyCoding,
    reply_body_coding,
    table_body_coding,
    with_lz4_stream_offered,
)
from fletching.protocol.http.headers import (
    CONTENT_TYPE,
    OCTET_STREAM,
    RETRY_TRACE_ID,
    SESSION_LENGTH,
    USER_AGENT,
)
from fletching.protocol.http.layers import table_body_decoder
from fletching.protocol.messages.manifest import SourceKind
from fletching.protocol.messages.requests import (
    AppendRows,
    CreateReadSession,
    InstanceRequest,
    PreviewTable,
    ReadBlobs,
    ReadInstance,
    ReadTable,
    Request,
    WriteBlob,
    WriteBlobs,
    WriteTable,
)
from fletching.protocol.messages.responses import ReadSession
from fletching.protocol.messages.vocabulary import SplitMode
from fletching.server.api.blob_endpoints import read_blobs, write_blobs
from fletching.server.api.ingest_endpoint import receive_ingest
from fletching.server.api.response_body import (
    PreparedReply,
    prepare_manifest,
    prepare_plan,
    prepare_shared,
    reply_with_plan,
    send_prepared,
)
from fletching.server.http.exchange import Exchange
from fletching.server.server_settings import ReplyCompression
from fletching.server.service import Service
from fletching.server.workers import Job
from fletching.wire.content_coding import ContentCoding, negotiate

__all__ = ["HANDLERS", "Handler", "handle_storage", "reply_coding", "write_rows"]

Handler = Callable[[Exchange, Service, Any], Awaitable[None]]
"""Answers one decoded request."""

_Read = TypeVar("_Read", bound=ReadTable | ReadInstance)

_Sourced = TypeVar("_Sourced", ReadTable, CreateReadSession)

_BUFFER_CODECS = {ContentCoding.ZSTD: "zstd", ContentCoding.LZ4_FRAME: "lz4"}


async def handle_storage(exchange: Exchange, service: Service) -> None:
    """Answers a request to a storage path; raises what becomes its error reply.

    Raises:
        FletchingError: the request is wrong, refused, or failed.
    """
    action = parse_action(exchange.query)
    exchange.action = action
    if action in STREAMING_BODIES:
        await _dispatch(exchange, service, b"")
        return
    # JSON first, then decoding: the body says half of what is asked.
    async with service.small_body(exchange) as body:
        await _dispatch(exchange, service, body)


async def _dispatch(exchange: Exchange, service: Service, body: bytes) -> None:
    request = decode_request(exchange.verb, exchange.query, exchange.header_list, body)
    service.authorize(exchange, request)
    if isinstance(request, InstanceRequest):
        # A result belongs to whoever ran the statement, whatever tables it speaks of.
        find = service.engine.instances.get
        row = await service.workers.io.run(find, request.project, request.instance_id)
        service.authorize_instance(exchange, row)
    handler = HANDLERS.get(type(request), _call)
    await handler(exchange, service, request)


async def _call(exchange: Exchange, service: Service, request: Request) -> None:
    with service.calls.enter():
        response = service.with_token(exchange, request, await service.call(request))
        headers, body = encode_response(response, request)
    if service.settings.reply_compression is not ReplyCompression.OFF:
        headers = with_lz4_stream_offered(headers, exchange.header(USER_AGENT))
    await exchange.reply(body, headers=headers)


async def _open_read(exchange: Exchange, service: Service, request: CreateReadSession) -> None:
    """Opens a read session and, where it is asked for, answers with its first rows as well."""
    if not request.first_split or service.reads.full:
        await _call(exchange, service, request)
        return
    request = _reachable(exchange, request)

    def begin() -> _OpenedSession:
        response = service.engine.call(request)
        if not response.splits_count or response.split_mode is SplitMode.ROW_OFFSET:
            return _OpenedSession(response)
        rows = ReadTable(
            table=request.table,
            session_id=response.session_id,
            index=0,
            sources=request.sources,
        )
        try:
            return _OpenedSession(response, _prepare_read(service, rows))
        except FletchingError:
            # The session is open. Whoever reads the split is told what is wrong with it.
            return _OpenedSession(response)

    with service.reads.enter():
        async with Job.opened(service.workers.cpu, begin, _OpenedSession.close) as job:
            response = service.with_token(exchange, request, job.owned.response)
            rows = job.owned.rows
            headers, body = encode_response(response, request)
            if service.settings.reply_compression is not ReplyCompression.OFF:
                headers = with_lz4_stream_offered(headers, exchange.header(USER_AGENT))
            if rows is None:
                await exchange.reply(body, headers=headers)
                return
            headers |= {CONTENT_TYPE: OCTET_STREAM, SESSION_LENGTH: str(len(body))}
            await send_prepared(exchange, job, rows, headers=headers, head=body)


@dataclasses.dataclass(frozen=True, slots=True)
class _OpenedSession:
    """A session and, if its first rows are sent with it, the reply that they make."""

    response: ReadSession
    rows: PreparedReply | None = None

    @property
    def ended(self) -> bool:
        return self.rows is None or self.rows.ended

    def close(self) -> None:
        if self.rows is not None:
            self.rows.close()


async def _read(exchange: Exchange, service: Service, request: ReadTable | ReadInstance) -> None:
    coding, request = reply_coding(exchange, request, service.settings.reply_compression)
    if isinstance(request, ReadTable):
        request = _reachable(exchange, request)
    if (
        isinstance(request, ReadInstance)
        or not request.sources
        or coding is not ContentCoding.IDENTITY
    ):
        await _stream(exchange, service, request, coding)
        return
    prepare = functools.partial(_prepare_read, service, request)
    with service.reads.enter():
        async with Job.opened(service.workers.cpu, prepare, PreparedReply.close) as job:
            await send_prepared(exchange, job, job.owned)


def _reachable(exchange: Exchange, request: _Sourced) -> _Sourced:
    """The request without the kinds of sources that its connection cannot carry."""
    if exchange.head.same_host or SourceKind.DESCRIPTORS not in request.sources:
        return request
    left = tuple(kind for kind in request.sources if kind is not SourceKind.DESCRIPTORS)
    return msgspec.structs.replace(request, sources=left)


def _prepare_read(service: Service, request: ReadTable) -> PreparedReply:
    """Begins the reply to a read: a manifest, where the client takes one and it is worth it."""
    if SourceKind.DESCRIPTORS in request.sources:
        shared = service.engine.share(request)
        if shared is not None:
            return prepare_shared(shared)
    plan = service.engine.read(request)
    if request.sources and service.settings.direct_reads:
        direct = service.engine.direct_read(
            request, plan, least_bytes=service.settings.direct_least_bytes
        )
        if direct is not None:
            return prepare_manifest(direct)
    return prepare_plan(plan, group_bytes=_group_bytes(service))


async def _preview(exchange: Exchange, service: Service, request: PreviewTable) -> None:
    # Never compressed: no client asks, and none would decode it.
    await _stream(exchange, service, request, ContentCoding.IDENTITY)


async def _stream(
    exchange: Exchange,
    service: Service,
    request: ReadTable | ReadInstance | PreviewTable,
    coding: TableBodyCoding,
) -> None:
    settings = service.settings
    with service.reads.enter():
        await reply_with_plan(
            exchange,
            lambda: service.engine.read(request),
            service.workers.cpu,
            group_bytes=_group_bytes(service),
            coding=coding,
            level=settings.compression_level if coding is ContentCoding.ZSTD else None,
        )


def _group_bytes(service: Service) -> int:
    """One group is sent while the next is prepared, and each may be exceeded by a piece."""
    return max(service.settings.read_memory_bytes // 4, 1)


async def write_rows(
    exchange: Exchange,
    service: Service,
    request: WriteTable | AppendRows,
    *,
    unmarked: bool = False,
) -> None:
    """Takes a body of rows; ``unmarked`` as for `receive_ingest`."""
    coding = table_body_coding(request.content_encoding)
    with service.bodies.enter():
        opening = functools.partial(service.engine.open_ingest, request)
        decoder = None if coding is ContentCoding.IDENTITY else table_body_decoder(coding)
        result = await receive_ingest(
            exchange, opening, service.workers, service.memory, decoder, unmarked=unmarked
        )
    headers, body = encode_response(result, request)
    await exchange.reply(body, headers=headers)


def reply_coding(
    exchange: Exchange, request: _Read, compression: ReplyCompression
) -> tuple[TableBodyCoding, _Read]:
    """Decides how a reply is compressed, if the client asks for it.

    Clients disagree about what the same header means: PyODPS since 0.13.2 (told by its user agent
    and retry id) decodes the whole body, every other client the buffers of the batches. Our own
    client may ask for a coding that nobody else is ever answered with.

    Returns:
        The coding of the whole body, and the request with the Arrow buffer codec filled in.
    """
    if compression in {ReplyCompression.AUTO, ReplyCompression.BODY}:
        ours = reply_body_coding(request.accept_encoding, exchange.header(USER_AGENT))
        if ours is not None:
            return ours, request
    coding = negotiate(request.accept_encoding)
    if coding is ContentCoding.IDENTITY or compression is ReplyCompression.OFF:
        return ContentCoding.IDENTITY, request
    whole = compression is ReplyCompression.BODY
    if compression is ReplyCompression.AUTO:
        user_agent = exchange.header(USER_AGENT).lower()
        whole = user_agent.startswith("pyodps/") and (
            bool(exchange.header(RETRY_TRACE_ID)) or _names_no_schema(exchange)
        )
    if whole:
        return coding, request
    codec = _BUFFER_CODECS.get(coding)
    return ContentCoding.IDENTITY, msgspec.structs.replace(request, buffer_codec=codec)


def _names_no_schema(exchange: Exchange) -> bool:
    return ".schemas." not in dict(exchange.query).get("Target", ".schemas.")


HANDLERS: dict[type[Request], Handler] = {
    CreateReadSession: _open_read,
    ReadTable: _read,
    ReadInstance: _read,
    PreviewTable: _preview,
    WriteTable: write_rows,
    AppendRows: write_rows,
    WriteBlob: write_blobs,
    WriteBlobs: write_blobs,
    ReadBlobs: read_blobs,
}
"""Requests with a streamed body or reply; every other one is a JSON call of the engine."""
