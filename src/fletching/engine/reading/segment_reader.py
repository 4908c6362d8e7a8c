"""Segments as a read sees them: views of messages, and record batches over those views."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from fletching import ipc
from fletching.catalog.segment_rows import SegmentRow
from fletching.engine.reading.message_checks import MessageChecks
from fletching.engine.reading.physical_projection import SegmentColumns
from fletching.errors import CorruptObjectError, ObjectNotFoundError, WireError
from fletching.ipc.batches import BatchDecoder
from fletching.ipc.limits import DEFAULT_LIMITS
from fletching.ipc.message import Message, message_at
from fletching.objects.held_object import HeldObject
from fletching.objects.store import ObjectStore, StoredObject

__all__ = ["DictionaryMessage", "SegmentReader"]

_FILE_PREFIX_BYTES = 8
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
                    "a segment that the catalog lists is missing", key=self.row.key
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
        head = self.object.view(_FILE_PREFIX_BYTES, _FILE_PREFIX_BYTES + 8)
        length = int.from_bytes(head[4:8], "little")
        end = _FILE_PREFIX_BYTES + 8 + length
        return self._message(_FILE_PREFIX_BYTES, end)

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
        if len(columns) == len(self.columns.schema):
            return self._decode(offset, end)
        if self.columns.has_dictionaries:
            return self._decode(offset, end).select(list(columns))
        # A part of the message: of the columns that are left out no byte is touched.
        try:
            if not self.row.codecs:
                result = self._decode(offset, end, checked=False).select(list(columns))
            else:
                message = self._message(offset, end, checked=False)
                result = self.columns.projected(columns).decode(message)
            self.columns.check_part(result, columns)
        except WireError as error:
            raise self._damaged(error) from error
        return result

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
