"""What ``verify`` compares with the objects, and with the sums of the segments."""

from __future__ import annotations

from typing import NamedTuple

from pyroaring import BitMap
from sqlalchemy import Connection, and_, exists, func, select, true, union, update

from fletching.catalog.deletion_rows import batch_counts, decode_vector, every_deletion, read_vector
from fletching.catalog.schema import (
    blob_packs,
    deletions,
    partitions,
    segment_packs,
    segments,
    staged_segments,
    table_versions,
    tables,
)
from fletching.catalog.table_rows import TableRow
from fletching.errors import CorruptObjectError

__all__ = [
    "StoredSegment",
    "broken_links",
    "is_known",
    "recount",
    "stored_segments",
    "wrong_deletions",
    "wrong_totals",
]


class StoredSegment(NamedTuple):
    """A segment that an object must exist for."""

    key: str
    rows: int
    length: int
    crc32c: int
    batch_index: bytes
    dictionary_index: bytes


def stored_segments(connection: Connection) -> list[StoredSegment]:
    """Every segment the catalog knows: visible, removed or staged; one that is restored once."""
    parts = [
        select(
            table.c.key,
            table.c.rows,
            table.c.bytes,
            table.c.crc32c,
            table.c.batch_index,
            table.c.dictionary_index,
        )
        for table in (segments, staged_segments)
    ]
    return [StoredSegment._make(row) for row in connection.execute(union(*parts))]


def is_known(connection: Connection, key: str) -> bool:
    """Whether a segment's key is still in the catalog."""
    return any(
        connection.execute(select(table.c.key).where(table.c.key == key)).first() is not None
        for table in (segments, staged_segments)
    )


def broken_links(connection: Connection) -> list[tuple[str, str]]:
    """(segment's key, what is wrong) of segments whose blobs' packs the catalog does not know."""
    rows = connection.execute(
        select(segment_packs.c.segment_key, segment_packs.c.pack_id).where(
            ~exists().where(blob_packs.c.id == segment_packs.c.pack_id)
        )
    )
    return [
        (row.segment_key, f"its rows refer to pack {row.pack_id}, which the catalog does not know")
        for row in rows
    ]


def wrong_deletions(connection: Connection) -> list[tuple[str, str]]:
    """Deletions that cannot be: damaged, of no segment, of rows that there are not, or twice."""
    problems: list[tuple[str, str]] = []
    known: dict[int, tuple[str, int, bytes, int, int | None]] = {}
    rows = connection.execute(
        select(
            segments.c.id,
            segments.c.key,
            segments.c.rows,
            segments.c.batch_index,
            segments.c.added_version,
            segments.c.removed_version,
        ).where(exists().where(deletions.c.segment_id == segments.c.id))
    )
    for row in rows:
        known[row.id] = (row.key, row.rows, row.batch_index, row.added_version, row.removed_version)
    shown: dict[int, BitMap] = {}
    for segment_id, result in every_deletion(connection):
        name = f"deletion {result.id} of {result.segment_key}"
        segment = known.get(segment_id)
        if segment is None or segment[0] != result.segment_key:
            problems.append((name, "the catalog knows no such segment"))
            continue
        try:
            data = result.vector or read_vector(connection, result.id) or b""
            bitmap = decode_vector(result, data)
        except CorruptObjectError as error:
            problems.append((name, error.message))
            continue
        if not bitmap or bitmap.max() >= segment[1]:
            problems.append((name, "it names rows that the segment does not have"))
            continue
        if batch_counts(bytes(segment[2]), bitmap) != bytes(result.batch_counts):
            problems.append((name, "its counts by record batch are not those of its rows"))
        if result.removed_version is None:
            before = shown.setdefault(segment_id, BitMap())
            if before & bitmap:
                problems.append((name, "it names rows that another deletion names"))
            before |= bitmap
            shown[segment_id] = before
    for segment_id, gone in shown.items():
        key, count, _, _, removed = known[segment_id]
        if removed is None and len(gone) >= count:
            problems.append((f"segment {key}", "it is visible, and all of its rows are deleted"))
    return problems


