"""Statements that are read word by word: what each asks for, and where a wrong one stops making sense."""

from __future__ import annotations

from typing import Any

import pytest

from fletching.errors import InvalidArgumentError, SqlSyntaxError
from fletching.protocol.messages.admin import (
    CreatePartition,
    CreateSchema,
    DescribeTable,
    DropPartition,
    DropSchema,
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
from fletching.sql.parsing.dialect import parse_all, sql_text
from fletching.sql.statements.alterations import alteration_of
from fletching.sql.statements.statement_kinds import (
    AddMissingColumns,
    Changes,
    Clone,
    DescribeQuery,
    DescribeSchemaQuery,
    DropPartitions,
    MergePartitions,
    Namespace,
    RenamePartition,
    RowChange,
    ShowCreateQuery,
    ShowFlagsQuery,
    ShowFunctionsQuery,
    ShowHistoryQuery,
    ShowPartitionsQuery,
    ShowSchemasQuery,
    ShowTablesQuery,
    Use,
)
from fletching.types import PartitionSpec, TableName

HERE = Namespace("p", "default")
SCHEMAS = Namespace("p", "default", schemas_enabled=True)
T = TableName("p", "t")
ONE = PartitionSpec.parse("pt=1")
TWO = PartitionSpec.parse("pt=2")


def read(text: str, namespace: Namespace = HERE) -> Any:
    (parsed,) = parse_all(text)
    return alteration_of(parsed, namespace)


@pytest.mark.parametrize(
    ("text", "requests"),
    [
        ("alter view t rename to u", [RenameTable(table=T, new_name="u")]),
        ("alter view t changeowner to 'ann'", [AlterTable(table=T, owner="ann")]),
        ("alter table t add partition (pt='1') partition (pt='2')", [CreatePartition(table=T, partition=ONE), CreatePartition(table=T, partition=TWO)]),
        ("alter table t add if not exists partition (pt=1)", [CreatePartition(table=T, partition=ONE, if_not_exists=True)]),
        ("alter table t drop partition (pt='1')", [DropPartition(table=T, partition=ONE)]),
        ("alter table t drop if exists partition (pt='1'), partition (pt='2')", [DropPartition(table=T, partition=ONE, if_exists=True), DropPartition(table=T, partition=TWO, if_exists=True)]),
        ("alter table t drop columns a, b", [DropColumns(table=T, names=("a", "b"))]),
        ("alter table t drop column (a)", [DropColumns(table=T, names=("a",))]),
        ("alter table t change column a rename to b", [RenameColumn(table=T, name="a", new_name="b")]),
        ("alter table t change a a null", None),
        ("alter table t change a null", [AlterColumn(table=T, name="a", nullable=True)]),
        ("alter table t change a not null", [AlterColumn(table=T, name="a", nullable=False)]),
        ("alter table t change a comment 'x'", [AlterColumn(table=T, name="a", comment="x")]),
        ("alter table t change a b bigint comment 'x' after c", [RenameColumn(table=T, name="a", new_name="b"), AlterColumn(table=T, name="b", type="bigint", comment="x", after="c")]),
        ("alter table t change a A bigint first", [AlterColumn(table=T, name="A", type="bigint", after="")]),
        ("alter table t rename column a to b", [RenameColumn(table=T, name="a", new_name="b")]),
        ("alter table t rename to u", [RenameTable(table=T, new_name="u")]),
        ("alter table t rename to p.u", [RenameTable(table=T, new_name="u")]),
        ("alter table t set lifecycle 7", [AlterTable(table=T, lifecycle_days=7)]),
        ("alter table t set comment 'x'", [AlterTable(table=T, comment="x")]),
        ("alter table t set tblproperties ('a'='b')", [AlterTable(table=T, set_properties={"a": "b"})]),
        ("alter table t unset tblproperties ('a', 'b')", [AlterTable(table=T, remove_properties=("a", "b"))]),
        ("alter table t changeowner to 'ann'", [AlterTable(table=T, owner="ann")]),
        ("alter table t touch", [TouchTable(table=T, partition=PartitionSpec())]),
        ("alter table t touch partition (pt='1')", [TouchTable(table=T, partition=ONE)]),
        ("alter table t partition (pt='1') touch", [TouchTable(table=T, partition=ONE)]),
        ("alter table t merge smallfiles", [CompactTable(table=T)]),
        ("alter table t compact minor", [CompactTable(table=T)]),
        ("alter table t compact major", [CompactTable(table=T, purge=True)]),
        ("alter table t partition (pt='1') compact major", [CompactTable(table=T, purge=True)]),
        ("analyze table t partition (pt='1') compute statistics for columns", [DescribeTable(table=T)]),
        ("create schema if not exists s", [CreateSchema(project="p", schema="s", if_not_exists=True)]),
        ("drop schema if exists q.s", [DropSchema(project="q", schema="s", if_exists=True)]),
    ],
)  # fmt: skip
def test_what_changes_is_a_list_of_requests(text: str, requests: list[Any] | None) -> None:
    if requests is None:
        with pytest.raises(SqlSyntaxError):
            read(text)
        return
    result = read(text)
    assert isinstance(result, Changes)
    assert list(result.requests) == requests


def test_lifecycle_is_switched_off_and_on() -> None:
    (off,) = read("alter table t disable lifecycle").requests
    (on,) = read("alter table t enable lifecycle").requests
    assert tuple(off.set_properties) == on.remove_properties


def test_clustering_is_kept_as_a_property_and_taken_back() -> None:
    (hashed,) = read(
        "alter table t clustered by (a, b) sorted by (a desc, b) into 8 buckets"
    ).requests
    (ranged,) = read("alter table t range clustered by (a)").requests
    (none,) = read("alter table t not clustered").requests
    (name,) = hashed.set_properties
    assert none.remove_properties == (name,)
    assert set(ranged.set_properties) == {name}
    assert hashed.set_properties != ranged.set_properties


@pytest.mark.parametrize(
    ("text", "statement"),
    [
        ("show partitions t", ShowPartitionsQuery(T, PartitionSpec())),
        ("show partitions t partition (pt='1')", ShowPartitionsQuery(T, ONE)),
        ("show create table t", ShowCreateQuery(T)),
        ("show schemas in q", ShowSchemasQuery("q")),
        ("show databases", ShowSchemasQuery("p")),
        ("show functions like 'a%'", ShowFunctionsQuery("a%")),
        ("show flags", ShowFlagsQuery()),
        ("show history for table t", ShowHistoryQuery(T)),
        ("show tables", ShowTablesQuery("p", "default", None, False)),
        ("show views 'a*'", ShowTablesQuery("p", "default", "a*", True)),
        ("show tables in q like 'a*'", ShowTablesQuery("q", "default", "a*", False)),
        ("show tables in q.s", ShowTablesQuery("q", "s", None, False)),
        ("desc t", DescribeQuery(T, False, PartitionSpec())),
        ("describe extended t partition (pt='1')", DescribeQuery(T, True, ONE)),
        ("desc schema", DescribeQuery(TableName("p", "schema"), False, PartitionSpec())),
        ("desc schema s", DescribeSchemaQuery("p", "s")),
        ("use q", Use("q", "")),
        ("use schema s", Use("p", "s")),
        ("use q.s", Use("q", "s")),
        ("clone table t partition (pt='1') to u if exists ignore", Clone(T, TableName("p", "u"), (ONE,), "IGNORE")),
        ("clone table t to q.u", Clone(T, TableName("q", "u"), (), "")),
        ("alter table t partition (pt='1') rename to partition (pt='2')", RenamePartition(T, ONE, TWO)),
        ("truncate table t", RowChange(TruncateTable(table=T), ())),
        ("truncate table t partition (pt='1'), partition (pt='2')", RowChange(TruncateTable(table=T, partition=ONE), (TruncateTable(table=T, partition=TWO),))),
    ],
)  # fmt: skip
def test_what_looks_and_what_is_more_than_one_request(text: str, statement: object) -> None:
    assert read(text) == statement


def test_schemas_decide_what_one_name_means() -> None:
    assert read("show tables in q", SCHEMAS) == ShowTablesQuery("p", "q", None, False)
    assert read("desc a.b", HERE).table == TableName("a", "b")
    assert read("desc a.b", SCHEMAS).table == TableName("p", "b", "a")


def test_columns_are_added_once_or_if_they_are_missing() -> None:
    (added,) = read("alter table t add columns (a bigint, b string comment 'x')").requests
    assert added.table == T
    missing = read("alter table t add column if not exists a bigint")
    assert isinstance(missing, AddMissingColumns)


def test_partitions_are_named_by_conditions_too() -> None:
    dropped = read("alter table t drop if exists partition (pt < '3', region = 'eu')")
    assert isinstance(dropped, DropPartitions)
    assert dropped.if_exists
    assert "AND" in sql_text(dropped.condition)
    merged = read(
        "alter table t merge if exists partition (pt < '3'), partition (pt='9') "
        "overwrite partition (pt='1') purge"
    )
    assert isinstance(merged, MergePartitions)
    assert (merged.partitions, merged.into) == ((PartitionSpec.parse("pt=9"),), ONE)
    assert len(merged.conditions) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alter table t", "ALTER TABLE"),
        ("alter table t explode", "EXPLODE|explode"),
        ("alter table t add a bigint", "COLUMNS or PARTITION is expected"),
        ("alter table t drop a", "COLUMNS or PARTITION is expected"),
        ("alter table t rename to u extra", "extra"),
        ("alter table t change a b bigint wrong", "COMMENT, AFTER or FIRST is expected"),
        ("alter table t merge overwrite partition (pt='1')", "PARTITION and its values, is expected"),
        ("alter table t drop partition ()", "condition"),
        ("clone table t to u if exists replace", "OVERWRITE or IGNORE is expected"),
        ("show nonsense", "SHOW"),
        ("alter table t set nonsense", "ALTER TABLE .. SET"),
    ],
)  # fmt: skip
def test_a_wrong_word_is_named(text: str, message: str) -> None:
    with pytest.raises((SqlSyntaxError, InvalidArgumentError), match=message):
        read(text)


def test_what_is_understood_and_cannot_be_is_said() -> None:
    with pytest.raises(InvalidArgumentError, match="leaves a table in its project"):
        read("alter table t rename to q.u")
    with pytest.raises(InvalidArgumentError, match="DEFAULT of a column cannot be changed"):
        read("alter table t change a set default 5")
