"""Stored blobs: the bytes, however they are cut, and lists that lie."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from fletching.errors import (
    ChecksumMismatchError,
    LimitExceededError,
    MalformedFrameError,
    TruncatedStreamError,
    WireError,
)
from fletching.wire.blob_frames import BlobHeader
from fletching.wire.stored_blobs import header_of, stored_blobs, stored_list, stored_list_bytes


def metadata_of(header: BlobHeader) -> bytes:
    text = header.to_json()
    return crc32c(text).to_bytes(4, "little") + text


METADATA = metadata_of(BlobHeader(content_type="image/png", file_name="ü.png"))


def written(blobs: list[bytes], metadata: bytes = METADATA) -> bytes:
    listed = stored_list((len(metadata), crc32c(blob), len(blob)) for blob in blobs)
    assert len(listed) == stored_list_bytes(len(blobs))
    return b"".join([listed, *(metadata + blob for blob in blobs)])


def cut(body: bytes, size: int) -> list[memoryview]:
    return [memoryview(body)[start : start + size] for start in range(0, len(body), size)]


def test_the_bytes() -> None:
    body = written([b"123456789"], b"")
    # The list as the module's table has it; E3069283 is CRC-32C's published check value.
    head = bytes.fromhex("0100000000000000 00000000 839206e3 0900000000000000")
    assert body == head + struct.pack("<I", crc32c(head)) + b"123456789"


@given(
    blobs=st.lists(st.binary(max_size=40), max_size=8),
    size=st.integers(1, 90),
    metadata=st.sampled_from([b"", METADATA]),
)
def test_however_it_is_cut(blobs: list[bytes], size: int, metadata: bytes) -> None:
    result = list(stored_blobs(cut(written(blobs, metadata), size), len(blobs)))
    assert result == [(metadata, blob) for blob in blobs]


def test_pieces_are_only_lent() -> None:
    room = bytearray(16)

    def lent() -> Iterator[memoryview]:
        for chunk in cut(written([b"a" * 30, b"b" * 5, b"c" * 40]), 16):
            room[: len(chunk)] = chunk
            yield memoryview(room)[: len(chunk)]
            room[:] = b"\xff" * 16

    assert [data for _, data in stored_blobs(lent(), 3)] == [b"a" * 30, b"b" * 5, b"c" * 40]


def test_every_cut_is_told() -> None:
    body = written([b"some", b"", b"more"])
    for end in range(len(body)):
        with pytest.raises(TruncatedStreamError):
            list(stored_blobs([memoryview(body)[:end]], 3))


def test_every_changed_byte_is_told() -> None:
    blobs = [b"some", b"", b"more"]
    body = written(blobs)
    for position in range(len(body)):
        changed = bytearray(body)
        changed[position] ^= 0x41
        with pytest.raises(WireError):
            [header_of(metadata) for metadata, _ in stored_blobs([memoryview(changed)], 3)]


@pytest.mark.parametrize("count", [0, 1, 3, 1 << 40])
def test_another_number_than_was_asked_for(count: int) -> None:
    body = struct.pack("<Q", count) + written([b"a", b"b"])[8:]
    with pytest.raises(MalformedFrameError) as caught:
        list(stored_blobs([memoryview(body)], 2))
    assert (caught.value.expected, caught.value.actual) == (2, count)


def test_bytes_behind_the_last() -> None:
    body = written([b"a"]) + b"x"
    for chunks in ([memoryview(body)], cut(body, 1)):
        with pytest.raises(MalformedFrameError, match="1 bytes stand behind"):
            list(stored_blobs(chunks, 1))


@pytest.mark.parametrize("lengths", [(1 << 31, 0), (0, 1 << 50), (0, (1 << 64) - 1)])
def test_lengths_that_cannot_be_take_no_memory(lengths: tuple[int, int]) -> None:
    metadata, length = lengths
    with pytest.raises(LimitExceededError):
        list(stored_blobs([memoryview(stored_list([(metadata, 0, length)]))], 1))
    # One below the limits that never comes.
    with pytest.raises(TruncatedStreamError):
        list(stored_blobs([memoryview(stored_list([(0, 0, 1 << 39)]))], 1))


def test_limits_are_the_callers() -> None:
    body = [memoryview(written([b"four"]))]
    assert len(list(stored_blobs(body, 1, max_data_bytes=4))) == 1
    with pytest.raises(LimitExceededError) as caught:
        list(stored_blobs(body, 1, max_data_bytes=3))
    assert caught.value.limit == 3
    with pytest.raises(LimitExceededError):
        list(stored_blobs(body, 1, max_metadata_bytes=len(METADATA) - 1))


def test_headers() -> None:
    assert header_of(METADATA) == BlobHeader(content_type="image/png", file_name="ü.png")
    with pytest.raises(ChecksumMismatchError):
        header_of(METADATA[:-1] + b"?")
    with pytest.raises(MalformedFrameError, match="3 bytes"):
        header_of(b"abc")
    text = b"[1]"
    with pytest.raises(MalformedFrameError):
        header_of(crc32c(text).to_bytes(4, "little") + text)


def test_noise() -> None:
    chance = random.Random(5)
    for _ in range(300):
        body = bytearray(written([chance.randbytes(chance.randrange(50)) for _ in range(3)]))
        for _ in range(3):
            at = chance.randrange(len(body))
            body[at : at + chance.randrange(9)] = chance.randbytes(chance.randrange(9))
        outcomes: list[object] = []
        for size in (1, 1000):
            try:
                outcomes.append(list(stored_blobs(cut(bytes(body), size), 3)))
            except WireError as error:
                outcomes.append(type(error))
        assert outcomes[0] == outcomes[1]
