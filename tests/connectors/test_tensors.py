"""Columns as tensors: the values, the type, and whose memory they are in."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fletching.errors import UsageError

torch = pytest.importorskip("torch")

from fletching.connectors import tensors  # noqa: E402  # after the skip

pytestmark = pytest.mark.engines

# PyTorch is not there when types are checked.
column_tensor: Any = tensors.column_tensor
stacked: Any = tensors.stacked


def tensor(array: pa.Array, fill: Any = None) -> Any:
    return column_tensor(pa.field("a", array.type), pa.chunked_array([array]), fill)


@pytest.mark.parametrize(
    "kind", [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.float32(), pa.float64()]
)
def test_numbers_keep_their_type(kind: pa.DataType) -> None:
    result = tensor(pa.array([1, 2, 3], kind))
    assert result.tolist() == [1, 2, 3]
    assert str(result.dtype).removeprefix("torch.") == {
        "float": "float32",
        "double": "float64",
    }.get(str(kind), str(kind))


def test_memory_is_shared_where_it_may_be_written_to() -> None:
    own = pa.allocate_buffer(4 * 8)
    memory = np.frombuffer(own, np.int64)
    memory[:] = range(4)
    array = pa.Array.from_buffers(pa.int64(), 3, [None, own], offset=1)
    result = tensor(array)
    assert result.tolist() == [1, 2, 3]
    memory[1] = 77
    assert result[0] == 77
    # Foreign memory is copied: a loop may change what it gets.
    foreign = pa.py_buffer(np.arange(4).tobytes())
    copied = tensor(pa.Array.from_buffers(pa.int64(), 4, [None, foreign]))
    copied[0] = 99
    assert np.frombuffer(foreign, np.int64)[0] == 0


def test_lists_of_fixed_size_are_dimensions() -> None:
    kind = pa.list_(pa.list_(pa.float32(), 2), 3)
    values = [[[n, n + 1], [n + 2, n + 3], [n + 4, n + 5]] for n in range(4)]
    result = tensor(pa.array(values, kind).slice(1))
    assert result.shape == (3, 3, 2)
    assert result.tolist() == values[1:]
    assert tensor(pa.array([], kind)).shape == (0, 3, 2)


def test_moments_are_numbers() -> None:
    assert tensor(pa.array([dt.date(1970, 1, 3)])).tolist() == [2]
    moment = dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC)
    assert tensor(pa.array([moment], pa.timestamp("ms", "UTC"))).tolist() == [1000]
    assert tensor(pa.array([dt.timedelta(seconds=2)], pa.duration("us"))).tolist() == [2_000_000]
    assert tensor(pa.array([dt.time(0, 0, 3)], pa.time32("s"))).tolist() == [3]
    assert tensor(pa.array([True, False])).tolist() == [True, False]


def test_nulls() -> None:
    floats = tensor(pa.array([1.0, None]))
    assert floats[0] == 1
    assert torch.isnan(floats[1])
    assert tensor(pa.array([1.0, None]), 0.0).tolist() == [1, 0]
    assert tensor(pa.array([1, None]), -1).tolist() == [1, -1]
    with pytest.raises(UsageError, match=r"column a has nulls.*fill_null=\{'a'"):
        tensor(pa.array([1, None]))


@pytest.mark.parametrize(
    "array",
    [
        pa.array(["x", None]),
        pa.array([b"x"]),
        pa.array([[1, 2], [3]]),
        pa.array([{"x": 1}]),
        pa.array([[1, 2], None], pa.list_(pa.int64(), 2)),
    ],
    ids=lambda each: str(each.type),
)
def test_what_no_tensor_holds_is_a_list(array: pa.Array) -> None:
    assert tensor(array) == array.to_pylist()


def test_chunks_are_joined() -> None:
    column = pa.chunked_array([pa.array([1, 2]), pa.array([3])])
    assert column_tensor(pa.field("a", pa.int64()), column, None).tolist() == [1, 2, 3]
    empty = pa.chunked_array([], pa.int64())
    assert column_tensor(pa.field("a", pa.int64()), empty, None).tolist() == []


def test_decoded_blobs_are_stacked_if_they_are_alike() -> None:
    assert stacked([torch.zeros(2, 3), torch.ones(2, 3)]).shape == (2, 2, 3)
    for values in ([torch.zeros(2), torch.zeros(3)], [torch.zeros(2), None], [b"x"], []):
        assert stacked(values) is values
