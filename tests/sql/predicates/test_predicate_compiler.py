from __future__ import annotations

import datetime as dt
import math
import random
import sqlite3
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import acero
from tests.folding import folded
from tests.sql.random_predicates import disagreements

from fletching.engine.tables.statistics import StatisticsBuilder, column_key, read_statistics
from fletching.errors import InvalidArgumentError, SqlSyntaxError
from fletching.sql.predicates.predicate_compiler import ColumnBounds, compile_predicate

MICROS = dt.timedelta(microseconds=1)


def fields_of(schema: Any) -> dict[str, Any]:
    return {field.name.casefold(): field for field in schema}


def answers(table: Any, text: str) -> list[bool | None]:
    predicate = compile_predicate(text, fields_of(table.schema), table="t")
    source = acero.Declaration("table_source", acero.TableSourceNodeOptions(table))
    mask = acero.ProjectNodeOptions([predicate.expression], ["chosen"])
    result = acero.Declaration("project", mask, inputs=[source]).to_table(use_threads=False)
    actual: list[bool | None] = result.column(0).to_pylist()
    return actual


def may_match(table: Any, text: str) -> bool:
    """What the statistics of the table as one segment say."""
    builder = StatisticsBuilder(table.schema)
    for batch in table.to_batches():
        builder.add(batch.columns)
    known = read_statistics(builder.encode())

    def bounds(column: tuple[str, ...]) -> ColumnBounds | None:
        result = known.get(column_key(column))
        if result is None:
            return None
        return ColumnBounds(
            result.lower, result.upper, result.nulls, result.values, result.unordered
        )

    return compile_predicate(text, fields_of(table.schema), table="t").may_match(bounds)


TABLE = pa.table(
    {
        "i": pa.array([1, 2, None, 127], pa.int8()),
        "big": pa.array([2**53 + 1, -(2**63), 2**63 - 1, None]),
        "u": pa.array([0, 2**64 - 1, None, 5], pa.uint64()),
        "f": pa.array([0.1, float("nan"), None, float("inf")], pa.float32()),
        "x": pa.array([0.1, 1.5, -0.0, None]),
        "s": pa.array(["a", "B%", None, "a\nb"]),
        "b": pa.array([True, False, None, True]),
        "d": pa.array([dt.date(2024, 1, 1), dt.date(1969, 12, 31), None, dt.date(2024, 1, 2)]),
        "ms": pa.array([0, 1, None, -1], pa.timestamp("ms")),
        "ns": pa.array([0, 1_704_067_200_000_000_001, None, -1], pa.timestamp("ns")),
        "dec": pa.array(
            [Decimal("1.10"), Decimal("-2.00"), None, Decimal("99999999.99")], pa.decimal128(10, 2)
        ),
        "bin": pa.array([b"\x00\xff", b"a", None, b""]),
        "l": pa.array([[1], [], None, [2]]),
        "a b": pa.array([1, 2, 3, 4]),
        "st": pa.array(
            [{"a": 1, "in": {"x": 0.1, "A b": "y"}}, {"a": None, "in": None}, None, {"a": 2}],
            pa.struct(
                [
                    ("a", pa.int16()),
                    ("in", pa.struct([("x", pa.float64()), ("A b", pa.string())])),
                ]
            ),
        ),
    }
)
T, F, N = True, False, None

