"""What ``verify`` compares with the objects, and with the sums of the segments."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, and_, exists, func, select, union_all

from fletching.catalog.schema import (
    blob_packs,
    partitions,
    segment_packs,
    segments,
    staged_segments,
    tables,
)

__all__ = ["StoredSegment", "broken_links", "is_known", "stored_segments", "wrong_totals"]


class StoredSegment(NamedTuple):
    """A segment that an object must exist for."""

    key: str
    rows: int
    length: int
    crc32c: int
    batch_index: bytes
    dictionary_index: bytes


def stored_segments(connection: Connection) -> list[StoredSegment]:
    """Every segment the catalog knows: visible, removed or staged."""
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
    return [StoredSegment._make(row) for row in connection.execute(union_all(*parts))]


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


def wrong_totals(connection: Connection) -> list[tuple[str, str]]:
    """Tables and partitions whose recorded totals are not the sums of their visible segments."""
    problems = []
    visible = segments.c.removed_version.is_(None)
    rows_sum = func.coalesce(func.sum(segments.c.rows), 0)
    bytes_sum = func.coalesce(func.sum(segments.c.bytes), 0)
    for row in connection.execute(
        select(
            tables.c.project,
            tables.c.schema,
            tables.c.name,
            tables.c.rows,
            tables.c.bytes,
            tables.c.segments,
            rows_sum,
            bytes_sum,
            func.count(segments.c.id),
        )
        .select_from(tables.outerjoin(segments, and_(segments.c.table_id == tables.c.id, visible)))
        .where(tables.c.dropped_at.is_(None))
        .group_by(tables.c.id)
    ):
        recorded, summed = tuple(row[3:6]), tuple(int(value) for value in row[6:9])
        if recorded != summed:
            problems.append(
                (
                    f"table {row.project}.{row.schema}.{row.name}",
                    f"(rows, bytes, segments) are recorded as {recorded}; its segments sum to {summed}",
                )
            )
    for row in connection.execute(
        select(
            partitions.c.table_id,
            partitions.c.partition,
            partitions.c.rows,
            partitions.c.bytes,
            rows_sum,
            bytes_sum,
        )
        .select_from(
            partitions.outerjoin(
                segments,
                and_(
                    segments.c.table_id == partitions.c.table_id,
                    segments.c.partition == partitions.c.partition,
                    visible,
                ),
            )
        )
        .group_by(partitions.c.table_id, partitions.c.partition)
    ):
        recorded, summed = tuple(row[2:4]), tuple(int(value) for value in row[4:6])
        if recorded != summed:
            problems.append(
                (
                    f"partition {row.table_id}/{row.partition}",
                    f"(rows, bytes) are recorded as {recorded}; its segments sum to {summed}",
                )
            )
    return problems
