"""Replies about blobs as a service might send them: other framings, cut, damaged, foreign."""

from __future__ import annotations

import random
from typing import Any, cast

import pytest
from crc32c import crc32c

from fletching.client.transports.http.http_blobs import HttpBlobEvents, info_of
from fletching.errors import (
    ChecksumMismatchError,
    InvalidParameterError,
    ProtocolError,
    TruncatedStreamError,
    WireError,
)
from fletching.protocol.http.layers import blob_read_encoder
from fletching.wire import blob_frames
from fletching.wire.blob_frames import BlobData, BlobDataEnd, BlobHeader
from fletching.wire.content_coding import ContentCoding
from fletching.wire.stored_blobs import stored_list


class FakeReply:
    def __init__(self, body: bytes, chunk: int = 1000, **headers: str) -> None:
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.request_id = None
        self.closed = False
        self._body, self._piece = body, chunk

    def readinto(self, buffer: Any) -> int:
        part = self._body[: min(len(buffer), self._piece)]
        self._body = self._body[len(part) :]
        memoryview(buffer)[: len(part)] = part
        return len(part)

    def close(self) -> None:
        self.closed = True


def wire(
    blobs: list[bytes], *, framed: bool, coding: ContentCoding = ContentCoding.IDENTITY
) -> bytes:
    encoder, frames = blob_read_encoder(coding), blob_frames.Encoder()
    out = bytearray()
    for blob in blobs:
        chunks = frames.frame(BlobHeader(file_name="n"), blob) if framed else [blob]
        for chunk in chunks:
            for buffer in encoder.encode(chunk):
                out += buffer
    for buffer in encoder.finish():
        out += buffer
    return bytes(out)


def read(reply: FakeReply, references: int) -> list[bytes]:
    events = HttpBlobEvents(cast("Any", reply), references)
    blobs: list[bytes] = []
    current = b""
    for event in events:
        if isinstance(event, BlobData):
            current += event.data
        elif isinstance(event, BlobDataEnd):
            blobs.append(current)
            current = b""
    assert reply.closed
    return blobs


DATA = [random.Random(n).randbytes(n * 3000) for n in range(4)]


@pytest.mark.parametrize("coding", list(ContentCoding))
@pytest.mark.parametrize("chunk", [1, 777, 1 << 20])
def test_a_foreign_service_frames_by_the_count(coding: ContentCoding, chunk: int) -> None:
    headers = {} if coding is ContentCoding.IDENTITY else {"content_encoding": coding.value}
    many = FakeReply(wire(DATA, framed=True, coding=coding), chunk, **headers)
    assert read(many, 4) == DATA
    reply = FakeReply(wire(DATA[3:], framed=False, coding=coding), chunk, **headers)
    assert read(reply, 1) == DATA[3:]


def test_what_the_service_says_wins_over_the_count() -> None:
    framed = FakeReply(wire([b"x"], framed=True), x_fletching_framing="frames")
    assert read(framed, 1) == [b"x"]
    # Contents that begin like a frame are not taken for one.
    tricky = (2).to_bytes(8, "little") + b"{}"
    raw = FakeReply(wire([tricky], framed=False), x_fletching_framing="raw")
    assert read(raw, 1) == [tricky]


def test_an_empty_raw_blob() -> None:
    assert read(FakeReply(b""), 1) == [b""]


@pytest.mark.parametrize("sent", [0, 1, 3])
def test_fewer_or_more_blobs_than_were_asked_for(sent: int) -> None:
    with pytest.raises(TruncatedStreamError) as caught:
        read(FakeReply(wire(DATA[:sent], framed=True)), 2)
    assert (caught.value.expected, caught.value.actual) == (2, sent)


def test_cut_and_damaged_replies() -> None:
    whole = wire(DATA, framed=True)
    for end in range(0, len(whole), 997):
        reply = FakeReply(whole[:end])
        with pytest.raises(WireError):
            read(reply, 4)
        assert reply.closed
    damaged = bytearray(whole)
    damaged[9000] ^= 1
    with pytest.raises(ChecksumMismatchError):
        read(FakeReply(bytes(damaged)), 4)


def stored(blobs: list[bytes]) -> bytes:
    about = BlobHeader(file_name="n").to_json()
    metadata = crc32c(about).to_bytes(4, "little") + about
    listed = stored_list((len(metadata), crc32c(blob), len(blob)) for blob in blobs)
    return b"".join([listed, *(metadata + blob for blob in blobs)])


@pytest.mark.parametrize("framing", ["frames", "stored"])
@pytest.mark.parametrize("chunk", [1, 777, 1 << 20])
def test_whole_blobs(framing: str, chunk: int) -> None:
    body = stored(DATA) if framing == "stored" else wire(DATA, framed=True)
    reply = FakeReply(body, chunk, x_fletching_framing=framing)
    events = HttpBlobEvents(cast("Any", reply), 4)
    assert events.framed
    assert [(header.file_name, data) for header, data in events.whole()] == [
        ("n", data) for data in DATA
    ]
    assert reply.closed
    reply = FakeReply(body, chunk, x_fletching_framing=framing)
    assert list(HttpBlobEvents(cast("Any", reply), 4).contents()) == DATA
    assert reply.closed


def test_cut_and_damaged_stored_blobs() -> None:
    body = bytearray(stored(DATA))
    for end in range(0, len(body), 997):
        reply = FakeReply(bytes(body[:end]), x_fletching_framing="stored")
        with pytest.raises(TruncatedStreamError):
            list(HttpBlobEvents(cast("Any", reply), 4).contents())
        assert reply.closed
    body[9000] ^= 1
    with pytest.raises(ChecksumMismatchError):
        list(
            HttpBlobEvents(
                cast("Any", FakeReply(bytes(body), x_fletching_framing="stored")), 4
            ).whole()
        )


def test_stored_blobs_that_nobody_asked_for() -> None:
    reply = FakeReply(stored(DATA), x_fletching_framing="stored")
    with pytest.raises(ProtocolError, match="unasked"):
        read(reply, 4)
    assert reply.closed


def test_replies_that_cannot_be_understood() -> None:
    reply = FakeReply(b"", x_fletching_framing="boxes")
    with pytest.raises(ProtocolError, match="boxes"):
        read(reply, 1)
    assert reply.closed
    reply = FakeReply(b"", content_encoding="gzip")
    with pytest.raises(InvalidParameterError):
        read(reply, 1)
    assert reply.closed


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ({"content_length": "10"}, 10),
        ({"content_length": "3", "content_range": "bytes 2-4/10"}, 10),
        ({"content_length": "3", "content_range": "nonsense"}, 3),
    ],
)
def test_lengths(headers: dict[str, str], length: int) -> None:
    assert info_of(cast("Any", FakeReply(b"", 1000, **headers))).length == length


def test_what_a_blob_is() -> None:
    reply = FakeReply(
        b"",
        content_length="0",
        content_type="image/png",
        content_disposition="inline; filename=\"_.png\"; filename*=UTF-8''%C3%BC.png",
    )
    info = info_of(cast("Any", reply))
    assert (info.content_type, info.file_name) == ("image/png", "ü.png")
    plain = FakeReply(b"", content_length="0", content_type="application/octet-stream")
    assert info_of(cast("Any", plain)).content_type is None


def test_a_length_that_is_missing() -> None:
    reply = FakeReply(b"")
    with pytest.raises(ProtocolError):
        info_of(cast("Any", reply))
    assert reply.closed