CASES: list[tuple[str, list[bool | None] | None]] = [
    ("i = 1", [T, F, N, F]),
    ("1 = i", [T, F, N, F]),
    ("I == 1", [T, F, N, F]),
    ("t.i <> 1", [F, T, N, T]),
    ("i != 1000", [T, T, N, T]),
    ("i < 1000", [T, T, N, T]),
    ("i > 1000", [F, F, N, F]),
    ("i > -1000", [T, T, N, T]),
    ("i = 1.5", [F, F, N, F]),
    ("i > 1.5", [F, T, N, T]),
    ("i >= 1.5", [F, T, N, T]),
    ("i <= 1.5", [T, F, N, F]),
    ("1.5 > i", [T, F, N, F]),
    ("i = '2'", [F, T, N, F]),
    ("i = 2L", [F, T, N, F]),
    ("i = 2.0", [F, T, N, F]),
    ("i = -(-1)", [T, F, N, F]),
    ("big = 9007199254740993", [T, F, F, N]),
    ("big = 9007199254740992", [F, F, F, N]),
    ("big > 9007199254740992.5", [T, F, T, N]),
    ("big >= 9223372036854775808", [F, F, F, N]),
    ("big < 1e300", [T, T, T, N]),
    ("u = 18446744073709551615", [F, T, N, F]),
    ("u > -1", [T, T, N, T]),
    ("u < 18446744073709551615", [T, F, N, T]),
    ("f = 0.1", [T, F, N, F]),  # an exact number takes the FLOAT's type
    ("f = 0.1D", [F, F, N, F]),
    ("f > 0.1D", [T, F, N, T]),
    ("f > 0.1", [F, F, N, T]),
    ("f <> 0.5", [T, T, N, T]),
    ("x = 0.1", [T, F, F, N]),
    ("x = 0.1D", [T, F, F, N]),
    ("x = 1e-1", [T, F, F, N]),
    ("x > 0.1", [F, T, F, N]),
    ("x = 1.5", [F, T, F, N]),
    ("x = 0", [F, F, T, N]),
    ("x < 1e400", [T, T, T, N]),
    ("s = 'a'", [T, F, N, F]),
    ("s > 'B'", [T, T, N, T]),
    ("s like 'a%'", [T, F, N, T]),
    ("s not like 'a%'", [F, T, N, F]),
    ("s like 'a_b'", [F, F, N, T]),
    ("s like '_\\\\%'", [F, T, N, F]),
    ("s in ('a', 'zz')", [T, F, N, F]),
    ("s not in ('a', 'zz')", [F, T, N, T]),
    ("s in ('a', null)", [T, N, N, N]),
    ("s not in ('a', null)", [F, N, N, N]),
    ("s is null", [F, F, T, F]),
    ("s is not null", [T, T, F, T]),
    ("not s is null", [T, T, F, T]),
    ("s = null", [N, N, N, N]),
    ("b", [T, F, N, T]),
    ("not b", [F, T, N, F]),
    ("b = true", [T, F, N, T]),
    ("b is true", [T, F, F, T]),
    ("b is not true", [F, T, T, F]),
    ("d = '2024-01-01'", [T, F, N, F]),
    ("d = DATE '2024-01-01'", [T, F, N, F]),
    ("d > '2024-01-01 12:00:00'", [F, F, N, T]),
    ("d >= cast('1969-12-31' as date)", [T, T, N, T]),
    ("ms = TIMESTAMP '1970-01-01 00:00:00.001'", [F, T, N, F]),
    ("ms > '1970-01-01 00:00:00.0005'", [F, T, N, F]),
    ("ms < DATE '1970-01-01'", [F, F, N, T]),
    ("ms <= DATETIME '1970-01-01 00:00:00'", [T, F, N, T]),
    ("ns > TIMESTAMP '2024-01-01 00:00:00'", [F, T, N, F]),
    ("ns = '2024-01-01 00:00:00.000000001'", [F, T, N, F]),
    ("ns in ('2024-01-01 00:00:00.000000001')", [F, T, N, F]),
    ("dec = 1.1", [T, F, N, F]),
    ("dec = 1.1BD", [T, F, N, F]),
    ("dec > 1.101", [F, F, N, T]),
    ("dec < 1.101", [T, T, N, F]),
    ("dec <= 99999999.994", [T, T, N, T]),
    ("dec < 1000000000", [T, T, N, T]),
    ("dec in (1.10, -2)", [T, T, N, F]),
    ("bin = X'00ff'", [T, F, N, F]),
    ("bin = 'a'", [F, T, N, F]),
    ("l is not null", [T, T, F, T]),
    ("`a b` between 2 and 3", [F, T, T, F]),
    ("`a b` not between 2 and 3", [T, F, F, T]),
    ("i <=> 1", [T, F, F, F]),
    ("not i <=> 1", [F, T, T, T]),
    ("i <=> null", [F, F, T, F]),
    ("(i = 1) and (b)", [T, F, N, F]),
    ("i = 1 or b", [T, F, N, T]),
    ("not (i = 1 or b)", [F, T, N, F]),
    ("not (i = 1 and b)", [F, T, N, T]),
    ("1 = 1", [T, T, T, T]),
    ("1 = 2 or i = 1", [T, F, N, F]),
    ("true", [T, T, T, T]),
    ("null", [N, N, N, N]),
    ("big > big", [F, F, F, N]),
    # fields of structs, in any case; a null struct has null fields
    ("st.a = 1", [T, N, N, F]),
    ("`st`.`a` = 1", [T, N, N, F]),
    ("T.ST.A = 1", [T, N, N, F]),
    ("1 < st.a", [F, N, N, T]),
    ("st.a is null", [F, T, T, F]),
    ("st.in is null", [F, T, T, T]),
    ("st.`in`.x = 0.1", [T, N, N, N]),
    ("t.st.`in`.`a B` like 'y%'", [T, N, N, N]),
    ("st.a in (2, 3)", [F, N, N, T]),
    ("st.a < i", [F, N, N, T]),
    # columns of different types
    ("i = `a b`", [T, T, N, F]),
    ("u > big", [F, T, N, N]),
    ("big = x", [F, F, F, N]),
    ("dec > x", [T, F, N, N]),
    ("ms < ns", [F, T, N, T]),
    ("ms = d", [F, F, N, F]),
    ("d <= ns", [F, T, N, F]),
    ("b < b", [F, F, N, F]),
    ("b > false", [T, F, N, T]),
    ("i <=> u", [F, F, T, F]),
    ("i is distinct from u", [T, T, F, T]),
    ("i is not distinct from null", [F, F, T, F]),
    # numbers
    ("isnan(f)", [F, T, N, F]),
    ("not isnan(f)", [T, F, N, T]),
    ("isnan(i)", [F, F, N, F]),
    ("f = cast('NaN' as double)", [F, F, N, F]),
    ("f != cast('nan' as float)", [T, T, N, T]),
    ("f < cast('inf' as double)", [T, F, N, F]),
    ("f = 'Infinity'", [F, F, N, T]),
    ("x in (0, 7)", [F, F, T, N]),
    ("x in (cast('nan' as double), 1.5)", [F, T, F, N]),
    ("x not in (0.1, 1.5)", [F, F, T, N]),
    ("f = '0.1'", [T, F, N, F]),
    ("x = .1", [T, F, F, N]),
    ("x = 15.e-1", [F, T, F, N]),
    ("x = 0x1", None),
    ("dec = 1.1D", [T, F, N, F]),
    ("dec = 11e-1", [T, F, N, F]),
    ("big = 9007199254740992D", [T, F, F, N]),
    ("i = cast(1.0 as int)", [T, F, N, F]),
    ("i = cast('2' as bigint)", [F, T, N, F]),
    ("i = cast(true as int)", [T, F, N, F]),
    ("dec = cast(1.104 as decimal(10,2))", [T, F, N, F]),
    ("i = 128Y", None),
    ("i = cast(1.5 as int)", None),
    ("i = 1e999999999999999999", None),
    # texts
    ("s = cast(1 as string)", [F, F, N, F]),
    ("s like 'B!%' escape '!'", [F, T, N, F]),
    ("s not like 'B|%' escape '|'", [T, F, N, T]),
    ("s like null", [N, N, N, N]),
    ("s = 'a\\nb'", [F, F, N, T]),
    ('s = "a"', [T, F, N, F]),
    ("bin = X''", [F, F, N, T]),
    ("bin > x'00FF'", [F, T, N, F]),
    ("bin in (X'61', 'b')", [F, T, N, F]),
    # times
    ("ms = TIMESTAMP '1970-01-01 08:00:00+08:00'", [T, F, N, F]),
    ("ms = '1969-12-31T16:00:00-08'", [T, F, N, F]),
    ("ns < '1970-01-01 00:00:00.000000001Z'", [T, F, N, T]),
    ("d = DATE '2024-01-01 23:00:00'", [T, F, N, F]),
    ("d = TIMESTAMP_NTZ '2024-01-01 00:00:00'", [T, F, N, F]),
]


