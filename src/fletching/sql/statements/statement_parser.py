"""SQL statements as requests and queries (docs/sql.md).

What changes the catalog becomes requests of the engine; what reads becomes a tree for
`fletching.sql.queries.translation`; what writes rows is a tree and where its rows go.

A name is ``table``, ``project.table`` or ``project.schema.table``; with schemas as namespaces the
middle form is ``schema.table``.
"""

from __future__ import annotations

import re

from fletching.errors import InvalidArgumentError, SqlSyntaxError
from fletching.protocol.messages.changes import TruncateTable
from fletching.sql.parsing.dialect import Parsed, exp, parse_all
from fletching.sql.parsing.statement_locations import StatementLocation
from fletching.sql.queries.query_sources import located, table_moment
from fletching.sql.statements.alterations import alteration_of
from fletching.sql.statements.statement_kinds import (
    Assignment,
    Changes,
    ComputedChange,
    CreateAs,
    DropView,
    Explanation,
    Insertion,
    Namespace,
    QueryStatement,
    RowChange,
    Setting,
    Statement,
    Target,
    namespace_after,
)
from fletching.sql.statements.table_definitions import (
    create_like,
    create_table,
    create_view,
    drop_table,
    plain_text,
    query_of,
    table_name,
)

__all__ = ["located_statements"]


def located_statements(
    text: str, namespace: Namespace
) -> list[tuple[Statement, StatementLocation]]:
    """Reads statements with ``;`` between them, each with its location.

    Raises:
        SqlSyntaxError: one cannot be parsed, or there is none.
        InvalidArgumentError: one is understood but not supported, or contradicts itself.
    """
    result: list[tuple[Statement, StatementLocation]] = []
    for parsed in parse_all(text):
        location = StatementLocation(parsed.text, parsed.line, parsed.column)
        try:
            statement = _statement(parsed, namespace)
        except InvalidArgumentError as error:
            raise location.located(error) from error
        result.append((statement, location))
        namespace = namespace_after(statement, namespace)
    if not result:
        raise SqlSyntaxError("there is no statement, at line 1, column 1")
    return result


def _statement(parsed: Parsed, namespace: Namespace) -> Statement:
    node = parsed.node
    if isinstance(node, exp.Expr):
        _check_whole(node)
    if node is None:
        if parsed.variable or parsed.explained:
            raise InvalidArgumentError("EXPLAIN and variables take a query")
        return alteration_of(parsed, namespace)
    if parsed.variable:
        return Assignment(parsed.variable, query_of(node, "a variable"))
    if parsed.explained:
        return Explanation(_explained(node))
    match node:
        case exp.Create(kind="TABLE") if node.args.get("expression") is not None:
            return CreateAs(create_table(node, namespace), query_of(node.expression, "AS"))
        case exp.Create(kind="TABLE") if not isinstance(node.this, exp.Schema):
            return create_like(node, namespace)
        case exp.Create(kind="TABLE"):
            return Changes((create_table(node, namespace),))
        case exp.Create(kind="VIEW"):
            return create_view(node, namespace)
        case exp.Drop(kind="TABLE"):
            return drop_table(node, namespace)
        case exp.Drop(kind="VIEW"):
            (table,) = node.args.get("tables") or [node.this]
            return DropView(table_name(table, namespace), bool(node.args.get("exists")))
        case exp.Delete() if not node.this:
            raise InvalidArgumentError("DELETE takes FROM and a table")
        case exp.Delete() if not node.args.get("using") and not node.args.get("limit"):
            if not parsed.where:
                return RowChange(TruncateTable(table=table_name(node.this, namespace)))
            return ComputedChange(table_name(node.this, namespace), node, parsed.where)
        case exp.Update() | exp.Merge():
            return ComputedChange(table_name(node.this, namespace), node)
        case exp.Query() | exp.Values():
            return QueryStatement(query_of(node, "a query"))
        case exp.Insert():
            return Insertion((_target(node, namespace, None),))
        case exp.MultitableInserts():
            source = node.args.get("source")
            return Insertion(tuple(_target(item, namespace, source) for item in node.expressions))
        case exp.Set():
            return _setting(parsed.text)
        case exp.Create(kind="TABLE") | exp.Command() if parsed.text[:6].upper() == "CREATE":
            words = " ".join(parsed.text.upper().split())
            if words.startswith("CREATE FUNCTION"):
                raise InvalidArgumentError("functions in Java or Python are not supported")
            raise InvalidArgumentError(
                "CREATE TABLE takes a name and columns in parentheses, AS and a query, or LIKE and a table"
            )
        case _:
            words = " ".join(parsed.text.split()[:3])
            raise InvalidArgumentError(f"statements like {words[:60]!r} are not supported")


