from __future__ import annotations

import decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.folding import folded
from tests.ipc.conftest import ARRAYS, EVERYTHING, stream_of

from fletching import ipc
from fletching.errors import InvalidDataError, LimitExceededError
from fletching.ipc.validation import (
    SMALL_BYTES,
    BatchValidator,
    _reinterpreted,
    has_constrained,
    relaxed_type,
)


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
    for data_type, text in ((pa.binary(), pa.string()), (pa.large_binary(), pa.large_string())):
        array = pa.array([b"\xff\xfe"], data_type).view(text)
        for nested in (array, pa.StructArray.from_arrays([array, pa.array([1])], ["t", "n"])):
            with pytest.raises(InvalidDataError):
                ipc.validate(pa.record_batch({"a": nested}), values=False)


def test_which_types_hold_text() -> None:
    for text in (pa.string(), pa.large_string(), pa.string_view()):
        assert has_constrained(text, text=True)
        assert has_constrained(pa.list_(text), text=True)
        assert not has_constrained(text)
    for other in (pa.binary(), pa.large_binary(), pa.binary_view(), pa.int8()):
        assert not has_constrained(other, text=True)


def test_everything_valid_passes() -> None:
    ipc.validate(EVERYTHING)
    ipc.validate(EVERYTHING, values=False)


@folded("name", ARRAYS)
@folded("text", [False, True])
def test_relaxed_types_have_the_same_layout(name: str, text: bool) -> None:
    batch = pa.record_batch({"x": ARRAYS[name]})
    relaxed = relaxed_type(batch.schema.types[0], text=text)
    again = _reinterpreted(batch, pa.schema([pa.field("x", relaxed)]))
    assert again.schema.types == [relaxed]
    again.validate(full=True)
    assert len(again) == len(batch)


def childless() -> dict[str, pa.Array]:
    """Children that have no buffers of their own, of which `Array.view` loses count."""
    return {
        "null": pa.nulls(3),
        "run_end_encoded": pa.RunEndEncodedArray.from_arrays(
            pa.array([2, 3], pa.int32()), pa.array(["r", "s"])
        ),
        "run_end_encoded_null": pa.RunEndEncodedArray.from_arrays(
            pa.array([3], pa.int16()), pa.nulls(1)
        ),
        "empty_struct": pa.array([{}, {}, {}], pa.struct([])),
    }


def constrained() -> dict[str, pa.Array]:
    return {
        "decimal": pa.array([decimal.Decimal("1.5"), None, decimal.Decimal("3.5")]),
        "decimal256": pa.array([decimal.Decimal("1.5")] * 3, pa.decimal256(40, 2)),
        "date64": pa.array([0, 86_400_000, None], pa.int64()).view(pa.date64()),
        "time32": pa.array([1, 2, 3], pa.time32("ms")),
        "time64": pa.array([1, None, 3], pa.time64("ns")),
    }


@folded("other", childless())
@folded("name", constrained())
@folded("nest", ["struct", "list", "fixed list", "map", "union", "deep"])
@folded("first", [False, True])
def test_constrained_types_beside_children_without_buffers(
    other: str, name: str, nest: str, first: bool
) -> None:
    pair = [childless()[other], constrained()[name]]
    struct = pa.StructArray.from_arrays(pair[:: 1 if first else -1], ["a", "b"])
    array = {
        "struct": lambda: struct,
        "list": lambda: pa.ListArray.from_arrays([0, 2, 3], struct),
        "fixed list": lambda: pa.FixedSizeListArray.from_arrays(struct, 3),
        "map": lambda: pa.MapArray.from_arrays([0, 1, 3], pa.array(list("abc")), struct),
        "union": lambda: pa.UnionArray.from_sparse(pa.array([0, 1, 0], pa.int8()), pair),
        "deep": lambda: pa.ListArray.from_arrays(
            [0, 1], pa.StructArray.from_arrays([pa.ListArray.from_arrays([0, 3], struct)], ["l"])
        ),
    }[nest]()
    batch = pa.record_batch({"x": array})
    for values in (False, True):
        (read,) = ipc.read_stream(stream_of(batch), validate_values=values)
        assert read.equals(batch)
        ipc.validate(batch, values=values)
    # However large the batch is.
    BatchValidator(batch.schema).check(batch)
    BatchValidator(batch.schema, text=False).check(batch, 1 << 30)


@pytest.mark.parametrize("size", [None, 0, SMALL_BYTES, SMALL_BYTES + 1])
@pytest.mark.parametrize("name", INVALID_VALUES)
def test_the_size_of_a_batch_does_not_change_the_verdict(size: int | None, name: str) -> None:
    batch = pa.record_batch({"a": INVALID_VALUES[name], "t": ["x"]})
    BatchValidator(batch.schema).check(batch, size)
    with pytest.raises(InvalidDataError):
        BatchValidator(batch.schema, values=True).check(batch, size)
    bad = pa.record_batch({"a": INVALID_VALUES[name], "t": pa.array([b"\xff"]).view(pa.string())})
    with pytest.raises(InvalidDataError):
        BatchValidator(bad.schema).check(bad, size)
    BatchValidator(bad.schema, text=False).check(bad, size)
    unsafe = pa.record_batch({"a": INVALID_VALUES[name].take([0, 0]), "t": broken_offsets()})
    for text in (False, True):
        with pytest.raises(InvalidDataError):
            BatchValidator(unsafe.schema, text=text).check(unsafe, size)


def test_relaxed_types_reach_below_extensions_and_dictionaries() -> None:
    inner = pa.list_(pa.date64())
    assert relaxed_type(inner) == pa.list_(pa.binary(8))
    assert relaxed_type(pa.dictionary(pa.int8(), pa.decimal128(5, 2))) == pa.dictionary(
        pa.int8(), pa.binary(16)
    )
    tensor = pa.fixed_shape_tensor(pa.time64("us"), [2])
    assert relaxed_type(tensor) == pa.list_(pa.field("item", pa.binary(8)), 2)


def repeated_view(text: str, count: int) -> pa.Array:
    _, view, *data = pa.array([text], pa.string_view()).buffers()
    views = pa.py_buffer(view.to_pybytes()[:16] * count)
    return pa.Array.from_buffers(pa.string_view(), count, [None, views, *data])


@pytest.mark.parametrize("nest", ["flat", "struct", "list", "dictionary", "runs"])
def test_views_that_show_one_text_over_and_over(nest: str) -> None:
    """Sharing is what views are for; but each view is checked, and checking has to end."""
    for text, count, right in [("x" * 100, 100_000, True), ("x" * (4 << 20), 2_000, False)]:
        array: Any = repeated_view(text, count)
        if nest == "struct":
            array = pa.StructArray.from_arrays([array], ["a"])
        elif nest == "list":
            array = pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), array)
        elif nest == "dictionary":
            array = pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), array)
        elif nest == "runs":
            array = pa.RunEndEncodedArray.from_arrays(
                pa.array(range(1, count + 1), pa.int32()), array
            )
        batch = pa.RecordBatch.from_arrays([array], ["v"])
        if right:
            ipc.validate(batch)
        else:
            with pytest.raises(LimitExceededError, match="too often"):
                ipc.validate(batch)
