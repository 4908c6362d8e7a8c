"""How a change is made: read a version, work, commit if nobody took what it works on; else again.

A change reads a version that it pins, and works without any lock: it finds the rows that go and
writes the segments of those that come. Its transaction then compares: rows that compaction moved are
followed, rows that another change took make this one begin anew from the newest version, ten times
or thirty seconds. So readers see snapshots, the first to commit a row wins it, and nobody waits.
"""

from __future__ import annotations

import dataclasses
import logging
import random
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from pyroaring import BitMap
from sqlalchemy import Connection

from fletching import faultpoints
from fletching.catalog.blob_rows import copy_links, link_segments
from fletching.catalog.publishing import Publication
from fletching.catalog.read_session_rows import (
    ReadSessionRow,
    forget_read_session,
    hold_snapshots,
    insert_read_session,
)
from fletching.catalog.table_rows import TableRow, get_table, lock_table
from fletching.catalog.write_stream_rows import NewSegment
from fletching.engine.changes.change_conditions import check_unchanged, report_of
from fletching.engine.changes.made_changes import Intent, check_key, remember, replayed
from fletching.engine.changes.partition_moves import PartitionMove
from fletching.engine.changes.pinned_table import PinnedTable
from fletching.engine.changes.rows_meanwhile import RowsMeanwhile
from fletching.engine.context import EngineContext
from fletching.engine.reading.read_calls import Reading
from fletching.engine.tables.schema_checks import check_no_view
from fletching.engine.writing.ingest_body import CellCheckers
from fletching.errors import (
    ConflictError,
    FletchingError,
    RowsChangedError,
    ServiceUnavailableError,
    StorageError,
)
from fletching.protocol.messages.changes import Changed, ChangeRequest

__all__ = ["Attempts", "Draft"]

_LOG = logging.getLogger("fletching.engine.changes")

_ASKED_TIMES = 5
"""How often a catalog that does not answer is asked whether a change was made,"""
_ASKED_SECONDS = 0.1
"""and how long after the first time; each further wait is twice as long."""

MAX_ATTEMPTS = 10
MAX_SECONDS = 30.0


@dataclasses.dataclass(slots=True)
class Draft:
    """What a change wants to do to the version that it read.

    Attributes:
        deleted: rows that go, by segment id and row number.
        cleared: partitions (the catalog's text) that go whole, as they are at the commit; None for
            the whole table.
        added: segments that come, durable; this change's own to delete if it fails.
        staged: segments that come from a write session, which owns them until the commit; those of which
            no row came are deleted after it.
        absent: by key, rows of ``added`` and ``staged`` that never become visible.
        updated: how many of the rows that come are in the place of one that goes.
        sources: keys of the segments whose rows the added ones have, for the blobs they refer to;
        packs: or the packs that they refer to, where that is known;
        new_packs: those that new values refer to, known in any case.
        data_change: False if the table has the same rows after it.
        lock_first: locks what comes before the table in the order of locks.
        move: partitions that come and go with the change.
        finish: more for the transaction, before its version is made.
        recheck: refuses, in the transaction, what was committed meanwhile;
        meanwhile: or looks at the rows that came with it.
    """

    deleted: Mapping[int, BitMap] = dataclasses.field(default_factory=dict)
    cleared: Iterable[str] | None = ()
    added: Sequence[NewSegment] = ()
    staged: Sequence[NewSegment] = ()
    absent: Mapping[str, BitMap] = dataclasses.field(default_factory=dict)
    updated: int = 0
    sources: Sequence[str] = ()
    packs: frozenset[str] | None = None
    new_packs: frozenset[str] = frozenset()
    data_change: bool = True
    lock_first: Callable[[Connection], object] | None = None
    move: PartitionMove | None = None
    finish: Callable[[Connection, Publication], None] | None = None
    recheck: Callable[[Connection, TableRow], None] | None = None
    meanwhile: RowsMeanwhile | None = None


