from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from fletching import ipc
from fletching.errors import FletchingError, InvalidArgumentError, SqlSyntaxError
from fletching.ipc import lowlevel
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
    CompactTable,
    DropColumns,
    RenameColumn,
    RenameTable,
    TouchTable,
    TruncateTable,
)
from fletching.protocol.messages.requests import Request
from fletching.protocol.types.table_schema import parse_columns
from fletching.sql.parsing.dialect import MAX_SQL_TEXT
from fletching.sql.statements.statement_kinds import (
    Assignment,
    Changes,
    ComputedChange,
    CreateAs,
    CreateLike,
    CreateView,
    DescribeQuery,
    DropView,
    Explanation,
    Insertion,
    Namespace,
    QueryStatement,
    RowChange,
    Setting,
    ShowCreateQuery,
    ShowPartitionsQuery,
    ShowSchemasQuery,
    ShowTablesQuery,
    Statement,
)
from fletching.sql.statements.statement_parser import located_statements
from fletching.types import PartitionSpec, TableName

HERE = Namespace("p", "default")
SCHEMAS = Namespace("p", "default", schemas_enabled=True)
T = TableName("p", "t")
S = TableName("q", "s")


def parse_statement(text: str, namespace: Namespace) -> Statement:
    [statement] = (
        item for item, _ in located_statements(text, namespace) if not isinstance(item, Setting)
    )
    return statement


def changes(text: str, namespace: Namespace = HERE) -> tuple[Any, ...]:
    statement = parse_statement(text, namespace)
    assert isinstance(statement, Changes)
    return statement.requests


def create(text: str) -> tuple[CreateTable, Any]:
    (request,) = changes(text)
    assert isinstance(request, CreateTable)
    (message,) = ipc.messages(request.arrow_schema)
    return request, lowlevel.BatchDecoder(message).schema


def test_create_table_as_pyodps_writes_it() -> None:
    request, schema = create(
        """CREATE TABLE IF NOT EXISTS p.`t` (
  `id` BIGINT NOT NULL COMMENT 'the \\'id\\'',
  `b` array<struct<`x`:blob,y:map<string,decimal(10,2)>>>,
  PRIMARY KEY (`id`)
)
COMMENT 'a table'
PARTITIONED BY (
  `pt` string COMMENT 'day',
  n bigint
)
TBLPROPERTIES (
  'transactional' = 'true', "k"="v"
)
LIFECYCLE 7;"""
    )
    assert request.table == T
    assert request.if_not_exists
    assert request.primary_key == ("id",)
    assert request.comment == "a table"
    assert request.partition_columns == (("pt", "string"), ("n", "bigint"))
    assert request.properties == {"transactional": "true", "k": "v"}
    assert request.lifecycle_days == 7
    assert schema.field("id").metadata == {b"comment": b"the 'id'"}
    assert not schema.field("id").nullable
    assert (
        schema.field("b").type
        == parse_columns("b array<struct<x:blob,y:map<string,decimal(10,2)>>>").field(0).type
    )


TYPES = [
    *(
        [
            "bigint",
            "double",
            "boolean",
            "datetime",
            "string",
            "tinyint",
            "smallint",
            "int",
            "binary",
            "date",
            "timestamp",
        ]
    ),
    *(["float", "interval_year_month", "interval_day_time", "json", "timestamp_ntz", "blob"]),
    "decimal",
    "decimal(38,18)",
    "char(3)",
    "varchar(10)",
    "array<array<bigint>>",
    "map<string,array<blob>>",
    "struct<a:bigint,`b c`:struct<d:date>>",
]


@pytest.mark.parametrize("text", TYPES)
def test_sql_and_column_text_agree_about_every_type(text: str) -> None:
    _, schema = create(f"create table t (a {text.upper()} not null, b {text} COMMENT 'x')")
    expected = parse_columns(f"a {text} not null, b {text} comment 'x'")
    assert [str(f.type).lower() for f in schema] == [str(f.type).lower() for f in expected]
    assert schema.field("b").equals(expected.field("b"), check_metadata=True)


