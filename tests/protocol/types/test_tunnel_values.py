"""Columns between Arrow and the record stream; timestamps as structs."""

from __future__ import annotations

import decimal
from typing import Any

import pyarrow as pa
import pytest

from fletching.errors import UsageError
from fletching.protocol.types.arrow_types import arrow_type
from fletching.protocol.types.blob_type import blob
from fletching.protocol.types.odps_types import parse_type
from fletching.protocol.types.tunnel_values import (
    from_record_values,
    moments_as_structs,
    record_layout,
    to_record_values,
)
from fletching.wire.tunnel_records import MOMENT_TYPE

NS = pa.timestamp("ns")
VALUES: list[tuple[str, list[Any]]] = [
    ("bigint", [1, None, -(2**63)]),
    ("string", ["a", None, "é"]),
    ("char(3)", ["a", None, "éàü"]),
    ("array<char(2)>", [["a", None], None, [], [""]]),
    ("decimal(10,3)", [decimal.Decimal("1.500"), None, decimal.Decimal("-0.001")]),
    ("timestamp", [0, None, -1]),
    ("datetime", [0, None, -1]),
    ("date", [0, None, -1]),
    ("interval_day_time", [{"sec": 1, "nano": 2}, None, {"sec": -1, "nano": 0}]),
    ("array<timestamp>", [[0, None], None, [], [5]]),
    ("map<string,decimal(10,3)>", [[("k", decimal.Decimal("1.000")), ("m", None)], None, []]),
    ("struct<a:timestamp,b:array<string>>", [{"a": 1, "b": ["x", None]}, None, {"a": None, "b": None}]),
    ("vector(float,2)", [[1.0, 2.0], None]),
]  # fmt: skip


def array_of(text: str, values: list[Any]) -> Any:
    return pa.array(values, arrow_type(parse_type(text)))


@pytest.mark.parametrize(("text", "values"), VALUES, ids=[text for text, _ in VALUES])
def test_there_and_back(text: str, values: list[Any]) -> None:
    odps_type = parse_type(text)
    array = array_of(text, values)
    for part in (array, array.slice(1), array.slice(0, 0), pa.concat_arrays([array, array])):
        sent = to_record_values(part, odps_type)
        assert sent.type.equals(record_layout(odps_type).type)
        back = from_record_values(sent, odps_type, "c")
        back.validate(full=True)
        assert back.type.equals(array.type)
        assert back.to_pylist() == part.to_pylist()


def test_a_char_is_filled_with_blanks() -> None:
    kind = parse_type("char(3)")
    sent = to_record_values(pa.array(["é", None, "abc", "  x", ""]), kind)
    assert sent.to_pylist() == ["é  ".encode(), None, b"abc", b"  x", b"   "]
    back = from_record_values(sent, kind, "c")
    assert back.to_pylist() == ["é", None, "abc", "  x", ""]


def test_a_blob_is_its_reference() -> None:
    array = pa.ExtensionArray.from_storage(blob(), pa.array([b"reference", None]))
    sent = to_record_values(array, parse_type("blob"))
    assert sent.equals(pa.array([b"reference", None]))


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_moments_before_1970_of_every_unit(unit: str) -> None:
    array = pa.array([-1], pa.timestamp(unit))
    (moment,) = to_record_values(array, parse_type("timestamp")).to_pylist()
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    if per_second == 1:
        assert moment == {"sec": -1, "nano": 0}
    else:
        assert moment == {"sec": -1, "nano": 10**9 - 10**9 // per_second}


@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_datetimes_of_other_units(unit: str) -> None:
    array = pa.array([1_000_000, None], pa.int64()).view(pa.timestamp(unit))
    (first, none) = to_record_values(array, parse_type("datetime")).to_pylist()
    assert none is None
    assert first == {"s": 10**9, "us": 1000, "ns": 1}[unit]


def test_what_has_no_form() -> None:
    with pytest.raises(UsageError, match="VARIANT"):
        record_layout(parse_type("variant"))


# --- timestamps as structs -----------------------------------------------------------------------


def test_the_children_of_a_null_are_null() -> None:
    """Clients look at nothing else, and show 1970 for what is not there."""
    made = moments_as_structs(pa.array([1, None], NS))
    assert made.to_pylist() == [{"sec": 0, "nano": 1}, None]
    assert [made.field(n).to_pylist() for n in range(2)] == [[0, None], [1, None]]


def test_timestamps_inside_others() -> None:
    kind = pa.struct([("a", NS), ("b", pa.list_(NS)), ("c", pa.map_(pa.string(), NS))])
    array = pa.array(
        [{"a": 1, "b": [2, None], "c": [("k", 3)]}, None, {"a": None, "b": None}], kind
    )
    for part in (array, array.slice(1)):
        made = moments_as_structs(part)
        made.validate(full=True)
        assert made.type.field("a").type == MOMENT_TYPE
        expected = [
            {"a": {"sec": 0, "nano": 1}, "b": [{"sec": 0, "nano": 2}, None],
             "c": [("k", {"sec": 0, "nano": 3})]},
            None,
            {"a": None, "b": None, "c": None},
        ]  # fmt: skip
        assert made.to_pylist() == expected[3 - len(part) :]


def test_everything_else_stays_as_it_is() -> None:
    for array in (pa.array([1]), pa.array([1], pa.timestamp("ms")), pa.array([{"a": 1}])):
        assert moments_as_structs(array) is array
