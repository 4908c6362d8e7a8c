"""Partition values: one spelling each, whoever writes them."""

from __future__ import annotations

import datetime as dt

import pytest

from fletching.engine.tables.partitions import (
    MAX_VALUE_BYTES,
    canonical_type,
    canonical_value,
    full_values,
    matching_values,
    parse_date,
    partition_fields,
    spec_of,
)
from fletching.errors import InvalidArgumentError
from fletching.types import PartitionSpec

COLUMNS = [("day", "DATE"), ("region", "STRING"), ("hour", "INT")]


@pytest.mark.parametrize(
    ("kind", "spelt"),
    [
        ("STRING", "string"),
        ("BigInt", "bigint"),
        ("VARCHAR( 10 )", "varchar(10)"),
        ("Date", "date"),
    ],
)
def test_types_have_one_spelling(kind: str, spelt: str) -> None:
    assert canonical_type("p", kind) == spelt


@pytest.mark.parametrize(
    "kind", ["double", "array<int>", "decimal(3,1)", "boolean", "nonsense", ""]
)
def test_other_types_are_refused_with_the_column(kind: str) -> None:
    with pytest.raises(InvalidArgumentError, match="partition column p"):
        canonical_type("p", kind)


@pytest.mark.parametrize(
    ("kind", "value", "spelt"),
    [
        ("INT", "07", "7"),
        ("INT", "-0", "0"),
        ("TINYINT", "127", "127"),
        ("TINYINT", "-128", "-128"),
        ("BIGINT", "9223372036854775807", "9223372036854775807"),
        ("DATE", "2026-01-31", "2026-01-31"),
        ("STRING", " a/b=c ", " a/b=c "),
        ("STRING", "it's", "it's"),
        ("STRING", "x" * MAX_VALUE_BYTES, "x" * MAX_VALUE_BYTES),
    ],
)
def test_values_have_one_spelling(kind: str, value: str, spelt: str) -> None:
    assert canonical_value("p", kind, value) == spelt
    assert canonical_value("p", kind, spelt) == spelt


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("TINYINT", "128"),
        ("TINYINT", "-129"),
        ("INT", "1.0"),
        ("INT", ""),
        ("INT", "1_000"),
        ("DATE", "2026-02-30"),
        ("DATE", "yesterday"),
        ("STRING", ""),
        ("STRING", "a\nb"),
        ("STRING", "\x7f"),
        ("STRING", "'\""),
        ("STRING", "\u00e9" * (MAX_VALUE_BYTES // 2 + 1)),
    ],
)
def test_what_is_no_value_is_refused(kind: str, value: str) -> None:
    with pytest.raises(InvalidArgumentError, match="of column p is not valid"):
        canonical_value("p", kind, value)


def test_names_are_found_whatever_their_case() -> None:
    spec = PartitionSpec((("HOUR", "07"), ("Day", "2026-01-01")))
    assert matching_values(COLUMNS, spec) == {2: "7", 0: "2026-01-01"}
    assert str(spec_of(COLUMNS, {2: "7", 0: "2026-01-01"})) == str(
        PartitionSpec((("day", "2026-01-01"), ("hour", "7")))
    )


def test_a_full_specification_names_every_column() -> None:
    spec = PartitionSpec((("hour", "1"), ("region", "eu"), ("day", "2026-01-01")))
    assert full_values(COLUMNS, spec) == ("2026-01-01", "eu", "1")
    assert spec_of(COLUMNS, ("2026-01-01", "eu", "1")).values == ("2026-01-01", "eu", "1")
    with pytest.raises(InvalidArgumentError, match="lacks a value for: region, hour"):
        full_values(COLUMNS, PartitionSpec((("day", "2026-01-01"),)))
    with pytest.raises(InvalidArgumentError, match="the table's are: day, region, hour"):
        matching_values(COLUMNS, PartitionSpec((("minute", "1"),)))
    with pytest.raises(InvalidArgumentError, match="the table's are: none"):
        matching_values([], PartitionSpec((("minute", "1"),)))


def test_fields_are_of_the_columns_types() -> None:
    assert [str(field.type) for field in partition_fields(COLUMNS)] == [
        "date32[day]",
        "string",
        "int32",
    ]


@pytest.mark.parametrize("text", ["2026-01-31", "20260131"])
def test_days(text: str) -> None:
    assert parse_date(text) == dt.date(2026, 1, 31)


@pytest.mark.parametrize(
    "text",
    [
        *("2026-1-31", "2026-02-30", "2026-W05-6", "2026-0131", "202601-31", "", "0000-01-01"),
        *("\uff12026-01-31", "2026-01-31 ", "+2026-01-31", "2026-01-31T00:00"),
    ],
)
def test_what_is_no_day(text: str) -> None:
    assert parse_date(text) is None
