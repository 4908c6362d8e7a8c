"""SQL statements as requests and queries (PROTOCOL section 8; docs/sql.md).

What changes the catalog becomes requests of the engine; what reads becomes a tree for
`fletching.sql.translation`; what writes rows is a tree and where its rows go.

A name is ``table``, ``project.table`` or ``project.schema.table``; with schemas as namespaces the
middle form is ``schema.table``.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from fletching.errors import InvalidArgumentError, SqlSyntaxError, UsageError
from fletching.ipc.encoding import encode_schema
from fletching.protocol.messages.admin import (
    AddColumns,
    CreatePartition,
    CreateTable,
    DropPartition,
    DropTable,
)
from fletching.protocol.messages.changes import (
    AlterColumn,
    AlterTable,
    ChangeRequest,
    CompactTable,
    DropColumns,
    RenameColumn,
    RenameTable,
    TouchTable,
    TruncateTable,
)
from fletching.protocol.messages.requests import Request
from fletching.protocol.types.arrow_types import arrow_field, field_comment
from fletching.sql.dialect import IF_NOT_EXISTS, ODPS_TYPE, Parsed, exp, parse_all, sql_text
from fletching.types import PartitionSpec, TableName

__all__ = [
    "SHARD_PROPERTIES",
    "Assignment",
    "Changes",
    "ComputedChange",
    "CreateAs",
    "CreateLike",
    "CreateView",
    "DescribeQuery",
    "DropView",
    "Explanation",
    "Insertion",
    "Namespace",
    "QueryStatement",
    "RowChange",
    "Setting",
    "ShowCreateQuery",
    "ShowPartitionsQuery",
    "ShowSchemasQuery",
    "ShowTablesQuery",
    "Statement",
    "parse_statement",
    "parse_statements",
    "table_name",
]

SHARD_PROPERTIES = {"SHARDS": "fletching.shards", "HUBLIFECYCLE": "fletching.shards.lifecycle"}
"""Properties that keep what CREATE TABLE says of shards, by its words."""


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
class ShowSchemasQuery:
    """Schemas of a project."""

    project: str


@dataclasses.dataclass(frozen=True, slots=True)
class ShowCreateQuery:
    """The statement that would create a table as it is."""

    table: TableName


@dataclasses.dataclass(frozen=True, slots=True)
class QueryStatement:
    """Rows that a query computes."""

    tree: Any


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
    tree: Any
    static: tuple[tuple[str, str], ...] = ()
    dynamic: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    overwrite: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Insertion:
    """INSERT, also into several tables from one source."""

    targets: tuple[Target, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class CreateAs:
    """CREATE TABLE .. AS: the request still lacks the columns."""

    request: CreateTable
    tree: Any


@dataclasses.dataclass(frozen=True, slots=True)
class CreateLike:
    """CREATE TABLE .. LIKE: the columns of another table, without its rows and lifecycle."""

    table: TableName
    source: TableName
    if_not_exists: bool = False
    lifecycle_days: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class CreateView:
    """CREATE [OR REPLACE] VIEW; ``text`` is its query in our own writing of the dialect."""

    table: TableName
    tree: Any
    text: str
    columns: tuple[str, ...] = ()
    comment: str = ""
    replace: bool = False
    if_not_exists: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class DropView:
    """DROP VIEW."""

    table: TableName
    if_exists: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class RowChange:
    """DELETE, UPDATE or TRUNCATE: a request that is answered by what it changed."""

    request: ChangeRequest


@dataclasses.dataclass(frozen=True, slots=True)
class ComputedChange:
    """DELETE, UPDATE or MERGE: its tree, which `row_changes` reads once the table's columns are known.

    Attributes:
        where: of a DELETE, its condition as written, for a filter to take if it can.
    """

    table: TableName
    tree: Any
    where: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Explanation:
    """EXPLAIN of a query."""

    tree: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Assignment:
    """A variable of script mode."""

    name: str
    tree: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """SET key=value: flags of another system, which choose nothing here but the default schema."""

    name: str
    value: str


Statement = (
    Changes
    | ShowTablesQuery
    | ShowPartitionsQuery
    | ShowSchemasQuery
    | ShowCreateQuery
    | DescribeQuery
    | QueryStatement
    | Insertion
    | CreateAs
    | CreateLike
    | CreateView
    | DropView
    | Explanation
    | ComputedChange
    | RowChange
    | Assignment
    | Setting
)


def parse_statements(text: str, namespace: Namespace) -> list[Statement]:
    """Reads statements with ``;`` between them.

    Raises:
        SqlSyntaxError: one cannot be parsed, or there is none.
        InvalidArgumentError: one is understood but not supported, or contradicts itself.
    """
    found = [_statement(parsed, namespace) for parsed in parse_all(text)]
    if not found:
        raise SqlSyntaxError("there is no statement")
    return found


def parse_statement(text: str, namespace: Namespace) -> Statement:
    """Reads one statement; SET statements before it are passed over.

    Raises:
        As `parse_statements`, and SqlSyntaxError for several.
    """
    found = [one for one in parse_statements(text, namespace) if not isinstance(one, Setting)]
    if len(found) != 1:
        raise SqlSyntaxError(f"expected one statement, got {len(found)}")
    return found[0]


def _statement(parsed: Parsed, namespace: Namespace) -> Statement:
    node = parsed.node
    if parsed.variable:
        return Assignment(parsed.variable, _query(node, "a variable"))
    if parsed.explained:
        return Explanation(_query(node, "EXPLAIN"))
    match node:
        case exp.Create(kind="TABLE") if node.args.get("expression") is not None:
            return CreateAs(_create_table(node, namespace), _query(node.expression, "AS"))
        case exp.Create(kind="TABLE") if not isinstance(node.this, exp.Schema):
            return _create_like(node, namespace)
        case exp.Create(kind="TABLE"):
            return Changes((_create_table(node, namespace),))
        case exp.Create(kind="VIEW"):
            return _create_view(node, namespace)
        case exp.Drop(kind="TABLE"):
            return _drop_table(node, namespace)
        case exp.Drop(kind="VIEW"):
            (table,) = node.args.get("tables") or [node.this]
            return DropView(table_name(table, namespace), bool(node.args.get("exists")))
        case exp.Delete() if not node.args.get("using") and not node.args.get("limit"):
            if not parsed.where:
                return RowChange(TruncateTable(table=table_name(node.this, namespace)))
            return ComputedChange(table_name(node.this, namespace), node, parsed.where)
        case exp.Update() | exp.Merge():
            return ComputedChange(table_name(node.this, namespace), node)
        case exp.TruncateTable():
            return _truncate(node, namespace)
        case exp.Command() if node.name.upper() == "ALTER":
            return Changes(tuple(_other_alter(str(node.expression), namespace)))
        case exp.Alter(kind="TABLE"):
            return Changes(tuple(_alter_table(node, namespace)))
        case exp.Show():
            return _show(node, namespace)
        case exp.Describe():
            return DescribeQuery(table_name(node.this, namespace))
        case exp.Query() | exp.Values():
            return QueryStatement(_query(node, "a query"))
        case exp.Insert():
            return Insertion((_target(node, namespace, None),))
        case exp.MultitableInserts():
            source = node.args.get("source")
            return Insertion(tuple(_target(one, namespace, source) for one in node.expressions))
        case exp.Set():
            return _setting(node)
        case _:
            words = " ".join(parsed.text.split()[:3])
            raise InvalidArgumentError(f"statements like {words[:60]!r} are not supported")


def _truncate(node: Any, namespace: Namespace) -> RowChange:
    if len(node.expressions) != 1:
        raise InvalidArgumentError("TRUNCATE takes one table")
    partition = node.args.get("partition")
    return RowChange(
        TruncateTable(
            table=table_name(node.expressions[0], namespace),
            partition=PartitionSpec() if partition is None else _partition(partition),
        )
    )


_TOUCH = re.compile(r"table\s+(\S+)\s+touch(?:\s+(partition\s*\(.*\)))?", re.IGNORECASE | re.DOTALL)
_MERGE_FILES = re.compile(
    r"table\s+(\S+)\s+(?:partition\s*\(.*\)\s+)?(?:merge\s+smallfiles|compact\s+(major|minor))",
    re.IGNORECASE | re.DOTALL,
)
_OWNER = re.compile(r"table\s+(\S+)\s+changeowner\s+to\s+'((?:[^'\\]|\\.)*)'", re.IGNORECASE)


def _other_alter(text: str, namespace: Namespace) -> Iterable[Request]:
    """The forms of ALTER TABLE that are no SQL elsewhere."""
    text = text.strip().removesuffix(";").rstrip()
    for pattern in (_MERGE_FILES, _TOUCH, _OWNER):
        match = pattern.fullmatch(text)
        if match is None:
            continue
        table = table_name(exp.to_table(match[1], dialect="hive"), namespace)
        if pattern is _MERGE_FILES:
            yield CompactTable(table=table, purge=(match[2] or "").casefold() == "major")
        elif pattern is _OWNER:
            yield AlterTable(table=table, owner=re.sub(r"\\(.)", r"\1", match[2]))
        else:
            partition = PartitionSpec()
            if match[2]:
                # Read as that of a statement which has one.
                (parsed,) = parse_all(f"TRUNCATE TABLE t {match[2]}")
                partition = _partition(parsed.node.args["partition"])
            yield TouchTable(table=table, partition=partition)
        return
    raise InvalidArgumentError(f"ALTER {text[:60]!r} is not supported")


def _query(node: Any, what: str) -> Any:
    """A query's tree; VALUES stands for the rows it lists."""
    if isinstance(node, exp.Values):
        return exp.select("*").from_(node)
    if isinstance(node, exp.Query):
        return node
    raise InvalidArgumentError(f"{what} takes a query")


