from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.errors import InvalidArgumentError
from fletching.sql.literals import (
    Moment,
    Place,
    parse_date,
    parse_moment,
    place_of,
    scalar_of,
)

DAY = 86_400


@pytest.mark.parametrize(
    ("value", "data_type", "place"),
    [
        (5, pa.int8(), Place(5, 5)),
        (Decimal("5.5"), pa.int8(), Place(5, 6)),
        (Decimal("-5.5"), pa.int8(), Place(-6, -5)),
        (128, pa.int8(), Place(127, None)),
        (-129, pa.int8(), Place(None, -128)),
        (-1, pa.uint16(), Place(None, 0)),
        (" 7 ", pa.int64(), Place(7, 7)),
        (Decimal("1.25"), pa.decimal128(5, 1), Place(12, 13)),
        (Decimal("1.2"), pa.decimal128(5, 1), Place(12, 12)),
        (99_999, pa.decimal128(5, 1), Place(99_999, None)),
        (Decimal("0.5"), pa.float32(), Place(0.5, 0.5)),
        (10**400, pa.float64(), Place(math.nextafter(math.inf, 0), math.inf)),
        ("x", pa.string(), Place("x", "x")),
        ("x", pa.large_binary(), Place(b"x", b"x")),
        (True, pa.bool_(), Place(True, True)),
        (dt.date(1970, 1, 2), pa.date32(), Place(1, 1)),
        ("1970-01-02 00:00:01", pa.date32(), Place(1, 2)),
        (Moment(1_500_000), pa.timestamp("ms"), Place(1, 2)),
        (Moment(-1), pa.timestamp("s"), Place(-1, 0)),
        (Moment(2_000_000), pa.timestamp("ms", "UTC"), Place(2, 2)),
        (Moment(10**30), pa.timestamp("ns"), Place(2**63 - 1, None)),
    ],
)
def test_where_a_literal_lies(value: Any, data_type: Any, place: Place) -> None:
    assert place_of(value, data_type, "c") == place
    assert place.exact is (place.floor == place.ceiling)


@pytest.mark.parametrize(
    ("value", "data_type"),
    [
        ("x", pa.int8()),
        ("nan", pa.float64()),
        ("inf", pa.float64()),
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
        place_of(value, data_type, "c")


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-1000, max_value=1000))
def test_a_place_encloses_its_literal(value: Decimal) -> None:
    whole = place_of(value, pa.int16(), "c")
    assert whole.floor <= value <= whole.ceiling
    assert whole.ceiling - whole.floor == (0 if whole.exact else 1)
    double = place_of(value, pa.float64(), "c")
    assert Decimal(double.floor) <= value <= Decimal(double.ceiling)
    assert double.exact or math.nextafter(double.floor, math.inf) == double.ceiling
    scaled = place_of(value, pa.decimal128(20, 3), "c")
    assert Decimal(scaled.floor).scaleb(-3) <= value <= Decimal(scaled.ceiling).scaleb(-3)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01", 0),
        ("1970-1-2", DAY * 10**9),
        ("1970-01-01 00:00", 0),
        ("1970-01-01T00:00:01", 10**9),
        ("1969-12-31 23:59:59.999999999", -1),
        (" 1970-01-01 00:00:00.5 ", 5 * 10**8),
    ],
)
def test_moments(text: str, nanoseconds: int) -> None:
    assert parse_moment(text) == Moment(nanoseconds)


@pytest.mark.parametrize(
    "text", ["", "1970", "1970-13-01", "1970-02-30", "1970-01-01 24:00", "1970-01-01 00:60", "x"]
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
