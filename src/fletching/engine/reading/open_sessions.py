"""What opening read sessions asks of the catalog: a version to pin, a bound on how many are open, and a row.

Counting costs time in proportion to what is open: beside 10,000 sessions, opening another one would
take ten times as long as opening the first. So it is done only when it may matter.

Reading needs no lock, but a session is a row, and a writer of another process may keep every other out for
minutes. So a session is answered for from memory until its row can be written (`WaitingRows`). That is
safe for a snapshot of a table's current version: its segments stay for ``retain_seconds`` after a later
commit removes them, and whoever could forget them needs the same lock first. What is lost with the process
is a session that its client opens again.

Nobody's session is left out to save a transaction: whoever forgets versions by hand (``expire_versions``)
does so at once, and finds in the catalog alone what is still read.
"""

from __future__ import annotations

import dataclasses
import threading

from sqlalchemy import Connection

from fletching.catalog.partition_rows import PartitionRow, get_table_and_partitions
from fletching.catalog.read_session_rows import (
    ReadSessionRow,
    count_open_read_sessions,
    extend_read_session,
    insert_read_session,
)
from fletching.catalog.table_rows import TableRow, get_table, table_by_id
from fletching.catalog.version_rows import check_readable
from fletching.engine.engine_settings import SESSION_RETRY_SECONDS
from fletching.engine.reading.change_feed import is_incremental
from fletching.engine.tables.schema_checks import check_no_view
from fletching.errors import (
    InvalidArgumentError,
    NoSuchTableError,
    ThrottledError,
    VersionNotFoundError,
)
from fletching.protocol.messages.requests import CreateReadSession

__all__ = [
    "OpenSessions",
    "PinnedVersion",
    "find_wanted",
    "pinned_version",
    "pins_current",
    "write_waiting_session",
]


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
        NoSuchTableError: it is of a table that had the name before.
        InvalidArgumentError: the changes begin after they end.
    """
    if request.version is None and request.since_version is None:
        return PinnedVersion(
            table.version, table.schema_version, table.rows, table.bytes, table.segments
        )
    if request.table_id not in {"", table.id}:
        raise NoSuchTableError(
            f"table {table.name} was dropped, and there is another of its name since: its versions are others"
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


MOST_GUESSED = 100
"""So many wanted partitions are looked for together with the table."""


def find_wanted(
    connection: Connection, request: CreateReadSession
) -> tuple[TableRow, dict[tuple[str, ...], PartitionRow]]:
    """The table, and by the same statement the wanted partitions as far as they are there.

    Under the values as the request writes and orders them, which are nearly always the table's; whatever
    is not among those that are found is looked for again when the table's columns are known.
    """
    wanted = {tuple(value for _, value in spec.items) for spec in request.required_partitions}
    if not wanted or len(wanted) > MOST_GUESSED:
        return check_no_view(get_table(connection, request.table)), {}
    table, rows = get_table_and_partitions(connection, request.table, wanted)
    return check_no_view(table), {row.values: row for row in rows}


def pins_current(request: CreateReadSession) -> bool:
    """Whether a session reads the table's version of this moment, whose segments nobody forgets soon."""
    unversioned = request.version is None and request.since_version is None
    return unversioned and not is_incremental(request)


RECOUNT_SECONDS = 10.0
"""How old a count may be: other processes open sessions in the same catalog."""


class OpenSessions:
    """Lets sessions be opened up to a limit. Thread-safe.

    Exact where one process opens sessions; several may exceed the limit by what they open together
    within ``RECOUNT_SECONDS``.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._room = 0
        self._counted_at = float("-inf")

    def admit(self, connection: Connection, now: float) -> None:
        """Counts in a session that is about to be opened.

        Raises:
            ThrottledError: too many are open; some end by themselves.
        """
        with self._lock:
            age = now - self._counted_at
            # A clock that was set back makes the age negative.
            if self._room <= 0 or not 0 <= age < RECOUNT_SECONDS:
                self._room = self._limit - count_open_read_sessions(connection, now, self._limit)
                self._counted_at = now
            if self._room <= 0:
                raise ThrottledError(
                    f"{self._limit} read sessions are open, which is the limit",
                    retry_after_seconds=SESSION_RETRY_SECONDS,
                )
            self._room -= 1


def write_waiting_session(connection: Connection, row: ReadSessionRow, new: bool) -> None:
    """Writes a session that waited, or its new expiry."""
    if new:
        insert_read_session(connection, row)
    else:
        extend_read_session(connection, row.id, row.expires_at)
