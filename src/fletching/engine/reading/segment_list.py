"""A long, immutable list of segments of which a longer one is made without touching most of it."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, overload

from fletching.catalog.segment_rows import SegmentRow

__all__ = ["SegmentList"]

_CHUNK: Final = 1024


class SegmentList(Sequence[SegmentRow]):
    """Segments in order, in chunks that lists share: inserting copies the chunks that it changes.

    A tuple of a million would be copied for each commit, and each of its members be touched.
    """

    __slots__ = ("_chunks", "_starts")

    def __init__(self, chunks: Iterable[tuple[SegmentRow, ...]]) -> None:
        """Joins chunks; use `of`."""
        self._chunks = [chunk for chunk in chunks if chunk]
        self._starts = [0, *itertools.accumulate(len(chunk) for chunk in self._chunks)]

    @classmethod
    def of(cls, rows: Iterable[SegmentRow]) -> SegmentList:
        """A list of some segments."""
        result = tuple(rows)
        return cls(result[start : start + _CHUNK] for start in range(0, len(result), _CHUNK))

    def __len__(self) -> int:
        """How many segments."""
        return self._starts[-1]

    @overload
    def __getitem__(self, index: int) -> SegmentRow: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[SegmentRow, ...]: ...

    def __getitem__(self, index: int | slice) -> SegmentRow | tuple[SegmentRow, ...]:
        """One segment, or some."""
        if isinstance(index, slice):
            return tuple(self[place] for place in range(*index.indices(len(self))))
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError("there is no such segment")
        chunk = bisect.bisect_right(self._starts, index) - 1
        return self._chunks[chunk][index - self._starts[chunk]]

    def __iter__(self) -> Iterator[SegmentRow]:
        """The segments in order."""
        return itertools.chain.from_iterable(self._chunks)

    def inserted(self, at: Sequence[int], added: Sequence[SegmentRow]) -> SegmentList:
        """This list with each of ``added`` before what stands at its place in ``at``, ascending."""
        chunks: list[tuple[SegmentRow, ...]] = list(self._chunks)
        by_chunk: dict[int, list[tuple[int, SegmentRow]]] = {}
        last = max(len(chunks) - 1, 0)
        for place, row in zip(at, added, strict=True):
            chunk = min(max(bisect.bisect_right(self._starts, place) - 1, 0), last)
            by_chunk.setdefault(chunk, []).append((place - self._starts[chunk], row))
        made: list[tuple[SegmentRow, ...]] = []
        done = 0
        for chunk, rows in by_chunk.items():
            made += chunks[done:chunk]
            done = chunk + 1
            pieces: list[SegmentRow] = []
            start = 0
            whole = chunks[chunk] if chunks else ()
            for place, row in rows:
                pieces += whole[start:place]
                pieces.append(row)
                start = place
            pieces += whole[start:]
            size = len(pieces) if len(pieces) < 2 * _CHUNK else _CHUNK
            made += [tuple(pieces[first : first + size]) for first in range(0, len(pieces), size)]
        return SegmentList([*made, *chunks[done:]])

    def without(self, places: Sequence[int]) -> SegmentList:
        """This list without what stands at some places, ascending."""
        chunks: list[tuple[SegmentRow, ...]] = []
        done = 0
        for chunk, some in itertools.groupby(
            places, key=lambda place: bisect.bisect_right(self._starts, place) - 1
        ):
            chunks += self._chunks[done:chunk]
            done = chunk + 1
            gone = {place - self._starts[chunk] for place in some}
            chunks.append(
                tuple(row for number, row in enumerate(self._chunks[chunk]) if number not in gone)
            )
        return SegmentList([*chunks, *self._chunks[done:]])
