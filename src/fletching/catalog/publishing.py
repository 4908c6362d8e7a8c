"""Making rows visible or invisible: the one place where a table's version moves on.

A `Publication` collects what one commit changes, inside a transaction that holds the table's lock,
and its `commit` makes the version: the totals of tables and partitions, the row of
``table_versions``, and the table's own. Whatever changes a table, its schema included, ends there.

Rows that go are named by segment and row number. Compaction may have moved them since they were
chosen: it keeps the order of rows, so the place of a row in the merged segment follows from where
its old segment begins there and from the rows that were left out. Whoever commits second moves what
the other one did; nobody fails because of upkeep.

The module is long because it is one class of many methods: whatever moves a version shares the same
totals, and a second place that moved them would be where they begin to differ.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
from pyroaring import BitMap
from sqlalchemy import Connection, bindparam, func, insert, literal, select, update

from fletching.caller import access_id
from fletching.catalog.deletion_rows import (
    MAX_SEGMENT_ROWS,
    DeletionRow,
    bitmap_of,
    deleted_by_partition,
    deleted_counts,
    deleted_rows,
    deletions_of,
    insert_deletions,
    remove_deletions,
)
from fletching.catalog.parameter_chunks import chunks
from fletching.catalog.partition_rows import add_partition, change_totals
from fletching.catalog.schema import deletions, segments, table_versions
from fletching.catalog.segment_rows import position_in
from fletching.catalog.table_rows import TableRow, publish_version
from fletching.catalog.version_rows import find_version
from fletching.catalog.write_stream_rows import NewSegment
from fletching.errors import LimitExceededError, RowsChangedError

__all__ = ["Publication", "publish", "replace_segments"]


@dataclasses.dataclass(slots=True)
class _Segment:
    """What a change needs of a segment that it touches."""

    id: int
    key: str
    partition: str
    position: int
    rows: int
    length: int
    batch_index: bytes
    removed_version: int | None
    replaced_by: int | None
    replaced_base: int | None
    replaced_version: int | None


_COLUMNS = [
    segments.c[{"length": "bytes"}.get(field.name, field.name)]
    for field in dataclasses.fields(_Segment)
]


_INSERT_SEGMENTS = insert(segments)
_INSERT_VERSION = insert(table_versions)


class Publication:
    """What one commit changes. Make it in a transaction that holds the table's lock.

    Attributes:
        version: the version that ``commit`` makes.
        rows_inserted, rows_updated, rows_deleted: what the version's row will say; a caller that
            replaces rows moves them from the first and last to the second.
    """

    def __init__(
        self,
        connection: Connection,
        table: TableRow,
        operation: str,
        *,
        now: float,
        data_change: bool = True,
        read_version: int | None = None,
    ) -> None:
        """Begins without changes.

        Args:
            connection: an open transaction.
            table: the table as read under its lock in this transaction.
            operation: what the change is called in the table's history.
            now: seconds since the epoch.
            data_change: False if the table has the same rows after it.
            read_version: the version it was worked out from; None for the newest.
        """
        self.version = table.version + 1
        self.rows_inserted = self.rows_updated = self.rows_deleted = 0
        self._connection = connection
        self._table = table
        self._operation = operation
        before = find_version(connection, table.id, table.version)
        # Clocks of several servers differ, and may be set back; the order of versions does not.
        self._committed_us = max(
            int(now * 1_000_000), 0 if before is None else before.committed_us + 1
        )
        # And nothing of the version, a partition's last change say, is older than the version before.
        self._now = max(now, self._committed_us / 1_000_000)
        self._data_change = data_change
        self._read_version = table.version if read_version is None else read_version
        self._schema_version = table.schema_version
        self._changed = False
        # Per partition: rows, bytes and segments that it gains.
        self._totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        self._added = 0

    def read_from(self, version: int) -> None:
        """The change was worked out from this version."""
        self._read_version = version

    # --- rows that come ---

    def add(
        self,
        added: Sequence[NewSegment],
        *,
        absent: Mapping[str, BitMap] | None = None,
        new_partitions: Iterable[str] = (),
    ) -> None:
        """Adds segments behind all others, in the given order.

        Args:
            added: what becomes visible; segments without a visible row are left out.
            absent: by key, rows of the added segments that are never visible.
            new_partitions: partitions to add even if nothing is added to them.
        """
        absent = absent or {}
        added = [each for each in added if each.rows > len(absent.get(each.key, ()))]
        connection, table = self._connection, self._table
        if table.partition_columns:
            # Those that segments are added to come into being with their totals.
            for partition in sorted(set(new_partitions)):
                add_partition(connection, table.id, partition, self._now)
        if not added:
            return
        connection.execute(
            _INSERT_SEGMENTS,
            [
                {
                    **segment.columns(),
                    "table_id": table.id,
                    "position": position_in(self.version, self._added + ordinal),
                    "added_version": self.version,
                }
                for ordinal, segment in enumerate(added)
            ],
        )
        self._added += len(added)
        gone = {each.key: absent[each.key] for each in added if absent.get(each.key)}
        self._insert_absent({each.key: each for each in added}, gone)
        for segment in added:
            rows = segment.rows - len(gone.get(segment.key, ()))
            self._count(segment.partition, rows, segment.length, 1)
            self.rows_inserted += rows

    def _insert_absent(self, added: Mapping[str, NewSegment], gone: Mapping[str, BitMap]) -> None:
        if not gone:
            return
        ids: dict[str, int] = {}
        for chunk in chunks(sorted(gone)):
            result = self._connection.execute(
                select(segments.c.key, segments.c.id).where(
                    segments.c.key.in_(chunk), segments.c.added_version == self.version
                )
            )
            ids.update({row.key: row.id for row in result})
        insert_deletions(
            self._connection,
            self._table.id,
            self.version,
            [(ids[key], key, added[key].batch_index, rows) for key, rows in gone.items()],
        )

    # --- rows that go ---

    def clear(self, partitions: Iterable[str] | None) -> None:
        """Removes every row of some partitions (the catalog's text), or with None of the table."""
        groups: list[Sequence[str] | None] = [None]
        if partitions is not None:
            groups = list(chunks(sorted(partitions)))
        for group in groups:
            condition = (segments.c.table_id == self._table.id) & segments.c.removed_version.is_(
                None
            )
            # Segments that this commit has added stay.
            condition &= segments.c.added_version < self.version
            if group is not None:
                condition &= segments.c.partition.in_(group)
            deleted = deleted_by_partition(self._connection, condition)
            sums = self._connection.execute(
                select(
                    segments.c.partition,
                    func.sum(segments.c.rows),
                    func.sum(segments.c.bytes),
                    func.count(),
                )
                .where(condition)
                .group_by(segments.c.partition)
            ).all()
            for partition, rows, length, count in sums:
                visible = int(rows) - deleted.get(partition, 0)
                self._count(partition, -visible, -int(length), -int(count))
                self.rows_deleted += visible
            if sums:
                self._connection.execute(
                    update(segments).where(condition).values(removed_version=self.version)
                )

    def delete_rows(self, chosen: Mapping[int, BitMap], *, strict: bool = True) -> int:
        """Removes rows by segment id and row number; returns how many went.

        A segment whose last visible row goes is removed itself.

        Args:
            chosen: rows of segments that were visible in the version read; the bitmaps are kept.
            strict: refuse if one of the rows has gone since; False does without it.

        Raises:
            RowsChangedError: a row has gone since the change was worked out.
        """
        current, moved = self._moved(chosen, strict=strict)
        ids = [each.id for each in current]
        gone = deleted_counts(self._connection, ids)
        late = deletions_of(self._connection, ids, after=self._read_version)
        removed: list[_Segment] = []
        added: list[tuple[int, str, bytes, BitMap]] = []
        total = 0
        for segment in current:
            rows = moved[segment.id]
            if segment.id in late:
                overlap = rows & deleted_rows(self._connection, late[segment.id])
                if overlap and strict:
                    raise RowsChangedError("rows that the change chose were deleted meanwhile")
                rows = rows - overlap
            if not rows:
                continue
            visible = segment.rows - gone[segment.id]
            total += len(rows)
            if len(rows) == visible:
                removed.append(segment)
                self._count(segment.partition, -visible, -segment.length, -1)
            else:
                added.append((segment.id, segment.key, segment.batch_index, rows))
                self._count(segment.partition, -len(rows), 0, 0)
        insert_deletions(self._connection, self._table.id, self.version, added)
        self._end_segments([each.id for each in removed])
        self.rows_deleted += total
        return total

    def _moved(
        self, chosen: Mapping[int, BitMap], *, strict: bool
    ) -> tuple[list[_Segment], dict[int, BitMap]]:
        """The segments that have the chosen rows now, and where in them the rows are."""
        current: dict[int, _Segment] = {}
        moved: dict[int, BitMap] = {}
        pending = {number: rows for number, rows in chosen.items() if rows}
        while pending:
            result = {each.id: each for each in self._segments(pending)}
            following: dict[int, BitMap] = {}
            for number, rows in pending.items():
                segment = result.get(number)
                if segment is not None and segment.removed_version is None:
                    if segment.rows > MAX_SEGMENT_ROWS:
                        raise LimitExceededError(
                            "a segment has too many rows to delete some",
                            actual=segment.rows,
                            limit=MAX_SEGMENT_ROWS,
                        )
                    current[number] = segment
                    moved[number] = moved[number] | rows if number in moved else rows
                elif segment is not None and segment.replaced_by is not None:
                    there = _relocated(self._connection, segment, rows)
                    if len(there) < len(rows) and strict:
                        raise RowsChangedError("rows that the change chose were deleted meanwhile")
                    target = segment.replaced_by
                    following[target] = following.get(target, BitMap()) | there
                elif strict:
                    raise RowsChangedError("rows that the change chose were removed meanwhile")
            pending = {number: rows for number, rows in following.items() if rows}
        return list(current.values()), moved

    def _segments(self, ids: Collection[int]) -> Iterator[_Segment]:
        for chunk in chunks(sorted(ids)):
            for row in self._connection.execute(
                select(*_COLUMNS).where(
                    segments.c.table_id == self._table.id, segments.c.id.in_(chunk)
                )
            ):
                yield _Segment(*row)

    def remove_segments(self, ids: Collection[int]) -> None:
        """Removes whole segments that are visible now.

        Raises:
            RowsChangedError: one of them is not visible any more.
        """
        if not ids:
            return
        gone = deleted_counts(self._connection, ids)
        total = result = 0
        for segment in self._segments(ids):
            if segment.removed_version is not None:
                continue
            result += 1
            visible = segment.rows - gone[segment.id]
            self._count(segment.partition, -visible, -segment.length, -1)
            total += visible
        if result != len(ids):
            raise RowsChangedError("rows that the change chose were removed meanwhile")
        self._end_segments(sorted(ids))
        self.rows_deleted += total

    def _end_segments(self, ids: Sequence[int]) -> None:
        for chunk in chunks(ids):
            self._connection.execute(
                update(segments)
                .where(segments.c.id.in_(chunk))
                .values(removed_version=self.version)
            )

    # --- the same rows, elsewhere ---

    def replace(self, ids: Sequence[int], merged: NewSegment, *, kept: Sequence[int]) -> bool:
        """Puts one segment in the place of several neighbours; deletions since then move along.

        Args:
            ids: the segments, in the order of rows.
            merged: their rows without those deleted in ``read_version``.
            kept: how many rows of each segment ``merged`` has.

        Returns:
            False, with nothing changed, if one of them is not visible any more.
        """
        by_id = {each.id: each for each in self._segments(ids)}
        replaced = [by_id[number] for number in ids if number in by_id]
        if len(replaced) != len(ids) or any(each.removed_version is not None for each in replaced):
            return False
        known = deletions_of(self._connection, ids)
        for number, rows in deletions_of(self._connection, ids, self._read_version).items():
            if not {row.id for row in rows} <= {row.id for row in known.get(number, [])}:
                return False  # rows that were left out are back: a restore came in between
        self._connection.execute(
            insert(segments).values(
                **merged.columns(),
                table_id=self._table.id,
                position=replaced[0].position,
                added_version=self.version,
            )
        )
        new_id = self._connection.execute(
            select(segments.c.id).where(
                segments.c.key == merged.key, segments.c.added_version == self.version
            )
        ).scalar_one()
        carried = BitMap()
        base = 0
        bases: list[dict[str, int]] = []
        for segment, count in zip(replaced, kept, strict=True):
            segment.replaced_base, segment.replaced_version = base, self._read_version
            before = known.get(segment.id, [])
            late = [each for each in before if each.added_version > self._read_version]
            if late:
                carried |= _relocated(
                    self._connection, segment, deleted_rows(self._connection, late)
                )
            bases.append({"replaced": segment.id, "base": base})
            visible = segment.rows - sum(each.rows for each in before)
            self._count(segment.partition, -visible, -segment.length, -1)
            base += count
        self._connection.execute(
            update(segments)
            .where(segments.c.id == bindparam("replaced"))
            .values(
                removed_version=self.version,
                replaced_by=new_id,
                replaced_base=bindparam("base"),
                replaced_version=self._read_version,
            ),
            bases,
        )
        self._count(merged.partition, merged.rows - len(carried), merged.length, 1)
        if carried:
            insert_deletions(
                self._connection,
                self._table.id,
                self.version,
                [(new_id, merged.key, merged.batch_index, carried)],
            )
        return True

    def fold(self, rows: Sequence[DeletionRow], batch_index: bytes) -> None:
        """Puts one deletion in the place of several of one segment that are visible now."""
        union = deleted_rows(self._connection, rows)
        remove_deletions(self._connection, [row.id for row in rows], self.version)
        insert_deletions(
            self._connection,
            self._table.id,
            self.version,
            [(rows[0].segment_id, rows[0].segment_key, batch_index, union)],
        )
        self._changed = True

    # --- what was ---

    def restore(self, version: int, *, anew: bool = False) -> None:
        """Makes visible exactly what was visible in a version that is readable.

        Args:
            version: which.
            anew: rows that are visible now go and come, too: they are not as they were.
        """
        connection, table_id = self._connection, self._table.id
        then = _shown(connection, table_id, version)
        now = _shown(connection, table_id, None)
        kept = set() if anew else set(now) & set(then)
        self.remove_segments(sorted(set(now) - kept))
        both = sorted(kept)
        deleted_then = deletions_of(connection, list(then), version)
        deleted_now = deletions_of(connection, both)
        again: list[tuple[int, DeletionRow]] = []
        for number in both:
            old = {row.id: row for row in deleted_then.get(number, [])}
            new = {row.id: row for row in deleted_now.get(number, [])}
            if old.keys() == new.keys():
                continue
            # Compared by rows, not by increments, which upkeep may have folded in between.
            before = deleted_rows(connection, old.values())
            after = deleted_rows(connection, new.values())
            if before == after:
                continue
            remove_deletions(connection, sorted(new.keys() - old.keys()), self.version)
            again += [(number, old[each]) for each in sorted(old.keys() - new.keys())]
            back, gone = len(after - before), len(before - after)
            self._count(then[number].partition, back - gone, 0, 0)
            self.rows_inserted += back
            self.rows_deleted += gone
        copies = self._copy_segments({number: then[number].key for number in set(then) - kept})
        partitions: dict[str, None] = {}
        for number, copy in sorted(copies.items()):
            segment = then[number]
            rows = deleted_then.get(number, [])
            again += [(copy, row) for row in rows]
            visible = segment.rows - sum(row.rows for row in rows)
            self._count(segment.partition, visible, segment.length, 1)
            self.rows_inserted += visible
            partitions[segment.partition] = None
        if self._table.partition_columns:
            for partition in partitions:
                add_partition(connection, table_id, partition, self._now)
        self._copy_deletions(again)

    def _copy_segments(self, keys: Mapping[int, str]) -> dict[int, int]:
        """Second rows for the objects of segments that were removed, by the ids of the first ones."""
        connection, table_id = self._connection, self._table.id
        changed = {
            "added_version": self.version,
            "removed_version": None,
            "replaced_by": None,
            "replaced_base": None,
            "replaced_version": None,
        }
        # The rows never leave the database: their indexes of batches may be large.
        columns = [column for column in segments.c if column.name != "id"]
        copied = select(
            *(
                literal(changed[column.name], column.type).label(column.name)
                if column.name in changed
                else column
                for column in columns
            )
        )
        made: dict[int, int] = {}
        ordered = sorted(keys)
        for chunk in chunks(ordered):
            chosen = copied.where(segments.c.id.in_(chunk)).order_by(segments.c.id)
            names = [column.name for column in columns]
            connection.execute(insert(segments).from_select(names, chosen))
            result = connection.execute(
                select(segments.c.key, segments.c.id).where(
                    segments.c.table_id == table_id,
                    segments.c.key.in_([keys[number] for number in chunk]),
                    segments.c.added_version == self.version,
                )
            )
            ids = dict(tuple(row) for row in result)
            made |= {number: int(ids[keys[number]]) for number in chunk}
        return made

    def _copy_deletions(self, wanted: Sequence[tuple[int, DeletionRow]]) -> None:
        """Second rows for deletions that were removed, each for a segment."""
        for chunk in chunks(wanted):
            result = self._connection.execute(
                select(deletions).where(deletions.c.id.in_([row.id for _, row in chunk]))
            )
            rows = {row.id: dict(row._mapping) for row in result}  # noqa: SLF001 - SQLAlchemy's public way
            made = []
            for segment_id, deletion in chunk:
                values = rows[deletion.id]
                values.pop("id", None)
                made.append(
                    values
                    | {
                        "segment_id": segment_id,
                        "added_version": self.version,
                        "removed_version": None,
                    }
                )
            self._connection.execute(insert(deletions), made)

    # --- the version ---

    def change_schema(self, schema_version: int) -> None:
        """The version has another schema, which the caller has given the table."""
        self._schema_version = schema_version
        self._changed = True

    def count_updates(self, rows: int) -> None:
        """Of the rows that came and went so far, these many did both: they were updated."""
        self.rows_updated += rows
        self.rows_inserted -= rows
        self.rows_deleted -= rows

    def touch(self) -> None:
        """Makes a version even if no row comes or goes: what changed is the caller's to say."""
        self._changed = True

    def _count(self, partition: str, rows: int, length: int, number: int) -> None:
        total = self._totals[partition]
        total[0] += rows
        total[1] += length
        total[2] += number
        self._changed = True

    def commit(self) -> int:
        """Makes the version; returns it, or the table's own if nothing has changed."""
        connection, table = self._connection, self._table
        if not self._changed:
            return table.version
        if table.partition_columns:
            changes = {
                partition: (rows, length) for partition, (rows, length, _) in self._totals.items()
            }
            change_totals(connection, table.id, changes, self._now, modified=self._data_change)
        rows, length, count = (
            sum(total[number] for total in self._totals.values()) for number in range(3)
        )
        connection.execute(
            _INSERT_VERSION,
            {
                "table_id": table.id,
                "version": self.version,
                "committed_us": self._committed_us,
                "operation": self._operation,
                "data_change": self._data_change,
                "schema_version": self._schema_version,
                "rows": table.rows + rows,
                "bytes": table.bytes + length,
                "segments": table.segments + count,
                "rows_inserted": self.rows_inserted,
                "rows_updated": self.rows_updated,
                "rows_deleted": self.rows_deleted,
                "access_id": access_id(),
                "read_version": self._read_version,
            },
        )
        publish_version(
            connection,
            table.id,
            version=self.version,
            rows=rows,
            length=length,
            segments=count,
            now=self._now,
        )
        return self.version


def _shown(connection: Connection, table_id: str, version: int | None) -> dict[int, _Segment]:
    condition = segments.c.table_id == table_id
    if version is None:
        condition &= segments.c.removed_version.is_(None)
    else:
        condition &= (segments.c.added_version <= version) & (
            segments.c.removed_version.is_(None) | (segments.c.removed_version > version)
        )
    result = connection.execute(select(*_COLUMNS).where(condition).order_by(segments.c.position))
    return {row.id: _Segment(*row) for row in result}


def _relocated(connection: Connection, segment: _Segment, rows: BitMap) -> BitMap:
    """Where rows of a compacted segment are in the one that replaced it; left-out rows are nowhere."""
    cut = deletions_of(connection, [segment.id], segment.replaced_version).get(segment.id, [])
    base = segment.replaced_base or 0
    if not cut:
        return rows.shift(base)
    gone = deleted_rows(connection, cut)
    positions = np.frombuffer((rows - gone).to_array(), dtype=np.uint32)
    before = np.searchsorted(np.frombuffer(gone.to_array(), dtype=np.uint32), positions)
    return bitmap_of(positions - before + base)


def publish(
    connection: Connection,
    table: TableRow,
    added: Sequence[NewSegment],
    *,
    cleared_partitions: Iterable[str] | None = (),
    new_partitions: Iterable[str] = (),
    operation: str = "append",
    now: float,
) -> int:
    """Adds segments, in the given order, in one new version; returns the version.

    Args:
        connection: an open transaction.
        table: the table as read under its lock in this transaction.
        added: what becomes visible.
        cleared_partitions: partitions (the catalog's text) whose present segments go in the same
            version; None clears the whole table.
        new_partitions: partitions to add even if nothing is added to them.
        operation: what the change is called in the table's history.
        now: seconds since the epoch.
    """
    publication = Publication(connection, table, operation, now=now)
    cleared = None if cleared_partitions is None else list(cleared_partitions)
    if cleared is None or cleared:
        publication.clear(cleared)
    publication.add(added, new_partitions=new_partitions)
    return publication.commit()


def replace_segments(
    connection: Connection,
    table: TableRow,
    replaced: Sequence[int],
    merged: NewSegment,
    *,
    kept: Sequence[int],
    read_version: int,
    now: float,
) -> bool:
    """Puts one segment in the place of several, in one new version with the same rows.

    Args:
        connection: an open transaction.
        table: the table as read under its lock in this transaction.
        replaced: ids of neighbours, in the order of rows.
        merged: their rows that were visible in ``read_version``, in the same order.
        kept: how many rows of each of them ``merged`` has.
        read_version: the version that the rows were copied from.
        now: seconds since the epoch.

    Returns:
        False, with nothing changed, if one of them is no longer visible in the newest version.
    """
    publication = Publication(
        connection, table, "compact", now=now, data_change=False, read_version=read_version
    )
    if not publication.replace(replaced, merged, kept=kept):
        return False
    publication.commit()
    return True
