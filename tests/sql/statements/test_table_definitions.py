"""CREATE TABLE, CREATE VIEW and DROP TABLE as requests, and the clauses that are refused."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from fletching.errors import InvalidArgumentError
from fletching.ipc import lowlevel, messages
from fletching.protocol.messages.admin import CreateTable, DropTable
from fletching.sql.parsing.dialect import parse_one
from fletching.sql.statements.statement_kinds import Namespace
from fletching.sql.statements.table_definitions import (
    DEFAULT_KEY,
    create_like,
    create_table,
    create_view,
    drop_table,
    plain_text,
    query_of,
    table_name,
)
from fletching.types import TableName

HERE = Namespace("p", "default")
SCHEMAS = Namespace("p", "default", schemas_enabled=True)


def made(text: str) -> CreateTable:
    return create_table(parse_one(text), HERE)


def columns(request: CreateTable) -> pa.Schema:
    return lowlevel.read_schema(next(iter(messages(request.arrow_schema))))


def test_columns_have_types_nullability_comments_and_defaults() -> None:
    request = made(
        "create table if not exists t (id bigint not null comment 'the key', s string default 'x',"
        " d decimal(10,2), l array<int>) comment 'all' lifecycle 7 tblproperties ('a'='b', 'n'=5)"
    )
    schema = columns(request)
    assert schema.names == ["id", "s", "d", "l"]
    assert schema.types == [pa.int64(), pa.string(), pa.decimal128(10, 2), schema.field("l").type]
    assert pa.types.is_list(schema.field("l").type)
    assert [field.nullable for field in schema] == [False, True, True, True]
    assert b"the key" in b"".join(schema.field("id").metadata.values())
    assert schema.field("s").metadata[DEFAULT_KEY] == b"'x'"
    assert (request.table, request.if_not_exists) == (TableName("p", "t"), True)
    assert (request.comment, request.lifecycle_days) == ("all", 7)
    assert request.properties == {"a": "b", "n": "5"}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("create table t (id bigint, primary key (id))", ("id",)),
        ("create table t (id bigint primary key, s string)", ("id",)),
        ("create table t (a bigint, b bigint, primary key (b, A))", ("b", "A")),
        ("create table t (id bigint)", ()),
    ],
)
def test_keys(text: str, key: tuple[str, ...]) -> None:
    assert made(text).primary_key == key


def test_partition_columns_have_types_and_comments() -> None:
    request = made("create table t (a bigint) partitioned by (pt string comment 'day', n int)")
    assert request.partition_columns == (("pt", "string"), ("n", "int"))
    assert request.partition_comments == ("day", "")
    request = made("create table t partitioned by (pt) as select 1 as a, '2' as pt")
    assert request.partition_columns == (("pt", ""),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("create table t (a bigint, primary key (b))", "PRIMARY KEY names b: no such column"),
        ("create table t (a bigint) as select 1 as a", "takes its columns from the query"),
        ("create table t (a bigint check (a > 1))", "is not supported"),
        ("create table t (a bigint default b)", "DEFAULT is a constant"),
        ("create table t (a bigint) lifecycle 99999999999", "LIFECYCLE needs a whole number"),
        ("create table t (a bigint) lifecycle 1.5", "LIFECYCLE needs a whole number"),
        ("create table t (a bigint) partitioned by (pt)", "needs names and types"),
        ("create table t (a bigint) location 'x'", "CREATE TABLE does not support"),
        ("create temporary table t (a bigint)", "CREATE TABLE does not support"),
    ],
)
def test_what_cannot_be_is_refused_by_its_clause(text: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        made(text)


def test_like_takes_a_table_and_a_lifecycle() -> None:
    result = create_like(parse_one("create table if not exists t like q.s lifecycle 3"), HERE)
    assert (result.table, result.source) == (TableName("p", "t"), TableName("q", "s"))
    assert (result.if_not_exists, result.lifecycle_days) == (True, 3)
    with pytest.raises(InvalidArgumentError, match="LIFECYCLE and nothing else"):
        create_like(parse_one("create table t like s comment 'x'"), HERE)
    with pytest.raises(InvalidArgumentError, match="columns in parentheses"):
        create_like(parse_one("create table t lifecycle 3"), HERE)


def test_a_view_keeps_its_query_as_text_and_tree() -> None:
    view = create_view(
        parse_one("create or replace view v (x, y) comment 'c' as select a, b from t"), HERE
    )
    assert (view.table, view.columns, view.comment) == (TableName("p", "v"), ("x", "y"), "c")
    assert (view.replace, view.if_not_exists) == (True, False)
    assert parse_one(view.text) == view.tree
    kept = create_view(parse_one("create view v lifecycle 3 as select 1 as a"), HERE)
    assert kept.lifecycle_days == 3
    for other in ("tblproperties ('a'='b')", "hublifecycle 3"):
        with pytest.raises(InvalidArgumentError, match="COMMENT and LIFECYCLE and nothing else"):
            create_view(parse_one(f"create view v {other} as select 1 as a"), HERE)


def test_several_tables_are_dropped_by_one_statement() -> None:
    result = drop_table(parse_one("drop table if exists a, q.b"), HERE)
    assert result.requests == (
        DropTable(table=TableName("p", "a"), if_exists=True),
        DropTable(table=TableName("q", "b"), if_exists=True),
    )
    with pytest.raises(InvalidArgumentError, match="DROP TABLE"):
        drop_table(parse_one("drop table a cascade"), HERE)


@pytest.mark.parametrize(
    ("text", "here", "schemas"),
    [
        ("t", TableName("p", "t"), TableName("p", "t")),
        ("a.t", TableName("a", "t"), TableName("p", "t", "a")),
        ("a.b.t", TableName("a", "t", "b"), TableName("a", "t", "b")),
    ],
)
def test_names_mean_projects_or_schemas(text: str, here: TableName, schemas: TableName) -> None:
    node: Any = parse_one(f"select * from {text}").args.get("from_") or parse_one(
        f"select * from {text}"
    ).args.get("from")
    assert table_name(node.this, HERE) == here
    assert table_name(node.this, SCHEMAS) == schemas
    with pytest.raises(InvalidArgumentError):
        table_name(parse_one("select 1"), HERE)


def test_plain_values_and_queries() -> None:
    value = parse_one("select 'x', -5, true, 1 + 1").expressions
    assert [plain_text(each, "it") for each in value[:3]] == ["x", "-5", "true"]
    with pytest.raises(InvalidArgumentError, match="it is not a plain value"):
        plain_text(value[3], "it")
    assert query_of(parse_one("select 1"), "a view").expressions
    with pytest.raises(InvalidArgumentError, match="a view takes a query"):
        query_of(value[0], "a view")
