"""One HTTP request and its reply, as handlers see them: decoded parts in, replies and streams out."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from typing_extensions import Buffer

from fletching.errors import ConnectionBrokenError, InvalidParameterError, PayloadTooLargeError
from fletching.protocol.http.headers import REQUEST_ID
from fletching.server.auth.principal import Principal
from fletching.server.http.incoming_body import BodySink, RequestBody
from fletching.server.http.reply_stream import BODILESS, ReplyStream
from fletching.server.http.request_head import RequestHead
from fletching.server.http.socket_writer import ChunkSource
from fletching.server.server_settings import ServerSettings
from fletching.server.workers import Job

__all__ = ["Exchange"]

_Result = TypeVar("_Result")

SMALL_BODY_BYTES = 64 * 1024
"""Bodies up to this size are read without asking for memory: the number of requests bounds them."""
MAX_QUERY_FIELDS = 100
"""The longest request of the protocol has about a dozen."""


class Exchange:
    """A request being answered. Belongs to one task of the event loop.

    Attributes:
        request_id: in every reply, and in the log.
        head: the request's head.
        headers: by lower-case name; of repeated headers the last.
        body: the request's body.
        action: what the request turned out to be, for the log.
        access_id: who asked, once that is verified.
        principal: the same with its key; set before any handler is asked.
        outcome: ``ok``, ``disconnected`` or the error's class, for the log.
        status: the reply's status, or None before it started.
        sent_bytes: bytes of the reply's body.
        offers: headers of its reply that say what else the service can do for this client.
    """

    principal: Principal

    def __init__(
        self,
        head: RequestHead,
        body: RequestBody,
        reply: ReplyStream,
        request_id: str,
        settings: ServerSettings,
    ) -> None:
        self.head = head
        self.body = body
        self.request_id = request_id
        self.started_at = time.monotonic()
        self.method = head.method
        self.path = head.path
        # As received, before percent-decoding: what a signature covers.
        self.raw_path: str = head.raw_path.decode("utf-8", "surrogateescape")
        self.query_string: str = head.query_string.decode("utf-8", "surrogateescape")
        self._query: list[tuple[str, str]] | None = None
        self.header_list: list[tuple[str, str]] = [
            (name.decode("latin-1"), value.decode("utf-8", "surrogateescape").strip())
            for name, value in head.headers
        ]
        self.headers = dict(self.header_list)
        self.action = ""
        self.access_id = ""
        self.outcome = "ok"
        self.status: int | None = None
        self.sent_bytes = 0
        self.offers: dict[str, str] = {}
        self._reply = reply
        self._settings = settings

    @property
    def verb(self) -> str:
        """The method that says what is asked for: HEAD asks for what GET does (RFC 9110, 9.3.2)."""
        return "GET" if self.method == "HEAD" else self.method

    @property
    def is_bodiless(self) -> bool:
        """Whether the reply is a head alone, so that making its body is of no use."""
        return self.method == "HEAD"

    @property
    def target(self) -> str:
        """Path and query as received."""
        return f"{self.raw_path}?{self.query_string}" if self.query_string else self.raw_path

    @property
    def query(self) -> list[tuple[str, str]]:
        """The decoded query parameters in order.

        Raises:
            InvalidParameterError: there are too many, or one is not UTF-8.
        """
        if self._query is None:
            try:
                self._query = parse_qsl(
                    self.query_string,
                    keep_blank_values=True,
                    max_num_fields=MAX_QUERY_FIELDS,
                    # Replaced, two names would become one.
                    errors="strict",
                )
            except UnicodeDecodeError as exc:
                raise InvalidParameterError("the query is not UTF-8, percent-encoded") from exc
            except ValueError as exc:
                raise InvalidParameterError(
                    f"the query has more than {MAX_QUERY_FIELDS} parameters"
                ) from exc
        return self._query

    # --- the request's body -------------------------------------------------------------------

    async def read_body(
        self,
        limit: int | None = None,
        *,
        reserve: Callable[[int], Awaitable[None]] | None = None,
    ) -> bytes:
        """Reads the whole body, which is small: JSON or XML.

        Args:
            limit: of bytes; by default the limit of JSON bodies.
            reserve: awaited with how long the body may become, before more than a little is read.

        Raises:
            PayloadTooLargeError: above ``limit`` bytes (by default the limit of JSON bodies).
            InvalidParameterError: 408, the client sends too slowly.
            ConnectionBrokenError: the client disappeared.
        """
        limit = self._settings.max_json_bytes if limit is None else limit
        if (self.body.content_length or 0) > limit:
            raise self._too_large(limit)
        parts: list[bytes] = []
        size = 0
        expected = limit if self.body.content_length is None else self.body.content_length
        if expected <= SMALL_BODY_BYTES:
            reserve = None
        while (view := await self.receive_view()) is not None:
            size += len(view)
            if size > limit:
                raise self._too_large(limit)
            if reserve is not None and size > SMALL_BODY_BYTES:
                # A copy because the view is only lent until the next one, and waiting may take long.
                view = memoryview(bytes(view))
                await reserve(expected)
                reserve = None
            # A copy because the view is only lent until the next one.
            parts.append(bytes(view))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @staticmethod
    def _too_large(limit: int) -> PayloadTooLargeError:
        return PayloadTooLargeError(
            f"the request's body is above the limit of {limit} bytes", limit=limit
        )

    async def receive_view(self) -> memoryview | None:
        """Returns the next bytes of the body, borrowed until the next call, or None at its end.

        Raises:
            InvalidParameterError: 408, the client sends too slowly.
            ConnectionBrokenError: the client disappeared.
        """
        return await self._receive(self.body.receive_view())

    async def receive_part(self, size: int) -> tuple[bytearray, bool]:
        """A copy of the next bytes of the body, at least so many unless it ends; and whether it has ended.

        Errors as of `receive_view`.
        """
        part = bytearray()
        while len(part) < size:
            view = await self.receive_view()
            if view is None:
                return part, True
            part += view
        return part, False

    async def pump(self, sink: BodySink) -> bool:
        """Receives into a sink until it asks for attention or the body ends; errors as above.

        Returns:
            Whether the body has ended.
        """
        return await self._receive(self.body.pump(sink))

    async def _receive(self, receiving: Awaitable[_Result]) -> _Result:
        try:
            return await receiving
        except TimeoutError as exc:
            idle = self._settings.body_idle_seconds
            raise InvalidParameterError(
                f"the request's body did not go on for {idle:g} seconds", http_status=408
            ) from exc
        except OSError as exc:
            raise ConnectionBrokenError("the client disconnected in mid-body") from exc

    # --- the reply ------------------------------------------------------------------------------

    async def reply(
        self,
        body: Buffer,
        *,
        status: int = 200,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Sends a whole reply.

        Raises:
            ConnectionBrokenError: the client is gone.
        """
        view = memoryview(body)
        length = None if status in BODILESS else view.nbytes
        await self.start(length, status=status, content_type=content_type, headers=headers)
        await self._write(view)
        await self.finish()

    async def reply_with_descriptors(
        self,
        body: bytes,
        descriptors: Sequence[int],
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Sends a whole reply, and open files with its body's first byte.

        Only to requests that came over the service's Unix socket.

        Raises:
            ConnectionBrokenError: the client is gone.
        """
        view = memoryview(body)
        await self.start(view.nbytes, headers=headers)
        try:
            sender = await self._reply.socket_writer()
            if sender is None:
                raise ConnectionBrokenError("the connection cannot carry descriptors any more")
            try:
                sender.pass_descriptors(view[:1], descriptors)
            finally:
                self.sent_bytes += sender.sent_bytes
                self._reply.end_socket_writing(sender)
        except OSError as exc:
            raise ConnectionBrokenError("the client took no descriptors") from exc
        await self._write(view[1:])
        await self.finish()

    async def start(
        self,
        length: int | None,
        *,
        status: int = 200,
        content_type: str = "application/octet-stream",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Begins a reply of ``length`` bytes, or a chunked one.

        Raises:
            ConnectionBrokenError: the client is gone.
        """
        fields = {REQUEST_ID: self.request_id}
        if status not in BODILESS:
            fields["content-type"] = content_type
        if length is not None:
            fields["content-length"] = str(length)
        fields |= self.offers
        fields |= {name.lower(): value for name, value in (headers or {}).items()}
        encoded = [(name.encode(), value.encode("utf-8")) for name, value in fields.items()]
        self.status = status
        await self._sent(self._reply.start(status, encoded))

    async def wait_for_disconnect(self) -> None:
        """Waits until the client is gone or the reply is complete."""
        await self.body.wait_for_disconnect()

    async def write_all(self, buffers: Sequence[Buffer]) -> None:
        """Sends buffers in order, at the client's pace; they must stay unchanged.

        Raises:
            ConnectionBrokenError: the client is gone.
        """
        for buffer in buffers:
            await self._write(memoryview(buffer))

    async def send_by_worker(self, source: ChunkSource, job: Job[Any]) -> bool:
        """Lets a worker send more of a source, and sends what a slow client left over.

        Args:
            source: of what is sent.
            job: owns the source.

        Returns:
            Whether that is possible; False if nothing was taken from the source.

        Raises:
            ConnectionBrokenError: the client is gone; no worker uses the source any more.
            FletchingError: preparing failed.
        """
        try:
            sender = await self._reply.socket_writer()
            if sender is None:
                return False
            try:
                rest = await job.start(sender.send, source).outcome(on_unwanted=sender.cut)
            finally:
                self.sent_bytes += sender.sent_bytes
                self._reply.end_socket_writing(sender)
        except OSError as exc:
            raise ConnectionBrokenError("the client disconnected before the reply's end") from exc
        for view in rest:
            self.sent_bytes += view.nbytes
            await self._sent(self._reply.write_rest(view))
        return True

    async def finish(self) -> None:
        """Ends a streamed reply.

        Raises:
            ConnectionBrokenError: the client is gone.
        """
        await self._sent(self._reply.finish())

    async def _write(self, view: memoryview) -> None:
        if self.is_bodiless or not view.nbytes:
            return
        self.sent_bytes += view.nbytes
        await self._sent(self._reply.write(view))

    async def _sent(self, sending: Awaitable[None]) -> None:
        try:
            await sending
        except OSError as exc:
            raise ConnectionBrokenError("the client disconnected before the reply's end") from exc

    def header(self, name: str, default: str = "") -> str:
        """The value of a header by its lower-case name."""
        return self.headers.get(name, default)

    def joined_header(self, name: str) -> str:
        """The values of all headers of a lower-case name, with commas between (RFC 9110, 5.3)."""
        return ", ".join(value for other, value in self.header_list if other == name)

    @property
    def seconds(self) -> float:
        """How long the exchange has taken so far."""
        return time.monotonic() - self.started_at

    @property
    def peer(self) -> str:
        """The client's address, for the log."""
        client = self.head.client
        return f"{client[0]}:{client[1]}" if client else "-"
