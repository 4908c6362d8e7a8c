"""A table as it was, and its changes: what `as_of`, `changes` and `watch` give."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, NoReturn, Unpack

import pyarrow as pa

from fletching.client.call_options import OptionChanges
from fletching.client.changing_table import Moment
from fletching.client.reading.scan import Scan
from fletching.client.table import PartitionLike, Table
from fletching.client.transports.channel import Channel
from fletching.errors import TransportError, UsageError
from fletching.protocol.messages import changes as messages
from fletching.protocol.messages.admin import TableInfo
from fletching.types import TableName

__all__ = ["ChangeSet", "TableAsOf", "changes_scan", "watched"]

_CHANGE_FIELDS = (
    pa.field("_change_type", pa.string(), nullable=False),
    pa.field("_commit_version", pa.int64(), nullable=False),
    pa.field("_commit_timestamp", pa.timestamp("ns"), nullable=False),
)
_WAIT_SECONDS = 20.0  # of one request; a proxy between cuts longer ones


class TableAsOf(Table):
    """A table at one version: everything that reads works as for the table itself."""

    READ_ONLY: ClassVar[str] = "a table as it was can only be read; change the table itself"

    @property
    def version(self) -> int:
        """The version that is read."""
        return self._info.version

    def reload(self) -> TableAsOf:
        """A version never changes, so this only returns the table."""
        return self

    def with_options(self, **changes: Unpack[OptionChanges]) -> TableAsOf:
        """The same version with other options for all its calls."""
        return TableAsOf(self.channel.changed(**changes), self._info)

    def scan(
        self,
        columns: Iterable[str] | None = None,
        partitions: Iterable[PartitionLike] | PartitionLike | None = None,
        filter: str | None = None,  # noqa: A002  # the query's own word
        limit: int | None = None,
        version: Moment | None = None,
    ) -> Scan:
        """Describes a read of this version; see `Table.scan`."""
        if version is not None:
            raise UsageError("the version is chosen already")
        found = super().scan(columns, partitions, filter, limit)
        return dataclasses.replace(found, version=self._info.version)

    def count_rows(
        self,
        partition: PartitionLike | None = None,
        *,
        filter: str | None = None,  # noqa: A002  # the query's own word
    ) -> int:
        """How many rows the version shows; see `Table.count_rows`."""
        if partition is None and filter is None:
            return self._info.rows
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

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        """A version cannot be changed."""
        raise UsageError(self.READ_ONLY)

    partitions = _refuse
    create_partition = _refuse
    drop_partition = _refuse
    add_columns = _refuse
    append = _refuse
    overwrite = _refuse
    write_session = _refuse
    open_write_session = _refuse
    stream_writer = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles by name, version and by what reopens the client."""
        return _reopened, (self.channel.reopen, self._info)


def _reopened(reopen: Any, info: TableInfo) -> TableAsOf:
    return TableAsOf(reopen(), info)


class _TableChanges(TableAsOf):
    """The changes between two versions, as a table to scan."""

    since: int

    def _set(self, info: TableInfo) -> None:
        super()._set(info)
        # As partition columns: constants of each part that come behind the others.
        self._schema = pa.schema([*self._schema, *_CHANGE_FIELDS], metadata=self._schema.metadata)

    def scan(self, *arguments: Any, **options: Any) -> Scan:
        """Describes a read of the changes."""
        return dataclasses.replace(super().scan(*arguments, **options), since=self.since)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened_changes, (self.channel.reopen, self._info, self.since)


def _reopened_changes(reopen: Any, info: TableInfo, since: int) -> _TableChanges:
    table = _TableChanges(reopen(), info)
    table.since = since
    return table


def changes_scan(
    channel: Channel,
    info_at: Callable[[Moment], TableInfo],
    name: TableName,
    since: Moment,
    until: Moment | None,
) -> _TableChanges:
    """The changes of the versions above one, up to another, as a table to scan."""
    last = info_at(_newest(channel, name) if until is None else until)
    table = _TableChanges(channel, last)
    table.since = since if isinstance(since, int) else info_at(since).version
    return table


def _newest(channel: Channel, name: TableName) -> int:
    page = channel.call(messages.ListVersions(table=name, max_items=1), messages.VersionPage)
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


def watched(
    channel: Channel,
    info_at: Callable[[Moment], TableInfo],
    name: TableName,
    since: Moment | None,
    timeout: float | None,
) -> Iterator[ChangeSet]:
    """Waits for versions; see `Table.watch`."""
    if timeout is not None and timeout < 0:
        raise UsageError("a timeout is 0 seconds or more")
    last = _newest(channel, name) if since is None else info_at(since).version
    return _watch(channel, info_at, name, last, timeout)


def _watch(
    channel: Channel,
    info_at: Callable[[Moment], TableInfo],
    name: TableName,
    last: int,
    timeout: float | None,
) -> Iterator[ChangeSet]:
    waited_since = time.monotonic()
    while True:
        left = _WAIT_SECONDS
        if timeout is not None:
            left = min(left, max(0.0, timeout - (time.monotonic() - waited_since)))
        request = messages.WaitForVersion(table=name, since=last, timeout_ms=int(left * 1000))
        began = time.monotonic()
        try:
            page = channel.call(request, messages.VersionPage)
        except TransportError:
            # The service may be starting again: whoever waits goes on waiting.
            if timeout is not None and time.monotonic() - waited_since >= timeout:
                raise
            time.sleep(0.5)
            continue
        for each in page.versions:
            changed = changes_scan(channel, info_at, name, each.version - 1, each.version)
            yield ChangeSet(each.version, changed.scan())
            last = each.version
            waited_since = time.monotonic()
        if page.versions:
            continue
        if timeout is not None and time.monotonic() - waited_since >= timeout:
            return
        if time.monotonic() - began < min(left, 0.2):
            # Too many wait at the service for this one to be held.
            time.sleep(0.2)
