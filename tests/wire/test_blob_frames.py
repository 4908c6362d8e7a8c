from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import random
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.errors import (
    ChecksumMismatchError,
    FletchingError,
    LimitExceededError,
    MalformedFrameError,
    TruncatedStreamError,
    WireError,
)
from fletching.wire import blob_frames
from fletching.wire.blob_frames import (
    BlobData,
    BlobDataEnd,
    BlobDataStart,
    BlobHeader,
    ChecksumType,
    Decoder,
    Encoder,
    Event,
    frame_length,
)


@dataclasses.dataclass(frozen=True)
class Frame:
    header: BlobHeader
    data: bytes
    checksum: ChecksumType = ChecksumType.NONE


def raw(header: bytes, data: bytes, footer: bytes) -> bytes:
    return b"".join(struct.pack("<q", len(part)) + part for part in (header, data, footer))


def events_of(*chunks: bytes, **limits: int) -> list[Event]:
    decoder = Decoder(**limits)
    events: list[Event] = []
    for piece in chunks:
        decoder.feed(piece)
        events.extend(decoder.events())
    decoder.finish()
    events.extend(decoder.events())
    return events


def frames_of(*chunks: bytes, **limits: int) -> list[Frame]:
    frames: list[Frame] = []
    data = bytearray()
    start: BlobDataStart | None = None
    for event in events_of(*chunks, **limits):
        match event:
            case BlobDataStart():
                assert start is None
                assert event.index == len(frames)
                start, data = event, bytearray()
            case BlobData():
                data += event.data
            case BlobDataEnd():
                assert start is not None
                assert event.index == len(frames)
                assert start.length == len(data)
                frames.append(Frame(start.header, bytes(data), event.checksum))
                start = None
    assert start is None
    return frames


def encoded(frames: list[Frame], checksum: ChecksumType = ChecksumType.NONE) -> bytes:
    encoder = Encoder(checksum=checksum)
    out = [bytes(b) for frame in frames for b in encoder.frame(frame.header, frame.data)]
    assert encoder.finish() == []
    return b"".join(out)


def footer(kind: int, **more: Any) -> bytes:
    return json.dumps({"Checksum": {"Type": kind, **more}}).encode()


DATA = b"\x00\x01blob"
CASES: list[tuple[list[Frame], bytes]] = [
    ([], b""),
    ([Frame(BlobHeader(), b"")], raw(b"{}", b"", b'{"Checksum":{"Type":0}}')),
    (
        [
            Frame(
                BlobHeader(
                    content_type="image/png",
                    file_name="ü.png",
                    partition_values=("pt=1",),
                    column_id=2,
                    distribution_key="aGk=",
                ),
                DATA,
            )
        ],
        raw(
            '{"PartitionValues":["pt=1"],"ColumnIndex":2,"DistributionKey":"aGk=",'
            '"ContentType":"image/png","CustomFileName":"ü.png"}'.encode(),
            DATA,
            b'{"Checksum":{"Type":0}}',
        ),
    ),
    (
        [Frame(BlobHeader(column_id=1, partition_values=()), b"a"), Frame(BlobHeader(), b"bc")],
        raw(b'{"PartitionValues":[],"ColumnIndex":1}', b"a", b'{"Checksum":{"Type":0}}')
        + raw(b"{}", b"bc", b'{"Checksum":{"Type":0}}'),
    ),
]


@pytest.mark.parametrize(("frames", "wire"), CASES)
def test_cases_in_both_directions(frames: list[Frame], wire: bytes) -> None:
    assert encoded(frames) == wire
    assert frames_of(wire) == frames
    assert frames_of(*(wire[i : i + 1] for i in range(len(wire)))) == frames
    assert sum(frame_length(frame.header, len(frame.data)) for frame in frames) == len(wire)


@pytest.mark.parametrize(("frames", "wire"), CASES)
def test_a_partial_frame_behind_is_left_alone(frames: list[Frame], wire: bytes) -> None:
    decoder = Decoder()
    decoder.feed(wire + struct.pack("<q", 2) + b"{")
    ends = [event for event in decoder.events() if isinstance(event, BlobDataEnd)]
    assert len(ends) == len(frames)
    assert decoder.frames == len(frames)
    assert decoder.offset == len(wire) + 8
    with pytest.raises(TruncatedStreamError):
        decoder.finish()


