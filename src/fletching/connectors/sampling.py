"""In which order a training epoch reads the rows of a snapshot, who reads which, and what remains.

The rows of an epoch stand in one global order that depends on nothing but the snapshot's rows, the
seed and the epoch: not on ranks or workers. It is a sequence of *blocks*. A block is some ranges of
rows (`chunk_rows` each, drawn from all over the table) whose rows are then permuted; without shuffling
it is one range in the table's order. A reader holds one block in memory, and needs nothing but a
block's number to make its order again.

A *position* is a block and a number of its rows. Readers share the global order by intervals of
positions, and what an interrupted epoch still has to read is a list of intervals too: so it can be
shared anew among another number of readers.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fletching.errors import UsageError

__all__ = ["EpochOrder", "Interval", "Position", "remaining_of"]


class Position(NamedTuple):
    """A place in the global order: the block, and how many of its rows lie before."""

    block: int
    row: int


class Interval(NamedTuple):
    """Positions from `start` up to, and without, `end`."""

    start: Position
    end: Position


@dataclasses.dataclass(frozen=True, slots=True)
class EpochOrder:
    """The global order of one epoch.

    Attributes:
        rows: of the snapshot, before any filter.
        seed: of the shuffling; the same seed and epoch give the same order.
        epoch: a number of the caller's.
        shuffle: whether rows are permuted at all.
        chunk_rows: rows that are read as one range.
        block_rows: rows that are permuted together, and held in memory; a multiple of chunk_rows.
    """

    rows: int
    seed: int
    epoch: int
    shuffle: bool
    chunk_rows: int
    block_rows: int

    def __post_init__(self) -> None:
        if self.chunk_rows < 1 or self.block_rows < 1 or self.block_rows % self.chunk_rows:
            raise UsageError(
                f"a block of {self.block_rows} rows is no multiple of chunks of {self.chunk_rows}"
            )

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return -(-self.rows // self.block_rows)

    def block_length(self, block: int) -> int:
        """How many rows a block has, before any filter."""
        return sum(end - start for start, end in self.ranges(block))

    def ranges(self, block: int) -> list[tuple[int, int]]:
        """The half-open ranges of the snapshot's rows that a block is made of, in the table's order."""
        if not self.shuffle:
            start = block * self.block_rows
            return [(start, min(start + self.block_rows, self.rows))]
        chunks = _chunk_order(self.rows, self.chunk_rows, self.seed, self.epoch)
        per_block = self.block_rows // self.chunk_rows
        chosen = np.sort(chunks[block * per_block : (block + 1) * per_block])
        return [
            (int(each) * self.chunk_rows, min((int(each) + 1) * self.chunk_rows, self.rows))
            for each in chosen
        ]

    def permutation(self, block: int, rows: int) -> NDArray[np.int64]:
        """The order of a block's rows, for as many as there are (after a filter, where there is one)."""
        return np.random.Generator(
            np.random.Philox(np.random.SeedSequence((self.seed, self.epoch, 1, block)))
        ).permutation(rows)

    # --- sharing -----------------------------------------------------------------------------

    def everything(self) -> list[Interval]:
        """The whole epoch."""
        return [Interval(Position(0, 0), Position(self.blocks, 0))] if self.rows else []

    def shares(
        self, intervals: Sequence[Interval], count: int, *, unit: int | None, equal: bool = False
    ) -> list[list[Interval]]:
        """Divides intervals among readers, in order.

        Args:
            intervals: what is to be read.
            count: how many readers.
            unit: rows that stay together, so that shares differ by as many at most: 1, or those of a
                batch. None keeps blocks whole, whose rows only reading tells where there is a filter.
            equal: leave out the last units (fewer than `count`) that would make shares differ.
        """
        runs = [run_ for interval in intervals for run_ in self._by_block(interval)]
        if unit is None:
            bounds = [len(runs) * each // count for each in range(count + 1)]
            return [_joined(runs[start:end], self) for start, end in itertools.pairwise(bounds)]
        lengths = [self._length(run_) for run_ in runs]
        total = sum(lengths)
        if equal:
            bounds = [total // unit // count * unit * each for each in range(count + 1)]
        else:
            units = -(-total // unit)
            bounds = [min(units * each // count * unit, total) for each in range(count + 1)]
        return [
            _joined(_cut(runs, lengths, start, end), self)
            for start, end in itertools.pairwise(bounds)
        ]

    def rows_of(self, intervals: Sequence[Interval]) -> int:
        """How many rows intervals have, before any filter."""
        return sum(self._length(run_) for each in intervals for run_ in self._by_block(each))

    def _by_block(self, interval: Interval) -> list[Interval]:
        """An interval taken apart at the boundaries of blocks."""
        result = []
        position = interval.start
        while position < interval.end:
            following = Position(position.block + 1, 0)
            result.append(Interval(position, min(following, interval.end)))
            position = following
        return result

    def _length(self, run_: Interval) -> int:
        start, end = run_
        stop = end.row if end.block == start.block else self.block_length(start.block)
        return max(0, stop - start.row)

    def advanced(self, intervals: Sequence[Interval], position: Position) -> list[Interval]:
        """What remains of a reader's intervals when it has come to `position` in the first of them."""
        rest = list(intervals)
        while rest and position >= rest[0].end:
            rest.pop(0)
        if rest and position > rest[0].start:
            rest[0] = Interval(position, rest[0].end)
        return rest


@functools.lru_cache(maxsize=4)  # epochs and data sets that one process reads at a time
def _chunk_order(rows: int, chunk_rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The chunks of an epoch in the order of reading; kept, since every block asks for it."""
    # The last chunk may be short: it stays in the last block, so that only that block is short.
    whole = rows // chunk_rows
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, epoch, 0))))
    order = random.permutation(whole)
    return order if whole * chunk_rows == rows else np.append(order, whole)


def _cut(runs: Sequence[Interval], lengths: Sequence[int], start: int, end: int) -> list[Interval]:
    """The rows from `start` up to `end` of a sequence of runs, none of which spans a block's end."""
    result = []
    before = 0
    for run_, length in zip(runs, lengths, strict=True):
        first, last = max(start, before) - before, min(end, before + length) - before
        if first < last:
            block, row = run_.start
            stop = run_.end if last == length else Position(block, row + last)
            result.append(Interval(Position(block, row + first), stop))
        before += length
    return result


def _joined(runs: Iterable[Interval], order: EpochOrder) -> list[Interval]:
    """Intervals that touch made one."""
    result: list[Interval] = []
    for run_ in runs:
        if result and result[-1].end == run_.start:
            result[-1] = Interval(result[-1].start, run_.end)
        else:
            result.append(run_)
    return [each for each in result if each.start < each.end and each.start.block < order.blocks]


def remaining_of(numbers: Iterable[Sequence[int]]) -> list[Interval]:
    """Intervals as a state keeps them: four numbers each.

    Raises:
        UsageError: they are not.
    """
    result = []
    for each in numbers:
        if len(each) != 4 or not all(type(number) is int and number >= 0 for number in each):
            raise UsageError(f"not an interval of a training state: {each!r}")
        result.append(Interval(Position(each[0], each[1]), Position(each[2], each[3])))
    return sorted(result)