@folded("text, expected", CASES)
def test_conditions_are_exact(text: str, expected: list[bool | None] | None) -> None:
    if expected is None:
        with pytest.raises(InvalidArgumentError):
            answers(TABLE, text)
        return
    assert answers(TABLE, text) == expected
    if True in expected:
        assert may_match(TABLE, text)
    if text.replace(" ", "") and "not" not in text:
        # NOT over everything gives the opposite answer, null for null
        opposite = [None if answer is None else not answer for answer in expected]
        assert answers(TABLE, f"not ({text})") == opposite


@folded(
    "text, complaint",
    [
        ("", "cannot be parsed|single condition"),
        ("i =", "cannot be parsed"),
        ("i = 1 order by i", "single condition"),
        ("i = 1; drop table t", "single condition"),
        ("i = 1 union select 2", "."),
        ("nothing = 1", "no column 'nothing'"),
        ("i", "no condition by itself"),
        ("i + 1 = 2", "neither a column nor a literal"),
        ("length(s) = 1", "neither a column nor a literal"),
        ("i in (select 1)", "list of literals"),
        ("1 in (1, 2)", "needs a column"),
        ("i in (s)", "neither a column nor a literal"),
        ("i = 'x'", "cannot be compared with str"),
        ("i = true", "cannot be compared with bool"),
        ("s = 1", "cannot be compared with int"),
        ("b = 1", "cannot be compared"),
        ("d = 5", "cannot be compared"),
        ("d = '2024-02-30'", "cannot be compared"),
        ("d = DATE '2024-13-01'", "is not a value"),
        ("ms = '2024-01-01 25:00:00'", "cannot be compared"),
        ("l = 1", r"IS \[NOT\] NULL"),
        ("i like '1'", "text column"),
        ("s like 1", "text pattern"),
        ("s like 'a' escape 'bc'", "one character"),
        ("s like 'ab' escape 'b'", "ends with its escape"),
        ("s rlike 'a'", "not supported"),
        ("i = s", "cannot be compared"),
        ("l = l", "cannot be compared"),
        ("1 = 'a'", "backquotes"),
        ("1 = true", "different kinds"),
        ("i = 99999999999999999999999999" + "9" * 500, "too many digits"),
        ("x = 1e999", "beyond"),
        ("bin = X'0'", "hexadecimal"),
        ("exists (select 1)", "not supported"),
        ("case when b then true end", "not supported"),
        ("a.b.i = 1", "neither a column nor the table's name"),
        ("(" * 3000 + "b" + ")" * 3000, "too deeply"),
        (" or ".join(["i > 1"] * 10_001), "more than"),
        ('"a b" = 1', "backquotes"),
        ("'i' = 'j'", "backquotes"),
        ("\"s\" != 'D'", "backquotes"),
        ("\"s\" in ('D')", "backquotes"),
        ("\"s\" like 'D%'", "backquotes"),
        ("\"s\" between 'A' and 'Z'", "backquotes"),
        ('"s" is null', "backquotes"),
        ("'a' <=> 'b'", "backquotes"),
        ("s = 'O''Brien'", "backslash"),
        ("s in ('O''Brien', 'x')", "backslash"),
        ("st.b = 1", "no field 'b'"),
        ("i.a = 1", "has no fields"),
        ("nosuch.a = 1", "neither a column nor the table's name"),
        ("st = 1", "IS .NOT. NULL"),
        ("st.in = 1", "IS .NOT. NULL"),
        ("l.a = 1", "has no fields"),
        ("l[0] = 1", "neither a column nor a literal"),
        ("isnan(s)", "isnan needs a number"),
        ("i = b'1'", "cannot be parsed"),
        ("i = interval 1 day", "neither"),
        ("i between symmetric 2 and 1", "."),
        ("i in unnest(l)", "."),
        ("s like any ('a', 'b')", "."),
        ("s = 'a' collate x", "."),
        ("s = '\x00\ud800'", "Unicode"),
        ("s in ('\ud800', 'a')", "Unicode"),
        ("bin = '\ud800'", "Unicode"),
        ("s like '\ud800%'", "Unicode"),
        ("s = '" + "x" * (4 << 20) + "'", "above the limit"),
    ],
)
def test_what_cannot_be_exact_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(InvalidArgumentError, match=complaint) as caught:
        compile_predicate(text, fields_of(TABLE.schema))
    assert caught.value.http_status == 400
    assert len(caught.value.message) < 1000


