"""A table as users hold it: its rows, the verbs that change it, and its history."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, NoReturn, Self

import pyarrow as pa

from fletching.client.argument_checks import whole_number
from fletching.client.change_reports import ChangeReport, TableVersion, VersionList
from fletching.client.changing_table import ChangingTable
from fletching.client.reading.filter_text import Condition
from fletching.client.reading.scan import Scan
from fletching.client.stored_table import Moment, microseconds
from fletching.client.transports.channel import Channel, Reopening
from fletching.errors import NoSuchTableError, TransportError, UsageError
from fletching.protocol.messages import changes as messages
from fletching.protocol.messages.admin import TableInfo
from fletching.types import PartitionLike, TableName

__all__ = ["ChangeSet", "Table", "TableAsOf"]

_logger = logging.getLogger("fletching.client")

_CHANGE_FIELDS = (
    pa.field("_change_type", pa.string(), nullable=False),
    pa.field("_commit_version", pa.int64(), nullable=False),
    pa.field("_commit_timestamp", pa.timestamp("ns"), nullable=False),
)
_WAIT_SECONDS = 20.0  # of one request; a proxy between cuts longer ones


class Table(ChangingTable):
    """A table of one client; made by ``client.table`` and ``client.create_table``. Thread-safe.

    Attributes:
        full_name: project, schema and name.
        channel: how the table calls; for what is built on it.
    """

    def versions(self, limit: int | None = None) -> list[TableVersion]:
        """The versions that are known, newest first; all of them, or the newest ``limit``."""
        if limit is not None:
            whole_number("limit", limit)
        result = VersionList()
        before: int | None = None
        while limit is None or len(result) < limit:
            size = 1000 if limit is None else min(1000, limit - len(result))
            page = self.channel.call(
                messages.ListVersions(table=self.full_name, before=before, max_items=size)
            )
            result += [TableVersion.of(each) for each in page.versions]
            if page.before is None:
                break
            before = page.before
        return result

    def as_of(self, version: Moment) -> TableAsOf:
        """The table as it was, for reading: its rows, columns and names of then.

        Args:
            version: a version's number; a tag's name; or an aware moment, which means the last
                version committed then or before.

        Raises:
            UsageError: a datetime without a time zone.
            VersionNotFoundError: there is none, it is still to come, or retention has taken it.
        """
        return TableAsOf(self.channel, self._info_at(version))

    def restore(
        self,
        version: Moment,
        *,
        if_version: int | None = None,
        idempotency_key: str | None = None,
    ) -> ChangeReport:
        """Makes a new version with the rows and the columns of an older one.

        What is undone stays in the history. Name, properties and grants of the table stay as they
        are; this object has the columns of then afterwards. Arguments and errors otherwise as `as_of` and `delete`.
        """
        key = self._new_key(idempotency_key)
        number = version if type(version) is int else self._info_at(version).version
        report = self._changed(
            messages.RestoreTable(
                table=self.full_name, version=number, if_version=if_version, idempotency_key=key
            )
        )
        self.reload()
        return report

    def tags(self) -> dict[str, int]:
        """The names that versions have."""
        return self.channel.call(messages.ListTags(table=self.full_name)).tags

    def create_tag(
        self, name: str, version: Moment | None = None, *, replace: bool = False
    ) -> None:
        """Names a version, by default the newest; retention keeps it as long as it has a name.

        Raises:
            InvalidArgumentError: a name that looks like a number or a date.
            AlreadyExistsError: there is such a tag, and ``replace`` was not given.
            VersionNotFoundError: the version is still to come, or gone.
        """
        number = version
        if number is not None and type(number) is not int:
            number = self._info_at(number).version
        self.channel.call(
            messages.CreateTag(table=self.full_name, name=name, version=number, replace=replace)
        )

    def drop_tag(self, name: str) -> None:
        """Forgets a tag.

        Raises:
            NotFoundError: there is no such tag.
        """
        self.channel.call(messages.DropTag(table=self.full_name, name=name))

    def changes(
        self,
        since: Moment,
        until: Moment | None = None,
        *,
        columns: Iterable[str] | None = None,
        filter: Condition | None = None,  # noqa: A002  # the query's own word
    ) -> Scan:
        """The rows that came and went in the versions above ``since``, up to ``until``: a scan.

        Beside the table's columns it has ``_change_type`` (``insert``, ``delete``; of updates by
        key ``update_preimage`` and ``update_postimage``), ``_commit_version`` and
        ``_commit_timestamp``. Versions come in order, in each first what went. The rows of ``since``
        with these changes applied are the rows of ``until``.

        Args:
            since: the version before the first one of interest.
            until: the last one; None for the newest.
            columns: which of all these columns; None for all.
            filter: over all these columns; as of `scan`.

        Raises:
            VersionNotFoundError: a version is still to come, or gone.
        """
        return _changes_between(self.channel, self._info_at, self.full_name, since, until).scan(
            columns=columns, filter=filter
        )

    def watch(
        self, since: Moment | None = None, timeout: float | None = None
    ) -> Iterator[ChangeSet]:
        """Waits for versions and gives the changes of each, in order, once.

        Goes on after the service restarts. Versions without changed rows are passed over.

        Args:
            since: give what came after this version; None for what comes from now on.
            timeout: end when so many seconds have passed without a version; None waits for ever.

        Raises:
            VersionNotFoundError: retention took what was not read yet.
            NoSuchTableError: the table was dropped, also if there is another of its name since.
        """
        return _watched(self.channel, self._info_at, self.info, since, timeout)

    def compact(self, purge: bool = False) -> None:
        """Merges small segments now instead of in the background; rows and their order stay.

        Args:
            purge: also write every segment anew that has lost rows. Deleted rows are then in no
                segment of the newest version; those of older versions keep them until
                `expire_versions`, or the table's retention, takes these. If one is left that
                still has such rows, for whatever reason, that is an error.

        Raises:
            CorruptObjectError, DamagedDataError: of a purge: a segment with deleted rows is damaged, and
                was left alone, since what would be left of it cannot be proven. The others are purged.
            ConflictError: of a purge: others were at the table for too long; try again.
        """
        self._new_key(None)
        request = messages.CompactTable(table=self.full_name, purge=purge)
        done = self.channel.call(request)
        if done.warning_message:
            _logger.warning("compaction of table %s: %s", self.full_name, done.warning_message)

    def expire_versions(
        self, older_than: dt.datetime | dt.timedelta, *, dry_run: bool = False
    ) -> dict[str, int]:
        """Makes versions that were replaced before a moment unreadable; frees what only they show.

        Tags and open read sessions keep their versions.

        Args:
            older_than: an aware moment, or how long ago by the service's clock; what has been replaced at all is
                older than ``timedelta(0)``.
            dry_run: say what would go, and keep it.

        Returns:
            ``oldest_version`` that can be read after it, and the ``versions``, ``objects`` and
            ``bytes`` that went.

        Raises:
            UsageError: a moment without a time zone, or less than no time ago.
            ServiceError, TransportError: as for `reload`.
        """
        age_us = None
        if isinstance(older_than, dt.timedelta):
            if older_than < dt.timedelta():
                raise UsageError(f"versions cannot be older than {older_than}: give how long ago")
            age_us = older_than // dt.timedelta(microseconds=1)
            older_than = dt.datetime.now(dt.UTC) - older_than
        reply = self.channel.call(
            messages.ExpireVersions(
                table=self.full_name,
                older_than_us=microseconds(older_than),
                age_us=age_us,
                dry_run=dry_run,
            )
        )
        return {
            "oldest_version": reply.oldest_version,
            "versions": reply.versions,
            "objects": reply.objects,
            "bytes": reply.bytes,
        }


class TableAsOf(Table):
    """A table at one version: everything that reads works as for the table itself."""

    READ_ONLY: ClassVar[str] = "a table as it was can only be read; change the table itself"

    @property
    def version(self) -> int:
        """The version that is read."""
        return self.info.version

    def _set(self, info: TableInfo) -> None:
        super()._set(info)
        # Those that had rows then; when they came into being is not remembered.
        self._partitions_version = info.version

    def reload(self) -> Self:
        """A version never changes, so this only returns the table."""
        return self

    def scan(
        self,
        columns: Iterable[str] | None = None,
        partitions: Iterable[PartitionLike] | PartitionLike | None = None,
        filter: Condition | None = None,  # noqa: A002  # the query's own word
        limit: int | None = None,
        version: Moment | None = None,
    ) -> Scan:
        """Describes a read of this version; see `Table.scan`."""
        if version is not None:
            raise UsageError("the version is chosen already")
        result = super().scan(columns, partitions, filter, limit)
        return dataclasses.replace(result, version=self.info.version)

    def count_rows(
        self,
        partition: PartitionLike | None = None,
        *,
        filter: Condition | None = None,  # noqa: A002  # the query's own word
    ) -> int:
        """How many rows the version shows; see `Table.count_rows`."""
        if partition is None and filter is None:
            return self.info.rows
        partitions = None if partition is None else [partition]
        scan = self.scan(columns=[], partitions=partitions, filter=filter)
        return sum(batch.num_rows for batch in scan.to_batches())

    def preview(
        self,
        limit: int = 10,
        *,
        partition: PartitionLike | None = None,
        columns: Iterable[str] | None = None,
    ) -> pa.Table:
        """A few rows of the version."""
        partitions = None if partition is None else [partition]
        return self.scan(columns, partitions, limit=limit).to_table()

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        """A version cannot be changed."""
        raise UsageError(self.READ_ONLY)

    create_partition = _refuse
    drop_partition = _refuse
    add_columns = _refuse
    append = _refuse
    overwrite = _refuse
    write_session = _refuse
    open_write_session = _refuse
    stream_writer = _refuse


class _TableChanges(TableAsOf):
    """The changes between two versions, as a table to scan."""

    since: int

    def _set(self, info: TableInfo) -> None:
        super()._set(info)
        # As partition columns: constants of each part that come behind the others.
        schema = self.schema
        schema = pa.schema([*schema, *_CHANGE_FIELDS], metadata=schema.metadata)
        self._known = self._known._replace(schema=schema)

    def scan(self, *arguments: Any, **options: Any) -> Scan:
        """Describes a read of the changes."""
        return dataclasses.replace(super().scan(*arguments, **options), since=self.since)

    def __reduce__(self) -> tuple[object, ...]:
        return _reopened_changes, (self.channel.reopen, self.info, self.since)


def _reopened_changes(reopen: Reopening, info: TableInfo, since: int) -> _TableChanges:
    table = _TableChanges(reopen(), info)
    table.since = since
    return table


def _changes_between(
    channel: Channel,
    info_at: Callable[[Moment], TableInfo],
    name: TableName,
    since: Moment,
    until: Moment | None,
) -> _TableChanges:
    """The changes of the versions above one, up to another, as a table to scan."""
    last = info_at(_newest(channel, name) if until is None else until)
    table = _TableChanges(channel, last)
    table.since = since if type(since) is int else info_at(since).version
    return table


def _newest(channel: Channel, name: TableName) -> int:
    page = channel.call(messages.ListVersions(table=name, max_items=1))
    return page.versions[0].version


@dataclasses.dataclass(frozen=True, slots=True)
class ChangeSet:
    """The changes of one version.

    Attributes:
        version: the version that made them.
        changes: a scan of its rows; see `Table.changes`.
    """

    version: int
    changes: Scan


def _watched(
    channel: Channel,
    info_at: Callable[[Moment], TableInfo],
    table: TableInfo,
    since: Moment | None,
    timeout: float | None,
) -> Iterator[ChangeSet]:
    """Waits for versions; see `Table.watch`."""
    if timeout is not None and timeout < 0:
        raise UsageError("a timeout is 0 seconds or more")
    first = info_at(_newest(channel, table.table) if since is None else since)
    _check_same(table, first)
    return _watch(channel, info_at, first, timeout)


def _check_same(table: TableInfo, now: TableInfo) -> None:
    """A version's number means nothing in another table."""
    if now.table_id != table.table_id:
        raise NoSuchTableError(
            f"table {table.table} was dropped, and there is another of its name since: its versions"
            " do not follow those of the first"
        )


def _watch(
    channel: Channel,
    info_at: Callable[[Moment], TableInfo],
    first: TableInfo,
    timeout: float | None,
) -> Iterator[ChangeSet]:
    name, last = first.table, first.version
    waited_since = time.monotonic()
    while True:
        left = _WAIT_SECONDS
        if timeout is not None:
            left = min(left, max(0.0, timeout - (time.monotonic() - waited_since)))
        request = messages.WaitForVersion(table=name, since=last, timeout_ms=int(left * 1000))
        began = time.monotonic()
        try:
            page = channel.call(request)
        except TransportError:
            # The service may be starting again: whoever waits goes on waiting.
            if timeout is not None and time.monotonic() - waited_since >= timeout:
                raise
            channel.cancellation.wait(0.5)
            continue
        for each in page.versions:
            changed = _changes_between(channel, info_at, name, each.version - 1, each.version)
            _check_same(first, changed.info)
            yield ChangeSet(each.version, changed.scan())
            last = each.version
            waited_since = time.monotonic()
        if page.versions:
            continue
        if timeout is not None and time.monotonic() - waited_since >= timeout:
            return
        if time.monotonic() - began < min(left, 0.2):
            # Too many wait at the service for this one to be held.
            channel.cancellation.wait(0.2)
