"""What a statement asks for: requests of the engine, queries, and where their rows go."""

from __future__ import annotations

import dataclasses

from fletching.protocol.messages.admin import AddColumns, CreateTable
from fletching.protocol.messages.changes import Changed, ChangeRequest
from fletching.protocol.messages.requests import Request
from fletching.sql.parsing.dialect import exp
from fletching.sql.statements.table_properties import TIERED
from fletching.types import PartitionSpec, TableName

__all__ = [
    "AddMissingColumns",
    "Assignment",
    "Changes",
    "Clone",
    "ComputedChange",
    "CreateAs",
    "CreateLike",
    "CreateView",
    "DescribeQuery",
    "DescribeSchemaQuery",
    "DropPartitions",
    "DropView",
    "Explanation",
    "Insertion",
    "MergePartitions",
    "Namespace",
    "QueryStatement",
    "RenamePartition",
    "RowChange",
    "Setting",
    "ShowCreateQuery",
    "ShowFlagsQuery",
    "ShowFunctionsQuery",
    "ShowHistoryQuery",
    "ShowPartitionsQuery",
    "ShowSchemasQuery",
    "ShowTablesQuery",
    "Statement",
    "Target",
    "Use",
    "namespace_after",
]


@dataclasses.dataclass(frozen=True, slots=True)
class Namespace:
    """Where names without project or schema belong.

    Attributes:
        project, schema: the defaults.
        schemas_enabled: whether ``a.b`` means table b of schema a, instead of project a.
        tiered: whether new tables say their storage tier.
    """

    project: str
    schema: str
    schemas_enabled: bool = False
    tiered: bool = False


