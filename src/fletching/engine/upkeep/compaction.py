"""Compaction: neighbouring small segments become one, deleted rows are left out, key runs merged.

The merged segment takes the place of the first one in the order of rows, in a new version with the
same rows; snapshots of earlier versions keep the segments that they have, until retention may
remove them. Batches that have all their rows are copied as they are; of the others the rows that are
left are written anew. A segment of any size is written anew by itself when enough of it is deleted:
until then its batches are computed for every reader.

Deletions that are committed while a segment is copied move along (`Publication.replace`). Small
segments with dictionaries are not merged, since a file's dictionaries cannot change.
"""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fletching import faultpoints
from fletching.catalog import table_rows as catalog_tables
from fletching.catalog.blob_rows import copy_links, link_segments
from fletching.catalog.deletion_rows import (
    DeletionRow,
    deletions_of,
    read_vector,
    visible_deletions,
)
from fletching.catalog.merged_run_rows import merged_runs_of
from fletching.catalog.publishing import Publication, replace_segments
from fletching.catalog.segment_rows import SegmentRow, visible_segments
from fletching.catalog.table_rows import TableRow
from fletching.engine.changes.key_runs import open_run
from fletching.engine.changes.run_encoding import encode_run
from fletching.engine.context import EngineContext
from fletching.engine.reading.snapshot import Snapshot
from fletching.engine.tables.statistics import StatisticsBuilder
from fletching.engine.upkeep.compaction_report import CompactionReport, compaction_summary
from fletching.engine.upkeep.held_lease import HeldLease, hold_lease
from fletching.engine.upkeep.maintenance import record_run
from fletching.engine.upkeep.run_merging import merge_runs, runs_to_merge, unusable_runs
from fletching.engine.upkeep.segment_copy import SegmentCopy
from fletching.engine.writing.ingest_body import CellCheckers
from fletching.engine.writing.segment_writer import SegmentWriter
from fletching.errors import CorruptObjectError, InvalidArgumentError
from fletching.types import TableName

__all__ = ["Compactor", "parts_worth_merging"]

PURGE_ROWS_SHARE = 0.05
"""A segment is written anew when this share of its rows is deleted,"""

PURGE_BATCHES_SHARE = 0.2
"""or when this share of its batches has lost rows: each is computed for every reader until then."""

FOLD_DELETIONS = 8
"""A segment with more deletions than this gets one in their place: readers add them up."""

PURGE_SECONDS = 20.0
"""How long a purge tries again where others were at what it wanted to write anew."""
PAUSE_SECONDS = 0.2

MAX_UNIFIED_BYTES = 1 << 30
"""A segment with dictionaries is decoded as a whole to be written anew; larger ones are left alone."""


@dataclasses.dataclass(slots=True)
class _Work:
    """What one look at a table found, and what came of it.

    Attributes:
        table, snapshot: as they were.
        dirty: the segments that had lost rows, keys by ids.
        hopeless: ids of those for which nothing more can be done.
        damaged: keys of damaged segments.
        merged, made, bytes: as of `CompactionReport`.
    """

    table: TableRow
    snapshot: Snapshot
    dirty: Mapping[int, str]
    hopeless: set[int]
    damaged: list[str] = dataclasses.field(default_factory=list)
    merged: int = 0
    made: int = 0
    bytes: int = 0


