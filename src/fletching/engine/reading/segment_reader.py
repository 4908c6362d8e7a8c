"""Segments as a read sees them: views of messages, record batches over those views, and pieces of a reply.

A stream has one id per dictionary-encoded field, and segments may come from writers that numbered
theirs differently. The reply's ids are those of the table's schema; where a segment's differ, its
dictionary messages get new metadata around the same body. Chosen columns are new metadata, and the
wanted bytes as extents.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from typing_extensions import Buffer

from fletching import ipc
from fletching.catalog.segment_rows import SegmentRow
from fletching.engine.reading.message_checks import FILE_PREFIX_BYTES, MessageChecks
from fletching.engine.reading.physical_projection import PhysicalProjection, SegmentColumns
from fletching.engine.reading.read_plan import Extent, Literal
from fletching.errors import CorruptObjectError, ObjectNotFoundError, WireError
from fletching.ipc.batches import BatchDecoder
from fletching.ipc.limits import DEFAULT_LIMITS
from fletching.ipc.message import Message, message_at
from fletching.ipc.projection import Projection
from fletching.ipc.renumbering import renumbered
from fletching.ipc.schema_header import schema_header
from fletching.objects.remote_object import HeldObject
from fletching.objects.store import ObjectStore, StoredObject

__all__ = ["ColumnChunks", "DictionaryChunks", "DictionaryMessage", "SegmentReader"]

"""The magic and its padding; a segment's schema message follows."""


WHOLE_BYTES = 4 << 20
"""A remote segment up to this size is fetched whole."""

METADATA_GAP_BYTES = 64 << 10
"""Where metadata must be fetched batch by batch: what lies between is hardly ever worth a request."""


class DictionaryMessage:
    """Where a dictionary batch message stands in a segment, and the id it has there."""

    __slots__ = ("body_length", "id", "metadata_length", "offset")

    def __init__(self, offset: int, metadata_length: int, body_length: int, id_: int) -> None:
        self.offset = offset
        self.metadata_length = metadata_length
        self.body_length = body_length
        self.id = id_

    @property
    def end(self) -> int:
        """Where the message ends in the segment."""
        return self.offset + self.metadata_length + self.body_length


