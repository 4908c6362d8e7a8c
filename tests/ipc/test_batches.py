from __future__ import annotations

import contextlib
import io
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.folding import folded
from tests.ipc.conftest import (
    ARRAYS,
    EVERYTHING,
    addresses,
    big_endian_stream,
    lies_inside,
    messages_of,
    numbers,
    stream_of,
)

from fletching import ipc
from fletching.errors import (
    DecompressionError,
    InvalidDataError,
    LimitExceededError,
    MalformedFrameError,
    WireError,
    ZeroCopyError,
)
from fletching.ipc import lowlevel
from fletching.ipc.encoding import as_big_endian, encode_record_batch_metadata


def decoded(data: Any, **options: Any) -> list[pa.RecordBatch]:
    schema, *rest = messages_of(data)
    decoder = lowlevel.BatchDecoder(schema, **options)
    return [batch for m in rest if (batch := decoder.decode(m)) is not None]


@folded("name", ARRAYS)
def test_every_type_reads_equal_and_borrows(name: str) -> None:
    array = ARRAYS[name]
    data = stream_of([pa.record_batch({"a": array}), pa.record_batch({"a": array[1:4]})])
    whole, part = decoded(data, validate_values=True)
    assert whole.column(0).equals(array)
    assert part.column(0).equals(array[1:4])
    for batch in (whole, part):
        batch.validate(full=True)
        assert batch.column(0).type == array.type
        assert lies_inside(batch.column(0), data)


@folded("codec", ["lz4", "zstd"])
@folded("name", ARRAYS)
def test_every_type_reads_equal_compressed(name: str, codec: str) -> None:
    batch = pa.record_batch({"a": ARRAYS[name]})
    (result,) = decoded(stream_of(batch, compression=codec), validate_values=True)
    assert result.equals(batch)


def test_unions_of_the_fourth_version_have_a_bitmap() -> None:
    for name in ("sparse_union", "dense_union"):
        batch = pa.record_batch({"a": ARRAYS[name], "b": ARRAYS["int64"]})
        data = stream_of(batch, metadata_version=pa.ipc.MetadataVersion.V4)
        assert (
            len(messages_of(data)[1].record_batch().buffers)
            == len(messages_of(stream_of(batch))[1].record_batch().buffers) + 1
        )
        assert decoded(data)[0].equals(batch)


def test_a_schema_without_message_takes_the_ids_that_are_written() -> None:
    decoder = lowlevel.BatchDecoder(EVERYTHING.schema)
    result = [decoder.decode(m) for m in messages_of(stream_of(EVERYTHING))[1:]]
    assert result[-1] is not None
    assert result[-1].equals(EVERYTHING)


def test_a_batch_without_columns_keeps_its_rows() -> None:
    batch = pa.record_batch({"a": [1, 2, 3]}).select([])
    (result,) = decoded(stream_of(batch))
    assert result.num_rows == 3


# --- dictionaries ------------------------------------------------------------------------------------


def tagged(values: list[str | None], dictionary: list[str]) -> pa.RecordBatch:
    indices = pa.array([None if v is None else dictionary.index(v) for v in values], pa.int8())
    return pa.record_batch({"tag": pa.DictionaryArray.from_arrays(indices, pa.array(dictionary))})


def test_replacements_leave_earlier_batches_alone() -> None:
    batches = [tagged(["a", "b"], ["a", "b"]), tagged(["z", None], ["z", "y"])]
    data = stream_of(batches)
    assert [m.type.value for m in messages_of(data)] == [1, 2, 3, 2, 3]
    result = decoded(data)
    assert [b.column(0).to_pylist() for b in result] == [["a", "b"], ["z", None]]
    assert all(lies_inside(b.column(0), data) for b in result)


def test_deltas_extend_the_dictionary() -> None:
    batches = [tagged(["a"], ["a"]), tagged(["b", "a"], ["a", "b"]), tagged(["c"], ["a", "b", "c"])]
    data = stream_of(batches, emit_dictionary_deltas=True)
    dictionaries = [m for m in messages_of(data) if m.type is lowlevel.MessageType.DICTIONARY_BATCH]
    assert [m.dictionary_batch().is_delta for m in dictionaries] == [False, True, True]
    result = decoded(data)
    assert [b.column(0).to_pylist() for b in result] == [["a"], ["b", "a"], ["c"]]
    assert result[2].column(0).dictionary.to_pylist() == ["a", "b", "c"]
    assert result[0].column(0).dictionary.to_pylist() == ["a"]