@pytest.mark.parametrize("kind", list(ChecksumType))
def test_each_checksum(kind: ChecksumType) -> None:
    frames = [Frame(BlobHeader(), data, kind) for data in (b"", b"x", DATA * 1000)]
    assert frames_of(encoded(frames, kind)) == frames


def test_checksums_are_the_known_ones() -> None:
    crc32 = raw(b"{}", DATA, footer(1, Crc32=zlib.crc32(DATA)))
    md5 = raw(b"{}", DATA, footer(2, MD5=hashlib.md5(DATA).hexdigest().upper()))
    assert [frame.checksum for frame in frames_of(crc32 + md5)] == [1, 2]
    assert events_of(md5)[-1] == BlobDataEnd(
        0,
        ChecksumType.MD5,
        {"Checksum": {"Type": 2, "MD5": hashlib.md5(DATA).hexdigest().upper()}},
    )


@pytest.mark.parametrize(
    "bad",
    [
        footer(1, Crc32=zlib.crc32(DATA) ^ 1),
        footer(1, Crc32=-1),
        footer(2, MD5=hashlib.md5(b"").hexdigest()),
        footer(2, MD5=""),
    ],
)
def test_a_wrong_checksum_is_an_error_at_its_frame(bad: bytes) -> None:
    good = raw(b"{}", DATA, footer(0))
    decoder = Decoder()
    decoder.feed(good + raw(b"{}", DATA, bad))
    events: list[Event] = []
    with pytest.raises(ChecksumMismatchError) as caught:
        events.extend(decoder.events())
    assert caught.value.offset == len(good)
    assert sum(isinstance(event, BlobDataEnd) for event in events) == 1
    with pytest.raises(ChecksumMismatchError):
        list(decoder.events())
    with pytest.raises(ChecksumMismatchError):
        decoder.finish()


@pytest.mark.parametrize(
    "bad",
    [
        b"[]",
        b"{",
        b'"text"',
        b"\xff\xfe",
        b'{"Checksum":[]}',
        b'{"Checksum":{"Type":3}}',
        b'{"Checksum":{"Type":-1}}',
        b'{"Checksum":{"Type":true}}',
        b'{"Checksum":{"Type":"1"}}',
        b'{"Checksum":{"Type":1}}',
        b'{"Checksum":{"Type":1,"Crc32":"0"}}',
        b'{"Checksum":{"Type":1,"Crc32":true}}',
        b'{"Checksum":{"Type":2,"MD5":5}}',
        b"[" * 5000,
    ],
)
def test_a_malformed_footer_is_an_error(bad: bytes) -> None:
    with pytest.raises(MalformedFrameError) as caught:
        frames_of(raw(b"{}", DATA, bad))
    assert caught.value.offset is not None


@pytest.mark.parametrize("good", [b"", b"{}", b'{"Checksum":null}', b'{"Other":1}', footer(0, A=1)])
def test_a_footer_without_checksum_is_none(good: bytes) -> None:
    assert frames_of(raw(b"{}", DATA, good)) == [Frame(BlobHeader(), DATA)]


@pytest.mark.parametrize(
    "bad",
    [
        b"[]",
        b"null",
        b"{",
        b"\xff",
        b'{"ContentType":"\xff"}',
        b'{"ContentType":5}',
        b'{"ColumnIndex":"1"}',
        b'{"ColumnIndex":true}',
        b'{"ColumnIndex":1.5}',
        b'{"PartitionValues":"pt=1"}',
        b'{"PartitionValues":[1]}',
        b'{"ChecksumType":9}',
        b'{"A":' + b"[" * 5000,
    ],
)
def test_a_malformed_header_is_an_error(bad: bytes) -> None:
    with pytest.raises(MalformedFrameError) as caught:
        frames_of(raw(bad, DATA, footer(0)))
    assert caught.value.offset == 8


