"""Which version a read session pins, and what that version holds."""

from __future__ import annotations

import dataclasses

from sqlalchemy import Connection

from fletching.catalog.table_rows import TableRow, table_by_id
from fletching.catalog.version_rows import check_readable
from fletching.errors import InvalidArgumentError, NoSuchTableError, VersionNotFoundError
from fletching.protocol.messages.requests import CreateReadSession

__all__ = ["PinnedVersion", "pinned_version"]


@dataclasses.dataclass(frozen=True, slots=True)
class PinnedVersion:
    """A version with its totals.

    Attributes:
        version: the version that is read.
        schema_version: the schema that it has.
        rows, bytes, segments: what it shows.
        since: of a change feed, the version that it begins after; None for a snapshot.
    """

    version: int
    schema_version: int
    rows: int
    bytes: int
    segments: int
    since: int | None = None


def pinned_version(
    connection: Connection, table: TableRow, request: CreateReadSession
) -> PinnedVersion:
    """The version that a session reads, in the transaction that pins it.

    Raises:
        VersionNotFoundError: it is still to come, or gone.
        InvalidArgumentError: the changes begin after they end.
    """
    if request.version is None and request.since_version is None:
        return PinnedVersion(
            table.version, table.schema_version, table.rows, table.bytes, table.segments
        )
    # Under the table's lock, so that retention raises the horizon before this looks or sees it pinned.
    locked = table_by_id(connection, table.id, lock=True)
    if locked is None or locked.dropped_at is not None:
        raise NoSuchTableError(f"there is no table {table.name}")
    version = locked.version if request.version is None else request.version
    row = check_readable(connection, locked, version)
    since = request.since_version
    if since is not None:
        if since > version:
            raise InvalidArgumentError(
                f"changes since version {since} cannot end with version {version}",
                actual=since,
                limit=version,
            )
        if since < locked.oldest_version:
            # A tag keeps its version, but not the changes between it and the next.
            raise VersionNotFoundError(
                f"the changes since version {since} are gone; the oldest version that changes can "
                f"be read from is {locked.oldest_version}",
                actual=since,
                limit=locked.oldest_version,
            )
    return PinnedVersion(version, row.schema_version, row.rows, row.bytes, row.segments, since)
