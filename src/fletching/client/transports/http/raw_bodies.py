"""Replies and bodies as plain bytes, for `StreamReader` and `StreamWriter`."""

from __future__ import annotations

import contextlib
import mmap
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING

from fletching.client.transports.http.coded_response import ReplyBytes
from fletching.client.transports.http.request_body import RequestBody
from fletching.errors import UsageError
from fletching.protocol.messages.responses import WriteResult

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["RawReply", "SpooledBody"]

SPOOLED_BYTES = 32 * 1024 * 1024
"""A body written as bytes is kept in memory up to this, then in a temporary file."""


class RawReply:
    """The bytes of one reply; a `fletching.client.transports.transport.BytesSource`."""

    def __init__(self, reply: ReplyBytes, request_id: str | None) -> None:
        self._reply = reply
        self.request_id = request_id

    def readinto(self, buffer: WriteableBuffer) -> int:
        """As `Reply.readinto`."""
        return self._reply.readinto(buffer)

    def close(self) -> None:
        """Gives the connection back, or drops it before the end."""
        self._reply.close()


class SpooledBody:
    """Gathers a body whose length is not known, then sends it; a `BytesSink`.

    The copy, into memory or a temporary file, buys a known length and the means to send again; who
    minds it writes record batches, which are sent from where they are.
    """

    def __init__(
        self, send: Callable[[RequestBody], WriteResult], *, idle_seconds: float | None
    ) -> None:
        self._send = send
        self._idle_seconds = idle_seconds
        self._file = tempfile.SpooledTemporaryFile(SPOOLED_BYTES)  # noqa: SIM115  # closed in finish or abort

    def write(self, data: ReadableBuffer) -> None:
        """Adds bytes."""
        if self._file.closed:
            raise UsageError("the body was finished or aborted")
        self._file.write(data)

    def finish(self) -> WriteResult:
        """Sends what was gathered; errors as `Transport.write`."""
        if self._file.closed:
            raise UsageError("the body was finished or aborted")
        with self._file, contextlib.ExitStack() as held:
            self._file.seek(0, 2)
            pieces: list[bytes | memoryview] = []
            if self._file.tell() > SPOOLED_BYTES:
                self._file.flush()
                mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
                held.callback(mapped.close)
                pieces.append(held.enter_context(memoryview(mapped)))
            else:
                self._file.seek(0)
                pieces.append(self._file.read())
            body = RequestBody(pieces, idle_seconds=self._idle_seconds)
            try:
                return self._send(body)
            finally:
                body.release()

    def abort(self) -> None:
        """Forgets what was gathered; nothing was sent."""
        self._file.close()
