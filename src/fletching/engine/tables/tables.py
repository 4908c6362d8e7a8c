"""Table administration: create, describe, list, drop, rename, alter, and change columns."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable

import pyarrow as pa
from sqlalchemy import Connection

from fletching import caller
from fletching.catalog import partition_rows as catalog_partitions
from fletching.catalog import table_rows as catalog
from fletching.catalog.namespace_rows import ensure_project, ensure_schema, hold_project
from fletching.catalog.segment_rows import encode_partition
from fletching.catalog.table_rows import TableRow
from fletching.catalog.version_rows import version_at, version_of_tag
from fletching.engine.changes.change_conditions import check_unchanged
from fletching.engine.changes.made_changes import (
    check_key,
    intent_of,
    remember,
    replayed,
    replayed_table,
    scope_of,
)
from fletching.engine.context import EngineContext
from fletching.engine.tables.columns import (
    Columns,
    altered,
    apply_columns,
    dropped,
    renamed,
    with_nested,
)
from fletching.engine.tables.partition_calls import page_size, partition_values
from fletching.engine.tables.partitions import canonical_type
from fletching.engine.tables.schema_checks import (
    MAX_COMMENT_LENGTH,
    MAX_OWNER_LENGTH,
    MAX_PROPERTIES,
    VIEW_PREFIX,
    check_columns,
    check_new_columns,
    check_properties,
    check_table_name,
    primary_key_names,
    read_arrow_schema,
    with_required,
)
from fletching.engine.tables.table_description import as_it_was, locked_table, table_info
from fletching.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NoSuchPartitionError,
    NoSuchProjectError,
    NoSuchTableError,
)
from fletching.ipc.encoding import encode_schema
from fletching.protocol.messages.admin import (
    AddColumns,
    CreateTable,
    DescribeTable,
    DropTable,
    ListTables,
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
from fletching.protocol.messages.responses import Changed, Done
from fletching.protocol.types.table_schema import depth_first_ids
from fletching.sql.functions.generated_partitions import GENERATED, generated_partition
from fletching.sql.statements.clusterings import CLUSTERING, declared_clustering
from fletching.sql.statements.table_properties import (
    KEPT_PARTITIONS,
    LIFECYCLE,
    PARTITION_TIERS,
    declared_tiers,
    kept_partitions,
    with_partition_lifecycle,
    with_partition_tier,
)
from fletching.types import TableName

__all__ = ["Tables"]


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
        return self._create(request, "")

    def replace(self, request: CreateTable, table_id: str) -> TableInfo:
        """Creates a table in the place of one of its name, whose id is given, in one transaction.

        Raises:
            InvalidArgumentError, NoSuchProjectError: as of ``create``; the other one stays.
            AlreadyExistsError: the name is another one's by now.
        """
        return self._create(request, table_id)

    def _create(self, request: CreateTable, replaced: str) -> TableInfo:
        name = request.table
        for part in (name.project, name.schema, name.name):
            check_table_name(part)
        schema = read_arrow_schema(request.arrow_schema)
        partition_columns = tuple(
            (column, canonical_type(column, kind)) for column, kind in request.partition_columns
        )
        check_columns(self._context.settings, schema, [column for column, _ in partition_columns])
        check_new_columns(schema, [column for column, _ in partition_columns])
        primary_key = primary_key_names(schema, request.primary_key)
        schema = with_required(schema, primary_key)
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
        key = request.idempotency_key
        check_key(key)
        scope, intent = scope_of(str(name)), intent_of(request, "create table")
        ids, next_id = depth_first_ids(schema, 1)
        for _ in partition_columns:
            ids.append((next_id,))
            next_id += 1
        context = self._context
        now = context.clock()
        with context.database.write() as connection:
            if context.settings.create_projects:
                ensure_project(connection, name.project, now)
            # Holds the project: of several who create the same table at once, the later ones find it.
            ensure_schema(connection, name.project, name.schema, now)
            made = replayed_table(connection, scope, key, intent)
            if made is not None:
                return table_info(made)
            existing = catalog.find_table(connection, name)
            table_id = f"t{secrets.token_hex(8)}"
            if existing is not None and existing.id == replaced:
                catalog.lock_table(connection, replaced)
                catalog.drop_table(connection, replaced, now)
            elif existing is not None:
                if not request.if_not_exists:
                    raise AlreadyExistsError(f"table {name} already exists")
                nothing = Changed(version=existing.version)
                remember(connection, scope, key, nothing, intent, now=now, table_id=existing.id)
                return table_info(existing)
            row = catalog.insert_table(
                connection,
                table_id=table_id,
                name=name.unlisted(table_id) if request.unlisted else name,
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
            done = Changed(version=row.version)
            remember(connection, scope, key, done, intent, now=now, table_id=table_id)
        return table_info(row)

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
            return table_info(table if version is None else as_it_was(connection, table, version))

    def list(self, request: ListTables) -> TablePage:
        """One page of a schema's tables, in name order."""
        limit = page_size(request.max_items)
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
            tables=tuple(table_info(row) for row in page),
            marker=page[-1].name.name if len(rows) > limit else "",
        )

    def drop(self, request: DropTable) -> Done:
        """Drops a table. Its sessions end with it; retention removes its bytes.

        Raises:
            NoSuchTableError: there is none, or another than ``table_id``, unless ``if_exists``.
            ConflictError: the table is not at ``if_version``.
        """
        name, key, now = request.table, request.idempotency_key, self._context.clock()
        check_key(key)
        scope, intent = scope_of(str(name)), intent_of(request, "drop table")
        with self._context.database.write() as connection:
            if key is not None:
                hold_project(connection, name.project)
            if replayed(connection, scope, key, intent) is None:
                try:
                    version = self._drop(connection, request, now)
                except NoSuchTableError:
                    if not request.if_exists:
                        raise
                    version = 0
                remember(connection, scope, key, Changed(version=version), intent, now=now)
        return Done()

    @staticmethod
    def _drop(connection: Connection, request: DropTable, now: float) -> int:
        """Drops a table; returns its version."""
        row = catalog.find_table(connection, request.table)
        if row is None or request.table_id not in {"", row.id}:
            raise NoSuchTableError(f"there is no table {request.table}")
        row = catalog.lock_table(connection, row.id)
        check_unchanged(connection, row, request.if_version)
        catalog.drop_table(connection, row.id, now)
        return row.version

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
        context, now = self._context, self._context.clock()
        check_key(request.idempotency_key)
        intent, key = intent_of(request, "add columns"), request.idempotency_key
        with context.database.write() as connection:
            table = locked_table(connection, request.table)
            if replayed(connection, table.id, key, intent):
                return table_info(table)
            names = [name for name, _ in table.partition_columns]
            if request.if_not_exists:
                there = {name.casefold() for name in (*names, *_column_names(table))}
                added = pa.schema([field for field in added if field.name.casefold() not in there])
                if not len(added):
                    nothing = Changed(version=table.version)
                    remember(connection, table.id, key, nothing, intent, now=now)
                    return table_info(table)

            def change(columns: Columns) -> Columns:
                columns, others = with_nested(columns, added)
                check_new_columns(pa.schema(others))
                ids, free = depth_first_ids(others, columns.next_id)
                merged = columns.with_fields(
                    [*columns.schema, *others], [*columns.ids, *ids], next_id=free
                )
                check_columns(context.settings, merged.schema, names)
                return merged

            version = apply_columns(connection, table, change, operation="add columns", now=now)
            made = Changed(version=table.version if version is None else version)
            remember(connection, table.id, key, made, intent, now=now)
            return table_info(catalog.get_table(connection, request.table))

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
            table = locked_table(connection, request.table)
            intent, key = intent_of(request, operation), request.idempotency_key
            if replayed(connection, table.id, key, intent) is None:
                check_unchanged(connection, table, request.if_version)
                names = [name for name, _ in table.partition_columns]

                def checked(columns: Columns) -> Columns:
                    after = change(columns)
                    check_columns(context.settings, after.schema, names)
                    made = generated_partition(
                        table.properties.get(GENERATED), columns.schema.names, names
                    )
                    if made is not None and after.schema.get_field_index(made.column) < 0:
                        raise InvalidArgumentError(
                            f"column {made.column} stays: partition column {made.name} is made of it"
                        )
                    return after

                now = context.clock()
                version = apply_columns(connection, table, checked, operation=operation, now=now)
                done = Changed(version=table.version if version is None else version)
                remember(connection, table.id, key, done, intent, now=now)
            return table_info(catalog.get_table(connection, request.table))

    def rename(self, request: RenameTable) -> TableInfo:
        """Gives a table another name in its schema; its sessions stay.

        Raises:
            InvalidArgumentError: it is no name.
            AlreadyExistsError: the name is taken.
        """
        new_name, key, now = request.new_name, request.idempotency_key, self._context.clock()
        check_table_name(new_name)
        check_key(key)
        name = TableName(request.table.project, new_name, request.table.schema)
        scope, intent = scope_of(str(request.table)), intent_of(request, "rename table")
        with self._context.database.write() as connection:
            # Holds the project: of several who want one name at once, the later ones find it taken.
            ensure_schema(connection, name.project, name.schema, now)
            made = replayed_table(connection, scope, key, intent)
            if made is not None:
                return table_info(made)
            table = locked_table(connection, request.table)
            catalog.rename_table(connection, table, new_name)
            # Those of a table that nobody saw before are told of now.
            rows = table.rows if table.name.unlisted_id else 0
            done = Changed(version=table.version, rows_inserted=rows)
            remember(connection, scope, key, done, intent, now=now, table_id=table.id)
            return table_info(catalog.get_table(connection, name))

    def alter(self, request: AlterTable) -> TableInfo:
        """Sets and removes properties, and sets the comment, the lifecycle and the owner.

        Raises:
            InvalidArgumentError: too many or too long, or a retention that is no number of hours.
        """
        context = self._context
        values: dict[str, object] = {}
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
        key, now = request.idempotency_key, context.clock()
        check_key(key)
        intent = intent_of(request, "alter table")
        check_properties(request.set_properties)
        for changed in (*request.set_properties, *request.remove_properties):
            if changed.startswith(VIEW_PREFIX):
                raise InvalidArgumentError(
                    f"property {changed[:100]} is a view's query, which CREATE OR REPLACE VIEW changes"
                )
        with context.database.write() as connection:
            table = locked_table(connection, request.table)
            if replayed(connection, table.id, key, intent):
                return table_info(table)
            declared = request.set_properties.get(CLUSTERING)
            if declared is not None and not declared_clustering(declared, _column_names(table)):
                raise InvalidArgumentError(
                    f"table {request.table.name} cannot be clustered by columns that it does not have"
                )
            properties = {**table.properties, **self._properties(connection, table, request)}
            for name in request.remove_properties:
                properties.pop(name, None)
            if len(properties) > MAX_PROPERTIES:
                raise InvalidArgumentError(f"a table has at most {MAX_PROPERTIES} properties")
            values["properties"] = properties
            catalog.alter_table(connection, table, now, **values)
            remember(connection, table.id, key, Changed(version=table.version), intent, now=now)
            return table_info(catalog.get_table(connection, request.table))

    def _properties(
        self, connection: Connection, table: TableRow, request: AlterTable
    ) -> dict[str, str]:
        """What is set of a locked table's properties.

        Raises:
            NoSuchPartitionError: there is no such partition.
            InvalidArgumentError: a partition has no such property; or LimitExceededError.
        """
        if not request.partition:
            return request.set_properties
        values = partition_values(table, request.partition)
        tiers = declared_tiers(table.properties.get(PARTITION_TIERS))
        kept = kept_partitions(table.properties.get(KEPT_PARTITIONS))
        rows = catalog_partitions.find_partitions(connection, table.id, [*tiers, *kept, values])
        made_at = {row.values: row.created_at for row in rows}
        if values not in made_at:
            raise NoSuchPartitionError(f"there is no partition {request.partition}")
        wanted = request.set_properties
        if [*wanted] == [LIFECYCLE]:
            state = wanted[LIFECYCLE]
            return {KEPT_PARTITIONS: with_partition_lifecycle(kept, values, made_at, state)}
        return {PARTITION_TIERS: with_partition_tier(tiers, values, made_at, wanted)}

    def touch(self, request: TouchTable) -> TableInfo:
        """Says that a table's data, or one partition's, was modified just now, and in another second than before.

        Clients are told whole seconds, and look whether they have changed.

        Raises:
            NoSuchPartitionError: there is no such partition.
        """
        with self._context.database.write() as connection:
            table = locked_table(connection, request.table)
            now = max(self._context.clock(), math.floor(table.modified_at) + 1.0)
            if request.partition:
                values = partition_values(table, request.partition)
                if catalog_partitions.find_partition(connection, table.id, values) is None:
                    raise NoSuchPartitionError(f"there is no partition {request.partition}")
                catalog_partitions.touch_partition(
                    connection, table.id, encode_partition(values), now
                )
            catalog.alter_table(connection, table, now)
            return table_info(catalog.get_table(connection, request.table))


def _column_names(table: TableRow) -> list[str]:
    names: list[str] = read_arrow_schema(table.arrow_schema).names
    return names
