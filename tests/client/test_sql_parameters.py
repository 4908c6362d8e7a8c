"""Parameters of SQL text: each value in the form that means exactly it, and nothing else is touched."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.client.sql_parameters import with_parameters
from fletching.errors import UsageError


def test_places_are_filled_in_their_order() -> None:
    assert with_parameters("select ? + ?", [1, 2]) == "select 1 + 2"
    assert with_parameters("where a = :x and b = :y or a = :x", {"x": 1, "y": 2}) == (
        "where a = 1 and b = 2 or a = 1"
    )
    assert with_parameters("a in ?", [[1, 2]]) == "a in (1, 2)"
    assert with_parameters("select ?", None) == "select ?"


@pytest.mark.parametrize(
    "text",
    ["'?'", '"?"', "`?`", "-- ?", "/* ? */", "'it\\'s ?'", "x::int"],
)
def test_texts_comments_and_casts_are_left_alone(text: str) -> None:
    assert with_parameters(f"select {text}", []) == f"select {text}"
    assert with_parameters(f"select {text}", {}) == f"select {text}"
    assert with_parameters(f"select {text}\n, ?", [7]) == f"select {text}\n, 7"


@pytest.mark.parametrize(
    ("value", "literal"),
    [
        (
            pd.Timestamp("2026-01-02 03:04:05.123456789"),
            "TIMESTAMP '2026-01-02 03:04:05.123456789'",
        ),
        (pd.Timestamp("2026-01-02", tz="Asia/Tokyo"), "TIMESTAMP '2026-01-01 15:00:00.000000000'"),
        (pd.NaT, "NULL"),
        (pd.NA, "NULL"),
        (np.datetime64("2026-01-02"), "DATE '2026-01-02'"),
        (uuid.UUID(int=5), "X'" + "0" * 31 + "5'"),
    ],
    ids=str,
)
def test_values_are_those_that_columns_take(value: object, literal: str) -> None:
    assert with_parameters("select ?", [value]) == f"select {literal}"


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ([], "more places than the 0"),
        ([1, 2, 3], "1 parameters have no place"),
        ([1, []], "empty list"),
        ([1, object()], "a object has no form"),
        ([1, [1, object()]], "has no form"),
    ],
)
def test_what_does_not_fit_is_refused(parameters: list[object], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        with_parameters("select ?, ?", parameters)


def test_names_without_values_and_values_without_names() -> None:
    with pytest.raises(UsageError, match=":b"):
        with_parameters("select :a, :b", {"a": 1})
    with pytest.raises(UsageError, match="1 parameters"):
        with_parameters("select :a", {"a": 1, "b": 2})


@given(st.text())
def test_any_text_is_one_literal(text: str) -> None:
    import fletching.sql.statements.statement_parser as statements

    made = with_parameters("select ? as a", [text])
    assert made.startswith("select ")
    assert "?" not in made.removeprefix("select ").split("'")[0]
    assert statements  # the room that reads it is at hand


@pytest.mark.parametrize(
    "value",
    [
        True,
        None,
        1.5,
        decimal.Decimal("1.50"),
        dt.date(2026, 1, 2),
        pa.scalar(7, pa.int8()),
        b"\x00\xff",
    ],
)
def test_values_of_every_kind_have_a_form(value: object) -> None:
    made = with_parameters("select ?", [value])
    assert made != "select ?"
    assert with_parameters(made, []) == made  # nothing in it is a place
