"""The verbs that change a table: delete, update, merge, replace, truncate, restore, and keeping its key unique.

Tables of earlier releases declare keys that nobody checked. A person has them checked, once: every row is written
anew, with key runs, and from that version on the table is like one that was made with its key.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pyarrow as pa
from sqlalchemy import Connection

from fletching import faultpoints, ipc
from fletching.catalog.partition_rows import list_partitions
from fletching.catalog.publishing import Publication
from fletching.catalog.segment_rows import encode_partition
from fletching.catalog.table_rows import TableRow, get_table, lock_table, mark_keyed
from fletching.catalog.version_rows import check_readable
from fletching.engine.changes.attempts import Attempts, Draft
from fletching.engine.changes.change_conditions import check_unchanged, report_of
from fletching.engine.changes.computed_changes import ComputedChanges
from fletching.engine.changes.key_values import check_key_type
from fletching.engine.changes.keyed_merge import KeyedMerge
from fletching.engine.changes.made_changes import Intent, check_key, intent_of, remember, replayed
from fletching.engine.changes.pinned_table import PinnedTable
from fletching.engine.changes.row_merge import RowMerge, replace_draft
from fletching.engine.changes.row_update import RowUpdate
from fletching.engine.changes.row_writer import RowWriter
from fletching.engine.changes.session_rows import SessionRows
from fletching.engine.context import EngineContext
from fletching.engine.reading.read_calls import Reading
from fletching.engine.tables.columns import lacks_columns, restore_columns, same_columns
from fletching.engine.tables.partitions import matching_values
from fletching.engine.tables.schema_checks import check_no_view
from fletching.engine.writing.ingest_body import CellCheckers
from fletching.errors import InvalidArgumentError, NoSuchPartitionError, RowsChangedError, WireError
from fletching.protocol.messages.changes import (
    Changed,
    ChangeRequest,
    DeleteRows,
    EnforceKey,
    MergeRows,
    ReplaceRows,
    RestoreTable,
    TruncateTable,
    UpdateRows,
)

__all__ = ["Changes", "enforcing_draft"]


MAX_VALUES_BYTES = 8 << 20
"""Bytes of the plain values of an update."""


class Changes:
    """Answers the requests that change rows. Thread-safe."""

    def __init__(
        self, context: EngineContext, reading: Reading, cell_checker: CellCheckers
    ) -> None:
        self._context = context
        self._attempts = Attempts(context, reading, cell_checker)

    def delete(self, request: DeleteRows) -> Changed:
        """Deletes the rows for which the predicate is true; those for which it is null stay.

        Raises:
            InvalidArgumentError: it is no predicate, or empty.
            ConflictError: others were always faster, or the table is not at ``if_version``.
        """
        if not request.where.strip():
            raise InvalidArgumentError("a delete needs a predicate; truncate deletes every row")

        def work(view: PinnedTable) -> Draft:
            return Draft(deleted=view.chosen(request.where))

        return self._attempts.make(request, intent_of(request, "delete"), work)

    def update(self, request: UpdateRows) -> Changed:
        """Replaces values of the rows for which the predicate is true, all worked out from the old row.

        Updated rows stand at the end of their partition.

        Raises:
            InvalidArgumentError: the predicate or an expression is none, a column is unknown, part
                of the key or assigned twice, or a value does not fit.
            ConflictError: others were always faster, or a row would move beside one with its key.
        """
        values = _one_row(request.values)

        def work(view: PinnedTable) -> Draft:
            return RowUpdate(self._context, view, request.expressions, values).work(request.where)

        return self._attempts.make(request, intent_of(request, "update"), work)

    def merge(self, request: MergeRows) -> Changed:
        """Merges the rows of a write session into its table, and ends the session.

        Raises:
            InvalidArgumentError: a clause or a column that cannot be, or several rows of the session
                for one of the table.
            NotFoundError, ExpiredSessionError: no such session, or not any more.
            ConflictError: others were always faster, or the session is committed.
        """

        def work(view: PinnedTable) -> Draft:
            session = SessionRows.of(self._context, request.table, request.session_id)
            draft = RowMerge(self._context, view, request, session.staged).work()
            return session.ended_by(draft)

        return self._ended(request, request.operation, work)

    def replace(self, request: ReplaceRows) -> Changed:
        """Puts the rows of a write session in the place of those for which a predicate is true.

        Raises:
            InvalidArgumentError: it is no predicate, or a row that comes does not satisfy it.
            NotFoundError, ExpiredSessionError: no such session, or not any more.
            ConflictError: others were always faster, or the session is committed.
        """

        def work(view: PinnedTable) -> Draft:
            session = SessionRows.of(self._context, request.table, request.session_id)
            return session.ended_by(replace_draft(self._context, view, request, session.staged))

        return self._ended(request, "overwrite", work)

    def compute(
        self,
        request: ChangeRequest,
        intent: Intent,
        compute: Callable[[ComputedChanges], Draft],
    ) -> Changed:
        """Makes a change that a query works out, anew whenever others were faster.

        Args:
            request: the table, and the conditions that every change may have.
            intent: what the change is.
            compute: runs the query over the table as it is pinned.

        Raises:
            ConflictError: others were always faster.
            FletchingError: what ``compute`` raises.
        """
        return self._attempts.make(
            request, intent, lambda view: compute(ComputedChanges(self._context, view))
        )

    def _ended(
        self,
        request: MergeRows | ReplaceRows,
        operation: str,
        work: Callable[[PinnedTable], Draft],
    ) -> Changed:
        """Makes a change that ends a session."""
        if operation not in _OPERATIONS:
            raise InvalidArgumentError(f"{operation[:100]!r} is not an operation")
        return self._attempts.make(request, intent_of(request, operation), work)

    def truncate(self, request: TruncateTable) -> Changed:
        """Deletes every row, or every row of some partitions, whatever came in meanwhile.

        Raises:
            InvalidArgumentError: the partition is not one of the table's columns.
            NoSuchPartitionError: a partition named in full does not exist.
        """

        def work(view: PinnedTable) -> Draft:
            values = matching_values(view.table.partition_columns, request.partition)
            if not values:
                return Draft(cleared=None)
            with self._context.database.read() as connection:
                rows = list_partitions(connection, view.table.id)
            chosen = [row for row in rows if all(row.values[at] == v for at, v in values.items())]
            if not chosen and len(values) == len(view.table.partition_columns):
                raise NoSuchPartitionError(f"there is no partition {request.partition}")
            return Draft(cleared=[encode_partition(row.values) for row in chosen])

        return self._attempts.make(request, intent_of(request, "truncate"), work)

    def enforce_key(self, request: EnforceKey) -> Changed:
        """Keeps a key unique that was only declared: writes every row anew, with key runs.

        Raises:
            InvalidArgumentError: the table declares no key, a key is null or of a type that none
                can have, or rows have the same key and ``keep_last`` is not asked for.
        """

        def work(view: PinnedTable) -> Draft:
            return enforcing_draft(self._context, view, keep_last=request.keep_last)

        return self._attempts.make(request, intent_of(request, "enforce key"), work)

    def restore(self, request: RestoreTable) -> Changed:
        """Makes a version with the rows and columns of an older one; opens no segment.

        Raises:
            VersionNotFoundError: it is still to come, or gone.
            ConflictError: the table is not at ``if_version``.
        """
        context = self._context
        check_key(request.idempotency_key)
        with context.database.write() as connection:
            now = context.clock()
            table = check_no_view(get_table(connection, request.table))
            table = lock_table(connection, table.id)
            intent = intent_of(request, "restore")
            known = replayed(connection, table.id, request.idempotency_key, intent)
            if known is not None:
                return known
            check_unchanged(connection, table, request.if_version)
            then = check_readable(connection, table, request.version)
            publication = Publication(connection, table, intent.operation, now=now)
            # Rows that stayed have values again that nobody saw in the version before.
            anew = lacks_columns(connection, table, then.schema_version)
            publication.restore(request.version, anew=anew)
            if not same_columns(connection, table, then.schema_version):
                publication.change_schema(
                    restore_columns(connection, table, then.schema_version, now)
                )
            version = publication.commit()
            faultpoints.reach("restore.changed")
            report = report_of(publication, version)
            remember(connection, table.id, request.idempotency_key, report, intent, now=now)
        return report


_OPERATIONS = frozenset({"merge", "upsert", "overwrite"})


def _one_row(stream: bytes) -> pa.RecordBatch | None:
    """Plain values, by column.

    Raises:
        InvalidArgumentError: it is not an Arrow stream of one row.
    """
    if not stream:
        return None
    if len(stream) > MAX_VALUES_BYTES:
        raise InvalidArgumentError(f"the values have more than {MAX_VALUES_BYTES} bytes")
    try:
        (batch,) = [each for each in ipc.read_stream(stream) if each.num_rows]
    except (WireError, ValueError) as error:
        raise InvalidArgumentError("the values are not an Arrow stream of one row") from error
    if batch.num_rows != 1:
        raise InvalidArgumentError(f"the values are one row, not {batch.num_rows}")
    return batch


def enforcing_draft(context: EngineContext, view: PinnedTable, *, keep_last: bool) -> Draft:
    """What makes the table's key unique; nothing for a table that keeps it so already.

    Args:
        context: the engine's.
        view: the table as it was pinned.
        keep_last: of rows with one key keep the last; else refuse them.

    Cost: reads and writes the whole table; holds the keys of some rows at a time.

    Raises:
        InvalidArgumentError: see `Changes.enforce_key`.
    """
    table = view.table
    if not table.primary_key:
        raise InvalidArgumentError(f"table {table.name} declares no primary key")
    if table.keyed:
        return Draft()
    fields = {field.name.casefold(): field for field in view.schema}
    for name in table.primary_key:
        check_key_type(name, fields[name.casefold()].type)
    keyed = dataclasses.replace(view, table=dataclasses.replace(table, keyed=True))
    writer = RowWriter(context, keyed)
    try:
        for matches, batch in view.chosen_rows(None, view.data_projection):
            segment = view.snapshot.segment_of(matches.batch)
            writer.write(segment.partition, batch, segment.codecs or None)
        staged = writer.finish()
        # Rows of one key may be far apart, in segments of their own.
        absent = KeyedMerge.prepare(context, table.id, staged, probe=False).absent
    except BaseException:
        writer.abort()
        raise
    added = [each.segment for each in staged]
    superseded = sum(len(rows) for rows in absent.values())
    if superseded and not keep_last:
        context.delete_objects(segment.key for segment in added)
        raise InvalidArgumentError(
            f"{superseded} rows of table {table.name} have the primary key of a later row "
            f"({', '.join(table.primary_key)}); delete them, or ask for the last of each key"
        )

    def recheck(_connection: Connection, now: TableRow) -> None:
        if now.version != table.version:
            raise RowsChangedError("the table changed while its key was checked")

    def finish(connection: Connection, publication: Publication) -> None:
        mark_keyed(connection, table.id)
        publication.touch()

    return Draft(
        cleared=None,
        added=added,
        absent=absent,
        updated=sum(segment.rows for segment in added) - superseded,
        sources=[row.key for row in view.snapshot.segments],
        packs=writer.packs,
        data_change=bool(superseded),
        recheck=recheck,
        finish=finish,
    )
