from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.folding import folded

from fletching.errors import InvalidArgumentError
from fletching.sql.predicates.literals import (
    EqualRange,
    Moment,
    equal_range,
    parse_date,
    parse_moment,
    scalar_of,
)

DAY = 86_400
F32_TENTH = 0.10000000149011612
F32_MOST = 3.4028234663852886e38


@folded(
    "value, data_type, span",
    [
        (5, pa.int8(), EqualRange(5, 5)),
        (Decimal("5.5"), pa.int8(), EqualRange(6, 5)),
        (Decimal("-5.5"), pa.int8(), EqualRange(-5, -6)),
        (128, pa.int8(), EqualRange(None, 127)),
        (-129, pa.int8(), EqualRange(-128, None)),
        (-1, pa.uint16(), EqualRange(0, None)),
        (" 7 ", pa.int64(), EqualRange(7, 7)),
        ("1970-01-02 00:00:01", pa.timestamp("s"), EqualRange(DAY + 1, DAY + 1)),
        ("1970-01-01 00:00:01.5", pa.timestamp("s"), EqualRange(2, 1)),
        ("1970-01-01 00:00:01.5", pa.timestamp("ms"), EqualRange(1_500, 1_500)),
        ("1970-01-01 00:00:01.5", pa.timestamp("us"), EqualRange(1_500_000, 1_500_000)),
        ("1970-01-01 00:00:01.5", pa.timestamp("ns"), EqualRange(1_500_000_000, 1_500_000_000)),
        (Decimal("1.25"), pa.decimal128(5, 1), EqualRange(13, 12)),
        (Decimal("1.2"), pa.decimal128(5, 1), EqualRange(12, 12)),
        (99_999, pa.decimal128(5, 1), EqualRange(None, 99_999)),
        (Decimal("0.5"), pa.float32(), EqualRange(0.5, 0.5)),
        (Decimal("0.1"), pa.float64(), EqualRange(0.1, 0.1)),
        (Decimal("0.1"), pa.float32(), EqualRange(F32_TENTH, F32_TENTH)),
        (0.1, pa.float32(), EqualRange(0.1, 0.1)),
        (2**53 + 1, pa.float64(), EqualRange(2.0**53, 2.0**53)),
        (10**400, pa.float64(), EqualRange(math.inf, math.nextafter(math.inf, 0))),
        (-(10**400), pa.float64(), EqualRange(-math.nextafter(math.inf, 0), -math.inf)),
        (10**39, pa.float32(), EqualRange(math.inf, F32_MOST)),
        ("inf", pa.float64(), EqualRange(math.inf, math.inf)),
        (math.nan, pa.float64(), None),
        ("NaN", pa.float32(), None),
        # what becomes the DOUBLE when it is converted
        (0.1, pa.decimal128(5, 2), EqualRange(10, 10)),
        (2.0**53, pa.int64(), EqualRange(2**53, 2**53 + 1)),
        (2.0**53 + 2, pa.int64(), EqualRange(2**53 + 2, 2**53 + 2)),
        (2.0**53 + 4, pa.int64(), EqualRange(2**53 + 3, 2**53 + 5)),
        (1.5, pa.int64(), EqualRange(2, 1)),
        (1e300, pa.int64(), EqualRange(None, 2**63 - 1)),
        (math.inf, pa.int8(), EqualRange(None, 127)),
        (-math.inf, pa.int8(), EqualRange(-128, None)),
        (math.nan, pa.int8(), None),
        ("x", pa.string(), EqualRange("x", "x")),
        ("x", pa.large_binary(), EqualRange(b"x", b"x")),
        (True, pa.bool_(), EqualRange(True, True)),
        (dt.date(1970, 1, 2), pa.date32(), EqualRange(1, 1)),
        ("1970-01-02 00:00:01", pa.date32(), EqualRange(2, 1)),
        (Moment(1_500_000), pa.timestamp("ms"), EqualRange(2, 1)),
        (Moment(-1), pa.timestamp("s"), EqualRange(0, -1)),
        (Moment(2_000_000), pa.timestamp("ms", "UTC"), EqualRange(2, 2)),
        (Moment(10**30), pa.timestamp("ns"), EqualRange(None, 2**63 - 1)),
    ],
)
def test_where_a_literal_lies(value: Any, data_type: Any, span: EqualRange | None) -> None:
    assert equal_range(value, data_type, "c") == span
    if span is not None and span.first is not None and span.last is not None:
        assert span.equals is (span.first <= span.last)


