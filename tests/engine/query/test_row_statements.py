"""INSERT, UPDATE, DELETE and MERGE: rows find their columns and partitions, and what does not fit changes nothing."""

from __future__ import annotations

import pytest
from tests.engine.query.conftest import Sql

from fletching.engine.query import row_statements
from fletching.errors import ConflictError


@pytest.fixture
def table(sql: Sql) -> Sql:
    sql(
        "create table t (a bigint not null, s varchar(3) default 'd', n double) partitioned by (pt string)"
    )
    sql("insert into t partition (pt='x') values (1, 'one', 1.5), (2, 'two', null)")
    return sql


def rows(sql: Sql) -> list[tuple[str, ...]]:
    return sorted(sql.rows("select a, s, n, pt from t"))


HERE = [("1", "one", "1.5", "x"), ("2", "two", r"\N", "x")]


@pytest.mark.parametrize(
    ("statement", "count", "came"),
    [
        ("insert into t partition (pt='y') values (3, 'abcdef', 2)", 1, [("3", "abc", "2.0", "y")]),
        ("insert into t partition (pt) select 3, 'x', 2, 'z'", 1, [("3", "x", "2.0", "z")]),
        ("insert into t partition (pt='y') (n, a) values (2, 3)", 1, [("3", "d", "2.0", "y")]),
        ("insert into t (pt, a) values ('q', 3)", 1, [("3", "d", r"\N", "q")]),
        ("insert into t partition (pt='y') select a + 10, s, n from t", 2,
         [("11", "one", "1.5", "y"), ("12", "two", r"\N", "y")]),
    ],
)  # fmt: skip
def test_inserted_rows(table: Sql, statement: str, count: int, came: list[tuple[str, ...]]) -> None:
    assert table.changed(statement) == count
    assert [row for row in rows(table) if row not in HERE] == came


def test_overwriting_leaves_other_partitions(table: Sql) -> None:
    table("insert into t partition (pt='y') values (5, 'f', 5)")
    table("insert overwrite table t partition (pt='x') values (9, 'n', 9)")
    assert rows(table) == [("5", "f", "5.0", "y"), ("9", "n", "9.0", "x")]


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("insert into t partition (pt='x') values (1, 'a')", "columns"),
        ("insert into t partition (qq='x') values (1, 'a', 1)", "no partition column"),
        ("insert into t partition (pt='x') (zz) values (1)", "no column zz"),
        ("insert into t partition (pt='x') values (null, 'a', 1)", "null"),
        ("insert into v values (1)", "is a view"),
        ("delete from v where x = 1", "is a view"),
        ("update t set zz = 1", "zz"),
        ("insert into nothing values (1)", "nothing"),
    ],
)
def test_what_does_not_fit_changes_nothing(table: Sql, statement: str, words: str) -> None:
    table("create view v as select 1 as x")
    assert words in table.fails(statement)
    assert rows(table) == HERE


@pytest.mark.parametrize(
    ("statement", "count", "left"),
    [
        ("delete from t where a = 1", 1, [HERE[1]]),
        ("delete from t where a * 2 = 4", 1, [HERE[0]]),
        ("delete from t where a in (select max(a) from t)", 1, [HERE[0]]),
        ("update t set s = 'new', n = a where n is null", 1, [HERE[0], ("2", "new", "2.0", "x")]),
        ("update t set pt = 'y' where a = 1", 1, [("1", "one", "1.5", "y"), HERE[1]]),
    ],
)
def test_changed_rows(table: Sql, statement: str, count: int, left: list[tuple[str, ...]]) -> None:
    assert table.changed(statement) == count
    assert rows(table) == sorted(left)


def test_a_merge_updates_deletes_and_inserts_at_once(table: Sql) -> None:
    changed = table.changed(
        "merge into t using (select 1 as k, 'u' as v union all select 2, 'd' union all select 7, 'i')"
        " src on t.a = src.k when matched and src.v = 'd' then delete"
        " when matched then update set s = src.v"
        " when not matched then insert (a, s, n, pt) values (src.k, src.v, 0, 'm')"
    )
    assert changed == 3
    assert rows(table) == [("1", "u", "1.5", "x"), ("7", "i", "0.0", "m")]


def test_an_insert_is_tried_again_when_others_were_first(
    table: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, tries = row_statements._insert, []

    def sometimes(*arguments: object) -> int:
        tries.append(1)
        if len(tries) < most:
            raise ConflictError("others were first")
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(row_statements, "_insert", sometimes)
    most = row_statements._INSERT_ATTEMPTS
    assert table.changed("insert into t partition (pt='y') values (3, 'c', 3)") == 1
    assert len(tries) == most
    tries.clear()
    most += 1
    assert "others were first" in table.fails("insert into t partition (pt='y') values (4, 'd', 4)")
    assert len(rows(table)) == 3


@pytest.fixture
def nested(sql: Sql) -> Sql:
    sql("create table n (k bigint, s struct<x:int, y:string>, l array<struct<x:int, y:string>>)")
    return sql


@pytest.mark.parametrize(
    ("value", "came"),
    [
        ("named_struct('X', 1, 'Y', 'b')", '{"x":1,"y":"b"}'),
        ("named_struct('y', 'b', 'X', 1)", '{"x":1,"y":"b"}'),
        ("named_struct('Y', 'b')", '{"x":null,"y":"b"}'),
        ("named_struct('x', '7', 'y', 8)", '{"x":7,"y":"8"}'),
    ],
)
def test_struct_fields_are_found_by_name_in_any_case(nested: Sql, value: str, came: str) -> None:
    nested(f"insert into n values (1, {value}, array({value}, null))")
    assert nested.rows("select to_json(s), to_json(l) from n") == [(came, f"[{came},null]")]
    nested("insert into n select 2, s, l from n")
    assert nested.rows("select to_json(s) from n where k = 2") == [(came,)]


@pytest.mark.parametrize(
    "value",
    [
        "named_struct('x', 1, 'zz', 5)",
        "named_struct('x', 1, 'y', 'b', 'z', 5)",
        "struct(1, 'b')",
        "named_struct('x', 1, 'X', 2)",
    ],
)
def test_no_struct_field_is_dropped(nested: Sql, value: str) -> None:
    for statement in (f"1, {value}, null", f"1, null, array({value})"):
        said = nested.fails(f"insert into n values ({statement})")
        assert "no struct field" in said or "Duplicate" in said
    assert nested.rows("select k from n") == []
