"""Dictionary batch messages of a reply: each segment's own, before its first batch.

A stream has one id per dictionary-encoded field, and segments may come from writers that numbered
theirs differently. The reply's ids are those of the table's schema; where a segment's differ, its
dictionary messages get new metadata around the same body.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fletching.engine.reading.physical_projection import ReplyLayout
from fletching.engine.reading.read_plan import Extent, Literal
from fletching.engine.reading.stored_schema import DictionaryMessage, SegmentReader
from fletching.errors import CorruptObjectError, WireError
from fletching.ipc.renumbering import renumbered
from fletching.ipc.schema_header import schema_header

__all__ = ["DictionaryPieces"]


class DictionaryPieces:
    """The dictionaries of one segment that a reply needs, told batch by batch; each is sent once."""

    def __init__(self, reader: SegmentReader, layout: ReplyLayout) -> None:
        self._reader = reader
        self._ids = self._mapping(layout) if reader.row.dictionary_index else {}
        self._told = 0

    def _mapping(self, layout: ReplyLayout) -> Mapping[int, int]:
        """Ids in the segment to ids in the reply."""
        try:
            fields = schema_header(self._reader.schema_message()).fields
        except WireError as error:
            raise CorruptObjectError(
                f"a segment's schema message is damaged: {error.message}", key=self._reader.row.key
            ) from error
        stored: list[int] = []
        for output, index in zip(layout.outputs, self._reader.columns.source, strict=True):
            if index is not None and not output.converts:
                stored += [
                    field.dictionary_id
                    for field in fields[index].walk()
                    if field.dictionary_id is not None
                ]
        ids = layout.dictionary_ids_of(self._reader.columns)
        return dict(zip(stored, ids, strict=True))

    def _next(self, before: int) -> Iterator[tuple[DictionaryMessage, int]]:
        entries = self._reader.dictionaries(before)
        for entry in entries[self._told :]:
            sent_id = self._ids.get(entry.id)
            if sent_id is not None:
                yield entry, sent_id
        self._told = max(self._told, len(entries))

    def length_before(self, offset: int) -> int:
        """Bytes of the messages that `pieces_before` would give."""
        return sum(piece.length for piece in self.pieces_before(offset))

    def pieces_before(self, offset: int) -> Iterator[Literal | Extent]:
        """The messages that stand before ``offset`` and were not told yet."""
        stored = self._reader.object if self._ids else None
        for entry, sent_id in self._next(offset):
            assert stored is not None
            if sent_id == entry.id:
                yield Extent(stored, entry.offset, entry.end)
                continue
            metadata = self._reader.metadata(entry.offset, entry.metadata_length)
            yield Literal(renumbered(metadata, sent_id))
            yield Extent(stored, entry.offset + entry.metadata_length, entry.end)
