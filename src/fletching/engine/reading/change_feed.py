"""The change feed: which rows came and went in each version, as a snapshot of their own.

Every version that changed data has its change set: of each segment that it touched, the rows that it
shows and the version before did not (inserts), and those that went (deletes). The feed is their
concatenation: versions in order, in each first what went, then what came. Versions that moved rows
without changing them (compaction, folding) are passed over, so

    rows of a version + its changes up to another = rows of the other.

The rows are read from the segments where they lie: a version that added a segment is sent as stored.
Three columns come with them, as partition columns do: constants of a segment's part.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from pyroaring import BitMap
from sqlalchemy import Connection

from fletching.catalog.deletion_rows import DeletionRow, decode_vector
from fletching.catalog.segment_rows import SegmentRow, decode_partition
from fletching.catalog.touched_rows import TouchedSegment, touched_segments
from fletching.catalog.version_rows import VersionRow, versions_between
from fletching.engine.reading.partition_filter import PartitionFilter
from fletching.engine.reading.shown_rows import LoadVector, OnlyRows, RowSelection
from fletching.engine.reading.snapshot import Snapshot
from fletching.errors import CorruptObjectError

__all__ = ["CHANGE_COLUMNS", "changes_between"]

CHANGE_COLUMNS = (
    ("_change_type", "STRING"),
    ("_commit_version", "BIGINT"),
    ("_commit_timestamp", "TIMESTAMP"),
)
"""What the feed's rows have beside the table's columns; the names are Delta Lake's."""

_Entry = tuple[SegmentRow, tuple[str, ...], RowSelection | None]


def changes_between(
    connection: Connection,
    table_id: str,
    versions: tuple[int, int],
    wanted: PartitionFilter,
    load: LoadVector,
) -> Snapshot:
    """The changes of the versions above the first of two, up to the second.

    Args:
        connection: a transaction in which the versions are pinned.
        table_id: the table.
        versions: the version before the first one, and the last one.
        wanted: partitions; with values for the columns of the feed, too.
        load: fetches vectors of deletions.

    Cost: what the versions touched, not what the table has.
    """
    since, until = versions
    rows = versions_between(connection, table_id, since, until)
    touched = touched_segments(connection, table_id, since, until)
    by_version: dict[int, dict[int, TouchedSegment]] = defaultdict(dict)
    for segment in touched:
        for version in segment.versions():
            by_version[version][segment.row.id] = segment
    entries: list[_Entry] = []
    for row in rows:
        if row.data_change:
            entries += _changes_of(row, by_version.get(row.version, {}).values(), wanted, load)
    return Snapshot.listed(entries)


def _changes_of(
    version: VersionRow,
    touched: Iterable[TouchedSegment],
    wanted: PartitionFilter,
    load: LoadVector,
) -> list[_Entry]:
    gone: list[_Entry] = []
    came: list[_Entry] = []
    ordered = sorted(
        touched, key=lambda each: (decode_partition(each.row.partition), each.row.position)
    )
    for segment in ordered:
        before = _shown(segment, version.version - 1, load)
        after = _shown(segment, version.version, load)
        for kind, rows, entries in (
            ("delete", before - after, gone),
            ("insert", after - before, came),
        ):
            values = (*decode_partition(segment.row.partition), *_constants(kind, version))
            if rows and wanted.matches(values):
                entries.append((segment.row, values, _selection(segment.row, rows)))
    return [*gone, *came]


def _constants(kind: str, version: VersionRow) -> tuple[str, str, str]:
    moment = dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(microseconds=version.committed_us)
    return kind, str(version.version), moment.strftime("%Y-%m-%d %H:%M:%S.%f")


def _selection(segment: SegmentRow, rows: BitMap) -> RowSelection | None:
    if len(rows) == segment.rows:
        return None
    index: Any = np.frombuffer(segment.batch_index, "<i8").reshape(-1, 4)
    return OnlyRows(index[:, 3].astype(np.int64), rows)


def _shown(segment: TouchedSegment, version: int, load: LoadVector) -> BitMap:
    """The rows of a segment that a version shows."""
    shown = BitMap()
    if not segment.visible(version):
        return shown
    shown.add_range(0, segment.row.rows)
    return shown - _deleted(segment.deletions, segment.row.key, version, load)


def _deleted(rows: Sequence[DeletionRow], key: str, version: int, load: LoadVector) -> BitMap:
    gone = BitMap()
    for row in rows:
        if row.added_version > version:
            continue
        if row.removed_version is not None and row.removed_version <= version:
            continue
        data = row.vector if row.vector is not None else load(row.id)
        if data is None:
            raise CorruptObjectError("a deletion is gone", key=key)
        gone |= decode_vector(row, data)
    return gone
