"""Putting blobs into a write session, getting them by reference, and opening one as a file.

An upload that broke is sent again where its contents can be: what the first attempt may have stored
is referred to by nobody and collected. A read that broke goes on with the blobs that are missing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec
import pyarrow as pa
from crc32c import crc32c

from fletching.client.argument_checks import text_of, whole_number
from fletching.client.blobs.blob_ranges import BlobRanges
from fletching.client.blobs.blob_streams import BlobStreamWriter, check_upload, open_texts
from fletching.client.blobs.blob_transfers import (
    BatchBody,
    BlobEvents,
    BlobRange,
    SingleBody,
    UploadChecksum,
)
from fletching.client.blobs.blob_values import Blob, BlobSource, reference_text
from fletching.client.retry import RetrySequence
from fletching.client.transports.channel import Channel
from fletching.errors import (
    ChecksumMismatchError,
    ProtocolError,
    RangeNotSatisfiableError,
    ServiceError,
    TransportError,
    TruncatedStreamError,
)
from fletching.protocol.messages.admin import DescribeTable
from fletching.protocol.messages.field_types import check_field_types
from fletching.protocol.messages.requests import WriteBlob, WriteBlobs
from fletching.protocol.messages.responses import BlobReferences, TableSchema
from fletching.protocol.types.blob_columns import blob_column_id
from fletching.types import PartitionLike, PartitionSpec, TableName
from fletching.wire.blob_frames import BlobHeader

__all__ = [
    "BlobFile",
    "BlobPutter",
    "contents_ahead",
    "get_blob",
    "get_blobs",
    "get_contents",
    "open_blob",
]

_Read = TypeVar("_Read")

BATCH_BLOBS = 10_000
"""Blobs of one upload at most."""
BATCH_BYTES = 256 << 20
"""Bytes of one upload, from which on it is sent; a single blob may be larger."""
REFERENCE_BYTES = 80
"""Of a reference's text as our service makes it."""
READ_REFERENCES = 10_000
"""References of one request at most."""
STREAM_ID = "blobs"
"""The stream that uploads name; it need not exist."""


