"""Deletions: which rows of a segment went, in which version.

A deletion is an increment: the rows that one version took. It is visible by the segments' own rule,
and disjoint from every other deletion of its segment that is visible in the same version, so that
what is deleted in a version is the union, and a sum of counts is a count.

A vector is a roaring bitmap of row numbers in the segment, in the portable format, in the row: then
it is durable, visible and forgotten with the row, and there is no object to lose. Vectors above
`INLINE_BYTES` are left out where deletions are listed, and fetched one by one when they are needed.

What some versions added, removed, deleted from or gave back to is listed with all its deletions.
"""

from __future__ import annotations

import array
import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray
from pyroaring import BitMap
from sqlalchemy import Connection, and_, case, func, insert, or_, select, true, update

from fletching.catalog.parameter_chunks import chunks
from fletching.catalog.schema import deletions, segments
from fletching.catalog.segment_rows import SEGMENT_COLUMNS, SegmentRow
from fletching.errors import CorruptObjectError, LimitExceededError

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

__all__ = [
    "INLINE_BYTES",
    "MAX_SEGMENT_ROWS",
    "DeletionRow",
    "TouchedSegment",
    "all_deletions_of",
    "batch_counts",
    "bitmap_of",
    "decode_vector",
    "deleted_by_partition",
    "deleted_counts",
    "deleted_rows",
    "deletions_of",
    "every_deletion",
    "insert_deletions",
    "read_vector",
    "remove_deletions",
    "touched_segments",
    "visible_deletions",
]

INLINE_BYTES = 16 << 10
"""Vectors up to this size come with the list of deletions."""

MAX_SEGMENT_ROWS = 1 << 32
"""Rows of a segment that a vector can name."""


class DeletionRow(NamedTuple):
    """A deletion of one segment."""

    id: int
    segment_id: int
    segment_key: str
    rows: int
    batch_counts: bytes
    vector: bytes | None
    """The bitmap; None if it is large: `read_vector` fetches it."""
    crc32c: int
    added_version: int
    removed_version: int | None


_VECTOR = case((func.length(deletions.c.vector) <= INLINE_BYTES, deletions.c.vector), else_=None)
_COLUMNS = [
    _VECTOR.label("vector") if name == "vector" else deletions.c[name]
    for name in DeletionRow._fields
]


def _visible(version: int) -> ColumnElement[bool]:
    return and_(
        deletions.c.added_version <= version,
        or_(deletions.c.removed_version.is_(None), deletions.c.removed_version > version),
    )


def visible_deletions(connection: Connection, table_id: str, version: int) -> list[DeletionRow]:
    """The deletions of a snapshot, those of segments that are gone in it included.

    Cost: one query over the table's deletions; nothing is decoded.
    """
    statement = select(*_COLUMNS).where(deletions.c.table_id == table_id, _visible(version))
    result = connection.execute(statement).cursor.fetchall()
    return list(map(DeletionRow._make, result))


def deletions_of(
    connection: Connection,
    segment_ids: Collection[int],
    version: int | None = None,
    *,
    after: int = 0,
) -> dict[int, list[DeletionRow]]:
    """The deletions of some segments that are visible in a version, None for the newest.

    Args:
        connection: to the catalog.
        segment_ids: the segments.
        version: the version.
        after: leave out those that this version and earlier ones added.
    """
    shown = deletions.c.removed_version.is_(None) if version is None else _visible(version)
    return _of_segments(connection, segment_ids, shown & (deletions.c.added_version > after))


def deleted_counts(connection: Connection, segment_ids: Collection[int]) -> Counter[int]:
    """How many rows of some segments are deleted in the newest version; reads no vector."""
    result: Counter[int] = Counter()
    for chunk in chunks(sorted(segment_ids)):
        statement = (
            select(deletions.c.segment_id, func.sum(deletions.c.rows))
            .where(deletions.c.segment_id.in_(chunk), deletions.c.removed_version.is_(None))
            .group_by(deletions.c.segment_id)
        )
        for number, count in connection.execute(statement):
            result[number] = int(count)
    return result


