"""INSERT, UPDATE, DELETE and MERGE: rows find their columns and partitions, and what does not fit changes nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import delete
from tests.engine.conftest import on_both_databases
from tests.engine.query.conftest import HERE, Sql

from fletching.catalog.schema import instances
from fletching.engine.changes.attempts import Attempts
from fletching.engine.query import row_statements
from fletching.errors import ConflictError, ServiceUnavailableError
from fletching.protocol.messages.admin import new_instance_id
from fletching.protocol.messages.requests import CommitWriteSession


@pytest.fixture
def table(sql: Sql) -> Sql:
    sql(
        "create table t (a bigint not null, s varchar(3) default 'd', n double) partitioned by (pt string)"
    )
    sql("insert into t partition (pt='x') values (1, 'one', 1.5), (2, 'two', null)")
    return sql


def rows(sql: Sql) -> list[tuple[str, ...]]:
    return sorted(sql.rows("select a, s, n, pt from t"))


ROWS = [("1", "one", "1.5", "x"), ("2", "two", r"\N", "x")]


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
    assert [row for row in rows(table) if row not in ROWS] == came


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
    assert rows(table) == ROWS


@pytest.mark.parametrize(
    ("statement", "count", "left"),
    [
        ("delete from t where a = 1", 1, [ROWS[1]]),
        ("delete from t where a * 2 = 4", 1, [ROWS[0]]),
        ("delete from t where a in (select max(a) from t)", 1, [ROWS[0]]),
        ("update t set s = 'new', n = a where n is null", 1, [ROWS[0], ("2", "new", "2.0", "x")]),
        ("update t set pt = 'y' where a = 1", 1, [("1", "one", "1.5", "y"), ROWS[1]]),
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

    def sometimes(*arguments: object) -> object:
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
        message = nested.fails(f"insert into n values ({statement})")
        assert "no struct field" in message or "Duplicate" in message
    assert nested.rows("select k from n") == []


FORMS = (
    "insert into w (k, {columns}) values (2, {values})",
    "insert into w (k, {columns}) select 2, {given} from {source}",
    "insert overwrite table w (k, {columns}) select 2, {given} from {source}",
    "from {source} insert into w (k, {columns}) select 2, {given}",
    "update w set {plain} where k = 1",
    "update w set (k, {columns}) = (1, {values}) where k = 1",
    "update w set {assigned} from {source} where q.k = w.k",
    "merge into w using {source} on w.k = q.k when matched then update set {assigned}",
    "merge into w using {source} on w.k = q.k + 1 when not matched then insert (k, {columns}) values (2, {given})",
    "merge into w using {source} on w.k = q.k + 1 when not matched by source then update set {plain}",
)
"""How a statement puts values into columns of a table with a row 1."""


def writing(form: str, values: dict[str, str]) -> str:
    source = ", ".join(f"{value} as v{n}" for n, value in enumerate(values.values()))
    return form.format(
        columns=", ".join(values),
        values=", ".join(values.values()),
        given=", ".join(f"q.v{n}" for n in range(len(values))),
        plain=", ".join(f"{name} = {value}" for name, value in values.items()),
        assigned=", ".join(f"{name} = q.v{n}" for n, name in enumerate(values)),
        source=f"(select 1 as k, {source}) q",
    )


@pytest.fixture
def wide(sql: Sql) -> Sql:
    sql(
        "create table w (k bigint, b bigint, b2 bigint, b3 bigint, b4 bigint, i tinyint, f float,"
        " d decimal(5,1), v varchar(2), v2 varchar(2), l array<int>, s struct<x:bigint, y:string>,"
        " m map<string, struct<x:int>>)"
    )
    sql("insert into w (k) values (1)")
    return sql


def test_values_become_their_columns_alike_in_every_statement(wide: Sql) -> None:
    given = {
        "b": ("cast(2 as double)", "2"),
        "b2": ("cast('-3.0' as decimal(9,1))", "-3"),
        "b3": ("' 7.0 '", "7"),
        "b4": ("'9223372036854775807'", "9223372036854775807"),
        "i": ("'1e2'", "100"),
        "d": ("1.25", "1.3"),
        "f": ("0.1", "0.10000000149011612"),
        "v": ("'abc'", "ab"),
        "v2": ("1.5bd", "1."),
        "to_json(l)": ("array(1, 2.0)", "[1,2]"),
        "to_json(s)": ("named_struct('Y', 'a')", '{"x":null,"y":"a"}'),
    }
    named = {name.removeprefix("to_json(").rstrip(")"): value for name, (value, _) in given.items()}
    for form in FORMS:
        wide("truncate table w; insert into w (k) values (1)")
        wide(writing(form, named))
        rows = wide.rows(f"select {', '.join(given)} from w where b is not null")
        assert rows == [tuple(came for _, came in given.values())], form


REFUSED = [
    ("b", "1.5"),
    ("b", "cast(1.5 as double)"),
    ("b", "cast('1.5' as decimal(5,2))"),
    ("b", "'1.5'"),
    ("b", "'x'"),
    ("b", "cast('NaN' as double)"),
    ("l", "array('1', '2.5')"),
    ("l", "array(1, 2.5)"),
    ("s", "named_struct('x', 1.5)"),
    ("m", "map('k', named_struct('z', 1))"),
    ("s", "named_struct('x', 1, 'z', 2)"),
    ("i", "127.5"),
    ("i", "128"),
    ("b", "9.3e18"),
    ("f", "1e39"),
    ("f", "'1e39'"),
    ("f", "'1e-50'"),
    ("d", "100000"),
]


@pytest.mark.parametrize(("form", "first"), [(FORMS[1], 0), (FORMS[4], 1), (FORMS[8], 2)])
def test_what_a_column_has_no_value_for_is_refused_in_every_statement(
    wide: Sql, form: str, first: int
) -> None:
    for column, value in REFUSED[first::3]:
        assert wide.fails(writing(form, {column: value}))
    assert wide.rows("select k, b, i, l, s from w") == [("1", *[r"\N"] * 4)]


def test_clauses_of_a_merge_give_values_of_their_own_types(sql: Sql) -> None:
    sql("create table w (k bigint, v string, n bigint)")
    sql("insert into w values (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)")
    merge = (
        "merge into w using (select 1 as k union all select 2 union all select 9) q on w.k = q.k"
        " when matched and w.k = 1 then update set v = 1.50bd, n = '7'"
        " when matched then update set n = w.n * 2.0"
        " when not matched then insert (k, v) values (q.k, true)"
        " when not matched by source then update set n = {}, v = date '2026-01-02'"
    )
    assert "whole numbers" in sql.fails(merge.format("0.5"))
    sql(merge.format("null"))
    assert sql.rows("select k, v, n from w order by k") == [
        ("1", "1.5", "7"), ("2", "b", "4"), ("3", "2026-01-02", r"\N"), ("9", "true", r"\N"),
    ]  # fmt: skip


def test_a_generated_partition_and_defaults_follow_in_updates_and_merges(sql: Sql) -> None:
    sql(
        "create table e (id bigint, at datetime, n bigint default 7)"
        " auto partitioned by (trunc_time(at, 'day') as pt)"
    )
    sql("insert into e (id, at) values (1, datetime '2026-01-01 10:00:00')")
    sql("update e set at = datetime '2026-02-02 10:00:00' where id = 1")
    assert sql.rows("select id, pt from e") == [("1", "2026-02-02")]
    sql(
        "merge into e using (select 1 as k union all select 2) q on e.id = q.k"
        " when matched then update set at = dateadd(e.at, 1, 'dd')"
        " when not matched then insert (id, at) values (q.k, datetime '2026-03-03 00:00:00')"
    )
    assert sql.rows("select id, n, pt from e order by id") == [
        ("1", "7", "2026-02-03"), ("2", "7", "2026-03-03"),
    ]  # fmt: skip
    assert "null" in sql.fails("update e set at = null where id = 1")
    sql("update e set at = null, pt = 'none' where id = 1")
    assert sql.rows("select pt from e where id = 1") == [("none",)]


def test_rows_whose_commit_was_not_answered_are_inserted_once(
    table: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As over a database whose connection broke while it committed."""
    engine = table.house.engine
    commit = engine._calls[CommitWriteSession]

    def lost(request: Any) -> Any:
        commit(request)
        raise ServiceUnavailableError("the catalog is not available")

    monkeypatch.setitem(engine._calls, CommitWriteSession, lost)
    assert table.changed("insert into t partition (pt='y') values (3, 'x', 2), (4, 'y', 2)") == 2
    assert table.changed("create table made as select a from t where pt = 'x'") == 2
    monkeypatch.undo()
    assert rows(table) == [*ROWS, ("3", "x", "2.0", "y"), ("4", "y", "2.0", "y")]
    assert sorted(table.rows("select a from made")) == [("1",), ("2",)]


