"""What planners ask of an open session: the sizes of its splits, its partitions, what its columns hold.

All of it comes from the catalog: no segment is opened. Splits and partitions are counted in rows that are
shown; what is known of columns is of their segments, deleted rows included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fletching.engine.reading.scan_schema import ScanSchema
from fletching.engine.reading.snapshot import Snapshot
from fletching.engine.reading.splits import Splits
from fletching.engine.tables.statistics import (
    ColumnStatistics,
    column_key,
    few_values,
    read_statistics,
)
from fletching.protocol.messages.session_details import (
    ColumnDetails,
    PartitionDetails,
    SessionDetails,
)
from fletching.sql.predicates.bounds import Physical

__all__ = ["session_details"]


def session_details(
    snapshot: Snapshot,
    *,
    splits: Splits | None = None,
    total_bytes: int = 0,
    partition_columns: Sequence[str] | None = None,
    scan_schema: ScanSchema | None = None,
) -> SessionDetails:
    """What is asked of a session.

    Args:
        snapshot: the session's.
        splits: for the rows of each of them, and about how many bytes these are.
        total_bytes: of all of them, as the session says it.
        partition_columns: for the rows of each partition, in the order of the rows; names of the table's
            own, behind which a change feed has others.
        scan_schema: for what the statistics of the segments say of the session's columns. Those of every
            segment are parsed, some microseconds for each and its columns.
    """
    starts = None if splits is None else splits.starts(snapshot)
    stored_rows = int(np.asarray(snapshot.stored_rows).sum()) if snapshot.has_deletions else 0
    return SessionDetails(
        split_rows=None if starts is None else _lengths(starts),
        split_bytes=None
        if starts is None
        else _lengths(_bytes_before(snapshot, starts, total_bytes)),
        partition_columns=tuple(partition_columns or ()),
        partitions=None
        if partition_columns is None
        else _partitions(snapshot, len(partition_columns)),
        columns=None if scan_schema is None else _columns(snapshot, scan_schema),
        deleted_rows=max(stored_rows - snapshot.row_count, 0),
    )


def _lengths(bounds: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(np.diff(bounds).tolist())


def _bytes_before(
    snapshot: Snapshot, rows: NDArray[np.int64], total_bytes: int
) -> NDArray[np.int64]:
    """Which part of all bytes lies before some rows, of which the last is the number of rows.

    A part of the messages' bytes, of which inside a batch every row has as many.
    """
    if not snapshot.row_count:
        return np.zeros(len(rows), dtype=np.int64)
    batches = np.minimum(
        snapshot.row_start.searchsorted_all(rows, "right") - 1, snapshot.batch_count - 1
    )
    inside = rows - snapshot.row_start.take(batches)
    part = inside / np.maximum(snapshot.rows.take(batches), 1)
    before = snapshot.byte_start.take(batches) + snapshot.message_length.take(batches) * part
    before -= before[0]
    return np.round(before * (total_bytes / max(before[-1], 1.0))).astype(np.int64)


def _partitions(snapshot: Snapshot, columns: int) -> tuple[PartitionDetails, ...]:
    """The partitions that have rows, of which the first so many columns are told."""
    owners = np.asarray(snapshot.segment_partition)
    firsts = np.flatnonzero(np.diff(owners, prepend=-1))
    rows = _lengths(_first_rows(snapshot, np.append(firsts, len(owners))))
    return tuple(
        PartitionDetails(values=snapshot.partitions[owner][:columns], rows=count)
        for owner, count in zip(owners[firsts].tolist(), rows, strict=True)
        if count
    )


def _first_rows(snapshot: Snapshot, segments: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first row of each of some segments."""
    batches = snapshot.batch_segment.searchsorted_all(segments, "left")
    return snapshot.row_start.take(batches)