def test_a_delta_before_its_dictionary_is_refused() -> None:
    batches = [tagged(["a"], ["a"]), tagged(["b", "a"], ["a", "b"])]
    schema, _, _, delta, _ = messages_of(stream_of(batches, emit_dictionary_deltas=True))
    with pytest.raises(MalformedFrameError, match="before the dictionary"):
        lowlevel.BatchDecoder(schema).decode(delta)


def test_a_missing_dictionary_is_refused_unless_all_is_null() -> None:
    schema, _, batch = messages_of(stream_of(tagged(["a"], ["a"])))
    with pytest.raises(InvalidDataError, match="came before dictionary 0"):
        lowlevel.BatchDecoder(schema).decode(batch)
    schema, _, batch = messages_of(stream_of(tagged([None], ["a"])))
    result = lowlevel.BatchDecoder(schema).decode(batch)
    assert result is not None
    assert result.column(0).to_pylist() == [None]


def test_an_index_outside_its_dictionary_is_refused() -> None:
    schema, first, batch = messages_of(stream_of(tagged(["c"], ["a", "b", "c"])))
    _, short, _ = messages_of(stream_of(tagged(["a"], ["a"])))
    decoder = lowlevel.BatchDecoder(schema)
    decoder.decode(short)
    with pytest.raises(InvalidDataError, match="index lies outside"):
        decoder.decode(batch)
    decoder.decode(first)
    assert decoder.decode(batch) is not None


def test_an_unknown_dictionary_is_refused() -> None:
    _, dictionary, _ = messages_of(stream_of(tagged(["a"], ["a"])))
    schema = messages_of(stream_of(numbers(1)))[0]
    with pytest.raises(MalformedFrameError, match="no field of the schema"):
        lowlevel.BatchDecoder(schema).decode(dictionary)


def test_dictionaries_are_bounded_in_number_and_bytes() -> None:
    batch = pa.record_batch({str(i): pa.array([f"{i}"]).dictionary_encode() for i in range(5)})
    with pytest.raises(LimitExceededError, match="too many dictionaries"):
        decoded(stream_of(batch), limits=ipc.Limits(max_dictionaries=4))
    long = tagged(["x" * 1000], ["x" * 1000])
    with pytest.raises(LimitExceededError, match="dictionaries take too many bytes"):
        decoded(stream_of(long), limits=ipc.Limits(max_dictionary_bytes=999))
    assert len(decoded(stream_of(long), limits=ipc.Limits(max_dictionary_bytes=5000))) == 1


# --- zero-copy ---------------------------------------------------------------------------------------


def test_zero_copy_is_proved_or_refused() -> None:
    data = stream_of(numbers(10))
    assert lies_inside(decoded(data, require_zero_copy=True)[0].column(1), data)
    with pytest.raises(ZeroCopyError, match="compressed"):
        decoded(stream_of(numbers(10), compression="zstd"), require_zero_copy=True)
    # Compressed is only what has buffers.
    nothing = pa.record_batch({"n": pa.nulls(3)})
    packed = stream_of(nothing, compression="zstd")
    assert decoded(packed, require_zero_copy=True)[0].equals(nothing)
    # The same stream at a place that is no multiple of 8.
    memory = bytearray(len(data) + 64)
    base = np.frombuffer(memory, np.uint8).ctypes.data
    start = -base % 8 + 4
    memory[start : start + len(data)] = data
    shifted = memoryview(memory)[start : start + len(data)]
    with pytest.raises(ZeroCopyError, match="multiple of 8"):
        decoded(shifted, require_zero_copy=True)
    assert decoded(shifted)[0].equals(numbers(10))


def test_arrays_keep_their_bytes_alive() -> None:
    batch = decoded(bytes(bytearray(stream_of(numbers(1000)))))[0]
    bytes(bytearray(1 << 20))
    assert batch.equals(numbers(1000))


BIG_ENDIAN = [name for name in ARRAYS if not any(word in name for word in ("view", "run_end"))]


@folded("name", BIG_ENDIAN)
def test_big_endian_values_are_swapped(name: str) -> None:
    batch = pa.record_batch({"a": ARRAYS[name]})
    data = big_endian_stream(batch)
    # pyarrow's own stream reader agrees, where it knows how.
    with contextlib.suppress(pa.ArrowInvalid):
        assert next(iter(pa.ipc.open_stream(data))).equals(batch)
    assert lowlevel.BatchDecoder(messages_of(data)[0]).header.endianness == 1
    assert decoded(data)[0].equals(batch)
    with pytest.raises(ZeroCopyError, match="big-endian"):
        decoded(data, require_zero_copy=True)


