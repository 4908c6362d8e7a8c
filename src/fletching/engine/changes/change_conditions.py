"""What every change of a table has in common: its report and its condition."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection

from fletching.catalog.publishing import Publication
from fletching.catalog.table_rows import TableRow
from fletching.catalog.version_rows import (
    VersionRow,
    changed_partitions,
    find_version,
    refuse_version,
    versions_between,
)
from fletching.errors import ConflictError, InvalidArgumentError, RowsChangedError
from fletching.protocol.messages.responses import Changed

__all__ = [
    "check_nothing_came",
    "check_replaced",
    "check_unchanged",
    "report_of",
    "report_of_version",
]

UPKEEP = frozenset({"compact", "fold", "upgrade"})
"""Operations after which a table has the same rows and columns."""


def report_of(publication: Publication, version: int) -> Changed:
    """What a publication did."""
    return Changed(
        version=version,
        rows_inserted=publication.rows_inserted,
        rows_updated=publication.rows_updated,
        rows_deleted=publication.rows_deleted,
    )


def report_of_version(connection: Connection, table_id: str, version: int | None) -> Changed | None:
    """What the change did that made a version; None if it is forgotten."""
    row = None if version is None else find_version(connection, table_id, version)
    if row is None:
        return None
    return Changed(
        version=row.version,
        rows_inserted=row.rows_inserted,
        rows_updated=row.rows_updated,
        rows_deleted=row.rows_deleted,
    )


def check_unchanged(connection: Connection, table: TableRow, version: int | None) -> None:
    """Refuses unless nothing but upkeep has happened since a version; None for any.

    Raises:
        VersionNotFoundError: the version is still to come.
        InvalidArgumentError: it is no number.
        ConflictError: something has happened since, or nobody knows any more.
    """
    if version is None:
        return
    between = _since(connection, table, version, "if_version")
    harmless = [row for row in between if not row.data_change and row.operation in UPKEEP]
    if len(harmless) != table.version - version:
        raise ConflictError(
            f"table {table.name} has changed since version {version}: it is at {table.version}",
            code=RowsChangedError.default_code,
        )


def _since(connection: Connection, table: TableRow, version: int, field: str) -> list[VersionRow]:
    """The versions after one that a request names; those that nobody knows any more are missing."""
    if type(version) is not int:
        raise InvalidArgumentError(f"{field} is {str(version)[:40]!r}, which is no number")
    if version == table.version:
        return []
    if version < 0 or version > table.version:
        refuse_version(table, version)
    return versions_between(connection, table.id, version, table.version)


def check_replaced(
    connection: Connection, table: TableRow, partitions: Collection[str] | None, version: int | None
) -> None:
    """Refuses if what a commit replaces is not what there was in a version; upkeep may have moved it.

    Args:
        connection: an open transaction.
        table: the table as read under its lock.
        partitions: those that are replaced (the catalog's text); None for the whole table.
        version: the one from which the new rows were worked out; None for any.

    Raises:
        VersionNotFoundError: the version is still to come.
        InvalidArgumentError: it is no number.
        RowsChangedError: rows came, went or changed since, or nobody knows any more.
    """
    if version is None:
        return
    between = _since(connection, table, version, "replaces_version")
    if version == table.version:
        return
    moved = {row.version for row in between if not row.data_change and row.operation in UPKEEP}
    changed = {
        partition
        for partition, at in changed_partitions(connection, table.id, version)
        if at not in moved and (partitions is None or partition in partitions)
    }
    if changed or len(between) != table.version - version:
        raise RowsChangedError(
            f"rows of table {table.name} that are to be replaced have changed since version {version}"
        )


def check_nothing_came(connection: Connection, table: TableRow, version: int) -> None:
    """Refuses if rows came since a version: a change that was worked out from it did not see them.

    Raises:
        RowsChangedError: some came, or nobody knows any more: retention forgets versions while a
            change works.
    """
    if table.version == version:
        return
    between = versions_between(connection, table.id, version, table.version)
    came = any(row.data_change and (row.rows_inserted or row.rows_updated) for row in between)
    if came or len(between) != table.version - version:
        raise RowsChangedError("rows came while the change was worked out")
