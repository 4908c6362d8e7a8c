"""Changes of tables and their history: ours, JSON under ``/fletching/v1``.

Every changing request carries an ``idempotency_key``: a repetition with the same key changes nothing
and is answered like the first. Those that make a version may say with ``if_version`` that nothing but
upkeep may have happened since one. Rows that a change brings are written through a write session before.
"""

from __future__ import annotations

import msgspec

from fletching.protocol.messages.admin import TableInfo
from fletching.protocol.messages.requests import Reply_co, TableRequest
from fletching.protocol.messages.responses import Changed, Done, Response
from fletching.types import PartitionSpec

__all__ = [
    "AlterColumn",
    "AlterTable",
    "ChangeRequest",
    "Changed",
    "CompactTable",
    "CreateTag",
    "DeleteRows",
    "DropColumns",
    "DropTag",
    "EnforceKey",
    "ExpireVersions",
    "Expired",
    "ListTags",
    "ListVersions",
    "MergeRows",
    "RenameColumn",
    "RenameTable",
    "ReplaceRows",
    "RestoreTable",
    "TagList",
    "TouchTable",
    "TruncateTable",
    "UpdateRows",
    "VersionInfo",
    "VersionPage",
    "WaitForVersion",
]


class VersionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a version was."""

    version: int
    committed_us: int
    """Microseconds since the epoch."""
    operation: str
    data_change: bool
    schema_version: int
    rows: int
    rows_inserted: int
    rows_updated: int
    rows_deleted: int
    access_id: str
    read_version: int
    readable: bool


class VersionPage(Response, frozen=True, kw_only=True):
    """One page of versions; ``before`` asks for the next one and is None on the last."""

    versions: tuple[VersionInfo, ...]
    before: int | None = None
    oldest_version: int = 0


class TagList(Response, frozen=True, kw_only=True):
    """Tags in name order, and their versions."""

    tags: dict[str, int]


class Expired(Response, frozen=True, kw_only=True):
    """What `ExpireVersions` did or would do."""

    oldest_version: int
    versions: int = 0
    objects: int = 0
    bytes: int = 0


class ChangeRequest(TableRequest[Reply_co], frozen=True, kw_only=True):
    """A request that makes a table version."""

    if_version: int | None = None
    idempotency_key: str | None = None


class DeleteRows(ChangeRequest[Changed], frozen=True, kw_only=True):
    """Deletes the rows for which an SQL predicate is true."""

    where: str


class UpdateRows(ChangeRequest[Changed], frozen=True, kw_only=True):
    """Replaces values of the rows for which an SQL predicate is true; of all without one.

    ``expressions`` are SQL over the row as it was. ``values`` is an Arrow stream of one batch of
    one row: plain values, by column. No column may be in both.
    """

    expressions: dict[str, str] = msgspec.field(default_factory=dict)
    values: bytes = b""
    where: str = ""


class MergeRows(ChangeRequest[Changed], frozen=True, kw_only=True):
    """Merges the rows of a write session into its table, and ends the session.

    ``columns`` empty means that the rows are whole; else only these columns of theirs count, matched
    rows keep the others, and rows that are inserted have nulls there.
    """

    session_id: str
    on: tuple[str, ...]
    when_matched: str | None = "update"
    when_not_matched: str | None = "insert"
    when_not_matched_by_source: str | None = None
    columns: tuple[str, ...] = ()
    last_wins: bool = False
    """Of several rows of the session with one key the last one counts, instead of being refused.

    Keys are those of rows within their partitions then: partition columns are among them in any case.
    """
    operation: str = "merge"


class ReplaceRows(ChangeRequest[Changed], frozen=True, kw_only=True):
    """Puts the rows of a write session in the place of those for which a predicate is true."""

    session_id: str
    where: str


class TruncateTable(ChangeRequest[Changed], frozen=True, kw_only=True):
    """Deletes every row, or every row of the partitions that a leading part names."""

    partition: PartitionSpec = PartitionSpec()


class RestoreTable(ChangeRequest[Changed], frozen=True, kw_only=True):
    """Makes a new version with the rows and the columns of an older one."""

    version: int


class EnforceKey(ChangeRequest[Changed], frozen=True, kw_only=True):
    """Keeps the declared primary key of a table unique from now on.

    With ``keep_last``, of rows with one key only the last stays; else they are refused.
    """

    keep_last: bool = False


# --- history ---


class ListVersions(TableRequest[VersionPage], frozen=True, kw_only=True):
    """Versions that are known, newest first, one page below ``before``."""

    before: int | None = None
    max_items: int = 1000


class WaitForVersion(TableRequest[VersionPage], frozen=True, kw_only=True):
    """Waits until there is a version above ``since`` that changed data, or the time is over."""

    since: int
    timeout_ms: int = 0


class CreateTag(TableRequest[TagList], frozen=True, kw_only=True):
    """Names a version, the newest if none is given; retention keeps it while it has a name."""

    name: str
    version: int | None = None
    replace: bool = False
    idempotency_key: str | None = None


class ListTags(TableRequest[TagList], frozen=True, kw_only=True):
    """The tags of a table."""


class DropTag(TableRequest[TagList], frozen=True, kw_only=True):
    """Forgets a tag."""

    name: str
    idempotency_key: str | None = None


class ExpireVersions(TableRequest[Expired], frozen=True, kw_only=True):
    """Makes versions that were replaced before a moment unreadable, and forgets what only they show.

    With ``age_us`` the moment is so long ago by the service's clock; earlier releases go by ``older_than_us`` alone.
    """

    older_than_us: int
    age_us: int | None = None
    dry_run: bool = False


class CompactTable(TableRequest[Done], frozen=True, kw_only=True):
    """Merges small segments; ``purge`` also writes every segment anew that has lost rows."""

    purge: bool = False


# --- columns, names, properties ---


class DropColumns(ChangeRequest[TableInfo], frozen=True, kw_only=True):
    """Drops data columns. Older versions keep them."""

    names: tuple[str, ...]


class RenameColumn(ChangeRequest[TableInfo], frozen=True, kw_only=True):
    """Gives a data column another name."""

    name: str
    new_name: str


class AlterColumn(ChangeRequest[TableInfo], frozen=True, kw_only=True):
    """Changes a column: a wider type, whether it may be null, its comment, its place."""

    name: str
    type: str | None = None
    nullable: bool | None = None
    comment: str | None = None
    after: str | None = None
    """Put it behind this column; the empty name puts it first."""


class RenameTable(TableRequest[TableInfo], frozen=True, kw_only=True):
    """Gives a table another name in its schema."""

    new_name: str
    idempotency_key: str | None = None


class AlterTable(TableRequest[TableInfo], frozen=True, kw_only=True):
    """Sets and removes properties; sets comment, lifecycle and owner where they are given."""

    partition: PartitionSpec = PartitionSpec()
    """Whose properties are set, if not the table's: its storage tier, which is the only one."""
    set_properties: dict[str, str] = msgspec.field(default_factory=dict)
    remove_properties: tuple[str, ...] = ()
    comment: str | None = None
    lifecycle_days: int | None = None
    """0 removes the lifecycle."""
    owner: str | None = None
    idempotency_key: str | None = None


class TouchTable(TableRequest[TableInfo], frozen=True, kw_only=True):
    """Says that the data of a table, or of one partition, was modified just now; changes no row."""

    partition: PartitionSpec = PartitionSpec()