def _setting(node: Any) -> Setting:
    text = node.sql(dialect="hive")[len("SET ") :]
    name, _, value = text.partition("=")
    return Setting(name.strip().strip("`"), value.strip().strip("'\""))


def _target(node: Any, namespace: Namespace, source: Any) -> Target:
    """The target of an INSERT; ``source`` is what FROM names before several of them."""
    table = node.this
    columns: tuple[str, ...] = ()
    if isinstance(table, exp.Schema):
        columns = tuple(item.name for item in table.expressions)
        table = table.this
    partition = table.args.get("partition") or node.args.get("partition")
    static: list[tuple[str, str]] = []
    dynamic: list[str] = []
    for item in partition.expressions if isinstance(partition, exp.Partition) else ():
        if isinstance(item, exp.EQ):
            static.append((item.this.name, _text(item.expression, "a partition's value")))
        else:
            dynamic.append(item.name)
    tree = _query(node.expression, "INSERT")
    if source is not None:
        tree = tree.copy()
        if not isinstance(tree, exp.Select):
            raise InvalidArgumentError("INSERTs from one source take a SELECT each")
        tree.set(
            "from_", source.copy() if isinstance(source, exp.From) else exp.From(this=source.copy())
        )
    if node.args.get("with_") is not None:
        tree = tree.copy()
        tree.set("with_", node.args["with_"].copy())
    return Target(
        table=table_name(table, namespace),
        tree=tree,
        static=tuple(static),
        dynamic=tuple(dynamic),
        columns=columns,
        overwrite=bool(node.args.get("overwrite")),
    )


