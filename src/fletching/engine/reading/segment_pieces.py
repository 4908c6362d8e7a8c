"""The pieces of a reply that one segment gives: dictionary messages, and chosen columns of its batches.

A stream has one id per dictionary-encoded field, and segments may come from writers that numbered
theirs differently. The reply's ids are those of the table's schema; where a segment's differ, its
dictionary messages get new metadata around the same body. Chosen columns are new metadata, and the
wanted bytes as extents.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping

import pyarrow as pa
from typing_extensions import Buffer

from fletching.engine.reading.physical_projection import PhysicalProjection
from fletching.engine.reading.read_plan import Extent, Literal
from fletching.engine.reading.segment_reader import DictionaryMessage, SegmentReader
from fletching.errors import CorruptObjectError, WireError
from fletching.ipc.batches import BatchDecoder
from fletching.ipc.constant_arrays import Constant
from fletching.ipc.limits import DEFAULT_LIMITS
from fletching.ipc.message import Message, message_at
from fletching.ipc.projection import Projection, Projector
from fletching.ipc.renumbering import renumbered
from fletching.ipc.schema_header import schema_header
from fletching.protocol.types.constant_columns import constant_scalar

__all__ = ["ColumnChunks", "DictionaryChunks"]


class DictionaryChunks:
    """The dictionaries of one segment that a reply needs, told batch by batch; each is sent once."""

    def __init__(self, reader: SegmentReader, projection: PhysicalProjection) -> None:
        self._reader = reader
        self._ids = self._mapping(projection) if reader.row.dictionary_index else {}
        self._told = 0

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
                stored += [
                    field.dictionary_id
                    for field in fields[index].walk()
                    if field.dictionary_id is not None
                ]
        ids = projection.dictionary_ids_of(self._reader.columns)
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


class ColumnChunks:
    """The projection of one segment's batches. Reads metadata; bodies stay where they are."""

    def __init__(
        self, reader: SegmentReader, projection: PhysicalProjection, partition: tuple[str, ...]
    ) -> None:
        self._reader = reader
        self._schema = projection.schema
        self._projector = projector(projection, reader.row.schema_version, partition)

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


def projector(
    projection: PhysicalProjection, schema_version: int, partition: tuple[str, ...]
) -> Projector:
    """The compiled choice of columns; kept, as every segment of a partition uses the same."""
    kept = _narrow if len(projection.outputs) <= _NARROW_COLUMNS else _wide
    return kept(projection, schema_version, partition)


def _compiled(
    projection: PhysicalProjection, schema_version: int, partition: tuple[str, ...]
) -> Projector:
    stored = projection.stored(schema_version)
    count = len(projection.table.data)
    constants = [
        Constant(
            output.field,
            constant_scalar(output.field.type, partition[output.place - count])
            if output.place >= count
            else None,
        )
        for output, index in zip(projection.outputs, stored.source, strict=True)
        if index is None
    ]
    chosen = [index for index in stored.source if index is not None]
    return Projector(stored.schema, chosen, constants)


_NARROW_COLUMNS = 256
# What is compiled for thousands of columns takes megabytes: fewer are kept.
_narrow = functools.lru_cache(maxsize=256)(_compiled)
_wide = functools.lru_cache(maxsize=8)(_compiled)
