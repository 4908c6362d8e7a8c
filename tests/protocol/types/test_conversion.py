"""Conversions: values survive, lossy or guessed ones are refused, layouts are told apart."""

from __future__ import annotations

import decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fletching.errors import UsageError
from fletching.protocol.types.blob_type import blob
from fletching.protocol.types.conversion import (
    Relation,
    convert,
    convert_for_reply,
    refusal,
    relation,
    same_layout,
)

T = pa.timestamp

# (array, the table's type): the values come back the same
CONVERSIONS: list[tuple[Any, Any]] = [
    (pa.array([1, None, -3], pa.int8()), pa.int64()),
    (pa.array([1, None], pa.uint64()), pa.int32()),
    (pa.array([1, 2], pa.int64()), pa.decimal128(20, 2)),
    (pa.array([1, 2], pa.int32()), pa.float64()),
    (pa.array([1.5, None], pa.float32()), pa.float64()),
    (pa.array([decimal.Decimal("1.50")], pa.decimal128(5, 2)), pa.decimal256(40, 4)),
    (pa.array(["a", None], pa.large_string()), pa.string()),
    (pa.array(["a", None], pa.string_view()), pa.string()),
    (pa.array(["a", None]), pa.large_string()),
    (pa.array(["a", None]), pa.string_view()),
    (pa.array([b"a", None], pa.binary(1)), pa.binary()),
    (pa.array(["a", None]).dictionary_encode(), pa.string()),
    (pa.array(["a", None]), pa.dictionary(pa.int8(), pa.string())),
    (pa.array(["a", "b"]).dictionary_encode(), pa.dictionary(pa.int8(), pa.large_string())),
    (pa.array([None, None], pa.null()), pa.list_(pa.int64())),
    (pa.array([1, 2], T("ms")), T("ns")),
    (pa.array([1_000_000], T("ns")), T("ms")),
    (pa.array([1, 2], T("ms", "UTC")), T("us", "UTC")),
    (pa.array([86_400_000], pa.date64()), pa.date32()),
    (pa.array([1000], pa.time32("ms")), pa.time64("us")),
    (pa.array([[1], None, []], pa.list_(pa.int8())), pa.large_list(pa.int64())),
    (pa.array([[1], None, []], pa.large_list(pa.int64())), pa.list_(pa.int64())),
    (pa.array([[1, 2], None], pa.list_(pa.int8(), 2)), pa.list_(pa.int64())),
    (pa.array([["a"], None], pa.list_(pa.large_string())), pa.list_(pa.string())),
    (pa.array([None, ["a"], None, None, [None]]), pa.list_(pa.string_view(), 1)),
    (pa.array([["a", "b"], None]), pa.list_(pa.dictionary(pa.int8(), pa.string()), 2)),
    (pa.array([None, [], []], pa.list_(pa.int8())), pa.list_(pa.int64(), 0)),
    (
        pa.array([{"B": 1, "a": "x"}, None], pa.struct([("B", pa.int8()), ("a", pa.string())])),
        pa.struct([("a", pa.large_string()), ("b", pa.int64()), ("c", pa.float64())]),
    ),
    (
        pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int8())),
        pa.map_(pa.large_string(), pa.int64()),
    ),
    (
        pa.array([[{"x": ["a"]}], None], pa.list_(pa.struct([("x", pa.list_(pa.string()))]))),
        pa.large_list(pa.struct([("x", pa.large_list(pa.large_string()))])),
    ),
]


def plain(array: Any) -> Any:
    def lower(value: Any) -> Any:
        if isinstance(value, dict):
            return {key.lower(): lower(item) for key, item in value.items() if item is not None}
        if isinstance(value, list):
            return [lower(item) for item in value]
        if hasattr(value, "timestamp"):
            return value.timestamp()
        return value

    return [lower(value) for value in array.to_pylist()]


