"""Tables, partitions, schemas and statements as both PyODPS versions manage them."""

from __future__ import annotations

from typing import Any

import pytest
from odps import ODPS, errors, options
from odps.types import Column, OdpsSchema, Partition, PartitionSpec

from conftest import NEW, Service

ALL_TYPES = {
    "a": "bigint",
    "b": "double",
    "c": "boolean",
    "d": "datetime",
    "e": "string",
    "f": "decimal(10,2)",
    "g": "tinyint",
    "h": "smallint",
    "i": "int",
    "j": "char(3)",
    "k": "varchar(10)",
    "l": "binary",
    "m": "date",
    "n": "timestamp",
    "o": "float",
    "p": "interval_day_time",
    "q": "array<bigint>",
    "r": "map<string,double>",
    "s": "struct<x:bigint,y:array<string>>",
    "t": "json",
    "u": "timestamp_ntz",
    "v": "decimal(38,18)",
    "w": "blob",
    "x": "array<struct<b:blob>>",
}


def test_a_table_is_created_seen_and_dropped(o: ODPS, name: str) -> None:
    assert not o.exist_table(name)
    table = o.create_table(name, "a bigint, b string", comment="why", lifecycle=7)
    assert o.exist_table(name)
    assert [column.name for column in table.table_schema.columns] == ["a", "b"]
    again = o.get_table(name)
    assert again.comment == "why"
    assert again.lifecycle == 7
    assert str(again.type).lower().endswith("managed_table")
    assert again.creation_time is not None
    assert again.size == 0
    assert name in [each.name for each in o.list_tables(prefix=name)]
    o.delete_table(name)
    assert not o.exist_table(name)
    o.delete_table(name, if_exists=True)


def test_every_type_comes_back_as_it_was_declared(o: ODPS, name: str) -> None:
    options.sql.use_odps2_extension = True
    try:
        declared = ", ".join(f"{column} {kind}" for column, kind in ALL_TYPES.items())
        table = o.create_table(name, (declared, "p1 string, p2 bigint"))
        table.reload()
        columns = {c.name: str(c.type).lower() for c in table.table_schema.simple_columns}
        assert {name: kind.replace("`", "") for name, kind in columns.items()} == ALL_TYPES
        assert [p.name for p in table.table_schema.partitions] == ["p1", "p2"]
    finally:
        options.sql.use_odps2_extension = None


def test_column_objects_with_comments_and_nullability(o: ODPS, name: str) -> None:
    schema = OdpsSchema(
        columns=[
            Column("id", "bigint", comment='it\'s "the" id', nullable=False),
            Column("txt", "string"),
        ],
        partitions=[Partition("pt", "string", comment="day")],
    )
    table = o.create_table(name, schema, if_not_exists=True)
    table.reload()
    first = table.table_schema["id"]
    assert first.comment == 'it\'s "the" id'
    assert not first.nullable
    assert table.table_schema["txt"].nullable


def test_primary_key_and_properties(o: ODPS, name: str) -> None:
    o.create_table(
        name,
        "id bigint not null, v string",
        primary_key=["id"],
        transactional=True,
        table_properties={"acid.data.retain.hours": "24"},
    )
    table = o.get_table(name)
    assert table.primary_key == ["id"]
    assert table.is_transactional


def test_creating_twice(o: ODPS, name: str) -> None:
    o.create_table(name, "a bigint")
    o.create_table(name, "a bigint", if_not_exists=True)
    wanted = errors.ObjectAlreadyExists if NEW else errors.ODPSError
    with pytest.raises(wanted) as caught:
        o.create_table(name, "a bigint")
    assert "already exists" in str(caught.value)


def test_partitions(o: ODPS, name: str) -> None:
    table = o.create_table(name, ("a bigint", "pt string, n bigint"))
    for pt in ("x", "y"):
        for n in (1, 2):
            table.create_partition(f"pt='{pt}',n={n}")
    table.create_partition("pt='x',n=1", if_not_exists=True)
    assert table.exist_partition("pt=x,n=1")
    assert not table.exist_partition("pt=z,n=1")
    assert table.exist_partitions("pt=x")
    assert not table.exist_partitions("pt=z")
    assert len(list(table.partitions)) == 4
    assert len(list(table.iterate_partitions("pt=y"))) == 2
    newest = table.get_max_partition(skip_empty=False)
    assert newest.partition_spec == PartitionSpec("pt=y,n=2")
    assert table.get_max_partition() is None
    partition = table.get_partition("pt=x,n=2")
    partition.reload()
    assert partition.creation_time is not None
    assert partition.size == 0
    table.delete_partition("pt=x,n=2")
    assert not table.exist_partition("pt=x,n=2")
    table.delete_partition("pt=x,n=2", if_exists=True)
    with pytest.raises(errors.NoSuchPartition):
        table.delete_partition("pt=x,n=2")
    with pytest.raises((errors.NoSuchPartition, errors.NoSuchObject)):
        table.get_partition("pt=q,n=9").reload()


