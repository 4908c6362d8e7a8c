from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.folding import folded

from fletching.errors import InvalidArgumentError
from fletching.sql.functions.function_calls import Call
from fletching.sql.functions.function_lookup import AGGREGATES, FUNCTIONS, find_function
from fletching.sql.functions.sql_types import STRING, UNKNOWN

PAGE = Path(__file__).parents[3] / "docs" / "sql.md"


def test_the_docs_list_every_function() -> None:
    section = PAGE.read_text().split("## Functions")[1].split("\n## ")[0]
    scalar, aggregate, window = (
        section.split("Aggregates, which")[0],
        *section.split("Aggregates, which")[1].split("Windows:"),
    )
    assert set(re.findall(r"`([a-z0-9_]+)`", scalar)) == set(FUNCTIONS)
    assert set(re.findall(r"`([a-z0-9_]+)`", aggregate + window)) == set(AGGREGATES)


@pytest.mark.parametrize(
    ("name", "near"),
    [("lenght", "length"), ("datedif", "datediff"), ("collect_lst", "collect_list")],
)
def test_an_unknown_function_is_refused_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"no function {name}; did you mean .*{near}"):
        find_function(name)
    with pytest.raises(InvalidArgumentError, match="no function qqqqq"):
        find_function("qqqqq")


@folded("name", [*FUNCTIONS, *AGGREGATES])
def test_the_number_of_arguments_is_checked(name: str) -> None:
    function = find_function(name.upper())
    wrong = function.least - 1 if function.most is None else function.most + 1
    if wrong < 0:
        return
    call = Call(name, ["1"] * wrong, [None] * wrong, [UNKNOWN] * wrong, "now")
    with pytest.raises(InvalidArgumentError, match=f"{name} takes"):
        function.sql(call)


def test_arguments_are_put_in_once() -> None:
    """A text that looks like a place for an argument stays a text."""
    call = Call("replace", ["'{1}'", "'{2}'", "'x'"], ["{1}", "{2}", "x"], [STRING] * 3, "now")
    assert find_function("replace").sql(call) == "replace('{1}', '{2}', 'x')"
