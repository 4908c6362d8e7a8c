"""The calls about a table's partitions (list, create, drop), and which of them have lived long enough."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from fletching.catalog import partition_rows as catalog_partitions
from fletching.catalog import table_rows as catalog
from fletching.catalog.partition_rows import find_partitions, unmodified_partitions
from fletching.catalog.publishing import publish
from fletching.catalog.segment_rows import encode_partition, visible_partitions
from fletching.catalog.table_rows import TableRow
from fletching.catalog.version_rows import check_readable
from fletching.engine.changes.made_changes import check_key, intent_of, remember, replayed
from fletching.engine.context import EngineContext
from fletching.engine.tables.partitions import Columns, full_values, matching_values, spec_of
from fletching.engine.tables.table_description import locked_table
from fletching.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NoSuchPartitionError,
    UsageError,
)
from fletching.protocol.messages.admin import (
    CreatePartition,
    DropPartition,
    ListPartitions,
    PartitionInfo,
    PartitionPage,
)
from fletching.protocol.messages.responses import Changed, Done
from fletching.sql.statements.table_properties import (
    KEPT_PARTITIONS,
    MAX_PARTITIONS,
    kept_partitions,
)
from fletching.types import PartitionSpec

__all__ = ["expired_partitions"]

MAX_PAGE_ITEMS = 10_000


class PartitionCalls:
    """The requests about partitions; each method is one transaction."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context

    def list(self, request: ListPartitions) -> PartitionPage:
        """One page of a table's partitions, in value order.

        Raises:
            InvalidArgumentError: the prefix or the marker names other columns.
            VersionNotFoundError: the version is still to come, or gone.
        """
        limit = page_size(request.max_items)
        with self._context.database.read() as connection:
            table = catalog.get_table(connection, request.table)
            columns = table.partition_columns
            wanted = matching_values(columns, request.prefix)
            marker = full_values(columns, _parsed(request.marker)) if request.marker else None
            if request.version is not None:
                rows = _partitions_of(connection, table, request, wanted, marker)
            else:
                rows = catalog_partitions.page_of_partitions(
                    connection,
                    table.id,
                    wanted=wanted,
                    marker=marker,
                    limit=limit + 1,
                    reverse=request.reverse,
                )
        page = rows[:limit]
        return PartitionPage(
            partitions=tuple(_partition_info(columns, row) for row in page),
            marker=str(spec_of(columns, page[-1].values)) if len(rows) > limit else "",
        )

    def create(self, request: CreatePartition) -> PartitionInfo:
        """Adds an empty partition; returns what is known of it, or of the one that is there.

        Raises:
            AlreadyExistsError: it is there, unless ``if_not_exists``.
        """
        now, key = self._context.clock(), request.idempotency_key
        check_key(key)
        intent = intent_of(request, "add partition")
        with self._context.database.write() as connection:
            table = locked_table(connection, request.table)
            values = partition_values(table, request.partition)
            text = encode_partition(values)
            if replayed(connection, table.id, key, intent) is None:
                is_new = catalog_partitions.add_partition(connection, table.id, text, now)
                if not is_new and not request.if_not_exists:
                    raise AlreadyExistsError(f"partition {request.partition} already exists")
                made = Changed(version=table.version)
                remember(connection, table.id, key, made, intent, now=now)
            row = catalog_partitions.find_partition(connection, table.id, values)
        assert row is not None
        return _partition_info(table.partition_columns, row)

    def drop(self, request: DropPartition) -> Done:
        """Removes a partition and its rows in one new version.

        Raises:
            NoSuchPartitionError: there is none, unless ``if_exists``.
        """
        now, key, operation = self._context.clock(), request.idempotency_key, "drop partition"
        check_key(key)
        intent = intent_of(request, operation)
        with self._context.database.write() as connection:
            table = locked_table(connection, request.table)
            values = partition_values(table, request.partition)
            if replayed(connection, table.id, key, intent):
                return Done()
            if catalog_partitions.find_partition(connection, table.id, values) is not None:
                text = encode_partition(values)
                publish(
                    connection, table, (), cleared_partitions=(text,), operation=operation, now=now
                )
                catalog_partitions.remove_partition(connection, table.id, text)
            elif not request.if_exists:
                raise NoSuchPartitionError(f"there is no partition {request.partition}")
            remember(connection, table.id, key, Changed(version=table.version), intent, now=now)
        return Done()


def page_size(wanted: int) -> int:
    """How many items a page has: what is wanted, up to the most of one page.

    Raises:
        InvalidArgumentError: less than one is wanted.
    """
    if wanted < 1:
        raise InvalidArgumentError(f"a page has 1 item or more, not {wanted}")
    return min(wanted, MAX_PAGE_ITEMS)


def partition_values(table: TableRow, spec: PartitionSpec) -> tuple[str, ...]:
    """A value for each partition column, in their order.

    Raises:
        InvalidArgumentError: the table has no partitions, or the specification names others.
    """
    if not table.partition_columns:
        raise InvalidArgumentError(f"table {table.name} has no partitions")
    return full_values(table.partition_columns, spec)


def _partition_info(columns: Columns, row: catalog_partitions.PartitionRow) -> PartitionInfo:
    return PartitionInfo(
        partition=spec_of(columns, row.values),
        rows=row.rows,
        bytes=row.bytes,
        created_at=row.created_at,
        modified_at=row.modified_at,
    )


def _partitions_of(
    connection: Connection,
    table: TableRow,
    request: ListPartitions,
    wanted: Mapping[int, str],
    marker: tuple[str, ...] | None,
) -> list[catalog_partitions.PartitionRow]:
    """The partitions that have rows in a version, behind a marker, in the order asked for."""
    version = request.version or 0
    check_readable(connection, table, version)
    result = [
        catalog_partitions.PartitionRow(values, rows, size, 0.0, 0.0)
        for values, rows, size in visible_partitions(connection, table.id, version)
        if all(values[index] == value for index, value in wanted.items())
    ]
    # Once more: retention may have raised the horizon, and begun to forget, while they were read.
    check_readable(connection, catalog.get_table(connection, table.name), version)
    if request.reverse:
        return [row for row in reversed(result) if marker is None or row.values < marker]
    return [row for row in result if marker is None or row.values > marker]


def _parsed(marker: str) -> PartitionSpec:
    try:
        return PartitionSpec.parse(marker)
    except UsageError as error:
        raise InvalidArgumentError(f"the marker is not a partition: {error.message}") from error


def expired_partitions(
    connection: Connection, table: TableRow, *, before: float, limit: int
) -> list[str]:
    """Partitions (the catalog's text) of a table not modified since a moment, without those that stay."""
    kept = kept_partitions(table.properties.get(KEPT_PARTITIONS))
    stay = {
        encode_partition(row.values)
        for row in find_partitions(connection, table.id, [*kept])
        if kept[row.values] == row.created_at
    }
    old = unmodified_partitions(connection, table.id, before=before, limit=limit + MAX_PARTITIONS)
    return [partition for partition in old if partition not in stay][:limit]
