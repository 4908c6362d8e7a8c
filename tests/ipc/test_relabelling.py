from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from fletching import ipc
from fletching.ipc.relabelling import relabelled

REE = pa.RunEndEncodedArray.from_arrays([1, 3], ["x", None])
PRICE = pa.array([Decimal("1.50"), None, Decimal("3.50")], pa.decimal128(5, 2))


def addresses(array: Any) -> list[int | None]:
    return [buffer and buffer.address for buffer in array.buffers()]


@pytest.mark.parametrize(
    ("array", "data_type"),
    [
        (pa.array([1, None]), pa.timestamp("us")),
        (pa.array(["a", None]), pa.binary()),
        (pa.array(["a" * 30, None], pa.string_view()), pa.binary_view()),
        (pa.array([[1], None], pa.list_(pa.int8())), pa.list_(pa.field("x", pa.uint8()))),
        (
            pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int8())),
            pa.list_(pa.struct([pa.field("k", pa.string(), nullable=False), ("v", pa.int8())])),
        ),
        (pa.array(["a", "b", "a"]).dictionary_encode(), pa.dictionary(pa.int32(), pa.binary())),
        (pa.array([b"u" * 16], pa.binary(16)), pa.uuid()),
    ],
    ids=str,
)
def test_the_same_buffers_are_another_type(array: Any, data_type: Any) -> None:
    other = relabelled(array, data_type)
    assert other.type == data_type
    other.validate(full=True)
    assert addresses(other) == addresses(array)
    assert relabelled(other, array.type).equals(array)
    assert relabelled(array[1:], data_type).equals(other[1:])


@pytest.mark.parametrize("odd", [pa.nulls(3), REE], ids=["null", "run-end encoded"])
def test_children_without_buffers_of_their_own_keep_their_neighbours_length(odd: Any) -> None:
    struct = pa.StructArray.from_arrays([odd, PRICE], ["odd", "price"])
    listed = pa.ListArray.from_arrays([0, 2, 3], struct)
    as_bytes = pa.list_(pa.struct([("odd", odd.type), ("price", pa.binary(16))]))
    other = relabelled(listed, as_bytes)
    other.validate(full=True)
    assert relabelled(other, listed.type).equals(listed)
    for values in (True, False):
        ipc.validate(pa.record_batch([listed], ["c"]), values=values)


def test_an_array_of_the_type_is_itself() -> None:
    assert relabelled(PRICE, PRICE.type) is PRICE
