from __future__ import annotations

import dataclasses

import pyarrow as pa
import pytest

from fletching.sql.functions.sql_types import (
    BIGINT,
    DATE,
    DATETIME,
    DOUBLE,
    INT,
    NULL,
    STRING,
    TIMESTAMP,
    UNKNOWN,
    SqlType,
    array_of,
    common_type,
    decimal,
    quotient_type,
    type_of_arrow,
    type_of_cast,
)
from fletching.sql.parsing.dialect import exp, parse_all


@pytest.mark.parametrize(
    ("types", "common"),
    [
        ([INT, BIGINT], BIGINT),
        ([INT, DOUBLE], DOUBLE),
        ([INT, STRING], STRING),
        ([NULL, INT], INT),
        ([NULL, NULL], NULL),
        ([DATE, DATETIME], DATETIME),
        ([DATETIME, TIMESTAMP], TIMESTAMP),
        ([INT, UNKNOWN], UNKNOWN),
        ([decimal(10, 2), INT], decimal(12, 2)),
        ([decimal(10, 2), decimal(10, 6)], decimal(14, 6)),
        ([decimal(10, 2), DOUBLE], DOUBLE),
        ([array_of(INT), array_of(STRING)], array_of(STRING)),
        ([array_of(INT), INT], UNKNOWN),
    ],
)
def test_the_type_that_several_have_in_common(types: list[SqlType], common: SqlType) -> None:
    assert common_type(types) == common


def test_decimals_have_so_many_digits() -> None:
    assert decimal(50, 30) == SqlType("DECIMAL", 38, 6)
    assert decimal(38, 30) == SqlType("DECIMAL", 38, 18)
    assert quotient_type(decimal(10, 2), decimal(10, 2)) == SqlType("DECIMAL", 23, 13)
    assert quotient_type(decimal(2, 1), decimal(1, 0)) == SqlType("DECIMAL", 7, 6)


@pytest.mark.parametrize(
    ("data_type", "duck"),
    [
        (pa.int32(), "INTEGER"),
        (pa.timestamp("ms"), "TIMESTAMP_MS"),
        (pa.timestamp("ns"), "TIMESTAMP_NS"),
        (pa.decimal128(12, 3), "DECIMAL(12, 3)"),
        (pa.list_(pa.string()), "VARCHAR[]"),
        (pa.map_(pa.string(), pa.int64()), "MAP(VARCHAR, BIGINT)"),
        (pa.struct([("a", pa.int8()), ('b"', pa.bool_())]), 'STRUCT("a" TINYINT, "b""" BOOLEAN)'),
        (pa.dictionary(pa.int8(), pa.string()), "VARCHAR"),
        (pa.duration("s"), ""),
    ],
)
def test_columns(data_type: pa.DataType, duck: str) -> None:
    assert type_of_arrow(data_type).duck() == duck


def test_what_a_column_is_told_as() -> None:
    assert array_of(INT).declaration() == ""
    inner = dataclasses.replace(INT, declared="interval_year_month")
    assert array_of(inner).declaration() == "ARRAY<interval_year_month>"
    # What the whole was declared as needs nothing of its parts.
    assert dataclasses.replace(array_of(inner), declared="array<x>").declaration() == "array<x>"


def test_types_of_variables_and_of_fields_are_known_to_a_cast() -> None:
    (assigned,) = parse_all("@n struct<a:bigint, b:array<int>> := 20")
    assert assigned.node is not None
    (cast,) = assigned.node.find_all(exp.Cast)
    assert str(type_of_cast(cast.to)) == "STRUCT<a:BIGINT,b:ARRAY<INT>>"
