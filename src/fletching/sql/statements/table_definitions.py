"""CREATE TABLE and VIEW, and DROP TABLE, as requests; names of tables in trees."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

from fletching.errors import InvalidArgumentError, UsageError
from fletching.ipc.encoding import encode_schema
from fletching.protocol.messages.admin import CreateTable, DropTable
from fletching.protocol.types.arrow_types import arrow_field, field_comment, odps_type_of_field
from fletching.protocol.types.odps_types import format_type
from fletching.sql.functions.generated_partitions import (
    GENERATED,
    GeneratedPartition,
    generated_of_node,
)
from fletching.sql.parsing.dialect import ODPS_TYPE, RANGE, exp, sql_text
from fletching.sql.statements.clusterings import CLUSTERING, clustering_of_node
from fletching.sql.statements.statement_kinds import Changes, CreateLike, CreateView, Namespace
from fletching.sql.statements.table_properties import (
    SHARD_PROPERTIES,
    STORAGE_TIER,
    check_property_names,
)
from fletching.types import TableName

__all__ = [
    "DEFAULT_KEY",
    "create_like",
    "create_table",
    "create_view",
    "drop_table",
    "plain_text",
    "query_of",
    "table_name",
]

DEFAULT_KEY = b"fletching:default"
"""Metadata of a column: its DEFAULT, as SQL text."""


def query_of(node: exp.Expr, what: str) -> exp.Query:
    """A query's tree; VALUES stands for the rows it lists."""
    if isinstance(node, exp.Values):
        return exp.select("*").from_(node)
    if isinstance(node, exp.Query):
        return node
    raise InvalidArgumentError(f"{what} takes a query")


def create_table(node: exp.Expr, namespace: Namespace) -> CreateTable:
    """CREATE TABLE, with or without AS.

    Raises:
        InvalidArgumentError: a clause that is not supported, or a value that is none.
    """
    _refuse_others(node, {"this", "kind", "exists", "properties", "expression"}, "CREATE TABLE")
    schema = node.this
    if node.expression and isinstance(schema, exp.Schema):
        raise InvalidArgumentError("CREATE TABLE .. AS takes its columns from the query")
    fields: list[pa.Field] = []
    primary_key: tuple[str, ...] = ()
    for item in schema.expressions if isinstance(schema, exp.Schema) else ():
        if isinstance(item, exp.PrimaryKey):
            primary_key = tuple(column.name for column in item.expressions)
        else:
            fields.append(_column(item))
            primary_key += (item.name,) if _is_key(item) else ()
    comment = ""
    partition_columns: list[tuple[str, str, str]] = []
    properties = {STORAGE_TIER: "standard"} if namespace.tiered else {}
    generated: GeneratedPartition | None = None
    lifecycle_days: int | None = None
    listed = node.args.get("properties")
    for item in listed.expressions if listed is not None else ():
        match item:
            case exp.FileFormatProperty():
                # How rows are stored is this service's business; the clause changes no row.
                continue
            case exp.SchemaCommentProperty():
                comment = plain_text(item.this, "the comment")
            case exp.PartitionedByProperty(this=exp.Schema(expressions=[exp.Alias() as made])):
                partition_columns, generated = _generated(made, fields)
                properties[GENERATED] = generated.property_text()
            case exp.PartitionedByProperty():
                partition_columns = _partition_columns(item.this, bool(node.expression))
            case exp.Property(this=exp.Var() as name) if name.name.upper() == "LIFECYCLE":
                lifecycle_days = _whole(item.args.get("value"), "LIFECYCLE")
            case exp.Property(this=exp.Var() as name) if name.name.upper() in SHARD_PROPERTIES:
                # Where rows of a topic went once; kept and reported, and nothing else.
                number = _whole(item.args.get("value"), name.name)
                properties[SHARD_PROPERTIES[name.name.upper()]] = str(number)
            case exp.ClusteredByProperty():
                buckets = item.args.get("buckets")
                number = 0 if buckets is None else _whole(buckets, "INTO .. BUCKETS")
                names = [field.name for field in fields]
                ranged = bool(item.meta.get(RANGE))
                properties[CLUSTERING] = clustering_of_node(item, names, number, ranged=ranged)
            case exp.Property(this=exp.Literal() | exp.Var()) if item.args.get("value") is not None:
                check_property_names([item.this.name])
                properties[item.this.name] = plain_text(
                    item.args.get("value"), f"property {item.this.name}"
                )
            case _:
                raise InvalidArgumentError(
                    f"CREATE TABLE does not support {item.sql(dialect='hive')[:60]}"
                )
    unknown = set(map(str.lower, primary_key)) - {field.name.lower() for field in fields}
    if unknown:
        raise InvalidArgumentError(
            f"PRIMARY KEY names {', '.join(sorted(unknown))}: no such column"
        )
    if properties.get(_INGESTED, "").lower() == "true":
        fields = [_with_moment(field, generated) for field in fields]
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