@pytest.mark.parametrize(
    ("text", "requests"),
    [
        ("DROP TABLE p.`t`", (DropTable(table=T),)),
        ("drop table if exists t;", (DropTable(table=T, if_exists=True),)),
        (
            "ALTER TABLE p.`t` ADD IF NOT EXISTS  PARTITION (pt='x',n=1)",
            (
                CreatePartition(
                    table=T,
                    partition=PartitionSpec((("pt", "x"), ("n", "1"))),
                    if_not_exists=True,
                ),
            ),
        ),
        (
            "ALTER TABLE t ADD PARTITION (pt='a') PARTITION (pt='b')",
            tuple(
                CreatePartition(table=T, partition=PartitionSpec((("pt", value),)))
                for value in "ab"
            ),
        ),
        (
            'ALTER TABLE t DROP IF EXISTS PARTITION (`pt`="it\'s")',
            (DropPartition(table=T, partition=PartitionSpec((("pt", "it's"),)), if_exists=True),),
        ),
        (
            "ALTER TABLE t DROP PARTITION (n=-1), PARTITION (n=2)",
            (
                DropPartition(table=T, partition=PartitionSpec((("n", "-1"),))),
                DropPartition(table=T, partition=PartitionSpec((("n", "2"),))),
            ),
        ),
        (
            "ALTER TABLE t ADD COLUMNS (x bigint comment 'c', y array<blob>)",
            (
                AddColumns(
                    table=T,
                    arrow_schema=lowlevel.encode_schema(
                        parse_columns("x bigint comment 'c', y array<blob>")
                    ),
                ),
            ),
        ),
        (
            "ALTER TABLE t ADD COLUMN x bigint",
            (
                AddColumns(
                    table=T, arrow_schema=lowlevel.encode_schema(pa.schema([("x", pa.int64())]))
                ),
            ),
        ),
        ("set odps.x=true;\n-- why\ndrop table t", (DropTable(table=T),)),
    ],
)
def test_statements_that_change_tables(text: str, requests: tuple[Any, ...]) -> None:
    assert changes(text) == requests


@pytest.mark.parametrize(
    ("name", "namespace", "table"),
    [
        ("t", Namespace("p", "s1"), TableName("p", "t", "s1")),
        ("q.t", HERE, TableName("q", "t")),
        ("s1.t", SCHEMAS, TableName("p", "t", "s1")),
        ("q.s1.`t`", HERE, TableName("q", "t", "s1")),
        ("q.s1.`t`", SCHEMAS, TableName("q", "t", "s1")),
        ("`2026`", HERE, TableName("p", "2026")),
    ],
)
def test_names_are_resolved_in_their_namespace(
    name: str, namespace: Namespace, table: TableName
) -> None:
    assert changes(f"drop table {name}", namespace) == (DropTable(table=table),)


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("SHOW TABLES", ShowTablesQuery("p", "default")),
        ("show tables like 'a*'", ShowTablesQuery("p", "default", "a*")),
        ("show tables in q", ShowTablesQuery("q", "default")),
        ("show tables in q.s1 like 'x'", ShowTablesQuery("q", "s1", "x")),
        ("show partitions p.t", ShowPartitionsQuery(T)),
        ("DESC t", DescribeQuery(T)),
        ("describe extended p.t", DescribeQuery(T, extended=True)),
        ("show schemas", ShowSchemasQuery("p")),
        ("show create table t", ShowCreateQuery(T)),
        ("set odps.sql.allow.fullscan=true; desc t", DescribeQuery(T)),
        ("create table if not exists t like q.s lifecycle 3", CreateLike(T, S, True, 3)),
        ("drop view if exists t", DropView(T, if_exists=True)),
    ],
)
def test_queries(text: str, query: object) -> None:
    assert parse_statement(text, HERE) == query


def test_show_tables_in_a_schema() -> None:
    assert parse_statement("show tables in s1", SCHEMAS) == ShowTablesQuery("p", "s1")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no statement"),
        ("create tabel t (a bigint)", "not supported"),
        ("create table t (a nonsense)", "nonsense.* is no type"),
        ("create table t (a bigint", "cannot be parsed"),
        ("create table t", "columns in parentheses"),
        ("create table t (a bigint default b)", "a DEFAULT is a constant"),
        ("create table t (a)", "a name and a type"),
        ("create table t (a variant)", "VARIANT"),
        ("alter table t add", "."),
        ("create table t (a bigint, primary key (b))", "no such column"),
        ("create table t (a bigint) lifecycle x", "."),
        ("create table t (a bigint) partitioned by (pt)", "names and types"),
        ("drop table t cascade", "does not support cascade"),
        ("alter table t drop partition ()", "condition is expected"),
        ("alter table t add partition (pt=a+b)", "is expected"),
        ("alter table t add partition (pt='a', PT='b')", "once"),
        ("show jobs", "not supported"),
        ("(" * 5000, "."),
        ("select * from t where " + "(" * 3000 + "a" + ")" * 3000, "too deeply"),
        (" " * (MAX_SQL_TEXT + 1), "above the limit"),
    ],
)
def test_what_is_not_understood_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(InvalidArgumentError, match=complaint) as caught:
        parse_statement(text, HERE)
    assert caught.value.http_status == 400


def test_syntax_errors_are_told_from_what_is_not_supported() -> None:
    with pytest.raises(SqlSyntaxError) as caught:
        parse_statement("select from where", HERE)
    assert caught.value.code == "ParseError"
    assert isinstance(caught.value, FletchingError)


def test_thousands_of_columns_take_no_time_worth_mentioning() -> None:
    columns = ", ".join(f"`column_{i}` array<struct<a:bigint,b:string>>" for i in range(3000))
    _, schema = create(f"create table t ({columns})")
    assert len(schema) == 3000


