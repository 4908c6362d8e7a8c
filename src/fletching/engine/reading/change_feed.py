"""The change feed: which rows came and went in each version, as a snapshot of their own.

Every version that changed data has its change set: of each segment that it touched, the rows that it
shows and the version before did not (inserts), and those that went (deletes). The feed is their
concatenation: versions in order, in each first what went, then what came. Versions that moved rows
without changing them (compaction, folding) are passed over, so

    rows of a version + its changes up to another = rows of the other.

The rows are read from the segments where they lie: a version that added a segment is sent as stored.
More columns come with them, as partition columns do: constants of a segment's part.

Incremental reads in the protocol's own form are scans of the feed. A client gives a mode and two versions
or moments; the changes of the versions above the first, up to the second, are read. In mode ``cdc`` each
row says in ``__meta_op_type`` what became of it; in mode ``append`` there are only the rows that came, new
or updated, as the table has them.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
import secrets
from collections import defaultdict
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap
from sqlalchemy import Connection

from fletching.catalog.deletion_rows import (
    DeletionRow,
    TouchedSegment,
    bitmap_of,
    decode_vector,
    touched_segments,
)
from fletching.catalog.segment_rows import SegmentRow, decode_partition
from fletching.catalog.table_rows import TableRow, table_by_id
from fletching.catalog.version_rows import VersionRow, last_version_before, versions_between
from fletching.engine.changes.key_columns import KeyColumns
from fletching.engine.changes.key_values import key_numbers
from fletching.engine.reading.output_schema import PartitionFilter, TableColumns
from fletching.engine.reading.shown_rows import LoadVector, OnlyRows, RowSelection
from fletching.engine.reading.snapshot import Snapshot
from fletching.errors import CorruptObjectError, InvalidArgumentError
from fletching.objects.store import ObjectStore
from fletching.protocol.messages.requests import CreateReadSession
from fletching.types import PartitionSpec

__all__ = [
    "ADDED_COLUMNS",
    "CHANGE_COLUMNS",
    "begin_incremental",
    "changes_between",
    "choose_incremental",
    "is_incremental",
]

CHANGE_COLUMNS = (
    ("_change_type", "STRING"),
    ("_commit_version", "BIGINT"),
    ("_commit_timestamp", "TIMESTAMP"),
)
"""What the feed's rows have beside the table's columns; the names are Delta Lake's."""

OPERATION_COLUMN = ("__meta_op_type", "TINYINT")
"""What they have in incremental reads of the protocol's form, there alone."""

ADDED_COLUMNS = (*CHANGE_COLUMNS, OPERATION_COLUMN)
"""All of these, in the order in which they stand behind a table's partition columns."""

_Entry = tuple[SegmentRow, tuple[str, ...], RowSelection | None]


def changes_between(
    connection: Connection,
    store: ObjectStore,
    table_id: str,
    versions: tuple[int, int],
    wanted: PartitionFilter,
    *,
    load: LoadVector,
) -> Snapshot:
    """The changes of the versions above the first of two, up to the second.

    Args:
        connection: a transaction in which the versions are pinned.
        store: where its segments are.
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
    table = table_by_id(connection, table_id)
    keys = None
    if table is not None and table.keyed:
        keys = KeyColumns(store, connection, table)
    entries: list[_Entry] = []
    for row in rows:
        if row.data_change:
            result = list(by_version.get(row.version, {}).values())
            parts = _updates_apart(keys, row, _parts_of(row, result, load))
            entries += _entries(row, parts, wanted)
    return Snapshot.listed(entries)


@dataclasses.dataclass(frozen=True, slots=True)
class _Part:
    """Rows of a segment that came or went in a version."""

    segment: SegmentRow
    kind: str
    rows: BitMap


_INSERT, _DELETE = "insert", "delete"
_BEFORE, _AFTER = "update_preimage", "update_postimage"
_OPERATIONS = {_INSERT: "2", _DELETE: "4", _BEFORE: "16", _AFTER: "32"}


def _parts_of(version: VersionRow, touched: list[TouchedSegment], load: LoadVector) -> list[_Part]:
    """What went, then what came, each in the order of rows."""
    gone: list[_Part] = []
    came: list[_Part] = []
    touched.sort(key=lambda each: (decode_partition(each.row.partition), each.row.position))
    for segment in touched:
        before = _shown(segment, version.version - 1, load)
        after = _shown(segment, version.version, load)
        gone.append(_Part(segment.row, _DELETE, before - after))
        came.append(_Part(segment.row, _INSERT, after - before))
    return [part for part in (*gone, *came) if part.rows]


def _updates_apart(keys: KeyColumns | None, version: VersionRow, parts: list[_Part]) -> list[_Part]:
    """In a table with a key: rows that went and came under one key are two sides of an update."""
    if keys is None or not version.rows_updated:
        return parts
    if not version.rows_inserted and not version.rows_deleted:
        return [
            dataclasses.replace(part, kind=_BEFORE if part.kind == _DELETE else _AFTER)
            for part in parts
        ]
    # It does not matter which seed this is: the numbers are compared here and now, and with nothing else.
    seed = secrets.token_bytes(16)
    numbers: list[tuple[_Part, NDArray[np.uint32], NDArray[np.uint64]]] = []
    seen: dict[tuple[str, str], list[NDArray[np.uint64]]] = defaultdict(list)
    for part in parts:
        rows = np.frombuffer(part.rows.to_array(), dtype=np.uint32)
        result = key_numbers(keys.columns(part.segment, rows), seed)
        numbers.append((part, rows, result))
        seen[part.segment.partition, part.kind].append(result)
    apart: list[_Part] = []
    for part, rows, result in numbers:
        other = _INSERT if part.kind == _DELETE else _DELETE
        there = seen.get((part.segment.partition, other))
        both = np.isin(result, np.concatenate(there)) if there else np.zeros(len(rows), dtype=bool)
        update = _BEFORE if part.kind == _DELETE else _AFTER
        apart.append(dataclasses.replace(part, rows=bitmap_of(rows[~both])))
        apart.append(dataclasses.replace(part, kind=update, rows=bitmap_of(rows[both])))
    return [part for part in apart if part.rows]


def _entries(version: VersionRow, parts: list[_Part], wanted: PartitionFilter) -> list[_Entry]:
    entries: list[_Entry] = []
    for part in parts:
        values = (*decode_partition(part.segment.partition), *_constants(part.kind, version))
        if wanted.matches(values):
            entries.append((part.segment, values, _selection(part.segment, part.rows)))
    return entries


def _constants(kind: str, version: VersionRow) -> tuple[str, str, str, str]:
    moment = dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(microseconds=version.committed_us)
    committed = moment.strftime("%Y-%m-%d %H:%M:%S.%f")
    return kind, str(version.version), committed, _OPERATIONS[kind]


def _selection(segment: SegmentRow, rows: BitMap) -> RowSelection | None:
    if len(rows) == segment.rows:
        return None
    index = np.frombuffer(segment.batch_index, "<i8").reshape(-1, 4)
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


_MODES = ("append", "cdc")
_UNSET = -1
_CAME = ("insert", "update_postimage")
_NUMBER = re.compile(r"-?\d{1,19}")


def is_incremental(request: CreateReadSession) -> bool:
    """Whether a request asks for changes in the protocol's form, not by our extension fields."""
    options = request.incremental_options
    asked = request.incremental or (options is not None and options.enabled)
    return asked and request.since_version is None


