from __future__ import annotations

import subprocess
import sys

import pyarrow as pa
import pytest
from tests.ipc.conftest import ARRAYS, EVERYTHING, stream_of

from fletching import ipc
from fletching.ipc.array_tree import (
    children_of,
    with_changed_children,
    with_null_indices,
    with_type_ids,
)
from fletching.ipc.encoding import BatchEncoder

NESTS = ["top", "list", "struct", "fixed list", "list view", "delta"]


UNION_OF_RUNS = pa.UnionArray.from_sparse(
    pa.array([0], pa.int8()), [pa.RunEndEncodedArray.from_arrays([1], pa.array([5]))]
)


def nested(array: pa.Array, nest: str) -> pa.Array:
    """An array without values, or one row that has none of them below it."""
    if nest == "list":
        return pa.ListArray.from_arrays([0, 0], array)
    if nest == "struct":
        return pa.StructArray.from_arrays([array], ["f"])
    if nest == "fixed list":
        return pa.FixedSizeListArray.from_arrays(array, 2)
    if nest == "list view":
        return pa.ListViewArray.from_arrays([0], [0], array)
    return array


# pyarrow follows null pointers in some of these, so the process has to live.
CHILD = """
import sys
import pyarrow as pa
from fletching import ipc
data = sys.stdin.buffer.read()
while data:
    batch, end = ipc.read_single_at(data)
    data = data[end:]
    assert batch.nbytes >= 0
    assert batch.get_total_buffer_size() >= 0
    assert batch.column(0).nbytes >= 0
    batch.to_pylist()
    ipc.validate(batch)
    batch.slice(0, 0).nbytes
    pa.Table.from_batches([batch]).nbytes
"""


@pytest.mark.parametrize("codec", [None, "zstd"])
def test_every_type_without_values_can_be_measured(codec: str | None) -> None:
    streams = []
    for array in [*ARRAYS.values(), UNION_OF_RUNS]:
        empty = array.slice(0, 0)
        for nest in NESTS[:5]:
            batch = pa.record_batch([nested(empty, nest)], names=["x"])
            streams.append(stream_of(batch, compression=codec))
    done = subprocess.run(
        [sys.executable, "-c", CHILD], input=b"".join(streams), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]


@pytest.mark.parametrize("mode", ["sparse", "dense"])
@pytest.mark.parametrize("nest", NESTS[:5])
def test_empty_unions_keep_their_values(mode: str, nest: str) -> None:
    union = ARRAYS[f"{mode}_union"].slice(0, 0)
    batch = pa.record_batch([nested(union, nest), nested(union, nest)], names=["x", "y"])
    (read,) = ipc.read_stream(stream_of(batch))
    assert read.schema == batch.schema
    assert read.equals(batch)
    assert read.nbytes >= 0


def test_unions_that_are_dictionary_values() -> None:
    union = ARRAYS["dense_union"].slice(0, 0)
    array = pa.DictionaryArray.from_arrays(pa.nulls(3, pa.int8()), union)
    (read,) = ipc.read_stream(stream_of(pa.record_batch({"x": array})))
    assert read.nbytes >= 0
    assert read["x"].null_count == 3


def test_children_are_put_together_again() -> None:
    for name, array in ARRAYS.items():
        data_type = array.type
        if not data_type.num_fields or isinstance(data_type, pa.BaseExtensionType):
            continue
        if pa.types.is_dictionary(data_type):
            continue
        assert len(children_of(array)) == data_type.num_fields, name
        again = with_changed_children(array, data_type, lambda child, _: child)
        again.validate(full=True)
        assert again.equals(array), name


def test_batches_without_unions_stay_as_they_are() -> None:
    names = [name for name in EVERYTHING.schema.names if "union" not in name]
    batch = EVERYTHING.select(names)
    assert with_type_ids(batch) is batch


WORDS = pa.dictionary(pa.int32(), pa.string())
NAMED = pa.struct([("a", WORDS), ("n", pa.int64())])


@pytest.mark.parametrize(
    "array",
    [
        pa.array([None, None], NAMED),
        pa.array([None] * 4, NAMED).slice(1, 2),
        pa.array([{"a": "x"}, None, None], NAMED).slice(1, 2),
        pa.array([None, None], pa.struct([("deep", NAMED)])),
        pa.array([None, [None], [None, None]], pa.list_(NAMED)),
        pa.array([[None]] * 4, pa.large_list(NAMED)).slice(1, 2),
        pa.array([None], pa.list_(WORDS, 2)),
        pa.array([[("k", None)], None], pa.map_(pa.string(), NAMED)),
    ],
    ids=lambda array: str(array.type)[:40] + f" {array.offset}",
)
def test_no_index_of_a_null_lies_outside_its_dictionary(array: pa.Array) -> None:
    """pyarrow makes such arrays, and calls them invalid."""
    batch = pa.record_batch([array], ["v"])
    made = with_null_indices(batch)
    made.validate(full=True)
    assert made.schema == batch.schema
    assert made.to_pylist() == batch.to_pylist()
    encoder = BatchEncoder(batch.schema)
    chunks = [chunk for message in encoder.encode(batch) for chunk in message]
    stream = b"".join([encoder.schema_message, *map(bytes, chunks), encoder.end_of_stream])
    (again,) = ipc.read_stream(stream)
    again.validate(full=True)
    assert again.to_pylist() == batch.to_pylist()


def test_an_index_that_is_seen_stays_where_it_is() -> None:
    assert with_null_indices(EVERYTHING) is EVERYTHING
    no_words = pa.array([], pa.string())
    outside = pa.DictionaryArray.from_arrays(pa.array([0, 0]), no_words, safe=False)
    hidden_once = pa.StructArray.from_arrays([outside], ["a"], mask=pa.array([True, False]))
    batch = pa.record_batch([hidden_once], ["v"])
    assert with_null_indices(batch) is batch


@pytest.mark.parametrize("nest", ["list", "struct", "list view"])
def test_dictionaries_of_nothing_but_null_can_be_sent(nest: str) -> None:
    """pyarrow dies where it is asked which rows of such a dictionary are null."""
    nulls = pa.DictionaryArray.from_arrays(pa.array([None, 0], pa.int8()), pa.nulls(1))
    batch = pa.record_batch([nested(nulls, nest)], ["x"])
    assert with_null_indices(batch) is batch
    assert ipc.read_stream(stream_of(batch))[0].to_pylist() == batch.to_pylist()