class SegmentReader:
    """One segment, opened when it is first needed. Thread-safe."""

    def __init__(
        self,
        store: ObjectStore,
        row: SegmentRow,
        columns: SegmentColumns,
        checks: MessageChecks | None = None,
    ) -> None:
        self.row = row
        self.columns = columns
        self._store = store
        self._checks = checks
        self._metadata: dict[int, memoryview] = {}
        self._checked: StoredObject | None = None
        self._lock = threading.Lock()
        self._object: StoredObject | None = None
        self._decoder: BatchDecoder | None = None
        self._dictionaries_read = 0

    @property
    def object(self) -> StoredObject:
        """The stored object, whose messages are proven against their checksums as they are used.

        Raises:
            CorruptObjectError: it is gone, or not as long as the catalog says.
        """
        if self._checks is None:
            return self.unchecked
        if self._checked is None:
            self._checked = self._checks.checked(self.unchecked, self.row)
        return self._checked

    @property
    def unchecked(self) -> StoredObject:
        """The stored object as it is, for reads of parts of messages.

        Raises:
            CorruptObjectError: it is gone, or not as long as the catalog says.
        """
        if self._object is None:
            try:
                opened = self._store.open(
                    self.row.key, length=self.row.length, crc32c=self.row.crc32c
                )
            except ObjectNotFoundError as error:
                raise CorruptObjectError(
                    f"segment {self.row.key}, which the catalog lists, is missing", key=self.row.key
                ) from error
            if opened.length != self.row.length:
                opened.close()
                raise CorruptObjectError(
                    f"segment {self.row.key} has {opened.length} bytes where the catalog has"
                    f" {self.row.length}: it was cut or replaced",
                    key=self.row.key,
                )
            self._object = opened
        return self._object

    def dictionaries(self, before: int) -> list[DictionaryMessage]:
        """The dictionary batch messages that stand before an offset, in order."""
        if not self.row.dictionary_index:
            return []
        index = np.frombuffer(self.row.dictionary_index, "<i8").reshape(-1, 4).tolist()
        return [DictionaryMessage(*entry) for entry in index if entry[0] < before]

    def schema_message(self) -> ipc.Message:
        """The segment's own schema message, whose dictionary ids its dictionary batches carry."""
        head = self.object.view(FILE_PREFIX_BYTES, FILE_PREFIX_BYTES + 8)
        length = int.from_bytes(head[4:8], "little")
        end = FILE_PREFIX_BYTES + 8 + length
        return self._message(FILE_PREFIX_BYTES, end)

    def bring_metadata(self, where: Sequence[tuple[int, int]]) -> None:
        """Fetches the metadata of messages, (offset, length) each, where that takes a request each."""
        fetch = getattr(self.unchecked, "fetch", None)
        if fetch is None:
            return
        if self.row.length <= WHOLE_BYTES:
            self._hold()
            return
        if self._bring_index():
            return
        missing = [entry for entry in where if entry[0] not in self._metadata]
        # Copies, since a view would keep all that came with the same request.
        ranges = ((offset, offset + length) for offset, length in missing)
        views = fetch(ranges, bytes_per_request=METADATA_GAP_BYTES)
        for (offset, _), view in zip(missing, views, strict=True):
            self._metadata[offset] = memoryview(bytes(view))

    def _hold(self) -> None:
        """Fetches the whole of a small segment: one request, where its parts would be two or more."""
        stored = self.unchecked
        self._object = HeldObject(self.row.key, stored.read(0, stored.length))
        # What is proven is proven of the bytes in memory. The stored object is not closed: another
        # thread may be reading by it, and it ends with its last reference.
        self._checked = None

    def _bring_index(self) -> bool:
        """Takes all batches' metadata from the segment's end, if that has it."""
        if self._metadata or self._checks is None:
            return bool(self._metadata)
        result = self._checks.tails.get(self.unchecked, self.row).metadata
        if result is None:
            return False
        offsets = np.frombuffer(self.row.batch_index, "<i8").reshape(-1, 4)[:, 0].tolist()
        self._metadata = dict(zip(offsets, result, strict=True))
        return True

    def metadata(self, offset: int, length: int) -> memoryview:
        """A message's metadata with its prefix: all that a projection reads."""
        known = self._metadata.get(offset)
        if known is not None:
            return known
        return self.unchecked.view(offset, offset + length)

    def decode(self, offset: int, end: int, columns: tuple[int, ...]) -> pa.RecordBatch:
        """Columns of the record batch at ``offset``, borrowing from the segment's mapping.

        Args:
            offset: where the message starts in the segment.
            end: where it ends.
            columns: which of the segment's columns, in order.

        Raises:
            CorruptObjectError: what stands there is not that message.
        """
        return self.decode_beside(offset, end, columns)[0]

    def decode_beside(
        self, offset: int, end: int, columns: tuple[int, ...]
    ) -> tuple[pa.RecordBatch, pa.RecordBatch | None]:
        """What `decode` gives, and all columns where decoding them takes nothing more.

        Whoever looks at values of the latter proves them before, see `prove`.
        """
        if len(columns) == len(self.columns.schema):
            whole = self._decode(offset, end)
            return whole, whole
        if self.columns.has_dictionaries:
            whole = self._decode(offset, end)
            return whole.select(list(columns)), whole
        # A part of the message: of the columns that are left out no byte is touched.
        try:
            if not self.row.codecs:
                whole = self._decode(offset, end, checked=False)
                result = whole.select(list(columns))
            else:
                whole = None
                message = self._message(offset, end, checked=False)
                result = self.columns.projected(columns).decode(message)
            self.columns.check_part(result, columns)
        except WireError as error:
            raise self._damaged(error) from error
        return result, whole

    def prove(self, offset: int, end: int) -> None:
        """Compares a message with its checksum, unless this process has.

        Raises:
            CorruptObjectError: it is not what was written.
        """
        self.object.view(offset, end)

    def _decode(self, offset: int, end: int, *, checked: bool = True) -> pa.RecordBatch:
        try:
            if not self.columns.has_dictionaries:
                return self.columns.decoder.decode(self._message(offset, end, checked=checked))
            with self._lock:  # the decoder's dictionaries grow
                decoder = self._decoder or BatchDecoder(self.schema_message(), trusted=True)
                self._decoder = decoder
                for entry in self.dictionaries(offset)[self._dictionaries_read :]:
                    decoder.decode(self._message(entry.offset, entry.end))
                    self._dictionaries_read += 1
                return decoder.decode(self._message(offset, end))
        except WireError as error:
            raise self._damaged(error) from error

    def decode_message(self, data: memoryview) -> pa.RecordBatch:
        """All columns of a record batch message that was fetched, borrowing from it.

        Raises:
            CorruptObjectError: it is not one.
        """
        try:
            return self.columns.decoder.decode(self._parsed(data))
        except WireError as error:
            raise self._damaged(error) from error

    def _damaged(self, error: WireError) -> CorruptObjectError:
        return CorruptObjectError(
            f"a stored record batch does not decode: {error.message}", key=self.row.key
        )

    def _message(self, offset: int, end: int, *, checked: bool = True) -> Message:
        return self._parsed((self.object if checked else self.unchecked).view(offset, end))

    def _parsed(self, view: memoryview) -> Message:
        result = message_at(view, 0, len(view), DEFAULT_LIMITS, self.columns.headers.read)
        if isinstance(result, Message):
            return result
        raise CorruptObjectError("a stream ends where a message should stand", key=self.row.key)


