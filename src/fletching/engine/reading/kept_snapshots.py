"""The snapshots of versions: loaded from the catalog, kept, and grown from the one before.

A later version is made from a snapshot that is kept: chunks of numbers around what changed are new, the
others shared. A writer that commits every second would else make every reader load, sort and add up all
segments of the table each time.
"""

from __future__ import annotations

import bisect
import contextlib
import threading
from collections.abc import Collection, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from fletching.catalog.database import Database
from fletching.catalog.deletion_rows import DeletionRow, read_vector, visible_deletions
from fletching.catalog.partition_rows import partition_names
from fletching.catalog.segment_rows import (
    SegmentRow,
    decode_partition,
    segments_since,
    visible_segments,
)
from fletching.engine.cache import Budget, RecentlyUsed
from fletching.engine.reading.change_feed import changes_between
from fletching.engine.reading.chunked_lists import ChunkedNumbers, SegmentList
from fletching.engine.reading.output_schema import PartitionFilter
from fletching.engine.reading.shown_rows import LoadVector
from fletching.engine.reading.snapshot import Snapshot, index_of, size_of, without_rows
from fletching.objects.store import ObjectStore

__all__ = ["Snapshots", "grow"]

_SUPERSEDED_SECONDS = 30.0
"""How long a version that nobody reads is kept when there is a newer one: whoever began to read it reads on within
seconds, and of a table that changes all day there is one for every change."""


SnapshotKey: TypeAlias = tuple[str, int, PartitionFilter, "int | None"]


class Snapshots:
    """The snapshots of versions, loaded from the catalog and kept, as one never changes. Thread-safe."""

    def __init__(self, database: Database, store: ObjectStore, budget: Budget) -> None:
        """Knows none yet; what it keeps counts in a budget of bytes."""
        self._database = database
        self._store = store
        self._kept = RecentlyUsed[SnapshotKey, Snapshot](
            budget,
            weight=lambda snapshot: snapshot.size_bytes,
            idle_seconds=_SUPERSEDED_SECONDS,
        )
        # Of chosen partitions: which ones a condition chooses takes long to find where there are many.
        self._chosen = RecentlyUsed[SnapshotKey, Snapshot](
            budget, weight=lambda snapshot: snapshot.size_bytes
        )
        # The whole newest version of each table, which the next reader wants and later ones are made from.
        self._newest = RecentlyUsed[str, tuple[int, Snapshot]](
            budget, weight=lambda newest: newest[1].size_bytes
        )
        self._counting = threading.Lock()
        # A lock for each thing that is being loaded, and how many have or want it.
        self._loading: dict[object, tuple[threading.Lock, int]] = {}

    @property
    def cache(self) -> RecentlyUsed[str, tuple[int, Snapshot]]:
        """The newest of each table."""
        return self._newest

    def get(
        self, table_id: str, version: int, wanted: PartitionFilter, since: int | None
    ) -> Snapshot:
        """The rows of a version in the wanted partitions, or the changes ``since`` another one."""
        key = (table_id, version, wanted, since)
        snapshot = self._find(key)
        if snapshot is None:
            # The second of two readers finds what the first has loaded. Versions of a table are made from
            # each other, one at a time; nobody waits for another table, or for changes and chosen partitions.
            whole = wanted.everything and since is None
            with self._alone(table_id if whole else key):
                snapshot = self._find(key)
                if snapshot is None:
                    with self._database.read(patient=since is not None) as connection:
                        snapshot = self.load(connection, table_id, version, wanted, since)
        return snapshot

    @contextlib.contextmanager
    def _alone(self, what: object) -> Iterator[None]:
        """One at a time loads the same thing."""
        with self._counting:
            lock, users = self._loading.get(what) or (threading.Lock(), 0)
            self._loading[what] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._counting:
                lock, users = self._loading.pop(what)
                if users > 1:
                    self._loading[what] = lock, users - 1

    def _find(self, key: SnapshotKey) -> Snapshot | None:
        table_id, version, wanted, since = key
        if not wanted.everything:
            return self._chosen.get(key)
        newest = self._newest.get(table_id) if since is None else None
        if newest is not None and newest[0] == version:
            return newest[1]
        return self._kept.get(key)

    def load(
        self,
        connection: Connection,
        table_id: str,
        version: int,
        wanted: PartitionFilter,
        since: int | None = None,
    ) -> Snapshot:
        """The snapshot, as the catalog has it in a transaction of the caller's; see `get`."""
        key = (table_id, version, wanted, since)
        snapshot = self._find(key)
        if snapshot is not None:
            return snapshot
        if wanted.everything and since is None:
            return self._whole_snapshot(connection, table_id, version)
        if since is not None:
            snapshot = changes_between(
                connection, self._store, table_id, (since, version), wanted, load=self._vector
            )
        else:
            chosen = wanted.named
            if chosen is None:
                names = partition_names(connection, table_id, version)
                chosen = [values for values in names if wanted.matches(values)]
            snapshot = Snapshot.of(
                visible_segments(connection, table_id, version, chosen),
                visible_deletions(connection, table_id, version),
                self._vector,
            )
        (self._kept if wanted.everything else self._chosen).put(key, snapshot)
        return snapshot

    def _whole_snapshot(self, connection: Connection, table_id: str, version: int) -> Snapshot:
        """All rows of a version: of the newest version that is known, and what changed since.

        A writer that commits every second would else make every reader load everything anew.
        """
        deleted = visible_deletions(connection, table_id, version)
        known, base = self._newest.get(table_id) or (version, None)
        changed = None
        if base is not None and known <= version:
            changed = segments_since(connection, table_id, known, version)
        if base is not None and changed is not None:
            snapshot = grow(base, *changed, deleted, self._vector)
        else:
            snapshot = Snapshot.of(
                visible_segments(connection, table_id, version), deleted, self._vector
            )
        # Each is in one of the two, so that it counts once in the budget.
        if known > version:
            self._kept.put((table_id, version, PartitionFilter(), None), snapshot)
            return snapshot
        if base is not None and known < version:
            self._kept.put((table_id, known, PartitionFilter(), None), base)
        self._newest.put(table_id, (version, snapshot))
        return snapshot

    def _vector(self, deletion_id: int) -> bytes | None:
        """The vector of a deletion that was too large to come with the snapshot."""
        with self._database.read() as connection:
            return read_vector(connection, deletion_id)