def _check_whole(node: exp.Expr) -> None:
    """Refuses trees that lack a part which the grammar does not insist on.

    Raises:
        InvalidArgumentError: naming what is missing, or what is no part of the dialect.
    """
    for part in node.walk():
        match part:
            case exp.In() if not (
                part.expressions or part.args.get("query") or part.meta or part.args.get("unnest")
            ):
                raise located(InvalidArgumentError("IN takes a list or a query"), part)
            case exp.Is() if not isinstance(part.expression, exp.Null | exp.Boolean):
                message = "IS takes NULL, TRUE, FALSE or DISTINCT FROM"
                raise located(InvalidArgumentError(message), part.expression)
            case exp.Limit() | exp.Offset():
                count = part.expression
                if not (isinstance(count, exp.Literal) and count.name.isdecimal()):
                    raise located(
                        InvalidArgumentError("LIMIT and OFFSET take a whole number"), part
                    )
            case exp.Select() if not part.expressions:
                raise located(InvalidArgumentError("SELECT lacks what it selects"), part)
            case exp.Select() if part.args.get("locks"):
                raise located(InvalidArgumentError("a query locks nothing: FOR UPDATE"), part)
            case exp.Join(kind="SEMI" | "ANTI") if not (
                part.args.get("on") or part.args.get("using")
            ):
                raise located(InvalidArgumentError("SEMI and ANTI JOIN take ON"), part)
            case exp.Interval() if part.args.get("unit") is None:
                raise located(
                    InvalidArgumentError("INTERVAL takes a number and a unit: INTERVAL 1 DAY"), part
                )
            case exp.Alias() if not isinstance(part.args["alias"], exp.Identifier) or (
                part.alias.isdecimal() and not part.args["alias"].args.get("quoted")
            ):
                raise located(
                    InvalidArgumentError(f"{part.alias[:40]!r} is no name of a column"), part
                )
            case exp.Distinct() if part.args.get("on"):
                raise located(InvalidArgumentError("DISTINCT takes no ON"), part)
            case exp.Pivot():
                raise located(InvalidArgumentError("PIVOT is not supported"), part)
            case exp.Placeholder():
                raise located(
                    InvalidArgumentError("there is no value for a parameter of the text"), part
                )
            case exp.Table() if part.args.get("version") or part.args.get("changes"):
                _check_moment(part)
    if isinstance(node, exp.Update) and not node.expressions:
        raise InvalidArgumentError("UPDATE lacks SET column = value")
    if isinstance(node, exp.Update):
        _spread(node)
    if isinstance(node, exp.Merge) and not isinstance(node.args.get("on"), exp.Expression):
        raise InvalidArgumentError("MERGE lacks ON and a condition")


def _check_moment(table: exp.Expr) -> None:
    """Refuses versions that cannot be, and of tables that are written to.

    Raises:
        InvalidArgumentError: naming what is wrong.
    """
    try:
        table_moment(table)
    except InvalidArgumentError as error:
        raise located(error, table) from error
    holder = table.parent
    while isinstance(holder, exp.Schema):
        holder = holder.parent
    writes = (exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Create)
    if isinstance(holder, writes) and (holder.this is table or holder.this is table.parent):
        raise located(InvalidArgumentError("a table as it was cannot be changed"), table)


def _spread(node: exp.Expr) -> None:
    """``SET (a, b) = (1, 2)`` as ``SET a = 1, b = 2``."""
    made: list[exp.Expr] = []
    for item in node.expressions:
        if not (isinstance(item, exp.EQ) and isinstance(item.this, exp.Tuple)):
            made.append(item)
            continue
        names, values = item.this.expressions, item.expression
        if not isinstance(values, exp.Tuple) or len(values.expressions) != len(names):
            raise located(
                InvalidArgumentError("SET (columns) = (values) takes as many values as columns"),
                item,
            )
        pairs = zip(names, values.expressions, strict=True)
        made += [exp.EQ(this=name.copy(), expression=value.copy()) for name, value in pairs]
    node.set("expressions", made)


def _explained(node: exp.Expr) -> exp.Query:
    """The query that EXPLAIN is about: also that of an INSERT or CREATE TABLE .. AS."""
    if isinstance(node, exp.Insert | exp.Create) and node.expression:
        return query_of(node.expression, "EXPLAIN")
    return query_of(node, "EXPLAIN")


def _setting(text: str) -> Setting:
    name, equals, value = (part.strip() for part in text[len("SET") :].partition("="))
    name = name.strip("`")
    if not equals or _FLAG.fullmatch(name) is None or "\n" in value:
        raise InvalidArgumentError("SET takes name=value on one line, and ; behind it")
    return Setting(name, value.strip("'\""))


_FLAG = re.compile(r"[\w.:-]+")


def _target(node: exp.Expr, namespace: Namespace, source: exp.Expr | None) -> Target:
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
            static.append((item.this.name, plain_text(item.expression, "a partition's value")))
        else:
            dynamic.append(item.name)
    tree = query_of(node.expression, "INSERT")
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
