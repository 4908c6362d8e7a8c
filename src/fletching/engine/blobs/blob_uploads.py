"""Uploads of blobs: one raw body or many frames into one pack.

The order that nothing may change: the pack's bytes are durable, the catalog knows the pack, the
reply with the references goes out. A pack that the catalog never heard of is an orphan, which
retention finds. An upload that is being finished cannot be aborted: the transaction's outcome decides
whether its pack stays (the table is in ``engine.writing.states``).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from sqlalchemy import Connection
from typing_extensions import Buffer

from fletching import faultpoints
from fletching.catalog.blob_rows import NewPack, insert_pack
from fletching.engine.blobs.blob_references import BlobReference, ReferenceKey, pack_key
from fletching.engine.blobs.packs import MAX_METADATA_BYTES, PackRecord, PackWriter
from fletching.engine.context import EngineContext
from fletching.engine.identity import check_key
from fletching.engine.tables.partitions import matching_values
from fletching.engine.tables.table_description import table_schema_of
from fletching.engine.writing.body_upload import BodyUpload
from fletching.engine.writing.states import SessionEvent
from fletching.engine.writing.write_targets import WriteTarget, find_target, keep_alive
from fletching.errors import InvalidArgumentError, PayloadTooLargeError, UsageError
from fletching.hashing import RunningMd5
from fletching.objects.store import ObjectSink
from fletching.protocol.http.layers import blob_write_decoder
from fletching.protocol.messages.requests import DEFAULT_SESSION_ID, WriteBlob, WriteBlobs
from fletching.protocol.messages.responses import BlobReferences
from fletching.protocol.types.blob_columns import blob_column_ids
from fletching.types import PartitionSpec
from fletching.wire.blob_frames import BlobData, BlobDataEnd, BlobDataStart, BlobHeader
from fletching.wire.content_coding import ContentCoding

__all__ = ["BlobUpload", "open_upload"]


def open_upload(
    context: EngineContext, key: ReferenceKey, request: WriteBlob | WriteBlobs
) -> BlobUpload:
    """Prepares to take a body; nothing is stored yet.

    Raises:
        NotFoundError: no such session, or NoSuchTableError, ExpiredSessionError.
        ConflictError: the session is committed.
        InvalidArgumentError: the column is not a BLOB, or the partition not one of the table's.
        InvalidParameterError: a content coding that is not spoken here.
    """
    coding = ContentCoding.from_token(request.content_encoding)
    target = _checked_target(context, request)
    return BlobUpload(context, key, request, target, coding)


def _checked_target(context: EngineContext, request: WriteBlob | WriteBlobs) -> WriteTarget:
    """The session of an upload, if it takes one; looked at again where it counts, at the end."""
    if request.session_id != DEFAULT_SESSION_ID:
        with context.database.read() as connection:
            return find_target(connection, context, request, SessionEvent.WRITE, lock=False)
    # It comes into being at its first use.
    with context.database.write(durable=False) as connection:
        return find_target(connection, context, request, SessionEvent.WRITE)


class _Headers:
    """Checks what an upload says about its blobs."""

    def __init__(self, target: WriteTarget) -> None:
        table = target.table
        self._columns = blob_column_ids(table_schema_of(table))
        self._partition_columns = table.partition_columns
        self._table = table.name
        # Frames of one batch mostly say the same.
        self._seen: set[tuple[int | None, tuple[str, ...] | None]] = set()

    def stored(self, header: BlobHeader) -> BlobHeader:
        """The header as it is kept with the blob.

        Raises:
            InvalidArgumentError: a column that is no BLOB, a partition that is not one of the
                table's, or a content type and file name that are too long together.
        """
        target = (header.column_id, header.partition_values)
        if target not in self._seen:
            self._check(*target)
            if len(self._seen) < 10_000:
                self._seen.add(target)
        kept = BlobHeader(content_type=header.content_type, file_name=header.file_name)
        for text in (header.content_type, header.file_name):
            if text is not None and any(ord(c) < 32 or ord(c) == 127 for c in text):
                raise InvalidArgumentError(
                    "a blob's content type and file name have no control characters"
                )
        length = len(kept.to_json())
        if length > MAX_METADATA_BYTES:
            raise InvalidArgumentError(
                f"a blob's content type and file name take {length} bytes, the limit is"
                f" {MAX_METADATA_BYTES}"
            )
        return kept

    def _check(self, column_id: int | None, partition_values: tuple[str, ...] | None) -> None:
        if column_id not in self._columns:
            known = ", ".join(f"{id_} ({path})" for id_, path in self._columns.items()) or "none"
            raise InvalidArgumentError(
                f"ColumnIndex {column_id} is not a BLOB column of table {self._table};"
                f" its BLOB columns are: {known}"
            )
        for values in partition_values or ():
            try:
                spec = PartitionSpec.parse(values)
            except UsageError as error:
                raise InvalidArgumentError(error.message) from error
            matching_values(self._partition_columns, spec)


class BlobUpload(BodyUpload):
    """One upload on its way into a pack.

    ``accept`` takes the body as it comes, ``finish`` makes it durable and returns the references,
    ``abort`` leaves nothing behind. Memory is constant, whatever the size.
    """

    def __init__(
        self,
        context: EngineContext,
        key: ReferenceKey,
        request: WriteBlob | WriteBlobs,
        target: WriteTarget,
        coding: ContentCoding,
    ) -> None:
        super().__init__()
        settings = context.settings
        self._context = context
        self._key = key
        self._request = request
        self._table_id = target.table.id
        self._headers = _Headers(target)
        self._framed = isinstance(request, WriteBlobs)
        self._decoder = blob_write_decoder(
            coding,
            framed=self._framed,
            max_decoded_bytes=settings.max_blob_upload_bytes,
            max_ratio=settings.max_blob_ratio,
            max_blob_bytes=settings.max_blob_bytes,
            max_frames=settings.max_blobs_per_upload,
        )
        self._pack = f"{context.store.writer}{secrets.token_hex(6)}"
        self._sink: ObjectSink | None = None
        self._writer: PackWriter | None = None
        self._references: list[BlobReference] = []
        self._size = 0
        self._md5 = RunningMd5()
        self._takes_md5 = isinstance(request, WriteBlob) and not request.crc32c_only
        if isinstance(request, WriteBlob):
            self._single = self._headers.stored(
                BlobHeader(
                    content_type=request.content_type,
                    file_name=request.file_name,
                    column_id=request.column_id,
                    partition_values=(str(request.partition),) if request.partition else None,
                )
            )

    def accept(self, chunks: Iterable[Buffer]) -> None:
        """Decodes, verifies, checksums and stores the next bytes of the body.

        Buffers must stay unchanged until ``finish``: a thread may still be hashing them. They are
        let go of as soon as that is done.

        Raises:
            WireError: the body is not what its headers say, or a footer's checksum is wrong.
            InvalidArgumentError: a frame's header is wrong.
            PayloadTooLargeError: a blob or the upload is above its limit.
            StorageFullError: no room.
            StorageError: the store failed.
        """
        with self._accepting():
            for chunk in chunks:
                self._decoder.feed(chunk)
                self._take(self._decoder.events())
            if self._writer is not None:
                self._writer.flush()

    def finish(self) -> BlobReferences:
        """Makes the pack durable and known; the references are good when this returns.

        Raises:
            WireError: the body ended too early.
            StorageError: the store or catalog failed; nothing was stored, or an orphan was.
            NotFoundError: the session ended while the body came in, or ConflictError.
            UsageError: it was finished or aborted already.
        """
        with self._working:
            if self._life.ended:
                raise UsageError("the blob upload is finished or aborted")
            with self._finishing():
                return self._finish()

    def _finish(self) -> BlobReferences:
        self._decoder.finish()
        self._take(self._decoder.events())
        if not self._framed:
            self._writer_for(self._single)
            self._end_blob()
        if self._writer is not None and self._sink is not None:
            self._publish(self._writer, self._sink)
        return BlobReferences(
            references=tuple(self._key.texts(self._references)),
            size=self._size,
            md5=self._md5.hexdigest() if self._takes_md5 else None,
            crc32c=None if self._framed else self._references[0].crc32c,
        )

    def _publish(self, writer: PackWriter, sink: ObjectSink) -> None:
        writer.finish()
        sink.commit()
        faultpoints.reach("blobs.durable")
        recorded = False
        try:
            with self._context.database.write() as connection:
                self._record(connection, writer, sink.key)
                recorded = True
        finally:
            if recorded:
                # From here on the pack is the catalog's, whatever is raised. If the commit itself
                # failed, it may yet turn out to have been written; if it was not, retention finds the
                # pack without an owner.
                self._sink = None
        faultpoints.reach("blobs.accepted")

    def _record(self, connection: Connection, writer: PackWriter, key: str) -> None:
        """The transaction: the session still allows it, and the catalog knows the pack."""
        context = self._context
        check_key(connection, context.server_key)
        target = find_target(connection, context, self._request, SessionEvent.WRITE)
        keep_alive(connection, context, target)
        context.check_recordable(connection, [key])
        insert_pack(
            connection,
            NewPack(
                id=self._pack,
                key=key,
                table_id=self._table_id,
                session_pk=target.session.pk,
                blobs=writer.blobs,
                length=writer.length,
                crc32c=writer.crc32c,
            ),
            context.clock(),
        )

    def _drop_objects(self) -> None:
        self._md5.close()
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.abort()
            # If it was published already, the catalog refused it: then the object goes, too.
            self._context.delete_objects([sink.key])

    def _take(self, events: Iterable[object]) -> None:
        for event in events:
            if isinstance(event, memoryview):
                self._writer_for(self._single).data(event)
                self._count(len(event))
                if self._takes_md5:
                    self._md5.update(event)
            elif isinstance(event, BlobData):
                self._open_writer().data(event.data)
                self._count(len(event.data))
            elif isinstance(event, BlobDataStart):
                self._open_writer().begin(self._headers.stored(event.header))
            elif isinstance(event, BlobDataEnd):
                self._end_blob()

    def _count(self, length: int) -> None:
        """Counts data; a raw body has no frame whose length could be refused beforehand."""
        self._size += length
        limit = self._context.settings.max_blob_bytes
        if not self._framed and self._size > limit:
            raise PayloadTooLargeError(f"the blob has more than {limit} bytes", limit=limit)

    def _open_writer(self) -> PackWriter:
        if self._writer is None:
            key = pack_key(self._table_id, self._pack)
            self._sink = self._context.create_object(key)
            self._writer = PackWriter(self._sink)
        return self._writer

    def _writer_for(self, header: BlobHeader) -> PackWriter:
        """The writer, inside the record of a single upload."""
        if self._writer is None:
            self._open_writer().begin(header)
        return self._open_writer()

    def _end_blob(self) -> None:
        record: PackRecord = self._open_writer().end()
        self._references.append(BlobReference(self._table_id, self._pack, *record))
