"""Segments as a read sees them: views of messages, and record batches over those views."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pyarrow as pa

from fletching import ipc
from fletching.catalog.segment_rows import SegmentRow
from fletching.engine.reading.physical_projection import StoredColumns
from fletching.errors import CorruptObjectError, ObjectNotFoundError, WireError
from fletching.ipc.limits import DEFAULT_LIMITS
from fletching.ipc.message import message_at
from fletching.objects.store import ObjectStore, StoredObject

__all__ = ["DictionaryMessage", "SegmentReader"]

_FILE_PREFIX_BYTES = 8
"""The magic and its padding; a segment's schema message follows."""


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

    def __init__(self, store: ObjectStore, row: SegmentRow, columns: StoredColumns) -> None:
        self.row = row
        self.columns = columns
        self._store = store
        self._lock = threading.Lock()
        self._object: StoredObject | None = None
        self._decoder: ipc.BatchDecoder | None = None
        self._dictionaries_read = 0

    @property
    def object(self) -> StoredObject:
        """The stored object.

        Raises:
            CorruptObjectError: it is gone or shorter than the catalog says.
        """
        if self._object is None:
            try:
                opened = self._store.open(self.row.key)
            except ObjectNotFoundError as error:
                raise CorruptObjectError(
                    "a segment that the catalog lists is missing", key=self.row.key
                ) from error
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

    def metadata(self, offset: int, length: int) -> memoryview:
        """A message's metadata with its prefix: all that a projection reads."""
        return self.object.view(offset, offset + length)

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
        if not self.row.codecs or self.columns.has_dictionaries:
            return self._decode(offset, end).select(list(columns))
        try:
            return self.columns.narrow(columns).decode(self._message(offset, end))
        except WireError as error:
            raise self._damaged(error) from error

    def _decode(self, offset: int, end: int) -> pa.RecordBatch:
        try:
            if not self.columns.has_dictionaries:
                return self.columns.decoder.decode(self._message(offset, end))
            with self._lock:  # the decoder's dictionaries grow
                decoder = self._decoder or ipc.BatchDecoder(self.schema_message(), trusted=True)
                self._decoder = decoder
                for entry in self.dictionaries(offset)[self._dictionaries_read :]:
                    decoder.decode(self._message(entry.offset, entry.end))
                    self._dictionaries_read += 1
                return decoder.decode(self._message(offset, end))
        except WireError as error:
            raise self._damaged(error) from error

    def _damaged(self, error: WireError) -> CorruptObjectError:
        return CorruptObjectError(
            f"a stored record batch does not decode: {error.message}", key=self.row.key
        )

    def _message(self, offset: int, end: int) -> Any:
        view = self.object.view(offset, end)
        return message_at(view, 0, len(view), DEFAULT_LIMITS, self.columns.headers.read)
