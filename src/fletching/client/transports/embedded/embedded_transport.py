"""The service in this process: an engine over a folder, without HTTP.

Reads are the engine's batches, whose values lie in the mapped segments; nothing is copied that is
not computed. Writes go through the same ingest as those of a server, so the same is checked.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec
import pyarrow as pa

from fletching.client.blobs.blob_transfers import (
    BlobBody,
    BlobFileOnHost,
    BlobInfo,
    UploadChecksum,
    whole_of,
)
from fletching.client.blobs.open_pack import OpenPack
from fletching.client.cancellation import Cancellation
from fletching.client.retry import RetrySequence
from fletching.client.transports.transport import ReadRequest
from fletching.engine.engine import Engine
from fletching.engine.engine_settings import EngineSettings
from fletching.engine.reading.read_plan import ReadPlan
from fletching.errors import (
    FletchingError,
    OperationCancelledError,
    ServiceError,
    StorageError,
    TransportError,
)
from fletching.ipc.encoding import BatchEncoder
from fletching.ipc.message import END_OF_STREAM
from fletching.protocol.codec import check_request
from fletching.protocol.http.error_codec import to_service_error
from fletching.protocol.messages.requests import (
    AppendRows,
    CreateReadSession,
    ReadBlobs,
    Reply_co,
    Request,
    WriteBlob,
    WriteBlobs,
    WriteTable,
)
from fletching.protocol.messages.responses import BlobReferences, ReadSession, WriteResult
from fletching.settings import StorageSettings, storage_settings
from fletching.wire.blob_frames import (
    BlobData,
    BlobDataEnd,
    BlobDataStart,
    BlobHeader,
    ChecksumType,
)

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from fletching.engine.writing.ingest import Ingest

__all__ = ["EmbeddedBlobEvents", "EmbeddedBlobRange", "EmbeddedTransport"]

FEED_BYTES = 16 * 1024 * 1024
"""How much of a body the ingest is given before it checks and stores what is complete."""


@contextlib.contextmanager
def _as_service() -> Iterator[None]:
    """Errors as over HTTP: what a server would answer with, but for faults of the storage itself.

    Raises:
        ServiceError: the engine refused.
        StorageError: the folder or the catalog failed.
    """
    try:
        yield
    except (ServiceError, StorageError, TransportError, OperationCancelledError):
        raise
    except FletchingError as exc:
        raise to_service_error(exc, "") from exc


class EmbeddedTransport:
    """A `fletching.client.transports.transport.Transport` over an engine. Thread-safe, as the engine is.

    Attributes:
        supports_parallel_reads: never: mapped pages come as fast to one thread.
        engine: the engine; owned, closed by `close`.
    """

    supports_parallel_reads = False
    default_connections = 1
    upload_checksum = UploadChecksum.NONE
    reads_whole_blobs = False

    def __init__(
        self,
        location: str | Path | StorageSettings,
        *,
        create: bool = False,
        read_only: bool | None = None,
        engine: Engine | None = None,
    ) -> None:
        """Opens a data set, making it with ``create``, or takes over an engine that is open already.

        A folder's path is what the environment makes of it. One that cannot be written to, and any with
        ``read_only``, is opened for reading: as it is now, and changes are refused.

        Raises:
            StorageError: it cannot be opened.
        """
        self.cancellation = Cancellation()
        # A project that is mistyped is an error, not a new one: as over HTTP.
        if engine is None:
            storage = location
            if not isinstance(storage, StorageSettings):
                storage, _ = storage_settings(folder=location)
            settings = EngineSettings.of(storage, create_projects=False)
            engine = Engine.open(
                storage.folder, settings=settings, create=create, read_only=read_only
            )
        self.engine = engine

    def call(self, request: Request[Reply_co], attempt: RetrySequence) -> Reply_co:
        """See `Transport.call`."""
        with self._call(attempt, request):
            return self.engine.call(request)

    def open_session(
        self, request: CreateReadSession, attempt: RetrySequence
    ) -> tuple[ReadSession, None]:
        """See `Transport.open_session`; there is no round trip to be saved."""
        return self.call(request, attempt), None

    def read(self, request: ReadRequest, attempt: RetrySequence) -> EmbeddedSource:
        """See `Transport.read`."""
        with self._call(attempt, request):
            return EmbeddedSource(self.engine.read(request), attempt.cancellation)

    def write(
        self,
        request: WriteTable | AppendRows,
        batches: Sequence[pa.RecordBatch],
        schema: pa.Schema,
        attempt: RetrySequence,
    ) -> WriteResult:
        """See `Transport.write`; the batches are encoded once, into the bodies that are stored."""
        sink = self.open_write(request, attempt)
        try:
            encoder = BatchEncoder(schema, compression=attempt.options.compression)
            sink.write(encoder.schema_message)
            for batch in batches:
                for message in encoder.encode(batch):
                    for part in message:
                        sink.write(part)
            sink.write(END_OF_STREAM)
        except BaseException:
            sink.abort()
            raise
        return sink.finish()

    def open_read(self, request: ReadRequest, attempt: RetrySequence) -> PlanBytes:
        """See `Transport.open_read`."""
        with self._call(attempt, request):
            return PlanBytes(self.engine.read(request))

    def open_write(self, request: WriteTable | AppendRows, attempt: RetrySequence) -> IngestSink:
        """See `Transport.open_write`."""
        request = msgspec.structs.replace(request, retry_trace_id=attempt.trace_id)
        with self._call(attempt, request):
            return IngestSink(self.engine.open_ingest(request))

    def upload_blobs(
        self,
        request: WriteBlob | WriteBlobs,
        body: BlobBody,
        attempt: RetrySequence,
    ) -> BlobReferences:
        """See `BlobTransport.upload_blobs`."""
        with self._call(attempt, request):
            upload = self.engine.blobs.open_upload(request)
        try:
            # What the body raises is the caller's own error.
            for part in body:
                attempt.cancellation.check()
                with _as_service():
                    upload.accept([part])
            with _as_service():
                return upload.finish()
        except BaseException:
            upload.abort()
            raise

    def read_blobs(self, request: ReadBlobs, attempt: RetrySequence) -> EmbeddedBlobEvents:
        """See `BlobTransport.read_blobs`."""
        with self._call(attempt, request):
            return EmbeddedBlobEvents(self.engine.blobs.read(request))

    def read_range(
        self,
        reference: str,
        start: int,
        end: int | None,
        attempt: RetrySequence,
    ) -> EmbeddedBlobRange:
        """See `BlobTransport.read_range`."""
        with self._call(attempt):
            return EmbeddedBlobRange(self.engine.blobs.slice(reference, start, end))

    def blob_info(self, reference: str, attempt: RetrySequence) -> BlobInfo:
        """See `BlobTransport.blob_info`."""
        with self._call(attempt):
            return EmbeddedBlobRange(self.engine.blobs.slice(reference)).info

    def close(self) -> None:
        """Closes the engine; batches that were handed out stay valid."""
        self.cancellation.cancel("the client was closed")
        self.engine.close()

    @contextlib.contextmanager
    def _call(self, attempt: RetrySequence, request: Request | None = None) -> Iterator[None]:
        """One call: not begun if it was cancelled or a value is out of bounds, its errors those of a service."""
        attempt.cancellation.check()
        self.cancellation.check()
        with _as_service():
            if request is not None:
                check_request(request)
            yield

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class EmbeddedSource:
    """The batches of a read plan; a `fletching.client.transports.transport.BatchSource`."""

    def __init__(self, plan: ReadPlan, cancellation: Cancellation) -> None:
        self._plan = plan
        self._cancellation = cancellation
        self.schema: pa.Schema = plan.schema
        self.request_id: str | None = None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """The batches; errors of the engine as they are."""
        for batch in self._plan.batches():
            self._cancellation.check()
            yield batch

    def hurry(self) -> None:
        """Nothing is waited for."""

    def close(self) -> None:
        """Nothing is held."""


class PlanBytes:
    """The bytes of a read plan; a `fletching.client.transports.transport.BytesSource`."""

    def __init__(self, plan: ReadPlan) -> None:
        self._buffers = iter(plan.buffers())
        self._current = memoryview(b"")
        self.request_id: str | None = None

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Copies the next bytes; 0 at the end of the stream."""
        target = memoryview(buffer).cast("B")
        if not target.nbytes:
            return 0
        while not self._current.nbytes:
            following = next(self._buffers, None)
            if following is None:
                return 0
            self._current = memoryview(following).cast("B")
        count = min(target.nbytes, self._current.nbytes)
        target[:count] = self._current[:count]
        self._current = self._current[count:]
        return count

    def close(self) -> None:
        """Lets go of the stored bytes."""
        self._current = memoryview(b"")
        self._buffers = iter(())


