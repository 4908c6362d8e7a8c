"""What a message's metadata says, against pyarrow's own writer, and which metadata is none."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from fletching.errors import LimitExceededError, MalformedFrameError, WireError
from fletching.ipc import Limits, messages
from fletching.ipc.message import Message
from fletching.ipc.metadata import (
    Codec,
    HeaderReader,
    MessageType,
    MetadataVersion,
    read_message_header,
)

SCHEMA = pa.schema([("n", pa.int64()), ("s", pa.string()), ("v", pa.string_view())])
BATCH = pa.record_batch(
    [pa.array([1, None, 3]), pa.array(["a", "bc", None]), pa.array(["x" * 30, None, "y"], pa.string_view())],
    SCHEMA,
)  # fmt: skip


def written(compression: str | None = None, **options: object) -> list[Message]:
    sink = pa.BufferOutputStream()
    chosen = pa.ipc.IpcWriteOptions(compression=compression, **options)
    with pa.ipc.new_stream(sink, SCHEMA, options=chosen) as writer:
        writer.write_batch(BATCH, custom_metadata={"k": "v", "other": ""})
    return list(messages(sink.getvalue()))


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_a_record_batch_s_header(compression: str | None) -> None:
    schema, batch = written(compression)
    assert (schema.type, batch.type) == (MessageType.SCHEMA, MessageType.RECORD_BATCH)
    header = read_message_header(memoryview(batch.metadata))
    assert header.version is MetadataVersion.V5
    assert header.body_length == len(batch.body)
    assert header.custom_metadata() == {b"k": b"v", b"other": b""}
    result = header.record_batch()
    assert result.length == 3
    assert result.nodes.tolist() == [[3, 1], [3, 1], [3, 1]]
    assert result.compression == (None if compression is None else Codec(compression))
    assert result.variadic_counts == (1,)
    assert len(result.buffers) == 2 + 3 + 3
    ends = result.buffers.sum(axis=1)
    assert (np.diff(result.buffers[:, 0]) >= 0).all()
    assert ends.max() <= header.body_length


def test_a_dictionary_batch_s_header() -> None:
    column = pa.array(["a", "b", "a"]).dictionary_encode()
    sink = pa.BufferOutputStream()
    batch = pa.record_batch([column], ["d"])
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    _, dictionary, rows = messages(sink.getvalue())
    header = read_message_header(memoryview(dictionary.metadata))
    result = header.dictionary_batch()
    assert (result.id, result.is_delta, result.data.length) == (0, False, 2)
    assert header.record_batch().length == 2  # its values are a batch, too
    with pytest.raises(MalformedFrameError, match="another type"):
        read_message_header(memoryview(rows.metadata)).dictionary_batch()


def test_limits_hold_before_anything_is_made() -> None:
    header = read_message_header(memoryview(written()[1].metadata))
    assert header.record_batch(Limits(max_rows=3)).length == 3
    assert header.record_batch() is header.record_batch(Limits(max_rows=4))  # read once
    with pytest.raises(LimitExceededError) as caught:
        header.record_batch(Limits(max_rows=2))
    assert (caught.value.actual, caught.value.limit) == (3, 2)
    assert len(header.key_values(Limits(max_custom_metadata_entries=2))) == 2
    with pytest.raises(LimitExceededError, match="custom metadata"):
        header.key_values(Limits(max_custom_metadata_entries=1))


def test_every_flipped_bit_gives_a_header_or_an_error_of_ours() -> None:
    sound = bytes(written("lz4")[1].metadata)
    for bit in range(8 * len(sound)):
        damaged = bytearray(sound)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            header = read_message_header(memoryview(bytes(damaged)))
            header.key_values()
            if header.type is MessageType.RECORD_BATCH:
                result = header.record_batch()
                assert result.length >= 0
        except WireError:
            continue
        assert header.body_length >= 0


@pytest.mark.parametrize("data", [b"", b"\0" * 3, b"\xff" * 64, b"\0" * 64])
def test_what_is_no_metadata(data: bytes) -> None:
    with pytest.raises(MalformedFrameError):
        read_message_header(memoryview(data))


def test_a_header_that_came_before_is_the_same_object() -> None:
    first, second = written()[1], written("zstd")[1]
    reader = HeaderReader()
    header = reader.read(memoryview(first.metadata))
    assert reader.read(memoryview(bytes(first.metadata))) is header
    assert reader.read(memoryview(second.metadata)) is not header
    reused = bytearray(first.metadata)
    kept = reader.read(memoryview(reused))
    reused[:] = bytes(len(reused))
    assert kept.record_batch().length == 3  # it borrows from a copy


def test_types_are_spelt_in_words() -> None:
    assert [kind.label for kind in MessageType] == [
        "schema", "dictionary batch", "record batch", "tensor", "sparse tensor",
    ]  # fmt: skip