def test_hundreds_of_tables_come_in_pages(o: ODPS) -> None:
    prefix = "page_"
    for number in range(25):
        o.create_table(f"{prefix}{number:03d}", "a bigint", if_not_exists=True)
    names = [table.name for table in o.list_tables(prefix=prefix)]
    assert names == [f"{prefix}{number:03d}" for number in range(25)]


def test_statements(o: ODPS, name: str) -> None:
    o.execute_sql(f"create table {name} (a bigint comment 'x') partitioned by (pt string)")
    o.execute_sql(f"alter table {name} add columns (b array<string> comment 'later')")
    table = o.get_table(name)
    assert [c.name for c in table.table_schema.simple_columns] == ["a", "b"]
    o.execute_sql(f"alter table {name} add partition (pt='1') partition (pt='2')")
    assert len(list(table.partitions)) == 2
    shown = o.execute_sql("show tables")
    with shown.open_reader() as reader:
        assert name in reader.raw
    with o.execute_sql(f"show partitions {name}").open_reader() as reader:
        assert reader.raw.split() == ["pt=1", "pt=2"]
    with o.execute_sql(f"desc {name}").open_reader() as reader:
        assert "a bigint" in reader.raw
    instance = o.run_sql(f"drop table {name}")
    instance.wait_for_success()
    assert instance.is_successful()
    assert o.exist_instance(instance.id)
    assert not o.exist_table(name)


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("create tabel x (a bigint)", errors.ODPSError),
        ("create table x (a nonsense)", errors.ParseError),
        ("select from", errors.ParseError),
        ("drop table surely_absent", errors.NoSuchTable),
        ("alter table surely_absent add partition (pt='1')", errors.NoSuchTable),
        ("select * from surely_absent", errors.NoSuchTable),
        ("insert into surely_absent values (1)", errors.NoSuchTable),
        ("drop table nobody.x", errors.NoSuchObject),
    ],
)
def test_statements_that_fail_raise_the_right_class(o: ODPS, statement: str, error: Any) -> None:
    instance = o.run_sql(statement)
    with pytest.raises(error) as caught:
        instance.wait_for_success()
    assert caught.value.instance_id == instance.id
    assert not instance.is_successful()


def test_errors_of_lookups_have_class_and_request_id(o: ODPS, service: Service) -> None:
    with pytest.raises(errors.NoSuchObject) as caught:
        o.get_table("surely_absent").reload()
    assert caught.value.request_id
    assert isinstance(caught.value, errors.NoSuchTable)
    with pytest.raises(errors.NoSuchObject):
        o.get_instance("19700101000000000absent").reload()
    assert not service.connect(project="elsewhere").exist_table("t")
    assert o.exist_project("demo")
    assert not o.exist_project("elsewhere")


def test_schemas_as_namespaces(service: Service, name: str) -> None:
    plain = service.connect()
    plain.create_table(name, "plain bigint")
    options.enable_schema = True
    try:
        space = f"s_{name}"
        o = service.connect()
        assert not o.exist_schema(space)
        o.create_schema(space)
        assert o.exist_schema(space)
        assert space in [schema.name for schema in o.list_schemas()]
        assert not o.exist_table(name, schema=space)
        table = o.create_table(name, ("inner_one bigint", "pt string"), schema=space)
        assert [c.name for c in table.table_schema.simple_columns] == ["inner_one"]
        table.create_partition("pt=1")
        assert [str(p.partition_spec) for p in table.partitions] == ["pt='1'"]
        assert [t.name for t in o.list_tables(schema=space)] == [name]
        other = o.get_table(name)
        assert [c.name for c in other.table_schema.columns] == ["plain"]
        o.execute_sql(f"alter table {space}.{name} add columns (more string)")
        table.reload()
        assert [c.name for c in table.table_schema.simple_columns] == ["inner_one", "more"]
        o.delete_table(name, schema=space)
        assert not o.exist_table(name, schema=space)
        o.delete_schema(space)
        assert not o.exist_schema(space)
    finally:
        options.enable_schema = False
    assert plain.exist_table(name)


def test_results_of_queries(o: ODPS, name: str) -> None:
    o.create_table(name, "a bigint, b string")
    with o.execute_sql(f"select count(*) from {name}").open_reader(tunnel=False) as reader:
        assert [int(record[0]) for record in reader] == [0]
