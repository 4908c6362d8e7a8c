"""Tables: names, Arrow schemas, versions and totals."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import (
    Connection,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    true,
    update,
)

from fletching.caller import access_id
from fletching.catalog.namespace_rows import check_project, ensure_schema
from fletching.catalog.schema import deletions, partitions, table_schemas, table_versions, tables
from fletching.errors import AlreadyExistsError, NoSuchTableError
from fletching.types import UNLISTED_MARK, TableName

if TYPE_CHECKING:
    from sqlalchemy import Row

__all__ = [
    "NAMED",
    "SchemaRow",
    "TableRow",
    "add_schema_version",
    "alter_table",
    "drop_table",
    "find_table",
    "get_table",
    "insert_table",
    "list_tables",
    "lock_table",
    "mark_keyed",
    "name_keys",
    "publish_version",
    "rename_table",
    "schema_history",
    "table_by_id",
    "table_row",
    "tables_with_keys",
    "tables_with_segments",
]


@dataclasses.dataclass(frozen=True, slots=True)
class TableRow:
    """A row of ``tables``, its JSON columns read."""

    id: str
    name: TableName
    partition_columns: tuple[tuple[str, str], ...]
    """(name, ODPS type) pairs."""
    partition_comments: tuple[str, ...]
    """A comment, or an empty text, for each of them."""
    schema_version: int
    arrow_schema: bytes
    """An encapsulated schema message: the data columns."""
    column_ids: tuple[tuple[int, ...], ...]
    """Per data column, the ids of its nodes depth-first; then one single id per partition column."""
    next_column_id: int
    version: int
    rows: int
    bytes: int
    segments: int
    owner: str
    comment: str
    properties: dict[str, str]
    primary_key: tuple[str, ...]
    keyed: bool
    """Whether the primary key is kept unique."""
    oldest_version: int
    """The horizon: the oldest version that can be read without a tag."""
    lifecycle_days: int | None
    created_at: float
    modified_at: float
    dropped_at: float | None


# Each request reads its table's row, and of 5,000 columns this is most of the work. Those of 64 tables at work
# are small, and half a megabyte each if they have as many columns.
@functools.lru_cache(maxsize=64)
def _column_ids(text: str) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(ids) for ids in json.loads(text))


def table_row(values: Row[tuple[object, ...]]) -> TableRow:
    """What a row of ``tables`` says."""
    listed = json.loads(values.partition_columns)
    return TableRow(
        id=values.id,
        name=TableName(values.project, values.name, values.schema),
        partition_columns=tuple((name, kind) for name, kind, *_ in listed),
        # Catalogs of earlier releases have no comments.
        partition_comments=tuple("".join(rest) for _, _, *rest in listed),
        schema_version=values.schema_version,
        arrow_schema=bytes(values.arrow_schema),
        column_ids=_column_ids(values.column_ids),
        next_column_id=values.next_column_id,
        version=values.version,
        rows=values.rows,
        bytes=values.bytes,
        segments=values.segments,
        owner=values.owner,
        comment=values.comment,
        properties=json.loads(values.properties),
        primary_key=tuple(json.loads(values.primary_key)),
        keyed=bool(values.keyed),
        oldest_version=values.oldest_version,
        lifecycle_days=values.lifecycle_days,
        created_at=values.created_at,
        modified_at=values.modified_at,
        dropped_at=values.dropped_at,
    )


# Made once, as every read session looks its table up: making an expression costs more than sending it.
NAMED = (
    (tables.c.project_key == bindparam("project"))
    & (tables.c.schema_key == bindparam("schema"))
    & (tables.c.name_key == bindparam("name"))
    & tables.c.dropped_at.is_(None)
)
"""The condition that a row is of the table that `name_keys` name."""
_FIND = select(tables).where(NAMED)


def name_keys(name: TableName) -> dict[str, str]:
    """What a table is looked up by: its names, case folded."""
    return {
        "project": name.project.casefold(),
        "schema": name.schema.casefold(),
        "name": name.name.casefold(),
    }


def find_table(connection: Connection, name: TableName) -> TableRow | None:
    """Looks a table up by name, case-insensitively; None if there is none."""
    row = connection.execute(_FIND, name_keys(name)).first()
    return None if row is None else table_row(row)


def get_table(connection: Connection, name: TableName) -> TableRow:
    """Looks a table up by name.

    Raises:
        NoSuchProjectError: there is no such project.
        NoSuchTableError: there is no such table in it.
    """
    row = find_table(connection, name)
    if row is None:
        check_project(connection, name.project)
        raise NoSuchTableError(f"there is no table {name}")
    return row


# Every request asks these: made once, as making a statement takes longer than running it.
_BY_ID = select(tables).where(tables.c.id == bindparam("table"))
# A lock that lets others insert rows that refer to the table: who opens a read session under this lock holds what
# retention waits for.
_LOCK_BY_ID = _BY_ID.with_for_update(key_share=True)
_PUBLISH = (
    update(tables)
    .where(tables.c.id == bindparam("table"))
    .values(
        version=bindparam("new_version"),
        rows=tables.c.rows + bindparam("more_rows"),
        bytes=tables.c.bytes + bindparam("more_bytes"),
        segments=tables.c.segments + bindparam("more_segments"),
        modified_at=bindparam("now"),
    )
)


def table_by_id(connection: Connection, table_id: str, *, lock: bool = False) -> TableRow | None:
    """Looks a table up by id, dropped ones too; ``lock`` keeps other writers off until the end."""
    row = connection.execute(_LOCK_BY_ID if lock else _BY_ID, {"table": table_id}).first()
    return None if row is None else table_row(row)


def lock_table(connection: Connection, table_id: str) -> TableRow:
    """The table, locked until the transaction ends: whoever changes what is visible holds this.

    Raises:
        NoSuchTableError: it was dropped.
    """
    row = table_by_id(connection, table_id, lock=True)
    if row is None or row.dropped_at is not None:
        raise NoSuchTableError("the table has been dropped")
    return row


def insert_table(
    connection: Connection,
    *,
    table_id: str,
    name: TableName,
    partition_columns: Sequence[tuple[str, str]],
    partition_comments: Sequence[str] = (),
    arrow_schema: bytes,
    column_ids: Sequence[Sequence[int]],
    next_column_id: int,
    owner: str,
    comment: str,
    properties: dict[str, str],
    primary_key: Sequence[str],
    lifecycle_days: int | None,
    now: float,
    keyed: bool | None = None,
) -> TableRow:
    """Creates a table at version 0 in an existing project; its schema is created with it.

    ``keyed`` says whether the key is kept unique; None for whenever there is one.

    Raises:
        NoSuchProjectError: there is no such project.
        AlreadyExistsError: the name is taken.
    """
    ensure_schema(connection, name.project, name.schema, now)
    if find_table(connection, name) is not None:
        raise AlreadyExistsError(f"table {name} already exists")
    ids = json.dumps([list(item) for item in column_ids])
    connection.execute(
        insert(tables).values(
            id=table_id,
            project_key=name.project.casefold(),
            schema_key=name.schema.casefold(),
            name_key=name.name.casefold(),
            project=name.project,
            schema=name.schema,
            name=name.name,
            partition_columns=json.dumps(
                [
                    [*item, comment]
                    for item, comment in zip(
                        partition_columns,
                        partition_comments or [""] * len(partition_columns),
                        strict=True,
                    )
                ]
            ),
            schema_version=1,
            arrow_schema=arrow_schema,
            column_ids=ids,
            next_column_id=next_column_id,
            version=0,
            rows=0,
            bytes=0,
            segments=0,
            owner=owner,
            comment=comment,
            properties=json.dumps(properties),
            primary_key=json.dumps(list(primary_key)),
            keyed=bool(primary_key) if keyed is None else keyed,
            oldest_version=0,
            lifecycle_days=lifecycle_days,
            created_at=now,
            modified_at=now,
        )
    )
    connection.execute(
        insert(table_schemas).values(
            table_id=table_id,
            schema_version=1,
            arrow_schema=arrow_schema,
            column_ids=ids,
            created_at=now,
        )
    )
    connection.execute(
        insert(table_versions).values(
            table_id=table_id,
            version=0,
            committed_us=int(now * 1_000_000),
            operation="create",
            data_change=True,
            schema_version=1,
            rows=0,
            bytes=0,
            segments=0,
            rows_inserted=0,
            rows_updated=0,
            rows_deleted=0,
            access_id=access_id(),
            read_version=0,
        )
    )
    return get_table(connection, name)


def add_schema_version(
    connection: Connection,
    table: TableRow,
    *,
    arrow_schema: bytes,
    column_ids: Sequence[Sequence[int]],
    next_column_id: int,
    now: float,
    primary_key: Sequence[str] | None = None,
) -> None:
    """Gives a locked table its next schema; earlier ones stay known for older segments.

    The caller makes the version that has it (``Publication.change_schema``).
    """
    ids = json.dumps([list(item) for item in column_ids])
    key = table.primary_key if primary_key is None else primary_key
    connection.execute(
        insert(table_schemas).values(
            table_id=table.id,
            schema_version=table.schema_version + 1,
            arrow_schema=arrow_schema,
            column_ids=ids,
            created_at=now,
        )
    )
    connection.execute(
        update(tables)
        .where(tables.c.id == table.id)
        .values(
            schema_version=table.schema_version + 1,
            arrow_schema=arrow_schema,
            column_ids=ids,
            next_column_id=next_column_id,
            primary_key=json.dumps(list(key)),
            modified_at=now,
        )
    )


def rename_table(connection: Connection, table: TableRow, new_name: str) -> None:
    """Gives a locked table another name in its schema.

    Raises:
        AlreadyExistsError: the name is taken.
    """
    taken = TableName(table.name.project, new_name, table.name.schema)
    result = find_table(connection, taken)
    if result is not None and result.id != table.id:
        raise AlreadyExistsError(f"table {taken} already exists")
    connection.execute(
        update(tables)
        .where(tables.c.id == table.id)
        .values(name=new_name, name_key=new_name.casefold())
    )


def alter_table(connection: Connection, table: TableRow, now: float, **values: object) -> None:
    """Sets the comment, properties (a dict), lifecycle or owner of a locked table."""
    if "properties" in values:
        values["properties"] = json.dumps(values["properties"])
    connection.execute(
        update(tables).where(tables.c.id == table.id).values(modified_at=now, **values)
    )


class SchemaRow(NamedTuple):
    """One of the schemas that a table has had."""

    arrow_schema: bytes
    """An encapsulated schema message: the data columns."""
    column_ids: tuple[tuple[int, ...], ...]
    """As in `TableRow`."""


def schema_history(connection: Connection, table_id: str) -> dict[int, SchemaRow]:
    """Every schema the table has had, by schema version."""
    rows = connection.execute(
        select(
            table_schemas.c.schema_version,
            table_schemas.c.arrow_schema,
            table_schemas.c.column_ids,
        ).where(table_schemas.c.table_id == table_id)
    )
    return {
        version: SchemaRow(bytes(message), tuple(tuple(item) for item in json.loads(ids)))
        for version, message, ids in rows
    }


def mark_keyed(connection: Connection, table_id: str) -> None:
    """From now on a locked table's primary key is unique."""
    connection.execute(update(tables).where(tables.c.id == table_id).values(keyed=True))


