"""Table administration: create, describe, list, drop, partitions, new columns."""

from __future__ import annotations

import dataclasses
import functools
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from fletching import caller, ipc
from fletching.catalog import partition_rows as catalog_partitions
from fletching.catalog import table_rows as catalog
from fletching.catalog.publishing import publish
from fletching.catalog.segment_rows import encode_partition, visible_partitions
from fletching.catalog.table_rows import TableRow
from fletching.catalog.version_rows import check_readable, version_at, version_of_tag
from fletching.engine.changes.change_conditions import check_key, check_unchanged, replayed
from fletching.engine.changes.key_values import check_key_type
from fletching.engine.context import EngineContext
from fletching.engine.tables.columns import (
    Columns,
    altered,
    apply_columns,
    dropped,
    renamed,
    with_nested,
)
from fletching.engine.tables.partitions import (
    Columns as PartitionColumns,
)
from fletching.engine.tables.partitions import (
    canonical_type,
    full_values,
    matching_values,
    spec_of,
)
from fletching.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NoSuchPartitionError,
    NoSuchProjectError,
    NoSuchTableError,
    UsageError,
    WireError,
)
from fletching.ipc.encoding import encode_schema
from fletching.ipc.schema_header import read_schema
from fletching.protocol.messages.admin import (
    AddColumns,
    CreatePartition,
    CreateTable,
    DescribeTable,
    DropPartition,
    DropTable,
    ListPartitions,
    ListTables,
    PartitionInfo,
    PartitionPage,
    TableInfo,
    TablePage,
)
from fletching.protocol.messages.changes import (
    AlterColumn,
    AlterTable,
    ChangeRequest,
    DropColumns,
    RenameColumn,
    RenameTable,
    TouchTable,
)
from fletching.protocol.messages.responses import Changed, Done, TableSchema
from fletching.protocol.types.table_schema import depth_first_ids, storable_type, table_schema
from fletching.types import TableName

__all__ = ["Tables", "read_arrow_schema", "table_schema_of"]

MAX_TABLE_NAME_LENGTH = 128
MAX_COLUMN_NAME_LENGTH = 255
MAX_SCHEMA_BYTES = 4 << 20
MAX_COMMENT_LENGTH = 8192
MAX_OWNER_LENGTH = 256
MAX_PROPERTIES = 1000
MAX_PAGE_ITEMS = 10_000
MAX_KEY_COLUMNS = 16

_TABLE_NAME = re.compile(r"[A-Za-z0-9_]+")
_COLUMN_NAME = re.compile(r"[^\x00-\x1f\x7f`]+")


def read_arrow_schema(message: bytes) -> Any:
    """The Arrow schema in an encapsulated schema message that a client sent.

    Raises:
        InvalidArgumentError: it is not one, or too large.
    """
    if len(message) > MAX_SCHEMA_BYTES:
        raise InvalidArgumentError(
            f"the Arrow schema has {len(message)} bytes; {MAX_SCHEMA_BYTES} are allowed"
        )
    try:
        return _read_schema_message(message)
    except WireError as error:
        raise InvalidArgumentError(f"the Arrow schema cannot be read: {error}") from error


# Every request about a table reads its schema; these are the schemas of the tables at work.
@functools.lru_cache(maxsize=64)
def _read_schema_message(message: bytes) -> Any:
    found = list(ipc.messages(message))
    if len(found) != 1:
        raise InvalidArgumentError(f"expected one schema message, got {len(found)} messages")
    return read_schema(found[0])


def table_schema_of(table: TableRow) -> TableSchema:
    """The columns as ODPS sees them, with the ids that the catalog gave them."""
    return _odps_schema(
        table.arrow_schema,
        table.partition_columns,
        table.partition_comments,
        table.primary_key,
        table.column_ids,
    )


