from __future__ import annotations

import io
import itertools
import mmap
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ipc.conftest import EVERYTHING, file_of, messages_of, numbers, stream_of

from fletching import ipc
from fletching.errors import (
    LimitExceededError,
    MalformedFrameError,
    TruncatedStreamError,
    UsageError,
    WireError,
)
from fletching.ipc import lowlevel
from fletching.ipc.encoding import encode_record_batch_metadata
from fletching.ipc.message import as_view
from fletching.ipc.metadata import HeaderReader

STREAM = stream_of([numbers(3), numbers(2, 3)])
LEGACY = stream_of([numbers(3), numbers(2, 3)], use_legacy_format=True)
V4 = stream_of([numbers(3)], metadata_version=pa.ipc.MetadataVersion.V4)


@pytest.mark.parametrize(("data", "prefix", "marker"), [(STREAM, 8, 8), (LEGACY, 4, 4)])
def test_positions_are_exact_and_frames_are_verbatim(data: bytes, prefix: int, marker: int) -> None:
    walk = ipc.messages(b"junk" + data + b"junk", 4)
    result = list(walk)
    assert [m.type for m in result] == [
        lowlevel.MessageType.SCHEMA, lowlevel.MessageType.RECORD_BATCH, lowlevel.MessageType.RECORD_BATCH,
    ]  # fmt: skip
    assert {m.prefix_length for m in result} == {prefix}
    assert result[0].offset == 4
    for message, following in itertools.pairwise(result):
        assert message.end == following.offset
    assert result[-1].end == walk.position - marker == 4 + len(data) - marker
    assert walk.marker_length == marker
    frames = b"".join(bytes(chunk) for m in result for chunk in m.frame())
    assert frames + data[-marker:] == data


def test_views_borrow_from_the_input() -> None:
    base = np.frombuffer(STREAM, np.uint8).ctypes.data
    for message in messages_of(STREAM):
        address = np.frombuffer(message.metadata, np.uint8).ctypes.data
        assert address == base + message.offset + message.prefix_length
        if message.body_length:
            address = np.frombuffer(message.body, np.uint8).ctypes.data
            assert address == base + message.offset + message.metadata_length


@pytest.mark.parametrize(
    "wrap",
    [bytes, bytearray, memoryview, pa.py_buffer, lambda d: np.frombuffer(d, np.uint8)],
    ids=["bytes", "bytearray", "memoryview", "arrow", "numpy"],
)
def test_any_buffer_is_walked(wrap: Any) -> None:
    assert len(messages_of(wrap(STREAM))) == 3


def test_a_mapped_file_is_walked(tmp_path: Path) -> None:
    path = tmp_path / "x.arrows"
    path.write_bytes(STREAM)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        result = messages_of(mapped)
        assert [m.type.label for m in result] == ["schema", "record batch", "record batch"]
        del result


def test_a_stream_without_marker_ends_with_its_input() -> None:
    walk = ipc.messages(STREAM[:-8])
    assert len(list(walk)) == 3
    assert (walk.marker_length, walk.position) == (0, len(STREAM) - 8)


def test_the_stream_inside_a_file_is_walked_with_and_without_marker() -> None:
    data = file_of([numbers(3), numbers(2)], numbers(1).schema)
    walk = ipc.messages(data)
    result = list(walk)
    assert [m.type.label for m in result] == ["schema", "record batch", "record batch"]
    assert result[0].offset == 8
    assert walk.marker_length == 8
    # Old writers left the marker out: the footer follows the last message at once.
    bare = data[: walk.position - 8] + data[walk.position :]
    walk = ipc.messages(bare)
    assert len(list(walk)) == 3
    assert walk.marker_length == 0


def test_versions_are_told_apart() -> None:
    assert messages_of(V4)[1].version is lowlevel.MetadataVersion.V4
    assert messages_of(STREAM)[1].version is lowlevel.MetadataVersion.V5


def test_the_record_batch_header_is_read() -> None:
    batch = pa.record_batch({"a": pa.array([1, None, 3]), "s": ["x", "yy", "zzz"]})
    header = messages_of(stream_of(batch))[1].record_batch()
    assert header.length == 3
    assert header.nodes.tolist() == [[3, 1], [3, 0]]
    assert header.buffers[:, 1].tolist() == [1, 24, 0, 16, 6]
    assert header.compression is None
    assert header.variadic_counts == ()


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_the_codec_is_read(codec: str) -> None:
    header = messages_of(stream_of(numbers(100), compression=codec))[1].record_batch()
    assert header.compression == codec