@dataclasses.dataclass(frozen=True, slots=True)
class BlobPutter:
    """Uploads into one write session of a table. Thread-safe.

    Attributes:
        channel: how it calls.
        table: whose blobs these are.
        session_id: the session; ``default`` outside of any.
        schema: the table's columns, for their ids; looked up if None.
    """

    channel: Channel
    table: TableName
    session_id: str
    schema: TableSchema | None = None

    def column_id(self, column: str | int | None) -> int:
        """The id of a BLOB column by its path, or of the only one for None.

        Raises:
            UsageError: no such BLOB column, or not exactly one.
        """
        if isinstance(column, int):
            return column
        if column is not None:
            text_of("column", column)
        schema = self.schema
        if schema is None:
            schema = self.channel.call(DescribeTable(table=self.table)).schema
        return blob_column_id(schema, column)

    def put(
        self,
        data: object,
        column: str | int | None = None,
        *,
        partition: PartitionLike | None = None,
        content_type: str | None = None,
        file_name: str | None = None,
    ) -> str:
        """Stores one blob; returns its reference when it is durable.

        Raises:
            UsageError: no such column, or data that is no blob.
            ServiceError: the service refused.
            TransportError: no answer within the retry budget.
            ChecksumMismatchError: the service received other bytes than were sent.
        """
        source = BlobSource(data, content_type=content_type, file_name=file_name)
        request = WriteBlob(
            table=self.table,
            session_id=self.session_id,
            stream_id=STREAM_ID,
            partition=PartitionSpec.parse(partition),
            column_id=self.column_id(column),
            content_type=source.header.content_type,
            file_name=source.header.file_name,
        )
        check_field_types(request)
        transport = self.channel.transport
        checksum = transport.upload_checksum
        request = msgspec.structs.replace(request, crc32c_only=checksum is UploadChecksum.CRC32C)
        body = SingleBody(source, checksum=checksum)

        def send(attempt: RetrySequence) -> BlobReferences:
            reply = transport.upload_blobs(request, body, attempt)
            check_upload(reply, md5=body.md5, crc32c=body.crc32c)
            return reply

        reply: BlobReferences = self.channel.retrying(send, repeatable=body.repeatable)
        return reply.references[0]

    def put_many(
        self,
        blobs: Iterable[object],
        column: str | int | None = None,
        *,
        partition: PartitionLike | None = None,
    ) -> list[str]:
        """Stores many blobs, in requests of up to 10,000; returns their references in order.

        Args:
            blobs: `Blob` values, bytes, paths or open files, taken as they are sent.
            column: the path of a BLOB column.
            partition: where their rows will be.

        Raises:
            As `put`; what was stored before an error is collected unless a row refers to it.
        """
        spec = PartitionSpec.parse(partition)
        header = BlobHeader(
            column_id=self.column_id(column),
            partition_values=tuple(f"{name}={value}" for name, value in spec),
        )
        references: list[str] = []
        batch: list[tuple[BlobSource, BlobHeader]] = []
        size = 0
        for blob in blobs:
            source = BlobSource(blob)
            if source.length is None:
                # A pipe: its length must stand before its data, so it is read here.
                source = BlobSource(
                    b"".join(source.chunks()),
                    content_type=source.header.content_type,
                    file_name=source.header.file_name,
                )
            length = source.length or 0
            if batch and (len(batch) >= BATCH_BLOBS or size + length > BATCH_BYTES):
                references += self._send_batch(batch)
                batch, size = [], 0
            about = dataclasses.replace(
                header,
                content_type=source.header.content_type,
                file_name=source.header.file_name,
            )
            batch.append((source, about))
            size += length
        if batch:
            references += self._send_batch(batch)
        return references

    def _send_batch(self, batch: Sequence[tuple[BlobSource, BlobHeader]]) -> Sequence[str]:
        request = WriteBlobs(table=self.table, session_id=self.session_id, stream_id=STREAM_ID)
        body = BatchBody(batch)
        reply: BlobReferences = self.channel.retrying(
            lambda attempt: self.channel.transport.upload_blobs(request, body, attempt),
            repeatable=body.repeatable,
        )
        if len(reply.references) != len(batch):
            raise ProtocolError(
                f"the service answered {len(batch)} blobs with {len(reply.references)} references",
                side="remote",
            )
        return reply.references

    def open(
        self,
        column: str | int | None = None,
        *,
        partition: PartitionLike | None = None,
        content_type: str | None = None,
        file_name: str | None = None,
    ) -> BlobStreamWriter:
        """Opens a blob for writing piece by piece (see `BlobStreamWriter`); errors as `put`."""
        return BlobStreamWriter(
            self.channel,
            WriteBlob(
                table=self.table,
                session_id=self.session_id,
                stream_id=STREAM_ID,
                partition=PartitionSpec.parse(partition),
                column_id=self.column_id(column),
                content_type=content_type,
                file_name=file_name,
            ),
        )


# --- getting ---------------------------------------------------------------------------------


def get_blob(channel: Channel, project: str, reference: object) -> Blob:
    """One blob, whole.

    Raises:
        NotFoundError: the service does not know the reference.
        ServiceError: the service refused.
        TransportError: no answer within the retry budget.
    """
    text = reference_text(reference)
    if channel.transport.reads_whole_blobs:
        # An empty blob has no range, and comes as a frame.
        with contextlib.suppress(RangeNotSatisfiableError):
            blob: Blob = channel.retrying(
                lambda attempt: _whole(channel, text, attempt), repeatable=True
            )
            return blob
    return next(_fetched(channel, project, [text], _blobs_of))


_CHECKED_BYTES = 1 << 20
"""How much is received before its checksum is taken, while the processor's cache still has it."""