@functools.lru_cache(maxsize=64)
def _odps_schema(
    arrow_schema: bytes,
    partition_columns: tuple[tuple[str, str], ...],
    partition_comments: tuple[str, ...],
    primary_key: tuple[str, ...],
    column_ids: tuple[tuple[int, ...], ...],
) -> TableSchema:
    return table_schema(
        read_arrow_schema(arrow_schema),
        partition_columns,
        partition_comments=partition_comments,
        primary_key=primary_key,
        column_ids=column_ids,
    )


def _info(table: TableRow) -> TableInfo:
    return TableInfo(
        table=table.name,
        table_id=table.id,
        schema=table_schema_of(table),
        arrow_schema=table.arrow_schema,
        version=table.version,
        schema_version=table.schema_version,
        rows=table.rows,
        bytes=table.bytes,
        segments=table.segments,
        created_at=table.created_at,
        modified_at=table.modified_at,
        owner=table.owner,
        comment=table.comment,
        properties=table.properties,
        primary_key=table.primary_key,
        keyed=table.keyed,
        lifecycle_days=table.lifecycle_days,
    )


def _partition_info(
    columns: PartitionColumns, row: catalog_partitions.PartitionRow
) -> PartitionInfo:
    return PartitionInfo(
        partition=spec_of(columns, row.values),
        rows=row.rows,
        bytes=row.bytes,
        created_at=row.created_at,
        modified_at=row.modified_at,
    )


def _as_it_was(connection: Any, table: TableRow, version: int) -> TableRow:
    """A table with the columns and totals of a version."""
    row = check_readable(connection, table, version)
    schema = catalog.schema_history(connection, table.id)[row.schema_version]
    return dataclasses.replace(
        table,
        arrow_schema=schema.arrow_schema,
        column_ids=schema.column_ids,
        schema_version=row.schema_version,
        version=version,
        rows=row.rows,
        bytes=row.bytes,
        segments=row.segments,
        modified_at=row.committed_us / 1_000_000,
    )


def _partitions_of(
    connection: Any,
    table: TableRow,
    request: ListPartitions,
    wanted: Mapping[int, str],
    marker: tuple[str, ...] | None,
) -> list[catalog_partitions.PartitionRow]:
    """The partitions that have rows in a version, behind a marker, in the order asked for."""
    version = request.version or 0
    check_readable(connection, table, version)
    found = [
        catalog_partitions.PartitionRow(values, rows, size, 0.0, 0.0)
        for values, rows, size in visible_partitions(connection, table.id, version)
        if all(values[place] == value for place, value in wanted.items())
    ]
    # Once more: retention may have raised the horizon, and begun to forget, while they were read.
    check_readable(connection, catalog.get_table(connection, table.name), version)
    if request.reverse:
        return [row for row in reversed(found) if marker is None or row.values < marker]
    return [row for row in found if marker is None or row.values > marker]


RETAIN_PROPERTY = "acid.data.retain.hours"
"""MaxCompute's name for how many hours a table's history stays readable."""


def check_properties(properties: Mapping[str, str]) -> None:
    """Refuses properties that mean something and do not.

    Raises:
        InvalidArgumentError: which.
    """
    hours = properties.get(RETAIN_PROPERTY)
    if hours is None:
        return
    try:
        fits = 0 <= float(hours) < float("inf")
    except ValueError:
        fits = False
    if not fits:
        raise InvalidArgumentError(
            f"{RETAIN_PROPERTY} is {hours[:100]!r}; expected hours, from 0 on"
        )


