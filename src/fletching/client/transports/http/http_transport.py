"""The service over HTTP/1.1: the verbs, each by the fastest way that the service offers and the caller wants."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from typing import Self

import msgspec
import pyarrow as pa

from fletching.client.call_options import CallOptions
from fletching.client.cancellation import Cancellation
from fletching.client.credentials import Credentials, SessionCredentials
from fletching.client.retry import RetrySequence
from fletching.client.transports.direct.direct_access import DirectAccess
from fletching.client.transports.direct.manifest_reader import ManifestReader
from fletching.client.transports.http.arrow_response import ArrowReply
from fletching.client.transports.http.blob_packs import OpenPacks
from fletching.client.transports.http.coded_response import RawReply, ReplyBytes, uncoded
from fletching.client.transports.http.connections import (
    make_pool_manager,
)
from fletching.client.transports.http.direct_reads import manifest_of, manifest_or_none
from fletching.client.transports.http.http_blobs import HttpBlobVerbs
from fletching.client.transports.http.http_response import Reply
from fletching.client.transports.http.mapped_reply import MappedReply
from fletching.client.transports.http.request_body import (
    RequestBody,
    SpooledBody,
    arrow_body,
    coded_body,
)
from fletching.client.transports.http.round_trips import (
    BUSY_SECONDS,
    connections_for,
)
from fletching.client.transports.http.service_exchanges import (
    AGENT,
    REPLY_BYTES,
    endpoint_of,
)
from fletching.client.transports.transport import BatchSource, ReadRequest
from fletching.errors import (
    ProtocolError,
    TransportError,
)
from fletching.ipc import Limits
from fletching.protocol.codec import HttpRequest
from fletching.protocol.http import headers as header_names
from fletching.protocol.http.body_codings import StreamCoding, offers_lz4_stream
from fletching.protocol.messages.manifest import (
    Manifest,
    SourceKind,
)
from fletching.protocol.messages.mapped_rows import decode_mapped_rows
from fletching.protocol.messages.requests import (
    AppendRows,
    CreateReadSession,
    ReadTable,
    Request,
    WriteTable,
)
from fletching.protocol.messages.responses import ReadSession, Response, WriteResult
from fletching.protocol.messages.vocabulary import ApiVersion

__all__ = ["HttpTransport", "endpoint_of"]


class HttpTransport(HttpBlobVerbs):
    """A `fletching.client.transports.transport.Transport` over HTTP. Thread-safe.

    Attributes:
        supports_parallel_reads: always.
        endpoint: scheme, host and port.
    """

    supports_parallel_reads = True

    def __init__(
        self,
        url: str,
        credentials: Credentials | SessionCredentials,
        *,
        connections: int = 8,
        proxy: str | None = None,
        ca_certificates: str | None = None,
        api_version: ApiVersion = ApiVersion.V3,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Connects nowhere yet.

        Args:
            url: see `endpoint_of`.
            credentials: sign every request, or stand in every request for what signs.
            connections: kept open at most while idle.
            proxy: URL of an HTTP proxy; see `proxy_for`.
            ca_certificates: file of the authorities to trust instead of the system's.
            api_version: of the storage path.
            limits: what the messages of a reply may claim.
            clock: counts timeouts.
            wall_clock: dates the signatures.
        """
        super().__init__(
            url,
            credentials,
            connections=connections,
            proxy=proxy,
            ca_certificates=ca_certificates,
            api_version=api_version,
            clock=clock,
            wall_clock=wall_clock,
        )
        self._limits = limits or Limits()
        self._direct = DirectAccess(
            make_manager=lambda its_proxy: make_pool_manager(
                connections=connections, proxy=its_proxy, ca_certificates=ca_certificates
            ),
            proxy=proxy,
            secure=self.endpoint.startswith("https:"),
            headers={header_names.USER_AGENT: AGENT, header_names.ACCEPT_ENCODING: "identity"},
            clock=clock,
        )
        # Whether the service said that it takes our own coding; then it goes on doing so.
        self._takes_lz4_stream = False

    @property
    def default_connections(self) -> int:
        """As many as the way to the service holds, by how long its answers take (`connections_for`)."""
        shortest = self._round_trips.shortest
        if self._is_this_host and shortest is not None and shortest < BUSY_SECONDS:
            return 1
        return connections_for(shortest)

    # --- verbs -------------------------------------------------------------------------------

    def call(self, request: Request, options: CallOptions, attempt: RetrySequence) -> Response:
        """See `Transport.call`."""
        parts = self._encode(request)
        body = RequestBody([parts.body], idle_seconds=options.timeouts.idle)
        reply = self._exchange(parts, body, options, attempt)
        if offers_lz4_stream(reply.headers):
            self._takes_lz4_stream = True
        return self._decode(request, reply)

    def open_session(
        self, request: CreateReadSession, options: CallOptions, attempt: RetrySequence
    ) -> tuple[Response, BatchSource | None]:
        """See `Transport.open_session`; the reply is the session's JSON, then its first rows."""
        if options.lz4_stream or options.compression is not None:
            # Those are agreed on by the headers of a read, which this is not.
            return self.call(request, options, attempt), None
        request = msgspec.structs.replace(request, first_split=True)
        reply = self._ask_this_host(request, options, attempt)
        if reply is None:
            sources = self._direct.kinds(options)
            parts = self._encode(msgspec.structs.replace(request, sources=sources))
            body = RequestBody([parts.body], idle_seconds=options.timeouts.idle)
            reply = self._exchange(parts, body, options, attempt)
        if offers_lz4_stream(reply.headers):
            self._takes_lz4_stream = True
        length = reply.headers.get(header_names.SESSION_LENGTH)
        if length is None:
            return self._decode(request, reply), None
        try:
            session = self._decoded(request, reply, reply.read_exactly(_session_length(length)))
            if reply.headers.get(header_names.DIRECT) == header_names.DESCRIPTORS:
                rows = ReadTable(
                    table=request.table, session_id=getattr(session, "session_id", ""), index=0
                )
                return session, self._by_mapping(reply, rows, options, attempt)
            manifest = manifest_of(reply)
        except BaseException:
            reply.close()
            raise
        if manifest is None:
            return session, ArrowReply(
                reply, reply.headers.get(header_names.REQUEST_ID), self._limits
            )
        if not isinstance(session, ReadSession):
            raise ProtocolError(
                "a manifest came with another reply than a session's", side="remote"
            )
        rows = ReadTable(table=request.table, session_id=session.session_id, index=0)
        return session, self._by_manifest(manifest, rows, options, attempt, reply)

    def read(
        self, request: ReadRequest, options: CallOptions, attempt: RetrySequence
    ) -> BatchSource:
        """See `Transport.read`; stored bytes are fetched past the service where it offers that."""
        if not isinstance(request, ReadTable):
            return self._read_rows(request, options, attempt)
        reply = self._ask_this_host(request, options, attempt)
        if reply is not None:
            if reply.headers.get(header_names.DIRECT) == header_names.DESCRIPTORS:
                return self._by_mapping(reply, request, options, attempt)
            manifest = manifest_or_none(reply)
            if manifest is not None:
                return self._by_manifest(manifest, request, options, attempt, reply)
            return ArrowReply(reply, reply.headers.get(header_names.REQUEST_ID), self._limits)
        answer = self._ask_rows(request, options, attempt)
        if isinstance(answer, _Directions):
            return self._by_manifest(answer.manifest, request, options, attempt, answer.reply)
        return answer

    def _read_rows(
        self, request: ReadRequest, options: CallOptions, attempt: RetrySequence
    ) -> ArrowReply:
        """The rows as the service sends them."""
        reply = self._open_read(request, options, attempt)
        return ArrowReply(reply, reply.headers.get(header_names.REQUEST_ID), self._limits)

    def _ask_rows(
        self, request: ReadTable, options: CallOptions, attempt: RetrySequence
    ) -> ArrowReply | _Directions:
        """The rows, or where they are."""
        sources = self._direct.kinds(options)
        if not sources:
            return self._read_rows(request, options, attempt)
        request = msgspec.structs.replace(request, sources=sources)
        parts = self._encode(request)
        body = RequestBody([parts.body], idle_seconds=options.timeouts.idle)
        reply = self._exchange(parts, body, options, attempt)
        manifest = manifest_or_none(reply)
        if manifest is not None:
            return _Directions(manifest, reply)
        return ArrowReply(uncoded(reply), reply.headers.get(header_names.REQUEST_ID), self._limits)

    def _by_manifest(
        self,
        manifest: Manifest,
        request: ReadTable,
        options: CallOptions,
        attempt: RetrySequence,
        reply: Reply,
    ) -> ManifestReader:
        """What reads by a manifest, and asks this transport for what it cannot."""

        def ask(wanted: ReadTable, may_be_direct: bool) -> Manifest | BatchSource:  # one caller
            if not may_be_direct:
                return self._read_rows(wanted, options, attempt)
            answer = self._ask_rows(wanted, options, attempt)
            return answer.manifest if isinstance(answer, _Directions) else answer

        return self._direct.reader(
            manifest,
            request,
            ask=ask,
            options=options,
            cancellation=Cancellation(attempt.cancellation, self.cancellation),
            limits=self._limits,
            request_id=reply.headers.get(header_names.REQUEST_ID),
        )

    def write(
        self,
        request: WriteTable | AppendRows,
        batches: Sequence[pa.RecordBatch],
        schema: pa.Schema,
        options: CallOptions,
        attempt: RetrySequence,
    ) -> WriteResult:
        """See `Transport.write`; the batches' buffers go to the socket without a copy."""
        body = arrow_body(
            schema,
            batches,
            compression=options.compression,
            idle_seconds=options.timeouts.idle,
        )
        if options.lz4_stream and self._takes_lz4_stream:
            coding = StreamCoding.LZ4_STREAM
            body = coded_body(body, coding)
            request = msgspec.structs.replace(request, content_encoding=coding.value)
        return self.write_body(request, body, options, attempt)

    def write_body(
        self,
        request: WriteTable | AppendRows,
        body: RequestBody,
        options: CallOptions,
        attempt: RetrySequence,
    ) -> WriteResult:
        """Sends a TableWrite whose body is made already."""
        request = msgspec.structs.replace(request, retry_trace_id=attempt.trace_id)
        reply = self._exchange(self._encode(request), body, options, attempt)
        result = self._decode(request, reply)
        assert isinstance(result, WriteResult)
        return result

    def open_read(
        self, request: ReadRequest, options: CallOptions, attempt: RetrySequence
    ) -> RawReply:
        """See `Transport.open_read`."""
        reply = self._open_read(request, options, attempt)
        return RawReply(reply, reply.headers.get(header_names.REQUEST_ID))

    def open_write(
        self, request: WriteTable | AppendRows, options: CallOptions, attempt: RetrySequence
    ) -> SpooledBody:
        """See `Transport.open_write`."""
        return SpooledBody(
            lambda body: self.write_body(request, body, options, attempt),
            idle_seconds=options.timeouts.idle,
        )

    def close(self) -> None:
        """Closes connections, those in use too: what waits for them in other threads ends."""
        super().close()
        self._direct.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def _packs(self) -> OpenPacks:
        return self._same_host.packs

    # --- reads on one host -------------------------------------------------------------------

    def _ask_this_host(
        self, request: ReadTable | CreateReadSession, options: CallOptions, attempt: RetrySequence
    ) -> Reply | None:
        """Asks for rows where descriptors are passed; None if that cannot be, and nothing was asked."""
        if options.lz4_stream or options.compression is not None:
            return None
        # What lies in an object store has no descriptors; it may be fetched from there all the same.
        sources = (SourceKind.DESCRIPTORS, *self._direct.kinds(options))
        parts = self._encode(msgspec.structs.replace(request, sources=sources))
        return self._exchange_here(parts, options, attempt)

    def _exchange_here(
        self, parts: HttpRequest, options: CallOptions, attempt: RetrySequence
    ) -> Reply | None:
        pool = None if options.direct == "never" else self._same_host.pool
        if pool is None:
            return None
        body = RequestBody([parts.body], idle_seconds=options.timeouts.idle)
        try:
            return self._exchange(parts, body, options, attempt, this_host=pool)
        except TransportError:
            # The service itself may be well: it is asked as ever.
            self._same_host.leave(pool)
            return None

    def _by_mapping(
        self, reply: Reply, request: ReadTable, options: CallOptions, attempt: RetrySequence
    ) -> MappedReply:
        """What reads from the files that came with a reply."""
        descriptors, body = reply.read_with_descriptors(REPLY_BYTES)
        try:
            message = decode_mapped_rows(body, len(descriptors))
        except BaseException:
            for number in descriptors:
                os.close(number)
            raise
        by_service = options.changed(direct="never")
        return MappedReply(
            message,
            self._same_host.segments.take(descriptors, message.lengths),
            reply.headers.get(header_names.REQUEST_ID),
            cancellation=Cancellation(attempt.cancellation, self.cancellation),
            by_service=lambda run: self.read(
                msgspec.structs.replace(
                    request, index=None, offset=run.offset, count=run.count, skip_rows=0
                ),
                by_service,
                attempt,
            ),
            following=lambda rows: self.read(
                msgspec.structs.replace(request, skip_rows=request.skip_rows + rows),
                options,
                attempt,
            ),
            limits=self._limits,
        )

    def _open_read(
        self, request: ReadRequest, options: CallOptions, attempt: RetrySequence
    ) -> ReplyBytes:
        if hasattr(request, "accept_encoding"):
            wanted: tuple[str, ...] = ()
            if options.lz4_stream:
                wanted = (StreamCoding.LZ4_STREAM.value,)
            elif options.compression is not None:
                wanted = ({"lz4": "x-lz4-frame", "zstd": "zstd"}[options.compression],)
            if wanted:
                request = msgspec.structs.replace(request, accept_encoding=wanted)
        parts = self._encode(request)
        body = RequestBody([parts.body], idle_seconds=options.timeouts.idle)
        return uncoded(self._exchange(parts, body, options, attempt))


@dataclasses.dataclass(frozen=True, slots=True)
class _Directions:
    """A manifest, and the reply that it came in, which has ended."""

    manifest: Manifest
    reply: Reply


def _session_length(value: str) -> int:
    """Bytes of a session's JSON before its first rows.

    Raises:
        ProtocolError: no such number, or one above what a reply of one value may have.
    """
    if not value.isascii() or not value.isdigit() or len(value) > 12 or int(value) > REPLY_BYTES:
        raise ProtocolError(
            f"{header_names.SESSION_LENGTH} of the reply is {value[:40]!r}", side="remote"
        )
    return int(value)
