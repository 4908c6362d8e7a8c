"""What a change did, and what a version was."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Self

from fletching.client.html_views import ShownList
from fletching.protocol.messages.changes import VersionInfo
from fletching.protocol.messages.responses import Changed

__all__ = ["ChangeReport", "TableVersion", "VersionList"]


class ChangeReport(int):
    """What a change of a table did. As a number it is how many rows were written, or else deleted.

    Attributes:
        version: the table's version with the change; as before if nothing was changed. -1 where
            the service does not say.
        rows_inserted: rows that came.
        rows_updated: rows that took the place of another.
        rows_deleted: rows that went.
    """

    version: int
    rows_inserted: int
    rows_updated: int
    rows_deleted: int

    def __new__(
        cls,
        version: int,
        rows_inserted: int = 0,
        rows_updated: int = 0,
        rows_deleted: int = 0,
        *,
        count: int | None = None,
    ) -> Self:
        """Makes a report; ``count`` is its value as a number, where that is another."""
        written = rows_inserted + rows_updated
        self = super().__new__(cls, (written or rows_deleted) if count is None else count)
        self.version = version
        self.rows_inserted = rows_inserted
        self.rows_updated = rows_updated
        self.rows_deleted = rows_deleted
        return self

    @classmethod
    def of(cls, reply: Changed | ChangeReport | None, *, count: int | None = None) -> Self:
        """The report in a reply; of ``None``, where the service says only that it did it, the count."""
        if reply is None:
            return cls(-1, count or 0)
        return cls(
            reply.version,
            reply.rows_inserted,
            reply.rows_updated,
            reply.rows_deleted,
            count=count,
        )

    def __repr__(self) -> str:
        return (
            f"ChangeReport(version={self.version}, rows_inserted={self.rows_inserted}, "
            f"rows_updated={self.rows_updated}, rows_deleted={self.rows_deleted})"
        )

    __str__ = int.__repr__

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles by its figures."""
        return _report, (
            self.version,
            self.rows_inserted,
            self.rows_updated,
            self.rows_deleted,
            int(self),
        )


def _report(version: int, inserted: int, updated: int, deleted: int, count: int) -> ChangeReport:
    return ChangeReport(version, inserted, updated, deleted, count=count)


@dataclasses.dataclass(frozen=True, slots=True)
class TableVersion:
    """A version of a table.

    Attributes:
        version: its number; 0 is the empty table at its creation.
        committed_at: when, in UTC; later versions are later, whatever the clocks say.
        operation: what was done: ``append``, ``delete``, ``compact``, ...
        rows_inserted, rows_updated, rows_deleted: what it did.
        access_id: who did it; empty where nobody signed.
        data_change: False where the rows are those of the version before.
        rows: how many it shows.
        readable: whether it can still be read.
    """

    version: int
    committed_at: dt.datetime
    operation: str
    rows_inserted: int
    rows_updated: int
    rows_deleted: int
    access_id: str
    data_change: bool
    rows: int
    readable: bool

    @classmethod
    def of(cls, info: VersionInfo) -> Self:
        """The version in a reply."""
        epoch = dt.datetime.fromtimestamp(0, dt.UTC)
        return cls(
            version=info.version,
            committed_at=epoch + dt.timedelta(microseconds=info.committed_us),
            operation=info.operation,
            rows_inserted=info.rows_inserted,
            rows_updated=info.rows_updated,
            rows_deleted=info.rows_deleted,
            access_id=info.access_id,
            data_change=info.data_change,
            rows=info.rows,
            readable=info.readable,
        )


class VersionList(ShownList[TableVersion]):
    """Versions, newest first."""

    TITLE = "version"
    HEADS = ("version", "committed", "operation", "inserted", "updated", "deleted", "rows", "by")

    def cells(self, item: TableVersion) -> tuple[object, ...]:
        """A version's values."""
        when = item.committed_at.strftime("%Y-%m-%d %H:%M:%S UTC")
        counts = (item.rows_inserted, item.rows_updated, item.rows_deleted, item.rows)
        inserted, updated, deleted, rows = (f"{count:,}" for count in counts)
        return (
            item.version,
            when,
            item.operation,
            inserted,
            updated,
            deleted,
            rows,
            item.access_id,
        )