def _partition_columns(schema: exp.Expr, of_query: bool) -> list[tuple[str, str, str]]:
    """Name, type and comment of each; of columns that a query gives, the type may be missing."""
    columns: list[tuple[str, str, str]] = []
    for item in schema.expressions:
        if of_query and isinstance(item, exp.Identifier | exp.Column):
            columns.append((item.name, "", ""))
            continue
        if not isinstance(item, exp.ColumnDef):
            raise InvalidArgumentError("PARTITIONED BY needs names and types")
        comment = field_comment(_column(item))
        columns.append((item.name, str(item.args["kind"].meta[ODPS_TYPE]), comment))
    return columns


def _generated(
    node: exp.Expr, fields: Sequence[pa.Field]
) -> tuple[list[tuple[str, str, str]], GeneratedPartition]:
    """The partition column that AUTO PARTITIONED BY makes, and how."""
    kinds = {field.name.casefold(): format_type(odps_type_of_field(field)) for field in fields}
    comment = node.args.get("comment")
    text = "" if comment is None else plain_text(comment, f"the comment of column {node.alias}")
    return [(node.alias, "string", text)], generated_of_node(node.alias, node.this, kinds)


_INGESTED = "ingestion_time_partition"
"""The property of a table that is partitioned by when its rows come."""


def _with_moment(field: pa.Field, made: GeneratedPartition | None) -> pa.Field:
    """A column; the one that partitions are made of gets the moment that a row comes as its DEFAULT."""
    if made is None or field.name.casefold() != made.column.casefold():
        return field
    return field.with_metadata({DEFAULT_KEY: b"current_timestamp_ntz()", **(field.metadata or {})})


def _whole(node: exp.Expr | None, what: str) -> int:
    if (
        isinstance(node, exp.Literal)
        and not node.is_string
        and node.name.isascii()
        and node.name.isdigit()
    ):
        number = int(node.name[:19])
        if number < 2**31:
            return number
    raise InvalidArgumentError(f"{what} needs a whole number")


def drop_table(node: exp.Expr, namespace: Namespace) -> Changes:
    """DROP TABLE, of several, too.

    Raises:
        InvalidArgumentError: a clause that is not supported, or a value that is none.
    """
    _refuse_others(node, {"this", "kind", "exists", "tables", "purge"}, "DROP TABLE")
    tables = node.args.get("tables") or [node.this]
    return Changes(
        tuple(
            DropTable(table=table_name(table, namespace), if_exists=bool(node.args.get("exists")))
            for table in tables
        )
    )


def create_like(node: exp.Expr, namespace: Namespace) -> CreateLike:
    """CREATE TABLE .. LIKE.

    Raises:
        InvalidArgumentError: a clause that is not supported, or a value that is none.
    """
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


def create_view(node: exp.Expr, namespace: Namespace) -> CreateView:
    """CREATE VIEW.

    Raises:
        InvalidArgumentError: a clause that is not supported, or a value that is none.
    """
    table, columns, comment, lifecycle = node.this, [], "", None
    if isinstance(table, exp.Schema):
        columns = [item.name for item in table.expressions]
        table = table.this
    listed = node.args.get("properties")
    items = listed.expressions if listed is not None else []
    materialized = any(isinstance(item, exp.MaterializedProperty) for item in items)
    partitioned_on: tuple[str, ...] = ()
    for item in items:
        if isinstance(item, exp.SchemaCommentProperty):
            comment = plain_text(item.this, "the comment")
        elif isinstance(item.this, exp.Var) and item.this.name.upper() == "LIFECYCLE":
            lifecycle = _whole(item.args.get("value"), "LIFECYCLE")
        elif not materialized:
            raise InvalidArgumentError("CREATE VIEW takes COMMENT and LIFECYCLE and nothing else")
        elif isinstance(item, exp.ViewAttributeProperty):
            # When it is built and who else reads it makes no difference: it is never behind.
            if isinstance(item.this, exp.Tuple):
                partitioned_on = tuple(name.name for name in item.this.expressions)
        elif not isinstance(item, exp.MaterializedProperty):
            raise InvalidArgumentError(
                "CREATE MATERIALIZED VIEW takes COMMENT, LIFECYCLE, BUILD DEFERRED, DISABLE REWRITE and"
                " PARTITIONED ON and nothing else"
            )
    tree = query_of(node.expression, "CREATE VIEW")
    return CreateView(
        table=table_name(table, namespace),
        tree=tree,
        text=sql_text(tree),
        partitioned_on=partitioned_on if materialized else None,
        columns=tuple(columns),
        comment=comment,
        replace=bool(node.args.get("replace")),
        if_not_exists=bool(node.args.get("exists")),
        lifecycle_days=lifecycle,
    )


