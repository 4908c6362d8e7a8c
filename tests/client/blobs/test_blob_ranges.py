from __future__ import annotations

import io
import random
from collections.abc import Iterator
from typing import Any

import pytest
from crc32c import crc32c

import fletching
from fletching.client.blobs.blob_ranges import SKIPPED_BYTES, BlobRanges
from fletching.client.blobs.blob_transfers import BlobInfo
from fletching.client.transports.channel import Channel
from fletching.errors import (
    ChecksumMismatchError,
    ConnectionBrokenError,
    NotFoundError,
    RangeNotSatisfiableError,
    TruncatedStreamError,
    UsageError,
)

DATA = random.Random(7).randbytes(3_000_000)


class Range:
    """Some of the bytes, in small portions, with a failure at a byte of the blob."""

    file = None

    def __init__(self, service: Service, start: int, end: int | None) -> None:
        self.service, self.at = service, start
        self.end = len(service.data) if end is None else end
        self.info = service.info
        self.closed = False

    def readinto(self, buffer: Any) -> int:
        assert not self.closed
        if self.service.breaks and self.at >= self.service.breaks[0]:
            self.service.breaks.pop(0)
            raise ConnectionBrokenError("broken")
        count = min(len(memoryview(buffer)), 70_000, self.end - self.at)
        memoryview(buffer)[:count] = self.service.data[self.at : self.at + count]
        self.at += count
        return count

    def close(self) -> None:
        self.closed = True


class Service:
    def __init__(self, transport: Any, data: bytes = DATA) -> None:
        self.data = data
        self.info = BlobInfo(len(data), "image/png", "x.png", crc32c(data))
        self.ranges: list[tuple[int, int | None]] = []
        self.breaks: list[int] = []
        transport.blob_info = lambda *_: self.info
        transport.read_range = self.read_range

    def read_range(self, _reference: str, start: int, end: int | None, *_: Any) -> Range:
        if start >= len(self.data) and len(self.data):
            raise RangeNotSatisfiableError("behind the end")
        self.ranges.append((start, end))
        return Range(self, start, end)


@pytest.fixture
def service(transport: Any) -> Service:
    return Service(transport)


@pytest.mark.parametrize("chunk", [1000, 65_536, 1 << 20, -1])
def test_reading_on_takes_few_requests(channel: Channel, service: Service, chunk: int) -> None:
    file = io.BufferedReader(BlobRanges(channel, "ref", 64 << 10), 64 << 10)
    received = b"".join(iter(lambda: file.read(chunk), b""))
    assert received == DATA
    assert len(service.ranges) <= 5
    starts = [start for start, _ in service.ranges]
    assert starts == sorted(starts)
    # Every range was read to its end, so that its connection carries the next.
    ends = [end for _, end in service.ranges]
    assert ends[:-1] == starts[1:]


def test_reading_here_and_there_fetches_what_is_read(channel: Channel, service: Service) -> None:
    ranges = BlobRanges(channel, "ref", 4096)
    for start in (2_000_000, 5, 1_000_000, 2_900_000):
        ranges.seek(start)
        room = bytearray(100)
        assert ranges.readinto(room) == 100
        assert room == DATA[start : start + 100]
    assert [end - start for start, end in service.ranges if end] == [4096] * 4


def test_a_file_of_this_host_is_asked_for_once(channel: Channel, service: Service) -> None:
    class OnHost:
        def readinto_at(self, buffer: Any, position: int) -> int:
            view = memoryview(buffer)[: len(DATA) - position]
            view[:] = DATA[position : position + len(view)]
            return len(view)

    class Opened(Range):
        file = OnHost()  # type: ignore[assignment]

    def read_range(_reference: str, start: int, end: int | None, *_: Any) -> Opened:
        service.ranges.append((start, end))
        return Opened(service, start, end)

    channel.transport.read_range = read_range  # type: ignore[method-assign, assignment]
    with BlobRanges(channel, "r", 1000) as ranges:
        assert ranges.read(10) == DATA[:10]
        ranges.seek(-10, io.SEEK_END)
        assert ranges.read() == DATA[-10:]
        ranges.seek(5)
        assert ranges.readall() == DATA[5:]
    assert len(service.ranges) == 1