@pytest.mark.parametrize("committed", [True, False])
def test_a_change_whose_commit_was_not_answered_is_not_told_to_have_failed(
    table: Sql, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    """Whoever runs `n = n + 1` again changes it twice."""
    database = table.house.engine.context.database
    write = database.write

    @contextlib.contextmanager
    def lost(**options: Any) -> Iterator[Any]:
        if options:
            with write(**options) as connection:
                yield connection
            return
        with write() if committed else database.trial() as connection:
            yield connection
        raise ServiceUnavailableError("the answer is lost")

    work = Attempts._attempt

    def attempt(self: Any, *arguments: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(database, "write", lost)
            return work(self, *arguments)

    monkeypatch.setattr(Attempts, "_attempt", attempt)
    statement = "update t set n = n + 1 where a = 1"
    if committed:
        assert table.changed(statement) == 1
    else:
        assert "the answer is lost" in table.fails(statement)
    monkeypatch.undo()
    expected = "2.5" if committed else "1.5"
    assert table.rows("select n from t where a = 1") == [(expected,)]


AGAIN = {
    "insert into t values (7)": 1,
    "insert into t values (7); insert into t values (7), (8)": 2,
    "insert overwrite table t select n + 1 from t": 2,
    "from t insert into table t select n insert into table u select n": 4,
    "update t set n = n + 1 where true": 2,
    "update t set n = n + 1 where n in (select max(n) from t)": 1,
    "delete from t where n = 1; insert into t values (5)": 1,
    "merge into t using (select 1 as n union all select 9) s on t.n = s.n"
    " when matched then update set n = 100 when not matched then insert values (s.n)": 2,
    "create table made as select n from t": 2,
    "create table if not exists made as select n from t": 2,
    "clone table t to made": 2,
}


DEFINITIONS = {
    "create table fresh (a bigint)": "create table fresh (b string)",
    "alter table t add columns (m string)": "alter table t add columns (m bigint)",
    "alter table t change column n k bigint": "alter table t change column s k string",
    "alter table t drop columns (s)": "alter table t drop columns (n)",
    "alter table u add partition (pt='a')": "alter table u add partition (pt='c')",
    "alter table u drop partition (pt='b')": "alter table u drop partition (pt='c')",
    "alter table u drop partition (pt>'a')": "alter table u drop partition (pt='c')",
    "alter table t rename to r": "alter table u rename to r",
    "drop table t": "drop table u",
    "insert into t values (1, 'x'); drop table t": "drop table u",
    "create table x like t; alter table x rename to t2": "drop table u",
    "create view v as select n from t": "drop table u",
    "create or replace view w as select s from t; drop view w; drop table t": "drop table u",
    "create schema one": "create schema two",
    "create schema one; drop schema one": "create schema two",
}


@pytest.mark.parametrize("text", DEFINITIONS)
def test_a_repetition_of_a_definition_whose_outcome_is_lost_succeeds(sql: Sql, text: str) -> None:
    """It finds what the first did, and does not take it for that of others."""
    sql("create table t (n bigint, s string); create table u (n bigint) partitioned by (pt string)")
    sql("alter table u add partition (pt='b'); create view w as select n from t")
    id_ = new_instance_id(1_800_000_000.0)
    results = []
    for statement in (text, text, DEFINITIONS[text]):
        results.append(sql.instances.run(statement, HERE, instance_id=id_))
        with sql.house.engine.context.database.write() as connection:
            connection.execute(delete(instances))
    assert [each.succeeded for each in results] == [True, True, False], results[1].result
    assert "other statements have made changes under the id" in results[2].result


@on_both_databases
@pytest.mark.parametrize("text", AGAIN)
def test_a_repetition_of_statements_whose_outcome_is_lost_changes_nothing(
    sql: Sql, text: str
) -> None:
    """As when the process died between their commit and the row that tells of them."""
    sql("create table t (n bigint); create table u (n bigint); insert into t values (1), (2)")

    def content() -> list[object]:
        tables = [line.split(":")[1] for line in sql("show tables").splitlines()]
        return [(name, sorted(sql.rows(f"select n from {name}"))) for name in sorted(tables)]

    id_ = new_instance_id(1_800_000_000.0)
    first = sql.instances.run(text, HERE, instance_id=id_)
    assert (first.succeeded, sql.instances.affected(first)) == (True, AGAIN[text]), first.result
    after = content()
    with sql.house.engine.context.database.write() as connection:
        connection.execute(delete(instances))
    again = sql.instances.run(text, HERE, instance_id=id_)
    assert (again.succeeded, sql.instances.affected(again)) == (True, AGAIN[text]), again.result
    assert content() == after
    assert sql.instances.run(text, HERE, instance_id=id_) == again
    with sql.house.engine.context.database.write() as connection:
        connection.execute(delete(instances))
    refused = sql.instances.run(text.replace("1", "3") + " ", HERE, instance_id=id_)
    assert not refused.succeeded, "other statements were taken for a repetition"
    assert "other statements have made changes" in refused.result
    assert content() == after
    if "create" not in text and "clone" not in text:
        sql(text)
        assert content() != after
