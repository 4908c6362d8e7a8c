from __future__ import annotations

from typing import Any

import pytest

from fletching.errors import SqlSyntaxError
from fletching.sql.parsing.dialect import Odps
from fletching.sql.parsing.syntax_errors import (
    check_tokens,
    location_of_token,
    meant_keyword,
    syntax_error,
)


class Complaint(Exception):  # noqa: N818 - it stands for a library's
    def __init__(self, text: str, **position: Any) -> None:
        super().__init__(text)
        if position:
            self.errors = [position]


def message_of(description: str, **position: Any) -> str:
    error = Complaint("x", description=description, **position)
    return syntax_error(error, "statement", "source").message


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("Expecting )", "')' is expected at line 1, column 5, near 'sale'"),
        ("Expected table name but got <Token text: x>", "the name of a table is expected at"),
        ("Expected AS after CAST", "AS and a type are expected in CAST at"),
        ("Expected TYPE after CAST", "a type is expected at"),
        ("Invalid expression / Unexpected token", "unexpected at"),
        ("Required keyword: 'this' missing for <class 'X'>", "something is missing at"),
        ("Something <Token> of a library", "something does not belong at"),
    ],
)
def test_descriptions_are_told_in_our_words(description: str, message: str) -> None:
    result = message_of(description, line=1, col=8, highlight="sale")
    assert result.startswith("the statement cannot be parsed: " + message)
    assert "Token" not in result


def test_places() -> None:
    assert "line 2, column 3" in message_of("Expecting )", line=2, col=3, highlight="")
    assert "line 1, column 1" in message_of("Expecting )")
    error = Complaint("x", description="Expecting )", line=1, col=20, highlight="a")
    assert "column 5," in syntax_error(error, "filter", "", 15).message


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("select 'abc", 'a quote is not closed, at line 1, column 8, near "\'abc"'),
        ("select 1\n/* abc", "a comment is not closed, at line 2, column 1, near '/* abc'"),
        ("select `a", "a quote is not closed"),
        ("select 'a' \x00", "a character that means nothing"),
    ],
)
def test_what_is_not_closed(source: str, what: str) -> None:
    error = Complaint("Error tokenizing 'x'")
    assert what in syntax_error(error, "statement", source).message
    assert "no SQL" in syntax_error(Complaint("other"), "statement", source).message


def check(text: str) -> None:
    check_tokens(Odps().tokenize(text), text)


@pytest.mark.parametrize(
    "text",
    [
        "select 1",
        "(select 1) union select 2",
        "@a := select 1",
        "select -128Y, 127Y, -9223372036854775808L, 5::int, 1.5BD, 1e308",
        "select sum(n) over (order by id rows between 1 preceding and current row) from t",
        "select sum(n) over w from t window w as (order by id rows 1 preceding)",
        "select array(1)[0], map('a', (1))",
        "create or replace view v as select 1",
        f"select {'9' * 400}, 0.{'0' * 400}1",  # how many digits a DECIMAL has is said elsewhere
        "select order, `group`, a as limit, t.order, max(limit) from t where order = 1 and group in (2)",
        "select wm_concat(',', a) within group (order by b) from t group by c order by d limit 1",
        "create table t (a bigint, order string, group bigint)",
        "insert into t (a, order) select a, order from u",
    ],
)
def test_what_may_be_a_statement(text: str) -> None:
    check(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "selec 1",
            "no statement begins with 'selec'; did you mean SELECT.*, at line 1, column 1 ",
        ),
        ("select a from t group", "BY is missing behind 'group', at line 1, column 17"),
        ("select a from t order a", "BY is missing behind 'order', at line 1, column 17"),
        ("select a order from t", "BY is missing behind 'order', at line 1, column 10"),
        ("select a limit from t", "a number is missing behind 'limit', at line 1, column 10"),
        ("select max(a) over (partition by b order) from t", "BY is missing behind 'order'"),
        ("'select' 1", "no statement begins with 'select', at line 1, column 1"),
        ("\n  grant x", "no statement begins with 'grant', at line 2, column 3"),
        ("create tabel t", "CREATE 'tabel' is not supported.*did you mean TABLE.*column 8"),
        ("drop", "DROP is not supported.*column 1"),
        ("select (1", r"'\(' is not closed, at line 1, column 8"),
        ("select 1)", r"'\)' closes nothing, at line 1, column 9"),
        ("select (1]", "']' closes nothing"),
        ("select 1, from t", "missing behind ',', at line 1, column 9"),
        ("select id from t where", "missing behind 'where', at line 1, column 18"),
        ("select rank() over from t", "missing behind 'over'"),
        ("select sum(n) over (rows between current row) from t", "lacks AND and the frame's other"),
        ("select 128Y", "'128Y' is no TINYINT, at line 1, column 8"),
        ("select 1.5L", "'1.5L' is no BIGINT"),
        ("select 1e999", "'1e999' is beyond DOUBLE"),
        ("select 1e-999", "'1e-999' is beyond DOUBLE"),
        ("select 0.01E-330", "'0.01E-330' is beyond DOUBLE"),
    ],
)
def test_what_is_none(text: str, complaint: str) -> None:
    with pytest.raises(SqlSyntaxError, match=complaint):
        check(text)


def test_the_keyword_that_was_meant() -> None:
    tokens = Odps().tokenize("select id form sale where id = 1")
    sale = next(token for token in tokens if token.text == "sale")
    assert location_of_token(sale) == "line 1, column 16"
    assert meant_keyword(tokens, sale.line, sale.col) == "; did you mean FROM for 'form'?"
    assert meant_keyword(tokens, 1, 9) == ""
    assert meant_keyword([], 1, 1) == ""
