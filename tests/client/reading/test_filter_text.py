from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fletching
from fletching.client.reading.filter_text import filter_text
from fletching.errors import UsageError
from fletching.sql.predicates.predicate_compiler import compile_predicate

F = pc.field
NEW_YEAR = dt.datetime.fromisoformat("2024-01-01")
EAST = dt.timezone(dt.timedelta(hours=8))

TABLE = pa.table(
    {
        "i": pa.array([1, 2, None, 4], pa.int32()),
        "x": pa.array([0.1, float("nan"), None, -0.0]),
        "s": pa.array(["a%", "O'B\\", None, "ab\n"]),
        "b": pa.array([True, False, None, True]),
        "d": pa.array([Decimal("1.50"), Decimal("-2.25"), None, Decimal("0.00")]),
        "t": pa.array([NEW_YEAR, None, dt.datetime.fromisoformat("1969-01-01"), None]),
        "day": pa.array([dt.date(2024, 1, 1), None, dt.date(1969, 1, 1), None]),
        "raw": pa.array([b"\x00\xff", b"", None, b"a"]),
        "st": pa.array([{"a b": 1, "c": {"e": "x"}}, {"a b": None, "c": None}, None, None]),
        "odd `name`": pa.array([1, 2, 3, 4]),
    }
)

EXPRESSIONS = [
    F("i") == 1,
    F("i") != 1,
    pc.scalar(2) < F("i"),
    F("i") <= 2.5,
    F("i") == None,  # noqa: E711 - an expression
    (F("i") == 1) | (F("s") == "ab\n"),
    (F("i") == 1) & (F("s") == "a%") & (F("x") == 0.1) & F("b"),
    ~((F("i") == 1) | F("b")),
    F("b"),
    ~F("b"),
    F("i").isin([1, 4]),
    ~F("i").isin([1, 4]),
    F("i").isin([1, None]),
    ~F("i").isin([1, None]),
    F("i").isin([]),
    F("x").isin([0.1, float("nan")]),
    pc.is_in(F("i"), pa.array([1, None]), skip_nulls=True),
    F("i").is_null(),
    F("i").is_valid(),
    F("x").is_null(nan_is_null=True),
    F("x").is_nan(),
    ~F("x").is_nan(),
    F("x") > float("-inf"),
    F("s") == "O'B\\",
    pc.match_like(F("s"), "a\\%"),
    pc.starts_with(F("s"), "a%"),
    pc.ends_with(F("s"), "\\"),
    pc.match_substring(F("s"), "'"),
    F("d") == Decimal("-2.25"),
    F("d") > Decimal("1.5"),
    F("t") == NEW_YEAR,
    F("t") == pc.scalar(pa.scalar(1_704_067_200_000_000_000, pa.timestamp("ns"))),
    F("day") == dt.date(2024, 1, 1),
    F("raw") == b"\x00\xff",
    F("raw").isin([b"", b"a"]),
    pc.field("st", "a b") == 1,
    pc.struct_field(F("st"), "a b") == 1,
    pc.field("st", "c", "e") == "x",
    F("odd `name`") == 3,
    pc.scalar(True),
    pc.scalar(False),
    pc.and_not_kleene(F("b"), F("i") == 4),
]


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=str)
def test_the_predicate_chooses_what_the_expression_does(expression: Any) -> None:
    text = filter_text(expression)
    assert text is not None
    fields = {field.name.casefold(): field for field in TABLE.schema}
    predicate = compile_predicate(text, fields)
    chosen = TABLE.filter(predicate.expression)["odd `name`"]
    assert chosen.to_pylist() == TABLE.filter(expression)["odd `name`"].to_pylist(), text


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"])),
        st.binary(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False),
        st.datetimes(),
        st.dates(),
        st.decimals(-(10**9), 10**9, places=6),
        st.booleans(),
    )
)
def test_any_value_is_found_again(value: Any) -> None:
    table = pa.table({"c": [value]})
    text = filter_text(F("c") == pc.scalar(table["c"][0]))
    assert text is not None
    predicate = compile_predicate(text, {"c": table.schema.field(0)})
    assert table.filter(predicate.expression).num_rows == 1


@pytest.mark.parametrize(
    ("condition", "complaint"),
    [
        ([("id", "=", 1)], "not list"),
        (3, "not int"),
        (F("i") + 1 == 2, "function add"),
        (F("i").cast(pa.int64()) == 1, "function cast"),
        (pc.if_else(F("b"), F("b"), F("b")), "function if_else"),
        (F(0) == 1, "cannot be converted"),
        (pc.struct_field(F("st"), [0]) == 1, "name of a field"),
        (pc.match_like(F("s"), "a", ignore_case=True), "ignores case"),
        (pc.scalar(1), "not a condition"),
        (F("t") == dt.time(1), "no form"),
        ((F("i") == 1) == F("b"), "columns, fields"),
    ],
    ids=str,
)
def test_what_no_predicate_can_say_is_refused(condition: Any, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        filter_text(condition)


def test_scans_take_expressions(client: fletching.Client) -> None:
    data = TABLE.drop_columns(["odd `name`"])
    table = client.create_table("t", data.schema)
    table.append(data)
    scan = table.scan(columns=["i"], filter=(F("i") > 1) & pc.field("b"))
    assert scan.to_table()["i"].to_pylist() == [4]
    assert scan.filter == "((`i` > 1) AND (`b`))"
    with pytest.raises(UsageError, match="not list"):
        table.scan(filter=[("i", "=", 1)])  # type: ignore[arg-type]  # what users of other libraries pass
    when = F("t") == pc.scalar(dt.datetime(2024, 1, 1, 8, tzinfo=EAST))
    assert table.scan(columns=["i"], filter=when).to_table()["i"].to_pylist() == [1]