class Compactor:
    """Merges small segments. Thread-safe; a lease per table keeps other processes off."""

    def __init__(self, context: EngineContext, cell_checker: CellCheckers | None = None) -> None:
        """Compacts one engine's tables.

        Args:
            context: the engine's.
            cell_checker: makes what finds the packs that BLOB cells refer to.
        """
        self._context = context
        self._cell_checker = cell_checker
        # Per table the version in which nothing was left to merge: it need not be read again.
        self._compacted_versions: dict[str, int] = {}

    def compact_tables(
        self,
        *,
        min_segments: int | None = None,
        purge: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[CompactionReport]:
        """Compacts every table that has something to merge; see ``compact_table``.

        A pass that merged something is kept in the catalog as the last run. ``progress`` is told
        how many tables are done, and of how many.
        """
        started_at = self._context.clock()
        names = self.candidates(min_segments=min_segments, every=purge)
        reports = []
        for done, name in enumerate(names, 1):
            reports.append(self.compact_table(name, min_segments=min_segments, purge=purge))
            if progress is not None:
                progress(done, len(names))
        damaged = [problem for report in reports for problem in report.problems]
        if damaged or any(report.merged for report in reports):
            summary = compaction_summary(reports)
            record_run(self._context, "compaction", started_at, summary, problems=damaged)
        return [
            report
            for report in reports
            if report.merged or report.problems or report.skipped or report.key_runs
        ]

    def candidates(
        self, *, min_segments: int | None = None, every: bool = False
    ) -> list[TableName]:
        """The tables that may have something to merge: those whose last look says otherwise are left out.

        With ``every`` they are not.
        """
        least = min_segments or self._context.settings.compact_min_segments
        with self._context.database.read() as connection:
            rows = catalog_tables.tables_with_segments(connection, at_least=least)
        return [
            row.name for row in rows if every or self._compacted_versions.get(row.id) != row.version
        ]

    def compact_table(
        self, name: TableName, *, min_segments: int | None = None, purge: bool = False
    ) -> CompactionReport:
        """Merges runs of small segments of one table, one transaction per run.

        Args:
            name: the table.
            min_segments: how many neighbours are worth a merge. If None, as many as the setting says, and of
                these the ones that `parts_worth_merging` names: what runs again and again must not
                write a large segment anew for each few rows.
            purge: write every segment anew that has lost rows, however few; what is still there of
                them in the end, for whatever reason, the report says (`CompactionReport.check_purged`).

        Raises:
            NoSuchTableError: there is no such table.
            StorageError: the store or catalog failed; runs merged before stay merged.
        """
        report, work = self._pass(name, min_segments, purge=purge)
        deadline = time.monotonic() + PURGE_SECONDS
        while purge:
            # Asked of the catalog: whatever kept a segment from being written anew, its rows are there.
            left = self._visible_of(work.table, work.dirty)
            if not left or not left.keys() - work.hopeless or time.monotonic() > deadline:
                return dataclasses.replace(report, unpurged=tuple(left.values()))
            if report.skipped:
                time.sleep(PAUSE_SECONDS)
            more, again = self._pass(name, min_segments, purge=True)
            work.hopeless |= again.hopeless
            report = report.with_more(more)
        return report

    def _visible_of(self, table: TableRow, wanted: Mapping[int, str]) -> dict[int, str]:
        """Which of some segments, keys by ids, the newest version of a table still shows."""
        with self._context.database.read() as connection:
            now = catalog_tables.table_by_id(connection, table.id)
            if not wanted or now is None or now.dropped_at is not None:
                return {}
            visible = {row.id for row in visible_segments(connection, now.id, now.version)}
        return {number: key for number, key in wanted.items() if number in visible}

    def _pass(
        self, name: TableName, min_segments: int | None, *, purge: bool
    ) -> tuple[CompactionReport, _Work]:
        """Looks at the newest version, and does what is to be done about it."""
        context = self._context
        with context.database.read() as connection:
            table = catalog_tables.get_table(connection, name)
            segments = visible_segments(connection, table.id, table.version)
            deletions = visible_deletions(connection, table.id, table.version)
            merged_runs = merged_runs_of(connection, table.id) if table.keyed else []
        snapshot = Snapshot.of(segments, deletions, self._vector)
        runs = list(_runs(snapshot, context, min_segments, purge=purge))
        planned = {snapshot.segments[index].id for run in runs for index in run}
        dirty = {row.id: row.key for row in map(snapshot.segments.__getitem__, snapshot.selections)}
        work = _Work(table, snapshot, dirty, hopeless=dirty.keys() - planned)
        folds = _folds(deletions, {row.id: row for row in segments if row.id not in planned})
        unusable = unusable_runs(context, merged_runs, prove=purge)
        key_runs = table.keyed and bool(
            runs or runs_to_merge(segments, merged_runs, unusable, purge=purge)
        )
        if not runs and not folds and not key_runs:
            if min_segments is None:
                self._compacted_versions[table.id] = table.version
            return CompactionReport(name), work
        with hold_lease(context, f"compact-{table.id}") as lease:
            if lease is None:
                skipped = "another process is compacting this table"
                return CompactionReport(name, skipped=skipped), work
            for run in runs:
                if not self._merge_run(work, run, lease) and purge and len(run) > 1:
                    # One of them may be damaged, or have gone: the rows of the others have to go all the same.
                    for index in run:
                        if _purges(snapshot, index, every=True):
                            self._merge_run(work, [index], lease)
            for row, result in folds:
                self._fold(table, row, result, lease)
            joined = 0
            if key_runs:
                joined = self._merge_key_runs(table, lease, work.damaged, purge=purge)
        damaged = tuple(dict.fromkeys(work.damaged))
        report = CompactionReport(
            name, work.merged, work.made, work.bytes, damaged, key_runs=joined
        )
        return report, work

    def _merge_run(self, work: _Work, run: Sequence[int], lease: HeldLease) -> bool:
        """Merges a run, or notes that it is damaged; whether another segment has its rows now."""
        rows = [work.snapshot.segments[index] for index in run]
        try:
            length = self._merge(work.table, work.snapshot, run, lease)
        except CorruptObjectError as error:
            # Merging would give damaged bytes a valid checksum. `verify` tells more.
            work.damaged.append(error.key or rows[0].key)
            if len(run) == 1:
                work.hopeless.add(rows[0].id)
            return False
        if length:
            work.merged, work.made = work.merged + len(run), work.made + 1
            work.bytes += length
        return bool(length)

    def _merge_key_runs(
        self, table: TableRow, lease: HeldLease, damaged: list[str], *, purge: bool
    ) -> int:
        """Merges key runs of the segments that there are now; of how many segments."""
        context = self._context
        with context.database.read() as connection:
            now = catalog_tables.table_by_id(connection, table.id)
            if now is None or now.dropped_at is not None:
                return 0
            segments = visible_segments(connection, now.id, now.version)
            merged = merged_runs_of(connection, now.id)
        unusable = unusable_runs(context, merged, prove=purge)
        joined = 0
        for plan in runs_to_merge(segments, merged, unusable, purge=purge):
            try:
                joined += merge_runs(context, table, plan, lease)
            except CorruptObjectError as error:
                damaged.append(error.key or table.name.name)
        return joined

    def _vector(self, deletion_id: int) -> bytes | None:
        with self._context.database.read() as connection:
            return read_vector(connection, deletion_id)

    def _fold(
        self, table: TableRow, row: SegmentRow, result: Sequence[DeletionRow], lease: HeldLease
    ) -> None:
        """Puts one deletion in the place of several, unless one of them has gone meanwhile."""
        context = self._context
        with context.database.write() as connection:
            lease.check(connection)
            current = catalog_tables.table_by_id(connection, table.id, lock=True)
            if current is None or current.dropped_at is not None:
                return
            now = deletions_of(connection, [row.id]).get(row.id, [])
            if not {each.id for each in result} <= {each.id for each in now}:
                return
            publication = Publication(
                connection, current, "fold", now=context.clock(), data_change=False
            )
            publication.fold(result, row.batch_index)
            publication.commit()

    def _merge(
        self, table: TableRow, snapshot: Snapshot, run: Sequence[int], lease: HeldLease
    ) -> int:
        """Merges a run; the new segment's bytes, or 0 if something of the run was removed meanwhile."""
        context = self._context
        store = context.store
        rows = [snapshot.segments[index] for index in run]
        with context.database.read() as connection:
            history = catalog_tables.schema_history(connection, table.id)
        schema_message = history[rows[0].schema_version].arrow_schema
        schema = pa.ipc.read_schema(pa.py_buffer(schema_message))
        key = f"tables/{table.id}/{store.writer}-{secrets.token_hex(6)}-c.arrow"
        statistics = StatisticsBuilder(schema)
        writer = SegmentWriter(
            context.create_object(key),
            schema_message,
            partition=rows[0].partition,
            schema_version=rows[0].schema_version,
            statistics=statistics,
        )
        try:
            copy = SegmentCopy(context, snapshot, schema, writer)
            kept = [copy.segment(index) for index in run]
            run_bytes = self._key_run(snapshot, run, kept) if table.keyed else None
            segment = writer.complete(run_bytes)
            writer.commit()
        except BaseException:
            writer.abort()
            raise
        purged = any(index in snapshot.selections for index in run)
        packs = self._packs(table, schema, key) if purged else None
        faultpoints.reach("compact.written")
        with context.recording([key]) as connection:
            lease.check(connection)
            current = catalog_tables.table_by_id(connection, table.id, lock=True)
            replaced = (
                current is not None
                and current.dropped_at is None
                and replace_segments(
                    connection,
                    current,
                    [row.id for row in rows],
                    segment,
                    kept=kept,
                    read_version=table.version,
                    now=context.clock(),
                )
            )
            if replaced and packs is None:
                copy_links(connection, [row.key for row in rows], key)
            elif replaced and packs:
                link_segments(connection, table.id, [key], packs)
            faultpoints.reach("compact.remapped")
        faultpoints.reach("compact.done")
        if not replaced:
            context.delete_objects([key])
            return 0
        return segment.length

    def _packs(self, table: TableRow, schema: pa.Schema, key: str) -> frozenset[str] | None:
        """The packs that the rows of a new segment refer to; None for those of the old ones.

        Blobs of rows that were left out are free once no older version needs them.
        """
        checker = None if self._cell_checker is None else self._cell_checker(table, schema)
        if checker is None:
            return None
        stored = self._context.store.open(key)
        try:
            with pa.ipc.open_file(pa.py_buffer(stored.view(0, stored.length))) as file:
                for number in range(file.num_record_batches):
                    checker.check_batch(file.get_batch(number), schema)
        except InvalidArgumentError:
            return None  # a reference that this server's key does not prove: keep what was kept
        finally:
            stored.close()
        return checker.packs

    def _key_run(self, snapshot: Snapshot, run: Sequence[int], kept: Sequence[int]) -> bytearray:
        """The key run of a merged segment, from those of the segments that it replaces."""
        numbers: list[NDArray[np.uint64]] = []
        rows: list[NDArray[np.int64]] = []
        base = 0
        for index, count in zip(run, kept, strict=True):
            old = open_run(self._context.store, snapshot.segments[index]).all()
            indices = old.rows.astype(np.int64)
            mine = old.numbers
            selection = snapshot.selections.get(index)
            if selection is not None:
                shown = np.frombuffer(selection.rows().to_array(), dtype=np.uint32)
                rank = np.searchsorted(shown, old.rows)
                there = rank < len(shown)
                there[there] = shown[rank[there]] == old.rows[there]
                indices, mine = rank[there], mine[there]
            numbers.append(mine)
            rows.append(indices + base)
            base += count
        return encode_run(np.concatenate(numbers), np.concatenate(rows).astype(np.uint32))


def _folds(
    deletions: Sequence[DeletionRow], segments: Mapping[int, SegmentRow]
) -> list[tuple[SegmentRow, list[DeletionRow]]]:
    """The segments that have many deletions."""
    result: dict[int, list[DeletionRow]] = {}
    for deletion in deletions:
        if deletion.segment_id in segments:
            result.setdefault(deletion.segment_id, []).append(deletion)
    return [(segments[key], rows) for key, rows in result.items() if len(rows) > FOLD_DELETIONS]


def parts_worth_merging(lengths: Sequence[int], min_segments: int) -> Iterator[range]:
    """Which of small neighbours upkeep merges, so that what it writes does not grow with what is there.

    A segment that is larger than its neighbours together would be written anew for the sake of a few
    bytes, and again after the next ones: it stays, and they are looked at without it. So each merge at least
    doubles the segment that a byte is in, and a byte is written as often as the target can be halved until it
    is as small as what was appended; each size has fewer than ``min_segments`` segments that wait for more.

    Args:
        lengths: bytes of each segment, in the order of rows.
        min_segments: how many neighbours are worth a merge.

    Yields:
        Positions of neighbours to merge.
    """
    if len(lengths) < min_segments:
        return
    largest = max(range(len(lengths)), key=lengths.__getitem__)
    if 2 * lengths[largest] <= sum(lengths):
        yield range(len(lengths))
        return
    yield from parts_worth_merging(lengths[:largest], min_segments)
    for part in parts_worth_merging(lengths[largest + 1 :], min_segments):
        yield range(part.start + largest + 1, part.stop + largest + 1)


def _runs(
    snapshot: Snapshot, context: EngineContext, min_segments: int | None, *, purge: bool
) -> Iterator[list[int]]:
    """Neighbours in one partition, each small, together below the target; and what is to be purged.

    Args:
        snapshot: of the table.
        context: the engine's.
        min_segments: how many neighbours are worth a merge: if None as many as the setting says, and not
            those that `parts_worth_merging` leaves alone.
        purge: see `Compactor.compact_table`.

    Yields indices of segments in the snapshot.
    """
    settings = context.settings
    run: list[int] = []
    size = 0

    def ended() -> Iterator[list[int]]:
        parts: Iterable[range]
        if min_segments is None:
            lengths = [snapshot.segments[index].length for index in run]
            parts = parts_worth_merging(lengths, settings.compact_min_segments)
        else:
            parts = [range(len(run))] if len(run) >= min_segments else []
        left = set(run)
        for part in parts:
            merged = [run[number] for number in part]
            left.difference_update(merged)
            yield merged
        yield from (
            [index] for index in run if index in left and _purges(snapshot, index, every=purge)
        )

    for index, row in enumerate(snapshot.segments):
        small = row.length < settings.compact_segment_bytes and not row.dictionary_index
        last = snapshot.segments[run[-1]] if run else None
        fits = last is None or (
            row.partition == last.partition
            and row.schema_version == last.schema_version
            and size + row.length <= settings.compact_target_bytes
        )
        if run and not (small and fits):
            yield from ended()
            run, size = [], 0
        if small:
            run.append(index)
            size += row.length
        elif _purges(snapshot, index, every=purge):
            yield [index]
    yield from ended()


def _purges(snapshot: Snapshot, index: int, *, every: bool) -> bool:
    """Whether a segment has lost so much that it is to be written anew."""
    selection = snapshot.selections.get(index)
    if selection is None:
        return False
    row = snapshot.segments[index]
    if row.dictionary_index and row.length > MAX_UNIFIED_BYTES:
        return False
    first, end = snapshot.batches_of(index)
    dirty = int(np.count_nonzero(snapshot.dirty(first, end)))
    gone = row.rows - int(selection.counts.sum())
    return bool(dirty) and (
        every or gone >= PURGE_ROWS_SHARE * row.rows or dirty >= PURGE_BATCHES_SHARE * (end - first)
    )
