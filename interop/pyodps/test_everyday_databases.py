"""The same statements through DB-API, SQLAlchemy, pandas and notebooks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from odps import ODPS, options
from odps.dbapi import connect

from conftest import Service


@pytest.fixture
def table(o: ODPS, name: str) -> str:
    o.create_table(name, "id bigint, name string, x double", comment="about")
    o.write_table(name, [[1, "a", 1.5], [2, None, None]])
    return name


@pytest.fixture
def connection(service: Service) -> Iterator[Any]:
    made = connect("ak", "sk", "demo", f"{service.url}/api")
    yield made
    made.close()


@pytest.fixture
def engine(service: Service) -> Iterator[sa.Engine]:
    made = sa.create_engine(f"odps://ak:sk@demo/?endpoint={service.url}/api")
    yield made
    made.dispose()


def test_dbapi(connection: Any, table: str) -> None:
    cursor = connection.cursor()
    cursor.execute(f"select id, name, x from {table} order by id")
    assert [column[0] for column in cursor.description] == ["id", "name", "x"]
    assert list(cursor.fetchone()) == [1, "a", 1.5]
    assert [list(row) for row in cursor.fetchall()] == [[2, None, None]]
    cursor.execute(f"select id from {table} where name = ? and id = ?", ("a", 1))
    assert [list(row) for row in cursor.fetchmany(5)] == [[1]]
    cursor.execute(f"select count(*) from {table} where name = :n", {"n": "a"})
    assert cursor.fetchone()[0] == 1
    cursor.execute(f"create table {table}_2 (a bigint)")
    cursor.executemany(f"insert into {table}_2 values (?)", [(3,), (4,)])
    cursor.execute(f"select sum(a) from {table}_2")
    assert cursor.fetchone()[0] == 7
    cursor.execute(f"desc {table}")
    assert len(cursor.fetchall()) == 1
    cursor.execute(f"select id from {table} order by id")
    assert [row[0] for row in cursor] == [1, 2]
    cursor.close()
    connection.commit()


@pytest.mark.parametrize("acceleration", [True, "v2"])
def test_dbapi_with_query_acceleration(service: Service, table: str, acceleration: Any) -> None:
    made = connect(
        "ak", "sk", "demo", f"{service.url}/api", use_sqa=acceleration, quota_name="fast"
    )
    cursor = made.cursor()
    cursor.execute(f"select id from {table} order by id")
    assert [row[0] for row in cursor.fetchall()] == [1, 2]


def test_reflection(engine: sa.Engine, service: Service, table: str) -> None:
    inspector = sa.inspect(engine)
    assert table in inspector.get_table_names()
    assert inspector.has_table(table)
    assert not inspector.has_table("this_does_not_exist")
    assert inspector.get_table_comment(table)["text"] == "about"
    assert [column["name"] for column in inspector.get_columns(table)] == ["id", "name", "x"]
    result = sa.Table(table, sa.MetaData(), autoload_with=engine)
    assert isinstance(result.c.id.type, sa.types.BigInteger)
    assert isinstance(result.c.x.type, sa.types.Float)
    with pytest.raises(sa.exc.NoSuchTableError):
        sa.Table("this_does_not_exist", sa.MetaData(), autoload_with=engine)
    by_project = sa.create_engine(
        f"odps://ak:sk@demo/?project_as_schema=true&endpoint={service.url}/api"
    )
    assert "demo" in sa.inspect(by_project).get_schema_names()
    assert table in sa.inspect(by_project).get_table_names(schema="demo")


def test_selecting_and_inserting(engine: sa.Engine, table: str) -> None:
    result = sa.Table(table, sa.MetaData(), autoload_with=engine)
    made = sa.Table(
        f"{table}_2", sa.MetaData(), sa.Column("a", sa.Integer), sa.Column("s", sa.String(20))
    )
    with engine.connect() as connection:
        chosen = sa.select(result.c.id, result.c.name).where(result.c.id == 1)
        assert [tuple(row) for row in connection.execute(chosen)] == [(1, "a")]
        made.drop(engine, checkfirst=True)
        made.create(engine)
        connection.execute(made.insert(), [{"a": 1, "s": "x"}, {"a": 2, "s": "it's"}])
        connection.execute(made.insert().from_select(["a", "s"], chosen))
        rows = connection.execute(sa.select(made).order_by(made.c.a, made.c.s)).fetchall()
        assert [tuple(row) for row in rows] == [(1, "a"), (1, "x"), (2, "it's")]
        length = sa.select(sa.func.char_length(made.c.s)).where(made.c.a == 2)
        assert connection.execute(length).scalar() == 4
        text = sa.select(sa.bindparam("好", "中文")).select_from(result).limit(1)
        assert connection.execute(text).scalar() == "中文"
        described = connection.execute(sa.text(f"desc {table}")).fetchall()
        assert (len(described), len(described[0])) == (1, 1)


def test_tables_of_many_types(engine: sa.Engine, o: ODPS, name: str) -> None:
    kinds = [
        "INT",
        "CHAR",
        "VARCHAR",
        "NCHAR",
        "TEXT",
        "FLOAT",
        "NUMERIC",
        "DECIMAL",
        "TIMESTAMP",
        "DATETIME",
        "CLOB",
        "BLOB",
        "BOOLEAN",
        "SMALLINT",
        "DATE",
        "TIME",
        "String",
        "Integer",
        "SmallInteger",
        "Numeric",
        "Float",
        "DateTime",
        "Date",
        "Time",
        "LargeBinary",
        "Boolean",
        "Unicode",
        "UnicodeText",
    ]
    columns = [sa.Column(f"c{n}", getattr(sa.types, kind)) for n, kind in enumerate(kinds)]
    made = sa.Table(name, sa.MetaData(), *columns)
    made.create(engine)
    assert len(o.get_table(name).table_schema.columns) == len(kinds)
    made.drop(engine)


def test_rows_of_many_types(engine: sa.Engine, o: ODPS, name: str) -> None:
    options.sql.use_odps2_extension = True
    try:
        o.execute_sql(
            f"create table {name} (`boolean` BOOLEAN, `tinyint` TINYINT, `int` INT, `bigint` BIGINT,"
            " `float` FLOAT, `string` STRING, `timestamp` TIMESTAMP, `binary` BINARY,"
            " `array` ARRAY<int>, `map` MAP<int, int>, `struct` STRUCT<a: int, b: int>,"
            " `decimal` DECIMAL(10, 1))"
        )
        o.execute_sql(
            f"insert overwrite table {name} select true, cast(127 as tinyint), 2147483647,"
            " 9223372036854775807, cast(0.5 as float), 'a string',"
            " cast(cast(0 as bigint) as timestamp), cast('123' as binary), array(1, 2),"
            " map(1, 2, 3, 4), named_struct('a', 1, 'b', 2), 0.1"
        )
        nulls = ", ".join(["null"] * 10)
        o.execute_sql(
            f"insert into {name} select {nulls}, cast(null as struct<a: int, b: int>), null"
        )
        with engine.connect() as connection:
            rows = connection.execute(sa.text(f"select * from {name}")).fetchall()
    finally:
        options.sql.use_odps2_extension = None
    first, second = rows
    assert list(second) == [None] * 12
    assert list(first[:6]) == [True, 127, 2147483647, 9223372036854775807, 0.5, "a string"]
    assert (first[7], first[8], dict(first[9])) == (b"123", [1, 2], {1: 2, 3: 4})
    assert str(first[11]) == "0.1"


def test_pandas(engine: sa.Engine, connection: Any, table: str, name: str) -> None:
    query = f"select id, name from {table} order by id"
    assert pd.read_sql(query, engine)["id"].tolist() == [1, 2]
    assert pd.read_sql(query, connection)["id"].tolist() == [1, 2]
    assert pd.read_sql_query(sa.text(query), engine)["id"].tolist() == [1, 2]
    assert len(pd.read_sql_table(table, engine, columns=["id"])) == 2

    def insert(made: Any, at: Any, keys: Any, rows: Any) -> None:
        # What to_sql does by itself asks PyODPS's cursor for a count of rows that it does not have.
        at.execute(made.table.insert(), [dict(zip(keys, row, strict=True)) for row in rows])

    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"], "c": [1.5, 2.5]})
    for exists in ("replace", "append"):
        frame.to_sql(f"{name}_p", engine, index=False, if_exists=exists, method=insert)
    assert len(pd.read_sql(f"select * from {name}_p", engine)) == 4


def test_notebooks(o: ODPS, table: str) -> None:
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    shell.run_line_magic("load_ext", "odps")
    o.to_global()
    frame = shell.run_line_magic("sql", f"select id, name from {table} order by id")
    assert len(frame) == 2
    counted = shell.run_cell_magic("sql", "", f"select count(*) as c\nfrom {table}")
    assert len(counted) == 1
    shell.run_line_magic("sql", "show tables")
    shell.run_line_magic("sql", f"create table {table}_n (a bigint)")
    assert o.exist_table(f"{table}_n")
