"""Writing blob frames: known bytes, checksums as the libraries have them, calls in their order."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from typing import Any

import pytest

from fletching.errors import UsageError
from fletching.wire.blob_frame_encoder import NO_CHECKSUM_FOOTER, Encoder, Hashes, frame_length
from fletching.wire.blob_headers import BlobHeader, ChecksumType

ANNOUNCED = 1 << 20  # from this length on a header says which checksum follows


def parts(frame: list[Any]) -> list[bytes]:
    """The header, the data and the footer of one frame, read by hand."""
    wire, headers = b"".join(map(bytes, frame)), []
    while wire:
        (length,) = struct.unpack_from("<q", wire)
        headers.append(wire[8 : 8 + length])
        wire = wire[8 + length :]
    return headers


@pytest.mark.parametrize(
    ("kind", "checksum"),
    [
        (ChecksumType.NONE, {"Type": 0}),
        (ChecksumType.CRC32, {"Type": 1, "Crc32": zlib.crc32(b"abcdef")}),
        (ChecksumType.MD5, {"Type": 2, "MD5": hashlib.md5(b"abcdef").hexdigest()}),
    ],
)
def test_the_footer_has_the_checksum_of_all_pieces(
    kind: ChecksumType, checksum: dict[str, object]
) -> None:
    encoder = Encoder(checksum=kind)
    for _ in range(2):  # nothing of the first is in the second
        frame = [
            *encoder.start(BlobHeader(file_name="a"), 6),
            *encoder.data(b"abc"),
            *encoder.data(memoryview(b"def")),
            *encoder.end(),
        ]
        header, data, footer = parts(frame)
        assert json.loads(header) == {"CustomFileName": "a"}
        assert data == b"abcdef"
        assert json.loads(footer) == {"Checksum": checksum}


@pytest.mark.parametrize("header", [b"{}", b'{"A":1}'])
@pytest.mark.parametrize("kind", list(ChecksumType))
def test_long_data_is_announced(header: bytes, kind: ChecksumType) -> None:
    reported = {**json.loads(header), "ChecksumType": int(kind)}
    short = parts(Encoder(checksum=kind).frame(header, bytes(ANNOUNCED - 1)))[0]
    long = parts(Encoder(checksum=kind).frame(header, bytes(ANNOUNCED)))[0]
    assert json.loads(short) == json.loads(header)
    assert json.loads(long) == reported


@pytest.mark.parametrize("length", [0, 1, ANNOUNCED - 1, ANNOUNCED])
@pytest.mark.parametrize("header", [BlobHeader(), BlobHeader(content_type="text/plain")])
def test_the_length_is_known_before_a_byte_is_written(header: BlobHeader, length: int) -> None:
    wire = b"".join(map(bytes, Encoder().frame(header, bytes(length))))
    assert frame_length(header, length) == frame_length(len(header.to_json()), length) == len(wire)
    assert wire.endswith(NO_CHECKSUM_FOOTER)
    assert b"".join(map(bytes, Encoder().frame(header.to_json(), bytes(length)))) == wire


def test_only_the_kinds_asked_for_are_computed() -> None:
    both = Hashes(frozenset({ChecksumType.CRC32, ChecksumType.MD5}))
    neither = Hashes(frozenset())
    for hashes in (both, neither):
        hashes.update(b"ab")
        hashes.update(b"c")
    assert both.crc32 == zlib.crc32(b"abc")
    assert both.md5 == hashlib.md5(b"abc").hexdigest()
    assert (neither.crc32, neither.md5) == (0, "")


def test_data_of_other_items_counts_in_bytes() -> None:
    words = memoryview(struct.pack("<2i", 1, 2)).cast("i")
    header, data, footer = parts(Encoder().frame(BlobHeader(), words))
    assert (len(header), data, footer) == (2, bytes(words), NO_CHECKSUM_FOOTER)


class TestEncoder:
    def test_data_is_passed_on_without_a_copy(self) -> None:
        data = bytearray(b"abc")
        encoder = Encoder()
        encoder.start(BlobHeader(), 3)
        (view,) = encoder.data(data)
        data[0] = ord("x")
        assert view == b"xbc"

    def test_calls_out_of_order_are_refused(self) -> None:
        encoder = Encoder()
        with pytest.raises(UsageError):
            encoder.data(b"")
        with pytest.raises(UsageError):
            encoder.end()
        with pytest.raises(UsageError):
            encoder.start(BlobHeader(), -1)
        encoder.start(BlobHeader(), 2)
        with pytest.raises(UsageError):
            encoder.start(BlobHeader(), 2)
        encoder.data(b"a")
        with pytest.raises(UsageError):
            encoder.data(b"bc")
        with pytest.raises(UsageError):
            encoder.end()
        with pytest.raises(UsageError):
            encoder.finish()
        encoder.data(b"b")
        encoder.data(b"")
        encoder.end()
        encoder.finish()