_Int64 = NDArray[np.int64]


def grow(
    snapshot: Snapshot,
    added: Sequence[SegmentRow],
    gone: Collection[int] = (),
    deletions: Sequence[DeletionRow] = (),
    load: LoadVector = lambda _: None,
) -> Snapshot:
    """A later version: what came and what went since this one.

    Args:
        snapshot: the earlier version.
        added: segments that the later version shows and this one does not.
        gone: ids of segments that this version shows and the later one does not.
        deletions: all that the later version shows.
        load: as of ``of``.

    Cost: work per segment that came, went or has lost rows; unless a segment came that does not stand
    behind the others of its partition: then as ``of``. Where some went, their indices are looked for
    among all (a few milliseconds for a million); where rows are deleted, row totals are added up.

    Raises:
        CorruptObjectError: as of ``of``.
    """
    if not (added or gone or deletions or snapshot.selections):
        return snapshot
    plain = _with_all_rows(snapshot)
    if gone:
        plain = _without_segments(plain, gone)
    if added:
        appended = _with_segments(plain, added)
        if appended is None:
            return Snapshot.of([*plain.segments, *added], deletions, load)
        plain = appended
    return without_rows(plain, deletions, load)


def _with_all_rows(snapshot: Snapshot) -> Snapshot:
    """The same without any deletion."""
    if not snapshot.selections and not snapshot.has_deletions:
        return snapshot
    return snapshot.showing(snapshot.stored_rows, {})


def _without_segments(snapshot: Snapshot, gone: Collection[int]) -> Snapshot:
    """This one, all of whose rows are shown, without some segments."""
    at = snapshot.segment_ids.indices_of(gone)
    if not len(at):
        return snapshot
    indices = at.tolist()
    removed = [snapshot.segments[index] for index in indices]
    first = snapshot.batch_segment.searchsorted_all(at, "left")
    end = snapshot.batch_segment.searchsorted_all(at, "right")
    batches = np.concatenate([np.arange(*each) for each in zip(first, end, strict=True)])
    owners = snapshot.segment_partition.without(at)
    partitions, owners = _without_empty(snapshot.partitions, owners, snapshot, indices)
    stored_rows = snapshot.stored_rows.without(batches)
    grown = Snapshot(
        segments=_listed(snapshot.segments).without(indices),
        partitions=partitions,
        segment_partition=owners,
        batch_segment=snapshot.batch_segment.shifted(end, np.full(len(at), -1)).without(batches),
        offset=snapshot.offset.without(batches),
        metadata_length=snapshot.metadata_length.without(batches),
        message_length=snapshot.message_length.without(batches),
        stored_rows=stored_rows,
        rows=stored_rows,
    )
    grown.carry(
        kinds=snapshot.kinds,
        segment_kind=snapshot.segment_kind.without(at),
        segment_ids=snapshot.segment_ids.without(at),
        segment_start=_totals_without(snapshot.segment_start, at),
        row_start=_totals_without(snapshot.row_start, batches),
        byte_start=_totals_without(snapshot.byte_start, batches),
        segment_bytes=snapshot.segment_bytes - size_of(removed, len(batches)),
    )
    return grown


