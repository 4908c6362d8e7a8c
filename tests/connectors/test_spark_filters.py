"""Spark's conditions as expressions that hold wherever Spark's do; what is not sure has no form."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

pytest.importorskip("pyspark", minversion="4.1")
from pyspark.sql import datasource as spark  # after the skip

from fletching.connectors.spark_filters import spark_expression

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("ignore")]

ROWS = pa.table(
    {
        "n": [1, 2, None, 4],
        "x": [0.5, 1.5, None, 2.5],
        "text": ["a", "b", None, "d"],
        "day": [dt.date(2026, 1, day) for day in (1, 2, 3, 4)],
        "amount": [Decimal("0.25"), Decimal("1.00"), None, Decimal("2.50")],
        "s": [{"i": 1}, {"i": None}, None, {"i": 4}],
    }
)


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        (spark.EqualTo(("n",), 2), [1]),
        (spark.GreaterThan(("n",), 1), [1, 3]),
        (spark.GreaterThanOrEqual(("text",), "b"), [1, 3]),
        (spark.LessThan(("day",), dt.date(2026, 1, 3)), [0, 1]),
        (spark.LessThanOrEqual(("amount",), Decimal("1.00")), [0, 1]),
        (spark.LessThan(("x",), 1.0), [0]),
        (spark.In(("n",), (1, 4)), [0, 3]),
        (spark.In(("text",), ("b", "zz")), [1]),
        (spark.IsNull(("n",)), [2]),
        (spark.IsNotNull(("s", "i")), [0, 3]),
        (spark.EqualTo(("s", "i"), 4), [3]),
    ],
    ids=str,
)
def test_what_is_known(condition: Any, rows: list[int]) -> None:
    expression = spark_expression(condition)
    assert isinstance(expression, pc.Expression)
    assert ROWS.filter(expression).to_pylist() == ROWS.take(rows).to_pylist()


@pytest.mark.parametrize(
    "condition",
    [
        spark.GreaterThan(("x",), 1.0),  # for Spark NaN is the greatest
        spark.GreaterThanOrEqual(("x",), 1.0),
        spark.EqualTo(("x",), float("nan")),
        spark.EqualTo(("when",), dt.datetime(2026, 1, 1)),  # noqa: DTZ001  # the session's zone decides
        spark.EqualTo(("n",), None),
        spark.EqualTo(("data",), b"x"),
        spark.In(("x",), (1.0, 2.0)),
        spark.In(("n",), ()),
        spark.In(("n",), (True, False)),
        spark.StringContains(("text",), "a"),
        spark.Not(spark.EqualTo(("n",), 1)),
        "n > 1",
        None,
    ],
    ids=str,
)
def test_what_is_left_to_spark(condition: Any) -> None:
    assert spark_expression(condition) is None