def test_unknown_keys_are_kept_and_empty_texts_are_none() -> None:
    header = b'{"ContentType":"","CustomFileName":null,"Camera":{"iso":100}}'
    (frame,) = frames_of(raw(header, b"", footer(0)))
    assert frame.header == BlobHeader(extra={"Camera": {"iso": 100}})
    assert BlobHeader.from_json(frame.header.to_json()) == frame.header
    assert frames_of(raw(b"", b"", b"")) == [Frame(BlobHeader(), b"")]


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("length", [-1, -(2**63)])
def test_a_negative_length_is_an_error(part: int, length: int) -> None:
    parts = [b"{}", b"ab", b"{}"]
    wire = b"".join(struct.pack("<q", len(p)) + p for p in parts[:part])
    with pytest.raises(MalformedFrameError) as caught:
        frames_of(wire + struct.pack("<q", length))
    assert caught.value.offset == len(wire)
    assert caught.value.actual == length


@pytest.mark.parametrize(("part", "length"), [(0, 1 << 30), (1, 1 << 41), (2, 1 << 30)])
def test_a_length_above_the_limit_is_an_error_before_its_bytes_come(part: int, length: int) -> None:
    parts = [b"{}", b"ab", b"{}"]
    wire = b"".join(struct.pack("<q", len(p)) + p for p in parts[:part])
    with pytest.raises(LimitExceededError) as caught:
        frames_of(wire + struct.pack("<q", length))
    assert caught.value.actual == length
    assert caught.value.limit is not None


def test_limits_are_arguments() -> None:
    wire = encoded([Frame(BlobHeader(), b"abc")] * 3)
    assert len(frames_of(wire, max_data_bytes=3, max_frames=3, max_header_bytes=30)) == 3
    for limits in ({"max_data_bytes": 2}, {"max_frames": 2}, {"max_header_bytes": 1}):
        with pytest.raises(LimitExceededError):
            frames_of(wire, **limits)


def test_every_truncation_is_reported_unless_it_falls_between_frames() -> None:
    frames = [Frame(BlobHeader(file_name="a"), b"abc"), Frame(BlobHeader(), b"")]
    first = encoded(frames[:1])
    wire = encoded(frames)
    for end in range(1, len(wire)):
        if end == len(first):
            assert frames_of(wire[:end]) == frames[:1]
            continue
        with pytest.raises(TruncatedStreamError):
            frames_of(wire[:end])
        with pytest.raises(TruncatedStreamError):
            frames_of(*(wire[i : i + 1] for i in range(end)))


def test_large_data_comes_in_pieces_that_borrow_from_what_was_fed() -> None:
    data = random.Random(7).randbytes(100_000)
    wire = encoded([Frame(BlobHeader(), data)])
    decoder = Decoder()
    largest = 0
    for start in range(0, len(wire), 4096):
        chunk = bytearray(wire[start : start + 4096])
        decoder.feed(chunk)
        for event in decoder.events():
            if isinstance(event, BlobData):
                largest = max(largest, len(event.data))
                before = bytes(event.data[:1])
                chunk[:] = bytes(b ^ 0xFF for b in chunk)
                assert bytes(event.data[:1]) != before
                chunk[:] = bytes(b ^ 0xFF for b in chunk)
    decoder.finish()
    assert largest <= 4096


headers = st.builds(
    BlobHeader,
    content_type=st.none() | st.text(min_size=1, max_size=20),
    file_name=st.none() | st.text(min_size=1, max_size=20),
    partition_values=st.none() | st.lists(st.text(max_size=9), max_size=3).map(tuple),
    column_id=st.none() | st.integers(-(2**40), 2**40),
    distribution_key=st.none() | st.text(min_size=1, max_size=9),
    extra=st.dictionaries(st.just("x-more"), st.integers(0, 9) | st.text(max_size=4)),
)


@given(
    blobs=st.lists(st.tuples(headers, st.binary(max_size=300)), max_size=5),
    kind=st.sampled_from(ChecksumType),
    cuts=st.lists(st.integers(0, 1 << 16), max_size=8),
)
def test_any_chunking_round_trips(
    blobs: list[tuple[BlobHeader, bytes]], kind: ChecksumType, cuts: list[int]
) -> None:
    frames = [Frame(header, data, kind) for header, data in blobs]
    wire = encoded(frames, kind)
    bounds = [0, *sorted(position % (len(wire) + 1) for position in cuts), len(wire)]
    assert frames_of(*(wire[a:b] for a, b in itertools.pairwise(bounds))) == frames


