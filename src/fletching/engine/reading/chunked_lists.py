"""Long, immutable arrays of numbers and lists of segments, changed without touching most of them.

Both are chunks that a list and what is made of it share: a change copies the chunks that it concerns.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final, Literal, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fletching.catalog.segment_rows import SegmentRow

__all__ = ["ChunkedNumbers", "SegmentList"]

CHUNK: Final = 4096
"""Numbers of a chunk: 32 KiB, which costs microseconds to copy and no page of the system's."""

Numbers = NDArray[np.int64]
Side = Literal["left", "right"]


class ChunkedNumbers:
    """Signed 64-bit numbers in chunks that arrays share: a change copies the chunks that it concerns.

    Each chunk has a number that is added to all of its own, so that running totals and indices, which
    change behind whatever is inserted, change there by one addition for each chunk.

    A flat array of a million would be copied for each commit: 8 MB that the system finds and clears first.

    Changing methods return a new one. Slices are flat arrays, which may be views: they are not written to.
    """

    __slots__ = ("_bases", "_chunks", "_starts")

    def __init__(self, chunks: Sequence[Numbers], bases: Sequence[int]) -> None:
        """Joins chunks, of which none is empty; use `of`."""
        self._chunks = chunks
        self._bases = bases
        self._starts = [0, *itertools.accumulate(len(chunk) for chunk in chunks)]

    @classmethod
    def of(cls, numbers: Numbers) -> ChunkedNumbers:
        """Shares the memory of a flat array."""
        chunks = [numbers[start : start + CHUNK] for start in range(0, len(numbers), CHUNK)]
        return cls(chunks, [0] * len(chunks))

    @classmethod
    def totals_of(cls, numbers: ChunkedNumbers) -> ChunkedNumbers:
        """What stands before each number, and after the last one the total."""
        chunks: list[Numbers] = []
        bases: list[int] = []
        total = 0
        for chunk, base in zip(numbers._chunks, numbers._bases, strict=True):
            before = np.zeros(len(chunk), dtype=np.int64)
            np.cumsum(chunk[:-1] + base, out=before[1:])
            chunks.append(before)
            bases.append(total)
            total += int(before[-1]) + int(chunk[-1]) + base
        return cls([*chunks, np.zeros(1, dtype=np.int64)], [*bases, total])

    # --- looking -------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, index: int) -> int: ...

    @overload
    def __getitem__(self, index: slice) -> Numbers: ...

    def __getitem__(self, index: int | slice) -> int | Numbers:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                raise ValueError("a slice of chunked numbers has no step")
            return self._run(start, stop)
        starts = self._starts
        if index < 0:
            index += starts[-1]
        if not 0 <= index < starts[-1]:
            raise IndexError("there is no such number")
        if index < starts[1]:  # the only one of most tables
            return int(self._chunks[0][index]) + self._bases[0]
        chunk = bisect.bisect_right(self._starts, index) - 1
        return int(self._chunks[chunk][index - self._starts[chunk]]) + self._bases[chunk]

    def _run(self, start: int, stop: int) -> Numbers:
        if stop <= start:
            return np.empty(0, dtype=np.int64)
        parts: list[Numbers] = []
        chunk = bisect.bisect_right(self._starts, start) - 1
        while start < stop:
            first = self._starts[chunk]
            part = self._chunks[chunk][start - first : stop - first]
            base = self._bases[chunk]
            parts.append(part + base if base else part)
            start = self._starts[chunk + 1]
            chunk += 1
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Numbers:
        """All of them, flat."""
        flat = self._run(0, len(self))
        if dtype is not None and flat.dtype != dtype:
            return flat.astype(dtype)
        return flat.copy() if copy else flat

    def __iter__(self) -> Iterator[int]:
        for chunk, base in zip(self._chunks, self._bases, strict=True):
            yield from (chunk + base).tolist()

    def tolist(self) -> list[int]:
        """As a list."""
        return list(self)

    def take(self, indices: Numbers) -> Numbers:
        """The numbers at some indices."""
        if len(indices) > len(self._chunks):
            return np.asarray(self)[indices]
        return np.array([self[index] for index in indices.tolist()], dtype=np.int64)

    def searchsorted(self, value: int, side: Side) -> int:
        """As ``numpy.searchsorted``; of numbers that ascend."""
        chunks, bases = self._chunks, self._bases
        search = bisect.bisect_left if side == "left" else bisect.bisect_right
        result = search(
            range(len(chunks)), value, key=lambda index: int(chunks[index][0]) + bases[index]
        )
        if not result:
            return 0
        index = result - 1
        inside = np.searchsorted(chunks[index], value - bases[index], side=side)
        return self._starts[index] + int(inside)

    def searchsorted_all(self, values: Numbers, side: Side) -> Numbers:
        """The same for several values."""
        if len(values) > len(self._chunks):
            return np.searchsorted(np.asarray(self), values, side=side).astype(np.int64)
        result = [self.searchsorted(value, side) for value in values.tolist()]
        return np.array(result, dtype=np.int64)

    def indices_of(self, values: Collection[int]) -> Numbers:
        """Where one of some values stands, ascending. Looks at all numbers."""
        wanted = np.fromiter(values, dtype=np.int64, count=len(values))
        result = [
            np.flatnonzero(np.isin(chunk, wanted - base)) + start
            for chunk, base, start in zip(self._chunks, self._bases, self._starts, strict=False)
        ]
        return np.concatenate(result).astype(np.int64) if result else np.empty(0, dtype=np.int64)

    # --- changing ------------------------------------------------------------------------------

    def _by_chunk(self, at: Numbers) -> Iterator[tuple[int, slice]]:
        """The chunks in which ascending indices lie, each with which of the indices."""
        last = len(self._chunks) - 1
        owners = np.minimum(np.searchsorted(self._starts, at, side="right") - 1, last)
        bounds = [0, *(np.flatnonzero(np.diff(owners)) + 1).tolist(), len(at)]
        for first, end in itertools.pairwise(bounds):
            if end > first:
                yield int(owners[first]), slice(first, end)

    def inserted(self, at: Numbers, values: Numbers) -> ChunkedNumbers:
        """With each value before what stands at its index in ``at``, ascending."""
        if not self._chunks:
            return ChunkedNumbers.of(values)
        chunks: list[Numbers] = []
        bases: list[int] = []
        done = 0
        for index, inside in self._by_chunk(at):
            chunks += self._chunks[done:index]
            bases += self._bases[done:index]
            done = index + 1
            base = self._bases[index]
            made = np.insert(
                self._chunks[index], at[inside] - self._starts[index], values[inside] - base
            )
            size = len(made) if len(made) < 2 * CHUNK else CHUNK
            parts = [made[first : first + size] for first in range(0, len(made), size)]
            chunks += parts
            bases += [base] * len(parts)
        return ChunkedNumbers([*chunks, *self._chunks[done:]], [*bases, *self._bases[done:]])

    def without(self, indices: Numbers) -> ChunkedNumbers:
        """Without what stands at some indices, ascending."""
        chunks: list[Numbers] = []
        bases: list[int] = []
        done = 0
        for index, inside in self._by_chunk(indices):
            chunks += self._chunks[done:index]
            bases += self._bases[done:index]
            done = index + 1
            left = np.delete(self._chunks[index], indices[inside] - self._starts[index])
            if len(left):
                chunks.append(left)
                bases.append(self._bases[index])
        return ChunkedNumbers([*chunks, *self._chunks[done:]], [*bases, *self._bases[done:]])

    def shifted(self, at: Numbers, by: Numbers) -> ChunkedNumbers:
        """With what stands at each of some indices, ascending, and behind it larger by a number."""
        if not self._chunks:
            return self
        chunks = list(self._chunks)
        bases = list(self._bases)
        total = done = 0
        for index, inside in self._by_chunk(at):
            for other in range(done, index + 1):
                bases[other] += total
            done = index + 1
            steps = np.zeros(len(chunks[index]) + 1, dtype=np.int64)
            np.add.at(steps, at[inside] - self._starts[index], by[inside])
            chunks[index] = chunks[index] + np.cumsum(steps[:-1])
            total += int(by[inside].sum())
        for other in range(done, len(bases)):
            bases[other] += total
        return ChunkedNumbers(chunks, bases)

    def replaced(self, runs: Iterable[tuple[int, Numbers]]) -> ChunkedNumbers:
        """With other numbers from some indices on."""
        chunks = list(self._chunks)
        copied: set[int] = set()
        for start, values in runs:
            position, end = start, start + len(values)
            while position < end:
                index = bisect.bisect_right(self._starts, position) - 1
                first = self._starts[index]
                stop = min(end, self._starts[index + 1])
                if index not in copied:
                    copied.add(index)
                    chunks[index] = chunks[index].copy()
                chunks[index][position - first : stop - first] = (
                    values[position - start : stop - start] - self._bases[index]
                )
                position = stop
        return ChunkedNumbers(chunks, self._bases)


