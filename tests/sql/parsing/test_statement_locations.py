from __future__ import annotations

import pytest

from fletching.errors import InvalidArgumentError, NoSuchTableError
from fletching.sql.parsing.statement_locations import StatementLocation


@pytest.mark.parametrize(
    ("message", "location"),
    [
        ("there is no table demo.default.sale", "line 1, column 16"),
        ("'abc' is no number", "line 2, column 13"),
        ("nope is not a partition column", "line 3, column 3"),
        ("something is wrong", "line 1, column 1"),
        ("there is no column elsewhere", "line 1, column 1"),
    ],
)
def test_the_word_that_an_error_names(message: str, location: str) -> None:
    text = "select id from sale\nwhere id = 'abc'\n  nope"
    error = StatementLocation(text).located(InvalidArgumentError(message))
    assert error.message.startswith(f"{message}, at {location}, in: select id from sale where")


def test_a_statement_that_is_not_the_first_of_its_text() -> None:
    error = StatementLocation("desc nothing", 3, 7).located(
        NoSuchTableError("there is no table a.b.nothing")
    )
    assert isinstance(error, NoSuchTableError)
    assert "at line 3, column 12, in: desc nothing" in error.message
    already = InvalidArgumentError("wrong, at line 9, column 9")
    assert StatementLocation("x").located(already) is already
    long = StatementLocation("select " + "1, " * 100).located(InvalidArgumentError("wrong"))
    assert long.message.endswith("...")