def _create_like(node: Any, namespace: Namespace) -> CreateLike:
    source, lifecycle = None, None
    listed = node.args.get("properties")
    for item in listed.expressions if listed is not None else ():
        if isinstance(item, exp.LikeProperty):
            source = table_name(item.this, namespace)
        elif isinstance(item, exp.Property) and item.this.name.upper() == "LIFECYCLE":
            lifecycle = _whole(item.args.get("value"), "LIFECYCLE")
        else:
            raise InvalidArgumentError("CREATE TABLE .. LIKE takes LIFECYCLE and nothing else")
    if source is None:
        raise InvalidArgumentError("CREATE TABLE needs its columns in parentheses")
    return CreateLike(
        table_name(node.this, namespace), source, bool(node.args.get("exists")), lifecycle
    )


def _create_view(node: Any, namespace: Namespace) -> CreateView:
    table, columns, comment = node.this, [], ""
    if isinstance(table, exp.Schema):
        columns = [item.name for item in table.expressions]
        table = table.this
    listed = node.args.get("properties")
    for item in listed.expressions if listed is not None else ():
        if not isinstance(item, exp.SchemaCommentProperty):
            raise InvalidArgumentError("CREATE VIEW takes COMMENT and nothing else")
        comment = _text(item.this, "the comment")
    tree = _query(node.expression, "CREATE VIEW")
    return CreateView(
        table=table_name(table, namespace),
        tree=tree,
        text=sql_text(tree),
        columns=tuple(columns),
        comment=comment,
        replace=bool(node.args.get("replace")),
        if_not_exists=bool(node.args.get("exists")),
    )


# --- names and small pieces ------------------------------------------------------------------


def table_name(node: Any, namespace: Namespace) -> TableName:
    """The table that a node names.

    Raises:
        InvalidArgumentError: it names none.
    """
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
    _refuse_others(node, {"this", "kind", "exists", "properties", "expression"}, "CREATE TABLE")
    schema = node.this
    if node.expression and isinstance(schema, exp.Schema):
        raise InvalidArgumentError("CREATE TABLE .. AS takes its columns from the query")
    fields: list[Any] = []
    primary_key: tuple[str, ...] = ()
    for item in schema.expressions if isinstance(schema, exp.Schema) else ():
        if isinstance(item, exp.PrimaryKey):
            primary_key = tuple(column.name for column in item.expressions)
        else:
            fields.append(_column(item))
    comment = ""
    partition_columns: list[Any] = []
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
            case exp.Property(this=exp.Var() as name) if name.name.upper() in SHARD_PROPERTIES:
                # Where rows of a topic went once; kept and reported, and nothing else.
                number = _whole(item.args.get("value"), name.name)
                properties[SHARD_PROPERTIES[name.name.upper()]] = str(number)
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
        table=table_name(schema.this if isinstance(schema, exp.Schema) else schema, namespace),
        arrow_schema=encode_schema(pa.schema(fields)),
        partition_columns=tuple((name, kind) for name, kind, _ in partition_columns),
        partition_comments=tuple(comment for _, _, comment in partition_columns),
        comment=comment,
        properties=properties,
        primary_key=primary_key,
        lifecycle_days=lifecycle_days,
        if_not_exists=bool(node.args.get("exists")),
    )


