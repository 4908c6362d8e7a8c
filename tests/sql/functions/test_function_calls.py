from __future__ import annotations

from typing import Any

import duckdb
import pytest

from fletching.errors import InvalidArgumentError
from fletching.sql.functions.conversions import moment_text
from fletching.sql.functions.function_calls import Call, Function, Lambda, counted_arguments
from fletching.sql.functions.sql_types import (
    BIGINT,
    DOUBLE,
    STRING,
    UNKNOWN,
    SqlType,
    array_of,
    decimal,
)


def value(sql: str) -> Any:
    with duckdb.connect() as connection:
        (row,) = connection.sql(f"select {sql}").fetchall()
        return row[0]


def test_pieces() -> None:
    assert moment_text("'2024-01-01 00:00:00'") == "'2024-01-01 00:00:00'"
    assert moment_text("'x'") == "NULL"
    assert value(moment_text("lower('2024-1-1')")) == "2024-1-1"
    assert counted_arguments("1") == "1 argument"
    assert counted_arguments("1 to 2") == "1 to 2 arguments"
    assert counted_arguments("at least 1") == "at least 1 argument"


def call(*arguments: str, types: Any = (), constants: Any = None, lambdas: Any = ()) -> Call:
    count = len(arguments)
    return Call(
        "f", arguments, constants or [None] * count, types or [UNKNOWN] * count, "now", lambdas
    )


@pytest.mark.parametrize(
    ("letter", "given", "complaint"),
    [
        ("a", BIGINT, "an ARRAY"),
        ("m", array_of(BIGINT), "a MAP"),
        ("c", STRING, "an ARRAY or a MAP"),
    ],
)
def test_arguments_have_to_be_collections(letter: str, given: SqlType, complaint: str) -> None:
    function = Function(1, 1, "f({0})", takes=letter)
    with pytest.raises(InvalidArgumentError, match=f"f takes {complaint} as its argument 1, not"):
        function.sql(call("x", types=[given]))
    assert function.sql(call("x")) == "f(x)"


def test_arguments_become_what_a_function_takes() -> None:
    function = Function(2, 3, "f({0}, {1})", takes="td")
    assert function.sql(call("a", "b", types=[BIGINT, decimal(5, 2)])) == (
        "f(CAST(a AS VARCHAR), CAST(b AS DOUBLE))"
    )
    with pytest.raises(InvalidArgumentError, match="takes 2 to 3 arguments, not 1"):
        function.sql(call("a"))
    element = Function(2, 2, "f({0}, {1})", takes="ae")
    assert "TRY_CAST" in element.sql(call("a", "'1'", types=[array_of(BIGINT), STRING]))
    assert element.sql(call("a", "1.5", types=[array_of(BIGINT), DOUBLE])) == "f(a, 1.5)"


def test_constants_and_lambdas() -> None:
    result = call(
        "'x'", "5", "y", constants=["x", None, None], lambdas=[None, None, Lambda(["a"], "a")]
    )
    assert result.constant(0, "name") == "x"
    assert result.number(1, "count") == 5
    assert result.function(2, [1]).body == "a"
    for refused, complaint in (
        (lambda: result.constant(1, "name"), "constant text for its name"),
        (lambda: result.number(2, "count"), "constant whole number for its count"),
        (lambda: result.function(0, [1]), "needs a lambda"),
        (lambda: result.function(2, [2]), "takes 2 parameters, not 1"),
    ):
        with pytest.raises(InvalidArgumentError, match=complaint):
            refused()
