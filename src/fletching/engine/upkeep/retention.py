"""Retention: collects what nobody needs, and says what it collects.

===================  ==========================================================================
what                 when it goes
===================  ==========================================================================
write sessions       unfinished ones when they expire, with what they staged; ended ones one
                     session lifetime later (until then a repeated commit gets its answer)
streams              of ``default`` sessions, when idle for ``stream_seconds``
read sessions        when expired for ``removed_seconds`` (until then a refresh revives them)
partitions           of a table with a lifecycle that is not disabled, when they were not modified for so many days:
                     dropped in a version of their own, which can be restored as any other
removed segments     when no readable version shows them: the horizon of a table, its oldest
                     readable version, is the one that was the newest ``retain_seconds`` ago (or as
                     its property ``acid.data.retain.hours`` says); a read session and a tag keep
                     their versions beyond it
dropped tables       ``removed_seconds`` after the drop, with all that is theirs; their folders too,
                     once nothing is in them
blob packs           when the last segment whose rows refer to them is gone; those that no row came
                     to refer to, when their session was aborted, or ``blob_seconds`` after both
                     the upload and the end of the session
orphan objects       that no row of the catalog names: at once if their writer is known to be dead,
                     never while it lives; of a writer that ended, ``orphan_seconds`` after they
                     were written, or in an object store after a pass first came upon them
results              of statements, a day after
===================  ==========================================================================

Rows go first, in one transaction each, then the objects; a crash in between makes orphans.

Whether a writer lives is never a matter of clocks: a folder knows by locks, an object store by rows
of the catalog without which nothing is recorded. Ages are by the catalog's clock, as far as
``fletching.engine.ages`` believes it. Before orphans are deleted,
catalog and store are compared once more, their generations too (``fletching.engine.generations``: an old copy of
a catalog knows too little), and a *fuse* holds: where more of the objects are orphans than is likely
(``FUSE_SHARE``), the catalog is more likely wrong than the objects, and nothing is deleted until a person says so.

The module is long because the steps of a pass have one lease and one order: what one forgets may be what
the next one waits for.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import Connection

from fletching import faultpoints
from fletching.catalog import collecting
from fletching.catalog.blob_rows import forget_packs, forget_stale_links, unreferenced_packs
from fletching.catalog.collecting import ForgottenObject
from fletching.catalog.leases import release_leases_of
from fletching.catalog.partition_rows import remove_partition
from fletching.catalog.publishing import publish
from fletching.catalog.segment_rows import decode_partition
from fletching.catalog.table_rows import table_by_id
from fletching.catalog.version_rows import horizon_at, raise_horizon
from fletching.catalog.writer_rows import known_writers, remove_silent_writers
from fletching.engine.context import EngineContext
from fletching.engine.identity import SEGMENT_PREFIX, check_identity
from fletching.engine.presence import SILENT_SECONDS
from fletching.engine.query.result_segments import KEPT_SECONDS, forget_results
from fletching.engine.tables.partition_calls import expired_partitions
from fletching.engine.tables.partitions import spec_of
from fletching.engine.tables.schema_checks import RETAIN_PROPERTY
from fletching.engine.upkeep.held_lease import HeldLease, hold_lease
from fletching.engine.upkeep.maintenance import record_run
from fletching.engine.writing.states import SessionState
from fletching.errors import StorageError
from fletching.objects.store import writer_of
from fletching.protocol.messages.requests import DEFAULT_SESSION_ID
from fletching.sql.statements.table_properties import DISABLED, LIFECYCLE
from fletching.types import RESULTS_PROJECT

__all__ = ["Collected", "Retention", "RetentionReport", "retain_seconds"]

LEASE = "retention"
FUSE_OBJECTS = 16
"""So many orphans are deleted whatever their share: a small store has lost little else yet."""
FUSE_SHARE = 0.5
"""Of all objects: above it, orphans are not believed."""

_DAY_SECONDS = 86_400.0
_LONGEST_UPLOAD_SECONDS = 7 * _DAY_SECONDS
"""So long an upload of a living writer may take."""

_ORPHANS_PER_LOOK = 10_000
_SEGMENTS_PER_STEP = 2_000  # forgotten in one transaction: other writers wait for it


def retain_seconds(context: EngineContext, properties: str) -> float:
    """How long a table's versions stay readable, from its properties as the catalog keeps them."""
    hours = json.loads(properties).get(RETAIN_PROPERTY)
    try:
        seconds = float(hours) * 3600.0
    except (TypeError, ValueError):
        return context.settings.retain_seconds
    return seconds if 0 <= seconds < float("inf") else context.settings.retain_seconds


