"""Which rows of a segment a snapshot shows, where it does not show all of them.

A segment that has lost rows is read batch by batch: a batch that has all its rows is sent as ever,
one that has none is not opened, and of the others the rows that are left are computed. How many
rows each batch has follows from the counts beside the deletions, so that row offsets are known
before any bitmap is decoded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyroaring import BitMap

from fletching.catalog.deletion_rows import DeletionRow, decode_vector
from fletching.errors import CorruptObjectError
from fletching.protocol.types.row_selection import filter_some
from fletching.protocol.types.row_selection import take_rows as any_rows

__all__ = ["LoadVector", "OnlyRows", "RowSelection", "WithoutDeletions", "masked_rows", "take_rows"]

LoadVector = Callable[[int], bytes | None]
"""Fetches the vector of a deletion by its id; None if it is forgotten."""

_PAIR_BYTES = 8

_LISTED_ROWS = 1 << 20
"""Up to so many rows that a bitmap names, they are kept one by one, too: 4 MB, for less work per batch."""

_FEW = 32
"""Where fewer than one row of so many is gone, the bits of a mask are cleared one by one."""

_SELECTION_BYTES = 1000  # the objects of one, whatever it selects
_NAMED_BYTES = 8  # a row in a vector, in the bitmap that is made of it, and in a list


class RowSelection:
    """The rows of one segment that are shown. Immutable, thread-safe; decodes when first asked.

    Attributes:
        counts: rows shown of each batch.
        size_bytes: about how much memory this takes, once it has been decoded.
    """

    def __init__(self, row_starts: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        """Knows how many.

        Args:
            row_starts: the segment's first row of each batch, and after the last one the total.
            counts: rows shown of each batch.
        """
        self._row_starts = row_starts
        self.counts = counts
        shown, stored = int(counts.sum()), int(row_starts[-1])
        named = shown if self._names_shown else stored - shown
        self.size_bytes = _SELECTION_BYTES + 16 * len(counts) + _NAMED_BYTES * named
        self._lock = threading.Lock()
        self._bitmap: BitMap | None = None
        self._listed: NDArray[np.uint32] | None = None

    _names_shown = True
    """Whether the bitmap names the rows that are shown, or those that are not: whichever are few."""

    def _read(self) -> BitMap:
        """The rows that the bitmap names."""
        raise NotImplementedError

    def _named(self) -> BitMap:
        with self._lock:
            if self._bitmap is None:
                self._bitmap = self._read()
            return self._bitmap

    def _between(self, start: int, end: int) -> NDArray[np.uint32]:
        """The rows among some that the bitmap names, in order."""
        bitmap = self._named()
        if self._listed is None and len(bitmap) <= _LISTED_ROWS:
            self._listed = np.frombuffer(bitmap.to_array(), dtype=np.uint32)
        if self._listed is not None:
            # Of their type: of others numpy makes a copy of all that it searches.
            ends = np.array((start, end), dtype=np.uint32)
            low, high = np.searchsorted(self._listed, ends).tolist()
            return self._listed[low:high]
        window = BitMap()
        window.add_range(start, end)
        return np.frombuffer((bitmap & window).to_array(), dtype=np.uint32)

    def rows(self) -> BitMap:
        """The numbers, in the segment, of the rows that are shown.

        Raises:
            CorruptObjectError: what says so is damaged.
        """
        if self._names_shown:
            return self._named()
        shown = BitMap()
        shown.add_range(0, int(self._row_starts[-1]))
        return shown - self._named()

    def _named_of(self, batch: int) -> tuple[NDArray[np.uint32], int]:
        """The rows of a batch that the bitmap names, counted from its first, and how many rows it has."""
        start, end = self._row_starts[batch : batch + 2].tolist()
        named = self._between(start, end)
        count = len(named) if self._names_shown else end - start - len(named)
        if count != self.counts[batch]:
            raise CorruptObjectError(
                f"{count} rows of a batch are left where {int(self.counts[batch])} were counted"
            )
        return named - np.uint32(start), end - start

    def mask(self, batch: int) -> NDArray[np.bool_]:
        """For each row of a batch whether it is shown.

        Raises:
            CorruptObjectError: what says so is damaged, or is not as many as were counted.
        """
        return self._mask_of(*self._named_of(batch))

    def _mask_of(self, named: NDArray[np.uint32], rows: int) -> NDArray[np.bool_]:
        mask = np.full(rows, not self._names_shown, dtype=bool)
        mask[named] = self._names_shown
        return mask

    def left_of(self, batch: int, stored: pa.RecordBatch) -> pa.RecordBatch:
        """The rows of a batch that are shown; errors as of `mask`.

        Args:
            batch: its number in the segment.
            stored: its rows.
        """
        named, rows = self._named_of(batch)
        if self._names_shown or not len(named) or named[0] == 0 or named[-1] == rows - 1:
            return masked_rows(stored, self._mask_of(named, rows))
        # Both ends stay and something between them goes, so what is left is not one run of neighbours.
        if _FEW * len(named) < rows:
            bits = np.full(-(-rows // 8), 0xFF, dtype=np.uint8)
            np.bitwise_and.at(bits, named >> 3, ~(np.uint8(1) << (named & 7).astype(np.uint8)))
        else:
            bits = np.packbits(self._mask_of(named, rows), bitorder="little")
        return filter_some(stored, _boolean_array(bits, rows), rows - len(named))


class WithoutDeletions(RowSelection):
    """All rows but those of some deletions."""

    _names_shown = False

    def __init__(
        self,
        key: str,
        stored_rows: NDArray[np.int64],
        deletions: Sequence[DeletionRow],
        load: LoadVector,
    ) -> None:
        """Adds up the counts.

        Args:
            key: the segment's, for errors.
            stored_rows: rows of each batch as stored.
            deletions: those of the segment that are visible in the snapshot.
            load: fetches vectors that did not come with the deletions.

        Raises:
            CorruptObjectError: the counts cannot be.
        """
        counts = stored_rows.copy()
        for deletion in deletions:
            if len(deletion.batch_counts) % _PAIR_BYTES:
                raise CorruptObjectError("the counts of a deletion are cut", key=key)
            pairs = np.frombuffer(deletion.batch_counts, "<i4").reshape(-1, 2).astype(np.int64)
            batches, gone = pairs[:, 0], pairs[:, 1]
            wrong = (batches < 0) | (batches >= len(counts)) | (gone < 1)
            if wrong.any() or int(gone.sum()) != deletion.rows:
                raise CorruptObjectError("the counts of a deletion are wrong", key=key)
            np.subtract.at(counts, batches, gone)
        if (counts < 0).any():
            raise CorruptObjectError("more rows of a batch are deleted than it has", key=key)
        starts = np.zeros(len(stored_rows) + 1, dtype=np.int64)
        np.cumsum(stored_rows, out=starts[1:])
        super().__init__(starts, counts)
        self._key = key
        self._deletions = deletions
        self._load = load

    def _read(self) -> BitMap:
        gone = BitMap()
        for deletion in self._deletions:
            data = deletion.vector if deletion.vector is not None else self._load(deletion.id)
            if data is None:
                raise CorruptObjectError("a deletion is gone", key=self._key)
            gone |= decode_vector(deletion, data)
        if len(gone) != sum(deletion.rows for deletion in self._deletions):
            raise CorruptObjectError("two deletions name the same row", key=self._key)
        return gone


class OnlyRows(RowSelection):
    """Some rows that are known already: those that a version brought or took."""

    def __init__(self, stored_rows: NDArray[np.int64], rows: BitMap) -> None:
        starts = np.zeros(len(stored_rows) + 1, dtype=np.int64)
        np.cumsum(stored_rows, out=starts[1:])
        positions = np.frombuffer(rows.to_array(), dtype=np.uint32)
        batches = np.searchsorted(starts, positions, side="right") - 1
        super().__init__(starts, np.bincount(batches, minlength=len(stored_rows)).astype(np.int64))
        self._bitmap = rows

    def _read(self) -> BitMap:
        assert self._bitmap is not None
        return self._bitmap


def masked_rows(batch: pa.RecordBatch, mask: NDArray[np.bool_]) -> pa.RecordBatch:
    """The rows of a batch for which a mask is true; copies them, by runs of rows that stay."""
    count = int(np.count_nonzero(mask))
    first = int(mask.argmax())
    if mask[first : first + count].all():
        return batch.slice(first, count)
    # Packed by numpy, which takes a tenth of what pyarrow's own conversion does.
    chosen = _boolean_array(np.packbits(mask, bitorder="little"), len(mask))
    return filter_some(batch, chosen, count)


def _boolean_array(bits: NDArray[np.uint8], rows: int) -> pa.BooleanArray:
    return pa.Array.from_buffers(pa.bool_(), rows, [None, pa.py_buffer(bits)])


def take_rows(batch: pa.RecordBatch, rows: NDArray[np.int64]) -> pa.RecordBatch:
    """Some rows of a batch, in ascending order; copies them unless all are wanted."""
    total = batch.num_rows
    if len(rows) == total:
        return batch
    if not len(rows):
        return batch.slice(0, 0)
    if int(rows[-1]) - int(rows[0]) + 1 == len(rows):
        return batch.slice(int(rows[0]), len(rows))
    if 2 * len(rows) < total:
        return any_rows(batch, pa.array(rows))
    mask = np.zeros(total, dtype=bool)
    mask[rows] = True
    # Copied by runs of rows that stay, which is about the speed of memory when few go.
    return masked_rows(batch, mask)
