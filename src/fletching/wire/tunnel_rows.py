"""Puts rows of a record stream together, column by column, each value in its place.

Where a value stands follows from the lengths of all before it. Values of up to eight bytes are written as
words of eight, in the order of the columns: what a word writes too much is overwritten by what follows,
which at the end of a row is the tag of its end and its checksum. Those are written byte for byte.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fletching.wire.tunnel_layouts import END_OF_ROW, varint

__all__ = ["SLACK", "RowAssembly", "copy_strings"]

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Words = NDArray[np.uint64]
Mask = NDArray[np.bool_]

_END = int.from_bytes(varint(END_OF_ROW << 3), "little")
SLACK = 16
_LONG = 128
"""Strings longer than this are copied one by one, by iterators in C: that costs less then than to say
where words go."""


class _Part(NamedTuple):
    """What stands in each row: a word's first bytes, or a string if there is data."""

    lengths: Any  # of each row, or one for all
    words: Any  # of each row, or one for all
    data: Bytes | None = None
    starts: Any = None

    def at(self, rows: Any) -> _Part:
        return _Part(
            _at(self.lengths, rows), _at(self.words, rows), self.data, _at(self.starts, rows)
        )


def _at(values: Any, rows: Any) -> Any:
    return values[rows] if isinstance(values, np.ndarray) else values


def copy_strings(data: Bytes, starts: Ints, lengths: Ints, out: Bytes, targets: Ints) -> None:
    """Copies byte strings, in words: up to 7 bytes behind each are written, too, and read.

    Args:
        data: holds them, and `SLACK` bytes more.
        starts: where each begins.
        lengths: how long each is.
        out: where they go; with `SLACK` bytes more.
        targets: where each goes; ascending.
    """
    words = np.ndarray((len(out) - 7,), "<u8", out, 0, (1,))
    source = np.ndarray((len(data) - 7,), "<u8", data, 0, (1,))
    longest = int(lengths.max(initial=0))
    counts = lengths + 7 >> 3
    if longest > _LONG:
        counts[lengths > _LONG] = 0
    first = np.cumsum(counts) - counts
    within = np.arange(int(counts.sum()), dtype=np.int64) << 3
    here = within + np.repeat(targets - (first << 3), counts)
    words[here] = source[within + np.repeat(starts - (first << 3), counts)]
    if longest > _LONG:
        long = np.flatnonzero(lengths > _LONG)
        begin, at, size = starts[long], targets[long], lengths[long]
        contents = map(data.data.__getitem__, map(slice, begin.tolist(), (begin + size).tolist()))
        put = map(slice, at.tolist(), (at + size).tolist())
        deque(map(out.data.__setitem__, put, contents), maxlen=0)


class RowAssembly:
    """Some rows under way."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._parts: list[_Part] = []
        self._lengths = np.zeros(rows, np.int64)

    def words(self, words: Words | int, lengths: Ints | int, here: Mask | None = None) -> None:
        """Adds the first bytes of words.

        Args:
            words: little-endian.
            lengths: how many bytes, up to 8.
            here: in which rows; None for all.
        """
        if here is not None:
            lengths = np.where(here, lengths, 0)
        self._parts.append(_Part(lengths, words))
        self._lengths += lengths

    def tagged(
        self, tag: bytes, parts: tuple[Words, Ints, Words | None], here: Mask | None
    ) -> None:
        """Adds a tag and a varint; see `varint_words`."""
        low, lengths, high = parts
        number = int.from_bytes(tag, "little")
        if high is None and len(tag) + int(lengths.max(initial=0)) <= 8:
            merged = low << np.uint64(8 * len(tag)) | np.uint64(number)
            self.words(merged, lengths + len(tag), here)
            return
        if tag:
            self.words(number, len(tag), here)
        self.words(low, np.minimum(lengths, 8), here)
        if high is not None:
            self.words(high, np.maximum(lengths - 8, 0), here)

    def strings(self, data: Bytes | bytes, offsets: Ints) -> None:
        """Adds byte strings; in rows without one they are empty.

        Args:
            data: holds them. A copy is made, since words are read beyond the last one's end.
            offsets: where each begins, and the last ends.
        """
        first, last = int(offsets[0]), int(offsets[-1])
        kept = np.empty(last - first + SLACK, np.uint8)
        if last > first:
            kept[: last - first] = np.frombuffer(data, np.uint8)[first:last]
        lengths = np.diff(offsets)
        self._parts.append(_Part(lengths, None, kept, offsets[:-1] - first))
        self._lengths += lengths

    def finish(self, sums: NDArray[np.integer]) -> memoryview:
        """The rows, each with the tag of its end and its checksum."""
        sums = sums.astype(np.uint64)
        parts = [sums >> np.uint64(7 * index) & np.uint64(0x7F) for index in range(5)]
        self._sum_lengths = np.ones(self._rows, np.int64)
        for index in range(1, 5):
            more = sums >= np.uint64(1 << (7 * index))
            self._sum_lengths += more
            parts[index - 1] |= more.astype(np.uint64) << np.uint64(7)
        self._sums = np.stack(parts, axis=1).astype(np.uint8)
        ends = np.cumsum(self._lengths + 4 + self._sum_lengths)
        self._starts = ends - self._lengths - 4 - self._sum_lengths
        self._out = np.empty(int(ends[-1] if self._rows else 0) + SLACK, np.uint8)
        self._write(slice(None))
        # Where an end and its checksum are shorter than a word, the next row's beginning was hit.
        for row in np.flatnonzero((self._sum_lengths < 4) & (self._lengths > 0)).tolist():
            if row + 1 < self._rows:
                self._write(np.array([row + 1]))
        return self._out.data[: len(self._out) - SLACK]

    def _write(self, rows: Any) -> None:
        out = self._out
        words = np.ndarray((len(out) - 7,), "<u8", out, 0, (1,))
        position = self._starts[rows]
        for whole in self._parts:
            part = whole.at(rows)
            if part.data is None and isinstance(part.lengths, int):
                words[position] = part.words
            elif part.data is None:
                # Where there is nothing, nothing is written: a row of nulls is shorter than a word.
                there = np.flatnonzero(part.lengths)
                words[position[there]] = _at(part.words, there)
            else:
                copy_strings(part.data, part.starts, part.lengths, out, position)
            position = position + part.lengths
        halves = np.ndarray((len(out) - 3,), "<u4", out, 0, (1,))
        halves[position] = np.uint32(_END)
        position = position + 4
        lengths, sums = self._sum_lengths[rows], self._sums[rows]
        for index in range(5):
            there = lengths > index
            if there.all():
                out[position + index] = sums[:, index]
            else:
                out[position[there] + index] = sums[there, index]