@pytest.mark.parametrize(
    ("array", "target"), CONVERSIONS, ids=lambda item: str(getattr(item, "type", item))[:40]
)
def test_values_survive(array: Any, target: Any) -> None:
    assert refusal(array.type, target) is None
    converted = convert(array, target, "c")
    assert converted.type == target
    converted.validate(full=True)
    assert plain(converted) == plain(array)
    # a slice carries its offset, and nothing of its neighbours
    if len(array) > 1:
        assert plain(convert(array[1:], target, "c")) == plain(array[1:])
    assert len(convert(array[:0], target, "c")) == 0


@pytest.mark.parametrize(
    ("array", "target"),
    [
        (pa.array([300], pa.int64()), pa.int8()),
        (pa.array([-1], pa.int64()), pa.uint8()),
        (pa.array([2**60 + 1], pa.int64()), pa.float64()),
        (pa.array([1.5]), pa.int64()),
        (pa.array([float("nan")]), pa.int64()),
        (pa.array([0.1]), pa.float32()),
        (pa.array([1e39]), pa.float32()),
        (pa.array([b"\xff"]), pa.string()),
        (pa.array([1_500_000], T("ns")), T("ms")),
        (pa.array([decimal.Decimal("1.55")], pa.decimal128(5, 2)), pa.decimal128(5, 1)),
        (pa.array([[1, 2], [3]], pa.list_(pa.int64())), pa.list_(pa.int64(), 2)),
    ],
)
def test_values_that_do_not_fit_are_refused(array: Any, target: Any) -> None:
    assert refusal(array.type, target) is None
    with pytest.raises(UsageError, match="column 'c'"):
        convert(array, target, "c")


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (pa.string(), pa.int64()),
        (pa.int64(), pa.string()),
        (pa.float64(), pa.decimal128(10, 2)),
        (pa.decimal128(10, 2), pa.float64()),
        (T("ms"), T("ms", "UTC")),
        (T("ms", "UTC"), T("ms")),
        (pa.date32(), T("ms", "UTC")),
        (pa.int64(), T("ms")),
        (pa.bool_(), pa.int8()),
        (pa.int64(), pa.list_(pa.int64())),
        (pa.struct([("a", pa.int8())]), pa.struct([("b", pa.int8())])),
        (
            pa.struct([("a", pa.int8())]),
            pa.struct([("a", pa.int8()), pa.field("b", pa.int8(), nullable=False)]),
        ),
        (pa.struct([("a", pa.int8()), ("A", pa.int8())]), pa.struct([("a", pa.int8())])),
        (pa.map_(pa.string(), pa.int8()), pa.map_(pa.int8(), pa.int8())),
    ],
    ids=str,
)
def test_types_that_would_be_guessed_are_refused(source: Any, target: Any) -> None:
    assert relation(source, target) is Relation.REFUSED


@pytest.mark.parametrize(
    ("left", "other", "same"),
    [
        (pa.int64(), pa.int64(), True),
        (pa.int64(), pa.uint64(), False),
        (blob(), pa.binary(), True),
        (pa.list_(blob()), pa.list_(pa.field("element", pa.binary())), True),
        (pa.list_(pa.int8()), pa.large_list(pa.int8()), False),
        (pa.list_(pa.int8(), 2), pa.list_(pa.int8(), 3), False),
        (pa.struct([("a", pa.int8())]), pa.struct([("A", pa.int8())]), True),
        (pa.struct([("a", pa.int8()), ("b", pa.int8())]), pa.struct([("b", pa.int8()), ("a", pa.int8())]), False),
        (pa.struct([("a", pa.int8())]), pa.struct([("a", pa.int8()), ("b", pa.int8())]), False),
        (pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int16(), pa.string()), False),
        (pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int8(), pa.string(), ordered=True), True),
        (pa.map_(pa.string(), pa.int8()), pa.map_(pa.string(), pa.int8()), True),
        (pa.map_(pa.string(), pa.int8()), pa.map_(pa.string(), pa.int16()), False),
        (T("ms"), T("us"), False),
        (pa.decimal128(5, 2), pa.decimal128(6, 2), False),
    ],
    ids=str,
)  # fmt: skip
def test_layouts(left: Any, other: Any, same: bool) -> None:
    assert same_layout(left, other) is same
    assert same_layout(other, left) is same


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(st.none(), st.lists(st.one_of(st.none(), st.integers(-100, 100)), max_size=4)),
        max_size=8,
    ),
    st.integers(0, 8),
)
def test_lists_survive_any_slice(values: list[Any], start: int) -> None:
    array = pa.array(values, pa.list_(pa.int16()))[start:]
    converted = convert(array, pa.large_list(pa.int64()), "c")
    converted.validate(full=True)
    assert converted.to_pylist() == array.to_pylist()


