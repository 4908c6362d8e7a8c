"""Uploads and replies of blobs as streams: the lowest level there is.

For whoever has a blob only piece by piece, or wants it so. Nothing is retried here.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import io
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Self

from typing_extensions import Buffer

from fletching.client.blobs.blob_transfers import BlobEvents, PushedBody
from fletching.client.blobs.blob_values import Blob, reference_text
from fletching.client.cancellation import Cancellation, join_within
from fletching.client.retry import RetrySequence
from fletching.client.transports.channel import Channel
from fletching.errors import ChecksumMismatchError, ProtocolError, UsageError
from fletching.protocol.messages.field_types import check_field_types
from fletching.protocol.messages.requests import ReadBlobs, WriteBlob
from fletching.protocol.messages.responses import BlobReferences
from fletching.wire.blob_frames import BlobData, BlobDataEnd, BlobDataStart, BlobHeader

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = [
    "BlobDataIterator",
    "BlobStatus",
    "BlobStreamReader",
    "BlobStreamWriter",
    "check_upload",
    "open_events",
    "open_texts",
]

_QUEUED_CHUNKS = 4
_CHUNK_BYTES = 1 << 20


def check_upload(
    reply: BlobReferences, *, md5: str | None = None, crc32c: int | None = None
) -> None:
    """Compares the checksum of what was sent with what the service says it got.

    Raises:
        ChecksumMismatchError: they differ: the bytes were changed on the way; put the blob again.
    """
    answered_md5 = reply.md5.lower() if reply.md5 else None
    for layer, sent, answered in (("md5", md5, answered_md5), ("crc32c", crc32c, reply.crc32c)):
        if sent is not None and answered is not None and answered != sent:
            raise ChecksumMismatchError(
                "the service received other bytes than were sent",
                layer=layer,
                expected=sent,
                actual=answered,
            )


class BlobStatus(enum.Enum):
    """Where an upload is."""

    RUNNING = "running"
    OK = "ok"
    FAILED = "failed"
    ABORTED = "aborted"


class BlobStreamWriter(io.RawIOBase):
    """One blob upload as a writable file.

    ``write`` hashes while another thread sends what was written before. `finish` ends the blob and
    returns its reference; closing without it breaks the upload off, so that nothing is stored. Not
    thread-safe.
    """

    def __init__(self, channel: Channel, request: WriteBlob) -> None:
        super().__init__()
        self._status = BlobStatus.FAILED  # until there is something that can be broken off
        self._channel = channel
        check_field_types(request)
        self._request = request
        self._queue: queue.Queue[Buffer | None] = queue.Queue(_QUEUED_CHUNKS)
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._reply: BlobReferences | None = None
        self._error: BaseException | None = None
        self._cancellation = Cancellation(channel.cancellation)
        self._release = self._cancellation.register(self._wake)
        self._status = BlobStatus.RUNNING
        self._sequence = channel.sequence(self._cancellation)
        self._thread = threading.Thread(target=self._send, name="fletching-blob", daemon=True)
        self._thread.start()
        self.size = 0
        """Bytes written."""

    # --- the sending thread

    def _send(self) -> None:
        try:
            self._reply = self._channel.transport.upload_blobs(
                self._request, PushedBody(self._take), self._sequence
            )
        except BaseException as exc:  # noqa: BLE001  # raised in the caller's thread
            self._error = exc
            # Keep taking, so that a write never waits for a thread that has ended.
            while not self._cancellation.cancelled and self._queue.get() is not None:
                pass
        finally:
            self._release()

    def _take(self) -> Buffer | None:
        chunk = self._queue.get()
        # What was broken off must not look complete to the service.
        self._cancellation.check()
        if chunk is None:
            # Back into the queue for the loop that empties it, should the request fail now.
            self._queue.put(None)
        return chunk

    # --- the caller's

    @property
    def status(self) -> BlobStatus:
        """Where the upload is."""
        return self._status

    @property
    def request_id(self) -> str | None:
        """The service's id of the request, once the upload has ended."""
        if self._reply is not None:
            return self._reply.request_id
        return getattr(self._error, "request_id", None)

    @property
    def trace_id(self) -> str:
        """The id that was sent along, by which the service's log names the upload."""
        return self._sequence.trace_id

    def writable(self) -> bool:
        """Until it is finished, aborted or failed."""
        return not self.closed and self._status is BlobStatus.RUNNING and self._error is None

    def write(self, data: ReadableBuffer) -> int:
        """Takes bytes; returns their number, always all. Waits while the network is behind.

        Raises:
            UsageError: the upload is over.
            ServiceError, TransportError: it failed meanwhile.
        """
        if self.closed or self._status is not BlobStatus.RUNNING:
            raise UsageError("the blob upload is finished")
        view = memoryview(data).cast("B")
        if not isinstance(view.obj, bytes):
            # The caller may overwrite the buffer when this returns, before it was sent.
            view = memoryview(bytes(view))
        for start in range(0, view.nbytes, _CHUNK_BYTES):
            chunk = view[start : start + _CHUNK_BYTES]
            if self._error is not None:
                self._fail()
            self._cancellation.check()
            self._queue.put(chunk)
            self._md5.update(chunk)
        self.size += view.nbytes
        return view.nbytes

    def finish(self) -> str:
        """Ends the blob; returns its reference when it is durable. Again returns the same.

        Raises:
            ServiceError: the service refused; nothing was stored.
            TransportError: the exchange failed.
            ChecksumMismatchError: the service received other bytes than were written.
            UsageError: the upload was broken off.
        """
        if self._status is BlobStatus.RUNNING:
            self._queue.put(None)
            self._thread.join()
            if self._error is not None:
                self._fail()
            assert self._reply is not None
            check_upload(self._reply, md5=self._md5.hexdigest())
            self._status = BlobStatus.OK
        if self._reply is None:
            raise UsageError(f"the blob upload is {self._status.value}")
        return self._reply.references[0]

    def _fail(self) -> None:
        self._status = BlobStatus.FAILED
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        assert self._error is not None
        raise self._error

    def abort(self) -> None:
        """Breaks the upload off; idempotent."""
        if self._status is BlobStatus.RUNNING:
            self._status = BlobStatus.ABORTED
            self._cancellation.cancel("the blob upload was broken off")
            join_within([self._thread])

    def _wake(self) -> None:
        """Ends the wait for the next chunk, or for room for it; what sends finds its connection ended."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)

    def close(self) -> None:
        """Breaks the upload off if it is not finished; idempotent."""
        if not self.closed:
            self.abort()
        super().close()

    def __exit__(self, exc_type: type[BaseException] | None, *exc: object) -> None:
        """Finishes, or breaks off if the block raised."""
        try:
            if exc_type is None and self._status is BlobStatus.RUNNING:
                self.finish()
        finally:
            self.close()


def open_events(
    channel: Channel, project: str, references: Sequence[object], attempt: RetrySequence
) -> BlobEvents:
    """Starts one BlobRead for references of any spelling."""
    texts = [reference_text(each) for each in references]
    return open_texts(channel, project, texts, attempt)


def open_texts(
    channel: Channel,
    project: str,
    references: Sequence[str],
    attempt: RetrySequence,
    *,
    stored: bool = False,
) -> BlobEvents:
    """The same for references that are texts already; of whole blobs as they are stored, if wanted."""
    codings = {"lz4": ("x-lz4-frame",), "zstd": ("zstd",), None: ()}
    request = ReadBlobs(
        project=project,
        references=tuple(references),
        accept_encoding=codings[channel.options.compression],
        framed=True,
        # What is stored is sent as it is: a coding takes frames.
        stored=stored and channel.options.compression is None,
    )
    return channel.transport.read_blobs(request, attempt)


class BlobDataIterator:
    """The blobs of one request, whole, in order; each is in memory while it is looked at.

    Attributes:
        framed: whether the service framed the reply. A raw one has no content type and file name.
    """

    def __init__(self, channel: Channel, project: str, references: Sequence[object]) -> None:
        """Sends the request.

        Raises:
            ServiceError: the service refused, e.g. because it does not know a reference.
            TransportError: the exchange failed.
            UsageError: what is given is no reference.
        """
        self._references = [reference_text(each) for each in references]
        sequence = channel.sequence()
        self._events = open_events(channel, project, self._references, sequence)
        self._blobs = self._collect()
        self.framed = self._events.framed
        self.request_id = self._events.request_id

    def __iter__(self) -> Iterator[Blob]:
        return self

    def __next__(self) -> Blob:
        """The next blob.

        Raises:
            TransportError: the exchange failed.
            WireError: the reply is damaged or ends early.
        """
        return next(self._blobs)

    def _collect(self) -> Iterator[Blob]:
        header = BlobHeader()
        chunks: list[Buffer] = []
        for event in self._events:
            if isinstance(event, BlobDataStart):
                header, chunks = event.header, []
            elif isinstance(event, BlobData):
                chunks.append(event.data)
            else:
                # Joined: a copy, because data comes in the chunks of the network's choosing.
                yield Blob(
                    b"".join(chunks),
                    header.content_type,
                    header.file_name,
                    self._references[event.index],
                )
                chunks = []

    def close(self) -> None:
        """Ends the request before its end; idempotent."""
        self._blobs = iter(())
        self._events.close()


class BlobStreamReader(io.RawIOBase):
    """The blobs of one request as a file that goes from one to the next.

    ``read`` gives bytes of the current blob and nothing at its end; `next` goes on. A blob larger
    than memory passes in chunks. Not thread-safe.
    """

    def __init__(self, channel: Channel, project: str, references: Sequence[object]) -> None:
        """Sends the request; errors as for `BlobDataIterator`."""
        super().__init__()
        try:
            self._source = open_events(channel, project, references, channel.sequence())
        except BaseException:
            super().close()  # there is nothing to end
            raise
        self._events = iter(self._source)
        self._header = BlobHeader()
        self._length: int | None = None
        self._rest = memoryview(b"")
        self._ended = True
        self.index = -1
        """Which of the references the current blob is of."""
        self.next()

    @property
    def mime_type(self) -> str | None:
        """The current blob's content type, if the service says."""
        return self._header.content_type

    content_type = mime_type

    @property
    def file_name(self) -> str | None:
        """The current blob's file name, if the service says."""
        return self._header.file_name

    @property
    def length(self) -> int | None:
        """The current blob's length, if the service says."""
        return self._length

    @property
    def request_id(self) -> str | None:
        """The service's id of the request."""
        return self._source.request_id

    def readable(self) -> bool:
        """Always."""
        return True

    def _fill(self) -> bool:
        """Makes sure that there are bytes, unless the blob has ended."""
        while not len(self._rest) and not self._ended:
            event = next(self._events, None)
            if isinstance(event, BlobData):
                self._rest = event.data
            elif isinstance(event, BlobDataEnd):
                self._ended = True
            else:
                raise ProtocolError("the reply's blobs are out of order", side="remote")
        return bool(len(self._rest))

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fills ``buffer`` from the start; 0 only at the end of the current blob.

        Raises:
            TransportError: the exchange failed.
            WireError: the reply is damaged or ends early.
        """
        if self.closed:
            raise UsageError("the blob reader is closed")
        target = memoryview(buffer).cast("B")
        if not target.nbytes or not self._fill():
            return 0
        count = min(target.nbytes, len(self._rest))
        target[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def read(self, size: int | None = -1, /) -> bytes:
        """Bytes of the current blob: ``size`` of them unless it ends first, or all of the rest."""
        if self.closed:
            raise UsageError("the blob reader is closed")
        wanted = -1 if size is None else size
        parts: list[bytes] = []
        while wanted and self._fill():
            chunk = self._rest if wanted < 0 else self._rest[:wanted]
            parts.append(bytes(chunk))
            self._rest = self._rest[len(chunk) :]
            wanted -= len(chunk) if wanted > 0 else 0
        return b"".join(parts)

    def next(self, *, skip: bool = False) -> bool:
        """Goes to the next blob; False if the current one was the last.

        Args:
            skip: let go of what is left of the current blob, which is received all the same.

        Raises:
            UsageError: the current blob is not read to its end, and ``skip`` was not given.
            TransportError, WireError: as `readinto`.
        """
        if self.closed:
            raise UsageError("the blob reader is closed")
        while self._fill():
            if not skip:
                raise UsageError(
                    "the current blob has unread data; read it, or go on with next(skip=True)"
                )
            self._rest = memoryview(b"")
        event = next(self._events, None)
        if event is None:
            return False
        if not isinstance(event, BlobDataStart):
            raise ProtocolError("the reply's blobs are out of order", side="remote")
        self._header = event.header
        self._length = event.length if event.length >= 0 else None
        self._ended = False
        self.index = event.index
        return True

    def __enter__(self) -> Self:
        return self

    def close(self) -> None:
        """Ends the request before its end; idempotent."""
        if not self.closed:
            self._source.close()
        super().close()