def _whole(channel: Channel, reference: str, attempt: RetrySequence) -> Blob:
    """One blob by its address, received straight into the memory that is returned, and verified.

    Raises:
        ChecksumMismatchError: other bytes arrived than the service has.
    """
    source = channel.transport.read_range(reference, 0, None, attempt)
    try:
        info = source.info
        data = _receive(source, info.length)
    finally:
        source.close()
    if info.crc32c is not None and data[1] != info.crc32c:
        raise ChecksumMismatchError(
            "other bytes of a blob arrived than the service has",
            layer="crc32c",
            expected=info.crc32c,
            actual=data[1],
        )
    return Blob(data[0], info.content_type, info.file_name, reference)


def _receive(source: BlobRange, length: int) -> tuple[bytes, int]:
    """So many bytes of a reply, in memory of their own, and their CRC32C."""
    # A file in memory gives its bytes away without a copy, unlike a bytearray.
    file = io.BytesIO(bytes(length))
    checksum = 0
    with file.getbuffer() as view:
        received = 0
        while received < length:
            count = source.readinto(view[received : received + _CHECKED_BYTES])
            if not count:
                raise TruncatedStreamError(
                    f"a blob of {length} bytes ended after {received}",
                    layer="blob",
                    expected=length,
                    actual=received,
                )
            checksum = crc32c(view[received : received + count], checksum)
            received += count
    return file.getvalue(), checksum


def get_blobs(
    channel: Channel, project: str, references: Iterable[object]
) -> Iterator[Blob | None]:
    """Many blobs in the order of their references, each whole; None for a null reference.

    Args:
        channel: how to call.
        project: of the client.
        references: an iterable of whatever `reference_text` takes, or an Arrow column.

    Raises:
        As `get_blob`, from the iterator.
    """
    waiting: list[str | None] = []
    for reference in references:
        value = reference.as_py() if hasattr(reference, "as_py") else reference
        waiting.append(None if value is None else reference_text(value))
        if len(waiting) >= READ_REFERENCES:
            yield from _with_nulls(channel, project, waiting)
            waiting = []
    if waiting:
        yield from _with_nulls(channel, project, waiting)


def get_contents(
    channel: Channel, project: str, references: pa.ChunkedArray | pa.Array
) -> list[bytes | None]:
    """The data of the blobs that a BLOB column refers to, in memory of its own; None for null.

    For many blobs of which nothing else is wanted: the cheapest way for each.

    Raises:
        As `get_blob`.
    """
    return list(contents_ahead(channel, project, references))


def contents_ahead(
    channel: Channel,
    project: str,
    references: pa.ChunkedArray | pa.Array,
    *,
    replied: Callable[[Sequence[str], BlobEvents], None] = lambda _texts, _events: None,
) -> Iterator[bytes | None]:
    """As `get_contents`, asked for when this returns, and in memory then unless they are on this host.

    What is on this host is read when the iterator comes to it: a processor's cache still has it then.

    Args:
        channel: how to call.
        project: of the client.
        references: a column.
        replied: is shown each reply, with the references that were asked for.

    Raises:
        As `get_contents`; also from the iterator.
    """
    chunks = references.chunks if isinstance(references, pa.ChunkedArray) else [references]
    cells = [
        cell
        for chunk in chunks
        for cell in (chunk.storage if hasattr(chunk, "storage") else chunk).to_pylist()
    ]
    # What a BLOB column holds are the texts' bytes; other columns may have references of any form.
    wanted = [
        cell.decode()
        if type(cell) is bytes and len(cell) == REFERENCE_BYTES and cell.isascii()
        else reference_text(cell)
        for cell in cells
        if cell is not None
    ]
    parts: list[Iterator[bytes]] = []
    for start in range(0, len(wanted), READ_REFERENCES):
        on_host: list[bool] = []

        def read(
            references: Sequence[str], events: BlobEvents, on_host: list[bool] = on_host
        ) -> Iterator[bytes]:
            on_host.append(events.on_this_host)
            replied(references, events)
            return _contents_of(references, events)

        fetched_items = _fetched(channel, project, wanted[start : start + READ_REFERENCES], read)
        first = next(fetched_items)  # asks
        rest = fetched_items if all(on_host) else iter(list(fetched_items))
        parts.append(itertools.chain([first], rest))
    data = itertools.chain.from_iterable(parts)
    return data if len(wanted) == len(cells) else _between(cells, data)