def test_what_stands_under_a_null_is_no_value() -> None:
    """It need not fit: nobody can see it."""
    hidden = pa.StructArray.from_arrays(
        [pa.array([1, 300]), pa.array([1.5, 0.1])],
        names=["a", "b"],
        mask=pa.array([False, True]),
    )
    target = pa.struct([("a", pa.int8()), ("b", pa.float32())])
    for array, wanted in (
        (hidden, target),
        (
            pa.ListArray.from_arrays([0, 1, 2], hidden, mask=pa.array([False, True])),
            pa.large_list(target),
        ),
        (pa.FixedSizeListArray.from_arrays(hidden, 2), pa.list_(target)),
    ):
        converted = convert(array, wanted, "c")
        converted.validate(full=True)
        assert converted.to_pylist() == array.to_pylist()
    outside = pa.ListArray.from_arrays([1, 2], pa.array([300, 1, 300]))
    assert convert(outside, pa.list_(pa.int8()), "c").to_pylist() == [[1]]


@pytest.mark.parametrize(
    ("count", "source", "target", "expected"),
    [
        (1_500, "us", "ms", 1),
        (-1_500, "us", "ms", -1),
        (-1_000, "us", "ms", -1),
        (-1, "ns", "s", 0),
        (-(2**63), "ns", "s", -9_223_372_036),
        (7, "s", "ns", 7_000_000_000),
    ],
)
def test_replies_cut_units_of_time_towards_zero(
    count: int, source: str, target: str, expected: int
) -> None:
    array = pa.array([count, None], pa.int64()).view(T(source))
    result = convert_for_reply(array, T(target), "c")
    assert result.view(pa.int64()).to_pylist() == [expected, None]
    if count % 1000:
        with pytest.raises(UsageError):
            convert(array, T(target, "UTC" if source == "s" else None), "c")


def test_replies_leave_out_what_odps_lacks() -> None:
    zoned = pa.array([1], T("us", "Asia/Tokyo"))
    assert convert_for_reply(zoned, T("ns"), "c").view(pa.int64()).to_pylist() == [1000]
    assert convert_for_reply(pa.array([5], pa.time64("ns")), pa.int64(), "c").to_pylist() == [5]
    with pytest.raises(UsageError, match="'c' has values that do not fit"):
        convert_for_reply(pa.array([2**62], pa.int64()).view(T("s")), T("ns"), "c")
    with pytest.raises(UsageError):
        convert_for_reply(pa.array(["x"]), pa.int64(), "c")


def test_a_reply_has_the_extension_type_that_was_asked_for() -> None:
    stored = pa.array([b"a", None], pa.large_binary())
    sent = convert_for_reply(stored, blob(), "c")
    assert sent.type == blob()
    assert sent.storage.to_pylist() == [b"a", None]


def test_booleans_in_bytes_and_in_bits() -> None:
    bits = pa.array([True, None, False])
    octets = pa.ExtensionArray.from_storage(pa.bool8(), pa.array([7, None, 0], pa.int8()))
    assert convert(octets, pa.bool_(), "x").equals(bits)
    assert convert_for_reply(octets, pa.bool_(), "x").equals(bits)
    assert convert(bits, pa.bool8(), "x").storage.to_pylist() == [1, None, 0]
    listed = pa.list_(pa.bool_())
    assert convert(pa.array([[True, None]], listed), pa.list_(pa.bool8()), "x").to_pylist() == [
        [True, None]
    ]