class Tables:
    """The administration requests; each method is one transaction."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context

    def create(self, request: CreateTable) -> TableInfo:
        """Creates a table, or finds it if that is allowed.

        Raises:
            InvalidArgumentError: a name, type or limit is wrong.
            AlreadyExistsError: the name is taken.
            NoSuchProjectError: there is no such project.
        """
        name = request.table
        for part in (name.project, name.schema, name.name):
            if not _TABLE_NAME.fullmatch(part) or len(part) > MAX_TABLE_NAME_LENGTH:
                raise InvalidArgumentError(
                    f"{part[:MAX_TABLE_NAME_LENGTH]!r} is not a name: 1 to "
                    f"{MAX_TABLE_NAME_LENGTH} letters, digits and underscores"
                )
        schema = read_arrow_schema(request.arrow_schema)
        partition_columns = tuple(
            (column, canonical_type(column, kind)) for column, kind in request.partition_columns
        )
        self._check_columns(schema, [column for column, _ in partition_columns])
        _check_new(schema, [column for column, _ in partition_columns])
        primary_key = self._primary_key(schema, request.primary_key)
        schema = _with_required(schema, primary_key)
        comments = request.partition_comments
        if comments and len(comments) != len(partition_columns):
            raise InvalidArgumentError("there is a comment for each partition column, or for none")
        if any(len(comment) > MAX_COMMENT_LENGTH for comment in comments):
            raise InvalidArgumentError("a partition column's comment is too long")
        if len(request.comment) > MAX_COMMENT_LENGTH or len(request.properties) > MAX_PROPERTIES:
            raise InvalidArgumentError("the comment or the properties are too long")
        if request.lifecycle_days is not None and request.lifecycle_days < 1:
            raise InvalidArgumentError("a lifecycle is 1 day or more")
        check_properties(request.properties)
        ids, next_id = depth_first_ids(schema, 1)
        for _ in partition_columns:
            ids.append((next_id,))
            next_id += 1
        context = self._context
        now = context.clock()
        with context.database.write() as connection:
            if context.settings.create_projects:
                catalog.ensure_project(connection, name.project, now)
            # Holds the project: of several who create the same table at once, the later ones find it.
            catalog.ensure_schema(connection, name.project, name.schema, now)
            existing = catalog.find_table(connection, name)
            if existing is not None:
                if request.if_not_exists:
                    return _info(existing)
                raise AlreadyExistsError(f"table {name} already exists")
            row = catalog.insert_table(
                connection,
                table_id=f"t{secrets.token_hex(8)}",
                name=name,
                partition_columns=partition_columns,
                partition_comments=comments,
                arrow_schema=encode_schema(schema),
                column_ids=ids,
                next_column_id=next_id,
                owner=request.properties.get("owner") or caller.access_id(),
                comment=request.comment,
                properties=request.properties,
                primary_key=primary_key,
                lifecycle_days=request.lifecycle_days,
                now=now,
            )
        return _info(row)

    def _check_columns(self, schema: Any, partition_names: list[str]) -> None:
        settings = self._context.settings
        if not 1 <= len(schema) <= settings.max_columns:
            raise InvalidArgumentError(
                f"a table has 1 to {settings.max_columns} data columns, not {len(schema)}"
            )
        if len(partition_names) > settings.max_partition_columns:
            raise InvalidArgumentError(
                f"a table has at most {settings.max_partition_columns} partition columns, "
                f"not {len(partition_names)}"
            )
        seen: set[str] = set()
        for name in [*schema.names, *partition_names]:
            if not _COLUMN_NAME.fullmatch(name) or len(name) > MAX_COLUMN_NAME_LENGTH:
                raise InvalidArgumentError(
                    f"{name[:MAX_COLUMN_NAME_LENGTH]!r} is not a column name: 1 to "
                    f"{MAX_COLUMN_NAME_LENGTH} characters without control characters and backquotes"
                )
            if name.casefold() in seen:
                raise InvalidArgumentError(f"column {name} occurs twice (case does not count)")
            seen.add(name.casefold())

    @staticmethod
    def _primary_key(schema: Any, names: tuple[str, ...]) -> tuple[str, ...]:
        known = {field.name.casefold(): field for field in schema}
        found = []
        for name in names:
            field = known.get(name.casefold())
            if field is None:
                raise InvalidArgumentError(f"primary key column {name} is not a data column")
            found.append(field.name)
            check_key_type(field.name, field.type)
        if len(set(found)) != len(found):
            raise InvalidArgumentError("the primary key names a column twice")
        if len(found) > MAX_KEY_COLUMNS:
            raise InvalidArgumentError(f"a primary key has at most {MAX_KEY_COLUMNS} columns")
        return tuple(found)

    def describe(self, request: DescribeTable) -> TableInfo:
        """Looks a table up.

        Raises:
            NoSuchTableError: there is none, or NoSuchProjectError.
        """
        with self._context.database.read() as connection:
            table = catalog.get_table(connection, request.table)
            given = (request.version, request.tag, request.moment_us)
            if given.count(None) < len(given) - 1:
                raise InvalidArgumentError("give a version, a tag or a moment, not several")
            version = request.version
            if request.tag is not None:
                version = version_of_tag(connection, table, request.tag)
            elif request.moment_us is not None:
                version = version_at(connection, table, request.moment_us)
            return _info(table if version is None else _as_it_was(connection, table, version))

    def list(self, request: ListTables) -> TablePage:
        """One page of a schema's tables, in name order."""
        limit = _page_size(request.max_items)
        with self._context.database.read() as connection:
            try:
                rows = catalog.list_tables(
                    connection,
                    request.project,
                    request.schema,
                    prefix=request.prefix,
                    marker=request.marker,
                    limit=limit + 1,
                )
            except NoSuchProjectError:
                if not self._context.settings.create_projects:
                    raise
                rows = []  # where projects come into being by use, an unused one is an empty one
        page = rows[:limit]
        return TablePage(
            tables=tuple(_info(row) for row in page),
            marker=page[-1].name.name if len(rows) > limit else "",
        )

    def drop(self, request: DropTable) -> Done:
        """Drops a table. Its sessions end with it; retention removes its bytes.

        Raises:
            NoSuchTableError: there is none, unless ``if_exists``.
        """
        context = self._context
        with context.database.write() as connection:
            row = catalog.find_table(connection, request.table)
            if row is None:
                if request.if_exists:
                    return Done()
                raise NoSuchTableError(f"there is no table {request.table}")
            try:
                catalog.lock_table(connection, row.id)
            except NoSuchTableError:
                if request.if_exists:  # another was faster
                    return Done()
                raise
            catalog.drop_table(connection, row.id, context.clock())
        return Done()

    def add_columns(self, request: AddColumns) -> TableInfo:
        """Appends nullable columns in a new schema version.

        Raises:
            InvalidArgumentError: a name is taken or a column is not nullable.
        """
        added = read_arrow_schema(request.arrow_schema)
        for field in added:
            if not field.nullable:
                raise InvalidArgumentError(
                    f"column {field.name} must be nullable: the rows that exist have no value for it"
                )
        context = self._context
        with context.database.write() as connection:
            table = self._locked(connection, request.table)
            names = [name for name, _ in table.partition_columns]
            if request.if_not_exists:
                there = {name.casefold() for name in (*names, *_column_names(table))}
                added = pa.schema([field for field in added if field.name.casefold() not in there])
                if not len(added):
                    return _info(table)

            def change(columns: Columns) -> Columns:
                columns, others = with_nested(columns, added)
                _check_new(pa.schema(others))
                ids, free = depth_first_ids(others, columns.next_id)
                merged = columns.with_fields(
                    [*columns.schema, *others], [*columns.ids, *ids], next_id=free
                )
                self._check_columns(merged.schema, names)
                return merged

            apply_columns(connection, table, change, operation="add columns", now=context.clock())
            return _info(catalog.get_table(connection, request.table))

    def drop_columns(self, request: DropColumns) -> TableInfo:
        """Drops data columns; older versions keep them.

        Raises:
            InvalidArgumentError: one is unknown or part of the key, or none would be left.
            ConflictError: the table is not at ``if_version``.
        """
        return self._evolve(
            request, "drop columns", lambda columns: dropped(columns, request.names)
        )

    def rename_column(self, request: RenameColumn) -> TableInfo:
        """Gives a data column another name.

        Raises:
            InvalidArgumentError: it is unknown, or the new name is taken or none.
            ConflictError: the table is not at ``if_version``.
        """
        return self._evolve(
            request,
            "rename column",
            lambda columns: renamed(columns, request.name, request.new_name),
        )

    def alter_column(self, request: AlterColumn) -> TableInfo:
        """Changes a column: a wider type, whether it may be null, its comment, its place.

        Raises:
            InvalidArgumentError: it is unknown, or cannot be changed so.
            ConflictError: the table is not at ``if_version``.
        """
        return self._evolve(request, "alter column", lambda columns: altered(columns, request))

    def _evolve(
        self, request: ChangeRequest, operation: str, change: Callable[[Columns], Columns]
    ) -> TableInfo:
        context = self._context
        check_key(request.idempotency_key)
        with context.database.write() as connection:
            table = self._locked(connection, request.table)
            if replayed(connection, table.id, request.idempotency_key) is None:
                check_unchanged(connection, table, request.if_version)
                names = [name for name, _ in table.partition_columns]

                def checked(columns: Columns) -> Columns:
                    after = change(columns)
                    self._check_columns(after.schema, names)
                    return after

                apply_columns(
                    connection,
                    table,
                    checked,
                    operation=operation,
                    now=context.clock(),
                    key=request.idempotency_key,
                    report=lambda version: msgspec.json.encode(Changed(version=version)),
                )
            return _info(catalog.get_table(connection, request.table))

    def rename(self, request: RenameTable) -> TableInfo:
        """Gives a table another name in its schema; its sessions stay.

        Raises:
            InvalidArgumentError: it is no name.
            AlreadyExistsError: the name is taken.
        """
        new_name = request.new_name
        if not _TABLE_NAME.fullmatch(new_name) or len(new_name) > MAX_TABLE_NAME_LENGTH:
            raise InvalidArgumentError(
                f"{new_name[:MAX_TABLE_NAME_LENGTH]!r} is not a name: 1 to "
                f"{MAX_TABLE_NAME_LENGTH} letters, digits and underscores"
            )
        name = TableName(request.table.project, new_name, request.table.schema)
        with self._context.database.write() as connection:
            table = self._locked(connection, request.table)
            catalog.rename_table(connection, table, new_name)
            return _info(catalog.get_table(connection, name))

    def alter(self, request: AlterTable) -> TableInfo:
        """Sets and removes properties, and sets the comment, the lifecycle and the owner.

        Raises:
            InvalidArgumentError: too many or too long, or a retention that is no number of hours.
        """
        context = self._context
        values: dict[str, Any] = {}
        if request.comment is not None:
            if len(request.comment) > MAX_COMMENT_LENGTH:
                raise InvalidArgumentError("the comment is too long")
            values["comment"] = request.comment
        if request.owner is not None:
            if not 0 < len(request.owner) <= MAX_OWNER_LENGTH:
                raise InvalidArgumentError(f"an owner has 1 to {MAX_OWNER_LENGTH} characters")
            values["owner"] = request.owner
        if request.lifecycle_days is not None:
            if request.lifecycle_days < 0:
                raise InvalidArgumentError("a lifecycle is 1 day or more; 0 removes it")
            values["lifecycle_days"] = request.lifecycle_days or None
        check_properties(request.set_properties)
        with context.database.write() as connection:
            table = self._locked(connection, request.table)
            properties = {**table.properties, **request.set_properties}
            for name in request.remove_properties:
                properties.pop(name, None)
            if len(properties) > MAX_PROPERTIES:
                raise InvalidArgumentError(f"a table has at most {MAX_PROPERTIES} properties")
            values["properties"] = properties
            catalog.alter_table(connection, table, context.clock(), **values)
            return _info(catalog.get_table(connection, request.table))

    def touch(self, request: TouchTable) -> TableInfo:
        """Says that a table's data, or one partition's, was modified just now.

        Raises:
            NoSuchPartitionError: there is no such partition.
        """
        now = self._context.clock()
        with self._context.database.write() as connection:
            table = self._locked(connection, request.table)
            if request.partition:
                values = self._values(table, request.partition)
                if catalog_partitions.find_partition(connection, table.id, values) is None:
                    raise NoSuchPartitionError(f"there is no partition {request.partition}")
                catalog_partitions.touch_partition(
                    connection, table.id, encode_partition(values), now
                )
            catalog.alter_table(connection, table, now)
            return _info(catalog.get_table(connection, request.table))

    # --- partitions ---

    def list_partitions(self, request: ListPartitions) -> PartitionPage:
        """One page of a table's partitions, in value order.

        Raises:
            InvalidArgumentError: the prefix or the marker names other columns.
            VersionNotFoundError: the version is still to come, or gone.
        """
        limit = _page_size(request.max_items)
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

    def create_partition(self, request: CreatePartition) -> PartitionInfo:
        """Adds an empty partition; returns what is known of it, or of the one that is there.

        Raises:
            AlreadyExistsError: it is there, unless ``if_not_exists``.
        """
        context = self._context
        with context.database.write() as connection:
            table = self._locked(connection, request.table)
            values = self._values(table, request.partition)
            new = catalog_partitions.add_partition(
                connection, table.id, encode_partition(values), context.clock()
            )
            if not new and not request.if_not_exists:
                raise AlreadyExistsError(f"partition {request.partition} already exists")
            row = catalog_partitions.find_partition(connection, table.id, values)
        assert row is not None
        return _partition_info(table.partition_columns, row)

    def drop_partition(self, request: DropPartition) -> Done:
        """Removes a partition and its rows in one new version.

        Raises:
            NoSuchPartitionError: there is none, unless ``if_exists``.
        """
        context = self._context
        with context.database.write() as connection:
            table = self._locked(connection, request.table)
            values = self._values(table, request.partition)
            if catalog_partitions.find_partition(connection, table.id, values) is None:
                if request.if_exists:
                    return Done()
                raise NoSuchPartitionError(f"there is no partition {request.partition}")
            text = encode_partition(values)
            publish(
                connection,
                table,
                (),
                cleared_partitions=(text,),
                operation="drop partition",
                now=context.clock(),
            )
            catalog_partitions.remove_partition(connection, table.id, text)
        return Done()

    @staticmethod
    def _locked(connection: Any, name: TableName) -> TableRow:
        return catalog.lock_table(connection, catalog.get_table(connection, name).id)

    @staticmethod
    def _values(table: TableRow, spec: Any) -> tuple[str, ...]:
        if not table.partition_columns:
            raise InvalidArgumentError(f"table {table.name} has no partitions")
        return full_values(table.partition_columns, spec)