def test_variadic_counts_are_read() -> None:
    long = pa.array(["a text of more than twelve bytes"], pa.string_view())
    short = pa.array(["short"], pa.string_view())
    header = messages_of(stream_of(pa.record_batch({"a": short, "b": long})))[1].record_batch()
    assert header.variadic_counts == (1, 1)
    assert len(header.buffers) == 6


def test_a_buffer_is_a_view_of_the_body() -> None:
    message = messages_of(stream_of(pa.record_batch({"a": pa.array([1, 2], pa.int8())})))[1]
    assert bytes(message.buffer(1)) == b"\x01\x02"
    assert message.buffer(1).obj is message.body.obj
    with pytest.raises(UsageError, match="buffer 2 does not exist"):
        message.buffer(2)


def test_custom_metadata_is_read() -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, numbers(1).schema) as writer:
        writer.write_batch(numbers(1), custom_metadata={"k": "v"})
    assert messages_of(sink.getvalue())[1].custom_metadata() == {b"k": b"v"}


@pytest.mark.parametrize("sparse", [False, True])
def test_tensors_are_recognised(sparse: bool) -> None:
    sink = pa.BufferOutputStream()
    if sparse:
        pytest.importorskip(
            "scipy", reason="pyarrow writes no sparse tensor to a file without scipy"
        )
    pa.ipc.write_tensor(pa.Tensor.from_numpy(np.arange(6).reshape(2, 3)), sink)
    (message,) = messages_of(sink.getvalue())
    assert message.type is lowlevel.MessageType.TENSOR
    assert message.body_length == 48
    with pytest.raises(MalformedFrameError, match="another type"):
        message.record_batch()


@pytest.mark.parametrize("data", [STREAM, LEGACY], ids=["modern", "legacy"])
def test_every_truncation_is_reported_with_its_place(data: bytes) -> None:
    ends = {m.end for m in messages_of(data)} | {0, len(data)}
    for length in range(len(data)):
        walk = ipc.messages(data[:length])
        if length in ends:
            list(walk)
            assert walk.position == length
            continue
        with pytest.raises(TruncatedStreamError) as caught:
            list(walk)
        assert caught.value.offset == max(end for end in ends if end <= length)


def test_errors_say_where() -> None:
    data = bytearray(STREAM)
    second = messages_of(STREAM)[1].offset
    data[second + 8 : second + 12] = b"\xff\xff\xff\xff"
    with pytest.raises(MalformedFrameError, match="the root table lies outside") as caught:
        messages_of(bytes(data))
    assert caught.value.offset == second + 8


@pytest.mark.parametrize(
    ("prefix", "error"),
    [
        (b"\xff\xff\xff\xff\xff\xff\xff\xff", MalformedFrameError),
        (b"\xfe\xff\xff\xff", MalformedFrameError),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f", LimitExceededError),
        (b"\xff\xff\xff\x7f", LimitExceededError),
    ],
)
def test_lengths_are_checked_for_sign_and_limit(prefix: bytes, error: type[WireError]) -> None:
    with pytest.raises(error):
        messages_of(prefix + bytes(64))


def test_an_offset_outside_the_data_is_refused() -> None:
    with pytest.raises(UsageError):
        ipc.messages(b"", 1)
    with pytest.raises(UsageError):
        as_view(memoryview(b"abcd")[::2])


def test_header_and_body_must_agree() -> None:
    message = messages_of(STREAM)[1]
    with pytest.raises(MalformedFrameError, match="disagree"):
        ipc.Message(message.metadata, message.body[:-8])


def test_a_message_goes_to_pyarrow_without_a_copy() -> None:
    schema, batch, _ = messages_of(STREAM)
    read = pa.ipc.read_record_batch(batch.to_pyarrow(), lowlevel.read_schema(schema))
    address = read.column(0).buffers()[1].address
    assert address == np.frombuffer(batch.buffer(1), np.uint8).ctypes.data


