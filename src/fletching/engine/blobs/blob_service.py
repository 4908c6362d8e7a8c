"""`Blobs`: everything an engine does with blobs, for its shells."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from fletching.catalog import table_rows as catalog_tables
from fletching.engine.blobs.blob_reading import BlobReadPlan, Packs, plan_reply
from fletching.engine.blobs.blob_references import BlobReference, ReferenceChecker, ReferenceKey
from fletching.engine.blobs.blob_uploads import BlobUpload, open_upload
from fletching.engine.blobs.pack_sharing import PackSharing, SharedPacks
from fletching.engine.blobs.packs import read_header
from fletching.engine.context import EngineContext
from fletching.engine.reading.read_calls import Reading
from fletching.engine.reading.read_plan import Extent
from fletching.errors import InvalidArgumentError, NotFoundError, RangeNotSatisfiableError
from fletching.protocol.messages.requests import ReadBlobs, WriteBlob, WriteBlobs
from fletching.types import ByteRange, TableName
from fletching.wire.blob_frames import BlobHeader
from fletching.wire.content_coding import negotiate

__all__ = ["BlobSlice", "Blobs"]


@dataclasses.dataclass(frozen=True, slots=True)
class BlobSlice:
    """A range of one blob's bytes, as stored.

    Attributes:
        header: the blob's content type and file name.
        total: bytes of the whole blob.
        range: which of them; half-open.
        etag: changes with the bytes; without quotes.
        pieces: one extent of the pack, or none for an empty range.
        table: whose blob it is, for whoever decides on access.
        length: bytes of the range.
    """

    header: BlobHeader
    total: int
    range: ByteRange
    etag: str
    pieces: tuple[Extent, ...]
    table: TableName

    @property
    def length(self) -> int:
        """Bytes of the range."""
        return self.range.length


class Blobs:
    """Uploads, replies and ranges. Thread-safe; all methods block."""

    def __init__(self, context: EngineContext, reading: Reading) -> None:
        self._context = context
        self._sharing = PackSharing(context, reading)
        self._key = ReferenceKey(context.server_key)

    def checker(self, table_id: str) -> ReferenceChecker:
        """What checks the BLOB cells of one body for a table."""
        return ReferenceChecker(self._key, table_id)

    def open_upload(self, request: WriteBlob | WriteBlobs) -> BlobUpload:
        """Prepares to take blobs; see `fletching.engine.blobs.blob_uploads.open_upload`."""
        self._context.check_may_change()
        return open_upload(self._context, self._key, request)

    def tables(self, references: Sequence[str]) -> list[TableName]:
        """The tables that the blobs of these references belong to, for whoever decides on access.

        Raises:
            NotFoundError: a reference is not known, or its table was dropped.
        """
        return self._tables(self._parsed(references))

    def _tables(self, references: Sequence[BlobReference]) -> list[TableName]:
        names: list[TableName] = []
        with self._context.database.read() as connection:
            for table_id in sorted({reference.table_id for reference in references}):
                table = catalog_tables.table_by_id(connection, table_id)
                if table is None or table.dropped_at is not None:
                    raise NotFoundError("the table of a blob reference was dropped")
                names.append(table.name)
        return names

    def _parsed(self, references: Sequence[str]) -> list[BlobReference]:
        limit = self._context.settings.max_blobs_per_read
        if not references:
            raise InvalidArgumentError("no blob reference was given")
        if len(references) > limit:
            raise InvalidArgumentError(
                f"{len(references)} blob references in one request, the limit is {limit}",
                limit=limit,
            )
        return self._key.parse_many(list(references))

    def read(self, request: ReadBlobs) -> BlobReadPlan:
        """Plans the reply to a BlobRead.

        Raises:
            NotFoundError: a reference is not known, its table was dropped, or its pack is gone.
            InvalidArgumentError: no references, or too many.
        """
        references = self._parsed(request.references)
        tables = self._tables(references)
        coding = negotiate(request.accept_encoding)
        plan = plan_reply(
            self._context.store,
            references,
            coding,
            framed=request.framed,
            stored=request.stored,
        )
        return dataclasses.replace(plan, tables=tuple(tables))

    def share(
        self,
        references: Sequence[str],
        *,
        check: Callable[[TableName], None],
        session_id: str | None = None,
    ) -> SharedPacks | None:
        """Where blobs are, for a client that reads the packs itself; None if they are to be sent.

        Args:
            references: their texts.
            check: called for each table that they belong to, before anything is looked at; raises where
                the caller may not read it.
            session_id: the read session whose rows are all that the caller may read of its table, if he
                may not read all.

        Raises:
            As `read`; ExpiredSessionError: the session has expired.
        """
        parsed = self._parsed(references)
        for table in self._tables(parsed):
            check(table)
        return self._sharing.share(parsed, session_id=session_id)

    def slice(self, reference: str, start: int | None = None, end: int | None = None) -> BlobSlice:
        """A range of one blob.

        Args:
            reference: its text.
            start: the first byte; None with ``end`` given means the last ``end`` bytes.
            end: behind the last byte; None means to the end. Beyond the end is cut off.

        Raises:
            NotFoundError: as for `read`.
            RangeNotSatisfiableError: the range begins at or behind the end of the blob.
        """
        parsed = self._parsed([reference])[0]
        (table,) = self._tables([parsed])
        total = parsed.length
        whole = start is None and end is None
        if start is None:
            start, end = (0 if end is None else max(total - end, 0)), total
        end = total if end is None else min(end, total)
        if not whole and not 0 <= start < end:
            raise RangeNotSatisfiableError(
                f"the range begins at byte {start} of a blob of {total} bytes",
                content_range=f"bytes */{total}",
                total=total,
            )
        packs = Packs(self._context.store)
        pack = packs.get(parsed)
        try:
            metadata = pack.read(parsed.offset, parsed.data_start)
            header = BlobHeader.from_json(read_header(metadata, pack.key))
        except BaseException:
            packs.close()
            raise
        # The pack stays open for its extent; it is closed when the extent is let go of.
        extents = (
            (Extent(pack, parsed.data_start + start, parsed.data_start + end),)
            if end > start
            else ()
        )
        return BlobSlice(header, total, ByteRange(start, end), _etag(parsed), extents, table)


def _etag(reference: BlobReference) -> str:
    return f"{reference.pack}-{reference.offset:x}-{reference.length:x}-{reference.crc32c:08x}"
