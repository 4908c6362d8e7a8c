"""The service over HTTP/1.1: the protocol's codec, urllib3's connections, signatures, faults."""

from __future__ import annotations

import dataclasses
import email.utils
import functools
import os
import platform
import threading
import time
import urllib.parse
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Self

import msgspec
import pyarrow as pa
import urllib3

from fletching._version import __version__
from fletching.client.call_options import CallOptions
from fletching.client.cancellation import Cancellation
from fletching.client.credentials import Credentials, SessionCredentials
from fletching.client.retry import RetrySequence
from fletching.client.transports.direct.direct_access import DirectAccess
from fletching.client.transports.direct.manifest_reader import ManifestReader
from fletching.client.transports.http.arrow_response import ArrowReply
from fletching.client.transports.http.client_spans import ClientSpan, client_span
from fletching.client.transports.http.coded_response import ReplyBytes, uncoded
from fletching.client.transports.http.connections import (
    DirectPool,
    Interrupter,
    make_pool_manager,
)
from fletching.client.transports.http.direct_reads import DirectReads
from fletching.client.transports.http.http_blobs import HttpBlobVerbs
from fletching.client.transports.http.http_response import Reply, Stopwatch
from fletching.client.transports.http.mapped_reply import MappedReply
from fletching.client.transports.http.proxies import proxy_for
from fletching.client.transports.http.raw_bodies import RawReply, SpooledBody
from fletching.client.transports.http.request_body import (
    RequestBody,
    StreamedBody,
    arrow_body,
    coded_body,
)
from fletching.client.transports.http.round_trips import (
    BUSY_SECONDS,
    RoundTrips,
    connections_for,
    is_this_host,
)
from fletching.client.transports.http.transport_errors import translated
from fletching.client.transports.transport import BatchSource, ReadRequest
from fletching.errors import (
    ConnectionBrokenError,
    ProtocolError,
    TransportError,
    UsageError,
)
from fletching.ipc import Limits
from fletching.protocol.codec import (
    HttpRequest,
    decode_admin_response,
    decode_response,
    encode_admin_request,
    encode_request,
    is_admin_request,
)
from fletching.protocol.http import headers as names
from fletching.protocol.http.body_codings import StreamCoding, offers_lz4_stream
from fletching.protocol.http.error_codec import decode_fault
from fletching.protocol.messages.manifest import (
    MAX_MANIFEST_BYTES,
    Manifest,
    SourceKind,
    decode_manifest,
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

REPLY_BYTES = 256 * 1024 * 1024
"""Longest reply of one value: a page of tables with wide schemas is far below."""

FAULT_BYTES = 1024 * 1024
"""Longest error reply that is read."""

_SMALL_REQUEST_BYTES = 64 * 1024
"""A request that is sent as a whole before anything is waited for."""

_ROUTE_TOKENS = 4096
"""Sessions whose route token is remembered; a forgotten one costs locality, never correctness."""

_AGENT = f"fletching/{__version__} {platform.python_implementation()}/{platform.python_version()}"


def endpoint_of(url: str) -> str:
    """Scheme, host and port of a service's URL; a path ``/api``, as PyODPS writes it, is dropped.

    Raises:
        UsageError: not an ``http://`` or ``https://`` URL, or one with user, query or another path.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise UsageError(f"not a URL: {exc}") from exc
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError("the service's URL is http://host:port or https://host:port")
    if (
        parts.username
        or parts.query
        or parts.fragment
        or parts.path.rstrip("/") not in {"", "/api"}
    ):
        raise UsageError(
            "the service's URL has no user, path or query; credentials are access_id and access_key"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "")


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
        self.endpoint = endpoint_of(url)
        self.cancellation = Cancellation()
        self._round_trips = RoundTrips()
        self._is_this_host = is_this_host(self.endpoint)
        given_proxy = proxy
        proxy = proxy_for(self.endpoint, proxy)
        self._credentials = credentials
        self._api_version = api_version
        self._limits = limits or Limits()
        self._clock = clock
        self._wall_clock = wall_clock
        self._make_manager = functools.partial(
            make_pool_manager,
            connections=connections,
            proxy=proxy,
            ca_certificates=ca_certificates,
        )
        self._same_host = DirectReads(self.endpoint, connections=connections)
        self._is_proxied = proxy is not None
        self._direct = DirectAccess(
            make_manager=lambda its_proxy: make_pool_manager(
                connections=connections, proxy=its_proxy, ca_certificates=ca_certificates
            ),
            proxy=given_proxy,
            secure=self.endpoint.startswith("https:"),
            headers={names.USER_AGENT: _AGENT, names.ACCEPT_ENCODING: "identity"},
            clock=clock,
        )
        self._manager = self._make_manager()
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._route_tokens: OrderedDict[str, str] = OrderedDict()
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
        length = reply.headers.get(names.SESSION_LENGTH)
        if length is None:
            return self._decode(request, reply), None
        try:
            session = self._decoded(request, reply, reply.read_exactly(_session_length(length)))
            if reply.headers.get(names.DIRECT) == names.DESCRIPTORS:
                rows = ReadTable(
                    table=request.table, session_id=getattr(session, "session_id", ""), index=0
                )
                return session, self._by_mapping(reply, rows, options, attempt)
            manifest = _manifest_of(reply)
        except BaseException:
            reply.close()
            raise
        if manifest is None:
            return session, ArrowReply(reply, reply.headers.get(names.REQUEST_ID), self._limits)
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
            if reply.headers.get(names.DIRECT) == names.DESCRIPTORS:
                return self._by_mapping(reply, request, options, attempt)
            manifest = _manifest_or_none(reply)
            if manifest is not None:
                return self._by_manifest(manifest, request, options, attempt, reply)
            return ArrowReply(reply, reply.headers.get(names.REQUEST_ID), self._limits)
        answer = self._ask_rows(request, options, attempt)
        if isinstance(answer, _Directions):
            return self._by_manifest(answer.manifest, request, options, attempt, answer.reply)
        return answer

    def _read_rows(
        self, request: ReadRequest, options: CallOptions, attempt: RetrySequence
    ) -> ArrowReply:
        """The rows as the service sends them."""
        reply = self._open_read(request, options, attempt)
        return ArrowReply(reply, reply.headers.get(names.REQUEST_ID), self._limits)

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
        manifest = _manifest_or_none(reply)
        if manifest is not None:
            return _Directions(manifest, reply)
        return ArrowReply(uncoded(reply), reply.headers.get(names.REQUEST_ID), self._limits)

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
            request_id=reply.headers.get(names.REQUEST_ID),
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
        return RawReply(reply, reply.headers.get(names.REQUEST_ID))

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
        self.cancellation.cancel("the client was closed")
        self._manager.clear()
        self._direct.close()
        self._same_host.close()

    def __enter__(self) -> Self:
        """Returns the transport."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Closes it."""
        self.close()

    # --- reads on one host -------------------------------------------------------------------

    def _ask_this_host(
        self, request: ReadTable | CreateReadSession, options: CallOptions, attempt: RetrySequence
    ) -> Reply | None:
        """Asks for rows where descriptors are passed; None if that cannot be, and nothing was asked."""
        pool = None if options.direct == "never" else self._same_host.pool
        if pool is None or options.lz4_stream or options.compression is not None:
            return None
        # What lies in an object store has no descriptors; it may be fetched from there all the same.
        sources = (SourceKind.DESCRIPTORS, *self._direct.kinds(options))
        parts = self._encode(msgspec.structs.replace(request, sources=sources))
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
        try:
            first = reply.read_exactly(1)
            descriptors = reply.take_descriptors()
        except BaseException:
            reply.close()
            raise
        try:
            message = decode_mapped_rows(first + reply.read_all(REPLY_BYTES), len(descriptors))
        except BaseException:
            for number in descriptors:
                os.close(number)
            raise
        by_service = options.changed(direct="never")
        return MappedReply(
            message,
            self._same_host.segments.take(descriptors, message.lengths),
            reply.headers.get(names.REQUEST_ID),
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

    # --- one exchange ------------------------------------------------------------------------

    def _encode(self, request: Request) -> HttpRequest:
        if is_admin_request(request):
            return encode_admin_request(request)
        session_id = getattr(request, "session_id", None)
        with self._lock:
            route_token = self._route_tokens.get(session_id or "", "")
        return encode_request(request, self._api_version, route_token=route_token)

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

    def _decode(self, request: Request, reply: Reply) -> Response:
        return self._decoded(request, reply, reply.read_all(REPLY_BYTES))

    def _decoded(self, request: Request, reply: Reply, body: bytes) -> Response:
        if is_admin_request(request):
            return decode_admin_response(request, body)
        response = decode_response(request, reply.headers, body)
        self._remember_route(request, response)
        return response

    def _remember_route(self, request: Request, response: Response) -> None:
        token = getattr(response, "route_token", "")
        session_id = getattr(request, "session_id", None) or getattr(response, "session_id", None)
        if not token or not session_id:
            return
        with self._lock:
            self._route_tokens[session_id] = token
            self._route_tokens.move_to_end(session_id)
            while len(self._route_tokens) > _ROUTE_TOKENS:
                self._route_tokens.popitem(last=False)

    def _exchange(
        self,
        parts: HttpRequest,
        body: RequestBody | StreamedBody,
        options: CallOptions,
        attempt: RetrySequence,
        *,
        this_host: DirectPool | None = None,
    ) -> Reply:
        """Sends a request and returns the reply once its headers are in and say that all is well.

        It goes to the service's Unix socket where ``this_host`` is given.
        """
        action = dict(parts.query).get("Action") or parts.path.rpartition("/")[2]
        with client_span(action, parts.method, self.endpoint, attempt.index) as span:
            return self._exchanged(parts, body, options, attempt, span, this_host=this_host)

    def _exchanged(
        self,
        parts: HttpRequest,
        body: RequestBody | StreamedBody,
        options: CallOptions,
        attempt: RetrySequence,
        span: ClientSpan | None,
        *,
        this_host: DirectPool | None,
    ) -> Reply:
        target = _target(parts)
        url = f"{self.endpoint}{parts.path}"
        headers = self._headers(parts, body, attempt, target)
        if span is not None:
            headers |= span.headers()
        stopwatch = Stopwatch(options.timeouts, self._clock, url)
        timeouts = options.timeouts
        started = self._clock()
        interrupter = Interrupter(Cancellation(attempt.cancellation, self.cancellation))
        try:
            with stopwatch.running(), translated(url), interrupter.around():
                connections: Any = this_host or self._pool()
                response = connections.urlopen(
                    parts.method,
                    self.endpoint + target if this_host is None else target,
                    body=body if body.length != 0 else None,
                    headers=headers,
                    timeout=urllib3.Timeout(
                        connect=stopwatch.limit(timeouts.connect),
                        read=stopwatch.limit(timeouts.first_byte),
                    ),
                    redirect=False,
                    retries=False,
                    preload_content=False,
                    decode_content=False,
                )
        except BaseException as error:
            interrupter.end()
            if isinstance(error, TransportError):
                interrupter.check()
            raise
        if body.length is not None and body.length <= _SMALL_REQUEST_BYTES:
            self._round_trips.add(self._clock() - started)
        reply = Reply(response, stopwatch, url, interrupter)
        if span is not None:
            span.answered(reply.status, reply.headers.get(names.REQUEST_ID))
        if not self._is_proxied:
            self._same_host.learn(reply)
        self._service_is_ours = reply.headers.get("server", "").startswith("fletching")
        if not reply.says_where_it_ends:
            # Python's parser takes headers that end with the connection for complete ones. Without
            # a length such a reply would read as an empty one.
            reply.close()
            raise ConnectionBrokenError("the connection ended inside the reply's headers", url=url)
        if 200 <= reply.status < 300:
            return reply
        raise decode_fault(reply.status, reply.headers, reply.read_all(FAULT_BYTES))

    def _pool(self) -> urllib3.PoolManager:
        """The connections of this process: a forked one must not talk on its parent's."""
        with self._lock:
            if self._process != os.getpid():
                self._manager = self._make_manager()
                self._process = os.getpid()
            return self._manager

    def _headers(
        self,
        parts: HttpRequest,
        body: RequestBody | StreamedBody,
        attempt: RetrySequence,
        target: str,
    ) -> dict[str, str]:
        now = self._wall_clock()
        headers = {
            **parts.headers,
            names.USER_AGENT: _AGENT,
            "x-odps-user-agent": _AGENT,
            names.DATE: email.utils.formatdate(now, usegmt=True),
            names.RETRY_TRACE_ID: attempt.trace_id,
            names.RETRY_INDEX: str(attempt.index),
        }
        if body.length is not None:
            headers["content-length"] = str(body.length)
        headers.setdefault(names.ACCEPT_ENCODING, "identity")
        return self._credentials.signed(parts.method, target, headers, now)


@dataclasses.dataclass(frozen=True, slots=True)
class _Directions:
    """A manifest, and the reply that it came in, which has ended."""

    manifest: Manifest
    reply: Reply


def _manifest_or_none(reply: Reply) -> Manifest | None:
    """As `_manifest_of`; a reply that cannot be used is closed."""
    try:
        return _manifest_of(reply)
    except BaseException:
        reply.close()
        raise


def _manifest_of(reply: Reply) -> Manifest | None:
    """The manifest that the rest of a reply is; None if it is an Arrow stream.

    Raises:
        ProtocolError: it cannot be used.
        TransportError: the exchange failed.
    """
    length = reply.headers.get(names.MANIFEST)
    if length is None:
        return None
    if not (length.isascii() and length.isdigit()) or len(length) > 12:
        raise ProtocolError(f"{names.MANIFEST} of the reply is {length[:40]!r}", side="remote")
    if int(length) > MAX_MANIFEST_BYTES:
        raise ProtocolError(
            f"the service's manifest has {length} bytes, above {MAX_MANIFEST_BYTES}", side="remote"
        )
    data = reply.read_exactly(int(length))
    reply.finish()
    return decode_manifest(data)


def _session_length(value: str) -> int:
    """Bytes of a session's JSON before its first rows.

    Raises:
        ProtocolError: no such number, or one above what a reply of one value may have.
    """
    if not value.isascii() or not value.isdigit() or len(value) > 12 or int(value) > REPLY_BYTES:
        raise ProtocolError(f"{names.SESSION_LENGTH} of the reply is {value[:40]!r}", side="remote")
    return int(value)


def _target(parts: HttpRequest) -> str:
    """Path and query as they are sent."""
    if not parts.query:
        return parts.path
    return f"{parts.path}?{urllib.parse.urlencode(parts.query)}"