def table_name(node: exp.Expr, namespace: Namespace) -> TableName:
    """The table that a node names.

    Raises:
        InvalidArgumentError: it names none.
    """
    if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
        if isinstance(node, exp.Table) and isinstance(node.this, exp.Dot):
            raise InvalidArgumentError("the name of a table has three parts at most")
        raise InvalidArgumentError("a table name is expected")
    catalog, database, name = node.catalog, node.db, node.name
    if catalog:
        return TableName(catalog, name, database)
    if database and namespace.schemas_enabled:
        return TableName(namespace.project, name, database)
    return TableName(database or namespace.project, name, namespace.schema)


def _refuse_others(node: exp.Expr, known: Iterable[str], what: str) -> None:
    """Refuses clauses that nothing here would honour: silence would be a wrong answer."""
    others = {name for name, value in node.args.items() if value} - set(known)
    if others:
        raise InvalidArgumentError(f"{what} does not support {', '.join(sorted(others))} here")


def plain_text(node: exp.Expr | None, what: str) -> str:
    """The text of a literal or a word.

    Raises:
        InvalidArgumentError: a clause that is not supported, or a value that is none.
    """
    if isinstance(node, exp.Literal | exp.Var | exp.Identifier):
        return str(node.name)
    if isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal):
        return f"-{node.this.name}"
    if isinstance(node, exp.Boolean):
        return "true" if node.this else "false"
    raise InvalidArgumentError(f"{what} is not a plain value")


def _column(node: exp.Expr) -> pa.Field:
    """A column definition as an Arrow field."""
    if not isinstance(node, exp.ColumnDef) or node.args.get("kind") is None:
        raise InvalidArgumentError("a column is a name and a type")
    nullable, comment, default = True, "", None
    for constraint in node.args.get("constraints") or ():
        kind = constraint.args.get("kind")
        if isinstance(kind, exp.NotNullColumnConstraint):
            nullable = bool(kind.args.get("allow_null"))
        elif isinstance(kind, exp.CommentColumnConstraint):
            comment = plain_text(kind.this, f"the comment of column {node.name}")
        elif isinstance(kind, exp.DefaultColumnConstraint):
            default = _default(node.name, kind.this)
        elif not isinstance(kind, exp.PrimaryKeyColumnConstraint):
            raise InvalidArgumentError(
                f"column {node.name} takes NOT NULL, DEFAULT, PRIMARY KEY and COMMENT;"
                f" {constraint.sql(dialect='hive')[:40]} is not supported"
            )
    try:
        field = arrow_field(
            node.name, node.args["kind"].meta[ODPS_TYPE], nullable=nullable, comment=comment
        )
    except UsageError as error:
        raise InvalidArgumentError(f"column {node.name}: {error.message}") from error
    if default is None:
        return field
    return field.with_metadata({**(field.metadata or {}), DEFAULT_KEY: default.encode()})


def _default(name: str, value: exp.Expr) -> str:
    """A DEFAULT as text: something constant, without columns and queries."""
    if value.find(exp.Column, exp.Query) is not None:
        raise InvalidArgumentError(f"column {name}: a DEFAULT is a constant")
    return sql_text(value)


def _is_key(node: exp.Expr) -> bool:
    return any(
        isinstance(item.args.get("kind"), exp.PrimaryKeyColumnConstraint)
        for item in node.args.get("constraints") or ()
    )
