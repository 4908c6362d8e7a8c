from __future__ import annotations

import decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ipc.conftest import ARRAYS, messages_of, stream_of

from fletching import ipc
from fletching.errors import InvalidDataError, LimitExceededError, MalformedFrameError
from fletching.ipc import lowlevel
from fletching.ipc.dictionaries import GrowingArray, attach, storage_type

DELTAS = {"emit_dictionary_deltas": True}
TYPES = [
    pa.string(), pa.binary(), pa.large_string(), pa.string_view(), pa.int16(), pa.float64(),
    pa.timestamp("us"), pa.binary(3), pa.bool_(), pa.list_(pa.int16()), pa.decimal128(5, 1),
]  # fmt: skip


def values_of(data_type: pa.DataType, count: int, start: int = 0) -> pa.Array:
    numbers = range(start, start + count)
    if pa.types.is_list(data_type):
        return pa.array([[n, n] for n in numbers], data_type)
    if pa.types.is_boolean(data_type):
        return pa.array([n % 2 == 0 for n in numbers], data_type)
    if pa.types.is_decimal(data_type):
        return pa.array([decimal.Decimal(n) for n in numbers], data_type)
    if pa.types.is_primitive(data_type):
        return pa.array(list(numbers), pa.int64()).cast(data_type)
    return pa.array([f"{n:03}" for n in numbers]).cast(pa.binary()).cast(data_type)


@pytest.mark.parametrize("data_type", TYPES, ids=str)
@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=8), asked=st.integers(0, 255))
def test_a_growing_array_is_the_concatenation(
    data_type: pa.DataType, lengths: list[int], asked: int
) -> None:
    whole = values_of(data_type, 20 + sum(lengths))
    growing = GrowingArray(whole.slice(0, 20))
    end = 20
    handed_out = []
    for index, length in enumerate(lengths):
        growing.append(whole.slice(end, length))
        end += length
        if asked >> index & 1:
            handed_out.append((end, growing.array))
    handed_out.append((end, growing.array))
    for length, array in handed_out:
        array.validate(full=True)
        assert array.equals(whole.slice(0, length))


def test_nulls_among_the_values() -> None:
    growing = GrowingArray(pa.array(["a", "b"]))
    growing.append(pa.array(["c"]))
    assert growing.array.to_pylist() == ["a", "b", "c"]
    growing.append(pa.array([None, "d"]))
    assert growing.array.to_pylist() == ["a", "b", "c", None, "d"]
    growing.append(pa.array(["e"]))
    assert growing.array.to_pylist() == ["a", "b", "c", None, "d", "e"]


def with_deltas(count: int, first: int, *, batches: bool) -> bytes:
    """A stream of one dictionary of ``first`` values and ``count`` deltas of one value."""
    words = pa.array([f"{n:06}" for n in range(first + count)])
    result = []
    for end in range(first, first + count + 1):
        indices = pa.array([end - 1], pa.int32())
        result.append(pa.record_batch({"d": pa.DictionaryArray.from_arrays(indices, words[:end])}))
    stream = stream_of(result, **DELTAS)
    if batches:
        return stream
    all_messages = messages_of(stream)
    kept = [m for m in all_messages if m.type is not lowlevel.MessageType.RECORD_BATCH]
    kept += all_messages[-1:]
    return b"".join(bytes(chunk) for m in kept for chunk in m.frame()) + lowlevel.END_OF_STREAM


@pytest.mark.parametrize("data_type", TYPES[:2] + TYPES[4:8], ids=str)
def test_deltas_are_added_in_place(data_type: pa.DataType) -> None:
    """Memory doubles, so that a value is copied a few times, however many deltas there are."""
    whole = values_of(data_type, 1000)
    growing = GrowingArray(whole.slice(0, 1))
    positions = set()
    for end in range(1, 1000):
        growing.append(whole.slice(end, 1))
        positions.add(growing.array.buffers()[-1].address)
    assert growing.array.equals(whole)
    assert len(positions) <= 12


def test_deltas_are_joined_when_they_are_used() -> None:
    (last,) = ipc.read_stream(with_deltas(400, 3, batches=False))
    assert last["d"].to_pylist() == ["000402"]


