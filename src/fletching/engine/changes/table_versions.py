"""The history of a table: its versions, tags, and what it was."""

from __future__ import annotations

import re
import threading
import time

from sqlalchemy import Connection

from fletching import faultpoints
from fletching.catalog import version_rows
from fletching.catalog.collecting import forget_removed
from fletching.catalog.table_rows import TableRow, get_table, lock_table
from fletching.catalog.version_rows import VersionRow
from fletching.engine.changes.made_changes import check_key, intent_of, remember, replayed
from fletching.engine.context import EngineContext
from fletching.engine.tables.partition_calls import page_size
from fletching.errors import InvalidArgumentError
from fletching.protocol.messages.changes import (
    Changed,
    CreateTag,
    DropTag,
    Expired,
    ExpireVersions,
    ListTags,
    ListVersions,
    TagList,
    VersionInfo,
    VersionPage,
    WaitForVersion,
)
from fletching.protocol.messages.vocabulary import MAX_WAIT_SECONDS

__all__ = ["History"]

MAX_TAG_LENGTH = 128

_POLL_SECONDS = 0.05
_TAG = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_SEGMENTS_PER_STEP = 2_000


class History:
    """Answers the requests about versions and tags. Thread-safe."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        # Long waits have threads of the server's; this many at once, the others return at once.
        self._waits = threading.BoundedSemaphore(8)

    def versions(self, request: ListVersions) -> VersionPage:
        """One page of versions, newest first.

        Raises:
            InvalidArgumentError: a page of less than one version.
        """
        limit = page_size(request.max_items)
        with self._context.database.read() as connection:
            table = get_table(connection, request.table)
            rows = version_rows.list_versions(
                connection, table.id, before=request.before, limit=limit + 1
            )
            tagged = set(version_rows.list_tags(connection, table.id).values())
        page = rows[:limit]
        return VersionPage(
            versions=tuple(_info(row, table, tagged) for row in page),
            before=page[-1].version if len(rows) > limit else None,
            oldest_version=table.oldest_version,
        )

    def wait(self, request: WaitForVersion) -> VersionPage:
        """The versions above one that changed data, as soon as there are some, oldest first.

        Raises:
            VersionNotFoundError: the versions since then are gone, or it is still to come.
        """
        wanted = min(max(request.timeout_ms, 0) / 1000, MAX_WAIT_SECONDS)
        deadline = time.monotonic() + wanted
        pause = _POLL_SECONDS
        held = wanted > 0 and self._waits.acquire(blocking=False)
        try:
            while True:
                page = self._since(request)
                left = deadline - time.monotonic()
                if page.versions or left <= 0 or not held:
                    return page
                time.sleep(min(pause, left))
                pause = min(pause * 1.5, 0.5)
        finally:
            if held:
                self._waits.release()

    def _since(self, request: WaitForVersion) -> VersionPage:
        with self._context.database.read() as connection:
            table = get_table(connection, request.table)
            if request.since < table.oldest_version or request.since > table.version:
                version_rows.refuse_version(table, request.since)
            rows = version_rows.versions_between(connection, table.id, request.since, table.version)
        return VersionPage(
            versions=tuple(_info(row, table, set()) for row in rows if row.data_change),
            oldest_version=table.oldest_version,
        )

    # --- tags ---

    def create_tag(self, request: CreateTag) -> TagList:
        """Names a version.

        Raises:
            InvalidArgumentError: the name looks like a number or a date, or is too long.
            VersionNotFoundError: the version is still to come, or gone.
            AlreadyExistsError: there is such a tag, and ``replace`` is not given.
        """
        if not _TAG.fullmatch(request.name) or len(request.name) > MAX_TAG_LENGTH:
            raise InvalidArgumentError(
                f"{request.name[:MAX_TAG_LENGTH]!r} is not a tag's name: 1 to {MAX_TAG_LENGTH} "
                "letters, digits, and _ . -, the first a letter or _"
            )
        now, key = self._context.clock(), request.idempotency_key
        check_key(key)
        intent = intent_of(request, "create tag")
        with self._context.database.write() as connection:
            table = lock_table(connection, get_table(connection, request.table).id)
            if replayed(connection, table.id, key, intent) is None:
                version = table.version if request.version is None else request.version
                version_rows.check_readable(connection, table, version)
                version_rows.add_tag(
                    connection, table, request.name, version, replace=request.replace, now=now
                )
                remember(connection, table.id, key, Changed(version=version), intent, now=now)
                faultpoints.reach("tag.created")
            return TagList(tags=version_rows.list_tags(connection, table.id))

    def tags(self, request: ListTags) -> TagList:
        """The tags of a table."""
        with self._context.database.read() as connection:
            table = get_table(connection, request.table)
            return TagList(tags=version_rows.list_tags(connection, table.id))

    def drop_tag(self, request: DropTag) -> TagList:
        """Forgets a tag.

        Raises:
            NotFoundError: there is no such tag.
        """
        now, key = self._context.clock(), request.idempotency_key
        check_key(key)
        intent = intent_of(request, "drop tag")
        with self._context.database.write() as connection:
            table = lock_table(connection, get_table(connection, request.table).id)
            if replayed(connection, table.id, key, intent) is None:
                version_rows.remove_tag(connection, table, request.name)
                remember(connection, table.id, key, Changed(version=table.version), intent, now=now)
            return TagList(tags=version_rows.list_tags(connection, table.id))

    # --- an end to it ---

    def expire(self, request: ExpireVersions) -> Expired:
        """Raises the horizon to the version that was the newest at a moment, and forgets the rest."""
        context = self._context
        now_us = int(context.clock() * 1_000_000)
        moment_us = request.older_than_us if request.age_us is None else now_us - request.age_us
        if request.dry_run:
            with context.database.trial() as connection:
                return self._expire(connection, request, moment_us, now_us)[0]
        total = Expired(oldest_version=0)
        more = True
        while more:
            with context.database.write() as connection:
                step, keys, more = self._expire(connection, request, moment_us, now_us)
            context.delete_objects(keys)
            total = Expired(
                oldest_version=step.oldest_version,
                versions=total.versions + step.versions,
                objects=total.objects + step.objects,
                bytes=total.bytes + step.bytes,
            )
        return total

    @staticmethod
    def _expire(
        connection: Connection, request: ExpireVersions, moment_us: int, now_us: int
    ) -> tuple[Expired, list[str], bool]:
        table = lock_table(connection, get_table(connection, request.table).id)
        horizon = version_rows.horizon_at(connection, table, moment_us, now_us)
        versions = 0
        if horizon > table.oldest_version:
            versions = version_rows.raise_horizon(connection, table, horizon)
        objects, more = forget_removed(
            connection,
            table.id,
            horizon=horizon,
            limit=_SEGMENTS_PER_STEP,
        )
        report = Expired(
            oldest_version=horizon,
            versions=versions,
            objects=len(objects),
            bytes=sum(item.length for item in objects),
        )
        return report, [item.key for item in objects], more


def _info(row: VersionRow, table: TableRow, tagged: set[int]) -> VersionInfo:
    return VersionInfo(
        version=row.version,
        committed_us=row.committed_us,
        operation=row.operation,
        data_change=row.data_change,
        schema_version=row.schema_version,
        rows=row.rows,
        rows_inserted=row.rows_inserted,
        rows_updated=row.rows_updated,
        rows_deleted=row.rows_deleted,
        access_id=row.access_id,
        read_version=row.read_version,
        readable=row.version >= table.oldest_version or row.version in tagged,
    )