def test_big_endian_schemas_keep_their_metadata() -> None:
    field = pa.field("a", pa.int32(), metadata={"unit": "m"})
    schema = pa.schema([field], metadata={"k": "v"})
    (message,) = messages_of(as_big_endian(lowlevel.encode_schema(schema)))
    assert lowlevel.read_schema(message).equals(schema, check_metadata=True)


# --- what metadata may not say -----------------------------------------------------------------------


def altered(
    batch: pa.RecordBatch, change: Any, *, compression: str | None = None, body: bytes | None = None
) -> tuple[ipc.Message, ipc.Message]:
    """The batch's message with other metadata: ``change`` edits (header fields as a dict)."""
    schema, message = messages_of(stream_of(batch, compression=compression))
    header = message.record_batch()
    fields: dict[str, Any] = {
        "length": header.length,
        "nodes": header.nodes.copy(),
        "buffers": header.buffers.copy(),
        "body_length": message.body_length if body is None else len(body),
        "compression": header.compression,
        "variadic_counts": list(header.variadic_counts),
    }
    change(fields)
    metadata = encode_record_batch_metadata(
        fields.pop("length"), fields.pop("nodes"), fields.pop("buffers"), fields.pop("body_length"),
        **fields,
    )  # fmt: skip
    data = message.body if body is None else memoryview(body)
    return schema, ipc.Message(memoryview(metadata), data, offset=1000)


def put(key: str, index: tuple[int, int], value: int) -> Any:
    def change(fields: dict[str, Any]) -> None:
        fields[key][index] = value

    return change


BATCH = pa.record_batch({"n": pa.array([1, 2, None], pa.int64()), "s": ["a", "b", "c"]})


@pytest.mark.parametrize(
    ("change", "error", "what"),
    [
        (lambda f: f.update(length=-1), MalformedFrameError, "negative batch length"),
        (lambda f: f.update(length=4), MalformedFrameError, "rows in column 0"),
        (lambda f: f.update(length=1 << 40), LimitExceededError, "too many rows"),
        (lambda f: f.update(nodes=f["nodes"][:1]), MalformedFrameError, "field nodes"),
        (lambda f: f.update(buffers=f["buffers"][:3]), MalformedFrameError, "buffers"),
        (lambda f: f.update(variadic_counts=[1]), MalformedFrameError, "variadic counts"),
        (put("nodes", (0, 0), -1), MalformedFrameError, "null count"),
        (put("nodes", (0, 1), -1), MalformedFrameError, "null count"),
        (put("nodes", (0, 1), 4), MalformedFrameError, "null count"),
        (put("nodes", (1, 0), 2), MalformedFrameError, "rows in column 1"),
        (put("buffers", (1, 0), -8), MalformedFrameError, "buffer 1 inside the body"),
        (put("buffers", (1, 1), -8), MalformedFrameError, "buffer 1 inside the body"),
        (put("buffers", (1, 0), 1 << 62), MalformedFrameError, "buffer 1 inside the body"),
        (put("buffers", (1, 1), (1 << 63) - 1), MalformedFrameError, "buffer 1 inside the body"),
        (put("buffers", (1, 0), 0), MalformedFrameError, "do not overlap"),
        (put("buffers", (1, 1), 16), MalformedFrameError, "at least 24"),
        (put("buffers", (0, 1), 0), MalformedFrameError, "validity buffer of field 0"),
        (put("buffers", (3, 1), 8), MalformedFrameError, "offsets buffer of field 1"),
    ],
)  # fmt: skip
def test_false_metadata_is_refused_before_pyarrow_sees_it(
    change: Any, error: type[WireError], what: str
) -> None:
    schema, message = altered(BATCH, change)
    with pytest.raises(error, match=what) as caught:
        lowlevel.BatchDecoder(schema).decode(message)
    assert caught.value.offset is not None
    assert caught.value.offset >= 1000


def test_unaltered_metadata_reads() -> None:
    schema, message = altered(BATCH, lambda _: None)
    result = lowlevel.BatchDecoder(schema).decode(message)
    assert result is not None
    assert result.equals(BATCH)


def with_first_claim(claim: int, codec: str = "zstd") -> tuple[ipc.Message, ipc.Message]:
    batch = pa.record_batch({"n": np.arange(100)})
    _, message = messages_of(stream_of(batch, compression=codec))
    body = bytearray(message.body)
    start = int(message.record_batch().buffers[1, 0])
    struct.pack_into("<q", body, start, claim)
    return altered(batch, lambda _: None, compression=codec, body=bytes(body))