_LOG = logging.getLogger("fletching.engine.upkeep.retention")


@dataclasses.dataclass(frozen=True, slots=True)
class Collected:
    """One thing that went, or would go."""

    kind: str
    """``write session``, ``read session``, ``expired partition``, ``removed segment``, ``abandoned table``,
    ``dropped table``, ``orphan``, ``staged segment``, ``idle stream``, ``blob pack``, ``unfinished upload``, ``result``."""
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
    refused: str = ""
    """Why orphans were left alone: they are an unlikely share of all objects, or the catalog is an old copy."""

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

    @property
    def summary(self) -> str:
        """What became of it, in words."""
        counts = ", ".join(f"{count} {kind}" for kind, count in self.counts().items())
        result = f"collected {counts} ({self.bytes} bytes)" if counts else "there was nothing to do"
        return self.skipped or result


Step = Callable[[Connection, float], tuple[list[Collected], list[str]]]
"""Works in a transaction at a time; returns what goes, and keys of objects to delete after it."""

Progress = Callable[[int, int], None]
"""Told how much of a pass is done, and of how much."""


class Retention:
    """Passes of retention over one engine's folder."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._links_after = ""  # the segment whose links to packs were looked at last

    def collect(
        self, *, dry_run: bool = False, force: bool = False, progress: Progress | None = None
    ) -> RetentionReport:
        """One pass. One that did something is kept in the catalog as the last run.

        Args:
            dry_run: find out by the same transactions, and undo them.
            force: believe in orphans however many they are, and the clock whatever it says.
            progress: told how many steps are done, and of how many; not of a trial.

        Raises:
            StorageError: the store or catalog failed; what was done until then stays done.
        """
        if force:
            self._context.age_clock.believe()
        steps: tuple[Step, ...] = (
            self._write_sessions,
            self._ended_sessions,
            self._idle_streams,
            self._read_sessions,
            self._tables_of_results,
            self._abandoned_tables,
            self._dropped_tables,
            *self._lifecycles(),
            *self._histories(),
            self._blob_packs,
        )
        if dry_run:
            return self._try(steps, force)
        started_at = self._context.clock()
        report = self._do(steps, force, progress or (lambda _done, _total: None))
        if report.collected or report.refused:
            problems = [report.refused] if report.refused else []
            record_run(self._context, "retention", started_at, report.summary, problems=problems)
        return report

    def _lifecycles(self) -> list[Step]:
        """One step per table with a lifecycle."""
        with self._context.database.read() as connection:
            result = collecting.tables_with_lifecycle(connection)
        return [functools.partial(self._lifecycle, table_id, days) for table_id, days in result]

    @staticmethod
    def _lifecycle(
        table_id: str, days: int, connection: Connection, now: float
    ) -> tuple[list[Collected], list[str]]:
        """Drops the partitions of a table that were not modified for so many days."""
        table = table_by_id(connection, table_id, lock=True)
        if table is None or table.dropped_at is not None or not table.partition_columns:
            return [], []
        if table.lifecycle_days != days or table.properties.get(LIFECYCLE) == DISABLED:
            return [], []
        gone = expired_partitions(
            connection, table, before=now - days * _DAY_SECONDS, limit=_SEGMENTS_PER_STEP
        )
        if gone:
            publish(connection, table, (), cleared_partitions=gone, operation="lifecycle", now=now)
        for partition in gone:
            remove_partition(connection, table_id, partition)
        names = [spec_of(table.partition_columns, decode_partition(each)) for each in gone]
        return [Collected("expired partition", f"{table.name}/{name}") for name in names], []

    def _histories(self) -> list[Step]:
        """One step per table that has more than its newest version."""
        with self._context.database.read() as connection:
            result = collecting.tables_with_history(connection)
        return [
            functools.partial(self._history, table_id, retain_seconds(self._context, properties))
            for table_id, properties in result
        ]

    def _try(self, steps: Sequence[Step], force: bool) -> RetentionReport:
        collected: list[Collected] = []
        # In one transaction, since what one step forgets may be what another waits for.
        with self._context.database.trial() as connection:
            for step in steps:
                collected += step(connection, self._context.age_clock())[0]
        result, refused = self.orphans(dry_run=True, force=force)
        result += self._unfinished_uploads(dry_run=True)
        result += self._old_results(dry_run=True)
        return RetentionReport(True, (*collected, *result), refused=refused)

    def _do(self, steps: Sequence[Step], force: bool, progress: Progress) -> RetentionReport:
        context = self._context
        total = len(steps) + 3  # and the looks at objects that nobody knows, at uploads, at results
        collected: list[Collected] = []
        with hold_lease(context, LEASE) as lease:
            if lease is None:
                return RetentionReport(False, skipped="another process is collecting")
            context.age_clock()
            context.age_clock.keep()
            for done, step in enumerate(steps):
                progress(done, total)
                full = True
                while full:
                    with context.database.write() as connection:
                        lease.check(connection)
                        result, keys = step(connection, context.age_clock())
                    faultpoints.reach("retention.forgotten")
                    context.delete_objects(keys)
                    collected += result
                    full = len(result) >= _SEGMENTS_PER_STEP
            progress(len(steps), total)
            result, refused = self.orphans(force=force, lease=lease)
            collected += result
            progress(len(steps) + 1, total)
            collected += self._unfinished_uploads()
            progress(len(steps) + 2, total)
            collected += self._old_results(dry_run=False)
            progress(total, total)
        return RetentionReport(False, tuple(collected), refused=refused)

    def _write_sessions(
        self, connection: Connection, now: float
    ) -> tuple[list[Collected], list[str]]:
        ids, staged = collecting.expire_write_sessions(
            connection,
            normal=SessionState.NORMAL.value,
            expired=SessionState.EXPIRED.value,
            now=now,
        )
        items = [Collected("write session", id_) for id_ in ids]
        items += [Collected("staged segment", item.key, item.length) for item in staged]
        return items, [item.key for item in staged]

    def _ended_sessions(
        self, connection: Connection, now: float
    ) -> tuple[list[Collected], list[str]]:
        before = now - self._context.settings.write_session_seconds
        ids = collecting.forget_ended_sessions(connection, ended_before=before)
        return [Collected("write session", id_) for id_ in ids], []

    def _idle_streams(
        self, connection: Connection, now: float
    ) -> tuple[list[Collected], list[str]]:
        settings = self._context.settings
        count = collecting.forget_idle_streams(
            connection,
            session_id=DEFAULT_SESSION_ID,
            idle_before=now - settings.stream_seconds,
            writes_before=now - settings.write_session_seconds,
        )
        collecting.forget_changes(connection, made_before=now - settings.write_session_seconds)
        return [Collected("idle stream", "")] * count, []

    def _read_sessions(
        self, connection: Connection, now: float
    ) -> tuple[list[Collected], list[str]]:
        before = now - self._context.settings.removed_seconds
        ids = collecting.expire_read_sessions(connection, expired_before=before)
        return [Collected("read session", id_) for id_ in ids], []

    @staticmethod
    def _tables_of_results(connection: Connection, now: float) -> tuple[list[Collected], list[str]]:
        """Drops the tables in which earlier releases kept results of statements, a day after they were made."""
        result = collecting.drop_tables_of(connection, RESULTS_PROJECT, now - KEPT_SECONDS, now)
        return [Collected("result", name) for name in result], []

    def _abandoned_tables(
        self, connection: Connection, now: float
    ) -> tuple[list[Collected], list[str]]:
        """Drops tables that were to be filled before anybody saw them, and are not."""
        before = now - self._context.settings.write_session_seconds
        ids = collecting.drop_abandoned_tables(
            connection, session_id=DEFAULT_SESSION_ID, idle_before=before, now=now
        )
        return [Collected("abandoned table", id_) for id_ in ids], []

    def _dropped_tables(
        self, connection: Connection, now: float
    ) -> tuple[list[Collected], list[str]]:
        before = now - self._context.settings.removed_seconds
        ids, objects = collecting.drop_dropped_tables(connection, dropped_before=before)
        items = [Collected("dropped table", id_) for id_ in ids]
        return items + _removed(objects), [item.key for item in objects]

    def _history(
        self, table_id: str, seconds: float, connection: Connection, now: float
    ) -> tuple[list[Collected], list[str]]:
        """Raises a table's horizon, then forgets what no readable version shows."""
        table = table_by_id(connection, table_id, lock=True)
        if table is None or table.dropped_at is not None:
            return [], []
        horizon = horizon_at(
            connection, table, int((now - seconds) * 1_000_000), int(now * 1_000_000)
        )
        if horizon > table.oldest_version:
            raise_horizon(connection, table, horizon)
        faultpoints.reach("retention.horizon")
        objects, _ = collecting.forget_removed(
            connection, table_id, horizon=horizon, limit=_SEGMENTS_PER_STEP
        )
        return _removed(objects), [item.key for item in objects]

    def _blob_packs(self, connection: Connection, now: float) -> tuple[list[Collected], list[str]]:
        self._links_after = forget_stale_links(connection, self._links_after)
        ids = unreferenced_packs(
            connection, now=now, kept_seconds=self._context.settings.blob_seconds
        )
        packs = forget_packs(connection, ids)
        return [Collected("blob pack", *pack) for pack in packs], [key for key, _ in packs]

    def _unfinished_uploads(self, *, dry_run: bool = False) -> list[Collected]:
        """Ends uploads in parts that nobody will complete: of writers that do not live, or very old ones.

        Ages are by the store's clock. What the store cannot tell or refuses is left to the bucket's rules.
        """
        store = self._context.store
        if not hasattr(store, "unfinished_uploads") or not hasattr(store, "end_upload"):
            return []
        ended: list[Collected] = []
        try:
            _, living = self._writers(dry_run=dry_run)
            for upload in store.unfinished_uploads():
                alive = writer_of(upload.key) in living
                if upload.age_seconds < (
                    _LONGEST_UPLOAD_SECONDS if alive else self._context.settings.orphan_seconds
                ):
                    continue
                if not dry_run:
                    store.end_upload(upload)
                ended.append(Collected("unfinished upload", upload.key))
        except StorageError as error:
            _LOG.info("unfinished uploads are left to the bucket's own rules: %s", error)
        return ended

    def _old_results(self, *, dry_run: bool) -> list[Collected]:
        old = forget_results(self._context, dry_run=dry_run)
        return [Collected("result", info.key, info.length) for info in old]

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
        return self.orphans(dead_only=True)[0]

    def orphans(
        self,
        *,
        dry_run: bool = False,
        dead_only: bool = False,
        force: bool = False,
        lease: HeldLease | None = None,
    ) -> tuple[list[Collected], str]:
        """Objects that no row of the catalog names; what went, and why nothing went.

        Each is listed before the catalog is asked: one whose transaction commits meanwhile is
        known by then, and one whose transaction is still to come is protected by its living writer,
        or its writer's row is gone and the transaction will be refused.
        """
        context = self._context
        store = context.store
        dead, living = self._writers(dry_run=dry_run)
        before = context.age_clock() - context.settings.orphan_seconds
        total = 0
        result: list[ForgottenObject] = []
        batch: list[ForgottenObject] = []
        for info in store.list(SEGMENT_PREFIX):
            total += 1
            writer = writer_of(info.key)
            # Where the store knows who lives, age is patience only, and the file's own will do.
            young = store.knows_writers and info.modified > before
            if writer in dead or not (writer in living or young or dead_only):
                batch.append(ForgottenObject(info.key, info.length))
            if len(batch) >= _ORPHANS_PER_LOOK:
                result += self._unknown(batch)
                batch = []
        result += self._unknown(batch)
        folders = [] if dry_run else self._unused_folders()
        refused = "" if force else _blown(len(result), total)
        if force and not dry_run:
            context.generations.accept()
        elif (result or folders) and not refused and not force:
            # Only where something is unknown: each look asks the store.
            refused = context.generations.conflict()
        if refused:
            _LOG.warning("%s", refused)
            return [], refused
        gone = [item for item in result if writer_of(item.key) in dead]
        others = [item for item in result if writer_of(item.key) not in dead]
        gone += others if store.knows_writers else self._ripe(others, dry_run)
        if (gone or folders) and not dry_run:
            check_identity(context)
            if lease is not None:
                with context.database.write(durable=False) as connection:
                    lease.check(connection)
            context.delete_objects(item.key for item in gone)
            if not store.knows_writers:
                with context.database.write(durable=False) as connection:
                    collecting.forget_orphans(connection, [item.key for item in gone])
            context.remove_folders(folders)
        if not dry_run and store.knows_writers:
            for writer in dead:
                store.forget_writer(writer)
        return [Collected("orphan", item.key, item.length) for item in gone], ""

    def _writers(self, *, dry_run: bool) -> tuple[frozenset[str], frozenset[str]]:
        """Ids of the dead, whose objects nobody will record any more, and of the living."""
        context = self._context
        store = context.store
        if store.knows_writers:
            return store.dead_writers(), store.living_writers()
        dead: frozenset[str] = frozenset()
        if not dry_run:
            # Whoever looks for the dead lives, also if this process has slept until now.
            context.presence.renew()
            since = context.age_clock() - SILENT_SECONDS
            with context.database.write() as connection:
                dead = remove_silent_writers(connection, silent_since=since)
        with context.database.read() as connection:
            return dead, known_writers(connection) | store.living_writers()

    def _unknown(self, candidates: Sequence[ForgottenObject]) -> list[ForgottenObject]:
        if not candidates:
            return []
        with self._context.database.read() as connection:
            known = collecting.known_keys(connection, [item.key for item in candidates])
        return [item for item in candidates if item.key not in known]

    def _unused_folders(self) -> list[str]:
        """Folders of tables that the catalog does not know, objects may be in them.

        A table's row is there before its first object and goes with its last one; no other table gets its id.
        So nothing that is published in such a folder from now on can be recorded.
        """
        folders = {each.rpartition("/")[2]: each for each in self._context.folders(SEGMENT_PREFIX)}
        with self._context.database.read() as connection:
            known = collecting.known_tables(connection, [*folders])
        return [folder for table_id, folder in folders.items() if table_id not in known]

    def _ripe(self, candidates: Sequence[ForgottenObject], dry_run: bool) -> list[ForgottenObject]:
        """Those of unknown writers that have been orphans for long enough."""
        context = self._context
        now = context.age_clock()
        keys = [item.key for item in candidates]
        with context.database.trial() if dry_run else context.database.write() as connection:
            noted = collecting.noted_orphans(connection)
            if not keys and not noted:
                return []
            collecting.forget_orphans(connection, sorted(set(noted) - set(keys)))
            ripe = collecting.ripe_orphans(
                connection,
                keys,
                now=now,
                seen_before=now - context.settings.orphan_seconds,
            )
        return [item for item in candidates if item.key in ripe]


def _blown(orphans: int, total: int) -> str:
    """Why so many orphans are not believed; empty if they are."""
    if orphans <= FUSE_OBJECTS or orphans <= FUSE_SHARE * total:
        return ""
    return (
        f"{orphans} of {total} objects are unknown to the catalog, which is an unlikely share:"
        " nothing of them is deleted. If the catalog is an old copy, restore the newest one;"
        " if they are garbage, `fletching gc --force` deletes them"
    )


def _removed(objects: Iterable[ForgottenObject]) -> list[Collected]:
    return [Collected("removed segment", item.key, item.length) for item in objects]
