from __future__ import annotations

from typing import Any

import pytest

from fletching.sql.parsing.syntax_errors import syntax_error


class Complaint(Exception):  # noqa: N818 - it stands for a library's
    def __init__(self, text: str, **place: Any) -> None:
        super().__init__(text)
        if place:
            self.errors = [place]


def said(description: str, **place: Any) -> str:
    error = Complaint("x", description=description, **place)
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
    result = said(description, line=1, col=8, highlight="sale")
    assert result.startswith("the statement cannot be parsed: " + message)
    assert "Token" not in result


def test_places() -> None:
    assert "line 2, column 3" in said("Expecting )", line=2, col=3, highlight="")
    assert "line 1, column 1" in said("Expecting )")
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