def _columns(snapshot: Snapshot, scan_schema: ScanSchema) -> tuple[ColumnDetails, ...]:
    bounds = _first_rows(snapshot, np.arange(len(snapshot.segments) + 1))
    shown = np.diff(bounds).tolist()
    projection = scan_schema.projection
    known = [_Known(output.stored) for output in projection.outputs]
    data = len(scan_schema.columns.data)
    for segment, rows in zip(snapshot.segments, shown, strict=True):
        if not rows:
            continue
        stored = projection.stored(segment.schema_version)
        recorded = read_statistics(segment.statistics)
        for output, source, column in zip(projection.outputs, stored.source, known, strict=True):
            if output.index >= data:
                continue
            if source is None:
                # The column is younger than the segment: its rows are null.
                column.add_nulls(segment.rows)
                continue
            field = stored.schema.field(source)
            both_whole = pa.types.is_integer(field.type) and pa.types.is_integer(output.stored.type)
            same = field.type == output.stored.type or both_whole
            column.add_recorded(recorded if same else {}, (field.name,))
    for output, column in zip(projection.outputs, known, strict=True):
        if output.index >= data:
            column.add(_of_partitions(snapshot, shown, output.index - data, output.stored.type))
    return tuple(
        column.details(output.field.name)
        for output, column in zip(projection.outputs, known, strict=True)
    )


def _of_partitions(
    snapshot: Snapshot, shown: Sequence[int], index: int, data_type: pa.DataType
) -> ColumnStatistics | None:
    """What is known of a partition column, by the partitions that have rows."""
    owners = zip(np.asarray(snapshot.segment_partition).tolist(), shown, strict=True)
    values = {snapshot.partitions[owner][index] for owner, rows in owners if rows}
    try:
        return few_values(pa.array(sorted(values), pa.string()).cast(data_type))
    except pa.ArrowInvalid:
        return None


class _Known:
    """What is known of a column, or of a field of a struct, segment by segment."""

    def __init__(self, field: pa.Field) -> None:
        self._is_floating = pa.types.is_floating(field.type)
        names = [each.name for each in field.type] if pa.types.is_struct(field.type) else []
        # Of two fields of one name there is one record.
        self._fields = [
            (each.name, _Known(each))
            for each in (field.type if names else ())
            if names.count(each.name) == 1
        ]
        self._lower: Physical | None = None
        self._upper: Physical | None = None
        self._bounded_below = self._bounded_above = True
        self._nulls: int | None = 0
        self._has_nan = False

    def add_recorded(self, recorded: Mapping[str, ColumnStatistics], path: tuple[str, ...]) -> None:
        """Takes the rows of a segment into account, by what it has recorded under a path."""
        self.add(recorded.get(column_key(path)))
        for name, field in self._fields:
            field.add_recorded(recorded, (*path, name))

    def add_nulls(self, rows: int) -> None:
        """Takes rows into account that are all null."""
        self.add(ColumnStatistics(nulls=True, null_count=rows))
        for _, field in self._fields:
            field.add_nulls(rows)

    def add(self, recorded: ColumnStatistics | None) -> None:
        """Takes rows into account; None if nothing is recorded of the column there."""
        if recorded is None:
            recorded = ColumnStatistics(nulls=True, values=True, unordered=self._is_floating)
        counted = recorded.null_count if recorded.nulls else 0
        self._nulls = None if self._nulls is None or counted is None else self._nulls + counted
        self._has_nan |= recorded.unordered
        if not recorded.values:
            return
        lower, upper = recorded.lower, recorded.upper
        if lower is None:
            self._bounded_below = False
        else:
            self._lower = lower if self._lower is None else min(self._lower, lower)
        if upper is None:
            self._bounded_above = False
        else:
            self._upper = upper if self._upper is None else max(self._upper, upper)

    def details(self, name: str) -> ColumnDetails:
        lower = self._lower if self._bounded_below else None
        upper = self._upper if self._bounded_above else None
        # As they were recorded.
        assert lower is None or isinstance(lower, bool | int | float | str)
        assert upper is None or isinstance(upper, bool | int | float | str)
        return ColumnDetails(
            name=name,
            lower=lower,
            upper=upper,
            null_count=self._nulls,
            has_nan=self._has_nan,
            fields=tuple(field.details(each) for each, field in self._fields),
        )