class Statement:
    """What one statement asks for."""

    __slots__ = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Changes(Statement):
    """A statement that changes tables: requests for the engine, in order."""

    requests: tuple[Request, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class ShowTablesQuery(Statement):
    """Names of tables; ``pattern`` has ``*`` (or ``%``) for any text and ``|`` between choices."""

    project: str
    schema: str
    pattern: str | None = None
    views: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class ShowPartitionsQuery(Statement):
    """Partitions of a table, or those below a leading part."""

    table: TableName
    prefix: PartitionSpec = dataclasses.field(default_factory=PartitionSpec)


@dataclasses.dataclass(frozen=True, slots=True)
class DescribeQuery(Statement):
    """What is known of a table, or of one of its partitions; ``extended`` says more of it."""

    table: TableName
    extended: bool = False
    partition: PartitionSpec = dataclasses.field(default_factory=PartitionSpec)


@dataclasses.dataclass(frozen=True, slots=True)
class ShowSchemasQuery(Statement):
    """Schemas of a project."""

    project: str


@dataclasses.dataclass(frozen=True, slots=True)
class DescribeSchemaQuery(Statement):
    """What is known of a schema, as the JSON that clients parse."""

    project: str
    schema: str


@dataclasses.dataclass(frozen=True, slots=True)
class ShowCreateQuery(Statement):
    """The statement that would create a table as it is."""

    table: TableName


@dataclasses.dataclass(frozen=True, slots=True)
class QueryStatement(Statement):
    """Rows that a query computes."""

    tree: exp.Expr


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """Where rows of a query go.

    Attributes:
        static: partition columns with values.
        dynamic: partition columns whose values come with the rows, behind the others.
        columns: data columns that the query's columns are for, in order; empty for all.
        overwrite: whether the rows replace those of the partitions they go to.
    """

    table: TableName
    tree: exp.Expr
    static: tuple[tuple[str, str], ...] = ()
    dynamic: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    overwrite: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Insertion(Statement):
    """INSERT, also into several tables from one source."""

    targets: tuple[Target, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class CreateAs(Statement):
    """CREATE TABLE .. AS: the request still lacks the columns."""

    request: CreateTable
    tree: exp.Expr


@dataclasses.dataclass(frozen=True, slots=True)
class CreateLike(Statement):
    """CREATE TABLE .. LIKE: the columns of another table, without its rows and lifecycle."""

    table: TableName
    source: TableName
    if_not_exists: bool = False
    lifecycle_days: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class CreateView(Statement):
    """CREATE [OR REPLACE] [MATERIALIZED] VIEW.

    Attributes:
        text: its query in our own writing of the dialect.
        partitioned_on: of a materialized view, the columns that it names so; None of a view.
    """

    table: TableName
    tree: exp.Expr
    text: str
    partitioned_on: tuple[str, ...] | None = None
    columns: tuple[str, ...] = ()
    comment: str = ""
    replace: bool = False
    if_not_exists: bool = False
    lifecycle_days: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class DropView(Statement):
    """DROP VIEW."""

    table: TableName
    if_exists: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class RowChange(Statement):
    """TRUNCATE, of a table or of some partitions: requests that are answered by what they changed."""

    request: ChangeRequest[Changed]
    more: tuple[ChangeRequest[Changed], ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class ComputedChange(Statement):
    """DELETE, UPDATE or MERGE: its tree, which `row_changes` reads once the table's columns are known.

    Attributes:
        where: of a DELETE, its condition as written, for a filter to take if it can.
    """

    table: TableName
    tree: exp.Expr
    where: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class ShowFunctionsQuery(Statement):
    """Names of the functions that there are."""

    pattern: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ShowFlagsQuery(Statement):
    """The flags that were set so far."""


@dataclasses.dataclass(frozen=True, slots=True)
class ShowHistoryQuery(Statement):
    """The versions of a table."""

    table: TableName


@dataclasses.dataclass(frozen=True, slots=True)
class DropPartitions(Statement):
    """Drops the partitions for which a condition on their columns is true."""

    table: TableName
    condition: exp.Expr
    if_exists: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class RenamePartition(Statement):
    """Gives the rows of a partition other values of the partition columns."""

    table: TableName
    partition: PartitionSpec
    new: PartitionSpec


@dataclasses.dataclass(frozen=True, slots=True)
class MergePartitions(Statement):
    """Gives the rows of partitions the values of one, in place of those that it had.

    Attributes:
        partitions: leading parts of the values of those that are merged.
        conditions: on partition columns, of others that are merged.
        into: the values that all rows get.
        if_exists: whether it does not matter if nothing is merged.
    """

    table: TableName
    partitions: tuple[PartitionSpec, ...]
    conditions: tuple[exp.Expr, ...]
    into: PartitionSpec
    if_exists: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class AddMissingColumns(Statement):
    """Adds those of some columns that are not there."""

    request: AddColumns


@dataclasses.dataclass(frozen=True, slots=True)
class Clone(Statement):
    """CLONE TABLE: columns and rows of another table, or of some of its partitions."""

    source: TableName
    table: TableName
    partitions: tuple[PartitionSpec, ...] = ()
    if_exists: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Use(Statement):
    """USE: where names without project or schema belong from now on."""

    project: str
    schema: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Explanation(Statement):
    """EXPLAIN of a query."""

    tree: exp.Expr


@dataclasses.dataclass(frozen=True, slots=True)
class Assignment(Statement):
    """A variable of script mode."""

    name: str
    tree: exp.Expr


@dataclasses.dataclass(frozen=True, slots=True)
class Setting(Statement):
    """SET key=value: flags of another system, which choose nothing here but where names belong, and the time zone."""

    name: str
    value: str


def namespace_after(statement: Statement, namespace: Namespace) -> Namespace:
    """Where names belong in what comes after a statement: USE and some flags of SET say so."""
    match statement:
        case Use(project=project, schema=schema):
            return dataclasses.replace(
                namespace, project=project, schema=schema or namespace.schema
            )
        case Setting(name="odps.default.schema", value=schema):
            return dataclasses.replace(namespace, schema=schema)
        case Setting(name="odps.namespace.schema", value=value):
            return dataclasses.replace(namespace, schemas_enabled=value.lower() == "true")
        case Setting(name=name, value=value) if name == TIERED:
            return dataclasses.replace(namespace, tiered=value.lower() == "true")
    return namespace