def begin_incremental(
    connection: Connection, table: TableRow, request: CreateReadSession
) -> CreateReadSession:
    """An incremental request as one for the versions that it means; others as they are.

    Raises:
        InvalidArgumentError: a mode that is unknown, or a boundary that is neither a version nor a
            moment.
    """
    if not is_incremental(request):
        return request
    options = request.incremental_options
    if options is None:
        raise InvalidArgumentError("an incremental read needs the version that it begins after")
    if _mode(request) not in _MODES:
        raise InvalidArgumentError(
            f"{options.mode[:100]!r} is no mode of incremental reads: take {' or '.join(_MODES)}"
        )
    since = _version(connection, table, options.begin, "From")
    until = _version(connection, table, options.end, "To")
    if until == 0 and options.end not in {0, "0"}:
        raise InvalidArgumentError(f"table {table.name} did not exist at {options.end!r}")
    return msgspec.structs.replace(request, since_version=since or 0, version=until)


def choose_incremental(
    original: CreateReadSession, request: CreateReadSession, columns: TableColumns
) -> CreateReadSession:
    """Gives an incremental request the columns and rows of its mode.

    Args:
        original: as it came.
        request: as `begin_incremental` made it.
        columns: the table's, at the version that the changes end with.
    """
    if not is_incremental(original):
        return request
    data, partition = request.required_data_columns, request.required_partition_columns
    if not data and not partition:
        data = tuple(columns.data.names)
        partition = tuple(name for name, _ in columns.partition)
    wanted = request.required_partitions
    if _mode(original) == "cdc":
        partition = (*partition, OPERATION_COLUMN[0])
    else:
        kind = CHANGE_COLUMNS[0][0]
        wanted = tuple(
            PartitionSpec((*spec.items, (kind, value)))
            for spec in wanted or (PartitionSpec(),)
            for value in _CAME
        )
    return msgspec.structs.replace(
        request,
        required_data_columns=data,
        required_partition_columns=partition,
        required_partitions=wanted,
    )


def _mode(request: CreateReadSession) -> str:
    options = request.incremental_options
    return "append" if options is None or not options.mode else options.mode.casefold()


def _version(
    connection: Connection, table: TableRow, boundary: int | str | None, name: str
) -> int | None:
    """The version that a boundary means; None if it is not set, 0 for what was before the table."""
    if boundary is None:
        return None
    if isinstance(boundary, int) or _NUMBER.fullmatch(boundary):
        number = int(boundary)
        if number == _UNSET:
            return None
        if number < 0:
            raise InvalidArgumentError(f"{name} is {number}, which is no version")
        return number
    try:
        moment = dt.datetime.fromisoformat(boundary)
    except ValueError:
        raise InvalidArgumentError(
            f"{name} is {boundary[:100]!r}; expected a version's number, or a moment such as "
            "2026-01-31 12:00:00 or 2026-01-31T12:00:00+02:00"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    since_epoch = moment - dt.datetime.fromtimestamp(0, dt.UTC)
    microseconds = since_epoch // dt.timedelta(microseconds=1)
    return last_version_before(connection, table.id, microseconds) or 0