def _partition_columns(schema: Any) -> list[tuple[str, str, str]]:
    """Name, type and comment of each."""
    columns: list[tuple[str, str, str]] = []
    for item in schema.expressions:
        if not isinstance(item, exp.ColumnDef):
            raise InvalidArgumentError("PARTITIONED BY needs names and types")
        comment = field_comment(_column(item))
        columns.append((item.name, str(item.args["kind"].meta[ODPS_TYPE]), comment))
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
            DropTable(table=table_name(table, namespace), if_exists=bool(node.args.get("exists")))
            for table in tables
        )
    )


# --- ALTER -----------------------------------------------------------------------------------


def _alter_table(node: Any, namespace: Namespace) -> Iterable[Request]:
    table = table_name(node.this, namespace)
    columns: list[Any] = []
    if_not_exists = False
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
            case exp.AlterRename():
                yield RenameTable(table=table, new_name=action.this.name)
            case exp.AlterColumn():
                yield from _alter_column(table, action)
            case exp.AlterSet():
                yield _alter_settings(table, action)
            case exp.Command() if action.name.upper() == "DROP":
                names = re.fullmatch(
                    r"columns?\s+(.+)", str(action.expression).strip(), re.IGNORECASE | re.DOTALL
                )
                if names is None:
                    raise InvalidArgumentError("ALTER TABLE DROP takes COLUMNS or PARTITION")
                listed = names[1].strip().removeprefix("(").removesuffix(")").split(",")
                yield DropColumns(table=table, names=tuple(n.strip().strip("`") for n in listed))
            case exp.Drop(kind="COLUMN"):
                yield DropColumns(table=table, names=(action.this.name,))
            case exp.RenameColumn():
                yield RenameColumn(
                    table=table, name=action.this.name, new_name=action.args["to"].name
                )
            case exp.Schema():
                columns += [_column(item) for item in action.expressions]
                if_not_exists |= IF_NOT_EXISTS in action.meta
            case exp.ColumnDef():
                columns.append(_column(action))
                if_not_exists |= IF_NOT_EXISTS in action.meta
            case _:
                raise InvalidArgumentError(
                    "this form of ALTER TABLE is not supported; ADD, DROP, CHANGE COLUMNS, ADD and"
                    " DROP PARTITION, RENAME TO, SET LIFECYCLE, COMMENT and TBLPROPERTIES are"
                )
    if columns:
        yield AddColumns(
            table=table,
            arrow_schema=encode_schema(pa.schema(columns)),
            if_not_exists=if_not_exists,
        )


def _alter_column(table: TableName, action: Any) -> Iterable[Request]:
    """CHANGE COLUMN: a new name, and its type or comment."""
    name, new = action.this.name, action.args.get("rename_to")
    dtype, comment = action.args.get("dtype"), action.args.get("comment") or None
    if action.args.get("default") or action.args.get("drop"):
        raise InvalidArgumentError("columns have no DEFAULT")
    if new is not None and new.name.casefold() != name.casefold():
        yield RenameColumn(table=table, name=name, new_name=new.name)
        name = new.name
    if dtype is not None or comment is not None:
        yield AlterColumn(
            table=table,
            name=name,
            type=None if dtype is None else str(dtype.meta.get(ODPS_TYPE) or dtype.sql("hive")),
            comment=None if comment is None else _text(comment, "the comment"),
        )


def _alter_settings(table: TableName, action: Any) -> Request:
    """SET LIFECYCLE, COMMENT or TBLPROPERTIES."""
    comment, lifecycle = None, None
    properties: dict[str, str] = {}
    for group in action.expressions:
        for item in group.expressions:
            if isinstance(item, exp.SchemaCommentProperty):
                comment = _text(item.this, "the comment")
            elif item.this.name.upper() == "LIFECYCLE" and isinstance(item.this, exp.Var):
                lifecycle = _whole(item.args.get("value"), "LIFECYCLE")
            else:
                properties[item.this.name] = _text(item.args.get("value"), "a property's value")
    return AlterTable(
        table=table, set_properties=properties, comment=comment, lifecycle_days=lifecycle
    )


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
        return ShowPartitionsQuery(table_name(node.args["target"], namespace))
    if node.name == "CREATE TABLE":
        return ShowCreateQuery(table_name(node.args["target"], namespace))
    if node.name == "SCHEMAS":
        return ShowSchemasQuery(namespace.project)
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
