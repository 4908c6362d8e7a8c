from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ipc.conftest import EVERYTHING, messages_of, numbers, stream_of

from fletching import ipc
from fletching.errors import (
    LimitExceededError,
    MalformedFrameError,
    TruncatedStreamError,
    UsageError,
)
from fletching.ipc import lowlevel

STREAM = stream_of([EVERYTHING, EVERYTHING])
LEGACY = stream_of([numbers(3), numbers(2)], use_legacy_format=True)
SMALL = stream_of([numbers(3), numbers(2)])


def parts(messages: list[ipc.Message]) -> list[tuple[int, int, bytes, bytes]]:
    return [(m.offset, m.prefix_length, bytes(m.metadata), bytes(m.body)) for m in messages]


@settings(deadline=None)
@given(cuts=st.lists(st.integers(0, 1_000_000)), borrow=st.booleans())
@pytest.mark.parametrize("stream", [STREAM, LEGACY], ids=["modern", "legacy"])
def test_any_chunking_gives_the_same_messages(stream: bytes, cuts: list[int], borrow: bool) -> None:
    source = stream + b"behind"
    positions = sorted({cut % len(source) for cut in cuts} | {0, len(source)})
    decoder = ipc.MessageDecoder()
    result = []
    consumed = 0
    for start, end in itertools.pairwise(positions):
        taken = decoder.feed(source[start:end], borrow=borrow)
        result += list(decoder)
        assert taken == end - start or decoder.ended
        consumed += taken
    decoder.finish(require_marker=True)
    assert decoder.bytes_consumed == consumed == len(stream)
    assert parts(result) == parts(messages_of(stream))


@pytest.mark.parametrize("stream", [SMALL, LEGACY], ids=["modern", "legacy"])
def test_byte_by_byte(stream: bytes) -> None:
    decoder = ipc.MessageDecoder()
    result = []
    for index in range(len(stream)):
        assert decoder.feed(stream[index : index + 1]) == 1
        assert decoder.bytes_consumed == index + 1
        result += list(decoder)
    assert decoder.ended
    assert decoder.marker_length == (4 if stream is LEGACY else 8)
    assert parts(result) == parts(messages_of(stream))


@settings(deadline=None)
@given(st.integers(0, 5000), st.integers(1, 5000))
def test_receiving_into_place_gives_the_same_messages(read_ahead: int, step: int) -> None:
    decoder = ipc.MessageDecoder()
    result: list[ipc.Message] = []
    source = STREAM + b"behind"
    position = 0
    while not decoder.ended:
        room = decoder.writable(read_ahead=read_ahead)
        assert len(room) > 0
        count = min(step, len(room), len(source) - position)
        room[:count] = source[position : position + count]
        position += count
        decoder.wrote(count)
        result += list(decoder)
    assert parts(result) == parts(messages_of(STREAM))
    assert decoder.bytes_consumed == len(STREAM)
    assert decoder.unconsumed == source[len(STREAM) : position]
    if read_ahead == 0:
        assert position == len(STREAM)
    with pytest.raises(UsageError, match="has ended"):
        decoder.writable()


def test_a_body_is_received_where_it_stays() -> None:
    stream = stream_of(numbers(100_000))
    body = messages_of(stream)[1]
    start = body.offset + body.metadata_length
    decoder = ipc.MessageDecoder()
    decoder.feed(stream[:start])
    room = decoder.writable()
    assert len(room) == body.body_length
    address = np.frombuffer(room, np.uint8).ctypes.data
    assert address % 64 == 0
    room[:] = stream[start : body.end]
    decoder.wrote(len(room))
    schema, message = decoder
    assert np.frombuffer(message.body, np.uint8).ctypes.data == address
    batch = lowlevel.BatchDecoder(schema).decode(message)
    assert batch is not None
    assert batch.column(0).buffers()[1].address >= address


def test_a_borrowed_chunk_is_not_copied() -> None:
    decoder = ipc.MessageDecoder()
    assert decoder.feed(SMALL, borrow=True) == len(SMALL)
    base = np.frombuffer(SMALL, np.uint8).ctypes.data
    result = list(decoder)
    for message in result[1:]:
        start = message.offset + message.metadata_length
        assert np.frombuffer(message.body, np.uint8).ctypes.data == base + start


def test_three_outcomes_are_told_apart() -> None:
    decoder = ipc.MessageDecoder()
    assert decoder.next_message() is lowlevel.DecoderState.NEED_MORE
    decoder.feed(SMALL[:-1])
    for _ in range(3):
        assert isinstance(decoder.next_message(), ipc.Message)
    assert decoder.next_message() is lowlevel.DecoderState.NEED_MORE
    assert decoder.bytes_needed == 1
    decoder.feed(SMALL[-1:] + b"x")
    assert decoder.next_message() is lowlevel.DecoderState.END
    assert decoder.bytes_needed == 0
    assert decoder.feed(b"more") == 0


def test_finish_reports_every_cut() -> None:
    ends = {m.end for m in messages_of(SMALL)}
    for length in range(len(SMALL)):
        decoder = ipc.MessageDecoder()
        decoder.feed(SMALL[:length])
        if length in ends:
            decoder.finish()
            with pytest.raises(TruncatedStreamError, match="end-of-stream marker"):
                decoder.finish(require_marker=True)
        else:
            with pytest.raises(TruncatedStreamError) as caught:
                decoder.finish()
            assert caught.value.offset == max((end for end in ends if end <= length), default=0)


