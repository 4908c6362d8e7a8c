from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import pyarrow as pa
import pytest

from fletching.errors import CorruptObjectError
from fletching.protocol.types.constant_columns import (
    constant_column,
    constant_scalar,
    scalar_of_text,
)


@pytest.mark.parametrize(
    ("data_type", "text", "value"),
    [
        (pa.string(), "x", "x"),
        (pa.int64(), "-7", -7),
        (pa.bool_(), "true", True),
        (pa.date32(), "2026-01-02", dt.date(2026, 1, 2)),
        (pa.decimal128(9, 2), "1.50", decimal.Decimal("1.50")),
    ],
    ids=str,
)
def test_a_value_is_repeated_in_its_columns_type(data_type: Any, text: str, value: Any) -> None:
    column = constant_column(data_type, text, 3)
    assert column.type == data_type
    assert column.to_pylist() == [value] * 3


@pytest.mark.parametrize(
    "data_type", [pa.string(), pa.list_(pa.int8()), pa.run_end_encoded(pa.int32(), pa.string())]
)
def test_no_value_is_a_column_of_nulls(data_type: Any) -> None:
    column = constant_column(data_type, None, 4)
    column.validate(full=True)
    assert column.to_pylist() == [None] * 4


def test_text_that_is_no_value_of_the_type_is_damage() -> None:
    with pytest.raises(CorruptObjectError, match="is no int64"):
        constant_scalar(pa.int64(), "seven")


def test_whole_numbers_and_nan_are_spelt_in_one_way() -> None:
    for text in ("0x10", "0XFF", "-0x1", " 0x1", "1_0", "+1", "1e3", "1.0", "\u0663", "", "nan"):
        with pytest.raises(pa.ArrowInvalid):
            scalar_of_text(text, pa.int8())
    for text in ("nan(1)", "0x1p3", "1_0", "\u0663"):
        with pytest.raises(pa.ArrowInvalid):
            scalar_of_text(text, pa.float64())
    assert scalar_of_text("007", pa.uint8()).as_py() == 7


def test_text_is_no_float_that_the_type_does_not_have() -> None:
    for text, kind in (
        ("1e400", pa.float64()),
        ("1e60", pa.float32()),
        ("1e-60", pa.float32()),
        ("99999", pa.float16()),
        ("1e-400", pa.float64()),
    ):
        with pytest.raises(pa.ArrowInvalid, match="too large or too small"):
            scalar_of_text(text, kind)
    for text, kind, value in (
        ("0.5", pa.float16(), 0.5),
        ("inf", pa.float32(), float("inf")),
        ("0.0", pa.float64(), 0.0),
        ("1e300", pa.float64(), 1e300),
    ):
        assert scalar_of_text(text, kind).as_py() == value
