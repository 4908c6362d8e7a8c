"""Compaction: neighbouring small segments become one, their messages copied as they are.

The merged segment takes the place of the first one in the order of rows, in a new version with the
same rows; snapshots of earlier versions keep the segments that they have, until retention may
remove them. Segments with dictionaries are left alone, since a file's dictionaries cannot change.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from crc32c import crc32c

from fletching import faultpoints
from fletching.catalog import table_rows as catalog_tables
from fletching.catalog.blob_rows import copy_links
from fletching.catalog.publishing import replace_segments
from fletching.catalog.segment_rows import SegmentRow, visible_segments
from fletching.catalog.table_rows import TableRow
from fletching.engine.context import EngineContext
from fletching.engine.tables.statistics import StatisticsBuilder
from fletching.engine.upkeep.held_lease import HeldLease, hold_lease
from fletching.engine.writing.segment_writer import SegmentWriter
from fletching.errors import CorruptObjectError, FletchingError
from fletching.types import TableName

__all__ = ["CompactionReport", "Compactor"]


@dataclasses.dataclass(frozen=True, slots=True)
class CompactionReport:
    """What a compaction did."""

    table: TableName
    merged: int = 0
    """Segments that were replaced."""
    made: int = 0
    """Segments that replace them."""
    bytes: int = 0
    """Bytes of the segments made."""
    damaged: tuple[str, ...] = ()
    """Keys of segments that were left alone because their bytes are not what was written."""
    skipped: str = ""


class Compactor:
    """Merges small segments. Thread-safe; a lease per table keeps other processes off."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        # Per table the version in which nothing was left to merge: it need not be read again.
        self._settled: dict[str, int] = {}

    def compact_tables(self, *, min_segments: int | None = None) -> list[CompactionReport]:
        """Compacts every table that has something to merge; see ``compact_table``."""
        least = min_segments or self._context.settings.compact_min_segments
        with self._context.database.read() as connection:
            rows = catalog_tables.tables_with_segments(connection, at_least=least)
        reports = [
            self.compact_table(row.name, min_segments=min_segments)
            for row in rows
            if self._settled.get(row.id) != row.version
        ]
        return [report for report in reports if report.merged or report.damaged or report.skipped]

    def compact_table(
        self, name: TableName, *, min_segments: int | None = None
    ) -> CompactionReport:
        """Merges runs of small segments of one table, one transaction per run.

        Args:
            name: the table.
            min_segments: how many neighbours are worth a merge; the setting if None.

        Raises:
            NoSuchTableError: there is no such table.
            StorageError: the store or catalog failed; runs merged before stay merged.
        """
        context = self._context
        with context.database.read() as connection:
            table = catalog_tables.get_table(connection, name)
            rows = visible_segments(connection, table.id, table.version)
        runs = list(_runs(rows, context, min_segments or context.settings.compact_min_segments))
        if not runs:
            if min_segments is None:
                self._settled[table.id] = table.version
            return CompactionReport(name)
        merged = made = size = 0
        damaged: list[str] = []
        with hold_lease(context, f"compact-{table.id}") as lease:
            if lease is None:
                return CompactionReport(name, skipped="another process is compacting this table")
            for run in runs:
                try:
                    length = _merge(context, table, run, lease)
                except CorruptObjectError as error:
                    # Merging would give damaged bytes a valid checksum. `verify` tells more.
                    damaged.append(error.key or run[0].key)
                    continue
                if length:
                    merged, made, size = merged + len(run), made + 1, size + length
        return CompactionReport(name, merged, made, size, tuple(damaged))


def _runs(
    rows: Sequence[SegmentRow], context: EngineContext, min_segments: int
) -> Iterator[list[SegmentRow]]:
    """Neighbours in one partition, each small, together below the target."""
    settings = context.settings
    by_partition: dict[str, list[SegmentRow]] = {}
    for row in rows:
        by_partition.setdefault(row.partition, []).append(row)
    for partition_rows in by_partition.values():
        run: list[SegmentRow] = []
        size = 0
        for row in partition_rows:
            small = row.length < settings.compact_segment_bytes and not row.dictionary_index
            fits = not run or (
                row.schema_version == run[-1].schema_version
                and size + row.length <= settings.compact_target_bytes
            )
            if run and not (small and fits):
                if len(run) >= min_segments:
                    yield run
                run, size = [], 0
            if small:
                run.append(row)
                size += row.length
        if len(run) >= min_segments:
            yield run


def _merge(
    context: EngineContext, table: TableRow, run: Sequence[SegmentRow], lease: HeldLease
) -> int:
    """Merges a run; the new segment's bytes, or 0 if something of the run was removed meanwhile."""
    store = context.store
    with context.database.read() as connection:
        schema_message = catalog_tables.schema_history(connection, table.id)[run[0].schema_version]
    key = f"tables/{table.id}/{store.writer}-{secrets.token_hex(6)}-c.arrow"
    statistics = StatisticsBuilder(pa.ipc.read_schema(pa.py_buffer(schema_message)))
    for row in run:
        statistics.merge(row.statistics)
    writer = SegmentWriter(
        context.create_object(key),
        schema_message,
        partition=run[0].partition,
        schema_version=run[0].schema_version,
        statistics=statistics,
    )
    try:
        for row in run:
            _copy(context, row, writer)
        segment = writer.complete()
        writer.commit()
    except BaseException:
        writer.abort()
        raise
    faultpoints.reach("compact.written")
    replaced = in_transaction = False
    try:
        with context.database.write() as connection:
            lease.check(connection)
            context.check_recordable(connection, [key])
            current = catalog_tables.table_by_id(connection, table.id, lock=True)
            replaced = (
                current is not None
                and current.dropped_at is None
                and replace_segments(
                    connection,
                    current,
                    [row.id for row in run],
                    segment,
                    kept=[row.rows for row in run],
                    read_version=table.version,
                    now=context.clock(),
                )
            )
            if replaced:
                copy_links(connection, [row.key for row in run], key)
            in_transaction = True
    except FletchingError:
        # As in an ingest: if it was the commit that failed, the object may be needed.
        if not in_transaction:
            context.delete_objects([key])
        raise
    faultpoints.reach("compact.done")
    if not replaced:
        context.delete_objects([key])
        return 0
    return segment.length


def _copy(context: EngineContext, row: SegmentRow, writer: SegmentWriter) -> None:
    stored = context.store.open(row.key)
    try:
        if stored.length != row.length:
            raise CorruptObjectError(
                f"segment {row.key} has {stored.length} bytes, not {row.length}", key=row.key
            )
        stored.load(0, stored.length)
        data = stored.view(0, stored.length)
        if crc32c(data) != row.crc32c:
            raise CorruptObjectError(f"segment {row.key} fails its checksum", key=row.key)
        codec = row.codecs or None
        for offset, metadata_length, body_length, rows in (
            np.frombuffer(row.batch_index, "<i8").reshape(-1, 4).tolist()
        ):
            writer.write_batch(
                [data[offset : offset + metadata_length + body_length]],
                metadata_length=metadata_length,
                body_length=body_length,
                rows=rows,
                codec=codec,
            )
    finally:
        stored.close()