def publish_version(
    connection: Connection,
    table_id: str,
    *,
    version: int,
    rows: int,
    length: int,
    segments: int,
    now: float,
) -> None:
    """Makes ``version`` a locked table's current one; the totals change by the given amounts."""
    connection.execute(
        _PUBLISH,
        {
            "table": table_id,
            "new_version": version,
            "more_rows": rows,
            "more_bytes": length,
            "more_segments": segments,
            "now": now,
        },
    )


def list_tables(
    connection: Connection, project: str, schema: str, *, prefix: str, marker: str, limit: int
) -> list[TableRow]:
    """Listed live tables whose name begins with ``prefix`` and comes after ``marker``, in name order.

    Raises:
        NoSuchProjectError: there is no such project.
    """
    check_project(connection, project)
    statement = select(tables).where(
        tables.c.project_key == project.casefold(),
        tables.c.schema_key == schema.casefold(),
        tables.c.dropped_at.is_(None),
        tables.c.name_key > marker.casefold(),
        tables.c.name_key.not_like(f"%{UNLISTED_MARK}%"),
    )
    if prefix:
        folded = prefix.casefold()
        statement = statement.where(func.substr(tables.c.name_key, 1, len(folded)) == folded)
    return [
        table_row(row)
        for row in connection.execute(statement.order_by(tables.c.name_key).limit(limit))
    ]


def tables_with_segments(connection: Connection, *, at_least: int) -> list[TableRow]:
    """Live tables with so many segments or more, or with deleted rows in any."""
    deleted = (
        exists()
        .where(deletions.c.table_id == tables.c.id, deletions.c.removed_version.is_(None))
        .correlate(tables)
    )
    rows = connection.execute(
        select(tables).where(
            tables.c.dropped_at.is_(None), or_(tables.c.segments >= at_least, deleted)
        )
    )
    return [table_row(row) for row in rows]


def tables_with_keys(connection: Connection) -> list[TableRow]:
    """Live tables whose primary key is kept unique."""
    rows = connection.execute(
        select(tables).where(tables.c.dropped_at.is_(None), tables.c.keyed.is_(true()))
    )
    return [table_row(row) for row in rows]


def drop_table(connection: Connection, table_id: str, now: float) -> None:
    """Frees a locked table's name and ends its visibility; retention removes the rest."""
    connection.execute(
        update(tables)
        .where(tables.c.id == table_id, tables.c.dropped_at.is_(None))
        .values(dropped_at=now)
    )
    connection.execute(delete(partitions).where(partitions.c.table_id == table_id))