def test_syntax_errors_have_a_code_of_their_own() -> None:
    with pytest.raises(SqlSyntaxError):
        compile_predicate("i = = 1", fields_of(TABLE.schema))


def test_long_chains_are_no_deep_nesting() -> None:
    text = " or ".join(f"`a b` = {number}" for number in range(900))
    assert answers(TABLE, text) == [True] * 4


def test_only_mentioned_columns_are_needed() -> None:
    assert compile_predicate("i = 1 or S is null", fields_of(TABLE.schema)).columns == ("i", "s")
    assert compile_predicate("1 = 1", fields_of(TABLE.schema)).columns == ()


# --- segments --------------------------------------------------------------------------------

SEGMENT = pa.table(
    {
        "n": pa.array([10, 20, 30]),
        "s": pa.array(["m" * 60, "n" * 60, "o" * 300]),
        "f": pa.array([1.0, float("nan"), 2.0]),
        "z": pa.array([None, None, None], pa.int64()),
        "q": pa.array([1, None, 3]),
        "d": pa.array([Decimal("1.50"), Decimal("2.50"), None], pa.decimal128(5, 2)),
        "t": pa.array([1, 2, 3], pa.timestamp("us")),
        "l": pa.array([[1], [2], [3]]),
    }
)


def parts(**columns: Any) -> Any:
    return pa.table(columns)