def test_several_statements() -> None:
    result = located_statements("@a := select 1 k; explain select 2;; select ';' -- no; \n;", HERE)
    assert [type(item) for item, _ in result] == [Assignment, Explanation, QueryStatement]
    with pytest.raises(SqlSyntaxError, match="no statement"):
        located_statements(" ; -- nothing", HERE)


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("insert into t select 1", [((), (), (), False)]),
        ("insert overwrite table t select 1", [((), (), (), True)]),
        ("insert into t (a, `b c`) values (1, 2)", [((), (), ("a", "b c"), False)]),
        ("insert into table t partition (x='1', y) select 1", [((("x", "1"),), ("y",), (), False)]),
        (
            "from s insert into table t select a insert overwrite table t partition (x) select b",
            [((), (), (), False), ((), ("x",), (), True)],
        ),
    ],
)
def test_insertions(text: str, targets: list[Any]) -> None:
    statement = parse_statement(text, HERE)
    assert isinstance(statement, Insertion)
    assert [
        (target.static, target.dynamic, target.columns, target.overwrite)
        for target in statement.targets
    ] == targets
    assert {target.table for target in statement.targets} == {T}


def test_tables_and_views_of_queries() -> None:
    made = parse_statement("create table if not exists t lifecycle 7 as select 1 k", HERE)
    assert isinstance(made, CreateAs)
    assert (made.request.table, made.request.lifecycle_days) == (T, 7)
    assert made.request.if_not_exists
    view = parse_statement(
        "create or replace view t (a comment 'x') comment 'c' as select 1 where k in (1, 2)", HERE
    )
    assert isinstance(view, CreateView)
    assert (view.columns, view.comment, view.replace) == (("a",), "c", True)
    assert "IN (1, 2)" in view.text


def test_the_text_of_a_view_keeps_long_lists() -> None:
    values = ", ".join(f"'v{number}'" for number in range(100))
    view = parse_statement(f"create view t as select 1 where k in ({values})", HERE)
    assert isinstance(view, CreateView)
    assert f"IN ({values})" in view.text


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ("delete from t", TruncateTable(table=T)),
        ("truncate table t", TruncateTable(table=T)),
        (
            "truncate table t partition (pt='1')",
            TruncateTable(table=T, partition=PartitionSpec((("pt", "1"),))),
        ),
    ],
)  # fmt: skip
def test_changes_of_rows(text: str, request_: Request) -> None:
    assert parse_statement(text, HERE) == RowChange(request_)  # type: ignore[arg-type]  # one of its kind


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (
            "delete from t where a = X'00ff' and b in ('x;y')",
            "a = X'00ff' and b in ('x;y')",
        ),
        ("delete from t where a in (select b from u where c)", "a in (select b from u where c)"),
        ("update t set a = upper(b, 'x, where'), `c d` = 1 where (e = 1)", ""),
        ("merge into t using u on t.a = u.a when matched then delete", ""),
    ],
)
def test_changes_that_a_query_works_out(text: str, where: str) -> None:
    result = parse_statement(text, HERE)
    assert isinstance(result, ComputedChange)
    assert (result.table, result.where) == (T, where)


@pytest.mark.parametrize(
    ("text", "requests"),
    [
        ("alter table t rename to u", [RenameTable(table=T, new_name="u")]),
        ("alter table t set lifecycle 3", [AlterTable(table=T, lifecycle_days=3)]),
        ("alter table t set comment 'x'", [AlterTable(table=T, comment="x")]),
        (
            "alter table t set tblproperties ('a'='b')",
            [AlterTable(table=T, set_properties={"a": "b"})],
        ),
        (
            "alter table t change column a b string comment 'x'",
            [
                RenameColumn(table=T, name="a", new_name="b"),
                AlterColumn(table=T, name="b", type="string", comment="x"),
            ],
        ),
        ("alter table t change column a a bigint", [AlterColumn(table=T, name="a", type="bigint")]),
        ("alter table t drop columns a, `b`", [DropColumns(table=T, names=("a", "b"))]),
        ("alter table t merge smallfiles", [CompactTable(table=T)]),
        ("alter table t partition (pt='1') merge smallfiles", [CompactTable(table=T)]),
        ("alter table t compact minor", [CompactTable(table=T)]),
        ("alter table t compact major;", [CompactTable(table=T, purge=True)]),
        ("alter table t touch", [TouchTable(table=T)]),
        (
            "alter table t touch partition (pt='1', q=2)",
            [TouchTable(table=T, partition=PartitionSpec((("pt", "1"), ("q", "2"))))],
        ),
        ("alter table t changeowner to 'x'", [AlterTable(table=T, owner="x")]),
        (
            "alter table t change column a rename to b",
            [RenameColumn(table=T, name="a", new_name="b")],
        ),
    ],
)
def test_forms_of_alter_table(text: str, requests: list[Request]) -> None:
    assert list(changes(text)) == requests