def test_earlier_batches_keep_the_dictionary_they_had() -> None:
    data = with_deltas(30, 5, batches=True)
    batches = ipc.read_stream(data)
    expected = list(pa.ipc.open_stream(data))
    assert list(batches) == expected
    for batch, end in zip(batches, range(5, 36), strict=True):
        assert len(batch["d"].dictionary) == end
        batch["d"].dictionary.validate(full=True)


def test_a_replaced_dictionary_starts_anew() -> None:
    def tagged(values: list[str]) -> pa.RecordBatch:
        indices = pa.array([len(values) - 1], pa.int8())
        return pa.record_batch({"d": pa.DictionaryArray.from_arrays(indices, values)})

    batches = [tagged(["a"]), tagged(["a", "b"]), tagged(["z"]), tagged(["z", "y"])]
    assert list(ipc.read_stream(stream_of(batches, **DELTAS))) == batches


def test_a_delta_needs_its_dictionary() -> None:
    schema, _, first, delta, *_ = messages_of(with_deltas(2, 3, batches=True))
    decoder = lowlevel.BatchDecoder(schema)
    with pytest.raises(MalformedFrameError, match="came before the dictionary"):
        decoder.decode(delta)
    with pytest.raises(InvalidDataError, match="came before dictionary 0"):
        decoder.decode(first)


def test_deltas_count_towards_the_limit() -> None:
    data = with_deltas(100, 3, batches=True)
    with pytest.raises(LimitExceededError, match="dictionaries take too many bytes"):
        ipc.read_stream(data, limits=ipc.Limits(max_dictionary_bytes=1000))
    assert ipc.read_stream(data, limits=ipc.Limits(max_dictionary_bytes=10_000))


def invalid_values() -> dict[str, pa.Array]:
    return {
        "date64": pa.array([1], pa.int64()).view(pa.date64()),
        "time32": pa.array([-1], pa.int32()).view(pa.time32("s")),
        "decimal128": pa.Array.from_buffers(
            pa.decimal128(3, 2), 1, pa.array([decimal.Decimal("123456.78")]).buffers()
        ),
    }


@pytest.mark.parametrize("name", invalid_values())
@pytest.mark.parametrize("nest", ["flat", "struct", "list", "delta"])
def test_values_of_dictionaries_are_validated_too(name: str, nest: str) -> None:
    bad = invalid_values()[name]
    if nest == "struct":
        bad = pa.StructArray.from_arrays([bad], ["a"])
    elif nest == "list":
        bad = pa.ListArray.from_arrays([0, 1], bad)
    batch = pa.record_batch({"d": pa.DictionaryArray.from_arrays(pa.array([0]), bad)})
    batches = [batch]
    if nest == "delta":
        good = pa.Array.from_buffers(bad.type, 1, [None, pa.py_buffer(bytes(16))])
        batches = [
            pa.record_batch({"d": pa.DictionaryArray.from_arrays(pa.array([0]), good)}),
            pa.record_batch(
                {"d": pa.DictionaryArray.from_arrays(pa.array([1]), pa.concat_arrays([good, bad]))}
            ),
        ]
    data = stream_of(batches, **DELTAS)
    assert len(ipc.read_stream(data)) == len(batches)
    with pytest.raises(InvalidDataError, match="dictionary 0") as caught:
        ipc.read_stream(data, validate_values=True)
    assert "not shown" in str(caught.value)


def test_text_in_dictionaries_must_be_utf8() -> None:
    bad = pa.array([b"\xff\xfe"]).view(pa.string())
    data = stream_of(pa.record_batch({"d": pa.DictionaryArray.from_arrays(pa.array([0]), bad)}))
    with pytest.raises(InvalidDataError, match="dictionary 0"):
        ipc.read_stream(data)


@pytest.mark.parametrize("name", [n for n in ARRAYS if "dictionary" in n])
def test_storage_has_the_same_layout(name: str) -> None:
    array = ARRAYS[name]
    assert not any(pa.types.is_dictionary(t) for t in [storage_type(array.type)]), (
        "dictionaries give way to their indices"
    )


def test_a_dictionary_without_an_id_is_refused_though_no_value_is_asked_of_it() -> None:
    wanted = pa.dictionary(pa.int8(), pa.string())
    with pytest.raises(InvalidDataError, match="no id"):
        attach(pa.array([None], pa.int8()), wanted, None, (), {})
