from __future__ import annotations

import decimal

import numpy as np
import pyarrow as pa
import pytest
from tests.ipc.conftest import ARRAYS, EVERYTHING

from fletching import ipc
from fletching.errors import InvalidDataError
from fletching.ipc.validation import relaxed_type


def raw(values: list[int], data_type: pa.DataType) -> pa.Array:
    width = {64: pa.int64(), 32: pa.int32()}[data_type.bit_width]
    return pa.array(values, width).view(data_type)


def too_precise() -> pa.Array:
    value = pa.array([decimal.Decimal("123456.78")])
    return pa.Array.from_buffers(pa.decimal128(3, 2), 1, value.buffers())


INVALID_VALUES = {
    "date64": raw([1], pa.date64()),
    "time32": raw([-1], pa.time32("s")),
    "time64": raw([1 << 60], pa.time64("us")),
    "decimal128": too_precise(),
}


@pytest.mark.parametrize("name", INVALID_VALUES)
@pytest.mark.parametrize("nest", ["flat", "list", "struct", "dictionary"])
def test_values_are_checked_by_choice_only(name: str, nest: str) -> None:
    array = INVALID_VALUES[name]
    nested = {
        "flat": lambda: array,
        "list": lambda: pa.ListArray.from_arrays([0, 1], array),
        "struct": lambda: pa.StructArray.from_arrays([array], ["a"]),
        "dictionary": lambda: pa.DictionaryArray.from_arrays(pa.array([0]), array),
    }[nest]()
    batch = pa.record_batch({"a": nested})
    ipc.validate(batch, values=False)
    with pytest.raises(InvalidDataError) as caught:
        ipc.validate(batch)
    # No data in messages: the offending value is not quoted.
    assert "not shown" in str(caught.value)
    assert "12345678" not in str(caught.value)


def broken_offsets() -> pa.Array:
    data = pa.py_buffer(b"abc")
    return pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(np.array([0, 100, 3], np.int32)), data]
    )


@pytest.mark.parametrize("values", [False, True])
def test_memory_safety_is_always_checked(values: bool) -> None:
    with pytest.raises(InvalidDataError):
        ipc.validate(pa.record_batch({"a": broken_offsets()}), values=values)
    mixed = pa.StructArray.from_arrays([broken_offsets(), raw([0, 0], pa.date64())], ["s", "d"])
    with pytest.raises(InvalidDataError):
        ipc.validate(pa.record_batch({"a": mixed}), values=values)


def test_text_must_be_utf8_on_both_levels() -> None:
    array = pa.array([b"\xff\xfe"]).view(pa.string())
    with pytest.raises(InvalidDataError):
        ipc.validate(pa.record_batch({"a": array}), values=False)


def test_everything_valid_passes() -> None:
    ipc.validate(EVERYTHING)
    ipc.validate(EVERYTHING, values=False)


@pytest.mark.parametrize("name", ARRAYS)
def test_relaxed_types_have_the_same_layout(name: str) -> None:
    array = ARRAYS[name]
    relaxed = relaxed_type(array.type)
    if relaxed == array.type:
        return
    viewed = array.view(relaxed)
    assert len(viewed) == len(array)
    viewed.validate(full=True)


def test_relaxed_types_reach_below_extensions_and_dictionaries() -> None:
    inner = pa.list_(pa.date64())
    assert relaxed_type(inner) == pa.list_(pa.binary(8))
    assert relaxed_type(pa.dictionary(pa.int8(), pa.decimal128(5, 2))) == pa.dictionary(
        pa.int8(), pa.binary(16)
    )
    tensor = pa.fixed_shape_tensor(pa.time64("us"), [2])
    assert relaxed_type(tensor) == pa.list_(pa.field("item", pa.binary(8)), 2)
