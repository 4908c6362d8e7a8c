"""Segments: what of a table is visible in which version, in which order.

A segment's ``position`` orders it among its table's: the version that added it in the upper bits,
its place inside that commit (by stream id, then write order) in the lower. A compacted segment
takes the position of the first one that it replaces, so the order of rows never changes.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from sqlalchemy import Connection, and_, func, or_, select

from fletching.catalog.parameter_chunks import IN_LIMIT, chunks
from fletching.catalog.schema import deletions, segments, tables
from fletching.errors import LimitExceededError

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

__all__ = [
    "MAX_SEGMENTS_PER_COMMIT",
    "SEGMENT_COLUMNS",
    "SegmentRow",
    "decode_partition",
    "encode_partition",
    "position_in",
    "segments_since",
    "visible_partitions",
    "visible_segments",
]

_POSITION_BITS = 24
MAX_SEGMENTS_PER_COMMIT = 1 << _POSITION_BITS
"""How many segments one commit may add: what the position's lower bits hold."""


class SegmentRow(NamedTuple):
    """What a read plan needs of a segment; a plain tuple, as there may be 100,000 of them."""

    id: int
    key: str
    partition: str
    """JSON array of partition values; ``decode_partition`` reads it."""
    rows: int
    length: int
    """Bytes of the object."""
    batch_index: bytes
    """Little-endian int64 rows (offset, metadata length with prefix and padding, body length, rows),
    one per record batch, in file order."""
    dictionary_index: bytes
    """The same for dictionary batches, with the dictionary's id in place of rows; empty if none.
    All of them precede the batches that need them, and none replaces another."""
    schema_version: int
    codecs: str
    """Codecs of the batches' buffers: ``""`` none, ``"lz4"``, ``"zstd"``, or several with commas."""
    added_version: int
    position: int
    crc32c: int
    """CRC32C of the whole object."""
    statistics: bytes | None
    key_run_offset: int | None = None
    """Where the key run lies in the object, in a table with a key."""
    key_run_length: int | None = None
    zone_bounds: bytes | None = None
    """Bounds of the columns in parts of it; None for a small segment."""


SEGMENT_COLUMNS = [segments.c[{"length": "bytes"}.get(name, name)] for name in SegmentRow._fields]
"""What a query must choose to make a `SegmentRow`."""


def encode_partition(values: Iterable[str]) -> str:
    """The catalog's text of a partition's values, in column order; ``[]`` without partitions."""
    return json.dumps(list(values), ensure_ascii=False, separators=(",", ":"))


_VALUES = msgspec.json.Decoder(tuple[str, ...])


def decode_partition(text: str) -> tuple[str, ...]:
    """Partition values, in column order, from the catalog's text."""
    return _VALUES.decode(text)


def position_in(version: int, ordinal: int) -> int:
    """The position of a commit's ``ordinal``-th segment."""
    if ordinal >= MAX_SEGMENTS_PER_COMMIT:
        raise LimitExceededError(
            "too many segments in one commit", limit=MAX_SEGMENTS_PER_COMMIT, actual=ordinal + 1
        )
    return version << _POSITION_BITS | ordinal


def _visible(table_id: str, version: int) -> ColumnElement[bool]:
    return and_(
        segments.c.table_id == table_id,
        # As a sum, because nearly every segment was added before: by the index of that column a
        # database would look at all segments where another index finds those that are wanted.
        segments.c.added_version + 0 <= version,
        or_(segments.c.removed_version.is_(None), segments.c.removed_version > version),
    )


def visible_segments(
    connection: Connection,
    table_id: str,
    version: int,
    partitions: Collection[tuple[str, ...]] | None = None,
    *,
    after: int | None = None,
) -> list[SegmentRow]:
    """The segments of a snapshot in row order: commit order, then stream id, then write order.

    Args:
        connection: an open transaction.
        table_id: the table.
        version: the snapshot.
        partitions: only these (values in column order); None for all of them.
        after: only those that a later version than this one added; None for all of them.

    Cost: one query, and a few microseconds per segment; with ``after`` per segment that came since.
    """
    statement = (
        select(*SEGMENT_COLUMNS).where(_visible(table_id, version)).order_by(segments.c.position)
    )
    if after is not None:
        statement = statement.where(segments.c.added_version > after)
    wanted = None if partitions is None else {encode_partition(values) for values in partitions}
    if wanted is not None and len(wanted) <= IN_LIMIT:
        statement = statement.where(segments.c.partition.in_(sorted(wanted)))
    # The driver's own tuples: SQLAlchemy's rows around them would cost twice the query.
    result = connection.execute(statement).cursor.fetchall()
    rows = list(map(SegmentRow._make, result))
    if wanted is not None and len(wanted) > IN_LIMIT:
        rows = [row for row in rows if row.partition in wanted]
    return rows


def segments_since(
    connection: Connection, table_id: str, since: int, version: int
) -> tuple[list[SegmentRow], list[int]] | None:
    """What a snapshot learns from an earlier one: (segments that came, ids of those that went).

    None if some that went may be forgotten by now: the earlier version is behind the horizon.

    Cost: by indexes, what changed.
    """
    horizon = connection.execute(
        select(tables.c.oldest_version).where(tables.c.id == table_id)
    ).scalar()
    if horizon is None or since < horizon:
        return None
    came = select(*SEGMENT_COLUMNS).where(
        _visible(table_id, version), segments.c.added_version > since
    )
    went = select(segments.c.id).where(
        segments.c.table_id == table_id,
        segments.c.added_version <= since,
        segments.c.removed_version > since,
        segments.c.removed_version <= version,
    )
    result = connection.execute(came.order_by(segments.c.position)).cursor.fetchall()
    return list(map(SegmentRow._make, result)), list(connection.execute(went).scalars())


def visible_partitions(
    connection: Connection,
    table_id: str,
    version: int,
    only: Collection[tuple[str, ...]] | None = None,
) -> list[tuple[tuple[str, ...], int, int]]:
    """(values, visible rows, bytes) of each partition that has segments in a snapshot, in order.

    Of some partitions ``only``, in which case the others' segments are not looked at.
    """
    if only is None:
        return _partitions_among(connection, _visible(table_id, version), version)
    texts = sorted({encode_partition(values) for values in only})
    result: list[tuple[tuple[str, ...], int, int]] = []
    for chunk in chunks(texts):
        chosen = _visible(table_id, version) & segments.c.partition.in_(chunk)
        result += _partitions_among(connection, chosen, version)
    return sorted(result)


def _partitions_among(
    connection: Connection, shown: ColumnElement[bool], version: int
) -> list[tuple[tuple[str, ...], int, int]]:
    statement = (
        select(segments.c.partition, func.sum(segments.c.rows), func.sum(segments.c.bytes))
        .where(shown)
        .group_by(segments.c.partition)
    )
    gone = (
        select(segments.c.partition, func.sum(deletions.c.rows))
        .select_from(segments.join(deletions, deletions.c.segment_id == segments.c.id))
        .where(
            shown,
            deletions.c.added_version <= version,
            or_(deletions.c.removed_version.is_(None), deletions.c.removed_version > version),
        )
        .group_by(segments.c.partition)
    )
    deleted = {partition: int(rows) for partition, rows in connection.execute(gone)}
    return sorted(
        (decode_partition(text), int(rows) - deleted.get(text, 0), int(size))
        for text, rows, size in connection.execute(statement)
    )