class IngestSink:
    """The body of one TableWrite on its way into an ingest; a `BytesSink`."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest
        self._fed = 0

    def write(self, data: ReadableBuffer) -> None:
        """Feeds the decoder, and has stored what is complete from time to time."""
        view = memoryview(data).cast("B")
        try:
            with _as_service():
                self._ingest.decoder.feed(view)
                self._fed += view.nbytes
                if self._fed >= FEED_BYTES:
                    self._store()
        except BaseException:
            self.abort()
            raise

    def finish(self) -> WriteResult:
        """Stores the rest, durably; the engine's answer."""
        try:
            with _as_service():
                self._store()
                result: WriteResult = self._ingest.finish()
        except BaseException:
            self.abort()
            raise
        return result

    def abort(self) -> None:
        """Nothing of the body remains; idempotent."""
        self._ingest.abort()

    def _store(self) -> None:
        self._fed = 0
        messages = list(self._ingest.decoder)
        if messages:
            self._ingest.accept(messages)


class EmbeddedBlobEvents:
    """The blobs of an engine's plan; a `fletching.client.blobs.blob_transfers.BlobEvents`.

    Data are views of the mapped packs, verified as a server's reply is.
    """

    on_this_host = True

    def __init__(self, plan: Any) -> None:
        self._plan = plan
        self._records = plan.records()
        self.request_id: str | None = None
        self.framed = True

    def __iter__(self) -> Iterator[BlobDataStart | BlobData | BlobDataEnd]:
        """The events; errors of the engine as they are."""
        for index, record in enumerate(self._records):
            header = BlobHeader.from_json(record.header)
            yield BlobDataStart(index, 0, header, record.reference.length)
            for part in record.pieces:
                if len(part):
                    yield BlobData(part)
            yield BlobDataEnd(index, ChecksumType.NONE, {})

    def whole(self) -> Iterator[tuple[BlobHeader, bytes]]:
        """The blobs' headers and data; errors of the engine as they are."""
        return whole_of(self)

    def contents(self) -> Iterator[bytes]:
        """The blobs' data; errors of the engine as they are."""
        contents: Iterator[bytes] = self._plan.contents()
        return contents

    def packs(self) -> Iterator[tuple[int, OpenPack, int]]:
        """See `BlobEvents.packs`; none where they are not files of this host."""
        for number, reference, pack in self._plan.packs():
            descriptor = getattr(pack, "descriptor", None)
            if descriptor is not None:
                yield number, OpenPack(os.dup(descriptor), pack.length), reference.data_start

    def close(self) -> None:
        """Closes the packs."""
        self._records.close()


class EmbeddedBlobRange:
    """A range of one blob; a `fletching.client.blobs.blob_transfers.BlobRange`."""

    file: BlobFileOnHost | None = None

    def __init__(self, blob: Any) -> None:
        self.info = BlobInfo(blob.total, blob.header.content_type, blob.header.file_name)
        self._rest = memoryview(b"")
        for extent in blob.pieces:
            self._rest = extent.object.view(extent.start, extent.end)

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Copies the next bytes; 0 at the end of the range."""
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._rest))
        target[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        """Lets go of the pack."""
        self._rest = memoryview(b"")
