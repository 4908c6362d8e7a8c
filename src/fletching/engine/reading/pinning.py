"""Which version a read session pins, and what that version holds: its totals, and its snapshot."""

from __future__ import annotations

import dataclasses
import threading
from typing import TypeAlias

from sqlalchemy import Connection

from fletching.catalog.database import Database
from fletching.catalog.deletion_rows import read_vector, visible_deletions
from fletching.catalog.partition_rows import partition_names
from fletching.catalog.segment_rows import segments_since, visible_segments
from fletching.catalog.table_rows import TableRow, table_by_id
from fletching.catalog.version_rows import check_readable
from fletching.engine.reading.cache import RecentlyUsed
from fletching.engine.reading.change_feed import changes_between
from fletching.engine.reading.partition_filter import PartitionFilter
from fletching.engine.reading.snapshot import Snapshot
from fletching.engine.reading.snapshot_growth import grow
from fletching.errors import InvalidArgumentError, NoSuchTableError, VersionNotFoundError
from fletching.objects.store import ObjectStore
from fletching.protocol.messages.requests import CreateReadSession

__all__ = ["PinnedVersion", "Snapshots", "pinned_version"]

_SNAPSHOT_BYTES = 512 << 20  # summed over snapshots; a larger one is kept beside them
_CACHED_TABLES = 4096


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


SnapshotKey: TypeAlias = tuple[str, int, PartitionFilter, "int | None"]


class Snapshots:
    """The snapshots of versions, loaded from the catalog and kept, as one never changes. Thread-safe."""

    def __init__(self, database: Database, store: ObjectStore) -> None:
        """Knows none yet."""
        self._database = database
        self._store = store
        self._kept = RecentlyUsed[SnapshotKey, Snapshot](
            _SNAPSHOT_BYTES, weight=lambda snapshot: snapshot.size_bytes
        )
        # One that is larger than that is kept beside them, and does not have to make way for them.
        self._large = RecentlyUsed[SnapshotKey, Snapshot](1)
        self._newest = RecentlyUsed[str, int](_CACHED_TABLES)
        self._loading = threading.Lock()

    @property
    def cache(self) -> RecentlyUsed[SnapshotKey, Snapshot]:
        """Those that are kept."""
        return self._kept

    def get(
        self, table_id: str, version: int, wanted: PartitionFilter, since: int | None
    ) -> Snapshot:
        """The rows of a version in the wanted partitions, or the changes ``since`` another one."""
        snapshot = self._find((table_id, version, wanted, since))
        if snapshot is None:
            with self._loading:  # the second of two readers finds what the first has loaded
                snapshot = self._find((table_id, version, wanted, since))
                if snapshot is None:
                    with self._database.read() as connection:
                        snapshot = self.load(connection, table_id, version, wanted, since)
        return snapshot

    def _find(self, key: SnapshotKey) -> Snapshot | None:
        return self._kept.get(key) or self._large.get(key)

    def load(
        self,
        connection: Connection,
        table_id: str,
        version: int,
        wanted: PartitionFilter,
        since: int | None = None,
    ) -> Snapshot:
        """The snapshot, as the catalog has it in a transaction of the caller's; see `get`."""
        key = (table_id, version, wanted, since)
        snapshot = self._find(key)
        if snapshot is None:
            if since is not None:
                snapshot = changes_between(
                    connection,
                    self._store,
                    table_id,
                    (since, version),
                    wanted,
                    load=self._vector,
                )
            elif wanted.everything:
                snapshot = self._whole_snapshot(connection, table_id, version)
            else:
                chosen = wanted.named
                if chosen is None:
                    names = partition_names(connection, table_id, version)
                    chosen = [values for values in names if wanted.matches(values)]
                snapshot = Snapshot.of(
                    visible_segments(connection, table_id, version, chosen),
                    visible_deletions(connection, table_id, version),
                    self._vector,
                )
            large = snapshot.size_bytes > _SNAPSHOT_BYTES
            (self._large if large else self._kept).put(key, snapshot)
        return snapshot

    def _whole_snapshot(self, connection: Connection, table_id: str, version: int) -> Snapshot:
        """All rows of a version: of the newest version that is known, and what changed since.

        A writer that commits every second would else make every reader load everything anew.
        """
        deleted = visible_deletions(connection, table_id, version)
        known = self._newest.get(table_id)
        base = None
        if known is not None and known <= version:
            base = self._find((table_id, known, PartitionFilter(), None))
        changed = None
        if base is not None and known is not None:
            changed = segments_since(connection, table_id, known, version)
        if base is not None and changed is not None:
            snapshot = grow(base, *changed, deleted, self._vector)
        else:
            snapshot = Snapshot.of(
                visible_segments(connection, table_id, version), deleted, self._vector
            )
        if known is None or known <= version:
            self._newest.put(table_id, version)
        return snapshot

    def _vector(self, deletion_id: int) -> bytes | None:
        """The vector of a deletion that was too large to come with the snapshot."""
        with self._database.read() as connection:
            return read_vector(connection, deletion_id)
