"""Bodies of uploads: what is sent, how often, and under which checksum."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator

import pytest
from crc32c import crc32c
from typing_extensions import Buffer

from fletching.client.blobs.blob_transfers import (
    BatchBody,
    PushedBody,
    SingleBody,
    UploadChecksum,
    whole_of,
)
from fletching.client.blobs.blob_values import BlobSource
from fletching.wire import blob_frames
from fletching.wire.blob_frames import BlobData, BlobDataEnd, BlobDataStart, BlobHeader, Event

DATA = bytes(range(256)) * 9000


class Once(io.RawIOBase):
    """A file that goes forward alone."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        return self._file.readinto(buffer)

    def seekable(self) -> bool:
        return False


def joined(body: object) -> bytes:
    assert isinstance(body, SingleBody | BatchBody | PushedBody)
    return b"".join(bytes(chunk) for chunk in body)


@pytest.mark.parametrize("checksum", UploadChecksum)
@pytest.mark.parametrize("data", [b"", DATA])
def test_one_blob_has_the_checksum_that_was_asked_for(
    checksum: UploadChecksum, data: bytes
) -> None:
    body = SingleBody(BlobSource(data), checksum=checksum)
    assert (body.length, body.repeatable) == (len(data), True)
    for _ in range(2):
        assert joined(body) == data
        expected = hashlib.md5(data, usedforsecurity=False).hexdigest()
        assert body.md5 == (expected if checksum is UploadChecksum.MD5 else None)
        assert body.crc32c == (crc32c(data) if checksum is UploadChecksum.CRC32C else None)


def test_one_that_was_left_in_the_middle_has_none() -> None:
    body = SingleBody(BlobSource(Once(DATA)))
    assert (body.length, body.repeatable) == (None, False)
    chunks: Iterator[Buffer] = iter(body)
    next(chunks)
    del chunks
    assert body.md5 is None


def test_many_are_frames_with_their_headers() -> None:
    blobs = [
        (BlobSource(data), BlobHeader(file_name=f"{number}.bin"))
        for number, data in enumerate((b"", b"abc", DATA))
    ]
    body = BatchBody(blobs)
    assert (body.length, body.repeatable) == (None, True)
    sent = joined(body)
    assert joined(body) == sent
    decoder = blob_frames.Decoder()
    decoder.feed(sent)
    decoder.finish()
    whole = list(whole_of(decoder.events()))
    assert [(header.file_name, data) for header, data in whole] == [
        ("0.bin", b""), ("1.bin", b"abc"), ("2.bin", DATA),
    ]  # fmt: skip
    assert not BatchBody([*blobs, (BlobSource(Once(b"x")), BlobHeader())]).repeatable


def test_blobs_in_pieces_are_put_together() -> None:
    events: list[Event] = [
        BlobDataStart(0, 0, BlobHeader(file_name="a"), 3),
        BlobData(memoryview(b"a")), BlobData(memoryview(b"bc")), BlobDataEnd(0, blob_frames.ChecksumType.NONE, {}),
        BlobDataStart(1, 0, BlobHeader(), 0), BlobDataEnd(1, blob_frames.ChecksumType.NONE, {}),
    ]  # fmt: skip
    assert [(header.file_name, data) for header, data in whole_of(events)] == [
        ("a", b"abc"), (None, b""),
    ]  # fmt: skip


def test_pieces_that_another_thread_hands_over_come_until_the_last() -> None:
    chunks = iter([b"a", b"", b"bc", None])
    body = PushedBody(lambda: next(chunks))
    assert (body.length, body.repeatable) == (None, False)
    assert joined(body) == b"abc"

    def broken() -> Buffer | None:
        raise ValueError("left")

    with pytest.raises(ValueError, match="left"):
        joined(PushedBody(broken))
