"""The verbs that change a table: delete, update, merge, replace, truncate, restore."""

from __future__ import annotations

import msgspec

from fletching import faultpoints
from fletching.catalog.partition_rows import list_partitions
from fletching.catalog.publishing import Publication
from fletching.catalog.segment_rows import encode_partition
from fletching.catalog.table_rows import TableRow, get_table, lock_table
from fletching.catalog.version_rows import check_readable, remember_change
from fletching.engine.changes.attempts import Attempts, Draft
from fletching.engine.changes.change_conditions import (
    check_key,
    check_unchanged,
    replayed,
    report_of,
)
from fletching.engine.changes.pinned_table import PinnedTable
from fletching.engine.context import EngineContext
from fletching.engine.reading.read_sessions import Reading
from fletching.engine.tables.columns import restore_columns
from fletching.engine.tables.partitions import matching_values
from fletching.errors import InvalidArgumentError, NoSuchPartitionError
from fletching.protocol.messages.changes import (
    Changed,
    DeleteRows,
    RestoreTable,
    TruncateTable,
)

__all__ = ["Changes"]


class Changes:
    """Answers the requests that change rows. Thread-safe."""

    def __init__(self, context: EngineContext, reading: Reading) -> None:
        self._context = context
        self._attempts = Attempts(context, reading)

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

        return self._attempts.make(request, "delete", work)

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

        return self._attempts.make(request, "truncate", work)

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
            table = lock_table(connection, get_table(connection, request.table).id)
            known = replayed(connection, table.id, request.idempotency_key)
            if known is not None:
                return known
            check_unchanged(connection, table, request.if_version)
            then = check_readable(connection, table, request.version)
            publication = Publication(connection, table, "restore", now=now)
            publication.restore(request.version)
            if not self._same_columns(table, then.schema_version):
                publication.change_schema(
                    restore_columns(connection, table, then.schema_version, now)
                )
            version = publication.commit()
            faultpoints.reach("restore.changed")
            report = report_of(publication, version)
            if request.idempotency_key is not None:
                remember_change(
                    connection, table.id, request.idempotency_key, msgspec.json.encode(report), now
                )
        return report

    @staticmethod
    def _same_columns(table: TableRow, schema_version: int) -> bool:
        return table.schema_version == schema_version
