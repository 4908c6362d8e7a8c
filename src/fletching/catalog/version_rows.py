"""The versions of a table: what each was, which are still readable, and the tags that pin some."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Collection
from typing import NoReturn

from sqlalchemy import Connection, bindparam, delete, exists, func, insert, select, union, update

from fletching.catalog.schema import (
    change_keys,
    deletions,
    read_sessions,
    segments,
    table_versions,
    tables,
    tags,
)
from fletching.catalog.table_rows import TableRow
from fletching.errors import AlreadyExistsError, NotFoundError, VersionNotFoundError

__all__ = [
    "VersionRow",
    "add_tag",
    "changed_partitions",
    "changes_of_run",
    "check_readable",
    "find_change",
    "find_version",
    "horizon_at",
    "last_version_before",
    "list_tags",
    "list_versions",
    "raise_horizon",
    "refuse_version",
    "remember_change",
    "remove_tag",
    "version_at",
    "version_of_tag",
    "versions_between",
]


_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MOST = (1 << 63) - 1


@dataclasses.dataclass(frozen=True, slots=True)
class VersionRow:
    """A row of ``table_versions``."""

    version: int
    committed_us: int
    operation: str
    data_change: bool
    schema_version: int
    rows: int
    bytes: int
    segments: int
    rows_inserted: int
    rows_updated: int
    rows_deleted: int
    access_id: str
    read_version: int


_COLUMNS = [table_versions.c[field.name] for field in dataclasses.fields(VersionRow)]


# Every write asks these: made once, as making a statement takes longer than running it.
_FIND_VERSION = select(*_COLUMNS).where(
    table_versions.c.table_id == bindparam("id"), table_versions.c.version == bindparam("number")
)
_FIND_CHANGE = select(change_keys.c.report).where(
    change_keys.c.table_id == bindparam("id"), change_keys.c.key == bindparam("name")
)
_REMEMBER_CHANGE = insert(change_keys)
_CHANGES_OF_RUN = select(change_keys.c.key, change_keys.c.report).where(
    change_keys.c.run_id == bindparam("run")
)


def find_version(connection: Connection, table_id: str, version: int) -> VersionRow | None:
    """What is known of a version; None if it is forgotten or still to come."""
    row = connection.execute(_FIND_VERSION, {"id": table_id, "number": version}).first()
    return None if row is None else VersionRow(*row)


def check_readable(connection: Connection, table: TableRow, version: int) -> VersionRow:
    """A version that may be pinned; call it in the transaction that pins, with the table locked.

    Raises:
        VersionNotFoundError: it is still to come, or gone.
    """
    row = None
    if 0 <= version <= table.version:
        row = find_version(connection, table.id, version)
    readable = (
        version >= table.oldest_version or version in list_tags(connection, table.id).values()
    )
    if row is None or not readable:
        refuse_version(table, version)
    return row


def refuse_version(table: TableRow, version: int) -> NoReturn:
    """Says why a version cannot be read.

    Raises:
        VersionNotFoundError: always.
    """
    if version < 0 or version > table.version:
        raise VersionNotFoundError(
            f"table {table.name} has no version {version}; the newest is {table.version}",
            actual=version,
            limit=table.version,
        )
    raise VersionNotFoundError(
        f"version {version} of table {table.name} is gone; the oldest that can be read is "
        f"{table.oldest_version}",
        actual=version,
        limit=table.oldest_version,
    )


def _comparable(number: int) -> int:
    """A number that a database takes, and that compares with what is in a column as the one given does."""
    return max(min(number, _MOST), -_MOST)


def _moment_text(moment_us: int) -> str:
    try:
        moment = _EPOCH + dt.timedelta(microseconds=moment_us)
    except OverflowError:  # whoever asks may ask for any number
        return f"{moment_us} microseconds since 1970"
    return f"{moment:%Y-%m-%d %H:%M:%S.%f} UTC"


def version_at(connection: Connection, table: TableRow, moment_us: int) -> int:
    """The last version committed at a moment (microseconds since the epoch) or before.

    Raises:
        VersionNotFoundError: the table is younger, or that version is gone.
    """
    version = last_version_before(connection, table.id, moment_us)
    if version is None or version < table.oldest_version:
        first = find_version(connection, table.id, table.oldest_version)
        since = "" if first is None else f", of {_moment_text(first.committed_us)}"
        raise VersionNotFoundError(
            f"nothing is known of table {table.name} at {_moment_text(moment_us)}; the oldest"
            f" version that can be read is {table.oldest_version}{since}",
            limit=table.oldest_version,
        )
    return version


def list_versions(
    connection: Connection, table_id: str, *, before: int | None, limit: int
) -> list[VersionRow]:
    """Versions that are known, newest first, below ``before``."""
    statement = select(*_COLUMNS).where(table_versions.c.table_id == table_id)
    if before is not None:
        statement = statement.where(table_versions.c.version < _comparable(before))
    rows = connection.execute(statement.order_by(table_versions.c.version.desc()).limit(limit))
    return [VersionRow(*row) for row in rows]


def versions_between(
    connection: Connection, table_id: str, since: int, until: int
) -> list[VersionRow]:
    """The versions above ``since`` up to ``until``, oldest first."""
    rows = connection.execute(
        select(*_COLUMNS)
        .where(
            table_versions.c.table_id == table_id,
            table_versions.c.version > since,
            table_versions.c.version <= until,
        )
        .order_by(table_versions.c.version)
    )
    return [VersionRow(*row) for row in rows]


def changed_partitions(connection: Connection, table_id: str, since: int) -> set[tuple[str, int]]:
    """In which partitions (the catalog's text) rows came, went or were moved, and in which versions after ``since``."""
    of_table = segments.c.table_id == table_id
    gone = deletions.join(segments, segments.c.id == deletions.c.segment_id)
    changes = union(
        *(
            select(segments.c.partition, version).where(of_table, version > since)
            for version in (segments.c.added_version, segments.c.removed_version)
        ),
        *(
            select(segments.c.partition, version)
            .select_from(gone)
            .where(deletions.c.table_id == table_id, version > since)
            for version in (deletions.c.added_version, deletions.c.removed_version)
        ),
    )
    return {(partition, version) for partition, version in connection.execute(changes)}


# --- tags ---


def list_tags(connection: Connection, table_id: str) -> dict[str, int]:
    """Tags in name order, and their versions."""
    rows = connection.execute(
        select(tags.c.name, tags.c.version).where(tags.c.table_id == table_id).order_by(tags.c.name)
    )
    return {row.name: row.version for row in rows}


def version_of_tag(connection: Connection, table: TableRow, name: str) -> int:
    """The version that a tag names.

    Raises:
        VersionNotFoundError: there is no such tag.
    """
    version = connection.execute(
        select(tags.c.version).where(tags.c.table_id == table.id, tags.c.name == name)
    ).scalar()
    if version is None:
        raise VersionNotFoundError(f"table {table.name} has no tag {name!r}")
    return int(version)


def add_tag(
    connection: Connection, table: TableRow, name: str, version: int, *, replace: bool, now: float
) -> None:
    """Names a version of a locked table; that it is readable is the caller's business.

    Raises:
        AlreadyExistsError: there is such a tag, and ``replace`` is not given.
    """
    known = list_tags(connection, table.id)
    if name in known:
        if not replace:
            raise AlreadyExistsError(
                f"table {table.name} has a tag {name!r} already, of version {known[name]}"
            )
        remove_tag(connection, table, name)
    connection.execute(
        insert(tags).values(table_id=table.id, name=name, version=version, created_at=now)
    )


def remove_tag(connection: Connection, table: TableRow, name: str) -> None:
    """Forgets a tag; what only it kept goes with the next retention.

    Raises:
        NotFoundError: there is no such tag.
    """
    gone = connection.execute(delete(tags).where(tags.c.table_id == table.id, tags.c.name == name))
    if not gone.rowcount:
        raise NotFoundError(f"table {table.name} has no tag {name!r}")


# --- repeated changes ---


def find_change(connection: Connection, table_id: str, key: str) -> bytes | None:
    """The report of the change that was made with an idempotency key, if one was."""
    report = connection.execute(_FIND_CHANGE, {"id": table_id, "name": key}).scalar()
    return None if report is None else bytes(report)


def changes_of_run(connection: Connection, run_id: str) -> dict[str, bytes]:
    """The reports of the changes that statements have made, by their keys."""
    rows = connection.execute(_CHANGES_OF_RUN, {"run": run_id})
    return {key: bytes(report) for key, report in rows}


def remember_change(
    connection: Connection,
    table_id: str,
    key: str,
    report: bytes,
    now: float,
    *,
    run_id: str | None = None,
) -> None:
    """Keeps a change's report for its repetition, in the transaction that makes the change."""
    values = {"table_id": table_id, "key": key, "report": report, "created_at": now}
    connection.execute(_REMEMBER_CHANGE, {**values, "run_id": run_id})


# --- retention ---


def last_version_before(connection: Connection, table_id: str, moment_us: int) -> int | None:
    """The version that was the newest at a moment, any number of microseconds; None if none is known."""
    return connection.execute(
        select(func.max(table_versions.c.version)).where(
            table_versions.c.table_id == table_id,
            table_versions.c.committed_us <= _comparable(moment_us),
        )
    ).scalar()


def horizon_at(connection: Connection, table: TableRow, moment_us: int, now_us: int) -> int:
    """The oldest readable version of a locked table once those that were replaced until a moment are forgotten.

    Until a moment that is not past, that is all but the newest, also where the times of versions are still to
    come, because the clock has been set back.
    """
    if moment_us >= now_us:
        return table.version
    return max(table.oldest_version, last_version_before(connection, table.id, moment_us) or 0)


def raise_horizon(connection: Connection, table: TableRow, version: int) -> int:
    """Makes a version the oldest readable one of a locked table; forgets the rows of older ones.

    Returns how many versions are forgotten; those that a tag names are kept, and those whose changes
    a session reads: it finds them here again whenever it is planned anew.
    """
    connection.execute(update(tables).where(tables.c.id == table.id).values(oldest_version=version))
    kept: Collection[object] = set(list_tags(connection, table.id).values())
    condition = (table_versions.c.table_id == table.id) & (table_versions.c.version < version)
    if kept:
        condition &= table_versions.c.version.not_in(kept)
    condition &= ~exists().where(
        read_sessions.c.table_id == table_versions.c.table_id,
        read_sessions.c.since_version < table_versions.c.version,
        read_sessions.c.table_version >= table_versions.c.version,
    )
    return connection.execute(delete(table_versions).where(condition)).rowcount
