"""Chosen columns of stored batches as pieces: new metadata, and the wanted bytes as extents."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator

from fletching.engine.reading.output_mapping import constant_scalar
from fletching.engine.reading.physical_projection import ReplyLayout
from fletching.engine.reading.read_plan import Extent, Literal
from fletching.engine.reading.stored_schema import SegmentReader
from fletching.errors import CorruptObjectError, WireError
from fletching.ipc.projection import Constant, Projection, Projector

__all__ = ["ColumnPieces"]

FETCH_BYTES = 8 << 20
"""About how much of a remote object is asked for, and held, at once."""


class ColumnPieces:
    """The projection of one segment's batches. Reads metadata; bodies stay where they are."""

    def __init__(
        self, reader: SegmentReader, layout: ReplyLayout, partition: tuple[str, ...]
    ) -> None:
        self._reader = reader
        self._projector = projector(layout, reader.row.schema_version, partition)

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
        for piece in plan.pieces:
            if isinstance(piece, bytes):
                yield Literal(piece)
            else:
                yield Extent(self._reader.unchecked, body + piece.start, body + piece.end)

    def fetched(self, plans: Iterable[tuple[int, int, Projection]]) -> Iterator[Literal] | None:
        """The bytes of several batches, (offset, metadata length, plan) each, from a remote object.

        The wanted ranges are fetched together, some `FETCH_BYTES` at a time. None where ranges cost
        nothing: then ``pieces`` gives them one by one.
        """
        fetch = getattr(self._reader.unchecked, "read_ranges", None)
        return None if fetch is None else self._fetched(fetch, plans)

    def _fetched(
        self,
        fetch: Callable[[list[tuple[int, int]]], list[memoryview]],
        plans: Iterable[tuple[int, int, Projection]],
    ) -> Iterator[Literal]:
        waiting: list[Literal | Extent] = []
        size = 0
        for offset, metadata_length, plan in plans:
            pieces = list(self.pieces(offset, metadata_length, plan))
            waiting += pieces
            size += sum(piece.length for piece in pieces if isinstance(piece, Extent))
            if size >= FETCH_BYTES:
                yield from _filled(fetch, waiting)
                waiting, size = [], 0
        yield from _filled(fetch, waiting)


def _filled(
    fetch: Callable[[list[tuple[int, int]]], list[memoryview]], pieces: list[Literal | Extent]
) -> Iterator[Literal]:
    views = iter(fetch([(each.start, each.end) for each in pieces if isinstance(each, Extent)]))
    for piece in pieces:
        yield Literal(next(views)) if isinstance(piece, Extent) else piece


@functools.lru_cache(maxsize=256)
def projector(layout: ReplyLayout, schema_version: int, partition: tuple[str, ...]) -> Projector:
    """The compiled choice of columns; kept, as every segment of a partition uses the same."""
    stored = layout.stored(schema_version)
    count = len(layout.table.data)
    constants = [
        Constant(
            output.field,
            constant_scalar(output.field.type, partition[output.place - count])
            if output.place >= count
            else None,
        )
        for output, index in zip(layout.outputs, stored.source, strict=True)
        if index is None
    ]
    chosen = [index for index in stored.source if index is not None]
    return Projector(stored.schema, chosen, constants)
