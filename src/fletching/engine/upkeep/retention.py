"""Retention: collects what nobody needs, and says what it collects.

===================  ==========================================================================
what                 when it goes
===================  ==========================================================================
write sessions       unfinished ones when they expire, with what they staged; ended ones one
                     session lifetime later (until then a repeated commit gets its answer)
streams              of ``default`` sessions, when idle for ``stream_seconds``
read sessions        when expired for ``removed_seconds`` (until then a refresh revives them)
removed segments     when no readable version shows them: the horizon of a table, its oldest
                     readable version, is the one that was the newest ``retain_seconds`` ago (or as
                     its property ``acid.data.retain.hours`` says); a read session and a tag keep
                     their versions beyond it
dropped tables       ``removed_seconds`` after the drop, with all that is theirs
blob packs           when the last segment whose rows refer to them is gone; those that no row came
                     to refer to, when their session was aborted, or ``blob_seconds`` after both
                     the upload and the end of the session
orphan objects       that no row of the catalog names: at once if the process that wrote them is
                     known to be dead, else ``orphan_seconds`` after they were written
===================  ==========================================================================

Rows go first, in one transaction each, then the objects; a crash in between makes orphans.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fletching import faultpoints
from fletching.catalog import collecting
from fletching.catalog.blob_rows import forget_packs, forget_stale_links, unreferenced_packs
from fletching.catalog.collecting import ForgottenObject
from fletching.catalog.leases import acquire_lease, release_lease, release_leases_of
from fletching.catalog.table_rows import table_by_id
from fletching.catalog.version_rows import last_version_before, raise_horizon
from fletching.engine.context import EngineContext
from fletching.engine.writing.states import SessionState
from fletching.protocol.messages.requests import DEFAULT_SESSION_ID

__all__ = ["RETAIN_PROPERTY", "Collected", "Retention", "RetentionReport", "retain_seconds"]

LEASE = "retention"
LEASE_SECONDS = 600.0
SEGMENT_PREFIX = "tables"
_ORPHANS_PER_LOOK = 10_000
_SEGMENTS_PER_STEP = 2_000  # forgotten in one transaction: other writers wait for it

RETAIN_PROPERTY = "acid.data.retain.hours"
"""MaxCompute's name for how long a table's history stays readable."""


def retain_seconds(context: EngineContext, properties: str) -> float:
    """How long a table's versions stay readable, from its properties as the catalog keeps them."""
    hours = json.loads(properties).get(RETAIN_PROPERTY)
    try:
        seconds = float(hours) * 3600.0
    except (TypeError, ValueError):
        return context.settings.retain_seconds
    return seconds if 0 <= seconds < float("inf") else context.settings.retain_seconds


@dataclasses.dataclass(frozen=True, slots=True)
class Collected:
    """One thing that went, or would go."""

    kind: str
    """``write session``, ``read session``, ``removed segment``, ``dropped table``, ``orphan``,
    ``staged segment``, ``idle stream``, ``blob pack``."""
    name: str
    """A session's or table's id, or an object's key."""
    bytes: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class RetentionReport:
    """What a pass of retention did, or with ``dry_run`` would do."""

    dry_run: bool
    collected: tuple[Collected, ...] = ()
    skipped: str = ""
    """Why nothing was done: another process is at it."""

    @property
    def bytes(self) -> int:
        """Bytes of objects."""
        return sum(item.bytes for item in self.collected)

    def counts(self) -> dict[str, int]:
        """How many of each kind."""
        counts: dict[str, int] = {}
        for item in self.collected:
            counts[item.kind] = counts.get(item.kind, 0) + 1
        return counts


Step = Callable[[Any, float], tuple[list[Collected], list[str]]]
"""Works in a transaction at a time; returns what goes, and keys of objects to delete after it."""