def _column_names(table: TableRow) -> list[str]:
    names: list[str] = read_arrow_schema(table.arrow_schema).names
    return names


def _with_required(schema: Any, names: Sequence[str]) -> Any:
    """The schema with key columns that may not be null."""
    if not names:
        return schema
    fields = [
        field.with_nullable(nullable=False) if field.name in names else field for field in schema
    ]
    return pa.schema(fields, metadata=schema.metadata)


def _check_new(schema: Any, partition_names: Sequence[str] = ()) -> None:
    """What tables of earlier releases may have and new columns may not.

    A type that only some clients can name would make a table that the others can neither write nor
    scan, and a blank at the end of a name is lost where names stand in a list or a specification.
    """
    for name in [*schema.names, *partition_names]:
        if name != name.strip():
            raise InvalidArgumentError(
                f"{name!r} is not a column name: it begins or ends with a blank"
            )
    for field in schema:
        try:
            storable_type(field)
        except UsageError as error:
            raise InvalidArgumentError(error.message) from error


def _page_size(wanted: int) -> int:
    if wanted < 1:
        raise InvalidArgumentError(f"a page has 1 item or more, not {wanted}")
    return min(wanted, MAX_PAGE_ITEMS)


def _parsed(marker: str) -> Any:
    from fletching.types import PartitionSpec

    try:
        return PartitionSpec.parse(marker)
    except UsageError as error:
        raise InvalidArgumentError(f"the marker is not a partition: {error.message}") from error