class Trickle(io.RawIOBase):
    """A file that gives a few bytes at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        self._data = io.BytesIO(data)
        self._step = step

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        view = memoryview(target)[: self._step]
        return self._data.readinto(view)


class OnlyRead:
    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, count: int) -> bytes:
        return self._data.read(min(count, 11))


@given(st.integers(1, 300))
def test_messages_are_read_from_files_and_nothing_behind_them(step: int) -> None:
    for file in (Trickle(STREAM + b"next", step), OnlyRead(STREAM + b"next")):
        result = []
        while (message := ipc.read_message(file)) is not None:
            result.append(bytes(message.body))
        assert result == [bytes(m.body) for m in messages_of(STREAM)]
        assert file.read(1) == b"n"


def test_a_file_that_ends_inside_a_message_is_truncated() -> None:
    with pytest.raises(TruncatedStreamError):
        ipc.read_message(io.BytesIO(STREAM[:50]))
    assert ipc.read_message(io.BytesIO(b"")) is None


def test_repr_names_type_and_place() -> None:
    assert repr(messages_of(STREAM)[0]) == "<Message schema at 0, body 0 bytes>"


def test_everything_walks() -> None:
    assert messages_of(stream_of(EVERYTHING))[-1].record_batch().length == 5


def test_a_repeated_header_is_read_once() -> None:
    reader = HeaderReader()
    first, same, other = (
        message.metadata
        for message in messages_of(stream_of([numbers(5), numbers(5), numbers(6)]))[1:]
    )
    header = reader.read(first)
    assert reader.read(same) is header
    assert reader.read(other) is not header
    assert reader.read(first) is not header  # only the newest is kept
    assert reader.read(first).record_batch().length == 5


def test_a_remembered_header_outlives_the_memory_it_came_in_and_hides_no_damage() -> None:
    reader = HeaderReader()
    memory = bytearray(messages_of(stream_of(numbers(5)))[1].metadata)
    header = reader.read(memoryview(memory))
    intact = bytes(memory)
    memory[:] = b"\xee" * len(memory)
    assert header.record_batch().length == 5
    with pytest.raises(MalformedFrameError):
        reader.read(memoryview(memory))
    assert reader.read(memoryview(intact)) is header


@pytest.mark.parametrize("data", [STREAM, LEGACY], ids=["modern", "legacy"])
def test_metadata_may_be_as_long_as_the_limit(data: bytes) -> None:
    length = max(len(m.metadata) for m in messages_of(data))
    assert messages_of(data, limits=ipc.Limits(max_metadata_bytes=length))
    with pytest.raises(LimitExceededError, match="metadata is too long") as caught:
        messages_of(data, limits=ipc.Limits(max_metadata_bytes=length - 1))
    assert (caught.value.actual, caught.value.limit) == (length, length - 1)


def with_buffer(start: int, length: int) -> ipc.Message:
    """A message whose first buffer claims to lie somewhere."""
    message = messages_of(stream_of(pa.record_batch({"a": pa.array([1, 2], pa.int8())})))[1]
    header = message.record_batch()
    buffers = header.buffers.copy()
    buffers[1] = start, length
    metadata = encode_record_batch_metadata(2, header.nodes, buffers, message.body_length)
    return ipc.Message(memoryview(metadata), message.body)


@pytest.mark.parametrize(
    ("start", "length"), [(-1, 4), (0, -1), (8, 1), (0, 9), (7, 2), (1 << 62, 8), (8, 1 << 62)]
)
def test_a_buffer_outside_the_body_is_refused(start: int, length: int) -> None:
    message = with_buffer(start, length)
    assert message.body_length == 8
    with pytest.raises(MalformedFrameError, match="buffer 1 lies outside the body"):
        message.buffer(1)
    assert bytes(message.buffer(0)) == b""


@pytest.mark.parametrize(("start", "length"), [(0, 8), (8, 0), (7, 1), (0, 0)])
def test_a_buffer_may_reach_the_bodys_end(start: int, length: int) -> None:
    message = with_buffer(start, length)
    assert bytes(message.buffer(1)) == bytes(message.body)[start : start + length]
    for index in (-1, 2):
        with pytest.raises(UsageError, match="does not exist"):
            message.buffer(index)


@pytest.mark.parametrize("length", [1 << 30, (1 << 31) - 1, -1, 0, -(1 << 31)])
@pytest.mark.parametrize("marker", [True, False])
def test_a_false_footer_length_hides_no_message(length: int, marker: bool) -> None:
    data = file_of([numbers(3), numbers(2)], numbers(1).schema)
    end = ipc.open_file(data).footer.start
    data = data[:-10] + struct.pack("<i", length) + data[-6:]
    if marker:
        walk = ipc.messages(data)
        assert [m.type.label for m in walk] == ["schema", "record batch", "record batch"]
        assert (walk.marker_length, walk.position) == (8, end)
        return
    # Without marker nothing says where the messages end: they are walked, then what follows is not one.
    walk = ipc.messages(data[: end - 8] + data[end:])
    assert [next(walk).type.label for _ in range(3)] == ["schema", "record batch", "record batch"]
    with pytest.raises(WireError):
        next(walk)


def test_a_footer_that_is_broken_ends_the_messages_where_it_starts() -> None:
    data = bytearray(file_of([numbers(3)], numbers(1).schema))
    start = ipc.open_file(bytes(data)).footer.start
    data[start : start + 4] = b"\xff" * 4
    bare = bytes(data[: start - 8] + data[start:])
    walk = ipc.messages(bare)
    assert len(list(walk)) == 2
    assert (walk.marker_length, walk.position) == (0, start - 8)
