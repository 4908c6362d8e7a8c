"""SQL statements as requests and queries (PROTOCOL section 8).

::

    CREATE TABLE [IF NOT EXISTS] name (columns [, PRIMARY KEY (..)]) [COMMENT ..]
        [PARTITIONED BY (..)] [TBLPROPERTIES (..)] [LIFECYCLE n]
    DROP TABLE [IF EXISTS] name
    ALTER TABLE name ADD [IF NOT EXISTS] PARTITION (..) [PARTITION (..) ...]
    ALTER TABLE name DROP [IF EXISTS] PARTITION (..) [, PARTITION (..) ...]
    ALTER TABLE name ADD COLUMNS (..)
    SHOW TABLES [IN schema] [LIKE 'pattern']
    SHOW PARTITIONS name
    DESC [EXTENDED] name
    SELECT * | columns | COUNT(*) FROM name [WHERE condition] [LIMIT n]

A name is ``table``, ``project.table`` or ``project.schema.table``; with schemas as namespaces the
middle form is ``schema.table``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from fletching import ipc
from fletching.errors import InvalidArgumentError, UsageError
from fletching.protocol.messages.admin import (
    AddColumns,
    CreatePartition,
    CreateTable,
    DropPartition,
    DropTable,
)
from fletching.protocol.messages.requests import Request
from fletching.protocol.types.arrow_types import arrow_field
from fletching.sql.dialect import ODPS_TYPE, exp, parse_one
from fletching.types import PartitionSpec, TableName

__all__ = [
    "Changes",
    "DescribeQuery",
    "Namespace",
    "SelectQuery",
    "ShowPartitionsQuery",
    "ShowTablesQuery",
    "Statement",
    "parse_statement",
]


@dataclasses.dataclass(frozen=True, slots=True)
class Namespace:
    """Where names without project or schema belong.

    Attributes:
        project, schema: the defaults.
        schemas_enabled: whether ``a.b`` means table b of schema a, instead of project a.
    """

    project: str
    schema: str
    schemas_enabled: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Changes:
    """A statement that changes tables: requests for the engine, in order."""

    requests: tuple[Request, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class ShowTablesQuery:
    """Names of tables; ``pattern`` has ``*`` (or ``%``) for any text and ``|`` between choices."""

    project: str
    schema: str
    pattern: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ShowPartitionsQuery:
    """Partitions of a table."""

    table: TableName


@dataclasses.dataclass(frozen=True, slots=True)
class DescribeQuery:
    """What is known of a table."""

    table: TableName


@dataclasses.dataclass(frozen=True, slots=True)
class SelectQuery:
    """Rows of one table.

    Attributes:
        columns: names in order; empty for all.
        count: count the rows instead.
        predicate: the condition's text, or empty.
        limit: most rows, or None.
    """

    table: TableName
    columns: tuple[str, ...] = ()
    count: bool = False
    predicate: str = ""
    limit: int | None = None


Statement = Changes | ShowTablesQuery | ShowPartitionsQuery | DescribeQuery | SelectQuery


def parse_statement(text: str, namespace: Namespace) -> Statement:
    """Reads one statement.

    Raises:
        SqlSyntaxError: it cannot be parsed.
        InvalidArgumentError: it is understood but not supported, or contradicts itself.
    """
    node = parse_one(text)
    match node:
        case exp.Create(kind="TABLE"):
            return Changes((_create_table(node, namespace),))
        case exp.Drop(kind="TABLE"):
            return _drop_table(node, namespace)
        case exp.Alter(kind="TABLE"):
            return Changes(tuple(_alter_table(node, namespace)))
        case exp.Show():
            return _show(node, namespace)
        case exp.Describe():
            return DescribeQuery(_table(node.this, namespace))
        case exp.Select():
            return _select(node, namespace)
        case _:
            words = " ".join(text.split()[:3])
            raise InvalidArgumentError(f"statements like {words[:60]!r} are not supported")


# --- names and small pieces ------------------------------------------------------------------


def _table(node: Any, namespace: Namespace) -> TableName:
    if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
        raise InvalidArgumentError("a table name is expected")
    catalog, database, name = node.catalog, node.db, node.name
    if catalog:
        return TableName(catalog, name, database)
    if database and namespace.schemas_enabled:
        return TableName(namespace.project, name, database)
    return TableName(database or namespace.project, name, namespace.schema)


def _refuse_others(node: Any, known: Iterable[str], what: str) -> None:
    """Refuses clauses that nothing here would honour: silence would be a wrong answer."""
    others = {name for name, value in node.args.items() if value} - set(known)
    if others:
        raise InvalidArgumentError(f"{what} does not support {', '.join(sorted(others))} here")


def _text(node: Any, what: str) -> str:
    if isinstance(node, exp.Literal | exp.Var | exp.Identifier):
        return str(node.name)
    if isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal):
        return f"-{node.this.name}"
    if isinstance(node, exp.Boolean):
        return "true" if node.this else "false"
    raise InvalidArgumentError(f"{what} is not a plain value")


def _column(node: Any) -> Any:
    """A column definition as an Arrow field."""
    if not isinstance(node, exp.ColumnDef) or node.args.get("kind") is None:
        raise InvalidArgumentError("a column is a name and a type")
    nullable, comment = True, ""
    for constraint in node.args.get("constraints") or ():
        kind = constraint.args.get("kind")
        if isinstance(kind, exp.NotNullColumnConstraint):
            nullable = bool(kind.args.get("allow_null"))
        elif isinstance(kind, exp.CommentColumnConstraint):
            comment = _text(kind.this, f"the comment of column {node.name}")
        else:
            raise InvalidArgumentError(
                f"column {node.name}: {type(kind).__name__} is not supported; NOT NULL and COMMENT are"
            )
    try:
        return arrow_field(
            node.name, node.args["kind"].meta[ODPS_TYPE], nullable=nullable, comment=comment
        )
    except UsageError as error:
        raise InvalidArgumentError(f"column {node.name}: {error.message}") from error


# --- CREATE, DROP ----------------------------------------------------------------------------


def _create_table(node: Any, namespace: Namespace) -> CreateTable:
    _refuse_others(node, {"this", "kind", "exists", "properties"}, "CREATE TABLE")
    schema = node.this
    if not isinstance(schema, exp.Schema):
        raise InvalidArgumentError("CREATE TABLE needs its columns in parentheses")
    fields: list[Any] = []
    primary_key: tuple[str, ...] = ()
    for item in schema.expressions:
        if isinstance(item, exp.PrimaryKey):
            primary_key = tuple(column.name for column in item.expressions)
        else:
            fields.append(_column(item))
    comment = ""
    partition_columns: list[tuple[str, str]] = []
    properties: dict[str, str] = {}
    lifecycle_days: int | None = None
    listed = node.args.get("properties")
    for item in listed.expressions if listed is not None else ():
        match item:
            case exp.SchemaCommentProperty():
                comment = _text(item.this, "the comment")
            case exp.PartitionedByProperty():
                partition_columns = _partition_columns(item.this)
            case exp.Property(this=exp.Var() as name) if name.name.upper() == "LIFECYCLE":
                lifecycle_days = _whole(item.args.get("value"), "LIFECYCLE")
            case exp.Property(this=exp.Literal() | exp.Var()):
                properties[item.this.name] = _text(
                    item.args.get("value"), f"property {item.this.name}"
                )
            case exp.FileFormatProperty():
                # How rows are stored is this service's business; the clause changes no row.
                continue
            case _:
                raise InvalidArgumentError(f"CREATE TABLE does not support {type(item).__name__}")
    unknown = set(map(str.lower, primary_key)) - {field.name.lower() for field in fields}
    if unknown:
        raise InvalidArgumentError(
            f"PRIMARY KEY names {', '.join(sorted(unknown))}: no such column"
        )
    return CreateTable(
        table=_table(schema.this, namespace),
        arrow_schema=ipc.encode_schema(pa.schema(fields)),
        partition_columns=tuple(partition_columns),
        comment=comment,
        properties=properties,
        primary_key=primary_key,
        lifecycle_days=lifecycle_days,
        if_not_exists=bool(node.args.get("exists")),
    )


def _partition_columns(schema: Any) -> list[tuple[str, str]]:
    columns: list[tuple[str, str]] = []
    for item in schema.expressions:
        if not isinstance(item, exp.ColumnDef):
            raise InvalidArgumentError("PARTITIONED BY needs names and types")
        _column(item)
        columns.append((item.name, str(item.args["kind"].meta[ODPS_TYPE])))
    return columns


def _whole(node: Any, what: str) -> int:
    if isinstance(node, exp.Literal) and not node.is_string and node.name.isdigit():
        number = int(node.name[:19])
        if number < 2**31:
            return number
    raise InvalidArgumentError(f"{what} needs a whole number")


def _drop_table(node: Any, namespace: Namespace) -> Changes:
    _refuse_others(node, {"this", "kind", "exists", "tables", "purge"}, "DROP TABLE")
    tables = node.args.get("tables") or [node.this]
    return Changes(
        tuple(
            DropTable(table=_table(table, namespace), if_exists=bool(node.args.get("exists")))
            for table in tables
        )
    )


# --- ALTER -----------------------------------------------------------------------------------


def _alter_table(node: Any, namespace: Namespace) -> Iterable[Request]:
    table = _table(node.this, namespace)
    columns: list[Any] = []
    for action in node.args.get("actions") or ():
        match action:
            case exp.AddPartition():
                yield CreatePartition(
                    table=table,
                    partition=_partition(action.this),
                    if_not_exists=bool(action.args.get("exists")),
                )
            case exp.DropPartition():
                for item in action.expressions:
                    yield DropPartition(
                        table=table,
                        partition=_partition(item),
                        if_exists=bool(action.args.get("exists")),
                    )
            case exp.Schema():
                columns += [_column(item) for item in action.expressions]
            case exp.ColumnDef():
                columns.append(_column(action))
            case _:
                raise InvalidArgumentError(
                    f"ALTER TABLE does not support {type(action).__name__};"
                    " ADD COLUMNS and ADD or DROP PARTITION are"
                )
    if columns:
        yield AddColumns(table=table, arrow_schema=ipc.encode_schema(pa.schema(columns)))


def _partition(node: Any) -> PartitionSpec:
    items: list[tuple[str, str]] = []
    for item in getattr(node, "expressions", ()):
        if not isinstance(item, exp.EQ) or not isinstance(item.this, exp.Column | exp.Identifier):
            raise InvalidArgumentError("a partition is given as column='value'")
        items.append((item.this.name, _text(item.expression, "a partition's value")))
    if not items or len({name.lower() for name, _ in items}) != len(items):
        raise InvalidArgumentError("a partition names each of its columns once")
    return PartitionSpec(tuple(items))


# --- queries ---------------------------------------------------------------------------------


def _show(node: Any, namespace: Namespace) -> Statement:
    if node.name == "PARTITIONS":
        return ShowPartitionsQuery(_table(node.args["target"], namespace))
    database = node.args.get("db")
    like = node.args.get("like")
    pattern = None if like is None else _text(like, "the pattern")
    if database is None:
        return ShowTablesQuery(namespace.project, namespace.schema, pattern)
    first, second = database.db, database.name
    if first:
        return ShowTablesQuery(first, second, pattern)
    if namespace.schemas_enabled:
        return ShowTablesQuery(namespace.project, second, pattern)
    return ShowTablesQuery(second, namespace.schema, pattern)


def _select(node: Any, namespace: Namespace) -> SelectQuery:
    _refuse_others(node, {"expressions", "from_", "from", "where", "limit"}, "SELECT")
    source = node.args.get("from_") or node.args.get("from")
    if source is None:
        raise InvalidArgumentError("SELECT needs one table")
    table = source.this
    if isinstance(table, exp.Table):
        _refuse_others(table, {"this", "db", "catalog"}, "SELECT")
    limit_node = node.args.get("limit")
    limit = None if limit_node is None else _whole(limit_node.expression, "LIMIT")
    where = node.args.get("where")
    predicate = "" if where is None else where.this.sql(dialect="hive")
    columns: list[str] = []
    count = False
    for item in node.expressions:
        if isinstance(item, exp.Star) and len(node.expressions) == 1:
            break
        if isinstance(item, exp.Count) and isinstance(item.this, exp.Star | exp.Literal):
            count = True
            if len(node.expressions) != 1:
                raise InvalidArgumentError("COUNT(*) stands alone")
        elif isinstance(item, exp.Column):
            columns.append(item.name)
        else:
            raise InvalidArgumentError(
                "SELECT takes *, names of columns or COUNT(*); expressions are not supported"
            )
    return SelectQuery(
        table=_table(table, namespace),
        columns=tuple(columns),
        count=count,
        predicate=predicate,
        limit=limit,
    )