def _without_empty(
    partitions: tuple[tuple[str, ...], ...],
    owners: ChunkedNumbers,
    snapshot: Snapshot,
    indices: Sequence[int],
) -> tuple[tuple[tuple[str, ...], ...], ChunkedNumbers]:
    """The partitions that have a segment left, and the indices of all segments among them."""
    empty: list[int] = []
    behind: list[int] = []
    for number in sorted({snapshot.segment_partition[index] for index in indices}):
        end = owners.searchsorted(number, "right")
        if owners.searchsorted(number, "left") == end:
            empty.append(number)
            behind.append(end)
    if not empty:
        return partitions, owners
    gone = set(empty)
    left = tuple(each for number, each in enumerate(partitions) if number not in gone)
    return left, owners.shifted(np.array(behind), np.full(len(behind), -1))


def _with_segments(snapshot: Snapshot, added: Sequence[SegmentRow]) -> Snapshot | None:
    """This one, all of whose rows are shown, and more segments.

    None if one does not belong behind the others of its partition.
    """
    values = [decode_partition(row.partition) for row in added]
    order = sorted(range(len(added)), key=lambda n: (values[n], added[n].position))
    segments = [added[number] for number in order]
    partitions, owners = _with_partitions(snapshot, values)
    indices = np.array(
        [bisect.bisect_left(partitions, values[number]) for number in order], dtype=np.int64
    )
    at = owners.searchsorted_all(indices, "right")
    for row, number, mine in zip(segments, at.tolist(), indices.tolist(), strict=True):
        if number and owners[number - 1] == mine:
            before = snapshot.segments[number - 1]
            if before.position >= row.position:
                return None
    index = index_of(segments)
    # Every new batch goes before the first one of the segment that its own goes before.
    first = snapshot.batch_segment.searchsorted_all(at, "left")
    batch_at = first[index.batch_segment]
    one_each = np.ones(len(at), dtype=np.int64)
    own = at + np.arange(len(at))
    stored_rows = snapshot.stored_rows.inserted(batch_at, index.rows)
    grown = Snapshot(
        segments=_listed(snapshot.segments).inserted(at.tolist(), segments),
        partitions=partitions,
        segment_partition=owners.inserted(at, indices),
        batch_segment=snapshot.batch_segment.shifted(first, one_each).inserted(
            batch_at, own[index.batch_segment]
        ),
        offset=snapshot.offset.inserted(batch_at, index.offset),
        metadata_length=snapshot.metadata_length.inserted(batch_at, index.metadata_length),
        message_length=snapshot.message_length.inserted(batch_at, index.message_length),
        stored_rows=stored_rows,
        rows=stored_rows,
    )
    kinds = tuple(
        dict.fromkeys((*snapshot.kinds, *((row.schema_version, row.codecs) for row in segments)))
    )
    kind = {each: number for number, each in enumerate(kinds)}
    new_kinds = np.array([kind[row.schema_version, row.codecs] for row in segments])
    lengths = np.array([row.length for row in segments])
    grown.carry(
        kinds=kinds,
        segment_kind=snapshot.segment_kind.inserted(at, new_kinds),
        segment_ids=snapshot.segment_ids.inserted(at, np.array([row.id for row in segments])),
        segment_start=_totals_with(snapshot.segment_start, at, lengths),
        row_start=_totals_with(snapshot.row_start, batch_at, index.rows),
        byte_start=_totals_with(snapshot.byte_start, batch_at, index.message_length),
        segment_bytes=snapshot.segment_bytes + size_of(segments, len(batch_at)),
    )
    return grown


def _with_partitions(
    snapshot: Snapshot, values: Sequence[tuple[str, ...]]
) -> tuple[tuple[tuple[str, ...], ...], ChunkedNumbers]:
    """The partitions with those that are new, and the indices of the snapshot's segments among them."""
    partitions, owners = snapshot.partitions, snapshot.segment_partition
    new: list[tuple[str, ...]] = []
    behind: list[int] = []
    for each in sorted(set(values)):
        index = bisect.bisect_left(partitions, each)
        if index == len(partitions) or partitions[index] != each:
            new.append(each)
            behind.append(owners.searchsorted(index, "left"))
    if not new:
        return partitions, owners
    shifted = owners.shifted(np.array(behind), np.ones(len(behind), dtype=np.int64))
    return tuple(sorted((*partitions, *new))), shifted


def _listed(segments: Sequence[SegmentRow]) -> SegmentList:
    return segments if isinstance(segments, SegmentList) else SegmentList.of(segments)


def _totals_with(totals: ChunkedNumbers, at: _Int64, values: _Int64) -> ChunkedNumbers:
    """Running totals of numbers into which others are inserted, before some indices."""
    if not len(at):
        return totals
    # The total before an index stays; what follows it is larger by what goes there.
    reached = totals.take(at) + np.cumsum(values)
    return totals.shifted(at + 1, values).inserted(at + 1, reached)


def _totals_without(totals: ChunkedNumbers, indices: _Int64) -> ChunkedNumbers:
    """Running totals of numbers of which some are taken away."""
    if not len(indices):
        return totals
    lost = totals.take(indices + 1) - totals.take(indices)
    return totals.shifted(indices + 1, -lost).without(indices + 1)