SEGMENTS: Final = 1024
"""Segments of a chunk."""


class SegmentList(Sequence[SegmentRow]):
    """Segments in order, in chunks that lists share: inserting copies the chunks that it changes.

    A tuple of a million would be copied for each commit, and each of its members be touched.
    """

    __slots__ = ("_chunks", "_starts")

    def __init__(self, chunks: Iterable[tuple[SegmentRow, ...]]) -> None:
        self._chunks = [chunk for chunk in chunks if chunk]
        self._starts = [0, *itertools.accumulate(len(chunk) for chunk in self._chunks)]

    @classmethod
    def of(cls, rows: Iterable[SegmentRow]) -> SegmentList:
        """A list of some segments."""
        result = tuple(rows)
        return cls(result[start : start + SEGMENTS] for start in range(0, len(result), SEGMENTS))

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, index: int) -> SegmentRow: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[SegmentRow, ...]: ...

    def __getitem__(self, index: int | slice) -> SegmentRow | tuple[SegmentRow, ...]:
        if isinstance(index, slice):
            return tuple(self[position] for position in range(*index.indices(len(self))))
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError("there is no such segment")
        chunk = bisect.bisect_right(self._starts, index) - 1
        return self._chunks[chunk][index - self._starts[chunk]]

    def __iter__(self) -> Iterator[SegmentRow]:
        return itertools.chain.from_iterable(self._chunks)

    def inserted(self, at: Sequence[int], added: Sequence[SegmentRow]) -> SegmentList:
        """This list with each of ``added`` before what stands at its index in ``at``, ascending."""
        chunks: list[tuple[SegmentRow, ...]] = list(self._chunks)
        by_chunk: dict[int, list[tuple[int, SegmentRow]]] = {}
        last = max(len(chunks) - 1, 0)
        for index, row in zip(at, added, strict=True):
            chunk = min(max(bisect.bisect_right(self._starts, index) - 1, 0), last)
            by_chunk.setdefault(chunk, []).append((index - self._starts[chunk], row))
        made: list[tuple[SegmentRow, ...]] = []
        done = 0
        for chunk, rows in by_chunk.items():
            made += chunks[done:chunk]
            done = chunk + 1
            parts: list[SegmentRow] = []
            start = 0
            whole = chunks[chunk] if chunks else ()
            for index, row in rows:
                parts += whole[start:index]
                parts.append(row)
                start = index
            parts += whole[start:]
            size = len(parts) if len(parts) < 2 * SEGMENTS else SEGMENTS
            made += [tuple(parts[first : first + size]) for first in range(0, len(parts), size)]
        return SegmentList([*made, *chunks[done:]])

    def without(self, indices: Sequence[int]) -> SegmentList:
        """This list without what stands at some indices, ascending."""
        chunks: list[tuple[SegmentRow, ...]] = []
        done = 0
        for chunk, inside in itertools.groupby(
            indices, key=lambda index: bisect.bisect_right(self._starts, index) - 1
        ):
            chunks += self._chunks[done:chunk]
            done = chunk + 1
            gone = {index - self._starts[chunk] for index in inside}
            chunks.append(
                tuple(row for number, row in enumerate(self._chunks[chunk]) if number not in gone)
            )
        return SegmentList([*chunks, *self._chunks[done:]])
