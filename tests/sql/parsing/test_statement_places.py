from __future__ import annotations

import pytest

from fletching.errors import InvalidArgumentError, NoSuchTableError
from fletching.sql.parsing.statement_places import StatementPlace


@pytest.mark.parametrize(
    ("message", "place"),
    [
        ("there is no table demo.default.sale", "line 1, column 16"),
        ("'abc' is no number", "line 2, column 13"),
        ("nope is not a partition column", "line 3, column 3"),
        ("something is wrong", "line 1, column 1"),
        ("there is no column elsewhere", "line 1, column 1"),
    ],
)
def test_the_word_that_an_error_names(message: str, place: str) -> None:
    text = "select id from sale\nwhere id = 'abc'\n  nope"
    told = StatementPlace(text).told(InvalidArgumentError(message))
    assert told.message.startswith(f"{message}, at {place}, in: select id from sale where")


def test_a_statement_that_is_not_the_first_of_its_text() -> None:
    told = StatementPlace("desc nothing", 3, 7).told(
        NoSuchTableError("there is no table a.b.nothing")
    )
    assert isinstance(told, NoSuchTableError)
    assert "at line 3, column 12, in: desc nothing" in told.message
    already = InvalidArgumentError("wrong, at line 9, column 9")
    assert StatementPlace("x").told(already) is already
    long = StatementPlace("select " + "1, " * 100).told(InvalidArgumentError("wrong"))
    assert long.message.endswith("...")
