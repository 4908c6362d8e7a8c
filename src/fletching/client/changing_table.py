"""The verbs that change a table, and its history: the part of `Table` that is about versions."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fletching.client.change_reports import ChangeReport, TableVersion
from fletching.client.transports.channel import Channel
from fletching.errors import UsageError
from fletching.protocol.messages import changes as messages
from fletching.protocol.messages.admin import DescribeTable, TableInfo
from fletching.protocol.messages.changes import ChangeRequest
from fletching.protocol.messages.responses import Changed, Done
from fletching.types import PartitionSpec, TableName

if TYPE_CHECKING:
    from fletching.client.table_history import ChangeSet, TableAsOf

__all__ = ["ChangingTable", "Moment"]

Moment = int | str | dt.datetime
"""A version by its number, a tag's name, or an aware moment."""

_EPOCH = dt.datetime.fromtimestamp(0, dt.UTC)


class ChangingTable:
    """What `Table` inherits; not made by itself."""

    channel: Channel
    full_name: TableName

    READ_ONLY: ClassVar[str] = ""

    def _new_key(self, key: str | None) -> str:
        """An idempotency key, so that a change may be sent again when its answer is lost."""
        if self.READ_ONLY:
            raise UsageError(self.READ_ONLY)
        return key or f"change-{secrets.token_hex(12)}"

    def _changed(self, request: ChangeRequest) -> ChangeReport:
        return ChangeReport.of(self.channel.call(request, Changed))

    # --- rows ----------------------------------------------------------------------------------

    def delete(
        self, where: str, *, if_version: int | None = None, idempotency_key: str | None = None
    ) -> ChangeReport:
        """Deletes the rows for which an SQL predicate is true.

        Args:
            where: over data and partition columns; rows for which it is null stay.
            if_version: refuse if anything but upkeep has happened since this version.
            idempotency_key: a change with the key of an earlier one changes nothing, and is
                answered as that one was.

        Raises:
            InvalidArgumentError: it is no predicate.
            ConflictError: the table is not at ``if_version``, or others were always faster.
            ServiceError: the service refused; nothing is changed.
            TransportError: no answer within the retry budget: repeat it with an idempotency key.
        """
        key = self._new_key(idempotency_key)
        return self._changed(
            messages.DeleteRows(
                table=self.full_name, where=where, if_version=if_version, idempotency_key=key
            )
        )

    def truncate(
        self,
        partition: str | PartitionSpec | Mapping[str, object] | None = None,
        *,
        if_version: int | None = None,
        idempotency_key: str | None = None,
    ) -> ChangeReport:
        """Deletes every row, or those of one partition or of all that a leading part names.

        Arguments and errors otherwise as `delete`.
        """
        key = self._new_key(idempotency_key)
        return self._changed(
            messages.TruncateTable(
                table=self.full_name,
                partition=PartitionSpec.parse(partition),
                if_version=if_version,
                idempotency_key=key,
            )
        )

    # --- history -------------------------------------------------------------------------------

    def versions(self, limit: int | None = None) -> list[TableVersion]:
        """The versions that are known, newest first; all of them, or the newest ``limit``."""
        found: list[TableVersion] = []
        before: int | None = None
        while limit is None or len(found) < limit:
            size = 1000 if limit is None else min(1000, limit - len(found))
            page = self.channel.call(
                messages.ListVersions(table=self.full_name, before=before, max_items=size),
                messages.VersionPage,
            )
            found += [TableVersion.of(each) for each in page.versions]
            if page.before is None:
                break
            before = page.before
        return found

    def as_of(self, version: Moment) -> TableAsOf:
        """The table as it was, for reading: its rows, columns and names of then.

        Args:
            version: a version's number; a tag's name; or an aware moment, which means the last
                version committed then or before.

        Raises:
            UsageError: a datetime without a time zone.
            VersionNotFoundError: there is none, it is still to come, or retention has taken it.
        """
        from fletching.client.table_history import TableAsOf

        return TableAsOf(self.channel, self._info_at(version))

    def _info_at(self, version: Moment) -> TableInfo:
        request = DescribeTable(table=self.full_name)
        if isinstance(version, bool):
            raise UsageError("a version is a number, a tag's name or an aware datetime")
        if isinstance(version, int):
            request = DescribeTable(table=self.full_name, version=version)
        elif isinstance(version, str):
            request = DescribeTable(table=self.full_name, tag=version)
        elif isinstance(version, dt.datetime):
            request = DescribeTable(table=self.full_name, moment_us=_microseconds(version))
        else:
            raise UsageError("a version is a number, a tag's name or an aware datetime")
        return self.channel.call(request, TableInfo)

    def restore(
        self,
        version: Moment,
        *,
        if_version: int | None = None,
        idempotency_key: str | None = None,
    ) -> ChangeReport:
        """Makes a new version with the rows and the columns of an older one.

        What is undone stays in the history. Name, properties and grants of the table stay as they
        are. Arguments and errors otherwise as `as_of` and `delete`.
        """
        key = self._new_key(idempotency_key)
        number = version if isinstance(version, int) else self._info_at(version).version
        return self._changed(
            messages.RestoreTable(
                table=self.full_name, version=number, if_version=if_version, idempotency_key=key
            )
        )

    def tags(self) -> dict[str, int]:
        """The names that versions have."""
        return self.channel.call(messages.ListTags(table=self.full_name), messages.TagList).tags

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
        if number is not None and not isinstance(number, int):
            number = self._info_at(number).version
        self.channel.call(
            messages.CreateTag(table=self.full_name, name=name, version=number, replace=replace),
            messages.TagList,
        )

    def drop_tag(self, name: str) -> None:
        """Forgets a tag.

        Raises:
            NotFoundError: there is no such tag.
        """
        self.channel.call(messages.DropTag(table=self.full_name, name=name), messages.TagList)

    def changes(
        self,
        since: Moment,
        until: Moment | None = None,
        *,
        columns: Iterable[str] | None = None,
        filter: str | None = None,  # noqa: A002  # the query's own word
    ) -> Any:
        """The rows that came and went in the versions above ``since``, up to ``until``: a scan.

        Beside the table's columns it has ``_change_type`` (``insert``, ``delete``; of updates by
        key ``update_preimage`` and ``update_postimage``), ``_commit_version`` and
        ``_commit_timestamp``. Versions come in order, in each first what went. The rows of ``since``
        with these changes applied are the rows of ``until``.

        Args:
            since: the version before the first one of interest.
            until: the last one; None for the newest.
            columns: which of all these columns; None for all.
            filter: an SQL predicate over all these columns.

        Raises:
            VersionNotFoundError: a version is still to come, or gone.
        """
        from fletching.client.table_history import changes_scan

        return changes_scan(self.channel, self._info_at, self.full_name, since, until).scan(
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
        """
        from fletching.client.table_history import watched

        return watched(self.channel, self._info_at, self.full_name, since, timeout)

    def compact(self, purge: bool = False) -> None:
        """Merges small segments now instead of in the background; rows and their order stay.

        Args:
            purge: also write every segment anew that has lost rows. Deleted rows are then in no
                segment of the newest version; those of older versions keep them until
                `expire_versions`, or the table's retention, takes these.
        """
        self._new_key(None)
        self.channel.call(messages.CompactTable(table=self.full_name, purge=purge), Done)

    def expire_versions(
        self, older_than: dt.datetime | dt.timedelta, *, dry_run: bool = False
    ) -> dict[str, int]:
        """Makes versions that were replaced before a moment unreadable; frees what only they show.

        Tags and open read sessions keep their versions.

        Args:
            older_than: an aware moment, or how long ago.
            dry_run: say what would go, and keep it.

        Returns:
            ``oldest_version`` that can be read after it, and the ``versions``, ``objects`` and
            ``bytes`` that went.
        """
        if isinstance(older_than, dt.timedelta):
            older_than = dt.datetime.now(dt.UTC) - older_than
        reply = self.channel.call(
            messages.ExpireVersions(
                table=self.full_name, older_than_us=_microseconds(older_than), dry_run=dry_run
            ),
            messages.Expired,
        )
        return {
            "oldest_version": reply.oldest_version,
            "versions": reply.versions,
            "objects": reply.objects,
            "bytes": reply.bytes,
        }


def _microseconds(moment: dt.datetime) -> int:
    if moment.tzinfo is None:
        raise UsageError(
            "a moment needs a time zone: datetime.now(timezone.utc), not datetime.now()"
        )
    return (moment - _EPOCH) // dt.timedelta(microseconds=1)


WhenMatched = Literal["update", "delete"]