@folded(
    "table, text, may",
    [
        # NaN compares with nothing: negations and != choose it whatever the bounds are
        (parts(f=[1.0, math.nan]), "not f < 5", True),
        (parts(f=[1.0, 2.0]), "not f < 5", False),
        (parts(f=[1.0, math.nan]), "f != 1", True),
        (parts(f=[1.0, 1.0]), "f != 1", False),
        (parts(f=[1.0, math.nan]), "isnan(f)", True),
        (parts(f=[1.0, None]), "isnan(f)", False),
        (parts(f=[1.0, math.nan]), "f > 1", False),
        # never null, so that null rows are chosen
        (parts(b=pa.array([None, None], pa.bool_())), "b is not true", True),
        (parts(b=pa.array([None, None], pa.bool_())), "b is not false", True),
        (parts(b=[False, False]), "b is not true", True),
        (parts(b=[True, True]), "b is not false", True),
        (parts(b=[True, True]), "b is false", False),
        (parts(b=[False, None]), "b is true", False),
        (parts(n=pa.array([None], pa.int64())), "not n <=> 1", True),
        (parts(n=[1, 2]), "n <=> 3", False),
        (parts(n=[1, 2]), "n is distinct from 3", True),
        # a text that is the prefix itself
        (parts(s=["mo"]), "s like 'mo%'", True),
        (parts(s=["mo"]), "s like 'mp%'", True),  # short texts are not recorded
        (parts(s=["m" * 60 + "o" * 80]), "s like 'n%'", True),
        # lists
        (parts(n=[10, 20]), "n in (1, 15, 99)", True),
        (parts(n=[10, 20]), "n in (1, 99)", False),
        (parts(n=[10, 20]), "n = 1 or n = 99", False),
        (parts(n=[10, 10]), "n not in (10)", False),
        (parts(n=[10, 11]), "n not in (10)", True),
        # nested
        (parts(st=[{"a": 5, "c": {"x": 1.0}}]), "st.a = 6", False),
        (parts(st=[{"a": 5, "c": {"x": 1.0}}]), "st.a = 5", True),
        (parts(st=[{"a": 5, "c": {"x": 1.0}}]), "st.c.x > 1", False),
        (parts(st=[{"a": 5, "c": {"x": 1.0}}]), "st.c.x >= 1", True),
        (parts(st=[{"a": 5, "c": {"x": math.nan}}]), "not st.c.x < 5", True),
        (parts(st=[{"a": 5}]), "st.a is null", False),
        (parts(st=[{"a": 5}, None]), "st.a is null", True),
        (parts(st=[{"a": 5}, {"a": None}]), "st.a is null", True),
    ],
)
def test_what_statistics_leave_out(table: Any, text: str, may: bool) -> None:
    assert may_match(table, text) is may
    if not may:
        assert True not in answers(table, text)


