"""Texts become trees and back; statements of a script are told apart; complaints name their place."""

from __future__ import annotations

import pytest

from fletching.errors import SqlSyntaxError
from fletching.sql.parsing import dialect
from fletching.sql.parsing.dialect import (
    LITERALS,
    ODPS_TYPE,
    equal,
    exp,
    parse_all,
    parse_one,
    parse_predicate,
    sql_text,
)


def test_statements_of_a_script_are_told_apart_with_their_places() -> None:
    first, second, third = parse_all(";;select 1;\n  set a=b;\nselect ';' as x;;")
    assert (first.text, first.line, first.column) == ("select 1", 1, 3)
    assert (second.line, third.line) == (2, 3)
    assert isinstance(second.node, exp.Set)
    assert third.text == "select ';' as x"
    assert parse_all(" ; -- nothing\n") == []


def test_what_is_read_word_by_word_keeps_its_tokens() -> None:
    for text in ("alter table t touch", "SHOW tables", "create schema s", "desc t", "use q"):
        (parsed,) = parse_all(text)
        assert parsed.node is None
        assert [token.text for token in parsed.tokens] == text.split()
        assert parsed.source == text
    (parsed,) = parse_all("create table t (a bigint)")
    assert parsed.node is not None
    assert parsed.tokens == ()


def test_explain_and_variables_of_scripts() -> None:
    (parsed,) = parse_all("explain select 1")
    assert parsed.explained
    query, value, table = parse_all(
        "@A := select 1 as x; @b bigint := 5; @c table (n bigint) := select 1"
    )
    assert [query.variable, value.variable, table.variable] == ["a", "b", "c"]
    assert value.node is not None
    assert isinstance(value.node.expressions[0], exp.Cast)
    assert table.node is not None
    assert table.node.expressions[0].alias == "n"


def test_the_condition_of_a_delete_is_kept_as_it_is_written() -> None:
    (parsed,) = parse_all("delete from t where  a IN (1,2) and b='where'")
    assert parsed.where == "a IN (1,2) and b='where'"
    (parsed,) = parse_all("select 1 where true")
    assert parsed.where == ""


@pytest.mark.parametrize(
    "text",
    [
        "SELECT a, b AS c FROM t WHERE a > 1 AND NOT b IS NULL ORDER BY a LIMIT 3",
        "SELECT COUNT(*) FROM a.t GROUP BY x HAVING COUNT(*) > 1",
        "SELECT * FROM t AS x JOIN u AS y ON x.id = y.id",
        "SELECT CASE WHEN a THEN 'x' ELSE 'y' END",
        "SELECT 'it\\'s', `a b` FROM t",
    ],
)
def test_a_tree_as_text_parses_to_itself(text: str) -> None:
    tree = parse_one(text)
    assert parse_one(sql_text(tree)) == tree
    assert sql_text(parse_one(sql_text(tree))) == sql_text(tree)


def test_types_of_columns_are_ours() -> None:
    tree = parse_one("create table t (a decimal(10, 2), b array<struct<x:bigint>>, c varchar(5))")
    kinds = [str(item.args["kind"].meta[ODPS_TYPE]) for item in tree.this.expressions]
    assert [each.replace(" ", "").lower() for each in kinds] == [
        "decimal(10,2)",
        "array<struct<x:bigint>>",
        "varchar(5)",
    ]


def test_long_lists_have_no_node_for_each_value_and_are_written_again() -> None:
    listed = ", ".join(str(n) for n in range(100))
    node = parse_predicate(f"id in ({listed})")
    assert node.meta[LITERALS] == [(str(n), False) for n in range(100)]
    assert not node.expressions
    assert sql_text(node).count(",") == 99
    assert node.meta[LITERALS], "the tree itself is left as it is"
    short = parse_predicate("id in (1, 2)")
    assert LITERALS not in short.meta
    assert len(short.expressions) == 2


