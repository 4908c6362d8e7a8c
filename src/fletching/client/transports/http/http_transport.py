"""The service over HTTP/1.1: the verbs, each by the fastest way that the service offers and the caller wants."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Self

import msgspec
import pyarrow as pa

from fletching.client.cancellation import Cancellation
from fletching.client.retry import RetrySequence
from fletching.client.transports.direct.manifest_reader import ManifestReader
from fletching.client.transports.http.arrow_response import ArrowReply
from fletching.client.transports.http.coded_response import ReplyBytes, uncoded
from fletching.client.transports.http.direct_reads import manifest_of
from fletching.client.transports.http.http_blobs import HttpBlobVerbs
from fletching.client.transports.http.http_response import Reply, stated_length
from fletching.client.transports.http.mapped_reply import MappedReply
from fletching.client.transports.http.request_body import (
    RequestBody,
    SpooledBody,
    arrow_body,
    coded_body,
)
from fletching.client.transports.http.round_trips import BUSY_SECONDS, connections_for
from fletching.client.transports.http.service_exchanges import REPLY_BYTES, endpoint_of
from fletching.client.transports.transport import BatchSource, ReadRequest
from fletching.protocol.http import headers as header_names
from fletching.protocol.http.body_codings import StreamCoding, offers_lz4_stream
from fletching.protocol.messages.manifest import Manifest, SourceKind
from fletching.protocol.messages.mapped_rows import decode_mapped_rows
from fletching.protocol.messages.requests import (
    AppendRows,
    CreateReadSession,
    ReadTable,
    Reply_co,
    Request,
    WriteTable,
)
from fletching.protocol.messages.responses import ReadSession, WriteResult

__all__ = ["HttpTransport", "endpoint_of"]


class HttpTransport(HttpBlobVerbs):
    """A `fletching.client.transports.transport.Transport` over HTTP. Thread-safe.

    Attributes:
        supports_parallel_reads: always.
        endpoint: scheme, host and port.
    """

    supports_parallel_reads = True

    @property
    def default_connections(self) -> int:
        """As many as the way to the service holds, by how long its answers take (`connections_for`)."""
        shortest = self._round_trips.shortest
        if self._is_this_host and shortest is not None and shortest < BUSY_SECONDS:
            return 1
        return connections_for(shortest)

    # --- verbs -------------------------------------------------------------------------------

    def call(self, request: Request[Reply_co], attempt: RetrySequence) -> Reply_co:
        """See `Transport.call`."""
        parts = self._encode(request)
        reply = self._exchange(parts, attempt)
        if offers_lz4_stream(reply.headers):
            self._takes_lz4_stream = True
        return self._decode(request, reply)

    def open_session(
        self, request: CreateReadSession, attempt: RetrySequence
    ) -> tuple[ReadSession, BatchSource | None]:
        """See `Transport.open_session`; the reply is the session's JSON, then its first rows."""
        if attempt.options.lz4_stream or attempt.options.compression is not None:
            # Those are agreed on by the headers of a read, which this is not.
            return self.call(request, attempt), None
        request = msgspec.structs.replace(request, first_split=True)
        reply = self._ask_this_host(request, attempt)
        if reply is None:
            sources = self._direct.kinds(attempt.options)
            parts = self._encode(msgspec.structs.replace(request, sources=sources))
            reply = self._exchange(parts, attempt)
        if offers_lz4_stream(reply.headers):
            self._takes_lz4_stream = True
        length = stated_length(reply, header_names.SESSION_LENGTH, REPLY_BYTES)
        if length is None:
            return self._decode(request, reply), None
        try:
            session = self._decoded(request, reply, reply.read_exactly(length))
            rows = ReadTable(table=request.table, session_id=session.session_id, index=0)
            return session, self._received(reply, rows, attempt)
        except BaseException:
            reply.close()
            raise

    def read(self, request: ReadRequest, attempt: RetrySequence) -> BatchSource:
        """See `Transport.read`; stored bytes are fetched past the service where it offers that."""
        if not isinstance(request, ReadTable):
            return self._read_rows(request, attempt)
        reply = self._ask_this_host(request, attempt)
        if reply is None:
            reply = self._ask_rows(request, attempt)
        return self._received(reply, request, attempt)

    def _read_rows(self, request: ReadRequest, attempt: RetrySequence) -> ArrowReply:
        """The rows as the service sends them."""
        return ArrowReply(uncoded(self._open_read(request, attempt)), self._limits)

    def _ask_rows(self, request: ReadTable, attempt: RetrySequence) -> Reply:
        """Asks for rows, or for where they are."""
        sources = self._direct.kinds(attempt.options)
        if not sources:
            return self._open_read(request, attempt)
        return self._exchange(
            self._encode(msgspec.structs.replace(request, sources=sources)), attempt
        )

    def _received(self, reply: Reply, request: ReadTable, attempt: RetrySequence) -> BatchSource:
        """The rows of a reply: it came with the files they are in, says where they are, or has them."""
        if reply.headers.get(header_names.DIRECT) == header_names.DESCRIPTORS:
            return self._by_mapping(reply, request, attempt)
        manifest = manifest_of(reply)
        if manifest is not None:
            return self._by_manifest(manifest, request, attempt, reply.request_id)
        return ArrowReply(uncoded(reply), self._limits)

    def _by_manifest(
        self,
        manifest: Manifest,
        request: ReadTable,
        attempt: RetrySequence,
        request_id: str | None,
    ) -> ManifestReader:
        """What reads by a manifest, and asks this transport for what it cannot."""

        def ask(wanted: ReadTable, may_be_direct: bool) -> Manifest | BatchSource:  # one caller
            if not may_be_direct:
                return self._read_rows(wanted, attempt)
            reply = self._ask_rows(wanted, attempt)
            newer = manifest_of(reply)
            return ArrowReply(uncoded(reply), self._limits) if newer is None else newer

        return self._direct.reader(
            manifest,
            request,
            ask=ask,
            options=attempt.options,
            cancellation=Cancellation(attempt.cancellation, self.cancellation),
            limits=self._limits,
            request_id=request_id,
        )

    def write(
        self,
        request: WriteTable | AppendRows,
        batches: Sequence[pa.RecordBatch],
        schema: pa.Schema,
        attempt: RetrySequence,
    ) -> WriteResult:
        """See `Transport.write`; the batches' buffers go to the socket without a copy."""
        body = arrow_body(schema, batches, compression=attempt.options.compression)
        if attempt.options.lz4_stream and self._takes_lz4_stream:
            coding = StreamCoding.LZ4_STREAM
            body = coded_body(body, coding)
            request = msgspec.structs.replace(request, content_encoding=coding.value)
        return self.write_body(request, body, attempt)

    def write_body(
        self,
        request: WriteTable | AppendRows,
        body: RequestBody,
        attempt: RetrySequence,
    ) -> WriteResult:
        """Sends a TableWrite whose body is made already."""
        request = msgspec.structs.replace(request, retry_trace_id=attempt.trace_id)
        reply = self._exchange(self._encode(request), attempt, body=body)
        return self._decode(request, reply)

    def open_read(self, request: ReadRequest, attempt: RetrySequence) -> ReplyBytes:
        """See `Transport.open_read`."""
        return uncoded(self._open_read(request, attempt))

    def open_write(self, request: WriteTable | AppendRows, attempt: RetrySequence) -> SpooledBody:
        """See `Transport.open_write`."""
        return SpooledBody(lambda body: self.write_body(request, body, attempt))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- reads on one host -------------------------------------------------------------------

    def _ask_this_host(
        self, request: ReadTable | CreateReadSession, attempt: RetrySequence
    ) -> Reply | None:
        """Asks for rows where descriptors are passed; None if that cannot be, and nothing was asked."""
        if attempt.options.lz4_stream or attempt.options.compression is not None:
            return None
        if self._pool_here(attempt) is None:
            return None  # before the request is encoded, which is a twentieth of a small scan's client time
        # What lies in an object store has no descriptors; it may be fetched from there all the same.
        sources = (SourceKind.DESCRIPTORS, *self._direct.kinds(attempt.options))
        parts = self._encode(msgspec.structs.replace(request, sources=sources))
        return self._exchange_here(parts, attempt)

    def _by_mapping(self, reply: Reply, request: ReadTable, attempt: RetrySequence) -> MappedReply:
        """What reads from the files that came with a reply."""
        descriptors, body = reply.read_with_descriptors(REPLY_BYTES)
        try:
            message = decode_mapped_rows(body, len(descriptors))
        except BaseException:
            for number in descriptors:
                os.close(number)
            raise
        by_service = attempt.with_options(direct="never")
        return MappedReply(
            message,
            self._same_host.segments.take(descriptors, message.lengths),
            reply.request_id,
            cancellation=Cancellation(attempt.cancellation, self.cancellation),
            by_service=lambda run: self.read(
                msgspec.structs.replace(
                    request, index=None, offset=run.offset, count=run.count, skip_rows=0
                ),
                by_service,
            ),
            following=lambda rows: self.read(
                msgspec.structs.replace(request, skip_rows=request.skip_rows + rows),
                attempt,
            ),
            limits=self._limits,
        )

    def _open_read(self, request: ReadRequest, attempt: RetrySequence) -> Reply:
        if hasattr(request, "accept_encoding"):
            wanted: tuple[str, ...] = ()
            if attempt.options.lz4_stream:
                wanted = (StreamCoding.LZ4_STREAM.value,)
            elif attempt.options.compression is not None:
                wanted = ({"lz4": "x-lz4-frame", "zstd": "zstd"}[attempt.options.compression],)
            if wanted:
                request = msgspec.structs.replace(request, accept_encoding=wanted)
        parts = self._encode(request)
        return self._exchange(parts, attempt)