class DictionaryChunks:
    """The dictionaries of one segment that a reply needs, given batch by batch; each is sent once."""

    def __init__(
        self, reader: SegmentReader, projection: PhysicalProjection, *, first: bool = False
    ) -> None:
        """Knows the segment's; that of a stream's ``first`` one also gives empty ones that the segment lacks."""
        self._reader = reader
        self._ids = self._mapping(projection) if reader.row.dictionary_index else {}
        self._sent = 0
        self._absent = projection.absent_dictionaries(reader.columns) if first else b""

    def _mapping(self, projection: PhysicalProjection) -> Mapping[int, int]:
        """Ids in the segment to ids in the reply."""
        try:
            fields = schema_header(self._reader.schema_message()).fields
        except WireError as error:
            raise CorruptObjectError(
                f"a segment's schema message is damaged: {error.message}", key=self._reader.row.key
            ) from error
        stored: list[int] = []
        for output, index in zip(projection.outputs, self._reader.columns.source, strict=True):
            if index is not None and not output.converts:
                stored += fields[index].dictionary_ids
        ids = projection.dictionary_ids_of(self._reader.columns)
        return dict(zip(stored, ids, strict=True))

    def _next(self, before: int) -> Iterator[tuple[DictionaryMessage, int]]:
        entries = self._reader.dictionaries(before)
        for entry in entries[self._sent :]:
            sent_id = self._ids.get(entry.id)
            if sent_id is not None:
                yield entry, sent_id
        self._sent = max(self._sent, len(entries))

    def take_absent(self) -> bytes:
        """The messages of empty dictionaries that stand before all others, once."""
        absent, self._absent = self._absent, b""
        return absent

    def length_before(self, offset: int) -> int:
        """Bytes of the messages that `pieces_before` would give."""
        return sum(piece.length for piece in self.pieces_before(offset))

    def pieces_before(self, offset: int) -> Iterator[Literal | Extent]:
        """The messages that stand before ``offset`` and were not given yet."""
        absent = self.take_absent()
        if absent:
            yield Literal(absent)
        stored = self._reader.object if self._ids else None
        for entry, sent_id in self._next(offset):
            assert stored is not None
            if sent_id == entry.id:
                yield Extent(stored, entry.offset, entry.end)
                continue
            metadata = self._reader.metadata(entry.offset, entry.metadata_length)
            yield Literal(renumbered(metadata, sent_id))
            yield Extent(stored, entry.offset + entry.metadata_length, entry.end)