def test_nothing_is_allocated_beyond_the_limits() -> None:
    before = pa.total_allocated_bytes()
    decoder = ipc.MessageDecoder(ipc.Limits(max_body_bytes=1000))
    with pytest.raises(LimitExceededError) as caught:
        decoder.feed(stream_of(numbers(10_000)))
    assert (caught.value.limit, caught.value.layer) == (1000, "message")
    assert caught.value.offset == messages_of(stream_of(numbers(10_000)))[1].offset
    assert pa.total_allocated_bytes() - before < 100_000
    with pytest.raises(LimitExceededError):
        decoder.feed(b"")
    with pytest.raises(LimitExceededError):
        decoder.finish()
    decoder = ipc.MessageDecoder(ipc.Limits(max_metadata_bytes=100))
    with pytest.raises(LimitExceededError, match="metadata is too long"):
        decoder.feed(SMALL)


def test_borrowing_keeps_the_limits() -> None:
    decoder = ipc.MessageDecoder(ipc.Limits(max_body_bytes=1000))
    with pytest.raises(LimitExceededError, match="body is too long"):
        decoder.feed(stream_of(numbers(10_000)), borrow=True)


@pytest.mark.parametrize("borrow", [False, True])
def test_errors_count_from_the_start_of_the_stream(borrow: bool) -> None:
    second = messages_of(SMALL)[1].offset
    data = bytearray(SMALL)
    data[second + 8 : second + 12] = b"\xff\xff\xff\x7f"
    decoder = ipc.MessageDecoder()
    with pytest.raises(MalformedFrameError) as caught:
        decoder.feed(bytes(data), borrow=borrow)
    assert caught.value.offset == second + 8
    with pytest.raises(MalformedFrameError):
        decoder.writable()


def test_wrote_refuses_what_cannot_be() -> None:
    decoder = ipc.MessageDecoder()
    decoder.writable(read_ahead=0)
    with pytest.raises(UsageError):
        decoder.wrote(100)
    decoder.writable(read_ahead=10)
    with pytest.raises(UsageError):
        decoder.wrote(11)


def test_the_cost_is_linear_in_the_chunks() -> None:
    # A message fed in very many pieces: each byte is moved once, whatever came before.
    stream = stream_of(numbers(200_000))
    view = memoryview(stream)
    decoder = ipc.MessageDecoder()
    for start in range(0, len(view), 512):
        decoder.feed(view[start : start + 512])
    assert len(list(decoder)) == 2


@pytest.mark.parametrize("step", [1, 3, 4, 8])
def test_a_second_continuation_marker_is_no_length(step: int) -> None:
    decoder = ipc.MessageDecoder()

    def receive() -> None:
        for start in range(0, 16, step):
            decoder.feed((b"\xff" * 16)[start : start + step])

    with pytest.raises(MalformedFrameError, match="negative metadata length"):
        receive()
    with pytest.raises(MalformedFrameError, match="negative metadata length"):
        decoder.finish()
    assert not list(decoder)


@pytest.mark.parametrize("data", [SMALL, LEGACY], ids=["modern", "legacy"])
@pytest.mark.parametrize("borrow", [False, True])
def test_metadata_and_bodies_may_be_as_long_as_the_limits(data: bytes, borrow: bool) -> None:
    messages = messages_of(data)
    metadata = max(len(m.metadata) for m in messages)
    body = max(m.body_length for m in messages)
    exact = ipc.Limits(max_metadata_bytes=metadata, max_body_bytes=body)
    decoder = ipc.MessageDecoder(exact)
    decoder.feed(data, borrow=borrow)
    assert len(list(decoder)) == len(messages)
    for limits, what in (
        (ipc.Limits(max_metadata_bytes=metadata - 1), "metadata is too long"),
        (ipc.Limits(max_body_bytes=body - 1), "body is too long"),
    ):
        decoder = ipc.MessageDecoder(limits)
        with pytest.raises(LimitExceededError, match=what):
            decoder.feed(data, borrow=borrow)
        with pytest.raises(LimitExceededError, match=what):
            decoder.feed(b"")
        with pytest.raises(LimitExceededError, match=what):
            decoder.writable()
        with pytest.raises(LimitExceededError, match=what):
            decoder.wrote(0)


def test_more_than_was_lent_cannot_have_been_written() -> None:
    decoder = ipc.MessageDecoder()
    room = len(decoder.writable())
    for count in (-1, room + 1):
        with pytest.raises(UsageError):
            decoder.wrote(count)
        decoder.writable()
    room = len(decoder.writable(read_ahead=0))
    assert room == 4
    for count in (-1, room + 1):
        with pytest.raises(UsageError):
            decoder.wrote(count)


def test_a_borrowed_message_needs_all_of_its_bytes() -> None:
    first = messages_of(SMALL)[0].end
    decoder = ipc.MessageDecoder()
    for start, end in ((0, first - 1), (first - 1, len(SMALL))):
        decoder.feed(SMALL[start:end], borrow=True)
    decoder.finish(require_marker=True)
    assert parts(list(decoder)) == parts(messages_of(SMALL))


@pytest.mark.parametrize(
    ("length", "inside"),
    [(4, "a length prefix"), (12, "a message's metadata"), (-1, "a message's body")],
)
def test_a_cut_says_inside_what_it_is(length: int, inside: str) -> None:
    last = messages_of(SMALL)[-1]
    decoder = ipc.MessageDecoder()
    decoder.feed(SMALL[: last.offset + length if length > 0 else last.end + length])
    assert len(list(decoder)) == 2
    with pytest.raises(TruncatedStreamError, match=inside):
        decoder.finish()
