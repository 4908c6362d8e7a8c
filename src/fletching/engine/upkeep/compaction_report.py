"""What a compaction did, and whether a purge left nothing of what was to go."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from fletching.errors import ConflictError, CorruptObjectError
from fletching.types import TableName

__all__ = ["CompactionReport", "compaction_summary"]


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
    unpurged: tuple[str, ...] = ()
    """Keys of segments that still have rows which were deleted before, although all were to go."""
    skipped: str = ""
    key_runs: int = 0
    """Segments whose key runs were merged, in a table with a key."""

    def with_more(self, more: CompactionReport) -> CompactionReport:
        """What this one and a later one did together."""
        return dataclasses.replace(
            more,
            merged=self.merged + more.merged,
            made=self.made + more.made,
            bytes=self.bytes + more.bytes,
            damaged=tuple(dict.fromkeys((*self.damaged, *more.damaged))),
            key_runs=self.key_runs + more.key_runs,
        )

    @property
    def problems(self) -> list[str]:
        """What is wrong, in words."""
        return [
            *(f"{key}: its bytes are not what was written" for key in self.damaged),
            *(f"{key}: still has rows that were deleted, and were to go" for key in self.unpurged),
        ]

    def check_purged(self) -> None:
        """Refuses to call it a success if deleted rows are still there which were to go.

        Raises:
            CorruptObjectError: a segment is damaged, so that what would be left of it cannot be proven.
            ConflictError: others were at the table for long, or a segment is too large.
        """
        if not self.unpurged:
            return
        count = len(self.unpurged)
        what = (
            f"{count} {'segment' if count == 1 else 'segments'} of table {self.table.name} still"
            f" {'has' if count == 1 else 'have'} deleted rows ({', '.join(self.unpurged[:3])})"
        )
        if self.damaged:
            key = self.damaged[0]
            raise CorruptObjectError(f"{what}: {key} is damaged, and was left alone", key=key)
        raise ConflictError(f"{what}: {self.skipped or 'it was left alone'}")


def compaction_summary(reports: Sequence[CompactionReport]) -> str:
    """What became of a run over some tables, in words."""
    merged, made = sum(each.merged for each in reports), sum(each.made for each in reports)
    if not merged:
        return "there was nothing to merge"
    what = "segment" if merged == 1 else "segments"
    return f"{merged} {what} became {made} ({sum(each.bytes for each in reports)} bytes)"
