"""Merging key runs: the entries of many segments in one object, so that few runs are looked into.

The hashes of keys lie anywhere, so that every run of a partition may have a key: what an upsert costs would
grow with the number of segments, which compaction stops merging when they are large. Merged runs are kept
in sizes of which each is about a multiple of the one below, so that an entry is copied a few times at
most, and memory holds a slice of each run at a time.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fletching import faultpoints
from fletching.catalog.merged_run_rows import (
    MergedRunRow,
    encode_owners,
    forget_merged_runs,
    insert_merged_run,
)
from fletching.catalog.segment_rows import SegmentRow
from fletching.catalog.table_rows import TableRow, table_by_id
from fletching.engine.changes.key_lookup import open_merged
from fletching.engine.changes.key_runs import Entries, KeyRun, open_run
from fletching.engine.changes.run_encoding import BLOCK_ENTRIES, RunBuilder, RunLayout
from fletching.engine.context import EngineContext
from fletching.engine.upkeep.held_lease import HeldLease
from fletching.errors import CorruptObjectError, ObjectNotFoundError

__all__ = ["MOST_RUNS", "RunMerge", "merge_runs", "runs_to_merge", "unusable_runs"]

MOST_RUNS = 8
"""Runs of a partition that are looked into as they are; more are merged."""

_NEXT_SIZE = 2
"""A merged run is merged again with what is at least this part of it, smaller ones always."""

_SLICE_ENTRIES = 1 << 19
"""About how many entries are in memory at a time: 8 MB of them, and as much again while they are sorted."""


@dataclasses.dataclass(frozen=True, slots=True)
class RunMerge:
    """What is to be done in one partition.

    Attributes:
        partition: the catalog's text.
        segments: whose own runs become part of the new one.
        merged: the runs that it takes the place of.
        kept: segments of those that are still there.
        unusable: those of which nothing is taken over.
    """

    partition: str
    segments: tuple[SegmentRow, ...]
    merged: tuple[MergedRunRow, ...]
    kept: frozenset[str]
    unusable: tuple[MergedRunRow, ...]


def unusable_runs(
    context: EngineContext, merged: Sequence[MergedRunRow], *, prove: bool
) -> list[MergedRunRow]:
    """Merged runs that are gone or damaged: nothing is found in them, and their segments need another.

    Args:
        context: the engine's.
        merged: which to look at.
        prove: read every block; else only what says where to look.
    """
    result = []
    for row in merged:
        try:
            row.owner_keys()
            run = open_merged(context.store, row, None if prove else context.run_indexes)
            for start in range(0, run.count if prove else 0, _SLICE_ENTRIES):
                run.between(start, min(start + _SLICE_ENTRIES, run.count))
        except (CorruptObjectError, ObjectNotFoundError):
            result.append(row)
    return result


def runs_to_merge(
    segments: Sequence[SegmentRow],
    merged: Sequence[MergedRunRow],
    unusable: Collection[MergedRunRow] = (),
    *,
    purge: bool = False,
) -> list[RunMerge]:
    """What a table's partitions need.

    Args:
        segments: the visible ones.
        merged: the runs that there are.
        unusable: which of them are as if they were not there, and go.
        purge: write every run anew that has an entry of a segment which is gone: of whole numbers and dates
            an entry is the key itself.
    """
    alive: dict[str, dict[str, SegmentRow]] = defaultdict(dict)
    for segment in segments:
        if segment.key_run_offset is not None:
            alive[segment.partition][segment.key] = segment
    runs: dict[str, list[MergedRunRow]] = defaultdict(list)
    for row in merged:
        runs[row.partition].append(row)
    result = []
    for partition in sorted(alive.keys() | runs.keys()):
        plan = _partition(partition, alive[partition], runs[partition], unusable, purge=purge)
        if plan is not None:
            result.append(plan)
    return result


def _partition(
    partition: str,
    alive: dict[str, SegmentRow],
    merged: Sequence[MergedRunRow],
    unusable: Collection[MergedRunRow],
    *,
    purge: bool,
) -> RunMerge | None:
    single = dict(alive)
    kept: set[str] = set()
    dead: list[MergedRunRow] = []
    living: list[tuple[int, MergedRunRow]] = []
    left: list[MergedRunRow] = []
    for row in merged:
        keys = [] if row in unusable else row.owner_keys()
        owned = [key for key in keys if key in single]
        if purge and 0 < len(owned) < len(keys):
            left.append(row)
        if not owned:
            dead.append(row)
            continue
        entries = sum(single.pop(key).rows for key in owned)
        kept.update(owned)
        living.append((entries, row))
    chosen: list[MergedRunRow] = []
    size = sum(segment.rows for segment in single.values())
    if len(single) + len(living) > MOST_RUNS:
        for entries, row in sorted(living, key=lambda each: each[0]):
            if entries > _NEXT_SIZE * size:
                break
            chosen.append(row)
            size += entries
    # What is mostly entries of segments that are gone makes every search longer than it need be.
    stale = [
        row
        for entries, row in living
        if row not in chosen and (2 * entries < row.entries or row in left)
    ]
    if len(single) + len(living) <= MOST_RUNS:
        if not dead and not stale:
            return None
        single = {}
    return RunMerge(
        partition,
        tuple(single.values()),
        (*dead, *stale, *chosen),
        frozenset(kept),
        tuple(row for row in merged if row in unusable),
    )


def merge_runs(context: EngineContext, table: TableRow, plan: RunMerge, lease: HeldLease) -> int:
    """Does it: one new object, one transaction; how many segments the new run has the entries of.

    Raises:
        CorruptObjectError: a run is damaged: a merged one is unusable from then on, and a segment's
            own keeps those of its partition apart.
        StorageError: the store or the catalog failed; nothing has changed.
    """
    owners: list[str] = []
    sources: list[_Source] = []
    for row in plan.merged:
        keys = row.owner_keys() if row not in plan.unusable else []
        if not plan.kept.intersection(keys):
            continue
        indices = np.full(len(keys), _GONE, dtype=np.uint32)
        for index, key in enumerate(keys):
            if key in plan.kept:
                indices[index] = len(owners)
                owners.append(key)
        sources.append(_Source(open_merged(context.store, row, context.run_indexes), indices))
    for segment in plan.segments:
        own = open_run(context.store, segment, context.run_indexes)
        sources.append(_Source(own, np.array([len(owners)], dtype=np.uint32)))
        owners.append(segment.key)
    made = _written(context, table, plan.partition, sources, owners) if sources else None
    faultpoints.reach("runs.written")
    with context.recording([] if made is None else [made.key]) as connection:
        lease.check(connection)
        current = table_by_id(connection, table.id, lock=True)
        if current is None or current.dropped_at is not None:
            if made is not None:
                context.delete_objects([made.key])
            return 0
        forget_merged_runs(connection, [row.id for row in plan.merged])
        if made is not None:
            insert_merged_run(connection, table.id, made)
    faultpoints.reach("runs.merged")
    context.delete_objects(row.key for row in plan.merged)
    return len(owners)


_GONE = np.uint32(0xFFFFFFFF)


@dataclasses.dataclass(slots=True)
class _Source:
    """A run that is merged, and what its owners are in the new one."""

    run: KeyRun
    owners: NDArray[np.uint32]
    at: int = 0

    def next(self, number: int | None) -> Entries:
        """The entries from where it is up to a number, those of segments that are gone left out."""
        end = self.run.count if number is None else self.run.below(number)
        result = self.run.between(self.at, end)
        self.at = max(end, self.at)
        if result.owners is None:
            who = np.full(len(result.numbers), self.owners[0], dtype=np.uint32)
            return Entries(result.numbers, result.rows, who)
        who = self.owners[result.owners]
        there = who != _GONE
        return Entries(result.numbers[there], result.rows[there], who[there])


def _written(
    context: EngineContext,
    table: TableRow,
    partition: str,
    sources: Sequence[_Source],
    owners: Sequence[str],
) -> MergedRunRow:
    key = f"tables/{table.id}/{context.store.writer}-{secrets.token_hex(6)}-k.run"
    sink = context.create_object(key)
    try:
        builder = RunBuilder(RunLayout(BLOCK_ENTRIES, merged=True))
        for number in _ends(sources):
            parts = [source.next(number) for source in sources]
            numbers = np.concatenate([part.numbers for part in parts])
            rows = np.concatenate([part.rows for part in parts])
            who = np.concatenate([part.owners for part in parts if part.owners is not None])
            order = np.argsort(numbers, kind="stable")
            sink.write(builder.add(numbers[order], rows[order], who[order]))
        sink.write(builder.finish())
        length = sink.length
        sink.commit()
    except BaseException:
        sink.abort()
        raise
    return MergedRunRow(0, key, partition, builder.entries, length, encode_owners(owners))


def _ends(sources: Sequence[_Source]) -> Iterator[int | None]:
    """Numbers that cut all runs at once, so that what lies between two fits in memory."""
    first = np.sort(np.concatenate([source.run.first_numbers for source in sources]))
    step = max(_SLICE_ENTRIES // BLOCK_ENTRIES - len(sources), 1)
    last = None
    for number in first[step::step].tolist():
        if number != last:
            yield number
        last = number
    yield None
