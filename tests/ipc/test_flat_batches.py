"""Messages of flat columns: what pyarrow reads of them, and of which memory they are made."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ipc.conftest import ARRAYS

from fletching.ipc.encoding import encode_schema
from fletching.ipc.flat_batches import encode_flat_batch
from fletching.ipc.message import END_OF_STREAM
from fletching.ipc.type_tree import is_flat

FLAT = {
    name: array
    for name, array in ARRAYS.items()
    if is_flat(array.type)
    and not pa.types.is_null(array.type)
    and array.type not in {pa.string_view(), pa.binary_view()}
}


def read_back(message: list[Any], schema: pa.Schema) -> pa.RecordBatch:
    stream = b"".join([encode_schema(schema), *map(bytes, message), END_OF_STREAM])
    with pa.ipc.open_stream(stream) as reader:
        (batch,) = list(reader)
    batch.validate(full=True)
    return batch


@given(st.data(), st.sampled_from(sorted(FLAT)), st.booleans())
def test_pyarrow_reads_the_same_rows(data: st.DataObject, name: str, nulls: bool) -> None:
    array = FLAT[name] if nulls else FLAT[name].drop_null()
    # As decoding and choosing rows give it, which begins at its own first row.
    array = pa.concat_arrays([array, array, array])
    start = data.draw(st.integers(0, len(array)))
    rows = data.draw(st.integers(0, len(array) - start))
    whole = pa.record_batch([array.slice(start, rows)], ["column"])
    message = encode_flat_batch(whole)
    if message is None:
        assert start, "only what begins inside its buffers takes pyarrow's writer"
        return
    assert read_back(message, whole.schema) == whole
    assert all(memoryview(part).nbytes % 8 == 0 for part in message[:1])


def test_columns_of_all_kinds_are_one_message() -> None:
    names = sorted(FLAT)[:15]
    whole = pa.record_batch([FLAT[name] for name in names], names)
    message = encode_flat_batch(whole)
    assert message is not None
    assert read_back(message, whole.schema) == whole


def test_values_are_not_copied() -> None:
    whole = pa.record_batch({"n": pa.array(range(1000)), "t": pa.array(["x" * 9] * 1000)})
    part = whole.slice(0, 900)
    message = encode_flat_batch(part)
    assert message is not None
    addresses = {pa.py_buffer(piece).address for piece in message}
    assert addresses >= {
        whole["n"].buffers()[1].address,
        whole["t"].buffers()[1].address,
        whole["t"].buffers()[2].address,
    }
    assert sum(memoryview(piece).nbytes for piece in message) < part.nbytes + 600


def test_a_slice_of_numbers_has_its_own_rows_alone() -> None:
    whole = pa.record_batch({"n": pa.array(range(1000))})
    message = encode_flat_batch(whole.slice(10, 5))
    assert message is not None
    assert read_back(message, whole.schema)["n"].to_pylist() == [10, 11, 12, 13, 14]
    assert memoryview(message[1]).nbytes == 40


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1]]),
        pa.array(["a"]).dictionary_encode(),
        pa.nulls(1),
        pa.array(["a"], pa.string_view()),
        pa.array([True, False]).slice(1),
        pa.array([1, None, 3]).slice(1),
        pa.array(["a", "b"]).slice(1),
    ],
)
def test_what_takes_another_writer(column: pa.Array) -> None:
    assert encode_flat_batch(pa.record_batch([column], ["column"])) is None


def test_many_columns_and_none_take_another_writer() -> None:
    assert encode_flat_batch(pa.record_batch({str(n): [n] for n in range(16)})) is None
    assert encode_flat_batch(pa.record_batch({"n": [1]}).select([])) is None


def test_bytes_behind_the_offsets_are_left_out() -> None:
    """A writer may have counted any number of bytes into the buffer."""
    offsets = pa.array([0, 1, 3], pa.int32()).buffers()[1].to_pybytes()[:12] + b"rest!"
    text = pa.StringArray.from_buffers(2, pa.py_buffer(offsets), pa.py_buffer(b"abc"))
    whole = pa.record_batch([text], ["t"])
    message = encode_flat_batch(whole)
    assert message is not None
    assert read_back(message, whole.schema)["t"].to_pylist() == ["a", "bc"]