@pytest.mark.parametrize(
    ("text", "known", "may"),
    [
        ("s like 'mo%'", ColumnBounds("a", "mo"), True),
        ("s like 'mo%'", ColumnBounds("a", "mn"), False),
        ("s like 'mo%'", ColumnBounds("mo", "z"), True),
        ("s like 'mo%'", ColumnBounds("mp", "z"), False),
        ("s like 'm\\%%'", ColumnBounds("m%", "m%"), True),
        ("s like 'm\\%%'", ColumnBounds("mo", "mo"), False),
        ("s like '%'", ColumnBounds("z", "z"), True),
        ("s in ('b', 'd')", ColumnBounds("c", "c"), False),
        ("s in ('b', 'd')", ColumnBounds("c", None), True),
        ("s in ('b', 'd')", ColumnBounds(None, "a"), False),
        ("s in ('b', 'd')", ColumnBounds(None, None), True),
        ("s in ('b', 'd')", ColumnBounds(None, None, values=False), False),
    ],
)
def test_what_bounds_of_texts_leave_out(text: str, known: ColumnBounds, may: bool) -> None:
    predicate = compile_predicate(text, {"s": pa.field("s", pa.string())})
    assert predicate.may_match(lambda _path: known) is may


def test_random_predicates_agree_with_duckdb() -> None:
    assert disagreements(seed=random.randrange(10**6), count=400) == []


@pytest.mark.parametrize("kind", ["numbers", "texts", "mixed"])
def test_long_lists(kind: str) -> None:
    values = {
        "numbers": [str(number) for number in range(100_000)],
        "texts": [f"'k{number}'" for number in range(100_000)],
        "mixed": [str(number) if number % 2 else f"{number}L" for number in range(2_000)],
    }[kind]
    name = "s" if kind == "texts" else "n"
    table = pa.table({"n": [5, 200_000, None], "s": ["k5", "x", None]})
    text = f"{name} in ({', '.join(values)})"
    assert answers(table, text) == [True, False, None]


@folded(
    "text, may",
    [
        ("n = 5", False),
        ("n = 15", True),
        ("n > 30", False),
        ("n >= 30", True),
        ("n < 10", False),
        ("n <= 10", True),
        ("n > 30.5", False),
        ("n in (1, 2, 99)", False),
        ("n in (1, 20)", True),
        ("n between 31 and 40", False),
        ("not n >= 10", False),
        ("n not between 5 and 35", False),
        ("n is null", False),
        ("q is null", True),
        ("z is not null", False),
        ("z = 1", False),
        ("z != 1", False),
        ("z is null", True),
        ("n = 5 or n = 6", False),
        ("n = 5 or n = 10", True),
        ("n = 10 and s = 'a'", False),
        ("s like 'a%'", False),
        ("s like 'mo%'", True),
        ("s > 'zzz'", True),  # the greatest text is too long to be known
        ("s < 'm'", False),
        ("f = 3", False),
        ("f != 1", True),
        ("d > 2.5", False),
        ("d >= 2.5", True),
        ("t > '1970-01-01 00:00:00.000003'", False),
        ("t >= '1970-01-01 00:00:00.000003'", True),
        ("l is null", True),
        ("n = null", False),
        ("1 = 2", False),
        ("true", True),
    ],
)
def test_segments_are_left_out_only_when_no_row_can_match(text: str, may: bool) -> None:
    assert may_match(SEGMENT, text) is may
    if not may:
        assert True not in answers(SEGMENT, text)