def test_a_short_way_forward_is_received(channel: Channel, service: Service) -> None:
    ranges = BlobRanges(channel, "ref", 1 << 20)
    room = bytearray(10)
    for start in (0, 100, 100_000, 100_000 + SKIPPED_BYTES // 2):
        ranges.seek(start)
        assert ranges.readinto(room) == 10
        assert room == DATA[start : start + 10]
    assert len(service.ranges) == 1
    ranges.seek(-1, io.SEEK_CUR)
    assert ranges.readinto(room) == 10
    assert len(service.ranges) == 2


def test_a_broken_range_goes_on_where_it_was(
    channel: Channel, service: Service, clock: Any
) -> None:
    service.breaks = [300_000, 300_001, 2_000_000]
    ranges = BlobRanges(channel, "ref", 64 << 10)
    room = bytearray(len(DATA) + 10)
    assert ranges.readinto(room) == len(DATA)
    assert room[: len(DATA)] == DATA
    assert len(clock.slept) == 3
    assert ranges.readinto(room) == 0


def test_what_the_service_refuses_is_raised(
    channel: Channel, transport: Any, service: Service
) -> None:
    ranges = BlobRanges(channel, "ref", 64 << 10)

    def refuse(*_: Any) -> Any:
        raise NotFoundError("gone")

    transport.read_range = refuse
    with pytest.raises(NotFoundError):
        ranges.readinto(bytearray(10))
    for offset, whence in ((-1, 0), (0, 7)):
        with pytest.raises(UsageError):
            ranges.seek(offset, whence)
    ranges.close()
    ranges.close()


@pytest.fixture
def whole(transport: Any) -> Iterator[Any]:
    transport.reads_whole_blobs = True
    return transport


@pytest.mark.parametrize("length", [0, 1, 70_000, len(DATA)])
def test_a_whole_blob_is_received_and_verified(channel: Channel, whole: Any, length: int) -> None:
    service = Service(whole, DATA[:length])
    blob = fletching.Client(channel, "p").get_blob("ref")
    assert type(blob.data) is bytes
    assert blob.data == DATA[:length]
    assert (blob.content_type, blob.file_name, blob.reference) == ("image/png", "x.png", "ref")
    assert service.ranges == [(0, None)]


def test_other_bytes_are_noticed(channel: Channel, whole: Any) -> None:
    service = Service(whole)
    service.info = BlobInfo(len(DATA), None, None, crc32c(DATA) ^ 1)
    with pytest.raises(ChecksumMismatchError):
        fletching.Client(channel, "p").get_blob("ref")
    service.info = BlobInfo(len(DATA), None, None, None)
    assert fletching.Client(channel, "p").get_blob("ref").data == DATA
    service.info = BlobInfo(len(DATA) + 1, None, None, None)
    with pytest.raises(TruncatedStreamError):
        fletching.Client(channel, "p").get_blob("ref")


def test_both_ways_give_the_same(client: fletching.Client) -> None:
    table = client.create_table("t", "id BIGINT, image BLOB")
    with table.write_session() as session:
        reference = session.put_blob(fletching.Blob(DATA, "image/png", "cät.png"), "image")
        empty = session.put_blob(b"", "image")
    for text, data in ((reference, DATA), (empty, b"")):
        blob = client.get_blob(text)
        (other,) = client.get_blobs([text])
        assert other is not None
        assert blob.data == other.data == data
        assert (blob.content_type, blob.file_name) == (other.content_type, other.file_name)
        with client.open_blob(text) as file:
            assert file.read() == data
    with client.open_blob(reference) as file:
        file.seek(1_234_567)
        assert file.read(10) == DATA[1_234_567:1_234_577]
        assert file.seek(-5, io.SEEK_END) == len(DATA) - 5
        assert file.read() == DATA[-5:]