@pytest.mark.parametrize(
    ("claim", "error", "what"),
    [
        (-2, MalformedFrameError, "negative length"),
        (1 << 62, LimitExceededError, "too many bytes"),
        (1 << 30, LimitExceededError, "compression ratio"),
        (799, MalformedFrameError, "at least 800"),
        (808, DecompressionError, "pyarrow cannot read"),
        (-1, MalformedFrameError, "at least 800"),
    ],
)
@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_claimed_sizes_are_checked_before_decoding(
    claim: int, error: type[WireError], what: str, codec: str
) -> None:
    before = pa.total_allocated_bytes()
    schema, message = with_first_claim(claim, codec)
    with pytest.raises(error, match=what):
        lowlevel.BatchDecoder(schema).decode(message)
    assert pa.total_allocated_bytes() - before < 1 << 20


def test_a_bomb_is_refused_and_honest_compression_is_not() -> None:
    zeros = pa.record_batch({"n": np.zeros(1 << 20, np.int64)})
    data = stream_of(zeros, compression="zstd")
    assert len(data) < 10_000
    assert decoded(data)[0].equals(zeros)
    tight = ipc.Limits(ratio_free_bytes=1 << 20, max_compression_ratio=100)
    with pytest.raises(LimitExceededError, match="compression ratio"):
        decoded(data, limits=tight)
    with pytest.raises(LimitExceededError, match="claims too many bytes"):
        decoded(data, limits=ipc.Limits(max_uncompressed_bytes=1 << 20))


def test_one_altered_string_offset_is_refused() -> None:
    # pyarrow alone reads this message and dies when an element is touched.
    data = bytearray(stream_of(pa.record_batch({"s": ["abc", "def", "ghi"]})))
    message = messages_of(bytes(data))[1]
    start = message.offset + message.metadata_length + int(message.record_batch().buffers[1, 0])
    struct.pack_into("<i", data, start + 4, 1 << 30)
    with pytest.raises(InvalidDataError):
        decoded(bytes(data))
    assert len(decoded(bytes(data), trusted=True)) == 1


def test_another_message_among_the_batches_is_refused() -> None:
    schema = messages_of(stream_of(numbers(1)))[0]
    with pytest.raises(MalformedFrameError, match="another message"):
        lowlevel.BatchDecoder(schema).decode(schema)
    with pytest.raises(MalformedFrameError, match="starts with a schema message"):
        lowlevel.BatchDecoder(messages_of(stream_of(numbers(1)))[1])


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_columns_of_any_types_round_trip(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(sorted(ARRAYS)), max_size=6))
    start = data.draw(st.integers(0, 5))
    length = data.draw(st.integers(0, 5 - start))
    columns = [ARRAYS[name].slice(start, length) for name in names]
    batch = pa.RecordBatch.from_arrays(columns, names=[f"{i}" for i in range(len(names))])
    codec = data.draw(st.sampled_from([None, "lz4", "zstd"]))
    (result,) = decoded(stream_of(batch, compression=codec))
    assert result.equals(batch) or not names


def test_addresses_covers_dictionaries() -> None:
    # Guards the guard: lies_inside would prove nothing if it saw no buffers.
    assert len(addresses(ARRAYS["dictionary"])) == 4
    assert not lies_inside(ARRAYS["int64"], b"elsewhere")


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_what_was_compressed_well_is_read_by_default(codec: str) -> None:
    """Constant columns shrink to what a codec can do at most; that is no reason to refuse them."""
    zeros = pa.record_batch({"z": np.zeros(12 << 20, np.int64)})
    sink = io.BytesIO()
    ipc.write_stream(zeros, sink, compression=codec)
    assert len(sink.getvalue()) < zeros.nbytes // 200
    assert ipc.read_single(sink.getvalue()).equals(zeros)
    tight = ipc.Limits(max_compression_ratio=100)
    with pytest.raises(LimitExceededError, match="compression ratio"):
        ipc.read_single(sink.getvalue(), limits=tight)


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_a_claim_that_the_codec_cannot_keep_is_refused(codec: str) -> None:
    most = {"lz4": 256, "zstd": 32 << 10}[codec]
    schema, message = with_first_claim(0, codec)
    stored = int(message.record_batch().buffers[1, 1]) - 8
    roomy = ipc.Limits(max_compression_ratio=1 << 40, max_uncompressed_bytes=1 << 50)
    for claim, refused in ((stored * most, False), (stored * most + (128 << 10) + 1, True)):
        schema, message = with_first_claim(claim, codec)
        with pytest.raises((LimitExceededError, DecompressionError)) as caught:
            lowlevel.BatchDecoder(schema, limits=roomy).decode(message)
        assert ("cannot have" in str(caught.value)) == refused
