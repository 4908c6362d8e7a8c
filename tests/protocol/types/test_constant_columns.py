from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import pyarrow as pa
import pytest

from fletching.errors import CorruptObjectError
from fletching.protocol.types.constant_columns import constant_column, constant_scalar


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
