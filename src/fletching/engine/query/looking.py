"""SHOW and DESC: what the catalog says of tables, as text."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping

from fletching.engine.query.printing import (
    VIEW_TEXT,
    creating_statement,
    description,
    matches,
    partition_description,
    schema_description,
)
from fletching.engine.query.script_values import Calls
from fletching.errors import InvalidArgumentError, NoSuchPartitionError, NoSuchSchemaError
from fletching.protocol.messages.admin import (
    DescribeTable,
    ListPartitions,
    ListSchemas,
    ListTables,
    PartitionInfo,
    SchemaInfo,
    TableInfo,
    TablePage,
    pages,
)
from fletching.protocol.messages.changes import ListVersions
from fletching.protocol.messages.requests import Request
from fletching.sql.functions.function_lookup import AGGREGATES, FUNCTIONS
from fletching.sql.statements.statement_kinds import (
    DescribeQuery,
    DescribeSchemaQuery,
    ShowCreateQuery,
    ShowFlagsQuery,
    ShowFunctionsQuery,
    ShowHistoryQuery,
    ShowPartitionsQuery,
    ShowSchemasQuery,
    ShowTablesQuery,
    Statement,
)
from fletching.sql.statements.table_properties import KEPT_PARTITIONS, kept_partitions
from fletching.types import DEFAULT_SCHEMA, PartitionSpec, TableName

__all__ = ["Looking", "all_partitions"]

_PAGE = 10_000


def all_partitions(
    verbs: Calls, table: TableName, prefix: PartitionSpec | None = None
) -> Iterator[PartitionSpec]:
    """The partitions of a table, or those below a leading part, in value order."""
    for info in _partition_infos(verbs, table, prefix or PartitionSpec()):
        yield info.partition


def _partition_infos(
    verbs: Calls, table: TableName, prefix: PartitionSpec
) -> Iterator[PartitionInfo]:
    request = ListPartitions(table=table, prefix=prefix, max_items=_PAGE)
    for page in pages(verbs.call, request):
        yield from page.partitions


class Looking:
    """Answers the statements that only look. Not thread-safe."""

    def __init__(
        self,
        verbs: Calls,
        authorize: Callable[[Request], None],
        visible: Callable[[TablePage], TablePage],
        flags: Mapping[str, str],
    ) -> None:
        """Asks ``verbs``, as far as ``authorize`` and ``visible`` let it."""
        self._verbs = verbs
        self._authorize = authorize
        self._visible = visible
        self._flags = flags

    def printed(self, statement: Statement) -> str:
        """What a statement prints."""
        match statement:
            case ShowTablesQuery():
                return self._tables(statement)
            case ShowPartitionsQuery(table=table, prefix=prefix):
                self._authorize(ListPartitions(table=table))
                info = self._verbs.call(DescribeTable(table=table))
                if not info.schema.partition_columns:
                    raise InvalidArgumentError(f"table {table} has no partitions")
                return "\n".join(
                    "/".join(f"{name}={value}" for name, value in item)
                    for item in all_partitions(self._verbs, table, prefix)
                )
            case ShowSchemasQuery(project=project):
                return "\n".join(info.schema for info in self._schemas(project))
            case DescribeSchemaQuery(project=project, schema=schema):
                return schema_description(self._schema(project, schema))
            case ShowCreateQuery(table=table):
                return creating_statement(self._table(table))
            case DescribeQuery():
                return self._description(statement)
            case ShowFunctionsQuery(pattern=pattern):
                names = sorted({*FUNCTIONS, *AGGREGATES})
                return "\n".join(name for name in names if matches(name, pattern))
            case ShowFlagsQuery():
                return "\n".join(f"{key}={value}" for key, value in sorted(self._flags.items()))
            case ShowHistoryQuery(table=table):
                return self._history(table)
        raise InvalidArgumentError("the statement is not supported")

    def check_namespace(self, project: str, schema: str) -> None:
        """Looks whether there are a project and, if it is named, a schema.

        Raises:
            NoSuchProjectError: no such project, and none comes into being with its first table.
            NoSuchSchemaError: no such schema.
        """
        request = ListTables(project=project, max_items=1)
        self._authorize(request)
        self._verbs.call(request)
        if schema and schema.casefold() != DEFAULT_SCHEMA:
            self._schema(project, schema)

    def _schema(self, project: str, schema: str) -> SchemaInfo:
        wanted = schema.casefold()
        for item in self._schemas(project):
            if item.schema.casefold() == wanted:
                return item
        raise NoSuchSchemaError(f"there is no schema {schema} in project {project}")

    def _schemas(self, project: str) -> tuple[SchemaInfo, ...]:
        request = ListSchemas(project=project)
        self._authorize(request)
        page = self._verbs.call(request)
        return page.schemas

    def _table(self, table: TableName) -> TableInfo:
        request = DescribeTable(table=table)
        self._authorize(request)
        return self._verbs.call(request)

    def _description(self, query: DescribeQuery) -> str:
        info = self._table(query.table)
        if not tuple(query.partition):
            return description(info, extended=query.extended)
        self._authorize(ListPartitions(table=query.table))
        kept = kept_partitions(info.properties.get(KEPT_PARTITIONS))
        for result in _partition_infos(self._verbs, query.table, query.partition):
            if len(tuple(result.partition)) == len(tuple(query.partition)):
                values = tuple(value for _, value in result.partition)
                stays = kept.get(values) == result.created_at
                return partition_description(result, stays=stays)
        raise NoSuchPartitionError(f"there is no partition {query.partition} in {query.table}")

    def _history(self, table: TableName) -> str:
        request = ListVersions(table=table)
        self._authorize(request)
        page = self._verbs.call(request)
        lines = ["version\ttime\toperation\tinserted\tdeleted"]
        for info in page.versions:
            moment = dt.datetime.fromtimestamp(info.committed_us / 1e6, dt.UTC)
            lines.append(
                f"{info.version}\t{moment:%Y-%m-%d %H:%M:%S}\t{info.operation}"
                f"\t{info.rows_inserted}\t{info.rows_deleted}"
            )
        return "\n".join(lines)

    def _tables(self, query: ShowTablesQuery) -> str:
        """``owner:name`` lines."""
        request = ListTables(project=query.project, schema=query.schema, max_items=_PAGE)
        self._authorize(request)
        return "\n".join(
            f"{info.owner}:{info.table.name}"
            for page in pages(self._verbs.call, request)
            for info in self._visible(page).tables
            if matches(info.table.name, query.pattern)
            and (not query.views or VIEW_TEXT in info.properties)
        )