@pytest.mark.parametrize(
    ("value", "data_type"),
    [
        ("x", pa.int8()),
        ("nan", pa.int64()),
        ("inf", pa.decimal128(5, 2)),
        ("1_0", pa.int64()),
        ("1_0", pa.float64()),
        ("\u0661", pa.int64()),
        ("0x10", pa.int64()),
        ("1e", pa.float64()),
        ("1 2", pa.float64()),
        ("sNaN", pa.float64()),
        ("nan1", pa.float64()),
        ("infinit", pa.float64()),
        ("", pa.int64()),
        ("1L", pa.int64()),
        (True, pa.int8()),
        (1, pa.string()),
        (1, pa.bool_()),
        (b"x", pa.string()),
        (5, pa.date32()),
        ("soon", pa.timestamp("s")),
        (1, pa.list_(pa.int8())),
    ],
)
def test_what_cannot_be_compared(value: Any, data_type: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="column c"):
        equal_range(value, data_type, "c")


def ends_of(span: EqualRange) -> tuple[int, int]:
    assert isinstance(span.first, int)
    assert isinstance(span.last, int)
    return span.first, span.last


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-1000, max_value=1000))
def test_a_range_encloses_its_literal(value: Decimal) -> None:
    for data_type, scale in ((pa.int16(), 0), (pa.decimal128(20, 3), 3)):
        span = equal_range(value, data_type, "c")
        assert span is not None
        low, high = sorted(ends_of(span))
        assert Decimal(low).scaleb(-scale) <= value <= Decimal(high).scaleb(-scale)
        assert high - low == (0 if span.equals else 1)
    double = equal_range(value, pa.float64(), "c")
    assert double == EqualRange(float(value), float(value))


@given(st.floats(-1e6, 1e6), st.integers(-(10**12), 10**12))
def test_a_double_equals_what_becomes_it(number: float, unscaled: int) -> None:
    span = equal_range(number, pa.decimal128(20, 5), "c")
    assert span is not None
    first, last = ends_of(span)
    for candidate in (unscaled, first, last, first - 1, last + 1):
        converted = float(Decimal(candidate).scaleb(-5))
        assert (first <= candidate <= last) is (converted == number)
        assert (candidate < first) is (converted < number)
        assert (candidate > last) is (converted > number)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01", 0),
        ("1970-1-2", DAY * 10**9),
        ("1970-01-01 00:00", 0),
        ("1970-01-01T00:00:01", 10**9),
        ("1969-12-31 23:59:59.999999999", -1),
        (" 1970-01-01 00:00:00.5 ", 5 * 10**8),
        ("1970-01-01 00:00:00Z", 0),
        ("1970-01-01 00:00:00 UTC", 0),
        ("1970-01-01 08:00:00+08:00", 0),
        ("1970-01-01 08:00:00 +0800", 0),
        ("1970-01-01 08:00:00+8", 0),
        ("1969-12-31 18:30:00-05:30", 0),
    ],
)
def test_moments(text: str, nanoseconds: int) -> None:
    assert parse_moment(text) == Moment(nanoseconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1970",
        "1970-13-01",
        "1970-02-30",
        "1970-01-01 24:00",
        "1970-01-01 00:60",
        "x",
        "1970-01-01 00:00:00+19:00",
        "1970-01-01 00:00:00+08:60",
        "1970-01-01Z",
        "1970-01-01 00:00:00 Mars",
        "1970-01-01 00:00:00.0000000001",
        "197\u0660-01-01",
        "0000-01-01",
        "10000-01-01",
        "1970-01-01 1",
    ],
)
def test_other_text_is_no_moment(text: str) -> None:
    assert parse_moment(text) is None
    assert parse_date("1970-01-01 00:00") is None


@pytest.mark.parametrize(
    ("physical", "data_type", "value"),
    [
        (-125, pa.decimal128(5, 2), Decimal("-1.25")),
        (10**30, pa.decimal256(50, 2), Decimal(10) ** 28),
        (1, pa.date32(), dt.date(1970, 1, 2)),
        (7, pa.int8(), 7),
        ("x", pa.large_string(), "x"),
        (0.5, pa.float32(), 0.5),
    ],
)
def test_scalars_of_physical_values(physical: Any, data_type: Any, value: Any) -> None:
    scalar = scalar_of(physical, data_type)
    assert scalar.as_py() == value
    assert scalar.type == data_type or pa.types.is_floating(data_type)
    assert scalar_of(3, pa.timestamp("ns", "UTC")).value == 3