def all_deletions_of(
    connection: Connection, segment_ids: Collection[int]
) -> dict[int, list[DeletionRow]]:
    """The deletions of some segments, visible or not."""
    return _of_segments(connection, segment_ids, true())


def every_deletion(connection: Connection) -> Iterator[tuple[int, DeletionRow]]:
    """All deletions of all tables, with their segments' ids."""
    for row in connection.execute(select(*_COLUMNS).order_by(deletions.c.id)):
        result = DeletionRow._make(row)
        yield result.segment_id, result


def _of_segments(
    connection: Connection, segment_ids: Collection[int], condition: ColumnElement[bool]
) -> dict[int, list[DeletionRow]]:
    result: dict[int, list[DeletionRow]] = {}
    ids = sorted(segment_ids)
    for chunk in chunks(ids):
        statement = select(*_COLUMNS).where(deletions.c.segment_id.in_(chunk), condition)
        # Without a row of SQLAlchemy's in between, which takes as long as the query.
        for row in map(DeletionRow._make, connection.execute(statement).cursor.fetchall()):
            result.setdefault(row.segment_id, []).append(row)
    return result


def read_vector(connection: Connection, deletion_id: int) -> bytes | None:
    """The vector of a deletion; None if the deletion is forgotten."""
    data = connection.execute(
        select(deletions.c.vector).where(deletions.c.id == deletion_id)
    ).scalar()
    return None if data is None else bytes(data)


def decode_vector(row: DeletionRow, data: bytes) -> BitMap:
    """The bitmap in a deletion's vector.

    Raises:
        CorruptObjectError: it is not what was recorded. A deletion that cannot be read is never
            taken for none.
    """
    if crc32c(data) != row.crc32c:
        raise CorruptObjectError(f"the deletion {row.id} fails its checksum", key=row.segment_key)
    try:
        bitmap = BitMap.deserialize(bytes(data))
    except (ValueError, RuntimeError, TypeError) as error:
        raise CorruptObjectError(
            f"the deletion {row.id} does not decode: {error}", key=row.segment_key
        ) from error
    if len(bitmap) != row.rows:
        raise CorruptObjectError(
            f"the deletion {row.id} names {len(bitmap)} rows where {row.rows} are recorded",
            key=row.segment_key,
        )
    return bitmap


def deleted_rows(connection: Connection, rows: Iterable[DeletionRow]) -> BitMap:
    """The union of deletions of one segment.

    Raises:
        CorruptObjectError: one cannot be read, or two name the same row.
    """
    union = BitMap()
    total = 0
    for row in rows:
        data = row.vector if row.vector is not None else read_vector(connection, row.id)
        if data is None:
            raise CorruptObjectError("a deletion is gone", key=row.segment_key)
        union |= decode_vector(row, data)
        total += row.rows
    if len(union) != total:
        raise CorruptObjectError("two deletions name the same row")
    return union


def bitmap_of(rows: NDArray[np.integer]) -> BitMap:
    """The bitmap that names some rows, which are in any order.

    A bitmap of numpy's numbers takes them one by one, eight times as long as to copy them.
    """
    return BitMap(array.array("I", rows.astype(np.uint32, copy=False).tobytes()))


def batch_counts(batch_index: bytes, bitmap: BitMap) -> bytes:
    """How many of the named rows each record batch of a segment has: int32 pairs.

    Args:
        batch_index: the segment's.
        bitmap: row numbers in the segment.

    Raises:
        LimitExceededError: the segment has more batches than the pairs can name.
    """
    rows = np.frombuffer(batch_index, "<i8").reshape(-1, 4)[:, 3]
    if len(rows) >= 1 << 31:
        raise LimitExceededError("a segment has too many batches", limit=(1 << 31) - 1)
    starts: NDArray[np.int64] = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(rows, out=starts[1:])
    positions = np.frombuffer(bitmap.to_array(), dtype=np.uint32)
    # A bisection per batch, of which there are fewer than rows.
    counts = np.diff(np.searchsorted(positions, starts))
    batches = np.flatnonzero(counts)
    return np.stack([batches, counts[batches]], axis=1).astype("<i4").tobytes()