def test_long_chains_of_conditions_are_not_deep() -> None:
    """Depth is what costs: Python's own stack ends at a thousand calls."""
    for word, kind in [("OR", exp.Or), ("AND", exp.And)]:
        names = [f"c{number}" for number in range(2_001)]
        where = parse_one(f"SELECT 1 FROM t WHERE {f' {word} '.join(names)}").args["where"].this
        assert isinstance(where, kind)
        assert [node.name for node in where.find_all(exp.Column, bfs=False)] == names
        assert max(node.depth for node in where.find_all(exp.Column)) < 20
    mixed = "a AND b OR c AND (d OR e)"
    assert sql_text(parse_one(f"SELECT {mixed}")) == f"SELECT {mixed}"


def test_a_filter_is_one_condition() -> None:
    assert isinstance(parse_predicate("a = 1 and b = 2"), exp.And)
    for text in ("a = 1 order by a", "a = 1 limit 3", "a = 1; select 2", "", "a = 1)"):
        with pytest.raises(SqlSyntaxError):
            parse_predicate(text)


def test_the_order_of_files_is_no_part_of_an_insert() -> None:
    (parsed,) = parse_all("insert into t select a from u zorder by a, b")
    (plain,) = parse_all("insert into t select a from u")
    assert parsed.node == plain.node


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("selec 1", "line 1, column 1"),
        ("select 1;\nselec 2", "line 2, column 1"),
        ("select (1", "line 1"),
        ("explain", "EXPLAIN needs a statement"),
        ("@a select 1", "@name := .., at"),
        ("@a :=", "@a := needs a query or a value"),
        ("@a := drop table t", "takes a query or a value, not DROP"),
        ("@a bigint := select 1, 2", "takes one value"),
        ("select " + "(" * 5000 + "1" + ")" * 5000, ""),
    ],
)
def test_complaints_name_the_place(text: str, message: str) -> None:
    with pytest.raises(SqlSyntaxError, match=message or None):
        parse_all(text)


def test_one_statement_is_asked_for_and_settings_before_it_are_passed_over() -> None:
    assert parse_one("set a=b; select 1;") == parse_one("select 1")
    for text in ("", "select 1; select 2", "show tables"):
        with pytest.raises(SqlSyntaxError, match="expected one query"):
            parse_one(text)


def test_texts_above_the_limits_are_refused_before_they_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dialect, "MAX_SQL_TEXT", 10)
    monkeypatch.setattr(dialect, "MAX_PREDICATE_TEXT", 10)
    with pytest.raises(SqlSyntaxError, match="statement has 11 characters, above the limit of 10"):
        parse_all("select 1234")
    with pytest.raises(SqlSyntaxError, match="filter has 11 characters"):
        parse_predicate("a = 1234567")


def test_a_value_of_a_partition_is_compared_as_text() -> None:
    assert parse_predicate(sql_text(equal("pt", "it's"))) == equal("pt", "it's")


def test_intervals_with_two_units_are_constants_and_others_stay_as_they_are() -> None:
    for text, made in (
        ("interval '1 02:03:04' day to second as x", "INTERVAL_DAY_TIME('1 02:03:04') AS x"),
        ("interval '2-3' year to month", "INTERVAL_YEAR_MONTH('2-3')"),
        ("interval '5' day", "INTERVAL '5' DAY"),
        ("interval '5 hours'", "INTERVAL '5' HOURS"),
        ("d + interval 5 day", "d + INTERVAL '5' DAY"),
        ("interval n day from t", "INTERVAL n DAY FROM t"),
        # The word is a column's name, too.
        ("interval from t where interval = '5'", "interval FROM t WHERE interval = '5'"),
    ):
        assert sql_text(parse_one(f"select {text}")) == f"SELECT {made}"
    for text in ("'5' year to month", "n day to second", "'5' day to second"):
        with pytest.raises(SqlSyntaxError):
            parse_one(f"select {text}")
