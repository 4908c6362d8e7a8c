from __future__ import annotations

import random
from typing import Any

import pytest

from fletching.errors import LimitExceededError, WireError
from fletching.protocol.http import layers
from fletching.wire import blob_frames, content_coding, crc32c_blocks
from fletching.wire.blob_frames import BlobDataStart, BlobHeader
from fletching.wire.content_coding import ContentCoding
from fletching.wire.stack import DecoderStack, EncoderStack

every_coding = pytest.mark.parametrize("coding", list(ContentCoding))


def through(encoder: EncoderStack, *payload: Any) -> bytes:
    out = [bytes(buffer) for chunk in payload for buffer in encoder.encode(chunk)]
    return b"".join([*out, *(bytes(buffer) for buffer in encoder.finish())])


def read(decoder: DecoderStack, wire: bytes) -> list[Any]:
    decoder.feed(wire)
    events = list(decoder.events())
    decoder.finish()
    return events + list(decoder.events())


def by_hand(coding: ContentCoding, payload: bytes) -> bytes:
    encoder = content_coding.Encoder(coding)
    return b"".join(map(bytes, [*encoder.encode(payload), *encoder.finish()]))


PAYLOAD = random.Random(3).randbytes(10_000)


@every_coding
def test_blob_read_puts_checksums_around_the_coding(coding: ContentCoding) -> None:
    wire = through(layers.blob_read_encoder(coding), PAYLOAD)
    blocks = crc32c_blocks.Encoder()
    coded = by_hand(coding, PAYLOAD)
    assert wire == b"".join([*blocks.encode(coded), *blocks.finish()])
    assert b"".join(read(layers.blob_read_decoder(coding, framed=False), wire)) == PAYLOAD


@every_coding
def test_blob_read_of_many_is_framed_inside(coding: ContentCoding) -> None:
    frames = blob_frames.Encoder()
    chunks = [*frames.frame(BlobHeader(), PAYLOAD), *frames.frame(BlobHeader(), b"")]
    wire = through(layers.blob_read_encoder(coding), *chunks)
    events = read(layers.blob_read_decoder(coding, framed=True), wire)
    assert [e.length for e in events if isinstance(e, BlobDataStart)] == [10_000, 0]


def test_one_reference_is_raw_and_the_rest_framed() -> None:
    assert [layers.blob_read_is_framed(n) for n in (0, 1, 2, 100)] == [True, False, True, True]


@every_coding
def test_uploads_have_no_checksums(coding: ContentCoding) -> None:
    wire = through(layers.blob_write_encoder(coding), PAYLOAD)
    assert wire == by_hand(coding, PAYLOAD)
    assert b"".join(read(layers.blob_write_decoder(coding, framed=False), wire)) == PAYLOAD


@every_coding
def test_batch_uploads_are_frames_inside_the_coding(coding: ContentCoding) -> None:
    chunks = blob_frames.Encoder().frame(BlobHeader(column_id=2), PAYLOAD)
    wire = through(layers.blob_write_encoder(coding), *chunks)
    (start, *_) = read(layers.blob_write_decoder(coding, framed=True), wire)
    assert start.header.column_id == 2


@every_coding
def test_table_bodies_have_the_coding_alone(coding: ContentCoding) -> None:
    wire = through(layers.table_body_encoder(coding), PAYLOAD)
    assert wire == by_hand(coding, PAYLOAD)
    assert b"".join(read(layers.table_body_decoder(coding), wire)) == PAYLOAD


@every_coding
def test_limits_reach_their_layer(coding: ContentCoding) -> None:
    wire = through(layers.blob_read_encoder(coding), PAYLOAD)
    frames = through(
        layers.blob_write_encoder(coding), *blob_frames.Encoder().frame(BlobHeader(), PAYLOAD)
    )
    limited: list[tuple[DecoderStack, bytes]] = [
        (layers.blob_write_decoder(coding, framed=True, max_blob_bytes=9999), frames),
        (layers.blob_write_decoder(coding, framed=True, max_frames=0), frames),
        (layers.blob_write_decoder(coding, framed=False, max_decoded_bytes=9999), frames),
        (layers.table_body_decoder(coding, max_decoded_bytes=9999), frames),
    ]
    if coding is not ContentCoding.IDENTITY:
        limited.append(
            (layers.blob_read_decoder(coding, framed=False, max_decoded_bytes=9999), wire)
        )
    for decoder, body in limited:
        with pytest.raises(LimitExceededError):
            read(decoder, body)


def test_a_foreign_order_of_layers_is_not_taken_for_ours() -> None:
    coded = content_coding.Encoder(ContentCoding.ZSTD)
    blocks = crc32c_blocks.Encoder()
    inner = b"".join([*blocks.encode(PAYLOAD), *blocks.finish()])
    wire = b"".join(map(bytes, [*coded.encode(inner), *coded.finish()]))
    with pytest.raises(WireError):
        read(layers.blob_read_decoder(ContentCoding.ZSTD, framed=False), wire)
