"""A filter given as an expression finds the rows that pyarrow finds, whether it is pushed or not."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fletching
from fletching.client.reading.expressions import pushdown
from fletching.client.table import Table
from fletching.errors import UsageError

SCHEMA = pa.schema(
    [
        ("i", pa.int64()),
        ("small", pa.int8()),
        ("f", pa.float64()),
        ("s", pa.string()),
        ("b", pa.bool_()),
        ("d", pa.date32()),
        ("n", pa.decimal128(28, 2)),
        ("st", pa.struct([("x", pa.int32()), ("deep", pa.struct([("y", pa.string())]))])),
    ]
)
ROWS = pa.table(
    {
        "i": [1, 2, None, 5, -7, 2**53 + 1],
        "small": [1, None, 3, -128, 127, 0],
        "f": [0.1, float("nan"), None, 1e23, -0.0, float("-inf")],
        "s": ["it's", "a\\b", None, "", "é", "a"],
        "b": [True, False, None, True, False, None],
        "d": [dt.date(2020, 1, 1), None, dt.date(1999, 12, 31), *[dt.date(2021, 5, 5)] * 3],
        "n": [Decimal("1.10"), None, Decimal("-2.00"), Decimal("3.00"), Decimal(0), Decimal(7)],
        "st": [
            {"x": 1, "deep": {"y": "a"}},
            {"x": None, "deep": None},
            None,
            {"x": 2, "deep": {"y": None}},
            {"x": 3, "deep": {"y": "b"}},
            {"x": 1, "deep": {"y": "é"}},
        ],
    },
    schema=SCHEMA,
)
field = pc.field
NAN = float("nan")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    folder: Path = tmp_path_factory.mktemp("data")
    with fletching.connect(folder, project="demo", create=True) as client:
        table = client.create_table("t", SCHEMA)
        table.append(ROWS.slice(0, 3))
        table.append(ROWS.slice(3))
        yield table


def result(table: Table, expression: pc.Expression) -> list[dict[str, Any]]:
    parts = pushdown(expression, SCHEMA)
    rows = table.scan(filter=parts.pushed).to_table()
    return (rows if parts.residual is None else rows.filter(parts.residual)).to_pylist()


@pytest.mark.parametrize(
    ("expression", "pushed"),
    [
        (field("i") > 1, "`i` > 1"),
        (pc.scalar(3) > field("i"), "`i` < 3"),
        (field("f") == 0.1, "`f` = 0.1D"),
        (field("f") == 1e23, "`f` = 1e+23"),
        (field("f") < 1, "`f` < 1"),
        (field("s") == "it's", r"`s` = 'it\'s'"),
        (field("s") == "a\\b", r"`s` = 'a\\b'"),
        (field("b") == True, "`b` = TRUE"),  # noqa: E712  # an expression, no comparison
        (field("d") >= dt.date(2020, 1, 1), "`d` >= DATE '2020-01-01'"),
        (field("n") == Decimal("1.10"), "`n` = 1.10BD"),
        (field("i").is_valid(), "`i` IS NOT NULL"),
        (~field("i").is_null(), "NOT (`i` IS NULL)"),
        (field("i").isin([1, 5]), "(`i` IS NOT NULL AND `i` IN (1, 5))"),
        ((field("i") > 1) | (field("small") < 3), "(`i` > 1 OR `small` < 3)"),
        (field("st", "x") == 1, "`st`.`x` = 1"),
        (field("st", "deep", "y") >= "b", "`st`.`deep`.`y` >= 'b'"),
        (field("st", "deep", "y").is_null(), "`st`.`deep`.`y` IS NULL"),
        (~(field("st", "x") == 1), "NOT (`st`.`x` = 1)"),
        (~field("st", "x").isin([1, 3]), "NOT ((`st`.`x` IS NOT NULL AND `st`.`x` IN (1, 3)))"),
        (field("i") > field("small"), "`i` > `small`"),
        (field("st", "x") != field("small"), "`st`.`x` != `small`"),
        (field("b"), "`b` = TRUE"),
        (~field("b"), "NOT (`b` = TRUE)"),
    ],
    ids=str,
)
def test_what_is_surely_the_same_is_pushed(
    table: Table, expression: pc.Expression, pushed: str
) -> None:
    parts = pushdown(expression, SCHEMA)
    assert (parts.pushed, parts.residual) == (pushed, None)
    assert repr(result(table, expression)) == repr(ROWS.filter(expression).to_pylist())


@pytest.mark.parametrize(
    "expression",
    [
        pc.utf8_length(field("s")) > 1,
        field("f").is_null(nan_is_null=True),
        field("f").is_nan(),
        field("f") > NAN,
        field("i").isin([1, None]),
        field("i").isin([]),
        field("f").isin([-0.0, 0.1]),
        ~field("f").isin([0, 1]),
        field("i") + 1 > 2,
        field("small").cast("double") > 1.5,
        field("f") > field("small"),
        pc.if_else(field("b"), field("i") > 1, field("i") < 1),
    ],
    ids=str,
)
def test_what_may_differ_remains(table: Table, expression: pc.Expression) -> None:
    parts = pushdown(expression, SCHEMA)
    assert parts.pushed is None
    assert parts.residual is not None
    assert parts.columns
    assert repr(result(table, expression)) == repr(ROWS.filter(expression).to_pylist())


def test_conjuncts_are_pushed_one_by_one(table: Table) -> None:
    expression = (field("i") >= 1) & (pc.utf8_length(field("s")) > 0) & (field("small") < 100)
    parts = pushdown(expression, SCHEMA)
    assert parts.pushed == "`i` >= 1 AND `small` < 100"
    assert parts.residual is not None
    assert parts.columns == {"i", "s", "small"}
    assert repr(result(table, expression)) == repr(ROWS.filter(expression).to_pylist())


def test_refusals() -> None:
    with pytest.raises(UsageError, match="not 'i > 1'"):
        pushdown("i > 1", SCHEMA)
    with pytest.raises(UsageError, match="names nothing"):
        pushdown(field("nothing") > 1, SCHEMA)
    with pytest.raises(UsageError, match=r"names st\.X; st has x, deep"):
        pushdown(field("st", "X") > 1, SCHEMA)
    with pytest.raises(UsageError, match=r"names i\.x; i has no fields"):
        pushdown((field("i") > 1) | (field("i", "x") > 1), SCHEMA)


LEAVES = st.one_of(
    st.builds(
        lambda name, op, value: op(field(name), value),
        st.sampled_from(["i", "small"]),
        st.sampled_from([lambda c, v: c > v, lambda c, v: c == v, lambda c, v: c <= v]),
        st.sampled_from([-7, 0, 1, 2, 5, 127]),
    ),
    st.builds(
        lambda op, value: op(field("f"), value),
        st.sampled_from([lambda c, v: c > v, lambda c, v: c != v, lambda c, v: c < v]),
        st.sampled_from([0.1, -0.0, 0.0, 1e23, float("inf"), float("nan")]),
    ),
    st.builds(
        lambda values: field("s").isin(values),
        st.lists(st.sampled_from(["", "é", "it's"]), min_size=1),
    ),
    st.sampled_from(
        [
            *(field("i").is_null(), field("b"), field("f").is_nan(), field("st").is_valid()),
            *(field("st", "x") == 1, field("st", "x") > field("small")),
            *(field("st", "deep", "y").is_valid(), field("st", "deep", "y") < "b"),
            *(field("st", "deep").is_null(), field("i") <= field("st", "x")),
        ]
    ),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda a, b: a & b, inner, inner),
        st.builds(lambda a, b: a | b, inner, inner),
        st.builds(lambda a: ~a, inner),
    ),
    max_leaves=6,
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(expression=TREES)
def test_pushed_or_not_the_rows_are_the_same(table: Table, expression: pc.Expression) -> None:
    assert repr(result(table, expression)) == repr(ROWS.filter(expression).to_pylist())