def _between(cells: Sequence[object], data: Iterator[bytes]) -> Iterator[bytes | None]:
    return (None if cell is None else next(data) for cell in cells)


def _with_nulls(
    channel: Channel, project: str, references: list[str | None]
) -> Iterator[Blob | None]:
    wanted = [each for each in references if each is not None]
    blobs = _fetched(channel, project, wanted, _blobs_of)
    for reference in references:
        yield None if reference is None else next(blobs)


def _fetched(
    channel: Channel,
    project: str,
    references: list[str],
    read: Callable[[Sequence[str], BlobEvents], Iterator[_Read]],
) -> Iterator[_Read]:
    """The blobs of one request, begun again behind the last whole one when it breaks."""
    sequence = channel.sequence()
    done, stored = 0, True
    while done < len(references):
        try:
            left = references[done:] if done else references
            events = open_texts(channel, project, left, sequence, stored=stored)
            try:
                for blob in read(left, events):
                    yield blob
                    done += 1
                    sequence.progressed()
            finally:
                events.close()
        except ChecksumMismatchError:
            # The service has not looked at what it sends as it is. In frames it does, and says what is
            # damaged there; what was damaged on the way comes whole.
            if not stored:
                raise
            stored = False
        except (ServiceError, TransportError, TruncatedStreamError) as error:
            sequence.wait(error, repeatable=True)


def _blobs_of(references: Sequence[str], events: BlobEvents) -> Iterator[Blob]:
    for reference, (header, data) in zip(references, events.whole(), strict=True):
        yield Blob(data, header.content_type, header.file_name, reference)


def _contents_of(references: Sequence[str], events: BlobEvents) -> Iterator[bytes]:
    del references
    return events.contents()


# --- one blob as a file ----------------------------------------------------------------------


class BlobFile(io.BufferedReader):
    """One blob as a readable, seekable file.

    Reading on streams ahead, whatever the size of the chunks that are asked for; after a seek only about
    as much is fetched as is read (see `fletching.client.blobs.blob_ranges`).

    Attributes:
        reference: of the blob.
        length: bytes.
        content_type: a media type, if it is known.
        file_name: its name, if it has one. (``name`` is the reference, as files have a name.)
    """

    def __init__(self, channel: Channel, reference: str, buffer_bytes: int) -> None:
        ranges = BlobRanges(channel, reference, buffer_bytes)
        super().__init__(ranges, buffer_bytes)
        self.reference = reference
        self.length = ranges.info.length
        self.content_type = ranges.info.content_type
        self.file_name = ranges.info.file_name

    @property
    def name(self) -> str:
        """The reference."""
        return self.reference

    def __repr__(self) -> str:
        return f"<BlobFile {self.length} bytes, {self.content_type or 'unknown type'}>"


def open_blob(channel: Channel, reference: object, *, buffer_bytes: int = 256 << 10) -> BlobFile:
    """Opens a blob for reading by ranges, which is an extension of our own service.

    Args:
        channel: how to call.
        reference: whatever `reference_text` takes.
        buffer_bytes: what one request fetches at least.

    Raises:
        NotFoundError: the service does not know the reference.
        ServiceError: the service refused, or knows no ranges.
        TransportError: no answer within the retry budget.
    """
    whole_number("buffer_bytes", buffer_bytes, least=1)
    return BlobFile(channel, reference_text(reference), buffer_bytes)