class ColumnChunks:
    """The projection of one segment's batches. Reads metadata; bodies stay where they are."""

    def __init__(
        self, reader: SegmentReader, projection: PhysicalProjection, partition: tuple[str, ...]
    ) -> None:
        self._reader = reader
        self._schema = projection.schema
        self._projector = projection.compiled_for(reader.row.schema_version, partition)

    def plan(self, offset: int, metadata_length: int) -> Projection:
        """The projected message of the batch at ``offset``.

        Raises:
            CorruptObjectError: its metadata does not fit the segment's schema.
        """
        try:
            return self._projector.plan(self._reader.metadata(offset, metadata_length))
        except WireError as error:
            raise CorruptObjectError(
                f"a stored message's metadata is damaged: {error.message}",
                key=self._reader.row.key,
            ) from error

    def pieces(
        self, offset: int, metadata_length: int, plan: Projection
    ) -> Iterator[Literal | Extent]:
        """The bytes that a plan of the batch at ``offset`` consists of."""
        yield Literal(plan.prefix)
        body = offset + metadata_length
        for piece in plan.slices:
            if isinstance(piece, bytes):
                yield Literal(piece)
            else:
                yield Extent(self._reader.unchecked, body + piece.start, body + piece.end)

    def fetched(self, plans: Iterable[tuple[int, int, Projection]]) -> Iterator[Literal] | None:
        """The bytes of several batches, (offset, metadata length, plan) each, from a remote object.

        The wanted ranges are fetched in few requests, ahead. None where ranges cost nothing: then
        ``pieces`` gives them one by one.
        """
        fetch = getattr(self._reader.unchecked, "fetch", None)
        return None if fetch is None else self._fetched(fetch, plans)

    def batches(self, plans: Iterable[tuple[int, int, Projection]]) -> Iterator[pa.RecordBatch]:
        """The reply's batches of a remote object: of columns that are left out no byte is fetched.

        Raises:
            CorruptObjectError: what is stored does not decode.
        """
        plans, again = itertools.tee(plans)
        pieces = self.fetched(again)
        for offset, metadata_length, plan in plans:
            # A copy: each range came with a request of its own, and a message is one buffer.
            if pieces is None:
                parts = [_bytes_of(each) for each in self.pieces(offset, metadata_length, plan)]
            else:
                parts = [each.data for each in itertools.islice(pieces, 1 + len(plan.slices))]
            view = memoryview(b"".join(parts))
            try:
                message = message_at(view, 0, len(view), DEFAULT_LIMITS)
                if not isinstance(message, Message):
                    raise CorruptObjectError(
                        "a stream ends where a message should stand", key=self._reader.row.key
                    )
                batch = self._decoder.decode(message)
            except WireError as error:
                raise CorruptObjectError(
                    f"a stored record batch does not decode: {error.message}",
                    key=self._reader.row.key,
                ) from error
            if batch is not None and batch.num_rows:
                yield batch

    @functools.cached_property
    def _decoder(self) -> BatchDecoder:
        # Parts of messages have no checksum: their offsets are looked at.
        return BatchDecoder(self._schema, validate_text=False)

    def _fetched(
        self,
        fetch: Callable[[Iterable[tuple[int, int]]], Iterator[memoryview]],
        plans: Iterable[tuple[int, int, Projection]],
    ) -> Iterator[Literal]:
        pieces = itertools.chain.from_iterable(self.pieces(*plan) for plan in plans)
        sent, asked = itertools.tee(pieces)
        views = fetch((each.start, each.end) for each in asked if isinstance(each, Extent))
        for piece in sent:
            yield Literal(next(views)) if isinstance(piece, Extent) else piece


def _bytes_of(piece: Literal | Extent) -> Buffer:
    if isinstance(piece, Literal):
        return piece.data
    return piece.object.view(piece.start, piece.end)
