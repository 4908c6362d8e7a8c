"""Values in another type: exactly, or not at all; every pair of flat types against Python's own numbers."""

from __future__ import annotations

import datetime as dt
import decimal
import itertools
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.folding import folded

from fletching.protocol.types.exact_values import Family, MisfitError, exact, family, related, ticks

NUMBERS = [
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    *(pa.float16(), pa.float32(), pa.float64()),
    *(pa.decimal32(5, 2), pa.decimal64(16, 0), pa.decimal128(20, 3), pa.decimal256(40, 5)),
]  # fmt: skip
interesting = st.sampled_from(
    [0, 1, -1, 127, 128, -128, -129, 255, 256, 2048, 2049, 65504, 65505, 2**24, 2**24 + 1, 2**31,
     2**53, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1, 999, 1000, 99999]
)  # fmt: skip


def holds(kind: pa.DataType, value: int) -> bool:
    """Whether a type has exactly this whole number."""
    if pa.types.is_floating(kind):
        with np.errstate(over="ignore"):
            near = np.float64(value).astype(kind.to_pandas_dtype())
        return bool(np.isfinite(near)) and int(near) == value
    try:
        made = pa.scalar(decimal.Decimal(value) if pa.types.is_decimal(kind) else value, kind)
    except (pa.ArrowException, OverflowError):
        return False
    return int(made.as_py()) == value


@folded("source, target", list(itertools.product(NUMBERS, NUMBERS)))
def test_whole_numbers(source: pa.DataType, target: pa.DataType) -> None:
    if not related(source, target):
        floats = {family(source), family(target)}
        assert floats == {Family.FLOAT, Family.DECIMAL}
        return
    for value in interesting.elements:  # type: ignore[attr-defined]  # of sampled_from
        if not holds(source, value):
            continue
        whole: Any = decimal.Decimal(value) if pa.types.is_decimal(source) else value
        if pa.types.is_floating(source):
            whole = float(value)
        array = pa.array([None, whole], source)
        if holds(target, value):
            result = exact(array, target)
            assert result.type == target
            assert result.null_count == 1
            assert int(result[1].as_py()) == value
        else:
            with pytest.raises(MisfitError):
                exact(array, target)


@pytest.mark.parametrize("value", [0.5, -1.25, math.nan, math.inf, -math.inf, 1e300])
def test_numbers_between_integers(value: float) -> None:
    array = pa.array([value])
    for kind in (pa.int64(), pa.uint8()):
        with pytest.raises(MisfitError):
            exact(array, kind)
    small = pa.array([value], pa.float64())
    if math.isnan(value) or math.isinf(value) or abs(value) < 10:
        assert repr(exact(small, pa.float16())[0].as_py()) == repr(value)
    else:
        with pytest.raises(MisfitError):
            exact(small, pa.float32())


@pytest.mark.parametrize(
    "signalling",
    [
        np.array([0x7C01], np.uint16).view(np.float16),
        np.array([0x7F800001], np.uint32).view(np.float32),
        np.array([0x7FF0000000000001], np.uint64).view(np.float64),
    ],
    ids=["float16", "float32", "float64"],
)
def test_a_signalling_nan_is_a_nan_and_warns_of_nothing(signalling: Any) -> None:
    array = pa.array(signalling)
    for kind in (pa.float16(), pa.float32(), pa.float64()):
        assert math.isnan(exact(array, kind)[0].as_py())
    with pytest.raises(MisfitError):
        exact(array, pa.int32())


@given(st.integers(-(2**63), 2**63 - 1))
def test_integers_as_floats(value: int) -> None:
    try:
        result = exact(pa.array([value]), pa.float64())[0].as_py()
    except MisfitError:
        assert int(float(value)) != value or float(value) >= 2.0**63
    else:
        assert int(result) == value


def naive(*parts: int) -> dt.datetime:
    return dt.datetime(*parts, tzinfo=dt.UTC).replace(tzinfo=None)  # type: ignore[misc,arg-type]


MOMENTS: list[tuple[Any, pa.DataType, pa.DataType, Any]] = [
    (dt.date(1969, 12, 31), pa.date32(), pa.timestamp("s"), naive(1969, 12, 31)),
    (naive(1969, 12, 31), pa.timestamp("ns"), pa.date32(), dt.date(1969, 12, 31)),
    (naive(1969, 12, 31, 1), pa.timestamp("s"), pa.date32(), None),
    (naive(2026, 1, 1, 0, 0, 1), pa.timestamp("us"), pa.timestamp("s"), naive(2026, 1, 1, 0, 0, 1)),
    (naive(2026, 1, 1, 0, 0, 0, 1), pa.timestamp("us"), pa.timestamp("ms"), None),
    (naive(9999, 1, 1), pa.timestamp("s"), pa.timestamp("ns"), None),
    (dt.date(9999, 1, 1), pa.date32(), pa.date64(), dt.date(9999, 1, 1)),
    (dt.time(1, 2, 3), pa.time64("us"), pa.time32("s"), dt.time(1, 2, 3)),
    (dt.time(1, 2, 3, 4), pa.time64("us"), pa.time32("ms"), None),
    (dt.timedelta(days=9), pa.duration("ms"), pa.duration("s"), dt.timedelta(days=9)),
]


@pytest.mark.parametrize(("value", "source", "target", "expected"), MOMENTS)
def test_moments(value: Any, source: pa.DataType, target: pa.DataType, expected: Any) -> None:
    array = pa.array([None, value], source)
    if expected is None:
        with pytest.raises(MisfitError):
            exact(array, target)
    else:
        assert exact(array, target).to_pylist() == [None, expected]


def test_what_a_coarser_unit_cannot_say_is_cut_towards_zero_when_asked() -> None:
    counts = pa.array([-1500, -1000, 1500, None], pa.int64()).view(pa.timestamp("ms"))
    assert ticks(counts, pa.timestamp("s"), truncate=True).view(pa.int64()).to_pylist() == [
        -1,
        -1,
        1,
        None,
    ]
    with pytest.raises(MisfitError, match="between"):
        ticks(counts, pa.timestamp("s"))


@pytest.mark.parametrize(
    ("source", "target", "can"),
    [
        (pa.string(), pa.large_binary(), True), (pa.string(), pa.int64(), False),
        (pa.timestamp("s"), pa.timestamp("s", "UTC"), False), (pa.binary(3), pa.binary(3), True),
        (pa.binary(3), pa.binary(4), False), (pa.bool_(), pa.int8(), False),
        (pa.list_(pa.int8()), pa.list_(pa.int8()), False), (pa.null(), pa.int8(), False),
    ],
)  # fmt: skip
def test_types_that_have_values_in_common(
    source: pa.DataType, target: pa.DataType, can: bool
) -> None:
    assert related(source, target) is can


def test_texts_and_bytes() -> None:
    assert exact(pa.array([b"\xc3\xa4"]), pa.string()).to_pylist() == ["ä"]
    with pytest.raises(MisfitError):
        exact(pa.array([b"\xff"]), pa.string())
    assert exact(pa.array(["ä"]), pa.binary()).to_pylist() == [b"\xc3\xa4"]