def _visible_sums(
    connection: Connection, table_id: str | None = None
) -> dict[tuple[str, str], tuple[int, int, int]]:
    """Visible rows, bytes and segments by table and partition; of one table or of all."""
    visible = and_(
        segments.c.removed_version.is_(None),
        true() if table_id is None else segments.c.table_id == table_id,
    )
    gone = (
        select(deletions.c.segment_id, func.sum(deletions.c.rows).label("rows"))
        .where(deletions.c.removed_version.is_(None))
        .group_by(deletions.c.segment_id)
        .subquery()
    )
    return {
        (row.table_id, row.partition): (int(row[2]), int(row[3]), int(row[4]))
        for row in connection.execute(
            select(
                segments.c.table_id,
                segments.c.partition,
                func.sum(segments.c.rows - func.coalesce(gone.c.rows, 0)),
                func.sum(segments.c.bytes),
                func.count(),
            )
            .select_from(segments.outerjoin(gone, gone.c.segment_id == segments.c.id))
            .where(visible)
            .group_by(segments.c.table_id, segments.c.partition)
        )
    }


def recount(connection: Connection, table: TableRow) -> bool:
    """Sets the totals of a locked table, its partitions and its newest version to what is visible.

    Returns whether one of them was wrong.
    """
    sums = {
        partition: totals for (_, partition), totals in _visible_sums(connection, table.id).items()
    }
    rows, size, count = (sum(total[number] for total in sums.values()) for number in range(3))
    wrong = (table.rows, table.bytes, table.segments) != (rows, size, count)
    totals = {"rows": rows, "bytes": size, "segments": count}
    connection.execute(update(tables).where(tables.c.id == table.id).values(**totals))
    history = (table_versions.c.table_id == table.id) & (table_versions.c.version == table.version)
    known = connection.execute(
        select(table_versions.c.rows, table_versions.c.bytes, table_versions.c.segments).where(
            history
        )
    ).first()
    if known is not None and tuple(known) != (rows, size, count):
        wrong = True
        connection.execute(update(table_versions).where(history).values(**totals))
    for row in connection.execute(
        select(partitions.c.partition, partitions.c.rows, partitions.c.bytes).where(
            partitions.c.table_id == table.id
        )
    ).all():
        expected = sums.get(row.partition, (0, 0, 0))[:2]
        if (row.rows, row.bytes) != expected:
            wrong = True
            connection.execute(
                update(partitions)
                .where(partitions.c.table_id == table.id, partitions.c.partition == row.partition)
                .values(rows=expected[0], bytes=expected[1])
            )
    return wrong


def wrong_totals(connection: Connection) -> list[tuple[str, str]]:
    """Tables and partitions whose recorded totals are not the sums of their visible rows."""
    sums = _visible_sums(connection)
    problems = []
    of_tables: dict[str, tuple[int, int, int]] = {}
    for (table_id, _), (rows, size, count) in sums.items():
        before = of_tables.get(table_id, (0, 0, 0))
        of_tables[table_id] = before[0] + rows, before[1] + size, before[2] + count
    for row in connection.execute(select(tables).where(tables.c.dropped_at.is_(None))):
        recorded = row.rows, row.bytes, row.segments
        summed = of_tables.get(row.id, (0, 0, 0))
        if recorded != summed:
            problems.append(
                (
                    f"table {row.project}.{row.schema}.{row.name}",
                    f"(rows, bytes, segments) are recorded as {recorded}; its segments sum to {summed}",
                )
            )
        known = connection.execute(
            select(table_versions.c.rows, table_versions.c.bytes, table_versions.c.segments).where(
                table_versions.c.table_id == row.id, table_versions.c.version == row.version
            )
        ).first()
        if known is None or tuple(known) != recorded:
            problems.append(
                (
                    f"table {row.project}.{row.schema}.{row.name}",
                    f"its history says {known} of version {row.version}, the table {recorded}",
                )
            )
    for row in connection.execute(
        select(partitions).join(tables, tables.c.id == partitions.c.table_id)
    ):
        of_partition = row.rows, row.bytes
        expected = sums.get((row.table_id, row.partition), (0, 0, 0))[:2]
        if of_partition != expected:
            problems.append(
                (
                    f"partition {row.table_id}/{row.partition}",
                    f"(rows, bytes) are recorded as {of_partition}; its segments sum to {expected}",
                )
            )
    return problems
