"""Writing into a table with a primary key: which staged rows count, and which rows they replace.

The writes of a commit are ordered; of each key the last operation wins, whether it puts a row there
or takes it away. The rows that the winners replace are found in the key runs of the partition's
segments, outside of any lock; what others committed meanwhile is looked at inside, and rows that have
moved are followed there (`Publication.delete_rows`). So upserts never fail because of each other: the
later commit wins.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyroaring import BitMap
from sqlalchemy import Connection

from fletching.catalog.deletion_rows import bitmap_of, deleted_rows, deletions_of
from fletching.catalog.publishing import Publication
from fletching.catalog.segment_rows import SegmentRow, decode_partition, visible_segments
from fletching.catalog.table_rows import TableRow, table_by_id
from fletching.catalog.version_rows import versions_between
from fletching.catalog.write_stream_rows import StagedRows, StagedSegmentRow
from fletching.engine.changes.key_columns import KeyColumns
from fletching.engine.changes.key_lookup import Located, Wanted, located
from fletching.engine.changes.key_runs import Entries, KeyRun, RunIndexes, open_run
from fletching.engine.changes.key_values import key_numbers, last_indices, same_keys
from fletching.engine.context import EngineContext
from fletching.errors import ConflictError, CorruptObjectError, NoSuchTableError, RowsChangedError

__all__ = ["KeyedMerge", "staged_rows"]

_Numbers = NDArray[np.uint64]

ENTRIES_AT_ONCE = 1 << 18
"""How many keys of a commit are folded and looked for at once: some 30 MB."""


def staged_rows(staged: Iterable[StagedSegmentRow]) -> list[StagedRows]:
    """What the writes of a commit brought, in its order."""
    return [
        StagedRows(
            row.segment,
            row.kind == "deletes",
            BitMap() if row.superseded is None else BitMap.deserialize(row.superseded),
        )
        for row in staged
    ]


@dataclasses.dataclass(frozen=True, slots=True)
class _Winners:
    """The keys of one partition on which a commit has the last word, ascending by number.

    Attributes:
        numbers: the keys.
        source: which staged rows have each.
        rows: the row of it.
        deletes: whether it takes the row away.
    """

    numbers: _Numbers
    source: NDArray[np.int64]
    rows: NDArray[np.uint32]
    deletes: NDArray[np.bool_]


class _Fold:
    """The winners of some keys of one partition, found out when they are needed."""

    def __init__(self, wanted: Wanted, make: Callable[[], _Winners]) -> None:
        self.wanted = wanted
        self._make = make

    @functools.cached_property
    def winners(self) -> _Winners:
        return self._make()


@dataclasses.dataclass(frozen=True, slots=True)
class _Piece:
    """Entries of the runs of one partition's writes: all with some numbers.

    Attributes:
        partition: the catalog's text.
        entries: of which write, from which entry of its run to which; None for the last.
    """

    partition: str
    entries: Sequence[tuple[int, int, int | None]]


class KeyedMerge:
    """A commit into a table with a key, prepared against one version of it.

    What it works on is some keys at a time, so that its memory does not grow with what it brings.

    Attributes:
        version: the version that was probed.
        absent: by key, staged rows that do not count.
    """

    def __init__(
        self,
        keys: KeyColumns,
        staged: Sequence[StagedRows],
        *,
        version: int,
        without: Mapping[str, BitMap],
        seed: bytes,
        indexes: RunIndexes,
    ) -> None:
        self.version = version
        self._seed = seed
        self._indexes = indexes
        self._keys = keys
        self._staged = staged
        self._without = without
        self._takes = np.array([each.deletes for each in staged], dtype=bool)
        self.absent: dict[str, BitMap] = {
            each.segment.key: each.superseded.copy() for each in staged
        }
        # Rows that go, by segment id: those replaced, and those taken away.
        self._replaced: dict[int, BitMap] = defaultdict(BitMap)
        self._taken: dict[int, BitMap] = defaultdict(BitMap)
        self._partitions: dict[str, list[int]] = defaultdict(list)
        for number, each in enumerate(staged):
            self._partitions[each.segment.partition].append(number)
        self._rounds = list(self._all_rounds())
        self._folded_once: dict[str, _Fold] | None = None

    @classmethod
    def prepare(
        cls,
        context: EngineContext,
        table_id: str,
        staged: Sequence[StagedRows],
        *,
        probe: bool = True,
        without: Mapping[str, BitMap] | None = None,
        version: int | None = None,
    ) -> KeyedMerge:
        """Folds the writes, and finds the rows that they replace.

        Args:
            context: the engine's.
            table_id: the table.
            staged: what the commit brings, in its order.
            probe: False where nothing that is there stays, as in an overwrite.
            without: by key, staged rows that do not come.
            version: where to look, a version that is pinned; None for the newest. A change looks where
                it read: whatever others have moved meanwhile has other places there than here.

        Raises:
            CorruptObjectError: a segment or its key run is damaged.
        """
        with context.database.read(patient=True) as connection:
            table = table_by_id(connection, table_id)
            if table is None:
                raise NoSuchTableError("the table has been dropped")
            merge = cls(
                KeyColumns(context.store, connection, table),
                staged,
                version=table.version if version is None else version,
                without=without or {},
                seed=context.key_seed(table_id),
                indexes=context.run_indexes,
            )
            if probe:
                merge._probe(connection, table.id, merge.version)
            else:
                collections.deque(merge._folds(), maxlen=0)
        return merge

    # --- which writes count ---------------------------------------------------------------------

    def _all_rounds(self) -> Iterator[list[_Piece]]:
        """What is folded at once: the keys of many partitions, or some of a large one's."""
        pieces: list[_Piece] = []
        entries = 0
        for partition, numbers in self._partitions.items():
            count = sum(self._staged[number].segment.rows for number in numbers)
            cuts = -(-count // ENTRIES_AT_ONCE)
            if pieces and entries + count > ENTRIES_AT_ONCE:
                yield pieces
                pieces, entries = [], 0
            whole = [_Piece(partition, [(number, 0, None) for number in numbers])]
            *large, last = self._cut(partition, numbers, cuts) if cuts > 1 else whole
            yield from ([each] for each in large)
            pieces.append(last)
            entries += min(count, ENTRIES_AT_ONCE)
        if pieces:
            yield pieces

    def _cut(self, partition: str, numbers: Sequence[int], count: int) -> Iterator[_Piece]:
        """Cuts runs where some numbers stand, so that a key's entries stay together."""
        runs = [self._open(number) for number in numbers]
        first = np.sort(np.concatenate([run.first_numbers for run in runs]))
        indices = np.arange(1, count) * len(first) // count
        starts = [0] * len(runs)
        for bound in np.unique(first[indices]).tolist():
            ends = [run.below(bound) for run in runs]
            yield _Piece(partition, list(zip(numbers, starts, ends, strict=True)))
            starts = ends
        yield _Piece(
            partition,
            [(number, start, None) for number, start in zip(numbers, starts, strict=True)],
        )

    def _folds(self) -> Iterator[dict[str, _Fold]]:
        """Who has the last word on each key, by partition, for some keys at a time."""
        if self._folded_once is not None:
            yield self._folded_once
            return
        for pieces in self._rounds:
            result = {piece.partition: self._fold_of(piece) for piece in pieces}
            if len(self._rounds) == 1:
                self._folded_once = result
            yield result

    def _fold_of(self, piece: _Piece) -> _Fold:
        if len(piece.entries) > 1:
            # Who is beaten must be known in any case.
            winners = self._folded(piece)
            return _Fold(Wanted.of(winners.numbers), lambda: winners)
        ((number, _, _),) = piece.entries
        low, high = self._open(number).range
        fold = _Fold(Wanted(low, high, lambda: fold.winners.numbers), lambda: self._folded(piece))
        return fold

    def _folded(self, piece: _Piece) -> _Winners:
        runs = [self._entries(*each) for each in piece.entries]
        sources = np.array([number for number, _, _ in piece.entries], dtype=np.int64)
        if len(runs) == 1:
            # One write was folded when it came in.
            (run,) = runs
            source, deletes = (
                np.broadcast_to(each, len(run.rows)) for each in (sources, self._takes[sources])
            )
            return _Winners(run.numbers, source, run.rows, deletes)
        numbers = np.concatenate([run.numbers for run in runs])
        rows = np.concatenate([run.rows for run in runs])
        source = np.repeat(sources, [len(run.rows) for run in runs])

        def columns(chosen: NDArray[np.int64]) -> list[pa.Array]:
            return self._columns_of_staged(source[chosen], rows[chosen])

        # Of several a later one has the last word.
        last, ordered = last_indices(numbers, None if self._keys.exact else columns)
        if len(last) < len(numbers):
            beaten = np.ones(len(numbers), dtype=bool)
            beaten[last] = False
            for number in np.unique(source[beaten]).tolist():
                mine = rows[beaten & (source == number)]
                self.absent[self._staged[number].segment.key] |= bitmap_of(mine)
        source = source[last]
        return _Winners(ordered, source, rows[last], self._takes[source])

    def _open(self, number: int) -> KeyRun:
        segment = self._staged[number].segment
        if segment.key_run_offset is None:
            raise ConflictError(
                "rows were written before the table began to keep its key unique; write them anew"
            )
        return open_run(self._keys.store, segment.as_row(), self._indexes)

    def _entries(self, number: int, start: int, end: int | None) -> Entries:
        """Keys of one write, without those of rows that do not come."""
        run = self._open(number)
        result = run.between(start, run.count if end is None else end)
        out = self._without.get(self._staged[number].segment.key)
        if not out:
            return result
        stays = ~_are_in(result.rows, out)
        return Entries(result.numbers[stays], result.rows[stays])

    def _columns_of_staged(
        self, source: NDArray[np.int64], rows: NDArray[np.uint32]
    ) -> list[pa.Array]:
        """Key columns of staged rows, in the order asked for."""
        parts: list[list[pa.Array]] = []
        indices: list[NDArray[np.int64]] = []
        for number in np.unique(source).tolist():
            mine = np.flatnonzero(source == number)
            segment = self._staged[number].segment.as_row()
            parts.append(self._keys.columns(segment, rows[mine]))
            indices.append(mine)
        back = pa.array(np.argsort(np.concatenate(indices), kind="stable"))
        return [
            pa.concat_arrays([part[number] for part in parts]).take(back)
            for number in range(len(self._keys.types))
        ]

    # --- which rows go --------------------------------------------------------------------------

    def _probe(
        self, connection: Connection, table_id: str, version: int, *, after: int | None = None
    ) -> None:
        """Finds the rows with the winners' keys in a version, in segments added after another one."""
        partitions = [decode_partition(partition) for partition in self._partitions]
        segments: dict[str, list[SegmentRow]] = defaultdict(list)
        for segment in visible_segments(connection, table_id, version, partitions, after=after):
            segments[segment.partition].append(segment)
        known: dict[int, BitMap] = {}
        # The run of a single write has the numbers that are looked for, and no others.
        single = len(self._staged) == 1 and not self._takes[0] and not self._without
        own = self._open(0) if single and after is None else None
        slots: list[BitMap | None] = []
        for folds in self._folds():
            mine = [segment for partition in folds for segment in segments[partition]]
            wanted = {partition: each.wanted for partition, each in folds.items()}
            hits = list(
                located(self._keys.store, connection, table_id, mine, wanted, indexes=self._indexes)
            )
            new = [segment.id for segment, _, _ in hits if segment.id not in known]
            gone = deletions_of(connection, new, version)
            known |= {
                number: deleted_rows(connection, gone[number]) if number in gone else BitMap()
                for number in new
            }
            for hit in hits:
                self._take(hit, folds[hit.segment.partition].winners, known[hit.segment.id])
            if own is not None:
                slots += [each.wanted.known_slots(own.slot_shift) for each in folds.values()]
        made = [each for each in slots if each is not None]
        if own is not None and made and len(made) == len(slots):
            own.keep_slots(made)  # the next write is looked for in it

    def _take(self, hit: Located, winners: _Winners, gone: BitMap) -> None:
        """Notes the rows of a segment that winners replace or take away."""
        segment, indices, rows = hit
        stays = ~_are_in(rows, gone)
        if not self._keys.exact and stays.any():
            near = indices[stays]
            there = self._keys.columns(segment, rows[stays])
            # Single columns of a message have no checksum of their own; the run's numbers do.
            if not np.array_equal(key_numbers(there, self._seed), winners.numbers[near]):
                raise CorruptObjectError(
                    "the keys of a segment's rows are not those of its key run", key=segment.key
                )
            stays[stays] = same_keys(
                there, self._columns_of_staged(winners.source[near], winners.rows[near])
            )
        takes = winners.deletes[indices]
        self._replaced[segment.id] |= bitmap_of(rows[stays & ~takes])
        self._taken[segment.id] |= bitmap_of(rows[stays & takes])

    def replaced(self) -> dict[int, BitMap]:
        """The rows with the keys of the rows that come, by segment id."""
        return dict(self._replaced)

    def check_free(self, connection: Connection, table: TableRow, after: int) -> None:
        """Refuses rows that would come to stand beside one that came after a version.

        Raises:
            RowsChangedError: a row came that has the key of one of them.
        """
        known = self._replaced
        self._replaced = defaultdict(BitMap)
        self._probe(connection, table.id, table.version, after=after)
        result, self._replaced = self._replaced, known
        if any(result.values()):
            raise RowsChangedError("rows came with keys of the rows that the change brings")

    def is_of(self, staged: Sequence[StagedSegmentRow]) -> bool:
        """Whether these are the writes that it was prepared for."""
        return [row.segment.key for row in staged] == [each.segment.key for each in self._staged]

    # --- the commit -----------------------------------------------------------------------------

    def apply(
        self,
        connection: Connection,
        table: TableRow,
        publication: Publication,
        *,
        new_partitions: Iterable[str] = (),
    ) -> list[str]:
        """Does it, in the transaction that holds the table's lock.

        Args:
            connection: the transaction.
            table: the table as it is now.
            publication: of this commit; its read version is this merge's.
            new_partitions: partitions to add even if nothing is added to them.

        Returns:
            Keys of objects that are not needed after it.
        """
        if table.version != self.version and self._may_be_back(connection, table):
            # Rows of old segments are there again: what was found before says nothing of them.
            self._replaced.clear()
            self._taken.clear()
            self.version = table.version
            self._probe(connection, table.id, table.version)
        publication.read_from(self.version)
        if table.version != self.version:
            self._probe(connection, table.id, table.version, after=self.version)
        updated = publication.delete_rows(self._replaced, strict=False)
        publication.delete_rows(self._taken, strict=False)
        return self.add(publication, updated=updated, new_partitions=new_partitions)

    def _may_be_back(self, connection: Connection, table: TableRow) -> bool:
        """Whether a restore came in between, or nobody knows any more."""
        between = versions_between(connection, table.id, self.version, table.version)
        known = len(between) == table.version - self.version
        return not known or any(row.operation == "restore" for row in between)

    def add(
        self, publication: Publication, *, updated: int = 0, new_partitions: Iterable[str] = ()
    ) -> list[str]:
        """Adds the rows that count; returns the keys of objects of which none does."""
        added = [each.segment for each in self._staged if not each.deletes]
        publication.add(added, absent=self.absent, new_partitions=new_partitions)
        publication.count_updates(updated)
        return [
            each.segment.key
            for each in self._staged
            if each.deletes or len(self.absent[each.segment.key]) == each.segment.rows
        ]


def _are_in(rows: NDArray[np.uint32], bitmap: BitMap) -> NDArray[np.bool_]:
    """For each row whether it is in a bitmap, however many others are in it."""
    common = np.frombuffer((bitmap_of(rows) & bitmap).to_array(), dtype=np.uint32)
    if not len(common):
        return np.zeros(len(rows), dtype=bool)
    near = np.minimum(np.searchsorted(common, rows), len(common) - 1)
    return np.asarray(common[near] == rows)
