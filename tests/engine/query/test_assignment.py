"""What a column takes of a computed value, as DuckDB is asked for it."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from fletching.engine.query.assignment import assigned
from fletching.errors import InvalidArgumentError

POINT = pa.struct([("x", pa.int64()), ("y", pa.string())])


def taken(value: str, target: pa.DataType, declared: str = "") -> Any:
    with duckdb.connect() as connection:
        relation = connection.sql(f"SELECT {value}")
        template = assigned(relation.types[0], pa.field("c", target), declared)
        return connection.sql(f"SELECT {template.replace('{}', f'({value})')}").fetchall()[0][0]


@pytest.mark.parametrize(
    ("value", "target", "declared", "expected"),
    [
        ("300", pa.int16(), "", 300),
        ("2.5::DOUBLE", pa.int16(), "", 2.5),  # still a fraction, for the conversion to refuse
        ("2.5", pa.int64(), "", Decimal("2.5")),
        ("'2.5'", pa.uint8(), "", Decimal("2.5")),
        ("['2.5']", pa.list_(pa.int32()), "", [Decimal("2.5")]),
        ("[2.5::FLOAT]", pa.list_view(pa.int32()), "", [2.5]),
        ("MAP {1.5: 2.5}", pa.map_(pa.int8(), pa.int8()), "", {Decimal("1.5"): Decimal("2.5")}),
        ("1.25", pa.decimal128(5, 1), "", Decimal("1.3")),
        ("2.5", pa.float32(), "", 2.5),
        ("2.50", pa.string(), "", "2.5"),
        ("'abc'", pa.string(), "varchar(2)", "ab"),
        ("2.50", pa.string(), "CHAR(2)", "2."),
        ("NULL", POINT, "", None),
        ("{'Y': 1}", POINT, "", {"Y": "1"}),
        ("'1'", pa.json_(pa.string()), "", "1"),
        ("['10', NULL]", pa.list_(pa.int64()), "", [10, None]),
        ("NULL::VARCHAR[]", pa.list_(pa.int64()), "", None),
        ("MAP {'1': ['2.5']}", pa.map_(pa.int8(), pa.list_(pa.float64())), "", {1: [2.5]}),
        ("NULL::MAP(VARCHAR, VARCHAR)", pa.map_(pa.int8(), pa.int8()), "", None),
        ("{'Y': 1.50}", POINT, "", {"Y": "1.5"}),
        ("{'X': '7', 'y': 'a'}", POINT, "", {"X": 7, "y": "a"}),
        ("NULL::STRUCT(x VARCHAR)", POINT, "", None),
        ("[1, 2]", pa.string(), "", "[1,2]"),
        ("[{'a': 1.50}]", pa.string(), "", '[{"a":1.5}]'),
        ("'a'::BLOB", pa.string(), "", "a"),
        ("'\\x41\u00e9'", pa.binary(), "", "\\x41\u00e9".encode()),
        ("['\\x41']", pa.list_(pa.binary()), "", [b"\\x41"]),
        ("['abc']", pa.list_(pa.string()), "array<varchar(2)>", ["ab"]),
        (
            "MAP {'abc': {'n': 'xyz'}}",
            pa.map_(pa.string(), pa.struct([("n", pa.string())])),
            "map<varchar(2),struct<n:char(1)>>",
            {"ab": {"n": "x"}},
        ),
        ("'x'", pa.dictionary(pa.int8(), pa.string()), "", "x"),
    ],
    ids=str,
)
def test_values(value: str, target: pa.DataType, declared: str, expected: Any) -> None:
    assert taken(value, target, declared) == expected


@pytest.mark.parametrize(
    ("texts", "target"),
    [
        (("1_0", "0x10", "0b1", "-0x1"), pa.int64()),
        (("1_0", "0x10"), pa.uint64()),
        (("1_0", "0x10", "nan(1)"), pa.float64()),
        (("1_0", "nan(1)"), pa.float32()),
        (("1_0", "0x10"), pa.decimal128(10, 2)),
        (("epoch", "infinity", "2026/01/02", "2026-01-02 (BC)", "0000-01-01"), pa.date32()),
        (("epoch", "-infinity", "2026-01-02 (BC)"), pa.timestamp("us")),
    ],
    ids=str,
)
def test_what_only_duckdb_reads_as_a_value_is_refused(
    texts: tuple[str, ...], target: pa.DataType
) -> None:
    struct = pa.struct([("x", target)])
    for text in texts:
        for value, kind in (
            (f"'{text}'", target),
            (f"['{text}']", pa.list_(target)),
            (f"array_value('{text}')", pa.list_(target, 1)),
            (f"MAP {{'k': '{text}'}}", pa.map_(pa.string(), target)),
            (f"MAP {{'{text}': 1}}", pa.map_(target, pa.int8())),
            (f"{{'X': '{text}'}}", struct),
            (f"[MAP {{1: [{{'x': '{text}'}}]}}]", pa.list_(pa.map_(pa.int8(), pa.list_(struct)))),
        ):
            with pytest.raises(
                duckdb.Error, match=rf"Could not convert string '{re.escape(text)}'"
            ):
                taken(value, kind)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("source", ["TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP", "TIMESTAMP_NS"])
def test_moments_of_all_units_become_each_other(unit: str, source: str) -> None:
    value = f"CAST('2026-01-01 10:00:00' AS {source})"
    assert str(taken(value, pa.timestamp(unit, "UTC"))) == "2026-01-01 10:00:00"
    nested = taken(f"[{value}]", pa.list_(pa.timestamp(unit)))
    assert [str(each) for each in nested] == ["2026-01-01 10:00:00"]


@pytest.mark.parametrize(
    ("value", "target", "complaint"),
    [
        ("{'x': 1, 'z': 2}", POINT, "c has no struct field 'z'.* it has 'x', 'y'"),
        ("[{'z': 2}]", pa.list_(POINT), "c.element has no struct field 'z'"),
        ("MAP {1: {'z': 2}}", pa.map_(pa.int8(), POINT), "c.value has no struct field 'z'"),
        ("'[1]'", pa.list_(pa.int64()), "c is ARRAY<BIGINT>, which no text becomes"),
        ("['{}']", pa.list_(POINT), "c.element is STRUCT<x:BIGINT,y:STRING>, which no text"),
        ("1", pa.time32("s"), "column c: statements cannot write values of the type time32"),
    ],
    ids=str,
)
def test_what_is_refused(value: str, target: pa.DataType, complaint: str) -> None:
    with pytest.raises(InvalidArgumentError, match=complaint):
        taken(value, target)


@pytest.mark.parametrize(
    ("value", "target"),
    [
        ("MAP {'1': 'a', ' 1': 'b'}", pa.map_(pa.int8(), pa.string())),
        ("MAP {1.2: 'a', 1.4: 'b'}", pa.map_(pa.decimal128(3, 0), pa.string())),
    ],
    ids=str,
)
def test_keys_of_a_map_stay_different(value: str, target: pa.DataType) -> None:
    with pytest.raises(duckdb.Error, match="Map keys must be unique"):
        taken(value, target)


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(duckdb.Error, match="no UTF-8"):
        taken("'\\xff'::BLOB", pa.string())


def test_a_text_that_is_no_number_is_told_by_the_columns_type() -> None:
    with pytest.raises(duckdb.ConversionException, match="to INT8"):
        taken("'x'", pa.int8())