def insert_deletions(
    connection: Connection,
    table_id: str,
    version: int,
    rows: Sequence[tuple[int, str, bytes, BitMap]],
) -> None:
    """Adds deletions, visible from a version on.

    Args:
        connection: an open transaction with the table locked.
        table_id: the table.
        version: the version.
        rows: (segment id, its key, its batch index, rows that go) for each; not empty bitmaps.
    """
    values: list[Mapping[str, object]] = []
    for segment_id, key, index, bitmap in rows:
        bitmap.run_optimize()
        vector = bitmap.serialize()
        values.append(
            {
                "table_id": table_id,
                "segment_id": segment_id,
                "segment_key": key,
                "added_version": version,
                "rows": len(bitmap),
                "batch_counts": batch_counts(index, bitmap),
                "vector": vector,
                "crc32c": crc32c(vector),
            }
        )
    if values:
        connection.execute(insert(deletions), values)


def remove_deletions(connection: Connection, ids: Sequence[int], version: int) -> None:
    """Ends the visibility of deletions: their rows are back from a version on."""
    for chunk in chunks(ids):
        connection.execute(
            update(deletions).where(deletions.c.id.in_(chunk)).values(removed_version=version)
        )


def deleted_by_partition(connection: Connection, condition: ColumnElement[bool]) -> dict[str, int]:
    """Deleted rows, visible in the newest version, of the segments that a condition chooses."""
    rows = connection.execute(
        select(segments.c.partition, func.sum(deletions.c.rows))
        .select_from(segments.join(deletions, deletions.c.segment_id == segments.c.id))
        .where(condition, deletions.c.removed_version.is_(None))
        .group_by(segments.c.partition)
    )
    return {partition: int(count) for partition, count in rows}


@dataclasses.dataclass(frozen=True, slots=True)
class TouchedSegment:
    """A segment with its whole history."""

    row: SegmentRow
    removed_version: int | None
    deletions: Sequence[DeletionRow]
    """All of them, visible or not."""

    def visible(self, version: int) -> bool:
        """Whether a version shows the segment."""
        return self.row.added_version <= version and (
            self.removed_version is None or self.removed_version > version
        )

    def versions(self) -> set[int]:
        """The versions in which it or its rows came or went."""
        result = {self.row.added_version, self.removed_version}
        for deletion in self.deletions:
            result |= {deletion.added_version, deletion.removed_version}
        return {version for version in result if version is not None}


def touched_segments(
    connection: Connection, table_id: str, since: int, until: int
) -> list[TouchedSegment]:
    """The segments that the versions above ``since``, up to ``until``, touched."""

    def between(column: ColumnElement[int]) -> ColumnElement[bool]:
        return (column > since) & (column <= until)

    rows = connection.execute(
        select(*SEGMENT_COLUMNS, segments.c.removed_version).where(
            segments.c.table_id == table_id,
            or_(between(segments.c.added_version), between(segments.c.removed_version)),
        )
    )
    result = {row[0]: row for row in rows}
    named = connection.execute(
        select(deletions.c.segment_id)
        .where(
            deletions.c.table_id == table_id,
            or_(between(deletions.c.added_version), between(deletions.c.removed_version)),
        )
        .distinct()
    ).scalars()
    missing = sorted(set(named) - set(result))
    for chunk in chunks(missing):
        for row in connection.execute(
            select(*SEGMENT_COLUMNS, segments.c.removed_version).where(segments.c.id.in_(chunk))
        ):
            result[row[0]] = row
    history = all_deletions_of(connection, list(result))
    return [
        TouchedSegment(SegmentRow._make(row[:-1]), row[-1], history.get(number, []))
        for number, row in result.items()
    ]