class Attempts:
    """Makes changes. Thread-safe."""

    def __init__(
        self, context: EngineContext, reading: Reading, cell_checker: CellCheckers
    ) -> None:
        self._context = context
        self._cell_checker = cell_checker
        self._reading = reading

    def make(
        self,
        request: ChangeRequest,
        intent: Intent,
        work: Callable[[PinnedTable], Draft],
    ) -> Changed:
        """Makes a change, or finds the report of the same one.

        Args:
            request: which table, and under which conditions.
            intent: what it is, for the table's history and for its repetition.
            work: finds out what to do, from a version; called again if that did not last.

        Raises:
            KeyReusedError: another change was made with the request's key.
            ConflictError: the table is not at ``if_version``, or others were always faster.
            FletchingError: what ``work`` raises.
        """
        check_key(request.idempotency_key)
        started = time.monotonic()
        attempt = 0
        while True:
            attempt += 1
            pinned, known = self._pin(request, intent)
            if known is not None:
                return known
            assert pinned is not None
            session_id, view = pinned
            try:
                return self._attempt(request, intent, view, work)
            except RowsChangedError as error:
                late = time.monotonic() - started > MAX_SECONDS
                if attempt >= MAX_ATTEMPTS or late or request.if_version is not None:
                    raise ConflictError(
                        f"table {view.table.name} was changed by others while this change was "
                        f"worked out, {attempt} times; try again",
                        code=RowsChangedError.default_code,
                    ) from error
                # Apart, so that two that clash do not clash again.
                time.sleep(random.random() * 0.01 * 2 ** min(attempt, 6))  # noqa: S311 - not a secret
            except (StorageError, ServiceUnavailableError):
                # It may have been the answer of the commit that was lost.
                made = self._made(request, intent)
                if made is None:
                    raise
                return made
            finally:
                self._unpin(session_id)

    def _pin(
        self, request: ChangeRequest, intent: Intent
    ) -> tuple[tuple[str, PinnedTable] | None, Changed | None]:
        context = self._context
        now = context.clock()
        with context.database.write(durable=False) as connection:
            hold_snapshots(connection)
            table = check_no_view(get_table(connection, request.table))
            known = replayed(connection, table.id, request.idempotency_key, intent)
            if known is not None:
                return None, known
            check_unchanged(connection, table, request.if_version)
            session_id = f"change-{secrets.token_hex(12)}"
            insert_read_session(
                connection,
                ReadSessionRow(
                    id=session_id,
                    table_id=table.id,
                    table_version=table.version,
                    request=b"",
                    plan=None,
                    created_at=now,
                    expires_at=now + context.settings.read_session_seconds,
                ),
            )
        faultpoints.reach("change.planned")
        try:
            scan_schema, snapshot = self._reading.whole_table(table)
        except BaseException:
            self._unpin(session_id)
            raise
        checker = self._cell_checker(table, scan_schema.columns.data)
        view = PinnedTable(
            table, scan_schema, snapshot, context.store, checker, self._reading.checks
        )
        return (session_id, view), None

    def _made(self, request: ChangeRequest, intent: Intent) -> Changed | None:
        """The report of a change that has failed although it was made; None if it was not, or nobody can say."""
        if request.idempotency_key is None:
            return None
        for number in range(_ASKED_TIMES):
            try:
                with self._context.database.read() as connection:
                    table = get_table(connection, request.table)
                    return replayed(connection, table.id, request.idempotency_key, intent)
            except (StorageError, ServiceUnavailableError):
                time.sleep(_ASKED_SECONDS * 2**number)
            except FletchingError:
                return None
        return None

    def _unpin(self, session_id: str) -> None:
        """Lets the version go, which else expires: that this fails changes nothing of what was done."""
        try:
            with self._context.database.write(durable=False) as connection:
                forget_read_session(connection, session_id)
        except FletchingError as error:
            _LOG.warning("the version that a change has read is kept until it expires: %s", error)

    def _attempt(
        self,
        request: ChangeRequest,
        intent: Intent,
        view: PinnedTable,
        work: Callable[[PinnedTable], Draft],
    ) -> Changed:
        draft = work(view)
        faultpoints.reach("change.segments_durable")
        context = self._context
        keys = [segment.key for segment in draft.added]
        try:
            if draft.meanwhile is not None:
                draft.meanwhile.look(context.database)
        except BaseException:
            context.delete_objects(keys)
            raise
        with context.recording(keys) as connection:
            report = self._commit(connection, request, intent, view, draft)
            faultpoints.reach("change.committing")
        faultpoints.reach("change.done")
        # Only of a commit that is known to be this one: to another of the same change, which may have read another
        # version, rows may have been of use.
        context.delete_objects(
            each.key for each in draft.staged if len(draft.absent.get(each.key, ())) == each.rows
        )
        return report

    def _commit(
        self,
        connection: Connection,
        request: ChangeRequest,
        intent: Intent,
        view: PinnedTable,
        draft: Draft,
    ) -> Changed:
        now = self._context.clock()
        if draft.lock_first is not None:
            draft.lock_first(connection)
        table = lock_table(connection, view.table.id)
        known = replayed(connection, table.id, request.idempotency_key, intent)
        if known is not None:
            self._context.delete_objects(segment.key for segment in draft.added)
            draft.staged = ()
            return known
        check_unchanged(connection, table, request.if_version)
        if table.schema_version != view.table.schema_version:
            raise RowsChangedError("the table's columns changed meanwhile")
        if table.keyed != view.table.keyed:
            raise RowsChangedError("the table's key is kept unique since")
        if draft.recheck is not None:
            draft.recheck(connection, table)
        if draft.meanwhile is not None:
            draft.meanwhile.recheck(connection, table)
        publication = Publication(
            connection,
            table,
            intent.operation,
            now=now,
            data_change=draft.data_change,
            read_version=view.table.version,
        )
        if draft.move is not None:
            draft.move.begin(connection, table, now)
        cleared = None if draft.cleared is None else list(draft.cleared)
        if cleared is None or cleared:
            publication.clear(cleared)
        publication.delete_rows(draft.deleted)
        publication.add([*draft.added, *draft.staged], absent=draft.absent)
        publication.count_updates(draft.updated)
        added = [segment.key for segment in draft.added]
        if draft.packs is not None:
            link_segments(connection, table.id, added, draft.packs)
        else:
            link_segments(connection, table.id, added, draft.new_packs)
            for key in added:
                copy_links(connection, list(draft.sources), key, besides=draft.new_packs)
        if draft.finish is not None:
            draft.finish(connection, publication)
        version = publication.commit()
        if draft.move is not None:
            draft.move.end(connection, table)
        report = report_of(publication, version)
        remember(connection, table.id, request.idempotency_key, report, intent, now=now)
        return report