def test_one_value_only() -> None:
    table = pa.table({"n": [7, 7]})
    assert not may_match(table, "n != 7")
    assert may_match(pa.table({"n": [7, None]}), "n is null or n != 7")


# --- an independent peer ---------------------------------------------------------------------

INTEGERS = st.none() | st.integers(-3, 3)
TEXTS = st.none() | st.sampled_from(["", "a", "ab", "b", "%", "a_"])
ROWS = st.lists(st.tuples(INTEGERS, INTEGERS, TEXTS), min_size=1, max_size=6)
OPERATOR = st.sampled_from(["=", "<>", "<", "<=", ">", ">="])
NUMBER = st.sampled_from(["-2", "0", "1", "2.5", "-0.5", "null"])
WORD = st.sampled_from(["''", "'a'", "'ab'", "'%'", "null"])
LEAF = st.one_of(
    st.builds("{} {} {}".format, st.sampled_from(["n", "m"]), OPERATOR, NUMBER),
    st.builds("{} {} {}".format, NUMBER, OPERATOR, st.sampled_from(["n", "m"])),
    st.builds("s {} {}".format, OPERATOR, WORD),
    st.builds("n {} m".format, OPERATOR),
    st.builds("{} is {} null".format, st.sampled_from(["n", "s"]), st.sampled_from(["", "not"])),
    st.builds(
        "n {} in ({})".format,
        st.sampled_from(["", "not"]),
        st.lists(NUMBER, min_size=1, max_size=3).map(", ".join),
    ),
    st.builds(
        "s {} in ({})".format,
        st.sampled_from(["", "not"]),
        st.lists(WORD, min_size=1, max_size=3).map(", ".join),
    ),
    st.builds("n {} between {} and {}".format, st.sampled_from(["", "not"]), NUMBER, NUMBER),
    st.builds(
        "s {} like {}".format,
        st.sampled_from(["", "not"]),
        st.sampled_from(["'a%'", "'_'", "'%'", "''"]),
    ),
)
CONDITION = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        st.builds("({}) and ({})".format, inner, inner),
        st.builds("({}) or ({})".format, inner, inner),
        st.builds("not ({})".format, inner),
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(ROWS, CONDITION)
def test_sqlite_gives_the_same_answers(rows: list[Any], condition: str) -> None:
    database = sqlite3.connect(":memory:")
    try:
        database.execute("PRAGMA case_sensitive_like = ON")
        database.execute("CREATE TABLE t (n INTEGER, m INTEGER, s TEXT)")
        database.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
        query = f"SELECT {condition} FROM t ORDER BY rowid"
        peers = [None if row[0] is None else bool(row[0]) for row in database.execute(query)]
    finally:
        database.close()
    n, m, s = zip(*rows, strict=True)
    table = pa.table(
        {"n": pa.array(n, pa.int64()), "m": pa.array(m, pa.int64()), "s": pa.array(s, pa.string())}
    )
    assert answers(table, condition) == peers
    if True in peers:
        assert may_match(table, condition)


def test_expressions_also_work_on_batches_of_other_layouts() -> None:
    predicate = compile_predicate("n > 1", {"n": pa.field("n", pa.int32())})
    table = pa.table({"n": pa.array([1, 2], pa.int32())})
    assert table.filter(predicate.expression)["n"].to_pylist() == [2]
    assert pc.sum(table.filter(predicate.expression)["n"]).as_py() == 2