class Retention:
    """Passes of retention over one engine's folder."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context

    def collect(self, *, dry_run: bool = False) -> RetentionReport:
        """One pass.

        Args:
            dry_run: find out by the same transactions, and undo them.

        Raises:
            StorageError: the store or catalog failed; what was done until then stays done.
        """
        steps: tuple[Step, ...] = (
            self._write_sessions,
            self._ended_sessions,
            self._idle_streams,
            self._read_sessions,
            self._dropped_tables,
            *self._histories(),
            self._blob_packs,
        )
        return self._try(steps) if dry_run else self._do(steps)

    def _histories(self) -> list[Step]:
        """One step per table that has more than its newest version."""
        with self._context.database.read() as connection:
            found = collecting.tables_with_history(connection)
        return [
            functools.partial(self._history, table_id, retain_seconds(self._context, properties))
            for table_id, properties in found
        ]

    def _try(self, steps: Sequence[Step]) -> RetentionReport:
        collected: list[Collected] = []
        # In one transaction, since what one step forgets may be what another waits for.
        with self._context.database.trial() as connection:
            for step in steps:
                collected += step(connection, self._context.clock())[0]
        return RetentionReport(True, (*collected, *self.orphans(dry_run=True)))

    def _do(self, steps: Sequence[Step]) -> RetentionReport:
        context = self._context
        database, holder = context.database, context.store.writer
        with database.write() as connection:
            if not acquire_lease(
                connection, LEASE, holder, now=context.clock(), seconds=LEASE_SECONDS
            ):
                return RetentionReport(False, skipped="another process is collecting")
        collected: list[Collected] = []
        try:
            for step in steps:
                full = True
                while full:
                    with database.write() as connection:
                        found, keys = step(connection, context.clock())
                    faultpoints.reach("retention.forgotten")
                    context.delete_objects(keys)
                    collected += found
                    full = len(found) >= _SEGMENTS_PER_STEP
            collected += self.orphans()
        finally:
            with database.write() as connection:
                release_lease(connection, LEASE, holder)
        return RetentionReport(False, tuple(collected))

    def _write_sessions(self, connection: Any, now: float) -> tuple[list[Collected], list[str]]:
        ids, keys = collecting.expire_write_sessions(
            connection,
            normal=SessionState.NORMAL.value,
            expired=SessionState.EXPIRED.value,
            now=now,
        )
        items = [Collected("write session", id_) for id_ in ids]
        items += [Collected("staged segment", key, self._length(key)) for key in keys]
        return items, keys

    def _length(self, key: str) -> int:
        """Bytes of an object that is about to go, for the report only."""
        from fletching.errors import StorageError

        try:
            stored = self._context.store.open(key)
        except StorageError:
            return 0
        try:
            return stored.length
        finally:
            stored.close()

    def _ended_sessions(self, connection: Any, now: float) -> tuple[list[Collected], list[str]]:
        before = now - self._context.settings.write_session_seconds
        ids = collecting.forget_ended_sessions(connection, ended_before=before)
        return [Collected("write session", id_) for id_ in ids], []

    def _idle_streams(self, connection: Any, now: float) -> tuple[list[Collected], list[str]]:
        settings = self._context.settings
        count = collecting.forget_idle_streams(
            connection,
            session_id=DEFAULT_SESSION_ID,
            idle_before=now - settings.stream_seconds,
            writes_before=now - settings.write_session_seconds,
        )
        collecting.forget_changes(connection, made_before=now - settings.write_session_seconds)
        return [Collected("idle stream", "")] * count, []

    def _read_sessions(self, connection: Any, now: float) -> tuple[list[Collected], list[str]]:
        before = now - self._context.settings.removed_seconds
        ids = collecting.expire_read_sessions(connection, expired_before=before)
        return [Collected("read session", id_) for id_ in ids], []

    def _dropped_tables(self, connection: Any, now: float) -> tuple[list[Collected], list[str]]:
        before = now - self._context.settings.removed_seconds
        ids, objects = collecting.drop_dropped_tables(connection, dropped_before=before)
        items = [Collected("dropped table", id_) for id_ in ids]
        return items + _removed(objects), [item.key for item in objects]

    def _history(
        self, table_id: str, seconds: float, connection: Any, now: float
    ) -> tuple[list[Collected], list[str]]:
        """Raises a table's horizon, then forgets what no readable version shows."""
        table = table_by_id(connection, table_id, lock=True)
        if table is None or table.dropped_at is not None:
            return [], []
        horizon = last_version_before(connection, table_id, int((now - seconds) * 1_000_000))
        horizon = max(table.oldest_version, horizon or 0)
        if horizon > table.oldest_version:
            raise_horizon(connection, table, horizon)
        faultpoints.reach("retention.horizon")
        objects, _ = collecting.forget_removed(
            connection, table_id, horizon=horizon, limit=_SEGMENTS_PER_STEP
        )
        return _removed(objects), [item.key for item in objects]

    def _blob_packs(self, connection: Any, now: float) -> tuple[list[Collected], list[str]]:
        forget_stale_links(connection)
        ids = unreferenced_packs(
            connection, now=now, kept_seconds=self._context.settings.blob_seconds
        )
        packs = forget_packs(connection, ids)
        return [Collected("blob pack", *pack) for pack in packs], [key for key, _ in packs]

    # --- orphans ---

    def recover(self) -> list[Collected]:
        """Clears up after dead processes, if there are any: at every opening of the folder.

        Their staged bytes go, and objects that they published and never told the catalog about;
        work that they had a lease on is free for others.
        """
        dead = self._context.store.dead_writers()
        if not dead:
            return []
        with self._context.database.write() as connection:
            release_leases_of(connection, dead)
        return self.orphans(dead_only=True)

    def orphans(self, *, dry_run: bool = False, dead_only: bool = False) -> list[Collected]:
        """Objects that no row of the catalog names.

        Each is listed before the catalog is asked: one whose transaction commits meanwhile is
        known by then, and one whose transaction is still to come is protected by its living writer
        or its age.
        """
        context = self._context
        store, now = context.store, context.clock()
        dead = store.dead_writers()
        collected: list[Collected] = []
        batch: list[ForgottenObject] = []
        for info in store.list(SEGMENT_PREFIX):
            writer = info.key.rsplit("/", 1)[-1].split("-", 1)[0]
            old = info.modified <= now - context.settings.orphan_seconds
            if writer in dead or (old and writer != store.writer and not dead_only):
                batch.append(ForgottenObject(info.key, info.length))
            if len(batch) >= _ORPHANS_PER_LOOK:
                collected += self._collect_orphans(batch, dry_run=dry_run)
                batch = []
        collected += self._collect_orphans(batch, dry_run=dry_run)
        if not dry_run:
            for writer in dead:
                store.forget_writer(writer)
        return collected

    def _collect_orphans(
        self, candidates: Sequence[ForgottenObject], *, dry_run: bool
    ) -> list[Collected]:
        if not candidates:
            return []
        with self._context.database.read() as connection:
            known = collecting.known_keys(connection, [item.key for item in candidates])
        orphans = [item for item in candidates if item.key not in known]
        if not dry_run:
            self._context.delete_objects(item.key for item in orphans)
        return [Collected("orphan", item.key, item.length) for item in orphans]


def _removed(objects: Iterable[ForgottenObject]) -> list[Collected]:
    return [Collected("removed segment", item.key, item.length) for item in objects]