@given(
    position=st.integers(0, 1 << 16),
    bit=st.integers(0, 7),
    kind=st.sampled_from([ChecksumType.CRC32, ChecksumType.MD5]),
)
def test_a_flip_in_the_data_is_reported(position: int, bit: int, kind: ChecksumType) -> None:
    data = random.Random(8).randbytes(500)
    wire = bytearray(encoded([Frame(BlobHeader(), data)], kind))
    wire[8 + 2 + 8 + position % 500] ^= 1 << bit
    with pytest.raises(ChecksumMismatchError):
        frames_of(bytes(wire))


@given(st.binary(max_size=400))
def test_any_bytes_give_frames_or_a_documented_error(wire: bytes) -> None:
    with contextlib.suppress(WireError):
        frames_of(wire)


class TestLargeData:
    """Data beyond what is held until the footer is hashed as it passes."""

    def test_many_pieces_are_hashed_as_they_pass(self) -> None:
        data = random.Random(9).randbytes(3000)
        for kind in ChecksumType:
            wire = encoded([Frame(BlobHeader(), data)], kind)
            (frame,) = frames_of(*(wire[i : i + 1] for i in range(len(wire))))
            assert frame == Frame(BlobHeader(), data, kind)

    @pytest.mark.parametrize("kind", list(ChecksumType))
    def test_foreign_frames_announce_nothing(self, kind: ChecksumType) -> None:
        data = bytes((16 << 20) + 1)
        foot = {
            ChecksumType.NONE: footer(0),
            ChecksumType.CRC32: footer(1, Crc32=zlib.crc32(data)),
            ChecksumType.MD5: footer(2, MD5=hashlib.md5(data).hexdigest()),
        }[kind]
        decoder = Decoder()
        decoder.feed(raw(b"{}", data, foot))
        assert [type(event).__name__ for event in decoder.events()] == [
            "BlobDataStart",
            "BlobData",
            "BlobDataEnd",
        ]
        assert decoder._held is None

    @pytest.mark.parametrize("kind", list(ChecksumType))
    def test_our_frames_announce_their_checksum(self, kind: ChecksumType) -> None:
        data = bytes(1 << 20)
        wire = encoded([Frame(BlobHeader(), data)], kind)
        (frame,) = frames_of(wire)
        assert frame.header.checksum is kind
        if kind is ChecksumType.NONE:
            assert frame_length(BlobHeader(), len(data)) == len(wire)

    @pytest.mark.parametrize("header", [BlobHeader(), BlobHeader(file_name="a")])
    @pytest.mark.parametrize("length", [0, (1 << 20) - 1, 1 << 20])
    def test_a_header_may_be_given_as_json(self, header: BlobHeader, length: int) -> None:
        data = bytes(length)
        wire = encoded([Frame(header, data)])
        assert b"".join(map(bytes, Encoder().frame(header.to_json(), data))) == wire
        assert frame_length(len(header.to_json()), length) == len(wire)

    def test_a_footer_that_breaks_the_announcement_is_an_error(self) -> None:
        with pytest.raises(MalformedFrameError):
            frames_of(raw(b'{"ChecksumType":1}', DATA, footer(0)))


def test_input_after_the_end_is_refused() -> None:
    decoder = Decoder()
    decoder.finish()
    decoder.finish()
    with pytest.raises(MalformedFrameError):
        decoder.feed(b"x")


def test_events_left_unread_before_finish_are_still_given() -> None:
    decoder = Decoder()
    decoder.feed(encoded([Frame(BlobHeader(), b"abc")]))
    decoder.finish()
    assert len(list(decoder.events())) == 3


def test_repeated_headers_are_parsed_once_and_the_memory_of_them_is_bounded() -> None:
    frames = [Frame(BlobHeader(file_name=f"{i % 200}"), b"") for i in range(400)]
    decoder = Decoder()
    decoder.feed(encoded(frames))
    assert sum(isinstance(event, BlobDataEnd) for event in decoder.events()) == 400
    assert len(decoder._parsed) <= 64


def test_errors_are_ours() -> None:
    assert issubclass(WireError, FletchingError)
    assert blob_frames.HEADER_HEURISTIC_BYTES == 1024
