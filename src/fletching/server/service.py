"""What every handler needs, in one place: the engine, the workers, the limits, who may ask."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, TypeVar

import msgspec
import pyarrow as pa

from fletching import caller
from fletching.engine.access.permissions import Permission, needed_permission
from fletching.engine.engine import Engine
from fletching.engine.identity import check_server_key
from fletching.errors import NoPermissionError, NotFoundError, ServiceUnavailableError
from fletching.protocol.http.blob_links import blob_path, signed_link
from fletching.protocol.http.body_codings import is_our_client
from fletching.protocol.http.headers import DIRECT_SOCKET, USER_AGENT
from fletching.protocol.messages.admin import TablePage
from fletching.protocol.messages.requests import Reply_co, Request
from fletching.protocol.messages.responses import Response
from fletching.server.auth.authentication import Authenticator, FailureLimiter
from fletching.server.auth.key_ring import KeyRing
from fletching.server.auth.principal import Principal
from fletching.server.auth.read_tokens import check_reading, is_table_of, with_read_token
from fletching.server.http.exchange import Exchange
from fletching.server.metrics import Durations, Metrics
from fletching.server.monitor import Monitor
from fletching.server.readiness import Readiness
from fletching.server.request_limits import Limiter, MemoryBudget
from fletching.server.server_settings import ServerSettings
from fletching.server.tracing import Tracing
from fletching.server.workers import Workers
from fletching.types import RESULTS_PROJECT, TableName

if TYPE_CHECKING:
    from fletching.engine.query.instances import InstanceRow

__all__ = ["Service"]

_Reply = TypeVar("_Reply", bound=Response)

PARSED_FACTOR = 8
"""A parsed JSON document takes several times its text."""


class Service:
    """The running service. Handlers use it from the event loop.

    Attributes:
        engine: the rules; synchronous, so only called through ``workers``.
        settings: fixed while the service runs.
        workers: the threads for whatever blocks.
        keys: who may sign, and what each may do.
        authenticator: who signed a request.
        bodies, reads, calls: concurrent uploads, streamed replies and JSON requests.
        memory: bytes of messages that uploads hold.
        metrics: what is counted.
        started_at: when the service began, in seconds since the epoch.
        monitor: what runs and what ended lately.
        tracing: makes spans of requests; None if nobody wants them.
        readiness: whether the parts that every request needs answer.
        direct_socket: name of the Unix socket at which clients of this host get descriptors; or none.
        draining: the service is stopping and ``/readyz`` says so.
    """

    def __init__(self, engine: Engine, settings: ServerSettings, keys: KeyRing) -> None:
        self.engine = engine
        self.settings = settings
        self.workers = Workers(settings.call_threads, settings.bulk_threads, settings.sql_workers)
        self.keys = keys
        self.authenticator = Authenticator(
            keys,
            settings.clock_skew_seconds,
            limiter=FailureLimiter(settings.auth_failures, settings.auth_failure_seconds),
            allow_anonymous=settings.allow_anonymous,
        )
        wait = settings.retry_after_seconds
        self.bodies = Limiter("uploads", settings.max_bodies, wait)
        self.reads = Limiter("streamed replies", settings.max_reads, wait)
        self.calls = Limiter("requests", settings.max_calls, wait)
        self.memory = MemoryBudget(
            settings.ingest_memory_bytes,
            settings.body_idle_seconds,
            wait,
            on_rest=self._give_back_memory,
        )
        self.draining = False
        self.readiness = Readiness(
            (
                ("the catalog", engine.identity),
                ("the server key", lambda: check_server_key(engine.context)),
                ("the ring of access keys", self.keys.refresh),
                ("the object store", lambda: engine.check_objects(engine.identity())),
            ),
            self.workers.io.run,
        )
        self.direct_socket = ""
        self.metrics = Metrics(self)
        self.started_at = time.time()
        self.monitor = Monitor()
        self.tracing = Tracing() if settings.tracing else None
        engine.observe(
            catalog=functools.partial(self._observed, "catalog", self.metrics.catalog),
            store=functools.partial(self._observed, "store", self.metrics.store),
        )
        self._closed = False
        self._closing = threading.Lock()

    async def identify(self, exchange: Exchange) -> None:
        """Finds out who asks; keys are looked at anew when the last look is a while ago.

        Raises:
            ServiceError: see ``Authenticator.identify``.
        """
        await self._refresh_keys()
        exchange.principal = self.authenticator.identify(exchange)
        if self.direct_socket and is_our_client(exchange.header(USER_AGENT)):
            exchange.offers[DIRECT_SOCKET] = self.direct_socket
        caller.work_for(exchange.principal.access_id)

    async def identify_link(self, exchange: Exchange) -> bool:
        """Finds out who signed a link to a blob; False if the request is none.

        Raises:
            ServiceError: see ``Authenticator.identify_link``.
        """
        await self._refresh_keys()
        principal = self.authenticator.identify_link(exchange)
        if principal is None:
            return False
        exchange.principal = principal
        return True

    async def identify_token(self, exchange: Exchange, token: str) -> Principal:
        """Finds out whose token it is.

        Raises:
            ServiceError: see ``Authenticator.identify_token``.
        """
        await self._refresh_keys()
        exchange.principal = self.authenticator.identify_token(exchange, token)
        caller.work_for(exchange.principal.access_id)
        return exchange.principal

    async def check_secret(self, exchange: Exchange, access_id: str, secret: str) -> None:
        """Verifies an access id and its secret.

        Raises:
            ServiceError: see ``Authenticator.check_secret``.
        """
        await self._refresh_keys()
        self.authenticator.check_secret(exchange, access_id, secret)

    def ended(self, exchange: Exchange) -> None:
        """Counts an exchange that has ended, and remembers it for a while."""
        self.metrics.observe(exchange)
        self.monitor.ended(exchange)

    def _observed(self, name: str, durations: Durations, kind: str, seconds: float) -> None:
        """Counts a part of a request, in the thread that did it."""
        durations.observe(kind, seconds)
        if self.tracing is not None:
            self.tracing.part(name, kind, seconds)

    def _give_back_memory(self) -> None:
        """Has Arrow's pool give free pages back, of which it keeps what a burst of uploads took."""
        with contextlib.suppress(ServiceUnavailableError):  # the workers have ended
            self.workers.cpu.start(pa.default_memory_pool().release_unused)

    async def _refresh_keys(self) -> None:
        if self.keys.stale():
            await self.workers.io.run(self.keys.refresh)

    @contextlib.asynccontextmanager
    async def small_body(self, exchange: Exchange) -> AsyncIterator[bytes]:
        """Reads a JSON or XML body; the memory of a large one is held until the block ends.

        Raises:
            ServiceError: see ``Exchange.read_body``; or ThrottledError, there is no memory for it.
        """
        held = 0

        async def reserve(count: int) -> None:
            nonlocal held
            await self.memory.take(PARSED_FACTOR * count)
            held = PARSED_FACTOR * count

        try:
            yield await exchange.read_body(reserve=reserve)
        finally:
            self.memory.give(held)

    async def call(self, request: Request[Reply_co]) -> Reply_co:
        """Asks the engine in a thread: calls that only read never wait for those that change something.

        Raises:
            FletchingError: see ``Engine.call``.
        """
        reads = needed_permission(type(request)) is Permission.READ
        pool = self.workers.io if reads else self.workers.write
        return await pool.run(self.engine.call, request)

    def authorize(self, exchange: Exchange, request: Request) -> None:
        """Refuses a request that its caller was not granted.

        Raises:
            NoPermissionError: it was not.
        """
        principal = exchange.principal
        if principal.reading is None:
            self.authorize_more(exchange)
        else:
            check_reading(principal.reading, request)
        table = getattr(request, "table", None)
        named = getattr(request, "project", "") or getattr(table, "project", "")
        if named.casefold() == RESULTS_PROJECT:
            raise NoPermissionError("results of statements are read by their instance")
        if principal.key is not None:
            self.keys.check(principal.key, request)

    def authorize_more(self, exchange: Exchange) -> Principal:
        """Refuses a caller whose token lets him look at one instance, or read a table, and no more.

        Raises:
            NoPermissionError: that is all he may.
        """
        principal = exchange.principal
        if principal.instance is not None:
            raise NoPermissionError("this token is for looking at one instance")
        if principal.reading is not None:
            raise NoPermissionError("this token is for reading, and for nothing else")
        return principal

    def with_token(self, exchange: Exchange, request: Request, response: Response) -> Response:
        """The reply to a read session's request with a token for reading, if it asks for one."""
        tokens = self.engine.access_keys.tokens
        return with_read_token(tokens, exchange.principal, request, response)

    def may_read(self, exchange: Exchange, table: TableName) -> bool:
        """Whether the caller may know of a table."""
        principal = exchange.principal
        if principal.instance is not None:
            return False
        if principal.reading is not None and not is_table_of(principal.reading, table):
            return False
        return principal.key is None or self.keys.may_read(principal.key, table)

    def may_enter(self, exchange: Exchange, project: str) -> bool:
        """Whether the caller may know of a project."""
        principal = exchange.principal
        if principal.instance is not None:
            return principal.instance[0].casefold() == project.casefold()
        if principal.reading is not None:
            return False
        return principal.key is None or self.keys.may_enter(principal.key, project)

    def may_operate(self, exchange: Exchange) -> bool:
        """Whether the caller may see and do what concerns the service as a whole."""
        principal = exchange.principal
        if principal.limited:
            return False
        return principal.key is None or self.keys.may_operate(principal.key)

    def blob_link(self, exchange: Exchange, reference: str, seconds: float) -> str:
        """Path and query that open a blob for a while, in the caller's name."""
        principal = self.authorize_more(exchange)
        if principal.key is None:
            return blob_path(reference)
        key = principal.key
        expires = int(time.time() + seconds)
        return signed_link(reference, key.access_id, key.secret, expires, token=key.security_token)

    def authorize_project(self, exchange: Exchange, project: str) -> None:
        """Refuses a caller without any grant in a project, before anything is done or kept there.

        Raises:
            NoPermissionError: there is none.
        """
        if not self.may_enter(exchange, project):
            raise NoPermissionError(f"access key {exchange.access_id} has no grant in {project}")

    def visible(self, exchange: Exchange, response: _Reply) -> _Reply:
        """A reply without the tables that the caller may not know of."""
        if not isinstance(response, TablePage):
            return response
        tables = tuple(info for info in response.tables if self.may_read(exchange, info.table))
        return msgspec.structs.replace(response, tables=tables)

    def may_see_instance(self, exchange: Exchange, row: InstanceRow) -> bool:
        """Whether the caller may know of an instance: whoever ran it, and keys without limits."""
        principal = exchange.principal
        if principal.limited and principal.instance != (row.project_key, row.id):
            return False
        if principal.key is None or row.owner == principal.access_id:
            return True
        # A statement and its result may speak of any table.
        return self.keys.may_read_all(principal.key, row.project_key)

    def authorize_instance(self, exchange: Exchange, row: InstanceRow) -> None:
        """Refuses an instance that the caller may not see as if it were not there.

        Raises:
            NotFoundError: the caller may not see it.
        """
        if not self.may_see_instance(exchange, row):
            raise NotFoundError(f"there is no instance {row.id}")

    def close(self) -> None:
        """Ends the workers, then closes the engine; blocks; idempotent."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self.workers.close()
                self.engine.close()
