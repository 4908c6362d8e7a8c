"""Exchanges with a service: requests are encoded and signed, replies decoded, faults raised as what they are.

What the service says of itself on the way is kept here: its Unix socket, how long its answers take, which of its
processes has a session.
"""

from __future__ import annotations

import email.utils
import functools
import os
import platform
import threading
import time
import urllib.parse
from collections import OrderedDict
from collections.abc import Callable

import urllib3

from fletching._version import __version__
from fletching.client.cancellation import Cancellation
from fletching.client.credentials import Credentials, SessionCredentials
from fletching.client.retry import RetrySequence
from fletching.client.transports.direct.direct_access import DirectAccess
from fletching.client.transports.http.client_spans import ClientSpan, client_span
from fletching.client.transports.http.connections import DirectPool, make_pool_manager
from fletching.client.transports.http.direct_reads import DirectReads
from fletching.client.transports.http.http_response import Reply, Stopwatch
from fletching.client.transports.http.one_exchange import ask
from fletching.client.transports.http.proxies import proxy_for
from fletching.client.transports.http.request_body import RequestBody, StreamedBody
from fletching.client.transports.http.round_trips import RoundTrips, is_this_host
from fletching.errors import ConnectionBrokenError, TransportError, UsageError
from fletching.ipc import Limits
from fletching.protocol.codec import (
    HttpRequest,
    decode_admin_response,
    decode_response,
    encode_admin_request,
    encode_request,
    is_admin_request,
)
from fletching.protocol.http import headers as header_names
from fletching.protocol.http.error_codec import decode_error
from fletching.protocol.messages.requests import Reply_co, Request
from fletching.protocol.messages.responses import Response
from fletching.protocol.messages.vocabulary import ApiVersion

__all__ = ["AGENT", "REPLY_BYTES", "ServiceExchanges", "endpoint_of"]

REPLY_BYTES = 256 * 1024 * 1024
"""Longest reply of one value: a page of tables with wide schemas is far below."""

FAULT_BYTES = 1024 * 1024
"""Longest error reply that is read."""

SMALL_REQUEST_BYTES = 64 * 1024
"""A request that is sent as a whole before anything is waited for."""

ROUTE_TOKENS = 4096
"""Sessions whose route token is remembered; a forgotten one costs locality, never correctness."""

AGENT = f"fletching/{__version__} {platform.python_implementation()}/{platform.python_version()}"


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
        host = parts.netloc.rpartition("@")[2]
        raise UsageError(
            "the service's URL has no user, path or query: give "
            f"{parts.scheme}://{host}; credentials are access_id and access_key"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "")


class ServiceExchanges:
    """What sends requests to one service, over TCP or its Unix socket. Thread-safe.

    Attributes:
        endpoint: scheme, host and port.
    """

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
        self._credentials = credentials
        self._api_version = api_version
        self._limits = limits or Limits()
        self._clock = clock
        self._wall_clock = wall_clock
        make_manager = functools.partial(
            make_pool_manager, connections=connections, ca_certificates=ca_certificates
        )
        self._direct = DirectAccess(
            make_manager=make_manager,
            proxy=proxy,
            secure=self.endpoint.startswith("https:"),
            headers={header_names.USER_AGENT: AGENT, header_names.ACCEPT_ENCODING: "identity"},
            clock=clock,
        )
        self._same_host = DirectReads(self.endpoint, connections=connections)
        proxy = proxy_for(self.endpoint, proxy)
        self._is_proxied = proxy is not None
        self._make_manager = functools.partial(make_manager, proxy)
        self._manager = self._make_manager()
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._route_tokens: OrderedDict[str, str] = OrderedDict()
        # Whether a reply has said so; a proxy that hides it costs the faster checksum only.
        self._service_is_ours = False
        # Whether the service said that it takes our own coding; then it goes on doing so.
        self._takes_lz4_stream = False

    def close(self) -> None:
        """Closes connections, those in use too: what waits for them in other threads ends."""
        self.cancellation.cancel("the client was closed")
        self._manager.clear()
        self._same_host.close()
        self._direct.close()

    def _encode(self, request: Request) -> HttpRequest:
        if is_admin_request(request):
            return encode_admin_request(request)
        session_id = getattr(request, "session_id", None)
        with self._lock:
            route_token = self._route_tokens.get(session_id or "", "")
        return encode_request(request, self._api_version, route_token=route_token)

    def _decode(self, request: Request[Reply_co], reply: Reply) -> Reply_co:
        return self._decoded(request, reply, reply.read_all(REPLY_BYTES))

    def _decoded(self, request: Request[Reply_co], reply: Reply, body: bytes) -> Reply_co:
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
            while len(self._route_tokens) > ROUTE_TOKENS:
                self._route_tokens.popitem(last=False)

    def _exchange(
        self,
        parts: HttpRequest,
        attempt: RetrySequence,
        *,
        body: RequestBody | StreamedBody | None = None,
        this_host: DirectPool | None = None,
    ) -> Reply:
        """Sends a request and returns the reply once its headers are in and say that all is well.

        Its body is that of ``parts`` where no other is given. It goes to the service's Unix socket where
        ``this_host`` is given.
        """
        if body is None:
            body = RequestBody([parts.body])
        body.idle_seconds = attempt.options.timeouts.idle
        action = dict(parts.query).get("Action") or parts.path.rpartition("/")[2]
        with client_span(action, parts.method, self.endpoint, attempt.index) as span:
            return self._exchanged(parts, body, attempt, span, this_host=this_host)

    def _exchanged(
        self,
        parts: HttpRequest,
        body: RequestBody | StreamedBody,
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
        stopwatch = Stopwatch(attempt.options.timeouts, self._clock, url)
        started = self._clock()
        reply = ask(
            this_host or self._pool(),
            parts.method,
            self.endpoint + target if this_host is None else target,
            headers=headers,
            body=body if body.length != 0 else None,
            stopwatch=stopwatch,
            cancellation=Cancellation(attempt.cancellation, self.cancellation),
            url=url,
        )
        if body.length is not None and body.length <= SMALL_REQUEST_BYTES:
            self._round_trips.add(self._clock() - started)
        if span is not None:
            span.answered(reply.status, reply.request_id)
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
        raise decode_error(reply.status, reply.headers, reply.read_all(FAULT_BYTES))

    def _pool_here(self, attempt: RetrySequence) -> DirectPool | None:
        """The connections to a service on this host; None where none is known, or wanted."""
        return None if attempt.options.direct == "never" else self._same_host.pool

    def _exchange_here(self, parts: HttpRequest, attempt: RetrySequence) -> Reply | None:
        """The same at the socket of a service on this host; None where none is known, or it failed."""
        pool = self._pool_here(attempt)
        if pool is None:
            return None
        try:
            return self._exchange(parts, attempt, this_host=pool)
        except TransportError:
            # The service itself may be well: it is asked as ever.
            self._same_host.leave(pool)
            return None

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
            header_names.USER_AGENT: AGENT,
            "x-odps-user-agent": AGENT,
            header_names.DATE: email.utils.formatdate(now, usegmt=True),
            header_names.RETRY_TRACE_ID: attempt.trace_id,
            header_names.RETRY_INDEX: str(attempt.index),
        }
        if body.length is not None:
            headers["content-length"] = str(body.length)
        headers.setdefault(header_names.ACCEPT_ENCODING, "identity")
        return self._credentials.signed(parts.method, target, headers, now)


def _target(parts: HttpRequest) -> str:
    """Path and query as they are sent."""
    if not parts.query:
        return parts.path
    return f"{parts.path}?{urllib.parse.urlencode(parts.query)}"
