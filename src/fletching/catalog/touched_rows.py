"""The segments that some versions touched: what they added, removed, deleted from or gave back to."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy import Connection, or_, select

from fletching.catalog.deletion_rows import DeletionRow, all_deletions_of
from fletching.catalog.parameter_chunks import chunks
from fletching.catalog.schema import deletions, segments
from fletching.catalog.segment_rows import SEGMENT_COLUMNS, SegmentRow

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

__all__ = ["TouchedSegment", "touched_segments"]


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
